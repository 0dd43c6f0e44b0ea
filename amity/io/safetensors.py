"""The safetensors format: a JSON header that says where each tensor lies, then the bytes.

source: https://github.com/huggingface/safetensors, section "Format" of its README. A file is
        8 bytes N (unsigned, little-endian), N bytes of JSON that begin with `{` and may end in
        spaces, and one buffer that the tensors fill without holes or overlaps.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from amity.core import dtype as dtypes
from amity.core.dtype import DType
from amity.core.errors import FormatError, fail

from . import bridge
from .atomic import atomic_write
from .source import Source

MAX_HEADER = 100_000_000  # bytes, the format's own limit
MAX_NDIM = 64  # NumPy's
MAX_SIZE = 2**63 - 1

# In the order in which tensors are written: wide types first, so that all are aligned.
DTYPES: dict[str, DType] = {
    "I64": dtypes.int64,
    "F64": dtypes.float64,
    "F32": dtypes.float32,
    "I32": dtypes.int32,
    "BF16": dtypes.bfloat16,
    "F16": dtypes.float16,
    "I16": dtypes.int16,
    "I8": dtypes.int8,
    "U8": dtypes.uint8,
    "BOOL": dtypes.bool_,
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
RANK = {code: rank for rank, code in enumerate(DTYPES)}


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor of a file; `begin` and `end` count from the start of the buffer."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file holds: entries by name, the free text of `__metadata__`, where the buffer is."""

    entries: dict[str, Entry]
    metadata: dict[str, str]
    start: int


def save_file(
    tensors: Mapping[str, Any],
    filename: str | os.PathLike | BinaryIO,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a flat dict of tensors as a safetensors file, atomically.

    Strided tensors are written contiguously.

    dtype:  bool, uint8, int8 to int64, float16, bfloat16, float32, float64
    errors: TypeError for values that are not tensors or keys that are not str; ValueError if two
            names share memory, which the format cannot say
    source: the format's README, as above
    """
    arrays = check_tensors(tensors)
    header, names = encode_header(arrays, check_metadata(metadata))
    if isinstance(filename, str | os.PathLike):
        with atomic_write("save_file", filename) as file:
            write(file, header, [arrays[name] for name in names])
    else:
        write(filename, header, [arrays[name] for name in names])


def load_file(
    filename: str | os.PathLike | BinaryIO, device: Any = "cpu", *, mmap: bool = False
) -> dict[str, Any]:
    """The tensors of a safetensors file by name.

    With `mmap=True` their memory is the file's own pages, read when first touched and private to
    this process; without it, each has memory of its own.

    errors: FormatError for a file that breaks the format in any way; OSError if it cannot be read
    """
    with Source("load_file", filename, mmap=mmap) as source:
        header = read_header(source)
        return {
            name: bridge.place(read_tensor(source, header, entry), device)
            for name, entry in header.entries.items()
        }


class safe_open:
    """A safetensors file opened to read some of its tensors.

    `framework` is "pt" for tensors or "np" for NumPy arrays. The file is mapped: opening reads
    the header only, and tensors stay valid after the file is closed.

    errors: as `load_file`; KeyError for a name that the file does not have
    """

    def __init__(
        self, filename: str | os.PathLike, framework: str = "pt", device: Any = "cpu"
    ) -> None:
        if framework not in ("pt", "np", "numpy"):
            raise fail(ValueError, "safe_open", f"framework={framework!r}", "'pt' or 'np'")
        self._is_tensor, self._device = framework == "pt", device
        self._source = Source("safe_open", filename, mmap=True)
        try:
            self._header = read_header(self._source)
        except BaseException:
            self._source.close()
            raise
        self._is_open = True

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_open = False
        self._source.close()

    def keys(self) -> list[str]:
        """The names of the tensors."""
        return list(self._header.entries)

    def offset_keys(self) -> list[str]:
        """The names in the order in which their bytes lie."""
        entries = self._header.entries.values()
        return [entry.name for entry in sorted(entries, key=lambda e: (e.begin, e.end))]

    def metadata(self) -> dict[str, str] | None:
        """The free text that was saved beside the tensors, or None."""
        return dict(self._header.metadata) or None

    def get_tensor(self, name: str) -> Any:
        """One tensor, whole."""
        return self.get_slice(name)[...]

    def get_slice(self, name: str) -> Slice:
        """One tensor to index before it is read: only pages that the index meets are touched."""
        if not self._is_open:
            raise fail(ValueError, "safe_open", "a closed file", "use inside the `with` block")
        if name not in self._header.entries:
            got = f"{name!r}, which the file does not have"
            raise fail(KeyError, "safe_open", got, "a name from keys()")
        return Slice(self, self._header.entries[name])


class Slice:
    """A tensor of an open file that has not been read yet."""

    def __init__(self, opened: safe_open, entry: Entry) -> None:
        self._opened, self._entry = opened, entry

    def get_shape(self) -> list[int]:
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        return CODES[self._entry.dtype]

    def __getitem__(self, index: Any) -> Any:
        opened = self._opened
        array = read_array(opened._source, opened._header, self._entry)[index]
        if not opened._is_tensor:
            return array
        return bridge.place(bridge.tensor_over(np.asarray(array)), opened._device)


def check_tensors(tensors: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The memory of each tensor, after refusing what the format cannot hold."""
    op = "save_file"
    if not isinstance(tensors, Mapping):
        raise fail(TypeError, op, type(tensors).__name__, "a flat dict of str to Tensor")
    arrays = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise fail(TypeError, op, f"key {name!r} of class {type(name).__name__}", "str keys")
        if name == "__metadata__":
            raise fail(ValueError, op, "a tensor named '__metadata__'", "another name")
        if not bridge.is_tensor(tensor):
            got = f"{type(tensor).__name__} under key {name!r}"
            hint = "a .pt file holds nested objects"
            raise fail(TypeError, op, got, "a flat dict of str to Tensor", hint)
        arrays[name] = bridge.memory(tensor)
    for group in bridge.overlapping(list(arrays.values())):
        if len(group) > 1:
            a, b = [list(arrays)[i] for i in group[:2]]
            got = f"{a!r} and {b!r} sharing memory"
            hint = "drop or clone one; a .pt file keeps them shared"
            raise fail(ValueError, op, got, "tensors that lie apart", hint)
    return arrays


def check_metadata(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The metadata as a dict of str to str."""
    out = dict(metadata or {})
    for key, value in out.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise fail(TypeError, "save_file", f"metadata {key!r}: {value!r}", "str to str")
    return out


def encode_header(
    arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> tuple[bytes, list[str]]:
    """The bytes before the buffer, and the names in the order of their bytes."""
    codes = {name: CODES[dtypes.BY_NUMPY[array.dtype]] for name, array in arrays.items()}
    names = sorted(arrays, key=lambda name: (RANK[codes[name]], name))
    fields: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    begin = 0
    for name in names:
        end = begin + arrays[name].nbytes
        shape = list(arrays[name].shape)
        fields[name] = {"dtype": codes[name], "shape": shape, "data_offsets": [begin, end]}
        begin = end
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise fail(
            ValueError, "save_file", f"text {error.object[:40]!r}", "valid Unicode"
        ) from error
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise fail(ValueError, "save_file", f"a header of {len(text)} bytes", f"<= {MAX_HEADER}")
    return struct.pack("<Q", len(text)) + text, names


def write(file: BinaryIO, header: bytes, arrays: Sequence[np.ndarray]) -> None:
    """Write a header and the arrays after it."""
    file.write(header)
    for array in arrays:
        file.write(memoryview(bridge.little_endian(np.ascontiguousarray(array))))


def read_header(source: Source) -> Header:
    """The header of a file, with every claim that it makes checked against the file."""
    if source.size < 8:
        raise source.fail(f"of {source.size} bytes", "a safetensors file of at least 8 bytes")
    (size,) = struct.unpack("<Q", source.read(0, 8))
    if size > MAX_HEADER:
        raise source.fail(f"whose header claims {size} bytes", f"at most {MAX_HEADER}")
    if 8 + size > source.size:
        got = f"of {source.size} bytes, whose header claims {size}"
        raise source.fail(got, "a header inside the file", "is it truncated?")
    fields = parse_json(source, source.read(8, size))
    metadata = fields.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise source.fail("whose __metadata__ is not text", "a JSON object of str to str")
    entries = {name: parse_entry(source, name, field) for name, field in fields.items()}
    check_layout(source, list(entries.values()), source.size - 8 - size)
    return Header(entries, metadata, 8 + size)


def parse_json(source: Source, text: bytes) -> dict[str, Any]:
    """The header's JSON object, strict: no duplicate keys, no NaN, no bytes that are not UTF-8."""

    def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key, value in pairs:
            if key in out:
                raise source.fail(f"whose header has the key {key!r} twice", "distinct keys")
            out[key] = value
        return out

    def refuse(constant: str) -> None:
        raise source.fail(f"whose header has {constant}", "finite numbers")

    if text[:1] != b"{":
        raise source.fail(
            f"whose header begins with {text[:1]!r}", "a header that begins with b'{'"
        )
    try:
        return json.loads(text.decode("utf-8"), object_pairs_hook=distinct, parse_constant=refuse)
    except FormatError:
        raise
    except ValueError as error:  # not UTF-8, not JSON, or a number too long to be one
        raise source.fail(f"whose header is not JSON ({error})", "JSON in UTF-8") from error
    except RecursionError as error:
        raise source.fail("whose header nests too deeply", "a flat header") from error


def parse_entry(source: Source, name: str, field: Any) -> Entry:
    """One entry of the header, checked by itself."""
    if not isinstance(field, dict) or set(field) != {"dtype", "shape", "data_offsets"}:
        got = f"whose entry {name!r} has other fields"
        raise source.fail(got, "dtype, shape and data_offsets")
    code, shape, offsets = field["dtype"], field["shape"], field["data_offsets"]
    if not isinstance(code, str) or code not in DTYPES:
        raise source.fail(f"whose {name!r} has dtype {code!r}", "one of " + ", ".join(DTYPES))
    if not is_sizes(shape) or len(shape) > MAX_NDIM:
        raise source.fail(f"whose {name!r} has no valid shape", f"up to {MAX_NDIM} sizes >= 0")
    if not is_sizes(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise source.fail(f"whose {name!r} has no valid data_offsets", "[begin, end]")
    if math.prod(size or 1 for size in shape) > MAX_SIZE:
        raise source.fail(f"whose {name!r} has shape {shape}", "fewer than 2**63 elements")
    size = math.prod(shape) * DTYPES[code].itemsize
    if offsets[1] - offsets[0] != size:
        got = f"whose {name!r} has {offsets[1] - offsets[0]} bytes"
        raise source.fail(got, f"{size} bytes for {code} of shape {shape}")
    return Entry(name, DTYPES[code], tuple(shape), *offsets)


def is_sizes(value: Any) -> bool:
    """Whether `value` is a list of ints that fit an unsigned 63-bit size."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v <= MAX_SIZE for v in value)


def check_layout(source: Source, entries: list[Entry], size: int) -> None:
    """Refuse tensors that overlap, leave holes, or do not fill the `size` bytes of the buffer."""
    position = 0
    for entry in sorted(entries, key=lambda e: (e.begin, e.end)):
        if entry.begin != position:
            what = "overlaps another" if entry.begin < position else "leaves a hole before it"
            got = f"whose {entry.name!r} at byte {entry.begin} {what}"
            raise source.fail(got, f"tensors that fill the buffer (byte {position} is next)")
        position = entry.end
    if position != size:
        got = f"with {size} bytes of tensors"
        raise source.fail(got, f"{position} bytes as in the header", "is it truncated?")


def read_array(source: Source, header: Header, entry: Entry) -> np.ndarray:
    """One tensor as an array: over the mapped pages where that is possible, else fresh."""
    data = source.array(header.start + entry.begin, entry.end - entry.begin)
    return bridge.typed(source, data, entry.dtype).reshape(entry.shape)


def read_tensor(source: Source, header: Header, entry: Entry) -> Any:
    """One tensor: over the mapped pages, or in memory that amity allocated."""
    if source.map is not None:
        return bridge.tensor_over(read_array(source, header, entry))
    tensor, data = bridge.allocate(entry.dtype, entry.shape)
    source.read_into(header.start + entry.begin, data)
    bridge.settle(source, data, entry.dtype)
    return tensor
