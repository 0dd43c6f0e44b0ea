"""Images and volumes resized: nearest, linear, cubic, by area, with or without antialiasing."""

from __future__ import annotations

import math
import warnings

from amity.core.dtype import uint8

from .adaptive_pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .resample import Resample

MODES = {"nearest": "nearest", "nearest-exact": "nearest-exact", "linear": "linear", "bilinear": "linear",
         "trilinear": "linear", "bicubic": "cubic"}  # fmt: skip
NEEDS = {"linear": 3, "bilinear": 4, "bicubic": 4, "trilinear": 5}
AREA = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)


def _per_dim(input, values, n: int, what: str, kinds: tuple) -> tuple:
    values = tuple(values) if isinstance(values, (list, tuple)) else (values,) * n
    if len(values) != n:
        raise ValueError(
            f"Input and {what} must have the same number of spatial dimensions, but got input "
            "with spatial "
            f"dimensions of {list(input.shape[2:])} and {what} of {values}. Please provide "
            "input tensor in "
            f"(N, C, d1, d2, ...,dK) format and {what} in (o1, o2, ...,oK) format."
        )
    for v in values:
        if isinstance(v, bool) or not isinstance(v, kinds):
            raise TypeError(f"interpolate: got {what} of type {type(v).__name__}; expected numbers")
    return values


def _target(input, size, scale_factor, recompute) -> tuple[tuple[int, ...], tuple]:
    """The sizes asked for, and the scale of each dimension where it counts."""
    n = input.ndim - 2
    if size is not None and scale_factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    if size is None and scale_factor is None:
        raise ValueError("either size or scale_factor should be defined")
    if size is not None:
        if recompute:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        return _per_dim(input, size, n, "output size", (int,)), (None,) * n
    scales = _per_dim(input, scale_factor, n, "scale_factor", (int, float))
    sizes = tuple(math.floor(float(m) * s) for m, s in zip(input.shape[2:], scales, strict=True))
    return sizes, (None,) * n if recompute else tuple(float(s) if s > 0 else None for s in scales)


def _check(input, size, mode: str, antialias: bool) -> None:
    if input.ndim not in (3, 4, 5) or mode not in (*MODES, "area"):
        raise NotImplementedError(
            f"interpolate: Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for "
            "the modes: "
            f"nearest | linear | bilinear | bicubic | trilinear | area | nearest-exact (got {mode})"
        )
    if NEEDS.get(mode, input.ndim) != input.ndim:
        raise NotImplementedError(
            f"Got {input.ndim}D input, but {mode} mode needs {NEEDS[mode]}D input"
        )
    if antialias and (mode not in ("bilinear", "bicubic") or input.ndim != 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear and bicubic modes and requires a 4-D "
            "tensor as input"
        )
    if any(n <= 0 for n in (*input.shape[2:], *size)):
        raise RuntimeError(
            "Input and output sizes should be greater than 0, but got input "
            f"{list(input.shape[2:])} "
            f"and output {list(size)}"
        )
    if any(n == 0 for n in input.shape[1:]):
        raise RuntimeError(
            f"Non-empty {input.ndim}D data tensor expected but got a tensor with sizes "
            f"{list(input.shape)}"
        )
    if input.dtype.kind != "f" and input.dtype is not uint8:
        raise NotImplementedError(
            f"interpolate: got dtype {input.dtype}; expected a floating dtype or uint8"
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
    """The spatial dimensions resized to `size`, or by `scale_factor`.

    shape:  [N, C, *source] -> [N, C, *size], one to three spatial dimensions
    errors: ValueError for options that contradict; NotImplementedError for a mode that the rank does not have
    source: Keys 1981, IEEE Trans. ASSP 29(6) (bicubic)
    """
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: "
                "linear | bilinear | bicubic | trilinear"
            )
    sizes, scales = _target(
        input, size, scale_factor, recompute_scale_factor or (mode == "area" and size is None)
    )
    _check(input, sizes, mode, antialias)
    if mode == "area":
        return AREA[input.ndim - 3](input, sizes)
    # as PyTorch: the nearest of an image whose size stays is the image, whatever the scale
    if mode == "nearest" and input.ndim == 4:
        kept = zip(input.shape[2:], sizes, scales, strict=True)
        scales = tuple(None if n == m else s for n, m, s in kept)
    source = tuple(int(n) for n in input.shape[2:])
    flags = (bool(align_corners), bool(antialias), False)
    return Resample(MODES[mode], source, sizes, scales, *flags)(input)


def _warn_old(name: str) -> None:
    text = f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead."
    warnings.warn(text, stacklevel=3)


def upsample(input, size=None, scale_factor=None, mode="nearest", align_corners=None):
    """`interpolate` under its old name."""
    _warn_old("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input, size=None, scale_factor=None):
    """Nearest neighbours."""
    _warn_old("upsample_nearest")
    return interpolate(input, size, scale_factor, "nearest")


def upsample_bilinear(input, size=None, scale_factor=None):
    """Bilinear, with the corners aligned."""
    _warn_old("upsample_bilinear")
    return interpolate(input, size, scale_factor, "bilinear", True)
