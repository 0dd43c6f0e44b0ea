"""Modified Bessel functions of the first kind, of order 0 and 1.

source: polynomials fitted here; beyond 8 in 1/x, as Abramowitz and Stegun 9.8 arrange it.
"""

from __future__ import annotations

import math

from amity.ir.kernel import Builder, Value

from .exponential import exp_below_one, exp_times
from .floats import absolute, function, polynomial, with_sign

# I0(x), and I1(x) / x, in x^2 on [0, 8]
I0_NEAR = {
    "f32": (1.0e+00, 2.5000003e-01, 1.5624963e-02, 4.3404117e-04, 6.779565e-06, 6.7992e-08,
            4.6273393e-10, 2.6278164e-12, 5.8714986e-15, 5.696149e-17),
    "f64": (1.0, 0.25, 0.015625, 0.00043402777777777775, 6.7816840277777766e-06,
            6.781684027777821e-08, 4.709502797067037e-10, 2.4028075495356905e-12,
            9.385966989309441e-15, 2.896903398739361e-17, 7.242258160589536e-20,
            1.496335535997163e-22, 2.597772504909938e-25, 3.8434994699003623e-28,
            4.893107126639501e-31, 5.5329842348858625e-34, 4.73551073098185e-37,
            6.889347001274432e-40),
}  # fmt: skip
I1_NEAR = {
    "f32": (5.0e-01, 6.25e-02, 2.6041656e-03, 5.4253996e-05, 6.780776e-07, 5.6591554e-09,
            3.327219e-11, 1.602326e-13, 3.6473858e-16, 2.6962504e-18),
    "f64": (0.5, 0.0625, 0.0026041666666666665, 5.425347222222241e-05, 6.781684027776859e-07,
            5.651403356505971e-09, 3.3639305689324765e-11, 1.5017547228319312e-13,
            5.214425773216155e-16, 1.4484535078396552e-18, 3.2918635894671862e-21,
            6.2368366279068734e-24, 9.946196446200377e-27, 1.443136096210104e-29,
            8.575903367690367e-33, 7.399784133844225e-35, -2.351897440282403e-37,
            5.148694128560252e-40),
}  # fmt: skip
# e^-x I(x) sqrt(x) in 16/x - 1, x >= 8
I0_FAR = {
    "f32": (4.021765e-01, 3.3605588e-03, 1.3639872e-04, 1.1099951e-05, 9.915301e-07, 3.7244524e-07,
            4.3179955e-07),
    "f64": (0.4021765094450081, 0.0033605519836677937, 0.0001362160743896992,
            1.1143033797340123e-05, 1.4838476726697687e-06, 2.9735968138324775e-07,
            8.872020253254876e-08, 3.932809732204684e-08, 2.1567559058813577e-08,
            7.538877630006233e-09, -6.856218471295799e-09, -1.334146308621804e-08,
            -5.015956931076339e-09, 7.368593784044808e-09, 6.514995568948362e-09,
            -3.178226241921304e-09, -4.5171096044585525e-09, 1.1406829706754937e-09,
            2.150332246685959e-09, -2.965941638484202e-10, -6.42521921425395e-10,
            3.946587886459897e-11, 8.966034610522895e-11),
}  # fmt: skip
I1_FAR = {
    "f32": (3.8939846e-01, -9.749585e-03, -2.1917449e-04, -1.4990117e-05, -1.9935303e-06,
            -4.3219876e-07, -1.0611701e-08),
    "f64": (0.38939845902587233, -0.009749577193235371, -0.00021923576383529322,
            -1.5038547226904682e-05, -1.8349100882055344e-06, -3.4838500136123725e-07,
            -1.0001328470101835e-07, -4.313510024071843e-08, -2.3373866787844113e-08,
            -8.393205056615752e-09, 6.753481867931173e-09, 1.3909117273147591e-08,
            5.844082895507662e-09, -7.347799313872153e-09, -7.449306560261263e-09,
            2.966810078784722e-09, 5.365617942757713e-09, -9.674966512323086e-10,
            -2.7079803641471618e-09, 2.238211063314006e-10, 8.637217587063962e-10,
            -2.6324197658035265e-11, -1.2862286794300766e-10),
}  # fmt: skip
SPLIT = 8.0
SHARE = 2.0**-8  # taken from e^x until the end, as I(x) overflows later


def parts(b: Builder, a: Value, near: dict, far: dict, is_odd: bool) -> tuple[Value, Value]:
    """I(a), right up to 8, and e^-a I(a), right from there on, for a >= 0."""
    low = polynomial(b, a * a, near[a.dtype])
    high = polynomial(b, 2.0 * SPLIT / a - 1.0, far[a.dtype]) / b.unary("sqrt", a)
    return (low * a if is_odd else low), high


def whole(b: Builder, a: Value, low: Value, high: Value) -> Value:
    high = (exp_times(b, a, SHARE) * high) * (1.0 / SHARE)
    return b.select(a <= SPLIT, low, b.select(a.eq(math.inf), a, high))


def scaled(b: Builder, a: Value, low: Value, high: Value) -> Value:
    return b.select(a <= SPLIT, low * exp_below_one(b, -a), high)


@function
def i0(b: Builder, x: Value) -> Value:
    """I0(x); ulp: f32 4.0, f64 4.0."""
    a = absolute(b, x)
    return whole(b, a, *parts(b, a, I0_NEAR, I0_FAR, False))


@function
def i0e(b: Builder, x: Value) -> Value:
    """e^-|x| I0(x); ulp: f32 4.0, f64 4.0."""
    a = absolute(b, x)
    return scaled(b, a, *parts(b, a, I0_NEAR, I0_FAR, False))


@function
def i1(b: Builder, x: Value) -> Value:
    """I1(x); ulp: f32 4.0, f64 4.0; unfused f32 4.5, f64 4.5."""
    a = absolute(b, x)
    return with_sign(b, whole(b, a, *parts(b, a, I1_NEAR, I1_FAR, True)), x)


@function
def i1e(b: Builder, x: Value) -> Value:
    """e^-|x| I1(x); ulp: f32 4.0, f64 4.0."""
    a = absolute(b, x)
    return with_sign(b, scaled(b, a, *parts(b, a, I1_NEAR, I1_FAR, True)), x)
