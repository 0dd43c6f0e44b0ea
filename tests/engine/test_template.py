"""Programs on disk: another process neither compiles nor plans, and whatever the files hold, results are right."""

from __future__ import annotations

import hashlib
import json
import subprocess

import pytest

import amity
from amity import nn
from amity.engine import template
from amity.engine.cache import KERNEL, PROGRAM, Cache
from amity.engine.numbers import Frame
from tests.engine.test_cache import command, empty, flip, run, truncate

STEP = """
import amity
from amity import nn
from amity.engine import device, program, template
from amity.nn import functional as F

planned, plan = [], program.build
def build(*args, **more):
    planned.append(0)
    return plan(*args, **more)
class Planning:
    build, paper_of = staticmethod(build), staticmethod(program.paper_of)
    Paper, kinds_of = program.Paper, staticmethod(program.kinds_of)
template.program = Planning

amity.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 3))
optimizer = amity.optim.AdamW(model.parameters(), lr=0.1)
x, y = amity.randn(5, 6), amity.tensor([0, 1, 2, 1, 0])

@amity.compile
def step():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

losses = [step().item() for _ in range(4)]
print(",".join(map(repr, losses)), len(planned), device.kernels().compiled)
"""


def test_another_process_neither_compiles_nor_plans(tmp_path):
    losses, planned, _ = run(tmp_path, STEP)
    assert int(planned) >= 1
    assert len(list(tmp_path.glob("*" + PROGRAM))) == int(planned)
    assert run(tmp_path, STEP) == [losses, "0", "0"]


def test_what_planning_depends_on_is_part_of_the_key(tmp_path):
    _, planned, _ = run(tmp_path, STEP, AMITY_NUM_THREADS="1")
    assert run(tmp_path, STEP, AMITY_NUM_THREADS="3")[1] == planned
    assert run(tmp_path, STEP, AMITY_NUM_THREADS="1")[1] == "0"
    assert run(tmp_path, STEP, AMITY_NUM_THREADS="1", AMITY_CPU="sse2")[1] == planned
    assert run(tmp_path, STEP, AMITY_NUM_THREADS="1", AMITY_PASSES="-fuse")[1] == planned


def test_missing_kernels_are_built_again(tmp_path):
    losses, planned, _ = run(tmp_path, STEP)
    for path in tmp_path.glob("*" + KERNEL):
        path.unlink()
    again = run(tmp_path, STEP)
    assert again[:2] == [losses, planned] and int(again[2]) > 0
    assert run(tmp_path, STEP) == [losses, "0", "0"]


def sealed(path, raw: bytes) -> None:
    """An entry whose checksum is right, whatever it says."""
    path.write_bytes(hashlib.sha256(raw).digest() + raw)


def changed(path, change) -> None:
    entry = json.loads(path.read_bytes()[32:])
    change(entry)
    sealed(path, json.dumps(entry).encode())


SPOILED = {
    "truncated": truncate,
    "flipped": flip,
    "empty": empty,
    "no JSON": lambda p: sealed(p, b"\x00\xff"),
    "deep": lambda p: sealed(p, b"[" * 100_000),
    "a list": lambda p: sealed(p, b"[1, 2]"),
    "no steps": lambda p: changed(p, lambda e: e.pop("steps")),
    "unknown kernels": lambda p: changed(p, lambda e: e.update(kernels=["x"] * 99)),
    "kernels that are no names": lambda p: changed(p, lambda e: e.update(kernels=[[]] * 99)),
    "another memory": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(3, [[99, 0]])),
    "before memory": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(3, [[0, -8]])),
    "behind memory": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(3, [[0, 1 << 40]])),
    "half a word": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(4, [0.5])),
    "a large word": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(4, [1 << 70])),
    "half a grid": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(1, 1.5)),
    "no grid": lambda p: changed(p, lambda e: e["steps"][0].__setitem__(1, -1)),
    "a large arena": lambda p: changed(p, lambda e: e.update(arena=1 << 63)),
    "an arena of another kind": lambda p: changed(p, lambda e: e.update(arena="1")),
    "unknown flags": lambda p: changed(p, lambda e: e.update(flags=64)),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_a_spoilt_entry_is_planned_again(spoil, tmp_path, monkeypatch):
    monkeypatch.setattr(template, "cache", Cache(tmp_path, 1 << 30))
    x = amity.arange(12.0).reshape(3, 4)

    def f(x):
        return ((x @ x.T).softmax(-1) @ x).sum(0)

    wanted = f(x).tolist()
    assert amity.compile(f)(x).tolist() == wanted
    (path,) = tmp_path.glob("*" + PROGRAM)
    good = path.read_bytes()
    spoil(path)
    assert path.read_bytes() != good
    planned = count_planned(monkeypatch)
    assert amity.compile(f)(x).tolist() == wanted
    assert planned == [1] and path.read_bytes() == good
    assert amity.compile(f)(x).tolist() == wanted
    assert planned == [1]


def count_planned(monkeypatch) -> list[int]:
    planned, written = [], template.written

    def note(plan, again):
        planned.append(1)
        return written(plan, again)

    monkeypatch.setattr(template, "written", note)
    return planned


def test_processes_write_at_once(tmp_path):
    started = [
        subprocess.Popen(**command(tmp_path, STEP), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    outputs = set()
    for process in started:
        out, err = process.communicate(timeout=240)
        assert process.returncode == 0 and err == "", err
        outputs.add(out.split()[0])
    assert len(outputs) == 1
    assert run(tmp_path, STEP) == [*outputs, "0", "0"]


def test_programs_and_kernels_share_the_limit(tmp_path):
    small = Cache(tmp_path, 4 * 132)
    for i in range(8):
        small.put(f"k{i}", bytes(100), KERNEL if i % 2 else PROGRAM)
    small.shrink()
    assert small.size() <= small.limit
    assert len(small.entries(KERNEL)) + len(small.entries(PROGRAM)) == len(small.entries()) == 4
    assert small.clear() == 4 and list(tmp_path.iterdir()) == []


# -- what is one Program, and what is another


def meaning_of(function, *tensors) -> str:
    compiled = amity.compile(function)
    kept = compiled(*tensors)
    (segment,) = compiled.segments.values()
    del kept
    return template.meaning(Frame(segment.noted))


def test_equal_work_has_one_key():
    def f(x, y):
        return (x * 2 + y).relu().sum(0)

    x, y = amity.ones(3, 4), amity.ones(4)
    first = meaning_of(f, x, y)
    assert meaning_of(lambda a, b: (a * 5 + b).relu().sum(0), x + 1, amity.zeros(4)) == first


def different():
    x, y = amity.ones(3, 3), amity.ones(3, 3)
    yield "function", lambda: meaning_of(lambda a, b: a * b, x, y)
    yield "op", lambda: meaning_of(lambda a, b: a + b, x, y)
    yield "order", lambda: meaning_of(lambda a, b: a + b - a, x, y)
    yield "other order", lambda: meaning_of(lambda a, b: a + b - b, x, y)
    yield "alias", lambda: meaning_of(lambda a, b: a - b, x, x)
    yield "part", lambda: meaning_of(lambda a, b: a[1:] * b[:2] + a[:2], x, y)
    yield "other part", lambda: meaning_of(lambda a, b: a[:2] * b[:2] + a[1:], x, y)
    yield "transposed", lambda: meaning_of(lambda a, b: a.t() * b, x, y)
    yield "dtype", lambda: meaning_of(lambda a, b: a * b, x.double(), y.double())
    yield "size", lambda: meaning_of(lambda a, b: a * b, x[:2].clone(), y[:2].clone())
    yield "attribute", lambda: meaning_of(lambda a, b: (a * b).sum(0), x, y)
    yield "other attribute", lambda: meaning_of(lambda a, b: (a * b).sum(1), x, y)
    yield "number", lambda: meaning_of(lambda a, b: a * b + 1, x, y)
    yield "kind of number", lambda: meaning_of(lambda a, b: a * b + 1.0, x, y)
    yield "kept", lambda: meaning_of(lambda a, b: [c := a * b, c * c], x, y)
    yield "dropped", lambda: meaning_of(lambda a, b: [(c := a * b) * c], x, y)
    yield "written", lambda: meaning_of(lambda a, b: a.mul_(b), x.clone(), y)
    yield "structure", lambda: meaning_of(nn.Softmax(0), x)


def test_other_work_has_other_keys():
    keys = {name: make() for name, make in different()}
    assert len(set(keys.values())) == len(keys), keys


def test_the_default_dtype_is_part_of_the_key():
    x = amity.ones(3, dtype=amity.int64)
    first = meaning_of(lambda a: a < 2.5, x)
    amity.set_default_dtype(amity.float64)
    try:
        assert meaning_of(lambda a: a < 2.5, x) != first
    finally:
        amity.set_default_dtype(amity.float32)
