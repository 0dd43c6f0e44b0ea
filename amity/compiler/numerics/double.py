"""Numbers as unevaluated sums of two floats, for steps that need about twice the precision.

source: Dekker 1971; Knuth, The Art of Computer Programming, volume 2, section 4.2.2.
"""

from __future__ import annotations

from amity.ir.kernel import Builder, Value

from .floats import format_of

Double = tuple[Value, Value]


def exact_sum(b: Builder, x: Value, y: Value) -> Double:
    """x + y and what its rounding lost."""
    s = x + y
    t = s - x
    return s, (x - (s - t)) + (y - t)


def ordered_sum(b: Builder, x: Value, y: Value | float) -> Double:
    """The same, where |x| >= |y| or x is 0."""
    s = x + y
    return s, y - (s - x)


def exact_product(b: Builder, x: Value, y: Value) -> Double:
    """x y and what its rounding lost."""
    p = x * y
    if "fma" in b.target.has:
        return p, b.fma(x, y, -p)
    (xh, xl), (yh, yl) = halves(b, x), halves(b, y)
    return p, ((xh * yh - p) + xh * yl + xl * yh) + xl * yl


def halves(b: Builder, x: Value) -> Double:
    """`x` as two numbers of half as many bits, whose products are exact."""
    f = format_of(x)
    c = x * (2.0 ** ((f.precision + 1) // 2) + 1.0)
    high = c - (c - x)
    return high, x - high


def multiply(b: Builder, x: Double, y: Double) -> Double:
    """x y, to about twice the precision."""
    p, low = exact_product(b, x[0], y[0])
    return ordered_sum(b, p, b.fma(x[0], y[1], b.fma(x[1], y[0], low)))
