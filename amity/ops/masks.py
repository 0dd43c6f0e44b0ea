"""Elements picked, placed and found by masks."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import bool_, fitting, int64
from amity.core.shape import broadcast_shapes

from .arguments import check_tensor
from .indexing import IndexPut
from .joining import cat
from .record import deliver, method
from .select import WHERE


def _check_mask(name, mask):
    check_tensor(name, mask, "mask")
    if mask.dtype is not bool_:
        raise RuntimeError(
            f"{name} only supports boolean masks, but got mask with dtype {mask.dtype}"
        )


@method(inplace=True)
def masked_fill(input, mask, value):
    """A value where the mask is true.

    errors: RuntimeError if the mask is not boolean
    """
    _check_mask("masked_fill", mask)
    if hasattr(value, "layout"):
        if value.ndim:
            raise RuntimeError(
                "masked_fill_ only supports a 0-dimensional value tensor, but got tensor with "
                f"{value.ndim} dimension(s)."
            )
        value = value.to(input.dtype)
    elif not isinstance(value, (bool, int, float)):
        raise TypeError(f"masked_fill(): got a value of {type(value).__name__}; expected a number")
    else:
        value = fitting("masked_fill", value, input.dtype)
    return WHERE(mask, value, input)


@method
def masked_select(input, mask, *, out=None):
    """The elements where the mask is true, as a vector."""
    _check_mask("masked_select", mask)
    shape = broadcast_shapes("masked_select", input.shape, mask.shape)
    y = input.expand(shape)[mask.expand(shape)]
    return deliver(y, out)


@method(inplace=True)
def masked_scatter(input, mask, source):
    """Elements of `source`, in order, where the mask is true."""
    _check_mask("masked_scatter", mask)
    check_tensor("masked_scatter", source, "source")
    shape = broadcast_shapes("masked_scatter", input.shape, mask.shape)
    if not shape:
        return masked_scatter(input.reshape(1), mask.reshape(1), source).reshape(())
    input = input.expand(shape)
    at = mask.expand(input.shape).nonzero(as_tuple=True)
    count = at[0].numel()
    if source.numel() < count:
        raise RuntimeError(
            "masked_scatter: expected self to have at least as many elements in source as "
            "there are true values in mask"
        )
    return IndexPut(tuple(range(input.ndim)), False)(input, source.reshape(-1)[:count], *at)


@method
def nonzero(input, *, out=None, as_tuple=False):
    """The positions of elements that are not 0: rows, or one vector for each dimension."""
    found = np.nonzero(np.atleast_1d(input._array()))
    if as_tuple:
        return tuple(input.new_tensor(i, dtype=int64) for i in found)
    rows = np.stack(found, 1) if input.ndim else np.zeros((len(found[0]), 0), np.int64)
    return deliver(input.new_tensor(rows.astype(np.int64), dtype=int64), out)


@method
def nonzero_static(input, *, size, fill_value=-1, out=None):
    """The positions of the first `size` elements that are not 0, as rows; missing ones are filled."""
    if size < 0:
        raise RuntimeError(f"nonzero_static: 'size' must be a non-negative integer, but got {size}")
    rows = nonzero(input)[:size]
    missing = input.new_full((size - rows.shape[0], rows.shape[1]), fill_value, dtype=int64)
    return deliver(cat((rows, missing)), out)


@method
def argwhere(input):
    """The positions of elements that are not 0, as rows."""
    return nonzero(input)
