"""Convolutions whose result has its channels side by side: pixels by channels, one matrix product.

A row is an output pixel, a column an output channel, and the depth counts (tap, channel): what a pixel
sees is gathered side by side for a block of pixels at a time, or read in place where each pixel sees
itself alone. Of images whose columns lie side by side instead, the lines that an output line sees are
copied, so that its windows overlap; their depth counts (channel, tap). Weights are laid out in panels,
whose first row is the bias.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_problem import Product, Stage
from .conv_product import kind_of, split_index
from .conv_row_weights import WEIGHTS, is_by_line, weight_words
from .ending import Ending, EndingBody, merged_stride
from .nest import Nest
from .tile import Tile, best_tile, fetch_rows, k_loop
from .window import IMAGE, Kind, Words, first_lanes, lane_mask, round_up, scaled_iota, signature

AXIS = "size step offset tap taps count"
AXES = " ".join(f"{a}.{n}" for a in "dhw" for n in AXIS.split())
ROWS = Words(
    f"{AXES} {IMAGE} images groups channels outs taps by_line in_place pitch line.taps "
    "line.row line.bytes m.block m.blocks n.block n.blocks tap_chunk channel_chunk at.sums sums.row "
    "sums.panel fetches"
)
DEPTH = 512  # of a product, that a block aims at
BLOCK_BYTES = 384 << 10  # of what a block of pixels sees
NEAR_BYTES = 256 << 10  # of weights that stay in a second-level cache from block to block
WAY = 4096  # bytes: lines so far apart share few places of a cache
SUMS_BYTES = 1 << 20  # of sums that wait for the rest of their depth
FAR_BYTES = 8 << 20  # of what endings read and write, which no cache holds for the next kernel


def row_sizes(tile: Tile) -> list[int]:
    """The row counts of register tiles, falling: a block's rows are shared out evenly."""
    return [tile.rows, tile.rows - 1, *range((tile.rows - 2) & -2, 0, -2), 1]


# -- what pixels see

GATHER = signature("meta* x* to* m0 m1 t0 t1 c0 c1")


def gather(b: Builder, kind: Kind) -> None:
    """The functions `by_pixel` and `by_line`: what output pixels m0 to m1 see of some taps and
    channels. Rows are written up to a vector past their end.
    """
    for name, body in (("by_pixel", _by_pixel), ("by_line", _by_line)):
        with b.function(name, GATHER) as (meta, x, to, m0, m1, *part):
            d_count, h_count, columns = ROWS.read(b, meta, "d.count h.count w.count")
            with b.loop(m0 // columns, (m1 + (columns - 1)) // columns) as line:
                n, qd, qh = split_index(line.index, d_count, h_count)
                start = line.index * columns
                lo, hi = b.max(m0 - start, 0), b.min(m1 - start, columns)
                body(b, kind, meta, x, (to, start - m0), (n, qd, qh), (lo, hi), part)


def _tap_line(b: Builder, meta: Value, q, i: Value, j: Value) -> tuple[Value, Value]:
    """The place of a tap's plane and row in the image, and whether they are inside."""
    at, inside = b.const(0, "i64"), b.const(True, "bool")
    for axis, start, tap, stride in (("d", q[1], i, "x.plane"), ("h", q[2], j, "x.row")):
        size, step, offset, tap_step, x = ROWS.read(
            b, meta, f"{axis}.size {axis}.step {axis}.offset {axis}.tap {stride}"
        )
        z = start * step + offset + tap * tap_step
        inside = inside & (z >= 0) & (z < size)
        at = at + z * x
    return at, inside


def _by_pixel(b: Builder, kind: Kind, meta, x, to, q, span, part) -> None:
    """Tap by tap: the channels of neighbouring pixels, copied, or zeros outside the image."""
    t0, t1, c0, c1 = part
    lo, hi = span
    (pitch,) = ROWS.read(b, meta, "pitch")
    to = b.offset(to[0], to[1] * pitch)
    lanes, storage = kind.lanes, itemsize(kind.storage)
    h_taps, w_taps, xn, xw = ROWS.read(b, meta, "h.taps w.taps x.image x.column")
    size, step, offset, tap = ROWS.read(b, meta, "w.size w.step w.offset w.tap")
    some = c1 - c0
    with b.loop(t0, t1) as t:
        i, j, k = split_index(t.index, h_taps, w_taps)
        at, inside = _tap_line(b, meta, q, i, j)
        z = offset + k * tap
        first = b.min(b.max((step - 1 - b.min(z, 0)) // step, lo), hi)
        end = b.min(b.max((size + step - 1 - z) // step, first), hi)
        end = b.select(inside, end, first)
        source = b.offset(x, (q[0] * xn + at + c0 + z * xw) * storage)
        target = b.offset(to, (t.index - t0) * some * kind.size)
        with b.loop(first, end) as m:
            here, there = b.offset(source, m.index * step * xw * storage), m.index * pitch
            there = b.offset(target, there)
            whole = some & -lanes
            with b.loop(0, whole, lanes) as c:
                v = b.load(here, c.index, kind.storage, lanes).to(kind.compute)
                b.store(there, c.index, v, kind.compute)
            with b.branch(whole < some):
                mask = first_lanes(b, some - whole, lanes)
                v = b.load(here, whole, kind.storage, lanes, mask).to(kind.compute)
                b.store(there, whole, v, kind.compute)
        zero = b.splat(b.const(0, kind.compute), lanes)
        for before, after in ((lo, first), (end, hi)):
            with b.loop(before, after) as m, b.loop(0, some, lanes) as c:
                b.store(b.offset(target, m.index * pitch), c.index, zero, kind.compute)


def _by_line(b: Builder, kind: Kind, meta, x, to, q, span, part) -> None:
    """Channel by channel: the rows of the image that the windows of an output line see, with zeros
    outside. Taps that lie apart have a row each, in which the windows begin at that tap.
    """
    _, _, c0, c1 = part
    lanes, storage = kind.lanes, itemsize(kind.storage)
    read = lambda names: ROWS.read(b, meta, names)  # noqa: E731
    d_taps, h_taps, w_taps, xn, xc, xw = read("d.taps h.taps w.taps x.image x.channel x.column")
    size, step, offset, tap, columns = read("w.size w.step w.offset w.tap w.count")
    inner, pitch, line_bytes = read("line.taps line.row line.bytes")
    length, to = (columns - 1) * step + inner, b.offset(to[0], to[1] // columns * line_bytes)
    outer = w_taps // inner
    with b.loop(c0, c1) as c, b.loop(0, d_taps) as i, b.loop(0, h_taps) as j:
        at, inside = _tap_line(b, meta, q, i.index, j.index)
        plane = q[0] * xn + c.index * xc + b.select(inside, at, 0)
        source = b.offset(x, plane * storage)
        limit = b.select(inside, size, 0)
        row = (((c.index - c0) * d_taps + i.index) * h_taps + j.index) * outer
        with b.loop(0, outer) as k, b.loop(0, length, lanes) as v:
            z = offset + k.index * tap + v.index
            there = b.offset(to, (row + k.index) * pitch)
            mask = lane_mask(b, z, 1, limit, lanes)
            with b.branch(xw.eq(1)):
                line = b.load(source, z, kind.storage, lanes, mask).to(kind.compute)
                b.store(there, v.index, line, kind.compute)
            with b.branch(xw.ne(1)):
                index = b.splat((z * xw).to("i32"), lanes) + scaled_iota(b, xw, lanes)
                line = b.load(source, index, kind.storage, lanes, mask).to(kind.compute)
                b.store(there, v.index, line, kind.compute)


# -- products

TILE = signature("a* a_row a_line bias* b* c* lines depth old ahead* pace")


def tile_function(b: Builder, tile: Tile) -> None:
    """The function `tile<rows>`: sums `[rows][columns]` at `c`, begun with the bias or, if `old` is
    1, with what is there. The depth is that of each of some lines of A, `a_line` bytes apart. `pace`
    bytes from `ahead` on are fetched at each step of it.
    """
    V, lanes = tile.vectors, tile.width
    with b.function(f"tile{tile.rows}", TILE) as args:
        a, a_row, a_line, bias, bp, c, lines, depth, old, ahead, pace = args
        places = [b.offset(c, i * lanes * tile.bytes) for i in range(tile.rows * V)]
        zero = b.splat(b.const(0, tile.element), lanes)
        with b.loop(0, b.const(1, "i64") - old, 1, [zero] * V) as loop:
            loop.next(*(b.load(bias, j * lanes, tile.element, lanes) for j in range(V)))
        acc = loop.results * tile.rows
        with b.loop(0, old, 1, acc) as loop:
            loop.next(*(b.load(p, 0, tile.element, lanes) for p in places))
        width = tile.columns * tile.bytes
        with b.loop(0, lines, 1, loop.results) as line:
            k = line.index * depth
            operands = b.offset(a, line.index * a_line), a_row, tile.bytes, b.offset(bp, k * width)
            fetched = b.offset(ahead, k * pace), pace
            line.next(*k_loop(b, tile, line.carry, *operands, width, depth, 4, *fetched))
        for p, x in zip(places, line.results, strict=True):
            b.store(p, 0, x, tile.element)


ENDING = signature("meta* buffers* sums* rows columns row column")
FETCH = signature("meta* buffers* rows row column")


def ending_function(
    b: Builder, kind: Kind, tile: Tile, nest: Nest, words: int, buffers: int
) -> None:
    """The functions `ending`: rows of sums `[row][columns]` finished and stored, and `fetch`: what
    it will read and write. `words` of meta and `buffers` come before those of the nest.
    """
    with b.function("ending", ENDING) as (b.meta, b.buffers, sums, rows, columns, row, column):
        end = EndingBody(nest, b, words, buffers)

        def finish(r: Value, v: int, mask: Value | None) -> None:
            at = r * (tile.columns * kind.size) + v * kind.lanes * kind.size
            x = b.load(b.offset(sums, at), 0, kind.compute, kind.lanes)
            end.store(x, row + r, column + v * kind.lanes, mask)

        with b.branch(columns >= tile.columns), b.loop(0, rows) as r:
            for v in range(tile.vectors):
                finish(r.index, v, None)
        with b.branch(columns < tile.columns), b.loop(0, rows) as r:
            for v in range(tile.vectors):
                left = columns - v * kind.lanes
                with b.branch(left > 0):
                    finish(r.index, v, first_lanes(b, left, kind.lanes))
    with b.function("fetch", FETCH) as (b.meta, b.buffers, rows, row, column):
        for place, stride in EndingBody(nest, b, words, buffers).far(row, column):
            fetch_rows(b, place, stride, rows, tile.columns * kind.size)


FIRST_OPERAND = 2  # buffers of an ending come after the image and the weights


def build_rows(dtype: str, nest: Nest, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, weights, operands of the ending)`: one unit is a block of pixels, a group and a range of
    its output channels.
    """
    kind = kind_of(target, dtype)
    tile = best_tile(target, kind.compute)
    b = Builder(name, target, math)
    gather(b, kind)
    for rows in row_sizes(tile):
        tile_function(b, tile.with_shape(rows))
    ending_function(b, kind, tile, nest, len(ROWS.names), FIRST_OPERAND)
    with b.entry():
        _rows(b, kind, tile)
    return b.kernel


def _rows(b: Builder, kind: Kind, tile: Tile) -> None:
    read = lambda names: ROWS.read(b, b.meta, names)  # noqa: E731
    images, d, h, w, groups = read("images d.count h.count w.count groups")
    outs, taps, channels, m_block, n_block, n_blocks = read(
        "outs taps channels m.block n.block n.blocks"
    )
    tap_chunk, channel_chunk, by_line, xc = read("tap_chunk channel_chunk by_line x.channel")
    pixels = images * d * h * w
    with b.loop(b.lo, b.hi) as unit:
        mb, g, nb = split_index(unit.index, groups, n_blocks)
        m0 = mb * m_block
        m = b.min(m_block, pixels - m0)
        image = b.offset(b.pointer(0), g * channels * xc * itemsize(kind.storage))
        span = nb * n_block, b.min(outs, (nb + 1) * n_block)
        with b.loop(0, taps, tap_chunk) as t0, b.loop(0, channels, channel_chunk) as c0:
            t1 = b.min(t0.index + tap_chunk, taps)
            c1 = b.min(c0.index + channel_chunk, channels)
            first = b.select(by_line.ne(0), c0.index * taps, t0.index * channels + c0.index)
            depth = (t1 - t0.index) * (c1 - c0.index)
            is_last = t1.eq(taps) & c1.eq(channels)
            chunk = (t0.index, t1, c0.index, c1)
            _chunk(b, kind, tile, image, g, (m0, m), span, chunk, first, depth, is_last)


def _chunk(b: Builder, kind: Kind, tile: Tile, image, g, block, span, chunk, first, depth,
           is_last) -> None:  # fmt: skip
    """All tiles of a block's sums, for a part of their depth."""
    read = lambda names: ROWS.read(b, b.meta, names)  # noqa: E731
    in_place, pitch, x_row, by_line, line_row = read("in_place pitch x.column by_line line.row")
    at_sums, sums_row, sums_panel, outs = read("at.sums sums.row sums.panel outs")
    channels, taps, columns, inner, line_bytes, fetches = read(
        "channels taps w.count line.taps line.bytes fetches"
    )
    m0, m = block
    sizes, width = row_sizes(tile), tile.columns * kind.size
    # without lines a block is one long line of pixels
    length = b.select(by_line.ne(0), columns, m)
    per_line = (length + (tile.rows - 1)) // tile.rows
    size = (length + per_line - 1) // per_line
    count = m // length * per_line
    lines, depth = b.select(by_line.ne(0), depth // inner, 1), b.select(by_line.ne(0), inner, depth)
    rows = b.const(sizes[0], "i64")
    for n in sizes[1:]:
        rows = b.select(size <= n, n, rows)
    # tiles that read in place must not read past the image: the last one reads a copy
    tail = b.select(in_place.ne(0), (count - 1) * size, 0)
    with b.branch(by_line.eq(0)):
        b.call("by_pixel", b.meta, image, b.scratch, m0 + tail, m0 + m, *chunk)
    with b.branch(by_line.ne(0)):
        b.call("by_line", b.meta, image, b.scratch, m0 + tail, m0 + m, *chunk)
    at = (m0 * x_row + chunk[2]) * itemsize(kind.storage)
    here, here_row = b.offset(image, at), x_row * itemsize(kind.storage)
    panel = (channels * taps + 1) * width
    panels = (outs + (tile.columns - 1)) // tile.columns
    pace = (count + (width - 1)) // count  # while a panel is multiplied the next one is fetched
    n0, n1 = span
    with b.loop(n0, n1, tile.columns) as n:
        bias = b.offset(b.pointer(1), (g * panels + n.index // tile.columns) * panel)
        weights = b.offset(bias, (first + 1) * width)
        sums = b.offset(b.scratch, at_sums + (n.index - n0) // tile.columns * sums_panel)
        with b.loop(0, count) as t:
            ahead = b.offset(weights, panel + t.index * lines * depth * pace)
            line = t.index // per_line
            i = (t.index - line * per_line) * size
            is_copy = in_place.eq(0) | i.eq(tail)
            copied = b.offset(b.scratch, line * line_bytes + (i - tail) * pitch)
            a = b.select(is_copy, copied, b.offset(here, i * here_row))
            step = b.select(is_copy, pitch, here_row)
            c = b.offset(sums, t.index * rows * sums_row)  # a tile may have more rows than pixels
            there = b.min(size, length - i), m0 + line * length + i, g * outs + n.index
            with b.branch(is_last & fetches.ne(0)):
                b.call("fetch", b.meta, b.buffers, *there)
            for r in sizes:
                with b.branch(rows.eq(r)):
                    b.call(f"tile{r}", a, step, line_row, bias, weights, c, lines, depth,
                           b.min(first, 1), ahead, pace)  # fmt: skip
            with b.branch(is_last):
                b.call("ending", b.meta, b.buffers, c, there[0], n1 - n.index, *there[1:])


# -- plans


def plan(target: Target, p: Product, ending: Ending) -> list[Stage]:
    """Lay out the weights, then multiply."""
    if prod(p.counts) * p.outs * p.groups == 0:
        return []
    kind = kind_of(target, p.dtype)
    tile = best_tile(target, kind.compute)
    moving = sum(o.classes == "s1" for o in ending.nest.operands)
    is_far = moving * prod(p.counts) * p.groups * p.outs * kind.size >= FAR_BYTES
    words, units = _words(p, kind, tile, is_far)
    panels = p.groups * -(-p.outs // tile.columns)
    operands = tuple(range(len(ending.places)))
    weights = (
        "row_weights",
        WEIGHTS.meta(weight_words(p)),
        "wbt" if p.has_bias else "wwt",
        panels,
    )
    rows = ("rows", ROWS.meta(words) + ending.meta, (p.source, "t", *operands), units)
    size = panels * tile.columns * (p.channels * p.taps + 1) * kind.size
    return [Stage((weights, rows), size)]


def in_place_stride(p: Product) -> int | None:
    """Elements from pixel to pixel, where each one sees itself alone and they are evenly apart, not so
    that they would drive each other out of a cache.
    """
    if is_by_line(p) or any(
        a.taps != 1 or a.step != 1 or a.offset or a.size != a.count for a in p.axes
    ):
        return None
    stride = merged_stride(p.counts, (p.x[0], *p.x[2:]), range(4))
    return None if stride is None or stride * itemsize(p.dtype) % WAY == 0 else stride


def _words(p: Product, kind: Kind, tile: Tile, is_far: bool) -> tuple[dict[str, int], int]:
    depth, by_line = p.channels * p.taps, is_by_line(p)
    stride = in_place_stride(p) if p.dtype == kind.compute else None
    parts = -(-depth // (DEPTH + DEPTH // 4))
    tap_chunk = -(-p.taps // parts)
    channel_chunk = p.channels
    if by_line:
        tap_chunk, channel_chunk = p.taps, -(-p.channels // parts)
    elif tap_chunk == 1:
        channel_chunk = -(-p.channels // max(1, round(p.channels / DEPTH)))
    w = p.axes[2]
    line_taps = w.taps if w.tap_step == 1 else 1
    line_row = round_up(((w.count - 1) * w.step + line_taps) * kind.size)
    if by_line:  # a unit is a line of outputs, else a tile of pixels
        pitch = w.step * kind.size
        unit, unit_bytes = w.count, channel_chunk * p.taps // line_taps * line_row
        tiles = -(-w.count // tile.rows)
    else:
        pitch = round_up(tap_chunk * channel_chunk * kind.size) + 64
        pitch += 64 if pitch % 1024 == 0 else 0
        unit, unit_bytes, tiles = tile.rows, tile.rows * pitch, 1
    is_whole = tap_chunk == p.taps and channel_chunk == p.channels
    sums = tiles * tile.rows * tile.columns * kind.size
    pixels = prod(p.counts)
    touched = unit_bytes
    if is_far and p.outs * depth * kind.size <= NEAR_BYTES:  # results lie beside such weights
        touched += 2 * unit * p.outs * kind.size
    m_units, n_panels = _blocks(p, tile, -(-pixels // unit), touched, 0 if is_whole else sums)
    m_block, n_block = m_units * unit, n_panels * tile.columns
    m_blocks, n_blocks = -(-pixels // m_block), -(-p.outs // n_block)
    words = {
        **{f"{a}.{n}": v for a, x in zip("dhw", p.axes) for n, v in
           zip(AXIS.split(), (x.size, x.step, x.offset, x.tap_step, x.taps, x.count))},
        **dict(zip(IMAGE.split(), p.x)),
        "images": p.images, "groups": p.groups, "channels": p.channels, "outs": p.outs,
        "taps": p.taps, "by_line": by_line, "in_place": stride is not None, "pitch": pitch,
        "line.taps": line_taps, "line.row": line_row, "line.bytes": unit_bytes if by_line else 0,
        "m.block": m_block, "m.blocks": m_blocks, "n.block": n_block, "n.blocks": n_blocks,
        "tap_chunk": tap_chunk, "channel_chunk": channel_chunk,
        # tiles may see a little more than pixels do
        "at.sums": round_up(m_units * unit_bytes + tile.rows * pitch + 64),
        "sums.row": 0 if is_whole else tile.columns * kind.size,
        "sums.panel": 0 if is_whole else m_units * sums, "fetches": is_far,
    }  # fmt: skip
    if stride is not None:
        words["x.column"] = stride
    return words, m_blocks * n_blocks * p.groups


def _blocks(p: Product, tile: Tile, units: int, unit_bytes: int, sums: int) -> tuple[int, int]:
    """Units of pixels and panels of output channels of a block: many threads want small ones.

    `sums` are the bytes of a unit's sums for a panel that wait for the rest of their depth.
    """
    m_blocks = -(-units // max(1, BLOCK_BYTES // unit_bytes))
    if p.threads > 1:
        m_blocks = max(m_blocks, min(-(-units // 4), 4 * p.threads))
    m_units = -(-units // m_blocks)
    panels = -(-p.outs // tile.columns)
    n_blocks = 1 if p.threads == 1 else -(-3 * p.threads // (m_blocks * p.groups))
    n_panels = -(-panels // min(panels, n_blocks))
    if sums:
        n_panels = min(n_panels, max(1, SUMS_BYTES // (m_units * sums)))
    return m_units, n_panels
