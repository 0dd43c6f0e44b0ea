"""Exponentials and logarithms.

source: argument reduction by Cody and Waite 1980; polynomials fitted here by Remez exchange.
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .floats import (
    absolute,
    bits_of,
    choose,
    clamp,
    format_of,
    function,
    like,
    polynomial,
    power_of_two,
    with_sign,
)

LOG2_E = 1.4426950408889634
# ln 2 in two parts: a multiple of the first by an exponent is exact
LN2 = {
    "f32": (0.693145751953125, 1.428606765330187e-06),
    "f64": (0.693147180559663, 2.8235290563031577e-13),
}
LOG10_2 = {
    "f32": (0.301025390625, 4.605039066518657e-06),
    "f64": (0.30102999566383914, 1.42050232272661e-13),
}
# (exp(r) - 1 - r) / r^2 on |r| <= ln(2)/2, for the value and for its distance from 1
EXP = {
    "f32": (4.9999994e-01, 1.6666515e-01, 4.1668244e-02, 8.369248e-03, 1.3823243e-03),
    "f64": (0.5000000000000011, 0.16666666666666421, 0.04166666666652696, 0.008333333333491325,
            0.001388888894441061, 0.00019841269510482916, 2.4801492299588616e-05,
            2.75575841714575e-06, 2.7630538551786557e-07, 2.5000597586707844e-08),
}  # fmt: skip
EXPM1 = {
    "f32": (5.0e-01, 1.6666539e-01, 4.1666396e-02, 8.3669955e-03, 1.3941327e-03),
    "f64": (0.5, 0.16666666666666677, 0.04166666666666667, 0.008333333333321447,
            0.0013888888888879541, 0.0001984126988657424, 2.480158733983276e-05,
            2.75572437473034e-06, 2.755725748021577e-07, 2.5109206280191285e-08,
            2.0920618473506047e-09),
}  # fmt: skip
# (2^r - 1) / r on |r| <= 1/2
EXP2 = {
    "f32": (6.931472e-01, 2.402265e-01, 5.550406e-02, 9.618087e-03, 1.3336794e-03, 1.5452041e-04,
            1.4643184e-05),
    "f64": (0.6931471805599453, 0.2402265069591015, 0.05550410866482406, 0.009618129107586217,
            0.001333355814577441, 0.00015403530467371024, 1.525273448106421e-05,
            1.321543009536044e-06, 1.0177780959073321e-07, 7.074678899588691e-09,
            4.4984909932533e-10),
}  # fmt: skip
# f32: (log(1+f) - f + f^2/2) / f^3 on sqrt(1/2) <= 1+f <= sqrt(2)
# f64: (2 atanh(s) - 2s) / s^3 as a polynomial in s^2
LOG = {
    "f32": (3.3333316e-01, -2.500081e-01, 2.0002311e-01, -1.6624561e-01, 1.4180584e-01,
            -1.3128056e-01, 1.2885812e-01, -7.8668736e-02),
    "f64": (0.6666666666666735, 0.3999999999940935, 0.2857142874368568, 0.2222219842907989,
            0.18183572348910707, 0.15313832332147204, 0.14798257018994632),
}  # fmt: skip
# below and above these exp is 0 and inf, also when scaled down a little
EXP_RANGE = {"f32": (-104.0, 100.0), "f64": (-746.0, 725.0)}
EXPM1_END = {"f32": 89.5, "f64": 710.5}
GUARD = 64  # exponents that a result is kept away from the ends of the range until the last product


def split_exp(b: Builder, x: Value, offset: float | Value) -> tuple[Value, Value]:
    """r and t with x = n ln 2 + r, t = n + offset: as `power_of_two` takes it."""
    hi, lo = LN2[x.dtype]
    t = b.fma(x, LOG2_E, offset)
    n = t - offset
    return b.fma(n, -lo, b.fma(n, -hi, x)), t


def exp_rest(b: Builder, r: Value) -> Value:
    """e^r - 1, exact enough to be added to 1."""
    return b.fma(polynomial(b, r, EXP[r.dtype]), r * r, r)


def exp_times(b: Builder, x: Value, factor: float = 1.0) -> Value:
    """exp(x) times a power of two, rounded once also where it is subnormal."""
    f = format_of(x)
    x = clamp(b, x, *EXP_RANGE[x.dtype])
    one, down = f.magic + f.bias, x < 0
    offset = b.select(down, like(b, x, one + GUARD), like(b, x, one - GUARD))
    r, t = split_exp(b, x, offset)
    back = b.select(down, like(b, x, factor * 2.0**-GUARD), like(b, x, factor * 2.0**GUARD))
    power = power_of_two(b, t)
    return b.fma(exp_rest(b, r), power, power) * back


def exp_below_one(b: Builder, x: Value) -> Value:
    """exp of numbers that are not positive."""
    f = format_of(x)
    x = b.max(EXP_RANGE[x.dtype][0], x)
    r, t = split_exp(b, x, like(b, x, f.magic + f.bias + GUARD))
    power = power_of_two(b, t)
    return b.fma(exp_rest(b, r), power, power) * 2.0**-GUARD


def expm1_of_reduced(b: Builder, r: Value) -> Value:
    """e^r - 1."""
    return b.fma(polynomial(b, r, EXPM1[r.dtype]), r * r, r)


def quarter_expm1(b: Builder, x: Value) -> Value:
    """(exp(x) - 1) / 4, which overflows later than exp; the sign of zero is lost."""
    f = format_of(x)
    x = clamp(b, x, -(f.precision + 1.0), EXPM1_END[x.dtype])
    r, t = split_exp(b, x, like(b, x, f.magic + f.bias - 2))
    quarter = power_of_two(b, t)
    return b.fma(expm1_of_reduced(b, r), quarter, quarter - 0.25)


@function
def exp(b: Builder, x: Value) -> Value:
    """e^x; ulp: f32 1.0, f64 1.1."""
    return exp_times(b, x)


@function
def exp2(b: Builder, x: Value) -> Value:
    """2^x; ulp: f32 1.1, f64 1.3."""
    f = format_of(x)
    x = clamp(b, x, -(f.bias + f.precision + 1.0), f.bias + 1.0)
    down, one = x < 0, f.magic + f.bias
    offset = b.select(down, like(b, x, one + GUARD), like(b, x, one - GUARD))
    t = x + offset
    r = x - (t - offset)
    back = b.select(down, like(b, x, 2.0**-GUARD), like(b, x, 2.0**GUARD))
    power = power_of_two(b, t)
    return b.fma(polynomial(b, r, EXP2[x.dtype]) * r, power, power) * back


@function
def expm1(b: Builder, x: Value) -> Value:
    """e^x - 1; ulp: f32 1.6, f64 2.0; unfused f32 1.7, f64 2.1."""
    small = absolute(b, x) < 2.0 ** -format_of(x).precision
    return b.select(small, x, quarter_expm1(b, x) * 4.0)


@function
def sigmoid(b: Builder, x: Value) -> Value:
    """1 / (1 + e^-x), without overflow; ulp: f32 2.0, f64 2.0."""
    f = format_of(x)
    x = clamp(b, -x, -(f.precision + 1.0), -EXP_RANGE[x.dtype][0])
    r, t = split_exp(b, x, like(b, x, f.magic + f.bias - GUARD))
    power = power_of_two(b, t)
    one = like(b, x, 2.0**-GUARD)
    return one / (b.fma(exp_rest(b, r), power, one) + power)


def log_tail(b: Builder, f: Value) -> Value:
    """log(1 + f) - f."""
    z = f * f
    if f.dtype == "f32":
        return b.fma(f * z, polynomial(b, f, LOG["f32"]), z * -0.5)
    s, half = f / (f + 2.0), z * 0.5
    w = s * s
    return b.fma(s, b.fma(polynomial(b, w, LOG["f64"]), w, half), -half)


def split_log(b: Builder, x: Value, subnormal: bool = True) -> tuple[Value, Value]:
    """f and e with x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)."""
    form = format_of(x)
    bits = bits_of(b, x)
    if subnormal:
        small = x < form.tiny
        bits = b.select(small, bits_of(b, x * 2.0**form.precision), bits)
    root = 0x3F3504F3 if x.dtype == "f32" else 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
    exponent = (bits - root) >> form.mantissa
    m = b.bitcast(bits - (exponent << form.mantissa), x.dtype)
    e = integer_to_float(b, exponent, x.dtype)
    if subnormal:
        e = b.select(small, e - float(form.precision), e)
    return m - 1.0, e


def integer_to_float(b: Builder, n: Value, dtype: str) -> Value:
    """A small integer as a float of the same size; not every target converts i64 in a vector."""
    if dtype == "f32":
        return n.to("f32")
    magic = 1.5 * 2.0**52
    return b.bitcast(n + 0x4338000000000000, "f64") - magic


def log_in_base(b: Builder, f: Value, e: Value, two, scale=(1.0, 0.0)) -> Value:
    """log(2^e (1 + f)), given log 2 and 1 / log(e's base), each in two parts."""
    tail = log_tail(b, f)
    y = b.fma(e, two[1], tail * scale[0]) if two[1] else tail * scale[0]
    if scale[1]:
        y = b.fma(f + tail, scale[1], y)
    y = b.fma(f, scale[0], y) if scale[0] != 1.0 else f + y
    return b.fma(e, two[0], y)


def log_edges(b: Builder, y: Value, x: Value) -> Value:
    """`y` where log(x) is a number, else the right infinity or NaN."""
    y = b.select(x > 0, y, like(b, x, math.nan))
    return choose(b, y, (x.eq(0), -math.inf), (x.eq(math.inf), math.inf))


@function
def log(b: Builder, x: Value) -> Value:
    """The natural logarithm; ulp: f32 0.9, f64 0.8; unfused f32 0.9, f64 0.9."""
    return log_edges(b, log_in_base(b, *split_log(b, x), LN2[x.dtype]), x)


@function
def log2(b: Builder, x: Value) -> Value:
    """The logarithm to base 2; ulp: f32 1.3, f64 1.3; unfused f32 1.4, f64 1.3."""
    y = log_in_base(b, *split_log(b, x), (1.0, 0.0), (1.0, LOG2_E - 1.0))
    return log_edges(b, y, x)


@function
def log10(b: Builder, x: Value) -> Value:
    """The logarithm to base 10; ulp: f32 0.9, f64 1.0; unfused f32 1.9, f64 1.8."""
    scale = (0.4375, -0.0032055180967481724)
    return log_edges(b, log_in_base(b, *split_log(b, x), LOG10_2[x.dtype], scale), x)


@function
def log1p(b: Builder, x: Value) -> Value:
    """log(1 + x); ulp: f32 1.5, f64 1.4."""
    form = format_of(x)
    u = x + 1.0
    f, e = split_log(b, u, subnormal=False)
    lost = b.select(x < 1.0, x - (u - 1.0), 1.0 - (u - x))  # what rounding took from u
    inverse = power_of_two(b, (form.magic + form.bias) - b.min(e, form.bias))
    y = log_in_base(b, b.fma(lost, inverse, f), e, LN2[x.dtype])
    return with_sign(b, log_edges(b, y, u), x)


@function
def softplus(b: Builder, x: Value) -> Value:
    """log(1 + e^x), without overflow; ulp: f32 1.7, f64 1.7."""
    return b.max(x, 0.0) + log1p(b, exp_below_one(b, -absolute(b, x)))


@function
def logaddexp(b: Builder, x: Value, y: Value) -> Value:
    """log(e^x + e^y), without overflow; ulp: f32 2.6, f64 2.2."""
    gap = b.select(x.eq(y), like(b, x, 0.0), absolute(b, x - y))
    return b.max(x, y) + log1p(b, exp_below_one(b, -gap))


@function
def xlogy(b: Builder, x: Value, y: Value) -> Value:
    """x log(y), 0 where x is 0 and y a number; ulp: f32 1.8, f64 1.8."""
    zero = b.select(y.eq(y), like(b, x, 0.0), y)
    return b.select(x.eq(0), zero, x * log(b, y))
