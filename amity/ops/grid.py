"""Images read at the places a grid names, and the grids of affine maps."""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np

from amity.core.dtype import int64

from .gather import gather
from .integer import floor, round
from .matmul import matmul
from .select import where

_PADDINGS = ("zeros", "border", "reflection")


def affine_grid(theta, size, align_corners=None):
    """The places that an affine map reads each pixel of an image of `size` from.

    shape:  theta [N, 2, 3] or [N, 3, 4], size (N, C, *) -> [N, *, 2 or 3], x first
    errors: ValueError for sizes that do not fit
    """
    align_corners = _aligned("affine_grid", align_corners)
    if theta.dtype.kind != "f":
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    n = len(size) - 2
    if n not in (2, 3):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, "
            f"respectively. Got size {tuple(size)}."
        )
    if tuple(theta.shape[1:]) != (n, n + 1) or theta.ndim != 3:
        raise ValueError(
            f"Expected a batch of {n}D affine matrices of shape Nx{n}x{n + 1} for size "
            f"{tuple(size)}. Got {tuple(theta.shape)}."
        )
    if min(size) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {tuple(size)}")
    axes = [np.linspace(-1, 1, s) if s > 1 else np.zeros(1) for s in size[2:]]
    if not align_corners:
        axes = [a * (a.size - 1) / a.size for a in axes]
    places = np.meshgrid(*axes, indexing="ij")[::-1]  # x first
    base = np.stack([*places, np.ones(size[2:])], -1).reshape(-1, n + 1)
    grid = matmul(theta.new_tensor(base), theta.transpose(1, 2))
    return grid.reshape(size[0], *size[2:], n)


def _aligned(name: str, align_corners) -> bool:
    if align_corners is None:
        warnings.warn(
            f"Default {name} behavior has changed to align_corners=False since 1.3.0. Please "
            f"specify align_corners=True if the old behavior is desired.",
            stacklevel=3,
        )
    return bool(align_corners)


def _reflected(x, low: float, high: float):
    """`x` mirrored at two borders, as often as it takes."""
    span = high - low
    if span == 0:
        return x * 0
    x = (x - low).abs()
    turns = floor(x / span).detach()
    rest = x - turns * span
    return where(turns.remainder(2) == 0, rest + low, high - rest)


def _padded(x, size: int, padding_mode: str, align_corners: bool):
    """Places brought inside the image, where the padding says so."""
    if padding_mode == "zeros":
        return x
    if padding_mode == "reflection":
        low, high = (0, size - 1) if align_corners else (-0.5, size - 0.5)
        x = _reflected(x, low, high)
    return x.clamp(0, size - 1)


def _read(flat, places, sizes):
    """Pixels at whole places, zero outside.

    shape: flat [N, C, prod(sizes)], places n x [N, L] -> [N, C, L]
    """
    index: Any = None
    inside: Any = None
    for at, size in zip(places, sizes, strict=True):
        fits = (at >= 0) & (at <= size - 1)
        inside = fits if inside is None else inside & fits
        at = at.clamp(0, size - 1).to(int64)
        index = at if index is None else index * size + at
    n, c = flat.shape[:2]
    index = index.unsqueeze(1).expand(n, c, index.shape[1])
    return where(inside.unsqueeze(1), gather(flat, 2, index), 0.0)


def _linear(flat, places, sizes):
    lows = [floor(p).detach() for p in places]
    y = None
    for corner in itertools.product((0, 1), repeat=len(sizes)):
        weight: Any = None
        at = []
        for p, low, step in zip(places, lows, corner, strict=True):
            part = p - low if step else 1 - (p - low)
            weight = part if weight is None else weight * part
            at.append(low + step)
        value = _read(flat, at, sizes) * weight.unsqueeze(1)
        y = value if y is None else y + value
    return y


def _cubic_weights(t) -> list:
    """Weights of the four pixels around. source: Keys 1981, IEEE ASSP 29(6), with a = -0.75"""
    a, u = -0.75, 1 - t

    def near(x):
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x):
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1), near(t), near(u), far(u + 1)]


def _cubic(flat, places, sizes, padding_mode: str, align_corners: bool):
    lows = [floor(p).detach() for p in places]
    weights = [_cubic_weights(p - low) for p, low in zip(places, lows, strict=True)]
    y = None
    for i in range(4):
        row = None
        for j in range(4):
            at = [
                _padded(low + (step - 1), size, padding_mode, align_corners)
                for low, step, size in zip(lows, (i, j), sizes, strict=True)
            ]
            value = _read(flat, at, sizes) * weights[1][j].unsqueeze(1)
            row = value if row is None else row + value
        row = row * weights[0][i].unsqueeze(1)
        y = row if y is None else y + row
    return y


def _check(input, grid, mode: str, padding_mode: str) -> None:
    if mode not in ("bilinear", "nearest", "bicubic"):
        raise ValueError(
            "nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', "
            f"but got: '{mode}'"
        )
    if padding_mode not in _PADDINGS:
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or "
            f"'reflection', but got: '{padding_mode}'"
        )
    n = input.ndim - 2
    if n not in (2, 3) or grid.ndim != input.ndim or grid.shape[-1] != n:
        raise RuntimeError(
            "grid_sample(): expected 4D or 5D input and grid with same number of dimensions, and "
            f"a grid whose last dimension has size {n}, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if input.shape[0] != grid.shape[0]:
        raise RuntimeError(
            "grid_sample(): expected grid and input to have same batch size, but got input with "
            f"sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if min(input.shape[2:]) <= 0:
        raise RuntimeError("grid_sample(): expected input to have non-empty spatial dimensions")
    if mode == "bicubic" and n != 2:
        raise RuntimeError("grid_sample(): bicubic interpolation only supports 4D input")


def grid_sample(input, grid, mode="bilinear", padding_mode="zeros", align_corners=None):
    """An image read at the places of a grid, which counts from -1 to 1 over the image.

    shape:  input [N, C, H, W], grid [N, H', W', 2] (x first) -> [N, C, H', W'], or one more
            dimension in all
    errors: ValueError for unknown modes, RuntimeError for sizes that do not fit
    source: Jaderberg et al. 2015, arXiv:1506.02025
    """
    _check(input, grid, mode, padding_mode)
    align_corners = _aligned("grid_sample", align_corners)
    sizes = tuple(input.shape[2:])
    places = []
    for i, size in enumerate(sizes):
        at = grid.select(-1, len(sizes) - 1 - i).reshape(grid.shape[0], -1)
        at = (at + 1) * ((size - 1) / 2) if align_corners else ((at + 1) * size - 1) / 2
        if mode != "bicubic":
            at = _padded(at, size, padding_mode, align_corners)
        places.append(at)
    flat = input.reshape(*input.shape[:2], -1)
    if mode == "nearest":
        y = _read(flat, [round(p) for p in places], sizes)
    elif mode == "bilinear":
        y = _linear(flat, places, sizes)
    else:
        y = _cubic(flat, places, sizes, padding_mode, align_corners)
    return y.reshape(*input.shape[:2], *grid.shape[1:-1])
