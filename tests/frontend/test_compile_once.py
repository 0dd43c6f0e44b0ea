"""A training step is one Program from its first call on: what a first call makes is made apart."""

from __future__ import annotations

import pytest

import amity
from amity import nn
from amity.nn import functional as F

OPTIMIZERS = {
    "SGD": {},
    "SGD with momentum": {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01},
    "SGD with Nesterov's": {"momentum": 0.9, "nesterov": True},
    "Adam": {"amsgrad": True},
    "AdamW": {},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Adagrad": {},
    "NAdam": {},
    "Adamax": {},
    "Adadelta": {},
    "Rprop": {},
}


def trained(name: str, wrap) -> tuple:
    """Losses and parameters after some steps, and what was called."""
    amity.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
    make = getattr(amity.optim, name.split()[0])
    optimizer = make(model.parameters(), lr=0.01, **OPTIMIZERS[name])
    x, y = amity.randn(8, 4), amity.randint(0, 3, (8,))

    def step():
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    call = wrap(step)
    losses = [call().item() for _ in range(4)]
    state = optimizer.state_dict()["state"]
    numbers = [p.tolist() for p in model.parameters()]
    return losses, numbers, {i: sorted(s) for i, s in state.items()}, call


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_program_serves_every_step(name):
    *wanted, _ = trained(name, lambda f: f)
    *found, call = trained(name, amity.compile)
    assert found[2] == wanted[2]
    assert found[0] == pytest.approx(wanted[0], rel=1e-5)
    for a, b in zip(found[1], wanted[1], strict=True):
        assert amity.allclose(amity.tensor(a), amity.tensor(b), rtol=1e-4, atol=1e-6)
    assert len(call.segments) == 1, amity.explain(call)


def test_state_of_a_parameter_that_was_just_written():
    """State is made at once, while what the parameter holds still waits."""

    def run(wrap):
        p = nn.Parameter(amity.ones(3))
        optimizer = amity.optim.SGD([p], lr=0.5, momentum=0.9)

        def step():
            with amity.no_grad():
                p.mul_(2)
            p.grad = p.detach() * 3
            optimizer.step()

        call = wrap(step)
        for _ in range(3):
            call()
        return p.tolist(), optimizer.state[p]["momentum_buffer"].tolist()

    assert run(amity.compile) == run(lambda f: f)
