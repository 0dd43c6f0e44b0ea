"""Compiled functions against the same functions run eagerly: results, side effects and errors."""

from __future__ import annotations

import copy
import io
import random
import threading

import numpy as np
import pytest

import amity
from amity import nn, ops


def values(x):
    """Everything comparable of a result."""
    if isinstance(x, amity.Tensor):
        return (x.dtype, tuple(x.shape), x.stride(), x.requires_grad, x.detach().tolist())
    if isinstance(x, (tuple, list)):
        return [values(v) for v in x]
    if isinstance(x, dict):
        return {k: values(v) for k, v in x.items()}
    return x


def agree(a, b):
    """Equal, or for floats within the rounding of sums in another order."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(agree(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(agree, a, b))
    return a == pytest.approx(b, rel=1e-5, abs=2e-6) if isinstance(a, float) else a == b


def same_calls(make, calls=7, inputs=None, same=lambda a, b: str(a) == str(b)):
    """`make()` gives a function and what it changes; both ways of calling it must agree."""
    outcomes = []
    for wrap in (lambda f: f, amity.compile):
        amity.manual_seed(7)
        random.seed(7)
        function, state = make()
        called = wrap(function)
        seen = []
        for i in range(calls):
            args = inputs(i) if inputs else (amity.arange(12.0).reshape(3, 4) - i,)
            try:
                seen.append(values(called(*args)))
            except (RuntimeError, ValueError, IndexError, TypeError) as error:
                seen.append((type(error), str(error)))
            seen.append(values(args))
            seen.append(values(state()))
        outcomes.append(seen)
    assert same(*outcomes)


def nothing():
    return None


class Functions:
    """Each takes a 3x4 tensor; the names say what is special."""

    def chain(x):
        return (x * 2 + 1).relu().exp().clamp(max=9).sum()

    def several(x):
        y = x.softmax(-1)
        return y, y.sum(0), {"m": y.max()}

    def views(x):
        y = (x + 1).t()
        return y, y[1:, :2], y.reshape(-1)[::2], y.expand(2, 4, 3)

    def view_of_result_is_used(x):
        y = x * 2
        return y[1] + y[:, :3].sum(0).sum(), y.view(4, 3) @ y

    def input_itself(x):
        return x, x.t()

    def item(x):
        n = (x > 0).sum().item()
        return x * n

    def branch(x):
        return x * 2 if x.sum() > 10 else x - 1

    def loop(x):
        while x.abs().max() > 1:
            x = x / 2
        return x

    def early_return(x):
        for i in range(5):
            x = x - i
            if x.min() < -5:
                return x, i
        return x, -1

    def prints(x):
        y = x * 3
        text = repr(y)
        return y + 1, text

    def as_numpy(x):
        y = (x * 2).numpy().sum()
        return x + float(y)

    def in_place_on_input(x):
        x.add_(1)
        return x * 2

    def in_place_on_view_of_input(x):
        x[0].mul_(3)
        x[:, 1] = 7
        return x.sum()

    def in_place_on_results(x):
        y = x + 1
        z = y[1]
        y.mul_(2)
        z.add_(5)
        y[0, 0] = -1
        return y, z

    def masked_assignment(x):
        y = x.clone()
        y[y > 2] = 0
        return y

    def swap(x):
        a, b = x[0].clone(), x[1].clone()
        keep = a.clone()
        a.copy_(b)
        b.copy_(keep)
        return a, b

    def two_inputs_swapped_in_place(x):
        y = x.clone()
        y.copy_(x.flip(0))
        x.copy_(y * 2)
        return y

    def transposed_into_itself(x):
        y = x[:, :3].clone()
        y.copy_(y.t() + 1)
        return y

    def out(x):
        y = amity.empty(3, 4)
        amity.add(x, 1, out=y)
        return y * 2

    def data_of_a_result(x):
        y = x * 2
        y.data.add_(1)
        return y.data + 1, y.data[1:].sum(), y, y._version, y.data._version

    def places_of_a_mask(x):
        y = x + 1
        y[y > 5] = -1
        y[y.sum(1) > 9] = 0.5
        y[:, 1][y[:, 1] > 3] = x.sum()
        return y

    def shapes_of_data(x):
        return x[x > 4], x.nonzero(), x.unique()

    def random_numbers(x):
        return x + amity.randn(3, 4), ops.dropout(x, 0.5, True), amity.randperm(5)

    def random_of_python(x):
        return x * random.random()

    def constants(x):
        return x + amity.tensor([1.0, 2, 3, 4]) + amity.ones(4) + amity.arange(4)

    def from_numpy(x):
        a = np.arange(4.0, dtype=np.float32)
        y = x + amity.from_numpy(a)
        return y

    def empty(x):
        return x[:0].sum(), x[:0] * 2, amity.zeros(0).sum()

    def dtypes(x):
        return x.double() / 3, x.int() // 2, x.bfloat16() * 2, (x > 1) & (x < 5), x.half().sum()

    def gradients(x):
        x = x.detach().requires_grad_()
        y = (x.tanh() * x).sum()
        y.backward()
        return x.grad, y

    def gradients_of_gradients(x):
        x = x.detach().requires_grad_()
        (g,) = amity.autograd.grad((x**3).sum(), x, create_graph=True)
        (h,) = amity.autograd.grad(g.sum(), x)
        return g, h

    def sort_and_search(x):
        return x.sort(descending=True), x.topk(2), x.argmax(1), x.cumsum(0)

    def product(x):
        return x @ x.t(), ops.linear(x, x), amity.einsum("ij,kj->ik", x, x)

    def error(x):
        y = x * 2
        return y @ y

    def error_after_write(x):
        x.add_(1)
        raise ValueError("stop")

    def bad_index(x):
        y = x + 1
        return y[5]

    def bad_class(x):
        return ops.cross_entropy(x, amity.tensor([0, 1, 9]))

    def bad_gather(x):
        return x.gather(1, (x * 100).long())


CASES = [pytest.param(f, id=n) for n, f in vars(Functions).items() if not n.startswith("_")]


@pytest.mark.parametrize("function", CASES)
def test_function(function):
    same_calls(lambda: (function, nothing))


def test_python_side_effects_happen_at_every_call():
    def make():
        seen, count = [], {"n": 0}

        def f(x):
            count["n"] += 1
            seen.append(count["n"])
            return x * count["n"] + len(seen)

        return f, lambda: (seen, count)

    same_calls(make)


def test_globals_closures_and_attributes_are_read_at_every_call():
    def make():
        box = {"scale": 1.0, "w": amity.ones(4)}

        class Model:
            factor = 2

        model = Model()

        def f(x):
            y = x * box["scale"] + box["w"] * model.factor
            box["scale"] += 1
            box["w"] = box["w"] * 2
            model.factor = 3
            return y

        return f, lambda: box

    same_calls(make)


def test_arguments_are_written_when_all_has_been_read():
    def crossed(a, b):
        old = a.t() * 3
        a.copy_(b.t() * 2)
        b.copy_(old)

    same_calls(lambda: (crossed, nothing), 3, lambda i: (amity.randn(3, 4), amity.randn(4, 3) + i))
    turned = lambda a: a.copy_(a.t() + 1)  # noqa: E731
    same_calls(lambda: (turned, nothing), 3, lambda i: (amity.arange(25.0).reshape(5, 5) + i,))


def test_outputs_are_new_at_every_call():
    f = amity.compile(lambda x: x * 2)
    x = amity.ones(3)
    a = f(x)
    b = f(x)
    a.add_(1)
    assert b.tolist() == [2, 2, 2] and f(x).tolist() == [2, 2, 2]


def test_aliasing_inputs():
    def inputs(i):
        base = amity.arange(4.0)
        pairs = [(base, base), (base[1:], base[:3]), (base[:3], base[1:]), (base, base.clone())]
        return pairs[i % 4]

    same_calls(lambda: (lambda x, y: (x.add_(1), x * y)[1], nothing), 8, inputs)
    same_calls(lambda: (lambda x, y: (y.mul_(2), x.add_(1), x * y)[2], nothing), 8, inputs)


def test_module_modes_hooks_and_replaced_parameters():
    def make():
        m = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))
        calls = []

        def f(x):
            y = m(x)
            if len(calls) == 1:
                m.eval()
            if len(calls) == 2:
                m[0].register_forward_hook(lambda mod, args, out: out * 10)
            if len(calls) == 3:
                m[0].weight = nn.Parameter(amity.ones(4, 4))
                m[0].bias.data = amity.zeros(4)
            calls.append(1)
            return y

        return f, m.state_dict

    same_calls(make, calls=6)


@pytest.mark.parametrize(
    "optimizer",
    ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adamax", "Adadelta", "Rprop", "ASGD"],
)  # fmt: skip
def test_training_step(optimizer):
    def make():
        first = nn.Linear(4, 16, bias=False)  # before BatchNorm its gradient would be mere rounding
        m = nn.Sequential(first, nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))
        opt = getattr(amity.optim, optimizer)(m.parameters(), lr=0.01)
        schedule = amity.optim.lr_scheduler.StepLR(opt, 2)

        def step(x, y):
            opt.zero_grad()
            loss = ops.cross_entropy(m(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(m.parameters(), 1.0)
            opt.step()
            schedule.step()
            return loss

        return step, lambda: (
            m.state_dict(),
            [p.grad for p in m.parameters()],
            opt.state_dict()["state"],
        )

    data = lambda i: (amity.randn(8, 4), amity.randint(0, 3, (8,)))  # noqa: E731
    same_calls(make, calls=5, inputs=data)


def test_convolutional_step():
    def make():
        m = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(128, 5),
        )
        opt = amity.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)

        def step(x, y):
            opt.zero_grad(set_to_none=False)
            loss = ops.cross_entropy(m(x), y)
            loss.backward()
            opt.step()
            return loss.item()

        return step, lambda: (m.state_dict(), [p.grad for p in m.parameters()])

    inputs = lambda i: (amity.randn(4 + i, 3, 8, 8), amity.randint(0, 5, (4 + i,)))  # noqa: E731
    same_calls(make, inputs=inputs, same=agree)


def test_backward_outside():
    def make():
        w = amity.ones(4, requires_grad=True)
        f = lambda x: ((x * w).tanh() * w).sum()  # noqa: E731
        return f, lambda: w.grad

    eager, compiled = make(), make()
    x = amity.arange(12.0).reshape(3, 4)
    for (f, _), wrap in ((eager, lambda f: f), (compiled, amity.compile)):
        for _ in range(3):
            wrap(f)(x).backward()
    assert values(eager[1]()) == values(compiled[1]())


def test_written_input_that_autograd_saved():
    f = amity.compile(lambda x, w: ((y := x * w), x.add_(1), y)[2])
    w = amity.ones(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        f(amity.ones(3), w).sum().backward()


def test_the_same_program_serves_again_and_numbers_are_arguments():
    f = amity.compile(lambda x, n: (x * n).sum())
    assert [f(amity.ones(3), n).item() for n in (1.0, 2.5, -3.0)] == [3, 7.5, -9]
    assert len(f.segments) == 1


def test_threads():
    f = amity.compile(lambda x: (x * 2).relu() + x.sum())
    out = {}

    def work(i):
        out[i] = [f(amity.full((50,), float(i + n))).tolist() for n in range(30)]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for i in range(6):
        for n in range(30):
            assert out[i][n] == [2.0 * (i + n) + 50 * (i + n)] * 50


def test_other_threads_run_eagerly_meanwhile():
    seen = []

    def f(x):
        y = x * 2
        t = threading.Thread(target=lambda: seen.append((amity.ones(3) + 1).tolist()))
        t.start()
        t.join()
        return y

    assert amity.compile(f)(amity.ones(2)).tolist() == [2, 2]
    assert seen == [[2, 2, 2]]


def test_nested_and_recursive():
    inner = amity.compile(lambda x: x * 2)
    outer = amity.compile(lambda x: inner(x) + inner(x + 1))
    assert outer(amity.ones(2)).tolist() == [6, 6]


def test_numpy_memory_that_changes_inside():
    def f(a):
        y = amity.from_numpy(a) * 2
        a[:] = 0
        return y

    assert amity.compile(f)(np.ones(3, np.float32)).tolist() == [2, 2, 2]


def test_fullgraph_raises_at_the_line_that_ends_the_graph():
    def f(x):
        y = x * 2
        if y.sum() > 0:  # here
            return y
        return -y

    with pytest.raises(
        RuntimeError, match=r"fullgraph=True, but at .*test_compile.py:\d+ a value is looked at"
    ) as error:
        amity.compile(f, fullgraph=True)(amity.ones(2))
    lines = [str(entry.statement) for entry in error.traceback]
    assert any("y.sum() > 0" in line for line in lines)
    assert amity.compile(lambda x: x * 2, fullgraph=True)(amity.ones(2)).tolist() == [2, 2]


def test_module_compile_and_attributes():
    m = nn.Linear(3, 2)
    c = amity.compile(m)
    x = amity.ones(1, 3)
    assert c(x).tolist() == m(x).tolist() and c.weight is m.weight
    assert len(list(c.parameters())) == 2
    expected = m(x).tolist()
    m.compile()
    assert m(x).tolist() == expected


def test_a_copy_of_a_compiled_module_has_its_own_parameters():
    m = nn.Linear(2, 2)
    m.compile()
    expected = m(x := amity.ones(1, 2)).tolist()
    twin = copy.deepcopy(m)
    m.weight.data.zero_()
    assert twin(x).tolist() == expected and m(x).tolist() == [m.bias.tolist()]


def test_what_data_shows_is_what_waits():
    x = amity.ones(3)
    old = x.data

    @amity.compile
    def f():
        x.add_(1)
        y = old * 10
        old.mul_(2)
        return y, x * 1

    assert [t.tolist() for t in f()] == [[20.0] * 3, [4.0] * 3]
    assert [t.tolist() for t in f()] == [[50.0] * 3, [10.0] * 3]
    assert (x._version, old._version, len(f.segments)) == (2, 2, 1)


def looks(m):
    amity.save(m.state_dict(), io.BytesIO())
    amity.multinomial(m.weight.abs(), 2)
    return m.weight.nonzero(), m.weight.unique(), m.bias.histc(3)


def test_numpy_in_amity_itself_leaves_graphs_whole():
    """Only memory that others may still see must be written at once."""
    m = nn.Linear(3, 2)
    f = amity.compile(amity.no_grad()(lambda x: m.weight.mul_(2).add_(1) @ x))
    f(amity.ones(3))
    looks(m)
    f(amity.ones(3))
    assert len(f.segments) == 1
    m.weight.detach().numpy()
    f(amity.ones(3))
    assert len(f.segments) > 1


def test_a_number_for_a_mask_is_in_the_graph():
    @amity.compile(fullgraph=True)
    def f(x):
        x[x > 1] = -float("inf")
        return x.softmax(-1)

    assert f(amity.tensor([1.0, 2.0, 1.0])).tolist() == [0.5, 0.0, 0.5]


def test_decorators_and_methods():
    class Model:
        scale = 3

        @amity.compile
        def plain(self, x):
            return x * self.scale

        @amity.compile(fullgraph=True)
        def whole(self, x):
            return x * self.scale

    assert Model().plain(amity.ones(1)).tolist() == Model().whole(amity.ones(1)).tolist() == [3]
    f = lambda x: x  # noqa: E731
    assert amity.compile(f, disable=True) is f
    with pytest.raises(TypeError, match="compile: got int"):
        amity.compile(3)


def test_explain(capsys):
    f = amity.compile(lambda x: (x * 2).relu() if x.sum() > 0 else x - 1)
    for x in (amity.ones(3), -amity.ones(3), amity.ones(4)):
        f(x)
    text = amity.explain(f)
    assert capsys.readouterr().out == text + "\n"
    assert "5 segments" in text and "ended as a value is looked at" in text
    assert "ended as the function ends" in text and "launches" in text
    assert "it has sum(float32[4]) where another had sum(float32[3])" in text
    with pytest.raises(TypeError, match="explain: got function"):
        amity.explain(lambda x: x)


def test_a_warning_tells_what_changes_at_every_call():
    f = amity.compile(lambda x: x * 2, dynamic=False)
    with pytest.warns(UserWarning, match=r"it has mul\(float32\[\d+\]\) where another had"):
        for n in range(1, 70):
            f(amity.ones(n))


def test_two_costly_values_kept_for_a_second_pass():
    def f(x):
        e, c = x.exp(), x.cos()
        return x + e.sum(), c + c.sum() * e

    x = amity.rand(8, 9, dtype=amity.float64)
    assert agree(values(amity.compile(f)(x)), values(f(x)))


def test_parts_of_a_whole_share_a_program():
    whole, other = amity.arange(40.0), amity.arange(40.0)

    def f(x):
        y = x[1:] * 2 + x[:-1]
        return y.sum()

    compiled = amity.compile(f, static=False)
    for i in range(8):
        assert compiled(whole[4 * i : 4 * i + 5]).item() == f(other[4 * i : 4 * i + 5]).item()
    assert len(compiled.segments) == 1

    def g(x, first):
        z = x + first
        x += 1
        return z, x * first, x[1:] - first

    written = amity.compile(g, static=False)
    for i in range(4):
        x, y = amity.arange(8.0) + i, amity.arange(8.0) + i
        for a, b in zip(written(x, x[i]), g(y, y[i]), strict=True):
            assert a.tolist() == b.tolist()
        assert x.tolist() == y.tolist()
