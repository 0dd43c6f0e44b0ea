"""AMITY_DEVICE=null: everything is planned and compiled, nothing runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.engine.nests import ROOT

STEP = """
import json, amity
from amity import nn
from amity.nn import functional as F
from amity.engine import device

amity.manual_seed(0)
model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                      nn.Linear(8 * 13 * 13, 10))
optimizer = amity.optim.AdamW(model.parameters(), lr=1e-3)
x, y = amity.randn(16, 1, 28, 28), amity.zeros(16, dtype=amity.int64)

def step():
    optimizer.zero_grad()
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    optimizer.step()
    return loss

loss, kernels, machine = step(), device.kernels(), device.machine()
first = kernels.compiled
step()
counts = {"loaded": getattr(machine, "loaded", 0), "launches": getattr(machine, "launches", 0)}
print(json.dumps(counts | {
    "loss": loss.item(), "compiled": kernels.compiled, "again": kernels.compiled - first,
    "target": kernels.target.name, "shape": model[0].weight.grad.shape,
}))
"""


def run(code: str, folder, **settings: str):
    environment = os.environ | {"AMITY_CACHE_DIR": str(folder)} | settings
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stdout, done.stderr


def counted(folder, **settings: str) -> dict:
    status, out, err = run(STEP, folder, **settings)
    assert status == 0, err[-4000:]
    return json.loads(out)


def test_a_training_step_compiles_and_does_not_run(tmp_path):
    null = counted(tmp_path / "null", AMITY_DEVICE="null")
    real = counted(tmp_path / "real")
    assert null["loss"] == 0 != real["loss"]
    assert null["shape"] == [8, 1, 3, 3]
    assert null["compiled"] == null["loaded"] == real["compiled"] - 1  # the glue to Python
    assert null["launches"] > null["loaded"] > 20
    assert null["again"] == 0


@pytest.mark.parametrize("target", ["arm64", "apple", "wasm32"])
def test_other_machines_are_planned_for(target, tmp_path):
    null = counted(tmp_path, AMITY_DEVICE="null", AMITY_CPU=target)
    assert null["target"] == target
    assert null["compiled"] > 20


def test_other_machines_cannot_run(tmp_path):
    status, _, err = run("import amity; amity.ones(2) + 1", tmp_path, AMITY_CPU="wasm32")
    assert status == 1
    assert "AMITY_CPU: got wasm32; expected a target that can run here" in err


def test_numpy_calls_do_not_run_either(tmp_path):
    code = "import amity; print(amity.linalg.inv(amity.zeros(3, 3)).shape)"
    status, _, err = run(code, tmp_path)
    assert status == 1 and "ingular" in err
    status, out, err = run(code, tmp_path, AMITY_DEVICE="null")
    assert (status, out) == (0, "amity.Size([3, 3])\n"), err
