"""Dropout: elements, or whole channels, set to 0 at random and the rest scaled up."""

from __future__ import annotations

import numpy as np

from .record import ErrorSample, Sample, composite

F = "f"
NOISE = np.linspace(0.02, 0.97, 12, dtype=np.float32).reshape(3, 4)
UNLIKE = (ErrorSample(((2, 3), F), NOISE, 0.5, 2.0, error=RuntimeError, says="broadcast"),)


def _check(p: float) -> None:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


@composite(
    grad=lambda g, noise, p, scale: (g * (noise >= p) * scale, None),
    samples=(Sample(((3, 4), F), NOISE, 0.5, 2.0), Sample(((2, 3, 4), F), NOISE[:, :1], 0.3, 1.4)),
    errors=UNLIKE,
)
def _dropout(input, noise, p, scale):
    return input * (noise >= p) * scale


def _dropped(input, p: float, shape, inplace: bool):
    if p == 1:
        y = input * 0
    else:
        noise = input.detach()._noise(shape)
        y = _dropout(input, noise, float(p), 1.0 / (1.0 - p))
    return input._become(y) if inplace else y


def dropout(input, p=0.5, training=True, inplace=False):
    """Elements set to 0 with probability p in training, the others scaled by 1 / (1 - p).

    errors: ValueError for p outside [0, 1]
    source: Srivastava et al. 2014, JMLR 15
    """
    _check(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    return _dropped(input, p, tuple(input.shape), inplace)


def _channels(name: str, input, spatial: int, p, training, inplace):
    _check(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    if input.ndim not in (spatial + 1, spatial + 2):
        raise RuntimeError(
            f"{name}: Expected {spatial + 1}D or {spatial + 2}D input, but received a "
            f"{input.ndim}D input"
        )
    lead = input.ndim - spatial
    return _dropped(input, p, (*input.shape[:lead], *(1,) * spatial), inplace)


def dropout1d(input, p=0.5, training=True, inplace=False):
    """Whole channels [N, C, L] set to 0."""
    return _channels("dropout1d", input, 1, p, training, inplace)


def dropout2d(input, p=0.5, training=True, inplace=False):
    """Whole channels [N, C, H, W] set to 0."""
    return _channels("dropout2d", input, 2, p, training, inplace)


def dropout3d(input, p=0.5, training=True, inplace=False):
    """Whole channels [N, C, D, H, W] set to 0."""
    return _channels("dropout3d", input, 3, p, training, inplace)


ALPHA = -1.7580993408473766  # what selu gives far below 0


@composite(
    grad=lambda g, noise, p, a, b: (g * (noise >= p) * a, None),
    samples=(Sample(((3, 4), F), NOISE, 0.5, 0.8, 0.7),),
    errors=(ErrorSample(((2, 3), F), NOISE, 0.5, 0.8, 0.7, error=RuntimeError, says="broadcast"),),
)
def _alpha_dropout(input, noise, p, a, b):
    kept = noise >= p
    return (input * kept + ALPHA * kept.logical_not()) * a + b


def _alpha(input, p, training, inplace, shape):
    _check(p)
    if not training or p == 0 or input.numel() == 0:
        return input
    if p == 1:
        return input._become(input * 0) if inplace else input * 0
    a = ((1 - p) * (1 + p * ALPHA * ALPHA)) ** -0.5
    y = _alpha_dropout(input, input.detach()._noise(shape), float(p), a, -a * p * ALPHA)
    return input._become(y) if inplace else y


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Dropout that keeps mean and variance of self-normalising networks."""
    return _alpha(input, p, training, inplace, tuple(input.shape))


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    """Alpha dropout of whole channels."""
    return _alpha(input, p, training, inplace, (*input.shape[:2], *(1,) * (input.ndim - 2)))
