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


def as_array(data: Any) -> tuple[np.ndarray, DType]:
    """Values and the dtype that PyTorch would give them."""
    if isinstance(data, (bool, int, float)):
        if type(data) is int and not -(2**63) <= data < 2**63:
            raise RuntimeError(
                f"tensor: got {data}: Overflow when unpacking long; expected 64 bits"
            )
        return np.asarray(data), dtype_of_number(data)
    if data is None:
        raise RuntimeError("tensor: got None: Could not infer dtype of NoneType; expected numbers")
    if isinstance(data, (np.ndarray, np.generic)):
        array = np.asarray(data)
        if array.dtype not in BY_NUMPY:
            wide = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}.get(array.dtype)
            if wide is None:
                raise TypeError(
                    f"tensor: got a NumPy array of dtype {array.dtype}; expected bool, an "
                    "integer or a float up to 64 bits"
                )
            array = array.astype(wide)
        return array, BY_NUMPY[array.dtype]
    if isinstance(data, (list, tuple, range)):
        return _from_sequence(data)
    if hasattr(data, "__array__"):
        return as_array(np.asarray(data))
    raise TypeError(f"tensor: got {type(data).__name__}; expected a number, a sequence or an array")


def _from_sequence(data: Sequence[Any]) -> tuple[np.ndarray, DType]:
    kinds: set[Any] = set()

    def look(x: Any) -> Any:
        if isinstance(x, Tensor):
            kinds.add(x.dtype)
            return x.detach().tolist() if x.ndim else x.item()
        if isinstance(x, (list, tuple, range)):
            return [look(i) for i in x]
        if isinstance(x, np.ndarray) or (
            isinstance(x, np.generic) and not isinstance(x, (bool, int, float))
        ):
            kinds.add(BY_NUMPY.get(x.dtype, dt.float64))
            return x.tolist()
        if isinstance(x, (bool, int, float)):
            kinds.add(dtype_of_number(x))
            return x
        if hasattr(x, "item"):
            return look(x.item())
        raise TypeError(f"tensor: got an element of type {type(x).__name__}; expected numbers")

    values = look(data)
    found = get_default_dtype() if not kinds else None
    for k in kinds:
        found = k if found is None else dt.promote_types(found, k)
    try:
        return np.array(values, dtype=np.float64 if found.kind == "f" else found.numpy), found
    except OverflowError:
        raise RuntimeError(
            "tensor: got an integer that is too large; expected one that fits int64"
        ) from None
    except ValueError:
        raise ValueError(
            "tensor: got a nested sequence with rows of different lengths; expected equal lengths"
        ) from None
