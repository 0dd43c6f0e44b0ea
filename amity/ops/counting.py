"""Sets and counts: unique, searching in sorted rows, how often values occur."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity.core.dtype import bfloat16, bool_, float32, float64, int32, int64
from amity.core.shape import canonical_dim

from .record import deliver, method


def _ordered(x) -> np.ndarray:
    """The elements as NumPy sorts them by value, which it does not in bfloat16."""
    if not hasattr(x, "layout"):
        return np.asarray(x)
    return x._array().astype(np.float32) if x.dtype is bfloat16 else x._array()


@method
def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The distinct elements in order; on demand where each went and how often it occurs."""
    array = _ordered(input)
    if dim is not None:
        dim = canonical_dim("unique", dim, input.ndim)
        if 0 in (*array.shape[:dim], *array.shape[dim + 1 :]):
            raise RuntimeError(
                f"unique: got shape {list(array.shape)} and dim {dim}; there are 0 sized dimensions, "
                "and they aren't selected, so unique cannot be applied"
            )
    values, inverse, counts = np.unique(
        array, return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    return _found(input, values, inverse, counts, return_inverse, return_counts, dim)


def _found(input, values, inverse, counts, return_inverse, return_counts, dim):
    """What was found, and on demand the rest, as tensors."""
    inverse = inverse.reshape(tuple(input.shape) if dim is None else -1)
    made = [input.new_tensor(values, dtype=input.dtype)]
    made += [input.new_tensor(inverse, dtype=int64)] if return_inverse else []
    made += [input.new_tensor(counts, dtype=int64)] if return_counts else []
    return made[0] if len(made) == 1 else tuple(made)


@method
def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    """Runs of equal elements as one; on demand where each went and how long it was."""
    array = _ordered(input)
    rows = array.reshape(-1) if dim is None else np.moveaxis(array, dim, 0)
    flat = rows.reshape(len(rows), math.prod(rows.shape[1:]))
    first = np.ones(len(rows), bool)
    first[1:] = (flat[1:] != flat[:-1]).any(1)
    at = np.flatnonzero(first)
    values = rows[at] if dim is None else np.moveaxis(rows[at], 0, dim)
    inverse, counts = np.cumsum(first) - 1, np.diff(np.append(at, len(rows)))
    return _found(input, values, inverse, counts, return_inverse, return_counts, dim)


@method
def bincount(input, weights=None, minlength=0):
    """How often each of 0, 1, 2, … occurs, or the sum of its weights.

    errors: NotImplementedError for other than integers; RuntimeError for negative ones or matrices
    """
    if input.dtype.kind not in "iu":
        raise NotImplementedError(f"bincount: got {input.dtype}; expected integers")
    array = input._array()
    if input.ndim != 1 or (array.size and array.min() < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError(f"bincount: minlength should be >= 0, but got {minlength}")
    if weights is not None and weights.shape != input.shape:
        raise RuntimeError("bincount: weights should be 1-d and have the same length as input")
    if weights is None or not array.size:
        return input.new_tensor(np.bincount(array, minlength=minlength), dtype=int64)
    out = np.bincount(array, weights.detach().double()._array(), minlength)
    return weights.new_tensor(out, dtype=float32 if weights.dtype is float32 else float64)


def _sorter(rows: np.ndarray, sorter) -> np.ndarray:
    """Rows in the order that a tensor of places gives."""
    if sorter.dtype is not int64 or tuple(sorter.shape) != rows.shape:
        raise RuntimeError(
            "torch.searchsorted(): boundary and sorter must have the same size and sorter be of long "
            f"dtype, but got {list(rows.shape)} and {list(sorter.shape)} of {sorter.dtype}"
        )
    order = sorter._array()
    if order.size and (order.min() < 0 or order.max() >= rows.shape[-1]):
        raise RuntimeError("torch.searchsorted(): sorter index out of range")
    return np.take_along_axis(rows, order, -1)


def searchsorted(
    sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None, out=None
):
    """Where elements would have to go to keep sorted rows sorted; NaNs go to the end."""
    if side not in (None, "left", "right"):
        raise RuntimeError(
            f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}"
        )
    if side == "left" and right:
        raise RuntimeError(
            "torch.searchsorted(): side and right can't be set to opposites, got side of left "
            "while right was True"
        )
    values, rows = _ordered(input), _ordered(sorted_sequence)
    if rows.ndim == 0:
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should have positive dimension, but got 0"
        )
    if sorter is not None:
        rows = _sorter(rows, sorter)
    where: Any = "right" if right or side == "right" else "left"
    if rows.ndim == 1:
        found = np.searchsorted(rows, values, where)
    else:
        if values.ndim != rows.ndim or values.shape[:-1] != rows.shape[:-1]:
            raise RuntimeError(
                "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 "
                "dimensions of boundaries tensor and input value tensor must match, but we got "
                f"boundaries tensor {list(rows.shape)} and input value tensor {list(values.shape)}"
            )
        lines = math.prod(rows.shape[:-1])
        pairs = zip(
            rows.reshape(lines, rows.shape[-1]),
            values.reshape(lines, values.shape[-1]),
            strict=True,
        )
        found = np.array([np.searchsorted(r, v, where) for r, v in pairs]).reshape(values.shape)
    found = np.where(values != values, rows.shape[-1], found)
    return deliver(sorted_sequence.new_tensor(found, dtype=int32 if out_int32 else int64), out)


@method
def bucketize(input, boundaries, *, out_int32=False, right=False, out=None):
    """The bin of each element between sorted boundaries."""
    if boundaries.ndim != 1:
        raise RuntimeError(
            f"bucketize: boundaries tensor must be 1 dimension, but got dim({boundaries.ndim})"
        )
    return searchsorted(boundaries, input, out_int32=out_int32, right=right, out=out)


def isin(elements, test_elements, *, assume_unique=False, invert=False):
    """Whether each element is one of the others."""
    tensors = [t for t in (elements, test_elements) if hasattr(t, "layout")]
    others = [t for t in (elements, test_elements) if not isinstance(t, (bool, int, float))]
    if not tensors or len(others) > len(tensors):
        raise TypeError(
            f"isin: got {type(elements).__name__} and {type(test_elements).__name__}; expected two "
            "tensors, or a tensor and a number"
        )
    is_in = np.isin(_ordered(elements), _ordered(test_elements), invert=invert)
    return tensors[0].new_tensor(is_in, dtype=bool_)
