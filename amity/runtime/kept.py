"""What a Program keeps from call to call: results of its first steps, while their inputs stay as they are.

Words that native code reads and writes: the storage of what is kept or 0, whether the guards are armed,
how often it was made, how many guards there are, and for each its slot, address, root storage and
version.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from typing import Any

from .cpu.abi import LOOSE

BLOCK, ARMED, TIMES, GUARDS, STATE_HEAD = range(5)
GUARD_SLOT, GUARD_ADDRESS, GUARD_ROOT, GUARD_VERSION, GUARD_WORDS = range(5)
UNKNOWN = -1  # a version that no storage has


class KeptSteps:
    """The words, and hold of what they point to."""

    def __init__(self, slots: Sequence[int]) -> None:
        """`slots` are the arguments that it is made of."""
        self.slots = tuple(slots)
        self.words = array("q", [0, 0, 0, len(slots)])
        for slot in slots:
            self.words.extend([slot, 0, 0, UNKNOWN])
        self._roots: list[Any] = []
        self._seen: list[int] = []

    @property
    def is_armed(self) -> bool:
        """Whether native code knows what memory to look at."""
        return self.words[ARMED] != 0

    def see(self, addresses: Sequence[int], roots: Sequence[Any]) -> None:
        """Tell where the arguments are in the call to come, in memory of these root storages. If they
        were there in the last one too, the guards are armed.
        """
        found = list(addresses)
        if found != self._seen or any(r.owner is not None or r.stamp & LOOSE for r in roots):
            self._seen = found
            return
        held, self._roots = self._roots, list(roots)
        for i, (address, root) in enumerate(zip(found, roots, strict=True)):
            at = STATE_HEAD + i * GUARD_WORDS
            self.words[at + GUARD_ADDRESS], self.words[at + GUARD_ROOT] = address, id(root)
            self.words[at + GUARD_VERSION] = UNKNOWN
        self.words[ARMED] = 1
        del held

    def __del__(self) -> None:
        if self.words[BLOCK]:
            ctypes.pythonapi.Py_DecRef(ctypes.c_void_p(self.words[BLOCK]))
