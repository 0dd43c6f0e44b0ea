"""Dropout layers: what is dropped, how often, and what stays."""

import math

import numpy as np
import pytest

import amity
from amity import nn


def array(t):
    return t.detach().numpy()


def near(count, n, p):
    """Whether a binomial count is within six standard deviations."""
    return abs(count - n * p) < 6 * math.sqrt(n * p * (1 - p))


def test_elements():
    x = amity.ones(50, 100)
    y = array(nn.Dropout(0.3)(x))
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert near((y == 0).sum(), 5000, 0.3)


@pytest.mark.parametrize(
    "cls, shape",
    [
        (nn.Dropout1d, (40, 20, 4)),
        (nn.Dropout2d, (40, 20, 2, 3)),
        (nn.Dropout3d, (40, 20, 2, 1, 3)),
    ],
)
def test_channels(cls, shape):
    y = array(cls(0.4)(amity.ones(*shape))).reshape(800, -1)
    assert np.all(y == y[:, :1]) and near((y[:, 0] == 0).sum(), 800, 0.4)
    assert y.max() == np.float32(1 / 0.6)


@pytest.mark.parametrize("cls", [nn.AlphaDropout, nn.FeatureAlphaDropout])
def test_alpha_keeps_mean_and_variance(cls):
    x = amity.empty(100, 50, 20).normal_(0, 1)
    y = array(cls(0.2)(x)).astype(np.float64)
    assert abs(y.mean()) < 0.05 and abs(y.std() - 1) < 0.05
    lowest, keep = -1.7580993408473766, 0.8  # SELU's limit at minus infinity
    scale = (keep + lowest**2 * keep * (1 - keep)) ** -0.5
    low = np.isclose(y, scale * lowest * (1 - (1 - keep)), rtol=1e-5)
    units = low.reshape(5000, 20).all(1) if cls is nn.FeatureAlphaDropout else low.ravel()
    assert near(units.sum(), units.size, 0.2)


@pytest.mark.parametrize("name", ["Dropout", "Dropout2d", "AlphaDropout", "FeatureAlphaDropout"])
def test_evaluation_changes_nothing(name):
    x = amity.empty(2, 3, 4, 5).normal_(0, 1)
    np.testing.assert_array_equal(array(getattr(nn, name)(0.9).eval()(x)), array(x))


def test_gradient_flows_where_values_stay():
    x = amity.ones(200, requires_grad=True)
    y = nn.Dropout(0.5)(x)
    y.sum().backward()
    np.testing.assert_array_equal(array(x.grad), array(y))


def test_in_place():
    x = amity.ones(100)
    y = nn.Dropout(0.5, inplace=True)(x)
    assert y is x or y.data_ptr() == x.data_ptr()
    assert (array(x) == 0).any()


def test_extremes():
    assert not array(nn.Dropout(1.0)(amity.ones(9))).any()
    for p in (-0.1, 1.1):
        with pytest.raises(ValueError, match="between 0 and 1"):
            nn.Dropout(p)


def test_rrelu_draws_slopes_in_training():
    x = amity.full((2000,), -1.0)
    slopes = -array(nn.RReLU(0.1, 0.5)(x))
    assert slopes.min() >= 0.1 and slopes.max() <= 0.5 and slopes.std() > 0.1
    np.testing.assert_allclose(array(nn.RReLU(0.1, 0.5).eval()(x)), -0.3, rtol=1e-6)
