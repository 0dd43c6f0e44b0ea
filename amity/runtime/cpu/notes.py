"""Notes: what a thread's calls would have done, in memory that Python and generated code both write.

A call adds words: the address of its payload (which its machine made, and which has the `paper` that
tells what it does), number of the root and offset in bytes of each tensor that it takes, counted from
where the root was first met, so that a part of a whole does like another, and the
number of each root that it makes. A *root* is memory, numbered in the order in which it was met; its
storage bears one more than that as its mark. Where a copy of memory is read, as others may write it,
the complement of the root's number stands. Python numbers lie in a buffer of their own, so equal words
mean equal work. Payloads and the memory that was there before are held until the notes are cleared;
what calls make is not, where storages tell of their end, so that its memory serves again.

Sealed words go on with a zero and the roots that calls made and somebody still holds: the key of the
Program that does it all. Its arguments are the reads of memory as it was, the roots that receive
results, and the numbers.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from amity.core.layout import Layout
from amity.runtime.plan import facts

from .abi import (
    ADDRESS,
    AWAY,
    BASE,
    HELD,
    HELD_BYTES,
    HELD_DTYPE,
    IS_MADE,
    LAST_READ,
    NOTES_WORDS,
    NUMBERS,
    READ_BEFORE,
    READ_WORDS,
    READS,
    ROOT_WORDS,
    ROOTS,
    SEEN,
    STORAGE,
    WORDS,
)

WIDTHS = {WORDS: 1, NUMBERS: 1, ROOTS: ROOT_WORDS, READS: READ_WORDS}
FIRST_RECORDS = 256
_hold, _let_go = ctypes.pythonapi.Py_IncRef, ctypes.pythonapi.Py_DecRef


def object_at(address: int) -> Any:
    """The Python object there, which somebody must hold."""
    return ctypes.cast(address, ctypes.py_object).value


class Notes:
    """The buffers, and how Python adds to them; `head` says where they are and how full."""

    def __init__(self, is_told: bool = False) -> None:
        """`is_told` if storages tell of their end: then what calls make is not held."""
        self.is_told = is_told
        self.head = (ctypes.c_int64 * NOTES_WORDS)()
        self._buffers: dict[int, Any] = {}
        for buffer in WIDTHS:
            self._resize(buffer, FIRST_RECORDS)

    def _resize(self, buffer: int, records: int) -> None:
        made = (ctypes.c_int64 * (records * WIDTHS[buffer]))()
        old = self._buffers.get(buffer)
        if old is not None:
            ctypes.memmove(made, old, 8 * self.head[buffer + 1] * WIDTHS[buffer])
        self._buffers[buffer] = made
        self.head[buffer], self.head[buffer + 2] = ctypes.addressof(made), records

    def make_room(self, tensors: int) -> None:
        """Let a call of so many arguments and results fit, and the seal after it."""
        roots = self.head[ROOTS + 1] + tensors
        need = {WORDS: self.head[WORDS + 1] + 2 * tensors + 2 + roots, ROOTS: roots}
        for buffer in WIDTHS:
            records = need.get(buffer, self.head[buffer + 1] + tensors)
            if records > self.head[buffer + 2]:
                self._resize(buffer, 2 * records)

    def _add(self, buffer: int, *record: int) -> int:
        """Add a record; how many there are then."""
        count, width = self.head[buffer + 1], WIDTHS[buffer]
        self._buffers[buffer][count * width : (count + 1) * width] = record
        self.head[buffer + 1] = count + 1
        return count + 1

    # -- noting
    @property
    def is_empty(self) -> bool:
        return not self.head[WORDS + 1]

    @property
    def count(self) -> int:
        """How many words there are."""
        return self.head[WORDS + 1]

    def add_call(self, payload: Any) -> None:
        """Begin a call's words."""
        _hold(ctypes.py_object(payload))
        self._add(WORDS, id(payload))

    def add_word(self, word: int) -> None:
        self._add(WORDS, word)

    def add_number(self, value: float, is_float: bool) -> None:
        bits = struct.unpack("q", struct.pack("d", value))[0] if is_float else int(value)
        self._add(NUMBERS, bits)

    def number(self, root: Any, away: int = 0) -> int:
        """The number of a root, new or not; words count from where it was first met, so far from its
        start.
        """
        if not root.mark:
            _hold(ctypes.py_object(root))
            root.mark = self._add(ROOTS, id(root), *[0] * (ROOT_WORDS - 2), away)
        return root.mark - 1

    def base(self, number: int) -> int:
        """How far from its start a root was first met."""
        return self._root(number, BASE)

    def held(self, root: Any) -> Layout | None:
        """What a root holds all over, if a noted call filled it."""
        address = root.mark and self._root(root.mark - 1, HELD)
        return object_at(address) if address else None

    def hold(self, number: int, lay: Layout, is_made: bool) -> None:
        """Say what a root holds from now on, and whether the call made it."""
        at = number * ROOT_WORDS
        address, dtype, _, _, nbytes = facts(lay)
        records = self._buffers[ROOTS]
        records[at + HELD], records[at + HELD_DTYPE], records[at + HELD_BYTES] = (
            address,
            dtype,
            nbytes,
        )
        if is_made and not records[at + IS_MADE]:
            records[at + IS_MADE] = 1
            if self.is_told:
                _let_go(ctypes.py_object(object_at(records[at + STORAGE])))

    def reads(self, root: Any) -> Iterator[tuple[int, Layout]]:
        """Offset and layout of the reads of a root as it was."""
        k = self._root(root.mark - 1, LAST_READ) if root.mark else 0
        while k:
            at = (k - 1) * READ_WORDS
            record = self._buffers[READS][at : at + READ_WORDS]
            yield record[AWAY], object_at(record[SEEN])
            k = record[READ_BEFORE]

    def add_read(self, number: int, address: int, offset: int, lay: Layout) -> None:
        """Say that the memory there is read as it is."""
        before = self._root(number, LAST_READ)
        count = self._add(READS, address, offset, id(lay), lay.nbytes, before)
        self._buffers[ROOTS][number * ROOT_WORDS + LAST_READ] = count

    def address(self, read: int) -> int:
        """Where the memory of a read lies."""
        return self._buffers[READS][read * READ_WORDS + ADDRESS]

    def storage(self, number: int) -> int:
        """The address of the storage of a root."""
        return self._root(number, STORAGE)

    def _root(self, number: int, field: int) -> int:
        return self._buffers[ROOTS][number * ROOT_WORDS + field]

    def numbers(self) -> list[int]:
        """The bits of the numbers noted so far."""
        return self._buffers[NUMBERS][: self.head[NUMBERS + 1]]

    def met(self) -> tuple[list[Any], list[bool], list[int]]:
        """The storages of all roots, None for one that is gone, which of them calls made, and how far
        from their starts they were first met.
        """
        count = range(self.head[ROOTS + 1])
        found = [self._root(r, STORAGE) for r in count]
        made = [self._root(r, IS_MADE) != 0 for r in count]
        return [object_at(a) if a else None for a in found], made, [self.base(r) for r in count]

    # -- ending; generated code has the same in replay_code.py
    def seal(self) -> bytes | None:
        """The key of what was noted, if anything was; roots that calls made and nobody holds are let
        go of.
        """
        words, n = self._buffers[WORDS], self.head[WORDS + 1]
        if not n:
            return None
        alive = []
        for r in range(self.head[ROOTS + 1]):
            storage = self._root(r, STORAGE)
            if self._root(r, IS_MADE) and storage:
                # held by the notes and by getrefcount's argument
                if sys.getrefcount(object_at(storage)) > 2:
                    alive.append(r)
                else:
                    self._buffers[ROOTS][r * ROOT_WORDS + STORAGE] = 0
                    _let_go(ctypes.py_object(object_at(storage)))
        words[n : n + 1 + len(alive)] = [0, *alive]
        return ctypes.string_at(words, 8 * (n + 1 + len(alive)))

    def replayer(self, program: Any, targets: Sequence[int]) -> Callable[[], None]:
        """What runs a portable program over the notes and clears them; results go to `targets`."""

        def replay() -> None:
            try:
                program.run_steps(self._slots(targets))
            finally:
                self.clear()

        return replay

    def _slots(self, targets: Sequence[int]) -> list[int]:
        reads = self._buffers[READS][ADDRESS : self.head[READS + 1] * READ_WORDS : READ_WORDS]
        roots = [object_at(self._root(r, STORAGE)).data for r in targets]
        first = self.head[NUMBERS]
        return [*reads, *roots, *range(first, first + 8 * self.head[NUMBERS + 1], 8)]

    def clear(self) -> None:
        """Forget all notes."""
        payloads, at = [], 0
        while at < self.head[WORDS + 1]:
            payloads.append(object_at(self._buffers[WORDS][at]))
            at += payloads[-1].plan.noted
        addresses = [self._root(r, STORAGE) for r in range(self.head[ROOTS + 1])]
        storages = [object_at(address) for address in addresses if address]
        for buffer in WIDTHS:
            self.head[buffer + 1] = 0
        for storage in storages:
            storage.mark = 0
        for thing in (*payloads, *storages):
            _let_go(ctypes.py_object(thing))
