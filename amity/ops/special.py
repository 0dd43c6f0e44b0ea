"""Transcendental and special functions, of one element but for zeta."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from .elementwise import COS, EXP, INSIDE, POSITIVE, SIN, UNARY, _math, costly
from .record import INPLACE, METHODS, Sample, deliver, method, pointwise, publish
from .select import WHERE

F, UNIT = "f", (Sample(((3, 4), "u")), Sample(((), "u")))
ROOT_PI = math.sqrt(math.pi)


def each(f: Callable[[float], float]) -> Callable[[np.ndarray], np.ndarray]:
    """A function of Python floats over arrays, in double precision."""

    def over(x: np.ndarray) -> np.ndarray:
        out = np.array([f(float(v)) for v in np.ravel(x)], np.float64).reshape(np.shape(x))
        return out.astype(x.dtype) if np.asarray(x).dtype.kind == "f" else out

    return over


EXP2, exp2 = _math(
    "exp2", np.exp2, lambda g, y: g * y * math.log(2), doc="2 to the power of each element."
)
LOG2, log2 = _math(
    "log2",
    np.log2,
    lambda g, x: g / (x * math.log(2)),
    doc="The logarithm to base 2.",
    samples=POSITIVE,
)
LOG10, log10 = _math(
    "log10",
    np.log10,
    lambda g, x: g / (x * math.log(10)),
    doc="The logarithm to base 10.",
    samples=POSITIVE,
)
TAN, tan = _math("tan", np.tan, lambda g, y: g * (1 + y * y), doc="The tangent.")
ASIN, asin = _math(
    "asin",
    np.arcsin,
    lambda g, x: g * (1 - x * x).rsqrt(),
    doc="The angle whose sine it is.",
    aliases=("arcsin",),
    samples=INSIDE,
)
ACOS, acos = _math(
    "acos",
    np.arccos,
    lambda g, x: -g * (1 - x * x).rsqrt(),
    doc="The angle whose cosine it is.",
    aliases=("arccos",),
    samples=INSIDE,
)
ATAN, atan = _math(
    "atan",
    np.arctan,
    lambda g, x: g / (1 + x * x),
    doc="The angle whose tangent it is.",
    aliases=("arctan",),
)
SINH, sinh = _math("sinh", np.sinh, lambda g, x: g * COSH(x), doc="The hyperbolic sine.")
COSH, cosh = _math("cosh", np.cosh, lambda g, x: g * SINH(x), doc="The hyperbolic cosine.")
ASINH, asinh = _math(
    "asinh",
    np.arcsinh,
    lambda g, x: g * (x * x + 1).rsqrt(),
    doc="The inverse hyperbolic sine.",
    aliases=("arcsinh",),
)
ACOSH, acosh = _math(
    "acosh",
    np.arccosh,
    lambda g, x: g * (x * x - 1).rsqrt(),
    doc="The inverse hyperbolic cosine.",
    aliases=("arccosh",),
    samples=(Sample(((3, 4), "g")), Sample(((), "g"))),
)
ATANH, atanh = _math(
    "atanh",
    np.arctanh,
    lambda g, x: g / (1 - x * x),
    doc="The inverse hyperbolic tangent.",
    aliases=("arctanh",),
    samples=INSIDE,
)
arcsin, arccos, arctan, arcsinh, arccosh, arctanh = asin, acos, atan, asinh, acosh, atanh
ANGLE = pointwise(
    "angle",
    lambda x: np.where(np.isnan(x), np.nan, np.where(x < 0, np.pi, 0.0)).astype(
        np.result_type(x, np.float32)
    ),
    lambda k, x: k.select(
        x.ne(x), x, k.select(x < 0, k.const(math.pi, x.dtype), k.const(0.0, x.dtype))
    ),
    lambda g: g * 0,
    rule="float",
    samples=UNARY,
)
angle = publish(
    ANGLE, "The argument as a complex number: pi where negative, else 0.", inplace=False
)
ERFC, erfc = _math(
    "erfc",
    each(math.erfc),
    lambda g, x: g * EXP(-x * x) * (-2 / ROOT_PI),
    doc="1 - erf(x), exact for large x.",
)


def _erfinv(y: float) -> float:
    """By Newton's method on erf."""
    if abs(y) >= 1 or y != y:
        return math.copysign(math.inf, y) if abs(y) == 1 else math.nan
    a = math.log1p(-y * y)
    b = 2 / (math.pi * 0.147) + a / 2
    x = math.copysign(math.sqrt(math.sqrt(b * b - a / 0.147) - b), y)
    for _ in range(4):
        x -= (math.erf(x) - y) / (2 / ROOT_PI * math.exp(-x * x))
    return x


ERFINV, erfinv = _math(
    "erfinv",
    each(_erfinv),
    lambda g, y: g * EXP(y * y) * (ROOT_PI / 2),
    doc="The inverse of erf.",
    samples=INSIDE,
)


def _digamma(x: float) -> float:
    """By recurrence to x >= 10, then the asymptotic series."""
    if x == 0:
        return math.copysign(math.inf, -x)
    if x < 0:
        return math.nan if x == math.floor(x) else _digamma(1 - x) - math.pi / math.tan(math.pi * x)
    out = 0.0
    while x < 10:
        out -= 1 / x
        x += 1
    s = 1 / (x * x)
    return (
        out
        + math.log(x)
        - 0.5 / x
        - s * (1 / 12 - s * (1 / 120 - s * (1 / 252 - s * (1 / 240 - s / 132))))
    )


def _lgamma(x: float) -> float:
    if math.isinf(x) or (x <= 0 and x == math.floor(x)):
        return math.inf
    return math.lgamma(x)


LGAMMA, lgamma = _math(
    "lgamma", each(_lgamma), lambda g, x: g * DIGAMMA(x), doc="The logarithm of |gamma(x)|."
)
DIGAMMA, digamma = _math(
    "digamma", each(_digamma), lambda g, x: g * polygamma(1, x), doc="The derivative of lgamma."
)


def _zeta(s: float, q: float) -> float:
    """Hurwitz' zeta function by Euler and Maclaurin."""
    if s == 1 or q <= 0:
        return math.inf if s == 1 or q == math.floor(q) else math.nan
    n = 12
    total = sum((q + i) ** -s for i in range(n))
    x = q + n
    total += x ** (1 - s) / (s - 1) + 0.5 * x**-s
    term, b = s * x ** (-s - 1), (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160)
    for i, c in enumerate(b):
        total += c * term
        term *= (s + 2 * i + 1) * (s + 2 * i + 2) / (x * x)
    return total


ZETA = costly(
    pointwise(
        "zeta",
        lambda x, z: np.vectorize(_zeta, otypes=[np.float64])(x, z).astype(np.result_type(x, z)),
        lambda k, x, z: k.math("zeta", x, z),
        lambda g, x, z: (g * math.nan, -x * ZETA(x + 1, z) * g),  # no derivative by the exponent
        rule="float",
        samples=(Sample(2.5, ((3, 4), "p")), Sample(3.0, ((), "p"))),
    )
)
zeta = publish(ZETA, "Hurwitz' zeta function.")


@method(inplace=True)
def polygamma(n, input=None, *, out=None):
    """The n-th derivative of digamma; as a method `x.polygamma(n)`."""
    if not isinstance(n, int):
        n, input = input, n
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0:
        return deliver(DIGAMMA(input), out)
    x = input if input.dtype.kind == "f" else input.float()
    sign = 1.0 if n % 2 else -1.0
    return deliver(ZETA(float(n + 1), x) * (sign * math.factorial(n)), out)


@method
def mvlgamma(input, p):
    """The multivariate log-gamma function of dimension p."""
    if p < 1:
        raise RuntimeError("p has to be greater than or equal to 1")
    x = input if input.dtype.kind == "f" else input.float()
    total = p * (p - 1) / 4 * math.log(math.pi)
    for i in range(p):
        total = LGAMMA(x - i / 2) + total
    return total


def _i1(x: float) -> float:
    term = total = x / 2
    k = 1
    while abs(term) > 1e-17 * abs(total) and k < 500:
        term *= (x * x / 4) / (k * (k + 1))
        total += term
        k += 1
    return total


I0, i0 = _math(
    "i0",
    lambda x: np.i0(x.astype(np.float64)).reshape(x.shape).astype(x.dtype),
    lambda g, x: g * I1(x),
    doc="The modified Bessel function of order 0.",
)
I0E, i0e = _math("i0e", lambda x: (np.i0(x.astype(np.float64)).reshape(x.shape) * np.exp(-np.abs(x))).astype(x.dtype),
                 lambda g, x, y: g * (I1E(x) - x.sign() * y), doc="exp(-|x|) i0(x).")  # fmt: skip
I1, i1 = _math(
    "i1",
    each(_i1),
    lambda g, x, y: g * WHERE(x == 0, 0.5, I0(x) - y / WHERE(x == 0, 1.0, x)),
    doc="The modified Bessel function of order 1.",
)
I1E, i1e = _math(
    "i1e",
    lambda x: (each(_i1)(x) * np.exp(-np.abs(x))).astype(x.dtype),
    lambda g, x, y: g * WHERE(x == 0, 0.5, I0E(x) - y * (x.sign() + 1 / WHERE(x == 0, 1.0, x))),
    doc="exp(-|x|) i1(x).",
)
NDTR, ndtr = _math(
    "ndtr",
    each(lambda v: 0.5 * math.erfc(-v / math.sqrt(2))),
    lambda g, x: g * EXP(-0.5 * x * x) / math.sqrt(2 * math.pi),
    doc="The normal distribution function.",
)
NDTRI, ndtri = _math(
    "ndtri",
    each(lambda p: math.sqrt(2) * _erfinv(2 * p - 1)),
    lambda g, y: g * EXP(0.5 * y * y) * math.sqrt(2 * math.pi),
    doc="The inverse of the normal distribution function.",
    samples=UNIT,
)
LOG_NDTR, log_ndtr = _math(
    "log_ndtr",
    each(lambda v: math.log(0.5 * math.erfc(-v / math.sqrt(2)))),
    lambda g, x, y: g * EXP(-0.5 * x * x - y) / math.sqrt(2 * math.pi),
    doc="The logarithm of ndtr.",
)
for _name in ("i0e", "i1", "i1e", "ndtr", "ndtri", "log_ndtr", "zeta"):
    METHODS.pop(_name), INPLACE.pop(_name, None)


def _sinc(k, x):
    angle = x * math.pi
    safe = k.select(x.eq(0), 1, angle)
    return k.select(x.eq(0), 1, k.math("sin", safe) / safe)


SINC = pointwise(
    "sinc",
    np.sinc,
    _sinc,
    lambda g, x: g * WHERE(x == 0, 0.0, _sinc_slope(WHERE(x == 0, 1.0, x))),
    rule="float",
    samples=UNARY,
)
sinc = publish(SINC, "sin(pi x) / (pi x), 1 at 0.")


def _sinc_slope(x):
    a = x * math.pi
    return (COS(a) * a - SIN(a)) / (a * x)


def _logit(k, x):
    return k.math("log", x / (1 - x))


LOGIT = costly(
    pointwise(
        "logit_of",
        lambda x: np.log(x / (1 - x)),
        _logit,
        lambda g, x: g / WHERE((x < 0).logical_or(x > 1), math.nan, x * (1 - x)),
        rule="float",
        samples=UNIT,
    )
)


@method(inplace=True)
def logit(input, eps=None, *, out=None):
    """log(x / (1 - x)), with x first cut to [eps, 1 - eps] if eps is given."""
    x = input if eps is None else input.clamp(eps, 1 - eps)
    return deliver(LOGIT(x), out)


deg2rad = publish(
    pointwise(
        "deg2rad",
        np.deg2rad,
        lambda k, x: x * (math.pi / 180),
        lambda g: g * (math.pi / 180),
        rule="float",
        samples=UNARY,
    ),
    "Degrees as radians.",
)
rad2deg = publish(
    pointwise(
        "rad2deg",
        np.rad2deg,
        lambda k, x: x * (180 / math.pi),
        lambda g: g * (180 / math.pi),
        rule="float",
        samples=UNARY,
    ),
    "Radians as degrees.",
)


def entr(input, *, out=None):
    """-x log(x): 0 at 0, -inf below."""
    x = input if input.dtype.kind == "f" else input.float()
    inside = WHERE(x > 0, x, 1.0)
    y = WHERE(x > 0, -inside * inside.log(), WHERE(x == 0, 0.0, -math.inf))
    return deliver(WHERE(x != x, x, y), out)
