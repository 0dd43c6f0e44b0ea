"""Convolutions of one to three dimensions, transposed ones, and their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from amity.core.errors import ShapeError, fail
from amity.core.layout import Layout
from amity.ir.graph import Spec

from .record import ErrorSample, Op, Sample, unlike

F = "f"


class Conv(Op):
    """Base of the three: each gives one of x, w and y from the other two."""

    kind = "kernel"
    fuses_grad = True
    planner = "conv"
    carries = "own"
    role = "forward"
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    def output_size(self, x: Sequence[int], w: Sequence[int]) -> tuple[int, ...]:
        return tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x, w, self.stride, self.padding, self.dilation, strict=True)
        )

    def batch(self, size, is_mapped, a, b, bias=None):
        """Entries as more images where they share the weight, else as more groups."""
        if is_mapped[0] and not any(is_mapped[1:]) and self.role != "grad_weight":
            y = self(a.flatten(0, 1), b, bias)
            return y.unflatten(0, (size, -1))
        a, b = (
            t if m else t.expand((size, *t.shape)) for t, m in zip((a, b), is_mapped, strict=False)
        )
        a = a.movedim(0, 1).flatten(1, 2)
        b = b.movedim(0, 1).flatten(1, 2) if self.role == "grad_weight" else b.flatten(0, 1)
        wide = type(self)(**self.attributes() | {"groups": self.groups * size})
        if bias is not None:
            bias = bias.flatten() if is_mapped[2] else bias.repeat(size)
            return wide(a, b, bias).unflatten(1, (size, -1)).movedim(1, 0)
        y = wide(a, b)
        if self.role == "grad_weight":
            return y.unflatten(0, (size, -1))
        return y.unflatten(1, (size, -1)).movedim(1, 0)


class Convolution(Conv):
    """Cross-correlation with zero padding; an optional third input is a bias per channel."""

    name = "convolution"
    samples = (
        Sample(
            ((2, 3, 5, 6), F),
            ((4, 3, 3, 3), F),
            stride=(1, 1),
            padding=(1, 1),
            dilation=(1, 1),
            groups=1,
        ),
        Sample(
            ((2, 4, 7), F),
            ((6, 2, 3), F),
            ((6,), F),
            stride=(2,),
            padding=(1,),
            dilation=(2,),
            groups=2,
        ),
        Sample(
            ((1, 2, 3, 4, 5), F),
            ((2, 2, 2, 1, 3), F),
            stride=(1, 2, 1),
            padding=(0, 1, 1),
            dilation=(1, 1, 1),
            groups=1,
        ),
    )
    errors = (
        ErrorSample(((2, 6, 5, 5), F), ((4, 3, 3, 3), F), stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=4,
                    error=RuntimeError, says="groups"),
    )  # fmt: skip

    def infer(self, x: Spec, w: Spec, bias: Spec | None = None) -> Spec:
        name = f"conv{len(self.stride)}d"
        if x.dtype.kind == "b":
            raise unlike(name, x.dtype, "uif")
        if x.dtype is not w.dtype:
            raise RuntimeError(
                f"{name}: Input type ({x.dtype}) and weight type ({w.dtype}) should be the same"
            )
        if bias is not None and bias.dtype is not x.dtype:
            raise RuntimeError(
                f"{name}: Input type ({x.dtype}) and bias type ({bias.dtype}) should be the same"
            )
        if w.shape[0] % self.groups:
            raise ShapeError(
                f"{name}: got {w.shape[0]} output channels and groups={self.groups}; expected a "
                "multiple of groups"
            )
        if x.shape[1] != w.shape[1] * self.groups:
            raise ShapeError(
                f"{name}: Given groups={self.groups}, weight of size {list(w.shape)}, expected "
                f"input{list(x.shape)} to have "
                f"{w.shape[1] * self.groups} channels, but got {x.shape[1]} channels instead"
            )
        if bias is not None and tuple(bias.shape) != (w.shape[0],):
            raise ShapeError(
                f"{name}: got bias of shape {list(bias.shape)}; expected bias to be "
                f"1-dimensional with {w.shape[0]} elements"
            )
        for n, k, p, d in zip(x.shape[2:], w.shape[2:], self.padding, self.dilation, strict=True):
            if n + 2 * p < d * (k - 1) + 1:
                raise ShapeError(
                    f"{name}: Calculated padded input size per channel: {n + 2 * p}. Kernel "
                    f"size: {d * (k - 1) + 1}. "
                    "Kernel size can't be greater than actual input size"
                )
        return Spec((x.shape[0], w.shape[0], *self.output_size(x.shape[2:], w.shape[2:])), x.dtype)

    def operands(self, ins: Sequence[Layout], out: Layout) -> tuple[Layout, Layout, Layout]:
        return ins[0], ins[1], out

    def reference(self, x, w, bias=None):
        y = np.zeros(
            (x.shape[0], w.shape[0], *self.output_size(x.shape[2:], w.shape[2:])), np.float64
        )
        for xs, ws, ys in taps(self, x.shape[2:], w.shape[2:], y.shape[2:]):
            for i in range(self.groups):
                c, o = w.shape[1], w.shape[0] // self.groups
                part = x[(slice(None), slice(i * c, (i + 1) * c), *xs)].astype(np.float64)
                weight = w[(slice(i * o, (i + 1) * o), slice(None), *ws)].astype(np.float64)
                y[(slice(None), slice(i * o, (i + 1) * o), *ys)] += np.einsum(
                    "nc...,oc->no...", part, weight
                )
        if bias is not None:
            y += bias.reshape((1, -1) + (1,) * (x.ndim - 2))
        return y.astype(x.dtype)

    def __call__(self, x, w, bias=None):
        return super().__call__(x, w) if bias is None else super().__call__(x, w, bias)

    def grad(self, g, x, w, like_x, like_w, needs):
        attributes = (self.stride, self.padding, self.dilation, self.groups)
        gx = ConvGradInput(*attributes, tuple(like_x.shape[2:]))(g, w) if needs[0] else None
        gw = ConvGradWeight(*attributes, tuple(like_w.shape[2:]))(x, g) if needs[1] else None
        return gx, gw, *grad_bias(g, needs)


class ConvGradInput(Conv):
    """The gradient with respect to x; as an op of its own, the transposed convolution."""

    name = "conv_grad_input"
    role = "grad_input"
    size: tuple[int, ...]
    samples = (
        Sample(
            ((2, 4, 3, 3), F),
            ((4, 3, 3, 2), F),
            stride=(2, 1),
            padding=(1, 0),
            dilation=(1, 1),
            groups=1,
            size=(5, 4),
        ),
    )
    errors = (
        ErrorSample(((1, 4, 3), F), ((5, 2, 3), F), stride=(1,), padding=(0,), dilation=(1,), groups=1, size=(5,),
                    error=ShapeError, says="to have 5 channels, but got 4"),
        ErrorSample(((1, 1, 3), "b"), ((1, 1, 1), "b"), stride=(1,), padding=(0,), dilation=(1,), groups=1, size=(3,),
                    error=NotImplementedError, says="not implemented for 'Bool'"),
    )  # fmt: skip

    def infer(self, y: Spec, w: Spec, bias: Spec | None = None) -> Spec:
        name = f"conv_transpose{len(self.stride)}d"
        if y.dtype.kind == "b":
            raise unlike(name, y.dtype, "uif")
        if y.dtype is not w.dtype:
            raise RuntimeError(
                f"{name}: Input type ({y.dtype}) and weight type ({w.dtype}) should be the same"
            )
        if y.shape[1] != w.shape[0]:
            raise ShapeError(
                f"{name}: Given transposed=1, weight of size {list(w.shape)}, expected "
                f"input{list(y.shape)} to have {w.shape[0]} "
                f"channels, but got {y.shape[1]} channels instead"
            )
        return Spec((y.shape[0], w.shape[1] * self.groups, *self.size), y.dtype)

    def operands(self, ins: Sequence[Layout], out: Layout) -> tuple[Layout, Layout, Layout]:
        return out, ins[1], ins[0]

    def reference(self, y, w, bias=None):
        x = np.zeros((y.shape[0], w.shape[1] * self.groups, *self.size), np.float64)
        for xs, ws, ys in taps(self, self.size, w.shape[2:], y.shape[2:]):
            for i in range(self.groups):
                c, o = w.shape[1], w.shape[0] // self.groups
                part = y[(slice(None), slice(i * o, (i + 1) * o), *ys)].astype(np.float64)
                weight = w[(slice(i * o, (i + 1) * o), slice(None), *ws)].astype(np.float64)
                x[(slice(None), slice(i * c, (i + 1) * c), *xs)] += np.einsum(
                    "no...,oc->nc...", part, weight
                )
        if bias is not None:
            x += bias.reshape((1, -1) + (1,) * (y.ndim - 2))
        return x.astype(y.dtype)

    def __call__(self, y, w, bias=None):
        return super().__call__(y, w) if bias is None else super().__call__(y, w, bias)

    def grad(self, g, y, w, like_y, like_w, needs):
        attributes = (self.stride, self.padding, self.dilation, self.groups)
        gy = Convolution(*attributes)(g, w) if needs[0] else None
        if gy is not None and gy.shape != like_y.shape:  # output padding may hold a whole stride
            for dim in range(2, gy.ndim):
                gy = gy.narrow(dim, 0, like_y.shape[dim])
        gw = ConvGradWeight(*attributes, tuple(like_w.shape[2:]))(g, y) if needs[1] else None
        return gy, gw, *grad_bias(g, needs)


class ConvGradWeight(Conv):
    """The gradient with respect to w."""

    name = "conv_grad_weight"
    role = "grad_weight"
    kernel: tuple[int, ...]
    samples = (
        Sample(
            ((2, 4, 5, 5), F),
            ((2, 6, 3, 3), F),
            stride=(2, 2),
            padding=(1, 1),
            dilation=(1, 1),
            groups=2,
            kernel=(3, 3),
        ),
        Sample(((0, 2, 3), F), ((0, 2, 3), F), stride=(1,), padding=(1,), dilation=(1,), groups=1, kernel=(3,)),
    )  # fmt: skip
    errors = (
        ErrorSample(((2, 1, 3), F), ((3, 1, 3), F), stride=(1,), padding=(0,), dilation=(1,), groups=1, kernel=(1,),
                    error=ShapeError, says="the same batch"),
    )  # fmt: skip

    def infer(self, x: Spec, y: Spec) -> Spec:
        if x.dtype.kind == "b":
            raise unlike(self.name, x.dtype, "uif")
        if x.shape[0] != y.shape[0]:
            got = f"batches of {x.shape[0]} and {y.shape[0]}"
            raise fail(ShapeError, self.name, got, "the same batch for both")
        return Spec((y.shape[1], x.shape[1] // self.groups, *self.kernel), x.dtype)

    def operands(self, ins: Sequence[Layout], out: Layout) -> tuple[Layout, Layout, Layout]:
        return ins[0], out, ins[1]

    def reference(self, x, y):
        c, o = x.shape[1] // self.groups, y.shape[1] // self.groups
        w = np.zeros((y.shape[1], c, *self.kernel), np.float64)
        for xs, ws, ys in taps(self, x.shape[2:], self.kernel, y.shape[2:]):
            for i in range(self.groups):
                part = x[(slice(None), slice(i * c, (i + 1) * c), *xs)].astype(np.float64)
                into = y[(slice(None), slice(i * o, (i + 1) * o), *ys)].astype(np.float64)
                w[(slice(i * o, (i + 1) * o), slice(None), *ws)] += np.einsum(
                    "ncp,nop->oc",
                    part.reshape((*part.shape[:2], math.prod(part.shape[2:]))),
                    into.reshape((*into.shape[:2], math.prod(into.shape[2:]))),
                )
        return w.astype(x.dtype)

    def grad(self, g, x, y, like_x, needs):
        attributes = (self.stride, self.padding, self.dilation, self.groups)
        gx = ConvGradInput(*attributes, tuple(like_x.shape[2:]))(y, g) if needs[0] else None
        return gx, Convolution(*attributes)(x, g) if needs[1] else None


def grad_bias(g, needs: Sequence[bool]) -> tuple:
    """The gradient of the bias, if there is one: nothing, None or the sum over all but channels."""
    return tuple(g.sum((0, *range(2, g.ndim))) if wanted else None for wanted in needs[2:])


def taps(op: Conv, x: Sequence[int], w: Sequence[int], y: Sequence[int]):
    """For every position in the kernel: where it reads x and which outputs it serves."""
    for at in np.ndindex(*w):
        xs, ys = [], []
        for i, n, m, s, p, d in zip(at, x, y, op.stride, op.padding, op.dilation, strict=True):
            shift = i * d - p
            first = max(0, -(shift // s))
            last = min(m - 1, (n - 1 - shift) // s)
            count = max(0, last - first + 1)
            ys.append(slice(first, first + count))
            start = first * s + shift
            xs.append(slice(start, start + (count - 1) * s + 1, s) if count else slice(0, 0))
        yield tuple(xs), at, tuple(ys)


# -- public functions


def spatial(name: str, value: int | Sequence[int], n: int) -> tuple[int, ...]:
    """One number for all spatial dimensions, or one for each."""
    if isinstance(value, int):
        return (value,) * n
    value = tuple(int(v) for v in value)
    if len(value) == 1:
        return value * n
    if len(value) != n:
        raise RuntimeError(
            f"{name}: got {len(value)} values {list(value)}; expected a single integer or a "
            f"list of {n} values"
        )
    return value


def _batched(name: str, x, w, n: int):
    """The input with a batch dimension, and whether it was added."""
    if w.ndim != n + 2:
        raise RuntimeError(f"{name}: got a weight with {w.ndim} dimensions; expected {n + 2}")
    if x.ndim == n + 1:
        return x.unsqueeze(0), True
    if x.ndim != n + 2:
        raise RuntimeError(
            f"Expected {n + 1}D (unbatched) or {n + 2}D (batched) input to {name}, but got "
            f"input of size: {list(x.shape)}"
        )
    return x, False


def _conv(n: int, x, w, bias, stride, padding, dilation, groups):
    name = f"conv{n}d"
    x, added = _batched(name, x, w, n)
    stride, dilation = spatial(name, stride, n), spatial(name, dilation, n)
    if any(s <= 0 for s in stride):
        raise RuntimeError(f"{name}: non-positive stride is not supported, got {list(stride)}")
    if groups <= 0:
        raise RuntimeError(f"{name}: non-positive groups is not supported, got {groups}")
    if isinstance(padding, str):
        x, padding = _named_padding(name, x, w, padding, stride, dilation)
    padding = spatial(name, padding, n)
    if any(p < 0 for p in padding):
        raise RuntimeError(f"{name}: negative padding is not supported, got {list(padding)}")
    y = Convolution(stride, padding, dilation, groups)(x, w, bias)
    return y.squeeze(0) if added else y


def _named_padding(name, x, w, padding, stride, dilation):
    """`valid` is none; `same` keeps the size, with one more at the end where the sum is odd."""
    n = len(stride)
    if padding == "valid":
        return x, (0,) * n
    if padding != "same":
        raise RuntimeError(f"{name}: got padding {padding!r}; expected 'same', 'valid' or numbers")
    if any(s != 1 for s in stride):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    total = [d * (k - 1) for d, k in zip(dilation, w.shape[2:], strict=True)]
    if any(t % 2 for t in total):
        sides = [side for t in reversed(total) for side in (0, t % 2)]
        x = x._pad_zeros(sides)
    return x, tuple(t // 2 for t in total)


def conv1d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """One-dimensional cross-correlation.

    shape:  input [N, C, L], weight [O, C/groups, K] -> [N, O, (L + 2*padding - dilation*(K-1) - 1)//stride + 1]
    errors: RuntimeError if channels, groups or sizes do not fit
    """
    return _conv(1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Two-dimensional cross-correlation.

    shape:  input [N, C, H, W], weight [O, C/groups, Kh, Kw] -> [N, O, Ho, Wo]
    errors: RuntimeError if channels, groups or sizes do not fit
    source: Dumoulin & Visin 2016, arXiv:1603.07285
    """
    return _conv(2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(input, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
    """Three-dimensional cross-correlation."""
    return _conv(3, input, weight, bias, stride, padding, dilation, groups)


def _conv_transpose(n: int, x, w, bias, stride, padding, output_padding, groups, dilation):
    name = f"conv_transpose{n}d"
    x, added = _batched(name, x, w, n)
    stride, padding, dilation = (spatial(name, v, n) for v in (stride, padding, dilation))
    extra = spatial(name, output_padding, n)
    for e, s, d in zip(extra, stride, dilation, strict=True):
        if e >= s and e >= d:
            raise RuntimeError(
                f"{name}: output padding must be smaller than either stride or dilation, but "
                f"got output_padding={list(extra)}"
            )
    size = tuple(
        (m - 1) * s - 2 * p + d * (k - 1) + e + 1
        for m, k, s, p, d, e in zip(
            x.shape[2:], w.shape[2:], stride, padding, dilation, extra, strict=True
        )
    )
    if any(n <= 0 for n in size):
        raise RuntimeError(
            f"{name}: got sizes that give an output of {list(size)}; expected positive sizes"
        )
    y = ConvGradInput(stride, padding, dilation, groups, size)(x, w, bias)
    return y.squeeze(0) if added else y


def conv_transpose1d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """One-dimensional transposed convolution, the data gradient of `conv1d`.

    shape:  input [N, C, L], weight [C, O/groups, K] -> [N, O, M], with
            M = (L-1)*stride - 2*padding + dilation*(K-1) + output_padding + 1
    """
    return _conv_transpose(
        1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """Two-dimensional transposed convolution, the data gradient of `conv2d`."""
    return _conv_transpose(
        2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1
):
    """Three-dimensional transposed convolution, the data gradient of `conv3d`."""
    return _conv_transpose(
        3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )
