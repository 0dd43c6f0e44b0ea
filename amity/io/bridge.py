"""The only place where files meet Tensor: what is needed of a Tensor, said in NumPy arrays."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from amity.core import dtype as dtypes
from amity.core.dtype import DType
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.nn.parameter import Parameter, is_lazy

from .source import Source

CPU = "cpu"


def is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


def is_parameter(value: object) -> bool:
    return isinstance(value, Parameter)


def attributes(tensor: Tensor) -> dict[str, Any]:
    """What a user attached to a tensor; names that begin with `_` are its own."""
    return {name: value for name, value in vars(tensor).items() if not name.startswith("_")}


def memory(tensor: Tensor) -> np.ndarray:
    """The elements of a tensor where they lie, strides and all."""
    if is_lazy(tensor):
        hint = "run the model once first"
        raise fail(ValueError, "save", "a parameter without a shape", "one with data", hint)
    return tensor.detach().cpu()._array("save")


def tensor_over(array: np.ndarray) -> Tensor:
    """A tensor on the memory of `array`, which is copied only if its elements are misaligned."""
    if not (array.flags.aligned and array.flags.writeable):
        array = array.copy()
    return create.from_numpy(array)


def allocate(dtype: DType, shape: Sequence[int]) -> tuple[Tensor, np.ndarray]:
    """A new contiguous tensor, and its memory as bytes to fill."""
    tensor = create.empty(tuple(shape), dtype=dtype)
    return tensor, tensor._array("load").reshape(-1).view(np.uint8)


def place(tensor: Tensor, device: Any) -> Tensor:
    """The tensor on a device, itself if it is there."""
    return tensor if str(device) == CPU else tensor.to(device)


def as_parameter(tensor: Tensor, requires_grad: bool) -> Parameter:
    return Parameter(tensor, requires_grad)


def overlapping(arrays: Sequence[np.ndarray]) -> list[list[int]]:
    """Indices of arrays in groups that share memory, lowest address first; empty ones stand alone.

    Two arrays share when the ranges from their first to their last byte meet.
    """
    ranges = [(*np.lib.array_utils.byte_bounds(a), i) for i, a in enumerate(arrays) if a.size]
    groups: list[list[int]] = [[i] for i, a in enumerate(arrays) if not a.size]
    end = -1
    for low, high, i in sorted(ranges):
        if low < end:
            groups[-1].append(i)
        else:
            groups.append([i])
        end = max(end, high)
    return groups


def span(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """The memory under overlapping arrays of one dtype as one flat array, without a copy."""
    first = arrays[0]
    if not first.size:
        return first.reshape(-1)
    low = np.lib.array_utils.byte_bounds(first)[0]
    high = max(np.lib.array_utils.byte_bounds(a)[1] for a in arrays)
    count = (high - low) // first.itemsize
    return np.lib.stride_tricks.as_strided(first, (count,), (first.itemsize,))


def distance(storage: np.ndarray, array: np.ndarray) -> int:
    """How many elements `array` begins after `storage`."""
    if not array.size:
        return 0
    start = storage.__array_interface__["data"][0]
    return (array.__array_interface__["data"][0] - start) // storage.itemsize


def little_endian(array: np.ndarray) -> np.ndarray:
    """The bytes of a contiguous array as files have them."""
    if sys.byteorder == "big":
        array = array.byteswap()
    return array.reshape(-1).view(np.uint8)


def typed(source: Source, data: np.ndarray, dtype: DType, order: str = "little") -> np.ndarray:
    """Bytes from a file as a flat array of `dtype`."""
    settle(source, data, dtype, order)
    return data.view(dtype.numpy)


def settle(source: Source, data: np.ndarray, dtype: DType, order: str = "little") -> None:
    """Turn bytes as they were in a file into bytes as this machine wants them, in place."""
    if dtype is dtypes.bool_ and data.size and data.max() > 1:
        raise source.fail(f"with a bool of {data.max()}", "bools that are 0 or 1")
    if order != sys.byteorder and dtype.itemsize > 1:
        data.view(f"u{dtype.itemsize}").byteswap(inplace=True)
