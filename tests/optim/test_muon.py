"""Muon: orthogonal steps for matrices, near PyTorch's bfloat16 arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

import amity
from amity.optim.muon import COEFFICIENTS, orthogonal, shape_factor

SHAPES = [(4, 4), (7, 3), (3, 9)]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nesterov": False, "momentum": 0.5, "weight_decay": 0.0},
        {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3},
    ],
)
def test_trajectory_stays_near_pytorch(options):
    torch = pytest.importorskip("torch")
    random, ends = np.random.default_rng(0), []
    starts = [random.normal(size=s).astype(np.float32) for s in SHAPES]
    grads = [[random.normal(size=s).astype(np.float32) for s in SHAPES] for _ in range(4)]
    for library in (amity, torch):
        params = [library.from_numpy(a.copy()).requires_grad_() for a in starts]
        optimizer = library.optim.Muon(params, lr=0.1, **options)
        for row in grads:
            for p, g in zip(params, row):
                p.grad = library.from_numpy(g.copy())
            optimizer.step()
        ends.append([p.detach().numpy() for p in params])
        assert set(optimizer.state_dict()["state"][0]) == {"momentum_buffer"}
    for ours, theirs in zip(*ends):
        # Four steps of 0.1, each of bfloat16 precision.
        np.testing.assert_allclose(ours, theirs, atol=4 * 0.1 * 2**-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_come_near_one(shape):
    g = amity.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    x = orthogonal(g, COEFFICIENTS, 8, 1e-7).float().numpy()
    values = np.linalg.svd(x, compute_uv=False)
    assert values.min() > 0.6 and values.max() < 1.3


def test_learning_rate_follows_the_shape():
    assert shape_factor(None, 8, 2) == 2.0 and shape_factor("original", 2, 8) == 1.0
    assert shape_factor("match_rms_adamw", 25, 4) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"momentum": -1.0}, "momentum=-1.0"),
        ({"adjust_lr_fn": "best"}, "adjust_lr_fn='best'"),
        ({"ns_steps": 100}, "ns_steps=100"),
        ({"ns_coefficients": (1, 2)}, "2 ns_coefficients"),
    ],
)
def test_wrong_options_are_refused(options, says):
    p = amity.ones(2, 2, requires_grad=True)
    p.grad = amity.ones(2, 2)
    with pytest.raises(ValueError, match=f"Muon: got {says}"):
        amity.optim.Muon([p], **options).step()


def test_vectors_are_refused():
    with pytest.raises(ValueError, match=r"Muon: got a parameter of shape \(3,\)"):
        amity.optim.Muon([amity.ones(3, requires_grad=True)])
