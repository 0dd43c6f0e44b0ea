"""The IDX format: one array in a file, as the MNIST family of datasets is published."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from os import PathLike, fspath
from typing import Any, BinaryIO

import numpy as np

from amity.core.errors import FormatError, fail

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
GZIP = b"\x1f\x8b"


def read_idx(path: str | PathLike[str], shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The array in an IDX file, gzipped or not.

    errors: FormatError (a ValueError) if the file is not IDX, is cut short, damaged or too long,
            or holds another shape than `shape`
    source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database", section "File formats"
    """
    name = fspath(path)
    with open(name, "rb") as raw:
        start = raw.read(2)
        raw.seek(0)
        if start != GZIP:
            return _read(raw, name, shape)
        with gzip.open(raw) as file:
            try:
                return _read(file, name, shape)
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                got = f"a damaged gzip file ({error})"
                raise _wrong(name, got, "a whole gzip file") from error


def _read(file: BinaryIO | Any, name: str, shape: tuple[int, ...] | None) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in TYPES or not head[3]:
        raise _wrong(name, f"first bytes {head.hex(' ')!r}", "00 00, a type code and a rank")
    dtype, rank = np.dtype(TYPES[head[2]]), head[3]
    sizes = file.read(4 * rank)
    if len(sizes) < 4 * rank:
        raise _wrong(name, "a header that is cut short", f"{rank} sizes")
    found = struct.unpack(f">{rank}I", sizes)
    if shape is not None and found != shape:
        raise _wrong(name, f"shape {found}", f"shape {shape}")
    count = math.prod(found) * dtype.itemsize
    data = _read_up_to(file, count + 1)
    if len(data) != count:
        more = "more" if len(data) > count else str(len(data))
        raise _wrong(name, f"{more} bytes of data", f"{count} for shape {found}")
    return np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False).reshape(found)


def _read_up_to(file: Any, count: int) -> bytearray:
    """At most `count` bytes, by pieces: a header that lies about its sizes costs no memory."""
    data = bytearray()
    while len(data) < count and (piece := file.read(min(count - len(data), 1 << 20))):
        data += piece
    return data


def _wrong(name: str, got: str, expected: str) -> Exception:
    return fail(FormatError, "read_idx", f"{got} in {name}", expected)
