"""Dtypes of results against PyTorch: pairs of tensors, 0-d tensors and numbers, and what may be written."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import DTYPES, builtin_class, cases, evaluate, match, same  # noqa: E402

PAIRS = list(itertools.product(DTYPES, DTYPES))
NUMBERS = ("True", "2", "2.5", "-1", "300")


def match_type(text: str, **dtypes: str) -> None:
    """The same dtype and shape, or class of error; amity is given tensors without data, so it computes
    nothing."""
    made = []
    for lib in (torch, amity):
        inputs = {}
        for name, spec in dtypes.items():
            dtype, _, dims = spec.partition("[")
            shape = tuple(int(n) for n in dims.rstrip("]").split(",") if n)
            device = "meta" if lib is amity else "cpu"
            inputs[name] = lib.ones(shape, dtype=getattr(lib, dtype), device=device)
        try:
            made.append((evaluate(lib, text, inputs), None))
        except (RuntimeError, TypeError) as error:
            made.append((None, error))
    (expected, raised), (got, error) = made
    of = f"{text} of {dtypes}"
    if raised is not None or error is not None:
        assert raised is not None, f"{of}: got {error}; expected {expected}"
        assert error is not None, f"{of}: got {got}; expected {raised}"
        assert isinstance(error, builtin_class(raised)), f"{of}: got {error!r}; expected {raised!r}"
    elif isinstance(expected, (torch.dtype, bool)):
        same(got, expected, of)
    else:
        assert got.dtype.name == str(expected.dtype).split(".")[-1], f"{of}: got {got.dtype}"
        assert tuple(got.shape) == tuple(expected.shape), f"{of}: got {got.shape}"


OF_TWO = cases(
    """
x + z ; x - z ; x * z ; x / z ; x // z ; x % z ; x == z ; x < z ; maximum(x, z) ; where(x > 1, x, z)
cat((x, z)) ; atan2(x, z) ; hypot(x, z) ; pow(x, z) ; x & z ; logical_xor(x, z) ; fmod(x, z)
result_type(x, z) ; promote_types(x.dtype, z.dtype) ; can_cast(x.dtype, z.dtype)
"""
)
WRITTEN = cases(
    """
x.add_(z) ; x.mul_(z) ; x.div_(z) ; x.copy_(z) ; x.pow_(z) ; x.floor_divide_(z) ; x.clamp_(min=z)
x.bitwise_and_(z) ; x.logical_and_(z) ; x.eq_(z) ; x.lerp_(z, 0.5) ; x.addcmul_(z, z)
"""
)
OUT = cases(
    """
add(x, x, out=z) ; exp(x, out=z) ; eq(x, x, out=z) ; mul(x, z, out=zeros(3, dtype=x.dtype))
maximum(x, tensor(2))
"""
)
OF_ZERO_D = cases(
    """
x + z ; z + x ; x * z ; x / z ; z / x ; maximum(x, z) ; where(x > 1, x, z) ; x == z ; x // z
result_type(x, z) ; x.add_(z) ; z + z ; z * z
"""
)


@pytest.mark.parametrize("a, b", PAIRS)
def test_types_of_two_tensors(a, b):
    for text in OF_TWO + WRITTEN:
        match_type(text, x=f"{a}[3]", z=f"{b}[3]")


@pytest.mark.parametrize("a, b", PAIRS)
def test_types_with_zero_d_tensors(a, b):
    for text in OF_ZERO_D:
        match_type(text, x=f"{a}[3]", z=f"{b}[]")


WITH_NUMBER = cases(
    """
x + {} ; {} + x ; x * {} ; x / {} ; {} / x ; x // {} ; {} // x ; x % {} ; x - {} ; {} - x ; x ** {}
x == {} ; x < {} ; result_type(x, {}) ; where(x > 1, x, {}) ; where(x > 1, {}, x) ; x.add_({})
x.mul_({}) ; x.div_({}) ; x.sub_({}) ; x.masked_fill(x > 1, {}) ; full_like(x, {}) ; x.fill_({})
"""
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", NUMBERS)
def test_types_with_numbers(dtype, number):
    for shape in ("[3]", "[]"):
        for text in WITH_NUMBER:
            match_type(text.format(number), x=dtype + shape)


@pytest.mark.parametrize("a, b", PAIRS)
def test_values_of_two_tensors(a, b):
    match("x * z", x=f"{a}[9]|p", z=f"{b}[9]|p")
    match("x.copy_(z)", x=f"{a}[9]|p", z=f"{b}[9]|p")
    for text in OUT:
        match(text, x=f"{a}[3]|p", z=f"{b}[3]|p")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", NUMBERS)
def test_values_with_numbers(dtype, number):
    for text in ("x + {}", "x * {}", "{} - x", "where(x > 1, x, {})", "add(x, 1, alpha={})"):
        match(text.format(number), x=f"{dtype}[9]|p")
    match(f"clamp(x, min={number})" if dtype != "bool" else "clamp(x, min=2)", x=f"{dtype}[9]")


@pytest.mark.parametrize("a", NUMBERS[:3])
@pytest.mark.parametrize("b", NUMBERS[:3])
def test_two_numbers(a, b):
    match(f"result_type({a}, {b})")
    match(f"where(x > 0, {a}, {b})", x="float32[3]")


@pytest.mark.parametrize("dtype", DTYPES)
def test_asked_dtypes_of_sums(dtype):
    for text in ("sum(x, dtype={})", "prod(x, 1, dtype={})", "sum(x, 0, out=empty(0, dtype={}))",
                 "nansum(x, dtype={})", "cumsum(x, 0, dtype={})", "cumprod(x, 0, dtype={})"):  # fmt: skip
        match(text.format(dtype), x="int32[3,4]")


WRONG = cases(
    """
result_type(x, 'a') ; result_type(x) ; promote_types(x.dtype, 3) ; promote_types(float32, x)
can_cast(float32, 3) ; can_cast(x, float32) ; can_cast(float32, int64) ; is_floating_point(x)
finfo(int8) ; iinfo(float32) ; finfo(float16).max, finfo(float32).eps, finfo(bfloat16).tiny
iinfo(int8).max, iinfo(uint8).min, iinfo(int64).max ; add(x, x, alpha=True)
add(x.to(int32), 1, alpha=2.5) ; x.to(int32).add_(x) ; x.to(bool).add_(1) ; x.to(uint8).mul_(1.5)
x[:1].add_(x) ; add(x, x, out=zeros(3, dtype=int32)) ; add(x, x, out=zeros(2)).shape
"""
)


@pytest.mark.parametrize("text", WRONG)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_refusals_and_limits(text):
    match(text, x="float32[3]")


def test_the_default_dtype_decides_for_numbers():
    """Each time anew: what was found for one default does not stand for another."""
    texts = ("x + 2.5", "x / 2", "x.sum() * 1.5", "tensor(2.5) * x", "result_type(x, 1.5)")
    texts += ("x.sqrt()", "x.mul(0.3)", "x.sigmoid()", "logit(x > 1)", "nn.functional.gelu(x / 2)")
    try:
        for name in ("float32", "float64", "float32", "float64"):
            for lib in (torch, amity):
                lib.set_default_dtype(getattr(lib, name))
            for text in texts:
                match(text, x="int32[3]")
    finally:
        for lib in (torch, amity):
            lib.set_default_dtype(lib.float32)
