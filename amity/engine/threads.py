"""Threads: how many a kernel uses, and the locks that a fork must not find taken."""

from __future__ import annotations

import os
import threading

from amity.core import flags
from amity.core.errors import fail

from . import device


def get_num_threads() -> int:
    """How many threads a kernel may use, the caller's among them."""
    return device.machine().workers.threads


def set_num_threads(number: int) -> None:
    """Let kernels use so many threads.

    errors: TypeError if `number` is no integer, RuntimeError if it is not positive
    """
    if not isinstance(number, int) or isinstance(number, bool):
        raise fail(TypeError, "set_num_threads", type(number).__name__, "an integer")
    if number < 1:
        raise fail(RuntimeError, "set_num_threads", number, "1 or more")
    if device.is_started():
        device.machine().workers.resize(number)
    else:
        flags.threads = number


_taken: list[threading.RLock] = []  # type: ignore[valid-type]


def _take_locks() -> None:
    """Before a fork, outermost first: no other thread is inside LLVM or a table then."""
    for lock in device.locks():
        lock.acquire()
        _taken.append(lock)


def _give_locks_back() -> None:
    while _taken:
        _taken.pop().release()


os.register_at_fork(
    before=_take_locks, after_in_parent=_give_locks_back, after_in_child=_give_locks_back
)
