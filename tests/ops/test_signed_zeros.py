"""0.0 and -0.0 are equal keys, and give different results."""

from __future__ import annotations

import math

import pytest

import amity
from amity.nn import functional as F

MAKE = {
    "full": lambda z: amity.full((3,), z),
    "full_like": lambda z: amity.full_like(amity.ones(3), z),
    "new_full": lambda z: amity.ones(2).new_full((2, 2), z),
    "fill": lambda z: amity.ones(3).fill_(z),
    "pad": lambda z: F.pad(amity.ones(2), (1, 1), value=z)[::3],
    "threshold": lambda z: F.threshold(amity.ones(3), 2.0, z),
    "masked_fill": lambda z: amity.ones(3).masked_fill(amity.ones(3) > 0, z),
    "where": lambda z: amity.where(amity.ones(3) > 2, amity.ones(3), z),
    "times": lambda z: amity.ones(3) * z,
    "nan_to_num": lambda z: amity.full((2,), math.nan).nan_to_num(z),
}


@pytest.mark.parametrize("wrap", [lambda f: f, amity.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("name", MAKE)
def test_signs_of_zeros_are_kept(name, wrap):
    f = wrap(MAKE[name])
    for zero in (0.0, -0.0, 0.0, -0.0):
        signs = {math.copysign(1, v) for v in f(zero).reshape(-1).tolist()}
        assert signs == {math.copysign(1, zero)}
