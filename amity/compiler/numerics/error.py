"""The error function and what follows from it: the normal distribution.

source: ours: erf(x) = x P(x^2) near 0, else 1 - Q(x)^n, so that no exponential is needed.
"""

from __future__ import annotations

from amity.ir.kernel import Builder, Value

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


@function
def erf(b: Builder, x: Value) -> Value:
    """The error function; ulp: f32 2.2, f64 2.6; unfused f32 2.3, f64 3.0."""
    a = b.min(ERF_END[x.dtype], absolute(b, x))
    z = a * a
    near = b.fma(polynomial(b, z, ERF_SMALL[x.dtype]), a, a)
    q = polynomial(b, a, ERF_LARGE[x.dtype])
    q = q * q
    q = q * q
    far = like(b, x, 1.0) - q * q
    return with_sign(b, b.select(a < 1.0, near, far), x)
