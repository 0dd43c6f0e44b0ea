"""GradScaler against PyTorch's: scales, skipped steps, states and errors."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

inf, nan = float("inf"), float("nan")


def run(lib, factors, wrap=lambda f: f, is_clipped=False):
    """Steps whose gradients are those factors: parameters, scales and counts."""
    scaler = lib.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2, growth_factor=4.0)
    w, v = lib.tensor([1.0, -2.0], requires_grad=True), lib.ones((), requires_grad=True)
    optimizer = lib.optim.Adam([w, v], lr=0.1)
    seen = []

    def step(factor):
        optimizer.zero_grad()
        loss = (w * factor).sum() * v
        scaler.scale(loss).backward()
        if is_clipped:
            scaler.unscale_(optimizer)
            lib.nn.utils.clip_grad_norm_([w, v], 0.5)
        result = scaler.step(optimizer)
        scaler.update()
        return result

    step = wrap(step)
    for factor in factors:
        result = step(lib.tensor(factor))
        seen += [*w.tolist(), v.item(), scaler.get_scale(), scaler.state_dict()["_growth_tracker"]]
        seen += [*w.grad.tolist(), result is None]
    return seen


FACTORS = [1.0, 0.5, inf, 2.0, nan, -inf, 1.0, 1.0, 1.0, 3e38]


@pytest.mark.parametrize("is_clipped", [False, True])
@pytest.mark.parametrize("wrap", [lambda f: f, amity.compile], ids=["eager", "compiled"])
def test_steps_and_scales(is_clipped, wrap):
    expected = run(torch, FACTORS, is_clipped=is_clipped)
    np.testing.assert_allclose(run(amity, FACTORS, wrap, is_clipped), expected, rtol=1e-5)


def test_the_scale_never_becomes_infinite():
    for lib in (torch, amity):
        scaler = lib.amp.GradScaler("cpu", init_scale=2.0**126, growth_interval=1)
        w = lib.zeros(2, requires_grad=True)
        optimizer = lib.optim.SGD([w], lr=0.0)
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(w.sum()).backward()
            scaler.step(optimizer)
            scaler.update()
        assert scaler.get_scale() == 2.0**127


def test_several_optimizers_and_outputs():
    found = []
    for lib in (torch, amity):
        scaler = lib.amp.GradScaler("cpu", init_scale=4.0)
        a, b = lib.ones(2, requires_grad=True), lib.ones(1, requires_grad=True)
        first, second = lib.optim.SGD([a], lr=0.5), lib.optim.SGD([b], lr=0.5)
        losses = scaler.scale([a.sum(), (b.sum() * inf, b.sum())])
        assert type(losses) is list and type(losses[1]) is tuple
        (losses[0] + losses[1][0]).backward()
        scaler.step(first)
        scaler.step(second)
        scaler.update()
        found.append((a.tolist(), b.tolist(), scaler.get_scale(), losses[1][1].item()))
    assert found[0] == found[1] == ([0.5, 0.5], [1.0], 2.0, 4.0)


def test_small_gradients_in_float16_survive():
    x, w = amity.full((4,), 1e-4), amity.full((4,), 1e-4, requires_grad=True)
    for scaler, is_lost in ((amity.amp.GradScaler("cpu", enabled=False), True),
                            (amity.amp.GradScaler("cpu", 4096.0), False)):  # fmt: skip
        w.grad = None
        optimizer = amity.optim.SGD([w], lr=1.0)
        y = (w.half() * x.half() * 1e-4).sum()
        scaler.scale(y.float()).backward()
        scaler.unscale_(optimizer)
        assert (w.grad == 0).all() == is_lost
    np.testing.assert_allclose(w.grad.numpy(), 1e-8, rtol=0.01)


def test_states():
    made = []
    for lib in (torch, amity):
        scaler = lib.amp.GradScaler("cpu", 16.0, 3.0, 0.25, 7)
        assert scaler.state_dict()["scale"] == 16.0 and scaler.is_enabled()
        w = lib.ones(1, requires_grad=True)
        scaler.scale(w.sum()).backward()
        scaler.step(lib.optim.SGD([w], lr=1.0))
        scaler.update()
        state = scaler.state_dict()
        again = lib.amp.GradScaler("cpu")
        again.load_state_dict(state)
        assert again.state_dict() == state == pickle.loads(pickle.dumps(scaler)).state_dict()
        scaler.update(5.0)
        scaler.update(lib.tensor(6.0))
        scaler.set_growth_factor(9.0)
        scaler.set_backoff_factor(0.1)
        scaler.set_growth_interval(3)
        got = scaler.get_growth_factor(), scaler.get_backoff_factor(), scaler.get_growth_interval()
        made.append((state, scaler.state_dict(), got))
    assert made[0] == made[1]


def test_disabled():
    for lib in (torch, amity):
        with pytest.warns(UserWarning, match="CUDA is not available"):
            scaler = lib.amp.GradScaler()
        w = lib.ones(1, requires_grad=True)
        optimizer = lib.optim.SGD([w], lr=1.0)
        loss = w.sum()
        assert scaler.scale(loss) is loss and not scaler.is_enabled()
        loss.backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        scaler.load_state_dict({})
        assert (w.tolist(), scaler.get_scale(), scaler.state_dict()) == ([0.0], 1.0, {})


def twice(lib, scaler, optimizer, w):
    scaler.scale(w.sum()).backward()
    scaler.unscale_(optimizer)
    scaler.unscale_(optimizer)


def stepped(lib, scaler, optimizer, w):
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.step(optimizer)


def unscaled_late(lib, scaler, optimizer, w):
    scaler.scale(w.sum()).backward()
    scaler.step(optimizer)
    scaler.unscale_(optimizer)


def no_gradients(lib, scaler, optimizer, w):
    scaler.scale(w.sum())
    scaler.step(optimizer)


def no_steps(lib, scaler, optimizer, w):
    scaler.scale(w.sum())
    scaler.update()


def in_float16(lib, scaler, optimizer, w):
    h = lib.ones(1, dtype=lib.float16, requires_grad=True)
    scaler.scale(h.sum()).backward()
    scaler.unscale_(lib.optim.SGD([h], lr=1.0))


WRONG = [
    (twice, RuntimeError), (stepped, RuntimeError), (unscaled_late, RuntimeError),
    (no_gradients, AssertionError), (no_steps, AssertionError), (in_float16, ValueError),
    (lambda lib, s, o, w: s.scale(3), ValueError),
    (lambda lib, s, o, w: s.update(), AssertionError),
    (lambda lib, s, o, w: s.step(o), AssertionError),
    (lambda lib, s, o, w: s.unscale_(o), AssertionError),
    (lambda lib, s, o, w: s.step(o, closure=lambda: 3), RuntimeError),
    (lambda lib, s, o, w: s.load_state_dict({}), RuntimeError),
    (lambda lib, s, o, w: lib.amp.GradScaler("cpu", growth_factor=1.0), AssertionError),
    (lambda lib, s, o, w: lib.amp.GradScaler("cpu", backoff_factor=1.0), AssertionError),
    (lambda lib, s, o, w: (s.scale(w), s.update(lib.ones(2))), AssertionError),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error"), WRONG)
def test_errors(call, error):
    said = []
    for lib in (torch, amity):
        w = lib.ones(1, requires_grad=True)
        with pytest.raises(error) as caught:
            call(lib, lib.amp.GradScaler("cpu"), lib.optim.SGD([w], lr=1.0), w)
        said.append(str(caught.value)[:25])
    assert said[0] == said[1]
