"""Bytes to read from: a path or an open binary file, mapped into memory when asked."""

from __future__ import annotations

import io
import mmap as mapping
import os
from typing import Any, BinaryIO

import numpy as np

from amity.core.errors import FormatError, fail

PLAIN = (io.BytesIO, io.BufferedReader, io.BufferedRandom)  # these seek freely and read in full


class Source:
    """Random access to `size` bytes; reads past the end are named errors, never short.

    `file` starts at the first of those bytes. A mapped source gives views of private memory:
    writing to them changes neither the file nor other loads.
    """

    def __init__(self, op: str, f: str | os.PathLike | BinaryIO, *, mmap: bool = False) -> None:
        self.op = op
        self.map: mapping.mmap | None = None
        self.is_owner = isinstance(f, str | os.PathLike)
        if isinstance(f, str | os.PathLike):
            self.name = repr(os.fspath(f))
            self.file: Any = open(f, "rb")  # closed by close()
        else:
            self.name = "the file object"
            self.file = whole(op, f)
            if mmap:
                raise fail(ValueError, op, "a file object with mmap=True", "a path to map")
        try:
            self.size = self.file.seek(0, io.SEEK_END)
            if mmap and self.size:
                self.map = mapping.mmap(self.file.fileno(), 0, access=mapping.ACCESS_COPY)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file if this source opened it; views of a mapping stay valid."""
        if self.is_owner:
            self.file.close()

    def fail(self, got: str, expected: str, hint: str | None = None) -> Exception:
        """A FormatError that names this file."""
        return fail(FormatError, self.op, f"{self.name}, {got}", expected, hint)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes from `offset` on."""
        return self.array(offset, size).tobytes()

    def array(self, offset: int, size: int) -> np.ndarray:
        """`size` bytes as a uint8 array: a view when mapped, else fresh memory."""
        if self.map is not None:
            self.check(offset, size)
            return np.frombuffer(self.map, np.uint8, size, offset) if size else empty(0)
        self.check(offset, size)  # before memory is taken for it
        out = empty(size)
        self.read_into(offset, out)
        return out

    def read_into(self, offset: int, out: np.ndarray) -> None:
        """Fill a contiguous uint8 array with the bytes from `offset` on."""
        self.check(offset, out.size)
        self.file.seek(offset)
        view, done = memoryview(out), 0
        while done < out.size:
            count = self.file.readinto(view[done:])
            if not count:
                raise self.fail("which ended while it was read", f"{self.size} bytes")
            done += count

    def check(self, offset: int, size: int) -> None:
        """Refuse a range that is not inside the file."""
        if not 0 <= offset <= offset + size <= self.size:
            got = f"of {self.size} bytes"
            raise self.fail(got, f"bytes {offset} to {offset + size}", "is it truncated?")


def empty(size: int) -> np.ndarray:
    return np.empty(size, np.uint8)


def whole(op: str, f: Any) -> Any:
    """`f` itself if it is a plain file at its beginning, else what is left of it, in memory."""
    if not all(hasattr(f, name) for name in ("read", "seek", "tell")):
        got = f"{type(f).__name__}"
        raise fail(TypeError, op, got, "a path or a binary file object with read, seek and tell")
    if isinstance(f.read(0), str):
        raise fail(TypeError, op, "a file opened as text", "one opened with mode 'rb'")
    if isinstance(f, PLAIN) and f.tell() == 0:
        return f
    rest = io.BytesIO()
    while data := f.read():
        rest.write(data)
    return rest
