"""Parcels: how an object with arrays crosses to another process.

The object is pickled (protocol 5) with the contents of its arrays set aside. Pickle and contents
go into one anonymous shared-memory file, whose descriptor travels over a Unix socket; the receiver
maps the file and builds arrays right over it, without a copy. The file has no name: the kernel
frees it when the last process that maps it goes, however it goes, so nothing can be left behind.

A receiver reports a segment as released when the last array over it has gone, and the sender
then fills it again: in a steady state no memory is mapped, faulted in or zeroed.
"""

from __future__ import annotations

import io
import mmap
import os
import pickle
import tempfile
import weakref
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor

ALIGN = 64  # a cache line, and what vector loads like
INLINE = 1024  # a parcel up to this many bytes travels in the message itself
LEASES = 256  # segments (each a file descriptor) that arrays may hold before batches are copied


@dataclass(frozen=True, slots=True)
class Parcel:
    """A packed object: its pickle and arrays lie in `inline` or in segment `number`."""

    lengths: tuple[int, ...]  # of the pickle, then of each array
    inline: bytes | None
    number: int = -1
    size: int = 0
    dropped: tuple[int, ...] = ()  # segments that the sender will not use again


def _build_tensor(array: np.ndarray, kind: type[np.generic], requires_grad: bool) -> Tensor:
    return create.from_numpy(array.view(kind)).requires_grad_(requires_grad)


class _Pickler(pickle.Pickler):
    """Pickles a tensor as its array, so that its contents are set aside too."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is not Tensor:
            return NotImplemented
        if not obj.is_leaf:
            got = "a tensor that autograd follows (it has a grad_fn)"
            raise fail(RuntimeError, "DataLoader", got, "tensors that were detached")
        array = np.asarray(obj._array("DataLoader"), order="C")
        kind = array.dtype.type
        if array.dtype.kind == "V":  # bfloat16, which NumPy's own pickling copies
            array = array.view(f"u{array.itemsize}")
        return _build_tensor, (array, kind, obj.requires_grad)


def dump(obj: Any) -> list[memoryview]:
    """The pickle of `obj`, then the contents of its arrays."""
    aside: list[pickle.PickleBuffer] = []
    stream = io.BytesIO()
    _Pickler(stream, protocol=5, buffer_callback=aside.append).dump(obj)
    return [stream.getbuffer(), *(buffer.raw() for buffer in aside)]


def places(lengths: Iterable[int]) -> list[int]:
    """Where each piece starts, and where the last one ends."""
    starts = [0]
    for length in lengths:
        starts.append(-(-(starts[-1] + length) // ALIGN) * ALIGN)
    return starts


class Segment:
    """An anonymous file in memory, mapped here and sent by its descriptor."""

    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.fd = _anonymous_file()
        try:
            if hasattr(os, "posix_fallocate"):  # a full memory is an error here, not a SIGBUS later
                os.posix_fallocate(self.fd, 0, size)
            else:
                os.ftruncate(self.fd, size)
            self.map = mmap.mmap(self.fd, size)
        except BaseException:
            os.close(self.fd)
            raise

    def close(self) -> None:
        self.map.close()
        os.close(self.fd)


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("amity-data", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile(prefix="amity-data") as file:
        return os.dup(file.fileno())


class Sender:
    """Packs objects into segments, and fills those again that came back."""

    def __init__(self) -> None:
        self._count = 0
        self._used: dict[int, Segment] = {}
        self._free: list[Segment] = []

    def pack(self, obj: Any) -> tuple[Parcel, list[int]]:
        """A parcel, and the descriptors to send along."""
        pieces = dump(obj)
        lengths = tuple(piece.nbytes for piece in pieces)
        starts = places(lengths)
        if starts[-1] <= INLINE:
            padded = bytearray(starts[-1])
            for start, length, piece in zip(starts, lengths, pieces):
                padded[start : start + length] = piece
            return Parcel(lengths, bytes(padded)), []
        segment, fds, dropped = self._take(starts[-1])
        for start, length, piece in zip(starts, lengths, pieces):
            segment.map[start : start + length] = piece
        return Parcel(lengths, None, segment.number, segment.size, dropped), fds

    def _take(self, size: int) -> tuple[Segment, list[int], tuple[int, ...]]:
        """A segment of `size` bytes or more; its descriptor if it is new; the numbers dropped."""
        fitting = [segment for segment in self._free if segment.size >= size]
        dropped: tuple[int, ...] = ()
        if fitting:
            segment = min(fitting, key=lambda segment: segment.size)
            self._free.remove(segment)
            fds = []
        else:
            if self._free:  # all too small: replace one, so their number stays at its peak use
                small = self._free.pop()
                small.close()
                dropped = (small.number,)
            segment = Segment(self._count, _round_up(size))
            self._count += 1
            fds = [segment.fd]
        self._used[segment.number] = segment
        return segment, fds, dropped

    def take_back(self, numbers: Iterable[int]) -> None:
        """Segments that the receiver has released."""
        self._free.extend(self._used.pop(number) for number in numbers)

    def close(self) -> None:
        for segment in (*self._used.values(), *self._free):
            segment.close()
        self._used.clear()
        self._free.clear()


def _round_up(size: int) -> int:
    """Up to an eighth more, in whole pages, so that batches of about one size share segments."""
    step = max(mmap.PAGESIZE, 1 << max(size.bit_length() - 4, 0))
    return -(-size // step) * step


class Receiver:
    """Opens parcels; arrays lie over the segments and hold them until the last one is gone."""

    def __init__(self, leases: int = LEASES, is_private: bool = False) -> None:
        self._leases = leases
        self._access = mmap.ACCESS_COPY if is_private else mmap.ACCESS_WRITE
        self._maps: dict[int, mmap.mmap] = {}
        self._leased: set[int] = set()
        self._released: deque[int] = deque()  # appended to by finalizers, in whatever thread

    def open(self, parcel: Parcel, fds: list[int]) -> Any:
        memory = self._memory(parcel, fds)
        starts = places(parcel.lengths)
        pieces = [memory[a : a + length] for a, length in zip(starts, parcel.lengths)]
        return pickle.loads(pieces[0], buffers=pieces[1:])

    def discard(self, parcel: Parcel, fds: list[int]) -> None:
        """Take a parcel whose contents nobody wants."""
        self._memory(parcel, fds)

    def released(self) -> list[int]:
        """The numbers of segments that came free since the last call."""
        numbers = [self._released.popleft() for _ in range(len(self._released))]
        self._leased.difference_update(numbers)
        return numbers

    def _memory(self, parcel: Parcel, fds: list[int]) -> np.ndarray:
        for number in parcel.dropped:
            del self._maps[number]
        if parcel.inline is not None:
            return np.frombuffer(bytearray(parcel.inline), np.uint8)
        for fd in fds:
            try:
                self._maps[parcel.number] = mmap.mmap(fd, parcel.size, access=self._access)
            finally:
                os.close(fd)
        memory = np.frombuffer(self._maps[parcel.number], np.uint8)
        if len(self._leased) >= self._leases:
            self._released.append(parcel.number)
            return memory[: places(parcel.lengths)[-1]].copy()
        self._leased.add(parcel.number)
        weakref.finalize(memory, self._released.append, parcel.number).atexit = False
        return memory
