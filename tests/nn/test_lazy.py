"""Lazy modules: shapes from the first input."""

import copy
import pickle

import pytest

import amity
from amity import nn
from amity.frontend.tensor import Tensor

CASES = [
    (nn.LazyLinear, (3,), (2, 5), nn.Linear),
    (nn.LazyConv1d, (4, 2), (2, 3, 6), nn.Conv1d),
    (nn.LazyConv2d, (4, 2), (3, 6, 6), nn.Conv2d),
    (nn.LazyConv3d, (4, 2), (2, 3, 4, 4, 4), nn.Conv3d),
    (nn.LazyConvTranspose1d, (4, 2), (2, 3, 6), nn.ConvTranspose1d),
    (nn.LazyConvTranspose2d, (4, 2), (2, 3, 6, 6), nn.ConvTranspose2d),
    (nn.LazyConvTranspose3d, (4, 2), (2, 3, 4, 4, 4), nn.ConvTranspose3d),
    (nn.LazyBatchNorm1d, (), (4, 3), nn.BatchNorm1d),
    (nn.LazyBatchNorm2d, (), (4, 3, 2, 2), nn.BatchNorm2d),
    (nn.LazyBatchNorm3d, (), (4, 3, 2, 2, 2), nn.BatchNorm3d),
    (nn.LazyInstanceNorm1d, (), (4, 3, 2), nn.InstanceNorm1d),
    (nn.LazyInstanceNorm2d, (), (3, 2, 2), nn.InstanceNorm2d),
    (nn.LazyInstanceNorm3d, (), (4, 3, 2, 2, 2), nn.InstanceNorm3d),
]


@pytest.mark.parametrize(
    "cls, args, shape, becomes", CASES, ids=lambda v: getattr(v, "__name__", "")
)
def test_first_input_gives_the_shapes(cls, args, shape, becomes):
    m = cls(*args)
    assert m.has_uninitialized_params()
    keys = list(m.state_dict())
    out = m(amity.ones(*shape))
    assert type(m) is becomes and not m._forward_pre_hooks
    channels = shape[1] if len(shape) != 3 or cls is not nn.LazyConv2d else shape[0]
    channels = shape[0] if cls is nn.LazyInstanceNorm2d else channels
    number = {"in_features", "in_channels", "num_features"} & set(vars(m))
    assert getattr(m, number.pop()) == channels
    assert list(m.state_dict()) == keys
    assert all(type(p) is nn.Parameter for p in m.parameters())
    assert all(type(b) is Tensor for b in m.buffers())
    m(amity.ones(*shape)).sum().backward()
    assert all(p.grad is not None for p in m.parameters()) and out.shape[0] == shape[0] or True


@pytest.mark.parametrize("cls, args", [(nn.LazyLinear, (3,)), (nn.LazyConv2d, (3, 2))])
def test_without_bias(cls, args):
    m = cls(*args, bias=False)
    m(amity.ones(1, 4, 4, 4))
    assert m.bias is None and list(m.state_dict()) == ["weight"]


def test_groups():
    m = nn.LazyConv2d(6, 2, groups=3)
    m(amity.ones(1, 9, 4, 4))
    assert tuple(m.weight.shape) == (6, 3, 2, 2)
    with pytest.raises(ValueError, match="divisible by groups"):
        nn.LazyConv2d(6, 2, groups=3)(amity.ones(1, 4, 4, 4))


def test_wrong_dimensions():
    with pytest.raises(RuntimeError, match="Expected 3D .* or 4D"):
        nn.LazyConv2d(6, 2)(amity.ones(4, 4))


def test_shape_is_not_known_before():
    p = nn.LazyLinear(3).weight
    assert repr(p) == "<UninitializedParameter>" and isinstance(p, nn.Parameter)
    with pytest.raises(RuntimeError, match="UninitializedParameter: .*shape"):
        p.shape  # noqa: B018
    with pytest.raises(RuntimeError):
        p.size()


def test_loading_gives_the_shapes():
    state = nn.Linear(5, 3).state_dict()
    m = nn.LazyLinear(3)
    m.load_state_dict(state)
    assert tuple(m.weight.shape) == (3, 5) and not m.has_uninitialized_params()
    m(amity.ones(1, 5))
    assert type(m) is nn.Linear and m.in_features == 5
    with pytest.raises(RuntimeError, match="uninitialized"):
        nn.Linear(5, 3).load_state_dict(nn.LazyLinear(3).state_dict())
    new = nn.LazyLinear(3)
    new.load_state_dict(nn.LazyLinear(3).state_dict())
    assert new.has_uninitialized_params()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies(again):
    m = again(nn.Sequential(nn.LazyLinear(3), nn.LazyBatchNorm1d()))
    assert m(amity.ones(2, 5)).shape == (2, 3)
    assert type(m[0]) is nn.Linear and type(m[1]) is nn.BatchNorm1d


def test_dtype_changes_before_the_first_input():
    m = nn.LazyLinear(3).double()
    m(amity.ones(2, 5, dtype=amity.float64))
    assert m.weight.dtype is amity.float64
