"""Images of another size: each output element from a few input elements along each dimension.

All modes but `area` work dimension by dimension: the places and weights of the taps are computed
once in NumPy, in float32 unless the input is float64, as PyTorch does.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any

import numpy as np

from amity.core.dtype import float64, int64

from .adaptive_pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .matmul import matmul

_AREA = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)
_SMOOTH = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}
_MODES = ("nearest", "nearest-exact", "area", *_SMOOTH)


def _sources(n: int, out: int, scale: float | None, aligned: bool, real: Any) -> np.ndarray:
    """Where the centre of each output element lies in the input."""
    at = np.arange(out).astype(real)
    if aligned:
        return at * real((n - 1) / (out - 1) if out > 1 else 0)
    step = real(1 / scale if scale else n / out)
    return step * (at + real(0.5)) - real(0.5)


def _nearest(n: int, out: int, scale: float | None, is_exact: bool) -> np.ndarray:
    step = np.float32(1 / scale if scale else n / out)
    at = np.arange(out).astype(np.float32) + np.float32(0.5 if is_exact else 0)
    return np.minimum(np.floor(at * step).astype(np.int64), n - 1)


def _linear_taps(n: int, out: int, scale, aligned, real) -> list[tuple[np.ndarray, np.ndarray]]:
    at = np.maximum(_sources(n, out, scale, aligned, real), 0)
    low = np.minimum(at.astype(np.int64), n - 1)
    part = np.minimum(at - low.astype(real), real(1))
    return [(low, 1 - part), (np.minimum(low + 1, n - 1), part)]


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """The cubic convolution kernel. source: Keys 1981, IEEE ASSP 29(6)"""
    x = np.abs(x)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _cubic_taps(n: int, out: int, scale, aligned, real) -> list[tuple[np.ndarray, np.ndarray]]:
    at = _sources(n, out, scale, aligned, real)
    low = np.floor(at).astype(np.int64)
    part = at - low.astype(real)
    return [
        (np.clip(low + i, 0, n - 1), _cubic(part - real(i), real(-0.75)).astype(real))
        for i in range(-1, 3)
    ]


@lru_cache(256)
def _taps(mode: str, n: int, out: int, scale, aligned: bool, is_double: bool) -> list:
    make = _cubic_taps if mode == "bicubic" else _linear_taps
    return make(n, out, scale, aligned, np.float64 if is_double else np.float32)


@lru_cache(256)
def _smoothing(mode: str, n: int, out: int, scale: float | None, aligned: bool) -> np.ndarray:
    """The [n, out] matrix of an antialiased resize: the kernel is widened when shrinking."""
    step = ((n - 1) / (out - 1) if out > 1 else 0) if aligned else 1 / scale if scale else n / out
    reach, wide = (2.0 if mode == "bicubic" else 1.0), max(step, 1.0)
    matrix = np.zeros((n, out))
    for i in range(out):
        centre = step * (i + 0.5)
        low = max(int(centre - reach * wide + 0.5), 0)
        high = min(int(centre + reach * wide + 0.5), n)
        x = (np.arange(low, high) - centre + 0.5) / wide
        weights = _cubic(x, -0.5) if mode == "bicubic" else np.maximum(1 - np.abs(x), 0)
        matrix[low:high, i] = weights / weights.sum()
    return matrix


def _along(x, d: int, taps: list):
    """The weighted sum of the taps along a dimension."""
    shape = [1] * x.ndim
    shape[d] = -1
    y = None
    for places, weights in taps:
        part = x.index_select(d, x.new_tensor(places, dtype=int64))
        part = part * x.new_tensor(weights).reshape(shape)
        y = part if y is None else y + part
    return y


def _output_sizes(x, size, scale_factor, recompute) -> tuple[tuple[int, ...], tuple]:
    """The sizes to reach, and the scales to compute places with (None: from the sizes)."""
    n = x.ndim - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is not None:
        sizes = tuple(size) if isinstance(size, (list, tuple)) else (size,) * n
        if len(sizes) != n:
            raise ValueError(
                "Input and output must have the same number of spatial dimensions, but got input "
                f"with spatial dimensions of {list(x.shape[2:])} and output size of {size}."
            )
        return tuple(int(s) for s in sizes), (None,) * n
    if scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    is_list = isinstance(scale_factor, (list, tuple))
    scales = tuple(scale_factor) if is_list else (scale_factor,) * n
    if len(scales) != n:
        raise ValueError(
            "Input and scale_factor must have the same number of spatial dimensions, but got "
            f"input with spatial dimensions of {list(x.shape[2:])} and scale_factor of shape "
            f"{scale_factor}."
        )
    sizes = tuple(int(np.floor(float(h) * s)) for h, s in zip(x.shape[2:], scales, strict=True))
    return sizes, (None,) * n if recompute else tuple(float(s) for s in scales)


def _check(input, mode: str, align_corners, size, recompute, antialias: bool) -> None:
    if mode not in _MODES:
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported for the modes: "
            f"{' | '.join(_MODES)} (got {mode})"
        )
    if mode not in _SMOOTH and align_corners is not None:
        raise ValueError(
            "align_corners option can only be set with the interpolating modes: "
            "linear | bilinear | bicubic | trilinear"
        )
    if input.ndim not in (3, 4, 5) or input.ndim != _SMOOTH.get(mode, input.ndim):
        raise NotImplementedError(
            f"Got {input.ndim}D input, but {mode} mode needs "
            f"{_SMOOTH.get(mode, '3D, 4D or 5')}D input"
        )
    if recompute and size is not None:
        raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
    if antialias and mode not in ("bilinear", "bicubic"):
        raise ValueError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D "
            "tensor as input"
        )


def interpolate(
    input,
    size=None,
    scale_factor=None,
    mode="nearest",
    align_corners=None,
    recompute_scale_factor=None,
    antialias=False,
):
    """Sequences, images or volumes resized to `size`, or by `scale_factor`.

    shape:  [N, C, *] -> [N, C, *size]
    errors: ValueError for options that do not fit, NotImplementedError for modes that do not
    """
    _check(input, mode, align_corners, size, recompute_scale_factor, antialias)
    sizes, scales = _output_sizes(input, size, scale_factor, recompute_scale_factor)
    if min(*input.shape[1:], *sizes) <= 0:
        raise RuntimeError(
            "Input and output sizes should be greater than 0, but got input "
            f"{list(input.shape[2:])} and output {list(sizes)}"
        )
    if mode == "area":
        return _AREA[len(sizes) - 1](input, sizes)
    x = input
    for d, (out, scale) in enumerate(zip(sizes, scales, strict=True), 2):
        n = x.shape[d]
        if mode.startswith("nearest"):
            places = _nearest(n, out, scale, mode == "nearest-exact")
            x = x.index_select(d, x.new_tensor(places, dtype=int64))
        elif antialias:
            matrix = x.new_tensor(_smoothing(mode, n, out, scale, bool(align_corners)))
            x = matmul(x.transpose(d, -1), matrix).transpose(d, -1)
        elif n != out or scale is not None:
            x = _along(x, d, _taps(mode, n, out, scale, bool(align_corners), x.dtype is float64))
    return x.contiguous()


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """The old name of `interpolate`."""
    _warn_old("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """The old name of `interpolate` with `mode="nearest"`."""
    _warn_old("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """The old name of `interpolate` with `mode="bilinear"` and aligned corners."""
    _warn_old("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def _warn_old(name: str) -> None:
    warnings.warn(
        f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.",
        stacklevel=3,
    )
