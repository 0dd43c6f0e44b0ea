"""Convolutions and their gradients through the public API, against PyTorch in double precision."""

import random

import numpy as np
import pytest

import amity
from amity import ops

torch = pytest.importorskip("torch")


def close(got, expected):
    scale = max(1e-6, np.abs(expected.numpy()).max())
    assert tuple(got.shape) == tuple(expected.shape)
    assert np.abs(got.numpy() - expected.numpy()).max() < 1e-5 * scale


def check(name, x_shape, w_shape, outs, *settings):
    """The result and the three gradients of one call."""
    tensors = [torch.randn(s, dtype=torch.float64) for s in (x_shape, w_shape, (outs,))]
    for t in tensors:
        t.requires_grad_()
    y = getattr(torch, name)(*tensors, *settings)
    g = torch.randn_like(y)
    y.backward(g)
    ours = [amity.tensor(t.detach().float().numpy(), requires_grad=True) for t in tensors]
    result = getattr(ops, name)(*ours, *settings)
    result.backward(amity.tensor(g.float().numpy()))
    close(result.detach(), y.detach())
    for a, t in zip(ours, tensors):
        close(a.grad, t.grad)


@pytest.mark.parametrize("seed", range(10))
def test_random_calls(seed):
    rng = random.Random(seed)
    torch.manual_seed(seed)
    for _ in range(3):
        d, groups = rng.choice((1, 2, 2, 3)), rng.choice((1, 1, 2, 4))
        size = [rng.randint(6, 14) for _ in range(d)]
        kernel = [rng.choice((1, 2, 3, 3)) for _ in range(d)]
        stride = [rng.choice((1, 1, 2, 3)) for _ in range(d)]
        dilation = [rng.choice((1, 1, 2)) for _ in range(d)]
        padding = [rng.randint(0, 2) for _ in range(d)]
        few, many = groups * rng.randint(1, 20), groups * rng.randint(1, 20)
        x = (rng.choice((1, 2, 3)), few, *size)
        check(
            f"conv{d}d", x, (many, few // groups, *kernel), many, stride, padding, dilation, groups
        )
        extra = [rng.randint(0, max(s, a) - 1) for s, a in zip(stride, dilation)]
        w = (few, many // groups, *kernel)
        check(f"conv_transpose{d}d", x, w, many, stride, padding, extra, groups, dilation)


def test_output_padding_of_a_whole_stride():
    check("conv_transpose2d", (2, 3, 5, 6), (3, 4, 3, 3), 4, 1, 1, 1, 1, 2)
    check("conv_transpose1d", (2, 3, 8), (3, 4, 2), 4, 2, 0, 2, 1, 3)
