"""Element types and the rules that promote them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np


class DType:
    """An element type; each exists once, so identity is equality.

    `code` is its name in kernels and file formats, `kind` is one of `b` (bool), `u`, `i`, `f`.
    """

    __slots__ = ("code", "itemsize", "kind", "name", "numpy")

    def __init__(self, name: str, code: str, kind: str, numpy: np.dtype) -> None:
        self.name, self.code, self.kind = name, code, kind
        self.numpy = numpy
        self.itemsize = numpy.itemsize

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "f"

    @property
    def is_complex(self) -> bool:
        return False

    @property
    def is_signed(self) -> bool:
        return self.kind in "if"

    def to_complex(self) -> DType:
        raise TypeError(f"to_complex: got {self}; amity has no complex dtypes")

    def __repr__(self) -> str:
        return f"amity.{self.name}"

    def __reduce__(self) -> tuple:
        return (by_name, (self.name,))


def by_name(name: str) -> DType:
    """The dtype of that name (`float32`), for unpickling and file formats."""
    return BY_NAME[name]


bool_ = DType("bool", "bool", "b", np.dtype(np.bool_))
uint8 = DType("uint8", "u8", "u", np.dtype(np.uint8))
int8 = DType("int8", "i8", "i", np.dtype(np.int8))
int16 = DType("int16", "i16", "i", np.dtype(np.int16))
int32 = DType("int32", "i32", "i", np.dtype(np.int32))
int64 = DType("int64", "i64", "i", np.dtype(np.int64))
float16 = DType("float16", "f16", "f", np.dtype(np.float16))
bfloat16 = DType("bfloat16", "bf16", "f", np.dtype(ml_dtypes.bfloat16))
float32 = DType("float32", "f32", "f", np.dtype(np.float32))
float64 = DType("float64", "f64", "f", np.dtype(np.float64))

ALL = (bool_, uint8, int8, int16, int32, int64, float16, bfloat16, float32, float64)
FLOATING = (float16, bfloat16, float32, float64)
INTEGRAL = (uint8, int8, int16, int32, int64)
BY_NAME = {d.name: d for d in ALL}
BY_CODE = {d.code: d for d in ALL}
BY_NUMPY = {d.numpy: d for d in ALL}

_default = [float32]
_memos: list[Callable[[], None]] = []  # what forgets results that depend on it
_PYTHON: dict[Any, DType] = {bool: bool_, int: int64, float: float64}


def as_dtype(op: str, given: Any) -> DType | None:
    """The dtype that an argument `dtype` names, Python's own types included; None if it is None.

    errors: TypeError for anything else

    >>> as_dtype("zeros", int)
    amity.int64
    """
    if given is None or isinstance(given, DType):
        return given
    found = _PYTHON.get(given) if isinstance(given, type) else None
    if found is None:
        raise TypeError(
            f"{op}(): argument 'dtype' must be amity.dtype, not {type(given).__name__}: got {given!r}"
        )
    return found


def get_default_dtype() -> DType:
    """The floating dtype that Python floats become.

    >>> get_default_dtype()
    amity.float32
    """
    return _default[0]


def set_default_dtype(dtype: DType) -> None:
    """Set the floating dtype that Python floats become."""
    if not isinstance(dtype, DType) or dtype.kind != "f":
        raise TypeError(
            f"set_default_dtype: got {dtype!r}; only floating-point types are supported as the "
            "default type"
        )
    if dtype is not _default[0]:
        _default[0] = dtype
        for forget in _memos:
            forget()


def when_default_changes(forget: Callable[[], None]) -> Callable[[], None]:
    """Have `forget` called whenever the default dtype becomes another one."""
    _memos.append(forget)
    return forget


RANK = {"b": 0, "u": 1, "i": 1, "f": 2}  # of kinds: bool < integer < floating


def _promotion() -> dict[tuple[DType, DType], DType]:
    """The join of two dtypes in PyTorch's lattice: bool < u8, i8..i64 < f16, bf16 < f32 < f64."""
    table = {}
    for a in ALL:
        for b in ALL:
            if a is b:
                out = a
            elif RANK[a.kind] != RANK[b.kind]:
                out = a if RANK[a.kind] > RANK[b.kind] else b
            elif {a, b} == {float16, bfloat16}:
                out = float32
            elif a.kind == b.kind:
                out = a if a.itemsize >= b.itemsize else b
            else:  # uint8 with a signed integer: the smallest signed type that holds both
                signed = a if a.kind == "i" else b
                out = int16 if signed is int8 else signed
            table[a, b] = out
    return table


PROMOTION = _promotion()


def check_dtype(op: str, given: Any) -> None:
    if not isinstance(given, DType):
        raise TypeError(f"{op}: got {type(given).__name__}; expected a dtype")


def promote_types(a: DType, b: DType) -> DType:
    """The smallest dtype that holds both.

    >>> promote_types(uint8, int8)
    amity.int16
    """
    _are_dtypes("promote_types", a, b)
    for d in (a, b):
        check_dtype("promote_types", d)
    return PROMOTION[a, b]


def _are_dtypes(op: str, *given: Any) -> None:
    for d in given:
        if not isinstance(d, DType):
            raise TypeError(
                f"{op}(): argument must be amity.dtype, not {type(d).__name__}: got {d!r}"
            )


def can_cast(from_: DType, to: DType) -> bool:
    """Whether an in-place result of dtype `from_` may be stored as `to`.

    >>> can_cast(float32, int64)
    False
    """
    _are_dtypes("can_cast", from_, to)
    for d in (from_, to):
        check_dtype("can_cast", d)
    return RANK[from_.kind] <= RANK[to.kind]


LARGEST = {d: float(ml_dtypes.finfo(d.numpy).max) for d in FLOATING}


def fitting(op: str, value: bool | int | float, dtype: DType) -> bool | int | float:
    """A number as one of a dtype, its fraction cut off for an integer.

    errors: RuntimeError if the dtype cannot hold it

    >>> fitting("fill", 2.9, int8)
    2
    """
    if dtype.kind == "b":
        return bool(value)
    if dtype.kind == "f":
        value = float(value)
        if abs(value) > LARGEST[dtype] and math.isfinite(value):
            raise RuntimeError(
                f"{op}: got {value}; value cannot be converted to type {dtype.name} without overflow"
            )
        return value
    info = np.iinfo(dtype.numpy)
    low = info.min if dtype.kind == "i" else -info.max  # negative ones wrap around
    if value != value or not low <= value <= info.max:
        raise RuntimeError(
            f"{op}: got {value}; value cannot be converted to type {dtype.name} without overflow"
        )
    return int(value) if value >= info.min else int(value) + info.max + 1


class Info:
    """Limits of a dtype, by the names that `finfo` and `iinfo` give them."""

    min: Any
    max: Any
    eps: Any
    dtype: str

    def __init__(self, name: str, dtype: DType, **limits: object) -> None:
        self._name, self._shown = name, tuple(limits)
        self.__dict__.update(limits, bits=dtype.itemsize * 8, dtype=dtype.name)

    def __repr__(self) -> str:
        form = "g" if self._name == "finfo" else "d"
        limits = [f"{k}={self.__dict__[k]:{form}}" for k in self._shown]
        return f"{self._name}({', '.join([*limits, 'dtype=' + self.dtype])})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Info) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self._name, self.dtype))


DIGITS = {"float16": 3, "bfloat16": 2, "float32": 6, "float64": 15}  # that a decimal keeps


def finfo(dtype: DType | None = None) -> Info:
    """Limits of a floating dtype.

    >>> finfo(float16).max
    65504.0
    """
    dtype = dtype or get_default_dtype()
    if not isinstance(dtype, DType) or dtype.kind != "f":
        raise TypeError(f"finfo: got {dtype!r}; expected a floating-point dtype")
    i = ml_dtypes.finfo(dtype.numpy)
    names = ("min", "max", "eps", "smallest_normal", "tiny")
    limits = {n: float(getattr(i, n)) for n in names}
    return Info("finfo", dtype, resolution=10.0 ** -DIGITS[dtype.name], **limits)


def iinfo(dtype: DType) -> Info:
    """Limits of an integer dtype.

    >>> iinfo(int8)
    iinfo(min=-128, max=127, dtype=int8)
    """
    if not isinstance(dtype, DType) or dtype.kind not in "iu":
        raise TypeError(f"iinfo: got {dtype!r}; expected an integer dtype")
    i = np.iinfo(dtype.numpy)
    return Info("iinfo", dtype, min=int(i.min), max=int(i.max))
