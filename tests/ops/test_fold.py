"""Sliding blocks against PyTorch: shapes, memory orders, dtypes, gradients."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import ops  # noqa: E402

rng = np.random.default_rng(0)
WINDOWS = [
    {"kernel_size": 3},
    {"kernel_size": (2, 3), "dilation": (2, 1), "padding": (1, 2), "stride": (1, 2)},
    {"kernel_size": (3, 1), "padding": (2, 0), "stride": (2, 3)},
    {"kernel_size": (1, 2), "dilation": 3, "stride": 1},
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": (2, 2), "padding": 3, "dilation": 2},
]
SIZE = (9, 40)


def compare(name, array, *arguments, dtype="float32", tolerance=1e-5, turn=lambda t: t, **options):
    results = []
    for lib, F in ((amity, ops), (torch, torch.nn.functional)):
        t = lib.tensor(array).to(getattr(lib, dtype)).requires_grad_()
        y = getattr(F, name)(turn(t), *arguments, **options)
        g = np.random.default_rng(1).standard_normal(tuple(y.shape))
        y.backward(lib.tensor(g).to(y.dtype))
        results.append([v.detach().to(lib.float64).numpy() for v in (y, t.grad)])
    for mine, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("window", WINDOWS)
def test_blocks_out_and_back(window):
    x = rng.standard_normal((2, 3, *SIZE))
    columns = torch.nn.functional.unfold(torch.tensor(x), **window).numpy()
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-12)):
        compare("unfold", x, dtype=dtype, tolerance=tolerance, **window)
        compare("fold", columns, SIZE, dtype=dtype, tolerance=tolerance, **window)
    compare("fold", columns[0], SIZE, **window)


def test_other_memory_orders():
    x = rng.standard_normal((2, 9, 40, 3))
    compare("unfold", x, 3, turn=lambda t: t.permute(0, 3, 1, 2))
    columns = rng.standard_normal((2, 7 * 38, 27))
    compare("fold", columns, SIZE, 3, turn=lambda t: t.transpose(1, 2))
    compare("fold", rng.standard_normal((2, 54, 7 * 38)), SIZE, 3, turn=lambda t: t[:, ::2])


def test_sums_of_16_bits_round_once():
    x = np.ones((1, 600, 1))
    columns = amity.tensor(x).to(amity.bfloat16)
    y = ops.fold(columns.expand(1, 600, 1), (600, 1), (600, 1))
    assert y.tolist() == [[[[1.0]] * 600]]
    many = amity.ones(1, 1, 601, dtype=amity.bfloat16).expand(1, 20, 601)
    y = ops.fold(many, (1, 620), (1, 20))
    assert float(y[0, 0, 0, 300]) == 20.0


def test_no_samples():
    assert tuple(ops.unfold(amity.zeros(0, 3, 5, 5), 2).shape) == (0, 12, 16)
    assert tuple(ops.fold(amity.zeros(0, 12, 16), (5, 5), 2).shape) == (0, 3, 5, 5)


def test_gradients_of_gradients():
    x = amity.randn(1, 2, 4, 5, dtype=amity.float64).requires_grad_()
    columns = amity.randn(1, 8, 12, dtype=amity.float64).requires_grad_()
    assert amity.autograd.gradgradcheck(lambda x: ops.unfold(x, 2, padding=1), (x,))
    assert amity.autograd.gradgradcheck(lambda x: ops.fold(x, (4, 5), 2), (columns,))


def test_every_window_adds_up():
    """What unfold copies out, fold of ones counts."""
    for kernel, stride in itertools.product((1, 2, 3), (1, 2, 3)):
        ones = amity.ones(1, 1, 7, 11)
        counts = ops.fold(ops.unfold(ones, kernel, stride=stride), (7, 11), kernel, stride=stride)
        theirs = torch.ones(1, 1, 7, 11)
        F = torch.nn.functional
        expected = F.fold(F.unfold(theirs, kernel, stride=stride), (7, 11), kernel, stride=stride)
        np.testing.assert_array_equal(counts.numpy(), expected.numpy())
