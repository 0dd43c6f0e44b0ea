"""Packing: parts of a matrix copied to where a register tile reads them fast, in the tile's dtype.

A packed panel is `[depth][lanes]`: at each k the elements that one tile needs, side by side. Lanes
beyond a tile's columns go to further panels. Sources lie any way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from amity.ir.kernel import Builder, Value, itemsize

from .tile import PAIRS, Tile

IN_PLACE, COPY, TURN, GATHER, READY = range(5)  # not packed; by which function; packed before
ONE_PANEL = -1  # a mask that keeps all lanes in one panel
WIDENED = {"f16": "f32", "bf16": "f32", "i8": "i32", "u8": "i32", "i16": "i32"}


class Part(NamedTuple):
    """The arguments of a packing function: what part of a matrix goes where.

    Lanes from `lanes` to `width` become 0, or repeat others. A panel holds `panel_mask + 1` lanes,
    a power of two, and `depth` rows `target_stride` bytes apart.
    """

    source: Value
    k_stride: Value
    lane_stride: Value
    target: Value
    target_stride: Value
    depth: Value
    lanes: Value
    width: Value
    panel_mask: Value


POINTERS = ("source", "target")
PART = tuple((name, "ptr" if name in POINTERS else "i64") for name in Part._fields)


def element_of(dtype: str, has: frozenset[str]) -> str:
    """What a tile computes in, for matrices of a dtype: small floats and integers are widened."""
    return PAIRS if dtype == "bf16" and "bf16dot" in has else WIDENED.get(dtype, dtype)


def in_vectors(b: Builder, lanes: Value, width: Value, step: int, body: Callable) -> None:
    """`body(at, mask)` for each vector of `[0, width)`; lanes from `lanes` on are masked off."""
    whole = lanes & -step
    with b.loop(0, whole, step) as loop:
        body(loop.index, None)
    if step > 1:
        with b.loop(whole, width, step) as loop:
            at = b.splat(loop.index, step) + b.iota(step)
            body(loop.index, at < b.splat(lanes, step))


class Packer:
    """Writes the packing functions of one kernel: memory of `dtype` to elements of `tile`."""

    def __init__(self, b: Builder, tile: Tile, dtype: str) -> None:
        self.b, self.tile, self.dtype = b, tile, dtype
        self.size = itemsize(dtype)
        self.is_paired = tile.element == PAIRS
        self.pairs = 2 if self.is_paired else 1  # rows of the source that one row of a panel holds
        self.element = "i32" if self.is_paired else tile.element
        self.width = tile.width

    def write(self) -> None:
        """The functions `copy`, `gather` and `turn`, all with the arguments of `Part`."""
        for body in (self.copy, self.gather, self.turn):
            with self.b.function(body.__name__, PART) as args:
                body(Part(*args))

    # -- elements
    def elements(self, p: Value, width: int, mask: Value | None = None) -> Value:
        """`width` elements at `p`."""
        return self.b.convert(self.b.load(p, 0, self.dtype, width, mask), self.element)

    def joined(self, p: Value, k_stride: Value, width: int, mask, has_second: Value) -> Value:
        """Pairs of two rows of bf16: the row at `p` in the low halves, the next in the high."""
        b = self.b
        low = b.convert(b.load(p, 0, "u16", width, mask), "i32")
        second = b.splat(has_second, width)
        mask = second if mask is None else mask & second
        high = b.convert(b.load(b.offset(p, k_stride), 0, "u16", width, mask), "i32")
        return low | (high << 16)

    def along_lanes(self, p: Value, row: Value, x: Part, width: int, mask=None) -> Value:
        """The elements of row `row` of a panel, whose source is at `p`."""
        if self.is_paired:
            return self.joined(p, x.k_stride, width, mask, row * 2 + 1 < x.depth)
        return self.elements(p, width, mask)

    def along_k(self, p: Value, width: int) -> Value:
        """A few elements with unit stride along k."""
        return self.b.load(p, 0, "i32", width) if self.is_paired else self.elements(p, width)

    # -- places
    def rows(self, depth: Value) -> Value:
        """Rows of a panel whose source has `depth` of them."""
        return (depth + 1) >> 1 if self.is_paired else depth

    def place(self, target: Value, lane: Value, x: Part) -> Value:
        """Where a lane of a row goes, from where lane 0 does."""
        inside = lane & x.panel_mask
        panel = (lane - inside) * self.rows(x.depth)
        return self.b.offset(target, (panel + inside) * self.tile.bytes)

    # -- the functions
    def copy(self, x: Part) -> None:
        """Sources with unit stride along lanes: row by row."""
        b = self.b
        with b.loop(0, self.rows(x.depth), 1, [x.source, x.target]) as loop:
            p, q = loop.carry

            def one(lane: Value, mask: Value | None) -> None:
                source = b.offset(p, lane * self.size)
                value = self.along_lanes(source, loop.index, x, self.width, mask)
                b.store(self.place(q, lane, x), 0, value, self.element)

            b.prefetch(b.offset(p, x.width * self.size), near=False)  # what is packed next
            in_vectors(b, x.lanes, x.width, self.width, one)
            loop.next(b.offset(p, x.k_stride * self.pairs), b.offset(q, x.target_stride))

    def gather(self, x: Part) -> None:
        """Any strides: element by element."""
        b = self.b
        with b.loop(0, self.rows(x.depth), 1, [x.source, x.target]) as loop:
            p, q = loop.carry
            with b.loop(0, x.lanes) as lane:
                source = b.offset(p, lane.index * x.lane_stride)
                value = self.along_lanes(source, loop.index, x, 1)
                b.store(self.place(q, lane.index, x), 0, value, self.element)
            with b.loop(x.lanes, x.width) as lane:
                b.store(self.place(q, lane.index, x), 0, b.const(0, self.element), self.element)
            loop.next(b.offset(p, x.k_stride * self.pairs), b.offset(q, x.target_stride))

    def turn(self, x: Part) -> None:
        """Sources with unit stride along k: blocks of a vector of lanes by a few k, transposed."""
        b, w = self.b, self.width
        few = min(w, max(1, 16 // self.tile.bytes))  # as many k as fit 128 bits: cheap to shuffle
        whole = x.depth & -(few * self.pairs)
        with b.loop(0, x.lanes, w) as block:
            lanes = [b.min(block.index + i, x.lanes - 1) for i in range(w)]
            rows = [b.offset(x.source, lane * x.lane_stride) for lane in lanes]
            column = self.place(x.target, block.index, x)
            with b.loop(0, whole, few * self.pairs, [column]) as loop:
                (q,) = loop.carry
                at = loop.index * self.size
                parts = [self.along_k(b.offset(row, at), few) for row in rows]
                joined = [concat(b, parts[i::few]) for i in range(few)]
                for i, value in enumerate(transpose(b, joined, few)):
                    b.store(b.offset(q, x.target_stride * i), 0, value, self.element)
                loop.next(b.offset(q, x.target_stride * few))
            with b.branch(whole < x.depth):
                rest = x._replace(
                    source=b.offset(rows[0], whole * x.k_stride),
                    target=b.offset(column, self.rows(whole) * x.target_stride),
                    depth=x.depth - whole, lanes=b.min(x.lanes - block.index, w),
                    width=b.const(0, "i64"), panel_mask=b.const(ONE_PANEL, "i64"),
                )  # fmt: skip
                b.call("gather", *rest)


def concat(b: Builder, parts: list[Value]) -> Value:
    """Vectors joined to one; their number is a power of two."""
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [b.shuffle(x, y, range(2 * x.width)) for x, y in pairs]
    return parts[0]


def transpose(b: Builder, rows: list[Value], q: int) -> list[Value]:
    """Squares of `q x q` side by side, each transposed: the list's halves are interleaved."""
    w, half = rows[0].width, q // 2
    low = [x for at in range(0, w, q) for i in range(at, at + half) for x in (i, w + i)]
    high = [x + half for x in low]
    for _ in range(q.bit_length() - 1):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [b.shuffle(x, y, lanes) for x, y in pairs for lanes in (low, high)]
    return rows
