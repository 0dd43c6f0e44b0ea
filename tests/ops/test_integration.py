"""Trapezoidal rules, powers and sums with products, against PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

rng = np.random.default_rng(0)


def both(call, *arrays, has_grad=True, tolerance=1e-12):
    """The same result and, for floats, the same gradients; none at all counts as zeros."""
    results = []
    for lib in (amity, torch):
        tensors = [lib.tensor(a) for a in arrays]
        grads = [t.requires_grad_() for t in tensors if has_grad and t.is_floating_point()]
        y = call(lib, *tensors)
        if grads:
            y.sum().backward()
        given = [lib.zeros_like(t) if t.grad is None else t.grad for t in grads]
        results.append([y.detach().numpy(), *(g.detach().numpy() for g in given)])
    for mine, theirs in zip(*results, strict=True):
        assert mine.dtype == theirs.dtype
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["trapezoid", "cumulative_trapezoid"])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_trapezoids(name, dim):
    y = rng.standard_normal((4, 5, 6))
    both(lambda m, y: getattr(m, name)(y, dim=dim), y)
    both(lambda m, y: getattr(m, name)(y, dx=0.3, dim=dim), y)
    both(lambda m, y, x: getattr(m, name)(y, x, dim=dim), y, rng.standard_normal((4, 5, 6)))
    both(lambda m, y, x: getattr(m, name)(y, x, dim=dim), y, rng.standard_normal(y.shape[dim]))
    both(lambda m, y: getattr(m, name)(y, dim=dim), rng.integers(0, 9, (3, 4, 5)))
    both(lambda m, y: getattr(m, name)(y, dim=dim), y[:1, :1, :1])


@pytest.mark.parametrize("n", [None, 0, 1, 2, 6])
@pytest.mark.parametrize("increasing", [False, True])
def test_powers(n, increasing):
    """Results only: PyTorch's own gradient of it fails."""
    for x in (np.array([1.5, -2.0, 0.5, 3.0]), np.array([1, 2, -3])):
        both(lambda m, x: m.vander(x, n, increasing), x, has_grad=False)


def test_the_gradient_of_powers():
    x = amity.randn(3, dtype=amity.float64).requires_grad_()
    assert amity.autograd.gradcheck(lambda x: amity.vander(x, 4), (x,))


def test_products_added_to_something():
    v, w, x = rng.standard_normal(3), rng.standard_normal(4), rng.standard_normal((3, 4))
    one, two = rng.standard_normal((2, 3, 5)), rng.standard_normal((2, 5, 4))
    both(lambda m, a, b, c: m.addmv(a, b, c, beta=0.5, alpha=2), v, x, w)
    both(lambda m, a, b, c: m.addr(a, b, c, beta=0.5, alpha=2), x, v, w)
    both(lambda m, a, b, c: m.addr(a, b, c), w, v, w)
    both(lambda m, a, b, c: m.addbmm(a, b, c, beta=0.5, alpha=2), x, one, two)
    both(lambda m, a, b: m.vdot(a, b), v, v + 1)
    both(lambda m, a, b, c: a.clone().addmv_(b, c), v, x, w)
    nan = np.full((3, 4), np.nan)
    both(lambda m, a, b, c: m.addr(a, b, c, beta=0).sum(), nan, v, w)


BAD = [
    lambda m: m.trapezoid(m.zeros(3), m.zeros(4)),
    lambda m: m.trapezoid(m.tensor(1.0)),
    lambda m: m.trapezoid(m.zeros(3), x=m.zeros(3), dx=2),
    lambda m: m.vander(m.zeros(3, 4)),
    lambda m: m.vander(m.zeros(3), -1),
    lambda m: m.addr(m.zeros(3, 4), m.zeros(3), m.zeros(5)),
    lambda m: m.addr(m.zeros(3, 4), m.zeros(3, 1), m.zeros(4)),
    lambda m: m.addmv(m.zeros(3), m.zeros(3, 4), m.zeros(3)),
    lambda m: m.addmv(m.zeros(3), m.zeros(3), m.zeros(3)),
    lambda m: m.addbmm(m.zeros(3, 4), m.zeros(2, 3, 5), m.zeros(2, 5, 5)),
    lambda m: m.vdot(m.zeros(3), m.zeros(4)),
]


@pytest.mark.parametrize("call", BAD)
def test_errors(call):
    with pytest.raises(Exception) as expected:  # noqa: B017
        call(torch)
    with pytest.raises(type(expected.value)):
        call(amity)
