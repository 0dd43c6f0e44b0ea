"""Weights of linear layers kept in panels: laid out once, and anew after any kind of write."""

import numpy as np
import pytest

import amity
from amity import nn
from amity.core import flags
from amity.runtime import kept


def model():
    m = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128))
    return m.requires_grad_(False).eval()


def test_laid_out_once():
    m, x = model(), amity.randn(20, 128)
    f = amity.compile(m)
    for _ in range(6):
        np.testing.assert_array_equal(f(x).numpy(), m(x).numpy())
    states = [s.keeps for s in f.segments.values() if s.keeps is not None]
    assert [len(s.slots) for s in states] == [2]
    assert [s.words[kept.TIMES] for s in states] == [1 if flags.native else 0]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_other_dtypes(dtype):
    dtype = getattr(amity, dtype)
    m, x = model().to(dtype), amity.randn(20, 128).to(dtype)
    f = amity.compile(m)
    for _ in range(4):
        np.testing.assert_array_equal(f(x).double().numpy(), m(x).double().numpy())


def autocast(m, x):
    with amity.autocast("cpu", dtype=amity.bfloat16):
        return m(x)


@pytest.mark.parametrize("calls", [1, 5])
def test_casts_are_kept_with_what_is_made_of_them(calls):
    m, x = model(), amity.randn(20, 128)
    f = amity.compile(lambda x: autocast(m, x))
    for n in range(3):
        for _ in range(calls):
            given, wanted = f(x).float().numpy(), autocast(m, x).float().numpy()
            np.testing.assert_allclose(given, wanted, 2e-2, 2e-2 * np.abs(wanted).max())
        states = [s.keeps for s in f.segments.values() if s.keeps is not None]
        assert [len(s.slots) for s in states] == [4]  # weights and biases
        if flags.native and calls > 1:
            assert [s.words[kept.TIMES] for s in states] == [n + 1]
        m[0].weight.mul_(-1.5)
        m[2].bias.add_(1)


def test_a_cast_that_leaves_is_not_kept():
    m, x = nn.Linear(128, 256).requires_grad_(False), amity.randn(20, 128)

    @amity.compile
    def f(x):
        w = m.weight.bfloat16()
        return nn.functional.linear(x.bfloat16(), w), w

    seen = [f(x)[1] for _ in range(5)]
    seen[0].zero_()
    for w in seen[1:]:
        np.testing.assert_array_equal(w.float().numpy(), m.weight.bfloat16().float().numpy())


def replaced(m):
    m[0].weight = nn.Parameter(amity.randn(256, 128), requires_grad=False)


def through_numpy(m):
    m[0].weight.numpy()[:] += 1


def loaded(m):
    m.load_state_dict({n: p + 1 for n, p in m.state_dict().items()})


WRITES = {
    "in place": lambda m: m[0].weight.mul_(2),
    "in part": lambda m: m[0].weight[3].zero_(),
    "data": lambda m: m[0].weight.data.mul_(2),
    "new data": lambda m: setattr(m[0].weight, "data", amity.randn(256, 128)),
    "NumPy": through_numpy,
    "replaced": replaced,
    "loaded": loaded,
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("calls", [1, 5])
def test_writes_are_seen(write, calls):
    m, x = model(), amity.randn(20, 128)
    f = amity.compile(m)
    for _ in range(3):
        for _ in range(calls):
            np.testing.assert_array_equal(f(x).numpy(), m(x).numpy())
        WRITES[write](m)


def test_what_a_step_writes_is_not_kept():
    m, x = nn.Linear(128, 256), amity.randn(20, 128)
    update = amity.optim.SGD(m.parameters(), lr=0.1)

    @amity.compile
    def step():
        update.zero_grad()
        loss = m(x).square().mean()
        loss.backward()
        update.step()
        return loss

    losses = [step().item() for _ in range(5)]
    assert losses == sorted(losses, reverse=True) and losses[0] > losses[-1]


def test_gradients_and_steps_apart():
    torch = pytest.importorskip("torch")
    a, b = nn.Linear(128, 256), torch.nn.Linear(128, 256)
    b.load_state_dict({n: torch.from_numpy(p.numpy().copy()) for n, p in a.state_dict().items()})
    x = np.random.default_rng(0).standard_normal((20, 128), np.float32)
    f = amity.compile(a)
    for lib, m, call in ((amity, a, f), (torch, b, b)):
        update = lib.optim.SGD(m.parameters(), lr=0.5)
        for _ in range(4):
            update.zero_grad()
            call(lib.from_numpy(x)).square().mean().backward()
            update.step()
    ours, theirs = a.weight.detach().numpy(), b.weight.detach().numpy()
    np.testing.assert_allclose(ours, theirs, 1e-5, 1e-6)


def test_parts_of_a_whole():
    whole, x = amity.randn(3, 256, 128), amity.randn(20, 128)
    f = amity.compile(lambda x, w: nn.functional.linear(x, w))
    for i in (0, 1, 1, 2, 0):
        expected = nn.functional.linear(x, whole[i])
        np.testing.assert_array_equal(f(x, whole[i]).numpy(), expected.numpy())
