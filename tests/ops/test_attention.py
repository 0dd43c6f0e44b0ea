"""Scaled dot-product attention, against PyTorch."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import ops  # noqa: E402

rng = np.random.default_rng(0)
attend, theirs = ops.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention


def f(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


def both(arrays, rtol=1e-4, atol=1e-5, **options):
    """Outputs and gradients of both, compared; arrays among the options are masks."""

    def run(make, function):
        tensors = [make(a.copy()).requires_grad_(True) for a in arrays]
        given = {k: make(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        out = function(*tensors, **given)
        (out * out).sum().backward()
        return [out.detach().numpy(), *(t.grad.numpy() for t in tensors)]

    for ours, expected in zip(run(amity.from_numpy, attend), run(torch.from_numpy, theirs)):
        assert ours.dtype == expected.dtype
        np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol)


SHAPES = [
    ((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)),
    ((4, 5), (4, 5), (4, 5)),
    ((2, 1, 5), (2, 3, 5), (2, 3, 5)),
    ((0, 4, 5), (0, 4, 5), (0, 4, 5)),
]


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"scale": 0.3}], ids=str)
def test_shapes(shapes, options):
    both([f(*s) for s in shapes], **options)


@pytest.mark.parametrize("is_causal", [False, True])
def test_keys_in_several_blocks(is_causal):
    both([f(2, 300, 20), f(2, 523, 20), f(2, 523, 33)], is_causal=is_causal)
    both([f(1, 531, 8), f(1, 260, 8), f(1, 260, 16)], is_causal=is_causal)
    if not is_causal:
        both([f(1, 70, 8), f(1, 300, 8), f(1, 300, 4)], attn_mask=rng.random((70, 300)) > 0.5)


@pytest.mark.parametrize("kind", ["bfloat16", "float16"])
def test_halves(kind):
    arrays, ours, expected = [f(2, 37, 24) for _ in range(3)], [], []
    for lib, function, out in ((amity, attend, ours), (torch, theirs, expected)):
        tensors = [lib.from_numpy(a).to(getattr(lib, kind)).requires_grad_(True) for a in arrays]
        y = function(*tensors, is_causal=True)
        y.backward(y)
        out += [t.detach().float().numpy() for t in (y, *(x.grad for x in tensors))]
    for a, b in zip(ours, expected, strict=True):
        assert abs(a - b).max() < 0.02 * abs(b).max()


def test_memory_keeps_the_order_of_the_queries():
    q, k, v = (amity.randn(2, 5, 3, 4).transpose(1, 2) for _ in range(3))
    q.requires_grad_(True)
    y = attend(q, k, v)
    assert y.transpose(1, 2).is_contiguous()
    y.sum().backward()
    assert q.grad.shape == q.shape


@pytest.mark.parametrize("options", [{}, {"is_causal": True}, {"attn_mask": None}], ids=str)
def test_gradients_of_gradients(options):
    if "attn_mask" in options:
        options = {"attn_mask": rng.random((3, 4)) > 0.3}
    arrays = [f(2, n, w, dtype=np.float64) for n, w in ((3, 2), (4, 2), (4, 3))]

    def run(lib, function):
        given = {
            k: lib.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()
        }
        tensors = [lib.from_numpy(a.copy()).requires_grad_(True) for a in arrays]
        if lib is torch:  # its fused kernels have no second derivative
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                y = function(*tensors, **given)
        else:
            y = function(*tensors, **given)
        grads = lib.autograd.grad((y * y * y).sum(), tensors, create_graph=True)
        total = sum((g * g).sum() for g in grads)
        return [g.numpy() for g in lib.autograd.grad(total, tensors)]

    for ours, expected in zip(run(amity, attend), run(torch, theirs), strict=True):
        np.testing.assert_allclose(ours, expected, 1e-8, 1e-10)


QKV = [f(2, 3, 4, 5), f(2, 3, 6, 5), f(2, 3, 6, 7)]


@pytest.mark.parametrize(
    "mask",
    [
        np.tril(np.ones((4, 6), bool), 1),
        rng.random((2, 3, 4, 6)) > 0.4,
        f(4, 6),
        f(2, 1, 1, 6),
        np.where(rng.random((4, 6)) > 0.3, 0, -np.inf).astype(np.float32),
    ],
    ids=["triangle", "bool", "numbers", "broadcast", "infinite"],
)
def test_masks(mask):
    both(QKV, attn_mask=mask)


@pytest.mark.parametrize("kind", [bool, np.float32])
def test_a_query_that_sees_nothing_gives_zeros(kind):
    shown = np.ones((4, 6), bool)
    shown[1] = False
    mask = shown if kind is bool else np.where(shown, 0, -np.inf).astype(kind)
    q, k, v = (amity.from_numpy(a).requires_grad_(True) for a in QKV)
    out = attend(q, k, v, attn_mask=amity.from_numpy(mask))
    assert not out[:, :, 1].detach().numpy().any()
    out.sum().backward()
    assert not q.grad[:, :, 1].numpy().any() and np.isfinite(k.grad.numpy()).all()


def test_groups_of_heads():
    both([f(2, 6, 4, 5), f(2, 3, 4, 5), f(2, 2, 4, 5)], enable_gqa=True)
    with pytest.raises(RuntimeError, match="a multiple of the key"):
        attend(*(amity.ones(2, n, 4, 5) for n in (6, 4, 6)), enable_gqa=True)


def test_double_precision_and_strides():
    both([f(3, 4, 5, dtype=np.float64).transpose(0, 2, 1) for _ in range(3)], 1e-9, 1e-12)


def test_dropout():
    q, k, v = amity.ones(1, 50, 8), amity.ones(1, 40, 8), amity.ones(1, 40, 2)
    out = attend(q, k, v, dropout_p=0.5).numpy()
    assert out.std() > 0.05 and abs(out.mean() - 1) < 0.1


@pytest.mark.parametrize(
    "shapes, options, text",
    [
        (((5,), (5,), (5,)), {}, "at least 2 dimensions"),
        (((4, 5), (4, 6), (4, 5)), {}, "one width"),
        (((4, 5), (4, 5), (3, 5)), {}, "one length"),
    ],
)
def test_wrong_shapes(shapes, options, text):
    with pytest.raises(RuntimeError, match=text):
        attend(*(amity.ones(*s) for s in shapes), **options)


def test_wrong_arguments():
    x = amity.ones(4, 5)
    with pytest.raises(RuntimeError, match="should not be set when is_causal"):
        attend(x, x, x, attn_mask=amity.ones(4, 4), is_causal=True)
    with pytest.raises(RuntimeError, match="same dtype"):
        attend(x, x.double(), x)
    with pytest.raises(RuntimeError, match="attn_mask dtype"):
        attend(x, x, x, attn_mask=amity.ones(4, 4, dtype=amity.int64))


def test_scale_is_one_over_the_root_of_the_width():
    q, k = amity.ones(1, 4), amity.tensor([[1.0] * 4, [0.0] * 4])
    first = attend(q, k, amity.tensor([[1.0], [0.0]])).item()
    assert first == pytest.approx(1 / (1 + math.exp(-2)), rel=1e-6)
