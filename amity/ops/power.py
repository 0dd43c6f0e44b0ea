"""Powers and reciprocals."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import bool_

from .arguments import fit_number
from .elementwise import LOG, LOGICAL_AND, POSITIVE, SQRT, UNARY
from .record import Sample, deliver, method, pointwise, publish
from .select import WHERE

F = "f"
SQUARE = pointwise("square", np.square, lambda k, x: x * x, lambda g, x: g * x * 2, rule="number",
                   samples=UNARY)  # fmt: skip
RECIPROCAL = pointwise("reciprocal", lambda x: 1 / x, lambda k, x: 1 / x, lambda g, y: -g * y * y,
                       rule="float", samples=UNARY)  # fmt: skip
RSQRT = pointwise("rsqrt", lambda x: 1 / np.sqrt(x), lambda k, x: 1 / k.unary("sqrt", x),
                  lambda g, y: g * (y * y * y) * -0.5, rule="float", samples=POSITIVE)  # fmt: skip
square = publish(SQUARE, "The square.")
reciprocal = publish(RECIPROCAL, "1 / x.")
rsqrt = publish(RSQRT, "1 / sqrt(x).")


def _pow(k, x, z):
    if x.dtype in ("f32", "f64"):
        return k.math("pow", x, z)
    return _integer_power(k, x, z)


def _integer_power(k, x, z):
    """By squaring, over the bits of the exponent; a negative one gives 0 unless the base is 1 or -1."""
    bits = {"u8": 8, "i8": 8, "i16": 16, "i32": 32, "i64": 64}[x.dtype]
    out, base, rest = k.const(1, x.dtype), x, z
    for _ in range(bits if bits < 64 else 63):
        out = k.select((rest & 1).ne(0), out * base, out)
        base = base * base
        rest = rest >> 1
    if x.dtype[0] == "u":
        return out
    even = (z & 1).eq(0)
    unit = k.select(
        x.eq(1), 1, k.select(x.eq(-1), k.select(even, k.const(1, x.dtype), k.const(-1, x.dtype)), 0)
    )
    return k.select(z < 0, unit, out)


def _pow_grad(g, x, z, y):
    gx = WHERE(z == 0, 0.0, g * z * POW(x, z - 1))
    gz = WHERE(LOGICAL_AND(x == 0, z >= 0), 0.0, g * y * LOG(x))
    return gx, gz


def _power_numpy(x, z):
    """As NumPy's; of integers a negative exponent gives what is left of the fraction."""
    if x.dtype.kind != "i":
        return np.power(x, z)
    unit = np.where(x == 1, 1, np.where(x == -1, np.where(z & 1, -1, 1), 0))
    return np.where(z < 0, unit, np.power(x, np.maximum(z, 0))).astype(x.dtype)


POW = pointwise("pow", _power_numpy, _pow, _pow_grad, takes="uif",
                samples=(Sample(((3, 4), "p"), ((3, 4), F)), Sample(((3, 1), "p"), ((4,), F)),
                         Sample(((3, 4), "i"), ((4,), "i")), Sample(((3, 4), F), 3)))  # fmt: skip


@method(inplace=True)
def pow(input, exponent, *, out=None):
    """`input` to the power of `exponent`, broadcast.

    dtype:  promoted
    errors: RuntimeError for an integer to a negative number's power
    """
    if exponent is True and getattr(input, "dtype", None) is bool_:
        return deliver(input.clone(), out)
    if type(exponent) in (int, float) and not isinstance(input, (int, float)):
        fit_number("pow", exponent, input)
        if exponent == 2:
            return deliver(SQUARE(input), out)
        if exponent == 0.5:
            return deliver(SQRT(input), out)
        if exponent == 1 and type(exponent) is int:
            return deliver(input * 1, out)
        if type(exponent) is int and exponent < 0 and input.dtype.kind != "f":
            raise RuntimeError(
                f"pow: got exponent {exponent} for {input.dtype}; Integers to negative integer "
                "powers are not allowed."
            )
    return deliver(POW(input, exponent), out)
