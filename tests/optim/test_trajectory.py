"""Every optimizer walks PyTorch's way, from the start and from PyTorch's saved state."""

from __future__ import annotations

import numpy as np
import pytest

import amity

torch = pytest.importorskip("torch")

CASES = [
    ("SGD", {}),
    ("SGD", {"lr": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "maximize": True}),
    ("Adam", {"lr": 0.05}),
    ("Adam", {"lr": 0.05, "betas": (0.5, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    ("Adam", {"lr": 0.05, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
    ("Adam", {"lr": 0.05, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.05}),
    ("AdamW", {"lr": 0.05, "amsgrad": True, "betas": (0.8, 0.9), "weight_decay": 0.3}),
    ("AdamW", {"lr": 0.05, "maximize": True, "weight_decay": 0}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "momentum_decay": 0.1}),
    ("NAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"lr": 0.05, "maximize": True, "betas": (0.7, 0.8)}),
    ("RAdam", {"lr": 0.05}),
    ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "betas": (0.8, 0.9)}),
    ("RAdam", {"lr": 0.05, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("RAdam", {"lr": 0.05, "maximize": True, "eps": 1e-3}),
    ("Adamax", {"lr": 0.05}),
    ("Adamax", {"lr": 0.05, "weight_decay": 0.1, "maximize": True, "betas": (0.5, 0.7)}),
    ("Adagrad", {"lr": 0.1}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "maximize": True}),
    ("Adagrad", {"lr": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.5, "eps": 1e-3, "weight_decay": 0.1, "maximize": True}),
    ("RMSprop", {"lr": 0.02}),
    ("RMSprop", {"lr": 0.02, "alpha": 0.8, "momentum": 0.9, "weight_decay": 0.1}),
    ("RMSprop", {"lr": 0.02, "centered": True, "maximize": True}),
    ("RMSprop", {"lr": 0.02, "centered": True, "momentum": 0.5, "eps": 1e-3}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.1, "etas": (0.3, 1.5), "step_sizes": (0.05, 0.2), "maximize": True}),
    ("ASGD", {"lr": 0.1}),
    ("ASGD", {"lr": 0.1, "lambd": 0.1, "alpha": 0.5, "t0": 4, "weight_decay": 0.1}),
    ("ASGD", {"lr": 0.1, "t0": 0, "maximize": True}),
]
IDS = [f"{name}-{'-'.join(options)}" for name, options in CASES]
CLASSES = sorted({name for name, _ in CASES})


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_trajectory_and_state_equal_pytorch(pair, same_state, name, options, dtype):
    both = pair(dtype)
    ours = getattr(amity.optim, name)(both.ours, **options)
    theirs = getattr(torch.optim, name)(both.theirs, **options)
    for step in range(12):
        both.give_gradients(step)
        ours.step()
        theirs.step()
        both.check()
    same_state(ours.state_dict(), theirs.state_dict(), dtype is np.float64)


@pytest.mark.parametrize(("name", "options"), CASES, ids=IDS)
def test_state_goes_over_from_pytorch_and_back(pair, convert, name, options):
    # In float64 PyTorch would go on with counters of another precision than it started with.
    both = pair(np.float32 if name in ("NAdam", "ASGD") else np.float64)
    make_ours = lambda: getattr(amity.optim, name)(both.ours, **options)  # noqa: E731
    make_theirs = lambda: getattr(torch.optim, name)(both.theirs, **options)  # noqa: E731
    ours, theirs = make_ours(), make_theirs()
    for round_ in range(4):
        for step in range(round_ * 4, round_ * 4 + 4):
            both.give_gradients(step)
            ours.step()
            theirs.step()
        both.check()
        saved_ours, saved_theirs = ours.state_dict(), theirs.state_dict()
        ours, theirs = make_ours(), make_theirs()
        ours.load_state_dict(convert(saved_theirs, amity.from_numpy))
        theirs.load_state_dict(convert(saved_ours, torch.from_numpy))


@pytest.mark.parametrize("name", CLASSES)
def test_groups_have_their_own_options(pair, name):
    both = pair(np.float64)

    def make(library, params):
        groups = [{"params": params[:2], "lr": 0.2}, {"params": iter(params[2:])}]
        return getattr(library.optim, name)(groups, lr=0.03)

    ours, theirs = make(amity, both.ours), make(torch, both.theirs)
    for step in range(10):
        if step == 5:
            for optimizer in (ours, theirs):
                optimizer.param_groups[1]["lr"] = 0.5
        both.give_gradients(step)
        ours.step()
        theirs.step()
        both.check()
    assert repr(ours) == repr(theirs)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


@pytest.mark.parametrize("name", CLASSES)
def test_lr_may_be_a_tensor(pair, name):
    both = pair(np.float64)
    ours = getattr(amity.optim, name)(both.ours, lr=amity.tensor([0.03], dtype=amity.float64))
    theirs = getattr(torch.optim, name)(both.theirs, lr=0.03)
    for step in range(6):
        both.give_gradients(step)
        ours.step()
        theirs.step()
        both.check()


@pytest.mark.parametrize("name", CLASSES)
def test_flags_of_other_bodies_change_nothing(pair, name):
    one, two = pair(), pair()
    cls = getattr(amity.optim, name)
    flags = [flag for flag in ("foreach", "capturable") if flag in cls([*one.ours]).defaults]
    plain, flagged = cls(one.ours), cls(two.ours, **dict.fromkeys(flags, True))
    for step in range(4):
        one.give_gradients(step)
        two.give_gradients(step)
        plain.step()
        flagged.step()
    for p, q in zip(one.ours, two.ours):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", CLASSES)
def test_half_precision_stays_near_pytorch(name, dtype):
    start, grads = np.linspace(-1, 1, 7), np.random.default_rng(0).normal(size=(3, 7))
    results = []
    for library in (amity, torch):
        half = getattr(library, dtype)
        p = library.tensor(start.tolist(), dtype=half, requires_grad=True)
        optimizer = getattr(library.optim, name)([p], **({"eps": 1e-3} if "Ad" in name else {}))
        for grad in grads:
            p.grad = library.tensor(grad.tolist(), dtype=half)
            optimizer.step()
        assert p.dtype is half
        results.append(p.detach().float().numpy())
    rounding = 2.0**-7 if dtype == "bfloat16" else 2.0**-10
    np.testing.assert_allclose(*results, rtol=2 * rounding, atol=2 * rounding)


def test_infinite_parameter_does_not_spoil_gradients_without_weight_decay():
    p = amity.tensor([float("inf"), 1.0], requires_grad=True)
    p.grad = amity.tensor([0.0, 1.0])
    optimizer = amity.optim.SGD([p], lr=1.0, momentum=0.9)
    optimizer.step()
    assert p.tolist() == [float("inf"), 0.0]
    assert optimizer.state[p]["momentum_buffer"].tolist() == [0.0, 1.0]


@pytest.mark.parametrize("name", [*CLASSES, "LBFGS"])
def test_files_of_saved_state_go_over_and_back(tmp_path, name):
    def start(library):
        p = library.tensor([1.0, -2.0, 3.0], requires_grad=True)
        optimizer = getattr(library.optim, name)([p], lr=0.05)

        def closure():
            optimizer.zero_grad()
            loss = (p * p).sum()
            loss.backward()
            return loss

        return p, optimizer, closure

    (p, ours, our_closure), (q, theirs, their_closure) = start(amity), start(torch)
    for _ in range(2):
        ours.step(our_closure)
        theirs.step(their_closure)
        torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
        amity.save(ours.state_dict(), tmp_path / "ours.pt")
        ours.load_state_dict(amity.load(tmp_path / "theirs.pt"))
        theirs.load_state_dict(torch.load(tmp_path / "ours.pt"))
    ours.step(our_closure)
    theirs.step(their_closure)
    np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-5, atol=1e-6)
