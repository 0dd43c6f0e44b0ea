"""Memory: taken again, held by views, not leaked, and its end is an error that one survives."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import amity
from amity.core.errors import OutOfMemoryError
from amity.engine import device

ROOT = Path(__file__).resolve().parents[2]
PETABYTE = 1 << 50


def test_a_block_is_taken_again():
    x = amity.arange(777.0)
    first = x + 1
    where = first.storage.data
    del first
    assert (x + 2).storage.data == where


def test_a_block_in_use_is_not_taken():
    x = amity.arange(777.0)
    made = [x + n for n in range(50)]
    assert len({t.storage.data for t in made}) == 50
    for n, t in enumerate(made):
        np.testing.assert_array_equal(t.numpy(), np.arange(777, dtype="f4") + n)


@pytest.mark.parametrize(
    "view", [lambda t: t[3:], lambda t: t.view(3, 7).t(), lambda t: t.view(3, 7)[1].expand(2, 7)]
)
def test_views_keep_memory_alive(view):
    x = amity.arange(21.0)
    whole = x + 0.5
    expected = view(amity.tensor((x + 0.5).tolist())).tolist()
    part = view(whole)
    del whole
    others = [x * 0 for _ in range(20)]
    assert part.tolist() == expected
    assert all(t.sum().item() == 0 for t in others)


def test_arrays_keep_memory_alive():
    x = amity.arange(500.0)
    array = (x + 1).numpy()
    others = [x * 0 for _ in range(20)]
    np.testing.assert_array_equal(array, np.arange(500, dtype="f4") + 1)
    assert len(others) == 20


def test_tensors_keep_arrays_alive():
    array = np.arange(500, dtype="f4")
    before = sys.getrefcount(array)
    t = amity.from_numpy(array)
    part = t[10:]
    del t
    assert sys.getrefcount(array) > before
    del part
    gc.collect()
    assert sys.getrefcount(array) == before


LEAKS = """
import gc, amity
from amity.engine import device

def resident():
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096

weight = amity.randn(64, 64, requires_grad=True)
x = amity.randn(32, 64)

def turn():
    weight.grad = None
    y = (x @ weight).relu().softmax(-1)
    y[3:].sum().backward()
    y.detach().add_(1).t().numpy()

for _ in range(300):
    turn()
gc.collect()
before = resident()
for _ in range(2000):
    turn()
gc.collect()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("flag", "10")
def test_ten_thousand_ops_leak_nothing(flag):
    done = subprocess.run(
        [sys.executable, "-c", LEAKS], cwd=ROOT, env=os.environ | {"AMITY_NATIVE": flag},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) < 2 << 20  # a leak of 32 x 64 floats a turn would be 16 MB


def free_blocks(nbytes: int) -> int:
    """How many blocks of a size the native allocator keeps: the length of its list."""
    import ctypes

    from amity.runtime.cpu.abi import ROOT as LINK

    count, at = 0, ctypes.c_void_p.from_address(device.machine().pool(nbytes)).value
    while at:
        count, at = count + 1, ctypes.c_void_p.from_address(at + LINK).value
    return count


@pytest.mark.skipif(
    not hasattr(device.machine(), "pool"), reason="counts the native allocator's blocks"
)
def test_pools_do_not_grow():
    x = amity.arange(901.0)
    nbytes = 901 * 4
    for _ in range(10):
        x + 1
    before = free_blocks(nbytes)
    for _ in range(10_000):
        x + 1
    assert free_blocks(nbytes) == before
    held = [x + 1 for _ in range(before + 7)]
    assert free_blocks(nbytes) == 0
    del held
    assert free_blocks(nbytes) == before + 7


@pytest.mark.parametrize("shape", [(PETABYTE // 4,), (1 << 20, 1 << 28), (1 << 40, 1 << 40)])
@pytest.mark.parametrize("make", [amity.empty, amity.zeros])
def test_too_large_a_tensor_is_an_error(make, shape):
    with pytest.raises(RuntimeError) as e:
        make(*shape)
    assert isinstance(e.value, OutOfMemoryError)
    assert (amity.ones(3) + 1).tolist() == [2.0] * 3


def test_too_large_a_result_is_an_error():
    x = amity.ones(1).expand(PETABYTE // 4)
    before = device.machine().allocate(64)
    for _ in range(3):
        with pytest.raises(OutOfMemoryError, match="out of memory"):
            x + 1
    assert before.version == 0
    assert (amity.ones(3) + 1).tolist() == [2.0] * 3
