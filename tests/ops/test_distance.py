"""Distances between two sets of rows, against PyTorch."""

import itertools
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

rng = np.random.default_rng(0)
SHAPES = [
    ((5, 3), (4, 3)),
    ((2, 6, 17), (2, 3, 17)),
    ((2, 1, 4, 5), (3, 6, 5)),
    ((40, 6), (30, 6)),
    ((0, 3), (2, 3)),
    ((3, 0), (2, 0)),
    ((5, 1), (7, 1)),
]


def compare(x1, x2, p=2.0, dtype="float64", tolerance=1e-7, **options):
    results = []
    for lib in (amity, torch):
        a, b = (lib.tensor(x).to(getattr(lib, dtype)).requires_grad_() for x in (x1, x2))
        y = lib.cdist(a, b, p, **options)
        weight = np.random.default_rng(1).standard_normal(tuple(y.shape))
        (y * lib.tensor(weight).to(y.dtype)).sum().backward()
        results.append([t.detach().numpy() for t in (y, a.grad, b.grad)])
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("p", [0, 0.5, 1, 1.5, 2, 3, math.inf])
def test_every_norm(shapes, p):
    compare(*(rng.standard_normal(s) for s in shapes), p=float(p))


def test_both_ways_of_euclidean_distances():
    x1, x2 = rng.standard_normal((7, 5)), rng.standard_normal((9, 5))
    for mode, dtype in itertools.product(
        ("use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist"), ("float32", "float64")
    ):
        compare(x1, x2, dtype=dtype, tolerance=1e-4, compute_mode=mode)


def test_equal_rows_have_no_gradient():
    x = rng.standard_normal((6, 4))
    for p in (1.0, 1.5, 2.0, 3.0):
        compare(x, x.copy(), p=p)


def test_transposed_rows():
    x1, x2 = rng.standard_normal((8, 5)), rng.standard_normal((8, 6))
    mine = amity.cdist(amity.tensor(x1).t(), amity.tensor(x2).t(), 1.0)
    theirs = torch.cdist(torch.tensor(x1).t(), torch.tensor(x2).t(), 1.0)
    np.testing.assert_allclose(mine.numpy(), theirs.numpy())


def test_gradients_of_gradients():
    a, b = (amity.randn(n, 3, dtype=amity.float64).requires_grad_() for n in (4, 2))
    for p in (1.5, 2.0, 3.0):
        assert amity.autograd.gradgradcheck(lambda a, b, p=p: amity.cdist(a, b, p), (a, b))


BAD = [
    (lambda m: m.cdist(m.zeros(3), m.zeros(3, 3)), "X1 got: 1D"),
    (lambda m: m.cdist(m.zeros(3, 3), m.zeros(2, 4)), "same number of columns"),
    (lambda m: m.cdist(m.zeros(3, 3), m.zeros(3, 3), -1.0), "non-negative"),
    (lambda m: m.cdist(m.zeros(3, 3).long(), m.zeros(3, 3).long()), "floating-point"),
    (lambda m: m.cdist(m.zeros(3, 3), m.zeros(3, 3).double()), "expected scalar type"),
    (lambda m: m.cdist(m.zeros(3, 3), m.zeros(3, 3), 2.0, "fast"), "compute_mode"),
]


@pytest.mark.parametrize("call, says", BAD)
def test_errors(call, says):
    with pytest.raises(Exception) as expected:  # noqa: B017
        call(torch)
    with pytest.raises(type(expected.value), match=says):
        call(amity)
