"""Convolutions of few channels a group, depthwise ones above all: no panels, lanes are pixels of a row.

`build_strips` multiplies like a product whose windows are read in place; it shares the product's plan
and weights. `build_dots` is the weight gradient: products of rows of pixels, summed lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .conv_grad import WEIGHTS, fold, write_weights
from .conv_product import PRODUCT, Part, conv_tile, finish, kind_of, write_product
from .tile import Tile, step
from .window import Kind, COPY, expand, first_lanes, tap_offsets

ROWS = 4  # output channels of a strip, where there are more than one
VECTORS = 3
TAPS = 5  # (channel, tap) rows of a table of dot products


def build_strips(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, panels, y)`: the convolution. One unit is a block of pixels, a group and a range of rows."""
    kind = kind_of(target, dtype)
    tile = conv_tile(target, kind)
    b = Builder(name, target, math)
    expand(b, PRODUCT, kind)
    tap_offsets(b, PRODUCT, kind)
    for rows in (1, ROWS):
        for vectors in (1, min(VECTORS, tile.vectors)):
            strip(b, tile.with_shape(rows, vectors), tile.rows * kind.size)
    finish(b, PRODUCT, kind)
    with b.entry():
        write_product(b, kind, tile, multiply_strips)
    return b.kernel


STRIP = (("a", "ptr"), ("bias", "ptr"), ("e", "ptr"), ("table", "ptr"), ("c", "ptr"), ("pitch", "i64"),
         ("depth", "i64"), ("old", "i64"), ("rows", "i64"), ("columns", "i64"))  # fmt: skip


def strip(b: Builder, tile: Tile, a_step: int) -> None:
    """The function `strip<rows>x<vectors>`: some output channels of a run of pixels within a row."""
    V, lanes = tile.vectors, tile.width
    with b.function(f"strip{tile.rows}x{V}", STRIP) as args:
        a, bias, e, table, c, pitch, depth, old, rows, columns = args
        places = [b.offset(c, b.min(rows - 1, i) * pitch) for i in range(tile.rows)]
        masks = [first_lanes(b, columns - j * lanes, lanes) for j in range(V)]
        zero = b.splat(b.const(0, tile.element), lanes)
        with b.loop(0, b.const(1, "i64") - old, 1, [zero] * tile.rows) as loop:
            loop.next(*(b.splat(b.load(bias, i, tile.element), lanes) for i in range(tile.rows)))
        acc = [x for x in loop.results for _ in range(V)]
        with b.loop(0, old, 1, acc) as loop:
            loop.next(*(b.load(p, j * lanes, tile.element, lanes, masks[j]) for p in places for j in range(V)))
        with b.loop(0, depth, 1, [a, *loop.results]) as loop:
            at, *acc = loop.carry
            window = b.offset(e, b.load(table, loop.index, "i64"))
            rows_at = [b.offset(at, i * tile.bytes) for i in range(tile.rows)]
            loop.next(b.offset(at, a_step), *step(b, tile, acc, rows_at, window))
        for i, p in enumerate(places):
            with b.branch(rows > i):
                for j in range(V):
                    b.store(p, j * lanes, loop.results[1 + i * V + j], tile.element, masks[j])


def multiply_strips(b: Builder, kind: Kind, tile: Tile, part: Part) -> None:
    """Windows read where they are: for each row of pixels, runs of a few vectors."""
    en, _, ed, eh, _ = PRODUCT.read(b, b.meta, COPY)
    ad, ah = PRODUCT.read(b, b.meta, "d.advance h.advance")
    images, planes, rows, columns = part.extent
    m0, m1 = part.rows
    run = kind.lanes * min(VECTORS, tile.vectors)
    single = (m1 - m0).eq(1)
    with b.loop(0, images) as n, b.loop(0, planes) as i, b.loop(0, rows) as j, b.loop(0, columns, run) as k:
        at = n.index * en + i.index * ad * ed + j.index * ah * eh + k.index
        window = b.offset(part.source, at * kind.size)
        p = ((n.index * planes + i.index) * rows + j.index) * columns + k.index
        left = columns - k.index
        with b.loop(m0, m1, ROWS) as m:
            t = m.index // tile.rows
            bias = b.offset(part.weights, t * part.panel + (m.index - t * tile.rows) * kind.size)
            a = b.offset(bias, (part.first + 1) * (tile.rows * kind.size))
            c = b.offset(part.c, (m.index - m0) * part.pitch + p * kind.size)
            for few in (1, ROWS):
                for vectors in (1, run // kind.lanes):
                    short = left <= kind.lanes
                    with b.branch((single if few == 1 else ~single) & (short if vectors == 1 else ~short)):
                        b.call(f"strip{few}x{vectors}", a, bias, window, part.table, c, part.pitch, part.depth,
                               part.old, m1 - m.index, left)  # fmt: skip


# -- the weight gradient


def build_dots(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, y, w, sums)`: one unit is a group, a chunk of channels and a range of blocks of pixels."""
    kind = kind_of(target, dtype)
    b = Builder(name, target, math)
    expand(b, WEIGHTS, kind)
    tap_offsets(b, WEIGHTS, kind)
    for rows in (1, ROWS):
        dots(b, kind, rows)
    fold(b, kind)
    with b.entry():
        write_weights(b, kind, multiply_dots)
    return b.kernel


DOTS = (("meta", "ptr"), ("e", "ptr"), ("table", "ptr"), ("y", "ptr"), ("c", "ptr"), ("old", "i64"),
        ("taps", "i64"), ("rows", "i64"), ("images", "i64"), ("planes", "i64"), ("lines", "i64"),
        ("columns", "i64"))  # fmt: skip


def dots(b: Builder, kind: Kind, rows: int) -> None:
    """The function `dots<rows>`: sums of products of some rows of y with some windows, over a block."""
    lanes, storage = kind.lanes, itemsize(kind.storage)
    with b.function(f"dots{rows}", DOTS) as args:
        meta, e, table, y, c, old, taps, outs, images, planes, lines, columns = args
        en, _, ed, eh, _ = WEIGHTS.read(b, meta, COPY)
        ad, ah, pitch = WEIGHTS.read(b, meta, "d.advance h.advance pitch")
        yn, yc, yd, yh, yw = WEIGHTS.read(b, meta, "y.image y.channel y.plane y.row y.column")
        windows = [b.offset(e, b.load(table, b.min(taps - 1, i), "i64")) for i in range(TAPS)]
        ys = [b.offset(y, b.min(outs - 1, i) * yc * storage) for i in range(rows)]
        spread = b.iota(lanes, "i32") * b.splat(yw.to("i32"), lanes)
        acc = [b.splat(b.const(0, kind.compute), lanes)] * (rows * TAPS)
        nest = [(images, yn, en), (planes, yd, ad * ed), (lines, yh, ah * eh)]

        def line(acc: list[Value], at_y: Value, at_e: Value, count: Value, unit: bool) -> list[Value]:
            """One row of pixels; `count` is 0 in the way of reading y that is not needed."""
            with b.loop(0, count, lanes, acc) as loop:
                mask = first_lanes(b, count - loop.index, lanes)
                index = b.const(0, "i64") if unit else spread
                at = (at_y + loop.index * yw) * storage
                g = [b.load(b.offset(p, at), index, kind.storage, lanes, mask).to(kind.compute) for p in ys]
                v = [b.load(b.offset(p, (at_e + loop.index) * kind.size), 0, kind.compute, lanes, mask)
                     for p in windows]  # fmt: skip
                pairs = [(x, z) for x in g for z in v]
                loop.next(*(b.fma(x, z, s) if s.dtype[0] == "f" else s + x * z
                            for (x, z), s in zip(pairs, loop.carry)))  # fmt: skip
            return loop.results

        def walk(level: int, acc: list[Value], at_y: Value, at_e: Value) -> list[Value]:
            if level == len(nest):
                for unit in (True, False):
                    wanted = yw.eq(1) if unit else yw.ne(1)
                    acc = line(acc, at_y, at_e, b.select(wanted, columns, 0), unit)
                return acc
            count, step_y, step_e = nest[level]
            with b.loop(0, count, 1, acc) as loop:
                i = loop.index
                loop.next(*walk(level + 1, loop.carry, at_y + i * step_y, at_e + i * step_e))
            return loop.results

        zero = b.const(0, "i64")
        acc = walk(0, acc, zero, zero)
        for t in range(TAPS):
            for r in range(rows):
                with b.branch((taps > t) & (outs > r)):
                    at = b.offset(c, pitch * t)
                    before = b.load(at, r, kind.compute, 1, old.ne(0))
                    b.store(at, r, before + b.reduce("add", acc[r * TAPS + t]), kind.compute)


def multiply_dots(b: Builder, kind: Kind, y: Value, e: Value, sums: Value, rows: Value, outs: Value,
                  old: Value, extent: list[Value]) -> None:  # fmt: skip
    """All sums of one block: tables of a few rows of y by a few windows."""
    pitch, yc = WEIGHTS.read(b, b.meta, "pitch y.channel")
    with b.loop(0, rows, TAPS) as k, b.loop(0, outs, ROWS) as m:
        single = outs.eq(1)
        for few in (1, ROWS):
            with b.branch(single if few == 1 else ~single):
                b.call(f"dots{few}", b.meta, e, b.offset(b.scratch, k.index * 8),
                       b.offset(y, m.index * yc * itemsize(kind.storage)),
                       b.offset(sums, k.index * pitch + m.index * kind.size), old, rows - k.index,
                       outs - m.index, *extent)  # fmt: skip
