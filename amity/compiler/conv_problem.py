"""What a convolution asks for, apart from any kernel.

Forward, data gradient and transposed convolution are all a `Product`: weights by windows. They
differ in how outputs see inputs (`Axis`) and in strides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod

from .window import Axis, axis


@dataclass(frozen=True)
class Array:
    """Sizes and strides, in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """A convolution of three spatial axes: `y = conv(x, w)`, whichever of them is sought."""

    dtype: str
    x: Array
    w: Array
    y: Array
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    has_bias: bool
    threads: int

    @property
    def axes(self) -> tuple[Axis, Axis, Axis]:
        """How outputs see inputs, going forward."""
        d, h, w = (
            axis(self.x.shape[i], self.y.shape[i], s, self.w.shape[i], -p, d)
            for i, s, p, d in zip((2, 3, 4), self.stride, self.padding, self.dilation)
        )
        return d, h, w


@dataclass(frozen=True)
class Product:
    """A convolution as one matrix product: where its operands lie and how outputs see inputs."""

    dtype: str
    images: int
    groups: int
    channels: int  # of one group
    outs: int  # of one group
    axes: tuple[Axis, Axis, Axis]
    source: str  # names of the buffers: the image, the result
    result: str
    x: tuple[int, ...]  # strides of the image: image, channel, plane, row, column
    y: tuple[int, ...]  # strides of the result, in the same order
    y_start: int
    w: tuple[int, ...]  # strides of the weights: group, out, channel, plane, row, column
    w_start: int
    has_bias: bool
    threads: int

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Images, planes, rows and columns of the result."""
        d, h, w = self.axes
        return self.images, d.count, h.count, w.count

    @property
    def taps(self) -> int:
        return prod(a.taps for a in self.axes)


@dataclass(frozen=True)
class Stage:
    """Runs of kernels, `(what, meta, buffers, grid)`, that share one temporary, called `t`; the
    operands of an ending are called by number.
    """

    runs: tuple[tuple[str, tuple[int, ...], Sequence[str | int], int], ...]
    temporary: int = 0


def forward_product(conv: Conv) -> Product:
    o, c = conv.w.shape[:2]
    outs = o // conv.groups
    w = (outs * conv.w.strides[0], *conv.w.strides)
    return Product(
        conv.dtype, conv.x.shape[0], conv.groups, c, outs, conv.axes, "x", "y", conv.x.strides,
        conv.y.strides, 0, w, 0, conv.has_bias, conv.threads,
    )  # fmt: skip


def grad_input_products(conv: Conv) -> Iterator[Product]:
    """Inputs that lie a stride apart are seen by the same taps: each residue is a product of
    its own.
    """
    for residue in product(*(range(min(s, n)) for s, n in zip(conv.stride, conv.x.shape[2:]))):
        yield _residue(conv, residue)


def _residue(conv: Conv, residue: tuple[int, ...]) -> Product:
    o, c = conv.w.shape[:2]
    axes, x, w = [], list(conv.x.strides), list(conv.w.strides)
    x_start = w_start = 0
    for i, (a, s, p, d) in enumerate(zip(residue, conv.stride, conv.padding, conv.dilation), 2):
        every = s // gcd(s, d)  # taps that fit are this far apart
        first = next((r for r in range(every) if (a + p - r * d) % s == 0), conv.w.shape[i])
        taps = max(0, -(-(conv.w.shape[i] - first) // every))
        offset = (a + p - first * d) // s if taps else 0
        count = -(-(conv.x.shape[i] - a) // s)
        axes.append(axis(conv.y.shape[i], count, 1, taps, offset, -(every * d) // s))
        x_start, w_start = x_start + a * x[i], w_start + (first * w[i] if taps else 0)
        x[i], w[i] = x[i] * s, w[i] * every
    outs = o // conv.groups
    strides = (outs * w[0], w[1], w[0], *w[2:])
    d, h, width = axes
    return Product(
        conv.dtype, conv.x.shape[0], conv.groups, outs, c, (d, h, width), "y", "x", conv.y.strides,
        tuple(x), x_start, strides, w_start, conv.has_bias, conv.threads,
    )  # fmt: skip


def flatten(p: Product) -> Product:
    """All spatial axes as one, where each output reads the input at its own place."""
    if any(a.taps != 1 or a.step != 1 or a.offset or a.size != a.count for a in p.axes):
        return p
    counts = p.counts[1:]
    if not (is_linear(p.x[2:], counts) and is_linear(p.y[2:], counts)):
        return p
    one, n = axis(1, 1), prod(counts)
    return replace(p, axes=(one, one, axis(n, n)), x=(*p.x[:2], 0, 0, 1), y=(*p.y[:2], 0, 0, 1))


def is_linear(strides: Sequence[int], counts: Sequence[int]) -> bool:
    """Whether the last element varies fastest and no gap is left."""
    expected = 1
    for s, n in zip(reversed(strides), reversed(counts)):
        if n != 1 and s != expected:
            return False
        expected *= n
    return True
