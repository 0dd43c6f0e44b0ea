"""Functions of pairs: bilinear forms, distances within a set, and neighbouring channels."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import int64
from amity.core.errors import ShapeError, fail

from .matmul import matmul
from .padding import pad
from .pooling import avg_pool2d


def bilinear(input1, input2, weight, bias=None):
    """x1^T A x2 + b for each of several matrices A.

    shape:  input1 [*, I], input2 [*, J], weight [K, I, J], bias [K] -> [*, K]
    errors: RuntimeError for sizes that do not fit
    """
    if tuple(input1.shape[:-1]) != tuple(input2.shape[:-1]):
        shapes = f"{tuple(input1.shape)} and {tuple(input2.shape)}"
        raise fail(ShapeError, "bilinear", shapes, "inputs that agree but for the last dimension")
    out, i, j = weight.shape
    if (input1.shape[-1], input2.shape[-1]) != (i, j):
        got = f"inputs of {input1.shape[-1]} and {input2.shape[-1]} features"
        raise fail(ShapeError, "bilinear", got, f"{i} and {j}, as the weight has")
    left, right = input1.reshape(-1, i), input2.reshape(-1, 1, j)
    forms = matmul(left, weight.permute(1, 0, 2).reshape(i, out * j)).reshape(-1, out, j)
    y = (forms * right).sum(-1).reshape(*input1.shape[:-1], out)
    return y if bias is None else y + bias


def pdist(input, p=2.0):
    """The distances of all pairs of rows, the first row's first.

    shape: [N, M] -> [N (N - 1) / 2]
    """
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = np.triu_indices(input.shape[0], 1)
    a, b = (input.index_select(0, input.new_tensor(i, dtype=int64)) for i in (first, second))
    return (a - b).norm(p, 1)


def local_response_norm(input, size, alpha=1e-4, beta=0.75, k=1.0):
    """Each value divided by a power of the squares in its neighbouring channels.

    shape:  [N, C, *] -> the same
    source: Krizhevsky et al. 2012, section 3.3
    """
    if input.ndim < 3:
        raise ValueError(
            f"Expected 3D or higher dimensionality input (got {input.ndim} dimensions)"
        )
    if input.numel() == 0:
        return input
    x = (input * input).reshape(input.shape[0], 1, input.shape[1], -1)
    x = pad(x, (0, 0, size // 2, (size - 1) // 2))
    near = avg_pool2d(x, (size, 1), stride=1).reshape(input.shape)
    return input / (near * alpha + k).pow(beta)
