"""Plans of convolutions: which kernels run, on which blocks, with which numbers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from math import gcd, prod

from amity.compiler.conv_product import PANELS, PRODUCT, build_panels, build_product, conv_tile, kind_of
from amity.compiler.window import Axis, copy_strides
from amity.core.shape import contiguous_strides
from amity.ir.kernel import Kernel, itemsize
from amity.ir.target import Target

SCRATCH = 8 << 20
DEPTH = 384  # rows of a packed panel: with 48 columns of f32 they fill the second-level cache by a few panels
PIXELS = 240  # columns that a block aims at


@dataclass(frozen=True)
class Launch:
    """One run of a kernel over the grid [0, grid), handed out in pieces of `grain`.

    `buffers` are names: `x`, `w`, `y`, `bias`, or the index of a temporary.
    """

    key: tuple
    meta: tuple[int, ...]
    buffers: tuple[str | int, ...]
    grid: int
    grain: int = 1


@dataclass(frozen=True)
class ConvPlan:
    """The launches of one convolution, in order, and the bytes of the temporaries between them."""

    launches: tuple[Launch, ...]
    temporaries: tuple[int, ...] = ()


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


def plan_conv(
    target: Target, op: str, dtype: str, x_shape: Sequence[int], w_shape: Sequence[int], *,
    stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int], groups: int = 1,
    has_bias: bool = False, x_strides: Sequence[int] | None = None, w_strides: Sequence[int] | None = None,
    y_strides: Sequence[int] | None = None, threads: int = 1,
) -> ConvPlan:  # fmt: skip
    """How to compute `forward` (y), `grad_input` (x) or `grad_weight` (w) from the other two.

    shape: x `[N, C, *spatial]`, w `[O, C / groups, *kernel]`, one to three spatial axes.
    """
    spatial = len(x_shape) - 2
    y_shape = (x_shape[0], w_shape[0]) + tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip(x_shape[2:], w_shape[2:], stride, padding, dilation)
    )
    conv = Conv(
        dtype, _three(x_shape, x_strides), _three(w_shape, w_strides), _three(y_shape, y_strides),
        (1,) * (3 - spatial) + tuple(stride), (0,) * (3 - spatial) + tuple(padding),
        (1,) * (3 - spatial) + tuple(dilation), groups, has_bias, threads,
    )  # fmt: skip
    return {"forward": plan_forward, "grad_input": plan_grad_input}[op](target, conv)


def build_conv(target: Target, key: tuple, math: Callable) -> Kernel:
    """The kernel of a launch's key."""
    what, dtype = key
    return BUILD[what](target, f"{what.replace('.', '_')}_{dtype}", dtype, math)


BUILD = {"conv.panels": build_panels, "conv.product": build_product}


def _three(shape: Sequence[int], strides: Sequence[int] | None) -> Array:
    """With three spatial axes, the missing ones of size 1 in front."""
    strides = contiguous_strides(tuple(shape)) if strides is None else strides
    missing = 5 - len(shape)
    return Array((*shape[:2], *(1,) * missing, *shape[2:]), (*strides[:2], *(0,) * missing, *strides[2:]))


# -- the product of weights and windows


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


def plan_forward(target: Target, conv: Conv) -> ConvPlan:
    o, c = conv.w.shape[:2]
    axes = tuple(
        Axis(conv.x.shape[i], conv.y.shape[i], s, conv.w.shape[i], -p, d)
        for i, s, p, d in zip((2, 3, 4), conv.stride, conv.padding, conv.dilation)
    )
    outs = o // conv.groups
    w = (outs * conv.w.strides[0], *conv.w.strides)
    p = Product(conv.dtype, conv.x.shape[0], conv.groups, c, outs, axes, "x", "y", conv.x.strides,
                conv.y.strides, 0, w, 0, conv.has_bias, conv.threads)  # fmt: skip
    return join([plan_product(target, p)])


def plan_grad_input(target: Target, conv: Conv) -> ConvPlan:
    """Outputs that lie a stride apart see the same taps: each residue is a convolution of its own."""
    residues = [range(min(s, n)) for s, n in zip(conv.stride, conv.x.shape[2:])]
    return join([_residue(target, conv, r) for r in product(*residues)])


def _residue(target: Target, conv: Conv, residue: tuple[int, ...]) -> ConvPlan:
    o, c = conv.w.shape[:2]
    axes, x, w = [], list(conv.x.strides), list(conv.w.strides)
    x_start = w_start = 0
    for i, (a, s, p, d) in enumerate(zip(residue, conv.stride, conv.padding, conv.dilation), 2):
        every = s // gcd(s, d)  # taps that fit are this far apart
        first = next((r for r in range(every) if (a + p - r * d) % s == 0), conv.w.shape[i])
        taps = max(0, -(-(conv.w.shape[i] - first) // every))
        size, count = conv.y.shape[i], -(-(conv.x.shape[i] - a) // s)
        axes.append(Axis(size, count, 1, taps, (a + p - first * d) // s if taps else 0, -(every * d) // s))
        x_start, w_start = x_start + a * x[i], w_start + (first * w[i] if taps else 0)
        x[i], w[i] = x[i] * s, w[i] * every
    outs = o // conv.groups
    strides = (outs * w[0], w[1], w[0], *w[2:])
    p = Product(conv.dtype, conv.x.shape[0], conv.groups, outs, c, tuple(axes), "y", "x", conv.y.strides,
                tuple(x), x_start, strides, w_start, conv.has_bias, conv.threads)  # fmt: skip
    return plan_product(target, p)


def join(plans: list[ConvPlan]) -> ConvPlan:
    """Plans one after the other; their temporaries are told apart."""
    launches, temporaries = [], []
    for p in plans:
        shift = len(temporaries)
        for l in p.launches:
            buffers = tuple(n + shift if isinstance(n, int) else n for n in l.buffers)
            launches.append(Launch(l.key, l.meta, buffers, l.grid, l.grain))
        temporaries += p.temporaries
    return ConvPlan(tuple(launches), tuple(temporaries))


def plan_product(target: Target, p: Product) -> ConvPlan:
    """The launches of one product: lay out the weights, then multiply."""
    if p.images * prod(a.count for a in p.axes) * p.outs == 0:
        return ConvPlan(())
    kind = kind_of(target, p.dtype)
    tile = conv_tile(target, kind)
    p = flatten(p)
    words, units = product_words(p, kind, tile)
    tiles = -(-p.outs // tile.rows)
    taps = [a.taps for a in p.axes]
    depth = p.channels * prod(taps)
    sizes = dict(zip(("w.group", "w.out", "w.channel", "w.plane", "w.row", "w.column"), p.w))
    panels = PANELS.meta({
        **sizes, "w.start": p.w_start, "outs": p.outs, "channels": p.channels,
        "d": taps[0], "h": taps[1], "w": taps[2], "bias": p.has_bias,
    })  # fmt: skip
    bias = "bias" if p.has_bias else "w"
    return ConvPlan(
        (
            Launch(("conv.panels", p.dtype), panels, ("w", bias, 0), p.groups * tiles),
            Launch(("conv.product", p.dtype), PRODUCT.meta(words), (p.source, 0, p.result), units),
        ),
        (p.groups * tiles * tile.rows * (depth + 1) * kind.size,),
    )


def flatten(p: Product) -> Product:
    """All spatial axes as one, where each output reads the input at its own place."""
    if any(a.taps != 1 or a.step != 1 or a.offset or a.size != a.count for a in p.axes):
        return p
    counts = [a.count for a in p.axes]
    if not (is_linear(p.x[2:], counts) and is_linear(p.y[2:], counts)):
        return p
    n = prod(counts)
    one = Axis(1, 1)
    return Product(p.dtype, p.images, p.groups, p.channels, p.outs, (one, one, Axis(n, n)), p.source, p.result,
                   (*p.x[:2], 0, 0, 1), (*p.y[:2], 0, 0, 1), p.y_start, p.w, p.w_start, p.has_bias, p.threads)  # fmt: skip


def is_linear(strides: Sequence[int], counts: Sequence[int]) -> bool:
    """Whether the last element varies fastest and no gap is left."""
    expected = 1
    for s, n in zip(reversed(strides), reversed(counts)):
        if n != 1 and s != expected:
            return False
        expected *= n
    return True


def product_words(p: Product, kind, tile) -> tuple[dict[str, int], int]:
    """The meta words of the product and the units of its grid."""
    d, h, w = p.axes
    counts = (p.images, d.count, h.count, w.count)
    is_plain = p.dtype == kind.compute
    taps = d.taps * h.taps * w.taps
    straight = is_plain and is_linear(p.y[2:], counts[1:])
    block = list(choose_block(counts, kind.lanes))
    if block[0] > 1:
        straight = False
    direct = is_plain and all(a.is_inside for a in p.axes) and w.advance == 1 and w.grain * p.x[4] == 1
    chunk = max(1, -(-p.channels // max(1, -(-p.channels * taps // DEPTH))))
    depth = chunk * taps if chunk > 1 else -(-taps // max(1, -(-taps // DEPTH)))
    strides = copy_strides(d, h, w, block, chunk, kind.lanes)
    at_copy = _round(8 * chunk * taps)
    at_panels = at_copy + (0 if direct else _round(strides["e.size"] * kind.size))
    pixels = prod(block)
    panel = max(depth, 1) * tile.columns * kind.size
    at_sums = at_panels + _round(-(-pixels // tile.columns) * panel)
    if direct:
        strides = {"e.image": p.x[0], "e.channel": p.x[1], "e.plane": p.x[2] * d.grain, "e.row": p.x[3] * h.grain,
                   "e.phase": 0}  # fmt: skip
    grid = [-(-n // s) for n, s in zip(counts, block)]
    blocks = prod(grid) * p.groups
    tiles = -(-p.outs // tile.rows)
    m_block = tile.rows * (-(-tiles // min(tiles, max(1, 3 * p.threads // blocks))))
    m_blocks = -(-p.outs // m_block)
    end = at_sums + (0 if straight else m_block * pixels * kind.size)
    assert end <= SCRATCH, end
    words = {
        **d.words("d", block[1]), **h.words("h", block[2]), **w.words("w", block[3]), **strides,
        **dict(zip(("x.image", "x.channel", "x.plane", "x.row", "x.column"), p.x)),
        **dict(zip(("y.image", "y.channel", "y.plane", "y.row", "y.column"), p.y)),
        "images": p.images, "n.block": block[0], "groups": p.groups, "channels": p.channels, "outs": p.outs,
        "taps": taps, "chunk": chunk, "depth": max(depth, 1), "direct": direct, "straight": straight,
        "y.start": p.y_start, "d.blocks": grid[1], "h.blocks": grid[2], "w.blocks": grid[3],
        "m.block": m_block, "m.blocks": m_blocks, "at.copy": at_copy, "at.panels": at_panels,
        "at.sums": at_sums, "panel": panel,
        "pitch": p.y[1] * itemsize(p.dtype) if straight else pixels * kind.size,
    }  # fmt: skip
    return words, blocks * m_blocks


def _round(n: int) -> int:
    return (n + 63) // 64 * 64


@functools.lru_cache(1024)
def choose_block(counts: tuple[int, int, int, int], lanes: int) -> tuple[int, int, int, int]:
    """Images, planes, rows and columns of a block: about PIXELS, in one run of the output if possible."""
    n, d, h, w = counts
    if w >= PIXELS:
        return 1, 1, 1, _best(w, 1, lanes, lanes)
    if w * h >= PIXELS:
        return 1, 1, _best(h, w, lanes, 1), w
    if w * h * d >= PIXELS:
        return 1, _best(d, w * h, lanes, 1), h, w
    if n > 1 and w * h * d < 0.75 * PIXELS:
        return _best(n, w * h * d, lanes, 1), d, h, w
    return 1, d, h, w


def _best(count: int, unit: int, lanes: int, step: int) -> int:
    """How many of `count` positions of `unit` pixels a block takes so that the fewest lanes idle."""
    def cost(size: int) -> float:
        full, rest = divmod(count, size)
        padded = lambda k: -(-k * unit // lanes) * lanes + 24 if k else 0  # noqa: E731
        return full * padded(size) + padded(rest)

    if count * unit <= PIXELS:
        return count
    low = max(step, PIXELS // 2 // unit // step * step)
    high = max(low, min(count, PIXELS * 3 // 2 // unit // step * step))
    return min(range(low, high + 1, step), key=cost)
