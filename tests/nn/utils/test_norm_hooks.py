"""The older weight norm and spectral norm, against PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402

utils, theirs = nn.utils, torch.nn.utils
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def array(t):
    return t.detach().numpy()


def load(ours, other):
    ours.load_state_dict({k: amity.from_numpy(v.numpy()) for k, v in other.state_dict().items()})


def same(ours, other, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    y, z = ours(amity.from_numpy(x)), other(torch.from_numpy(x))
    np.testing.assert_allclose(array(y), array(z), rtol=1e-4, atol=1e-5)
    (y * y).sum().backward()
    (z * z).sum().backward()
    for (key, p), (_, q) in zip(ours.named_parameters(), other.named_parameters(), strict=True):
        np.testing.assert_allclose(array(p.grad), array(q.grad), 1e-3, 1e-5, err_msg=key)


@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(dim):
    ours = utils.weight_norm(nn.Linear(4, 3), dim=dim)
    other = theirs.weight_norm(torch.nn.Linear(4, 3), dim=dim)
    assert list(ours.state_dict()) == list(other.state_dict())
    load(ours, other)
    same(ours, other, (2, 4))
    weight = array(ours.weight)
    assert utils.remove_weight_norm(ours) is ours
    assert set(ours.state_dict()) == {"weight", "bias"} and not ours._forward_pre_hooks
    np.testing.assert_allclose(array(ours.weight), weight, rtol=1e-6)
    with pytest.raises(ValueError, match="not found"):
        utils.remove_weight_norm(ours)


@pytest.mark.parametrize("name, shape", [("Linear", (2, 4)), ("ConvTranspose1d", (2, 4, 5))])
def test_spectral_norm(name, shape):
    args = (4, 3) if name == "Linear" else (4, 3, 2)
    ours = utils.spectral_norm(getattr(nn, name)(*args), n_power_iterations=2)
    other = theirs.spectral_norm(getattr(torch.nn, name)(*args), n_power_iterations=2)
    assert list(ours.state_dict()) == list(other.state_dict())
    load(ours, other)
    same(ours, other, shape)
    ours.zero_grad()
    other.zero_grad()
    same(ours.eval(), other.eval(), shape)
    weight = array(ours.weight)
    utils.remove_spectral_norm(ours)
    assert set(ours.state_dict()) == {"weight", "bias"}
    np.testing.assert_allclose(array(ours.weight), weight, rtol=1e-5)
    with pytest.raises(ValueError, match="not found"):
        utils.remove_spectral_norm(ours)


def test_errors():
    with pytest.raises(RuntimeError, match="two weight_norm hooks"):
        utils.weight_norm(utils.weight_norm(nn.Linear(2, 2)))
    with pytest.raises(RuntimeError, match="two spectral_norm hooks"):
        utils.spectral_norm(utils.spectral_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="to be positive"):
        utils.spectral_norm(nn.Linear(2, 2), n_power_iterations=0)
    with pytest.raises(ValueError, match="`bias` is None"):
        utils.spectral_norm(nn.Linear(2, 2, bias=False), "bias")


def test_weight_norm_warns():
    with pytest.warns(FutureWarning, match="parametrizations.weight_norm"):
        utils.weight_norm(nn.Linear(2, 2))
