"""Arithmetic, comparison and elementary functions: one output element from one of each input."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .arguments import fit_number
from .record import INPLACE, METHODS, ErrorSample, Sample, deliver, method, pointwise, publish
from .select import WHERE

F = "f"
UNARY = (Sample(((3, 4), F)), Sample(((), F)), Sample(((0, 3), F)))
POSITIVE = (Sample(((3, 4), "p")), Sample(((), "p")), Sample(((0, 3), "p")))
INSIDE = (Sample(((3, 4), "s")), Sample(((), "s")))  # in (-1, 1)
BINARY = (
    Sample(((3, 4), F), ((3, 4), F)), Sample(((3, 1), F), ((4,), F)), Sample(((), F), ((2, 3), F)),
    Sample(((2, 3), "i"), ((3,), "i")),
)  # fmt: skip


def is_float(v: Any) -> bool:
    return v.dtype in ("f32", "f64")


# -- arithmetic


def _add(k, x, z):
    return x | z if x.dtype == "bool" else x + z


def _mul(k, x, z):
    return x & z if x.dtype == "bool" else x * z


ADD = pointwise("add", np.add, _add, lambda g: (g, g), samples=BINARY)
SUB = pointwise(
    "sub", np.subtract, lambda k, x, z: x - z, lambda g: (g, -g), takes="uif", takes_each=True,
    samples=BINARY,
)  # fmt: skip
MUL = pointwise("mul", np.multiply, _mul, lambda g, x, z: (g * z, g * x), samples=BINARY)
DIV = pointwise("div", np.true_divide, lambda k, x, z: x / z,
                lambda g, x, z: (g / z, -g * x / (z * z)), rule="float", samples=BINARY)  # fmt: skip
NEG = pointwise("neg", np.negative, lambda k, x: -x, lambda g: -g, takes="uif", samples=UNARY)


def _scaled(name: str, input: Any, other: Any, alpha: Any) -> Any:
    if type(alpha) is int and alpha == 1:
        return other
    kinds = {t.dtype.kind for t in (input, other) if hasattr(t, "layout")}
    if isinstance(alpha, bool) and (kinds != {"b"} or type(other) in (int, float)):
        raise RuntimeError(
            f"{name}: got alpha={alpha}; Boolean alpha only supported for Boolean results."
        )
    if isinstance(alpha, float) and "f" not in kinds and not isinstance(other, float):
        raise RuntimeError(
            f"{name}: got alpha={alpha}; For integral input tensors, argument alpha must not be a "
            "floating point number."
        )
    return other * fit_number(name, alpha, input)


@method(inplace=True)
def add(input, other, *, alpha=1, out=None):
    """The sum `input + alpha * other`, broadcast.

    dtype:  promoted
    errors: RuntimeError if the sizes do not broadcast
    """
    return deliver(ADD(input, _scaled("add", input, other, alpha)), out)


@method(inplace=True)
def sub(input, other, *, alpha=1, out=None):
    """The difference `input - alpha * other`, broadcast.

    dtype:  promoted; not bool
    """
    return deliver(SUB(input, _scaled("sub", input, other, alpha)), out)


def rsub(input, other, *, alpha=1):
    """The difference `other - alpha * input`."""
    return SUB(other, _scaled("rsub", other, input, alpha))


mul = publish(MUL, "The product of both inputs, broadcast.", "multiply")


@method
def positive(input):
    """The tensor itself.

    errors: RuntimeError for bool
    """
    if input.dtype.kind == "b":
        raise RuntimeError(
            "positive: got amity.bool; The `+` operator, on a bool tensor is not supported."
        )
    return input


neg = publish(NEG, "Each element with its sign changed.", "negative")
add.op, sub.op = ADD, SUB
subtract, multiply, negative = sub, mul, neg
METHODS["subtract"] = INPLACE["subtract"] = sub


@method(inplace=True)
def div(input, other, *, rounding_mode=None, out=None):
    """The quotient; `rounding_mode` is None, "trunc" (towards zero) or "floor".

    dtype:  integers become floats unless a rounding mode is given
    errors: RuntimeError for an unknown rounding mode and for integers divided by zero
    """
    if rounding_mode is None:
        return deliver(DIV(input, other), out)
    if rounding_mode not in ("trunc", "floor"):
        raise RuntimeError(
            f"div: got rounding_mode {rounding_mode!r}; expected None, 'trunc' or 'floor'"
        )
    op = TRUNC_DIVIDE if rounding_mode == "trunc" else FLOOR_DIVIDE
    return deliver(op(input, other), out)


divide = true_divide = div
div.op = DIV
for _alias in ("divide", "true_divide"):
    METHODS[_alias] = INPLACE[_alias] = div


def _safe_divisor(k, x, z):
    """The divisor with 0, and -1 where it would overflow, replaced: hardware traps on both."""
    lowest = -(1 << ({"i8": 7, "i16": 15, "i32": 31, "i64": 63}.get(x.dtype, 63)))
    bad = z.eq(0) if x.dtype[0] == "u" else z.eq(0) | (z.eq(-1) & x.eq(lowest))
    return k.select(bad, 1, z)


def _trunc_divide(k, x, z):
    if is_float(x):
        return k.unary("trunc", x / z)
    return x // _safe_divisor(k, x, z)


def _floor_divide(k, x, z):
    """Floats as Python's: the quotient of what is left after taking the remainder away."""
    if is_float(x):
        rest = k.math("fmod", x, z)
        q = (x - rest) / z
        q = k.select(rest.ne(0) & (z < 0).ne(rest < 0), q - 1, q)
        floored = k.unary("floor", q)
        floored = k.select((q - floored) > 0.5, floored + 1, floored)
        floored = k.select(q.eq(0), x / z * 0, floored)  # a zero with the quotient's sign
        return k.select(z.eq(0), x / z, floored)
    q = x // _safe_divisor(k, x, z)
    if x.dtype[0] == "u":
        return q
    inexact = (q * z).ne(x)
    return k.select(inexact & ((x ^ z) < 0), q - 1, q)


def _remainder(k, x, z):
    if not is_float(x):
        d = _safe_divisor(k, x, z)
        r = x % d
        return r if x.dtype[0] == "u" else k.select(r.ne(0) & ((r ^ z) < 0), r + z, r)
    return k.math("remainder", x, z)


def _fmod(k, x, z):
    return k.math("fmod", x, z) if is_float(x) else x % _safe_divisor(k, x, z)


def _refuse_zero(self, *specs):
    """Integers cannot be divided by zero."""
    return partial(_check_divisor, self.name) if self.compute_dtype(*specs).kind != "f" else None


def _check_divisor(name: str, x: Any, z: Any) -> None:
    if hasattr(x, "layout") and x.numel() == 0:
        return
    if (z == 0) if isinstance(z, int) else bool(EQ(z, 0)._held().any()):
        raise RuntimeError(
            f"{name}: ZeroDivisionError: got a divisor of 0; expected other integers"
        )


DIVISION = (
    Sample(((3, 4), F), ((3, 4), "p")), Sample(((3, 1), F), ((4,), "p")),
    Sample(((2, 3), "i"), np.array([2, -3, 5])),
)  # fmt: skip
BY_ZERO = (ErrorSample(((2,), "i"), 0, error=RuntimeError, says="ZeroDivisionError"),)


def _division(name: str, function, code, grad):
    return pointwise(name, function, code, grad, takes="uif", check_of=_refuse_zero,
                     samples=DIVISION, errors=BY_ZERO)  # fmt: skip


def _quotient(x, z):
    if np.result_type(x, z).kind == "f":
        return np.trunc(np.divide(x, z))
    return (x - np.fmod(x, z)) // z


TRUNC_DIVIDE = _division("trunc_divide", _quotient, _trunc_divide, lambda g: (g * 0, g * 0))
FLOOR_DIVIDE = _division("floor_divide", np.floor_divide, _floor_divide, lambda g: (g * 0, g * 0))
REMAINDER = _division(
    "remainder", np.remainder, _remainder, lambda g, x, z: (g, -g * FLOOR_DIVIDE(x, z))
)
FMOD = _division("fmod", np.fmod, _fmod, lambda g, x, z: (g, -g * TRUNC_DIVIDE(x, z)))
floor_divide = publish(FLOOR_DIVIDE, "The quotient rounded down.")
remainder = publish(REMAINDER, "The remainder with the divisor's sign, as Python's `%`.")
fmod = publish(FMOD, "The remainder with the dividend's sign.")

# -- comparisons and logic


def _compare(name: str, function, alias: str):
    op = pointwise(
        name, function, lambda k, x, z: k.compare(name, x, z), rule="compare", samples=BINARY
    )
    return op, publish(op, f"Whether input {alias} other, element by element.")


EQ, eq = _compare("eq", np.equal, "==")
NE, ne = _compare("ne", np.not_equal, "!=")
LT, lt = _compare("lt", np.less, "<")
LE, le = _compare("le", np.less_equal, "<=")
GT, gt = _compare("gt", np.greater, ">")
GE, ge = _compare("ge", np.greater_equal, ">=")
METHODS.update(not_equal=ne, less=lt, less_equal=le, greater=gt, greater_equal=ge)
not_equal, less, less_equal, greater, greater_equal = ne, lt, le, gt, ge

LOGICAL_AND = pointwise(
    "logical_and", np.logical_and, lambda k, x, z: x & z, rule="logical", samples=BINARY
)
LOGICAL_OR = pointwise(
    "logical_or", np.logical_or, lambda k, x, z: x | z, rule="logical", samples=BINARY
)
LOGICAL_XOR = pointwise(
    "logical_xor", np.logical_xor, lambda k, x, z: x ^ z, rule="logical", samples=BINARY
)
LOGICAL_NOT = pointwise(
    "logical_not", np.logical_not, lambda k, x: ~x, rule="logical", samples=UNARY
)
logical_and = publish(LOGICAL_AND, "Whether both are true (not zero).")
logical_or = publish(LOGICAL_OR, "Whether at least one is true.")
logical_xor = publish(LOGICAL_XOR, "Whether exactly one is true.")
logical_not = publish(LOGICAL_NOT, "Whether the element is zero.")

# -- powers, exponentials, rounding


def costly(op):
    """Mark an op whose result is worth keeping rather than computing twice."""
    type(op).is_costly = True
    return op


def _math(name: str, function, grad, *, doc: str, aliases=(), samples=UNARY, **more):
    code = lambda k, x: k.math(name, x)  # noqa: E731
    op = costly(pointwise(name, function, code, grad, rule="float", samples=samples, **more))
    return op, publish(op, doc, *aliases)


EXP, exp = _math("exp", np.exp, lambda g, y: g * y, doc="e to the power of each element.")
LOG, log = _math("log", np.log, lambda g, x: g / x, doc="The natural logarithm.", samples=POSITIVE)
LOG1P, log1p = _math(
    "log1p",
    np.log1p,
    lambda g, x: g / (x + 1),
    doc="The logarithm of 1 + x, exact near 0.",
    samples=INSIDE,
)
EXPM1, expm1 = _math("expm1", np.expm1, lambda g, y: g * (y + 1), doc="exp(x) - 1, exact near 0.")
SIN, sin = _math("sin", np.sin, lambda g, x: g * COS(x), doc="The sine of an angle in radians.")
COS, cos = _math("cos", np.cos, lambda g, x: -g * SIN(x), doc="The cosine of an angle in radians.")
TANH, tanh = _math("tanh", np.tanh, lambda g, y: g * (1 - y * y), doc="The hyperbolic tangent.")
SIGMOID, sigmoid = _math(
    "sigmoid",
    lambda x: 1 / (1 + np.exp(-x)),
    lambda g, y: g * (1 - y) * y,
    doc="1 / (1 + exp(-x)).",
    aliases=("expit",),
)

SQRT = pointwise(
    "sqrt",
    np.sqrt,
    lambda k, x: k.unary("sqrt", x),
    lambda g, y: g / (2 * y),
    rule="float",
    samples=POSITIVE,
)
sqrt = publish(SQRT, "The square root.")
ABS = pointwise("abs", np.abs, lambda k, x: x if x.dtype[0] in "ub" else k.unary("abs", x),
                lambda g, x: g * SIGN(x), takes="uif", samples=UNARY)  # fmt: skip
abs = publish(ABS, "The absolute value.", "absolute")
absolute = abs


def _sign(k, x):
    if x.dtype == "bool":
        return x
    one, none = k.const(1, x.dtype), k.const(0, x.dtype)
    positive = k.select(x > 0, one, none)
    return positive if x.dtype[0] == "u" else k.select(x < 0, k.const(-1, x.dtype), positive)


SIGN = pointwise(
    "sign",
    lambda x: x if x.dtype.kind == "b" else np.where(np.isnan(x), 0, np.sign(x)).astype(x.dtype),
    _sign,
    lambda g: g * 0,
    samples=UNARY,
)
sign = sgn = publish(
    SIGN, "-1, 0 or 1, as the element is negative, zero or positive; 0 for NaN.", "sgn"
)
METHODS["sgn"] = sign


def _maximum(k, x, z):
    if not is_float(x):
        return x | z if x.dtype == "bool" else k.max(x, z)
    return k.select((x > z) | x.ne(x), x, z)


def _minimum(k, x, z):
    if not is_float(x):
        return x & z if x.dtype == "bool" else k.min(x, z)
    return k.select((x < z) | x.ne(x), x, z)


def _share(g, x, z, wins):
    """The gradient to the winner; ties share it."""
    half = g * 0.5
    tie = EQ(x, z)
    return WHERE(tie, half, WHERE(wins, g, 0.0)), WHERE(tie, half, WHERE(wins, 0.0, g))


MAXIMUM = pointwise(
    "maximum", np.maximum, _maximum, lambda g, x, z: _share(g, x, z, GT(x, z)), samples=BINARY
)
MINIMUM = pointwise(
    "minimum", np.minimum, _minimum, lambda g, x, z: _share(g, x, z, LT(x, z)), samples=BINARY
)
maximum = publish(MAXIMUM, "The larger of both; NaN if either is.", inplace=False)
minimum = publish(MINIMUM, "The smaller of both; NaN if either is.", inplace=False)
