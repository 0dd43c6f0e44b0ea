"""Powers and roots, and other functions of magnitude.

source: the logarithm as 2 atanh(f / (2 + f)) in two floats; ours.
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .double import Double, exact_product, exact_sum, multiply, ordered_sum
from .exponential import EXP2, split_log
from .floats import (
    absolute,
    bits_of,
    choose,
    format_of,
    function,
    like,
    polynomial,
    power_of_two,
    sign_bit,
)

# (log((1+s)/(1-s)) - 2s - 2/3 s^3) / s^5 in s^2, where s = f / (2 + f)
LOG_REST = {
    "f32": (4.000009e-01, 2.8553006e-01, 2.3288022e-01),
    "f64": (0.39999999999999997, 0.2857142857143303, 0.2222222222039304, 0.18181818530895308,
            0.15384579247234575, 0.13335486382594935, 0.11691097987697247, 0.1185816094676904),
}  # fmt: skip
TWO_THIRDS = {
    "f32": (0.6666666865348816, -1.9868215517249155e-08),
    "f64": (0.6666666666666666, 3.700743415417188e-17),
}
LOG2_E = {
    "f32": (1.4426950216293335, 1.925963033500011e-08),
    "f64": (1.4426950408889634, 2.0355273740931033e-17),
}


def log2_of_positive(b: Builder, a: Value) -> Double:
    """log2(a) in two floats."""
    f, e = split_log(b, a)
    u = f + 2.0
    inverse = 1.0 / u
    s = f * inverse
    p, p_low = exact_product(b, s, u)
    s_low = (((f - p) - p_low) - s * (f - (u - 2.0))) * inverse
    z, z_low = exact_product(b, s, s)
    z_low = b.fma(s * 2.0, s_low, z_low)
    third = TWO_THIRDS[a.dtype]
    w, w_low = ordered_sum(b, like(b, a, third[0]), z * polynomial(b, z, LOG_REST[a.dtype]))
    cube = multiply(b, (s, s_low), (z, z_low))
    rest = multiply(b, cube, (w, w_low + third[1]))
    high, low = ordered_sum(b, s * 2.0, rest[0])
    log = high, low + b.fma(s_low, 2.0, rest[1])
    scale = LOG2_E[a.dtype]
    high, low = multiply(b, log, (like(b, a, scale[0]), like(b, a, scale[1])))
    total, lost = exact_sum(b, e, high)
    return total, lost + low


def exp2_of_double(b: Builder, high: Value, low: Value) -> Value:
    """2^(high + low), where |high| is at most the range of exponents."""
    f = format_of(high)
    guard = 64
    down, one = high < 0, f.magic + f.bias
    offset = b.select(down, like(b, high, one + guard), like(b, high, one - guard))
    t = high + offset
    r = (high - (t - offset)) + low
    back = b.select(down, like(b, high, 2.0**-guard), like(b, high, 2.0**guard))
    p = polynomial(b, r, EXP2[high.dtype])
    power = power_of_two(b, t)
    return b.fma(p * r, power, power) * back


def integer_kind(b: Builder, y: Value) -> tuple[Value, Value]:
    """Whether `y` is an integer, and an odd one."""
    form = format_of(y)
    whole = 2.0**form.mantissa  # from here on all floats are integers
    a = absolute(b, y)
    small = a < whole
    t = b.select(small, a + whole, a)
    is_integer = b.select(small, t - whole, t).eq(a)
    is_odd = (bits_of(b, t) & 1).ne(0) & is_integer & (a < 2.0 * whole)
    return is_integer, is_odd


@function
def pow_(b: Builder, x: Value, y: Value) -> Value:
    """x to the power y; ulp: f32 1.1, f64 1.4; unfused f32 1.2, f64 1.4."""
    form = format_of(x)
    a = absolute(b, x)
    high, low = log2_of_positive(b, a)
    high = choose(b, high, (a.eq(0), -math.inf), (a.eq(math.inf), math.inf))
    bound = 2.0 ** (form.precision + 16)  # beyond it, all bases but 1 give 0 or inf
    exponent = b.max(-bound, b.min(bound, y))
    product, lost = exact_product(b, exponent, high)
    end = 1.0 * form.bias + form.precision + 2.0
    inside = absolute(b, product) < end
    low = b.select(inside, b.fma(exponent, low, lost), like(b, x, 0.0))
    power = exp2_of_double(b, b.max(-end, b.min(end, product)), low)
    is_integer, is_odd = integer_kind(b, y)
    negative = bits_of(b, x) < 0
    sign = b.select(negative & is_odd, sign_bit(b, x), b.const(0, form.bits, x.width))
    power = b.bitcast(bits_of(b, power) | sign, x.dtype)
    undefined = (x < 0) & ~is_integer & (a < math.inf)
    power = b.select(undefined | x.ne(x) | y.ne(y), like(b, x, math.nan), power)
    return b.select(y.eq(0) | x.eq(1), like(b, x, 1.0), power)


@function
def rsqrt(b: Builder, x: Value) -> Value:
    """1 / sqrt(x); ulp: f32 1.5, f64 1.5."""
    return 1.0 / b.unary("sqrt", x)


@function
def reciprocal(b: Builder, x: Value) -> Value:
    """1 / x; ulp: f32 0.5, f64 0.5."""
    return 1.0 / x


@function
def hypot(b: Builder, x: Value, y: Value) -> Value:
    """sqrt(x^2 + y^2), without overflow; ulp: f32 1.2, f64 1.2."""
    x, y = absolute(b, x), absolute(b, y)
    great = b.max(x, y)
    up, down, far = (90, 70, 60) if x.dtype == "f32" else (700, 600, 500)
    big, small = great > 2.0**far, great < 2.0 ** -(far - 20)
    one = like(b, x, 1.0)
    scale = choose(b, one, (big, 2.0**-down), (small, 2.0**up))
    back = choose(b, one, (big, 2.0**down), (small, 2.0**-up))
    p, q = x * scale, y * scale
    root = b.unary("sqrt", b.fma(p, p, q * q)) * back
    infinite = x.eq(math.inf) | y.eq(math.inf)
    return b.select(infinite, like(b, x, math.inf), root)
