"""The error function and what follows from it: the normal distribution.

source: ours: erf(x) = x P(x^2) near 0, else 1 - Q(x)^8, so that no exponential is needed; erfc as
e^(-x^2) times a polynomial in (x - k) / (x + k), after Schonfelder 1978; erfinv in log(1 - x^2),
after Giles 2012.
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .double import exact_product
from .exponential import exp_below_one, log, log1p
from .floats import absolute, function, like, polynomial, with_sign

# erf(x)/x - 1 in x^2 on |x| <= 1
ERF_SMALL = {
    "f32": (1.2837917e-01, -3.7612626e-01, 1.1283579e-01, -2.685335e-02, 5.1871724e-03,
            -7.997969e-04, 7.807366e-05),
    "f64": (0.12837916709551256, -0.37612638903183343, 0.11283791670936949, -0.02686617064195855,
            0.0052239775967263995, -0.0008548325484215109, 0.00012055280459138575,
            -1.4924464553617454e-05, 1.6444131226525716e-06, -1.6183785417969745e-07,
            1.3615504131785378e-08, -7.604904498789638e-10),
}  # fmt: skip
# erfc(x)^(1/8) on [1, ERF_END]
ERF_LARGE = {
    "f32": (1.000822e+00, -1.450101e-01, -6.1507706e-02, -1.130528e-02, 1.2894415e-02,
            -2.4622001e-03, 1.491171e-04),
    "f64": (0.9999999234136431, -0.14104664675423936, -0.06963368837369611, -0.002080558814404184,
            0.006576033016228644, 0.00019883404987926912, -0.0005176618161158093,
            8.464558440010532e-05, 3.844966321217903e-06, -7.1902337309448055e-06,
            3.611842695671845e-06, -1.1884763775716453e-06, 2.667338394076708e-07,
            -4.204084936400358e-08, 4.6880220782601425e-09, -3.58415619870464e-10,
            1.7025956831819128e-11, -3.804229562583861e-13),
}  # fmt: skip
ERF_END = {"f32": 3.95, "f64": 5.95}


# (1 + 2x) e^(x^2) erfc(x) in (x - k) / (x + k), x >= 1/2, k in ERFCX_CENTER
ERFCX = {
    "f32": (1.253008e+00, -1.3562128e-01, -4.7557123e-02, 1.2965177e-01, -1.19356476e-01,
            6.8227e-02, -2.3340648e-02, 2.9219564e-03, 1.1568227e-03, -1.3907901e-03),
    "f64": (1.2329951186255526, -0.13962111684056164, 0.01537965210260301, 0.068097054254586,
            -0.10103906603529529, 0.09373283500222274, -0.06633036583574406, 0.03716751547224336,
            -0.01619773377960969, 0.005031970589073563, -0.0007577751795726185,
            -0.00019926017523474827, 0.00015062953127368972, -2.4386638042867753e-05,
            -1.1242405741214618e-05, 5.68063654214294e-06, 3.2635246829246355e-07,
            -7.833560889716436e-07, 4.455337917052052e-08, 7.479591893863025e-08,
            -4.219429195876008e-09),
}  # fmt: skip
# erfinv(x) / x in w - its middle, w = -log(1 - x^2) up to ERFINV_SPLIT
ERFINV_NEAR = {
    "f32": (1.5014094e+00, 2.4664064e-01, -4.177657e-03, -1.2535155e-03, 2.1856232e-04,
            -4.5086367e-06, -3.5188189e-06, 3.6780702e-07, 2.7744022e-08, -1.7255815e-09),
    "f64": (1.6536545626831027, 0.24015818242558826, -0.006033670871427754, -0.0007407025341539551,
            0.00018673420802425654, -1.3882523395790955e-05, -1.365469184435155e-06,
            4.2347881907699766e-07, -2.9070382774552164e-08, -4.1126619774476336e-09,
            1.051218398240997e-09, -5.414239009323494e-11, -1.2976958229919684e-11,
            2.630354606686183e-12, -8.117009656646165e-14, -3.9989784844152383e-14,
            6.5947010388078744e-15, -4.2864835306355236e-17, -1.300391389890997e-16,
            1.5759720649359788e-17, 1.1444140054647337e-18, -3.5754744886233053e-19,
            -1.0091170922758813e-21, 3.375706602143365e-21),
}  # fmt: skip
# the same in sqrt(w) - ERFINV_MIDDLE
ERFINV_FAR = {
    "f32": (2.9583201e+00, 1.0037185e+00, 7.04976e-03, -5.2975127e-03, 3.776788e-03, -2.5388573e-03,
            1.3210382e-03, -2.9056586e-04, -1.8053548e-04, 1.0980831e-04),
    "f64": (3.0838856104922208, 1.0052589676941657, 0.005370914553570905, -0.003751208508262963,
            0.002491442097018498, -0.0016882755342512749, 0.0009532893630728142,
            -0.0003550378308344596, 2.4031263149240345e-05, 6.828724884681314e-05,
            -4.7319015631051804e-05, 1.2464432919054846e-05, 2.925824273152657e-06,
            -3.984076704485525e-06, 1.4985458683269114e-06, -3.026683607439649e-08,
            -2.711865441670623e-07, 1.3394309011944655e-07, 6.342714603617879e-10,
            -1.6187740652469164e-08),
}  # fmt: skip
# the same in sqrt(w) - 5 where w > 16, which f32 does not reach
ERFINV_LAST = (
    4.849906401408584, 1.010300464864548, -0.00013871931839152694, -0.00021503011995381615,
    7.599527836643288e-05, -1.9681768930145214e-05, 4.526050022528135e-06,
    -9.93040498079838e-07, 2.2906467595396864e-07, -6.751932143002826e-08,
    2.8986527995514023e-08, -1.5324299592174493e-08, 7.873401404942546e-09,
    -3.3974473669030835e-09, 1.266275012725481e-09, -4.793340255969094e-10,
    9.553723644467983e-11, 5.2582332448951414e-11, -2.6100142001759207e-11,
)  # fmt: skip
# for the tails of ndtri: (erfinv(x)/x) / sqrt(w) in 1/sqrt(w) - a center, from sqrt(w) on
NDTRI_TAIL = {
    "f32": ((4.0, 0.17307692307692307,
             (9.7538084e-01, -1.9891064e-01, -8.438674e-02, 9.042921e-01, -1.5094773e+00,
              3.4156275e+00, -1.3108947e+01)),),
    "f64": ((6.0, 0.12333333333333334,
             (0.9849447618439569, -0.18292842381469734, -0.24711992387590656, 1.317304531074212,
              -2.817563357094153, 8.545295935815343, -35.70260409853746,
              167.53218042370798, -848.7423320826, 4583.038719947451,
              -26085.561199554137, 154137.98779069795, -883888.3571293643,
              5382501.347772374, -51754506.97567863, 354052681.34294844)),
            (12.45, 0.05857075582764304,
             (0.995334250635793, -0.13014731183038436, -0.6138274874423841, 2.8166578532294237,
              -12.108883822962527, 82.66740150127653, -709.4843048185105,
              6922.002243021633, -73817.11323160236, 839751.4717943743,
              -10086577.582497293, 125707378.80770956, -1481155863.9861166,
              18788637494.234215, -414515592435.91516, 6023661104748.147))),
}  # fmt: skip
ERFCX_CENTER = {"f32": 3.0, "f64": 4.0}
ERFC_END = {"f32": 10.2, "f64": 27.5}  # erfc is 0 from here on
ERFINV_SPLIT = {"f32": 5.0, "f64": 6.25}
ERFINV_MIDDLE = {"f32": 3.125, "f64": 3.25}
HALF_ROOT = 0.7071067811865476  # sqrt(1/2)


@function
def erf(b: Builder, x: Value) -> Value:
    """The error function; ulp: f32 2.2, f64 3.0; unfused f32 2.5, f64 3.0."""
    a = b.min(ERF_END[x.dtype], absolute(b, x))
    z = a * a
    near = b.fma(polynomial(b, z, ERF_SMALL[x.dtype]), a, a)
    q = polynomial(b, a, ERF_LARGE[x.dtype])
    q = q * q
    q = q * q
    far = like(b, x, 1.0) - q * q
    return with_sign(b, b.select(a < 1.0, near, far), x)


def erfcx(b: Builder, x: Value) -> Value:
    """e^(x^2) erfc(x) for x >= 1/2."""
    k = ERFCX_CENTER[x.dtype]
    return polynomial(b, (x - k) / (x + k), ERFCX[x.dtype]) / (x * 2.0 + 1.0)


def upper_tail(b: Builder, x: Value, square: tuple[Value, Value]) -> Value:
    """erfc(x) for x >= 1/2, given x^2 in two floats."""
    y = erfcx(b, x)
    return exp_below_one(b, -square[0]) * b.fma(-square[1], y, y)


@function
def erfc(b: Builder, x: Value) -> Value:
    """1 - erf(x); ulp: f32 4.5, f64 4.5."""
    a = b.min(ERFC_END[x.dtype], absolute(b, x))
    tail = upper_tail(b, a, exact_product(b, a, a))
    return b.select(x < 0.5, 1.0 - erf(b, x), tail)


def half_tail(b: Builder, x: Value) -> tuple[Value, Value, Value]:
    """ndtr(-|x|) for |x| >= 3/4; and x^2/2 and y, where it is e^-(x^2/2) y."""
    a = b.min(ERFC_END[x.dtype] / HALF_ROOT, absolute(b, x))
    high, low = exact_product(b, a, a)
    y = erfcx(b, a * HALF_ROOT) * 0.5
    y = b.fma(low * -0.5, y, y)
    return exp_below_one(b, high * -0.5) * y, high * 0.5, y


def normal(b: Builder, x: Value, tail: Value) -> Value:
    """The normal distribution, given what it is at -|x|."""
    middle = b.fma(erf(b, x * HALF_ROOT), 0.5, 0.5)
    outer = b.select(x < 0, tail, 1.0 - tail)
    return b.select(absolute(b, x) < 0.75, middle, outer)


@function
def ndtr(b: Builder, x: Value) -> Value:
    """The distribution function of the normal law; ulp: f32 4.5, f64 5.0."""
    return normal(b, x, half_tail(b, x)[0])


@function
def log_ndtr(b: Builder, x: Value) -> Value:
    """The logarithm of ndtr(x); ulp: f32 5.0, f64 5.0."""
    tail, half_square, share = half_tail(b, x)
    far = x < -0.75
    y = log1p(b, b.select(far, share - 1.0, -normal(b, -x, tail)))
    y = b.select(far, y - half_square, y)
    beyond = x < -ERFC_END[x.dtype] / HALF_ROOT
    return b.select(beyond, log_ndtr_far(b, x), y)


def log_ndtr_far(b: Builder, x: Value) -> Value:
    """log ndtr(x) where ndtr(x) is below all floats, by the asymptotic series."""
    inverse = 1.0 / x
    series = polynomial(b, inverse * inverse, (0.0, -1.0, 5 / 2, -37 / 3, 353 / 4, -4081 / 5))
    return (x * -0.5) * x - ((log(b, -x) + 0.9189385332046727) - series)


def inverse_ratio(b: Builder, w: Value) -> Value:
    """erfinv(x) / x, given w = -log(1 - x^2)."""
    split, middle = ERFINV_SPLIT[w.dtype], ERFINV_MIDDLE[w.dtype]
    root = b.unary("sqrt", w)
    y = polynomial(b, root - middle, ERFINV_FAR[w.dtype])
    if w.dtype == "f64":
        y = b.select(w > 16.0, polynomial(b, root - 5.0, ERFINV_LAST), y)
    return b.select(w < split, polynomial(b, w - 0.5 * split, ERFINV_NEAR[w.dtype]), y)


@function
def erfinv(b: Builder, x: Value) -> Value:
    """The number whose erf is `x`; ulp: f32 3.5, f64 3.5; unfused f32 4.0, f64 4.0."""
    a = absolute(b, x)
    y = x * inverse_ratio(b, -log(b, (1.0 - a) * (a + 1.0)))
    return b.select(a.eq(1), x / 0.0, y)


@function
def ndtri(b: Builder, p: Value) -> Value:
    """The number whose ndtr is `p`; ulp: f32 4.5, f64 4.5."""
    q = b.min(1.0 - p, p)
    w = -log(b, q * 4.0 * (1.0 - q))
    root = b.unary("sqrt", w)
    y = inverse_ratio(b, w)
    for start, center, coefficients in NDTRI_TAIL[p.dtype]:
        tail = root * polynomial(b, 1.0 / root - center, coefficients)
        y = b.select(root > start, tail, y)
    y = (p - 0.5) * y * (2.0 / HALF_ROOT)  # p - 1/2 is half of the x that erfinv takes
    end = b.select(p < 0.5, like(b, p, -math.inf), like(b, p, math.inf))
    y = b.select(q.eq(0), end, y)
    return b.select(q >= 0, y, like(b, p, math.nan))
