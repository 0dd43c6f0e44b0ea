"""Schedules give PyTorch's learning rates, epoch by epoch, and after loading a saved state."""

from __future__ import annotations

import copy
import json
import math

import pytest

import amity

torch = pytest.importorskip("torch")


def sequential(s, o):
    return s.SequentialLR(
        o,
        [s.ConstantLR(o, 0.1, 3), s.ExponentialLR(o, 0.9), s.CosineAnnealingLR(o, 5)],
        milestones=[4, 20],
    )


SCHEDULES = {
    "lambda": lambda s, o: s.LambdaLR(o, lambda epoch: 0.95**epoch),
    "lambdas": lambda s, o: s.LambdaLR(o, [lambda e: 1 / (1 + e), lambda e: 0.9**e]),
    "multiplicative": lambda s, o: s.MultiplicativeLR(o, lambda epoch: 1 - 0.5 / (1 + epoch)),
    "step": lambda s, o: s.StepLR(o, 7, gamma=0.3),
    "multi_step": lambda s, o: s.MultiStepLR(o, [5, 11, 11, 30], gamma=0.5),
    "constant": lambda s, o: s.ConstantLR(o),
    "constant_long": lambda s, o: s.ConstantLR(o, factor=0.2, total_iters=9),
    "linear": lambda s, o: s.LinearLR(o),
    "linear_down": lambda s, o: s.LinearLR(o, 1.0, 0.05, total_iters=20),
    "exponential": lambda s, o: s.ExponentialLR(o, 0.9),
    "polynomial": lambda s, o: s.PolynomialLR(o, total_iters=20, power=2.0),
    "cosine": lambda s, o: s.CosineAnnealingLR(o, 10, eta_min=0.01),
    "cosine_long": lambda s, o: s.CosineAnnealingLR(o, 100),
    "restarts": lambda s, o: s.CosineAnnealingWarmRestarts(o, 6),
    "restarts_longer": lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 2, eta_min=0.01),
    "cyclic": lambda s, o: s.CyclicLR(o, 0.01, 0.2, step_size_up=5, step_size_down=8),
    "cyclic_halved": lambda s, o: s.CyclicLR(o, [0.01, 0.1], 0.2, 4, mode="triangular2"),
    "cyclic_range": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 6, mode="exp_range", gamma=0.98),
    "cyclic_custom": lambda s, o: s.CyclicLR(
        o, 0.01, 0.2, 6, scale_fn=lambda x: 1 / x if x else 1, scale_mode="iterations"
    ),
    "cyclic_calm": lambda s, o: s.CyclicLR(o, 0.01, 0.2, 6, cycle_momentum=False),
    "one_cycle": lambda s, o: s.OneCycleLR(o, 0.3, total_steps=60),
    "one_cycle_linear": lambda s, o: s.OneCycleLR(
        o, [0.3, 0.1], epochs=6, steps_per_epoch=10, anneal_strategy="linear", pct_start=0.5
    ),
    "one_cycle_three": lambda s, o: s.OneCycleLR(o, 0.3, 60, three_phase=True, div_factor=10),
    "sequential": sequential,
    "chained": lambda s, o: s.ChainedScheduler(
        [s.ConstantLR(o, 0.1, 2), s.ExponentialLR(o, 0.9), s.StepLR(o, 6)]
    ),
}
ALL = pytest.mark.parametrize("make", SCHEDULES.values(), ids=SCHEDULES)
OPTIMIZERS = pytest.mark.parametrize("name", ["SGD", "Adam"])


def optimizer_of(library, name="SGD", lrs=(0.1, 0.03)):
    groups = []
    for lr in lrs:
        p = library.ones(1, requires_grad=True)
        p.grad = library.zeros(1)
        groups.append({"params": [p], "lr": lr})
    return getattr(library.optim, name)(groups, **({"momentum": 0.9} if name == "SGD" else {}))


def options(optimizer):
    """All that a schedule may have set."""
    names = ("lr", "momentum", "betas", "initial_lr", "max_lr", "min_lr", "max_momentum")
    return [{n: g[n] for n in names if n in g} for g in optimizer.param_groups]


def follow(optimizer, scheduler, count):
    seen = []
    for _ in range(count):
        seen.append(copy.deepcopy(options(optimizer)))
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups]
    return seen


def assert_same(ours, theirs):
    for epoch, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        for group_a, group_b in zip(a, b, strict=True):
            assert set(group_a) == set(group_b)
            for name in group_b:
                assert group_a[name] == pytest.approx(group_b[name], rel=1e-12, abs=1e-15), epoch


def both(make, name="SGD"):
    ours, theirs = optimizer_of(amity, name), optimizer_of(torch, name)
    ours_s = make(amity.optim.lr_scheduler, ours)
    return ours, ours_s, theirs, make(torch.optim.lr_scheduler, theirs)


@OPTIMIZERS
@ALL
def test_fifty_epochs_equal_pytorch(make, name):
    ours, ours_s, theirs, theirs_s = both(make, name)
    seen = follow(ours, ours_s, 50)
    assert_same(seen, follow(theirs, theirs_s, 50))
    assert len({repr(s) for s in seen}) > 1


@ALL
def test_saved_schedule_goes_on(make):
    ours, ours_s, _, _ = both(make)
    follow(ours, ours_s, 17)
    saved, saved_s = ours.state_dict(), copy.deepcopy(ours_s.state_dict())
    expected = follow(ours, ours_s, 25)
    again = optimizer_of(amity)
    again_s = make(amity.optim.lr_scheduler, again)
    again_s.load_state_dict(saved_s)
    again.load_state_dict(saved)
    for group, options in zip(again.param_groups, expected[0]):
        group.update(options)
    assert_same(follow(again, again_s, 25), expected)


@ALL
def test_state_goes_over_from_pytorch_and_back(make):
    ours, ours_s, theirs, theirs_s = both(make)
    follow(ours, ours_s, 13)
    follow(theirs, theirs_s, 13)
    saved_ours, saved_theirs = (copy.deepcopy(s.state_dict()) for s in (ours_s, theirs_s))
    assert set(saved_ours) == set(saved_theirs)
    _, new_ours_s, _, new_theirs_s = fresh = both(make)
    for optimizer, old in ((fresh[0], ours), (fresh[2], theirs)):
        for group, old_group in zip(optimizer.param_groups, old.param_groups):
            group.update({k: v for k, v in old_group.items() if k != "params"})
    new_ours_s.load_state_dict(saved_theirs)
    new_theirs_s.load_state_dict(saved_ours)
    assert_same(follow(fresh[0], new_ours_s, 20), follow(fresh[2], new_theirs_s, 20))
    assert_same(follow(ours, ours_s, 20), follow(theirs, theirs_s, 20))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"mode": "max"},
        {"threshold_mode": "abs", "threshold": 0.2, "factor": 0.5},
        {"mode": "max", "threshold_mode": "abs", "cooldown": 3, "patience": 1},
        {"patience": 0, "min_lr": [0.05, 0.001]},
        {"patience": 0, "min_lr": 0.02, "eps": 0.02},
    ],
)
def test_plateau_equals_pytorch_and_goes_on(extra):
    def run(library, restored):
        optimizer = optimizer_of(library)
        make = lambda: library.optim.lr_scheduler.ReduceLROnPlateau(  # noqa: E731
            optimizer, **{"patience": 2, **extra}
        )
        scheduler, seen = make(), []
        for epoch in range(50):
            optimizer.step()
            scheduler.step(math.cos(epoch / 9) + 0.3 * math.sin(epoch * 1.7))
            seen.append(
                (
                    [group["lr"] for group in optimizer.param_groups],
                    scheduler.num_bad_epochs,
                    scheduler.in_cooldown,
                )
            )
            if restored and epoch == 20:
                saved = json.loads(json.dumps(scheduler.state_dict()))
                scheduler = make()
                scheduler.load_state_dict(saved)
        return seen, set(scheduler.state_dict())

    ours = run(amity, restored=True)
    assert ours == run(torch, restored=False)
    assert len({str(lrs) for lrs, *_ in ours[0]}) > 1


def test_plateau_knows_new_groups():
    optimizer = optimizer_of(amity)
    scheduler = amity.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
    strict = amity.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0, 0])
    optimizer.add_param_group({"params": amity.ones(1, requires_grad=True), "lr": 5.0})
    for metric in (1.0, 2.0):
        scheduler.step(amity.tensor(metric))
    assert optimizer.param_groups[2]["lr"] == 0.5
    strict.step(1)
    with pytest.raises(RuntimeError, match="3 groups and 2 min_lrs"):
        strict.step(2)


def test_schedules_nest():
    s = amity.optim.lr_scheduler
    parts = [
        lambda o: s.LinearLR(o, 0.1, total_iters=4),
        lambda o: s.ChainedScheduler([s.StepLR(o, 3), s.ConstantLR(o, 0.5, 2)]),
        lambda o: s.CosineAnnealingWarmRestarts(o, 4),
    ]

    def flat(o):
        return s.SequentialLR(o, [part(o) for part in parts], [5, 12])

    def first_nested(o):
        inner = s.SequentialLR(o, [part(o) for part in parts[:2]], [5])
        return s.SequentialLR(o, [inner, parts[2](o)], [12])

    def last_nested(o):
        inner = s.SequentialLR(o, [part(o) for part in parts[1:]], [7])
        return s.SequentialLR(o, [parts[0](o), inner], [5])

    seen = []
    for make in (flat, first_nested, last_nested):
        optimizer = optimizer_of(amity, lrs=[1.0])
        seen.append(follow(optimizer, make(optimizer), 20))
    assert seen[0] == seen[1] == seen[2]
    lrs = [groups[0]["lr"] for groups in seen[0]]
    assert lrs[:6] == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0, 0.5])
    assert lrs[7:9] == pytest.approx([1.0, 0.1]) and lrs[12] == 1.0


@pytest.mark.parametrize("epoch", [0, 3, 7.5, 19, 40])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_warm_restarts_jump_to_an_epoch(epoch, factor):
    seen = []
    for library in (amity, torch):
        optimizer = optimizer_of(library)
        scheduler = library.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, 4, factor)
        optimizer.step()
        scheduler.step(epoch)
        jumped = copy.deepcopy(options(optimizer))
        seen.append([jumped, *follow(optimizer, scheduler, 6)])
    assert_same(*seen)


@pytest.mark.parametrize(
    "make", [f for n, f in SCHEDULES.items() if n in ("step", "cosine", "lambda", "linear")]
)
def test_jump_to_an_epoch_is_deprecated_and_equals_pytorch(make):
    ours, ours_s, theirs, theirs_s = both(make)
    for optimizer, scheduler in ((ours, ours_s), (theirs, theirs_s)):
        optimizer.step()
        with pytest.warns(UserWarning, match="deprecat"):
            scheduler.step(6)
    assert_same(follow(ours, ours_s, 5), follow(theirs, theirs_s, 5))


@ALL
def test_lr_tensor_stays_the_same_tensor(make):
    numbers = optimizer_of(amity)
    tensors = optimizer_of(amity, lrs=[amity.tensor(lr, dtype=amity.float64) for lr in (0.1, 0.03)])
    held = [group["lr"] for group in tensors.param_groups]
    one, two = make(amity.optim.lr_scheduler, numbers), make(amity.optim.lr_scheduler, tensors)
    for _ in range(20):
        numbers.step()
        tensors.step()
        one.step()
        two.step()
        for lr, group in zip(held, numbers.param_groups):
            assert lr.item() == pytest.approx(group["lr"], rel=1e-6)
    assert all(group["lr"] is lr for group, lr in zip(tensors.param_groups, held))


def test_object_as_lambda_is_saved_by_its_attributes():
    class Decay:
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, epoch):
            return self.rate**epoch

    optimizer = optimizer_of(amity)
    scheduler = amity.optim.lr_scheduler.LambdaLR(optimizer, [Decay(0.5), lambda e: 1])
    saved = scheduler.state_dict()
    assert saved["lr_lambdas"] == [{"rate": 0.5}, None]
    other = amity.optim.lr_scheduler.LambdaLR(optimizer_of(amity), [Decay(0.9), lambda e: 1])
    other.load_state_dict(saved)
    assert other.lr_lambdas[0].rate == 0.5 and saved["lr_lambdas"] == [{"rate": 0.5}, None]


def test_resumed_schedule_needs_initial_lr():
    optimizer = optimizer_of(amity)
    with pytest.raises(KeyError, match="no 'initial_lr' in param_groups"):
        amity.optim.lr_scheduler.StepLR(optimizer, 2, last_epoch=3)
    for group in optimizer.param_groups:
        group["initial_lr"] = 1.0
    assert amity.optim.lr_scheduler.StepLR(optimizer, 2, last_epoch=3).base_lrs == [1.0, 1.0]


def test_schedule_before_the_first_step_warns():
    optimizer = optimizer_of(amity)
    scheduler = amity.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    with pytest.warns(UserWarning, match=r"before `optimizer.step\(\)`"):
        scheduler.step()


def test_get_lr_outside_of_step_warns():
    scheduler = amity.optim.lr_scheduler.ExponentialLR(optimizer_of(amity), 0.9)
    with pytest.warns(UserWarning, match="get_last_lr"):
        scheduler.get_lr()


def test_schedule_of_ones_own_needs_only_get_lr():
    class Halving(amity.optim.lr_scheduler.LRScheduler):
        def get_lr(self):
            return [base_lr / 2**self.last_epoch for base_lr in self.base_lrs]

    optimizer = optimizer_of(amity)
    seen = follow(optimizer, Halving(optimizer), 3)
    assert [groups[0]["lr"] for groups in seen] == [0.1, 0.05, 0.025]


MISTAKES = [
    lambda s, o: s.StepLR("optimizer", 3),
    lambda s, o: s.LambdaLR(o, [lambda e: e]),
    lambda s, o: s.MultiplicativeLR(o, [lambda e: e, 3]),
    lambda s, o: s.ConstantLR(o, factor=1.5),
    lambda s, o: s.LinearLR(o, start_factor=0),
    lambda s, o: s.LinearLR(o, end_factor=-0.1),
    lambda s, o: s.SequentialLR(o, [], []),
    lambda s, o: s.SequentialLR(o, [s.StepLR(o, 3)], [2]),
    lambda s, o: s.SequentialLR(o, [s.ReduceLROnPlateau(o)], []),
    lambda s, o: s.SequentialLR(o, [3], []),
    lambda s, o: s.SequentialLR(
        o, [s.StepLR(optimizer_of(amity if s is amity.optim.lr_scheduler else torch), 3)], []
    ),
    lambda s, o: s.ChainedScheduler([]),
    lambda s, o: s.ChainedScheduler([s.ReduceLROnPlateau(o)]),
    lambda s, o: s.ReduceLROnPlateau(o, factor=1.0),
    lambda s, o: s.ReduceLROnPlateau(o, mode="lowest"),
    lambda s, o: s.ReduceLROnPlateau(o, threshold_mode="ratio"),
    lambda s, o: s.ReduceLROnPlateau(o, min_lr=[0.1]),
    lambda s, o: s.ReduceLROnPlateau(None),
    lambda s, o: s.CyclicLR(o, 0.1, 0.2, mode="square"),
    lambda s, o: s.CyclicLR(o, [0.1], 0.2),
    lambda s, o: s.CyclicLR(None, 0.1, 0.2),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 0),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, 1.5),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 3, eta_min="0"),
    lambda s, o: s.CosineAnnealingWarmRestarts(o, 3).step(-1),
    lambda s, o: s.OneCycleLR(o, 0.1),
    lambda s, o: s.OneCycleLR(o, 0.1, total_steps=0),
    lambda s, o: s.OneCycleLR(o, 0.1, epochs=2, steps_per_epoch=0),
    lambda s, o: s.OneCycleLR(o, 0.1, epochs=-2, steps_per_epoch=3),
    lambda s, o: s.OneCycleLR(o, 0.1, 10, pct_start=1.5),
    lambda s, o: s.OneCycleLR(o, 0.1, 10, anneal_strategy="square"),
    lambda s, o: s.OneCycleLR(o, [0.1], 10),
    lambda s, o: s.OneCycleLR(None, 0.1, 10),
]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_raises_as_pytorch_does(mistake):
    with pytest.raises((TypeError, ValueError)) as theirs:
        mistake(torch.optim.lr_scheduler, optimizer_of(torch))
    with pytest.raises(theirs.type, match=": got .*; expected "):
        mistake(amity.optim.lr_scheduler, optimizer_of(amity))


def test_cycled_momentum_needs_an_optimizer_that_has_it():
    optimizer = amity.optim.Adagrad([amity.ones(1, requires_grad=True)])
    for make in (SCHEDULES["cyclic"], SCHEDULES["one_cycle"]):
        with pytest.raises(ValueError, match="cycle_momentum with Adagrad"):
            make(amity.optim.lr_scheduler, optimizer)


def test_one_cycle_ends():
    optimizer = optimizer_of(amity)
    scheduler = amity.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3)
    follow(optimizer, scheduler, 3)
    with pytest.raises(ValueError, match="OneCycleLR: got step 4; expected at most 3"):
        scheduler.step()
