"""Compiled functions held to eager, for the tests of kernels in compiled graphs."""

import numpy as np

import amity


def numbers(result):
    results = result if isinstance(result, tuple) else (result,)
    return [np.array(t.detach().double().numpy()) for t in results]


def holds(f, *args, tolerance=3e-6):
    """Compiled gives what eager gives, but for sums in another order, at each call."""
    wanted, compiled = numbers(f(*args)), amity.compile(f)
    for _ in range(3):
        for a, b in zip(numbers(compiled(*args)), wanted, strict=True):
            assert a.shape == b.shape
            scale = np.nanmax(np.abs(b[np.isfinite(b)]), initial=1e-9)
            np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale)
    return compiled
