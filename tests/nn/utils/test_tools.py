"""Fusion, stateless calls and construction without first values."""

import numpy as np
import pytest

import amity
from amity import nn
from amity.nn.utils.stateless import functional_call

utils = nn.utils


def array(t):
    return t.detach().numpy()


def trained(norm, *shape):
    """A norm with statistics and weights that are not the first ones."""
    norm(amity.empty(*shape).normal_(1, 2))
    for p in norm.parameters():
        nn.init.uniform_(p, 0.5, 1.5)
    return norm.eval()


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("is_affine", [True, False])
def test_conv_and_norm_fuse(has_bias, is_affine):
    conv = nn.Conv2d(3, 4, 2, bias=has_bias).eval()
    norm = trained(nn.BatchNorm2d(4, affine=is_affine), 8, 4, 3, 3)
    x = amity.empty(2, 3, 5, 5).normal_(0, 1)
    fused = utils.fuse_conv_bn_eval(conv, norm)
    assert fused is not conv and isinstance(fused.bias, nn.Parameter)
    np.testing.assert_allclose(array(fused(x)), array(norm(conv(x))), rtol=1e-4, atol=1e-5)


def test_transposed_conv_and_norm_fuse():
    conv, norm = nn.ConvTranspose2d(3, 4, 2).eval(), trained(nn.BatchNorm2d(4), 8, 4, 3, 3)
    x = amity.empty(2, 3, 5, 5).normal_(0, 1)
    fused = utils.fuse_conv_bn_eval(conv, norm, transpose=True)
    np.testing.assert_allclose(array(fused(x)), array(norm(conv(x))), rtol=1e-4, atol=1e-5)


def test_linear_and_norm_fuse():
    linear, norm = nn.Linear(3, 4).eval(), trained(nn.BatchNorm1d(4), 8, 4)
    x = amity.empty(5, 3).normal_(0, 1)
    fused = utils.fuse_linear_bn_eval(linear, norm)
    np.testing.assert_allclose(array(fused(x)), array(norm(linear(x))), rtol=1e-4, atol=1e-5)


def test_fusion_errors():
    with pytest.raises(AssertionError, match="Fusion only for eval"):
        utils.fuse_conv_bn_eval(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))
    with pytest.raises(AssertionError, match="running_mean"):
        norm = nn.BatchNorm2d(4, track_running_stats=False).eval()
        utils.fuse_conv_bn_eval(nn.Conv2d(3, 4, 2).eval(), norm)
    with pytest.raises(AssertionError, match="num_features"):
        utils.fuse_linear_bn_eval(nn.Linear(3, 4).eval(), nn.BatchNorm1d(3).eval())


class TestFunctionalCall:
    def test_uses_the_given_tensors_and_keeps_its_own(self):
        m = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1)).eval()
        own = m[0].weight
        weight = amity.ones(1, 2, requires_grad=True)
        given = {"0.weight": weight, "0.bias": amity.zeros(1)}
        out = functional_call(m, [given, {"1.running_mean": amity.ones(1)}], amity.ones(1, 2))
        assert out.item() == pytest.approx(1, rel=1e-4)
        out.sum().backward()
        assert weight.grad is not None and m[0].weight is own and own.grad is None

    def test_restores_after_an_error(self):
        m = nn.Linear(2, 1)
        own = m.weight
        with pytest.raises(RuntimeError):
            functional_call(m, {"weight": amity.ones(1, 5)}, (amity.ones(1, 2),))
        assert m.weight is own

    def test_tied_weights(self):
        m = nn.ModuleList([nn.Linear(2, 2, bias=False)])
        m.append(m[0])
        m.forward = lambda x: m[1](x)
        given = {"0.weight": amity.zeros(2, 2)}
        assert not array(functional_call(m, given, amity.ones(1, 2))).any()
        both = {"0.weight": amity.zeros(2, 2), "1.weight": amity.ones(2, 2)}
        with pytest.raises(ValueError, match="multiple values for keys"):
            functional_call(m, both, amity.ones(1, 2))

    def test_wrong_names(self):
        m, x = nn.Linear(2, 1), amity.ones(1, 2)
        with pytest.raises(RuntimeError, match=r"Unexpected key\(s\): other"):
            functional_call(m, {"other": x}, x)
        with pytest.raises(RuntimeError, match=r"Missing key\(s\): bias"):
            functional_call(m, {"weight": x}, x, strict=True)
        with pytest.raises(ValueError, match="weight appeared in multiple"):
            functional_call(m, ({"weight": x}, {"weight": x}), x)


def test_skip_init():
    m = utils.skip_init(nn.Linear, 3, 2, bias=False)
    assert tuple(m.weight.shape) == (2, 3) and m.weight.device.type == "cpu" and m.bias is None
    with pytest.raises(RuntimeError, match="Expected a Module"):
        utils.skip_init(int)
    with pytest.raises(RuntimeError, match="'device' arg"):
        utils.skip_init(nn.ReLU)
