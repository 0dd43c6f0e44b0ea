"""Sizes: arithmetic on shapes that every op shares."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Iterable, Sequence

from .errors import DimError, ShapeError, fail
from .symbolic import SymInt

Shape = tuple[int, ...]


def numel(shape: Sequence[int]) -> int:
    """How many elements a shape has."""
    return math.prod(shape)


def contiguous_strides(shape: Sequence[int]) -> Shape:
    """Row-major strides, in elements; a dimension of size 0 counts as 1."""
    return _contiguous_strides(tuple(shape))


@functools.lru_cache(4096)
def _contiguous_strides(shape: Shape) -> Shape:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def broadcast_shapes(op: str, *shapes: Sequence[int]) -> Shape:
    """The shape that all shapes broadcast to."""
    ndim = max(map(len, shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for i, size in enumerate(shape, ndim - len(shape)):
            if size != 1:
                if out[i] not in (1, size):
                    text = " and ".join(str(tuple(s)) for s in shapes)
                    raise fail(
                        ShapeError, op, text, f"sizes that broadcast (dimension {i} differs)"
                    )
                out[i] = size
    return tuple(out)


def whole(op: str, argument: str, value: object) -> int:
    """An integer that an argument must be.

    errors: TypeError for floats and bools

    >>> whole("triu", "diagonal", 2)
    2
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(
            f"{op}(): argument '{argument}' must be int, not {type(value).__name__}: got {value!r}"
        )
    return value.__index__()


def canonical_dim(op: str, dim: int, ndim: int) -> int:
    """`dim` counted from the front; a 0-d tensor has the dimensions -1 and 0."""
    n = ndim or 1
    if not -n <= dim < n:
        raise DimError(
            f"{op}: Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got "
            f"{dim})"
        )
    return dim % n


def canonical_dims(op: str, dims: int | Sequence[int] | None, ndim: int) -> Shape:
    """Sorted dimensions, all of them for None or an empty list; each may appear once."""
    if dims is None or (not isinstance(dims, int) and len(dims) == 0):
        return tuple(range(ndim))
    if isinstance(dims, int):
        dims = (dims,)
    out = sorted(canonical_dim(op, d, ndim) for d in dims)
    for a, b in zip(out, out[1:], strict=False):
        if a == b:
            raise RuntimeError(f"{op}: dim {a} appears multiple times in the list of dims")
    return tuple(out) if ndim else ()


def check_dims(op: str, dims: int | Sequence[int], ndim: int) -> None:
    """Refuse dimensions, counted from the front, that a tensor does not have."""
    for dim in (dims,) if isinstance(dims, int) else dims:
        if not 0 <= dim < ndim:
            raise fail(DimError, op, f"dimension {dim}", f"one of the {ndim} that the tensor has")


def infer_size(op: str, shape: Sequence[int], count: int) -> Shape:
    """`shape` with its one -1 replaced so that it has `count` elements."""
    shape = tuple(int(s) for s in shape)
    known, free = 1, None
    for i, size in enumerate(shape):
        if size == -1:
            if free is not None:
                raise RuntimeError(
                    f"{op}: only one dimension can be inferred, got shape {list(shape)}"
                )
            free = i
        elif size < 0:
            raise RuntimeError(f"{op}: invalid shape dimension {size} in {list(shape)}")
        else:
            known *= size
    if free is None:
        if known != count:
            raise RuntimeError(f"{op}: shape '{list(shape)}' is invalid for input of size {count}")
        return shape
    if known == 0:
        if count == 0:
            raise RuntimeError(
                f"{op}: cannot reshape tensor of 0 elements into shape {list(shape)} because the "
                "unspecified dimension size -1 can be any value and is ambiguous"
            )
        raise RuntimeError(f"{op}: shape '{list(shape)}' is invalid for input of size {count}")
    if count % known:
        raise RuntimeError(f"{op}: shape '{list(shape)}' is invalid for input of size {count}")
    return (*shape[:free], count // known, *shape[free + 1 :])


def _whole(size: int) -> int:
    try:
        return size if type(size) in (int, SymInt) else operator.index(size)
    except TypeError:
        got = type(size).__name__
        raise TypeError(f"Size: got an item of type {got}; expected an iterable of ints") from None


class Size(tuple):
    """The shape of a tensor: a tuple of ints that prints as PyTorch's.

    >>> Size((2, 3)).numel()
    6
    """

    __slots__ = ()

    def __new__(cls, sizes: Iterable[int] = ()) -> Size:
        return tuple.__new__(cls, map(_whole, sizes))

    @classmethod
    def of(cls, shape: Shape) -> Size:
        """A shape that is known to hold ints."""
        return tuple.__new__(cls, shape)

    def numel(self) -> int:
        return math.prod(self)

    def __repr__(self) -> str:
        return f"amity.Size({list(self)})"

    def __getitem__(self, i):
        out = tuple.__getitem__(self, i)
        return Size(out) if isinstance(i, slice) else out

    def __add__(self, other):
        return Size(tuple(self) + tuple(other))
