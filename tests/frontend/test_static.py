"""Calls that skip Python: what they give, and when Python runs after all."""

import gc
import math
import random
import sys
import threading
import time
import weakref

import numpy as np
import pytest

import amity
from amity import nn
from amity.frontend.static import Static
from tests.frontend.statics import X, needs_guards, uses, warmed

pytestmark = needs_guards


def test_python_is_skipped():
    f = warmed(lambda x: (x * 2).relu().sum(), X)
    before = uses(f)
    assert f(X).item() == 30 and f(X + 1).item() == 42
    assert uses(f) == before + 2


def test_results_are_new_at_every_call():
    f = warmed(lambda x: (x + 1, [x * 2, {"y": x}]), X)
    a, [b, rest] = f(X)
    c, _ = f(X)
    assert a is not c and a.storage is not c.storage and rest["y"] is X
    a.zero_()
    assert c.tolist() == (X + 1).tolist()


def test_views_of_results():
    f = warmed(lambda x: (x + 1).t(), X)
    y = f(X)
    assert y._is_view() and y.tolist() == (X + 1).t().tolist()


def test_grad_mode():
    w = amity.ones(3)
    f = warmed(lambda x: x * w, X)
    w.requires_grad_()
    assert f(X).requires_grad
    with amity.no_grad():
        assert not f(X).requires_grad
    assert f(X).requires_grad


def test_autocast():
    w = amity.ones(3, 3)
    f = warmed(lambda x: x @ w, X)
    with amity.autocast("cpu", dtype=amity.bfloat16):
        assert f(X).dtype is amity.bfloat16
    assert f(X).dtype is amity.float32


# -- what cannot be skipped
def _generator():
    while True:
        yield 1.0


def test_what_python_does_each_time():
    seen, rng, generator = [], np.random.default_rng(0), _generator()
    state = {"n": 0}
    array = np.ones(1)

    class Counter:
        n = 0

    def prints(x):
        print("called")
        return x + 1

    def counts(x):
        state["n"] += 1
        return x + state["n"]

    def collects(x):
        seen.append(len(seen))
        return x + len(seen)

    def counts_in_class(x):
        Counter.n += 1
        return x + Counter.n

    def draws(x):
        return x + random.random()

    def draws_by_numpy(x):
        return x + float(rng.random())

    def tells_time(x):
        return x + time.perf_counter()

    def reads(x):
        return x + x.sum().item()

    def reads_argument(x):
        return x + 1 if x[0, 0].item() < 5 else x - 1

    def takes_next(x):
        return x + next(generator)

    def reads_array(x):
        return x + float(array[0])

    def version(x):
        return x + x._version

    def constant(x):
        return x + amity.tensor([1.0, 2.0, 3.0])

    def keeps(x):
        state["last"] = x * 2
        return x + 1

    def writes_a_part(x):
        y = x * 2
        x[0].mul_(0.5)
        return y

    def identity(x):
        return x + (id(x) % 7)

    for function in (
        prints, counts, collects, counts_in_class, draws, draws_by_numpy, tells_time, reads, reads_argument,
        takes_next, reads_array, version, constant, keeps, writes_a_part, identity,
    ):  # fmt: skip
        f = amity.compile(function)
        for _ in range(8):
            f(X)
        assert not f.statics.found, function.__name__
        insisting = amity.compile(function, static=True)
        with pytest.raises(RuntimeError, match="static=True, but Python cannot be skipped as"):
            for _ in range(8):
                insisting(X)


def test_an_argument_that_is_only_looked_at_by_shape():
    f = warmed(lambda x: x * x.shape[0] + len(x), X)
    for rows in (2, 3, 2, 4, 3):
        x = amity.ones(rows, 3)
        assert f(x).tolist() == (x * rows + rows).tolist()


def test_numbers_and_strings_as_arguments():
    def function(x, scale, how="up", *, parts=(1, 2)):
        return (x * scale if how == "up" else x / scale) + parts[1]

    f = warmed(function, X, 2.0)
    for args, kwargs in (
        ((X, 2.0), {}), ((X, 3.0), {}), ((X, 2), {}), ((X, 2.0, "down"), {}), ((X, 2.0), {"parts": (1, 5)}),
        ((X, True), {}), ((X,), {"scale": 2.0}), ((X, -0.0), {}), ((X, 0.0), {}), ((X, math.inf), {}),
    ):  # fmt: skip
        for _ in range(4):
            assert str(f(*args, **kwargs)) == str(function(*args, **kwargs))


def test_arguments_that_alias():
    def function(a, b):
        a.add_(1)
        return a * b

    f = warmed(function, amity.ones(4), amity.ones(4))
    used = uses(f)
    a, b = amity.ones(4), amity.ones(4)
    assert f(a, a).tolist() == function(b, b).tolist() and a.tolist() == b.tolist()
    whole, other = amity.arange(6.0), amity.arange(6.0)
    assert f(whole[:4], whole[2:]).tolist() == function(other[:4], other[2:]).tolist()
    assert whole.tolist() == other.tolist() and uses(f) == used


def test_a_captured_tensor_as_argument():
    w = amity.ones(3)

    def function(x):
        w.add_(1)
        return x * w

    f = warmed(function, amity.ones(3))
    w.fill_(1)
    assert f(w).tolist() == [4, 4, 4]


def test_versions_grow_as_in_eager():
    a, b = amity.ones(3), amity.ones(3)

    def function(x):
        x.add_(1)
        x.mul_(2)
        return x.sum()

    f = warmed(function, a)
    before = uses(f)
    was, had = a._version, b._version
    f(a), function(b)
    assert a._version - was == b._version - had == 2 and uses(f) == before + 1


def test_numpy_memory():
    array = np.ones(3, np.float32)
    t = amity.from_numpy(array)
    f = warmed(lambda x: x * 2 + t, t)
    array[:] = 5
    assert f(t).tolist() == [15, 15, 15]
    assert f(amity.from_numpy(np.full(3, 2, np.float32))).tolist() == [9, 9, 9]


def test_arguments_by_slices_of_a_whole():
    data = amity.arange(24.0).reshape(8, 3)
    f = warmed(lambda x: (x * 2).sum(1), data[0:2])
    used = uses(f)
    for i in range(4):
        assert f(data[2 * i : 2 * i + 2]).tolist() == (data[2 * i : 2 * i + 2] * 2).sum(1).tolist()
    assert uses(f) == used + 4


def test_bad_classes_are_found():
    def function(x, y):
        return amity.nn.functional.cross_entropy(x, y)

    y = amity.tensor([0, 2])
    f = warmed(function, X, y)
    assert f(X, amity.tensor([1, 1])).item() == pytest.approx(
        function(X, amity.tensor([1, 1])).item()
    )
    with pytest.raises(IndexError, match="Target 7"):
        f(X, amity.tensor([1, 7]))
    y[0] = -3
    with pytest.raises(IndexError, match="Target -3"):
        f(X, y)


def test_inside_of_transforms_and_other_compiled_functions():
    inner = warmed(lambda x: x * x, X)
    outer = amity.compile(lambda x: inner(x) + 1)
    for _ in range(6):
        assert outer(X).tolist() == (X * X + 1).tolist()
    assert amity.vmap(inner)(X).tolist() == (X * X).tolist()
    assert amity.func.grad(lambda x: inner(x).sum())(X).tolist() == (2 * X).tolist()


def test_debuggers_see_python_run():
    def function(x):
        return x + 1

    f, seen = warmed(function, X), []
    before = uses(f)
    sys.settrace(lambda frame, event, arg: seen.append(frame.f_code.co_name))
    try:
        f(X)
    finally:
        sys.settrace(None)
    assert "function" in seen and uses(f) == before


def test_threads():
    w = amity.ones(50)
    f = warmed(lambda x: (x * w).sum(), amity.ones(50))
    wrong = []

    def work(i):
        for _ in range(200):
            if f(amity.full((50,), float(i))).item() != 50 * i:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_profiles_see_calls():
    f = warmed(lambda x: (x * 2).sum(), X)
    with amity.profiler.profile() as prof:
        f(X)
    assert prof.key_averages()


def test_modules_compile_and_methods():
    model = amity.nn.Sequential(amity.nn.Linear(6, 8), amity.nn.BatchNorm1d(8)).eval()
    for p in model.parameters():
        p.requires_grad_(False)
    expected = model(amity.ones(5, 6))
    model.compile()
    for _ in range(6):
        assert amity.allclose(model(amity.ones(5, 6)), expected)


def test_reasons_are_told():
    f = amity.compile(lambda x: x + x.sum().item())
    for _ in range(6):
        f(X)
    assert "Python reads what a tensor holds" in f.statics.reason
    scale = [1.0]
    f = warmed(lambda x: x * scale[0], X)
    scale[0] = 2.0
    f(X)
    assert f.statics.ends == ["scale[0] changed"]


def test_static_false_never_skips():
    f = amity.compile(lambda x: x + 1, static=False)
    for _ in range(8):
        f(X)
    assert not f.statics.found


def test_memory_is_not_kept():
    f = warmed(lambda x: x * 2, amity.ones(1000))
    t = amity.ones(1000)
    storage = t.storage
    before = sys.getrefcount(storage)
    f(t)
    after = sys.getrefcount(storage)
    assert before == after


def test_what_is_made_by_other_means_than_ops_is_told():
    f = amity.compile(lambda x: x + amity.arange(4))
    for _ in range(6):
        f(amity.ones(3, 4))
    assert "it makes int64[4] anew by other means than ops, as `arange`" in amity.explain(f)


def test_explain(capsys):
    scale = [1.0]
    f = warmed(lambda x: x * scale[0], X)
    f(X)
    assert "static: Python was skipped 2 times; guarded by" in amity.explain(f)
    scale[0] = 2.0
    f(X)
    assert "a static call was given up, as scale[0] changed" in amity.explain(f)
    assert "static=False asks for it" in amity.explain(amity.compile(lambda x: x, static=False))


def test_classes_are_let_go_of():
    def make():
        class Net(nn.Module):
            def forward(self, x):
                return x * 2

        warmed(Net(), X)
        return weakref.ref(Net)

    net = make()
    gc.collect()
    assert net() is None


def test_what_is_refused_is_not_tried_out_for_ever():
    seen = []
    f = amity.compile(lambda x: seen.append(1) or x * 2)
    for _ in range(6000):
        f(X)
    assert 8 <= f.statics.trials < 40
    assert len(seen) == 6000


def test_more_instances_than_static_calls():
    class Block(nn.Module):
        @amity.compile
        def forward(self, x):
            return x * 2

    blocks = nn.Sequential(*[Block() for _ in range(12)])
    for _ in range(200):
        blocks(X)
    statics = vars(Block)["forward"].statics
    assert len(statics.found) == 8 and statics.trials < 40


def test_arguments_that_alternate_are_looked_at_once(monkeypatch):
    nets = [nn.Identity(), nn.Identity()]
    f = amity.compile(lambda net, x: net(x) * 2)
    for _ in range(10):
        for net in nets:
            f(net, X)
    before, looks = uses(f), []
    monkeypatch.setattr(Static, "_still_holds", lambda _: looks.append(1))
    for net in nets * 3:
        f(net, X)
    assert (looks, uses(f)) == ([], before + 6)
