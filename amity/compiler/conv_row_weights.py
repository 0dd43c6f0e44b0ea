"""Weights of convolutions whose result has its channels side by side, laid out in panels as tiles read
them.
"""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_problem import Product
from .conv_product import kind_of, split_index
from .pack import transpose
from .tile import best_tile
from .window import Kind, Words, first_lanes, scaled_iota

WEIGHTS = Words(
    "w.start w.group w.out w.channel w.plane w.row w.column outs channels d h w bias is_linear "
    "channel_row tap_row"
)


def build_row_weights(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(w, bias, out)`: for each panel of output channels the bias, then a row for each depth.

    One unit is one panel of one group; columns beyond the last are garbage.
    """
    kind = kind_of(target, dtype)
    tile = best_tile(target, kind.compute)
    b = Builder(name, target, math)
    width = tile.columns * kind.size
    with b.entry():
        w, bias, out = (b.pointer(i) for i in range(3))
        read = lambda names: WEIGHTS.read(b, b.meta, names)  # noqa: E731
        start, wg, wo, outs, has_bias = read("w.start w.group w.out outs bias")
        channels, d, h, columns, is_linear = read("channels d h w is_linear")
        panels = (outs + (tile.columns - 1)) // tile.columns
        depth = channels * d * h * columns
        with b.loop(b.lo, b.hi) as unit:
            g, panel = split_index(unit.index, panels)
            to = b.offset(out, unit.index * (depth + 1) * width)
            for v in range(tile.vectors):
                m = panel * tile.columns + v * kind.lanes
                place = b.offset(to, v * kind.lanes * kind.size)
                left = b.max(outs - m, 0)
                known = first_lanes(b, b.select(has_bias.ne(0), left, 0), kind.lanes)
                first = b.load(bias, g * outs + m, dtype, kind.lanes, known)
                b.store(place, 0, first.to(kind.compute), kind.compute)
                m = b.min(m, outs - 1)
                source = b.offset(w, (start + g * wg + m * wo) * itemsize(dtype))
                rows = b.offset(place, width)
                with b.branch(is_linear.ne(0)):
                    _turned(b, kind, source, rows, width, outs - m, depth)
                with b.branch(is_linear.eq(0)):
                    _scattered(b, kind, source, rows, width, left)
    return b.kernel


def _turned(b: Builder, kind: Kind, source, rows, width: int, outs: Value, depth: Value) -> None:
    """A vector of output channels of weights without gaps: squares, transposed in registers."""
    lanes, storage = kind.lanes, itemsize(kind.storage)
    wo, channels, channel_row, tap_row = WEIGHTS.read(
        b, b.meta, "w.out channels channel_row tap_row"
    )
    taps = depth // b.max(channels, 1)
    lines = [b.offset(source, b.min(outs - 1, i) * wo * storage) for i in range(lanes)]
    with b.loop(0, depth, lanes) as k:
        mask = first_lanes(b, depth - k.index, lanes)
        at = k.index * storage
        square = [
            b.load(b.offset(p, at), 0, kind.storage, lanes, mask).to(kind.compute) for p in lines
        ]
        for i, x in enumerate(transpose(b, square, lanes)):
            with b.branch(depth - k.index > i):
                c = (k.index + i) // taps
                row = c * channel_row + (k.index + i - c * taps) * tap_row
                b.store(b.offset(rows, row * width), 0, x, kind.compute)


def _scattered(b: Builder, kind: Kind, source, rows, width: int, outs: Value) -> None:
    """A vector of output channels of weights with any strides."""
    lanes, storage = kind.lanes, itemsize(kind.storage)
    read = lambda names: WEIGHTS.read(b, b.meta, names)  # noqa: E731
    wo, wc, wd, wh, ww = read("w.out w.channel w.plane w.row w.column")
    channels, d, h, w, channel_row, tap_row = read("channels d h w channel_row tap_row")
    spread, mask = scaled_iota(b, wo, lanes), first_lanes(b, outs, lanes)
    with b.loop(0, channels) as c, b.loop(0, d) as i, b.loop(0, h) as j, b.loop(0, w) as k:
        at = c.index * wc + i.index * wd + j.index * wh + k.index * ww
        x = b.load(b.offset(source, at * storage), spread, kind.storage, lanes, mask)
        tap = (i.index * h + j.index) * w + k.index
        row = c.index * channel_row + tap * tap_row
        b.store(b.offset(rows, row * width), 0, x.to(kind.compute), kind.compute)


def weight_words(p: Product) -> dict[str, int]:
    """The words of `build_row_weights`."""
    counts = (p.channels, *(a.taps for a in p.axes))
    strides = p.w[2:]
    expected, is_linear = 1, True
    for n, s in zip(reversed(counts), reversed(strides)):
        is_linear &= n == 1 or s == expected
        expected *= n
    names = "w.group w.out w.channel w.plane w.row w.column".split()
    by_line = is_by_line(p)
    return {
        **dict(zip(names, p.w)), **dict(zip(("channels", "d", "h", "w"), counts)),
        "w.start": p.w_start, "outs": p.outs, "bias": p.has_bias, "is_linear": is_linear,
        "channel_row": p.taps if by_line else 1, "tap_row": 1 if by_line else p.channels,
    }  # fmt: skip


def is_by_line(p: Product) -> bool:
    """Whether the channels of the image do not lie side by side."""
    return p.x[1] != 1 and p.channels > 1
