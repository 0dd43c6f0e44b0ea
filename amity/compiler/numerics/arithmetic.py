"""Remainders, rounding and the fields of a float.

source: ours; results are exact.
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .double import exact_product
from .floats import (
    absolute,
    any_lane,
    bits_of,
    format_of,
    function,
    like,
    sign_bit,
    with_sign,
)


@function
def copysign(b: Builder, x: Value, y: Value) -> Value:
    """`x` with the sign of `y`; ulp: f32 0.0, f64 0.0."""
    return with_sign(b, absolute(b, x), y)


def rounded(b: Builder, a: Value) -> Value:
    """The nearest integer to a number that is not negative, the even one of two."""
    whole = 2.0 ** format_of(a).mantissa
    return b.select(a < whole, (a + whole) - whole, a)


def truncated(b: Builder, a: Value) -> Value:
    """The integer part of a number that is not negative."""
    r = rounded(b, a)
    return b.select(r > a, r - 1.0, r)


@function
def round_(b: Builder, x: Value) -> Value:
    """The nearest integer, the even one of two; ulp: f32 0.0, f64 0.0."""
    return with_sign(b, rounded(b, absolute(b, x)), x)


@function
def trunc(b: Builder, x: Value) -> Value:
    """The integer part; ulp: f32 0.0, f64 0.0."""
    return with_sign(b, truncated(b, absolute(b, x)), x)


@function
def floor(b: Builder, x: Value) -> Value:
    """The greatest integer not above; ulp: f32 0.0, f64 0.0."""
    t = with_sign(b, rounded(b, absolute(b, x)), x)
    return b.select(t > x, t - 1.0, t)


@function
def ceil(b: Builder, x: Value) -> Value:
    """The least integer not below; ulp: f32 0.0, f64 0.0."""
    t = with_sign(b, rounded(b, absolute(b, x)), x)
    return with_sign(b, absolute(b, b.select(t < x, t + 1.0, t)), x)


@function
def fmod(b: Builder, x: Value, y: Value) -> Value:
    """What division leaves, with the sign of `x`; ulp: f32 0.0, f64 0.0."""
    a, d = absolute(b, x), absolute(b, y)
    q = truncated(b, a / d)
    p, low = exact_product(b, q, d)
    r = (a - p) - low
    r = b.select(r < 0, r + d, r)  # the quotient may have been rounded up
    form = format_of(x)  # where the quotient is not exact, or the product without fma overflows
    great = (q >= 2.0 ** (form.mantissa - 1)) | (a >= 2.0 ** (form.bias - form.precision - 2))
    with b.loop(0, any_lane(b, great), 1, carry=(r,)) as turn:
        turn.next(b.select(great, long_division(b, a, d), turn.carry[0]))
    r = b.select(a < d, a, turn.results[0])
    valid = (a < math.inf) & (d > 0)
    return with_sign(b, b.select(valid, r, like(b, x, math.nan)), x)


def long_division(b: Builder, a: Value, d: Value) -> Value:
    """a mod d for finite positive numbers: integer remainders of the shifted mantissa."""
    form = format_of(a)
    n, n_exponent = integer_parts(b, a)
    m, m_exponent = integer_parts(b, d)
    gap = n_exponent - m_exponent
    step = 64 - form.precision
    turns = b.reduce("max", b.max(gap, 0)) // step + 1
    with b.loop(0, turns, 1, carry=(n % m, gap)) as turn:
        rest, left = turn.carry
        now = b.min(b.max(left, 0), step)
        turn.next((rest << b.bitcast(now, "u64")) % m, left - now)
    rest, exponent = turn.results[0], m_exponent
    return scaled_integer(b, rest, exponent, a.dtype)


def integer_parts(b: Builder, a: Value) -> tuple[Value, Value]:
    """n as u64 and e as i64 with a = n 2^e, for finite a; a zero gives 1, which does not divide."""
    form = format_of(a)
    bits = b.convert(b.bitcast(a, form.unsigned), "u64")
    field = bits >> form.mantissa
    fraction = bits & ((1 << form.mantissa) - 1)
    n = b.select(field.eq(0), fraction, fraction | (1 << form.mantissa))
    n = b.select(n.eq(0), b.const(1, "u64", n.width), n)
    e = b.bitcast(b.max(field, 1), "i64") - (form.bias + form.mantissa)
    return n, e


def scaled_integer(b: Builder, n: Value, e: Value, dtype: str) -> Value:
    """n 2^e where it is exact, for n below the precision."""
    half = e >> 1
    y = integer_as_float(b, n, dtype)
    return y * two_to(b, half, dtype) * two_to(b, e - half, dtype)


def integer_as_float(b: Builder, n: Value, dtype: str) -> Value:
    """A u64 below 2^53 as a float."""
    low = b.bitcast((n & 0xFFFFFFFF) | 0x4330000000000000, "f64") - 2.0**52
    high = b.bitcast((n >> 32) | 0x4330000000000000, "f64") - 2.0**52
    return b.convert(high * 2.0**32 + low, dtype)


def two_to(b: Builder, e: Value, dtype: str) -> Value:
    """2^e for an i64 within the range of normal exponents of f64."""
    return b.convert(b.bitcast((e + 1023) << 52, "f64"), dtype)


@function
def remainder(b: Builder, x: Value, y: Value) -> Value:
    """What division leaves, with the sign of `y`; ulp: f32 0.0, f64 0.0."""
    r = fmod(b, x, y)
    wrong = r.ne(0) & (sign_bit(b, r).ne(sign_bit(b, y)))
    return b.select(wrong, r + y, r)


@function
def nextafter(b: Builder, x: Value, y: Value) -> Value:
    """The float after `x` on the way to `y`; ulp: f32 0.0, f64 0.0."""
    bits, form = bits_of(b, x), format_of(x)
    out = (y > x).eq(x > 0)  # away from zero
    moved = b.bitcast(b.select(out, bits + 1, bits - 1), x.dtype)
    least = with_sign(b, b.bitcast(b.const(1, form.bits, x.width), x.dtype), y)
    moved = b.select(x.eq(0), least, moved)
    moved = b.select(x.eq(y), y, moved)
    return b.select(x.ne(x) | y.ne(y), x + y, moved)


def normalised(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """The bits of |x| made normal, the exponent that brings it below 1, and if it has none."""
    form = format_of(x)
    a = absolute(b, x)
    small = a < form.tiny
    bits = bits_of(b, b.select(small, a * 2.0**form.precision, a))
    taken = b.select(small, b.const(form.precision, form.bits, x.width), 0)
    exponent = (bits >> form.mantissa) - (form.bias - 1) - taken
    return bits, exponent, ~((a > 0) & (a < math.inf))


@function
def frexp_mantissa(b: Builder, x: Value) -> Value:
    """The part of `x` within [0.5, 1); ulp: f32 0.0, f64 0.0."""
    form = format_of(x)
    bits, _, none = normalised(b, x)
    fraction = (bits & ((1 << form.mantissa) - 1)) | ((form.bias - 1) << form.mantissa)
    return b.select(none, x, with_sign(b, b.bitcast(fraction, x.dtype), x))


@function
def frexp_exponent(b: Builder, x: Value) -> Value:
    """The power of two that goes with `frexp_mantissa`, as a float; ulp: f32 0.0, f64 0.0."""
    _, exponent, none = normalised(b, x)
    magic = like(b, x, format_of(x).magic)
    shifted = b.bitcast(bits_of(b, magic) + exponent, x.dtype)
    return b.select(none, like(b, x, 0.0), shifted - magic)


@function
def ldexp(b: Builder, x: Value, n: Value) -> Value:
    """x 2^n for a whole float n, rounded once; ulp: f32 0.0, f64 0.0."""
    form = format_of(x)
    end = 3.0 * (form.bias + form.precision)
    n = b.max(-end, b.min(end, n))
    total = n + frexp_exponent(b, x)
    m = frexp_mantissa(b, x)
    end = form.bias + form.precision + 2.0
    total = b.max(-end, b.min(end, total))
    down = total < 0
    guard = b.select(down, like(b, x, 64.0), like(b, x, -64.0))
    back = b.select(down, like(b, x, 2.0**-64), like(b, x, 2.0**64))
    power = (total + guard) + (form.magic + form.bias)
    scale = b.bitcast(bits_of(b, power) << form.mantissa, x.dtype)
    return b.select(n.ne(n), n, m * scale * back)
