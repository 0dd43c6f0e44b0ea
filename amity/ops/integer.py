"""Bits, rounding, limits and tests of elements."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import bool_, finfo
from amity.ir.graph import Spec

from .arguments import fit_number
from .elementwise import ABS, UNARY, is_float
from .record import (
    INPLACE,
    METHODS,
    NO_TENSOR,
    ErrorSample,
    Pointwise,
    Sample,
    composite,
    deliver,
    method,
    pointwise,
    publish,
)
from .select import WHERE

F = "f"
INTS = (Sample(((3, 4), "i"), ((3, 4), "i")), Sample(((3, 1), "i"), ((4,), "i")))


def _bits(name: str, function, code, doc: str, takes="bui", samples=INTS):
    op = pointwise(name, function, code, takes=takes, samples=samples)
    return op, publish(op, doc)


AND, bitwise_and = _bits("bitwise_and", np.bitwise_and, lambda k, x, z: x & z, "Bits set in both.")
OR, bitwise_or = _bits(
    "bitwise_or", np.bitwise_or, lambda k, x, z: x | z, "Bits set in at least one."
)
XOR, bitwise_xor = _bits(
    "bitwise_xor", np.bitwise_xor, lambda k, x, z: x ^ z, "Bits set in exactly one."
)
NOT, bitwise_not = _bits(
    "bitwise_not",
    np.invert,
    lambda k, x: ~x,
    "All bits turned over.",
    samples=(Sample(((3, 4), "i")),),
)


def _shift(k, x, z, op):
    """A count that is negative or too large shifts everything out; hardware would take it modulo."""
    bits = {"u8": 8, "i8": 8, "i16": 16, "i32": 32, "i64": 64}[x.dtype]
    out = (z < 0) | (z >= bits) if x.dtype[0] != "u" else z >= bits
    safe = k.select(out, 0, z)
    if op == "shl":
        return k.select(out, 0, x << safe)
    gone = 0 if x.dtype[0] == "u" else x >> (bits - 1)
    return k.select(out, gone, x >> safe)


COUNTS = (Sample(((3, 4), "i"), np.array([0, 1, 3, 2])),)
LEFT, bitwise_left_shift = _bits(
    "bitwise_left_shift",
    np.left_shift,
    lambda k, x, z: _shift(k, x, z, "shl"),
    "Bits moved up.",
    "ui",
    COUNTS,
)
RIGHT, bitwise_right_shift = _bits(
    "bitwise_right_shift",
    np.right_shift,
    lambda k, x, z: _shift(k, x, z, "shr"),
    "Bits moved down.",
    "ui",
    COUNTS,
)


class _ByHost(Pointwise):
    """Integer functions that are never hot run in NumPy."""

    kind = "host"
    carries = "align"
    takes = "ui"
    samples = INTS
    errors = (
        ErrorSample(((2,), F), ((2,), F), error=NotImplementedError, says="not implemented for"),
        ErrorSample(((2,), "i"), ((3,), "i"), error=RuntimeError, says="broadcast"),
    )


def _alike(x, z):
    """A Python number takes the dtype of the array, its bits cut off."""
    if isinstance(x, int):
        return np.asarray(x).astype(z.dtype), z
    return (x, np.asarray(z).astype(x.dtype)) if isinstance(z, int) else (x, z)


class Gcd(_ByHost):
    """The greatest common divisor."""

    name = "gcd"
    arity = 2
    function = staticmethod(np.gcd)

    def reference(self, x, z):
        return np.gcd(*_alike(x, z))


class Lcm(_ByHost):
    """The least common multiple."""

    name = "lcm"
    arity = 2

    def reference(self, x, z):
        return np.lcm(*_alike(x, z))


gcd, lcm = (
    publish(Gcd(), "The greatest common divisor."),
    publish(Lcm(), "The least common multiple."),
)

# -- rounding


def _rounding(name: str, function, doc: str, op_name: str | None = None, aliases=()):
    op = pointwise(
        name,
        function,
        lambda k, x: k.unary(op_name or name, x) if is_float(x) else x,
        lambda g: g * 0,
        takes="uif",
        samples=UNARY,
    )
    return op, publish(op, doc, *aliases)


FLOOR, floor = _rounding("floor", np.floor, "Rounded down.")
CEIL, ceil = _rounding("ceil", np.ceil, "Rounded up.")
TRUNC, trunc = _rounding("trunc", np.trunc, "Rounded towards zero.", aliases=("fix",))
fix = trunc
ROUND = pointwise(
    "round_even",
    np.round,
    lambda k, x: k.unary("round", x) if is_float(x) else x,
    lambda g: g * 0,
    takes="uif",
    samples=UNARY,
)
FRAC = pointwise(
    "frac",
    lambda x: x - np.trunc(x),
    lambda k, x: x - k.unary("trunc", x),
    lambda g: g,
    takes="f",
    samples=UNARY,
)
frac = publish(FRAC, "What is left after rounding towards zero.")


@method(inplace=True)
def round(input, *, decimals=0, out=None):
    """Rounded to the nearest, ties to even; to a number of decimals."""
    if decimals == 0 or input.dtype.kind != "f":
        return deliver(ROUND(input), out)
    scale = 10.0 ** abs_int(decimals)
    y = ROUND(input * scale) / scale if decimals > 0 else ROUND(input / scale) * scale
    return deliver(y, out)


def abs_int(n: int) -> int:
    return -n if n < 0 else n


round.op = ROUND

# -- tests


def _test(name: str, function, code, doc: str):
    op = pointwise(name, function, code, rule="compare", samples=UNARY)
    return op, publish(op, doc, inplace=False)


def _false(k, x):
    return k.const(False, "bool", x.width)


ISNAN, isnan = _test("isnan", np.isnan, lambda k, x: x.ne(x), "Whether it is not a number.")
ISINF, isinf = _test(
    "isinf",
    np.isinf,
    lambda k, x: k.unary("abs", x).eq(math.inf) if is_float(x) else _false(k, x),
    "Whether it is infinite.",
)
ISFINITE, isfinite = _test(
    "isfinite",
    np.isfinite,
    lambda k, x: k.unary("abs", x) < math.inf if is_float(x) else ~_false(k, x),
    "Whether it is finite.",
)
ISPOSINF, isposinf = _test(
    "isposinf",
    np.isposinf,
    lambda k, x: x.eq(math.inf) if is_float(x) else _false(k, x),
    "Whether it is +inf.",
)
ISNEGINF, isneginf = _test(
    "isneginf",
    np.isneginf,
    lambda k, x: x.eq(-math.inf) if is_float(x) else _false(k, x),
    "Whether it is -inf.",
)


def _signbit(k, x):
    if is_float(x):
        return k.bitcast(x, "i32" if x.dtype == "f32" else "i64") < 0
    return _false(k, x) if x.dtype[0] in "ub" else x < 0


SIGNBIT, signbit = _test("signbit", np.signbit, _signbit, "Whether the sign is minus, also of -0.")


@method
def isreal(input):
    """True: there are no complex dtypes."""
    return (
        input == input if input.dtype.kind != "f" else (input == input).logical_or(input != input)
    )


def is_nonzero(input):
    """Whether the one element is not 0."""
    if input.numel() != 1:
        raise RuntimeError(
            f"Boolean value of Tensor with {'no' if not input.numel() else 'more than one'} "
            f"value{'s' if not input.numel() else ''} is ambiguous"
        )
    return bool(input.item())


METHODS["is_nonzero"] = is_nonzero


@method
def isclose(input, other, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether |x - y| <= atol + rtol * |y|."""
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype.name} did not match {other.dtype.name}")
    if rtol < 0 or atol < 0:
        raise RuntimeError(
            f"isclose: rtol and atol must be greater than or equal to zero, but got {rtol} and "
            f"{atol}"
        )
    close = input == other
    if input.dtype.kind == "f":
        allowed = ABS(other * rtol) + atol
        gap = ABS(input - other)
        close = close.logical_or(isfinite(gap).logical_and(gap <= allowed))
        if equal_nan:
            close = close.logical_or((input != input).logical_and(other != other))
    elif rtol or atol:
        gap = ABS((input - other).double()) if input.dtype is not bool_ else None
        close = close if gap is None else close.logical_or(gap <= ABS(other.double() * rtol) + atol)
    return close


@method
def allclose(input, other, rtol=1e-5, atol=1e-8, equal_nan=False):
    """Whether all elements are close."""
    return bool(isclose(input, other, rtol, atol, equal_nan).all())


@method
def equal(input, other):
    """Whether both have the same shape and elements."""
    if tuple(input.shape) != tuple(other.shape):
        return False
    return bool((input == other).all())


# -- limits


class Clamp(Pointwise):
    """Elements within [low, high]; either may be absent."""

    name = "clamp_between"
    has_low: bool
    has_high: bool
    samples = (
        Sample(((3, 4), F), -0.5, 0.5, has_low=True, has_high=True),
        Sample(((3, 4), F), 0.1, has_low=True, has_high=False),
        Sample(((3, 4), F), ((4,), F), has_low=False, has_high=True),
        Sample(((), F), ((2, 3), F), ((3,), F), has_low=True, has_high=True),
    )
    errors = (
        ErrorSample(
            ((2,), F), ((3,), F), has_low=True, has_high=False, error=RuntimeError, says="broadcast"
        ),
    )

    def bounds(self, values):
        it = iter(values)
        return next(it) if self.has_low else None, next(it) if self.has_high else None

    def infer(self, x: Spec, *bounds: Spec) -> Spec:
        return super().infer(x, *bounds)

    def emit(self, k, x, *values):
        low, high = self.bounds(values)
        y = x
        if low is not None:
            y = k.select((y < low) | (low.ne(low) if is_float(x) else _false(k, x)), low, y)
        if high is not None:
            y = k.select((y > high) | (high.ne(high) if is_float(x) else _false(k, x)), high, y)
        return y

    def reference(self, x, *values):
        low, high = self.bounds(values)
        y = x if low is None else np.maximum(x, low)
        return y if high is None else np.minimum(y, high)

    def grad(self, g, *inputs):
        """To the one of the three that is the result; limits that cross give the upper one."""
        x, (low, high) = inputs[0], self.bounds(inputs[1:])
        if low is None or high is None:
            outside = x > high if low is None else x < low
            return WHERE(outside, 0.0, g), WHERE(outside, g, 0.0)
        under = x < low
        over = WHERE(under, low, x) > high
        within = over.logical_not()
        return (
            WHERE(under.logical_or(over), 0.0, g),
            WHERE(under.logical_and(within), g, 0.0),
            WHERE(over, g, 0.0),
        )


@method(inplace=True)
def clamp(input, min=None, max=None, *, out=None):
    """Elements no less than min and no more than max (numbers or tensors).

    errors: RuntimeError without either
    """
    if min is None and max is None:
        raise RuntimeError("clamp: At least one of 'min' or 'max' must not be None")
    bounds = [fit_number("clamp", b, input) for b in (min, max) if b is not None]
    return deliver(Clamp(min is not None, max is not None)(input, *bounds), out)


clip = clamp
METHODS["clip"] = INPLACE["clip"] = clamp


@method(inplace=True)
def clamp_min(input, min, *, out=None):
    """Elements no less than min."""
    return clamp(input, min=min, out=out)


@method(inplace=True)
def clamp_max(input, max, *, out=None):
    """Elements no more than max."""
    return clamp(input, max=max, out=out)


def _fextreme(name, function, wins, doc):
    def code(k, x, z):
        if not is_float(x):
            return (
                (x | z if name == "fmax" else x & z)
                if x.dtype == "bool"
                else (k.max if name == "fmax" else k.min)(x, z)
            )
        return k.select(
            x.ne(x), z, k.select(z.ne(z), x, k.select(x > z if name == "fmax" else x < z, x, z))
        )

    op = pointwise(name, function, code, lambda g, x, z: (WHERE(wins(x, z), g, 0.0), WHERE(wins(x, z), 0.0, g)),
                   samples=(Sample(((3, 4), F), ((3, 4), F)),))  # fmt: skip
    return op, publish(op, doc, inplace=False)


FMAX, fmax = _fextreme(
    "fmax",
    np.fmax,
    lambda x, z: (x >= z).logical_or(z != z),
    "The larger of both, a number rather than NaN.",
)
FMIN, fmin = _fextreme(
    "fmin",
    np.fmin,
    lambda x, z: (x <= z).logical_or(z != z),
    "The smaller of both, a number rather than NaN.",
)


@composite(
    samples=(
        Sample(((3, 4), F), 1.0, 2.0, -2.0),
        Sample(np.array([math.nan, -math.inf]), 1.0, 2.0, 3.0),
    ),
    errors=NO_TENSOR,
)
def _nan_to_num(input, nan, high, low):
    y = WHERE(input != input, nan, input)
    return WHERE(y == math.inf, high, WHERE(y == -math.inf, low, y))


@method(inplace=True)
def nan_to_num(input, nan=None, posinf=None, neginf=None, *, out=None):
    """NaN replaced by a number (0), infinities by the largest and smallest finite ones."""
    if input.dtype.kind != "f":
        return deliver(input.clone(), out)
    info = finfo(input.dtype)
    high = info.max if posinf is None else posinf
    low = info.min if neginf is None else neginf
    return deliver(
        _nan_to_num(input, 0.0 if nan is None else float(nan), float(high), float(low)), out
    )


HEAVISIDE = pointwise(
    "heaviside",
    np.heaviside,
    lambda k, x, z: k.select(
        x.eq(0),
        z,
        k.select(
            x < 0,
            k.const(0, x.dtype),
            k.select(x > 0, k.const(1, x.dtype), k.const(0, x.dtype)),
        ),
    ),
    samples=(Sample(((3, 4), F), ((4,), F)), Sample(np.array([0.0, -0.0, 2.0]), ((2, 3), F))),
    no_gradient="a step has no slope",
)
heaviside = publish(HEAVISIDE, "0 below 0, 1 above, and the given value at 0.")
