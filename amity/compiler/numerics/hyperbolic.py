"""Hyperbolic functions and their inverses.

source: ours, through e^x - 1 and log(1 + x).
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .exponential import (
    exp_rest,
    exp_times,
    log1p,
    quarter_expm1,
    split_exp,
)
from .floats import absolute, format_of, function, like, polynomial, power_of_two, with_sign

# (tanh(x)/x - 1) / x^2 in x^2 on |x| <= 0.6
TANH = {
    "f32": (-3.33333e-01, 1.3331936e-01, -5.3784717e-02, 2.0798622e-02, -5.8979546e-03),
    "f64": (-0.33333333333333326, 0.13333333333331865, -0.053968253967258246, 0.02186948850253286,
            -0.008863234866029022, 0.003592119686961936, -0.001455764171381049,
            0.0005896223806526909, -0.00023751276000066074, 9.24890154060456e-05,
            -3.117787543014567e-05, 6.502964570742095e-06),
}  # fmt: skip


@function
def tanh(b: Builder, x: Value) -> Value:
    """The hyperbolic tangent; ulp: f32 1.3, f64 1.3."""
    f = format_of(x)
    a = absolute(b, x)
    z = a * a
    near = b.fma(a * z, polynomial(b, z, TANH[x.dtype]), a)
    double = b.min(0.8 * f.precision, a + a)  # beyond, the result is 1
    r, t = split_exp(b, double, like(b, x, f.magic + f.bias))
    power = power_of_two(b, t)
    far = 1.0 - 2.0 / b.fma(exp_rest(b, r), power, power + 1.0)
    return with_sign(b, b.select(a < 0.6, near, far), x)


@function
def sinh(b: Builder, x: Value) -> Value:
    """The hyperbolic sine; ulp: f32 2.2, f64 2.3."""
    a = absolute(b, x)
    quarter = quarter_expm1(b, a)
    y = (quarter + quarter / (quarter * 4.0 + 1.0)) * 2.0
    return with_sign(b, b.select(a < 2.0 ** -format_of(x).precision, a, y), x)


@function
def cosh(b: Builder, x: Value) -> Value:
    """The hyperbolic cosine; ulp: f32 1.5, f64 1.5."""
    half = exp_times(b, absolute(b, x), 0.5)
    return half + 0.25 / half


def log1p_of_large(b: Builder, large: Value, x: Value, y: Value) -> Value:
    """log(2x) where large, else log(1 + y)."""
    more = b.select(large, like(b, x, math.log(2.0)), like(b, x, 0.0))
    return log1p(b, b.select(large, x, y)) + more


@function
def asinh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic sine; ulp: f32 1.8, f64 1.7."""
    a = absolute(b, x)
    square = a * a
    y = a + square / (b.unary("sqrt", square + 1.0) + 1.0)
    return with_sign(b, log1p_of_large(b, a > 2.0 ** (format_of(x).precision + 2), a, y), x)


@function
def acosh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic cosine; ulp: f32 2.0, f64 2.0."""
    t = x - 1.0
    y = t + b.unary("sqrt", b.fma(t, t, t * 2.0))
    y = log1p_of_large(b, x > 2.0 ** (format_of(x).precision + 2), x, y)
    return b.select(x < 1.0, math.nan, y)


@function
def atanh(b: Builder, x: Value) -> Value:
    """The inverse hyperbolic tangent; ulp: f32 2.0, f64 1.9; unfused f32 2.0, f64 2.0."""
    a = absolute(b, x)
    return with_sign(b, log1p(b, a * 2.0 / (1.0 - a)) * 0.5, x)
