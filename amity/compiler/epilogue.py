"""What happens to the sums of a matrix product on their way to memory."""

from __future__ import annotations

from amity.ir.kernel import Builder, Value, register_type

from .ending import EndingBody
from .nest import Nest
from .pack import in_vectors

FINISH = (("meta", "ptr"), ("buffers", "ptr"), ("source", "ptr"), ("source_stride", "i64"),
          ("c", "ptr"), ("c_stride", "i64"), ("d", "ptr"), ("rows", "i64"), ("lanes", "i64"),
          ("row", "i64"), ("column", "i64"))  # fmt: skip
HEAD = ("alpha", "beta", "d_row", "d_column")  # the first words of meta


class Finish:
    """`alpha * sum + beta * D`, then the ending, for sums of dtype `accumulator`.

    `added` is "" (no D), "unit" (D's columns side by side) or "strided". `nest` is the ending's, whose
    words and buffers begin at `first_word` and at `first_buffer`; without one sums are stored at C.
    """

    def __init__(
        self, b: Builder, dtype: str, accumulator: str, width: int, added: str, scaled: bool,
        nest: Nest | None, first_word: int, first_buffer: int,
    ) -> None:  # fmt: skip
        self.b, self.dtype, self.accumulator, self.width = b, dtype, accumulator, width
        self.added, self.scaled, self.nest = added, scaled, nest
        self.first_word, self.first_buffer = first_word, first_buffer

    @property
    def is_direct(self) -> bool:
        """Whether tiles write to memory themselves: sums as they are, or with D, row by row."""
        is_changed = self.added == "strided" or self.scaled or self.nest
        return not is_changed and self.dtype == self.accumulator

    @property
    def begins_with_d(self) -> bool:
        """Whether whole tiles begin with D instead of zeros."""
        return self.added == "unit" and not self.scaled and self.dtype == self.accumulator

    def factor(self, name: str) -> Value:
        dtype = "f64" if self.accumulator[0] == "f" else "i64"
        return self.b.convert(self.b.param(HEAD.index(name), dtype), self.accumulator)

    def apply(self, value: Value, d: Value, at: Value, mask: Value | None) -> Value:
        """The value `at` columns on; `d` points at D's row."""
        b = self.b
        if self.scaled:
            value = value * self.factor("alpha")
        if self.added:
            addend = b.convert(self.addend(d, at, value.width, mask), self.accumulator)
            value = value + (addend * self.factor("beta") if self.scaled else addend)
        return value

    def addend(self, d: Value, at: Value, width: int, mask: Value | None) -> Value:
        b = self.b
        if self.added == "unit":
            return b.load(d, at, self.dtype, width, mask)
        lanes = (b.splat(at, width) + b.iota(width)) * b.param(HEAD.index("d_column"))
        return b.load(d, lanes, self.dtype, width, mask)

    def store(self, c: Value, at: Value, value: Value, mask: Value | None) -> None:
        out = self.b.convert(value, register_type(self.dtype))
        self.b.store(c, at, out, self.dtype, mask)

    def write(self) -> None:
        """The functions `finish(*FINISH)`, which finishes a tile of sums at `source` and stores it at
        `c`, and, if there is an ending, `end`, for tiles that began with D."""
        self._write("finish", is_begun=False)
        if self.nest is not None and self.begins_with_d:
            self._write("end", is_begun=True)

    def far(self, row: Value, column: Value) -> list[tuple[Value, Value]]:
        """The places of what an ending reads and writes row by row, and bytes from row to row."""
        if self.nest is None:
            return []
        return EndingBody(self.nest, self.b, self.first_word, self.first_buffer).far(row, column)

    def _write(self, name: str, is_begun: bool) -> None:
        b = self.b
        with b.function(name, FINISH) as args:
            b.meta, b.buffers, source, source_stride, c, c_stride, d, *rest = args
            rows, lanes, row, column = rest
            d_row = b.param(HEAD.index("d_row"))
            ending = self.nest and EndingBody(self.nest, b, self.first_word, self.first_buffer)
            with b.loop(0, rows, 1, [source, c, d]) as loop:
                p, q, r = loop.carry

                def one(at: Value, mask: Value | None) -> None:
                    value = b.load(p, at, self.accumulator, self.width)
                    value = value if is_begun else self.apply(value, r, at, mask)
                    if ending:
                        ending.store(value, row + loop.index, column + at, mask)
                    else:
                        self.store(q, at, value, mask)

                in_vectors(b, lanes, lanes, self.width, one)
                loop.next(b.offset(p, source_stride), b.offset(q, c_stride), b.offset(r, d_row))
