"""What happens to the sums of a matrix product on their way to memory."""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Builder, Value, register_type

from .pack import in_vectors

# epilogue(b, value, row, column, mask): `row` counts through the batch, `column` is the first
# lane's, `mask` is None where all lanes are valid. It may read `b.param` and `b.pointer`.
Epilogue = Callable[[Builder, Value, Value, Value, Value | None], Value]

FINISH = (("meta", "ptr"), ("buffers", "ptr"), ("source", "ptr"), ("source_stride", "i64"),
          ("c", "ptr"), ("c_stride", "i64"), ("d", "ptr"), ("rows", "i64"), ("lanes", "i64"),
          ("row", "i64"), ("column", "i64"))  # fmt: skip
HEAD = ("alpha", "beta", "d_row", "d_column")  # the first words of meta


class Finish:
    """`alpha * sum + beta * D`, then the fused function, for sums of dtype `accumulator`.

    `added` is "" (no D), "unit" (D's columns side by side) or "strided".
    """

    def __init__(
        self, b: Builder, dtype: str, accumulator: str, width: int, added: str, scaled: bool,
        then: Epilogue | None,
    ) -> None:  # fmt: skip
        self.b, self.dtype, self.accumulator, self.width = b, dtype, accumulator, width
        self.added, self.scaled, self.then = added, scaled, then

    @property
    def is_direct(self) -> bool:
        """Whether tiles write to memory themselves: sums as they are, or with D, row by row."""
        is_changed = self.added == "strided" or self.scaled or self.then
        return not is_changed and self.dtype == self.accumulator

    def factor(self, name: str) -> Value:
        dtype = "f64" if self.accumulator[0] == "f" else "i64"
        return self.b.convert(self.b.param(HEAD.index(name), dtype), self.accumulator)

    def apply(self, value: Value, d: Value, row: Value, column: Value, at: Value, mask) -> Value:
        """The value to store at `column + at`; `d` points at D's row, at `column`."""
        b = self.b
        if self.scaled:
            value = value * self.factor("alpha")
        if self.added:
            addend = b.convert(self.addend(d, at, value.width, mask), self.accumulator)
            value = value + (addend * self.factor("beta") if self.scaled else addend)
        return self.then(b, value, row, column + at, mask) if self.then else value

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
        """The function `finish(*FINISH)`: a tile of sums at `source` finished and stored at `c`."""
        b = self.b
        with b.function("finish", FINISH) as args:
            b.meta, b.buffers, source, source_stride, c, c_stride, d, *rest = args
            rows, lanes, row, column = rest
            d_row = b.param(HEAD.index("d_row"))
            with b.loop(0, rows, 1, [source, c, d]) as loop:
                p, q, r = loop.carry

                def one(at: Value, mask: Value | None) -> None:
                    value = b.load(p, at, self.accumulator, self.width)
                    value = self.apply(value, r, row + loop.index, column, at, mask)
                    self.store(q, at, value, mask)

                in_vectors(b, lanes, lanes, self.width, one)
                loop.next(b.offset(p, source_stride), b.offset(q, c_stride), b.offset(r, d_row))
