"""Pooling over windows of one to three dimensions: maximum, average, adaptive, power-average."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from amity.core.dtype import int64
from amity.core.errors import ShapeError, fail
from amity.ir.graph import Spec

from .convolution import spatial
from .record import ErrorSample, Op, Sample, unlike

F = "f"
LARGE: dict[str, Any] = {
    "kernel": (5,),
    "stride": (1,),
    "padding": (0,),
    "dilation": (1,),
    "ceil": False,
}
SMALL = LARGE | {"kernel": (2,)}


def pooled(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    """The number of windows along a dimension; with `ceil` a last one may hang over the end."""
    span = n + 2 * p - d * (k - 1) - 1
    out = (span + s - 1) // s + 1 if ceil else span // s + 1
    if ceil and (out - 1) * s >= n + p:
        out -= 1
    return out


class Window(Op):
    """Base of ops over windows; `role` says to the planner what becomes of each."""

    kind = "kernel"
    carries = "fold"
    planner = "pool"
    role: ClassVar[str]
    takes: ClassVar[str] = "uif"
    errors = (
        ErrorSample(((1, 2, 3), F), **LARGE, error=ShapeError, says="too small"),
        ErrorSample(((1, 2, 3), "b"), **SMALL, error=NotImplementedError, says="for 'Bool'"),
    )
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        rows = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(pooled(n, k, s, p, d, self.ceil) for n, k, s, p, d in rows)

    def infer(self, x: Spec) -> Spec:
        if x.dtype.kind not in self.takes:
            raise unlike(self.name, x.dtype, self.takes)
        size = self.output_size(x.shape[2:])
        if any(n <= 0 for n in size):
            raise ShapeError(
                f"{self.name}: Given input size {list(x.shape)}: calculated output size "
                f"{list(size)} is too small"
            )
        return Spec((*x.shape[:2], *size), x.dtype)

    def windows(self, x: np.ndarray):
        """For the oracle: output position, and the input positions of its window that are inside."""
        for at in np.ndindex(*self.output_size(x.shape[2:])):
            axes = []
            for i, n, k, s, p, d in zip(
                at, x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True
            ):
                axes.append([j for j in range(i * s - p, i * s - p + d * k, d) if 0 <= j < n])
            yield at, list(itertools.product(*axes))


def _check_windows(op: str, g: Spec, shape: Sequence[int]) -> None:
    if tuple(g.shape) != tuple(shape):
        raise fail(ShapeError, op, f"gradients of shape {tuple(g.shape)}", f"{tuple(shape)}")


class MaxPool(Window):
    """The largest element of every window; a NaN is the largest."""

    name = "max_pool"
    role = "max"
    samples = (
        Sample(((2, 2, 5, 6), F), kernel=(2, 3), stride=(2, 1), padding=(1, 1), dilation=(1, 1), ceil=False),
        Sample(((1, 2, 7), F), kernel=(3,), stride=(2,), padding=(0,), dilation=(2,), ceil=True),
    )  # fmt: skip

    def reference(self, x):
        y = np.empty((*x.shape[:2], *self.output_size(x.shape[2:])), x.dtype)
        for at, inside in self.windows(x):
            y[(..., *at)] = np.max([x[(..., *p)] for p in inside], axis=0)
        return y

    def grad(self, g, x):
        attributes = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return MaxPoolGrad(*attributes)(g, x.detach())


class MaxPoolIndex(MaxPool):
    """The position of the largest element of every window, within the spatial dimensions."""

    name = "max_pool_index"
    role = "index"

    def infer(self, x: Spec) -> Spec:
        return Spec(super().infer(x).shape, int64)

    def reference(self, x):
        y = np.empty((*x.shape[:2], *self.output_size(x.shape[2:])), np.int64)
        for at, inside in self.windows(x):
            flat = [np.ravel_multi_index(p, x.shape[2:]) for p in inside]
            y[(..., *at)] = np.asarray(flat)[np.argmax([x[(..., *p)] for p in inside], axis=0)]
        return y

    grad = None
    saved = ()


class MaxPoolGrad(Window):
    """Gradients of windows sent to the elements of `x` that were their maxima."""

    name = "max_pool_grad"
    role = "max_grad"
    samples = (
        Sample(
            ((2, 2, 4, 4), F),
            ((2, 2, 5, 6), F),
            kernel=(2, 3),
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            ceil=False,
        ),
        Sample(
            ((1, 2, 3), F),
            ((1, 2, 7), F),
            kernel=(3,),
            stride=(2,),
            padding=(1,),
            dilation=(2,),
            ceil=False,
        ),
    )

    errors = (
        ErrorSample(((1, 2, 3), F), ((1, 2, 3), F), **SMALL, error=ShapeError, says="(1, 2, 2)"),
    )

    def infer(self, g: Spec, x: Spec) -> Spec:
        _check_windows(self.name, g, super().infer(x).shape)
        return x

    def reference(self, g, x):
        index = self._index().reference(x)
        return MaxPoolPut(tuple(x.shape[2:])).reference(g, index)

    def _index(self) -> MaxPoolIndex:
        return MaxPoolIndex(self.kernel, self.stride, self.padding, self.dilation, self.ceil)

    def grad(self, g, x):
        return MaxPoolPick(tuple(x.shape[2:]))(g, self._index()(x.detach())), None


PLACES = np.array([[[[0, 4], [1, 1]], [[2, 3], [0, 5]]]])  # of [1, 2, 2, 2], within 6 elements


class MaxPoolPick(Op):
    """Elements at positions counted within the spatial dimensions, which are `size`."""

    name = "max_pool_pick"
    carries = "fold"
    size: tuple[int, ...]
    samples = (
        Sample(((1, 2, 2, 3), F), PLACES, size=(2, 3)),
        Sample(((1, 2, 5), F), PLACES[:, :, 0], size=(5,)),
    )
    errors = (ErrorSample(((1, 2, 4), F), PLACES, size=(6,), error=ShapeError, says="(6,)"),)

    def infer(self, x: Spec, index: Spec) -> Spec:
        if tuple(x.shape[2:]) != self.size:
            raise fail(ShapeError, self.name, f"sizes {tuple(x.shape[2:])}", f"{self.size}")
        return Spec(index.shape, x.dtype)

    def reference(self, x, index):
        flat = x.reshape((*x.shape[:2], -1))
        rows = index.reshape((*index.shape[:2], -1))
        return np.take_along_axis(flat, rows, 2).reshape(index.shape)

    def grad(self, g, index):
        return MaxPoolPut(self.size)(g, index), None


class MaxPoolPut(Op):
    """Sums of elements put to positions counted within the spatial dimensions."""

    name = "max_pool_put"
    carries = "fold"
    size: tuple[int, ...]
    samples = (
        Sample(((1, 2, 2, 2), F), PLACES, size=(2, 3)),
        Sample(((1, 2, 2), F), PLACES[:, :, 0], size=(5,)),
    )
    errors = (
        ErrorSample(((1, 2, 3), F), PLACES, size=(6,), error=ShapeError, says="(1, 2, 2, 2)"),
    )

    def infer(self, g: Spec, index: Spec) -> Spec:
        _check_windows(self.name, g, index.shape)
        return Spec((*g.shape[:2], *self.size), g.dtype)

    def reference(self, g, index):
        out = np.zeros((*g.shape[:2], int(np.prod(self.size))), g.dtype)
        flat = index.reshape((*index.shape[:2], -1))
        sample, channel, _ = np.indices(flat.shape)
        np.add.at(out, (sample, channel, flat), g.reshape(flat.shape))
        return out.reshape((*g.shape[:2], *self.size))

    def grad(self, g, index):
        return MaxPoolPick(self.size)(g, index), None


class AvgPool(Window):
    """The mean of every window; padding counts as zeros, or not at all."""

    name = "avg_pool"
    role = "mean"
    has_padding: bool
    divisor: int
    errors = (
        ErrorSample(((1, 2, 3), F), **LARGE, has_padding=True, divisor=0, error=ShapeError, says="too small"),
        ErrorSample(((1, 2, 3), "b"), **SMALL, has_padding=True, divisor=0,
                    error=NotImplementedError, says="for 'Bool'"),
    )  # fmt: skip
    samples = (
        Sample(
            ((2, 2, 5, 6), F),
            kernel=(2, 3),
            stride=(2, 1),
            padding=(1, 1),
            dilation=(1, 1),
            ceil=False,
            has_padding=True,
            divisor=0,
        ),
        Sample(
            ((1, 2, 8), F),
            kernel=(3,),
            stride=(2,),
            padding=(1,),
            dilation=(1,),
            ceil=True,
            has_padding=False,
            divisor=0,
        ),
    )

    def reference(self, x):
        y = np.empty((*x.shape[:2], *self.output_size(x.shape[2:])), x.dtype)
        for at, inside in self.windows(x):
            count = self.divisor or (
                self._padded(at, x.shape[2:]) if self.has_padding else len(inside)
            )
            y[(..., *at)] = np.sum([x[(..., *p)] for p in inside], axis=0) / count
        return y

    def _padded(self, at, size) -> int:
        total = 1
        for i, n, k, s, p in zip(at, size, self.kernel, self.stride, self.padding, strict=True):
            total *= min(i * s - p + k, n + p) - (i * s - p)
        return total

    def grad(self, g, like_x):
        attributes = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return AvgPoolGrad(*attributes, tuple(like_x.shape[2:]), self.has_padding, self.divisor)(g)


class AvgPoolGrad(Window):
    """Gradients of means shared out to the elements of their windows."""

    name = "avg_pool_grad"
    role = "mean_grad"
    takes = "f"
    size: tuple[int, ...]
    has_padding: bool
    divisor: int
    errors = (
        ErrorSample(((1, 2, 3), F), **SMALL, size=(3,), has_padding=True, divisor=0,
                    error=ShapeError, says="(1, 2, 2)"),
        ErrorSample(((1, 2, 2), "i"), **SMALL, size=(3,), has_padding=True, divisor=0,
                    error=NotImplementedError, says="for 'Long'"),
    )  # fmt: skip
    samples = (
        Sample(
            ((2, 2, 3, 5), F),
            kernel=(2, 3),
            stride=(2, 1),
            padding=(1, 1),
            dilation=(1, 1),
            ceil=False,
            size=(5, 5),
            has_padding=True,
            divisor=0,
        ),
        Sample(
            ((1, 2, 4), F),
            kernel=(3,),
            stride=(2,),
            padding=(1,),
            dilation=(1,),
            ceil=False,
            size=(7,),
            has_padding=False,
            divisor=5,
        ),
    )

    def infer(self, g: Spec) -> Spec:
        if g.dtype.kind not in self.takes:
            raise unlike(self.name, g.dtype, self.takes)
        _check_windows(self.name, g, (*g.shape[:2], *self.output_size(self.size)))
        return Spec((*g.shape[:2], *self.size), g.dtype)

    def reference(self, g):
        like = np.zeros((1, 1, *self.size))
        pool = AvgPool(
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
            self.ceil,
            self.has_padding,
            self.divisor,
        )
        out = np.zeros((*g.shape[:2], *self.size), g.dtype)
        for at, inside in pool.windows(like):
            count = self.divisor or (
                pool._padded(at, self.size) if self.has_padding else len(inside)
            )
            for p in inside:
                out[(..., *p)] += g[(..., *at)] / count
        return out

    def grad(self, g):
        attributes = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return AvgPool(*attributes, self.has_padding, self.divisor)(g)


# -- public functions


def batched(name: str, x, n: int):
    """The input with a batch dimension, and whether it was added."""
    if x.ndim == n + 1:
        return x.unsqueeze(0), True
    if x.ndim != n + 2:
        raise RuntimeError(
            f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor, but got input of size: "
            f"{list(x.shape)}"
        )
    return x, False


def _windows(name: str, n: int, kernel, stride, padding, dilation=1):
    kernel = spatial(name, kernel, n)
    stride = (
        kernel
        if stride is None or (not isinstance(stride, int) and len(stride) == 0)
        else spatial(name, stride, n)
    )
    padding, dilation = spatial(name, padding, n), spatial(name, dilation, n)
    if any(k <= 0 for k in kernel):
        raise RuntimeError(
            f"{name}: kernel size should be greater than zero, but got {list(kernel)}"
        )
    if any(s <= 0 for s in stride):
        raise RuntimeError(f"{name}: stride should be greater than zero, but got {list(stride)}")
    for p, k, d in zip(padding, kernel, dilation, strict=True):
        if p < 0 or p > ((k - 1) * d + 1) // 2:
            raise RuntimeError(
                f"{name}: pad should be at most half of effective kernel size, but got pad={p}, "
                f"kernel_size={k} and dilation={d}"
            )
    return kernel, stride, padding, dilation


def _max_pool(n: int, x, kernel_size, stride, padding, dilation, ceil_mode, return_indices):
    name = f"max_pool{n}d"
    x, added = batched(name, x, n)
    attributes = (*_windows(name, n, kernel_size, stride, padding, dilation), bool(ceil_mode))
    y = MaxPool(*attributes)(x)
    y = y.squeeze(0) if added else y
    if not return_indices:
        return y
    index = MaxPoolIndex(*attributes)(x.detach())
    return y, index.squeeze(0) if added else index


def max_pool1d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """The largest element of every window along one dimension."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """The largest element of every window of an image.

    shape:  [N, C, H, W] -> [N, C, (H + 2*padding - dilation*(K-1) - 1)//stride + 1, ...]
    errors: RuntimeError for windows or padding that do not fit
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False
):
    """The largest element of every window of a volume."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True
):
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True
):
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(
    input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True
):
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _avg_pool(
    n: int, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
):
    name = f"avg_pool{n}d"
    x, added = batched(name, x, n)
    if divisor_override is not None and divisor_override == 0:
        raise RuntimeError(f"{name}: divisor must be not zero")
    windows = _windows(name, n, kernel_size, stride, padding)
    y = AvgPool(*windows, bool(ceil_mode), bool(count_include_pad), divisor_override or 0)(x)
    return y.squeeze(0) if added else y


def avg_pool1d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    """The mean of every window along one dimension."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    """The mean of every window of an image."""
    return _avg_pool(
        2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input,
    kernel_size,
    stride=None,
    padding=0,
    ceil_mode=False,
    count_include_pad=True,
    divisor_override=None,
):
    """The mean of every window of a volume."""
    return _avg_pool(
        3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )
