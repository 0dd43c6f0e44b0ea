"""The DataLoader: batches of a dataset, fetched here or by worker processes."""

from __future__ import annotations

import itertools
import multiprocessing
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.context import BaseContext
from typing import Any, Generic, TypeVar

from amity.core.errors import fail
from amity.data.collate import default_collate, default_convert
from amity.data.dataset import Dataset, IterableDataset
from amity.data.fetch import Recipe, StreamEnded
from amity.data.pool import WorkerPool
from amity.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    check_count,
    draw_seed,
)
from amity.data.worker import Setup
from amity.frontend.random import Generator

T_co = TypeVar("T_co", covariant=True)
PREFETCH = 2  # batches in work for each worker, unless told otherwise
FIXED = {"batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers"}


class EndlessSampler(Sampler[None]):
    """What stands for indices where a dataset has none."""

    def __iter__(self) -> Iterator[None]:
        return itertools.repeat(None)


class DataLoader(Generic[T_co]):
    """Iterates over batches of a dataset.

    Arguments and defaults are PyTorch's. With `num_workers` processes, batches come in the same
    order, and for one seed have the same shuffling, as without. Seeds: worker `i` seeds `random`,
    NumPy and amity with a base seed, drawn each epoch from `generator` or the default one, plus
    `i`. `pin_memory` is accepted and does nothing: no device of amity copies faster from it.
    errors: ValueError for arguments that do not go together; while iterating, what the dataset
            raises (from a worker with the worker's traceback as a note), and RuntimeError if a
            worker dies or a batch takes longer than `timeout` seconds

    >>> list(DataLoader(range(5), batch_size=2))
    [tensor([0, 1]), tensor([2, 3]), tensor([4])]
    """

    def __init__(
        self,
        dataset: Dataset[T_co] | Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Sampler[Any] | Iterable[Any] | None = None,
        batch_sampler: Sampler[list[Any]] | Iterable[list[Any]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[Any], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        multiprocessing_context: str | BaseContext | None = None,
        generator: Generator | None = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
        pin_memory_device: str = "",
        in_order: bool = True,
    ) -> None:
        self.dataset = dataset
        self.num_workers = num_workers
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.multiprocessing_context = multiprocessing_context
        self.generator = generator
        self.persistent_workers = persistent_workers
        self.prefetch_factor = prefetch_factor
        self.in_order = in_order
        self._check_workers()
        self._is_iterable = isinstance(dataset, IterableDataset)
        if self._is_iterable:
            _check_stream(shuffle, sampler, batch_sampler)
            sampler = EndlessSampler()
        elif sampler is not None and shuffle:
            raise fail(ValueError, "DataLoader", "a sampler and shuffle=True", "one of them")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                got = "batch_sampler with batch_size, shuffle, sampler or drop_last"
                raise fail(ValueError, "DataLoader", got, "batch_sampler alone")
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            got = "batch_size=None and drop_last=True"
            raise fail(ValueError, "DataLoader", got, "a batch_size for what is to be dropped")
        if sampler is None:
            sampler = (
                RandomSampler(dataset, generator=generator)
                if shuffle
                else SequentialSampler(dataset)
            )
        if batch_size is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last = batch_size, drop_last
        self.sampler, self.batch_sampler = sampler, batch_sampler
        is_batched = batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if is_batched else default_convert)
        self._pool: WorkerPool | None = None
        self._is_built = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name in FIXED and getattr(self, "_is_built", False):
            raise fail(ValueError, "DataLoader", f"a new {name}", "a new DataLoader for it")
        super().__setattr__(name, value)

    def _check_workers(self) -> None:
        count, prefetch = self.num_workers, self.prefetch_factor
        if not isinstance(count, int) or count < 0:
            raise fail(
                ValueError, "DataLoader", f"num_workers={count!r}", "0 or a positive integer"
            )
        if self.timeout < 0:
            raise fail(ValueError, "DataLoader", f"timeout={self.timeout!r}", "0 or more seconds")
        if count:
            self.prefetch_factor = PREFETCH if prefetch is None else prefetch
            check_count("DataLoader", "prefetch_factor", self.prefetch_factor)
            return
        for name, is_given in {
            "prefetch_factor": prefetch is not None,
            "persistent_workers": self.persistent_workers,
            "timeout": self.timeout > 0,
            "multiprocessing_context": self.multiprocessing_context is not None,
        }.items():
            if is_given:
                raise fail(ValueError, "DataLoader", f"{name} with num_workers=0", "workers for it")

    @property
    def multiprocessing_context(self) -> BaseContext | None:
        """How workers start; None: fork on Linux, spawn elsewhere."""
        return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context: str | BaseContext | None) -> None:
        if isinstance(context, str):
            methods = multiprocessing.get_all_start_methods()
            if context not in methods:
                got = f"multiprocessing_context={context!r}"
                raise fail(ValueError, "DataLoader", got, f"one of {', '.join(methods)}")
            context = multiprocessing.get_context(context)
        if context is not None and not isinstance(context, BaseContext):
            got = f"multiprocessing_context={context!r}"
            raise fail(TypeError, "DataLoader", got, "the name of a start method or a context")
        self._context = context

    def _indices(self) -> Iterable[Any]:
        return self.batch_sampler if self.batch_sampler is not None else self.sampler

    def _recipe(self) -> Recipe:
        is_batched = self.batch_sampler is not None
        return Recipe(self.dataset, self.collate_fn, self._is_iterable, is_batched, self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        if self.num_workers:
            return PoolIterator(self)
        return LocalIterator(self)

    def __len__(self) -> int:
        if not self._is_iterable:
            return len(self._indices())  # type: ignore[arg-type]
        size = len(self.dataset)
        if self.batch_size is None:
            return size
        return size // self.batch_size if self.drop_last else -(-size // self.batch_size)

    def _get_pool(self, seed: int) -> WorkerPool:
        """A new pool, or with persistent workers the one that is running."""
        if self._pool is not None and self._pool.is_open:
            return self._pool
        setup = Setup(self._recipe(), self.worker_init_fn)
        pool = WorkerPool(setup, self.num_workers, seed, self.multiprocessing_context)
        if self.persistent_workers:
            self._pool = pool
        return pool


def _check_stream(shuffle: Any, sampler: Any, batch_sampler: Any) -> None:
    given = {"shuffle": shuffle, "sampler": sampler, "batch_sampler": batch_sampler}
    for name, value in given.items():
        if value is not None and value is not False:
            expected = f"no {name}: the stream has its own order"
            raise fail(ValueError, "DataLoader", f"{name} with an IterableDataset", expected)


class LoaderIterator:
    """One pass over a DataLoader."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        self._loader = loader
        # Drawn with or without workers, so that both leave the generator in the same state.
        self._seed = draw_seed(loader.generator)
        self._indices = iter(loader._indices())
        self._yielded = 0
        self._announced: int | None = None
        if loader._is_iterable and hasattr(loader.dataset, "__len__"):
            self._announced = len(loader)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:
        batch = self._next()
        self._yielded += 1
        if self._announced is not None and self._yielded > self._announced:
            warnings.warn(
                f"DataLoader: got batch {self._yielded} from an IterableDataset whose length means "
                f"{self._announced}; expected __iter__ to shard by get_worker_info() if there are "
                "workers, and __len__ to agree",
                stacklevel=2,
            )
            self._announced = None  # once an epoch is enough
        return batch

    def _next(self) -> Any:
        raise NotImplementedError


class LocalIterator(LoaderIterator):
    """Fetches in this process."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self._fetch = loader._recipe().start()

    def _next(self) -> Any:
        indices = next(self._indices)
        try:
            return self._fetch(indices)
        except StreamEnded:
            raise StopIteration from None


class PoolIterator(LoaderIterator):
    """Has workers fetch, each `prefetch_factor` batches ahead."""

    def __init__(self, loader: DataLoader[Any]) -> None:
        super().__init__(loader)
        self._pool = loader._get_pool(self._seed)
        self._pool.epoch += 1
        self._epoch = self._pool.epoch
        self._is_active = [True] * loader.num_workers
        self._loads = [0] * loader.num_workers  # batches in work
        self._turns: deque[int] = deque()  # the workers of all batches in work, in order
        self._last = -1  # the worker that got the last batch
        for _ in range(loader.prefetch_factor * loader.num_workers):
            self._submit()

    def _submit(self) -> None:
        """Give the next batch to the next worker in turn that has room."""
        loader = self._loader
        for step in range(1, loader.num_workers + 1):
            worker = (self._last + step) % loader.num_workers
            if self._is_active[worker] and self._loads[worker] < loader.prefetch_factor:
                break
        else:
            return
        try:
            indices = next(self._indices)
        except StopIteration:
            return
        self._pool.submit(worker, indices)
        self._turns.append(worker)
        self._loads[worker] += 1
        self._last = worker

    def _next(self) -> Any:
        try:
            return self._take_turn()
        except KeyboardInterrupt:
            self._pool.close(grace=0)
            raise

    def _take_turn(self) -> Any:
        if self._pool.epoch != self._epoch:
            got = "an iterator that a newer one of the same persistent workers has replaced"
            raise fail(RuntimeError, "DataLoader", got, "one iterator at a time")
        while self._turns and self._pool.is_open:
            among = [self._turns[0]] if self._loader.in_order else list(dict.fromkeys(self._turns))
            worker, kind, body = self._pool.receive(among, self._loader.timeout)
            self._turns.remove(worker)
            self._loads[worker] -= 1
            if kind == "end":
                self._is_active[worker] = False
                self._turns = deque(turn for turn in self._turns if turn != worker)
            self._submit()
            if kind == "error":
                body.raise_here()
            if kind == "batch":
                return body
        if not self._loader.persistent_workers:
            self._pool.close()
        raise StopIteration
