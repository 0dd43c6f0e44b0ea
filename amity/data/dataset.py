"""Datasets: where samples come from, by index or as a stream."""

from __future__ import annotations

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from amity.core.errors import fail
from amity.data.sampler import permutation
from amity.frontend import create
from amity.frontend.random import Generator
from amity.frontend.tensor import Tensor

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """A map from an index (or key) to a sample: subclasses define `__getitem__`, mostly `__len__`.

    A subclass may define `__getitems__(indices)` too, which fetches one batch's samples at once.
    """

    def __getitem__(self, index: Any) -> T_co:
        raise NotImplementedError(f"{type(self).__name__}: a Dataset needs __getitem__")

    def __add__(self, other: Dataset[T_co]) -> ConcatDataset[T_co]:
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """A stream of samples: subclasses define `__iter__`.

    Each worker of a DataLoader iterates over a copy of its own, so `__iter__` (or
    `worker_init_fn`) has to shard the stream by `get_worker_info()`; else samples repeat.
    """

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__}: an IterableDataset needs __iter__")

    def __add__(self, other: Dataset[T_co]) -> ChainDataset[T_co]:  # type: ignore[override]
        return ChainDataset([self, other])


class TensorDataset(Dataset[tuple[Tensor, ...]]):
    """Rows of tensors: sample `i` is `(t[i] for t in tensors)`.

    errors: ValueError if the tensors differ in their first size

    >>> import amity
    >>> TensorDataset(amity.arange(3), amity.zeros(3, 2))[1]
    (tensor(1), tensor([0., 0.]))
    """

    tensors: tuple[Tensor, ...]

    def __init__(self, *tensors: Tensor) -> None:
        sizes = [tensor.shape[0] if tensor.ndim else None for tensor in tensors]
        if len(set(sizes)) > 1 or None in sizes:
            got = f"first sizes {sizes}"
            raise fail(ValueError, "TensorDataset", got, "tensors of one first size")
        self.tensors = tensors

    def __getitem__(self, index: Any) -> tuple[Tensor, ...]:
        return tuple(tensor[index] for tensor in self.tensors)

    def __len__(self) -> int:
        return len(self.tensors[0])


class StackDataset(Dataset[Any]):
    """Datasets side by side: a sample is a tuple (or, with keywords, a dict) of their samples.

    errors: ValueError if the datasets differ in length, or if none or both kinds are given
    """

    datasets: tuple[Any, ...] | dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if bool(args) == bool(kwargs):
            got = "both positional and keyword datasets" if args else "no dataset"
            raise fail(ValueError, "StackDataset", got, "datasets of one kind")
        self.datasets = args or kwargs
        lengths = [len(dataset) for dataset in self._all()]
        if len(set(lengths)) > 1:
            raise fail(ValueError, "StackDataset", f"lengths {lengths}", "equal lengths")

    def _all(self) -> Iterable[Any]:
        return self.datasets.values() if isinstance(self.datasets, dict) else self.datasets

    def _join(self, samples: Iterable[Any]) -> Any:
        if isinstance(self.datasets, dict):
            return dict(zip(self.datasets, samples))
        return tuple(samples)

    def __getitem__(self, index: Any) -> Any:
        return self._join(dataset[index] for dataset in self._all())

    def __getitems__(self, indices: Sequence[Any]) -> list[Any]:
        columns = [fetch_samples(dataset, indices) for dataset in self._all()]
        for column in columns:
            if len(column) != len(indices):
                got = f"{len(column)} samples from __getitems__"
                raise fail(ValueError, "StackDataset", got, f"{len(indices)}, one an index")
        return [self._join(row) for row in zip(*columns)]

    def __len__(self) -> int:
        return len(next(iter(self._all())))


class ConcatDataset(Dataset[T_co]):
    """Map-style datasets one after the other.

    errors: ValueError if there is none, one is iterable-style, or an index is below `-len`;
            IndexError if an index is beyond the end

    >>> (ConcatDataset([[1, 2], [3]]))[-1]
    3
    """

    datasets: list[Any]
    cumulative_sizes: list[int]

    @staticmethod
    def cumsum(sequence: Iterable[Any]) -> list[int]:
        return list(itertools.accumulate(len(part) for part in sequence))

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise fail(ValueError, "ConcatDataset", "no dataset", "one or more")
        for dataset in self.datasets:
            if isinstance(dataset, IterableDataset):
                got = f"{type(dataset).__name__}, an IterableDataset"
                raise fail(ValueError, "ConcatDataset", got, "datasets with indices")
        self.cumulative_sizes = self.cumsum(self.datasets)

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> T_co:
        size = len(self)
        if index < -size:
            raise fail(ValueError, "ConcatDataset", f"index {index}", f"-{size} or more")
        if index >= size:
            raise fail(IndexError, "ConcatDataset", f"index {index}", f"less than {size}")
        index += size if index < 0 else 0
        which = bisect.bisect_right(self.cumulative_sizes, index)
        start = self.cumulative_sizes[which - 1] if which else 0
        return self.datasets[which][index - start]


class ChainDataset(IterableDataset[T_co]):
    """Iterable-style datasets one after the other.

    errors: TypeError, while iterating, if a part is not an IterableDataset
    """

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = datasets

    def _parts(self) -> Iterator[Any]:
        for dataset in self.datasets:
            if not isinstance(dataset, IterableDataset):
                got = type(dataset).__name__
                raise fail(TypeError, "ChainDataset", got, "an IterableDataset")
            yield dataset

    def __iter__(self) -> Iterator[T_co]:
        for dataset in self._parts():
            yield from dataset

    def __len__(self) -> int:
        return sum(len(dataset) for dataset in self._parts())


class Subset(Dataset[T_co]):
    """The samples of `dataset` at `indices`.

    >>> Subset("amity", [4, 0])[0]
    'y'
    """

    def __init__(self, dataset: Any, indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        if isinstance(index, list):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices: Sequence[int]) -> Sequence[T_co]:
        return fetch_samples(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        return len(self.indices)


def fetch_samples(dataset: Any, indices: Sequence[Any]) -> Sequence[Any]:
    """The samples at `indices`, through the dataset's own `__getitems__` where it has one."""
    at_once = getattr(dataset, "__getitems__", None)
    return at_once(indices) if at_once else [dataset[i] for i in indices]


def stack_rows(dataset: Any, indices: Sequence[Any]) -> list[Tensor] | None:
    """What `default_collate` makes of these samples of a TensorDataset or a part of one, but by one
    gather a tensor; None where the dataset is of another class, and may do as it likes.
    """
    while type(dataset) is Subset:
        dataset, indices = dataset.dataset, [dataset.indices[i] for i in indices]
    if type(dataset) is not TensorDataset or not all(type(i) is int for i in indices):
        return None
    rows = create.from_numpy(np.array(indices, np.int64))
    return [tensor[rows] for tensor in dataset.tensors]


def random_split(
    dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None
) -> list[Subset[Any]]:
    """Parts of `dataset` that do not overlap, drawn at random.

    `lengths` are counts, or fractions that sum to 1; what rounding down leaves over goes one by one
    to the first parts.
    errors: ValueError if counts do not sum to `len(dataset)` or a fraction is outside 0..1

    >>> [len(part) for part in random_split(range(10), [0.5, 0.25, 0.25])]
    [6, 2, 2]
    """
    sizes = _sizes(lengths, len(dataset))
    order = permutation(len(dataset), generator)
    ends = itertools.accumulate(sizes)
    return [Subset(dataset, order[end - size : end]) for end, size in zip(ends, sizes)]


def _sizes(lengths: Sequence[int | float], total: int) -> list[int]:
    sizes = list(lengths)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                got = f"fraction {fraction} at {i}"
                raise fail(ValueError, "random_split", got, "fractions in 0..1")
        sizes = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(sizes)):
            sizes[i % len(sizes)] += 1
        for i, size in enumerate(sizes):
            if not size:
                warnings.warn(f"random_split: part {i} of {list(lengths)} is empty", stacklevel=3)
    if any(size < 0 or size != int(size) for size in sizes) or sum(sizes) != total:
        expected = f"counts that sum to {total} or fractions that sum to 1"
        raise fail(ValueError, "random_split", f"lengths {list(lengths)}", expected)
    return [int(size) for size in sizes]
