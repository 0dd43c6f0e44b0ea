"""Whatever a function sees may change: a call that skips Python must notice."""

import builtins
import operator
import os
from dataclasses import dataclass

import pytest

import amity
from amity.nn.hooks import register_module_forward_hook
from tests.frontend.statics import X, agree, needs_guards, warmed

pytestmark = needs_guards
SCALE = 2.0
STEPS = [1.0]


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
