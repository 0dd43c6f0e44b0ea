"""Convolutions of few channels a group, depthwise ones above all: lanes are pixels of a row.

`build_strips` is a product whose windows are read in place; it shares the product's plan and
weights. `build_dots` is the weight gradient: products of rows of pixels, summed lane by lane.
"""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Builder, Kernel, Loop, Value, itemsize
from amity.ir.target import Target

from .conv_grad import WEIGHTS, fold, write_weights
from .conv_product import PRODUCT, Part, conv_tile, finish, kind_of, write_product
from .tile import Tile, multiply_add
from .window import COPY, Kind, expand, first_lanes, signature, tap_offsets

ROWS = 4  # output channels of a strip, where there are more than one
CHAINS = 4  # of sums over taps, where one output channel leaves the multipliers waiting
NINE = 9  # windows of 3x3, for which depthwise convolutions have code of their own
TAPS = {1: NINE, ROWS: 5}  # windows of a table of dot products, by output channels


def build_strips(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, panels, y)`: the convolution. One unit is a block of pixels, a group and a range of
    rows.
    """
    kind = kind_of(target, dtype)
    tile = conv_tile(target, kind)
    b = Builder(name, target, math)
    expand(b, PRODUCT, kind)
    tap_offsets(b, PRODUCT, kind)
    for rows in (1, ROWS):
        for vectors in (1, few_vectors(b)):
            strip(b, tile.with_shape(rows, vectors), tile.rows * kind.size)
    nine_taps(b, tile, tile.rows * kind.size)
    finish(b, PRODUCT, kind)
    with b.entry():
        write_product(b, kind, tile, multiply_strips)
    return b.kernel


STRIP = signature("a* bias* e* table* c* pitch depth old rows columns e_next c_next lanes")


def few_vectors(b: Builder) -> int:
    """Vectors of pixels of a strip: as many sums as registers hold, beside what they are made of."""
    return 4 if b.target.registers >= 32 else 3


def strip(b: Builder, tile: Tile, a_step: int) -> None:
    """The function `strip<rows>x<vectors>`: some output channels of a few vectors of pixels.

    The next vector lies `e_next` and `c_next` bytes on and has `lanes` columns fewer: they are
    neighbours in a row, or begin rows that are no longer than a vector.
    """
    V, lanes = tile.vectors, tile.width
    with b.function(f"strip{tile.rows}x{V}", STRIP) as args:
        a, bias, e, table, c, pitch, depth, old, rows, columns, e_next, c_next, fewer = args
        lines = [b.offset(c, b.min(rows - 1, i) * pitch) for i in range(tile.rows)]
        places = [[b.offset(p, c_next * j) for j in range(V)] for p in lines]
        masks = [first_lanes(b, columns - fewer * j, lanes) for j in range(V)]
        zero = b.splat(b.const(0, tile.element), lanes)
        with b.loop(0, b.const(1, "i64") - old, 1, [zero] * tile.rows) as loop:
            loop.next(*(b.splat(b.load(bias, i, tile.element), lanes) for i in range(tile.rows)))
        acc = [x for x in loop.results for _ in range(V)]
        with b.loop(0, old, 1, acc) as loop:
            loop.next(
                *(
                    b.load(p, 0, tile.element, lanes, m)
                    for line in places
                    for p, m in zip(line, masks)
                )
            )
        chains = CHAINS if tile.rows == 1 else 1  # sums that do not wait for each other
        acc = [*loop.results, *[zero] * (len(loop.results) * (chains - 1))]

        def turn(loop: Loop, steps: int) -> None:
            at, *acc = loop.carry
            for k in range(steps):
                window = b.offset(e, b.load(table, loop.index + k, "i64"))
                vectors = [
                    b.load(b.offset(window, e_next * j), 0, tile.element, lanes) for j in range(V)
                ]
                for i in range(tile.rows):
                    x = b.splat(b.load(b.offset(at, k * a_step), i, tile.element), lanes)
                    for j, v in enumerate(vectors):
                        n = (k * tile.rows + i) * V + j
                        acc[n] = multiply_add(b, tile, x, v, acc[n])
            loop.next(b.offset(at, steps * a_step), *acc)

        whole = depth & -chains
        with b.loop(0, whole, chains, [a, *acc]) as loop:
            turn(loop, chains)
        with b.loop(whole, depth, 1, loop.results) as loop:
            turn(loop, 1)
        acc = loop.results[1:]
        while len(acc) > tile.rows * V:
            half = len(acc) // 2
            acc = [x + y for x, y in zip(acc[:half], acc[half:], strict=True)]
        for i, line in enumerate(places):
            with b.branch(rows > i):
                for j, (p, m) in enumerate(zip(line, masks)):
                    b.store(p, 0, acc[i * V + j], tile.element, m)


NINE_TAPS = signature("a* bias* e* table* c* rows columns e_row c_row")


def nine_taps(b: Builder, tile: Tile, a_step: int) -> None:
    """The function `nine`: one output channel of one input channel, its nine weights in
    registers.
    """
    lanes, size = tile.width, tile.bytes
    with b.function("nine", NINE_TAPS) as (a, bias, e, table, c, rows, columns, e_row, c_row):
        offsets = [b.load(table, k, "i64") for k in range(NINE)]
        weights = [
            b.splat(b.load(b.offset(a, k * a_step), 0, tile.element), lanes) for k in range(NINE)
        ]
        start = b.splat(b.load(bias, 0, tile.element), lanes)
        whole = columns & -lanes
        mask = first_lanes(b, columns - whole, lanes)
        with b.loop(0, rows) as i:
            window, line = b.offset(e, i.index * e_row), b.offset(c, i.index * c_row)

            def one(at: Value, mask: Value | None) -> None:
                x, acc = b.offset(window, at * size), start
                for offset, weight in zip(offsets, weights):
                    v = b.load(b.offset(x, offset), 0, tile.element, lanes)
                    acc = multiply_add(b, tile, v, weight, acc)
                b.store(line, at, acc, tile.element, mask)

            with b.loop(0, whole, lanes) as k:
                one(k.index, None)
            with b.branch(whole < columns):
                one(whole, mask)


def multiply_strips(b: Builder, kind: Kind, tile: Tile, part: Part) -> None:
    """Windows read where they are, plane by plane."""
    en, _, ed, eh, _ = PRODUCT.read(b, b.meta, COPY)
    ad, ah, channels, taps = PRODUCT.read(b, b.meta, "d.advance h.advance channels taps")
    images, planes, rows, columns = part.extent
    e_row, c_row = ah * eh * kind.size, columns * kind.size
    m0, m1 = part.rows
    is_nine = channels.eq(1) & taps.eq(NINE) & (m1 - m0 <= 2)
    with b.loop(0, images) as n, b.loop(0, planes) as i:
        window = b.offset(part.source, (n.index * en + i.index * ad * ed) * kind.size)
        c = b.offset(part.c, (n.index * planes + i.index) * rows * c_row)
        with b.branch(is_nine), b.loop(m0, m1) as m:
            bias, a = _weights_at(b, tile, part, m.index)
            line = b.offset(c, (m.index - m0) * part.pitch)
            b.call("nine", a, bias, window, part.table, line, rows, columns, e_row, c_row)
        with b.branch(~is_nine):
            _plane(b, kind, tile, part, window, c, e_row, c_row)


def _plane(b: Builder, kind: Kind, tile: Tile, part: Part, window, c, e_row, c_row) -> None:
    """Runs of a few vectors of a row, or a vector of a few short rows."""
    _, _, rows, columns = part.extent
    few = few_vectors(b)
    unit = kind.lanes * kind.size
    taken = b.select(columns <= kind.lanes, rows // few * few, 0)
    with b.loop(0, taken, few) as j:
        at, to = b.offset(window, j.index * e_row), b.offset(c, j.index * c_row)
        _strips(b, tile, part, few, at, to, columns, e_row, c_row, b.const(0, "i64"))
    with b.loop(taken, rows) as j, b.loop(0, columns, kind.lanes * few) as k:
        at = b.offset(window, j.index * e_row + k.index * kind.size)
        to = b.offset(c, j.index * c_row + k.index * kind.size)
        left = columns - k.index
        for count in (1, few):
            with b.branch(left <= kind.lanes if count == 1 else left > kind.lanes):
                next_ = b.const(unit, "i64")
                _strips(
                    b, tile, part, count, at, to, left, next_, next_, b.const(kind.lanes, "i64")
                )


def _weights_at(b: Builder, tile: Tile, part: Part, m: Value) -> tuple[Value, Value]:
    """The bias of a row, and its weights for the windows of this step."""
    t = m // tile.rows
    bias = b.offset(part.weights, t * part.panel + (m - t * tile.rows) * tile.bytes)
    return bias, b.offset(bias, (part.first + 1) * (tile.rows * tile.bytes))


def _strips(
    b: Builder, tile: Tile, part: Part, vectors: int, e, c, columns, e_next, c_next, lanes
) -> None:
    """All output channels of a few vectors."""
    m0, m1 = part.rows
    single = (m1 - m0).eq(1)
    with b.loop(m0, m1, ROWS) as m:
        bias, a = _weights_at(b, tile, part, m.index)
        line = b.offset(c, (m.index - m0) * part.pitch)
        for count in (1, ROWS):
            with b.branch(single if count == 1 else ~single):
                b.call(f"strip{count}x{vectors}", a, bias, e, part.table, line, part.pitch,
                       part.depth, part.old, m1 - m.index, columns, e_next, c_next,
                       lanes)  # fmt: skip


# -- the weight gradient


def build_dots(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(x, y, w, sums)`: one unit is a group, a chunk of channels and a range of blocks of
    pixels.
    """
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


DOTS = signature("meta* e* table* y* c* old taps rows images planes lines columns")


def dots(b: Builder, kind: Kind, rows: int) -> None:
    """The function `dots<rows>`: sums of products of some rows of y with some windows, over a
    block.
    """
    lanes, storage, count = kind.lanes, itemsize(kind.storage), TAPS[rows]
    with b.function(f"dots{rows}", DOTS) as args:
        meta, e, table, y, c, old, taps, outs, images, planes, lines, columns = args
        en, _, ed, eh, _ = WEIGHTS.read(b, meta, COPY)
        ad, ah, pitch = WEIGHTS.read(b, meta, "d.advance h.advance pitch")
        yn, yc, yd, yh, yw = WEIGHTS.read(b, meta, "y.image y.channel y.plane y.row y.column")
        windows = [b.offset(e, b.load(table, b.min(taps - 1, i), "i64")) for i in range(count)]
        ys = [b.offset(y, b.min(outs - 1, i) * yc * storage) for i in range(rows)]
        spread = b.iota(lanes, "i32") * b.splat(yw.to("i32"), lanes)
        acc = [b.splat(b.const(0, kind.compute), lanes)] * (rows * count)
        nest = [(images, yn, en), (planes, yd, ad * ed), (lines, yh, ah * eh)]

        def line(
            acc: list[Value], at_y: Value, at_e: Value, columns: Value, unit: bool
        ) -> list[Value]:
            """One row of pixels; `columns` is 0 in the way of reading y that is not needed."""
            with b.loop(0, columns, lanes, acc) as loop:
                mask = first_lanes(b, columns - loop.index, lanes)
                index = b.const(0, "i64") if unit else spread
                at = (at_y + loop.index * yw) * storage
                g = [
                    b.load(b.offset(p, at), index, kind.storage, lanes, mask).to(kind.compute)
                    for p in ys
                ]
                at = (at_e + loop.index) * kind.size
                v = [b.load(b.offset(p, at), 0, kind.compute, lanes, mask) for p in windows]
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
            times, step_y, step_e = nest[level]
            with b.loop(0, times, 1, acc) as loop:
                i = loop.index
                loop.next(*walk(level + 1, loop.carry, at_y + i * step_y, at_e + i * step_e))
            return loop.results

        zero = b.const(0, "i64")
        acc = walk(0, acc, zero, zero)
        for t in range(count):
            for r in range(rows):
                with b.branch((taps > t) & (outs > r)):
                    at = b.offset(c, pitch * t)
                    before = b.load(at, r, kind.compute, 1, old.ne(0))
                    b.store(at, r, before + b.reduce("add", acc[r * count + t]), kind.compute)


def multiply_dots(b: Builder, kind: Kind, y: Value, e: Value, sums: Value, rows: Value, outs: Value,
                  old: Value, extent: list[Value]) -> None:  # fmt: skip
    """All sums of one block: tables of a few rows of y by a few windows."""
    pitch, yc = WEIGHTS.read(b, b.meta, "pitch y.channel")
    single = outs.eq(1)
    for few in (1, ROWS):
        with b.branch(single if few == 1 else ~single):
            with b.loop(0, rows, TAPS[few]) as k, b.loop(0, outs, few) as m:
                b.call(f"dots{few}", b.meta, e, b.offset(b.scratch, k.index * 8),
                       b.offset(y, m.index * yc * itemsize(kind.storage)),
                       b.offset(sums, k.index * pitch + m.index * kind.size), old, rows - k.index,
                       outs - m.index, *extent)  # fmt: skip
