"""The passes: results stay what they were with each switched off, and each does something."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import amity
from amity import nn
from amity.compiler import pipeline
from amity.engine.program import paper_of


def train():
    """Three compiled training steps: losses and parameters, and the segments."""
    amity.manual_seed(7)
    m = nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
    )
    optimizer = amity.optim.AdamW(m.parameters(), lr=0.01)

    @amity.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(m(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        optimizer.step()
        return loss

    losses = [step(amity.randn(8, 4), amity.randint(0, 3, (8,))).item() for _ in range(3)]
    return np.concatenate([losses, *[p.detach().numpy().ravel() for p in m.parameters()]]), step


def long_sum(n=1 << 18):
    @amity.compile
    def f(x):
        return (x * 2).sum()

    return np.array([f(amity.arange(float(n)).remainder(7)).item()]), f


def convolutions():
    m = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 8, 3))
    for p in m.parameters():
        p.data.copy_((amity.arange(float(p.numel())) + 1).sin().reshape(p.shape) / 8)
    f = amity.compile(lambda x: m(x).detach())
    return f(amity.arange(6 * 3 * 20 * 20.0).sin().reshape(6, 3, 20, 20)).numpy(), f


def kept_long():
    x, w = amity.ones(16, 8), amity.linspace(-1, 1, 64).reshape(8, 8).requires_grad_()

    @amity.compile(recompute=True)
    def f(x):
        y = x
        for _ in range(4):
            y = y @ w
            y = y * y.sigmoid()
        y.sum().backward()
        gradient, w.grad = w.grad, None
        return gradient

    return f(x).numpy(), f


RUNS = {
    "recompute": kept_long,
    "split": long_sum,
    "end": convolutions,
    "order": convolutions,
    "keep": convolutions,
}


def cost(function):
    """Launches, bytes in between, and what is kept and kernels of the last segment."""
    plan = paper_of([*function.segments.values()][-1].program).plan()
    return len(plan.steps), plan.arena, [plan.kept, *[s.name for s in plan.steps]]


@pytest.mark.parametrize("name", pipeline.NAMES)
def test_results_are_the_same_without_a_pass(name):
    run = RUNS.get(name, train)
    expected, whole = run()
    with pipeline.without(name):
        found, lacking = run()
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)
    assert (cost(whole) == cost(lacking)) == (name == "outline")  # which only saves time


def test_what_they_are_for():
    _, whole = train()
    costs = {}
    for name in pipeline.NAMES:
        with pipeline.without(name):
            costs[name] = cost(train()[1])
    launches, arena, _ = cost(whole)
    assert costs["fuse"][0] > 2 * launches
    assert min(costs[n][0] for n in ("share", "defer", "in_place")) > launches
    assert costs["reuse"][0] == launches and costs["reuse"][1] > arena


def test_without_any():
    expected, _ = train()
    with pipeline.without(*pipeline.NAMES):
        found, _ = train()
        assert pipeline.switched_off() == frozenset(pipeline.NAMES)
    assert pipeline.is_on("fuse")
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


def test_equal_nodes_with_several_results_are_one():
    @amity.compile
    def f(x):
        return x.sort()[0], x.sort()[1]

    x = amity.tensor([3.0, 1.0, 2.0])
    assert [v.tolist() for v in f(x)] == [[1.0, 2.0, 3.0], [1, 2, 0]]
    assert cost(f)[0] == 1


def test_an_unknown_name_lists_all():
    known = ", ".join(f"-{n}" for n in pipeline.NAMES)
    with pytest.raises(ValueError, match=f"got '-fuze'; expected some of {known}"):
        pipeline.parse(["-fuse", "-fuze"])
    with pytest.raises(ValueError, match="got 'fuse'"):
        pipeline.parse(["fuse"])


def test_the_environment():
    code = "from amity.compiler import pipeline; print(*sorted(pipeline.switched_off()))"
    for words, expected in (("-fuse,-share", "fuse share\n"), ("-all", "")):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"AMITY_PASSES": words},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == expected and (done.returncode == 0) == bool(expected)
    assert "AMITY_PASSES: got '-all'; expected some of -share" in done.stderr
