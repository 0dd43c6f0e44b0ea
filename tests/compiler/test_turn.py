"""Transposing copies against NumPy, on each vector width that runs here."""

from __future__ import annotations

import numpy as np
import pytest

import amity

SHAPES = ((17, 33), (3, 40, 25), (8, 16), (2, 3, 31, 5, 18), (64, 7))


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_order(shape, dtype):
    rng = np.random.default_rng(len(shape))
    a = (rng.standard_normal(shape) * 3).astype(dtype)
    for order in {tuple(rng.permutation(len(shape)).tolist()) for _ in range(8)}:
        found = amity.from_numpy(a).permute(*order).contiguous()
        assert np.array_equal(found.numpy(), a.transpose(order))


def test_of_strided_and_reversed_memory():
    a = np.arange(60 * 50, dtype=np.float32).reshape(60, 50)
    found = amity.from_numpy(a)[::2, 1::3].t().contiguous()
    assert np.array_equal(found.numpy(), a[::2, 1::3].T)
    out = amity.zeros(50, 60)
    out.t()[:, 10:] = amity.from_numpy(a[:, 10:])
    assert np.array_equal(out.numpy()[10:], a.T[10:])


def test_a_cast_on_the_way_is_no_copy():
    a = np.linspace(-2, 2, 40 * 24, dtype=np.float32).reshape(40, 24)
    found = amity.from_numpy(a).t().int().float().contiguous()
    assert np.array_equal(found.numpy(), np.trunc(a.T))

    step = amity.from_numpy(a).t()
    rounded = step.to(amity.int32).to(amity.float32) + 0.0
    assert np.array_equal(rounded.numpy(), np.trunc(a.T))
