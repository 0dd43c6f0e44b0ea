"""Matrix products: one kernel a dtype, whatever the sizes, strides and batch.

`C[i] = A[i] @ B[i]`, with blocks of C [mc x nc] that walk along k in steps of kc. B is packed in
panels as wide as the register tile, or read in place where it is small; so is A. What is static is
the register tile and the way sums are finished; all else is in `meta`, computed by `plan_gemm`.
"""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Kernel, Value, itemsize
from amity.ir.target import Target

from .epilogue import Epilogue
from .gemv import Axpy, Dot
from .pack import COPY, GATHER, IN_PLACE, ONE_PANEL, TURN, Packer, element_of
from .product import GemmKey, Product
from .tile import PAIRS, best_tile, micro_kernel, padded_rows, row_variants


class Tiles(Product):
    """Products by register tiles."""

    def __init__(self, name: str, target: Target, key: GemmKey, math: Callable, then: Epilogue | None) -> None:
        self.tile = tile = best_tile(target, element_of(key.dtype, target.has))
        self.pairs = 2 if tile.element == PAIRS else 1
        super().__init__(name, target, key, tile.element, tile.accumulator, math, then)

    def functions(self) -> None:
        for vectors in {self.tile.vectors, 1}:
            for rows in row_variants(self.tile):
                tile = self.tile.with_shape(rows, vectors)
                micro_kernel(self.b, f"tile{rows}x{vectors}", tile, unroll=2 if rows > 4 else 1)
        Packer(self.b, self.tile, self.key.dtype).write()
        self.finish.write("finish")

    def task(self) -> None:
        b, m = self.b, self.meta
        with (
            b.loop(self.columns_from, self.columns_to, m["nc"]) as jc,
            b.loop(self.rows_from, self.rows_to, m["mc"]) as ic,
            b.loop(0, b.max(m["k"], 1), m["kc"]) as pc,
        ):
            columns = b.min(m["nc"], self.columns_to - jc.index)
            rows = b.min(m["mc"], self.rows_to - ic.index)
            self.block(ic.index, rows, jc.index, columns, pc.index)

    def block(self, row: Value, rows: Value, column: Value, columns: Value, k: Value) -> None:
        """`rows x columns` of C, by one block of k."""
        b, m, tile = self.b, self.meta, self.tile
        depth = b.min(m["kc"], m["k"] - k)
        elements = (depth + 1) >> 1 if self.pairs == 2 else depth
        is_last = k + m["kc"] >= m["k"]
        a = self.rows_of_a(row, rows, k, depth, elements)
        panel_bytes = tile.columns * tile.bytes
        packed = b.offset(b.scratch, m["b_at"] + (k // self.pairs) * m["b_whole"])
        is_first = row.eq(self.rows_from) | m["b_whole"].eq(0)
        block = b.offset(self.bp, k * m["b_k"] + column * m["b_column"])
        is_packed = m["pack_b"].ne(IN_PLACE)
        with b.branch(is_packed & is_first):
            width = (columns + (tile.columns - 1)) // tile.columns * tile.columns
            self.pack(m["pack_b"], block, m["b_k"], m["b_column"], packed, panel_bytes, depth, columns, width,
                      tile.columns - 1)  # fmt: skip
        with b.loop(0, columns, tile.columns) as jr:
            lanes = b.min(columns - jr.index, tile.columns)
            source = b.offset(block, jr.index * m["b_column"])
            # panels cut short cannot be read in place: whole vectors would reach past B's rows
            is_ragged = lanes.ne(tile.columns) & lanes.ne(tile.width) & ~is_packed
            with b.branch(is_ragged):
                b.call("copy", source, m["b_k"], m["b_column"], packed, panel_bytes, depth, lanes, tile.columns,
                       ONE_PANEL)  # fmt: skip
            is_copy = is_packed | is_ragged
            copy = b.offset(packed, b.select(is_packed, jr.index * elements * tile.bytes, 0))
            panel = b.select(is_copy, copy, source), b.select(is_copy, b.const(panel_bytes, "i64"), m["b_k"])
            self.strip(row, rows, column + jr.index, jr.index, lanes, elements, a, panel, k, is_last)

    def rows_of_a(self, row, rows, k, depth, elements) -> tuple[Value, Value, Value, Value]:
        """A's block, packed if the plan says so: pointer, bytes from tile to tile, row to row, k to k."""
        b, m, tile = self.b, self.meta, self.tile
        source = b.offset(self.a, row * m["a_row"] + k * m["a_k"])
        target = b.offset(b.scratch, m["a_at"])
        in_place = m["pack_a"].eq(IN_PLACE)
        unit = padded_rows(tile) * tile.bytes
        with b.branch(m["pack_a"].ne(IN_PLACE)), b.loop(0, rows, tile.rows) as ir:
            lanes = b.min(rows - ir.index, tile.rows)
            p, q = b.offset(source, ir.index * m["a_row"]), b.offset(target, (ir.index // tile.rows) * elements * unit)
            self.pack(m["pack_a"], p, m["a_k"], m["a_row"], q, unit, depth, lanes, padded_rows(tile), ONE_PANEL)
        return (
            b.select(in_place, source, target),
            b.select(in_place, m["a_row"] * tile.rows, elements * unit),
            b.select(in_place, m["a_row"], tile.bytes),
            b.select(in_place, m["a_k"] * self.pairs, unit),
        )

    def pack(self, mode: Value, *args: Value | int) -> None:
        for number, name in ((COPY, "copy"), (TURN, "turn"), (GATHER, "gather")):
            with self.b.branch(mode.eq(number)):
                self.b.call(name, *args)

    def strip(self, row, rows, column, at, lanes, elements, a, panel, k, is_last) -> None:
        """One panel's columns: register tiles from top to bottom, of the largest sizes that fit."""
        b, m, tile = self.b, self.meta, self.tile
        pointer, a_tile, a_row, a_k = a
        sum_size = itemsize(tile.accumulator)
        sizes = row_variants(tile)
        count = rows // tile.rows
        left = rows - count * tile.rows
        for bit in range(len(sizes) - 1):
            count = count + ((left >> bit) & 1)
        is_wide = lanes > tile.width
        whole = lanes.eq(b.select(is_wide, b.const(tile.columns, "i64"), tile.width))
        is_direct = whole if self.finish.is_plain else b.const(False, "bool")
        strip = b.offset(b.scratch, (at // tile.columns) * m["strip_panel"])
        with b.loop(0, count, 1, [b.const(0, "i64")]) as loop:
            (i,) = loop.carry
            size = b.const(sizes[-1], "i64")
            for n in reversed(sizes[:-1]):
                size = b.select(rows - i >= n, n, size)
            start = b.min(i // tile.rows, rows // tile.rows)
            tile_a = b.offset(pointer, start * a_tile + (i - start * tile.rows) * a_row)
            c = self.c_at(row + i, column)
            out = b.select(is_direct, c, b.offset(strip, i * m["strip_row"]))
            out_row = b.select(is_direct, m["c_row"], tile.columns * sum_size)
            args = (tile_a, a_row, a_k, *panel, out, out_row, elements, b.select(k > 0, 1, b.const(0, "i64")))
            for vectors in {tile.vectors, 1}:
                with b.branch(is_wide if vectors > 1 else ~is_wide):
                    for n in sizes:
                        with b.branch(size.eq(n)):
                            b.call(f"tile{n}x{vectors}", *args)
            with b.branch(is_last & ~is_direct):
                b.call("finish", b.meta, b.buffers, out, out_row, c, m["c_row"], self.d_at(row + i, column), size, lanes,
                       self.first_row + row + i, column)  # fmt: skip
            loop.next(i + size)


KINDS = {"tiles": Tiles, "dot": Dot, "axpy": Axpy}


def build_gemm(
    target: Target, key: GemmKey, math: Callable, epilogue: Epilogue | None = None, name: str = ""
) -> Kernel:
    """The kernel of a key."""
    return KINDS[key.kind](name or key.name, target, key, math, epilogue).write()
