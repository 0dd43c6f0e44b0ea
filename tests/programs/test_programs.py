"""Programs as people bring them from PyTorch: its numbers and errors, eagerly and compiled."""

from __future__ import annotations

import types
import warnings

import pytest

import amity

from . import language, learning, pictures, science
from .run import Run

torch = pytest.importorskip("torch")
PROGRAMS = [
    pytest.param(f, id=n)
    for part in (language, pictures, learning, science)
    for n, f in vars(part).items()
    if isinstance(f, types.FunctionType) and f.__module__ == part.__name__
]


def agree(a, b, rel, tiny):
    if isinstance(a, dict):
        return list(a) == list(b) and all(agree(a[k], b[k], rel, tiny) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(agree(x, y, rel, tiny) for x, y in zip(a, b))
    return a == pytest.approx(b, rel=rel, abs=tiny, nan_ok=True) if isinstance(a, float) else a == b


@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program):
    runs = [Run(torch), Run(amity), Run(amity, amity.compile)]
    for run in runs:
        with warnings.catch_warnings():
            if run.m is torch:
                warnings.simplefilter("ignore")
            program(run.start())
    theirs, eager, compiled = (run.seen for run in runs)
    for number, (a, b, c) in enumerate(zip(theirs, eager, compiled, strict=True)):
        assert agree(a, b, 2e-4, 2e-5), f"note {number} of eager"
        assert agree(b, c, 2e-5, 4e-6), f"note {number} of compiled"
