"""Checks of what kernels do: they find what is wrong, name it, and find nothing else."""

from __future__ import annotations

import inspect
import math
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import amity
from amity import nn
from amity.core.errors import CheckError
from amity.engine import cache, device, program, reference
from amity.engine.checks import NAMES, Checks
from amity.ir.graph import Graph, Node, Spec
from amity.ops.gamma import IncompleteGamma
from amity.ops.indexing import Index

ALL = pytest.mark.parametrize("wrap", [lambda f: f, amity.compile], ids=["eager", "compiled"])


def train(wrap, steps=3):
    amity.manual_seed(1)
    m = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.2),
        nn.Linear(16, 3),
    )  # fmt: skip
    optimizer = amity.optim.AdamW(m.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(m(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()
        return loss

    step = wrap(step)
    x, y = amity.randn(5, 2, 6, 6), amity.tensor([0, 1, 2, 0, 1])
    losses = [step(x, y).item() for _ in range(steps)]
    return losses, [p.detach().numpy() for p in m.parameters()]


@ALL
@pytest.mark.parametrize("names", [("bounds",), ("nan", "reference"), NAMES], ids="-".join)
def test_what_is_right_stays_as_it_is(wrap, names):
    expected = train(wrap)
    with Checks(*names):
        found = train(wrap)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    for a, b in zip(found[1], expected[1], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def here(function, text):
    """`file:number` of a line of a function."""
    lines, first = inspect.getsourcelines(function)
    return f"test_checks.py:{first + next(i for i, s in enumerate(lines) if text in s)}"


def makes_nan(x):
    y = x - 2
    z = (y * 3).log()  # here
    return z.exp() + 1


@ALL
def test_a_nan_is_told_where_it_is_made(wrap):
    f = wrap(makes_nan)
    with Checks("nan"):
        assert f(amity.ones(2) * 3).tolist() == pytest.approx([4, 4])
        where = rf"{here(makes_nan, '# here')}; expected finite results"
        with pytest.raises(CheckError, match=rf"^log: got nan at \[1\] of float32\[3\], .*{where}"):
            f(amity.tensor([3.0, 1.0, 2.5]))
        with pytest.raises(CheckError, match=r"^log: got -inf at \[0\] of float32\[2\]"):
            (amity.tensor([2.0, 2.5]) - 2).log()
        assert f(amity.tensor([3.0])).tolist() == pytest.approx([4])
    assert math.isnan(f(amity.tensor([1.0, 3.0])).tolist()[0])


@ALL
def test_what_was_there_or_is_meant_is_no_new_nan(wrap):
    def f(x, mask):
        return (x * 2).masked_fill(mask, -math.inf).softmax(-1), amity.full((2,), math.nan) + 1

    x = amity.tensor([1.0, math.nan, 2.0])
    with Checks("nan"):
        wrap(f)(x, amity.tensor([True, False, False]))
        wrap(f)(amity.ones(3), amity.tensor([True, False, False]))
        with pytest.raises(CheckError, match="got nan at"):  # all of a row: 0 / 0
            wrap(f)(amity.ones(3), amity.tensor([True, True, True]))


@ALL
def test_a_nan_in_backward_and_in_numpy(wrap):
    def f(x):
        y = x.sqrt().sum()  # root
        y.backward()
        return x.grad

    with Checks("nan"), pytest.raises(CheckError, match="got inf at") as error:
        wrap(f)(amity.zeros(2, requires_grad=True))
    if wrap is amity.compile:
        assert f"{here(f, '# root')}, backward from" in str(error.value)
    with Checks("nan"), pytest.raises(CheckError, match="by NumPy at"):
        wrap(lambda x: amity.linalg.qr(x))(amity.full((3, 3), 3e38))


def test_a_call_of_numpy_is_judged_by_what_it_reads():
    """Not by its arguments one after the other, of which it may take the last ones only."""
    given = [amity.tensor([x]) for x in (math.nan, -1.0, 2.0)]
    nodes = [Node(None, (), Spec((1,), amity.float32)) for _ in given]
    made = Node(IncompleteGamma(True), nodes[1:], nodes[0].spec)
    run = program.build(Graph(nodes, [made]), [t.layout for t in given])
    with Checks("nan"), pytest.raises(CheckError, match="incomplete_gamma: got nan"):
        run(*given)


@ALL
def test_an_access_outside(wrap):
    x, at = amity.arange(4.0), amity.tensor([1, 9])
    f = wrap(lambda x, at: Index((0,))(x, at))  # without the question whether they are inside
    with Checks("bounds"):
        assert f(x, amity.tensor([3, 1])).tolist() == [3, 1]
        with pytest.raises(CheckError) as error:
            f(x, at)
    text = str(error.value)
    assert "`%" in text and "load f32" in text and "test_checks.py" in text
    assert "goes 24 bytes past the end of 16 bytes" in text


@pytest.fixture
def wrong(monkeypatch):
    """Lets launches do one element more or less than they should; nothing of it is kept on disk."""
    inner = program.lower_here

    def install(label, more):
        def lower(graph, *how):
            out = inner(graph, *how)
            for step in out.steps:
                if label in step.label:
                    step.meta = [step.meta[0] + more, *step.meta[1:]]
            return out

        monkeypatch.setattr(program, "lower_here", lower)

    monkeypatch.setattr(cache.cache, "put", lambda *_: None)
    return install


def product(x, y):
    z = (x + y) * x  # product
    return z[:3] + 1, z


@pytest.mark.parametrize("n", [7, 32])
def test_a_wrong_lowering(wrong, n):
    x, y, y2 = amity.arange(float(n)) + 1, amity.ones(n), amity.full((n,), 2.0)
    f = amity.compile(product)
    with Checks(*NAMES):
        f(x, y)
    wrong("mul", -1)
    with Checks("reference"), pytest.raises(CheckError) as error:
        f(x, y2)
    text = str(error.value)
    assert (
        text.startswith("mul: got ") and f"at [{n - 1}] of float32[{n}] (1 of {n} differ)" in text
    )
    assert (
        here(product, "# product") in text and f"expected {float(n * n + 2 * n)}, as NumPy" in text
    )
    wrong("mul", 2)
    with Checks("bounds"), pytest.raises(CheckError, match="past the end of .* bytes at"):
        f(x, y)


def test_checks_see_all_threads_and_end(wrong):
    seen = []

    def work():
        try:
            amity.zeros(3).log()
        except CheckError as error:
            seen.append(error)

    with Checks("nan"):
        assert device.watcher() is not None
        with amity.profiler.profile() as p:
            amity.zeros(3).log()
        assert [e.name for e in p.events() if e.kind == "cpu_op"][-1] == "log"
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        work()
    assert len(seen) == 2 and device.watcher() is None
    work()
    assert len(seen) == 2


def test_names_and_the_environment():
    with pytest.raises(ValueError, match="checking: got 'bound'; expected some of bounds, nan"):
        Checks("bound")
    with pytest.raises(ValueError, match="got nothing"):
        Checks()
    code = "import amity; amity.compile(lambda x: x.log())(amity.zeros(2))"
    for words, expected in (
        ("nan,bounds", "CheckError: log: got -inf"),
        ("nope", "expected some of"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"AMITY_CHECK": words},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1 and expected in done.stderr


def test_how_far_is_far():
    a = np.array([1.0, 1000.0, 0.0], np.float32)
    assert not reference.departure(a + np.float32(1e-5), a)
    assert "at [0] of float32[3] (1 of 3 differ); expected 1.0" in reference.departure(
        np.array([2.0, 1000.0, 0.0], np.float32), a
    )
    assert reference.departure(np.array([1, 2]), np.array([1, 3]))
    nan = np.array([np.nan, np.inf], np.float32)
    assert not reference.departure(nan, nan)
    assert reference.departure(nan[::-1].copy(), nan)
    assert reference.departure(np.zeros(2, np.float32), nan)
    tiny = np.array([1e-9], np.float32)
    assert reference.departure(tiny, -tiny)
    assert not reference.departure(tiny, -tiny, np.zeros(1))  # NumPy's own is as unsure
