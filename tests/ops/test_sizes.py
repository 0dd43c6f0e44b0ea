"""Every op compiled at many sizes: from the third on, launches come from formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import amity
from amity.core.dtype import float64
from amity.ops.record import Sample
from tests.ops.samples import OPS, bound, inputs, is_spec

SIZES = (17, 19, 23, 29)


def resized(sample: Sample, size: int) -> Sample:
    """The sample with another size in place of its first one that is not 1."""
    shapes = [given[0] for given in sample.inputs if is_spec(given)]
    old = next((n for shape in shapes for n in shape if n > 1), None)
    new = [
        (tuple(size if n == old else n for n in g[0]), g[1]) if is_spec(g) else g
        for g in sample.inputs
    ]
    return Sample(*new, through=sample.through, **sample.attributes)


def is_floating(value: Any) -> bool:
    return isinstance(value, amity.Tensor) and value.dtype.kind == "f"


@pytest.mark.parametrize("name", sorted(OPS))
def test_sizes(name):
    """A function that squares, calls the op and doubles gives what it gives eagerly."""
    sample = OPS[name].samples[0]
    call = bound(OPS[name], sample)

    def function(*values: Any) -> tuple:
        out = call(*[v * v if is_floating(v) else v for v in values])
        return tuple(
            y + y if is_floating(y) else y for y in (out if isinstance(out, tuple) else (out,))
        )

    compiled = amity.compile(function, static=False)
    for size in SIZES:
        try:
            values = inputs(name, resized(sample, size), floats=float64)
            wanted = function(*values)
        except (RuntimeError, ValueError, IndexError, TypeError):
            continue  # its attributes are for other sizes
        for a, b in zip(compiled(*values), wanted, strict=True):
            assert a.stride() == b.stride()
            x, y = (t.detach().double().numpy() for t in (a, b))
            np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-9)
