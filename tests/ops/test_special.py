"""The namespace of special functions, and the incomplete gamma functions, against PyTorch."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import cases, match  # noqa: E402

NAMED = cases(
    """
special.gammainc(x, z) ; special.gammaincc(x, z) ; special.expit(x) ; special.exp2(x)
special.expm1(x) ; special.erf(x) ; special.erfc(x) ; special.erfinv(x / 9) ; special.gammaln(x)
special.digamma(x) ; special.psi(x) ; special.i0(x) ; special.i0e(x) ; special.i1(x) ; special.i1e(x)
special.log1p(x) ; special.log_ndtr(x) ; special.log_softmax(x, 1) ; special.softmax(x, 1)
special.logit(x / 9) ; special.logsumexp(x, 1) ; special.multigammaln(x + 3, 2) ; special.ndtr(x)
special.ndtri(x / 9) ; special.polygamma(1, x) ; special.round(x) ; special.sinc(x)
special.xlog1py(x, z) ; special.xlogy(x, z) ; special.zeta(x + 1.5, z) ; special.entr(x - 0.5)
special.entr(tensor([0.0, -1, nan, inf, 1])) ; special.entr(tensor([2, 0])) ; special.erf(tensor([1]))
"""
)
GAMMA = cases(
    """
igamma(x, z) ; igammac(x, z) ; igamma(x, z[:1]) ; igamma(x[:, :1], z) ; igamma(x * 20, z * 20)
igammac(x * 20, z * 20) ; igamma(x * 0.01, z * 3) ; igammac(x * 0.01, z * 3) ; igamma(x[:0], z[:0])
igamma(x, z.to(float32)) ; igamma(x.to(int64), z.to(int64)) ; igamma(x, 2.0) ; x.igamma(z)
x.clone().igamma_(z) ; x.clone().igammac_(z) ; igamma(x, z, out=empty(0, dtype=float64))
igamma(x.T, z.T) ; igamma(x, z[:, :2]) ; igamma(x[0, 0], z[0, 0])
"""
)
EDGES = "tensor([0.0, 0, 1, 1, inf, inf, 2, -1, nan, 2]), tensor([0.0, 1, 0, inf, 1, inf, inf, 1, 1, -1])"


@pytest.mark.parametrize("text", NAMED)
def test_the_namespace(text):
    match(
        text,
        tolerance=1e-8 if "tensor" not in text else None,
        x="float64[3,4]|p",
        z="float64[3,4]|p",
    )


@pytest.mark.parametrize("text", GAMMA)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_incomplete_gamma(text):
    match(
        text,
        tolerance=1e-9 if "float32" not in text else 1e-6,
        x="float64[3,4]|p",
        z="float64[3,4]|p",
    )


@pytest.mark.parametrize("name", ["igamma", "igammac"])
def test_incomplete_gamma_at_its_edges(name):
    match(f"{name}({EDGES})")
    for dtype in ("float16", "bfloat16", "float32"):
        match(f"{name}(x, z)", x=f"{dtype}[9]|p", z=f"{dtype}[9]|p")


SLOPES = cases(
    "igamma(x.detach(), z) ; igammac(x.detach(), z[:1]) ; special.entr(x) ; igamma(x, z)"
)


@pytest.mark.parametrize("text", SLOPES)
def test_slopes(text):
    match(text, order=2, tolerance=1e-8, x="float64[3,4]|p", z="float64[3,4]|p")


def test_no_other_function_is_missing():
    absent = """airy_ai bessel_j0 bessel_j1 bessel_y0 bessel_y1 erfcx modified_bessel_i0
        modified_bessel_i1 modified_bessel_k0 modified_bessel_k1 scaled_modified_bessel_k0
        scaled_modified_bessel_k1 spherical_bessel_j0""".split()
    names = [n for n in torch.special.__all__ if "polynomial" not in n and n not in absent]
    assert [n for n in names if not hasattr(amity.special, n)] == []
