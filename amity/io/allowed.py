"""The names that a checkpoint may use, and what each stands for. All else is refused."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from amity.core import dtype as dtypes
from amity.core.device import Device
from amity.core.errors import FormatError, fail
from amity.core.shape import Size

from . import arrays, rebuild
from .rebuild import STORAGE_NAMES, StorageType, broken
from .unpickler import Function


def add_safe_globals(globals: Iterable[type | tuple[type, str]]) -> None:
    """Allow objects of these classes in checkpoints: their own code runs when one is loaded.

    A tuple (class, "module.Name") allows the class under another name.
    """
    for entry in globals:
        cls, name = entry if isinstance(entry, tuple) else (entry, name_of(entry))
        if not isinstance(cls, type):
            raise fail(TypeError, "add_safe_globals", f"{cls!r}", "a class")
        with _lock:
            _user[name] = cls


def get_safe_globals() -> list[type]:
    """The classes that `add_safe_globals` has allowed."""
    return list(_user.values())


def clear_safe_globals() -> None:
    """Forget all classes that `add_safe_globals` has allowed."""
    with _lock:
        _user.clear()


@contextmanager
def safe_globals(globals: Iterable[type | tuple[type, str]]) -> Iterator[None]:
    """Allow these classes inside a `with` block."""
    before = dict(_user)
    add_safe_globals(globals)
    try:
        yield
    finally:
        with _lock:
            _user.clear()
            _user.update(before)


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def find(name: str) -> Any:
    """What `name` stands for in a checkpoint.

    errors: FormatError for every name that is not on the list
    """
    if name in ALLOWED:
        return ALLOWED[name]
    if name in _user:
        cls = _user[name]
        return Function(name, cls, set_state, cls)
    if name.startswith("torch.") and (name.endswith("Storage") or name.count(".") == 1):
        known = ", ".join(dtypes.BY_NAME)
        raise broken(f"{name}, which amity does not have", f"tensors and values of {known}")
    hint = "add_safe_globals allows a class that you trust"
    raise fail(FormatError, "load", f"the name {name}", "data only: no code runs from a file", hint)


def set_state(instance: Any, state: Any) -> None:
    """Set the state of an object whose class the user trusts, as pickle does."""
    if hasattr(instance, "__setstate__"):
        instance.__setstate__(state)
        return
    state, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
    if state:
        instance.__dict__.update(state)
    for key, value in (slots or {}).items():
        setattr(instance, key, value)


def set_notes(instance: OrderedDict, state: Any) -> None:
    """Attributes of an OrderedDict: a module's state_dict keeps its versions in `_metadata`."""
    for key, value in state.items():
        if type(key) is not str or hasattr(OrderedDict, key):
            raise broken(f"an OrderedDict attribute {key!r}", "a new name")
        setattr(instance, key, value)


def exact(*types: type) -> Any:
    """A check that values are exactly of the given types, one after the other."""

    def check(*values: Any) -> None:
        if len(values) > len(types) or any(type(v) is not t for v, t in zip(values, types)):
            names = ", ".join(t.__name__ for t in types)
            raise TypeError(f"expected {names}")

    return check


def make_ordered(pairs: Any = ()) -> OrderedDict:
    made: OrderedDict = OrderedDict()
    for key, value in pairs:
        exact(str)(key)
        made[key] = value
    return made


def make_counter(counts: Any = None) -> Counter:
    exact(dict)(counts if counts is not None else {})
    return Counter(counts)


def make_set(items: Any = ()) -> set:
    """A set of plain values; tuples are refused, as their hash may never end."""
    if any(type(item) not in (str, int, float, bool, bytes, complex, type(None)) for item in items):
        raise TypeError("expected plain values in a set")
    return set(items)


def make_bytes(text: Any = "", encoding: Any = "latin1") -> bytes:
    """Protocol 2 has no bytes: it says them as text, one character each."""
    exact(str, str)(text, encoding)
    if encoding not in ("latin1", "latin-1"):
        raise TypeError(f"encoding {encoding!r}")
    return text.encode("latin1")


def make_bytearray(data: Any = b"", *encoding: Any) -> bytearray:
    if type(data) is str:
        return bytearray(make_bytes(data, *encoding))
    exact(bytes)(data)
    return bytearray(data)


def make_complex(real: Any, imag: Any) -> complex:
    exact(float, float)(real, imag)
    return complex(real, imag)


def make_size(sizes: Any) -> Size:
    return Size(rebuild.check_sizes("Size", sizes))


def make_device(kind: Any, index: Any = None) -> Device:
    try:
        return Device(kind, index)
    except RuntimeError as error:
        raise broken(f"device {kind!r:.40}", "a device that amity has") from error


def from_type(function: Any, cls: Any, arguments: Any, state: Any) -> Any:
    """A tensor that had Python attributes, as `torch._tensor._rebuild_from_type_v2` makes it."""
    if cls not in (TENSOR, PARAMETER) or type(function) is not Function:
        raise broken(f"a tensor of class {cls!r:.60}", "Tensor or Parameter")
    return rebuild.set_attributes(function.call(*arguments), state)


def rebuild_with_dtype(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
    """PyTorch writes dtypes that are newer than its storage classes this way; amity has none."""
    raise broken("a tensor of a newer dtype of PyTorch", "one of " + ", ".join(dtypes.BY_NAME))


TENSOR = StorageType("torch.Tensor", None)  # markers, named in the arguments of from_type
PARAMETER = StorageType("torch.nn.parameter.Parameter", None)


def functions() -> Iterator[Function]:
    yield Function("collections.OrderedDict", make_ordered, set_notes)
    yield Function("collections.Counter", make_counter)
    yield Function("builtins.set", make_set)
    yield Function("builtins.frozenset", lambda items=(): frozenset(make_set(items)))
    yield Function("builtins.bytearray", make_bytearray)
    yield Function("builtins.complex", make_complex)
    yield Function("builtins.bytes", lambda: b"")
    yield Function("_codecs.encode", make_bytes)
    yield Function("torch.Size", make_size)
    yield Function("torch.device", make_device)
    yield Function("torch._utils._rebuild_tensor", rebuild.rebuild_tensor)
    yield Function("torch._utils._rebuild_tensor_v2", rebuild.rebuild_tensor)
    yield Function("torch._utils._rebuild_tensor_v3", rebuild_with_dtype)
    yield Function("torch._utils._rebuild_parameter", rebuild.rebuild_parameter)
    yield Function(
        "torch._utils._rebuild_parameter_with_state", rebuild.rebuild_parameter_with_state
    )
    yield Function("torch._tensor._rebuild_from_type_v2", from_type)


ALLOWED: dict[str, Any] = {
    function.name: function for function in (*functions(), *arrays.functions())
}
ALLOWED |= {f"torch.{dtype.name}": dtype for dtype in dtypes.ALL}
ALLOWED |= {f"torch.{n}": StorageType(f"torch.{n}", d) for d, n in STORAGE_NAMES.items()}
ALLOWED |= {"torch.Tensor": TENSOR, "torch.nn.parameter.Parameter": PARAMETER}

_user: dict[str, type] = {}
_lock = threading.Lock()
