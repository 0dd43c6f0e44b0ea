"""Save and load nested objects with tensors in them, in PyTorch's file format, as data only.

A checkpoint is a zip of uncompressed records in one folder: `data.pkl` says how the object is
built and refers to storages by number, `data/0`, `data/1` … hold their bytes.
source: torch.save's documentation, "Serialization semantics" of the PyTorch notes.
"""

from __future__ import annotations

import io
import os
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from amity.core import dtype as dtypes
from amity.core.device import Device
from amity.core.errors import fail

from . import allowed, bridge, legacy, safetensors
from .archive import Record, check_crc, read_archive, read_record, write_archive
from .atomic import atomic_write
from .pickler import Pickler
from .rebuild import STORAGE_NAMES, Storage, check_identity
from .source import Source
from .unpickler import Unpickler

MapLocation = str | Device | Mapping[str, Any] | Callable[[Any, str], Any] | None
SLACK = 1024  # items that calls may copy beyond the size of the pickle


def save(
    obj: Any, f: str | os.PathLike | BinaryIO, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Save an object so that `load`, and PyTorch's `torch.load`, give it back.

    A path that ends in `.safetensors` takes a flat dict of tensors, and `metadata` of str to str;
    everything else is written as PyTorch's zip: tensors, parameters, numbers, str, bytes, dtypes,
    devices, sizes, and lists, tuples, dicts and sets of them. Tensors that share memory share it
    again after loading, and of a larger storage only the part that they reach is written. A file
    at a path is replaced whole or not at all.

    errors: TypeError for objects that are not data, with their place; OSError as the system has it
    source: torch.save

    >>> import io
    >>> file = io.BytesIO()
    >>> save({"step": 3, "rates": [0.1, 0.01]}, file)
    >>> load(io.BytesIO(file.getvalue()))
    {'step': 3, 'rates': [0.1, 0.01]}
    """
    if is_safetensors(f):
        safetensors.save_file(obj, f, metadata)
        return
    if metadata is not None:
        raise fail(ValueError, "save", "metadata for a zip", "a path that ends in .safetensors")
    pickle, storages = encode(obj)
    if isinstance(f, str | os.PathLike):
        with atomic_write("save", f) as file:
            write_archive(file, records(pickle, storages))
    elif callable(getattr(f, "write", None)):
        write_archive(f, records(pickle, storages))
    else:
        raise fail(TypeError, "save", type(f).__name__, "a path or a binary file object")


def load(
    f: str | os.PathLike | BinaryIO,
    map_location: MapLocation = None,
    *,
    weights_only: bool = True,
    mmap: bool | None = None,
) -> Any:
    """Load what `save`, `torch.save` or `safetensors` wrote; no code runs from the file.

    `map_location` is a device, a dict from device to device, or a function of (storage, device).
    `weights_only=False` loads in the same way: classes of your own come back only after
    `add_safe_globals`. With `mmap=True` tensors lie on the file's pages, read when first touched.

    errors: FormatError for a file that is damaged, hostile or of another kind; RuntimeError for
            tensors of a device that this machine lacks, without map_location
    source: torch.load
    """
    if not isinstance(weights_only, bool):
        raise fail(TypeError, "load", f"weights_only={weights_only!r}", "True or False")
    with Source("load", f, mmap=bool(mmap)) as source:
        if source.size == 0:
            hint = None if source.is_owner else "rewind it with seek(0)"
            raise source.fail("which is empty", "a checkpoint", hint)
        head = source.read(0, min(16, source.size))
        if is_safetensors(f) or head[8:9] == b"{":
            header = safetensors.read_header(source)
            device = place_of(map_location, None, "cpu")
            return {
                name: bridge.place(safetensors.read_tensor(source, header, entry), device)
                for name, entry in header.entries.items()
            }
        if head[:4] in (b"PK\3\4", b"PK\5\6"):
            return load_zip(source, map_location)
        if head.startswith(legacy.MAGIC):
            return legacy.load(source, storage_loader(map_location))
        raise source.fail(
            f"which begins with {head[:4]!r}", "a checkpoint in zip or safetensors format"
        )


def is_safetensors(f: Any) -> bool:
    return isinstance(f, str | os.PathLike) and os.fspath(f).endswith(".safetensors")


def encode(obj: Any) -> tuple[bytes, list[np.ndarray]]:
    """The pickle of an object, and the storages that it names by number."""
    pickler = Pickler(allowed.get_safe_globals()).dump(obj)
    arrays = pickler.arrays
    groups = sorted(bridge.overlapping(arrays), key=min)  # numbered as they are first met
    storages = []
    for key, group in enumerate(groups):
        kinds = {dtypes.BY_NUMPY[arrays[i].dtype] for i in group}
        if len(kinds) > 1:
            got = "tensors of " + " and ".join(sorted(k.name for k in kinds)) + " sharing memory"
            raise fail(RuntimeError, "save", got, "one dtype per storage", "clone one of them")
        storage = bridge.span([arrays[i] for i in group])
        storages.append(storage)
        for i in group:
            offset = bridge.distance(storage, arrays[i])
            pickler.parts[pickler.places[i]] = reference(key, storage, arrays[i], offset)
    return b"".join(pickler.parts), storages


def reference(key: int, storage: np.ndarray, array: np.ndarray, offset: int) -> bytes:
    """The pickle of a tensor's storage, offset, size and stride."""
    part = Pickler()
    dtype = dtypes.BY_NUMPY[storage.dtype]
    text = [b"X" + len(t).to_bytes(4, "little") + t for t in (b"storage", b"%d" % key, b"cpu")]
    stride = tuple(step // array.itemsize for step in array.strides)
    part.parts = [b"(", text[0], f"ctorch\n{STORAGE_NAMES[dtype]}\n".encode(), text[1], text[2]]
    part.save_int(storage.size)
    part.parts.append(b"tQ")
    part.save_int(offset)
    for sizes in (array.shape, stride):
        part.parts.append(b"(")
        for size in sizes:
            part.save_int(size)
        part.parts.append(b"t")
    return b"".join(part.parts)


def records(pickle: bytes, storages: list[np.ndarray]) -> list[tuple[str, Any]]:
    """The records of a checkpoint in PyTorch's order."""
    return [
        ("data.pkl", pickle),
        (".format_version", b"1"),
        (".storage_alignment", b"64"),
        ("byteorder", b"little"),
        *((f"data/{key}", bridge.little_endian(s)) for key, s in enumerate(storages)),
        ("version", b"3\n"),
        (".data/serialization_id", b"%040d" % zlib.crc32(pickle)),
    ]


def load_zip(source: Source, map_location: MapLocation) -> Any:
    """The object in a zip archive."""
    archive = read_archive(source)
    if "data.pkl" not in archive:
        raise source.fail("a zip without data.pkl", "a checkpoint that save or torch.save wrote")
    order = "little"
    if "byteorder" in archive:
        order = read_record(source, archive["byteorder"]).decode("latin1")
        if order not in ("little", "big"):
            raise source.fail(f"with byte order {order!r:.20}", "little or big")
    pickle = read_record(source, archive["data.pkl"])
    make = storage_loader(map_location)
    storages: dict[str, Storage] = {}

    def persistent_load(identity: Any) -> Storage:
        dtype, key, location, numel = check_identity(identity)
        record = archive.get(f"data/{key}")
        if record is None:
            raise source.fail(f"without the record data/{key}", "all storages that it names")
        if record.size != numel * dtype.itemsize:
            got = f"whose record data/{key} has {record.size} bytes"
            raise source.fail(got, f"{numel} elements of {dtype.name}")
        if key not in storages:
            storages[key] = make(dtype, numel, location, fetcher(source, record, dtype, order))
        if storages[key].dtype is not dtype:
            raise source.fail(f"with storage {key} in two dtypes", "one dtype per storage")
        return storages[key]

    budget = len(pickle) + SLACK
    return Unpickler("load", io.BytesIO(pickle), allowed.find, persistent_load, budget).load()


def fetcher(source: Source, record: Record, dtype: dtypes.DType, order: str) -> Callable:
    """A function that reads a storage from its record into a tensor of a given shape."""

    def fetch(shape: Any) -> Any:
        if source.map is not None and (order == sys.byteorder or dtype.itemsize == 1):
            data = source.array(record.offset, record.size)
            return bridge.tensor_over(bridge.typed(source, data, dtype, order).reshape(shape))
        tensor, data = bridge.allocate(dtype, shape)
        source.read_into(record.offset, data)
        check_crc(source, record, data)
        bridge.settle(source, data, dtype, order)
        return tensor

    return fetch


def storage_loader(map_location: MapLocation) -> Callable[..., Storage]:
    """A function that makes the Storage of (dtype, numel, location, fetch) on its device."""

    def make(dtype: dtypes.DType, numel: int, location: str, fetch: Callable) -> Storage:
        storage = Storage(dtype, numel, fetch)
        device = place_of(map_location, storage, location)
        storage.read = lambda shape: bridge.place(fetch(shape), device)
        return storage

    return make


def place_of(map_location: MapLocation, storage: Storage | None, location: str) -> Device:
    """The device for what was saved on `location`."""
    wanted: Any = map_location
    if isinstance(map_location, Mapping):
        wanted = map_location.get(location)
    elif callable(map_location):
        wanted = map_location(storage, location)
        wanted = "cpu" if wanted is storage and storage is not None else wanted
    elif not isinstance(map_location, str | Device | None):
        expected = "a device, a dict, a function or None"
        raise fail(TypeError, "load", f"map_location={map_location!r:.60}", expected)
    if wanted is not None:
        return Device(wanted)
    try:
        return Device(location)
    except RuntimeError as error:
        hint = "load(f, map_location='cpu')"
        got = f"tensors of device {location!r:.40}"
        raise fail(RuntimeError, "load", got, "a device of this machine", hint) from error
