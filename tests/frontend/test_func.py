"""`amity.func` against `torch.func`: each transform, and each inside of each other one."""

from collections import OrderedDict, namedtuple

import pytest

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import amity  # noqa: E402
from amity import func, nn  # noqa: E402

from ..ops.compare import BUILTIN, match  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop.*aten"),
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
X = "float64[3,2]"


def compiled(m, f):
    return amity.compile(f) if m is amity else f


def linear(m, f, x):
    """PyTorch traces for this: jvp is what it means."""
    return func.linearize(f, x)[1] if m is amity else lambda v: torch.func.jvp(f, (x,), (v,))[1]


def pulled(y, pull):
    return pull(y.cos())[0]


# Each makes a function of one tensor to one tensor from another.
TRANSFORMS = {
    "grad": lambda m, f: m.func.grad(lambda x: (f(x) * f(x)).sum()),
    "value": lambda m, f: lambda x: m.func.grad_and_value(lambda x: f(x).sum())(x)[1] * x,
    "vjp": lambda m, f: lambda x: pulled(*m.func.vjp(f, x)),
    "jvp": lambda m, f: lambda x: m.func.jvp(f, (x,), (x.cos(),))[1],
    "linearize": lambda m, f: lambda x: linear(m, f, x)(x.cos()),
    "jacrev": lambda m, f: m.func.jacrev(f),
    "jacfwd": lambda m, f: m.func.jacfwd(f),
    "hessian": lambda m, f: m.func.hessian(lambda x: f(x).sum()),
    "vmap": lambda m, f: m.vmap(f),
    "compile": compiled,
}  # fmt: skip


def wave(x):
    return (x * x).sin() * x.sum() + x.exp().prod()


@pytest.mark.parametrize("inner", TRANSFORMS)
@pytest.mark.parametrize("outer", TRANSFORMS)
def test_pairs(outer, inner):
    def call(m, x):
        return TRANSFORMS[outer](m, TRANSFORMS[inner](m, wave))(x)

    match(call, order=1 if outer in ("grad", "vmap", "jacfwd") else 0, x=X, tolerance=1e-8)


@pytest.mark.parametrize("middle", TRANSFORMS)
def test_threes(middle):
    for outer, inner in (("vmap", "grad"), ("jacrev", "vmap"), ("grad", "jvp")):
        names = (outer, middle, inner)

        def call(m, x, names=names):
            f = wave
            for name in reversed(names):
                f = TRANSFORMS[name](m, f)
            return f(x)

        match(call, x=X, tolerance=1e-8)


SMOOTH = [
    lambda m, F, x: m.softmax(x, -1),
    lambda m, F, x: F.layer_norm(x, (2,)),
    lambda m, F, x: m.logsumexp(x, 0),
    lambda m, F, x: m.cumsum(x, 0) @ x.mT,
    lambda m, F, x: F.gelu(x).cumprod(0),
    lambda m, F, x: m.linalg.inv(x.mT @ x),
    lambda m, F, x: m.sort(x, 0)[0] * x[[2, 0, 0]],
    lambda m, F, x: F.conv1d(x[None], x.mT[:, :, None][:, :3], padding=0),
    lambda m, F, x: x.norm(dim=1) + m.where(x > 0, x, x * x).amax(1),
    lambda m, F, x: F.cross_entropy(x, m.tensor([1, 0, 1]), reduction="none"),
]


@pytest.mark.parametrize("k", range(len(SMOOTH)))
@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "jvp", "hessian", "vjp"])
def test_functions(name, k):
    def call(m, x):
        F = torch.nn.functional if m is torch else nn.functional
        return TRANSFORMS[name](m, lambda x: SMOOTH[k](m, F, x))(x)

    match(call, x=X, tolerance=1e-8)


Point = namedtuple("Point", "a b")

NESTS = {
    "argnums": lambda m, x, y: m.func.grad(lambda a, b: (a * b).sum(), (1, 0))(x, y),
    "argnum -1": lambda m, x, y: m.func.grad(lambda a, b: (a * b * b).sum(), -1)(x, y),
    "dict": lambda m, x, y: list(
        m.func.grad(lambda d: (d["a"] * d["b"][0]).sum())({"a": x, "b": [y]}).values()
    ),
    "named": lambda m, x, y: m.func.grad(lambda p: (p.a * p.b).sum())(Point(x, y)).b,
    "ordered": lambda m, x, y: list(
        m.func.grad(lambda d: (d["q"] * d["p"]).sum())(OrderedDict(q=x, p=y)).values()
    ),
    "aux": lambda m, x, y: m.func.grad(lambda a: ((a * a).sum(), a + 1), has_aux=True)(x),
    "aux and value": lambda m, x, y: m.func.grad_and_value(
        lambda a: ((a * a).sum(), {"k": [a + 1, a.sum()]}), has_aux=True
    )(x)[1][1]["k"],
    "vjp of many": lambda m, x, y: m.func.vjp(lambda a, b: (a * b, b.sum()), x, y)[1]((y, y.sum())),
    "vjp aux": lambda m, x, y: m.func.vjp(lambda a: (a * a, a + 2), x, has_aux=True)[2],
    "vjp of one": lambda m, x, y: m.func.vjp(lambda a: {"k": a.sin()}, x)[1]({"k": y}),
    "vjp unused": lambda m, x, y: m.func.vjp(lambda a, b: a.sin(), x, y)[1](y),
    "jvp of many": lambda m, x, y: m.func.jvp(lambda a, b: (a * b, a.sum()), (x, y), (y, x)),
    "jvp nest": lambda m, x, y: m.func.jvp(
        lambda d: {"r": d["a"] * d["b"]}, ({"a": x, "b": y},), ({"a": y, "b": x},)
    )[1]["r"],
    "jvp constant": lambda m, x, y: m.func.jvp(lambda a: (a * 2, y), (x,), (y,)),
    "jvp aux": lambda m, x, y: m.func.jvp(lambda a: (a * a, a.sum()), (x,), (y,), has_aux=True),
    "jacrev of many": lambda m, x, y: m.func.jacrev(lambda a, b: (a * b.sum(), b.sum()), (0, 1))(x, y),
    "jacfwd of many": lambda m, x, y: m.func.jacfwd(lambda a, b: (a * b.sum(), b.sum()), (0, 1))(x, y),
    "jacrev aux": lambda m, x, y: m.func.jacrev(lambda a: (a * a, a.sum()), has_aux=True)(x),
    "jacfwd aux": lambda m, x, y: m.func.jacfwd(lambda a: (a * a, a.sum()), has_aux=True)(x),
    "jacrev dict": lambda m, x, y: list(
        m.func.jacrev(lambda d: d["a"].sin() * d["b"].sum())({"a": x, "b": y}).values()
    ),
    "jacrev chunks": lambda m, x, y: m.func.jacrev(lambda a: a.sin() * a.sum(), chunk_size=4)(x),
    "hessian of two": lambda m, x, y: m.func.hessian(lambda a, b: (a * a * b).sum(), (0, 1))(x, y),
    "closure": lambda m, x, y: m.func.grad(lambda a: (a * m.func.grad(lambda b: (b * a * b).sum())(y)).sum())(x),
    "no confusion": lambda m, x, y: m.func.grad(
        lambda a: a * m.func.grad(lambda b: a + b)(x.sum() * 0 + 1)
    )(x.sum()),
    "integers beside": lambda m, x, y: m.func.grad(lambda a, n: (a * n["k"]).sum())(x, {"k": 3}),
    "linearize of two": lambda m, x, y: m.func.jvp(lambda a, b: (a * b).sin(), (x, y), (y, x))[1]
    if m is torch
    else m.func.linearize(lambda a, b: (a * b).sin(), x, y)[1](y, x),
    "softmax scalar": lambda m, x, y: m.func.jacrev(m.func.grad(lambda a: a.exp()))(x.sum()),
    "constant": lambda m, x, y: m.func.jacfwd(lambda a: y)(x),
    "empty": lambda m, x, y: m.func.grad(lambda a: a.sum())(x[:0]),
}  # fmt: skip


@pytest.mark.parametrize("name", NESTS)
def test_nests(name):
    match(NESTS[name], order=1, x=X, y=X, tolerance=1e-8)
    match(NESTS[name], order=0, x=X, y=X, tolerance=1e-8)


ERRORS = {
    "vector": lambda m, x: m.func.grad(lambda a: a)(x),
    "number": lambda m, x: m.func.grad(lambda a: 2.0)(x),
    "no aux": lambda m, x: m.func.grad(lambda a: a.sum(), has_aux=True)(x),
    "argnum": lambda m, x: m.func.grad(lambda a: a.sum(), 1)(x),
    "argnums": lambda m, x: m.func.grad(lambda a: a.sum(), (0, 0))(x),
    "argnum of another kind": lambda m, x: m.func.grad(lambda a: a.sum(), "a")(x),
    "integers": lambda m, x: m.func.grad(lambda a: a.sum())(x.long()),
    "no tensor": lambda m, x: m.func.grad(lambda a: a)(2.0),
    "cotangents": lambda m, x: m.func.vjp(lambda a: (a, a), x)[1](x),
    "cotangent's shape": lambda m, x: m.func.vjp(lambda a: a, x)[1](x[0]),
    "primals": lambda m, x: m.func.jvp(lambda a: a, x, x),
    "tangents": lambda m, x: m.func.jvp(lambda a: a, (x,), (x, x)),
    "no primals": lambda m, x: m.func.jvp(lambda: x, (), ()),
    "strict": lambda m, x: m.func.jvp(lambda a: x * 2, (x,), (x,), strict=True),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    match(ERRORS[name], x=X)
    with pytest.raises(BUILTIN):
        ERRORS[name](amity, amity.ones(3, 2))


def test_modes():
    x = amity.rand(3)
    with amity.no_grad():
        g = func.grad(lambda a: (a**3).sum())(x)
    assert g.tolist() == pytest.approx((3 * x * x).tolist()) and not g.requires_grad

    def outer(a):
        with amity.no_grad():
            slope = func.grad(lambda b: (b**3).sum())(a)
        return (a * slope).sum()

    assert func.grad(outer)(x).tolist() == pytest.approx((3 * x * x).tolist())

    def cut(a):
        with amity.no_grad():
            part = a * a
        return (a * part).sum()

    assert func.grad(cut)(x).tolist() == pytest.approx((x * x).tolist())
    assert func.grad(lambda a: (a.detach() * a).sum())(x).tolist() == x.tolist()


def test_results_ask_for_gradients_only_where_others_do():
    x, w = amity.rand(3), amity.rand(3, requires_grad=True)
    slope, value = func.grad_and_value(lambda a: (a * a).sum())(x)
    assert not slope.requires_grad and not value.requires_grad and x.grad is None
    slope, value = func.grad_and_value(lambda a: (a * a * w).sum())(x)
    assert slope.requires_grad and value.requires_grad
    slope.sum().backward()
    assert w.grad.tolist() == pytest.approx((2 * x).tolist())
    y, pull = func.vjp(lambda a: a * 2, x)
    assert not y.requires_grad and not pull(x)[0].requires_grad
    assert not func.jacrev(lambda a: a * a)(x).requires_grad
    assert not func.jvp(lambda a: a * a, (x,), (x,))[1].requires_grad
    assert amity.vmap(func.grad(lambda a: a * a * w.sum()))(x).requires_grad


def test_gradients_of_each_sample():
    amity.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.GroupNorm(3, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(27, 4),
    )
    x, y = amity.randn(5, 1, 8, 8), amity.tensor([0, 3, 1, 2, 2])
    parameters = {k: v.detach() for k, v in net.named_parameters()}

    def loss(p, a, b):
        return nn.functional.cross_entropy(func.functional_call(net, p, (a[None],)), b[None])

    def each(p, a, b):
        return amity.vmap(func.grad(loss), (None, 0, 0))(p, a, b)

    for got in (each(parameters, x, y), amity.compile(each)(parameters, x, y)):
        for i in range(5):
            net.zero_grad()
            nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
            for name, p in net.named_parameters():
                np.testing.assert_allclose(
                    got[name][i].numpy(), p.grad.numpy(), rtol=1e-4, atol=1e-5
                )


def test_several_models_at_once():
    nets = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()).eval() for _ in range(3)]
    x = amity.randn(6, 3)
    parameters, buffers = func.stack_module_state(nets)
    assert parameters["0.weight"].shape == (3, 4, 3) and parameters["0.weight"].requires_grad
    assert set(buffers) == {"1.running_mean", "1.running_var", "1.num_batches_tracked"}

    def one(p, b, a):
        return func.functional_call(nets[0], (p, b), (a,))

    got = amity.vmap(one, (0, 0, None))(parameters, buffers, x)
    expected = amity.stack([net(x) for net in nets])
    np.testing.assert_allclose(
        got.detach().numpy(), expected.detach().numpy(), rtol=1e-5, atol=1e-6
    )
    with pytest.raises(RuntimeError, match="at least one"):
        func.stack_module_state([])
    with pytest.raises(RuntimeError, match="same training/eval mode"):
        func.stack_module_state([nets[0], nn.Linear(2, 2)])


def test_custom_functions():
    class Cube(amity.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * x * x * g

    x = amity.rand(4, dtype=amity.float64)
    slopes = amity.vmap(func.grad(Cube.apply))(x)
    assert slopes.tolist() == pytest.approx((3 * x * x).tolist())
    assert func.hessian(lambda a: Cube.apply(a).sum())(x).diagonal().tolist() == pytest.approx(
        (6 * x).tolist()
    )


def test_batched_gradients_of_the_tape():
    x = amity.rand(3, 2, dtype=amity.float64, requires_grad=True)
    rows = amity.eye(6, dtype=x.dtype).reshape(6, 3, 2)
    (got,) = amity.autograd.grad(x.sin() * x.sum(), x, rows, is_grads_batched=True)
    expected = func.jacrev(lambda a: a.sin() * a.sum())(x.detach()).reshape(6, 3, 2)
    np.testing.assert_allclose(got.numpy(), expected.numpy())
