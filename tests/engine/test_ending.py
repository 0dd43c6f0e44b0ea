"""The interpreter may end while tensors live and threads compute: it ends in silence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

OUTLIVE = """
import builtins, codecs
import amity

class Holder:
    def __init__(self, *tensors):
        self.tensors, self.me = tensors, self  # a cycle, which only the collector ends

    def __call__(self, name):
        return None

x = amity.randn(60, 60, requires_grad=True)
loss = (x @ x).exp().sum()
loss.backward()
builtins.holder = Holder(loss, x.grad, amity.randn(300_000))
codecs.register(Holder(loss, amity.randn(5), amity.randn(300_000)))  # goes after all modules
"""

THREADS = """
import threading, time
import amity

def work(started):
    a = amity.randn(300, 300)
    while True:
        a = (a @ a).tanh()
        started.set()

for _ in range(3):
    started = threading.Event()
    threading.Thread(target=work, args=(started,), daemon=True).start()
    started.wait()
"""


@pytest.mark.parametrize("native", "10")
@pytest.mark.parametrize("code", [OUTLIVE, THREADS], ids=["tensors", "threads"])
def test_the_end_is_quiet(code, native):
    # memory that is freed is overwritten at once: who still uses it fails every time
    settings = {"AMITY_NATIVE": native, "PYTHONMALLOC": "debug", "PYTHONFAULTHANDLER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | settings, capture_output=True,
        text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
