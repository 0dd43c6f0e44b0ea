"""Winograd's convolution F(4x4, 3x3): 3x3 windows at stride 1 by a quarter of the multiplications.

A tile of 4x4 outputs sees 6x6 inputs. Both the inputs and the weights are transformed to 36
numbers, the values at 6x6 points, each of which is a matrix product over channels of its own; the
sums are transformed back. Lanes are tiles that lie side by side: seen as windows of stride 4, the
expanded copy's phases hold them so. F(2x2) multiplies no less for any size, F(6x6) loses digits.
An infinity or a NaN reaches all outputs of its tiles, not only those whose windows see it.

source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks (2015), arXiv:1509.09308;
with the points 0, ±5/8, ±3/2 and infinity, which lose fewer digits than 0, ±1, ±2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from amity.core.errors import fail
from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_grad import panel_of
from .conv_problem import Product, Stage
from .conv_product import block_of, conv_tile, kind_of, split_index
from .pack import transpose
from .tile import Tile, k_loop, zeros
from .window import (
    COPY,
    IMAGE,
    SCRATCH,
    Kind,
    Words,
    axis,
    axis_words,
    choose_block,
    copy_strides,
    expand,
    first_lanes,
    round_up,
    scaled_iota,
    shared,
    signature,
)  # fmt: skip

WEIGHTS = "w.start w.group w.out w.channel w.row w.column"
TILES = Words(
    f"{axis_words('dhw')} {COPY} {IMAGE} {WEIGHTS} images n.block groups channels outs chunk "
    "y.start y.image y.channel y.plane y.row y.column y.rows y.columns d.blocks h.blocks w.blocks "
    "m.block m.blocks m.inner bias plane lanes fused at.inputs at.weights at.sums"
)
M, POINTS = 4, 6  # outputs and points of a line
NEAR, FAR = 5 / 8, 3 / 2
BLOCK = 96  # tiles that a block aims at
MOST_INPUTS = 3 << 18  # bytes of transformed inputs that it aims at: most of a second-level cache
MOST_SUMS = 1 << 20  # bytes of sums between two transforms
FUSED = 48  # tiles up to which weights are transformed where they are used, never to memory


# -- the three transforms of a line, on vectors


def weight_line(w: list[Value]) -> list[Value]:
    """Three weights at the points."""
    line = [w[0] * (1 / (NEAR * FAR) ** 2)]
    for p, other in ((NEAR, FAR), (FAR, NEAR)):
        scale = 1 / (2 * p * p * (p * p - other * other))
        even, odd = w[0] * scale + w[2] * (scale * p * p), w[1] * (scale * p)
        line += [even + odd, even - odd]
    return [*line, w[2]]


def input_line(b: Builder, d: list[Value]) -> list[Value]:
    """Six inputs at the points."""
    near, far = NEAR * NEAR, FAR * FAR
    line = [b.fma(d[0], near * far, b.fma(d[2], -(near + far), d[4]))]
    for p, other in ((NEAR, far), (FAR, near)):
        even, odd = b.fma(d[2], -other, d[4]), b.fma(d[1], -other, d[3])
        line += [b.fma(odd, p, even), b.fma(odd, -p, even)]
    return [*line, b.fma(d[1], near * far, b.fma(d[3], -(near + far), d[5]))]


def output_line(b: Builder, s: list[Value]) -> list[Value]:
    """Six sums to four outputs."""
    near, far, near_odd, far_odd = s[1] + s[2], s[3] + s[4], s[1] - s[2], s[3] - s[4]
    return [
        s[0] + near + far,
        b.fma(near_odd, NEAR, far_odd * FAR),
        b.fma(near, NEAR**2, far * FAR**2),
        b.fma(near_odd, NEAR**3, b.fma(far_odd, FAR**3, s[5])),
    ]


# -- weights


def transform_weights(b: Builder, kind: Kind, rows: int) -> None:
    """The function `weights`: a tile of `rows` output channels as [point][channel][row].

    Rows beyond `outs` are garbage. Two channels fill a vector where rows fill half of one.
    """
    params = signature("meta* w* out* outs plane")
    storage, row_bytes = itemsize(kind.storage), rows * kind.size
    with b.function("weights", params) as (meta, w, out, outs, plane):
        wo, wc, wh, ww, channels = TILES.read(b, meta, "w.out w.channel w.row w.column channels")
        lanes = scaled_iota(b, wo, rows)
        mask = first_lanes(b, outs, rows)
        paired = b.const(0, "i64")
        if 2 * rows == kind.lanes:  # taps in one run of memory, forward or back
            paired = b.select((ww * ww).eq(1) & wh.eq(ww * 3), channels & -2, 0)
            with b.loop(0, paired, 2) as c:
                at = b.offset(w, c.index * wc * storage)
                taps = _pair_of_taps(b, kind, rows, at, wo, wc, ww, outs)
                _store_points(b, kind, taps, b.offset(out, c.index * row_bytes), plane)
        with b.loop(paired, channels) as c:
            at = b.offset(w, c.index * wc * storage)
            for r in range(rows):  # channels may be pages apart, which no prefetcher foresees
                b.prefetch(b.offset(at, (wc * 8 + wo * r) * storage))
            places = [b.offset(at, (wh * j + ww * k) * storage) for j in range(3) for k in range(3)]
            taps = [b.load(p, lanes, kind.storage, rows, mask).to(kind.compute) for p in places]
            _store_points(b, kind, taps, b.offset(out, c.index * row_bytes), plane)


def _store_points(b: Builder, kind: Kind, taps: list[Value], to: Value, plane: Value) -> None:
    """Nine weights at 6x6 points."""
    columns = [weight_line(taps[k::3]) for k in range(3)]
    for i in range(POINTS):
        for j, u in enumerate(weight_line([column[i] for column in columns])):
            b.store(b.offset(to, plane * (i * POINTS + j)), 0, u, kind.compute)


def _pair_of_taps(
    b: Builder, kind: Kind, rows: int, at: Value, wo: Value, wc: Value, ww: Value, outs: Value
) -> list[Value]:
    """The nine weights of two channels side by side: squares of rows and taps, transposed."""
    storage, is_back = itemsize(kind.storage), ww < 0
    both = [b.offset(at, b.select(is_back, b.const(-8, "i64"), 0) * storage)]
    both.append(b.offset(both[0], wc * storage))
    lines = [b.min(outs - 1, r) * wo * storage for r in range(rows)]
    for p in both:
        for r in range(rows):  # channels may be pages apart, which no prefetcher foresees
            b.prefetch(b.offset(p, (wc * 8 + wo * r) * storage))
    taps = []
    for first in range(0, 8, rows):
        square = []
        for line in lines:
            x, y = (b.load(b.offset(p, line), first, kind.storage, rows) for p in both)
            square.append(b.shuffle(x, y, range(2 * rows)).to(kind.compute))
        taps += transpose(b, square, rows)
    spread, mask = scaled_iota(b, wo, rows), first_lanes(b, outs, rows)
    x, y = (b.load(b.offset(p, 8 * storage), spread, kind.storage, rows, mask) for p in both)
    taps.append(b.shuffle(x, y, range(2 * rows)).to(kind.compute))
    return [b.select(is_back, taps[8 - i], taps[i]) for i in range(9)]


def weights_at(b: Builder, kind: Kind, w: Value, g: Value, m: Value) -> Value:
    start, wg, wo = TILES.read(b, b.meta, "w.start w.group w.out")
    return b.offset(w, (start + g * wg + m * wo) * itemsize(kind.storage))


def build_spectrum(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(w, out)`: all weights transformed. One unit is one tile of rows of one group."""
    kind = kind_of(target, dtype)
    rows = conv_tile(target, kind).rows
    b = Builder(name, target, math)
    transform_weights(b, kind, rows)
    with b.entry():
        outs, channels, plane = TILES.read(b, b.meta, "outs channels plane")
        with b.loop(b.lo, b.hi) as unit:
            g, t = split_index(unit.index, (outs + (rows - 1)) // rows)
            out = b.offset(b.pointer(1), unit.index * channels * (rows * kind.size))
            source = weights_at(b, kind, b.pointer(0), g, t * rows)
            b.call("weights", b.meta, source, out, outs - t * rows, plane)
    return b.kernel


# -- tiles

INPUTS = signature("meta* e* v* channels plane images planes rows columns")


def transform_inputs(b: Builder, kind: Kind) -> None:
    """The function `inputs`: the tiles of a block, transformed, as [point][channel][tile].

    A vector that reaches past a row of tiles writes what the next row overwrites.
    """
    size, lanes = kind.size, kind.lanes
    with b.function("inputs", INPUTS) as (
        meta,
        e,
        v,
        channels,
        plane,
        images,
        planes,
        rows,
        columns,
    ):
        en, ec, ed, eh, ep = TILES.read(b, meta, COPY)
        ad, ah, width = TILES.read(b, meta, "d.advance h.advance lanes")
        with (
            b.loop(0, channels) as c,
            b.loop(0, images) as n,
            b.loop(0, planes) as i,
            b.loop(0, rows) as j,
        ):
            at = c.index * ec + n.index * en + i.index * ad * ed + j.index * ah * eh
            tile = ((n.index * planes + i.index) * rows + j.index) * columns + c.index * width
            with b.loop(0, columns, lanes) as k:
                source = b.offset(e, (at + k.index) * size)
                lines = [b.offset(source, eh * (r * size)) for r in range(POINTS)]
                steps = [ep * (s % M * size) + s // M * size for s in range(POINTS)]
                turned = []
                for s in steps:
                    column = [b.load(b.offset(line, s), 0, kind.compute, lanes) for line in lines]
                    turned.append(input_line(b, column))
                to = b.offset(v, (tile + k.index) * size)
                for r in range(POINTS):
                    for s, x in enumerate(input_line(b, [column[r] for column in turned])):
                        b.store(b.offset(to, plane * (r * POINTS + s)), 0, x, kind.compute)


OUTPUTS = signature("meta* sums* plane y* bias* outs images planes rows columns qh qw")


def transform_outputs(b: Builder, kind: Kind) -> None:
    """The function `outputs`: a block of sums [point][row][tile] to outputs; `bias` is in the
    sums' dtype.
    """
    size, lanes, storage = kind.size, kind.lanes, itemsize(kind.storage)
    with b.function("outputs", OUTPUTS) as (
        meta,
        sums,
        plane,
        y,
        bias,
        outs,
        images,
        planes,
        rows,
        columns,
        qh,
        qw,
    ):
        yn, yc, yd, yh, width = TILES.read(b, meta, "y.image y.channel y.plane y.row lanes")
        y_rows, y_columns, has_bias = TILES.read(b, meta, "y.rows y.columns bias")
        with (
            b.loop(0, outs) as o,
            b.loop(0, images) as n,
            b.loop(0, planes) as i,
            b.loop(0, rows) as j,
        ):
            at = n.index * yn + o.index * yc + i.index * yd + j.index * M * yh
            tile = ((n.index * planes + i.index) * rows + j.index) * columns + o.index * width
            known = b.load(bias, o.index, kind.storage, 1, has_bias.ne(0)).to(kind.compute)
            added = b.splat(known, lanes)
            left = y_rows - (qh + j.index) * M
            with b.loop(0, columns, lanes) as k:
                source = b.offset(sums, (tile + k.index) * size)
                pixels = b.min(columns - k.index, lanes) * M
                pixels = b.min(pixels, y_columns - (qw + k.index) * M)
                turned = []
                for s in range(POINTS):
                    at_points = [plane * (r * POINTS + s) for r in range(POINTS)]
                    column = [
                        b.load(b.offset(source, p), 0, kind.compute, lanes) for p in at_points
                    ]
                    turned.append(output_line(b, column))
                masks = [first_lanes(b, pixels - lanes * q, lanes) for q in range(M)]
                for r in range(M):
                    line = [x + added for x in output_line(b, [column[r] for column in turned])]
                    to = b.offset(y, (at + yh * r + k.index * M) * storage)
                    with b.branch(left > r):
                        for q, x in enumerate(put_together(b, line)):
                            b.store(to, q * lanes, x.to(kind.storage), kind.storage, masks[q])


def put_together(b: Builder, parts: list[Value]) -> list[Value]:
    """Vectors of every n-th element to consecutive vectors; undoes `take_apart`."""
    if len(parts) == 1:
        return parts
    w = parts[0].width
    even, odd = put_together(b, parts[::2]), put_together(b, parts[1::2])
    low = [lane for i in range(w // 2) for lane in (i, w + i)]
    high = [lane + w // 2 for lane in low]
    return [b.shuffle(x, y, lanes) for x, y in zip(even, odd) for lanes in (low, high)]


POINT = signature("a* b* b_row c* depth")


def point_tile(b: Builder, tile: Tile) -> None:
    """The function `point<vectors>`: one register tile of one point's product."""
    with b.function(f"point{tile.vectors}", POINT) as (a, bp, b_row, c, depth):
        step = tile.rows * tile.bytes
        acc = k_loop(b, tile, zeros(b, tile), a, tile.bytes, step, bp, b_row, depth, 2)
        for i in range(tile.rows):
            line = b.offset(c, b_row * i)
            for j in range(tile.vectors):
                b.store(line, j * tile.width, acc[i * tile.vectors + j], tile.element)


def build_tiles(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, spectrum, bias, y)`: one unit is a block of tiles, a group and a range of channels of y.

    If `fused`, the second buffer is the weights themselves, and a block holds all tiles.
    """
    kind = kind_of(target, dtype)
    tile = conv_tile(target, kind)
    b = Builder(name, target, math)
    expand(b, TILES, kind, (M,))
    transform_weights(b, kind, tile.rows)
    transform_inputs(b, kind)
    transform_outputs(b, kind)
    for v in range(1, tile.vectors + 1):
        point_tile(b, tile.with_shape(tile.rows, v))
    with b.entry():
        _tiles(b, kind, tile)
    return b.kernel


def _tiles(b: Builder, kind: Kind, tile: Tile) -> None:
    x, spectrum, bias, y = (b.pointer(i) for i in range(4))
    read = lambda names: TILES.read(b, b.meta, names)  # noqa: E731
    groups, channels, outs, chunk, width, plane = read("groups channels outs chunk lanes plane")
    xn, xc, start, yn, yc, yd, yh = read(
        "x.image x.channel y.start y.image y.channel y.plane y.row"
    )
    m_block, m_blocks, inner, fused = read("m.block m.blocks m.inner fused")
    inputs, weights, sums = (b.offset(b.scratch, at) for at in read("at.inputs at.weights at.sums"))
    storage, size = itemsize(kind.storage), kind.size
    row_bytes = width * size
    planes = (plane, channels * row_bytes + 64, inner * row_bytes + 64)
    tiles = (outs + (tile.rows - 1)) // tile.rows
    with b.loop(b.lo, b.hi) as unit:
        rest, g, mb = split_index(unit.index, groups, m_blocks)
        (n, qd, qh, qw), extent = block_of(b, TILES, rest)
        with b.loop(0, channels, chunk) as c0:
            some = b.min(chunk, channels - c0.index)
            image = b.offset(x, (n * xn + (g * channels + c0.index) * xc) * storage)
            b.call("expand", b.meta, image, b.scratch, extent[0], some, qd, qh, qw)
            to = b.offset(inputs, c0.index * row_bytes)
            b.call("inputs", b.meta, b.scratch, to, some, planes[1], *extent)
        m1 = b.min(outs, (mb + 1) * m_block)
        with b.loop(mb * m_block, m1, inner) as m0:
            few = b.min(inner, m1 - m0.index)
            with b.branch(fused.ne(0)):
                source = weights_at(b, kind, spectrum, g, m0.index)
                b.call("weights", b.meta, source, weights, outs - m0.index, plane)
            ready = (g * tiles + m0.index // tile.rows) * channels * (tile.rows * size)
            a = b.select(fused.ne(0), weights, b.offset(spectrum, ready))
            _points(b, tile, a, inputs, sums, planes, row_bytes, channels, few, width // kind.lanes)
            first = g * outs + m0.index
            at = start + n * yn + first * yc + qd * yd + (qh * yh + qw) * M
            b.call("outputs", b.meta, sums, planes[2], b.offset(y, at * storage),
                   b.offset(bias, first * storage), few, *extent, qh, qw)  # fmt: skip


def _points(b: Builder, tile: Tile, a, v, sums, planes, row_bytes, channels, rows, vectors) -> None:
    """The products of all points for some output channels."""
    with b.loop(0, POINTS**2) as p, b.loop(0, rows, tile.rows) as r, b.loop(0, vectors) as j:
        first, width = panel_of(b, tile, j.index, vectors)
        unit = tile.width * tile.bytes
        for count in range(1, tile.vectors + 1):
            with b.branch(first.eq(j.index) & width.eq(count)):
                weights = b.offset(a, p.index * planes[0] + r.index * channels * tile.bytes)
                inputs = b.offset(v, p.index * planes[1] + first * unit)
                to = b.offset(sums, p.index * planes[2] + r.index * row_bytes + first * unit)
                b.call(f"point{count}", weights, inputs, row_bytes, to, channels)


# -- plans


def fits(p: Product, y_stride: int) -> bool:
    """Whether the method can serve a product at all; `y_stride` is that of what vectors store."""
    d, h, w = p.axes
    is_near = all(a.taps == 3 and a.step == 1 and abs(a.tap_step) == 1 for a in (h, w))
    return d.taps == 1 and is_near and p.dtype in ("f32", "f16", "bf16") and y_stride == 1


def is_worthwhile(p: Product) -> bool:
    """Whether the method serves a product, and gains more than the transform of the weights
    costs.
    """
    if not fits(p, p.y[4]):
        return False
    d, h, w = p.axes
    if not (12 <= p.channels <= 1024 and 12 <= p.outs):
        return False
    tiles = p.images * d.count * -(-h.count // M) * -(-w.count // M)
    pixels = prod(p.counts)
    return 9 * pixels - 45 * (-(-tiles // 16) * 16) > 32 * 24


def plan(target: Target, p: Product) -> list[Stage]:
    """Transform the weights, then convolve; both at once where there are few tiles."""
    kind = kind_of(target, p.dtype)
    tile = conv_tile(target, kind)
    p = unflipped(p)
    words, units = _tile_words(p, kind, tile)
    meta, bias = TILES.meta(words), "b" if p.has_bias else "w"
    if words["fused"]:
        return [Stage((("tiles", meta, f"{p.source}w{bias}{p.result}", units),))]
    tiles = p.groups * -(-p.outs // tile.rows)
    spectrum, convolve = (
        ("spectrum", meta, "wt", tiles),
        ("tiles", meta, f"{p.source}t{bias}{p.result}", units),
    )
    return [Stage((spectrum, convolve), POINTS**2 * words["plane"])]


def unflipped(p: Product) -> Product:
    """With taps that go forward: a flipped kernel becomes negative strides of the weights."""
    axes, w, start = list(p.axes), list(p.w), p.w_start
    for i, a in enumerate(axes):
        if a.taps == 3 and a.tap_step < 0:
            axes[i] = replace(a, offset=a.offset - 2, tap_step=1)
            start, w[3 + i] = start + 2 * w[3 + i], -w[3 + i]
    return replace(p, axes=tuple(axes), w=tuple(w), w_start=start)


def _tile_words(p: Product, kind: Kind, tile: Tile) -> tuple[dict[str, int], int]:
    """The meta words and the units of the grid; blocks shrink until a thread's scratch holds
    them.
    """
    tiles = p.images * p.axes[0].count * -(-p.axes[1].count // M) * -(-p.axes[2].count // M)
    # a block's tiles fill a second-level cache a few times
    aim = min(BLOCK, MOST_INPUTS // (POINTS**2 * p.channels * kind.size))
    if p.threads > 1:
        aim = min(aim, -(-tiles * p.groups // p.threads))
    fused = tiles <= FUSED
    while True:
        words, units, end = _block_words(p, kind, tile, max(kind.lanes, aim), fused)
        if end <= SCRATCH:
            return words, units
        if not fused and aim <= kind.lanes:
            raise fail(
                RuntimeError, "conv", f"rows of tiles that span {end >> 20} MiB", "less than 8 MiB"
            )
        fused, aim = False, aim if fused else aim // 2


def _block_words(
    p: Product, kind: Kind, tile: Tile, aim: int, fused: bool
) -> tuple[dict[str, int], int, int]:
    """The words and units of one choice of block, and the bytes of scratch that it needs."""
    d, y_h, y_w = p.axes
    h, w = (axis(a.size, -(-a.count // M), M, POINTS, a.offset) for a in (y_h, y_w))
    counts = (p.images, d.count, h.count, w.count)
    block = counts
    if not fused:
        block = shared(choose_block(counts, kind.lanes, aim), counts, 1, p.threads, p.groups)
    width = -(-prod(block) // kind.lanes) * kind.lanes
    chunk = min(p.channels, 16)
    strides = copy_strides(d, h, w, block, chunk, kind.lanes)
    grid = [-(-n // s) for n, s in zip(counts, block)]
    blocks, parts = prod(grid) * p.groups, -(-p.outs // tile.rows)
    ranges = 1 if blocks >= p.threads else min(parts, -(-p.threads // blocks))
    m_block, row_bytes = tile.rows * -(-parts // ranges), width * kind.size
    most = MOST_SUMS // (POINTS**2 * row_bytes) // tile.rows * tile.rows
    inner = tile.rows if fused else min(m_block, max(tile.rows, most))
    plane = (1 if fused else p.groups * parts) * tile.rows * p.channels * kind.size + 64
    at_inputs = round_up(strides["e.size"] * kind.size)
    at_weights = at_inputs + round_up(POINTS**2 * (p.channels * row_bytes + 64) + 64)
    at_sums = at_weights + (round_up(POINTS**2 * plane) if fused else 0)
    m_blocks = -(-p.outs // m_block)
    words = {
        **d.words("d", block[1]), **h.words("h", block[2]), **w.words("w", block[3]), **strides,
        **dict(zip(("x.image", "x.channel", "x.plane", "x.row", "x.column"), p.x)),
        **dict(zip(("y.image", "y.channel", "y.plane", "y.row", "y.column"), p.y)),
        **dict(zip(("w.group", "w.out", "w.channel"), p.w)), "w.row": p.w[4], "w.column": p.w[5],
        "w.start": p.w_start, "images": p.images, "n.block": block[0], "groups": p.groups,
        "channels": p.channels, "outs": p.outs, "chunk": chunk, "y.start": p.y_start,
        "y.rows": y_h.count, "y.columns": y_w.count, "d.blocks": grid[1], "h.blocks": grid[2],
        "w.blocks": grid[3], "m.block": m_block, "m.blocks": m_blocks, "m.inner": inner,
        "bias": p.has_bias, "plane": plane, "lanes": width, "fused": fused, "at.inputs": at_inputs,
        "at.weights": at_weights, "at.sums": at_sums,
    }  # fmt: skip
    return words, blocks * m_blocks, at_sums + POINTS**2 * (inner * row_bytes + 64) + 64
