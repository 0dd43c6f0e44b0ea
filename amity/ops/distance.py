"""Distances between the rows of two sets."""

from __future__ import annotations

import math

from amity.core.shape import broadcast_shapes

from .elementwise import ABS, SIGN
from .matmul import Matmul
from .record import ErrorSample, Sample, composite
from .reduce import SUM, Amax
from .select import WHERE

F = "f"
MODES = (
    "use_mm_for_euclid_dist_if_necessary",
    "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
)
MANY = 25  # rows from which on a product is cheaper than differences


def _differences(x1, x2):
    return x1.unsqueeze(-2) - x2.unsqueeze(-3)


def _over(g, y, power=1):
    """g / y^power, and 0 where the distance is."""
    return WHERE(y == 0, 0.0, g / (y if power == 1 else y**power))


def _distance_grad(g, x1, x2, p, y):
    d = _differences(x1, x2)
    g, y = g.unsqueeze(-1), y.unsqueeze(-1)
    if p == 0:
        share = d * 0 * g
    elif p == 1:
        share = SIGN(d) * g
    elif p == 2:
        share = d * _over(g, y)
    elif p == math.inf:
        share = SIGN(d) * WHERE(ABS(d) == y, g, 0.0)
    else:
        share = WHERE(d == 0, 0.0, SIGN(d) * ABS(d) ** (p - 1)) * _over(g, y, p - 1)
    n = share.ndim
    return SUM(share, (n - 2,), False), -SUM(share, (n - 3,), False)


@composite(
    grad=_distance_grad,
    samples=(
        Sample(((3, 4), F), ((2, 4), F), p=1.0),
        Sample(((3, 4), F), ((2, 4), F), p=2.0),
        Sample(((2, 3, 4), F), ((2, 2, 4), F), p=3.0),
        Sample(((3, 4), F), ((2, 4), F), p=math.inf),
        Sample(((3, 4), F), ((2, 4), F), p=0.0),
        Sample(((3, 0), F), ((2, 0), F), p=1.0),
    ),
    errors=(ErrorSample(((3, 4), F), ((2, 3), F), p=2.0, error=RuntimeError, says="broadcast"),),
)
def _distance(x1, x2, p):
    d = _differences(x1, x2)
    last = (d.ndim - 1,)
    if p == 0:
        return SUM(d != 0, last, False).to(x1.dtype)
    if p == 2:
        return SUM(d * d, last, False).sqrt()
    if p == 1:
        return SUM(ABS(d), last, False)
    if p == math.inf:
        return Amax(last, False)(ABS(d))
    return SUM(ABS(d) ** p, last, False) ** (1 / p)


def _euclidean_grad(g, x1, x2, y):
    share = _over(g, y)
    n = share.ndim
    g1 = x1 * SUM(share, (n - 1,), True) - Matmul()(share, x2)
    g2 = x2 * SUM(share, (n - 2,), False).unsqueeze(-1) - Matmul()(share.transpose(-2, -1), x1)
    return g1, g2


@composite(
    grad=_euclidean_grad,
    samples=(Sample(((3, 4), F), ((2, 4), F)),),
    errors=(ErrorSample(((3, 4), F), ((2, 3), F), error=RuntimeError, says="multiplied"),),
)
def _euclidean(x1, x2):
    """By |a|^2 + |b|^2 - 2 ab: one product, and less exact where rows are close."""
    last = (x1.ndim - 1,)
    squares = SUM(x1 * x1, last, True) + SUM(x2 * x2, last, False).unsqueeze(-2)
    return (squares - Matmul()(x1, x2.transpose(-2, -1)) * 2).clamp(min=0).sqrt()


def _check(x1, x2, p: float, compute_mode: str) -> None:
    if compute_mode not in MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    for name, x in (("X1", x1), ("X2", x2)):
        if x.dtype.kind != "f":
            raise RuntimeError(f"cdist only supports floating-point dtypes, {name} got: {x.dtype}")
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if x1.dtype is not x2.dtype:
        raise RuntimeError(f"cdist: expected scalar type {x1.dtype} but found {x2.dtype}")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")


def cdist(x1, x2, p=2.0, compute_mode=MODES[0]):
    """The p-distances of every row of `x1` to every row of `x2`.

    shape:  x1 [..., P, M], x2 [..., R, M] -> [..., P, R]; batches broadcast
    errors: RuntimeError for ranks, dtypes or columns that do not fit; ValueError for another mode
    """
    _check(x1, x2, p, compute_mode)
    batch = broadcast_shapes("cdist", x1.shape[:-2], x2.shape[:-2])
    x1, x2 = x1.expand((*batch, *x1.shape[-2:])), x2.expand((*batch, *x2.shape[-2:]))
    rows, others, columns = x1.shape[-2], x2.shape[-2], x1.shape[-1]
    if columns == 0 or rows * others == 0:
        return (x1.sum(-1).unsqueeze(-1) + x2.sum(-1).unsqueeze(-2)) * 0
    wants_product = compute_mode == MODES[1] or (
        compute_mode == MODES[0] and max(rows, others) > MANY
    )
    if p == 2 and wants_product:
        return _euclidean(x1, x2)
    return _distance(x1, x2, float(p))
