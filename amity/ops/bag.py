"""Bags of table rows: the sum, mean or maximum of each bag."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import int32, int64

from .embedding import embedding
from .gather import gather
from .select import where

_MODES = ("sum", "mean", "max")


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
    bad = input._first_outside(0, rows, -1 << 62)
    if bad is not None:
        raise RuntimeError(
            f"embedding_bag: Expected idx >= 0 && idx < num_embeddings but found idx to be {bad} for "
            f"{rows} rows"
        )


def _bag_of_each(input, offsets, includes_last: bool) -> tuple[np.ndarray, int]:
    """Which bag each index belongs to, and how many bags there are."""
    if input.ndim == 2:
        return np.repeat(np.arange(input.shape[0]), input.shape[1]), input.shape[0]
    starts = offsets.numpy().astype(np.int64)
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
    bags = starts.size - 1 if includes_last else starts.size
    ends = np.append(starts, length)[1 : bags + 1]
    sizes = ends - starts[:bags]
    return np.repeat(np.arange(bags), sizes), bags


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
    bag, bags = _bag_of_each(input, offsets, include_last_offset)
    index, scale = input.reshape(-1)[: bag.size], per_sample_weights
    if padding_idx is not None:
        kept = np.flatnonzero(index.numpy() != padding_idx % weight.shape[0])
        bag, places = bag[kept], index.new_tensor(kept, dtype=int64)
        index = index.index_select(0, places)
        scale = None if scale is None else scale.reshape(-1).index_select(0, places)
    rows = embedding(index, weight, None, max_norm, norm_type, scale_grad_by_freq)
    counts = np.bincount(bag, minlength=bags)
    if mode == "max":
        return _largest_rows(rows, bag, counts)
    if scale is not None:
        rows = rows * scale.reshape(-1)[: rows.shape[0]].unsqueeze(1)
    out = rows.new_zeros((bags, weight.shape[1]))
    out = out.index_add(0, index.new_tensor(bag, dtype=int64), rows)
    if mode == "mean":
        out = out / rows.new_tensor(np.maximum(counts, 1)[:, None])
    return out


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
