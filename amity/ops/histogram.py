"""Histograms: how many elements, or how much weight, fall between edges."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import float32, float64

from .record import deliver, method
from .structs import ReturnTypes


@method
def histc(input, bins=100, min=0, max=0, *, out=None):
    """How many elements fall into each of equal bins."""
    array = input.detach().double()._array().reshape(-1)
    if input.dtype.kind != "f":
        raise NotImplementedError(f"histc: got {input.dtype}; expected a floating dtype")
    low, high = float(min), float(max)
    if low == high:
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
        if low == high:
            low, high = low - 1, high + 1
    if not math.isfinite(low) or not math.isfinite(high):
        raise RuntimeError(f"torch.histc: range of [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"torch.histc: max must be larger than min: got [{low}, {high}]")
    if bins <= 0:
        raise RuntimeError(f"torch.histc(): bins must be > 0, but got {bins}")
    counts, _ = np.histogram(array[(array >= low) & (array <= high)], bins, (low, high))
    return deliver(input.new_tensor(counts, dtype=input.dtype), out)


@method
def histogram(input, bins, *, range=None, weight=None, density=False, out=None):
    """How many elements, or how much weight, fall into each of equal bins or between given edges."""
    name = "histogram"
    columns = _columns(name, input.reshape(-1, 1))
    edges = [_edges(name, columns[0], bins, range)]
    hist = _counted(name, columns, edges, weight, tuple(input.shape), density)
    parts = (input.new_tensor(part, dtype=input.dtype) for part in (hist, edges[0]))
    return deliver(ReturnTypes(name, **dict(zip(("hist", "bin_edges"), parts, strict=True))), out)


def histogramdd(input, bins, range=None, weight=None, density=False):
    """The histogram of rows over as many dimensions as they have elements."""
    name = "histogramdd"
    if input.ndim < 2:
        raise RuntimeError(
            f"{name}: input tensor should have at least 2 dimensions: got {input.ndim}"
        )
    columns = _columns(name, input.reshape(-1, input.shape[-1]))
    several = [bins] * len(columns) if isinstance(bins, int) else list(bins)
    if len(several) != len(columns):
        raise RuntimeError(
            f"{name}: The size of bins must be equal to the innermost dimension of the input: got "
            f"{len(several)} and {len(columns)}"
        )
    ranges = [None] * len(columns) if range is None else zip(range[::2], range[1::2], strict=True)
    edges = [_edges(name, *parts) for parts in zip(columns, several, ranges, strict=True)]
    hist = _counted(name, columns, edges, weight, tuple(input.shape[:-1]), density)
    made = tuple(input.new_tensor(e, dtype=input.dtype) for e in edges)
    return ReturnTypes(name, hist=input.new_tensor(hist, dtype=input.dtype), bin_edges=made)


def _columns(name, rows) -> np.ndarray:
    if rows.dtype not in (float32, float64):
        raise NotImplementedError(f"{name}: got {rows.dtype}; expected float32 or float64")
    return rows._array().T


def _edges(name, column, bins, range) -> np.ndarray:
    """Given edges, or those of equal bins over a range or over all elements."""
    if hasattr(bins, "layout"):
        if bins.ndim != 1 or bins.numel() < 2 or bins.dtype.numpy != column.dtype:
            raise RuntimeError(
                f"{name}: got edges of shape {list(bins.shape)} and {bins.dtype}; expected a bins "
                f"tensor of one dimension, at least 2 elements and the dtype {column.dtype}"
            )
        return bins._array()
    if bins <= 0:
        raise RuntimeError(f"{name}: bins must be > 0, but got {bins}")
    low, high = range or ((column.min(), column.max()) if column.size else (0.0, 1.0))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"{name}: range [{low}, {high}] is not finite")
    if low > high:
        raise RuntimeError(f"{name}: min should not exceed max, but got min {low} max {high}")
    if low == high:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1, dtype=column.dtype)


def _counted(name, columns, edges, weight, shape, density) -> np.ndarray:
    """Weights added up in the bins; the last bin has its right edge too."""
    weights = np.ones(columns.shape[1], columns.dtype)
    if weight is not None:
        if tuple(weight.shape) != shape or weight.dtype.numpy != columns.dtype:
            raise RuntimeError(
                f"{name}: got weight of shape {list(weight.shape)} and {weight.dtype}; expected "
                f"{list(shape)} and the dtype of the input"
            )
        weights = weight._array().reshape(-1)
    inside, places = np.ones(len(weights), bool), []
    for column, edge in zip(columns, edges, strict=True):
        inside &= (column >= edge[0]) & (column <= edge[-1])
        at = np.searchsorted(edge, column, "right") - 1
        places.append(np.minimum(at, len(edge) - 2))
    bins = tuple(len(e) - 1 for e in edges)
    flat = np.ravel_multi_index([p[inside] for p in places], bins)
    hist = np.bincount(flat, weights[inside], math.prod(bins)).reshape(bins)
    if density:
        with np.errstate(invalid="ignore"):
            hist = hist / hist.sum()
        for d, edge in enumerate(edges):
            hist = hist / np.diff(edge).reshape([-1 if i == d else 1 for i in np.arange(len(bins))])
    return hist
