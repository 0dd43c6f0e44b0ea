"""Writes pixels as a PNG file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def encode_png(pixels: np.ndarray) -> bytes:
    """The bytes of a PNG file that shows `pixels`.

    shape:  pixels[height, width, 3]
    dtype:  uint8, as red, green, blue
    source: W3C Portable Network Graphics (Third Edition), sections 5 and 11.2

    >>> encode_png(np.zeros((2, 3, 3), np.uint8))[:8] == SIGNATURE
    True
    """
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(
            f"encode_png: got {pixels.dtype} of shape {pixels.shape}; "
            "expected uint8 of shape (height, width, 3)"
        )
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # each row begins with filter 0: none
    rows[:, 1:] = pixels.reshape(height, -1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 9)), (b"IEND", b""))
    return SIGNATURE + b"".join(chunk(kind, data) for kind, data in parts)


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk: length, kind, data, and the checksum over the last two."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_png(path: Path | str, pixels: np.ndarray) -> None:
    """Write `pixels` to the file `path`."""
    Path(path).write_bytes(encode_png(pixels))
