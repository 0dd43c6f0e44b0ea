"""Elementwise functions against PyTorch: every dtype, special values, layouts and derivatives."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from tests.ops.compare import DTYPES, FLOATS, INTEGERS, match, match_dtype  # noqa: E402

UNARY = (
    "abs acos acosh angle asin asinh atan atanh ceil cos cosh deg2rad digamma erf erfc erfinv exp "
    "exp2 expm1 fix floor frac i0 isfinite isinf isnan isneginf isposinf isreal lgamma log log10 "
    "log1p log2 logical_not logit nan_to_num neg positive rad2deg reciprocal relu round rsqrt "
    "sigmoid sign sgn signbit sin sinc sinh sqrt square tan tanh trunc bitwise_not"
).split()
BINARY = (
    "add sub mul div true_divide floor_divide remainder fmod eq ne lt le gt ge logical_and "
    "logical_or logical_xor maximum minimum fmax fmin pow bitwise_and bitwise_or bitwise_xor "
    "bitwise_left_shift bitwise_right_shift gcd lcm atan2 hypot copysign nextafter logaddexp "
    "logaddexp2 xlogy ldexp heaviside float_power rsub"
).split()
BY_NUMBER = (
    "add sub mul div floor_divide remainder fmod eq ne lt le gt ge pow bitwise_and bitwise_or "
    "bitwise_xor bitwise_left_shift xlogy float_power rsub copysign"
).split()
KERNELS = ("bool", "uint8", "int32", "int64", *FLOATS)
FLAT = "ceil floor frac trunc fix round sign sgn neg abs positive relu isnan isinf isfinite".split()
NO_SLOPE = "floor_divide nextafter heaviside gcd lcm bitwise_left_shift bitwise_right_shift".split()
VIEWS = ("x.T", "x[:, ::2]", "x[:1].expand(3, 5)", "x[0, 0]", "x[:0]", "x[1:, 1:]")
PAIRS = (
    "x.T, z.T", "x[:, ::2], z[:, 1::2]", "x[:1].expand(4, 6), z", "x[0, 0], z", "x[:0], z[:1]",
    "x[1:, 1:], z[0, 0]", "x, z[:, :1]", "x, z[:3]", "x[:, None], z",
)  # fmt: skip


# PyTorch's i0 gives NaN at infinity; a NaN has no sign to compare


def values(name: str, dtype: str) -> str:
    """Numbers and, for floats, the values where rounding and branches go wrong."""
    if dtype not in FLOATS or name in ("i0", "signbit", "copysign"):
        return f"{dtype}[12]"
    return f"{dtype}[12]|special"


@pytest.mark.parametrize("dtype", KERNELS)
@pytest.mark.parametrize("name", UNARY)
def test_unary_of_every_dtype(name, dtype):
    match(f"{name}(x)", x=values(name, dtype))


@pytest.mark.parametrize("name", UNARY)
def test_dtypes_of_unary_results(name):
    for dtype in DTYPES:
        match_dtype(f"{name}(x)", x=f"{dtype}[2]")


@pytest.mark.parametrize("name", UNARY)
def test_unary_slopes(name):
    match(f"{name}(x)", order=2, x="float64[3,4]|" + ("p" if name in ("acosh", "log") else "unit"))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", ["exp", "floor", "isnan", "sqrt", "erfinv", "lgamma"])
def test_unary_of_views(name, view):
    match(f"{name}({view})", order=1, x="float32[3,5]|unit")


@pytest.mark.parametrize("name", BINARY)
def test_dtypes_of_binary_results(name):
    for dtype in DTYPES:
        match_dtype(f"{name}(x, x)", x=f"{dtype}[2]")


@pytest.mark.parametrize("dtype", KERNELS)
@pytest.mark.parametrize("name", BINARY)
def test_binary_of_every_dtype(name, dtype):
    if dtype in FLOATS:
        match(f"{name}(x[:, None], x)", x=values(name, dtype))
    else:
        match(f"{name}(x, z)", x=f"{dtype}[40]", z=f"{dtype}[40]|p")


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["floor_divide", "remainder", "fmod"])
def test_integers_are_not_divided_by_zero(name, dtype):
    match(f"{name}(x, x)", x=f"{dtype}[40]")
    match(f"{name}(x, 0)", x=f"{dtype}[3]")
    match(f"x.{name}_(0)", x=f"{dtype}[3]")
    match(f"{name}(x[:0], 0)", x=f"{dtype}[3]|p")


@pytest.mark.parametrize("number", ["-3", "1.5", "True"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "bfloat16", "float32"])
def test_binary_with_a_number(dtype, number):
    for name in BY_NUMBER:
        match(f"{name}(x, {number})", x=values(name, dtype))


@pytest.mark.parametrize("name", [n for n in BINARY if n not in NO_SLOPE])
def test_binary_slopes(name):
    match(f"{name}(x, z)", order=2, x="float64[3,4]", z="float64[4]|p")
    match(f"{name}(x, z)", order=2, x="float64[3,4]|p", z="float64[3,1]|p")


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow", "xlogy", "float_power"])
def test_binary_slopes_with_a_number(name):
    match(f"{name}(x, 2.5)", order=2, x="float64[3,4]|p")
    match(f"{name}(x, 0.1)", order=2, x="float64[3,4]|p")
    if name in ("pow", "xlogy", "float_power"):
        match(f"{name}(2.3, x)", order=2, x="float64[3,4]|p")


@pytest.mark.parametrize("name", ["add", "mul", "div", "atan2", "maximum", "hypot", "pow"])
def test_slopes_between_dtypes(name):
    match(f"{name}(x, z)", 1, 1e-5, x="float32[3,4]|p", z="float64[4]|p")
    match(f"{name}(x, z)", 1, 1e-5, x="float32[3,4]|p", z="float64[]|p")


@pytest.mark.parametrize("views", PAIRS)
@pytest.mark.parametrize("name", ["add", "div", "maximum", "xlogy", "eq", "fmod"])
def test_binary_of_views(name, views):
    match(f"{name}({views})", order=1, x="float32[4,6]|p", z="float32[4,6]|p")


MORE = """
clamp(x, 0.1)
clamp(x, -0.5, 0.5)
clamp(x, max=0.2)
clamp(x, 0.5, -0.5)
clamp(x, min=z)
clamp(x, z, z + 1)
clamp(x, max=z[:1])
clamp(x)
clip(x, -1, 1)
clamp_min(x, 0.0)
clamp_max(x, 0.0)
x.clamp_(-1, 1)
lerp(x, z, 0.3)
lerp(x, z, x)
lerp(x, z.to(float16), 0.3)
addcmul(x, z, x, value=0.5)
addcmul(x, z[:1], x[:, :1])
addcdiv(x, z, exp(x), value=2)
addcdiv(x, ones_like(x, dtype=int64), ones_like(x, dtype=int64))
add(x, z, alpha=2)
sub(x, z, alpha=-0.5)
div(x, z, rounding_mode='trunc')
div(x, z, rounding_mode='floor')
div(x, z, rounding_mode='up')
nan_to_num(x / 0)
nan_to_num(x / 0, nan=1.0, posinf=2.0, neginf=-3.0)
round(x, decimals=2)
round(x * 100, decimals=-1)
isclose(x, x + 1e-9)
isclose(x, z, rtol=0.5, atol=0.1)
isclose(x / 0, x / 0, equal_nan=True)
allclose(x, x)
allclose(x, z)
equal(x, x)
equal(x, z)
equal(x, z[:2])
polygamma(1, abs(x) + 0.5)
polygamma(2, abs(x) + 0.5)
polygamma(-1, x)
mvlgamma(abs(x) + 3, 2)
mvlgamma(x, 0)
frexp(x)
special.expit(x)
logit(sigmoid(x), eps=0.4)
special.xlog1py(x, exp(z))
special.entr(abs(x))
special.ndtr(x)
special.log_ndtr(x)
special.ndtri(sigmoid(x))
special.i0e(x)
special.i1(x)
special.i1e(x)
special.erfcx(x)
special.zeta(abs(x) + 1.5, abs(z) + 0.5)
where(x > 0, x, z)
where(x > 0, x, 0)
where(x > 0, 1.5, z)
where(x > 0, z[:1], x[:, :1])
where(x, x, z)
maximum(x, z)
fmin(x, z)
hypot(x, z)
copysign(x, z)
ldexp(x, ones_like(x, dtype=int32))
x.pow(2), x.pow(3), x.pow(-1), x.abs().pow(0.5), x.pow(0), x.pow(1)
x ** 2, 2 ** x, abs(x) ** z, x ** -2.0
-x, +x, abs(x), x % 0.7, 0.7 - x, 0.7 / x
""".strip().splitlines()


@pytest.mark.parametrize("text", [t for t in MORE if "special." not in t])
def test_more_functions(text):
    match(text, order=2, tolerance=1e-8, x="float64[3,4]", z="float64[3,4]")


@pytest.mark.parametrize("name", FLAT)
def test_flat_functions_keep_integers(name):
    match(f"{name}(x)", x="int32[7]")
    match(f"{name}(x).dtype", x="uint8[7]")


OPERATORS = "+ - * / // % ** & | ^ << >> == != < <= > >=".split()


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "bfloat16", "float32"])
def test_operators(operator, dtype):
    match(f"x {operator} z", x=f"{dtype}[3,4]", z=f"{dtype}[4]|p")
    for number in ("True", "2", "1.5"):
        match(f"x {operator} {number}", x=f"{dtype}[3,4]")
        match(f"{number} {operator} x", x=f"{dtype}[3,4]|p")
