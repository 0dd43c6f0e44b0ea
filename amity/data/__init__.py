"""Datasets, samplers and the DataLoader, as in PyTorch's `torch.utils.data`; and some data."""

from amity.data.collate import default_collate, default_convert
from amity.data.dataset import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from amity.data.datasets import FashionMNIST, digits, to_tensor
from amity.data.loader import DataLoader
from amity.data.sampler import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from amity.data.worker import get_worker_info
