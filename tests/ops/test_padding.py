"""Padding and its gradients, first and second, against PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

CASES = {
    "constant": [(1, 2, 0, 3), (-1, 2, 1, -2), (-2, -1), (0, 0, 0, 0), (3, 0), (0, 0, 0, 0, 1, 2)],
    "reflect": [(1, 2, 0, 3), (3, 3, 1, 1), (0, 0, 2, 0)],
    "replicate": [(1, 2, 0, 3), (5, 6, 7, 1), (-1, 2, 0, 0)],
    "circular": [(1, 2, 0, 3), (4, 4, 5, 5), (0, 1, 0, 0)],
}


@pytest.mark.parametrize("mode, pad", [(m, p) for m, pads in CASES.items() for p in pads])
def test_values_and_gradients(mode, pad):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4))

    def run(make, function, grad):
        t = make(x.copy()).requires_grad_(True)
        y = function(t, pad, mode)
        weight = np.random.default_rng(1).standard_normal(tuple(y.shape))
        (g,) = grad((y * y * make(weight)).sum(), t, create_graph=True)
        (g * g).sum().backward()
        return [v.detach().numpy() for v in (y, g, t.grad)]

    ours = run(amity.from_numpy, amity.ops.pad, amity.autograd.grad)
    functional = torch.nn.functional
    theirs = run(torch.from_numpy, functional.pad, torch.autograd.grad)
    for a, b in zip(ours, theirs):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
