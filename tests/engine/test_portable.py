"""The plain Python machine gives the very bits that generated builtins give."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from amity.engine import device
from tests.engine.nests import CASES, ROOT, results_under


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    cache = {"AMITY_CACHE_DIR": str(tmp_path_factory.mktemp("cache"))}
    return [
        results_under(cache | {"AMITY_NATIVE": flag}, tmp_path_factory.mktemp(f"native{flag}"))[0]
        for flag in "10"
    ]


@pytest.mark.parametrize("name", CASES)
def test_same_bits(name, both):
    native, portable = both[0][name], both[1][name]
    assert native.dtype == portable.dtype
    assert native.shape == portable.shape
    assert native.tobytes() == portable.tobytes()


def run(code: str, **settings: str) -> str:
    """What a child process prints."""
    environment = os.environ | {"AMITY_NATIVE": "0"} | settings
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def test_the_setting_chooses_the_machine():
    ask = "import amity; from amity.engine import device; print(type(device.machine()).__module__)"
    assert run(ask) == "amity.runtime.cpu.portable"
    assert run(ask, AMITY_NATIVE="1") == "amity.runtime.cpu.machine"


@pytest.mark.parametrize(
    ("name", "value", "known"),
    [
        ("abiflags", "t", False),
        ("abiflags", "d", False),
        ("version_info", (3, 14, 0), False),
        ("version_info", (3, 10, 9), False),
        ("version_info", (3, 12, 0), True),
        ("version_info", (3, 13, 2), True),
    ],
)
def test_unknown_pythons_get_the_portable_machine(monkeypatch, name, value, known):
    """A free-threaded or debug build, or a release whose objects were never looked at."""
    assert device.is_known_python()
    monkeypatch.setattr(sys, name, value)
    assert device.is_known_python() is known


CONTRACT = """
import numpy as np, pytest, amity
from amity.engine import device
m = device.machine()

s = m.allocate(100)
assert s.nbytes >= 100 and s.data % 64 == 0 and s.root is s and s.version == 0
part = m.alias(s, 32)
assert part.data == s.data + 32 and part.root is s and part.nbytes == s.nbytes - 32
deeper = m.alias(part, 8)
assert deeper.data == s.data + 40 and deeper.root is s
m.bump(deeper)
assert s.version == part.version == deeper.version == 1
twin = m.apart(part)
assert twin.data == part.data and twin.root is s and twin.version == 0 and s.stamp == 1
inner, own = m.alias(twin, 8), m.apart(twin)
m.bump(inner)
assert twin.version == inner.version == 1 and s.version == 1 and own.version == 0
assert twin.counter is inner.counter is not own.counter and s.stamp == 1 | 1 << 31

owner = np.zeros(4)
e = m.external(owner.ctypes.data, owner, 32)
assert e.data == owner.ctypes.data and e.nbytes == 32 and e.root is e
for name in ("data", "root", "version", "nbytes"):
    getattr(e, name)

add = amity.ops.ADD
x = amity.ones(3)
x + x, x + 1, x + 1.0
tensors, floats, ints = (add.plans[k] for k in [(x.layout, x.layout), (x.layout, float), (x.layout, int)])
assert tensors(x, x).tolist() == [2.0] * 3
assert floats(x, 0.5).tolist() == [1.5] * 3
for call, error in [((x,), TypeError), ((x, x, x), TypeError), ((x, 1.0), TypeError), ((x, None), TypeError)]:
    with pytest.raises(error, match="not a Tensor"):
        tensors(*call)
with pytest.raises(OverflowError):
    ints(x, 2**63)
with pytest.raises(TypeError):
    floats(x, "1")

with pytest.raises(amity.core.errors.OutOfMemoryError):
    m.allocate(1 << 50)
with pytest.raises(amity.core.errors.OutOfMemoryError):
    m.allocate(1 << 64)
m.trim()
print((x + x).sum().item())
"""


@pytest.mark.parametrize("flag", "01")
def test_both_keep_the_contract(flag):
    """One text of what a machine must do, run on both."""
    assert run(CONTRACT, AMITY_NATIVE=flag) == "6.0"


def test_memory_is_reused():
    code = """
import amity
from amity.engine import device
heap = device.machine().heap
x = amity.ones(100_000)
where = (x + 1).storage.data
assert heap.kept_bytes >= 400_000
assert (x + 2).storage.data == where
device.machine().trim()
print(heap.kept_bytes)
"""
    assert run(code) == "0"


def test_results_do_not_share_memory_with_what_was_kept():
    """A block goes back when its last user is gone, and not before."""
    code = """
import amity
x = amity.arange(50_000.0)
view = (x + 1)[7:]
others = [x * 0 for _ in range(4)]
print(view[0].item(), view.base is not None)
"""
    assert run(code) == "8.0 True"


def test_numbers_have_the_right_bits(both):
    """The table is not empty of results that could differ."""
    assert sum(np.unique(x).size > 1 for x in both[0].values()) > 100


def test_compiled_functions_agree_on_the_portable_machine():
    command = [sys.executable, "-m", "pytest", "-q", "tests/frontend/test_compile.py"]
    command += ["-k", "test_function or SGD or AdamW or threads or aliasing"]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"AMITY_NATIVE": "0"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
