"""Further poolings: power averages, windows at random steps, and the way back from a maximum."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import int64

from .activation import relu
from .adaptive_pooling import largest
from .convolution import spatial
from .elementwise import sign
from .gather import scatter
from .pooling import avg_pool1d, avg_pool2d, avg_pool3d, batched

_AVG_POOL = (avg_pool1d, avg_pool2d, avg_pool3d)


def _lp_pool(n: int, input, norm_type, kernel_size, stride, ceil_mode):
    kernel = spatial(f"lp_pool{n}d", kernel_size, n)
    mean = _AVG_POOL[n - 1](input.pow(norm_type), kernel, stride, 0, ceil_mode)
    return (sign(mean) * relu(mean.abs()) * math.prod(kernel)).pow(1.0 / norm_type)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of every window along one dimension, without absolute values."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of every window of an image, without absolute values."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    """The p-norm of every window of a volume, without absolute values."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _unpooled_size(name: str, x, kernel, stride, padding, output_size) -> tuple[int, ...]:
    n = len(kernel)
    default = [
        (size - 1) * s - 2 * p + k
        for size, k, s, p in zip(x.shape[2:], kernel, stride, padding, strict=True)
    ]
    if output_size is None:
        return tuple(default)
    size = list(output_size)
    size = size[2:] if len(size) == n + 2 else size
    if len(size) != n:
        raise ValueError(
            f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a "
            f"length of '{len(output_size)}'"
        )
    for d, (have, want, s) in enumerate(zip(default, size, stride, strict=True)):
        if not have - s < want < have + s:
            raise ValueError(
                f'invalid output_size "{tuple(size)}" (dim {d} must be between {have - s} and '
                f"{have + s})"
            )
    return tuple(size)


def _max_unpool(n: int, input, indices, kernel_size, stride, padding, output_size):
    name = f"max_unpool{n}d"
    if indices.dtype is not int64:
        raise RuntimeError(f"elements in indices should be type int64 but got: {indices.dtype}")
    if tuple(indices.shape) != tuple(input.shape):
        raise RuntimeError(
            f"Expected shape of indices to be: {list(input.shape)} but got: {list(indices.shape)}"
        )
    x, added = batched(name, input, n)
    kernel, padding = spatial(name, kernel_size, n), spatial(name, padding, n)
    stride = kernel if stride is None else spatial(name, stride, n)
    size = _unpooled_size(name, x, kernel, stride, padding, output_size)
    places = indices.reshape(*x.shape[:2], -1)
    length = math.prod(size)
    seen = places._held()
    if places.numel() and not (0 <= int(seen.amin()) and int(seen.amax()) < length):
        raise RuntimeError(
            f"{name}: got indices from {int(seen.amin())} to {int(seen.amax())}; expected "
            f"places within the output size {size}"
        )
    empty = x.new_zeros((*x.shape[:2], length))
    y = scatter(empty, 2, places, x.reshape(places.shape)).reshape(*x.shape[:2], *size)
    return y.squeeze(0) if added else y


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The values of a max pooling at the places they came from, zeros elsewhere."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The values of a max pooling at the places they came from, zeros elsewhere."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    """The values of a max pooling at the places they came from, zeros elsewhere."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)


def _starts(samples: np.ndarray, size: int, out: int, kernel: int) -> np.ndarray:
    """Where windows begin: steps of two lengths in an order that the sample u shifts.

    shape: samples [P] -> [P, out]
    source: Graham 2014, arXiv:1412.6071, section 3
    """
    last = np.full((samples.size, 1), size - kernel)
    if out == 1:
        return last
    u = samples[:, None]
    alpha = u.dtype.type((size - kernel) / (out - 1))
    first = ((np.arange(out - 1) + u) * alpha).astype(np.int64) - (u * alpha).astype(np.int64)
    return np.concatenate([first, last], 1)


def _windows(starts: list[np.ndarray], kernel, shape) -> np.ndarray:
    """Flat places of all windows of each plane.

    shape: starts n x [P, out] -> [P, prod(out), prod(kernel)]
    """
    n, planes = len(starts), starts[0].shape[0]
    flat = np.zeros((planes, *(1,) * (2 * n)), np.int64)
    for d, (begin, k) in enumerate(zip(starts, kernel, strict=True)):
        step = math.prod(shape[d + 1 :])
        places = (begin[:, :, None] + np.arange(k)) * step  # (P, out, k)
        wide = [planes] + [1] * (2 * n)
        wide[1 + d], wide[1 + n + d] = places.shape[1:]
        flat = flat + places.reshape(wide)
    outs = math.prod(s.shape[1] for s in starts)
    return flat.reshape(planes, outs, -1)


def _fractional_max_pool(
    n: int, input, kernel_size, output_size, output_ratio, return_indices, samples
):
    name = f"fractional_max_pool{n}d"
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    x, added = batched(name, input, n)
    kernel, shape = spatial(name, kernel_size, n), tuple(x.shape[2:])
    if output_size is None:
        ratio = (output_ratio,) * n if isinstance(output_ratio, float) else output_ratio
        output_size = [int(s * r) for s, r in zip(shape, ratio, strict=True)]
    size = spatial(name, output_size, n)
    for have, k, out in zip(shape, kernel, size, strict=True):
        if out + k - 1 > have:
            raise RuntimeError(
                f"{name}: got pool size {k} and output size {out}; too large relative to the "
                f"input size {have}"
            )
    if samples is None:
        samples = x.new_empty((*x.shape[:2], n)).uniform_()
    u = samples._array().reshape(-1, n)
    if n == 2:  # PyTorch reads the samples of images from the last dimension
        u = u[:, ::-1]
    starts = [_starts(u[:, d], shape[d], size[d], kernel[d]) for d in range(n)]
    table = _windows(starts, kernel, shape).reshape(*x.shape[:2], math.prod(size), -1)
    found = largest(x.reshape(*x.shape[:2], -1), x.new_tensor(table, dtype=int64))
    found = tuple(t.reshape(*x.shape[:2], *size) for t in found)
    found = tuple(t.squeeze(0) for t in found) if added else found
    return found if return_indices else found[0]


def fractional_max_pool2d(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
):
    """The maxima of windows at random steps, for an output of any size.

    source: Graham 2014, arXiv:1412.6071
    """
    options = kernel_size, output_size, output_ratio, return_indices, _random_samples
    return _fractional_max_pool(2, input, *options)


def fractional_max_pool3d(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
):
    """The maxima of windows at random steps, for an output of any size.

    source: Graham 2014, arXiv:1412.6071
    """
    options = kernel_size, output_size, output_ratio, return_indices, _random_samples
    return _fractional_max_pool(3, input, *options)


def fractional_max_pool2d_with_indices(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
):
    """`fractional_max_pool2d` with the places of the maxima."""
    return _fractional_max_pool(
        2, input, kernel_size, output_size, output_ratio, True, _random_samples
    )


def fractional_max_pool3d_with_indices(
    input,
    kernel_size,
    output_size=None,
    output_ratio=None,
    return_indices=False,
    _random_samples=None,
):
    """`fractional_max_pool3d` with the places of the maxima."""
    return _fractional_max_pool(
        3, input, kernel_size, output_size, output_ratio, True, _random_samples
    )
