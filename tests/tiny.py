"""Does it work at all? Under ten seconds; run before every commit."""

import math

import numpy as np
import pytest

import amity
from amity import nn
from amity.nn import functional as F


def test_arithmetic_and_broadcasting():
    x = amity.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (x * 2 + amity.tensor([10.0, 20.0])).tolist() == [[12.0, 24.0], [16.0, 28.0]]
    assert (x @ x).tolist() == [[7.0, 10.0], [15.0, 22.0]]
    assert x.sum(0).tolist() == [4.0, 6.0]


def test_views_alias():
    x = amity.zeros(2, 3)
    x.t()[1] = amity.tensor([5.0, 7.0])
    assert x.tolist() == [[0.0, 5.0, 0.0], [0.0, 7.0, 0.0]]


def test_numpy_both_ways():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    shared = amity.from_numpy(array)
    array[0, 0] = 9
    assert shared[0, 0].item() == 9
    np.testing.assert_allclose(shared.exp().numpy(), np.exp(array), rtol=1e-6)


def test_gradients_of_gradients():
    x = amity.tensor(0.7, requires_grad=True)
    (first,) = amity.autograd.grad(x.sin() * x, x, create_graph=True)
    (second,) = amity.autograd.grad(first, x)
    assert math.isclose(first.item(), math.sin(0.7) + 0.7 * math.cos(0.7), rel_tol=1e-5)
    assert math.isclose(second.item(), 2 * math.cos(0.7) - 0.7 * math.sin(0.7), rel_tol=1e-5)


def test_an_error_says_what_was_got_and_what_was_expected():
    with pytest.raises(RuntimeError, match="got .*expected"):
        amity.zeros(2, 3) @ amity.zeros(4, 5)


def small_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )


def test_a_network_learns_and_is_kept(tmp_path):
    amity.manual_seed(0)
    x = amity.randn(64, 1, 6, 6)
    y = (x[:, 0, 0, 0] > 0).long()
    model = small_cnn()
    optimizer = amity.optim.AdamW(model.parameters(), lr=0.02)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < losses[0]

    model.eval()
    amity.save(model.state_dict(), tmp_path / "model.safetensors")
    again = small_cnn().eval()
    again.load_state_dict(amity.load(tmp_path / "model.safetensors"))
    assert (again(x) == model(x)).all()
