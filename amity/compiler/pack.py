"""Packing: parts of a matrix copied to where a register tile reads them fast, in the tile's dtype.

A packed panel is `[depth][lanes]`: at each k the `lanes` elements that one tile needs, side by side.
Sources lie any way round; rows are what a panel's k runs over, columns its lanes.
"""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Builder, Value, itemsize

from .tile import PAIRS, Tile

PACK = (("source", "ptr"), ("k_stride", "i64"), ("lane_stride", "i64"), ("target", "ptr"),
        ("target_stride", "i64"), ("depth", "i64"), ("lanes", "i64"), ("width", "i64"))  # fmt: skip


def element_of(dtype: str, has: frozenset[str]) -> str:
    """What a tile computes in, for matrices of a dtype: small floats and integers are widened."""
    if dtype == "bf16" and "bf16dot" in has:
        return PAIRS
    return {"f16": "f32", "bf16": "f32", "i8": "i32", "u8": "i32", "i16": "i32"}.get(dtype, dtype)


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
        self.is_paired = tile.element == PAIRS
        self.element = "i32" if self.is_paired else tile.element
        self.width = tile.width

    def write(self) -> None:
        """The functions `copy`, `turn` and `gather`, all with the arguments of `PACK`."""
        for name, body in (("copy", self.copy), ("turn", self.turn), ("gather", self.gather)):
            with self.b.function(name, PACK) as args:
                body(*args)

    # -- the lanes of a row of memory, as elements
    def elements(self, p: Value, width: int, mask: Value | None = None) -> Value:
        """`width` elements at `p`, or one."""
        b = self.b
        x = b.load(p, 0, self.dtype, width, mask)
        return b.convert(x, self.element)

    def joined(self, p: Value, k_stride: Value, width: int, mask: Value | None, has_second: Value) -> Value:
        """Pairs of two rows of bf16: the row at `p` in the low halves, the next in the high ones."""
        b = self.b
        low = b.convert(b.load(p, 0, "u16", width, mask), "i32")
        both = b.splat(has_second, width) if mask is None else mask & b.splat(has_second, width)
        high = b.convert(b.load(b.offset(p, k_stride), 0, "u16", width, both), "i32")
        return low | (high << 16)

    def rows(self, depth: Value) -> Value:
        """Rows of a panel whose source has `depth` of them."""
        return (depth + 1) >> 1 if self.is_paired else depth

    # -- the functions
    def copy(self, source, k_stride, lane_stride, target, target_stride, depth, lanes, width) -> None:
        """Sources with unit stride along lanes: row by row. Lanes up to `width` become 0."""
        b, size = self.b, itemsize(self.dtype)
        step = k_stride * 2 if self.is_paired else k_stride
        with b.loop(0, self.rows(depth), 1, [source, target]) as loop:
            p, q = loop.carry

            def one(at: Value, mask: Value | None) -> None:
                row = b.offset(p, at * size)
                if self.is_paired:
                    x = self.joined(row, k_stride, self.width, mask, loop.index * 2 + 1 < depth)
                else:
                    x = self.elements(row, self.width, mask)
                b.store(b.offset(q, at * self.tile.bytes), 0, x, self.element)

            in_vectors(b, lanes, width, self.width, one)
            loop.next(b.offset(p, step), b.offset(q, target_stride))

    def turn(self, source, k_stride, lane_stride, target, target_stride, depth, lanes, width) -> None:
        """Sources with unit stride along k: square blocks, transposed in registers.

        Lanes from `lanes` on repeat the last one; rows past `depth` are written too, up to a whole block.
        """
        b, w, size = self.b, self.width, itemsize(self.dtype)
        with b.loop(0, lanes, w) as block:
            rows = [b.offset(source, b.min(block.index + i, lanes - 1) * lane_stride) for i in range(w)]

            def one(k: Value, mask: Value | None) -> None:
                turned = transpose(b, [self.along_k(b.offset(p, k * size), mask) for p in rows])
                row = k >> 1 if self.is_paired else k
                q = b.offset(target, block.index * self.tile.bytes + row * target_stride)
                for i, x in enumerate(turned):
                    b.store(b.offset(q, target_stride * i), 0, x, self.element)

            in_vectors(b, depth, depth, w * 2 if self.is_paired else w, one)

    def along_k(self, p: Value, mask: Value | None) -> Value:
        """A vector of elements along k."""
        if not self.is_paired:
            return self.elements(p, self.width, mask)
        return self.b.bitcast(self.b.load(p, 0, "i16", 2 * self.width, mask), "i32")

    def gather(self, source, k_stride, lane_stride, target, target_stride, depth, lanes, width) -> None:
        """Any strides: element by element."""
        b = self.b
        step = k_stride * 2 if self.is_paired else k_stride
        with b.loop(0, self.rows(depth), 1, [source, target]) as loop:
            p, q = loop.carry
            with b.loop(0, lanes) as lane:
                at = b.offset(p, lane.index * lane_stride)
                if self.is_paired:
                    x = self.joined(at, k_stride, 1, None, loop.index * 2 + 1 < depth)
                else:
                    x = self.elements(at, 1)
                b.store(q, lane.index, x, self.element)
            with b.loop(lanes, width) as lane:
                b.store(q, lane.index, b.const(0, self.element), self.element)
            loop.next(b.offset(p, step), b.offset(q, target_stride))


def transpose(b: Builder, rows: list[Value]) -> list[Value]:
    """A square of vectors transposed: each round interleaves the halves of the list, as in a card trick."""
    w = len(rows)
    half = w // 2
    low = [x for i in range(half) for x in (i, w + i)]
    high = [x for i in range(half, w) for x in (i, w + i)]
    for _ in range(w.bit_length() - 1):
        pairs = list(zip(rows[:half], rows[half:], strict=True))
        rows = [b.shuffle(x, y, lanes) for x, y in pairs for lanes in (low, high)]
    return rows
