"""The memory of a tensor under any sizes and strides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from amity.core.errors import ShapeError, fail
from amity.core.layout import Layout, layout
from amity.ir.graph import Spec

from .record import ErrorSample, Op, Sample, method

F = "f"


def _check(op: str, shape: Sequence[int], strides: Sequence[int]) -> None:
    if len(shape) != len(strides):
        raise fail(ShapeError, op, f"{len(strides)} strides", f"one for each of {tuple(shape)}")


class AsStrided(Op):
    """The memory of a row-major tensor under any strides."""

    name = "as_strided"
    kind = "view"
    carries = "own"
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    is_of_memory = True
    samples = (
        Sample(((3, 4), F), shape=(2, 2), strides=(4, 1), offset=1),
        Sample(((4,), F), shape=(3, 2), strides=(1, 1), offset=0),
    )
    errors = (
        ErrorSample(
            ((4,), F), shape=(2, 2), strides=(1,), offset=0, error=ShapeError, says="1 strides"
        ),
    )

    def infer(self, x: Spec) -> Spec:
        _check(self.name, self.shape, self.strides)
        return Spec(self.shape, x.dtype)

    def view(self, x: Layout) -> tuple[Layout, int]:
        return layout(x.dtype, self.shape, self.strides, x.device), self.offset

    def reference(self, x):
        flat = np.ascontiguousarray(x).reshape(-1)[self.offset :]
        strides = [s * x.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(flat, self.shape, strides).copy()

    def grad(self, g, like_x):
        """Added up in the memory that both views show, then read as the input shows it."""
        shape, strides = tuple(like_x.shape), tuple(like_x.strides)
        low = min(self.offset, 0)
        ends = (self.offset + _reach(self.shape, self.strides), _reach(shape, strides))
        memory = StridedSum((max(ends) - low,), self.strides, self.offset - low)(g)
        shared = math.prod(n for n, s in zip(shape, strides, strict=True) if s == 0)
        seen = AsStrided(shape, strides, -low)(memory)
        return seen / shared if shared > 1 else seen

    def batch(self, size, is_mapped, x):
        strides = (x.stride(0), *self.strides)
        return AsStrided((size, *self.shape), strides, self.offset)(x)


def _reach(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Elements from the first to one past the last that a view shows."""
    if 0 in shape:
        return 0
    return 1 + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))


class StridedSum(Op):
    """Elements added up at the places an `as_strided` view took them from."""

    name = "strided_sum"
    carries = "own"
    kind = "host"
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    samples = (
        Sample(((2, 2), F), shape=(3, 4), strides=(4, 1), offset=1),
        Sample(((3, 2), F), shape=(4,), strides=(1, 1), offset=0),
    )
    errors = (
        ErrorSample(
            ((4,), F), shape=(2, 2), strides=(1, 2), offset=0, error=ShapeError, says="2 strides"
        ),
    )

    def infer(self, x: Spec) -> Spec:
        _check(self.name, x.shape, self.strides)
        return Spec(self.shape, x.dtype)

    def reference(self, x):
        out = np.zeros(self.shape, x.dtype)
        at = np.full(x.shape, self.offset)
        for d, stride in enumerate(self.strides):
            at = at + (np.arange(x.shape[d]) * stride).reshape(
                [-1 if i == d else 1 for i in range(x.ndim)]
            )
        np.add.at(out.reshape(-1), at.reshape(-1), x.reshape(-1))
        return out

    def grad(self, g, like_x):
        return AsStrided(tuple(like_x.shape), self.strides, self.offset)(g)

    def batch(self, size, is_mapped, x):
        strides = (math.prod(self.shape), *self.strides)
        return StridedSum((size, *self.shape), strides, self.offset)(x)


def _elements(input) -> int:
    """How many elements the storage of a tensor holds, counted from its start."""
    whole = input if input.base is None else input.base
    limit = whole.storage_offset() + whole.layout.extent
    root = whole.storage.root if whole.storage is not None else None
    if root is not None and root is not whole.storage:  # detached from a view: the rest is there
        limit = max(limit, root.nbytes // whole.itemsize)
    return limit


@method
def as_strided(input, size, stride, storage_offset=None):
    """A view of the storage under given sizes and strides.

    errors: RuntimeError for sizes and strides that do not fit, or that leave the storage
    """
    size, stride = tuple(size), tuple(stride)
    here = input.storage_offset()
    offset = here if storage_offset is None else storage_offset
    if len(size) != len(stride):
        raise RuntimeError(
            f"as_strided: mismatch in length of strides and shape: got {stride} and {size}"
        )
    if any(s < 0 for s in stride) or any(n < 0 for n in size) or offset < 0:
        raise RuntimeError(
            f"as_strided: got size {size}, stride {stride} and offset {offset}; expected none negative"
        )
    limit = _elements(input)
    if 0 not in size and offset + _reach(size, stride) > limit:
        raise RuntimeError(
            f"as_strided: setStorage: sizes {list(size)}, strides {list(stride)} and storage offset "
            f"{offset} are out of bounds for storage of {limit} elements"
        )
    return AsStrided(size, stride, offset - here)(input)
