"""Nodes know the lines of the program that asked for them."""

from __future__ import annotations

import inspect
import re
import threading

import pytest

import amity
from amity import nn
from amity.core.errors import OutOfMemoryError
from amity.engine import device, lines

HERE = "test_lines.py"


def line_of(function, text):
    """`file:number` of the line of a function that has some text."""
    found, first = inspect.getsourcelines(function)
    at = next(i for i, s in enumerate(found) if text in s)
    return f"{HERE}:{first + at}"


def asked(f, i=-1):
    """By op, who asked for the nodes of a segment."""
    graph = [*f.segments.values()][i].graph
    return {n.op.name: n.where.line for n in graph.nodes() if n.op is not None}


def step(x, w):
    y = (x * w).tanh()  # forward
    loss = y.sum()  # loss
    loss.backward()  # back
    z = loss.detach() + 1
    z.div_(3)  # write
    return z


def test_forward_backward_and_writes():
    f = amity.compile(step)
    x, w = amity.ones(3), amity.ones(3, requires_grad=True)
    f(x, w)
    found = asked(f)
    assert found["tanh"].endswith(line_of(step, "# forward"))
    assert found["sum"].endswith(line_of(step, "# loss"))
    assert found["div"].endswith(line_of(step, "# write"))
    back = f"{line_of(step, '# forward')}, backward from "
    assert any(back in n.where.line for n in [*f.segments.values()][0].graph.nodes())
    assert all(line_of(step, "# back") in v for v in found.values() if "backward" in v)


def test_lines_of_what_is_met_later_come_with_the_next_call():
    def g(x, more):
        y = x * 2
        return y + 1 if more else y - 1  # last

    f = amity.compile(g)
    for more, known in ((False, 1), (True, 1), (True, 2)):
        f(amity.ones(2), more)
        segments = [*f.segments.values()]
        assert sum(s.has_lines for s in segments) == known
    assert asked(f)["add"].endswith(line_of(g, "# last"))
    assert f.recorder.calls_told == 2 and f.recorder.lines is None and not lines.are_noted()
    for n in range(3, 40):  # always new: lines are given up
        f(amity.ones(n), True)
    assert f.recorder.calls_told < 10


def test_noting_lines_changes_no_notes():
    m = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 1))
    optimizer = amity.optim.Adam(m.parameters())

    @amity.compile
    def train(x):
        optimizer.zero_grad()
        loss = m(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    x = amity.ones(2, 3)
    for _ in range(4):
        train(x)
    known = set(train.segments)
    train.recorder.lacks_lines = True
    train(x)
    assert set(train.segments) == known


def test_inside_modules_and_checkpoints_and_without_a_tape():
    m = nn.Linear(2, 2)

    def g(x):
        with amity.no_grad():
            h = x + 1  # untaped
        y = amity.utils.checkpoint.checkpoint(lambda h: m(h).relu(), h, use_reentrant=False)  # here
        y.sum().backward()  # back
        return h

    f = amity.compile(g)
    f(amity.ones(1, 2))
    found = asked(f, 0)
    assert found["add"].endswith(line_of(g, "# untaped"))
    assert line_of(g, "# here") in found["matmul"]


def test_errors_quote_them(monkeypatch):
    def g(x):
        y = x * 2
        return y.item()  # look

    with pytest.raises(RuntimeError, match=rf"at .*{line_of(g, '# look')} a value is looked at"):
        amity.compile(g, fullgraph=True)(amity.ones(()))

    def h(x):
        y = x.exp()  # first
        return (y.sort()[0] * y.sum()).sort()[0]  # last

    f = amity.compile(h)
    f(amity.ones(5))
    segment = [*f.segments.values()][0]

    def fails():
        device.machine().forget()
        raise OutOfMemoryError("no memory")

    segment.run = fails
    with pytest.raises(OutOfMemoryError) as error:
        f(amity.ones(5))
    (note,) = error.value.__notes__
    first, last = line_of(h, "# first"), line_of(h, "# last")
    assert re.search(rf"from .*{first} to .*{last}, with [1-9]\d* bytes between", note)


def test_explain_tells_where_segments_end_and_what_they_cost(capsys):
    def g(x):
        if x.sum() > 0:  # look
            return x * 2
        return x - 3

    f = amity.compile(g)
    f(amity.ones(3)), f(-amity.ones(3))
    text = amity.explain(f)
    assert re.search(rf"ended as a value is looked at \(.*{line_of(g, '# look')}", text)
    assert text.count("it cost ") == 3 and text.count("after passes") == 3


def test_calls_beside_a_deferring_thread_run_eagerly_and_are_counted(capsys):
    inside, done = threading.Event(), threading.Event()

    @amity.compile
    def slow(x):
        y = x + 1
        inside.set()
        done.wait(10)
        return y * 2

    fast = amity.compile(lambda x: x * 3)
    out = []
    thread = threading.Thread(target=lambda: out.append(slow(amity.ones(2))))
    thread.start()
    inside.wait(10)
    assert fast(amity.ones(2)).tolist() == [3, 3]
    done.set()
    thread.join()
    assert out[0].tolist() == [4, 4] and fast.crowded == 1 and not fast.segments
    assert "1 call ran eagerly" in amity.explain(fast)
    assert amity.compile(lambda x: fast(x))(amity.ones(1)).tolist() == [3]
    assert fast.crowded == 1
