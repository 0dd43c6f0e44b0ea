"""A machine that plans, compiles and allocates, and never runs a kernel: `AMITY_DEVICE=null`.

Results hold zeros. What a program costs before it runs shows without running it, and kernels can
be compiled for machines that are not at hand.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

from amity.core import flags
from amity.runtime.cpu import pool, portable
from amity.runtime.plan import Step


class Workers:
    """Threads that kernels are planned for."""

    def __init__(self, threads: int) -> None:
        self.threads = threads

    def resize(self, threads: int) -> None:
        """Plan for that many threads from now on."""
        self.threads = threads


class Machine(portable.Machine):
    """Memory as everywhere, programs that do nothing."""

    def start(self, compile: Callable[[str], bytes]) -> None:
        self.locks = [self.heap.lock]
        self.workers = Workers(flags.threads or pool.usable_cores())
        self.loaded = self.launches = 0

    def load(self, code: bytes, names: list[str]) -> list[int]:
        """Count the functions of an object; they have no address."""
        self.loaded += len(names)
        return [0] * len(names)

    def allocate(self, nbytes: int) -> portable.Storage:
        storage = super().allocate(nbytes)
        ctypes.memset(storage.data, 0, storage.nbytes)
        return storage

    def launch(self, step: Step, slots: Sequence[int], scratch: int) -> None:
        self.launches += 1
