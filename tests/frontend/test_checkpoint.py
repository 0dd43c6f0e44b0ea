"""Checkpoints: the same results, gradients and random numbers, with less kept in between."""

import gc
import weakref

import numpy as np
import pytest

import amity
from amity import func, nn
from amity.utils.checkpoint import CheckpointError, checkpoint, checkpoint_sequential


def close(a, b):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def network():
    amity.manual_seed(0)
    return nn.Sequential(
        nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Dropout(0.4), nn.Linear(8, 6), nn.Tanh()
    )


def step(net, x, run):
    amity.manual_seed(1)
    for t in (x, *net.parameters()):
        t.grad = None
    y = run(net, x)
    (y.sin() * (amity.rand(*y.shape) + 1)).sum().backward()
    return [y, x.grad, *[p.grad for p in net.parameters()], amity.rand(3)]


@pytest.mark.parametrize("use_reentrant", [None, False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, amity.compile])
def test_a_step_is_the_same(use_reentrant, wrap):
    net, x = network(), amity.randn(5, 6, requires_grad=True)
    plain = step(net, x, lambda net, x: net(net(x)))

    def run(net, x):
        y = checkpoint(net, x, use_reentrant=use_reentrant)
        return checkpoint(net, y, use_reentrant=use_reentrant)

    for _ in range(2):
        for a, b in zip(wrap(step)(net, x, run), plain, strict=True):
            close(a, b)


def test_nothing_is_kept_and_each_value_is_made_again_once():
    made, calls = [], []

    def part(x):
        calls.append(1)
        y = x.exp()
        made.append(weakref.ref(y))
        return (y * y.sin()).cos()

    x = amity.rand(4, requires_grad=True)
    y = checkpoint(part, x)
    gc.collect()
    assert made[0]() is None and len(calls) == 1
    (g,) = amity.autograd.grad(y.sum(), x, retain_graph=True)
    assert len(calls) == 2
    (again,) = amity.autograd.grad(y.sum(), x)
    assert len(calls) == 3
    z = x.detach().requires_grad_()
    part(z).sum().backward()
    close(g, z.grad)
    close(again, z.grad)
    gc.collect()
    assert made[1]() is None


def test_closures_nests_and_keywords():
    w, x = amity.rand(3, requires_grad=True), amity.rand(3, requires_grad=True)

    def part(d, scale=1.0):
        return {"a": (d["x"] * w).exp() * scale, "b": (d["x"].sin(), 3)}

    out = checkpoint(part, {"x": x}, scale=2.0)
    assert out["b"][1] == 3
    got = amity.autograd.grad(out["a"].sum() + out["b"][0].sum(), [w, x])
    out = part({"x": x}, scale=2.0)
    for a, b in zip(
        got, amity.autograd.grad(out["a"].sum() + out["b"][0].sum(), [w, x]), strict=True
    ):
        close(a, b)


def test_inside_of_each_other_and_of_transforms():
    x = amity.rand(4, dtype=amity.float64)

    def part(x):
        return checkpoint(lambda y: (y * y).sin().exp(), x * 2).tanh()

    def twice(x):
        return checkpoint(part, x).sum()

    def plain(x):
        return ((x * 2) * (x * 2)).sin().exp().tanh().sum()

    for f in (func.grad, func.hessian, lambda f: amity.vmap(func.grad(f)), func.jacrev):
        close(f(twice)(x), f(plain)(x))
    y = x.clone().requires_grad_()
    (g,) = amity.autograd.grad(twice(y), y, create_graph=True)
    (h,) = amity.autograd.grad((g * g).sum(), y)
    z = x.clone().requires_grad_()
    (k,) = amity.autograd.grad(plain(z), z, create_graph=True)
    close(h, amity.autograd.grad((k * k).sum(), z)[0])


def test_random_numbers():
    x = amity.ones(1000, requires_grad=True)

    def part(x):
        return nn.functional.dropout(x, 0.5) * x

    y = checkpoint(part, x)
    after = amity.rand(1)
    y.sum().backward()
    close(x.grad, 2 * y)  # of the same elements
    assert float(amity.rand(1)) != float(after)
    x.grad = None
    y = checkpoint(part, x, preserve_rng_state=False)
    y.sum().backward()
    assert (x.grad != 2 * y).any()


def test_autocast_is_that_of_the_first_run():
    x, w = amity.rand(4, 4, requires_grad=True), amity.rand(4, 4, requires_grad=True)

    def run(call):
        x.grad = w.grad = None
        with amity.autocast("cpu", dtype=amity.bfloat16):
            y = call(lambda a: (a @ w).sin() @ w, x)
        assert y.dtype is amity.bfloat16
        y.float().sum().backward()
        return x.grad, w.grad

    for a, b in zip(run(checkpoint), run(lambda f, a: f(a)), strict=True):
        close(a, b)


def test_contexts():
    seen = []

    class Noted:
        def __init__(self, name):
            self.name = name

        def __enter__(self):
            seen.append(self.name)

        def __exit__(self, *exc):
            pass

    x = amity.rand(3, requires_grad=True)
    y = checkpoint(amity.exp, x, context_fn=lambda: (Noted("first"), Noted("again")))
    assert seen == ["first"]
    y.sum().backward()
    assert seen == ["first", "again"]


def test_what_differs_is_told():
    calls = []

    def other_ops(x):
        calls.append(1)
        return x.exp().sin() if len(calls) == 1 else x.exp()

    def other_shapes(x):
        calls.append(1)
        return (x[: len(calls)] * x[: len(calls)]).sum()

    x = amity.rand(3, requires_grad=True)
    y = checkpoint(other_ops, x)
    with pytest.raises(CheckpointError, match="A different number of tensors"):
        y.sum().backward()
    calls.clear()
    y = checkpoint(other_shapes, x)
    with pytest.raises(CheckpointError, match="different metadata"):
        y.backward()
    z = x * 1
    y = checkpoint(lambda z: (z * z).sum(), z)
    with amity.no_grad():
        z.add_(1)
    with pytest.raises(CheckpointError, match="modified by an inplace operation"):
        y.backward()
    with pytest.raises(ValueError, match="determinism_check should be one of"):
        checkpoint(amity.exp, x, determinism_check="never")
    y = checkpoint(amity.exp, x)
    y.sum().backward()
    with pytest.raises(RuntimeError, match="a second time"):
        y.sum().backward()


def test_without_gradients_it_is_a_call():
    with amity.no_grad():
        y = checkpoint(amity.exp, amity.ones(2, requires_grad=True))
    assert not y.requires_grad
    assert not checkpoint(amity.exp, amity.ones(2)).requires_grad


@pytest.mark.parametrize("segments", [1, 2, 4])
def test_sequential(segments):
    net, x = network(), amity.randn(5, 6, requires_grad=True)
    plain = step(net, x, lambda net, x: net(x))
    for run in (
        lambda net, x: checkpoint_sequential(net, segments, x, use_reentrant=False),
        lambda net, x: checkpoint_sequential(list(net), segments, x),
    ):
        for a, b in zip(step(net, x, run), plain, strict=True):
            close(a, b)
    with pytest.raises(ValueError, match="Unexpected keyword"):
        checkpoint_sequential(net, 2, x, other=1)
