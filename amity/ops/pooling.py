"""Pooling over windows of one to three dimensions: maximum, average, adaptive, power-average."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from amity.core.dtype import int64
from amity.core.errors import ShapeError
from amity.ir.graph import Spec

from .convolution import spatial
from .record import Op, Sample

F = "f"


def pooled(n: int, k: int, s: int, p: int, d: int, ceil: bool) -> int:
    """The number of windows along a dimension; with `ceil` a last one may hang over the end."""
    span = n + 2 * p - d * (k - 1) - 1
    out = (span + s - 1) // s + 1 if ceil else span // s + 1
    if ceil and (out - 1) * s >= n + p:
        out -= 1
    return out


class Window(Op):
    """Base of ops over windows: sizes are read at run time."""

    kind = "indexed"
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool
    runtime = ("kernel", "stride", "padding", "dilation")

    @property
    def structure(self):
        return (self.name, len(self.kernel))

    @property
    def rank(self) -> int:
        return len(self.kernel)

    def output_size(self, size: Sequence[int]) -> tuple[int, ...]:
        rows = zip(size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return tuple(pooled(n, k, s, p, d, self.ceil) for n, k, s, p, d in rows)

    def infer(self, x: Spec) -> Spec:
        size = self.output_size(x.shape[2:])
        if any(n <= 0 for n in size):
            raise ShapeError(f"{self.name}: Given input size {list(x.shape)}: calculated output size {list(size)} is too small")
        return Spec((*x.shape[:2], *size), x.dtype)

    def parameter(self, k: Any, which: int, axis: int) -> Any:
        return k.parameter(which * self.rank + axis)

    def over_window(self, k: Any, x: Any, start: Sequence[Any], body: Callable) -> Sequence[Any]:
        """`body(position, valid, carried) -> carried` over the taps of a window of `x`."""
        b, n = k.b, self.rank
        lead = k.index[: len(x.sizes) - n]
        first = [
            k.index[-n + i] * self.parameter(k, 1, i) - self.parameter(k, 2, i) for i in range(n)
        ]

        def loops(axis: int, at: list, valid: Any, carry: Sequence[Any]) -> Sequence[Any]:
            if axis == n:
                return body([*lead, *at], valid, carry)
            with b.loop(0, self.parameter(k, 0, axis), 1, carry) as loop:
                i = first[axis] + loop.index * self.parameter(k, 3, axis)
                inside = (i >= 0) & (i < x.sizes[len(x.sizes) - n + axis])
                loop.next(*loops(axis + 1, [*at, i], inside if valid is None else valid & inside, loop.carry))
            return loop.carry

        return loops(0, [], None, start)

    def windows(self, x: np.ndarray):
        """For the oracle: output position, and the input positions of its window that are inside."""
        for at in np.ndindex(*self.output_size(x.shape[2:])):
            axes = []
            for i, n, k, s, p, d in zip(at, x.shape[2:], self.kernel, self.stride, self.padding, self.dilation, strict=True):
                axes.append([j for j in range(i * s - p, i * s - p + d * k, d) if 0 <= j < n])
            yield at, list(itertools.product(*axes))


def flat_position(b: Any, position: Sequence[Any], sizes: Sequence[Any]) -> Any:
    """The position within the spatial dimensions, counted in row-major order."""
    at = position[0]
    for p, n in zip(position[1:], sizes[1:], strict=True):
        at = at * n + p
    return at


class MaxPool(Window):
    """The largest element of every window; a NaN is the largest."""

    name = "max_pool"
    samples = (
        Sample(((2, 2, 5, 6), F), kernel=(2, 3), stride=(2, 1), padding=(1, 1), dilation=(1, 1), ceil=False),
        Sample(((1, 2, 7), F), kernel=(3,), stride=(2,), padding=(0,), dilation=(2,), ceil=True),
    )  # fmt: skip

    def emit(self, k, x):
        return self._search(k, x)[0]

    def _search(self, k, x):
        b, n = k.b, self.rank
        dtype = "f32" if x.dtype in ("f16", "bf16") else x.dtype
        low = b.const(_lowest(dtype), dtype, k.width)
        none = b.const(-1, "i64", k.width)

        def body(position, valid, carry):
            best, where = carry
            v = b.splat(x.load(position, valid), k.width)
            better = (v > best) | where.eq(-1)
            if dtype[0] == "f":
                better = better | v.ne(v)
            valid = b.splat(valid, k.width)
            at = b.splat(flat_position(b, position[-n:], x.sizes[-n:]), k.width)
            return b.select(better & valid, v, best), b.select(better & valid, at, where)

        return self.over_window(k, x, [low, none], body)

    def reference(self, x):
        y = np.empty((*x.shape[:2], *self.output_size(x.shape[2:])), x.dtype)
        for at, inside in self.windows(x):
            y[(..., *at)] = np.max([x[(..., *p)] for p in inside], axis=0)
        return y

    def grad(self, g, x):
        attributes = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return MaxPoolSpread(*attributes, tuple(x.shape[2:]))(g, MaxPoolIndex(*attributes)(x.detach()))


def _lowest(dtype: str):
    if dtype[0] == "f":
        return float("-inf")
    return 0 if dtype in ("u8", "bool") else -(1 << ({"i8": 8, "i16": 16, "i32": 32, "i64": 64}[dtype] - 1))


class MaxPoolIndex(MaxPool):
    """The position of the largest element of every window, within the spatial dimensions."""

    name = "max_pool_index"

    def infer(self, x: Spec) -> Spec:
        return Spec(super().infer(x).shape, int64)

    def emit(self, k, x):
        return self._search(k, x)[1]

    def reference(self, x):
        y = np.empty((*x.shape[:2], *self.output_size(x.shape[2:])), np.int64)
        for at, inside in self.windows(x):
            flat = [np.ravel_multi_index(p, x.shape[2:]) for p in inside]
            y[(..., *at)] = np.asarray(flat)[np.argmax([x[(..., *p)] for p in inside], axis=0)]
        return y

    grad = None
    saved = ()


class Spread(Window):
    """Base of gradients of windows: for every input element, the windows that may hold it."""

    size: tuple[int, ...]

    def infer(self, g: Spec, *more: Spec) -> Spec:
        return Spec((*g.shape[:2], *self.size), g.dtype)

    def over_windows(self, k: Any, g: Any, start: Sequence[Any], body: Callable) -> Sequence[Any]:
        """`body(window position, valid, carried)` over the windows that reach this element."""
        b, n = k.b, self.rank
        lead = k.index[: len(g.sizes) - n]

        def loops(axis: int, at: list, valid: Any, carry: Sequence[Any]) -> Sequence[Any]:
            if axis == n:
                return body([*lead, *at], valid, carry)
            stride, dilation = self.parameter(k, 1, axis), self.parameter(k, 3, axis)
            with b.loop(0, self.parameter(k, 0, axis), 1, carry) as loop:
                shifted = k.index[-n + axis] + self.parameter(k, 2, axis) - loop.index * dilation
                window = shifted // stride
                inside = (shifted >= 0) & (window * stride).eq(shifted) & (window < g.sizes[len(g.sizes) - n + axis])
                loop.next(*loops(axis + 1, [*at, window], inside if valid is None else valid & inside, loop.carry))
            return loop.carry

        return loops(0, [], None, start)


class MaxPoolSpread(Spread):
    """Gradients of windows sent to the elements that were their maxima."""

    name = "max_pool_spread"

    def infer(self, g: Spec, index: Spec) -> Spec:
        return Spec((*g.shape[:2], *self.size), g.dtype)

    def emit(self, k, g, index):
        b, n = k.b, self.rank
        dtype = "f32" if g.dtype in ("f16", "bf16") else g.dtype
        # the element's own position; sizes come after the window's words
        sizes = [k.parameter(4 * n + i) for i in range(n)]
        own = flat_position(b, k.index[-n:], sizes)

        def body(position, valid, carry):
            (total,) = carry
            hit = index.load(position, valid).eq(own) & valid
            v = g.load(position, hit)
            return (total + b.splat(b.select(hit, v, 0), k.width),)

        return self.over_windows(k, g, [b.const(0, dtype, k.width)], body)[0]

    runtime = ("kernel", "stride", "padding", "dilation", "size")

    def reference(self, g, index):
        out = np.zeros((*g.shape[:2], int(np.prod(self.size))), g.dtype)
        flat = index.reshape(*index.shape[:2], -1)
        n, c, _ = np.indices(flat.shape)
        np.add.at(out, (n, c, flat), g.reshape(flat.shape))
        return out.reshape((*g.shape[:2], *self.size))

    def grad(self, g, like_g, index):
        return MaxPoolPick(len(self.kernel))(g, index), None


class MaxPoolPick(Op):
    """Elements at positions counted within the spatial dimensions."""

    name = "max_pool_pick"
    kind = "host"
    rank: int

    def infer(self, x: Spec, index: Spec) -> Spec:
        return Spec(index.shape, x.dtype)

    def reference(self, x, index):
        flat = x.reshape((*x.shape[:2], -1))
        return np.take_along_axis(flat, index.reshape((*index.shape[:2], -1)), 2).reshape(index.shape)

    def grad(self, g, like_x, index):
        size = tuple(like_x.shape[2:])
        ones = (1,) * len(size)
        return MaxPoolSpread(size, ones, (0,) * len(size), ones, False, size)(g, index), None


class AvgPool(Window):
    """The mean of every window; padding counts as zeros, or not at all."""

    name = "avg_pool"
    has_padding: bool
    divisor: int
    runtime = ("kernel", "stride", "padding", "dilation", "divisor")
    samples = (
        Sample(((2, 2, 5, 6), F), kernel=(2, 3), stride=(2, 1), padding=(1, 1), dilation=(1, 1), ceil=False, has_padding=True, divisor=0),
        Sample(((1, 2, 8), F), kernel=(3,), stride=(2,), padding=(1,), dilation=(1,), ceil=True, has_padding=False, divisor=0),
    )  # fmt: skip

    @property
    def structure(self):
        return (self.name, len(self.kernel), self.has_padding)

    def count(self, k: Any, at: Sequence[Any], sizes: Sequence[Any], dtype: str) -> Any:
        """How many elements a window's sum is divided by."""
        b, total = k.b, None
        for i, (p, n) in enumerate(zip(at, sizes, strict=True)):
            pad = self.parameter(k, 2, i)
            low = p * self.parameter(k, 1, i) - pad
            high = b.min(low + self.parameter(k, 0, i), n + pad)
            if not self.has_padding:
                low, high = b.max(low, b.const(0, "i64")), b.min(high, n)
            total = high - low if total is None else total * (high - low)
        divisor = k.parameter(4 * self.rank)
        return b.convert(b.select(divisor > 0, divisor, total), dtype)

    def emit(self, k, x):
        b, n = k.b, self.rank
        dtype = "f32" if x.dtype in ("f16", "bf16") else x.dtype

        def body(position, valid, carry):
            return (carry[0] + b.splat(x.load(position, valid), k.width),)

        total = self.over_window(k, x, [b.const(0, dtype, k.width)], body)[0]
        return total / self.count(k, k.index[-n:], x.sizes[-n:], dtype)

    def reference(self, x):
        y = np.empty((*x.shape[:2], *self.output_size(x.shape[2:])), x.dtype)
        for at, inside in self.windows(x):
            count = self.divisor or (self._padded(at, x.shape[2:]) if self.has_padding else len(inside))
            y[(..., *at)] = np.sum([x[(..., *p)] for p in inside], axis=0) / count
        return y

    def _padded(self, at, size) -> int:
        total = 1
        for i, n, k, s, p in zip(at, size, self.kernel, self.stride, self.padding, strict=True):
            total *= min(i * s - p + k, n + p) - (i * s - p)
        return total

    def grad(self, g, like_x):
        attributes = (self.kernel, self.stride, self.padding, self.dilation, self.ceil)
        return AvgPoolSpread(*attributes, tuple(like_x.shape[2:]), self.has_padding, self.divisor)(g)


class AvgPoolSpread(Spread):
    """Gradients of means shared out to the elements of their windows."""

    name = "avg_pool_spread"
    has_padding: bool
    divisor: int
    runtime = ("kernel", "stride", "padding", "dilation", "divisor", "size")
    count = AvgPool.count
    structure = AvgPool.structure

    def emit(self, k, g):
        b, n = k.b, self.rank
        dtype = "f32" if g.dtype in ("f16", "bf16") else g.dtype
        sizes = [k.parameter(4 * n + 1 + i) for i in range(n)]

        def body(position, valid, carry):
            share = g.load(position, valid) / self.count(k, position[-n:], sizes, dtype)
            return (carry[0] + b.splat(b.select(valid, share, 0), k.width),)

        return self.over_windows(k, g, [b.const(0, dtype, k.width)], body)[0]

    def reference(self, g):
        like = np.zeros((1, 1, *self.size))
        pool = AvgPool(self.kernel, self.stride, self.padding, self.dilation, self.ceil, self.has_padding, self.divisor)
        out = np.zeros((*g.shape[:2], *self.size), g.dtype)
        for at, inside in pool.windows(like):
            count = self.divisor or (pool._padded(at, self.size) if self.has_padding else len(inside))
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
        raise RuntimeError(f"{name}: Expected {n + 1}D or {n + 2}D (batch mode) tensor, but got input of size: {list(x.shape)}")
    return x, False


def _windows(name: str, n: int, kernel, stride, padding, dilation=1):
    kernel = spatial(name, kernel, n)
    stride = kernel if stride is None or (not isinstance(stride, int) and len(stride) == 0) else spatial(name, stride, n)
    padding, dilation = spatial(name, padding, n), spatial(name, dilation, n)
    if any(k <= 0 for k in kernel):
        raise RuntimeError(f"{name}: kernel size should be greater than zero, but got {list(kernel)}")
    if any(s <= 0 for s in stride):
        raise RuntimeError(f"{name}: stride should be greater than zero, but got {list(stride)}")
    for p, k, d in zip(padding, kernel, dilation, strict=True):
        if p < 0 or p > ((k - 1) * d + 1) // 2:
            raise RuntimeError(f"{name}: pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and dilation={d}")
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


def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of every window along one dimension."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of every window of an image.

    shape:  [N, C, H, W] -> [N, C, (H + 2*padding - dilation*(K-1) - 1)//stride + 1, ...]
    errors: RuntimeError for windows or padding that do not fit
    """
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    """The largest element of every window of a volume."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool1d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=True):
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _avg_pool(n: int, x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override):
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


def avg_pool2d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of every window of an image."""
    return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)


def avg_pool3d(input, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True, divisor_override=None):
    """The mean of every window of a volume."""
    return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)

