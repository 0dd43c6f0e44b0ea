"""Samplers: in which order a DataLoader takes the samples, and which make up a batch.

Every random draw of this package goes through the functions at the top: a generator that the
caller gives is used itself, else the default one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from amity.core.dtype import float64
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.random import Generator, randint, randperm
from amity.frontend.sampling import multinomial

T_co = TypeVar("T_co", covariant=True)
CHUNK = 1024  # indices drawn at a time, so that a long draw starts at once and stays small


def draw_seed(generator: Generator | None = None) -> int:
    """A number for seeding, drawn from `generator` or the default one."""
    return int(randint(0, 2**63 - 1, (), generator=generator).item())


def fork_generator(generator: Generator | None) -> Generator:
    """`generator`, or a new one seeded from the default one (by one draw, however many follow)."""
    return generator if generator is not None else Generator().manual_seed(draw_seed())


def permutation(n: int, generator: Generator | None = None) -> list[int]:
    return randperm(n, generator=generator).tolist()


def check_count(op: str, name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise fail(ValueError, op, f"{name}={value!r}", "a positive integer")
    return value


def check_bool(op: str, name: str, value: Any, cls: type[Exception]) -> bool:
    if not isinstance(value, bool):
        raise fail(cls, op, f"{name}={value!r}", "True or False")
    return value


class Sampler(Generic[T_co]):
    """An iterable of indices (or of lists of indices): subclasses define `__iter__`."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError(f"{type(self).__name__}: a Sampler needs __iter__")


class SequentialSampler(Sampler[int]):
    """0, 1, 2, … in order."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order, or with `replacement` each drawn anew.

    Without replacement and with `num_samples` above the size, whole permutations follow each other.
    errors: TypeError if `replacement` is not a bool; ValueError if there is nothing to draw
    """

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = check_bool("RandomSampler", "replacement", replacement, TypeError)
        self._num_samples = num_samples
        self.generator = generator
        check_count("RandomSampler", "num_samples", self.num_samples)

    @property
    def num_samples(self) -> int:
        # The size of the data may change between epochs, so it is asked for each time.
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        generator = fork_generator(self.generator)
        size = len(self.data_source)
        left = self.num_samples
        if not size:
            raise fail(ValueError, "RandomSampler", "an empty data source", "one or more samples")
        while left > 0:
            count = min(left, CHUNK if self.replacement else size)
            if self.replacement:
                yield from randint(0, size, (count,), generator=generator).tolist()
            else:
                yield from permutation(size, generator)[:count]
            left -= count

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices in random order, without replacement."""

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in permutation(len(self.indices), self.generator):
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """Indices 0..len(weights)-1, each drawn with a probability in proportion to its weight.

    errors: ValueError if `weights` is not one-dimensional, or `num_samples` not positive;
            RuntimeError, while iterating, if more are drawn without replacement than there are
    """

    def __init__(
        self,
        weights: Sequence[float],
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        self.num_samples = check_count("WeightedRandomSampler", "num_samples", num_samples)
        self.replacement = check_bool(
            "WeightedRandomSampler", "replacement", replacement, ValueError
        )
        self.weights = create.as_tensor(weights, dtype=float64)
        self.generator = generator
        if self.weights.ndim != 1:
            got = f"weights of shape {tuple(self.weights.shape)}"
            raise fail(ValueError, "WeightedRandomSampler", got, "one dimension")

    def __iter__(self) -> Iterator[int]:
        drawn = multinomial(
            self.weights, self.num_samples, self.replacement, generator=self.generator
        )
        return iter(drawn.tolist())

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of `sampler`; the last may be shorter unless `drop_last`.

    errors: ValueError if `batch_size` is not a positive integer or `drop_last` not a bool

    >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        self.sampler = sampler
        self.batch_size = check_count("BatchSampler", "batch_size", batch_size)
        self.drop_last = check_bool("BatchSampler", "drop_last", drop_last, ValueError)

    def __iter__(self) -> Iterator[list[int]]:
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if len(batch) < self.batch_size and self.drop_last:
                return
            yield batch

    def __len__(self) -> int:
        size = len(self.sampler)  # type: ignore[arg-type]
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)


class DistributedSampler(Sampler[int]):
    """The share of `rank` among `num_replicas` processes: all shares have one length.

    Call `set_epoch` before each epoch; the order is a function of `seed` and the epoch alone, so
    all processes agree on it. What is missing for equal shares is filled by repeating samples, or
    with `drop_last` the tail is left out.
    errors: ValueError if `rank` is not in 0..num_replicas-1
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int,
        rank: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if not 0 <= rank < num_replicas:
            expected = f"0..{num_replicas - 1}"
            raise fail(ValueError, "DistributedSampler", f"rank {rank}", expected)
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.shuffle, self.seed, self.drop_last = shuffle, seed, drop_last
        self.epoch = 0
        size = len(dataset)
        self.num_samples = size // num_replicas if drop_last else math.ceil(size / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        size = len(self.dataset)
        order = list(range(size))
        if self.shuffle:
            order = permutation(size, Generator().manual_seed(self.seed + self.epoch))
        filled = itertools.islice(itertools.cycle(order), self.total_size)
        return itertools.islice(filled, self.rank, None, self.num_replicas)

    def __len__(self) -> int:
        return self.num_samples
