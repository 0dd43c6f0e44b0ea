"""Parametrizations: the mechanism, and the ready ones against PyTorch."""

import copy
import pickle

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402
from amity.nn.utils import parametrizations, parametrize  # noqa: E402

theirs = torch.nn.utils.parametrizations


def array(t):
    return t.detach().numpy()


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)

    def right_inverse(self, a):
        return a.triu()


class Double(nn.Module):
    def forward(self, x):
        return 2 * x

    def right_inverse(self, a):
        return a / 2


class Product(nn.Module):
    def forward(self, x, y):
        return x * y

    def right_inverse(self, a):
        return a, amity.ones_like(a)


class OneWay(nn.Module):
    def forward(self, x):
        return x + 1


class TestMechanism:
    def test_computes_and_keeps_the_original(self):
        m = nn.Linear(3, 3)
        before = array(m.weight).copy()
        assert parametrize.register_parametrization(m, "weight", Symmetric()) is m
        w = array(m.weight)
        np.testing.assert_array_equal(w, np.triu(before) + np.triu(before, 1).T)
        assert type(m).__name__ == "ParametrizedLinear" and isinstance(m, nn.Linear)
        assert list(m.state_dict()) == ["bias", "parametrizations.weight.original"]
        m(amity.ones(1, 3)).sum().backward()
        assert m.parametrizations.weight.original.grad is not None
        assert "weight" not in dict(m.named_parameters())

    def test_assignment_goes_through_the_inverse(self):
        m = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
        m.weight = amity.full((2, 2), 6.0)
        assert np.all(array(m.parametrizations.weight.original) == 3)
        assert np.all(array(m.weight) == 6)
        one_way = parametrize.register_parametrization(nn.Linear(2, 2), "weight", OneWay())
        with pytest.raises(RuntimeError, match="does not implement right_inverse"):
            one_way.weight = amity.ones(2, 2)

    def test_chains(self):
        m = nn.Linear(2, 2)
        m.weight.data.fill_(1)
        parametrize.register_parametrization(m, "weight", OneWay())
        parametrize.register_parametrization(m, "weight", Double())
        assert np.all(array(m.weight) == 4) and len(m.parametrizations.weight) == 2

    def test_several_originals(self):
        m = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Product())
        chain = m.parametrizations.weight
        assert chain.ntensors == 2 and not chain.is_tensor
        assert list(m.state_dict())[1:] == [f"parametrizations.weight.original{i}" for i in (0, 1)]
        m.weight = amity.full((2, 2), 5.0)
        assert np.all(array(chain.original0) == 5) and chain.original1.requires_grad

    def test_buffers(self):
        m = nn.BatchNorm1d(2)
        parametrize.register_parametrization(m, "running_mean", OneWay())
        assert m.running_mean.tolist() == [1, 1]
        assert "running_mean" not in m._buffers

    def test_cached(self):
        m = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
        assert m.weight is not m.weight
        with parametrize.cached():
            with parametrize.cached():
                first = m.weight
            assert m.weight is first
        assert m.weight is not first

    def test_removal(self):
        m = nn.Linear(2, 2)
        weight, before = m.weight, array(m.weight).copy()
        parametrize.register_parametrization(m, "weight", OneWay())
        parametrize.register_parametrization(m, "bias", Double())
        parametrize.remove_parametrizations(m, "bias")
        assert parametrize.is_parametrized(m, "weight") and type(m) is not nn.Linear
        assert parametrize.type_before_parametrizations(m) is nn.Linear
        parametrize.remove_parametrizations(m, "weight")
        assert type(m) is nn.Linear and m.weight is weight and not hasattr(m, "parametrizations")
        np.testing.assert_allclose(array(m.weight), before + 1)
        parametrize.register_parametrization(m, "weight", OneWay())
        parametrize.remove_parametrizations(m, "weight", leave_parametrized=False)
        np.testing.assert_allclose(array(m.weight), before + 1)
        parametrize.register_parametrization(m, "weight", Product())
        with pytest.raises(ValueError, match="sequence of tensors"):
            parametrize.remove_parametrizations(m, "weight", leave_parametrized=False)
        parametrize.remove_parametrizations(m, "weight")
        assert isinstance(m.weight, nn.Parameter)
        with pytest.raises(ValueError, match="does not have a parametrization"):
            parametrize.remove_parametrizations(m, "weight")

    def test_copies_have_their_own_class(self):
        m = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
        new = copy.deepcopy(m)
        assert type(new) is not type(m) and type(new).__name__ == "ParametrizedLinear"
        np.testing.assert_array_equal(array(new.weight), array(m.weight))
        parametrize.remove_parametrizations(new, "weight")
        assert parametrize.is_parametrized(m) and array(m.weight).shape == (2, 2)
        with pytest.raises(RuntimeError, match="only supported through state_dict"):
            pickle.dumps(m)

    def test_transfer(self):
        m = parametrize.register_parametrization(nn.Linear(2, 2), "weight", Double())
        new = parametrize.transfer_parametrizations_and_params(m, nn.Linear(2, 2))
        np.testing.assert_array_equal(array(new.weight), array(m.weight))
        assert new.parametrizations.weight.original is m.parametrizations.weight.original

    def test_wrong_parametrizations(self):
        class Shape(nn.Module):
            def forward(self, x):
                return x[0]

        class Kind(nn.Module):
            def forward(self, x):
                return x.double()

        class Number(nn.Module):
            def forward(self, x):
                return 3

        class BadInverse(Double):
            def right_inverse(self, a):
                return 3

        class IntInverse(Double):
            def right_inverse(self, a):
                return a.double()

        register = parametrize.register_parametrization
        for bad, text in (
            (Shape(), "may not change the shape"),
            (Kind(), "may not change the dtype"),
            (Number(), "must return a tensor"),
            (BadInverse(), "must return a Tensor or a Sequence"),
            (IntInverse(), "may not change the dtype"),
        ):
            with pytest.raises(ValueError, match=text):
                register(nn.Linear(2, 2), "weight", bad)
        m = register(nn.Linear(2, 2), "weight", Double())
        for bad in (Shape(), Kind(), Number(), BadInverse(), IntInverse()):
            with pytest.raises(ValueError):
                register(m, "weight", bad)
        assert tuple(register(nn.Linear(2, 2), "weight", Shape(), unsafe=True).weight.shape) == (2,)
        with pytest.raises(ValueError, match="does not have a parameter"):
            register(nn.Linear(2, 2), "nothing", Double())
        with pytest.raises(ValueError, match="one or more modules"):
            parametrize.ParametrizationList([], amity.ones(1))


def load(ours, other):
    ours.load_state_dict({k: amity.from_numpy(v.numpy()) for k, v in other.state_dict().items()})


def step(module, x):
    module(x).sum().backward()
    return {k: array(p.grad) for k, p in module.named_parameters()}


LAYERS = [
    ("Linear", (4, 3), (2, 4)),
    ("Conv1d", (2, 3, 2), (1, 2, 5)),
    ("ConvTranspose1d", (2, 3, 2), (1, 2, 5)),
]


def pair(name, args, apply, **options):
    torch.manual_seed(0)
    ours = getattr(parametrizations, apply)(getattr(nn, name)(*args), **options)
    other = getattr(theirs, apply)(getattr(torch.nn, name)(*args), **options)
    assert list(ours.state_dict()) == list(other.state_dict())
    load(ours, other)
    return ours, other


def same_step(ours, other, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    a, b = step(ours, amity.from_numpy(x)), step(other, torch.from_numpy(x))
    np.testing.assert_allclose(array(ours.weight), array(other.weight), rtol=1e-4, atol=1e-5)
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_allclose(a[key], b[key], rtol=1e-3, atol=1e-5, err_msg=key)


@pytest.mark.parametrize("name, args, shape", LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(name, args, shape, dim):
    m = getattr(nn, name)(*args)
    before = array(m.weight).copy()
    np.testing.assert_allclose(array(parametrizations.weight_norm(m, dim=dim).weight), before, 1e-5)
    same_step(*pair(name, args, "weight_norm", dim=dim), shape)


def test_weight_norm_loads_the_older_names():
    m = parametrizations.weight_norm(nn.Linear(2, 3))
    old = {
        "bias": amity.zeros(3),
        "weight_g": amity.full((3, 1), 2.0),
        "weight_v": amity.ones(3, 2),
    }
    m.load_state_dict(old)
    np.testing.assert_allclose(array(m.weight), np.full((3, 2), np.sqrt(2)), rtol=1e-6)


@pytest.mark.parametrize("name, args, shape", LAYERS)
def test_spectral_norm(name, args, shape):
    ours, other = pair(name, args, "spectral_norm", n_power_iterations=2)
    ours.eval()
    other.eval()
    same_step(ours, other, shape)
    ours.zero_grad()
    other.zero_grad()
    ours.train()
    other.train()
    same_step(ours, other, shape)


def test_spectral_norm_converges():
    m = parametrizations.spectral_norm(nn.Linear(5, 4), n_power_iterations=50)
    assert np.linalg.norm(array(m.weight), 2) == pytest.approx(1, rel=1e-4)
    bias = parametrizations.spectral_norm(nn.Linear(5, 4), "bias").bias
    assert np.linalg.norm(array(bias)) == pytest.approx(1, rel=1e-5)
    with pytest.raises(ValueError, match="to be positive"):
        parametrizations.spectral_norm(nn.Linear(2, 2), n_power_iterations=0)
    with pytest.raises(ValueError, match="no parameter or buffer"):
        parametrizations.spectral_norm(nn.Linear(2, 2), "nothing")
    with pytest.raises(IndexError, match="Dimension out of range"):
        parametrizations.spectral_norm(nn.Linear(2, 2), dim=2)


def is_orthogonal(w):
    w = w.astype(np.float64)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    return np.allclose(small, np.eye(len(small)), atol=1e-5)


@pytest.mark.parametrize("kind", [None, "matrix_exp", "cayley", "householder"])
@pytest.mark.parametrize("trivial", [True, False])
@pytest.mark.parametrize("sizes", [(4, 4), (5, 3), (3, 5)])
def test_orthogonal(kind, trivial, sizes):
    options = {"orthogonal_map": kind, "use_trivialization": trivial}
    m = nn.Linear(*sizes)
    m = parametrizations.orthogonal(m, **options)
    assert is_orthogonal(array(m.weight))
    new = nn.init.orthogonal_(amity.empty(*sizes[::-1]))
    if trivial or kind == "householder" or (kind is None and sizes[0] != sizes[1]):
        m.weight = new
        np.testing.assert_allclose(array(m.weight), array(new), atol=1e-5)
    else:
        with pytest.raises(NotImplementedError):
            m.weight = new
    torch.manual_seed(0)
    other = theirs.orthogonal(torch.nn.Linear(*sizes), **options)
    load(m, other)
    original = next(v for k, v in other.named_parameters() if k.endswith("original"))
    noise = np.random.default_rng(1).standard_normal(tuple(original.shape)).astype(np.float32)
    np.fill_diagonal(noise, 0)  # where the signs stand, which PyTorch rounds towards 0
    for module, make in ((m, amity.from_numpy), (other, torch.from_numpy)):
        tensor = module.parametrizations.weight.original
        tensor.data = tensor.data + make(0.3 * noise)
    same_step(m, other, (2, sizes[0]))
    assert is_orthogonal(array(m.weight))


def test_orthogonal_errors():
    with pytest.raises(ValueError, match="Expected a matrix"):
        parametrizations.orthogonal(nn.Linear(2, 2), "bias")
    with pytest.raises(ValueError, match="orthogonal_map='qr'"):
        parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="qr")
    with pytest.raises(ValueError, match="no parameter or buffer"):
        parametrizations.orthogonal(nn.Linear(2, 2), "nothing")
    m = parametrizations.orthogonal(nn.Linear(2, 2))
    with pytest.raises(ValueError, match=r"of shape \(2, 2\)"):
        m.weight = amity.ones(3, 3)
