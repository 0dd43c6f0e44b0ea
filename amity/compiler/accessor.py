"""How indexed ops read: tensors at positions that the ops compute."""

from __future__ import annotations

from collections.abc import Sequence

from amity.ir.kernel import Builder, Value


class IndexedBuilder:
    """What an indexed op's `emit` writes with: the builder, the output position and its run-time words."""

    def __init__(
        self, b: Builder, width: int, mask: Value | None, index: list[Value], first: int
    ) -> None:
        self.b, self.index, self.width, self.mask = b, index, width, mask
        self._first = first

    def parameter(self, i: int) -> Value:
        return self.b.param(self._first + i)


class Accessor:
    """A tensor that an indexed op reads at positions it computes."""

    def __init__(
        self,
        b: Builder,
        pointer: Value,
        dtype: str,
        sizes: list[Value],
        strides: list[Value],
        is_unit: bool,
    ) -> None:
        self.b, self.pointer, self.dtype = b, pointer, dtype
        self.sizes, self.strides, self.is_unit = sizes, strides, is_unit

    def load(self, index: Sequence[Value], mask: Value | None = None) -> Value:
        """The element at a position; where `mask` is false nothing is read and the value is 0."""
        b, width = self.b, max((i.width for i in index), default=1)
        found = self._run(index) if width > 1 and self.is_unit else None
        if found is not None:
            start, step = found
            mask = None if mask is None else b.splat(mask, width)
            if step == 1:
                return b.load(self.pointer, start, self.dtype, width, mask)
            if mask is None:
                v = b.load(self.pointer, start - (width - 1), self.dtype, width)
                return b.shuffle(v, v, range(width - 1, -1, -1))
        at = b.const(0, "i64")
        for i, stride in zip(index, self.strides, strict=True):
            at = at + i * stride
        if mask is not None:
            at, mask = b.widen(at, mask)
        return b.load(self.pointer, at, self.dtype, at.width, mask)

    def _run(self, index: Sequence[Value]) -> tuple[Value, int] | None:
        """Where a vector of neighbours starts, and whether it runs forwards or back, if it is that."""
        parts = []
        for i in index:
            part = affine(i)
            if part is None:
                return None
            parts.append(part)
        step = parts[-1][1]
        if step not in (1, -1) or any(s for _, s in parts[:-1]):
            return None
        at = self.b.const(0, "i64")
        for (base, _), stride in zip(parts[:-1], self.strides[:-1], strict=True):
            at = at + base * stride
        return at + parts[-1][0], step


def affine(v: Value) -> tuple[Value, int] | None:
    """A vector of positions as its first one and the step from lane to lane, if they are evenly apart."""
    b = v.builder
    if v.width == 1:
        return v, 0
    if v.op == "splat":
        return v.args[0], 0
    if v.op == "const":
        return b.const(v.attr, v.dtype), 0
    if v.op == "iota":
        return b.const(0, v.dtype), 1
    if v.op in ("add", "sub"):
        first, second = (affine(a) for a in v.args)
        if first is None or second is None:
            return None
        (x, s), (y, t) = first, second
        return b.binary(v.op, x, y), s + t if v.op == "add" else s - t
    return None
