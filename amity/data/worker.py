"""Workers: the processes that fetch batches for a DataLoader."""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import traceback
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, NoReturn

import numpy as np

from amity.data.channel import Channel, ChannelClosed
from amity.data.fetch import Recipe, StreamEnded
from amity.data.parcel import Receiver, Sender
from amity.engine.threads import set_num_threads
from amity.frontend.random import manual_seed

STARTING = -1  # the epoch of an error before the first batch
WATCH = 2.0  # seconds between looks at whether the parent still lives

# The parent's ends of all channels of this process: a forked worker closes its copies, else it
# would keep the channels of its siblings open after the parent has died.
parent_ends: weakref.WeakSet[socket.socket] = weakref.WeakSet()


@dataclass(frozen=True)
class WorkerInfo:
    """Which worker this is: `id` of `num_workers`, its `seed` and its copy of the dataset."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """The WorkerInfo of the worker this runs in; None outside of workers."""
    return _info


@dataclass(frozen=True)
class Setup:
    """All that a worker needs to begin."""

    recipe: Recipe
    worker_init_fn: Callable[[int], None] | None


@dataclass(frozen=True)
class RemoteError:
    """An exception on its way to the parent."""

    worker: int
    pid: int
    pickled: bytes | None
    name: str
    traceback: str

    @classmethod
    def of(cls, error: Exception, worker: int) -> RemoteError:
        text = "".join(traceback.format_exception(error))
        return cls(worker, os.getpid(), _pickle_error(error), type(error).__name__, text)

    def raise_here(self) -> NoReturn:
        where = f"in DataLoader worker {self.worker} (pid {self.pid}); its traceback:"
        if self.pickled is None:
            raise RuntimeError(f"DataLoader: got {self.name} {where}\n{self.traceback}")
        error = pickle.loads(self.pickled)
        error.add_note(f"Raised {where}\n{self.traceback}")
        raise error


def _pickle_error(error: Exception) -> bytes | None:
    """The exception as bytes that surely load; None if that cannot be had."""
    for form in (
        lambda: error,
        lambda: _Bare(error, error.args),
        lambda: _Bare(error, (str(error),)),
    ):
        try:
            data = pickle.dumps(form())
            if type(pickle.loads(data)) is type(error):
                return data
        except Exception:  # whatever the user's class raises: the next, plainer form is tried
            continue
    return None


class _Bare:
    """Pickles an exception by class and arguments, past an `__init__` that wants others."""

    def __init__(self, error: Exception, args: tuple[Any, ...]) -> None:
        self.error, self.args = error, args

    def __reduce__(self) -> Any:
        cls = type(self.error)
        state = {key: value for key, value in vars(self.error).items() if key != "__notes__"}
        return cls.__new__, (cls, *self.args), state or None


def run(sock: socket.socket, place: tuple[int, int], seed: int, setup: Setup | None) -> None:
    """The life of worker `place` = (id, of how many). Without `setup`, it comes by the channel."""
    for end in list(parent_ends):
        end.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets Ctrl-C as well, and ends us
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    channel = Channel(sock, is_blocking=True)
    try:
        recipe = _begin(channel, place, seed, setup)
        if recipe is not None:
            _serve(channel, place[0], recipe)
    except ChannelClosed:
        pass  # the parent has closed the loader, or is gone
    finally:
        channel.close()


def _begin(
    channel: Channel, place: tuple[int, int], seed: int, setup: Setup | None
) -> Recipe | None:
    global _info
    worker, num_workers = place
    parent = os.getppid()
    try:
        set_num_threads(1)  # the workers share the cores; threads of the parent's pool are not here
        random.seed(seed)
        np.random.seed(np.random.SeedSequence(seed).generate_state(4))
        manual_seed(seed)
        if setup is None:
            parcel, fds = receive(channel, parent)
            setup = Receiver(is_private=True).open(parcel, fds)
        _info = WorkerInfo(worker, num_workers, seed, setup.recipe.dataset)
        if setup.worker_init_fn is not None:
            setup.worker_init_fn(worker)
        return setup.recipe
    except Exception as error:
        channel.send((STARTING, "error", RemoteError.of(error, worker)))
        return None


def _serve(channel: Channel, worker: int, recipe: Recipe) -> None:
    sender = Sender()
    parent = os.getppid()
    current, fetcher, has_ended = STARTING, None, False
    while True:
        (epoch, indices, released), _ = receive(channel, parent)
        sender.take_back(released)
        if epoch != current:
            current, fetcher, has_ended = epoch, None, False
        if has_ended:
            continue
        fds: list[int] = []
        try:
            if fetcher is None:
                fetcher = recipe.start()
            kind, (body, fds) = "batch", sender.pack(fetcher(indices))
        except StreamEnded:
            kind, body, has_ended = "end", None, True
        except Exception as error:
            kind, body = "error", RemoteError.of(error, worker)
        channel.send((epoch, kind, body), fds)


def receive(channel: Channel, parent: int) -> tuple[Any, list[int]]:
    """The next message. Ends if `parent` is no longer this process's parent."""
    while (message := channel.take()) is None:
        while not wait([channel.sock], WATCH):
            if os.getppid() != parent:
                raise ChannelClosed
        channel.fill()
    return message
