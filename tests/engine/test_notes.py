"""Notes of calls: native code and Python write the same, and nothing stays behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import numpy as np
import pytest

import amity
from amity.engine import device, segment
from amity.runtime.cpu.abi import NUMBERS
from amity.runtime.cpu.notes import FIRST_RECORDS
from tests.engine.nests import ROOT
from tests.frontend.test_compile import Functions, values

FUNCTIONS = [f for name, f in vars(Functions).items() if not name.startswith("_")]
STEADY = [f for f in FUNCTIONS if f.__name__ not in ("error", "error_after_write", "bad_class")]


@pytest.fixture
def told(monkeypatch):
    """Leaves native code no room, so that the recorder is told of every call."""
    notes, calls = device.machine().notes, []
    make_room = notes.make_room

    def fill():
        notes.head[NUMBERS + 2] = -1

    def make_room_once(tensors):
        calls.append(tensors)
        make_room(tensors)
        fill()

    monkeypatch.setattr(notes, "make_room", make_room_once)
    yield lambda: fill() or calls
    notes._resize(NUMBERS, FIRST_RECORDS)


def outcome(f):
    """What a function gives, or how it fails."""
    amity.manual_seed(2)
    random.seed(2)
    x = amity.arange(12.0).reshape(3, 4)
    try:
        return str((values(f(x)), values(x)))
    except (RuntimeError, IndexError) as error:
        return str(error)


@pytest.mark.parametrize("function", STEADY, ids=lambda f: f.__name__)
def test_native_notes_are_those_of_the_recorder(function, told):
    f = amity.compile(function)
    outcome(f), outcome(f)  # plans are there by now
    known = set(f.segments)
    native = outcome(f)
    assert set(f.segments) == known
    calls = told()
    assert outcome(f) == native
    assert set(f.segments) == known
    assert calls or not known  # it was told


def test_long_functions_get_more_room():
    def f(x):
        kept = []
        for i in range(400):
            x = x + i
            if i % 100 == 0:
                kept.append(x)
        return x, kept

    c = amity.compile(f)
    for _ in range(2):
        assert values(c(amity.ones(2))) == values(f(amity.ones(2)))
    assert len(c.segments) == 1


def test_nothing_is_held_after_a_call():
    w = amity.ones(3, requires_grad=True)

    def f(x, y):
        y.mul_(x)
        (w * x).sum().backward()
        return x + y

    c = amity.compile(f)
    x, y = amity.ones(3), amity.ones(3)
    for _ in range(10):  # until lines are noted no more
        c(x, y)
    payloads = {call.payload for s in c.segments.values() for call in s.calls}
    things = [x.storage, y.storage, w.storage, *payloads]
    before = [sys.getrefcount(t) for t in things]
    for _ in range(10):
        out = c(x, y)
    assert [sys.getrefcount(t) for t in things] == before
    assert not any(t.storage.mark for t in (x, y, w, w.grad, out))


def test_a_program_that_does_not_compile_leaves_no_notes(monkeypatch):
    def fails(*_):
        raise MemoryError("no")

    c = amity.compile(lambda x: x * 2)
    x = amity.ones(2)
    with monkeypatch.context() as patch:
        patch.setattr(segment, "compile_notes", fails)
        with pytest.raises(MemoryError, match="no"):
            c(x)
    assert device.machine().notes.is_empty and not x.storage.mark
    assert c(x).tolist() == [2, 2]


def test_a_flush_that_failed_is_made_up_for(monkeypatch):
    made, compile_notes = [], segment.compile_notes

    def f(x):
        made.append(x * 2)
        monkeypatch.setattr(segment, "compile_notes", fails_once)
        x = x + 1
        made.append(x.sum().item())

    def fails_once(*_):
        monkeypatch.setattr(segment, "compile_notes", compile_notes)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        amity.compile(f)(amity.ones(2))
    assert [t.tolist() for t in made] == [[2, 2]]
    other = amity.ones(2) * 2
    assert sys.getrefcount(made[0].storage) == sys.getrefcount(other.storage)


def test_memory_of_others_is_copied_once():
    a = np.ones(4, np.float32)

    def f():
        x = amity.from_numpy(a)
        y = x * amity.from_numpy(a) + x[2:].sum() + x
        a[:] += 1
        return y, amity.from_numpy(a) + 0

    c = amity.compile(f)
    for n in (1, 2, 3):
        assert values(c()) == values((amity.full((4,), n * n + 3.0 * n), amity.full((4,), n + 1.0)))
    assert len(c.segments) == 1 and not c.recorder.copies


def test_what_runs_as_memory_is_let_go_of_is_not_noted():
    seen = []

    class Array(np.ndarray):
        def __del__(self):
            seen.append((amity.ones(2) + 1).tolist())

    def f():
        return amity.from_numpy(np.ones(2, np.float32).view(Array)) * 3

    c = amity.compile(f)
    for _ in range(3):
        seen.clear()
        assert c().tolist() == [3, 3]
        assert seen and all(s == [2, 2] for s in seen)


def test_portable_machine():
    """It has the recorder note all."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "tests/frontend/test_compile.py",
         "tests/frontend/test_compile_random.py", "tests/engine/test_notes.py",
         "-k", "not portable", "-p", "no:cacheprovider"],
        cwd=ROOT, env=os.environ | {"AMITY_NATIVE": "0"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
