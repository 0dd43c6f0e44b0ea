"""Numbers, sequences and arrays as users write them, as arrays with the dtype PyTorch gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from amity.core import dtype as dt
from amity.core.dtype import BY_NUMPY, DType, get_default_dtype

from .tensor import Tensor


def dtype_of_number(x: Any) -> DType:
    if isinstance(x, np.float64):  # a Python float too, by inheritance
        return dt.float64
    return (
        dt.bool_
        if isinstance(x, (bool, np.bool_))
        else dt.int64
        if isinstance(x, (int, np.integer))
        else get_default_dtype()
    )


def as_array(data: Any, wanted: DType | None = None) -> tuple[np.ndarray, DType]:
    """Values and the dtype that PyTorch would give them; `wanted` is the one asked for, if any."""
    if isinstance(data, (bool, int, float)):
        if wanted is not None and wanted.kind in "fb":  # however large
            return np.asarray(float(data)), wanted
        _fits(data)
        return np.asarray(data), dtype_of_number(data)
    if isinstance(data, (np.ndarray, np.generic)):
        return _from_numpy(np.asarray(data))
    if _is_sequence(data):
        return _from_sequence(data, wanted)
    if hasattr(data, "__array__"):
        return _from_numpy(np.asarray(data))
    raise _no_number(data, wanted)


def _fits(number: Any) -> None:
    if type(number) is int and not -(2**63) <= number < 2**63:
        raise ValueError(
            f"tensor: got {number}; Overflow when unpacking long long: expected 64 bits"
        )


def _no_number(data: Any, wanted: DType | None) -> Exception:
    name = type(data).__name__
    if isinstance(data, str):
        return TypeError(f"tensor: got {data!r}; new(): invalid data type 'str': expected numbers")
    if wanted is not None:
        return TypeError(f"tensor: got {data!r}; must be real number, not {name}")
    return RuntimeError(f"tensor: got {data!r}; Could not infer dtype of {name}: expected numbers")


def _from_numpy(array: np.ndarray) -> tuple[np.ndarray, DType]:
    if not array.dtype.isnative:
        raise ValueError(
            f"tensor: got dtype {array.dtype.str}; given numpy array has byte order different from "
            "the native byte order"
        )
    if array.dtype not in BY_NUMPY:
        wide = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}.get(array.dtype)
        if wide is None:
            raise TypeError(
                f"tensor: got a NumPy array of dtype {array.dtype}; expected bool, an "
                "integer or a float up to 64 bits"
            )
        array = array.astype(wide)
    return array, BY_NUMPY[array.dtype]


def _is_sequence(x: Any) -> bool:
    """Whether x has places to look at; tensors and arrays without dimensions have none."""
    if isinstance(x, (list, tuple)):
        return True
    if isinstance(x, (str, dict, Tensor)) or getattr(x, "ndim", 1) == 0:
        return False
    return hasattr(x, "__getitem__") and hasattr(x, "__len__")


def _from_sequence(data: Sequence[Any], wanted: DType | None) -> tuple[np.ndarray, DType]:
    if len(data) and all(isinstance(x, np.ndarray) for x in data):
        if len({(x.shape, x.dtype) for x in data}) == 1:  # rows that need no look at each element
            return _from_numpy(np.stack(data))
    shape: list[int] = []
    first: Any = data
    while _is_sequence(first):
        shape.append(len(first))
        if not len(first):
            break
        first = first[0]
    if isinstance(first, str):
        raise ValueError("tensor: got a string; too many dimensions 'str': expected numbers")
    if 0 in shape:
        return np.zeros(shape), get_default_dtype()
    return _from_rows(data, shape, wanted)


def _from_rows(
    data: Sequence[Any], shape: Sequence[int], wanted: DType | None
) -> tuple[np.ndarray, DType]:
    flat = [data]
    for d, n in enumerate(shape):
        for row in flat:
            if not _is_sequence(row):
                raise TypeError(f"tensor: got {row!r} in dimension {d}; not a sequence")
            if len(row) != n:
                raise ValueError(
                    f"tensor: expected sequence of length {n} at dim {d} (got {len(row)})"
                )
        flat = [x for row in flat for x in row]
    found: DType | None = None
    if not set(map(type, flat)) <= {bool, int, float}:
        flat, kinds = zip(*(_element(x, wanted) for x in flat), strict=True)
    else:
        kinds = map(dtype_of_number, {t: t() for t in map(type, flat)}.values())
    for k in set(kinds):
        found = k if found is None else dt.promote_types(found, k)
    if wanted is not None and wanted.kind in "fb":  # however large
        return np.array(flat, np.float64).reshape(shape), wanted
    for x in flat if found.kind in "iu" else ():
        _fits(x)
    return np.array(flat, np.float64 if found.kind == "f" else found.numpy).reshape(shape), found


def _element(x: Any, wanted: DType | None) -> tuple[Any, DType]:
    """One number of a sequence, and its dtype."""
    if isinstance(x, Tensor):
        if x.numel() != 1:
            raise TypeError(
                f"tensor: got an element of shape {list(x.shape)}; only integer tensors of a single element "
                "can be converted to an index: join tensors with amity.stack"
            )
        return x.item(), x.dtype
    if isinstance(x, (bool, int, float)):
        return x, dtype_of_number(x)
    if isinstance(x, np.generic) and x.dtype in BY_NUMPY:
        return x.item(), BY_NUMPY[x.dtype]
    if hasattr(x, "item") and not _is_sequence(x):
        return _element(x.item(), wanted)
    if _is_sequence(x):
        raise TypeError(
            f"tensor: got {x!r} among numbers; '{type(x).__name__}' object cannot be "
            "interpreted as an integer"
        )
    raise _no_number(x, wanted)
