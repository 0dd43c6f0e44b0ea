"""Functions of two elements: angles, lengths, signs and logarithms of sums; mantissas and exponents."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import float64, int16, int32
from amity.ir.graph import Spec

from .elementwise import EXP, LOG, LOG1P, LOGICAL_AND, costly
from .matmul import common_dtype
from .rearrange import broadcast_tensors
from .record import METHODS, ErrorSample, Op, Sample, deliver, method, pointwise, publish
from .select import WHERE
from .special import EXP2
from .structs import ReturnTypes

F = "f"
PAIR = (Sample(((3, 4), F), ((3, 4), F)), Sample(((3, 1), F), ((4,), F)))


def _two(name: str, function, grad, doc: str, aliases=(), inplace=True, **more):
    op = costly(
        pointwise(name, function, lambda k, x, z: k.math(name, x, z), grad, samples=PAIR, **more)
    )
    return op, publish(op, doc, *aliases, inplace=inplace)


ATAN2, atan2 = _two(
    "atan2",
    np.arctan2,
    lambda g, x, z: (g * z / (x * x + z * z), -g * x / (x * x + z * z)),
    "The angle of the point (other, input).",
    ("arctan2",),
    rule="float",
)
arctan2 = atan2
HYPOT, hypot = _two(
    "hypot", np.hypot, lambda g, x, z, y: (g * x / y, g * z / y), "sqrt(x^2 + y^2).", takes="f"
)
COPYSIGN, copysign = _two(
    "copysign",
    np.copysign,
    lambda g, x, z: (g * WHERE(x == 0, 0.0, COPYSIGN(1.0, z) * x.sign()), g * 0),
    "The magnitude of x with the sign of y.",
    rule="float",
)
NEXTAFTER, _nextafter = _two(
    "nextafter", np.nextafter, None, "", takes="f", no_gradient="steps of the dtype have no slope"
)


@method(inplace=True)
def nextafter(input, other, *, out=None):
    """The next number after x towards y, in the dtype of both."""
    dtype = common_dtype(input, other)
    if dtype.kind != "f" or dtype.itemsize != 2:
        return deliver(NEXTAFTER(input, other), out)
    x, z = broadcast_tensors(input.to(dtype), other.to(dtype))
    bits = x.contiguous().view(int16)
    away = (x > 0).logical_xor(x > z)  # from zero: the bits of a float count its magnitude
    step = WHERE(away, bits + 1, bits - 1)
    tiny = WHERE(z > 0, 1, -(2**15) + 1).to(int16)  # the smallest number of either sign
    y = WHERE(x == 0, tiny, step).to(int16).view(dtype)
    return deliver(WHERE(x == z, z, WHERE((x != x).logical_or(z != z), x + z, y)), out)


def _logaddexp(k, x, z):
    low, high = k.min(x, z), k.select((x > z) | x.ne(x), x, z)
    apart = k.select(low.eq(high), 0, low - high)
    return high + k.math("log1p", k.math("exp", apart))


LOGADDEXP = costly(
    pointwise(
        "logaddexp",
        np.logaddexp,
        _logaddexp,
        lambda g, x, z, y: (g * EXP(x - y), g * EXP(z - y)),
        takes="f",
        samples=PAIR,
    )
)
logaddexp = publish(LOGADDEXP, "log(exp(x) + exp(y)) without overflow.", inplace=False)


@method
def logaddexp2(input, other, *, out=None):
    """log2(2^x + 2^y) without overflow.

    dtype: floats only
    """
    if common_dtype(input, other).kind != "f":
        raise NotImplementedError('"logaddexp2" not implemented for integers; expected floats')
    ln2 = math.log(2)
    return deliver(LOGADDEXP(input * ln2, other * ln2) / ln2, out)


def _xlogy(k, x, z):
    y = x * k.math("log", z)
    return k.select(z.ne(z), z, k.select(x.eq(0), 0, y))


def _xlogy_numpy(x, z):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.isnan(z), z, np.where(x == 0, 0.0, x * np.log(z))).astype(
            np.result_type(x, z, np.float32)
        )


XLOGY = costly(
    pointwise(
        "xlogy",
        _xlogy_numpy,
        _xlogy,
        lambda g, x, z: (g * WHERE(LOGICAL_AND(x == 0, z <= 0), 0.0, LOG(z)), g * x / z),
        rule="float",
        samples=(Sample(((3, 4), F), ((3, 4), "p")),),
    )
)
xlogy = publish(XLOGY, "x log(y), 0 where x is 0.")


@method
def xlog1py(input, other, *, out=None):
    """x log(1 + y), 0 where x is 0."""
    y = WHERE(input == 0, 0.0, input * LOG1P(other))
    return deliver(y, out)


del METHODS["xlog1py"]


@method(inplace=True)
def ldexp(input, other, *, out=None):
    """x * 2^y."""
    return deliver(input * EXP2(other), out)


class Frexp(Op):
    """Mantissas in [0.5, 1) and exponents."""

    name = "frexp"
    carries = "align"
    results = 2
    samples = (Sample(((3, 4), F)),)
    errors = (ErrorSample(((3,), "i"), error=RuntimeError, says="expected a floating dtype"),)

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        if x.dtype.kind != "f":
            raise RuntimeError(f"frexp: got {x.dtype}; expected a floating dtype")
        return x, Spec(x.shape, int32)

    def reference(self, x):
        wide = x.astype(np.float32) if x.dtype.itemsize == 2 else x
        mantissa, exponent = np.frexp(wide)
        return mantissa.astype(x.dtype), exponent.astype(np.int32)

    def grad(self, gs, like_x, result1):
        return None if gs[0] is None else gs[0] * EXP2(-result1.to(gs[0].dtype))


@method
def frexp(input):
    """Mantissas in [0.5, 1) and exponents."""
    mantissa, exponent = Frexp()(input)
    return ReturnTypes("frexp", mantissa=mantissa, exponent=exponent)


@method
def float_power(input, exponent, *, out=None):
    """The power in double precision."""
    a = input.to(float64) if hasattr(input, "layout") else input
    b = exponent.to(float64) if hasattr(exponent, "layout") else exponent
    return deliver(a**b, out)
