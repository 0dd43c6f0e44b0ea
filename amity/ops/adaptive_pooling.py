"""Pooling to a given size: windows that together cover each dimension, of nearly equal length.

Where the size divides, these are the windows of an ordinary pooling. Elsewhere an average is
resampled one dimension after another, and a maximum looks its candidates up in a table.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from amity.core.dtype import float32, float64, int64

from .gather import gather
from .pooling import avg_pool1d, avg_pool2d, avg_pool3d, batched, max_pool1d, max_pool2d, max_pool3d
from .record import ErrorSample, Sample, composite
from .reduce import SUM
from .resample import Resample

_MAX_POOL = (max_pool1d, max_pool2d, max_pool3d)
_AVG_POOL = (avg_pool1d, avg_pool2d, avg_pool3d)


def _bounds(n: int, out: int) -> list[tuple[int, int]]:
    """First and last (exclusive) place of each window."""
    return [(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]


def _sizes(name: str, x, size, n: int) -> tuple[int, ...]:
    size = (size,) * n if size is None or isinstance(size, int) else tuple(size)
    size = size * n if len(size) == 1 else size
    if len(size) != n:
        raise RuntimeError(f"{name}: got output_size={size}; expected {n} sizes")
    size = tuple(int(have if s is None else s) for s, have in zip(size, x.shape[2:], strict=True))
    if min(size) < 0:
        raise RuntimeError(f"{name}: got output_size={size}; expected no negative size")
    if any(s == 0 for s in x.shape[1:]):
        raise RuntimeError(
            f"{name}: Expected input to have non-zero size for non-batch dimensions, but input "
            f"has sizes {list(x.shape)}"
        )
    return size


def _divides(x, size: tuple[int, ...]) -> bool:
    return all(s and n % s == 0 for n, s in zip(x.shape[2:], size, strict=True))


def _steps(x, size: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n // s for n, s in zip(x.shape[2:], size, strict=True))


@composite(
    samples=(Sample(((2, 3, 4, 6), "f"), size=(2, 3)), Sample(((2, 3, 4), "f"), size=(4,))),
    errors=(ErrorSample(((2, 3, 4), "f"), size=(2, 3), error=IndexError, says="out of range"),),
)
def _block_mean(x, size):
    """The means of equal blocks, one dimension after another, the outermost and longest first."""
    count = math.prod(x.shape[2 : 2 + len(size)]) // math.prod(size)
    for d, out in enumerate(size, 2):
        shape = tuple(x.shape)
        if out != shape[d]:
            blocks = (*shape[:d], out, shape[d] // out, *shape[d + 1 :])
            x = SUM(x.reshape(blocks), (d + 1,), False)
    return x / count


def _adaptive_avg_pool(n: int, input, output_size):
    name = f"adaptive_avg_pool{n}d"
    x, added = batched(name, input, n)
    size = _sizes(name, x, output_size, n)
    if math.prod(size) == 1:
        y = x.mean(tuple(range(2, n + 2)), keepdim=True)
    elif _divides(x, size):
        in_blocks = x.is_contiguous() and x.dtype in (float32, float64)
        y = _block_mean(x, size) if in_blocks else _AVG_POOL[n - 1](x, _steps(x, size))
    else:
        source = tuple(int(m) for m in x.shape[2:])
        y = Resample("area", source, size, (None,) * n, False, False, False)(x)
    return y.squeeze(0) if added else y


def adaptive_avg_pool1d(input, output_size):
    """The means of `output_size` windows along the last dimension.

    shape: [N, C, L] or [C, L] -> [(N,) C, output_size]
    """
    return _adaptive_avg_pool(1, input, output_size)


def adaptive_avg_pool2d(input, output_size):
    """The means of windows of an image; None keeps a size.

    shape: [N, C, H, W] or [C, H, W] -> [(N,) C, *output_size]
    """
    return _adaptive_avg_pool(2, input, output_size)


def adaptive_avg_pool3d(input, output_size):
    """The means of windows of a volume; None keeps a size.

    shape: [N, C, D, H, W] or [C, D, H, W] -> [(N,) C, *output_size]
    """
    return _adaptive_avg_pool(3, input, output_size)


@lru_cache(256)
def _candidates(shape: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    """For each window the flat places of its elements; short windows repeat their first."""
    bounds = [_bounds(n, out) for n, out in zip(shape, size, strict=True)]
    windows = [
        np.ravel_multi_index(
            np.meshgrid(*(np.arange(*b) for b in at), indexing="ij"), shape
        ).ravel()
        for at in _product(bounds)
    ]
    longest = max(map(len, windows), default=1)
    return np.array([np.pad(w, (0, longest - len(w)), constant_values=w[0]) for w in windows])


def _product(bounds: list) -> list[tuple]:
    out: list[tuple] = [()]
    for choices in bounds:
        out = [(*head, choice) for head in out for choice in choices]
    return out


def largest(x, places):
    """The largest element at `places`, a window to a row, and where it was.

    shape: x [N, C, L], places [O, K] or [N, C, O, K] -> [N, C, O], [N, C, O]
    """
    n, c = x.shape[:2]
    places = places.expand(n, c, *places.shape[-2:])
    seen = gather(x.detach(), 2, places.reshape(n, c, -1)).reshape(places.shape)
    index = gather(places, 3, seen.argmax(-1, keepdim=True)).squeeze(3)
    return gather(x, 2, index), index


def _adaptive_max_pool(n: int, input, output_size, return_indices: bool):
    name = f"adaptive_max_pool{n}d"
    x, added = batched(name, input, n)
    size = _sizes(name, x, output_size, n)
    if _divides(x, size):
        out = _MAX_POOL[n - 1](x, _steps(x, size), return_indices=return_indices)
        out = out if return_indices else (out,)
    else:
        table = _candidates(tuple(x.shape[2:]), size).reshape(math.prod(size), -1)
        flat = x.reshape(*x.shape[:2], -1)
        found = largest(flat, x.new_tensor(table, dtype=int64))
        out = tuple(t.reshape(*x.shape[:2], *size) for t in found)
    out = tuple(t.squeeze(0) for t in out) if added else out
    return tuple(out) if return_indices else out[0]


def adaptive_max_pool1d(input, output_size, return_indices=False):
    """The maxima of `output_size` windows along the last dimension.

    shape: [N, C, L] or [C, L] -> [(N,) C, output_size]
    """
    return _adaptive_max_pool(1, input, output_size, return_indices)


def adaptive_max_pool2d(input, output_size, return_indices=False):
    """The maxima of windows of an image; None keeps a size.

    shape: [N, C, H, W] or [C, H, W] -> [(N,) C, *output_size]
    """
    return _adaptive_max_pool(2, input, output_size, return_indices)


def adaptive_max_pool3d(input, output_size, return_indices=False):
    """The maxima of windows of a volume; None keeps a size.

    shape: [N, C, D, H, W] or [C, D, H, W] -> [(N,) C, *output_size]
    """
    return _adaptive_max_pool(3, input, output_size, return_indices)


def adaptive_max_pool1d_with_indices(input, output_size, return_indices=True):
    """`adaptive_max_pool1d` with the places of the maxima."""
    return _adaptive_max_pool(1, input, output_size, True)


def adaptive_max_pool2d_with_indices(input, output_size, return_indices=True):
    """`adaptive_max_pool2d` with the places of the maxima."""
    return _adaptive_max_pool(2, input, output_size, True)


def adaptive_max_pool3d_with_indices(input, output_size, return_indices=True):
    """`adaptive_max_pool3d` with the places of the maxima."""
    return _adaptive_max_pool(3, input, output_size, True)
