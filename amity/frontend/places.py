"""Flat positions as coordinates, and the dtype that values promote to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amity.core.dtype import DType
from amity.core.shape import Size, numel
from amity.core.shape import broadcast_shapes as joined
from amity.ops.record import result_dtype as promoted

from .bind import spec_of
from .tensor import Tensor


def unravel_index(indices: Tensor, shape: int | Sequence[int]) -> tuple[Tensor, ...]:
    """The coordinates of flat positions in a shape.

    errors: ValueError for sizes or positions that are not in it; TypeError for other dtypes
    """
    if not isinstance(indices, Tensor) or indices.dtype.kind not in "iu":
        raise ValueError(
            f"unravel_index: got {getattr(indices, 'dtype', type(indices).__name__)}; expected integer 'indices'"
        )
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if any(n < 0 for n in shape):
        raise ValueError(f"unravel_index: 'shape' cannot have negative values, but got {shape}")
    out, step = [], numel(shape)
    for n in shape:
        step = step // n if n else 1
        out.append(indices.div(step, rounding_mode="floor").remainder(n))
    return tuple(out)


def broadcast_shapes(*shapes: int | Sequence[int]) -> Size:
    """The shape that all shapes broadcast to.

    errors: RuntimeError for sizes that do not fit; ValueError for negative ones

    >>> broadcast_shapes((2, 1), 3)
    amity.Size([2, 3])
    """
    listed = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    if any(n < 0 for s in listed for n in s):
        raise ValueError(f"broadcast_shapes: got {listed}; expected sizes of 0 or more")
    return Size(joined("broadcast_shapes", *listed))


def result_type(tensor1: Any, tensor2: Any) -> DType:
    """The dtype that an op on both would have.

    >>> import amity
    >>> result_type(amity.tensor([1, 2]), 1.0)
    amity.float32
    """
    for t in (tensor1, tensor2):
        if not isinstance(t, (Tensor, bool, int, float)):
            raise TypeError(f"result_type(): got {type(t).__name__}; expected a Tensor or a number")
    return promoted([spec_of(tensor1), spec_of(tensor2)])
