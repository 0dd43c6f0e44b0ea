"""Jacobians, Hessians and their products, as PyTorch gives them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import match  # noqa: E402


def inputs(m):
    x = m.tensor([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]], dtype=m.float64)
    return x, m.tensor([1.0, 2.0, -3.0], dtype=m.float64)


class Derivatives:
    def jacobian(m):
        x, z = inputs(m)
        f = m.autograd.functional.jacobian
        return (
            f(lambda a: a.exp().sum(1), x),
            f(lambda a: (a * a).sum(), z),
            f(lambda a: a.sin(), x),
        )

    def jacobian_of_several(m):
        both = inputs(m)
        return m.autograd.functional.jacobian(lambda a, b: (a * b, (a @ b).tanh()), both)

    def jacobian_without_dependence(m):
        x, z = inputs(m)
        return m.autograd.functional.jacobian(lambda a, b: a * 2, (x, z))

    def strict(m):
        x, z = inputs(m)
        f = m.autograd.functional
        return (
            raised(f.jacobian, lambda a, b: a * 2, (x, z), strict=True),
            raised(f.jacobian, lambda a: m.ones(2), x, strict=True),
            raised(f.vjp, lambda a, b: (a * 2).sum(), (x, z), strict=True),
        )  # fmt: skip

    def jacobian_with_a_graph(m):
        x = leaf(m, 1, 2)
        j = m.autograd.functional.jacobian(lambda a: a**3, x, create_graph=True)
        j.sum().backward()
        return j, x.grad

    def hessian(m):
        x, z = inputs(m)
        f = m.autograd.functional.hessian
        return f(lambda a: (a**3).sum() + a.prod(), z), f(lambda a: a.sin().sum(), x)

    def hessian_of_several(m):
        both = inputs(m)
        return m.autograd.functional.hessian(lambda a, b: (a * b).tanh().sum() + (b**2).sum(), both)

    def hessian_of_many_results(m):
        return raised(m.autograd.functional.hessian, lambda a: a * 2, inputs(m)[0])

    def vjp(m):
        x, z = inputs(m)
        f = m.autograd.functional.vjp
        return (
            f(lambda a: a * a, z, z),
            f(lambda a, b: (a * b).sum(), (x, z)),
            raised(f, lambda a: a * 2, z),
        )

    def jvp(m):
        x, z = inputs(m)
        f = m.autograd.functional.jvp
        return (
            f(lambda a: a.exp(), z, z),
            f(lambda a, b: a @ b, (x, z), (x * 2, z + 1)),
            raised(f, lambda a: a, z),
        )

    def hvp_and_vhp(m):
        x, z = inputs(m)
        f = m.autograd.functional
        return f.hvp(lambda a: (a**4).sum(), z, z), f.vhp(
            lambda a, b: (a * b).sin().sum(), (x, z), (x, z)
        )

    def wrong_vectors(m):
        x, z = inputs(m)
        f = m.autograd.functional
        return (
            raised(f.vjp, lambda a: a * 2, z, x),
            raised(f.jvp, lambda a: a, z, x),
            raised(f.vjp, lambda a: a, 3),
        )

    def leaves_gradients_alone(m):
        x = leaf(m, 1, 2)
        m.autograd.functional.jacobian(lambda a: a * 2, x)
        with m.no_grad():
            j = m.autograd.functional.jacobian(lambda a: a * 2, x)
        return x.grad, j.requires_grad, j


@pytest.mark.parametrize("program", programs(Derivatives))
def test_program(program):
    match(program)


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("strategy", ["reverse-mode", "forward-mode"])
def test_jacobians_as_one_map(strategy):
    def call(m, x, y):
        jacobian = m.autograd.functional.jacobian
        f = lambda a, b: (a.sin() * b.sum(), b.prod())  # noqa: E731
        both = jacobian(f, (x, y), vectorize=True, strategy=strategy)
        return (*both, jacobian(lambda a: a * a.sum(), x, vectorize=True, strategy=strategy))

    match(call, x="float64[3,2]", y="float64[3]")
    x = amity.rand(3)
    with pytest.raises(RuntimeError, match="not supported together"):
        amity.autograd.functional.jacobian(amity.sin, x, strict=True, vectorize=True)
    with pytest.raises(NotImplementedError, match="vectorize=True"):
        amity.autograd.functional.jacobian(amity.sin, x, strategy="forward-mode")
    with pytest.raises(ValueError, match="strategy 'sideways'"):
        amity.autograd.functional.jacobian(amity.sin, x, strategy="sideways")
