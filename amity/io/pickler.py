"""Writes objects as a pickle of protocol 2, with PyTorch's names for what is not plain data.

What it takes is what the unpickler gives back, so nothing can be saved that cannot be loaded.
"""

from __future__ import annotations

import copyreg
import struct
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from amity.core.device import Device
from amity.core.dtype import DType
from amity.core.errors import fail
from amity.core.shape import Size

from . import bridge

MAX_DEPTH = 200
BATCH = 1000  # items between marks, as in Python's own pickles
EMPTY_HOOKS = b"ccollections\nOrderedDict\n)R"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


class Pickler:
    """The pickle of one object as parts; places of tensors are filled once all are known.

    `arrays` holds the memory of each tensor, `places` where in `parts` its storage is named.
    """

    def __init__(self, trusted: Iterable[type] = ()) -> None:
        self.parts: list[bytes] = [b"\x80\x02"]
        self.arrays: list[np.ndarray] = []
        self.places: list[int] = []
        self.memo: dict[int, int] = {}
        self.kept: list[Any] = []  # what the memo has seen stays alive, so ids stay theirs
        self.trusted = frozenset(trusted)
        self.path: list[tuple[str, Any]] = []

    def dump(self, value: Any) -> Pickler:
        """Write the whole pickle of `value`."""
        self.save(value)
        self.parts.append(b".")
        return self

    def save(self, value: Any) -> None:
        cls = type(value)
        if id(value) in self.memo:
            self.parts.append(b"j" + struct.pack("<I", self.memo[id(value)]))
        elif cls in WRITERS:
            WRITERS[cls](self, value)
        elif bridge.is_tensor(value):
            self.save_tensor(value)
        elif cls in self.trusted:
            self.save_object(value)
        else:
            where = "".join(step.format(key) for step, key in self.path) or "the object itself"
            expected = (
                "tensors, None, bool, int, float, complex, str, bytes, dtype, device, Size, "
                "list, tuple, dict, set"
            )
            raise fail(TypeError, "save", f"{describe(value)} at {where}", expected, hint(value))

    def remember(self, value: Any) -> None:
        """Later mentions of this very object refer to what is now on the stack."""
        self.memo[id(value)] = len(self.memo)
        self.kept.append(value)
        self.parts.append(b"r" + struct.pack("<I", self.memo[id(value)]))

    def inside(self, step: str, value: Any, key: Any = None) -> None:
        """Save a member, which errors name by its path: `step` with `key` in it."""
        if len(self.path) >= MAX_DEPTH:
            raise fail(ValueError, "save", f"nesting deeper than {MAX_DEPTH}", "a flatter object")
        self.path.append((step, key))
        self.save(value)
        self.path.pop()

    def call(self, name: str, *arguments: Any) -> None:
        """A call of the function `module name` with arguments that are plain data."""
        self.parts.append(b"c" + name.replace(" ", "\n").encode() + b"\n(")
        for argument in arguments:
            self.save(argument)
        self.parts.append(b"tR")

    def save_int(self, value: int) -> None:
        if -(2**31) <= value < 2**31:
            self.parts.append(b"J" + struct.pack("<i", value))
            return
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        short = b"\x8a" + bytes([len(data)]) if len(data) < 256 else None
        self.parts.append((short or b"\x8b" + struct.pack("<i", len(data))) + data)

    def save_str(self, value: str) -> None:
        data = value.encode("utf-8", "surrogatepass")
        self.parts.append(b"X" + struct.pack("<I", len(data)) + data)
        self.remember(value)

    def save_bytes(self, value: bytes | bytearray) -> None:
        name = "_codecs encode" if type(value) is bytes else "__builtin__ bytearray"
        self.call(name, value.decode("latin1"), "latin1")
        self.remember(value)

    def save_list(self, value: list) -> None:
        self.parts.append(b"]")
        self.remember(value)
        self.save_items(value)

    def save_items(self, values: Iterable[Any]) -> None:
        """Append to the list on the stack."""
        for batch in batches(list(values)):
            self.parts.append(b"(")
            for i, item in batch:
                self.inside("[{}]", item, i)
            self.parts.append(b"e")

    def save_dict(self, value: dict) -> None:
        self.parts.append(b"}")
        self.remember(value)
        self.save_pairs(value)

    def save_pairs(self, value: dict) -> None:
        """Fill the dictionary on the stack."""
        for batch in batches(list(value.items())):
            self.parts.append(b"(")
            for _, (key, item) in batch:
                self.inside(" key {!r:.40}", key, key)
                self.inside("[{!r:.40}]", item, key)
            self.parts.append(b"u")

    def save_ordered(self, value: OrderedDict) -> None:
        self.parts.append(EMPTY_HOOKS)
        self.remember(value)
        self.save_pairs(value)
        if vars(value):
            self.inside(" attributes", vars(value))
            self.parts.append(b"b")

    def save_counter(self, value: Counter) -> None:
        self.parts.append(b"ccollections\nCounter\n(")
        self.inside("", dict(value))
        self.parts.append(b"tR")
        self.remember(value)

    def save_set(self, value: set) -> None:
        self.call("__builtin__ set", list(value))
        self.remember(value)

    def save_tuple(self, value: tuple) -> None:
        if not value:
            self.parts.append(b")")
            return
        self.parts.append(b"(")
        for i, item in enumerate(value):
            self.inside("[{}]", item, i)
        if id(value) in self.memo:  # a member holds the tuple itself, and wrote it
            self.parts.append(b"1j" + struct.pack("<I", self.memo[id(value)]))
            return
        self.parts.append(b"t")
        self.remember(value)

    def save_tensor(self, value: Any) -> None:
        """A tensor or parameter, with the public attributes that a user gave it."""
        state = bridge.attributes(value)
        if bridge.is_parameter(value):
            name = b"_rebuild_parameter_with_state" if state else b"_rebuild_parameter"
            self.parts.append(b"ctorch._utils\n" + name + b"\n(")
            self.save_plain_tensor(value, False)
            self.save(value.requires_grad)
            self.parts.append(EMPTY_HOOKS)
        elif state:
            self.parts.append(b"ctorch._tensor\n_rebuild_from_type_v2\n(" + REBUILD)
            self.parts.append(b"ctorch\nTensor\n")
            self.save_arguments(value, value.requires_grad)
        else:
            self.save_plain_tensor(value, value.requires_grad)
        if state:
            self.inside(" attributes", state)
        if state or bridge.is_parameter(value):
            self.parts.append(b"tR")
        self.remember(value)

    def save_plain_tensor(self, value: Any, requires_grad: bool) -> None:
        self.parts.append(REBUILD)
        self.save_arguments(value, requires_grad)
        self.parts.append(b"R")

    def save_arguments(self, value: Any, requires_grad: bool) -> None:
        """The arguments of `_rebuild_tensor_v2`, with a gap for where the tensor lies."""
        self.parts.append(b"(")
        self.arrays.append(bridge.memory(value))
        self.places.append(len(self.parts))
        self.parts.append(b"")
        self.save(requires_grad)
        self.parts.append(EMPTY_HOOKS + b"t")

    def save_object(self, value: Any) -> None:
        """An object of a class that the user trusts, as pickle's protocol 2 takes it apart."""
        cls, reduced = type(value), value.__reduce_ex__(2)
        function, arguments = reduced[:2] if isinstance(reduced, tuple) else (None, ())
        is_new = function is copyreg.__newobj__ and arguments[0] is cls
        if not (is_new or function is cls) or any(reduced[3:]):
            raise fail(TypeError, "save", describe(value), "a class that pickles by its attributes")
        self.parts.append(f"c{cls.__module__}\n{cls.__qualname__}\n".encode())
        self.inside(" arguments", tuple(arguments[is_new:]))
        self.parts.append(b"\x81" if is_new else b"R")
        self.remember(value)
        if len(reduced) > 2 and reduced[2] is not None:
            self.inside(" attributes", reduced[2])
            self.parts.append(b"b")


def batches(items: list[Any]) -> Iterable[list[tuple[int, Any]]]:
    """The items with their indices, in groups that the unpickler's stack takes at once."""
    numbered = list(enumerate(items))
    return (numbered[i : i + BATCH] for i in range(0, len(numbered), BATCH))


def describe(value: Any) -> str:
    return f"an object of class {type(value).__module__}.{type(value).__qualname__}"


def hint(value: Any) -> str | None:
    """What to do instead, for what people try most."""
    if callable(getattr(value, "state_dict", None)):
        return "save its state_dict()"
    if isinstance(value, np.generic):
        return "call .item() on it"
    if isinstance(value, np.ndarray):
        return "make it a tensor with from_numpy"
    if callable(value):
        return "code cannot be saved"
    return "add_safe_globals allows a class that you trust"


WRITERS: dict[type, Callable[[Pickler, Any], None]] = {
    type(None): lambda p, v: p.parts.append(b"N"),
    bool: lambda p, v: p.parts.append(b"\x88" if v else b"\x89"),
    float: lambda p, v: p.parts.append(b"G" + struct.pack(">d", v)),
    int: Pickler.save_int,
    complex: lambda p, v: p.call("__builtin__ complex", v.real, v.imag),
    str: Pickler.save_str,
    bytes: Pickler.save_bytes,
    bytearray: Pickler.save_bytes,
    list: Pickler.save_list,
    tuple: Pickler.save_tuple,
    dict: Pickler.save_dict,
    OrderedDict: Pickler.save_ordered,
    Counter: Pickler.save_counter,
    set: Pickler.save_set,
    Size: lambda p, v: p.call("torch Size", tuple(v)),
    DType: lambda p, v: p.parts.append(f"ctorch\n{v.name}\n".encode()),
    Device: lambda p, v: p.call(
        "torch device", *([v.type] if v.index is None else [v.type, v.index])
    ),
}
