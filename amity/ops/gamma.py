"""The incomplete gamma functions.

source: Abramowitz & Stegun 1964, 6.5.29 (the series) and 6.5.31 (the continued fraction)
"""

from __future__ import annotations

import math

import numpy as np

from amity.ir.graph import Spec

from .arguments import check_tensor, deliver
from .elementwise import EXP, LOG
from .matmul import common_dtype
from .rearrange import broadcast_tensors
from .record import ErrorSample, Op, Sample, method, unlike
from .special import LGAMMA

STEPS = 10_000
SMALL = 1e-300


def _outside(a: float, x: float) -> float | None:
    """The lower function where no sum is needed; None elsewhere."""
    if not (a >= 0 and x >= 0) or (a == 0 and x == 0) or (math.isinf(a) and math.isinf(x)):
        return math.nan
    if a == 0 or math.isinf(x):
        return 1.0
    return 0.0 if x == 0 or math.isinf(a) else None


def _scale(a: float, x: float) -> float:
    return math.exp(a * math.log(x) - x - math.lgamma(a))


def _series(a: float, x: float) -> float:
    """The lower function, for x up to about a."""
    term = total = 1 / a
    for n in range(1, STEPS):
        term *= x / (a + n)
        total += term
        if term < total * 1e-17:
            break
    return total * _scale(a, x)


def _fraction(a: float, x: float) -> float:
    """The upper function, for larger x, by Lentz's way of evaluating continued fractions."""
    b = x + 1 - a
    c, d = 1 / SMALL, 1 / b
    out = d
    for n in range(1, STEPS):
        top = -n * (n - a)
        b += 2
        d = top * d + b
        c = b + top / c
        d, c = 1 / (d or SMALL), c or SMALL
        out *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return out * _scale(a, x)


def _lower(a: float, x: float) -> float:
    known = _outside(a, x)
    if known is not None:
        return known
    return _series(a, x) if x < a + 1 else 1 - _fraction(a, x)


def _upper(a: float, x: float) -> float:
    known = _outside(a, x)
    if known is not None:
        return 1 - known
    return 1 - _series(a, x) if x < a + 1 else _fraction(a, x)


class IncompleteGamma(Op):
    """The share of the gamma function's integral below z, or above; `x` and `z` of one shape."""

    name = "incomplete_gamma"
    carries = "keep"
    kind = "host"
    is_lower: bool
    samples = (
        Sample(np.full((3, 4), 2.5), ((3, 4), "p"), is_lower=True, rough="none by the first input"),
        Sample(np.array(0.5), ((), "p"), is_lower=False, rough="none by the first input"),
    )
    errors = (
        ErrorSample(
            ((2,), "i"), ((2,), "i"), is_lower=True, error=NotImplementedError, says="float"
        ),
    )

    def infer(self, x: Spec, z: Spec) -> Spec:
        if x.dtype.kind != "f":
            raise unlike(self.name, x.dtype, "f")
        return x

    def reference(self, x, z):
        whole = np.vectorize(_lower if self.is_lower else _upper, otypes=[np.float64])
        return whole(x, z).astype(x.dtype)

    def grad(self, g, x, z, needs):
        if needs[0]:
            raise NotImplementedError(
                "igamma: the derivative for 'input' is not implemented; expected one that needs no "
                "gradient"
            )
        slope = EXP((x - 1) * LOG(z) - z - LGAMMA(x))
        return None, g * (slope if self.is_lower else -slope)


def _incomplete(name, input, other, is_lower, out):
    check_tensor(name, other, "other")
    dtype = common_dtype(input, other)
    x, z = broadcast_tensors(input.to(dtype), other.to(dtype))
    return deliver(IncompleteGamma(is_lower)(x, z), out)


@method(inplace=True)
def igamma(input, other, *, out=None):
    """The lower incomplete gamma function of (input, other), regularised.

    dtype:  floating, promoted
    errors: NotImplementedError for integers, and for a gradient by `input`
    """
    return _incomplete("igamma", input, other, True, out)


@method(inplace=True)
def igammac(input, other, *, out=None):
    """The upper incomplete gamma function of (input, other), regularised."""
    return _incomplete("igammac", input, other, False, out)
