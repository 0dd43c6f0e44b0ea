"""Optimizers and schedules of learning rates, by PyTorch's names."""

from amity.optim import lr_scheduler, swa_utils
from amity.optim.adadelta import Adadelta
from amity.optim.adafactor import Adafactor
from amity.optim.adagrad import Adagrad
from amity.optim.adam import Adam
from amity.optim.adamax import Adamax
from amity.optim.adamw import AdamW
from amity.optim.asgd import ASGD
from amity.optim.lbfgs import LBFGS
from amity.optim.muon import Muon
from amity.optim.nadam import NAdam
from amity.optim.optimizer import Optimizer
from amity.optim.radam import RAdam
from amity.optim.rmsprop import RMSprop
from amity.optim.rprop import Rprop
from amity.optim.sgd import SGD
