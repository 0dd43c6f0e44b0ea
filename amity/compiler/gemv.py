"""Products of a few rows with a matrix: as fast as the matrix streams from memory."""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Value, itemsize
from amity.ir.target import Target

from .nest import Nest
from .pack import element_of, in_vectors
from .product import DOT_COLUMNS, GemmKey, Product

LINE = (("source", "ptr"), ("stride", "i64"), ("target", "ptr"), ("count", "i64"))


class Stream(Product):
    """What both kinds share: A's rows, side by side in the dtype of the sums."""

    def __init__(
        self, name: str, target: Target, key: GemmKey, math: Callable, nest: Nest | None
    ) -> None:
        element = element_of(key.dtype, frozenset())
        super().__init__(name, target, key, element, element, math, nest)
        self.bytes = itemsize(element)
        self.group = 8 if target.registers >= 32 else 4  # rows of B that are read at once

    def functions(self) -> None:
        """The function `line`: elements at any stride, converted and put side by side."""
        b = self.b
        with b.function("line", LINE) as (source, stride, target, count):
            with b.loop(0, count, 1, [source]) as loop:
                x = b.load(loop.carry[0], 0, self.key.dtype)
                b.store(target, loop.index, b.convert(x, self.element), self.element)
                loop.next(b.offset(loop.carry[0], stride))

    def rows_of_a(self) -> tuple[Value, Value]:
        """A's rows, in place or in scratch: pointer and bytes from row to row."""
        b, m = self.b, self.meta
        is_packed, row = m["pack_a"].ne(0), m["k"] * self.bytes
        target = b.offset(b.scratch, m["a_at"])
        with b.branch(is_packed), b.loop(0, m["m"]) as loop:
            source = b.offset(self.a, loop.index * m["a_row"])
            b.call("line", source, m["a_k"], b.offset(target, loop.index * row), m["k"])
        return b.select(is_packed, target, self.a), b.select(is_packed, row, m["a_row"])

    def end(self, sum_row: Value | int, first: Value, lanes: Value) -> None:
        """Finish all rows of sums in scratch, of `lanes` columns from `first` on."""
        b, m, top = self.b, self.meta, self.b.const(0, "i64")
        place = self.c_at(top, first), m["c_row"], self.d_at(top, first)
        sums = b.scratch, sum_row
        b.call("finish", b.meta, b.buffers, *sums, *place, m["m"], lanes, self.first_row, first)

    def elements(self, p: Value, at: Value, width: int, mask: Value | None = None) -> Value:
        b = self.b
        return b.convert(b.load(p, at, self.key.dtype, width, mask), self.element)

    def multiply_add(self, x: Value, y: Value, acc: Value) -> Value:
        return self.b.fma(x, y, acc) if self.element[0] == "f" else acc + x * y


class Dot(Stream):
    """B's columns have unit stride along k: some of them at once, with vectors along k."""

    def functions(self) -> None:
        super().functions()
        if self.finish.nest is not None:
            self.finish.write()

    def task(self) -> None:
        b = self.b
        rows = self.rows_of_a()
        if self.finish.nest is None:
            self.columns(*rows, self.columns_from, self.columns_to, self.put)
            return
        with b.loop(self.columns_from, self.columns_to, DOT_COLUMNS) as loop:
            first, last = loop.index, b.min(loop.index + DOT_COLUMNS, self.columns_to)

            def keep(row: Value, column: Value, x: Value) -> None:
                b.store(b.scratch, row * DOT_COLUMNS + column - first, x, self.element)

            self.columns(*rows, first, last, keep)
            self.end(DOT_COLUMNS * self.bytes, first, last - first)

    def columns(self, a: Value, a_row: Value, lo: Value, hi: Value, put: Callable) -> None:
        """`put(row, column, sum)` for all rows and the columns from `lo` to `hi`."""
        b, m = self.b, self.meta
        with b.loop(lo, hi, self.group) as loop:
            first, last = loop.index, hi - 1
            columns = [b.min(first + i, last) for i in range(self.group)]
            lines = [b.offset(self.bp, column * m["b_column"]) for column in columns]
            with b.loop(0, m["m"]) as rows:
                row = rows.index
                sums = self.sums(b.offset(a, row * a_row), lines)
                for i, x in enumerate(sums):
                    with b.branch(first + i <= last):
                        put(row, first + i, b.reduce("add", x))

    def put(self, row: Value, column: Value, x: Value) -> None:
        zero = self.b.const(0, "i64")
        value = self.finish.apply(x, self.d_at(row, column), zero, None)
        self.finish.store(self.c_at(row, column), zero, value, None)

    def sums(self, x: Value, lines: list[Value]) -> list[Value]:
        """The products of the row at `x` with each of the lines, a vector of partial sums each."""
        b, w, depth = self.b, self.width, self.meta["k"]
        count = len(lines)

        def more(sums: list[Value], at: Value, mask: Value | None = None) -> list[Value]:
            y = b.load(x, at, self.element, w, mask)
            parts = [self.elements(p, at, w, mask) for p in lines]
            return [self.multiply_add(p, y, s) for p, s in zip(parts, sums, strict=True)]

        sums = [b.splat(b.const(0, self.element), w)] * (2 * count)
        pairs, whole = depth & -2 * w, depth & -w
        with b.loop(0, pairs, 2 * w, sums) as loop:
            even, odd = loop.carry[:count], loop.carry[count:]
            loop.next(*more(even, loop.index), *more(odd, loop.index + w))
        sums = [p + q for p, q in zip(loop.results[:count], loop.results[count:], strict=True)]
        with b.loop(pairs, whole, w, sums) as loop:
            loop.next(*more(loop.carry, loop.index))
        with b.loop(whole, depth, w, loop.results) as loop:
            mask = b.splat(loop.index, w) + b.iota(w) < b.splat(depth, w)
            loop.next(*more(loop.carry, loop.index, mask))
        return loop.results


class Axpy(Stream):
    """B's rows have unit stride along columns: some at once, added to sums that stay in cache."""

    def functions(self) -> None:
        super().functions()
        self.finish.write()

    def task(self) -> None:
        b, m = self.b, self.meta
        a, a_row = self.rows_of_a()
        first, lanes = self.columns_from, self.columns_to - self.columns_from
        most = m["task_n"] + m["unit_n"]  # lanes of the largest task, in whole vectors
        sum_row = most * self.bytes
        self.clear(m["m"] * sum_row)
        source = b.offset(self.bp, first * self.size)
        grouped = m["k"] & -self.group
        for lo, hi, count in ((0, grouped, self.group), (grouped, m["k"], 1)):
            with b.loop(lo, hi, count) as loop:
                p = b.offset(source, loop.index * m["b_k"])
                lines = [b.offset(p, m["b_k"] * i) for i in range(count)]
                x = b.offset(a, loop.index * self.bytes)
                self.add(lines, x, a_row, sum_row, lanes)
        self.end(sum_row, first, lanes)

    def clear(self, bytes: Value) -> None:
        b, zeros = self.b, self.b.const(0, self.element, self.width)
        with b.loop(0, bytes, self.width * self.bytes) as loop:
            b.store(b.offset(b.scratch, loop.index), 0, zeros, self.element)

    def add(self, lines: list[Value], x: Value, x_row: Value, sum_row: Value, lanes: Value) -> None:
        """Add to all sums the products of a few elements of each row of A with B's lines."""
        b, w = self.b, self.width

        def one(at: Value, mask: Value | None) -> None:
            values = [self.elements(p, at, w, mask) for p in lines]
            sums = b.offset(b.scratch, at * self.bytes)
            with b.loop(0, self.meta["m"], 1, [x, sums]) as loop:
                p, q = loop.carry
                total = b.load(q, 0, self.element, w)
                for i, y in enumerate(values):
                    factor = b.splat(b.load(p, i, self.element), w)
                    total = self.multiply_add(factor, y, total)
                b.store(q, 0, total, self.element)
                loop.next(b.offset(p, x_row), b.offset(q, sum_row))

        in_vectors(b, lanes, lanes, w, one)
