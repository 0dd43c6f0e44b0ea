"""Thousands of compiled calls, of every way in which one may run, leave nothing behind."""

from __future__ import annotations

import gc
import resource
import sys

import pytest

import amity
from amity import nn, optim

CALLS = 1000
BLOCKS = 200  # of memory, that may come and go
KIB = 1024 if sys.platform == "darwin" else 1  # what `ru_maxrss` counts in
MOST = 24 << 10  # KiB; a leak of one tensor a call would take three times as much
X = amity.ones(130, 140)  # 71 KiB, a span of the heap


def skipped():
    return amity.compile(lambda x: (x * 2).relu()), lambda i: (X,)


def replayed():
    return amity.compile(lambda x: (x * 2).relu(), static=False), lambda i: (X,)


def of_many_sizes():
    xs = [X[: 100 + n] for n in range(20)]
    return amity.compile(lambda x: (x * 2).sum(0), dynamic=True, static=False), lambda i: (
        xs[i % 20],
    )


def of_two_segments():
    def f(x):
        y = x * 2
        return y * 3 if y.sum() > 0 else y

    return amity.compile(f, static=False), lambda i: (X,)


def that_writes_in_part():
    y = amity.zeros(130, 140)

    def f(x):
        y.mul_(0.5).add_(x)
        y[1:3].mul_(0.5)
        return y.sum()

    return amity.compile(f, static=False), lambda i: (X,)


def that_fails():
    @amity.compile
    def f(x, is_bad):
        y = x * 2
        return y @ y if is_bad else y + 1

    def either(x, is_bad):
        try:
            f(x, is_bad)
        except (RuntimeError, ValueError):
            assert is_bad

    return either, lambda i: (X, i % 2 == 0)


def that_trains(static):
    def make():
        m = nn.Sequential(nn.Linear(140, 16), nn.ReLU(), nn.Linear(16, 2))
        optimizer = optim.AdamW(m.parameters())

        def step(x):
            optimizer.zero_grad()
            loss = m(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        return amity.compile(step, static=static), lambda i: (X,)

    return make


CASES = {f.__name__: f for f in (skipped, replayed, of_many_sizes, of_two_segments,
                                 that_writes_in_part, that_fails)}  # fmt: skip
CASES |= {"training, skipped": that_trains(None), "training": that_trains(False)}


@pytest.mark.parametrize("name", CASES)
def test_calls_leave_nothing(name):
    call, arguments = CASES[name]()
    for i in range(CALLS // 4):
        call(*arguments(i))
    gc.collect()
    blocks, most = sys.getallocatedblocks(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(CALLS):
        call(*arguments(i))
    gc.collect()
    assert sys.getallocatedblocks() - blocks < BLOCKS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most) / KIB < MOST
