"""Bags of table rows: the sum, mean or maximum of each bag."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from amity.core.dtype import int32, int64
from amity.core.errors import ShapeError, fail
from amity.ir.graph import Spec

from .embedding import table_of
from .gather import gather
from .indexing import Index
from .record import ErrorSample, Op, Sample
from .select import where

F = "f"
BAGS = np.array([0, 4, 4, 1]), np.array([0, 2, 2, 4])
_MODES = ("sum", "mean", "max")


class _Bags(Op):
    """Bag i holds the rows that `index[starts[i]:starts[i + 1]]` names."""

    kind = "kernel"
    planner = "bag"
    role = ""

    def infer(self, x: Spec, index: Spec, starts: Spec) -> Spec:
        if x.ndim != 2 or index.ndim != 1 or starts.ndim != 1:
            ranks = f"{x.ndim}, {index.ndim} and {starts.ndim} dimensions"
            raise fail(ShapeError, self.name, ranks, "a matrix and two vectors")
        return Spec((self._count(starts), x.shape[1]), x.dtype)

    def _count(self, starts: Spec) -> int:
        """How many rows the result has."""
        return max(starts.shape[0] - 1, 0)


class BagSum(_Bags):
    """The sum of each bag of a table's rows."""

    name = "bag_sum"
    role = "sum"
    samples = (Sample(((5, 3), F), *BAGS),)
    errors = (ErrorSample(((5,), F), *BAGS, error=RuntimeError, says="a matrix and two vectors"),)

    def reference(self, table, index, starts):
        bags = [table[index[a:b]].sum(0) for a, b in zip(starts, starts[1:], strict=False)]
        return np.array(bags, table.dtype).reshape(-1, table.shape[1])

    def grad(self, g, like_x, index, starts):
        return BagPlace(like_x.shape[0])(g, index, starts), None, None


class BagPlace(_Bags):
    """A table of `rows` rows, to which each bag's row is added wherever it was read."""

    name = "bag_place"
    role = "place"
    rows: int
    samples = (Sample(((3, 2), F), *BAGS, rows=5),)
    errors = (
        ErrorSample(((3,), F), *BAGS, rows=5, error=RuntimeError, says="a matrix and two vectors"),
    )

    def _count(self, starts: Spec) -> int:
        return self.rows

    def reference(self, g, index, starts):
        out = np.zeros((self.rows, g.shape[1]), g.dtype)
        np.add.at(out, index[starts[0] :], np.repeat(g, np.diff(starts), 0))
        return out

    def grad(self, g, index, starts):
        return BagSum()(g, index, starts), None, None


def _check(input, weight, offsets, mode: str, weights, padding_idx) -> None:
    if mode not in _MODES:
        raise ValueError("mode has to be one of sum, mean or max")
    if input.dtype not in (int32, int64):
        raise RuntimeError(f"embedding_bag: got indices of {input.dtype}; expected int32 or int64")
    if offsets is not None and offsets.dtype not in (int32, int64):
        raise RuntimeError(
            f"embedding_bag: got offsets of {offsets.dtype}; expected int32 or int64"
        )
    rows = weight.shape[0]
    if padding_idx is not None and not -rows <= padding_idx < rows:
        raise RuntimeError(
            f"embedding_bag: padding_idx must be within the number of embeddings, {-rows} through "
            f"{rows - 1}, but got {padding_idx}"
        )
    if weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported "
            f"for mode='sum' (got mode='{mode}')."
        )
    if weights is not None and tuple(weights.shape) != tuple(input.shape):
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({list(weights.shape)}) is not None, then it "
            f"must have the same shape as the input ({list(input.shape)})"
        )
    if input.ndim not in (1, 2):
        raise ValueError(
            f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.ndim}"
        )
    if input.ndim == 2 and offsets is not None:
        raise ValueError("if input is 2D, then offsets has to be None")
    if input.ndim == 1 and offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    if offsets is not None and offsets.ndim != 1:
        raise ValueError("offsets has to be a 1D Tensor")
    if weights is not None and weights.dtype is not weight.dtype:
        raise RuntimeError(
            f"embedding_bag: expected weight and per_sample_weights to have the same dtype, but got "
            f"{weight.dtype} and {weights.dtype}"
        )
    bad = input._first_outside(0, rows)
    if bad is not None:
        raise RuntimeError(
            f"embedding_bag: Expected idx >= 0 && idx < num_embeddings but found idx to be {bad} for "
            f"{rows} rows"
        )


def _starts_of(input, offsets, includes_last: bool) -> np.ndarray:
    """Where each bag starts, and where the last one ends."""
    if input.ndim == 2:
        bags, size = input.shape
        return np.arange(0, bags * size + 1, size) if size else np.zeros(bags + 1, np.int64)
    starts = offsets._array().astype(np.int64)
    if starts.size and starts[0] != 0:
        raise RuntimeError(
            f"offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start "
            f"from position 0. However, got {starts[0]}"
        )
    length = input.shape[0]
    if starts.size and starts[-1] > length:
        raise RuntimeError(
            f"offsets[-1] can not be greater than input's length: got {starts[-1]}; expected at "
            f"most {length}"
        )
    starts = starts if includes_last else np.append(starts, length)
    if (np.diff(starts) < 0).any():
        raise ValueError("embedding_bag: got offsets that fall; expected them in order")
    return starts if starts.size else np.zeros(1, np.int64)


def embedding_bag(
    input,
    weight,
    offsets=None,
    max_norm=None,
    norm_type=2,
    scale_grad_by_freq=False,
    mode="mean",
    sparse=False,
    per_sample_weights=None,
    include_last_offset=False,
    padding_idx=None,
):
    """The sum, mean or maximum of bags of table rows; an empty bag gives zeros.

    shape:  input [B, N], or [N] with offsets [B]; weight [V, D] -> [B, D]
    errors: ValueError for arguments that do not fit together
    """
    _check(input, weight, offsets, mode, per_sample_weights, padding_idx)
    starts = _starts_of(input, offsets, include_last_offset)
    index, scale, counts = input.reshape(-1), per_sample_weights, np.diff(starts)
    index = index if index.shape[0] == starts[-1] else index[: int(starts[-1])]
    table = partial(
        table_of, padding_idx=None, max_norm=max_norm, norm_type=norm_type,
        scale_grad_by_freq=scale_grad_by_freq,
    )  # fmt: skip
    if mode != "max" and scale is None and padding_idx is None:
        first = index.new_tensor(starts, dtype=int64)
        out = BagSum()(table(index, weight), index, first)
        return out if mode == "sum" else _shared_out(out, counts, input.ndim == 2)
    bag = np.repeat(np.arange(counts.size), counts)
    if padding_idx is not None:
        kept = np.flatnonzero(index._array() != padding_idx % weight.shape[0])
        bag, places = bag[kept], index.new_tensor(kept, dtype=int64)
        index = index.index_select(0, places)
        scale = None if scale is None else scale.reshape(-1).index_select(0, places)
        counts = np.bincount(bag, minlength=counts.size)
    rows = Index((0,))(table(index, weight), index)
    if mode == "max":
        return _largest_rows(rows, bag, counts)
    if scale is not None:
        rows = rows * scale.reshape(-1)[: rows.shape[0]].unsqueeze(1)
    out = rows.new_zeros((counts.size, weight.shape[1]))
    out = out.index_add(0, index.new_tensor(bag, dtype=int64), rows)
    return out if mode == "sum" else _shared_out(out, counts, False)


def _shared_out(sums, counts: np.ndarray, is_even: bool):
    """The means of bags, of which an empty one gives zeros."""
    if is_even:
        return sums / max(int(counts[0]), 1) if counts.size else sums
    return sums / sums.new_tensor(np.maximum(counts, 1)[:, None])


def _largest_rows(rows, bag: np.ndarray, counts: np.ndarray):
    """The elementwise maximum of each bag, from a table of the rows in it."""
    bags, longest = counts.size, max(int(counts.max(initial=0)), 1)
    table = np.zeros((bags, longest), np.int64)
    is_there = np.arange(longest)[None, :] < counts[:, None]
    table[is_there] = np.arange(bag.size)
    if rows.shape[0] == 0:
        return rows.new_zeros((bags, rows.shape[1]))
    places = rows.new_tensor(table, dtype=int64)
    seen = rows.detach().index_select(0, places.reshape(-1)).reshape(bags, longest, -1)
    there = places.new_tensor(is_there.tolist()).bool()
    seen = where(there.unsqueeze(2), seen, -math.inf)
    best = gather(places, 1, seen.argmax(1))  # (B, D): the row of each maximum
    return where(there[:, :1], gather(rows, 0, best), 0.0)
