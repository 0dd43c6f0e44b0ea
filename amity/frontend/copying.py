"""Copies of tensors, by `copy`, `deepcopy` and `pickle`: memory that two share stays shared."""

from __future__ import annotations

import copy
import copyreg
import ctypes
from typing import Any

from amity.core.device import Device
from amity.core.dtype import DType
from amity.core.layout import layout
from amity.engine import device as engine

from .tape import is_leaf
from .tensor import Tensor

INTERNAL = {"_grad", "_retains_grad", "_views"}  # what amity itself keeps on a tensor


def attributes(t: Tensor) -> dict[str, Any]:
    """What the user set on a tensor."""
    return {k: v for k, v in t.__dict__.items() if k not in INTERNAL}


def place(t: Tensor) -> tuple[Any, int]:
    """The storage that owns a tensor's memory, and where in it the tensor begins."""
    if t.storage is None:
        return None, 0
    root = t.storage.root
    return root, t.storage.data - root.data


def rebuild(
    cls: type, root: Any, offset: int, dtype: DType, shape: tuple, strides: tuple, device: Device,
    requires_grad: bool,
) -> Tensor:  # fmt: skip
    """A tensor on a storage."""
    storage = engine.machine().alias(root, offset) if offset else root
    t = cls._of(storage, layout(dtype, shape, strides, device))
    return t.requires_grad_() if requires_grad else t


def parts(t: Tensor) -> tuple:
    """The arguments of `rebuild` behind storage and offset."""
    lay = t.layout
    return lay.dtype, tuple(lay.shape), tuple(lay.strides), lay.device, t.requires_grad


def rebuild_storage(data: bytes) -> Any:
    storage = engine.machine().allocate(max(len(data), 1))
    ctypes.memmove(storage.data, data, len(data))
    return storage


def reduce_storage(storage: Any) -> tuple:
    return rebuild_storage, (ctypes.string_at(storage.data, storage.nbytes),)


def __reduce_ex__(self: Tensor, protocol: int) -> tuple:
    root, offset = place(self)
    if root is not None:
        copyreg.pickle(type(root), reduce_storage)
    made = rebuild, (type(self), root, offset, *parts(self))
    own = attributes(self)
    return (*made, own) if own else made


def __deepcopy__(self: Tensor, memo: dict) -> Tensor:
    if not is_leaf(self.tape):
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
            "protocol at the moment: got a result of an op; expected a leaf, e.g. from detach()"
        )
    if id(self) in memo:
        return memo[id(self)]
    root, offset = place(self)
    if root is not None and id(root) not in memo:
        memo[id(root)] = twin = engine.machine().allocate(max(root.nbytes, 1))
        ctypes.memmove(twin.data, root.data, root.nbytes)
    out = memo[id(self)] = rebuild(type(self), memo.get(id(root)), offset, *parts(self))
    out.__dict__.update(copy.deepcopy(attributes(self), memo))
    if self.grad is not None:
        out.grad = copy.deepcopy(self.grad, memo)
    return out


Tensor.__reduce_ex__ = __reduce_ex__
Tensor.__deepcopy__ = __deepcopy__
