"""Convolution as a matrix product: weights by windows, block by block.

`build_panels` writes the kernel that lays the weights out for the register tile; `build_product`
the one that computes the output. It serves forward, data gradient and transposed convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

from amity.core.errors import fail
from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_problem import Product, Stage, flatten, is_linear
from .pack import transpose
from .tile import Tile, k_loop
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
    pack,
    round_up,
    shared,
    signature,
    tap_offsets,
)  # fmt: skip

STRIP_PIXELS = 2048  # pixels that a block of strips aims at
SUMS = 2 << 20  # bytes of sums that a block keeps in scratch at most
DEPTH = 384  # rows of a packed panel that a block aims at
PANELS = Words("w.start w.group w.out w.channel w.plane w.row w.column outs channels d h w bias")
PRODUCT = Words(
    f"{axis_words('dhw')} {COPY} {IMAGE} images n.block groups channels outs taps chunk depth "
    "direct straight y.start y.image y.channel y.plane y.row y.column d.blocks h.blocks w.blocks "
    "m.block m.blocks at.copy at.panels at.sums panel pitch"
)
DTYPES = {"f16": "f32", "bf16": "f32", "i8": "i32", "u8": "i32", "i16": "i32"}


def kind_of(target: Target, dtype: str) -> Kind:
    compute = DTYPES.get(dtype, dtype)
    return Kind(dtype, compute, target.lanes(itemsize(compute)))


def conv_tile(target: Target, kind: Kind) -> Tile:
    """The register tile: channel counts are multiples of 8 more often than of 14."""
    if target.registers >= 32:
        return Tile(kind.compute, kind.lanes, 8, 3)
    return Tile(kind.compute, kind.lanes, 4, 3 if "fma" in target.has else 2)


def build_panels(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(w, bias, panels)`: for each group and tile of rows the bias, then [channel, tap][row].

    One unit of the grid is one tile of one group; rows beyond the last are garbage.
    """
    kind = kind_of(target, dtype)
    tile = conv_tile(target, kind)
    b = Builder(name, target, math)
    row_bytes, storage = tile.rows * kind.size, itemsize(dtype)
    with b.entry():
        w, bias, out = (b.pointer(i) for i in range(3))
        start, wg, wo, wc, wd, wh, ww, outs, channels, d, h, width, has_bias = PANELS.read(
            b, b.meta, " ".join(PANELS.names)
        )
        tiles = (outs + (tile.rows - 1)) // tile.rows
        depth = channels * d * h * width
        strides = wc, wd, wh, ww
        with b.loop(b.lo, b.hi) as unit:
            g, t = split_index(unit.index, tiles)
            m = t * tile.rows
            to = b.offset(out, unit.index * (depth + 1) * row_bytes)
            known = first_lanes(b, b.select(has_bias.ne(0), outs - m, 0), tile.rows)
            first = b.load(bias, g * outs + m, dtype, tile.rows, known)
            b.store(to, 0, first.to(kind.compute), kind.compute)
            source = b.offset(w, (start + g * wg + m * wo) * storage)
            rows = [b.min(outs - 1 - m, i) * wo * storage for i in range(tile.rows)]
            apart = b.select(wo.eq(1), 0, channels)
            with b.loop(0, apart) as c, b.loop(0, d) as i, b.loop(0, h) as j:
                at = b.offset(source, (c.index * wc + i.index * wd + j.index * wh) * storage)
                line = ((c.index * d + i.index) * h + j.index) * width + 1
                target_line = b.offset(to, line * row_bytes)
                with b.branch(ww.eq(1)):
                    _turn_weights(b, kind, tile, at, rows, width, target_line)
                with b.branch(ww.ne(1)), b.loop(0, width) as k:
                    for r, row in enumerate(rows):
                        from_ = b.offset(at, row + k.index * ww * storage)
                        v = b.load(from_, 0, dtype).to(kind.compute)
                        b.store(b.offset(target_line, k.index * row_bytes), r, v, kind.compute)
        with b.branch(wo.eq(1)):
            last = (b.hi - 1) // tiles + 1
            with b.loop(b.lo // tiles, last) as g:
                range_ = b.max(b.lo - g.index * tiles, 0), b.min(b.hi - g.index * tiles, tiles)
                source = b.offset(w, (start + g.index * wg) * storage)
                to = b.offset(out, g.index * tiles * (depth + 1) * row_bytes)
                _copy_weights(
                    b, kind, tile, source, to, range_, outs, (channels, d, h, width), strides
                )
    return b.kernel


def _copy_weights(b: Builder, kind: Kind, tile: Tile, source, to, tiles: tuple[Value, Value],
                  outs: Value, counts: Sequence[Value], strides: Sequence[Value]) -> None:  # fmt: skip
    """Rows that lie side by side: lines of memory are read once for all tiles that they hold."""
    storage, row_bytes = itemsize(kind.storage), tile.rows * kind.size
    depth = counts[0] * counts[1] * counts[2] * counts[3]
    with (
        b.loop(0, counts[0]) as c,
        b.loop(0, counts[1]) as i,
        b.loop(0, counts[2]) as j,
        b.loop(0, counts[3]) as k,
    ):
        places = zip((c, i, j, k), strides)
        at = b.offset(source, sum((n.index * s for n, s in places), b.const(0, "i64")) * storage)
        line = ((c.index * counts[1] + i.index) * counts[2] + j.index) * counts[3] + k.index + 1
        line_to = b.offset(to, line * row_bytes)
        with b.loop(*tiles) as t:
            few = first_lanes(b, outs - t.index * tile.rows, tile.rows)
            v = b.load(at, t.index * tile.rows, kind.storage, tile.rows, few)
            target = b.offset(line_to, t.index * (depth + 1) * row_bytes)
            b.store(target, 0, v.to(kind.compute), kind.compute)


def _turn_weights(b: Builder, kind: Kind, tile: Tile, source, rows, width, target) -> None:
    """Rows of weights side by side: squares of rows and taps, transposed in registers."""
    q, storage = tile.rows, itemsize(kind.storage)
    with b.loop(0, width, q) as k:
        mask = first_lanes(b, width - k.index, q)
        places = [b.offset(source, row + k.index * storage) for row in rows]
        square = [b.load(p, 0, kind.storage, q, mask).to(kind.compute) for p in places]
        for i, x in enumerate(transpose(b, square, q)):
            with b.branch(width - k.index > i):
                b.store(target, (k.index + i) * q, x, kind.compute)


TILE = signature("a* bias* b* c* c_row depth old rows columns")


def tile_function(b: Builder, tile: Tile, panel: int) -> None:
    """The function `tile<vectors>`: a tile of packed A by a packed panel of `panel` bytes a row.

    It adds to what is at `c` if `old` is 1, else to the bias. `rows` and `columns` (of the last
    vector) say how much of the tile exists.
    """
    V, lanes = tile.vectors, tile.width
    with b.function(f"tile{V}", TILE) as (a, bias, bp, c, c_row, depth, old, rows, columns):
        places = [b.offset(c, b.min(rows - 1, i) * c_row) for i in range(tile.rows)]
        for p in places:
            b.prefetch(p, write=True)
        mask = first_lanes(b, columns, lanes)
        last = lambda j: mask if j == V - 1 else None  # noqa: E731
        zero = b.splat(b.const(0, tile.element), lanes)
        with b.loop(0, b.const(1, "i64") - old, 1, [zero] * tile.rows) as loop:
            loop.next(*(b.splat(b.load(bias, i, tile.element), lanes) for i in range(tile.rows)))
        acc = [x for x in loop.results for _ in range(V)]
        with b.loop(0, old, 1, acc) as loop:
            loop.next(*(b.load(places[n // V], n % V * lanes, tile.element, lanes, last(n % V))
                        for n in range(len(acc))))  # fmt: skip
        step = tile.rows * tile.bytes
        acc = k_loop(b, tile, loop.results, a, tile.bytes, step, bp, panel, depth, 2)
        for i, p in enumerate(places):
            with b.branch(rows > i):
                for j in range(V):
                    b.store(p, j * lanes, acc[i * V + j], tile.element, last(j))


FINISH = signature("meta* sums* pitch y* outs images planes rows columns")


def finish(b: Builder, words: Words, kind: Kind) -> None:
    """The function `finish`: write a block of sums to the output, whatever its strides and
    dtype.
    """
    with b.function("finish", FINISH) as (
        meta,
        sums,
        pitch,
        y,
        outs,
        images,
        planes,
        rows,
        columns,
    ):
        yn, yc, yd, yh, yw = words.read(b, meta, "y.image y.channel y.plane y.row y.column")
        lanes = kind.lanes
        spread = b.iota(lanes, "i32") * b.splat(yw.to("i32"), lanes)
        with (
            b.loop(0, outs) as m,
            b.loop(0, images) as n,
            b.loop(0, planes) as i,
            b.loop(0, rows) as j,
        ):
            p = ((n.index * planes + i.index) * rows + j.index) * columns
            at = n.index * yn + m.index * yc + i.index * yd + j.index * yh
            with b.loop(0, columns, lanes) as k:
                left = columns - k.index
                mask = first_lanes(b, left, lanes)
                source = b.offset(sums, m.index * pitch + (p + k.index) * kind.size)
                v = b.load(source, 0, kind.compute, lanes, mask).to(kind.storage)
                target = b.offset(y, (at + k.index * yw) * itemsize(kind.storage))
                with b.branch(yw.eq(1)):
                    b.store(target, 0, v, kind.storage, mask)
                with b.branch(yw.eq(2)):  # a stride of 2 is common, and scattering slow
                    even = (b.iota(lanes, "i32") & 1).eq(0)
                    for half in range(2):
                        twice = b.shuffle(
                            v, v, [half * lanes // 2 + lane // 2 for lane in range(lanes)]
                        )
                        some = even & first_lanes(b, left * 2 - half * lanes, lanes)
                        b.store(target, half * lanes, twice, kind.storage, some)
                with b.branch(yw.ne(1) & yw.ne(2)):
                    b.store(target, spread, v, kind.storage, mask)


def call_tiles(
    b: Builder, tile: Tile, pixels: Value, each: Callable[[int, Value, Value], None]
) -> None:
    """For each panel of `pixels` columns the right `each(vectors, panel index, columns of the
    last)`.
    """
    with b.loop(0, (pixels + (tile.columns - 1)) // tile.columns) as panel:
        columns = b.min(pixels - panel.index * tile.columns, tile.columns)
        vectors = (columns + (tile.width - 1)) // tile.width
        for v in range(1, tile.vectors + 1):
            with b.branch(vectors.eq(v)):
                each(v, panel.index, columns - (v - 1) * tile.width)


def split_index(index: Value, *counts: Value) -> list[Value]:
    """A linear index as one per count, the last the fastest; the first takes what is left."""
    parts = []
    for count in reversed(counts):
        rest = index // count
        parts.append(index - rest * count)
        index = rest
    return [index, *reversed(parts)]


def block_of(b: Builder, words: Words, index: Value) -> tuple[list[Value], list[Value]]:
    """Where a block of output pixels starts and how much of it exists, in images, planes, rows,
    columns.
    """
    grid = words.read(b, b.meta, "d.blocks h.blocks w.blocks")
    counts = words.read(b, b.meta, "images d.count h.count w.count")
    blocks = words.read(b, b.meta, "n.block d.block h.block w.block")
    starts = [i * size for i, size in zip(split_index(index, *grid), blocks)]
    return starts, [b.min(size, count - s) for s, size, count in zip(starts, blocks, counts)]


def build_product(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, panels, y)`: the convolution. One unit is a block of pixels, a group and a range of
    rows.
    """
    kind = kind_of(target, dtype)
    tile = conv_tile(target, kind)
    b = Builder(name, target, math)
    expand(b, PRODUCT, kind)
    tap_offsets(b, PRODUCT, kind)
    pack(b, PRODUCT, kind, tile.vectors)
    for v in range(1, tile.vectors + 1):
        tile_function(b, tile.with_shape(tile.rows, v), tile.columns * kind.size)
    finish(b, PRODUCT, kind)
    with b.entry():
        write_product(b, kind, tile, multiply_packed)
    return b.kernel


@dataclass
class Part:
    """One step along the depth of a block's product: where its operands are and what is done
    already.
    """

    table: Value  # offsets of this step's windows
    source: Value  # the copy, or the image
    weights: Value  # the group's panels
    panel: Value  # bytes from one tile of rows to the next
    first: Value  # windows done before
    depth: Value
    c: Value  # the block's first sum
    pitch: Value  # bytes from one row of sums to the next
    rows: tuple[Value, Value]
    extent: list[Value]  # images, planes, rows, columns

    @property
    def old(self) -> Value:
        return self.first.builder.min(self.first, 1)


def write_product(b: Builder, kind: Kind, tile: Tile, multiply: Callable) -> None:
    """The entry's body; `multiply(b, kind, tile, part)` writes how one step is done."""
    x, panels, y = (b.pointer(i) for i in range(3))
    read = lambda names: PRODUCT.read(b, b.meta, names)  # noqa: E731
    groups, channels, outs, taps, chunk, most = read("groups channels outs taps chunk depth")
    xn, xc = read("x.image x.channel")
    start, yn, yc, yd, yh, yw = read("y.start y.image y.channel y.plane y.row y.column")
    straight, m_block, m_blocks, at_sums, pitch = read("straight m.block m.blocks at.sums pitch")
    b.call("tap_offsets", b.meta, b.scratch, chunk)
    panel = (channels * taps + 1) * (tile.rows * kind.size)
    tiles = (outs + (tile.rows - 1)) // tile.rows
    storage = itemsize(kind.storage)
    with b.loop(b.lo, b.hi) as unit:
        rest, g, mb = split_index(unit.index, groups, m_blocks)
        (n, qd, qh, qw), extent = block_of(b, PRODUCT, rest)
        m0 = mb * m_block
        m1 = b.min(outs, m0 + m_block)
        at = start + n * yn + (g * outs + m0) * yc + qd * yd + qh * yh + qw * yw
        target = b.offset(y, at * storage)
        c = b.select(straight.ne(0), target, b.offset(b.scratch, at_sums))
        with b.loop(0, b.max(channels, 1), chunk) as c0:
            some = b.min(chunk, channels - c0.index)
            image = b.offset(x, (n * xn + (g * channels + c0.index) * xc) * storage)
            source = source_of(b, PRODUCT, kind, image, extent[0], some, qd, qh, qw)
            with b.loop(0, b.max(some * taps, 1), most) as t0:
                part = Part(
                    table=b.offset(b.scratch, t0.index * 8),
                    source=source,
                    weights=b.offset(panels, g * tiles * panel),
                    panel=panel,
                    first=c0.index * taps + t0.index,
                    depth=b.min(most, some * taps - t0.index),
                    c=c,
                    pitch=pitch,
                    rows=(m0, m1),
                    extent=extent,
                )
                multiply(b, kind, tile, part)
        with b.branch(straight.eq(0)):
            b.call("finish", b.meta, c, pitch, target, m1 - m0, *extent)


def multiply_packed(b: Builder, kind: Kind, tile: Tile, part: Part) -> None:
    """Windows packed in panels, then tile by tile."""
    panel_bytes, at_panels = PRODUCT.read(b, b.meta, "panel at.panels")
    to = b.offset(b.scratch, at_panels)
    b.call("pack", b.meta, part.table, part.source, to, part.depth, *part.extent, panel_bytes)
    pixels = part.extent[0] * part.extent[1] * part.extent[2] * part.extent[3]
    m0, m1 = part.rows
    with b.loop(m0, m1, tile.rows) as m:
        a = b.offset(part.weights, m.index // tile.rows * part.panel)
        ak = b.offset(a, (part.first + 1) * (tile.rows * kind.size))
        row = b.offset(part.c, (m.index - m0) * part.pitch)

        def each(v, p, columns):
            b.call(f"tile{v}", ak, a, b.offset(to, p * panel_bytes),
                   b.offset(row, p * (tile.columns * kind.size)), part.pitch, part.depth, part.old,
                   m1 - m.index, columns)  # fmt: skip

        call_tiles(b, tile, pixels, each)


def source_of(
    b: Builder, words: Words, kind: Kind, image: Value, images, channels, qd, qh, qw
) -> Value:
    """Where the block's rows are: in the image itself, or in a copy made now."""
    read = lambda names: words.read(b, b.meta, names)  # noqa: E731
    direct, at_copy = read("direct at.copy")
    copy = b.offset(b.scratch, at_copy)
    with b.branch(direct.eq(0)):
        b.call("expand", b.meta, image, copy, images, channels, qd, qh, qw)
    at = b.const(0, "i64")
    for axis, q, stride in zip("dhw", (qd, qh, qw), read("x.plane x.row x.column")):
        lowest, advance, grain = read(f"{axis}.lowest {axis}.advance {axis}.grain")
        at = at + (lowest + q * advance * grain) * stride
    return b.select(direct.ne(0), b.offset(image, at * itemsize(kind.storage)), copy)


def plan(target: Target, p: Product, what: str = "product") -> list[Stage]:
    """Lay out the weights, then multiply: by packed panels or in `strips`."""
    if prod(p.counts) * p.outs * p.groups == 0:
        return []
    kind = kind_of(target, p.dtype)
    tile = conv_tile(target, kind)
    p = flatten(p)
    words, units = _words(p, kind, tile, what == "product")
    tiles = p.groups * -(-p.outs // tile.rows)
    return [
        Stage(
            (
                ("panels", PANELS.meta(_panel_words(p)), "wbt" if p.has_bias else "wwt", tiles),
                (what, PRODUCT.meta(words), f"{p.source}t{p.result}", units),
            ),
            tiles * tile.rows * (p.channels * p.taps + 1) * kind.size,
        )
    ]


def _panel_words(p: Product) -> dict[str, int]:
    """The meta words of the weights' kernel: taps that lie in one run are one axis to it."""
    counts, strides = [p.channels, *(a.taps for a in p.axes)], list(p.w[2:])
    for i in (2, 1, 0):
        if counts[i] == 1 or strides[i] == counts[3] * strides[3]:
            counts[i], counts[3] = 1, counts[i] * counts[3]
        else:
            break
    names = "w.group w.out w.channel w.plane w.row w.column".split()
    return {
        **dict(zip(names, (*p.w[:2], *strides))), **dict(zip(("channels", "d", "h", "w"), counts)),
        "w.start": p.w_start, "outs": p.outs, "bias": p.has_bias,
    }  # fmt: skip


def _words(p: Product, kind: Kind, tile: Tile, is_packed: bool) -> tuple[dict[str, int], int]:
    """The meta words of the product and the units of its grid.

    Blocks shrink, first in channels and then in pixels, until all they need fits the scratch.
    """
    pixels = PIXELS if is_packed else STRIP_PIXELS
    chunk = max(1, -(-p.channels // max(1, -(-p.channels * p.taps // DEPTH))))
    while True:
        words, units, end = _block_words(p, kind, tile, is_packed, chunk, pixels)
        if end <= SCRATCH:
            return words, units
        if chunk == 1 and pixels <= kind.lanes:
            raise fail(
                RuntimeError, "conv", f"windows that span {end >> 20} MiB", "less than 8 MiB"
            )
        chunk, pixels = (-(-chunk // 2), pixels) if chunk > 1 else (1, pixels // 2)


def _block_words(
    p: Product, kind: Kind, tile: Tile, is_packed: bool, chunk: int, pixels: int
) -> tuple[dict[str, int], int, int]:
    """The words and units of one choice of block, and the bytes of scratch that it needs."""
    d, h, w = p.axes
    counts, taps = p.counts, p.taps
    is_plain = p.dtype == kind.compute
    counted = counts if is_packed else (1, *counts[1:])
    if is_packed and p.threads > 1:  # packed by one thread each, rather than by each of them
        pixels = min(pixels, max(tile.columns, -(-prod(counts) * p.groups // p.threads)))
    block = shared(
        choose_block(counted, kind.lanes, pixels), counts, kind.lanes, p.threads, p.groups
    )
    straight = is_plain and is_linear(p.y[2:], counts[1:]) and block[0] == 1
    direct = is_packed and is_plain and all(a.is_inside for a in p.axes)
    direct = direct and w.advance == 1 and w.grain * p.x[4] == 1
    depth = chunk * taps if chunk > 1 else -(-taps // max(1, -(-taps // DEPTH)))
    strides = copy_strides(d, h, w, block, chunk, kind.lanes)
    pixels = prod(block)
    at_copy = round_up(8 * chunk * taps)
    at_panels = at_copy + (0 if direct else round_up(strides["e.size"] * kind.size))
    panel = max(depth, 1) * tile.columns * kind.size if is_packed else 0
    at_sums = at_panels + round_up(-(-pixels // tile.columns) * panel)
    grid = [-(-n // s) for n, s in zip(counts, block)]
    blocks = prod(grid) * p.groups
    tiles = -(-p.outs // tile.rows)
    ranges = 1 if blocks >= p.threads else min(tiles, -(-p.threads // blocks))
    m_block = tile.rows * -(-tiles // ranges)
    if not straight:
        m_block = min(
            m_block, max(tile.rows, SUMS // (pixels * kind.size) // tile.rows * tile.rows)
        )
    m_blocks = -(-p.outs // m_block)
    words = {
        **d.words("d", block[1]), **h.words("h", block[2]), **w.words("w", block[3]),
        **(direct_strides(p.x, d, h) if direct else strides),
        **dict(zip(("x.image", "x.channel", "x.plane", "x.row", "x.column"), p.x)),
        **dict(zip(("y.image", "y.channel", "y.plane", "y.row", "y.column"), p.y)),
        "images": p.images, "n.block": block[0], "groups": p.groups, "channels": p.channels,
        "outs": p.outs, "taps": taps, "chunk": chunk, "depth": max(depth, 1), "direct": direct,
        "straight": straight, "y.start": p.y_start, "d.blocks": grid[1], "h.blocks": grid[2],
        "w.blocks": grid[3], "m.block": m_block, "m.blocks": m_blocks, "at.copy": at_copy,
        "at.panels": at_panels, "at.sums": at_sums, "panel": panel,
        "pitch": p.y[1] * itemsize(p.dtype) if straight else pixels * kind.size,
    }  # fmt: skip
    end = at_sums + (0 if straight else m_block * pixels * kind.size)
    return words, blocks * m_blocks, end
