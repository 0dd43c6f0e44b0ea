"""Kernels of lesser machines than this one: they compute the same, and need no library."""

from __future__ import annotations

import os
import subprocess
import sys

import llvmlite.binding as binding
import numpy as np
import pytest

from tests.engine.nests import CASES, ROOT, numpy_dtype, results_under
from tests.engine.symbols import object_of, undefined

IS_X86 = binding.get_default_triple().startswith("x86_64")
CAPPED = ["avx2", "sse2"] if IS_X86 else []
FOREIGN = ["arm64", "apple", "wasm32"]


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """What the table gives on a target, computed once, every kernel verified."""
    made = {}

    def under(target):
        if target not in made:
            settings = {"AMITY_CHECK": "ir", "AMITY_CPU": target}
            settings |= {"AMITY_DEVICE": "null"} if target in FOREIGN else {}
            made[target] = results_under(settings, tmp_path_factory.mktemp(target))
        return made[target]

    return under


def as_float(x):
    return x.astype("f8") if x.dtype == numpy_dtype("bfloat16") else x


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.oracle is not None])
@pytest.mark.parametrize("target", ["native", *CAPPED])
def test_same_as_numpy(target, name, results):
    if target == "avx2" and not binding.get_host_cpu_features().get("avx2"):
        pytest.skip("this machine has no AVX2")
    case, found = CASES[name], results(target)[0][name]
    expected = np.asarray(case.oracle())
    assert found.shape == expected.shape
    assert case.rtol or found.dtype == expected.dtype
    np.testing.assert_allclose(as_float(found), as_float(expected), case.rtol, case.atol)


@pytest.mark.parametrize("name", [n for n, c in CASES.items() if c.oracle is None])
@pytest.mark.parametrize("target", CAPPED)
def test_same_as_the_full_machine(target, name, results):
    """Random bits are the same on every target; what is computed from them, almost."""
    case = CASES[name]
    found, expected = results(target)[0][name], results("native")[0][name]
    np.testing.assert_allclose(found, expected, case.rtol, case.atol)


@pytest.mark.parametrize("target", ["native", *CAPPED, *FOREIGN])
def test_kernels_need_no_library(target, results):
    notes = results(target)[1]
    assert notes["kernels"] > 150
    assert notes["missing"] == {}


@pytest.mark.parametrize("target", ["native", *CAPPED[-1:], "wasm32"])
def test_no_op_needs_a_library(target, tmp_path):
    """The whole registry, in every dtype; the targets that lack most are the ones to look at."""
    settings = {"AMITY_CPU": target, "AMITY_DEVICE": "null", "AMITY_CHECK": "ir"}
    environment = os.environ | settings | {"AMITY_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "tests.engine.registry"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.splitlines()[-1] == "missing: {}", done.stdout


@pytest.mark.parametrize(
    "triple", ["x86_64-linux-gnu", "aarch64-linux-gnu", "arm64-apple-macosx", "wasm32"]
)
def test_missing_symbols_are_found(triple):
    """The test above would pass for nothing if the reader saw nothing."""
    body = "declare float @fmodf(float, float)\ndefine float @f(float %x) {\n"
    body += "  %y = call float @fmodf(float %x, float %x)\n  ret float %y\n}\n"
    found = [
        n.removeprefix("_") if "apple" in triple else n for n in undefined(object_of(body, triple))
    ]
    assert found == ["fmodf"]
    alone = "define float @f(float %x) {\n  ret float %x\n}\n"
    assert undefined(object_of(alone, triple)) == []
