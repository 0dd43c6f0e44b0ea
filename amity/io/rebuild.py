"""Tensors made from what a checkpoint says of them, every claim checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amity.core import dtype as dtypes
from amity.core.dtype import DType
from amity.core.errors import FormatError, fail
from amity.core.shape import contiguous_strides

from . import bridge

MAX_NDIM, MAX_SIZE = 64, 2**63 - 1


@dataclass(slots=True)
class Storage:
    """The memory that tensors of a file share; `read` fetches it once, in the first one's shape."""

    dtype: DType
    numel: int
    read: Callable[[Sequence[int]], Any]
    base: Any = field(default=None)

    def view(self, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
        """A tensor over part of the storage; the first one, if it covers all, owns the memory."""
        if self.base is None:
            is_whole = offset == 0 and math.prod(size) == self.numel
            if is_whole and stride == contiguous_strides(size):
                self.base = self.read(size)
                return self.base
            self.base = self.read((self.numel,))
        return self.base.detach().as_strided(size, stride, offset)


@dataclass(frozen=True, slots=True)
class StorageType:
    """A storage class of PyTorch, by the dtype of its elements; None if only tensors know it."""

    name: str
    dtype: DType | None


STORAGE_NAMES: dict[DType, str] = {
    dtypes.bool_: "BoolStorage",
    dtypes.uint8: "ByteStorage",
    dtypes.int8: "CharStorage",
    dtypes.int16: "ShortStorage",
    dtypes.int32: "IntStorage",
    dtypes.int64: "LongStorage",
    dtypes.float16: "HalfStorage",
    dtypes.bfloat16: "BFloat16Storage",
    dtypes.float32: "FloatStorage",
    dtypes.float64: "DoubleStorage",
}


def broken(got: str, expected: str) -> Exception:
    return fail(FormatError, "load", got, expected)


def rebuild_tensor(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    requires_grad: bool = False,
    hooks: Any = None,
    metadata: Any = None,
) -> Any:
    """The tensor that `torch._utils._rebuild_tensor_v2` names, if it lies inside its storage."""
    if type(storage) is not Storage:
        raise broken(f"a tensor over {type(storage).__name__}", "a storage")
    size, stride = check_sizes("size", size), check_sizes("stride", stride)
    (offset,) = check_sizes("offset", (offset,))
    if len(size) != len(stride):
        raise broken(f"{len(size)} sizes and {len(stride)} strides", "one stride per size")
    if math.prod(s or 1 for s in size) > MAX_SIZE:
        raise broken(f"a tensor of shape {size}", "fewer than 2**63 elements")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 in size:
        offset, stride = 0, contiguous_strides(size)
    elif last >= storage.numel:
        got = f"a tensor of shape {size}, stride {stride}, offset {offset}"
        raise broken(got, f"elements inside its storage of {storage.numel}")
    if hooks:
        raise broken("a tensor with backward hooks", "none: hooks are code")
    if metadata and any(metadata.values()):
        raise broken(f"a tensor with {metadata}", "one without lazy conjugation or negation")
    return with_grad(storage.view(offset, size, stride), storage.dtype, requires_grad)


def rebuild_parameter(data: Any, requires_grad: bool, hooks: Any = None) -> Any:
    """The parameter that `torch._utils._rebuild_parameter` names."""
    if not bridge.is_tensor(data):
        raise broken(f"a parameter over {type(data).__name__}", "a tensor")
    if hooks:
        raise broken("a parameter with backward hooks", "none: hooks are code")
    check_grad(data.dtype, requires_grad)
    return bridge.as_parameter(data, requires_grad)


def rebuild_parameter_with_state(data: Any, requires_grad: bool, hooks: Any, state: Any) -> Any:
    """A parameter that had Python attributes."""
    return set_attributes(rebuild_parameter(data, requires_grad, hooks), state)


def set_attributes(tensor: Any, state: Any) -> Any:
    """Give a tensor the attributes of `state`, none of which may replace one that it has."""
    values = state[0] if type(state) is tuple and len(state) == 2 else state
    for name, value in (values or {}).items():
        if type(name) is not str or not name.isidentifier() or hasattr(tensor, name):
            raise broken(f"a tensor attribute {name!r}", "a new name")
        setattr(tensor, name, value)
    return tensor


def with_grad(tensor: Any, dtype: DType, requires_grad: Any) -> Any:
    check_grad(dtype, requires_grad)
    return tensor.requires_grad_(True) if requires_grad else tensor


def check_grad(dtype: DType, requires_grad: Any) -> None:
    if type(requires_grad) is not bool or (requires_grad and not dtype.is_floating_point):
        raise broken(f"requires_grad={requires_grad!r} for {dtype}", "a bool, False for integers")


def check_sizes(what: str, values: Any) -> tuple[int, ...]:
    """The values as a tuple of sizes."""
    is_valid = isinstance(values, tuple | list) and len(values) <= MAX_NDIM
    if not is_valid or not all(type(v) is int and 0 <= v <= MAX_SIZE for v in values):
        raise broken(f"a tensor whose {what} is {values!r:.80}", f"up to {MAX_NDIM} ints >= 0")
    return tuple(values)


def check_identity(identity: Any) -> tuple[DType, str, str, int]:
    """The dtype, key, location and number of elements in a pickle's mention of a storage."""
    if type(identity) is tuple and len(identity) >= 5 and identity[0] == "storage":
        _, kind, key, location, numel = identity[:5]
        is_named = type(kind) is StorageType and type(key) is str and type(location) is str
        if is_named and type(numel) is int and numel >= 0 and kind.dtype is not None:
            return kind.dtype, key, location, numel
    raise broken(f"the reference {identity!r:.80}", "references to storages")
