"""Calls that skip Python: they stand for the function's while nothing that it sees changed, and only then."""

import builtins
import math
import operator
import os
import random
import sys
import threading
import time
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import pytest

import amity
from amity.frontend.statics import can_guard
from amity.nn.hooks import register_module_forward_hook

pytestmark = pytest.mark.skipif(not can_guard(), reason="this machine has no guards")
SCALE = 2.0
STEPS = [1.0]


def uses(f):
    return sum(s.uses for s in f.statics.found)


def warmed(function, *args, static=None):
    """The function compiled, and called until a static call stands for it."""
    f = amity.compile(function, static=static)
    for _ in range(8):
        f(*args)
        if uses(f):
            return f
    raise AssertionError(f.statics.reason)


def agree(f, function, *args):
    a, b = f(*args), function(*args)
    assert str(a) == str(b)


X = amity.arange(6.0).reshape(2, 3)


def test_python_is_skipped():
    ran = []
    f = warmed(lambda x: (x * 2).relu().sum(), X)
    before = uses(f)
    assert f(X).item() == 30 and f(X + 1).item() == 42
    assert uses(f) == before + 2 and not ran


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


def changes_closure():
    scale = 2.0

    def f(x):
        return x * scale

    def change():
        nonlocal scale
        scale = 3.0

    return f, change


def changes_global():
    def f(x):
        return x * SCALE

    def change():
        globals()["SCALE"] += 1

    return f, change


def changes_list():
    def f(x):
        return x * STEPS[0]

    def change():
        STEPS[0] += 1

    return f, change


def appends():
    parts = [1.0]

    def f(x):
        for p in parts:
            x = x + p
        return x

    return f, lambda: parts.append(2.0)


def changes_dict():
    options = {"a": {"scale": 1.0}}

    def f(x):
        return x * options["a"]["scale"]

    return f, lambda: options["a"].update(scale=4.0)


def adds_key():
    options = {}

    def f(x):
        return x * 2 if "double" in options else x * 1

    return f, lambda: options.update(double=True)


def changes_set():
    flags = {"slow"}

    def f(x):
        return x * 2 if "fast" in flags else x * 3

    def change():
        flags.discard("slow")
        flags.add("fast")

    return f, change


def changes_attribute():
    class Config:
        def __init__(self):
            self.scale = 2.0

    config = Config()

    def f(x):
        return x * config.scale

    def change():
        config.scale = 5.0

    return f, change


def changes_class_attribute():
    class Config:
        scale = 2.0

    def f(x):
        return x * Config.scale

    def change():
        Config.scale = 5.0

    return f, change


def changes_method():
    class Model:
        def __call__(self, x):
            return x + 1

    model = Model()

    def f(x):
        return model(x)

    def change():
        Model.__call__ = lambda self, x: x + 2

    return f, change


def changes_class_of_object():
    class One:
        def scale(self):
            return 1.0

    class Two:
        def scale(self):
            return 2.0

    thing = One()

    def f(x):
        return x * thing.scale()

    def change():
        thing.__class__ = Two

    return f, change


def changes_code():
    def inner(x):
        return x + 1

    def f(x):
        return inner(x)

    def change():
        inner.__code__ = (lambda x: x + 2).__code__

    return f, change


def changes_default():
    def f(x, scale=2.0):
        return x * scale

    def change():
        f.__defaults__ = (3.0,)

    return f, change


def changes_default_list():
    def f(x, scales=[2.0]):  # noqa: B006
        return x * scales[0]

    def change():
        f.__defaults__[0][0] = 3.0

    return f, change


def replaces_function_of_a_module():
    relu = amity.relu

    def f(x):
        return amity.relu(x - 2)

    def change():
        amity.relu = lambda x: x
        return lambda: setattr(amity, "relu", relu)

    return f, change


def changes_instance_dict():
    class Config:
        pass

    config = Config()
    config.scale = 2.0

    def f(x):
        return x * config.scale

    def change():
        config.__dict__ = {"scale": 7.0}

    return f, change


def changes_frozen():
    @dataclass(frozen=True)
    class Config:
        scale: float

    config = Config(2.0)

    def f(x):
        return x * config.scale

    return f, lambda: object.__setattr__(config, "scale", 3.0)


def replaces_tensor():
    box = [amity.ones(3)]

    def f(x):
        return x * box[0]

    def change():
        box[0] = amity.full((3,), 4.0)

    return f, change


def writes_tensor():
    w = amity.ones(3)

    def f(x):
        return x * w

    return f, lambda: w.mul_(3)


def replaces_data():
    w = amity.ones(3)

    def f(x):
        return x * w

    def change():
        w.data = amity.full((3,), 4.0)

    return f, change


def turns_into_part():
    w = amity.ones(6)

    def f(x):
        return x.sum() * w.sum()

    def change():
        w.data = amity.ones(2)

    return f, change


def freezes():
    layer = amity.nn.Linear(3, 2)
    for p in layer.parameters():
        p.requires_grad_(False)

    def f(x):
        return layer(x), layer(x).requires_grad

    def change():
        layer.bias.requires_grad_(True)

    return f, change


def changes_training():
    layer = amity.nn.Dropout(1.0)

    def f(x):
        return layer(x)

    return f, layer.eval


def adds_hook():
    layer = amity.nn.ReLU()

    def f(x):
        return layer(x)

    return f, lambda: layer.register_forward_hook(lambda m, a, out: out + 1)


def adds_hook_for_all():
    layer = amity.nn.ReLU()

    def f(x):
        return layer(x)

    def change():
        handle = register_module_forward_hook(lambda m, a, out: out + 1)
        return handle.remove

    return f, change


def replaces_module():
    model = amity.nn.Sequential(amity.nn.ReLU(), amity.nn.Tanh())

    def f(x):
        return model(x)

    def change():
        model[1] = amity.nn.Identity()

    return f, change


def appends_module():
    model = amity.nn.Sequential(amity.nn.ReLU())

    def f(x):
        return model(x)

    return f, lambda: model.append(amity.nn.Tanh())


def changes_module_attribute():
    model = amity.nn.LeakyReLU(0.1)

    def f(x):
        return model(x - 3)

    def change():
        model.negative_slope = 0.5

    return f, change


def replaces_forward():
    model = amity.nn.ReLU()

    def f(x):
        return model(x - 2)

    def change():
        model.forward = lambda x: x

    return f, change


def loads_state():
    model = amity.nn.BatchNorm1d(3).eval()
    for p in model.parameters():
        p.requires_grad_(False)

    def f(x):
        return model(x)

    state = {k: v + 1 for k, v in model.state_dict().items()}
    return f, lambda: model.load_state_dict(state)


def changes_default_dtype():
    def f(x):
        y = amity.ones(3) * x.new_ones(3, dtype=amity.int64)
        return y, y.dtype

    def change():
        amity.set_default_dtype(amity.float64)
        return lambda: amity.set_default_dtype(amity.float32)

    return f, change


def changes_partial_argument():
    table = {"scale": 1.0}

    def inner(x, table):
        return x * table["scale"]

    from functools import partial

    return partial(inner, table=table), lambda: table.update(scale=2.0)


def changes_attribute_of_a_function():
    def f(x):
        return x * f.scale

    f.scale = 2.0

    def change():
        f.scale = 3.0

    return f, change


def adds_attribute_to_a_function():
    def inner(x):
        return x

    def f(x):
        return inner(x) * (2 if hasattr(inner, "doubles") else 1)

    def change():
        inner.doubles = True

    return f, change


def changes_attribute_of_a_tensor():
    w = amity.ones(3)
    w.scale = 2.0

    def f(x):
        return x * w * w.scale

    def change():
        w.scale = 3.0

    return f, change


def adds_attribute_to_a_tensor():
    w = amity.ones(3)

    def f(x):
        return x * w * (2 if hasattr(w, "doubles") else 1)

    def change():
        w.doubles = True

    return f, change


class Options:
    def __init__(self):
        self.scale = 2.0


def changes_what_a_string_names():
    options = Options()

    def f(x):
        return x * operator.attrgetter("scale")(options)

    def change():
        options.scale = 3.0

    return f, change


def changes_what_a_format_names():
    options = Options()

    def f(x):
        return x * float(f"{options.scale}")

    def change():
        options.scale = 3.0

    return f, change


class Point:
    __match_args__ = ("height",)

    def __init__(self, height):
        self.height = height


def changes_what_a_pattern_names():
    point = Point(2.0)

    def f(x):
        match point:
            case Point(2.0):
                return x * 2
            case _:
                return x * 5

    def change():
        point.height = 3.0

    return f, change


def hides_a_builtin():
    def f(x):
        return x * max(1.0, 2.0)

    def change():
        globals()["max"] = min
        return lambda: globals().pop("max")

    return f, change


def replaces_a_builtin():
    def f(x):
        return x * max(1.0, 2.0)

    def change():
        before, builtins.max = builtins.max, min
        return lambda: setattr(builtins, "max", before)

    return f, change


def changes_environment():
    def f(x):
        return x * float(os.environ.get("AMITY_TEST_SCALE", "2"))

    def change():
        os.environ["AMITY_TEST_SCALE"] = "3"
        return lambda: os.environ.pop("AMITY_TEST_SCALE")

    return f, change


def changes_metaclass():
    class Meta(type):
        scale = 2.0

    class Config(metaclass=Meta):
        pass

    def f(x):
        return x * Config.scale

    def change():
        Meta.scale = 3.0

    return f, change


def rebinds_a_method_of_an_object():
    class Model:
        def scale(self):
            return 1.0

    model = Model()

    def f(x):
        return x * model.scale()

    def change():
        model.scale = lambda: 4.0

    return f, change


CHANGES = [
    changes_attribute_of_a_function, adds_attribute_to_a_function, changes_attribute_of_a_tensor,
    adds_attribute_to_a_tensor, changes_what_a_string_names, changes_what_a_format_names,
    changes_what_a_pattern_names, hides_a_builtin, replaces_a_builtin, changes_environment, changes_metaclass,
    rebinds_a_method_of_an_object,
    changes_closure, changes_global, changes_list, appends, changes_dict, adds_key, changes_set,
    changes_attribute, changes_class_attribute, changes_method, changes_class_of_object, changes_code,
    changes_default, changes_default_list, replaces_function_of_a_module, changes_instance_dict,
    changes_frozen, replaces_tensor, writes_tensor, replaces_data, turns_into_part, freezes,
    changes_training, adds_hook, adds_hook_for_all, replaces_module, appends_module,
    changes_module_attribute, replaces_forward, loads_state, changes_default_dtype,
    changes_partial_argument,
]  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_changes_are_noticed(case):
    function, change = case()
    f = warmed(function, X)
    agree(f, function, X)
    before = str(function(X))
    undo = change()
    try:
        assert str(function(X)) != before or case is turns_into_part
        for _ in range(6):
            agree(f, function, X)
    finally:
        if callable(undo) and not isinstance(undo, amity.nn.Module):
            undo()


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
        return x + 1 if x[0, 0] < 5 else x - 1

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

    def identity(x):
        return x + (id(x) % 7)

    for function in (
        prints, counts, collects, counts_in_class, draws, draws_by_numpy, tells_time, reads, reads_argument,
        takes_next, reads_array, version, constant, keeps, identity,
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


# -- training
def network():
    amity.manual_seed(3)
    return amity.nn.Sequential(
        amity.nn.Linear(6, 8),
        amity.nn.BatchNorm1d(8),
        amity.nn.ReLU(),
        amity.nn.Dropout(0.3),
        amity.nn.Linear(8, 3),
    )


OPTIMIZERS = {
    "sgd": lambda p: amity.optim.SGD(p, lr=0.1),
    "momentum": lambda p: amity.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "nesterov": lambda p: amity.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "radam": lambda p: amity.optim.RAdam(p, lr=0.01),
    "asgd": lambda p: amity.optim.ASGD(p, lr=0.01),
    "adam": lambda p: amity.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda p: amity.optim.AdamW(p, lr=0.01),
    "nadam": lambda p: amity.optim.NAdam(p, lr=0.01),
    "rmsprop": lambda p: amity.optim.RMSprop(p, lr=0.01, momentum=0.5),
}


def training(optimizer, seed=0):
    model = network()
    update = OPTIMIZERS[optimizer](model.parameters())

    def step(x, y):
        update.zero_grad()
        loss = amity.nn.functional.cross_entropy(model(x), y, label_smoothing=0.1)
        loss.backward()
        amity.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        update.step()
        return loss

    return model, update, step


def batches(n):
    rng = np.random.default_rng(5)
    for _ in range(n):
        x = amity.from_numpy(rng.standard_normal((5, 6), dtype=np.float32))
        yield x, amity.from_numpy(rng.integers(0, 3, 5))


def run(optimizer, is_compiled, between=lambda *parts: None, n=14):
    model, update, step = training(optimizer)
    call = amity.compile(step) if is_compiled else step
    amity.manual_seed(11)
    losses = []
    for i, (x, y) in enumerate(batches(n)):
        losses.append(call(x, y).item())
        between(i, model, update)
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    values = [*model.state_dict().values(), *grads]
    state = update.state_dict()["state"]
    values += [v for s in state.values() for v in s.values() if isinstance(v, amity.Tensor)]
    return losses, [v.tolist() for v in values], amity.get_rng_state().tolist(), call


def same_training(optimizer, between=lambda *parts: None, n=14):
    losses, values, stream, _ = run(optimizer, False, between, n)
    got, mine, drawn, call = run(optimizer, True, between, n)
    assert np.allclose(got, losses, rtol=1e-5, atol=1e-6) and drawn == stream
    for a, b in zip(mine, values, strict=True):
        assert np.allclose(a, b, rtol=1e-3, atol=1e-5)
    return call


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_training(optimizer):
    assert uses(same_training(optimizer)) > 5


def test_learning_rates_may_change():
    def between(i, model, update):
        update.param_groups[0]["lr"] *= 0.9

    assert uses(same_training("adamw", between)) > 5


def changes_weight_decay(i, model, update):
    if i == 8:
        update.param_groups[0]["weight_decay"] = 0.5


def changes_momentum(i, model, update):
    if i == 8:
        update.param_groups[0]["momentum"] = 0.5


def ends_momentum(i, model, update):
    if i >= 8:
        update.param_groups[0]["momentum"] = 0.0


def adds_group(i, model, update):
    if i == 8:
        update.add_param_group({"params": [amity.ones(2, requires_grad=True)]})


def clears_gradients(i, model, update):
    update.zero_grad()


def holds_gradients(i, model, update):
    model.held = [*getattr(model, "held", []), model[0].weight.grad]
    if i > 7:
        assert len({str(g.tolist()) for g in model.held[-3:]}) == 3


def writes_gradients(i, model, update):
    model[0].weight.grad.zero_()


def sets_counters(i, model, update):
    if i == 8:
        for s in update.state.values():
            s["step"] = 100.0


def loads_state_of_optimizer(i, model, update):
    if i == 8:
        update.load_state_dict(update.state_dict())


def evaluates(i, model, update):
    model.train(i % 3 != 2)


def freezes_a_layer(i, model, update):
    if i == 8:
        model[0].weight.requires_grad_(False)
        model[0].weight.grad = None


def seeds(i, model, update):
    if i == 9:
        amity.manual_seed(1)


@pytest.mark.parametrize(
    ("optimizer", "between"),
    [
        ("adamw", changes_weight_decay),
        ("momentum", ends_momentum),
        ("rmsprop", ends_momentum),
 ("momentum", changes_momentum), ("adam", clears_gradients),
        ("adamw", holds_gradients), ("sgd", writes_gradients), ("adam", sets_counters),
        ("adam", loads_state_of_optimizer), ("sgd", evaluates), ("sgd", seeds), ("adamw", adds_group),
    ],
)  # fmt: skip
def test_training_with_changes_between_steps(optimizer, between):
    same_training(optimizer, between, 18)


def test_hooks_of_parameters_and_optimizers():
    model, update, step = training("sgd")
    f = warmed(step, *next(iter(batches(1))))
    called = []
    update.register_step_post_hook(lambda *a: called.append("step"))
    handle = model[0].weight.register_hook(lambda g: called.append("grad"))
    for x, y in batches(3):
        f(x, y)
    assert called.count("step") == 3 and called.count("grad") == 3
    handle.remove()


def test_a_gradient_of_a_result_that_is_still_wanted():
    layer = amity.nn.Linear(3, 2)
    f = amity.compile(lambda x: layer(x).sum())
    for _ in range(6):
        layer.zero_grad()
        f(X).backward()
        assert layer.bias.grad.tolist() == [2, 2]
    assert not f.statics.found


def test_a_spent_result_cannot_be_differentiated_again():
    model, update, step = training("sgd")
    f = warmed(step, *next(iter(batches(1))))
    loss = f(*next(iter(batches(1))))
    assert loss.requires_grad and loss.grad_fn is not None
    with pytest.raises(RuntimeError, match="second time"):
        loss.backward()


def test_gradients_that_add_up():
    layer = amity.nn.Linear(3, 2)

    def step(x):
        layer(x).sum().backward()

    f = amity.compile(step)
    for i in range(7):
        f(X)
        assert layer.bias.grad.tolist() == [2.0 * (i + 1)] * 2


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


def test_recurrent_step():
    amity.manual_seed(0)
    model = amity.nn.LSTM(3, 4)
    update = amity.optim.SGD(model.parameters(), 0.1, momentum=0.9)

    def step(x):
        update.zero_grad()
        model(x)[0].sum().backward()
        update.step()

    f = warmed(step, amity.ones(2, 5, 3))
    other, mine = deepcopy(model), [p.tolist() for p in model.parameters()]
    f(amity.ones(2, 5, 3))
    assert [p.tolist() for p in model.parameters()] != mine
    assert [p.tolist() for p in other.parameters()] == mine


def test_profiles_see_calls():
    f = warmed(lambda x: (x * 2).sum(), X)
    with amity.profiler.profile() as prof:
        f(X)
    assert prof.key_averages()


def test_modules_compile_and_methods():
    model = network().eval()
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
    ran = []
    f = amity.compile(lambda x: x + 1, static=False)
    for _ in range(8):
        f(X)
    assert not f.statics.found and not ran


def test_memory_is_not_kept():
    f = warmed(lambda x: x * 2, amity.ones(1000))
    t = amity.ones(1000)
    storage = t.storage
    before = sys.getrefcount(storage)
    f(t)
    after = sys.getrefcount(storage)
    assert before == after


def test_explain(capsys):
    scale = [1.0]
    f = warmed(lambda x: x * scale[0], X)
    f(X)
    assert "static: Python was skipped 2 times; guarded by" in amity.explain(f)
    scale[0] = 2.0
    f(X)
    assert "a static call was given up, as scale[0] changed" in amity.explain(f)
    assert "static=False asks for it" in amity.explain(amity.compile(lambda x: x, static=False))


def losses_of_two_sizes(is_compiled):
    model, _, step = training("momentum")
    call = amity.compile(step) if is_compiled else step
    amity.manual_seed(1)
    sizes = (5, 5, 5, 3) * 10
    return call, [call(x[:n], y[:n]).item() for n, (x, y) in zip(sizes, batches(40), strict=True)]


def test_batches_of_two_sizes():
    """A smaller last batch has a static call of its own; gradients go from one to the other."""
    call, losses = losses_of_two_sizes(True)
    assert np.allclose(losses, losses_of_two_sizes(False)[1], rtol=1e-5, atol=1e-6)
    assert len(call.statics.found) == 2 and uses(call) > 25 and not call.statics.ends
