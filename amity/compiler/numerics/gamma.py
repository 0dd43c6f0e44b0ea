"""The logarithm of the gamma function and its derivatives, and the Hurwitz zeta function.

source: Stirling's series from 8 on, polynomials fitted here and the recurrence below, reflection
for negative numbers; Euler-Maclaurin summation for zeta (Abramowitz and Stegun 6.1, 6.3, 23.1).
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .arithmetic import truncated
from .exponential import log
from .floats import absolute, choose, format_of, function, horner, like, polynomial, with_sign
from .power import pow_
from .trigonometric import HALF_PI, SIN, odd

# lgamma(x) / ((x - 1)(x - 2)) in (x - 3/2) / (3/4) on [3/4, 9/4]
LGAMMA = {
    "f32": (4.8312896e-01, -1.0946983e-01, 3.538658e-02, -1.3210351e-02, 5.32786e-03, -2.223164e-03,
            9.108132e-04, -4.6628225e-04, 3.1118997e-04, -3.847528e-05, -7.316942e-05,
            -4.6679386e-05, 5.2044088e-05),
    "f64": (0.4831289505409809, -0.10946992193572963, 0.035387663104448894, -0.013208268164481401,
            0.005314706988401353, -0.0022367443898742095, 0.0009693524915585929,
            -0.00042876012858611336, 0.00019250862715756295, -8.74297252815441e-05,
            4.00691738953041e-05, -1.849863943663786e-05, 8.588874910335293e-06,
            -4.012889482492982e-06, 1.895975580816956e-06, -8.854863545334367e-07,
            3.8624484934233245e-07, -1.9875267252047468e-07, 1.47372493641137e-07,
            -4.6118735316849974e-08, -3.922776242080751e-08, -7.373128424795153e-09,
            5.230231632509386e-08, -5.520118942752967e-09, -2.278007353808927e-08,
            1.3235976291497775e-09, 7.184982703682123e-09, -6.619539030820186e-10,
            -7.558326406958847e-10),
}  # fmt: skip
# x (lgamma(x) - (x - 1/2) log(x) + x - log(2 pi)/2) in 1/x^2, x >= 8
STIRLING = {
    "f32": (8.3333336e-02, -2.778334e-03, 8.1213913e-04),
    "f64": (0.08333333333333333, -0.0027777777777667264, 0.0007936507860027685,
            -0.0005952357542497637, 0.000841380691507244, -0.0018857622574622785,
            0.004974036977264566),
}  # fmt: skip
# digamma(x) / (x - its root) in x - 3/2 on [1, 2]
DIGAMMA = {
    "f32": (9.510559e-01, -4.2362747e-01, 2.4053839e-01, -1.4839998e-01, 9.5117636e-02,
            -6.203983e-02, 3.936028e-02, -2.5873e-02, 2.392746e-02, -1.6220571e-02),
    "f64": (0.951055876031833, -0.4236274212814606, 0.24054248424077393, -0.14840492305389025,
            0.09498872445497865, -0.061922133274681906, 0.04076083381049401, -0.0269757966917328,
            0.01790725248977445, -0.011908219410331808, 0.00792694389192114, -0.00527994636083755,
            0.003519013284482244, -0.0023454200387581334, 0.001556592900485108,
            -0.0010368454559771128, 0.0007234590767037362, -0.0004847213312129735,
            0.00022698322202799166, -0.00014699116599729638, 0.00025988523434389255,
            -0.00017655449471636032),
}  # fmt: skip
# x^2 (log(x) - 1/(2x) - digamma(x)) in 1/x^2, x >= 8
DIGAMMA_FAR = {
    "f32": (8.333333e-02, -8.331739e-03, 3.8220184e-03),
    "f64": (0.08333333333333316, -0.008333333333046311, 0.00396825380626857, -0.0041666232809281665,
            0.007569505255976478, -0.020590213738241946, 0.06155842405821865),
}  # fmt: skip
# x^3 (trigamma(x) - 1/x - 1/(2 x^2)) in 1/x^2, x >= 8
TRIGAMMA_FAR = {
    "f32": (1.6666664e-01, -3.3324033e-02, 2.2812221e-02),
    "f64": (0.16666666666666657, -0.03333333333314037, 0.02380952367171286, -0.033333285567849494,
            0.07574835832274064, -0.2520646564904561, 1.0957080057431712, -4.347805273866726),
}  # fmt: skip
LOG_PI = 1.1447298858494002
HALF_LOG_2PI_LESS_HALF = 0.4189385332046727
DIGAMMA_ROOT = {
    "f32": (1.4616321325302124, 1.2438149938918909e-08),
    "f64": (1.4616321449683622, 9.549995429965697e-17),
}
# Bernoulli numbers over factorials, B(2j) / (2j)!
BERNOULLI = (1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000,
             1 / 74724249600, -3617 / 10670622842880000)  # fmt: skip
FAR = 8.0  # from here on the asymptotic series hold
ZETA_TERMS = 200.0


def sine_of_turn(b: Builder, a: Value) -> tuple[Value, Value]:
    """f and sin(pi |f|), where f is the signed distance of `a` >= 0 to the nearest integer."""
    whole = 2.0 ** format_of(a).mantissa
    f = b.select(a < whole, a - ((a + whole) - whole), like(b, a, 0.0))
    return f, sine_of_half_turn(b, absolute(b, f))


def sine_of_half_turn(b: Builder, d: Value) -> Value:
    """sin(pi d) for d in [0, 1/2]."""
    hi, lo = HALF_PI[d.dtype]
    r = b.fma(d, 2.0 * hi, d * (2.0 * lo))
    return odd(b, r, r * r, SIN[d.dtype])


@function
def lgamma(b: Builder, x: Value) -> Value:
    """log |gamma(x)|; ulp: f32 5.0, f64 5.0; unfused f32 7.0, f64 6.0."""
    a = absolute(b, x)
    positive = log_gamma_of_positive(b, a)
    f, sine = sine_of_turn(b, a)
    reflected = (LOG_PI - positive) - log(b, a * sine)
    mirrored = (x < 0) & (a > 2.0 ** -format_of(x).precision)
    y = b.select(mirrored, reflected, positive)
    pole = (mirrored & f.eq(0)) | a.eq(math.inf)
    return b.select(pole, like(b, x, math.inf), y)


def log_gamma_of_positive(b: Builder, a: Value) -> Value:
    """Below 8, `a` is brought near [1, 2] and the logarithm of the product taken off is added."""
    far, short = a >= FAR, a < 0.75
    r = b.select(short, a + 1.0, a)
    product = b.select(short, a, like(b, a, 1.0))
    for _ in range(6):
        more = r > 2.25
        r = b.select(more, r - 1.0, r)
        product = b.select(more, product * r, product)
    logarithm = log(b, b.select(far, a, product))
    near = (r - 1.0) * (r - 2.0) * polynomial(b, (r - 1.5) * (4.0 / 3.0), LGAMMA[a.dtype])
    near = near + b.select(short, -logarithm, logarithm)
    inverse = 1.0 / a
    tail = inverse * horner(b, inverse * inverse, STIRLING[a.dtype])
    series = b.fma(a - 0.5, logarithm - 1.0, tail + HALF_LOG_2PI_LESS_HALF)
    return b.select(far, series, near)


@function
def digamma(b: Builder, x: Value) -> Value:
    """The derivative of lgamma; ulp: f32 4.0, f64 4.0."""
    a = absolute(b, x)
    y = digamma_of_positive(b, b.select(x < 0, a + 1.0, a))
    f, sine = sine_of_turn(b, a)
    cosine = sine_of_half_turn(b, 0.5 - absolute(b, f))
    cotangent = with_sign(b, cosine / sine, f) * math.pi
    y = b.select(x < 0, y + cotangent, y)
    y = b.select((x < 0) & f.eq(0), like(b, x, math.nan), y)
    return b.select(x.eq(0), with_sign(b, like(b, x, math.inf), -x), y)


def digamma_of_positive(b: Builder, a: Value) -> Value:
    far, short = a >= FAR, a < 1.0
    # the reciprocals that the recurrence adds, as one fraction
    r = b.select(short, a + 1.0, a)
    top = b.select(short, like(b, a, -1.0), like(b, a, 0.0))
    under = b.select(short, a, like(b, a, 1.0))
    for _ in range(6):
        more = r > 2.0
        r = b.select(more, r - 1.0, r)
        top = b.select(more, b.fma(top, r, under), top)
        under = b.select(more, under * r, under)
    root = DIGAMMA_ROOT[a.dtype]
    near = ((r - root[0]) - root[1]) * polynomial(b, r - 1.5, DIGAMMA[a.dtype]) + top / under
    inverse = 1.0 / a
    square = inverse * inverse
    tail = b.fma(square, horner(b, square, DIGAMMA_FAR[a.dtype]), inverse * 0.5)
    return b.select(far, log(b, a) - tail, near)


@function
def trigamma(b: Builder, x: Value) -> Value:
    """The second derivative of lgamma; ulp: f32 5.0, f64 6.0."""
    a = absolute(b, x)
    r, total = b.select(x < 0, a + 1.0, a), like(b, a, 0.0)
    for _ in range(int(FAR)):
        more = r < FAR
        total = b.select(more, total + 1.0 / (r * r), total)
        r = b.select(more, r + 1.0, r)
    inverse = 1.0 / r
    square = inverse * inverse
    tail = b.fma(square * inverse, horner(b, square, TRIGAMMA_FAR[a.dtype]), square * 0.5)
    y = total + (inverse + tail)
    _, sine = sine_of_turn(b, a)
    turn = math.pi / sine
    return b.select(x < 0, turn * turn - y, y)


@function
def zeta(b: Builder, s: Value, q: Value) -> Value:
    """The Hurwitz zeta function, the sum of (q + k)^-s; ulp: f32 6.0, f64 6.0."""
    # enough terms for the rest to be small, or for the series of the rest to converge
    need = b.min(ZETA_TERMS, b.fma(s, 2.0, 10.0) - b.max(q, 0.0)) + b.max(-q, 0.0)
    count = truncated(b, b.max(b.min(2.0**20, need), 0.0)) + 1.0  # NaN asks for none
    turns = b.reduce("max", count)
    first = b.splat(turns, q.width)
    with b.loop(0, turns.to("i64"), 1, carry=(like(b, q, 0.0), first)) as turn:
        total, k = turn.carry
        k = k - 1.0  # the least terms first
        term = b.select(k < count, pow_(b, q + k, -s), like(b, q, 0.0))
        turn.next(total + term, k)
    total = turn.results[0]
    at = q + count
    inverse = 1.0 / at
    square = inverse * inverse
    factor, series = s * inverse, like(b, s, 0.5)
    for j, c in enumerate(BERNOULLI):
        series = b.fma(factor, c, series)
        factor = factor * (s + (2.0 * j + 1.0)) * (s + (2.0 * j + 2.0)) * square
    y = total + pow_(b, at, 1.0 - s) * b.fma(series, inverse, 1.0 / (s - 1.0))
    _, distance = sine_of_turn(b, absolute(b, q))
    return choose(
        b,
        y,
        ((q <= 0) & distance.eq(0), math.inf),
        (s.eq(1), math.inf),
        (~(s >= 1) | q.ne(q), math.nan),
    )
