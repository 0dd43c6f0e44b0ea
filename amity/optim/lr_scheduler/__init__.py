"""Schedules of learning rates, by PyTorch's names."""

from amity.optim.lr_scheduler.compose import ChainedScheduler, SequentialLR
from amity.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from amity.optim.lr_scheduler.cycle import CyclicLR, OneCycleLR
from amity.optim.lr_scheduler.factor import (
    ConstantLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    MultiplicativeLR,
    MultiStepLR,
    PolynomialLR,
    StepLR,
)
from amity.optim.lr_scheduler.plateau import ReduceLROnPlateau
from amity.optim.lr_scheduler.scheduler import LRScheduler

_LRScheduler = LRScheduler  # its name before PyTorch 2
