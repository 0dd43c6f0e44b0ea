"""Reads the files that PyTorch wrote before its zip format: five pickles, then the storages.

source: torch/serialization.py, `_use_new_zipfile_serialization=False`.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import allowed, bridge
from .rebuild import Storage, check_identity
from .source import Source
from .unpickler import Unpickler

NUMBER = 0x1950A86A20F9469CFC6C  # the format's own
MAGIC = b"\x80\x02\x8a\x0a" + NUMBER.to_bytes(10, "little") + b"."
PROTOCOL = 1001


def load(source: Source, make: Callable[..., Storage]) -> Any:
    """The object in a legacy file; its storages are filled after it is built."""
    if source.map is not None:
        raise source.fail("in the old format of PyTorch", "a zip to map", "load without mmap")
    source.file.seek(len(MAGIC))
    stream = io.BytesIO(source.file.read())  # bounds every read of the unpickler
    found: dict[str, Storage] = {}
    memory: dict[str, np.ndarray] = {}

    def no_storage(identity: Any) -> Any:
        raise source.fail("with a storage before the object", "storages in the object only")

    def unpickle(persistent_load: Callable[[Any], Any] = no_storage) -> Any:
        return Unpickler("load", stream, allowed.find, persistent_load, source.size).load()

    def storage(identity: Any) -> Storage:
        dtype, key, location, numel = check_identity(identity)
        if numel * dtype.itemsize > source.size:
            raise source.fail(f"with {numel} elements of {dtype.name}", "fewer than it has bytes")
        if key not in found:

            def fetch(shape: Sequence[int]) -> Any:
                tensor, memory[key] = bridge.allocate(dtype, shape)
                return tensor

            found[key] = make(dtype, numel, location, fetch)
        if found[key].dtype is not dtype or found[key].numel != numel:
            raise source.fail(f"with storage {key} in two forms", "one dtype and size")
        return found[key]

    if unpickle() != PROTOCOL:
        raise source.fail("of an unknown version", f"version {PROTOCOL}")
    system = unpickle()
    if type(system) is not dict or system.get("little_endian") is not True:
        raise source.fail("of a big-endian machine", "a little-endian file")
    value = unpickle(storage)
    keys = unpickle()
    if type(keys) is not list or sorted(map(str, keys)) != sorted(found):
        raise source.fail(f"with the storages {keys!r:.80}", "those that the object names")
    fill(source, stream, [(found[key], memory.get(key)) for key in keys])
    return value


def fill(
    source: Source, stream: io.BytesIO, storages: list[tuple[Storage, np.ndarray | None]]
) -> None:
    """Read the storages one after the other, each behind its number of elements."""
    for storage, memory in storages:
        size = storage.numel * storage.dtype.itemsize
        data = stream.read(8 + size)
        if len(data) != 8 + size:
            raise source.fail(f"of {source.size} bytes", "all storages", "is it truncated?")
        if int.from_bytes(data[:8], "little") != storage.numel:
            raise source.fail("with a storage of another size", f"{storage.numel} elements")
        if memory is not None:  # None when no tensor uses it
            memory[:] = np.frombuffer(data, np.uint8, size, 8)
            bridge.settle(source, memory, storage.dtype)
