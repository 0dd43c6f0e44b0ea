"""Training steps that skip Python: the same numbers, parameters, states and random streams as eager."""

from copy import deepcopy

import numpy as np
import pytest

import amity
from tests.frontend.statics import X, needs_guards, uses, warmed

pytestmark = needs_guards


def network():
    amity.manual_seed(3)
    return amity.nn.Sequential(
        amity.nn.Linear(6, 8, bias=False),  # before BatchNorm its gradient would be mere rounding
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


@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
@pytest.mark.parametrize("when", [range(14), (8, 11)])
def test_learning_rates_may_change(optimizer, when):
    def between(i, model, update):
        if i in when:
            update.param_groups[0]["lr"] *= 0.5

    assert uses(same_training(optimizer, between)) > 5


def test_a_learning_rate_in_a_tensor_may_change():
    def between(i, model, update):
        group = update.param_groups[0]
        if i == 7:
            group["lr"] = amity.tensor(group["lr"], dtype=amity.float64)
        elif i > 8:
            group["lr"].mul_(0.5)

    same_training("momentum", between)


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
