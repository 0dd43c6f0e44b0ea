"""Every stage of a function, printed: nothing is changed by it, and what is said is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

import amity
from amity import nn
from amity.engine.program import paper_of


def twice_squared(x):
    y = (x * x).exp()
    return y + (x * x).exp()


def parts(text):
    """The parts of what `show` gives, by title."""
    found = re.split(r"^== ", text, flags=re.M)[1:]
    return {p.partition("\n")[0]: p.partition("\n")[2] for p in found}


def test_every_stage(capsys):
    text = amity.show(twice_squared, amity.randn(3, 4))
    assert capsys.readouterr().out == text + "\n"
    found = parts(text)
    heads = [re.match(r"(?:segment 0: )?(\w+)", h)[1] for h in found]
    assert heads == ["source", "graph", "graph", "schedule", "kernel", "code", "time"]
    (source, raw, shared, schedule, kernel, code, time) = found.values()
    assert "return y + (x * x).exp()" in source
    assert raw.count("= mul(") == raw.count("= exp(") == 2
    assert shared.count("= mul(") == shared.count("= exp(") == 1
    line = twice_squared.__code__.co_firstlineno + 1
    assert re.search(rf"= exp\(%\d+\)  # float32\[3, 4\] at .*test_show.py:{line}\n", shared)
    assert schedule.strip().count("\n") == 0 and "makes add" in schedule
    assert "for %" in kernel and "define void" in code
    assert re.fullmatch(r" +\d+\.\d\d us  mul_exp_add_\w{6}\s*", time)


def test_a_training_step_runs_once():
    m = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    optimizer = amity.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    runs = []

    @amity.compile
    def step(x):
        runs.append(1)
        optimizer.zero_grad()
        loss = m(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss if loss > 100 else -loss

    before = [p.detach().clone() for p in m.parameters()]
    text = amity.show(step, amity.ones(2, 3))
    assert len(runs) == 1 and not step.segments
    grads = [p.grad for p in m.parameters()]
    for p, old, g in zip(m.parameters(), before, grads, strict=True):
        assert p.detach().numpy() == pytest.approx((old - 0.1 * g).numpy(), abs=1e-6)
    heads = [*parts(text)]
    assert any(h.startswith("segment 0: graph") for h in heads)
    assert any(h.startswith("segment 1: time") for h in heads)
    assert "backward from" in text


def test_modules_long_stages_and_what_has_no_source(monkeypatch):
    m = nn.LayerNorm(8)
    text = amity.show(m, amity.randn(3, 8))
    assert "def forward(" in parts(text)["source"]
    assert "lines more; AMITY_SHOW=kernel shows all" in text
    assert "whose source is not at hand" in amity.show(eval("lambda x: x + 1"), amity.ones(2))
    with pytest.raises(TypeError, match="show: got int; expected a function"):
        amity.show(3)


def test_the_setting():
    code = (
        "import amity; f = amity.compile(lambda x: (x * x).exp() + (x * x).exp())\n"
        "print(f(amity.ones(2)).shape)"
    )

    def run(words):
        return subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"AMITY_SHOW": words},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    done = run("graph,schedule,time")
    assert done.stdout == "amity.Size([2])\n", done.stderr
    for words in (
        "-- segment 0: graph\n", "-- segment 0: graph after share: equal nodes are one\n",
        "-- segment 0: schedule: 1 launches, 0 bytes in between\nmul_exp_add grid=1", "kernels so far",
    ):  # fmt: skip
        assert words in done.stderr
    assert "-- kernel" not in done.stderr and "define void" not in done.stderr
    done = run("kernel,code")
    assert "-- kernel mul_exp_add" in done.stderr and "define void" in done.stderr
    assert "graph" not in done.stderr
    assert "AMITY_SHOW: got 'graf'; expected some of graph" in run("graf").stderr


def test_times_are_of_all_launches():
    f = amity.compile(lambda x: (x @ x).sort()[0])
    f(amity.randn(16, 16))
    program = [*f.segments.values()][0].program
    rows = [*parts(amity.show(f, amity.randn(16, 16))).values()][-1].split("\n")
    assert len([r for r in rows if " us  " in r]) == len(paper_of(program).plan().steps)
