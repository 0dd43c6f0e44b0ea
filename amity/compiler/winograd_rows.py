"""Winograd's F(4x4, 3x3) where channels lie side by side: vectors run along channels in all transforms.

The inputs of a block of tiles are transformed to 36 matrices, tiles by channels; each is multiplied by
that point's transformed weights, laid out in panels; sums are transformed back, tile by tile, and end
as rows of pixels do. See winograd.py for the method.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_problem import Product, Stage
from .conv_product import kind_of, split_index
from .conv_row_weights import is_by_line
from .conv_rows import ending_function, row_sizes, tile_function
from .ending import Ending
from .nest import Nest
from .tile import Tile, best_tile
from .window import IMAGE, SCRATCH, Kind, Words, first_lanes, round_up, scaled_iota, signature
from .winograd import POINTS, M, fits, input_line, output_line, unflipped, weight_line

WORDS = Words(
    f"{IMAGE} images d.count h.size h.lowest h.count h.tiles w.size w.lowest w.count w.tiles d.step "
    "d.lowest d.size w.start w.group w.out w.channel w.row w.column groups channels outs bias t.block "
    "t.blocks n.block n.blocks pitch plane at.zeros at.inputs at.sums at.pixels"
)
INPUT_BYTES = 1 << 20  # of transformed inputs that a block of tiles aims at
FEWEST = 32  # tiles of a block, if there are so many
NEAR_BYTES = 6  # of weights that a core reads in a cycle from far away
TURNS = 16  # cycles of transforms for each vector of inputs and outputs at a point
TAPS = 9


# -- weights


def build_row_spectrum(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(w, out)`: for each panel of output channels and each point a row for each channel.

    One unit is one panel of one group; columns beyond the last are garbage.
    """
    kind = kind_of(target, dtype)
    tile = best_tile(target, kind.compute)
    b = Builder(name, target, math)
    lanes, storage, width = kind.lanes, itemsize(dtype), tile.columns * kind.size
    with b.entry():
        w, out = b.pointer(0), b.pointer(1)
        start, wg, wo, wc, wh, ww, outs, channels = WORDS.read(
            b, b.meta, "w.start w.group w.out w.channel w.row w.column outs channels"
        )
        panels, plane = (outs + (tile.columns - 1)) // tile.columns, channels * width
        spread = scaled_iota(b, wo, lanes)
        with b.loop(b.lo, b.hi) as unit:
            g, panel = split_index(unit.index, panels)
            to = b.offset(out, unit.index * POINTS**2 * plane)
            for v in range(tile.vectors):
                m = panel * tile.columns + v * lanes
                mask = first_lanes(b, outs - m, lanes)
                m = b.min(m, outs - 1)
                source = b.offset(w, (start + g * wg + m * wo) * storage)
                with b.loop(0, channels) as c:
                    columns = []
                    for k in range(3):
                        at = [(c.index * wc + wh * j + ww * k) * storage for j in range(3)]
                        taps = [b.load(b.offset(source, a), spread, dtype, lanes, mask) for a in at]
                        columns.append(weight_line([t.to(kind.compute) for t in taps]))
                    place = b.offset(to, c.index * width + v * lanes * kind.size)
                    for i in range(POINTS):
                        for j, u in enumerate(weight_line([column[i] for column in columns])):
                            at_point = b.offset(place, plane * (i * POINTS + j))
                            b.store(at_point, 0, u, kind.compute)
    return b.kernel


# -- tiles

INPUTS = signature("meta* x* zeros* v* t0 t1")


def transform_inputs(b: Builder, kind: Kind) -> None:
    """The function `inputs`: tiles t0 to t1 of an image, transformed, as [point][tile][channel].

    What lies outside the image is read from `zeros`.
    """
    lanes, storage = kind.lanes, itemsize(kind.storage)
    with b.function("inputs", INPUTS) as (meta, x, zeros, v, t0, t1):
        read = lambda names: WORDS.read(b, meta, names)  # noqa: E731
        xn, xd, xh, xw = read("x.image x.plane x.row x.column")
        planes, rows, columns, channels, pitch, plane = read(
            "d.count h.tiles w.tiles channels pitch plane"
        )
        d_step, d_lowest, d_size = read("d.step d.lowest d.size")
        with b.loop(t0, t1) as t:
            n, i, j, k = split_index(t.index, planes, rows, columns)
            z = i * d_step + d_lowest
            image = n * xn + z * xd
            lines = []
            for axis, tile, stride in (("h", j, xh), ("w", k, xw)):
                size, lowest = read(f"{axis}.size {axis}.lowest")
                places = [tile * M + lowest + r for r in range(POINTS)]
                lines.append([((p >= 0) & (p < size), p * stride) for p in places])
            has_plane = (z >= 0) & (z < d_size)
            rows_of = [(has_plane & ok, image + at) for ok, at in lines[0]]
            places = [
                [
                    b.select(ok & inside, b.offset(x, (at + across) * storage), zeros)
                    for ok, at in rows_of
                ]
                for inside, across in lines[1]
            ]
            to = b.offset(v, (t.index - t0) * pitch)
            whole = channels & -lanes

            def some(c: Value, mask: Value | None, places=places, to=to) -> None:
                turned = []
                for column in places:
                    d = [b.load(p, c, kind.storage, lanes, mask).to(kind.compute) for p in column]
                    turned.append(input_line(b, d))
                for r in range(POINTS):
                    for s, u in enumerate(input_line(b, [column[r] for column in turned])):
                        b.store(b.offset(to, plane * (r * POINTS + s)), c, u, kind.compute)

            with b.loop(0, whole, lanes) as c:
                some(c.index, None)
            with b.branch(whole < channels):
                some(whole, first_lanes(b, channels - whole, lanes))


OUTPUTS = signature("meta* buffers* sums* plane pixels* bias* t0 t1 outs column")


def transform_outputs(b: Builder, kind: Kind, tile: Tile) -> None:
    """The function `outputs`: sums [point][tile][column] of some tiles to pixels, which are ended.

    `outs` columns exist; `column` is the first one's place among all.
    """
    lanes, width = kind.lanes, tile.columns * kind.size
    with b.function("outputs", OUTPUTS) as args:
        meta, buffers, sums, plane, pixels, bias, t0, t1, outs, column = args
        planes, rows, columns, height, length, has_bias = WORDS.read(
            b, meta, "d.count h.tiles w.tiles h.count w.count bias"
        )
        known = b.select(has_bias.ne(0), outs, 0)
        with b.loop(t0, t1) as t:
            n, i, j, k = split_index(t.index, planes, rows, columns)
            source = b.offset(sums, (t.index - t0) * width)
            with b.loop(0, tile.vectors) as v:
                at = v.index * lanes
                turned = []
                for s in range(POINTS):
                    points = [b.offset(source, plane * (r * POINTS + s)) for r in range(POINTS)]
                    turned.append(
                        output_line(b, [b.load(p, at, kind.compute, lanes) for p in points])
                    )
                mask = first_lanes(b, known - at, lanes)
                added = b.load(bias, at, kind.storage, lanes, mask).to(kind.compute)
                for r in range(M):
                    for s, y in enumerate(output_line(b, [line[r] for line in turned])):
                        place = b.offset(pixels, (r * M + s) * width)
                        b.store(place, at, y + added, kind.compute)
            left, first = b.min(length - k * M, M), (n * planes + i) * height + j * M
            with b.loop(0, b.min(height - j * M, M)) as r:
                b.call("ending", meta, buffers, b.offset(pixels, r.index * (M * width)), left, outs,
                       (first + r.index) * length + k * M, column)  # fmt: skip


FIRST_OPERAND = 3  # buffers of an ending come after image, weights and bias


def build_row_tiles(dtype: str, nest: Nest, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, spectrum, bias, operands of the ending)`: one unit is a block of tiles, a group and a
    range of its output channels.
    """
    kind = kind_of(target, dtype)
    tile = best_tile(target, kind.compute)
    b = Builder(name, target, math)
    transform_inputs(b, kind)
    for rows in row_sizes(tile):
        tile_function(b, tile.with_shape(rows))
    ending_function(b, kind, tile, nest, len(WORDS.names), FIRST_OPERAND)
    transform_outputs(b, kind, tile)
    with b.entry():
        _tiles(b, kind, tile)
    return b.kernel


def _tiles(b: Builder, kind: Kind, tile: Tile) -> None:
    read = lambda names: WORDS.read(b, b.meta, names)  # noqa: E731
    images, d, h, w, groups, t_block = read("images d.count h.tiles w.tiles groups t.block")
    outs, channels, n_block, n_blocks, xc = read("outs channels n.block n.blocks x.channel")
    at_zeros, at_inputs, at_sums, at_pixels = (
        b.offset(b.scratch, at) for at in read("at.zeros at.inputs at.sums at.pixels")
    )
    x, _, bias = (b.pointer(i) for i in range(3))
    storage, lanes = itemsize(kind.storage), kind.lanes
    zero = b.splat(b.const(0, kind.compute), lanes)
    with b.loop(0, b.max(channels, tile.columns), lanes) as c:
        b.store(at_zeros, c.index, zero, kind.compute)
    tiles = images * d * h * w
    with b.loop(b.lo, b.hi) as unit:
        tb, g, nb = split_index(unit.index, groups, n_blocks)
        t0 = tb * t_block
        t1 = b.min(tiles, t0 + t_block)
        image = b.offset(x, g * channels * xc * storage)
        b.call("inputs", b.meta, image, at_zeros, at_inputs, t0, t1)
        n1 = b.min(outs, (nb + 1) * n_block)
        with b.loop(nb * n_block, n1, tile.columns) as n:
            sums_plane = _points(b, tile, g, n.index, t1 - t0)
            first = g * outs + n.index
            b.call("outputs", b.meta, b.buffers, at_sums, sums_plane, at_pixels,
                   b.offset(bias, first * storage), t0, t1, n1 - n.index, first)  # fmt: skip


def _points(b: Builder, tile: Tile, g: Value, n: Value, count: Value) -> Value:
    """The products of all points for one panel of output channels; gives the bytes of a point's
    sums.
    """
    outs, channels, pitch, plane = WORDS.read(b, b.meta, "outs channels pitch plane")
    zeros, inputs, sums = (
        b.offset(b.scratch, at) for at in WORDS.read(b, b.meta, "at.zeros at.inputs at.sums")
    )
    sizes, width = row_sizes(tile), tile.columns * tile.bytes
    parts = (count + (tile.rows - 1)) // tile.rows
    size = (count + parts - 1) // parts
    rows = b.const(sizes[0], "i64")
    for r in sizes[1:]:
        rows = b.select(size <= r, r, rows)
    # tiles of sums may be a few rows longer than they need to be
    sums_plane = (parts * size + tile.rows) * width
    panels = (outs + (tile.columns - 1)) // tile.columns
    weights_plane = channels * width
    panel = (g * panels + n // tile.columns) * (POINTS**2) * weights_plane
    pace = (parts + (width - 1)) // parts  # while a point is multiplied the next one's are fetched
    with b.loop(0, POINTS**2) as p, b.loop(0, count, size) as i:
        a = b.offset(inputs, p.index * plane + i.index * pitch)
        weights = b.offset(b.pointer(1), panel + p.index * weights_plane)
        c = b.offset(sums, p.index * sums_plane + i.index * width)
        ahead = b.offset(weights, weights_plane + i.index // size * channels * pace)
        for r in sizes:
            with b.branch(rows.eq(r)):
                b.call(f"tile{r}", a, pitch, 0, zeros, weights, c, 1, channels, 0, ahead, pace)
    return sums_plane


# -- plans


def is_worthwhile(target: Target, p: Product) -> bool:
    """Whether the method serves a product, and gains more than its transforms and the reading of
    four times the weights cost.
    """
    if not fits(p, 1) or is_by_line(p) or not (12 <= p.channels <= 1024 and 12 <= p.outs):
        return False
    tile = best_tile(target, kind_of(target, p.dtype).compute)
    tiles, pixels = _count(p), prod(p.counts)
    pairs, step = p.channels * p.outs, 2 * tile.width  # multiplications of a cycle
    turns = POINTS**2 * tiles * (p.channels + p.outs) // tile.width * TURNS // 4
    far = pairs * tile.bytes // NEAR_BYTES
    here = max(POINTS**2 * tiles * pairs // step, POINTS**2 * far) + turns
    return here < max(TAPS * pixels * pairs // step, TAPS * far)


def _count(p: Product) -> int:
    d, h, w = p.axes
    return p.images * d.count * -(-h.count // M) * -(-w.count // M)


def plan(target: Target, p: Product, ending: Ending) -> list[Stage]:
    """Transform the weights, then convolve."""
    kind = kind_of(target, p.dtype)
    tile = best_tile(target, kind.compute)
    p = unflipped(p)
    words, units = _words(p, kind, tile)
    meta, panels = WORDS.meta(words), p.groups * -(-p.outs // tile.columns)
    operands = tuple(range(len(ending.places)))
    buffers = (p.source, "t", "b" if p.has_bias else "w", *operands)
    spectrum = ("row_spectrum", meta, "wt", panels)
    size = panels * POINTS**2 * p.channels * tile.columns * kind.size
    return [Stage((spectrum, ("row_tiles", meta + ending.meta, buffers, units)), size)]


def _words(p: Product, kind: Kind, tile: Tile) -> tuple[dict[str, int], int]:
    d, h, w = p.axes
    pitch = round_up(p.channels * kind.size) + 64
    count, panels = _count(p), -(-p.outs // tile.columns)
    most = max(INPUT_BYTES // (POINTS**2 * pitch), min(FEWEST, SCRATCH // 2 // (POINTS**2 * pitch)))
    blocks = -(-count // max(1, most))
    if p.threads > 1:
        blocks = max(blocks, min(count // FEWEST, 4 * p.threads))
    t_block = -(-count // blocks)
    n_blocks = 1 if p.threads == 1 else min(panels, -(-3 * p.threads // (blocks * p.groups)))
    n_block = -(-panels // n_blocks) * tile.columns
    # a tile of rows may read and write beyond the block's last
    plane = (t_block + tile.rows) * pitch
    sums = POINTS**2 * (t_block + 2 * tile.rows + t_block // tile.rows) * tile.columns * kind.size
    at_inputs = round_up(max(p.channels, tile.columns) * kind.size + 64)
    at_sums = round_up(at_inputs + POINTS**2 * plane)
    words = {
        **dict(zip(IMAGE.split(), p.x)), **dict(zip(("w.group", "w.out", "w.channel"), p.w)),
        "w.row": p.w[4], "w.column": p.w[5], "w.start": p.w_start, "images": p.images,
        "d.count": d.count, "d.size": d.size, "d.step": d.step, "d.lowest": d.offset,
        **{f"{a}.{n}": v for a, x in (("h", h), ("w", w)) for n, v in
           (("size", x.size), ("lowest", x.offset), ("count", x.count), ("tiles", -(-x.count // M)))},
        "groups": p.groups, "channels": p.channels, "outs": p.outs, "bias": p.has_bias,
        "t.block": t_block, "t.blocks": -(-count // t_block), "n.block": n_block,
        "n.blocks": -(-p.outs // n_block), "pitch": pitch, "plane": plane, "at.zeros": 0,
        "at.inputs": at_inputs, "at.sums": at_sums, "at.pixels": round_up(at_sums + sums),
    }  # fmt: skip
    return words, words["t.blocks"] * words["n.blocks"] * p.groups
