"""Autocast against PyTorch's on a processor: the dtype of every op, gradients, training, nesting."""

from __future__ import annotations

import threading
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity.frontend import casting  # noqa: E402
from tests.ops.compare import array_of, cases, of_amity, of_torch, to_array  # noqa: E402

# Letters: m, n matrices; s, t their rows; v, w images; b bfloat16, h float16, d float64 of m;
# i integers; k classes; r reals between 0 and 1; u bfloat16 and 1.
DTYPES = """
mm(m, n) ; m @ n ; m.matmul(n) ; m @ s ; s @ m ; s @ t ; mv(m, s) ; dot(s, t) ; vdot(s, t)
addmm(m, m, n) ; addmv(s, m, t) ; addr(m, s, t) ; outer(s, t) ; inner(m, n) ; kron(m, n)
bmm(c, c) ; baddbmm(c, c, c) ; addbmm(m, c, c) ; linalg.vecdot(m, n) ; linalg.multi_dot([m, n, m])
chain_matmul(m, n, m) ; linalg.matrix_power(m, 3) ; matrix_exp(m)
affine_grid(c[:, :2, :3], (4, 1, 2, 2)) ; cov(m) ; corrcoef(m) ; vander(s)
linalg.vander(s) ; det(m) ; linalg.slogdet(m)[1] ; cosine_similarity(m, n)
einsum('ij,jk->ik', m, n) ; einsum('ii', m) ; einsum('ij->j', b) ; tensordot(m, n, 1)
linear(m, n) ; linear(m, n, s) ; bilinear(m, n, c) ; prelu(m, s) ; prelu(b, s)
conv1d(c, c) ; conv2d(v, v) ; conv3d(v[None], v[None]) ; conv2d(v, v, padding='same')
conv_transpose1d(c, c) ; conv_transpose2d(v, v) ; conv_transpose3d(v[None], v[:, None])
scaled_dot_product_attention(c, c, c) ; scaled_dot_product_attention(c, c, c, attn_mask=m)
scaled_dot_product_attention(c, c, c, is_causal=True)
m @ b ; b @ b ; d @ d ; i @ i ; h @ h ; h @ m ; linear(h, b)
lstm_cell(m, (m, m), c.reshape(16, 4), c.reshape(16, 4))[0]
gru_cell(m, m, c[:3].reshape(12, 4), c[:3].reshape(12, 4)) ; rnn_tanh_cell(m, m, m, m)
prod(b, 0) ; b.prod() ; trace(b) ; b.quantile(0.5) ; nanquantile(b, 0.5) ; cdist(b, m) ; pdist(m)
mse_loss(b, m) ; l1_loss(b, b) ; smooth_l1_loss(b, b) ; huber_loss(b, b) ; kl_div(b, r)
cross_entropy(b, k) ; nll_loss(b, k) ; poisson_nll_loss(b, b) ; soft_margin_loss(b, b)
binary_cross_entropy(r, r) ; binary_cross_entropy_with_logits(b, b) ; gaussian_nll_loss(b, b, r)
cosine_embedding_loss(b, b, u) ; hinge_embedding_loss(b, b) ; margin_ranking_loss(b, b, b)
triplet_margin_loss(b, b, b) ; multi_margin_loss(b, k) ; multilabel_margin_loss(b, i)
multilabel_soft_margin_loss(b, b) ; mse_loss(h, h) ; mse_loss(d, d) ; mse_loss(b, d)
ctc_loss(c, i + 1, 4 + k * 0, 1 + k * 0)
avg_pool3d(x[None], 2) ; max_pool3d(x[None], 2) ; adaptive_avg_pool3d(x[None], 2)
max_pool3d(x[None], 2, return_indices=True)[0] ; adaptive_max_pool3d(x[None], 2)
avg_pool2d(x, 2) ; max_pool2d(x, 2) ; adaptive_avg_pool2d(x, 2) ; grid_sample(x, y)
pad(x, (1, 1, 1, 1), mode='reflect') ; pad(x, (1, 1, 1, 1), 'replicate')
pad(x, (1, 1, 1, 1), mode='circular') ; pad(c, (1, 1), 'reflect') ; pad(m, (1, 1), 'constant')
pad(x, (1, 1)) ; interpolate(x, scale_factor=2) ; max_unpool2d(x, j, 2)
fractional_max_pool2d(x, 2, 3) ; fractional_max_pool3d(x[None], 2, 2)
inverse(p) ; cholesky(p) ; pinverse(p) ; svd(p)[0] ; qr(p)[0] ; linalg.inv(p) ; linalg.svdvals(p)
linalg.cholesky(p) ; linalg.eigh(p)[0] ; linalg.solve(p, p) ; linalg.qr(p)[0] ; linalg.cond(p)
linalg.matrix_rank(p) ; linalg.eigvalsh(p) ; linalg.lstsq(p, p)[0] ; linalg.tensorinv(p, ind=1)
linalg.tensorsolve(p, s) ; linalg.svd(p)[1] ; linalg.inv_ex(p)[0] ; linalg.cholesky_ex(p)[0]
cholesky_solve(p, p) ; cholesky_inverse(p) ; triangular_solve(p, p)[0]
linalg.householder_product(p, s)
cat([b, m]) ; cat([b, b]) ; cat([d, b]) ; cat([i, b]) ; stack([b, m]) ; hstack([b, m])
m.index_copy(0, i[0, :1], b[:1])  ; cat((m, m), dim=1)
m + b ; m * n ; b.sum() ; m.softmax(0) ; b.softmax(0) ; layer_norm(b, (4,)) ; b.exp() ; m.norm()
gelu(b) ; b.mean() ; cumsum(b, 0) ; where(m > 0, m, b) ; embedding(k, m) ; b.log_softmax(0)
layer_norm(b, (4,), s, t) ; rms_norm(b, (4,), s) ; group_norm(x, 2, s, t)
instance_norm(x, weight=s, bias=t) ; batch_norm(x, t.clone(), s.clone(), s, t, True)
batch_norm(x, s, s) ; group_norm(x, 2) ; b.var() ; median(b) ; b.cumprod(0) ; m.exp() ; b.pow(2)
b.copy_(m) ; m.clone().addmm_(m, n) ; m.clone().add_(b) ; clone(c).baddbmm_(c, c)
mm(m, n, out=zeros(4, 4)) ; cat([m, n], out=zeros(8, 4)) ; m.clone().index_copy_(0, i[0, :1], m[:1])
"""


class Space(dict):
    """Inputs, the functions of neural networks, then the module's."""

    def __init__(self, lib):
        super().__init__(inputs(lib))
        self.lib = lib

    def __missing__(self, name):
        functional = self.lib.nn.functional
        return getattr(functional if hasattr(functional, name) else self.lib, name)


def inputs(lib):
    kinds = {"m": "float32[4,4]", "n": "float32[4,4]", "s": "float32[4]|p", "t": "float32[4]",
             "c": "float32[4,4,4]", "v": "float32[4,4,3,3]", "x": "float32[4,4,4,4]"}  # fmt: skip
    of = of_torch if lib is torch else of_amity
    given = {n: of(array_of(kind, n), False) for n, kind in kinds.items()}
    m = given["m"]
    given |= {"b": m.to(lib.bfloat16), "h": m.to(lib.float16), "d": m.to(lib.float64)}
    given["p"] = (m @ m.T + 9 * lib.eye(4)).to(lib.bfloat16)
    given["r"], given["u"] = m.sigmoid().to(lib.bfloat16), lib.ones(4).to(lib.bfloat16)
    given["i"] = lib.tensor([[1, 0, 2, 3]] * 4)
    given["k"] = lib.tensor([1, 0, 3, 2])
    given["x"] = given["x"].to(lib.bfloat16)
    given["y"] = lib.zeros(4, 3, 3, 2).to(lib.bfloat16)
    given["j"] = lib.arange(16).reshape(1, 1, 4, 4).expand(4, 4, 4, 4)
    return given


def outcome(lib, expression):
    with lib.autocast("cpu", dtype=lib.bfloat16):
        return eval(expression, {}, Space(lib))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("expression", cases(DTYPES))
def test_the_dtype_and_value_of(expression):
    got, expected = outcome(amity, expression), outcome(torch, expression)
    assert got.dtype.name == str(expected.dtype).split(".")[1]
    value, like = to_array(got), to_array(expected)
    size = 1 + np.abs(np.where(np.isfinite(like), like, 0)).max(initial=0)
    np.testing.assert_allclose(value / size, like / size, atol=0.02)


def test_regions_nest_and_end():
    x = amity.randn(3, 3)
    dtype = lambda: (x @ x).dtype  # noqa: E731
    with amity.autocast("cpu"):
        assert dtype() is amity.bfloat16 and amity.is_autocast_enabled("cpu")
        with amity.autocast("cpu", enabled=False):
            assert dtype() is amity.float32 and not amity.is_autocast_enabled("cpu")
            with amity.autocast("cpu", amity.float16):
                assert dtype() is amity.float16 is amity.get_autocast_dtype("cpu")
        assert dtype() is amity.bfloat16 is amity.get_autocast_dtype("cpu")
        with pytest.raises(ZeroDivisionError), amity.autocast("cpu", enabled=False):
            1 / 0  # noqa: B018
        assert dtype() is amity.bfloat16
        with pytest.raises(RuntimeError, match="3x3 and 2x2"):
            x @ amity.ones(2, 2)
        assert dtype() is amity.bfloat16
    assert dtype() is amity.float32 and not amity.is_autocast_enabled("cpu")
    region = amity.autocast("cpu")
    with region, region:
        assert dtype() is amity.bfloat16
    assert dtype() is amity.float32


def test_functions_are_what_they_were_outside_of_regions():
    functions = [amity.ops.linear, amity.ops.prod, amity.ops.mse_loss, amity.Tensor.addmm_]
    before = [f.__code__ for f in functions]
    with amity.autocast("cpu"):
        assert all(f.__code__ is not c for f, c in zip(functions, before, strict=True))
    assert [f.__code__ for f in functions] == before


def test_decorator():
    @amity.autocast("cpu")
    def product(x, depth=0):
        """What it says."""
        return product(x, depth - 1) if depth else x @ x

    x = amity.ones(2, 2)
    assert product(x, 3).dtype is amity.bfloat16 and (x @ x).dtype is amity.float32
    assert product.__doc__ == "What it says."


def test_threads_have_regions_of_their_own():
    x, seen, go, done = amity.ones(2, 2), {}, threading.Event(), threading.Event()

    def other():
        seen["outside"] = (x @ x).dtype
        with amity.autocast("cpu", amity.float16):
            seen["inside"] = (x @ x).dtype
            go.set()
            done.wait()
            seen["later"] = (x @ x).dtype

    with amity.autocast("cpu"):
        thread = threading.Thread(target=other)
        thread.start()
        go.wait()
        assert (x @ x).dtype is amity.bfloat16
    assert (x @ x).dtype is amity.float32  # though another thread is in a region
    done.set()
    thread.join()
    assert list(seen.values()) == [amity.float32, amity.float16, amity.float16]
    assert (x @ x).dtype is amity.float32 and not casting._threads_on


def test_a_parameter_is_cast_once_and_again_after_a_write():
    x, w = amity.ones(2, 2), amity.ones(2, 2, requires_grad=True)
    with amity.autocast("cpu"):
        a, b = x @ w, x @ w
        assert len(casting.region.kept) == 1
        with amity.no_grad():
            assert not (x @ w).requires_grad
            w.mul_(3)
        assert (x @ w).tolist() == [[6, 6], [6, 6]] and (x @ w).requires_grad
        (a + b).float().sum().backward()
        w.data = amity.zeros(2, 2)
        assert (x @ w).tolist() == [[0, 0], [0, 0]]
    assert not casting.region.kept
    assert w.grad.dtype is amity.float32 and w.grad.tolist() == [[4, 4], [4, 4]]
    with amity.autocast("cpu", cache_enabled=False):
        x @ w
        assert not casting.region.kept and not amity.is_autocast_cache_enabled()


def model_of(lib, seed):
    nn = lib.nn
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(128, 32), nn.LayerNorm(32), nn.GELU(), nn.Linear(32, 5),
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    state = {
        n: lib.tensor(rng.normal(size=tuple(t.shape)).astype(np.float32) * 0.2)
        for n, t in model.named_parameters()
    }
    model.load_state_dict(state, strict=False)
    return model


def training(lib, dtype, wrap=lambda f: f, scaler=None):
    model = model_of(lib, 3)
    optimizer = lib.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(5)
    x = lib.tensor(rng.normal(size=(16, 3, 8, 8)).astype(np.float32))
    y = lib.tensor(rng.integers(0, 5, 16))
    dtypes, losses = set(), []

    def step():
        optimizer.zero_grad()
        with lib.autocast("cpu", dtype=getattr(lib, dtype)):
            out = model(x)
            loss = lib.nn.functional.cross_entropy(out, y)
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        dtypes.update(str(t.dtype).split(".")[1] for t in (out, loss, model[0].weight.grad))
        return loss

    step = wrap(step)
    for _ in range(12):
        losses.append(step().item())
    return losses, dtypes, model


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_training_is_close_to_pytorch(dtype):
    losses, dtypes, _ = training(amity, dtype)
    expected, same, _ = training(torch, dtype)
    assert dtypes == same == {dtype, "float32"}
    assert losses[-1] < 0.8 * losses[0]
    np.testing.assert_allclose(losses, expected, atol=0.05 if dtype == "bfloat16" else 0.01)


def test_compiled_training_is_the_same():
    losses, _, model = training(amity, "bfloat16")
    again, dtypes, other = training(amity, "bfloat16", amity.compile)
    np.testing.assert_allclose(losses, again, atol=0.02)
    assert dtypes == {"bfloat16", "float32"}
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), atol=0.02)


@pytest.mark.filterwarnings("ignore:.*batch_first", "ignore:LSTM with projections")
def test_layers_with_a_state_and_attention():
    for lib in (torch, amity):
        x = lib.ones(2, 3, 4)
        found = []
        for make in (
            lambda nn: nn.RNN(4, 3), lambda nn: nn.GRU(4, 3), lambda nn: nn.GRUCell(4, 3),
            lambda nn: nn.LSTM(4, 3, 2, bidirectional=True), lambda nn: nn.LSTM(4, 3, proj_size=2),
            lambda nn: nn.LSTMCell(4, 3),
            lambda nn: nn.MultiheadAttention(4, 2), lambda nn: nn.TransformerEncoderLayer(4, 2, 8),
        ):  # fmt: skip
            layer = make(lib.nn)
            is_cell, is_attention = "Cell" in str(layer), "Multi" in type(layer).__name__
            with lib.autocast("cpu"):
                y = layer(x, x, x) if is_attention else layer(x[0] if is_cell else x)
            ys = [t for part in y for t in part] if isinstance(y, tuple) else [y]
            sum(t.float().sum() for t in ys).backward()
            found.append({str(t.dtype).split(".")[1] for t in ys})
            assert all(p.grad.dtype == p.dtype for p in layer.parameters())
        if lib is torch:
            expected = found
    assert found == expected


@pytest.mark.parametrize("call", [
    "layer_norm(x, (4,), w, b)", "group_norm(x, 2, w, b)", "instance_norm(x, weight=w, bias=b)",
    "batch_norm(x, None, None, w, b, True)", "rms_norm(x, (4,), w) + b.to(x.dtype)",
])  # fmt: skip
def test_norms_of_16_bits_with_parameters_in_float32(call):
    grads = []
    for lib, of in ((torch, of_torch), (amity, of_amity)):
        kinds = {
            "x": "bfloat16[3,4,4]",
            "w": "float32[4]",
            "b": "float32[4]",
            "g": "float32[3,4,4]",
        }
        given = {n: of(array_of(kind, n), True) for n, kind in kinds.items()}
        y = eval(f"lib.nn.functional.{call}", {"lib": lib}, given)
        (y * given["g"].detach()).sum().backward()
        grads.append([given[n].grad for n in "xwb"])
        assert y.dtype is lib.bfloat16
    for theirs, ours in zip(*grads, strict=True):
        assert ours.dtype.name == str(theirs.dtype).split(".")[1]
        np.testing.assert_allclose(to_array(ours), to_array(theirs), atol=0.05, rtol=0.03)


def test_transforms():
    x, w = amity.ones(3, 4), amity.ones(4, 4, requires_grad=True)
    half = lambda r: w @ r  # noqa: E731
    slope = amity.func.grad(lambda r: (w @ r).float().sum())
    with amity.autocast("cpu"):
        assert amity.vmap(half)(x).dtype is amity.bfloat16
        assert amity.vmap(slope)(x).dtype is amity.func.jacrev(half)(x[0]).dtype is amity.float32
        assert amity.func.jvp(half, (x[0],), (x[0],))[1].dtype is amity.bfloat16


def test_gradients_of_gradients():
    x = amity.tensor(array_of("float32[3,3]", "x")).requires_grad_()
    with amity.autocast("cpu"):
        y = ((x @ x).tanh().float() ** 2).sum()
        (g,) = amity.autograd.grad(y, x, create_graph=True)
        (h,) = amity.autograd.grad((g * g).sum(), x)
    assert g.dtype is h.dtype is amity.float32 and h.isfinite().all()


def custom(lib, cast_inputs):
    seen = []

    class Product(lib.autograd.Function):
        @staticmethod
        @lib.amp.custom_fwd(
            device_type="cpu", cast_inputs=cast_inputs and getattr(lib, cast_inputs)
        )
        def forward(ctx, a, b, names):
            ctx.save_for_backward(a, b)
            y = a @ b
            seen.extend((a.dtype, y.dtype, lib.is_autocast_enabled("cpu")))
            return y

        @staticmethod
        @lib.amp.custom_bwd(device_type="cpu")
        def backward(ctx, g):
            a, b = ctx.saved_tensors
            seen.extend((g.dtype, lib.is_autocast_enabled("cpu"), lib.get_autocast_dtype("cpu")))
            return (g.to(a.dtype) @ b.mT).float(), (a.mT @ g.to(a.dtype)).float(), None

    a, b = lib.ones(2, 2, requires_grad=True), lib.ones(2, 2, requires_grad=True)
    Product.apply(a, b, ["x"]).sum().backward()
    with lib.autocast("cpu"):
        y = Product.apply(a, b, ["x"])
    y.float().sum().backward()
    return [str(s).split(".")[-1] for s in seen], a.grad.tolist()


@pytest.mark.parametrize("cast_inputs", [None, "float32", "float16"])
def test_functions_with_a_derivative_of_their_own(cast_inputs):
    assert custom(amity, cast_inputs) == custom(torch, cast_inputs)


def test_settings():
    for lib in (torch, amity):
        assert not lib.is_autocast_enabled() and not lib.is_autocast_enabled("cuda")
        assert lib.get_autocast_dtype("cpu") is lib.bfloat16
        assert lib.get_autocast_dtype("cuda") is lib.float16
        assert lib.amp.is_autocast_available("cpu") and not lib.amp.is_autocast_available("meta")
        lib.set_autocast_enabled("cpu", True)
        lib.set_autocast_dtype("cpu", lib.float16)
        assert (lib.ones(1, 1) @ lib.ones(1, 1)).dtype is lib.float16
        lib.set_autocast_enabled("cpu", False)
        lib.set_autocast_dtype("cpu", lib.bfloat16)
        assert lib.autocast_increment_nesting() == 1 and lib.autocast_decrement_nesting() == 0
    assert not casting._threads_on


def test_errors_and_warnings():
    for lib in (torch, amity):
        for call, error in (
            (lambda lib: lib.autocast("nowhere"), RuntimeError),
            (lambda lib: lib.autocast("meta"), RuntimeError),
            (lambda lib: lib.autocast(lib.float16), ValueError),
            (lambda lib: lib.autocast("cpu")(3), TypeError),
            (lambda lib: lib.amp.custom_fwd(device_type=3), ValueError),
            (lambda lib: lib.amp.custom_bwd(device_type=3), ValueError),
            (lambda lib: lib.get_autocast_dtype("nowhere"), RuntimeError),
            (lambda lib: outcome(lib, "d @ m"), RuntimeError),
        ):
            with pytest.raises(error):
                call(lib)
        for make, says in (
            (lambda lib: lib.autocast("cuda"), "CUDA is not available"),
            (lambda lib: lib.autocast("cpu", lib.float32), "dtype is not supported. Disabling"),
        ):
            with pytest.warns(UserWarning, match=says):
                region = make(lib)
            with region:
                assert (lib.ones(1, 1) @ lib.ones(1, 1)).dtype is lib.float32
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            lib.autocast("cuda", enabled=False)
