"""Two Python threads at once, Ctrl-C in the middle of kernels, forks of a busy process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import amity
from amity.engine.threads import get_num_threads, set_num_threads

ROOT = Path(__file__).resolve().parents[2]
MACHINES = pytest.mark.parametrize("flag", "10")


@pytest.fixture(autouse=True)
def two_threads():
    before = get_num_threads()
    set_num_threads(2)
    yield
    set_num_threads(before)


def run(code: str, flag: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"AMITY_NATIVE": flag},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def work(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Something that releases the GIL and uses the workers, and its meaning in NumPy."""
    x = np.random.default_rng(seed).standard_normal((300, 700)).astype("f4")
    t = amity.from_numpy(x)
    for _ in range(10):
        found = ((t @ t.t()).relu() + seed).sum(1)
    exact = x.astype("f8")
    return found.numpy(), (np.maximum(exact @ exact.T, 0) + seed).sum(1)


def test_threads_do_not_disturb_each_other():
    with ThreadPoolExecutor(4) as threads:
        for found, expected in threads.map(work, range(12)):
            np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_threads_compile_at_once():
    """All ask for the same new kernels at the same moment; each gets the right ones."""
    start = threading.Barrier(4)

    def compute(n: int) -> float:
        start.wait()
        x = amity.arange(100.0)
        return ((x * n).tanh() * 3 - x.sin().abs()).sum().item()

    x = np.arange(100.0)
    with ThreadPoolExecutor(4) as threads:
        for n, found in enumerate(threads.map(compute, range(4))):
            assert found == pytest.approx((np.tanh(x * n) * 3 - abs(np.sin(x))).sum(), rel=1e-4)


def test_gradients_of_threads_are_apart():
    def train(seed: int) -> list[float]:
        w = amity.tensor([float(seed)], requires_grad=True)
        out = []
        for _ in range(200):
            (w * w * 3).sum().backward()
            out.append(w.grad.item())
            w.grad = None
        return out

    with ThreadPoolExecutor(3) as threads:
        for seed, found in zip((1, 2, 3), threads.map(train, (1, 2, 3)), strict=True):
            assert found == [6.0 * seed] * 200


def test_a_thread_in_a_kernel_lets_others_run():
    """The GIL is free while a long kernel runs: Python goes on meanwhile."""
    x = amity.randn(1500, 1500)
    x @ x
    turns, is_over = 0, threading.Event()

    def compute():
        for _ in range(5):
            x @ x
        is_over.set()

    thread = threading.Thread(target=compute)
    thread.start()
    while not is_over.is_set():
        turns += 1
        time.sleep(0.001)
    thread.join()
    assert turns > 5


STOPPED = """
import os, signal, threading, time, amity
x = amity.ones(400, 400) / 400
y = x @ x
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
turns = 0
try:
    start = time.monotonic()
    while time.monotonic() - start < 60:
        y = (x @ y).relu() + 0
        turns += 1
    print("not stopped")
except KeyboardInterrupt:
    print("stopped", turns > 0)
print(round((x @ x).sum().item()), (amity.ones(3) + 1).tolist())
"""


@MACHINES
def test_ctrl_c_stops_a_loop_of_kernels(flag):
    assert run(STOPPED, flag) == "stopped True\n400 [2.0, 2.0, 2.0]"


def test_ctrl_c_ends_a_program():
    """Nobody catches it: the process ends as Python programs do, workers and all."""
    code = "import amity\nx = amity.ones(300, 300)\nprint('on', flush=True)\nwhile True: x @ x"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"on\n"
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in err and process.returncode != 0


FORKED = """
import os, sys, threading, warnings, amity
from amity.engine.threads import set_num_threads
warnings.simplefilter("ignore")
set_num_threads(2)
x = amity.ones(500, 500)
(x @ x).sum()
stop = threading.Event()

def busy():
    n = 1
    while not stop.is_set():
        ((x @ x) * n).sum()
        n += 1

thread = threading.Thread(target=busy)
thread.start()
codes = []
for n in range(8):
    child = os.fork()
    if child == 0:
        good = bool(((x @ x) == 500).all()) and (x * 2 + n).sin().abs().max().item() <= 1
        os._exit(0 if good else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.set()
thread.join()
print(codes, bool(((x @ x) == 500).all()))
"""


@MACHINES
def test_forks_of_a_busy_process_compute(flag):
    assert run(FORKED, flag) == f"{[0] * 8} True"


NOTED = """
import os, threading, warnings, amity
warnings.simplefilter("ignore")
inside, goes_on = threading.Event(), threading.Event()
x = amity.ones(4)

@amity.compile(static=False)
def waits():
    y = x * 2
    inside.set()
    goes_on.wait()
    return y + 1

@amity.compile(static=False)
def f():
    return (x * 3).sum()

found = []
thread = threading.Thread(target=lambda: found.append(waits().tolist()))
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    good = [f().item() for _ in range(3)] == [12.0] * 3 and f.crowded == 0 and not x.storage.mark
    os._exit(0 if good else 1)
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
goes_on.set()
thread.join()
print(code, found)
"""


@MACHINES
def test_a_fork_ends_what_other_threads_noted(flag):
    assert run(NOTED, flag) == "0 [[3.0, 3.0, 3.0, 3.0]]"
