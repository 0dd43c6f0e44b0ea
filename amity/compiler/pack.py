"""Packing: parts of a matrix copied to where a register tile reads them fast, in the tile's dtype.

A packed panel is `[depth][lanes]`: at each k the elements that one tile needs, side by side. Lanes
beyond a tile's columns go to further panels. Sources lie any way round.
"""

from __future__ import annotations

from collections.abc import Callable

from amity.ir.kernel import Builder, Value, itemsize

from .tile import PAIRS, Tile

IN_PLACE, COPY, TURN, GATHER = range(4)  # not packed, or by which function
PACK = (("source", "ptr"), ("k_stride", "i64"), ("lane_stride", "i64"), ("target", "ptr"),
        ("target_stride", "i64"), ("depth", "i64"), ("lanes", "i64"), ("width", "i64"),
        ("panel_mask", "i64"))  # fmt: skip
ONE_PANEL = -1  # a mask that keeps all lanes in one panel; else it is lanes - 1, for a power of two


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
        self.quad = min(tile.width, max(1, 16 // tile.bytes))  # elements in 128 bits, where shuffles are cheap

    def write(self) -> None:
        """The functions `copy`, `turn` and `gather`, all with the arguments of `PACK`."""
        for name, body in (("copy", self.copy), ("gather", self.gather), ("turn", self.turn)):
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
    def place(self, target: Value, lane: Value, count: Value, panel_mask: Value) -> Value:
        """Where the first element of a lane goes, in panels of `count` rows."""
        inside = lane & panel_mask
        return self.b.offset(target, ((lane - inside) * count + inside) * self.tile.bytes)

    def copy(self, source, k_stride, lane_stride, target, target_stride, depth, lanes, width, mask) -> None:
        """Sources with unit stride along lanes: row by row. Lanes up to `width` become 0."""
        b, size, count = self.b, itemsize(self.dtype), self.rows(depth)
        step = k_stride * 2 if self.is_paired else k_stride
        with b.loop(0, count, 1, [source, target]) as loop:
            p, q = loop.carry

            def one(lane: Value, valid: Value | None) -> None:
                row = b.offset(p, lane * size)
                if self.is_paired:
                    x = self.joined(row, k_stride, self.width, valid, loop.index * 2 + 1 < depth)
                else:
                    x = self.elements(row, self.width, valid)
                b.store(self.place(q, lane, count, mask), 0, x, self.element)

            b.prefetch(b.offset(p, width * size), near=False)  # the next panel's
            in_vectors(b, lanes, width, self.width, one)
            loop.next(b.offset(p, step), b.offset(q, target_stride))

    def turn(self, source, k_stride, lane_stride, target, target_stride, depth, lanes, width, mask) -> None:
        """Sources with unit stride along k: blocks of a vector of lanes by a few k, turned in registers.

        Lanes from `lanes` on repeat the last one.
        """
        b, w, q = self.b, self.width, self.quad
        step = q * (2 if self.is_paired else 1)
        whole, count = depth & -step, self.rows(depth)
        with b.loop(0, lanes, w) as block:
            rows = [b.offset(source, b.min(block.index + i, lanes - 1) * lane_stride) for i in range(w)]
            with b.loop(0, whole, step, [self.place(target, block.index, count, mask)]) as loop:
                (p,) = loop.carry
                at = loop.index * itemsize(self.dtype)
                quads = [self.along_k(b.offset(row, at)) for row in rows]
                joined = [concat(b, quads[i::q]) for i in range(q)]
                for i, x in enumerate(transpose(b, joined, q)):
                    b.store(b.offset(p, target_stride * i), 0, x, self.element)
                loop.next(b.offset(p, target_stride * q))
        with b.branch(whole < depth), b.loop(0, lanes, w) as block:
            left = b.min(lanes - block.index, w)
            first = b.offset(source, block.index * lane_stride + whole * k_stride)
            rest = b.offset(self.place(target, block.index, count, mask), self.rows(whole) * target_stride)
            b.call("gather", first, k_stride, lane_stride, rest, target_stride, depth - whole, left, left, ONE_PANEL)

    def along_k(self, p: Value) -> Value:
        """A few elements along k."""
        if self.is_paired:
            return self.b.load(p, 0, "i32", self.quad)
        return self.elements(p, self.quad)

    def gather(self, source, k_stride, lane_stride, target, target_stride, depth, lanes, width, mask) -> None:
        """Any strides: element by element."""
        b = self.b
        step = k_stride * 2 if self.is_paired else k_stride
        count = self.rows(depth)
        with b.loop(0, count, 1, [source, target]) as loop:
            p, q = loop.carry
            with b.loop(0, lanes) as lane:
                at = b.offset(p, lane.index * lane_stride)
                if self.is_paired:
                    x = self.joined(at, k_stride, 1, None, loop.index * 2 + 1 < depth)
                else:
                    x = self.elements(at, 1)
                b.store(self.place(q, lane.index, count, mask), 0, x, self.element)
            with b.loop(lanes, width) as lane:
                b.store(self.place(q, lane.index, count, mask), 0, b.const(0, self.element), self.element)
            loop.next(b.offset(p, step), b.offset(q, target_stride))


def concat(b: Builder, parts: list[Value]) -> Value:
    """Vectors joined to one; their number is a power of two."""
    while len(parts) > 1:
        parts = [b.shuffle(x, y, range(2 * x.width)) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    return parts[0]


def transpose(b: Builder, rows: list[Value], q: int) -> list[Value]:
    """Squares of `q x q` side by side, each transposed: rounds of interleaving the list's halves."""
    w = rows[0].width
    low, high = (
        [x for chunk in range(0, w, q) for i in range(q // 2) for x in (chunk + half + i, w + chunk + half + i)]
        for half in (0, q // 2)
    )
    for _ in range(q.bit_length() - 1):
        pairs = list(zip(rows[: q // 2], rows[q // 2 :], strict=True))
        rows = [b.shuffle(x, y, lanes) for x, y in pairs for lanes in (low, high)]
    return rows
