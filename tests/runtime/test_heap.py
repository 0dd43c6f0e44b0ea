"""The heap: blocks never overlap, free neighbours join, memory serves other sizes and goes back."""

import ctypes
import random
import subprocess
import sys

import pytest

import amity
from amity.core.errors import OutOfMemoryError
from amity.engine import device
from amity.runtime.cpu.blocks import LARGE, size_class

MEGABYTE = 1 << 20


def resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def test_blocks_do_not_overlap():
    machine, rng = device.machine(), random.Random(0)
    held = []
    for turn in range(2000):
        if held and rng.random() < 0.5:
            storage, size, mark = held.pop(rng.randrange(len(held)))
            for at in (0, size // 2, size - 1):
                assert ctypes.c_uint8.from_address(storage.data + at).value == mark
            continue
        size = rng.choice([100, 5000, 70_000, 300_000, MEGABYTE, 3 * MEGABYTE + 4])
        storage, mark = machine.allocate(size), turn % 251
        assert storage.data % 64 == 0 and storage.nbytes >= size
        for at in (0, size // 2, size - 1):
            ctypes.c_uint8.from_address(storage.data + at).value = mark
        held.append((storage, size, mark))


def test_memory_serves_other_sizes():
    machine = device.machine()
    machine.trim()
    first = [machine.allocate(4 * MEGABYTE) for _ in range(8)]
    span = range(min(s.data for s in first), max(s.data for s in first) + 4 * MEGABYTE)
    del first
    second = [machine.allocate(6 * MEGABYTE) for _ in range(5)]
    assert sum(s.data in span for s in second) >= 4


def test_a_view_keeps_its_memory():
    x = amity.arange(2 * LARGE)
    tail = x[-5:]
    del x
    filler = amity.zeros(2 * LARGE)
    assert tail.tolist() == list(range(2 * LARGE - 5, 2 * LARGE))
    del filler


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_trim_gives_memory_back():
    x = amity.ones(64 * MEGABYTE // 4)
    before = resident()
    del x
    device.machine().trim()
    assert before - resident() > 50 * MEGABYTE


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_little_is_kept_beyond_the_limit():
    code = f"""
import amity
from amity.engine import device
from tests.runtime.test_heap import resident
device.machine()._state[1] = 32 << 20  # the limit of what is kept
keep = [amity.ones({8 * MEGABYTE // 4}) for _ in range(16)]
before = resident()
del keep
print(before - resident())
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) > 80 * MEGABYTE


def test_too_much_is_an_error():
    with pytest.raises(OutOfMemoryError):
        device.machine().allocate(1 << 50)
    assert amity.ones(3).sum().item() == 3


@pytest.mark.parametrize("nbytes", [1, 64, 65, 4097, 70_001, LARGE + 1, 7 * MEGABYTE + 3])
def test_size_class_wastes_little(nbytes):
    size = size_class(nbytes)
    assert size >= nbytes and size % 64 == 0
    assert size - nbytes < max(64, nbytes / (8 if nbytes < LARGE else 64))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_only_a_segment_uses_takes_no_memory():
    code = """
import amity
from tests.runtime.test_heap import resident
def last(x):
    held = [x * i for i in range(200)]
    return held[-1]
x, last = amity.ones(1 << 18), amity.compile(last)
last(amity.ones(5))
before = resident()
assert last(x)[0].item() == 199
print(resident() - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 60 * MEGABYTE
