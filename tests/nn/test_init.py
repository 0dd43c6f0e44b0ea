"""First values: distributions against their formulas and against PyTorch's layers."""

import math

import numpy as np
import pytest

import amity
from amity import nn

init = nn.init


def empty(*shape):
    return amity.empty(*shape)


def array(t):
    return t.detach().numpy()


def is_uniform(values, low, high):
    """A Kolmogorov-Smirnov test at a level that fails once in a million."""
    v = np.sort(np.asarray(values, np.float64).ravel())
    assert low <= v[0] and v[-1] <= high
    steps = np.arange(1, v.size + 1) / v.size
    distance = np.abs((v - low) / (high - low) - steps).max()
    assert distance < 2.7 / math.sqrt(v.size)


def is_normal(values, mean, std):
    v = np.sort(np.asarray(values, np.float64).ravel())
    cdf = np.array([0.5 * (1 + math.erf((x - mean) / std / math.sqrt(2))) for x in v])
    assert np.abs(cdf - np.arange(1, v.size + 1) / v.size).max() < 2.7 / math.sqrt(v.size)


@pytest.mark.parametrize(
    "name, param, gain",
    [
        ("linear", None, 1),
        ("conv2d", None, 1),
        ("conv_transpose3d", None, 1),
        ("sigmoid", None, 1),
        ("tanh", None, 5 / 3),
        ("relu", None, math.sqrt(2)),
        ("selu", None, 0.75),
        ("leaky_relu", None, math.sqrt(2 / 1.0001)),
        ("leaky_relu", 2, math.sqrt(2 / 5)),
    ],
)
def test_gain(name, param, gain):
    assert init.calculate_gain(name, param) == pytest.approx(gain)


def test_gain_errors():
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        init.calculate_gain("swish")
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("leaky_relu", True)


def test_constants():
    t = empty(3, 4)
    assert init.constant_(t, 2.5) is t and np.all(array(t) == 2.5)
    assert np.all(array(init.ones_(t)) == 1) and np.all(array(init.zeros_(t)) == 0)
    np.testing.assert_array_equal(array(init.eye_(t)), np.eye(3, 4))
    with pytest.raises(ValueError):
        init.eye_(empty(2))


@pytest.mark.parametrize("shape, groups", [((4, 3, 3), 1), ((4, 2, 3, 5), 2), ((2, 4, 1, 2, 3), 1)])
def test_dirac_keeps_channels(shape, groups):
    torch = pytest.importorskip("torch")
    theirs = torch.nn.init.dirac_(torch.empty(shape), groups)
    np.testing.assert_array_equal(array(init.dirac_(empty(*shape), groups)), theirs.numpy())


def test_dirac_errors():
    with pytest.raises(ValueError):
        init.dirac_(empty(2, 2))
    with pytest.raises(ValueError):
        init.dirac_(empty(3, 2, 2), groups=2)


def test_simple_distributions():
    is_uniform(array(init.uniform_(empty(2000), -2, 3)), -2, 3)
    is_normal(array(init.normal_(empty(2000), 1, 2)), 1, 2)


def test_truncated_normal():
    v = array(init.trunc_normal_(empty(3000), 1, 2, a=0, b=2)).astype(np.float64)
    assert v.min() >= 0 and v.max() <= 2
    low, high = 0.5 * (1 + math.erf(-0.5 / math.sqrt(2))), 0.5 * (1 + math.erf(0.5 / math.sqrt(2)))
    cdf = np.array([0.5 * (1 + math.erf((x - 1) / 2 / math.sqrt(2))) for x in v])
    is_uniform((cdf - low) / (high - low), -1e-6, 1 + 1e-6)
    with pytest.warns(UserWarning, match="more than 2 std"):
        init.trunc_normal_(empty(3), 10, 1)


@pytest.mark.parametrize("mode, fan", [("fan_in", 15), ("fan_out", 120)])
def test_kaiming(mode, fan):
    shape = (40, 5, 3)
    bound = math.sqrt(3) * math.sqrt(2 / (1 + 0.25)) / math.sqrt(fan)
    is_uniform(array(init.kaiming_uniform_(empty(*shape), a=0.5, mode=mode)), -bound, bound)
    std = math.sqrt(2 / fan)
    is_normal(array(init.kaiming_normal_(empty(*shape), mode=mode, nonlinearity="relu")), 0, std)


def test_xavier():
    bound = 2 * math.sqrt(6 / (15 + 120))
    is_uniform(array(init.xavier_uniform_(empty(40, 5, 3), 2)), -bound, bound)
    is_normal(array(init.xavier_normal_(empty(40, 15))), 0, math.sqrt(2 / 55))


def test_fan_errors():
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.xavier_uniform_(empty(3))
    with pytest.raises(ValueError, match="not supported"):
        init.kaiming_uniform_(empty(3, 3), mode="fan_both")
    with pytest.warns(UserWarning, match="zero-element"):
        init.kaiming_uniform_(empty(0, 3))


@pytest.mark.parametrize("shape", [(5, 5), (7, 3), (3, 7), (4, 2, 3)])
def test_orthogonal(shape):
    m = array(init.orthogonal_(empty(*shape), gain=2)).reshape(shape[0], -1).astype(np.float64)
    small = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
    np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-5)
    with pytest.raises(ValueError):
        init.orthogonal_(empty(3))


def test_sparse():
    m = array(init.sparse_(empty(20, 6), 0.33, std=3))
    assert np.all((m == 0).sum(0) == 7) and m.std() > 1
    with pytest.raises(ValueError):
        init.sparse_(empty(3), 0.1)


def test_no_gradient_is_recorded():
    p = nn.Parameter(empty(4, 4))
    for fill in (init.ones_, init.zeros_, init.eye_, init.normal_, init.uniform_, init.orthogonal_):
        assert fill(p) is p and p.is_leaf and p.requires_grad


def test_old_names_warn():
    for (
        name
    ) in "uniform normal eye xavier_uniform xavier_normal kaiming_uniform orthogonal".split():
        with pytest.warns(FutureWarning, match=f"nn.init.{name}"):
            getattr(init, name)(empty(3, 3))
    with pytest.warns(FutureWarning):
        assert init.constant(empty(1), 3).item() == 3


LAYERS = [
    ("Linear", (40, 60), {}),
    ("Bilinear", (10, 12, 20), {}),
    ("Conv2d", (8, 24, 3), {"groups": 2}),
    ("ConvTranspose2d", (12, 8, 3), {}),
    ("Embedding", (50, 20), {"padding_idx": 3}),
    ("LSTM", (12, 20), {}),
    ("GRUCell", (12, 20), {}),
    ("MultiheadAttention", (24, 4), {"add_bias_kv": True}),
    ("MultiheadAttention", (24, 4), {"kdim": 20}),
    ("TransformerEncoderLayer", (24, 4, 40), {}),
    ("BatchNorm2d", (5,), {}),
    ("LayerNorm", (5,), {}),
    ("PReLU", (3,), {}),
]


@pytest.mark.parametrize(
    "name, args, kwargs", LAYERS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_layers_start_as_pytorchs(name, args, kwargs):
    """Two-sample Kolmogorov-Smirnov for each parameter, at a level of one in a million."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(1)
    ours = getattr(nn, name)(*args, **kwargs)
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    for (key, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        a, b = np.sort(array(a).ravel()), np.sort(b.detach().numpy().ravel())
        both = np.concatenate([a, b])
        left = np.searchsorted(a, both, side="right") / a.size
        right = np.searchsorted(b, both, side="right") / b.size
        assert np.abs(left - right).max() <= 2.7 * math.sqrt(2 / a.size), key
        if a.size < 100:
            continue
        assert abs(a.std() - b.std()) < 0.25 * b.std() + 1e-12, key
