"""Whether kernels stay in their memory: ranges that guarded kernels may touch, and who left them."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

from amity.ir import guard as form
from amity.ir.kernel import instructions
from amity.ir.text import line
from amity.runtime.cpu.blocks import SCRATCH_BYTES

from . import device

ALIGNMENT = 64


class Access(NamedTuple):
    """An access that went astray: the number of its instruction, and where."""

    number: int
    address: int
    nbytes: int


class Guard:
    """The table that guarded kernels of this process ask; one launch at a time may."""

    def __init__(self) -> None:
        from amity.runtime.cpu.loader import bind_symbol  # lazy: loads LLVM's engine

        device.machine()
        self._table = (ctypes.c_int64 * form.TABLE_WORDS)()
        self._astray = (ctypes.c_char * (form.ASTRAY_BYTES + ALIGNMENT))()
        self._ranges: Any = None
        self._allowed: Sequence[tuple[int, int]] = ()
        bind_symbol(form.TABLE, ctypes.addressof(self._table))
        bind_symbol(form.ASTRAY, ctypes.addressof(self._astray) + ALIGNMENT - 1 & -ALIGNMENT)

    def allow(self, parts: Sequence[tuple[int, int]], scratch: int) -> None:
        """Let the next launch touch these parts of memory (start, bytes) and its scratch."""
        if scratch:
            parts = [*parts, (scratch, SCRATCH_BYTES)]
        joined: list[list[int]] = []
        for start, nbytes in sorted(parts):
            if joined and start < joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], start + nbytes)
            else:
                joined.append([start, start + nbytes])
        self._allowed = parts
        words = [w for part in joined for w in part]
        self._ranges = (ctypes.c_int64 * len(words))(*words)
        self._table[form.WHICH] = 0
        self._table[form.COUNT] = len(joined)
        self._table[form.RANGES] = ctypes.addressof(self._ranges)

    def astray(self) -> Access | None:
        """The first access of the last launch outside of what it may touch."""
        which, address, nbytes = self._table[: form.COUNT]
        return Access(which - 1, address, nbytes) if which else None

    def nearest(self, access: Access) -> str:
        """How far an access is from the buffer that is nearest."""
        first, end = access.address, access.address + access.nbytes
        away, i = min(
            (max(start - first, end - start - nbytes), i)
            for i, (start, nbytes) in enumerate(self._allowed)
        )
        start, nbytes = self._allowed[i]
        where = "past the end" if end > start + nbytes else "before the start"
        return f"goes {away} bytes {where} of {nbytes} bytes"


@functools.cache
def guard() -> Guard:
    """The one table of this process."""
    return Guard()


def instruction(kernel: Any, number: int) -> str:
    """The instruction of a kernel that has a number, as text."""
    found = (v for f in kernel.functions for v in instructions(f.body) if v.id == number)
    return line(next(found))
