"""The pool: a DataLoader's worker processes, seen from the parent.

Note [start method]. Workers are forked on Linux and spawned elsewhere, as PyTorch's are, unless
`multiprocessing_context` says otherwise. Fork is the default where it can be because then a dataset
needs no pickling (classes in a notebook, lambdas and open files work), a script needs no
`if __name__ == "__main__"`, the data is shared instead of copied, and a worker starts in
milliseconds. What makes fork unsafe is threads: the child has none of the parent's, and a lock one
of them held stays locked. So a worker runs amity on one thread, which touches no pool of threads,
and amity's own locks are taken around a fork. A program whose other libraries keep threads with
locks of their own should pass "forkserver" or "spawn": the dataset is then pickled once, with its
arrays in one shared file that all workers map.

Note [no hang]. Each worker has a socket of its own and no lock is shared, so one that dies takes
nothing with it. The parent waits for the sockets and for the ends of the processes together, and a
worker sees the end of its socket when the parent closes it or is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import selectors
import signal
import socket
import time
import warnings
import weakref
from collections import deque
from collections.abc import Collection, Iterator
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from amity.core.errors import fail
from amity.data.channel import Channel, ChannelClosed, pair
from amity.data.parcel import LEASES, Receiver, Sender
from amity.data.worker import STARTING, RemoteError, Setup, parent_ends, run

GRACE = 1.0  # seconds for a busy worker to end by itself before it is told to
LAST = 5.0  # seconds to end after SIGTERM, before SIGKILL


class Worker:
    """One process, its channel and the messages that came from it."""

    def __init__(self, number: int, process: BaseProcess, sock: socket.socket, leases: int) -> None:
        self.number, self.process, self.pid = number, process, process.pid
        self.channel = Channel(sock, is_blocking=False)
        self.receiver = Receiver(leases)
        self.inbox: deque[tuple[int, str, Any, list[int]]] = deque()
        self.is_closed = False  # the channel has ended, from either side

    def pump(self) -> None:
        """Send what waits and read what came: of a worker that has ended, its last words."""
        with contextlib.suppress(ChannelClosed):
            self.channel.flush()
        try:
            while self.channel.fill():
                pass
        except ChannelClosed:
            self.is_closed = True
        while message := self.channel.take():
            (epoch, kind, body), fds = message
            self.inbox.append((epoch, kind, body, fds))

    def death(self) -> Exception:
        """The error that says how this worker ended."""
        self.process.join(LAST)
        code = self.process.exitcode
        got = f"worker {self.number} (pid {self.pid}) that exited with code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):  # a signal without a name
                got += f", killed by {signal.Signals(-code).name}"
        hint = "is memory exhausted?" if code == -signal.SIGKILL else None
        return fail(RuntimeError, "DataLoader", got, "workers that live until the end", hint)


class WorkerPool:
    """Starts workers, passes tasks and batches, and ends the workers."""

    def __init__(
        self, setup: Setup, num_workers: int, seed: int, context: BaseContext | None = None
    ) -> None:
        self.context = context or multiprocessing.get_context()
        self._is_fork = self.context.get_start_method() == "fork"
        self.workers: list[Worker] = []
        self.epoch = STARTING
        self._end = weakref.finalize(self, _end_workers, self.workers, os.getpid())
        if self.context.get_start_method() == "forkserver":
            forkserver.ensure_running()  # here, or it would hand on a blocked Ctrl-C for ever
        try:
            with _starting_is_quiet():
                self._start(setup, num_workers, seed)
        except BaseException:
            self.close()
            raise

    def _start(self, setup: Setup, num_workers: int, seed: int) -> None:
        sender = Sender()
        try:
            parcel, fds = (None, []) if self._is_fork else self._pack(sender, setup)
            for number in range(num_workers):
                worker = self._start_one(setup, num_workers, number, seed + number)
                if parcel is not None:
                    with contextlib.suppress(ChannelClosed):  # it died: `receive` says so
                        worker.channel.send(parcel, fds)
        finally:
            sender.close()

    def _start_one(self, setup: Setup, num_workers: int, number: int, seed: int) -> Worker:
        ours, theirs = pair()
        parent_ends.add(ours)
        args = (theirs, (number, num_workers), seed, setup if self._is_fork else None)
        process = self.context.Process(  # type: ignore[attr-defined]
            target=run, args=args, name=f"amity-data-{number}", daemon=True
        )
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = Worker(number, process, ours, max(LEASES // num_workers, 1))
        self.workers.append(worker)
        return worker

    def _pack(self, sender: Sender, setup: Setup) -> Any:
        try:
            return sender.pack(setup)
        except Exception as error:
            method = self.context.get_start_method()
            error.add_note(
                f"DataLoader: with start method {method!r}, dataset, collate_fn and worker_init_fn "
                'must be picklable; multiprocessing_context="fork" needs no pickling'
            )
            raise

    def submit(self, number: int, indices: Any) -> None:
        """Give worker `number` a batch to fetch."""
        worker = self.workers[number]
        with contextlib.suppress(ChannelClosed):  # it died: `receive` says so
            worker.channel.send((self.epoch, indices, worker.receiver.released()))

    def receive(self, numbers: Collection[int], timeout: float) -> tuple[int, str, Any]:
        """The next (worker, kind, batch) of this epoch from one of `numbers`.

        errors: RuntimeError if a worker has died, or after `timeout` seconds (0: wait for ever);
                what a worker raised while starting
        """
        deadline = time.monotonic() + timeout if timeout else None
        while True:
            for number in numbers:
                message = self._next_message(self.workers[number])
                if message is not None:
                    return number, *message
            for worker in self.workers:
                if worker.is_closed:
                    self._raise_death(worker)
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                pids = ", ".join(f"{n} (pid {self.workers[n].pid})" for n in numbers)
                got = f"nothing from worker {pids} for {timeout} s"
                raise fail(RuntimeError, "DataLoader", got, "a batch within the timeout")
            self._wait(left)

    def _next_message(self, worker: Worker) -> tuple[str, Any] | None:
        while worker.inbox:
            epoch, kind, body, fds = worker.inbox.popleft()
            if epoch == STARTING:
                self.close()
                body.raise_here()
            if epoch != self.epoch:  # asked for by an iterator that was given up
                if kind == "batch":
                    worker.receiver.discard(body, fds)
                continue
            if kind == "batch":
                return kind, worker.receiver.open(body, fds)
            return kind, body
        return None

    def _raise_death(self, worker: Worker) -> None:
        for epoch, _, body, _ in worker.inbox:
            if epoch == STARTING and isinstance(body, RemoteError):
                self.close()
                body.raise_here()
        error = worker.death()
        self.close()
        raise error

    def _wait(self, timeout: float | None) -> None:
        """Until something can be read or sent, or a process has ended."""
        with selectors.PollSelector() as selector:
            for worker in self.workers:
                wants = selectors.EVENT_READ
                if worker.channel.is_waiting_to_send:
                    wants |= selectors.EVENT_WRITE
                selector.register(worker.channel, wants, worker)
                selector.register(worker.process.sentinel, selectors.EVENT_READ, worker)
            for key, _ in selector.select(timeout):
                key.data.pump()
                if key.fileobj == key.data.process.sentinel:
                    key.data.is_closed = True

    @property
    def is_open(self) -> bool:
        return self._end.alive

    def close(self, grace: float = GRACE) -> None:
        """End the workers; those that are busy after `grace` seconds are terminated."""
        if self._end.detach():
            _end_workers(self.workers, os.getpid(), grace)


def _end_workers(workers: list[Worker], owner: int, grace: float | None = None) -> None:
    if os.getpid() != owner:  # a forked copy: these are the parent's workers
        return
    for worker in workers:
        worker.channel.close()
        for *_, fds in worker.inbox:
            for fd in fds:
                os.close(fd)
        worker.inbox.clear()
    processes = [worker.process for worker in workers]
    _join(processes, GRACE if grace is None else grace)
    for process in processes:
        if process.is_alive():
            process.terminate()
    _join(processes, LAST)
    for process in processes:
        if process.is_alive():
            process.kill()
        process.join()
        process.close()


def _join(processes: list[BaseProcess], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for process in processes:
        process.join(max(deadline - time.monotonic(), 0))


@contextlib.contextmanager
def _starting_is_quiet() -> Iterator[None]:
    """While workers start: Ctrl-C waits until all are known, and fork's warning is not shown."""
    old = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Note [start method] says why forking with threads is safe here.
            warnings.filterwarnings("ignore", ".*multi-threaded.*fork", DeprecationWarning)
            yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)
