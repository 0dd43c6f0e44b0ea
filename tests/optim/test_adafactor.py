"""Adafactor walks PyTorch's way."""

from __future__ import annotations

import numpy as np
import pytest

import amity

torch = pytest.importorskip("torch")

SHAPES = [(3,), (2, 5), (), (2, 3, 4), (5, 1)]
OPTIONS = [
    {},
    {"lr": 0.1, "weight_decay": 0.1, "maximize": True},
    {"lr": 0.5, "beta2_decay": -0.5, "eps": (1e-3, 0.1), "d": 2.0},
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_trajectory_and_state_equal_pytorch(same_state, convert, options, dtype):
    random, is_exact = np.random.default_rng(0), dtype is np.float64
    starts = [np.asarray(random.normal(size=s), dtype) for s in SHAPES]
    ours = [amity.from_numpy(a.copy()).requires_grad_() for a in starts]
    theirs = [torch.from_numpy(a.copy()).requires_grad_() for a in starts]
    one, two = amity.optim.Adafactor(ours, **options), torch.optim.Adafactor(theirs, **options)
    for step in range(10):
        for p, q in zip(ours, theirs):
            g = np.asarray(random.normal(size=p.shape), dtype)
            p.grad, q.grad = amity.from_numpy(g.copy()), torch.from_numpy(g.copy())
        one.step()
        two.step()
        for p, q in zip(ours, theirs):
            rtol, atol = (1e-10, 1e-13) if is_exact else (1e-5, 1e-6)
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol, atol)
        if step == 5:
            saved = two.state_dict()
            one = amity.optim.Adafactor(ours, **options)
            one.load_state_dict(convert(saved, amity.from_numpy))
    same_state(one.state_dict(), two.state_dict(), is_exact)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"lr": -1.0}, "lr=-1.0"),
        ({"beta2_decay": 0.8}, "beta2_decay=0.8"),
        ({"eps": (-1.0, 1e-3)}, "eps1=-1.0"),
        ({"eps": (None, -1.0)}, "eps2=-1.0"),
        ({"d": 0.5}, "d=0.5"),
        ({"weight_decay": -1.0}, "weight_decay=-1.0"),
    ],
)
def test_wrong_options_are_refused(options, says):
    with pytest.raises(ValueError, match=f"Adafactor: got {says}"):
        amity.optim.Adafactor([amity.ones(2, requires_grad=True)], **options)
