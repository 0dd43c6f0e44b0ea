"""Padding against PyTorch: every mode, rank, sign and dtype, and its gradients."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import ops  # noqa: E402

rng = np.random.default_rng(0)
SHAPE = (2, 3, 4, 5, 6)
SIDES = [
    (2, 1),
    (0, 3, 2, 0),
    (1, 2, 3, 1),
    (-1, 2, 1, -2),
    (2, 2, 1, 1, 1, 3),
    (-2, 1, 2, -1, 0, 0),
    (0, 0),
]


def compare(x, pad, mode, value=None, dtype="float32", tolerance=1e-6, turn=lambda t: t):
    results = []
    for lib, function in ((amity, ops.pad), (torch, torch.nn.functional.pad)):
        t = lib.tensor(x).to(getattr(lib, dtype))
        t = t.requires_grad_() if t.is_floating_point() else t
        y = function(turn(t), pad, mode, value)
        out = [y.detach()]
        if t.is_floating_point():
            g = np.random.default_rng(1).standard_normal(tuple(y.shape))
            y.backward(lib.tensor(g).to(y.dtype))
            out.append(t.grad)
        results.append([o.to(lib.float64).numpy() for o in out])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("pad", SIDES)
def test_constants(pad):
    x = rng.standard_normal(SHAPE)
    for value, dtype in itertools.product((None, 0.5, -np.inf), ("float32", "float64", "bfloat16")):
        compare(x, pad, "constant", value, dtype)
    for dtype in ("int64", "uint8", "int8"):
        compare(rng.integers(0, 9, SHAPE), pad, "constant", 3, dtype)
    compare(rng.random(SHAPE) > 0.5, pad, "constant", True, "bool")


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("pad", SIDES)
def test_borders_from_the_inside(mode, pad):
    pairs = len(pad) // 2
    for rank in (pairs + 1, pairs + 2):
        x = rng.standard_normal(SHAPE[:1] + SHAPE[-rank + 1 :])
        compare(x, pad, mode)
        compare(x, pad, mode, dtype="float64")
    if mode == "circular":
        compare(rng.integers(0, 99, SHAPE[-pairs - 2 :]), pad, mode, dtype="int64")


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_memory_orders_and_long_borders(mode):
    x = rng.standard_normal((2, 9, 8, 3))
    compare(x, (7, 7, 3, 5), mode, turn=lambda t: t.permute(0, 3, 1, 2))
    compare(x, (1, 2, 2, 0), mode, turn=lambda t: t.transpose(1, 3))
    compare(x, (2, 2), mode, turn=lambda t: t[0, :, ::2])


def test_sums_of_16_bits_round_once():
    x = np.ones((1, 1, 2))
    for dtype in ("bfloat16", "float16"):
        t = amity.tensor(x).to(getattr(amity, dtype)).requires_grad_()
        ops.pad(t, (1000, 0), "replicate").sum().backward()
        assert t.grad.tolist() == [[[1001.0 if dtype == "float16" else 1000.0, 1.0]]]


def test_no_samples():
    for mode in ("constant", "reflect", "replicate", "circular"):
        assert tuple(ops.pad(amity.zeros(0, 3, 4), (1, 2), mode).shape) == (0, 3, 7)
    assert ops.pad(amity.zeros(2, 0), (1, 2), value=4).tolist() == [[4.0] * 3] * 2


def test_gradients_of_gradients():
    x = amity.randn(2, 3, 4, dtype=amity.float64).requires_grad_()
    for mode in ("constant", "reflect", "replicate", "circular"):
        assert amity.autograd.gradgradcheck(lambda x, m=mode: ops.pad(x, (2, 1), m), (x,))


BAD = [
    ((1, 3), (3, 0), "reflect", None, "less than the corresponding input dimension"),
    ((1, 3), (4, 0), "circular", None, "wrapping around more than once"),
    ((1, 3), (-2, -2), "constant", None, "negative output size"),
    ((1, 3), (-4, 0), "constant", 1.0, "negative output size"),
    ((1, 3), (1,), "constant", None, "divisible by 2"),
    ((3,), (1, 1, 1, 1), "constant", None, "padding length 4 and input of dimension 1"),
    ((1, 1, 1, 3), (1, 1), "reflect", None, "Only 2D, 3D, 4D, 5D padding"),
    ((1, 3), (1, 1), "mirror", None, "Unrecognised padding mode mirror"),
    ((1, 3), (1, 1), "reflect", 2.0, "doesn't take in value argument"),
    ((1, 2, 0), (1, 1), "replicate", None, "at a dimension of size 0"),
]


@pytest.mark.parametrize("shape, pad, mode, value, says", BAD)
def test_errors(shape, pad, mode, value, says):
    with pytest.raises(Exception) as expected:  # noqa: B017
        torch.nn.functional.pad(torch.zeros(shape), pad, mode, value)
    with pytest.raises(type(expected.value), match=says):
        ops.pad(amity.zeros(shape), pad, mode, value)
