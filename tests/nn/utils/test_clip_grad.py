"""Clipping gradients, against PyTorch."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402

utils, theirs = nn.utils, torch.nn.utils
rng = np.random.default_rng(0)
GRADS = [rng.standard_normal(s).astype(np.float32) for s in ((3, 2), (4,), ())]


def params(make, ones):
    out = []
    for grad in GRADS:
        p = ones(grad.shape).requires_grad_(True)
        p.grad = make(grad.copy())
        out.append(p)
    return [*out, ones(2)]  # one without a gradient


def pair():
    return params(amity.from_numpy, amity.ones), params(torch.from_numpy, torch.ones)


def same(a, b):
    for p, q in zip(a[:-1], b[:-1]):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-6)


@pytest.mark.parametrize("norm_type", [1, 2, 3.5, math.inf, -math.inf, 0])
@pytest.mark.parametrize("limit", [0.5, 100])
def test_norm(norm_type, limit):
    a, b = pair()
    total = utils.clip_grad_norm_(a, limit, norm_type)
    assert total.item() == pytest.approx(theirs.clip_grad_norm_(b, limit, norm_type).item())
    same(a, b)


def test_value():
    a, b = pair()
    utils.clip_grad_value_(a, 0.4)
    theirs.clip_grad_value_(b, 0.4)
    same(a, b)


def test_one_tensor_iterators_and_nothing():
    a, b = pair()
    utils.clip_grad_norm_(a[0], 0.1)
    theirs.clip_grad_norm_(b[0], 0.1)
    utils.clip_grad_value_(a[1], 0.1)
    theirs.clip_grad_value_(b[1], 0.1)
    same(a, b)
    assert utils.clip_grad_norm_((p for p in a[:1]), 0.05).item() == pytest.approx(0.1, rel=1e-4)
    assert utils.clip_grad_norm_([], 1.0).item() == 0
    assert utils.get_total_norm([]).item() == 0


def test_total_norm():
    total = utils.get_total_norm([amity.from_numpy(g.copy()) for g in GRADS])
    assert total.item() == pytest.approx(math.sqrt(sum((g**2).sum() for g in GRADS)))


def test_not_finite():
    a, _ = pair()
    a[1].grad[0] = math.nan
    assert math.isnan(utils.clip_grad_norm_(a, 1.0).item())
    with pytest.raises(RuntimeError, match="non-finite"):
        utils.clip_grad_norm_(a, 1.0, error_if_nonfinite=True)


def test_old_name_warns():
    with pytest.warns(FutureWarning, match="clip_grad_norm_"):
        utils.clip_grad_norm(pair()[0], 1.0)
