"""The weight gradient of a convolution: windows by output gradients, summed over all pixels.

Rows of the product are (channel, tap), its columns the output channels and its depth the pixels.
The rows are read in place from the expanded copy of the image, through a table of where each pixel
lies; only the gradient is packed, turned so that output channels are lanes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

from amity.core.errors import fail
from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_problem import Conv, Stage, is_linear
from .conv_product import STRIP_PIXELS, block_of, conv_tile, kind_of, source_of, split_index
from .pack import transpose
from .tile import Tile, step
from .window import (
    COPY,
    IMAGE,
    PIXELS,
    SCRATCH,
    Kind,
    Words,
    axis_words,
    choose_block,
    copy_strides,
    direct_strides,
    expand,
    first_lanes,
    round_up,
    signature,
    tap_offsets,
)  # fmt: skip

ROWS = 288  # (channel, tap) rows that a unit aims at
UNITS = 8  # units that a weight gradient aims at
WEIGHTS = Words(
    f"{axis_words('dhw')} {COPY} {IMAGE} images n.block groups channels outs taps chunk chunks "
    "direct y.image y.channel y.plane y.row y.column y.linear n.blocks d.blocks h.blocks w.blocks "
    "splits blocks pitch sums is_whole at.pixels at.copy at.panels at.sums"
)


def build_weights(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, y, w, sums)`: one unit is a group, a chunk of channels and a range of blocks of pixels.

    With one range the unit writes its part of w; else it leaves its sums for `build_fold`.
    """
    kind = kind_of(target, dtype)
    tile = conv_tile(target, kind)
    b = Builder(name, target, math)
    expand(b, WEIGHTS, kind)
    tap_offsets(b, WEIGHTS, kind)
    pixel_offsets(b, kind)
    turn(b, kind, tile)
    for v in range(1, tile.vectors + 1):
        row_tile(b, tile.with_shape(tile.rows, v))
    fold(b, kind)
    with b.entry():
        write_weights(b, kind, partial(multiply_rows, tile=tile))
    return b.kernel


def build_fold(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(sums, w)`: add up the sums of all ranges. One unit is a group and a chunk of channels."""
    kind = kind_of(target, dtype)
    b = Builder(name, target, math)
    fold(b, kind)
    with b.entry():
        sums, w = b.pointer(0), b.pointer(1)
        chunks, splits, size = WEIGHTS.read(b, b.meta, "chunks splits sums")
        with b.loop(b.lo, b.hi) as unit:
            g, chunk = split_index(unit.index, chunks)
            b.call("fold", b.meta, b.offset(sums, unit.index * splits * size), w, g, chunk, splits)
    return b.kernel


def pixel_offsets(b: Builder, kind: Kind) -> None:
    """The function `pixel_offsets`: where each pixel of a block lies in the copy, in bytes."""
    params = signature("meta* table* images planes rows columns")
    with b.function("pixel_offsets", params) as (meta, table, images, planes, rows, columns):
        en, _, ed, eh, _ = WEIGHTS.read(b, meta, COPY)
        ad, ah = WEIGHTS.read(b, meta, "d.advance h.advance")
        with b.loop(0, images) as n, b.loop(0, planes) as i, b.loop(0, rows) as j:
            start = n.index * en + i.index * ad * ed + j.index * ah * eh
            first = ((n.index * planes + i.index) * rows + j.index) * columns
            with b.loop(0, columns) as k:
                b.store(table, first + k.index, (start + k.index) * kind.size, "i64")


def panel_of(b: Builder, tile: Tile, vector: Value, vectors: Value) -> tuple[Value, Value]:
    """The first vector and the width of the panel that holds a vector of output channels.

    Panels are as wide as the tile; a last one of a single vector shares with the one before it.
    """
    most = tile.vectors
    whole = vectors // most * most
    if most > 2:
        whole = b.select((vectors % most).eq(1) & (vectors > 1), whole - most, whole)
    rest = b.min(vectors - whole, 2)
    first = b.select(vector < whole, vector // most * most, whole + ((vector - whole) & -rest))
    return first, b.select(vector < whole, most, rest)


TURN = signature("meta* y* out* pixels images planes rows columns")


def turn(b: Builder, kind: Kind, tile: Tile) -> None:
    """The function `turn`: a block of the gradient `y` as panels `[pixel][vectors of output
    channels]`.
    """
    lanes, size = kind.lanes, kind.size
    with b.function("turn", TURN) as (meta, y, out, pixels, images, planes, rows, columns):
        yn, yc, yd, yh, yw, linear = WEIGHTS.read(
            b, meta, "y.image y.channel y.plane y.row y.column y.linear"
        )
        (outs,) = WEIGHTS.read(b, meta, "outs")
        vectors = (outs + (lanes - 1)) // lanes
        # a block of a gradient without gaps is one long row an image
        is_linear = linear.ne(0)
        columns = b.select(is_linear, planes * rows * columns, columns)
        planes, rows = b.select(is_linear, 1, planes), b.select(is_linear, 1, rows)
        with (
            b.loop(0, vectors) as v,
            b.loop(0, images) as n,
            b.loop(0, planes) as i,
            b.loop(0, rows) as j,
        ):
            first, width = panel_of(b, tile, v.index, vectors)
            pitch = width * (lanes * size)
            start = first * (lanes * size) * pixels + (v.index - first) * (lanes * size)
            p = ((n.index * planes + i.index) * rows + j.index) * columns
            to = b.offset(out, start + p * pitch)
            m = v.index * lanes
            at = n.index * yn + m * yc + i.index * yd + j.index * yh
            source = b.offset(y, at * itemsize(kind.storage))
            with b.branch(yw.eq(1)):
                _turn_row(b, kind, source, to, pitch, yc, outs - m, columns)
            with b.branch(yw.ne(1)):
                spread = b.iota(lanes, "i32") * b.splat(yc.to("i32"), lanes)
                mask = first_lanes(b, outs - m, lanes)
                with b.loop(0, columns) as k:
                    from_ = b.offset(source, k.index * yw * itemsize(kind.storage))
                    x = b.load(from_, spread, kind.storage, lanes, mask).to(kind.compute)
                    b.store(b.offset(to, k.index * pitch), 0, x, kind.compute)


def _turn_row(
    b: Builder, kind: Kind, source, to, pitch, channel: Value, outs: Value, columns: Value
) -> None:
    """Squares of pixels and channels, transposed in registers; the last square writes rows past
    the end.
    """
    lanes, storage = kind.lanes, itemsize(kind.storage)
    rows = [b.offset(source, b.min(outs - 1, i) * channel * storage) for i in range(lanes)]
    with b.loop(0, columns, lanes) as k:
        mask = first_lanes(b, columns - k.index, lanes)
        square = [
            b.load(b.offset(r, k.index * storage), 0, kind.storage, lanes, mask).to(kind.compute)
            for r in rows
        ]
        target = b.offset(to, k.index * pitch)
        for x in transpose(b, square, lanes):
            b.store(target, 0, x, kind.compute)
            target = b.offset(target, pitch)


ROW_TILE = signature("pixels* e* table* b* c* pitch depth old rows")


def row_tile(b: Builder, tile: Tile, unroll: int = 2) -> None:
    """The function `rows<vectors>`: add a tile of sums to `c`, or put it there if `old` is 0.

    `table` holds where the rows start in `e`; rows from `rows` on repeat the last one.
    """
    V, lanes = tile.vectors, tile.width
    width = V * lanes * tile.bytes
    with b.function(f"rows{V}", ROW_TILE) as (pixels, e, table, bp, c, pitch, depth, old, rows):
        starts = [b.offset(e, b.load(table, b.min(rows - 1, i), "i64")) for i in range(tile.rows)]
        places = [b.offset(c, pitch * i) for i in range(tile.rows)]
        zero = b.splat(b.const(0, tile.element), lanes)
        with b.loop(0, old, 1, [zero] * (tile.rows * V)) as loop:
            loop.next(
                *(b.load(p, j * lanes, tile.element, lanes) for p in places for j in range(V))
            )

        def turn(loop, steps: int) -> None:
            q, *acc = loop.carry
            for k in range(steps):
                at = b.load(pixels, loop.index + k, "i64")
                acc = step(b, tile, acc, [b.offset(s, at) for s in starts], b.offset(q, k * width))
            loop.next(b.offset(q, steps * width), *acc)

        whole = depth & -unroll
        with b.loop(0, whole, unroll, [bp, *loop.results]) as loop:
            turn(loop, unroll)
        with b.loop(whole, depth, 1, loop.results) as loop:
            turn(loop, 1)
        for i, p in enumerate(places):
            for j in range(V):
                b.store(p, j * lanes, loop.results[1 + i * V + j], tile.element)


FOLD = (
    ("meta", "ptr"),
    ("sums", "ptr"),
    ("w", "ptr"),
    ("group", "i64"),
    ("chunk", "i64"),
    ("splits", "i64"),
)


def fold(b: Builder, kind: Kind) -> None:
    """The function `fold`: add up `splits` tables of sums [row][out] and write them to w
    [out][row].
    """
    lanes = kind.lanes
    with b.function("fold", FOLD) as (meta, sums, w, group, chunk, splits):
        channels, outs, taps, some, pitch, size = WEIGHTS.read(
            b, meta, "channels outs taps chunk pitch sums"
        )
        first = chunk * some
        rows = b.min(some, channels - first) * taps
        depth = channels * taps
        zero = b.splat(b.const(0, kind.compute), lanes)
        with b.loop(0, outs, lanes) as m, b.loop(0, rows, lanes) as k:
            source = b.offset(sums, k.index * pitch + m.index * kind.size)
            with b.loop(0, splits, 1, [source] + [zero] * lanes) as loop:
                p, *square = loop.carry
                square = [
                    x + b.load(b.offset(p, pitch * i), 0, kind.compute, lanes)
                    for i, x in enumerate(square)
                ]
                loop.next(b.offset(p, size), *square)
            mask = first_lanes(b, rows - k.index, lanes)
            at = (group * outs + m.index) * depth + first * taps + k.index
            for i, x in enumerate(transpose(b, loop.results[1:], lanes)):
                with b.branch(outs - m.index > i):
                    target = b.offset(w, (at + depth * i) * itemsize(kind.storage))
                    b.store(target, 0, x.to(kind.storage), kind.storage, mask)


def write_weights(b: Builder, kind: Kind, multiply: Callable) -> None:
    """The entry's body; `multiply` writes how one block is added to the sums."""
    x, y, w, partial_sums = (b.pointer(i) for i in range(4))
    read = lambda names: WEIGHTS.read(b, b.meta, names)  # noqa: E731
    channels, outs, taps, chunk, chunks, splits = read("channels outs taps chunk chunks splits")
    xn, xc, yn, yc, yd, yh, yw = read("x.image x.channel y.image y.channel y.plane y.row y.column")
    n_blocks, d_blocks, h_blocks, w_blocks, per = read("n.blocks d.blocks h.blocks w.blocks blocks")
    size, whole, at_sums = read("sums is_whole at.sums")
    storage = itemsize(kind.storage)
    b.call("tap_offsets", b.meta, b.scratch, chunk)
    with b.loop(b.lo, b.hi) as unit:
        g, part, split = split_index(unit.index, chunks, splits)
        c0 = part * chunk
        some = b.min(chunk, channels - c0)
        sums = b.select(
            whole.ne(0), b.offset(b.scratch, at_sums), b.offset(partial_sums, unit.index * size)
        )
        lo = split * per
        hi = b.min(lo + per, n_blocks * d_blocks * h_blocks * w_blocks)
        with b.loop(lo, hi) as block:
            (n, qd, qh, qw), extent = block_of(b, WEIGHTS, block.index)
            image = b.offset(x, (n * xn + (g * channels + c0) * xc) * storage)
            e = source_of(b, WEIGHTS, kind, image, extent[0], some, qd, qh, qw)
            at = n * yn + g * outs * yc + qd * yd + qh * yh + qw * yw
            old = b.min(block.index - lo, 1)
            multiply(b, kind, b.offset(y, at * storage), e, sums, some * taps, outs, old, extent)
        with b.branch(whole.ne(0)):
            b.call("fold", b.meta, sums, w, g, part, 1)


def multiply_rows(b: Builder, kind: Kind, y: Value, e: Value, sums: Value, rows: Value,
                  outs: Value, old: Value, extent: list[Value], tile: Tile) -> None:  # fmt: skip
    """The gradient turned, then tile by tile."""
    pitch, at_pixels, at_panels = WEIGHTS.read(b, b.meta, "pitch at.pixels at.panels")
    pixel_table, panels = b.offset(b.scratch, at_pixels), b.offset(b.scratch, at_panels)
    pixels = extent[0] * extent[1] * extent[2] * extent[3]
    b.call("pixel_offsets", b.meta, pixel_table, *extent)
    b.call("turn", b.meta, y, panels, pixels, *extent)
    unit = kind.lanes * kind.size
    vectors = (outs + (kind.lanes - 1)) // kind.lanes
    with b.loop(0, rows, tile.rows) as k, b.loop(0, vectors) as v:
        first, width = panel_of(b, tile, v.index, vectors)
        for count in range(1, tile.vectors + 1):
            with b.branch(first.eq(v.index) & width.eq(count)):
                b.call(f"rows{count}", pixel_table, e, b.offset(b.scratch, k.index * 8),
                       b.offset(panels, first * pixels * unit),
                       b.offset(sums, k.index * pitch + first * unit),
                       pitch, pixels, old, rows - k.index)  # fmt: skip


def plan(target: Target, conv: Conv, what: str = "weights") -> list[Stage]:
    """Multiply by ranges of pixels, then add up the ranges; `what` is `weights` or `dots`.

    Blocks shrink, first in channels and then in pixels, until all they need fits the scratch.
    """
    if prod(conv.w.shape) == 0:
        return []
    kind = kind_of(target, conv.dtype)
    channels, taps = conv.w.shape[1], prod(conv.w.shape[2:])
    chunk = -(-channels // max(1, round(channels * taps / ROWS)))
    pixels = PIXELS if what == "weights" else STRIP_PIXELS
    while True:
        words, end = _block_words(kind, conv, what == "weights", chunk, pixels)
        if end <= SCRATCH:
            break
        if chunk == 1 and pixels <= kind.lanes:
            raise fail(
                RuntimeError, "conv", f"windows that span {end >> 20} MiB", "less than 8 MiB"
            )
        chunk, pixels = (-(-chunk // 2), pixels) if chunk > 1 else (1, pixels // 2)
    meta = WEIGHTS.meta(words)
    units, splits = conv.groups * words["chunks"], words["splits"]
    if words["is_whole"]:
        return [Stage(((what, meta, "xyww", units),))]
    multiply, add = (what, meta, "xywt", units * splits), ("fold", meta, "tw", units)
    return [Stage((multiply, add) if splits else (add,), max(64, units * splits * words["sums"]))]


def _block_words(
    kind: Kind, conv: Conv, is_turned: bool, chunk: int, pixels: int
) -> tuple[dict, int]:
    """The words of one choice of block, and the bytes of scratch that it needs."""
    d, h, w = conv.axes
    outs, channels, taps = conv.w.shape[0] // conv.groups, conv.w.shape[1], prod(conv.w.shape[2:])
    counts = (conv.x.shape[0], d.count, h.count, w.count)
    block = choose_block(counts, kind.lanes, pixels)
    chunks = -(-channels // chunk)
    direct = is_turned and conv.dtype == kind.compute and all(a.is_inside for a in (d, h, w))
    direct = direct and w.advance == 1 and w.grain * conv.x.strides[4] == 1
    strides = copy_strides(d, h, w, block, chunk, kind.lanes)
    pixels, pitch = prod(block), -(-outs // kind.lanes) * kind.lanes * kind.size
    at_pixels = round_up(8 * chunk * taps)
    at_copy = at_pixels + round_up(8 * pixels)
    at_panels = at_copy + (0 if direct else round_up(strides["e.size"] * kind.size))
    at_sums = at_panels + ((pixels + kind.lanes) * pitch if is_turned else 0)
    grid = [-(-n // s) for n, s in zip(counts, block)] if prod(counts) else [0] * 4
    per = max(1, -(-prod(grid) // -(-UNITS // (conv.groups * chunks))))
    splits = -(-prod(grid) // per)
    sums = -(-chunk * taps // 16) * 16 * pitch
    is_whole = splits == 1 and sums <= SCRATCH // 2
    words = {
        **d.words("d", block[1]), **h.words("h", block[2]), **w.words("w", block[3]),
        **(direct_strides(conv.x.strides, d, h) if direct else strides),
        **dict(zip(("x.image", "x.channel", "x.plane", "x.row", "x.column"), conv.x.strides)),
        **dict(zip(("y.image", "y.channel", "y.plane", "y.row", "y.column"), conv.y.strides)),
        "y.linear": is_linear(conv.y.strides[2:], counts[1:]), "images": counts[0],
        "n.block": block[0], "groups": conv.groups, "channels": channels, "outs": outs,
        "taps": taps, "chunk": chunk, "chunks": chunks, "direct": direct,
        "n.blocks": grid[0], "d.blocks": grid[1],
        "h.blocks": grid[2], "w.blocks": grid[3], "splits": splits, "blocks": per, "pitch": pitch,
        "sums": sums, "is_whole": is_whole, "at.pixels": at_pixels, "at.copy": at_copy,
        "at.panels": at_panels, "at.sums": at_sums,
    }  # fmt: skip
    return words, at_sums + (sums if is_whole else 0)
