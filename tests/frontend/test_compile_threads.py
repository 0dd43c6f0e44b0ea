"""Compiled calls of several threads at once, and what threads share in the middle of one: as in eager."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import amity
from amity import nn

F = nn.functional


@pytest.fixture(scope="module")
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


def network(seed):
    amity.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def training(seed, is_compiled, static=None):
    """A model, and a function that trains it by a step on the k-th batch."""
    model = network(seed)
    update = amity.optim.AdamW(model.parameters(), lr=0.01)

    def step(x, y):
        update.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        update.step()
        return loss

    call = amity.compile(step, static=static) if is_compiled else step

    def train(k):
        rng = np.random.default_rng(k)
        x = amity.from_numpy(rng.standard_normal((5, 6), dtype=np.float32))
        return call(x, amity.from_numpy(rng.integers(0, 3, 5))).item()

    return model, train


def weights(model):
    return [p.tolist() for p in model.parameters()]


def together(*works):
    """Run functions in a thread each, at once; what they give."""
    start, out = threading.Barrier(len(works)), [None] * len(works)

    def run(i):
        start.wait()
        try:
            out[i] = works[i]()
        except BaseException as error:
            out[i] = error
            raise

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(works))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not any(t.is_alive() for t in threads)
    return out


@pytest.mark.parametrize("static", [None, False])
def test_one_function_called_by_many(static):
    def function(x, scale):
        y = (x * scale).relu() + x.sum()
        return (y, y.max().item()) if scale > 2 else (y, 0)

    f = amity.compile(function, static=static)

    def work(i):
        xs = [amity.full((50,), float(i + n)) for n in range(60)]
        return [f(x, float(n % 4))[0].tolist() for n, x in enumerate(xs)]

    found = together(*[lambda i=i: work(i) for i in range(4)])
    for i in range(4):
        for n in range(60):
            v, s = float(i + n), float(n % 4)
            assert found[i][n] == [v * s + 50 * v] * 50


@pytest.mark.parametrize("static", [None, False])
def test_each_trains_its_own(static):
    def work(seed, is_compiled):
        model, train = training(seed, is_compiled, static)
        return [train(k) for k in range(40)], weights(model)

    expected = [work(seed, False) for seed in range(3)]
    # threads draw from one stream of random numbers: models are made before
    made = [training(seed, True, static) for seed in range(3)]
    found = together(*[lambda t=t: [t(k) for k in range(40)] for _, t in made])
    for (model, _), losses, (right, state) in zip(made, found, expected, strict=True):
        assert losses == pytest.approx(right, rel=1e-4)
        assert np.allclose(np.concatenate([np.ravel(w) for w in weights(model)]),
                           np.concatenate([np.ravel(w) for w in state]), rtol=1e-3, atol=1e-5)  # fmt: skip


def test_one_trains_while_others_infer():
    """Also with the weights that are trained: what is inferred meanwhile is of some moment."""
    model, train = training(1, True, static=False)
    other, plain = training(1, False)
    still = network(2)
    infer = [amity.compile(m, static=s) for m in (model, still) for s in (None, False)]
    x, is_over = amity.ones(4, 6), threading.Event()
    fixed = still(x).tolist()

    def learn():
        try:
            return [train(k) for k in range(60)]
        finally:
            is_over.set()

    def ask(i):
        seen = 0
        with amity.no_grad():
            while not is_over.is_set() or seen < 5:
                y = infer[i](x)
                assert np.allclose(y.tolist(), fixed) if i > 1 else np.isfinite(y.tolist()).all()
                seen += 1
        return seen

    losses, *seen = together(learn, *[lambda i=i: ask(i) for i in range(4)])
    assert all(n >= 5 for n in seen)
    assert losses == pytest.approx([plain(k) for k in range(60)], rel=1e-4)
    with amity.no_grad():
        assert np.allclose(infer[0](x).tolist(), other(x).tolist(), atol=1e-5)


def reads(y, run):
    return run(lambda: (y + 1).sum().item())


def looks(y, run):
    return run(y.tolist)


def looks_by_numpy(y, run):
    return run(lambda: y.numpy().copy().tolist())


def looks_at_one(y, run):
    return run(lambda: y[1].item())


def asks(y, run):
    return run(lambda: bool((y > 1).all()))


def writes(y, run):
    run(lambda: y.add_(1))
    return y.sum()


def writes_a_part(y, run):
    run(lambda: y[1:].mul_(3))
    return y


def gives_back(y, run):
    return run(lambda: y * 2) + y


def runs_compiled(y, run):
    return run(lambda: amity.compile(lambda z: z * 2 + 1)(y))


@pytest.mark.parametrize(
    "use",
    [reads, looks, looks_by_numpy, looks_at_one, asks, writes, writes_a_part, gives_back, runs_compiled],
)  # fmt: skip
def test_others_use_what_waits(pool, use):
    def function(x):
        y = x * 2 + 1
        found = use(y, lambda f: pool.submit(f).result(30))
        return found, y * 3, y

    f = amity.compile(function)
    for k in range(5):
        x = amity.arange(3.0) * k
        assert str(f(x)) == str(function(x))


def test_others_write_what_was_read(pool):
    w = amity.ones(3)

    def function(x):
        y = x * w
        pool.submit(lambda: w.mul_(2)).result(30)
        return y, x * w

    agrees_from_ones(function, w)


def test_others_read_what_is_to_be_written(pool):
    w = amity.ones(3)

    def function(x):
        w.add_(x)
        return pool.submit(lambda: (w * 2).tolist()).result(30), w.sum()

    agrees_from_ones(function, w)


def agrees_from_ones(function, w):
    """Compiled gives what eager gives, at each call, where the function changes `w`."""
    f = amity.compile(function)
    for k in range(4):
        w.fill_(1)
        a = str(f(amity.ones(3) + k))
        w.fill_(1)
        assert a == str(function(amity.ones(3) + k))


def test_hooks_that_ask_others(pool):
    layer, seen = nn.Linear(3, 2), []
    layer.weight.register_hook(lambda g: seen.append(pool.submit(g.sum().item).result(30)))
    layer.register_forward_hook(lambda m, a, out: pool.submit(lambda: out * 2).result(30))

    def step(x):
        layer.zero_grad()
        layer(x).sum().backward()
        return layer.bias.grad

    f = amity.compile(step)
    for k in range(4):
        x = amity.ones(2, 3) * k
        a, b = str(f(x)), str(step(x))
        assert a == b and seen[-1] == seen[-2] == 24 * k


def test_batches_made_by_threads():
    """A loader's thread makes batches while the step is compiled, and inside of it."""

    def batches(scale):
        with ThreadPoolExecutor(2) as made:
            yield from made.map(lambda k: amity.arange(4.0) * k * scale, range(6))

    def function(x):
        return sum((x * b).sum() for b in batches(x.max()))

    x = amity.arange(4.0)
    assert amity.compile(function)(x).item() == function(x).item()
    f = amity.compile(lambda x, b: (x * b).sum())
    assert [f(x, b).item() for b in batches(1.0)] == [14.0 * k for k in range(6)]


def test_a_call_that_waits_for_anothers_does_not_hang(pool):
    inner = amity.compile(lambda x: x * 2, static=False)

    @amity.compile
    def outer(x):
        y = x + 1
        z = pool.submit(lambda: inner(amity.ones(2))).result(30)
        return y + z

    for _ in range(3):
        assert outer(amity.ones(2)).tolist() == [4, 4]
    assert inner.crowded == 3


def test_calls_wait_for_short_ones():
    f = amity.compile(lambda x: (x * 2).relu() + x.sum(), static=False)
    f(amity.ones(8)), f(amity.ones(8))
    together(*[lambda: [f(amity.ones(8)) for _ in range(200)] for _ in range(4)])
    assert f.crowded < 40


def test_fullgraph_is_broken_by_others(pool):
    def function(x):
        y = x * 2
        return pool.submit(y.tolist).result(30)

    with pytest.raises(RuntimeError, match="fullgraph=True"):
        amity.compile(function, fullgraph=True)(amity.ones(2))
    assert (amity.ones(2) + 1).tolist() == [2, 2]
