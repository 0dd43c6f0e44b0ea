"""Matrix products: one kernel a dtype, whatever the sizes, strides and batch.

`C[i] = A[i] @ B[i]`, by blocks of C `[mc x nc]` that walk along k in steps of kc. Blocks of A and B
are packed in panels as wide as the register tile, or read in place where that is as fast. What is
static is the register tile and the way sums are finished; all else is in `meta`: see gemm_plan.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from amity.ir.kernel import Kernel, Value, itemsize
from amity.ir.target import Target

from .gemv import Axpy, Dot
from .nest import Nest
from .pack import COPY, GATHER, IN_PLACE, ONE_PANEL, READY, TURN, Packer, element_of
from .product import GemmKey, Product
from .tile import FETCHED, PAIRS, best_tile, fetch_rows, micro_kernel, padded_rows, row_variants

FETCH = (("pointer", "ptr"), ("stride", "i64"), ("rows", "i64"))


class Block(NamedTuple):
    """Rows and columns of C by `depth` steps of k, which are `elements` of the tile."""

    row: Value
    rows: Value
    column: Value
    columns: Value
    k: Value
    depth: Value
    elements: Value
    is_last: Value


class Rows(NamedTuple):
    """A block of A as tiles read it, in place or packed: bytes between tiles, rows and elements."""

    pointer: Value
    tile: Value
    row: Value
    k: Value


class Panel(NamedTuple):
    """A panel of B as tiles read it; it begins `at` columns into its block."""

    pointer: Value
    stride: Value
    at: Value
    lanes: Value
    ahead: Value  # what is read next


class Tiles(Product):
    """Products by register tiles."""

    def __init__(
        self, name: str, target: Target, key: GemmKey, math: Callable, nest: Nest | None
    ) -> None:
        self.tile = tile = best_tile(target, element_of(key.dtype, target.has))
        self.pairs = 2 if tile.element == PAIRS else 1
        super().__init__(name, target, key, tile.element, tile.accumulator, math, nest)

    def functions(self) -> None:
        for vectors in (self.tile.vectors, 1):
            for rows in row_variants(self.tile):
                shape = self.tile.with_shape(rows, vectors)
                micro_kernel(self.b, f"tile{rows}x{vectors}", shape, has_addend=True)
        Packer(self.b, self.tile, self.key.dtype).write()
        self.finish.write()
        if self.finish.nest is not None:
            self.write_fetch()

    def write_fetch(self) -> None:
        """The function `fetch(*FETCH)`: asks for memory as wide as a tile; what tiles store directly
        needs no asking."""
        b = self.b
        with b.function("fetch", FETCH) as (pointer, stride, rows):
            fetch_rows(b, pointer, stride, rows, self.tile.columns * self.size)

    def task(self) -> None:
        b, m = self.b, self.meta
        with (
            b.loop(self.columns_from, self.columns_to, m["nc"]) as jc,
            b.loop(self.rows_from, self.rows_to, m["mc"]) as ic,
            b.loop(0, b.max(m["k"], 1), m["kc"]) as pc,
        ):
            rows = b.min(m["mc"], self.rows_to - ic.index)
            columns = b.min(m["nc"], self.columns_to - jc.index)
            depth = b.min(m["kc"], m["k"] - pc.index)
            elements = (depth + 1) >> 1 if self.pairs == 2 else depth
            is_last = pc.index + m["kc"] >= m["k"]
            block = ic.index, rows, jc.index, columns, pc.index, depth, elements, is_last
            self.block(Block(*block))

    def block(self, x: Block) -> None:
        b, m, tile = self.b, self.meta, self.tile
        a, row_bytes = self.rows_of_a(x), tile.columns * tile.bytes
        source = b.offset(self.bp, x.k * m["b_k"] + x.column * m["b_column"])
        packed = b.offset(b.scratch, m["b_at"] + (x.k // self.pairs) * m["b_whole"])
        is_ready, step = m["pack_b"].eq(READY), x.elements * row_bytes
        panel, row = x.column // tile.columns, x.k // self.pairs
        ready = b.offset(self.bp, panel * m["b_panel"] + row * row_bytes)
        packed, step = b.select(is_ready, ready, packed), b.select(is_ready, m["b_panel"], step)
        part = source, m["b_k"], m["b_column"], packed, row_bytes, x.depth
        is_packed = m["pack_b"].ne(IN_PLACE)
        is_first = x.row.eq(self.rows_from) | m["b_whole"].eq(0)
        with b.branch(is_packed & is_first):
            width = (x.columns + tile.columns - 1) // tile.columns * tile.columns
            self.pack(m["pack_b"], *part, x.columns, width, tile.columns - 1)
        with b.loop(0, x.columns, tile.columns) as jr:
            lanes = b.min(x.columns - jr.index, tile.columns)
            place = b.offset(source, jr.index * m["b_column"])
            # a panel cut short cannot be read in place: whole vectors would reach past B's rows
            is_ragged = lanes.ne(tile.columns) & lanes.ne(tile.width) & ~is_packed
            with b.branch(is_ragged):
                b.call("copy", place, *part[1:], lanes, tile.columns, ONE_PANEL)
            is_copy = is_packed | is_ragged
            copy = b.offset(packed, b.select(is_packed, jr.index // tile.columns * step, 0))
            pointer = b.select(is_copy, copy, place)
            stride = b.select(is_copy, row_bytes, m["b_k"])
            ahead = b.select(is_packed, b.offset(pointer, step), a.pointer)
            self.strip(x, a, Panel(pointer, stride, jr.index, lanes, ahead))

    def rows_of_a(self, x: Block) -> Rows:
        """A's block, packed in panels if the plan says so."""
        b, m, tile = self.b, self.meta, self.tile
        lanes, row_bytes = padded_rows(tile), padded_rows(tile) * tile.bytes
        source = b.offset(self.a, x.row * m["a_row"] + x.k * m["a_k"])
        target = b.offset(b.scratch, m["a_at"])
        is_packed = m["pack_a"].ne(IN_PLACE)
        with b.branch(is_packed), b.loop(0, x.rows, tile.rows) as ir:
            p = b.offset(source, ir.index * m["a_row"])
            q = b.offset(target, (ir.index // tile.rows) * x.elements * row_bytes)
            rows = b.min(x.rows - ir.index, tile.rows)
            part = p, m["a_k"], m["a_row"], q, row_bytes, x.depth, rows, lanes, ONE_PANEL
            self.pack(m["pack_a"], *part)
        return Rows(
            b.select(is_packed, target, source),
            b.select(is_packed, x.elements * row_bytes, m["a_row"] * tile.rows),
            b.select(is_packed, tile.bytes, m["a_row"]),
            b.select(is_packed, row_bytes, m["a_k"] * self.pairs),
        )

    def pack(self, mode: Value, *part: Value | int) -> None:
        for number, name in ((COPY, "copy"), (TURN, "turn"), (GATHER, "gather")):
            with self.b.branch(mode.eq(number)):
                self.b.call(name, *part)

    def strip(self, x: Block, a: Rows, panel: Panel) -> None:
        """One panel's columns: register tiles from top to bottom, of the largest sizes that fit."""
        b, m, tile = self.b, self.meta, self.tile
        sizes = row_variants(tile)
        full = x.rows // tile.rows
        left = x.rows - full * tile.rows
        count = full
        for bit in range(len(sizes) - 1):
            count = count + ((left >> bit) & 1)
        is_wide = panel.lanes > tile.width
        is_whole = panel.lanes.eq(b.select(is_wide, tile.columns, b.const(tile.width, "i64")))
        is_turned = m["turned_row"].ne(0)
        is_direct = is_whole & ~is_turned if self.finish.is_direct else b.const(False, "bool")
        sums = b.offset(b.scratch, (panel.at // tile.columns) * m["strip_panel"])
        column = x.column + panel.at
        with b.loop(0, count, 1, [b.const(0, "i64")]) as loop:
            (i,) = loop.carry
            size = b.const(sizes[-1], "i64")
            for n in reversed(sizes[:-1]):
                size = b.select(x.rows - i >= n, n, size)
            number = b.min(i // tile.rows, full)
            p = b.offset(a.pointer, number * a.tile + (i - number * tile.rows) * a.row)
            c = self.c_at(x.row + i, column)
            out = b.select(is_direct, c, b.offset(sums, i * m["strip_row"]))
            stride = b.select(is_direct, m["c_row"], tile.columns * itemsize(tile.accumulator))
            is_later = b.select(x.k > 0, 1, b.const(0, "i64"))
            d, d_stride, adds = out, stride, is_later
            if self.finish.begins_with_d:
                begins = is_whole & ~is_turned & x.k.eq(0)
                d = b.select(begins, self.d_at(x.row + i, column), out)
                d_stride, adds = b.select(begins, m["d_row"], stride), b.select(begins, 1, is_later)
            row = self.first_row + x.row + i
            with b.branch(x.is_last & ~is_turned):
                for far in self.finish.far(row, column):
                    b.call("fetch", *far, size)
            part = b.min(number, tile.columns * tile.bytes // FETCHED - 1)
            ahead = b.offset(panel.ahead, part * x.elements * FETCHED)
            args = (
                p, a.row, a.k, panel.pointer, panel.stride, out, stride, x.elements, adds, d, d_stride, ahead
            )  # fmt: skip
            for vectors, is_chosen in ((tile.vectors, is_wide), (1, ~is_wide)):
                with b.branch(is_chosen):
                    for n in sizes:
                        with b.branch(size.eq(n)):
                            b.call(f"tile{n}x{vectors}", *args)
            with b.branch(x.is_last & ~is_direct & ~is_turned):
                d = self.d_at(x.row + i, column)
                place = c, m["c_row"], d, size, panel.lanes, row, column
                place = b.meta, b.buffers, out, stride, *place
                if self.finish.nest is not None and self.finish.begins_with_d:
                    with b.branch(is_whole):
                        b.call("end", *place)
                    with b.branch(~is_whole):
                        b.call("finish", *place)
                else:
                    b.call("finish", *place)
            loop.next(i + size)
        if tile.element == self.key.dtype:
            with b.branch(x.is_last & is_turned):
                self.finish_turned(x, sums, column, panel.lanes)

    def finish_turned(self, x: Block, sums: Value, column: Value, lanes: Value) -> None:
        """Finish a strip of sums whose rows are columns of C."""
        b, m, size = self.b, self.meta, self.tile.bytes
        turned, row = b.offset(sums, m["mc"] * m["strip_row"]), m["turned_row"]
        rows = x.rows, row // size, b.const(ONE_PANEL, "i64")
        b.call("turn", sums, size, m["strip_row"], turned, row, lanes, *rows)
        place = self.c_at(column, x.row), m["c_row"], self.d_at(column, x.row)
        b.call("finish", b.meta, b.buffers, turned, row, *place, lanes, x.rows, column, x.row)


KINDS = {"tiles": Tiles, "dot": Dot, "axpy": Axpy}


def build_gemm(
    target: Target, key: GemmKey, math: Callable, nest: Nest | None = None, name: str = ""
) -> Kernel:
    """The kernel of a key, with the nest of its ending."""
    return KINDS[key.kind](name or key.name, target, key, math, nest).write()
