"""Values computed again: the same bits, less memory; and what else goes with it."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import pytest

import amity
from amity import nn
from amity.compiler import again, pipeline
from amity.compiler.again import Round
from amity.engine import program, reference, template
from amity.engine.program import paper_of

F = nn.functional


class Block(nn.Module):
    def __init__(self, width=16):
        super().__init__()
        self.norm, self.up, self.down = (
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.Linear(4 * width, width),
        )

    def forward(self, x):
        y = x + F.scaled_dot_product_attention(x, x, x, is_causal=True)
        return y + self.down(F.gelu(self.up(self.norm(y))))


def deep(*layers, count=6):
    """Some layers, again and again."""
    return nn.Sequential(*[layer() for _ in range(count) for layer in layers])


class Elementwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(amity.linspace(-2, 2, 24))

    def forward(self, x):
        for _ in range(6):
            x = (x * self.w).tanh()
            x = x * x.sigmoid() + x
        return x


NETS = {
    "elementwise": (Elementwise, (40, 24), 0.05),
    "linear": (lambda: deep(lambda: nn.Linear(24, 24), nn.SiLU), (33, 24), 0.75),
    "dropout": (
        lambda: deep(lambda: nn.Linear(24, 24), nn.GELU, lambda: nn.Dropout(0.3)),
        (33, 24),
        0.75,
    ),
    "convolutions": (
        lambda: deep(lambda: nn.Conv2d(8, 8, 3, padding=1), lambda: nn.BatchNorm2d(8), nn.ReLU),
        (2, 8, 9, 9),
        0.8,
    ),
    "transformer": (lambda: deep(Block), (2, 13, 16), 0.75),
}


def stepping(net, shape, context=amity.enable_grad, **options):
    """A compiled training step, and the state that it leaves."""
    amity.manual_seed(5)
    model = net()
    optimizer = amity.optim.AdamW(model.parameters(), lr=0.01)

    @amity.compile(**options)
    def step(x):
        optimizer.zero_grad()
        with context():
            loss = model(x).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    def state():
        held = [*model.state_dict().values(), *[p.grad for p in model.parameters()]]
        return [t.detach().float().numpy().copy() for t in held]

    return step, state, amity.randn(*shape)


def run(steps=3, **how):
    """Losses and states after each step, and the last paper."""
    step, state, x = stepping(**how)
    seen = []
    for _ in range(steps):
        seen += [step(x).detach().numpy().copy(), *state()]
    return seen, paper(step)


def paper(function):
    return paper_of([*function.segments.values()][-1].program)


def same_bits(a, b):
    return len(a) == len(b) and all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("name", NETS)
def test_training_steps(name):
    net, shape, share = NETS[name]
    expected, plain = run(net=net, shape=shape)
    found, less = run(net=net, shape=shape, recompute=True)
    assert same_bits(found, expected)
    assert less.plan().arena <= share * plain.plan().arena
    assert less.again.saved == plain.plan().arena - less.plan().arena > 0
    eager, state, x = stepping(net, shape, disable=True)
    losses = [eager(x).item() for _ in range(3)]
    np.testing.assert_allclose(found[:: 1 + len(state())], losses, rtol=1e-5)


def test_it_is_off_unless_wished():
    _, plain = run(net=NETS["linear"][0], shape=(8, 24), steps=1)
    assert plain.again.rounds == ()
    with pipeline.without("recompute"):
        _, other = run(net=NETS["linear"][0], shape=(8, 24), steps=1, recompute=True)
    assert other.again.rounds == () and other.plan().arena == plain.plan().arena


@pytest.mark.parametrize("dtype", [amity.bfloat16, amity.float16])
def test_short_floats_are_rounded_where_they_were(dtype):
    def context():
        return amity.autocast("cpu", dtype=dtype)

    how = {"net": NETS["transformer"][0], "shape": (2, 13, 16), "context": context}
    expected, plain = run(**how)
    found, less = run(**how, recompute=True)
    assert same_bits(found, expected) and less.again.count
    assert less.plan().arena < plain.plan().arena


def test_random_numbers_are_drawn_once():
    def step(model, x):
        model(x).square().sum().backward()
        gradients = [p.grad.numpy().copy() for p in model.parameters()]
        model.zero_grad()
        return gradients

    amity.manual_seed(1)
    model = deep(lambda: nn.Linear(8, 8), lambda: nn.Dropout(0.5), nn.Tanh)
    x, streams = amity.randn(9, 8), []
    for function in (amity.compile(step), amity.compile(step, recompute=True)):
        amity.manual_seed(2)
        gradients = [g for _ in range(3) for g in function(model, x)]
        streams.append([*gradients, amity.rand(3).numpy()])
    assert same_bits(*streams)
    graph = paper(function).passed
    assert sum(n.op is not None and n.op.name == "uniform" for n in graph.nodes()) == 6


def test_what_is_written_in_between_is_read_as_it_was():
    def f(w, x):
        y = x
        for _ in range(5):
            y = (y * w).exp().tanh() + y
        z = y.sum()
        z.backward()
        with amity.no_grad():
            w.sub_(w.grad)  # before all that reads it again
            w.mul_(2)
        return y, w.grad * w

    seen = []
    for options in ({"disable": True}, {}, {"recompute": True}):
        w, x = amity.linspace(-1, 1, 40).requires_grad_(), amity.ones(30, 40)
        c = amity.compile(f, **options)
        seen.append([t.detach().numpy().copy() for t in (*c(w, x), w)])
    assert same_bits(seen[1], seen[2])
    for a, b in zip(*seen[:2], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_with_checkpoint():
    layers = deep(lambda: nn.Linear(16, 16), nn.GELU, count=4)

    def step(x):
        y = amity.utils.checkpoint.checkpoint(layers, layers(x), use_reentrant=False)
        y.square().sum().backward()
        gradients = [p.grad.numpy().copy() for p in layers.parameters()]
        layers.zero_grad()
        return gradients

    x = amity.randn(20, 16)
    plain, less = amity.compile(step), amity.compile(step, recompute=True)
    assert same_bits(plain(x), less(x))
    first, other = ([*f.segments.values()][0] for f in (plain, less))
    assert paper_of(other.program).again.saved > 0
    assert paper_of(other.program).plan().arena < paper_of(first.program).plan().arena


def test_static_calls():
    amity.manual_seed(0)
    step, _, x = stepping(*NETS["linear"][:2], recompute=True)
    losses = [step(x).item() for _ in range(6)]
    eager, _, x = stepping(*NETS["linear"][:2], disable=True)
    amity.manual_seed(0)
    assert np.allclose(losses, [eager(x).item() for _ in range(6)], rtol=1e-5)
    assert sum(s.uses for s in step.statics.found) or step.statics.reason


def test_many_sizes():
    amity.manual_seed(0)
    model = deep(lambda: nn.Linear(12, 12), nn.SiLU)

    def step(x):
        model.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    plain, less = amity.compile(step), amity.compile(step, recompute=True, dynamic=True)
    for batch in (6, 10, 21, 35, 64):
        x, seen = amity.randn(batch, 12), []
        for function in (plain, less):
            loss = function(x).detach().numpy().copy()
            seen.append([loss, *[p.grad.numpy().copy() for p in model.parameters()]])
        assert same_bits(*seen), batch
        assert paper(less).again.count and paper(less).plan().arena < paper(plain).plan().arena
    forms = [s.form for s in less.segments.values()]
    assert forms[0] is None and forms[-1] is not None
    assert "values are computed again" in amity.explain(less)


def test_programs_on_disk(monkeypatch):
    how = {"net": NETS["linear"][0], "shape": (19, 24), "steps": 2}
    _, plain = run(**how)
    expected, first = run(**how, recompute=True)
    planned, build = [], program.build
    monkeypatch.setattr(
        template.program, "build", lambda *a, **k: planned.append(a) or build(*a, **k)
    )
    found, again_from_disk = run(**how, recompute=True)
    assert same_bits(found, expected) and not planned
    assert again_from_disk.again == first.again and first.again.rounds
    assert again_from_disk.plan().arena == first.plan().arena < plain.plan().arena


@pytest.mark.parametrize("rounds", [[[-1, []]], [[0, ["x"]]], [[1]], 5, [[0, [-3]]]])
def test_an_entry_that_says_what_nobody_can_read_is_none(rounds):
    _, less = run(net=NETS["linear"][0], shape=(8, 24), steps=1, recompute=True)
    raw = template.written(less.plan(), less.again)
    assert template.read(raw, less.inputs) is not None
    entry = template.json.loads(raw) | {"again": [0, rounds]}
    assert template.read(template.json.dumps(entry).encode(), less.inputs) is None


def test_it_is_told():
    step, _, x = stepping(*NETS["linear"][:2], recompute=True)
    step(x)
    found = paper(step)
    said = amity.explain(step)
    assert f"uses {found.plan().arena} bytes in between, {found.again.saved} fewer, as" in said
    assert f"as {found.again.count} values are computed again" in said
    assert "graph after recompute" in amity.show(step, x)
    with amity.checking("reference"):
        step(x)


def test_copies_of_a_function_ask_for_the_same():
    step = amity.compile(nn.Linear(2, 2), recompute=True)
    assert copy.copy(step).recompute and pickle.loads(pickle.dumps(step)).recompute
    model = nn.Linear(2, 2)
    model.compile(recompute=True)
    assert model.forward.recompute


# -- any choice whatever leaves a graph what it was


def random_step(seed):
    """A function of a matrix and weights: ops, writes, and a backward pass."""
    draw = random.Random(seed)
    size = draw.choice([5, 16, 33])
    plan = [(draw.random(), draw.random(), draw.random()) for _ in range(draw.randint(5, 25))]
    ones = (amity.tanh, amity.sigmoid, amity.relu, lambda a: a * 2 + 1, lambda a: a.exp() / 9)
    sums = (
        lambda a: a - a.mean(-1, keepdim=True),
        lambda a: a / (1 + a.square().sum(0)),
        lambda a: a * a.sum().tanh(),
        lambda a: a.softmax(-1),
        lambda a: a - a.amax(0),
    )

    def step(x, w, seen):
        held = [x]
        for kind, which, other in plan:
            a, b = held[int(which * len(held))], held[int(other * len(held))]
            if kind < 0.3:
                a = ones[int(other * len(ones))](a)
            elif kind < 0.5:
                a = a * b - w[0]
            elif kind < 0.65:
                a = sums[int(other * len(sums))](a)
            elif kind < 0.75:
                a = F.dropout(a, 0.4)
            elif kind < 0.85:
                a = (a @ w).tanh()
            elif kind < 0.92:
                a = a.t().contiguous().t() + seen
                seen.mul_(0.5).add_(a.detach().mean(0))
            else:
                a = a.flip(0)
            held.append(a)
        loss = sum(v.square().mean() for v in held[-3:]) + w.mean()
        loss.backward()
        with amity.no_grad():
            w.sub_(w.grad * 0.1)
        w.grad = None
        return loss, held[-1]

    return step, size


def outcome(step, size, **options):
    amity.manual_seed(size)
    x, w, seen = amity.randn(size, size), amity.randn(size, size), amity.zeros(size)
    w.requires_grad_()
    function, results = amity.compile(step, **options), []
    for _ in range(2):
        made = function(x, w, seen)
        results += [t.detach().numpy().copy() for t in (*made, w, seen)]
    return results, [paper_of(s.program) for s in function.segments.values() if s.program]


@pytest.mark.parametrize("start", range(0, 18, 6))
def test_random_programs(start):
    saved = 0
    for seed in range(start, start + 6):
        step, size = random_step(seed)
        expected, plain = outcome(step, size)
        found, less = outcome(step, size, recompute=True)
        assert same_bits(found, expected), f"program {seed}"
        for a, b in zip(plain, less, strict=True):
            assert b.plan().arena == a.plan().arena - b.again.saved <= a.plan().arena
            saved += b.again.saved
    assert saved


def test_random_rounds():
    """Computed again or not, after any node: NumPy finds the same numbers."""
    for seed in range(12):
        step, size = random_step(seed)
        draw = random.Random(seed)
        _, papers = outcome(step, size)
        graph = pipeline.run(papers[0].graph)
        inputs = {n: value(n) for n in graph.inputs}
        rounds, repeated = [], graph
        for _ in range(2):
            nodes = repeated.nodes()
            boundary = draw.randrange(len(nodes))
            cheap = [i for i, n in enumerate(nodes[:boundary]) if n.op and n.op.results == 1]
            chosen = draw.sample(cheap, len(cheap) // 2)
            rounds.append(Round(boundary, frozenset(chosen)))
            repeated = again.repeat(graph, rounds)
        order = repeated.nodes()
        assert all(order.index(x) < i for i, n in enumerate(order) for x in n.inputs)
        seen = []
        for each in (graph, repeated):
            values = dict(inputs)
            for _ in reference.follow(each.outputs, values):
                pass
            seen.append([np.asarray(values[n]) for n in each.outputs])
        assert same_bits(*seen)


def value(node):
    draw = np.random.default_rng(node.spec.numel)
    found = draw.normal(size=node.spec.shape) if node.spec.shape else 3
    return np.asarray(found, node.spec.dtype.numpy)
