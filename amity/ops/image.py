"""Images rearranged: sliding blocks, and values moved between channels and places."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from amity.core.errors import ShapeError, fail
from amity.ir.graph import Spec

from .convolution import spatial
from .joining import stack
from .movement import Slice
from .padding import pad
from .record import ErrorSample, Op, Sample, composite


def _block_counts(name: str, size, kernel, dilation, padding, stride) -> tuple[int, ...]:
    """How many sliding blocks fit in each dimension."""
    for what, values, low in (("kernel size", kernel, 1), ("dilation", dilation, 1),
                              ("padding", padding, 0), ("stride", stride, 1)):  # fmt: skip
        if min(values) < low:
            raise RuntimeError(f"{name}: got {what} {values}; expected at least {low}")
    counts = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    )
    if min(counts) <= 0:
        raise RuntimeError(
            f"{name}: given spatial size {tuple(size)}, kernel_size={kernel}, "
            f"dilation={dilation}, padding={padding}, stride={stride}, calculated shape of the "
            f"array of sliding blocks as {counts}, but its components must be at least one."
        )
    return counts


def _places(kernel, dilation):
    """The first row and column of each element of the kernel."""
    return [(i * dilation[0], j * dilation[1]) for i in range(kernel[0]) for j in range(kernel[1])]


def _blocks_grad(g, like_x, kernel, dilation, padding, stride):
    size = tuple(like_x.shape[2:])
    counts = _block_counts("unfold", size, kernel, dilation, padding, stride)
    return Fold(size, kernel, dilation, padding, stride, counts)(g)


TWO: dict[str, Any] = {"kernel": (2, 2), "dilation": (1, 1), "padding": (0, 0), "stride": (1, 1)}


@composite(
    grad=_blocks_grad,
    samples=(
        Sample(((2, 1, 3, 4), "f"), **TWO),
        Sample(((1, 2, 4, 3), "f"), **TWO | {"padding": (1, 0), "stride": (2, 1)}),
    ),
    errors=(ErrorSample(((1, 1, 3, 1), "f"), **TWO, error=RuntimeError, says="sliding blocks"),),
)
def _blocks(x, kernel, dilation, padding, stride):
    """Sliding blocks of images [N, C, H, W] as columns [N, C * kernel, blocks]."""
    high, wide = _block_counts("unfold", x.shape[2:], kernel, dilation, padding, stride)
    if any(padding):
        x = pad(x, (padding[1], padding[1], padding[0], padding[0]))
    parts = [
        Slice(3, j, wide, stride[1])(Slice(2, i, high, stride[0])(x))
        for i, j in _places(kernel, dilation)
    ]
    return stack(parts, 2).reshape(x.shape[0], x.shape[1] * len(parts), high * wide)


class Fold(Op):
    """Columns of sliding blocks [N, C * kernel, blocks] added up into images [N, C, *size]."""

    name = "fold"
    carries = "fold"
    kind = "kernel"
    planner = "fold"
    size: tuple[int, int]
    kernel: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    stride: tuple[int, int]
    blocks: tuple[int, int]
    samples = (
        Sample(
            ((2, 8, 12), "f"),
            size=(4, 3),
            kernel=(2, 2),
            dilation=(1, 1),
            padding=(1, 1),
            stride=(2, 1),
            blocks=(3, 4),
        ),
    )
    errors = (
        ErrorSample(
            ((1, 4, 5), "f"), size=(3, 3), **TWO, blocks=(2, 2), error=ShapeError, says="(4, 4)"
        ),
        ErrorSample(
            ((1, 3, 4), "f"), size=(3, 3), **TWO, blocks=(2, 2), error=ShapeError, says="(4, 4)"
        ),
    )

    def infer(self, x: Spec) -> Spec:
        rows, columns = math.prod(self.kernel), math.prod(self.blocks)
        if x.ndim != 3 or x.shape[1] % rows or x.shape[2] != columns:
            expected = f"[N, C, M] with C and M multiples of {(rows, columns)}"
            raise fail(ShapeError, self.name, f"shape {tuple(x.shape)}", expected)
        channels = x.shape[1] // math.prod(self.kernel)
        return Spec((x.shape[0], channels, *self.size), x.dtype)

    def reference(self, x):
        (high, wide), (h, w) = self.blocks, self.size
        top, left = self.padding
        x = x.reshape((x.shape[0], -1, math.prod(self.kernel), high, wide))
        full = np.zeros((*x.shape[:2], h + 2 * top, w + 2 * left), x.dtype)
        for at, (i, j) in enumerate(_places(self.kernel, self.dilation)):
            rows = slice(i, i + high * self.stride[0], self.stride[0])
            columns = slice(j, j + wide * self.stride[1], self.stride[1])
            full[:, :, rows, columns] += x[:, :, at]
        return full[:, :, top : top + h, left : left + w]

    def grad(self, g):
        return _blocks(g, self.kernel, self.dilation, self.padding, self.stride)


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Sliding blocks of an image as columns.

    shape:  [N, C, H, W] or [C, H, W] -> [(N,) C * prod(kernel_size), number of blocks]
    errors: RuntimeError for blocks that do not fit
    """
    if input.ndim not in (3, 4) or any(n == 0 for n in input.shape[-3:]):
        raise RuntimeError(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero "
            f"dimensions for input, but got: {list(input.shape)}"
        )
    x = input if input.ndim == 4 else input.unsqueeze(0)
    kernel, dilation, padding, stride = (
        spatial("unfold", v, 2) for v in (kernel_size, dilation, padding, stride)
    )
    _block_counts("unfold", x.shape[2:], kernel, dilation, padding, stride)
    y = _blocks(x, kernel, dilation, padding, stride)
    return y if input.ndim == 4 else y.squeeze(0)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Columns of sliding blocks added up into an image.

    shape:  [N, C * prod(kernel_size), number of blocks] -> [N, C, *output_size]; N may be absent
    errors: RuntimeError for sizes that do not fit together
    """
    if input.ndim not in (2, 3):
        raise RuntimeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and "
            f"non-zero dimensions for input, but got: {list(input.shape)}"
        )
    x = input if input.ndim == 3 else input.unsqueeze(0)
    size, kernel, dilation, padding, stride = (
        spatial("fold", v, 2) for v in (output_size, kernel_size, dilation, padding, stride)
    )
    if x.shape[1] % math.prod(kernel):
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, "
            f"but got input.size(1)={x.shape[1]} and kernel_size={kernel}."
        )
    high, wide = _block_counts("fold", size, kernel, dilation, padding, stride)
    if x.shape[2] != high * wide:
        raise RuntimeError(
            f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, "
            f"padding={padding}, stride={stride}, expected size of input's dimension 2 to match "
            f"the calculated number of sliding blocks {high} * {wide} = {high * wide}, but got "
            f"input.size(2)={x.shape[2]}."
        )
    outer = (x.shape[0], x.shape[1] // math.prod(kernel))
    if (high * kernel[0], wide * kernel[1]) == size and stride == kernel and dilation == (1, 1):
        x = x.reshape(*outer, *kernel, high, wide)  # blocks side by side: only moved
        whole = x.permute(0, 1, 4, 2, 5, 3).reshape(*outer, *size)
        return whole if input.ndim == 3 else whole.squeeze(0)
    y = Fold(size, kernel, dilation, padding, stride, (high, wide))(x)
    return y if input.ndim == 3 else y.squeeze(0)


def _image(name: str, x) -> None:
    if x.ndim < 3:
        raise RuntimeError(
            f"{name} expects input to have at least 3 dimensions, but got input with {x.ndim} "
            "dimension(s)"
        )


def pixel_shuffle(input, upscale_factor):
    """Groups of channels spread over a finer image.

    shape:  [*, C r^2, H, W] -> [*, C, H r, W r]
    errors: RuntimeError for channels that are no multiple of r^2
    source: Shi et al. 2016, arXiv:1609.05158
    """
    _image("pixel_shuffle", input)
    r = upscale_factor
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square "
            f"of upscale_factor, but input.size(-3)={c} is not divisible by {r * r}"
        )
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    x = x.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return x.reshape(*lead, c // (r * r), h * r, w * r)


def pixel_unshuffle(input, downscale_factor):
    """The places of a fine image gathered into channels.

    shape:  [*, C, H r, W r] -> [*, C r^2, H, W]
    errors: RuntimeError for sizes that are no multiple of r
    """
    _image("pixel_unshuffle", input)
    r = downscale_factor
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, c, h, w = input.shape
    for what, size in (("height", h), ("width", w)):
        if size % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {what} to be divisible by downscale_factor, but "
                f"{size} is not divisible by {r}"
            )
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    x = x.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return x.reshape(*lead, c * r * r, h // r, w // r)


def channel_shuffle(input, groups):
    """The channels of groups, interleaved.

    shape:  [N, C, *] -> the same
    errors: RuntimeError for channels that are no multiple of `groups`
    source: Zhang et al. 2017, arXiv:1707.01083
    """
    if input.ndim < 3:
        raise RuntimeError(
            f"channel_shuffle expects input with > 2 dims, but got input with sizes "
            f"{list(input.shape)}"
        )
    n, c, *rest = input.shape
    if groups <= 0 or c % groups:
        raise RuntimeError(
            f"channel_shuffle: got {c} channels and groups={groups}; expected a positive number "
            "of groups that divides the channels"
        )
    x = input.reshape(n, groups, c // groups, *rest)
    return x.transpose(1, 2).reshape(n, c, *rest)


native_channel_shuffle = channel_shuffle
