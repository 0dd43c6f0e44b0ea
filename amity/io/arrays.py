"""NumPy scalars and arrays in checkpoints that PyTorch wrote, rebuilt as data.

source: numpy/_core/src/multiarray, `array_reduce` and `arraydescr_reduce`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from .rebuild import broken, check_sizes
from .unpickler import Function

PLAIN = re.compile(r"[biufcSU][0-9]{1,4}")  # neither objects nor records


@dataclass(slots=True)
class ArrayType:
    """A NumPy dtype of a pickle: its name comes first, its byte order later."""

    name: str
    order: str = "="

    def dtype(self) -> np.dtype:
        return np.dtype(self.name).newbyteorder(self.order)


def make_type(name: Any, align: Any = False, copy: Any = True) -> ArrayType:
    if type(name) is not str or not PLAIN.fullmatch(name):
        raise broken(f"the NumPy dtype {name!r:.40}", "numbers, bools or text")
    np.dtype(name)
    return ArrayType(name)


def set_order(instance: ArrayType, state: Any) -> None:
    """The state of a dtype: (version, byte order, …)."""
    if state[1] not in ("<", ">", "|", "="):
        raise broken(f"the byte order {state[1]!r:.20}", "one of < > | =")
    instance.order = state[1]


def make_scalar(kind: Any, data: Any) -> np.generic:
    dtype = dtype_of(kind)
    if type(data) is not bytes or len(data) != dtype.itemsize:
        raise broken(f"a NumPy scalar over {data!r:.40}", f"{dtype.itemsize} bytes")
    return np.frombuffer(data, dtype)[0] if data else dtype.type()


def make_array(cls: Any, shape: Any, code: Any) -> np.ndarray:
    """An empty array, which `set_array` then fills."""
    if cls is not ARRAY:
        raise broken(f"an array of class {cls!r:.40}", "numpy.ndarray")
    return np.empty(0)


def set_array(instance: np.ndarray, state: Any) -> None:
    """The state of an array: (version, shape, dtype, is_fortran, bytes)."""
    _, shape, kind, is_fortran, data = state
    dtype, shape = dtype_of(kind), check_sizes("shape", shape)
    if type(data) is not bytes or type(is_fortran) is not bool:
        raise broken(f"an array over {type(data).__name__}", "bytes")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise broken(f"an array of shape {shape} over {len(data)} bytes", "as many as it holds")
    instance.__setstate__((1, shape, dtype, is_fortran, data))


def make_from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> np.ndarray:
    """An array in the form of pickle's protocol 5."""
    if type(data) not in (bytes, bytearray) or order not in ("C", "F"):
        raise broken(f"an array over {type(data).__name__}", "bytes")
    flat = np.frombuffer(bytearray(data), dtype_of(kind))
    return flat.reshape(check_sizes("shape", shape), order=order)


def dtype_of(kind: Any) -> np.dtype:
    if type(kind) is not ArrayType:
        raise broken(f"the NumPy dtype {kind!r:.40}", "a dtype")
    return kind.dtype()


def functions() -> Iterator[Function]:
    """The names by which pickles reach what stands above."""
    yield Function("numpy.dtype", make_type)
    yield Function(f"{ArrayType.__module__}.{ArrayType.__qualname__}", make_type, set_order)
    yield ARRAY
    for core in ("numpy._core", "numpy.core"):  # before and since NumPy 2
        yield Function(f"{core}.multiarray.scalar", make_scalar)
        yield Function(f"{core}.multiarray._reconstruct", make_array)
        yield Function(f"{core}.numeric._frombuffer", make_from_buffer)


def refuse_array(*_: Any) -> np.ndarray:
    raise broken("numpy.ndarray called as a function", "arrays as NumPy pickles them")


ARRAY = Function("numpy.ndarray", refuse_array, set_array)
