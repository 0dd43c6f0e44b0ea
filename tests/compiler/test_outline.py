"""Parts that repeat: lowered by what is known of the first, they are what lowering each makes them."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest

import amity
from amity import nn
from amity.compiler import lower as lowering
from amity.compiler import outline, pipeline
from amity.compiler.plan import Launch
from amity.engine import template
from amity.engine.program import paper_of
from tests.frontend.test_compile_random import program

F = nn.functional


class Nothing:
    """A cache of Programs that keeps none: each is planned."""

    def get(self, *_):
        return None

    def put(self, *_):
        pass


class Repeats:
    """Lowers each graph with parts told apart and without, and counts the parts."""

    def __init__(self, monkeypatch):
        self.plain, self.graphs, self.lowered = lowering.lower, 0, 0
        self.parts = self.repeated = 0  # parts, and launches in them
        repeat = outline.Outline._repeat

        def count(known, at, part, code):
            self.parts += 1
            self.repeated += len(part.steps)
            return repeat(known, at, part, code)

        monkeypatch.setattr(outline.Outline, "_repeat", count)
        monkeypatch.setattr(lowering, "REPEATS_FROM", 2)
        monkeypatch.setattr(lowering, "lower", self.lower)
        monkeypatch.setattr(template, "cache", Nothing())

    def lower(self, *args):
        before = self.repeated
        found = self.plain(*args)
        self.lowered = len(found.steps) - (self.repeated - before)
        with pipeline.without("outline"):
            expected = self.plain(*args)
        assert found.outputs == expected.outputs
        assert found.places == expected.places
        assert [shown(s) for s in found.steps] == [shown(s) for s in expected.steps]
        self.graphs += 1
        return found


def shown(step):
    if not isinstance(step, Launch):
        return astuple(step)
    buffers, meta = list(step.buffers), list(step.meta)
    makes = [(id(n), p) for n, p in step.makes]
    how = (step.grid, step.grain, step.has_scratch, step.label, step.kin, step.keeps)
    return step.key, meta, buffers, makes, *how


@pytest.fixture
def repeats(monkeypatch):
    return Repeats(monkeypatch)


class Block(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.Linear(2 * width, width),
        )

    def forward(self, x):
        y = F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return y + self.down(F.gelu(self.up(self.norm(x))))


def train(model, optimizer, x, y, clips=True):
    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x).flatten(0, -2), y)
        loss.backward()
        if clips:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    return amity.compile(step)


@pytest.mark.parametrize("name", ["SGD", "AdamW", "RMSprop"])
def test_a_deep_network(repeats, name):
    amity.manual_seed(0)
    model = nn.Sequential(*[Block() for _ in range(5)], nn.Linear(16, 4))
    optimizer = getattr(amity.optim, name)(model.parameters(), lr=0.01)
    x, y = amity.randn(2, 6, 16), amity.randint(0, 4, (12,))
    step = train(model, optimizer, x, y)
    assert all(np.isfinite(step().item()) for _ in range(2))
    assert repeats.parts > 60


def test_convolutions_with_statistics(repeats):
    amity.manual_seed(0)
    parts = []
    for _ in range(4):
        parts += [nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)]
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    optimizer = amity.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    step = train(model, optimizer, amity.randn(4, 8, 6, 6), amity.randint(0, 3, (4,)))
    step(), step()
    model.eval()
    assert amity.compile(model)(amity.randn(2, 8, 6, 6)).shape == (2, 3)
    assert repeats.parts > 5


def test_layers_that_differ_in_one_thing(repeats):
    """Numbers, views, widths and who reads what tell parts apart."""

    @amity.compile
    def f(x, w):
        kept = []
        for i in range(12):
            y = x @ w
            y = y.t() if i == 3 else y
            x = (y * (2 if i == 5 else 1)).tanh() + (kept[0] if i == 6 else x)
            kept.append(x)
        return x, kept[2]

    x, w = amity.randn(4, 4), amity.randn(4, 4)
    f(x, w)
    assert repeats.parts > 2


def test_several_results_and_updates_of_what_others_read(repeats):
    ps = [amity.randn(3, 4) for _ in range(6)]

    @amity.compile
    def f(ps):
        total = 0
        for i, p in enumerate(ps):
            values, places = p.sort(1)
            total = total + values[:, 0] + places[:, 1]
            p.add_(values if i % 3 else ps[0] * 0.5)
        return total

    copies = [p.clone() for p in ps]
    found = f(ps)
    expected = 0
    for i, p in enumerate(copies):
        values, places = p.sort(1)
        expected = expected + values[:, 0] + places[:, 1]
        p.add_(values if i % 3 else copies[0] * 0.5)
    assert (found == expected).all() and repeats.parts
    assert all((a == b).all() for a, b in zip(ps, copies, strict=True))


def test_more_layers_take_no_more_kernels_and_are_not_lowered(repeats):
    kernels, lowered, launches = [], [], []
    for depth in (6, 12):
        model = nn.Sequential(*[Block() for _ in range(depth)], nn.Linear(16, 4))
        optimizer = amity.optim.AdamW(model.parameters())
        f = train(model, optimizer, amity.randn(2, 6, 16), amity.randint(0, 4, (12,)), False)
        f()
        plan = paper_of([*f.segments.values()][-1].program).plan()
        kernels.append({s.name for s in plan.steps})
        lowered.append(repeats.lowered)
        launches.append(len(plan.steps))
    assert kernels[0] == kernels[1] and launches[1] > launches[0] + 100
    assert lowered[0] == lowered[1]


def test_random_programs(repeats):
    for seed in range(60):
        f = program(seed)
        x, y = amity.randn(4, 4), amity.randn(4, 4)
        amity.compile(f)(x, y)
    assert repeats.graphs > 30
