"""Random numbers: seeds, generators, states, threads, and the moments of every distribution."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402
from amity.engine.threads import get_num_threads, set_num_threads  # noqa: E402
from tests.frontend.programs import programs, raised  # noqa: E402
from tests.ops.compare import match  # noqa: E402

N = 40_000
DRAWS = {
    "rand": lambda g: amity.rand(1000, generator=g),
    "rand float64": lambda g: amity.rand(1000, dtype=amity.float64, generator=g),
    "randn": lambda g: amity.randn(1000, generator=g),
    "randint": lambda g: amity.randint(0, 1000, (1000,), generator=g),
    "randperm": lambda g: amity.randperm(1000, generator=g),
    "normal": lambda g: amity.normal(0.0, 2.0, (1000,), generator=g),
    "bernoulli": lambda g: amity.bernoulli(amity.full((1000,), 0.3), generator=g),
    "multinomial": lambda g: amity.multinomial(amity.ones(1000), 500, generator=g),
    "poisson": lambda g: amity.poisson(amity.full((1000,), 3.0), generator=g),
    "binomial": lambda g: amity.binomial(amity.full((1000,), 9.0), amity.tensor(0.4), generator=g),
    "uniform_": lambda g: amity.empty(1000).uniform_(generator=g),
    "normal_": lambda g: amity.empty(1000).normal_(generator=g),
    "bernoulli_": lambda g: amity.empty(1000).bernoulli_(0.3, generator=g),
    "random_": lambda g: amity.empty(1000, dtype=amity.int64).random_(generator=g),
    "exponential_": lambda g: amity.empty(1000).exponential_(generator=g),
    "cauchy_": lambda g: amity.empty(1000).cauchy_(generator=g),
    "log_normal_": lambda g: amity.empty(1000).log_normal_(generator=g),
    "geometric_": lambda g: amity.empty(1000).geometric_(0.2, generator=g),
}
EACH = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@EACH
def test_one_seed_one_stream(draw):
    first, again, other = (amity.Generator().manual_seed(s) for s in (7, 7, 8))
    a, b, c = draw(first), draw(again), draw(other)
    assert a.tolist() == b.tolist() != c.tolist()
    assert draw(first).tolist() == draw(again).tolist() != a.tolist()


@EACH
def test_the_default_stream(draw):
    amity.manual_seed(5)
    a = draw(None)
    assert draw(None).tolist() != a.tolist()
    amity.manual_seed(5)
    assert draw(None).tolist() == a.tolist()
    assert draw(amity.Generator().manual_seed(5)).tolist() == a.tolist()


@EACH
def test_states_are_kept_and_set(draw):
    g = amity.Generator().manual_seed(3)
    draw(g)
    state = g.get_state()
    a = draw(g)
    g.set_state(state)
    assert draw(g).tolist() == a.tolist()
    amity.set_rng_state(state)
    assert draw(None).tolist() == a.tolist()


@EACH
def test_any_number_of_threads(draw):
    before = get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            set_num_threads(threads)
            found.append(draw(amity.Generator().manual_seed(1)).tolist())
    finally:
        set_num_threads(before)
    assert found[0] == found[1]


def test_a_long_stream_on_any_number_of_threads():
    before = get_num_threads()
    try:
        sums = []
        for threads in (1, 2):
            set_num_threads(threads)
            amity.manual_seed(0)
            sums.append(amity.rand(1_000_000).double().sum().item())
    finally:
        set_num_threads(before)
    assert sums[0] == sums[1]


SCRIPT = """
import amity
print(amity.initial_seed(), amity.rand(3).tolist())
amity.manual_seed(2)
print(amity.randn(2).tolist(), amity.randperm(5).tolist())
"""


def test_processes_repeat_themselves():
    """As do PyTorch's: the stream of a fresh process starts from a fixed seed."""
    root = Path(__file__).resolve().parents[2]
    runs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], capture_output=True, cwd=root, timeout=120, check=True,
            env=os.environ | {"AMITY_NUM_THREADS": n},
        ).stdout
        for n in "12"
    }  # fmt: skip
    assert len(runs) == 1 and runs.pop().startswith(b"67280421310721 ")


class Seeds:
    def initial(m):
        g = m.Generator()
        m.manual_seed(11)
        return g.manual_seed(9).initial_seed(), m.initial_seed(), m.default_generator.initial_seed()

    def returns_the_generator(m):
        g = m.Generator()
        return g.manual_seed(3) is g, m.manual_seed(3) is m.default_generator

    def negative_and_large(m):
        g = m.Generator()
        return (
            g.manual_seed(-1).initial_seed() % 2**64, g.manual_seed(2**63).initial_seed() % 2**64,
            raised(g.manual_seed, 2**64), raised(g.manual_seed, -(2**63) - 1),
            raised(g.manual_seed, "x"), raised(m.manual_seed, "x"),
        )  # fmt: skip

    def new_seeds_differ(m):
        g = m.Generator()
        return g.seed() != g.seed(), g.seed() == g.initial_seed(), m.seed() == m.initial_seed()

    def clones_go_on_alike(m):
        g = m.Generator().manual_seed(4)
        m.rand(5, generator=g)
        h = g.clone_state()
        return m.equal(m.rand(3, generator=g), m.rand(3, generator=h))

    def wrong_states(m):
        return raised(m.set_rng_state, m.ones(3)), raised(m.set_rng_state, m.ones(3, dtype=m.uint8))

    def device(m):
        return m.Generator().device.type, raised(m.Generator, "tpu")

    def forked(m):
        m.manual_seed(1)
        with m.random.fork_rng():
            inside = m.rand(3)
        after = m.rand(3)
        m.manual_seed(1)
        return m.equal(inside, after), m.equal(m.rand(3), after)


@pytest.mark.parametrize("program", programs(Seeds))
def test_program(program):
    match(program)


def moments(t):
    a = t.double().numpy()
    return a.mean(), a.std()


# what is drawn, its mean and its standard deviation
MOMENTS = {
    "rand": (lambda: amity.rand(N), 0.5, math.sqrt(1 / 12)),
    "rand float16": (lambda: amity.rand(N, dtype=amity.float16), 0.5, math.sqrt(1 / 12)),
    "rand bfloat16": (lambda: amity.rand(N, dtype=amity.bfloat16), 0.5, math.sqrt(1 / 12)),
    "rand float64": (lambda: amity.rand(N, dtype=amity.float64), 0.5, math.sqrt(1 / 12)),
    "randn": (lambda: amity.randn(N), 0, 1),
    "randn float64": (lambda: amity.randn(N, dtype=amity.float64), 0, 1),
    "randint": (lambda: amity.randint(-3, 8, (N,)), 2, math.sqrt((11**2 - 1) / 12)),
    "randperm": (lambda: amity.randperm(N), (N - 1) / 2, math.sqrt((N**2 - 1) / 12)),
    "normal": (lambda: amity.normal(3.0, 2.0, (N,)), 3, 2),
    "normal of tensors": (lambda: amity.normal(amity.full((N,), 3.0), amity.full((N,), 2.0)), 3, 2),
    "bernoulli": (lambda: amity.bernoulli(amity.full((N,), 0.3)), 0.3, math.sqrt(0.21)),
    "bernoulli_": (lambda: amity.empty(N).bernoulli_(0.3), 0.3, math.sqrt(0.21)),
    "multinomial": (
        lambda: amity.multinomial(amity.tensor([1.0, 2.0, 1.0]), N, replacement=True), 1, math.sqrt(0.5)
    ),
    "uniform_": (lambda: amity.empty(N).uniform_(-1, 3), 1, 4 / math.sqrt(12)),
    "normal_": (lambda: amity.empty(N).normal_(-1, 3), -1, 3),
    "exponential_": (lambda: amity.empty(N).exponential_(0.5), 2, 2),
    "log_normal_": (
        lambda: amity.empty(N).log_normal_(0, 0.5), math.exp(1 / 8), math.exp(1 / 8) * math.sqrt(math.exp(0.25) - 1)
    ),
    "geometric_": (lambda: amity.empty(N).geometric_(0.25), 4, math.sqrt(0.75) / 0.25),
    "random_": (lambda: amity.empty(N).random_(10), 4.5, math.sqrt(99 / 12)),
    "random_ of int8": (lambda: amity.empty(N, dtype=amity.int8).random_(), 63.5, math.sqrt((128**2 - 1) / 12)),
    "poisson": (lambda: amity.poisson(amity.full((N,), 4.0)), 4, 2),
    "binomial": (lambda: amity.binomial(amity.full((N,), 10.0), amity.tensor(0.3)), 3, math.sqrt(2.1)),
    "kaiming": (lambda: nn.init.kaiming_normal_(amity.empty(N // 100, 100)), 0, math.sqrt(2 / 100)),
    "trunc_normal": (lambda: nn.init.trunc_normal_(amity.empty(N)), 0, 0.8796),
}  # fmt: skip


@pytest.mark.parametrize("name", MOMENTS)
def test_moments(name):
    draw, mean, deviation = MOMENTS[name]
    amity.manual_seed(1234)
    found, spread = moments(draw())
    assert abs(found - mean) < 5 * deviation / math.sqrt(N)
    assert spread == pytest.approx(deviation, rel=0.03)


def test_quantiles_of_heavy_tails():
    amity.manual_seed(0)
    x = np.sort(amity.empty(N).cauchy_(2.0, 3.0).numpy())
    assert np.quantile(x, [0.25, 0.5, 0.75]) == pytest.approx([-1, 2, 5], abs=0.15)


def test_each_number_is_new():
    """No two elements of a call, and no two calls, share counters."""
    amity.manual_seed(0)
    a, b = amity.rand(N, dtype=amity.float64).numpy(), amity.rand(N, dtype=amity.float64).numpy()
    assert len(np.unique(np.concatenate([a, b]))) == 2 * N
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02 and abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.02


def test_ranges():
    amity.manual_seed(0)
    u = amity.rand(N, dtype=amity.float16)
    assert 0 <= u.min().item() and u.max().item() < 1
    assert sorted(set(amity.randint(-2, 2, (N,)).tolist())) == [-2, -1, 0, 1]
    assert sorted(amity.randperm(100).tolist()) == list(range(100))
    assert set(amity.empty(N, dtype=amity.bool).random_().tolist()) == {False, True}
    assert amity.empty(N, dtype=amity.uint8).random_().max().item() == 255
    big = amity.empty(N, dtype=amity.int64).random_()
    assert big.min().item() >= 0 and big.max().item() > 2**62
    assert amity.empty(N).geometric_(0.9).min().item() == 1
    assert amity.empty(N).exponential_().min().item() >= 0


def test_multinomial_without_replacement():
    amity.manual_seed(0)
    rows = amity.multinomial(amity.tensor([[1.0, 0.0, 3.0, 2.0]]).expand(5000, 4), 2)
    assert all(a != b and 1 not in (a, b) for a, b in rows.tolist())
    first = np.bincount(rows[:, 0].numpy(), minlength=4) / 5000
    assert first == pytest.approx([1 / 6, 0, 1 / 2, 1 / 3], abs=0.03)


def test_dropout():
    amity.manual_seed(0)
    x = amity.ones(N, requires_grad=True)
    y = nn.functional.dropout(x, 0.25)
    kept = (y != 0).float().mean().item()
    assert kept == pytest.approx(0.75, abs=0.02)
    assert sorted(set(y.tolist())) == pytest.approx([0, 1 / 0.75])
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()
    amity.manual_seed(0)
    assert nn.functional.dropout(x, 0.25).tolist() == y.tolist()
    assert nn.functional.dropout(x, 0.25, training=False).tolist() == x.tolist()
    assert not nn.functional.dropout(x, 1.0).any() and nn.functional.dropout(x, 0.0).all()


def test_dropout_of_channels():
    amity.manual_seed(0)
    y = nn.functional.dropout2d(amity.ones(50, 40, 3, 3), 0.5)
    whole = y.flatten(2)
    assert ((whole == 0).all(-1) | (whole == 2).all(-1)).all()
    assert (whole[..., 0] == 0).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_likes_take_shape_and_dtype():
    x = amity.zeros(2, 3, dtype=amity.float64)
    for t in (amity.rand_like(x), amity.randn_like(x), amity.randint_like(x, 5)):
        assert t.shape == x.shape and t.dtype is amity.float64
    assert amity.rand_like(x, dtype=amity.float16).dtype is amity.float16
    assert amity.rand(0, 3).shape == (0, 3) and amity.randn(()).shape == ()
    assert amity.rand(2, requires_grad=True).is_leaf
    assert amity.randint(high=3, size=(4,), dtype=amity.int8).dtype is amity.int8
