"""Circular functions and their inverses.

source: odd and even polynomials in x^2, fitted here by Remez exchange.
"""

from __future__ import annotations

from amity.ir.kernel import Builder, Value

from .angle import reduce_angle
from .floats import (
    absolute,
    bits_of,
    flip,
    format_of,
    function,
    horner,
    like,
    polynomial,
    sign_bit,
    with_sign,
)

# (sin(r)/r - 1) / r^2 in r^2 on |r| <= pi/2
SIN = {
    "f32": (-1.666666e-01, 8.333069e-03, -1.9809774e-04, 2.6060818e-06),
    "f64": (-0.16666666666666666, 0.008333333333333217, -0.00019841269841219496,
            2.7557319213395584e-06, -2.5052107147875058e-08, 1.605895925548692e-10,
            -7.643798083973025e-13, 2.7390753408882755e-15, -1.6521982421026319e-18),
}  # fmt: skip
# (tan(r)/r - 1) / r^2 in r^2 on |r| <= pi/4
TAN = {
    "f32": (3.3333156e-01, 1.3338846e-01, 5.3406876e-02, 2.4447186e-02, 3.090972e-03,
            9.403298e-03),
    "f64": (0.3333333333333276, 0.13333333333417108, 0.05396825392548059, 0.021869489637459844,
            0.008863218763397346, 0.0035922926949701036, 0.0014547359981512487,
            0.000595157195456999, 0.00022210710691213911, 0.0001370875677948392,
            -2.717877578390453e-05, 9.018113796562236e-05, -4.527015903032617e-05,
            2.0957951116591298e-05),
}  # fmt: skip
# (atan(t)/t - 1) / t^2 in t^2 on |t| <= 1
ATAN = {
    "f32": (-3.33333e-01, 1.999853e-01, -1.4264043e-01, 1.0951178e-01, -8.400599e-02,
            5.7909977e-02, -3.113114e-02, 1.0889714e-02, -1.7880589e-03),
    "f64": (-0.3333333333333307, 0.19999999999951748, -0.14285714282584214, 0.1111111100709107,
            -0.09090907001285845, 0.07692279797791489, -0.06666403643206863, 0.058805254422388424,
            -0.05253510323293051, 0.04722306865117838, -0.04219179480886243, 0.03664283456468272,
            -0.029906808973911084, 0.021990270968123317, -0.013907269160481973,
            0.007202310019049911, -0.0028884034605285453, 0.000832709746064288,
            -0.0001524916182427798, 1.3260836675428733e-05),
}  # fmt: skip
# (asin(s)/s - 1) / s^2 in s^2 on |s| <= 1/2
ASIN = {
    "f32": (1.666666e-01, 7.500522e-02, 4.4513386e-02, 3.1838723e-02, 1.431799e-02,
            3.768886e-02),
    "f64": (0.1666666666666676, 0.07499999999970865, 0.04464285717456296, 0.03038194270975166,
            0.022372214939297898, 0.017351612792041515, 0.013980812011436188,
            0.011398977119420325, 0.010779910624031957, 0.0037076369934436796,
            0.021704582548132192, -0.020995148834096294, 0.032626246819376925),
}  # fmt: skip
HALF_PI = {
    "f32": (1.5707963705062866, -4.371138828673793e-08),
    "f64": (1.5707963267948966, 6.123233995736766e-17),
}


def odd(b: Builder, x: Value, z: Value, coefficients) -> Value:
    """x + x z P(z)."""
    return b.fma(polynomial(b, z, coefficients), x * z, x)


def parity_sign(b: Builder, x: Value, count: Value) -> Value:
    """`x`, negated where the count is odd."""
    return flip(b, x, count << format_of(x).top)


@function
def sin(b: Builder, x: Value) -> Value:
    """The sine; ulp: f32 1.7, f64 2.1; unfused f32 2.4, f64 2.3."""
    r, n = reduce_angle(b, x, "pi")
    y = odd(b, r, r * r, SIN[x.dtype])
    return parity_sign(b, with_sign(b, y, r), n)


@function
def cos(b: Builder, x: Value) -> Value:
    """The cosine; ulp: f32 1.8, f64 2.1; unfused f32 2.5, f64 2.3."""
    r, n = reduce_angle(b, x, "pi", phase=True)
    return parity_sign(b, odd(b, r, r * r, SIN[x.dtype]), n)


@function
def tan(b: Builder, x: Value) -> Value:
    """The tangent; ulp: f32 2.7, f64 2.9; unfused f32 3.3, f64 3.3."""
    r, n = reduce_angle(b, x, "pi/2")
    t = odd(b, r, r * r, TAN[x.dtype])
    return b.select((n & 1).ne(0), -1.0 / t, t)


def half_pi_minus(b: Builder, x: Value, y: Value) -> Value:
    """pi/2 - (x + y), where y is the lesser part."""
    hi, lo = HALF_PI[x.dtype]
    return (hi - x) - (y - lo)


@function
def asin(b: Builder, x: Value) -> Value:
    """The inverse sine; ulp: f32 2.0, f64 2.0."""
    a = absolute(b, x)
    s, z, large = half_angle(b, a)
    rest = s * z * polynomial(b, z, ASIN[x.dtype])
    return with_sign(b, b.select(large, half_pi_minus(b, s * 2.0, rest * 2.0), s + rest), x)


def half_angle(b: Builder, a: Value) -> tuple[Value, Value, Value]:
    """s, s^2 and whether it is large: asin(a) is asin(s), or pi/2 - 2 asin(s) where large."""
    large = a > 0.5
    z = b.select(large, 0.5 - a * 0.5, a * a)
    return b.select(large, b.unary("sqrt", z), a), z, large


@function
def acos(b: Builder, x: Value) -> Value:
    """The inverse cosine; ulp: f32 1.2, f64 1.2."""
    s, z, large = half_angle(b, absolute(b, x))
    rest = s * z * polynomial(b, z, ASIN[x.dtype])
    sign = sign_bit(b, x)
    middle = half_pi_minus(b, flip(b, s, sign), flip(b, rest, sign))
    hi, lo = HALF_PI[x.dtype]
    outer = (s + rest) * 2.0
    far = (2.0 * hi - s * 2.0) - (rest * 2.0 - 2.0 * lo)
    return b.select(large, b.select(x < 0, far, outer), middle)


def atan_of_ratio(b: Builder, y: Value, x: Value) -> Value:
    """atan(y / x) of numbers that are not negative."""
    steep = y > x
    t = b.select(steep, x, y) / b.select(steep, y, x)
    z = t * t
    rest = t * z * horner(b, z, ATAN[y.dtype])
    return b.select(steep, half_pi_minus(b, t, rest), t + rest)


@function
def atan(b: Builder, x: Value) -> Value:
    """The inverse tangent; ulp: f32 1.3, f64 1.3."""
    return with_sign(b, atan_of_ratio(b, absolute(b, x), like(b, x, 1.0)), x)


@function
def atan2(b: Builder, y: Value, x: Value) -> Value:
    """The angle of the point (x, y); ulp: f32 1.6, f64 1.6."""
    above, right = absolute(b, y), absolute(b, x)
    infinite = (above.eq(right)) & (above > format_of(x).tiny)  # inf / inf, and equals: pi/4
    none = above.eq(0)
    one = like(b, x, 1.0)
    # 0 / 0 and inf / inf stand for other ratios of the same angle
    num = b.select(infinite, one, above)
    den = b.select(infinite, one, b.select(none, one, right))
    a = atan_of_ratio(b, num, den)
    hi, lo = HALF_PI[x.dtype]
    a = b.select(bits_of(b, x) < 0, (2.0 * hi - a) + 2.0 * lo, a)
    nan = x.ne(x) | y.ne(y)
    return with_sign(b, b.select(nan, x + y, a), y)
