"""Copies of a tensor with a part of them written over."""

from __future__ import annotations

from amity.core.shape import canonical_dim

from .gather import scatter_reduce
from .joining import select
from .record import method
from .strided import as_strided


def _written(name, copy, part, src):
    if tuple(part.shape) != tuple(src.shape):
        raise RuntimeError(
            f"{name}: expected src to have a size equal to the slice of self: got src of shape "
            f"{list(src.shape)} and a slice of shape {list(part.shape)}"
        )
    part.copy_(src)
    return copy


@method
def select_scatter(input, src, dim, index):
    """A copy of the input with `src` at one position of a dimension."""
    copy = input.clone()
    return _written("select_scatter", copy, select(copy, dim, index), src)


@method
def slice_scatter(input, src, dim=0, start=None, end=None, step=1):
    """A copy of the input with `src` in a slice of a dimension."""
    copy = input.clone()
    d = canonical_dim("slice_scatter", dim, input.ndim)
    part = copy[(slice(None),) * d + (slice(start, end, step),)]
    return _written("slice_scatter", copy, part, src)


@method
def diagonal_scatter(input, src, offset=0, dim1=0, dim2=1):
    """A copy of the input with `src` on a diagonal."""
    copy = input.clone()
    return _written("diagonal_scatter", copy, copy.diagonal(offset, dim1, dim2), src)


@method
def as_strided_scatter(input, src, size, stride, storage_offset=None):
    """A copy of the input with `src` where `as_strided` would look."""
    copy = input.clone()
    part = as_strided(copy, size, stride, storage_offset or 0)
    return _written("as_strided_scatter", copy, part, src)


@method(inplace=True)
def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    """Slices of `source` joined by prod, mean, amax or amin at positions along a dimension."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(
            f"index_reduce(): reduce argument must be either prod, mean, amax or amin, got {reduce}."
        )
    d = canonical_dim("index_reduce", dim, input.ndim)
    if index.ndim > 1 or index.numel() != source.shape[d]:
        raise RuntimeError(
            f"index_reduce(): Number of indices ({index.numel()}) should be equal to "
            f"source.size(dim): ({source.shape[d]}), for dim: {d}"
        )
    bad = index._first_outside(0, input.shape[d])
    if bad is not None:
        raise IndexError(
            f"index_reduce(): index {bad} is out of range in self: dimension {d} has size "
            f"{input.shape[d]}"
        )
    at = index.reshape(tuple(-1 if i == d else 1 for i in range(input.ndim))).expand(source.shape)
    return scatter_reduce(input, d, at, source, reduce, include_self=include_self)
