"""How values are joined: neutral element, step, and the join of lanes, for each kind of reduction."""

from __future__ import annotations

import math

from amity.ir.kernel import BITS, Builder, Value

COMBINE: dict[str, Reduction] = {}


def lowest(dtype: str) -> int | float | bool:
    """The neutral element of `max`."""
    if dtype[0] == "f":
        return -math.inf
    if dtype[0] == "u" or dtype == "bool":
        return 0
    return -(1 << (BITS[dtype] - 1))


def highest(dtype: str) -> int | float | bool:
    """The neutral element of `min`."""
    if dtype[0] == "f":
        return math.inf
    if dtype == "bool":
        return True
    bits = BITS[dtype]
    return (1 << bits) - 1 if dtype[0] == "u" else (1 << (bits - 1)) - 1


class Reduction:
    """Joins values one by one (`step`), then the lanes of a vector, then two results."""

    parts = 1

    def __init__(self, name: str, op: str, neutral) -> None:
        self.name, self.op, self.neutral = name, op, neutral
        COMBINE[name] = self

    def start(self, b: Builder, dtype: str, width: int) -> list[Value]:
        neutral = self.neutral(dtype) if callable(self.neutral) else self.neutral
        return [b.const(neutral, dtype, width)]

    def step(self, b: Builder, acc: list[Value], x: Value, index: Value | None) -> list[Value]:
        return [self.combine(b, acc[0], x)]

    def combine(self, b: Builder, a: Value, x: Value) -> Value:
        return b.binary(self.op, a, x)

    def lanes(self, b: Builder, acc: list[Value]) -> list[Value]:
        v = acc[0]
        while v.width > 1:
            h = v.width // 2
            v = self.combine(b, b.shuffle(v, v, range(h)), b.shuffle(v, v, range(h, 2 * h)))
        return [v]

    def join(self, b: Builder, a: list[Value], c: list[Value]) -> list[Value]:
        return [self.combine(b, a[0], c[0])]

    def result(self, acc: list[Value]) -> Value:
        return acc[0]


class Extreme(Reduction):
    """max and min: a NaN among the values is the result."""

    def combine(self, b: Builder, a: Value, x: Value) -> Value:
        if a.dtype[0] != "f":
            if a.dtype == "bool":
                return b.binary("or" if self.op == "max" else "and", a, x)
            return b.binary(self.op, a, x)
        keep = b.compare("gt" if self.op == "max" else "lt", a, x) | a.ne(a)
        return b.select(keep, a, x)


class ArgExtreme(Reduction):
    """argmax and argmin: the first position of the extreme, or of the first NaN."""

    parts = 2

    def start(self, b: Builder, dtype: str, width: int) -> list[Value]:
        return [b.const(self.neutral(dtype), dtype, width), b.const((1 << 63) - 1, "i64", width)]

    def _is_before(self, b: Builder, a: list[Value], c: list[Value]) -> Value:
        """Whether (value, index) pair `a` wins over `c`."""
        better = b.compare("gt" if self.op == "max" else "lt", a[0], c[0])
        tie = a[0].eq(c[0])
        if a[0].dtype[0] == "f":
            a_nan, c_nan = a[0].ne(a[0]), c[0].ne(c[0])
            better = (better & ~c_nan) | (a_nan & ~c_nan)
            tie = tie | (a_nan & c_nan)
        return better | (tie & (a[1] <= c[1]))

    def _pick(self, b: Builder, a: list[Value], c: list[Value]) -> list[Value]:
        first = self._is_before(b, a, c)
        return [b.select(first, x, y) for x, y in zip(a, c, strict=True)]

    def step(self, b: Builder, acc, x, index) -> list[Value]:
        return self._pick(b, acc, [x, index])

    def lanes(self, b: Builder, acc: list[Value]) -> list[Value]:
        while acc[0].width > 1:
            h = acc[0].width // 2
            low = [b.shuffle(v, v, range(h)) for v in acc]
            high = [b.shuffle(v, v, range(h, 2 * h)) for v in acc]
            acc = self._pick(b, low, high)
        return acc

    def join(self, b: Builder, a: list[Value], c: list[Value]) -> list[Value]:
        return self._pick(b, a, c)

    def result(self, acc: list[Value]) -> Value:
        return acc[1]


Reduction("sum", "add", 0)
Reduction("prod", "mul", 1)
Extreme("max", "max", lowest)
Reduction("peak", "max", lowest)  # a maximum that may miss NaNs: for sums of exponentials
Extreme("min", "min", highest)
Reduction("all", "and", True)
Reduction("any", "or", False)
ArgExtreme("argmax", "max", lowest)
ArgExtreme("argmin", "min", highest)
