"""Random programs of views, writes, looks and deletions: compiled as eager."""

from __future__ import annotations

import random

import numpy as np
import pytest

import amity
from amity.frontend.statics import can_guard
from tests.frontend.test_compile import agree, values

MAKE = {
    "times": lambda a, b: a * 2,
    "plus": lambda a, b: a + b,
    "transposed": lambda a, b: a.t(),
    "rows": lambda a, b: a[1:3],
    "corner": lambda a, b: a.reshape(-1)[:4].reshape(2, 2),
    "weighted": lambda a, b: a * a.sum(),
    "looked_at": lambda a, b: a + a.sum().item(),
    "first_row": lambda a, b: a.split(1, 0)[0] + b,
    "from_outside": lambda a, b: amity.from_numpy(np.full((4, 4), 0.5, np.float32)) * b,
}
WRITE = {
    "add": lambda a, b: a.add_(b),
    "halve": lambda a, b: a.mul_(0.5),
    "row": lambda a, b: a[0].copy_(b[1]),
    "turn": lambda a, b: a.copy_(b.t()),
}


def program(seed):
    """A function of two matrices that takes the same steps at each call, of those that fit."""
    choose, held, steps = random.Random(seed), [amity.ones(4, 4), amity.ones(4, 4)], []
    for _ in range(choose.randint(3, 14)):
        i, j = choose.randrange(len(held)), choose.randrange(len(held))
        name = choose.choice([*MAKE, *WRITE, "drop"])
        if name == "drop" and len(held) == 1:
            continue
        try:
            take(name, i, j, held)
        except (RuntimeError, IndexError):
            continue
        steps.append((name, i, j))

    def run(x, y):
        held = [x, y]
        for name, i, j in steps:
            take(name, i, j, held)
        return held

    return run


def take(name, i, j, held):
    """One step."""
    if name == "drop":
        held.pop(i)
    elif name in MAKE:
        held.append(MAKE[name](held[i], held[j]))
    else:
        WRITE[name](held[i], held[j])


@pytest.mark.parametrize("start", range(0, 100, 25))
def test_programs(start):
    skipped = 0
    for seed in range(start, start + 25):
        f = program(seed)
        c = amity.compile(f)
        for i in range(6):
            seen = []
            for call in (f, c):
                inputs = (amity.arange(16.0).reshape(4, 4) / 7 - i, amity.ones(4, 4))
                seen.append(values([*call(*inputs), *inputs]))
            assert agree(*seen), f"program {seed}, call {i}"
        skipped += sum(s.uses for s in c.statics.found)
    assert skipped or not can_guard()  # Python, for some


def test_part_of_a_result_in_another_order():
    def f(x):
        x.copy_(x.t())
        return x.t()[0] + x

    x, y = (amity.arange(16.0).reshape(4, 4) / 7 for _ in range(2))
    assert amity.compile(f)(x).tolist() == f(y).tolist()
