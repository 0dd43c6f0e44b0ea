"""Rows in order, stable: by ranks where they are short, else by the bytes of their keys.

A key is the element as an unsigned number that orders the same way: NaNs last, -0 equal to 0, all
bits turned over for the other direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from amity.core.layout import Layout, layout
from amity.core.shape import numel
from amity.ir.kernel import BITS, Builder, Kernel, Value
from amity.ir.target import Target

from .group import copy_launch
from .plan import GRAIN_WORK, Code, Launch

SHORT = 64  # elements of a row that are ranked against one another
BUCKETS = 256
SCRATCH = 4 << 20  # bytes of buffers that the scratch of a thread has room for


class SortKey(NamedTuple):
    """What a kernel's code depends on."""

    dtype: str
    descending: bool
    is_short: bool
    in_scratch: bool


class Keys:
    """Elements of a dtype as keys."""

    def __init__(self, b: Builder, dtype: str, descending: bool) -> None:
        self.b, self.dtype, self.descending = b, dtype, descending
        self.bits = max(8, BITS[dtype])
        self.raw = f"u{self.bits}"
        self.kind = "u64" if self.bits == 64 else "u32"
        self.all = (1 << self.bits) - 1

    def load(self, pointer: Value, at: Value) -> Value:
        b, high = self.b, 1 << (self.bits - 1)
        u = b.convert(b.load(pointer, at, self.raw), self.kind)
        if self.dtype in ("f16", "bf16", "f32", "f64"):
            infinity = {"f16": 0x7C00, "bf16": 0x7F80, "f32": 0x7F800000, "f64": 0x7FF << 52}[
                self.dtype
            ]
            is_nan = (u & (high - 1)) > infinity
            u = b.select(u.eq(high), 0, u)
            u = b.select((u & high).ne(0), u ^ self.all, u | high)
            u = b.select(is_nan, self.all, u)
        elif self.dtype[0] == "i":
            u = u ^ high
        return u ^ self.all if self.descending else u


class _Sort:
    """Writes the kernel of one key."""

    def __init__(self, key: SortKey, name: str, target: Target, math: Callable) -> None:
        self.b, self.key = Builder(name, target, math), key
        self.keys = Keys(self.b, key.dtype, key.descending)
        self.kind, self.raw = self.keys.kind, self.keys.raw
        self.passes = self.keys.bits // 8
        self.width = target.lanes(BITS[self.kind] // 8)

    def build(self) -> Kernel:
        b = self.b
        with b.entry():
            self.n = b.param(0)
            self.x, self.values, self.places = (b.pointer(i) for i in range(3))
            with b.loop(b.lo, b.hi) as row:
                self.base = row.index * self.n
                (self.by_rank if self.key.is_short else self.by_bytes)()
        return b.kernel

    def put(self, at: Value, place: Value) -> None:
        """The element at `place` of the row as the result at `at`."""
        b = self.b
        b.store(self.places, self.base + at, place, "i64")
        b.store(self.values, self.base + at, b.load(self.x, self.base + place, self.raw), self.raw)

    # -- short rows
    def by_rank(self) -> None:
        """The rank of an element: how many come before it."""
        b, w, n = self.b, self.width, self.n
        ranks = b.offset(b.scratch, SHORT * 8)
        with b.loop(0, n) as i:
            b.store(b.scratch, i.index, self.keys.load(self.x, self.base + i.index), self.kind)
        with b.loop(0, n, w) as j:
            mine = b.load(b.scratch, j.index, self.kind, w)
            place = b.convert(b.splat(j.index, w) + b.iota(w), self.kind)
            with b.loop(0, n, 1, [b.const(0, self.kind, w)]) as i:
                other = b.splat(b.load(b.scratch, i.index, self.kind), w)
                before = (other < mine) | (
                    other.eq(mine) & (b.splat(b.convert(i.index, self.kind), w) < place)
                )
                i.next(i.carry[0] + b.select(before, b.const(1, self.kind, w), 0))
            b.store(ranks, j.index, i.carry[0], self.kind)
        with b.loop(0, n) as j:
            self.put(b.convert(b.load(ranks, j.index, self.kind), "i64"), j.index)

    # -- long rows
    def by_bytes(self) -> None:
        """Spread into buckets by one byte after another, the lowest first."""
        b, n = self.b, self.n
        counts = b.scratch
        if self.key.in_scratch:
            keys = b.offset(b.scratch, self.passes * BUCKETS * 4)
            order = b.offset(keys, n * (2 * BITS[self.kind] // 8))
        else:
            keys = b.offset(b.pointer(3), self.base * (2 * BITS[self.kind] // 8))
            order = b.offset(b.pointer(4), self.base * 8)
        self.count(counts, keys, order)
        at = b.const(0, "i64")
        for p in range(self.passes):
            at = self.spread(p, counts, keys, order, at)
        with b.loop(0, n) as i:
            self.put(i.index, b.convert(b.load(order, at + i.index, "i32"), "i64"))

    def byte(self, key: Value, p: int) -> Value:
        return self.b.convert((key >> (8 * p)) & (BUCKETS - 1), "i64")

    def count(self, counts: Value, keys: Value, order: Value) -> None:
        """Keys, their places, and how often each byte occurs in each position."""
        b, w = self.b, self.b.target.lanes(4)
        with b.loop(0, self.passes * BUCKETS, w) as c:
            b.store(counts, c.index, b.const(0, "i32", w), "i32")
        with b.loop(0, self.n) as i:
            key = self.keys.load(self.x, self.base + i.index)
            b.store(keys, i.index, key, self.kind)
            b.store(order, i.index, b.convert(i.index, "i32"), "i32")
            for p in range(self.passes):
                at = self.byte(key, p) + p * BUCKETS
                b.store(counts, at, b.load(counts, at, "i32") + 1, "i32")

    def spread(self, p: int, counts: Value, keys: Value, order: Value, at: Value) -> Value:
        """One pass from the buffer at `at` to the other; none if all bytes are equal."""
        b, n = self.b, self.n
        first = self.byte(b.load(keys, at, self.kind), p) + p * BUCKETS
        is_done = b.convert(b.load(counts, first, "i32"), "i64").eq(n)
        to = n - at
        with b.loop(0, b.select(is_done, 0, b.const(BUCKETS, "i64")), 1, [b.const(0, "i32")]) as c:
            count = b.load(counts, c.index + p * BUCKETS, "i32")
            b.store(counts, c.index + p * BUCKETS, c.carry[0], "i32")
            c.next(c.carry[0] + count)
        with b.loop(0, b.select(is_done, 0, n)) as i:
            key = b.load(keys, at + i.index, self.kind)
            slot = self.byte(key, p) + p * BUCKETS
            place = b.load(counts, slot, "i32")
            b.store(counts, slot, place + 1, "i32")
            place = to + b.convert(place, "i64")
            b.store(keys, place, key, self.kind)
            b.store(order, place, b.load(order, at + i.index, "i32"), "i32")
        return b.select(is_done, at, to)


def _build_sort(key: SortKey, name: str, target: Target, math: Callable) -> Kernel:
    return _Sort(key, name, target, math).build()


# -- the first few only


class TopKey(NamedTuple):
    """What a kernel's code depends on."""

    dtype: str
    largest: bool


class _Top:
    """Writes the kernel that keeps the k first elements of a row, in order, as it reads the row."""

    def __init__(self, key: TopKey, name: str, target: Target, math: Callable) -> None:
        self.b = Builder(name, target, math)
        self.keys = Keys(self.b, key.dtype, key.largest)
        self.kind, self.raw = self.keys.kind, self.keys.raw

    def build(self) -> Kernel:
        b = self.b
        with b.entry():
            n, k = b.param(0), b.param(1)
            x, values, places = (b.pointer(i) for i in range(3))
            kept, order = b.scratch, b.offset(b.scratch, k * 8)
            with b.loop(b.lo, b.hi) as row:
                base, out = row.index * n, row.index * k
                with b.loop(0, k) as i:
                    self.insert(self.keys.load(x, base + i.index), i.index, i.index, kept, order)
                with b.loop(k, n) as i:
                    key = self.keys.load(x, base + i.index)
                    with b.branch(key < b.load(kept, k - 1, self.kind)):
                        self.insert(key, i.index, k - 1, kept, order)
                with b.loop(0, k) as i:
                    place = b.load(order, i.index, "i64")
                    b.store(places, out + i.index, place, "i64")
                    b.store(values, out + i.index, b.load(x, base + place, self.raw), self.raw)
        return b.kernel

    def insert(self, key: Value, place: Value, count: Value, kept: Value, order: Value) -> None:
        """A key among `count` kept ones, after its equals; what it displaces moves on."""
        b = self.b
        with b.loop(0, count, 1, [b.const(0, "i64")]) as j:
            j.next(
                j.carry[0] + b.select(b.load(kept, j.index, self.kind) <= key, b.const(1, "i64"), 0)
            )
        at = j.carry[0]
        with b.loop(0, count - at) as j:
            to = count - j.index
            b.store(kept, to, b.load(kept, to - 1, self.kind), self.kind)
            b.store(order, to, b.load(order, to - 1, "i64"), "i64")
        b.store(kept, at, key, self.kind)
        b.store(order, at, place, "i64")


def _build_top(key: TopKey, name: str, target: Target, math: Callable) -> Kernel:
    return _Top(key, name, target, math).build()


# -- plans


def _in_rows(op: Any, ins: Sequence[Layout], outs: Sequence[Layout], make: Callable) -> tuple:
    """`make(input, values, places)` launches over row-major tensors whose last dimension is `op.dim`."""
    (x,), temporaries = ins, []
    last = x.ndim - 1
    order = [*(d for d in range(x.ndim) if d != op.dim), op.dim]

    def new(nbytes: int) -> int:
        temporaries.append(max(nbytes, 1))
        return 2 + len(temporaries)

    def turned(m: Layout) -> Layout:
        return layout(m.dtype, [m.shape[d] for d in order])

    def strides_of(m: Layout) -> tuple[int, ...]:
        """Strides of the row-major copy, in the tensor's own order of dimensions."""
        flat = turned(m)
        return tuple(flat.strides[order.index(d)] for d in range(m.ndim))

    launches, after, buffers = [], [], []
    is_direct = op.dim == last
    for place, m in enumerate((x, *outs)):
        if is_direct and m.is_contiguous:
            buffers.append(place)
            continue
        buffer = new(m.nbytes)
        buffers.append(buffer)
        if place == 0:
            launches.append(copy_launch(m, m.dtype.code, m.shape, strides_of(m), 0, buffer))
        else:
            flat = layout(m.dtype, m.shape, strides_of(m))
            after.append(copy_launch(flat, m.dtype.code, m.shape, m.strides, buffer, place))
    rows = numel(x.shape) // max(x.shape[op.dim], 1)
    launches += make(rows if outs[0].numel else 0, buffers, new)
    return [*launches, *(a for a in after if a.grid)], temporaries


def plan_sort(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """Values in order along a dimension, and where they were."""
    n, dtype = ins[0].shape[op.dim], ins[0].dtype
    is_short = n <= SHORT
    wide = 8 if dtype.itemsize == 8 else 4
    in_scratch = n * 2 * (wide + 4) <= SCRATCH

    def code(*how: bool) -> Code:
        k = SortKey(dtype.code, op.descending, *how)
        return Code(("sort", *k), partial(_build_sort, k), "sort")

    def family() -> list[Code]:
        return [code(True, True), code(False, True), code(False, False)]

    def make(rows: int, buffers: list[int], new: Callable) -> list[Launch]:
        if not (is_short or in_scratch):
            buffers = [*buffers, new(rows * n * 2 * wide), new(rows * n * 8)]
        grain = max(1, GRAIN_WORK // max(n * 16, 1))
        return [
            Launch(*code(is_short, in_scratch)[:2], [n], buffers, rows, grain, True, "sort", family)
        ]

    return _in_rows(op, ins, outs, make)


def plan_top(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """The k first of the order along a dimension."""
    n = ins[0].shape[op.dim]
    key = TopKey(ins[0].dtype.code, op.largest)

    def make(rows: int, buffers: list[int], new: Callable) -> list[Launch]:
        grain = max(1, GRAIN_WORK // max(n * 4, 1))
        return [
            Launch(
                ("topk", *key),
                partial(_build_top, key),
                [n, op.k],
                buffers,
                rows,
                grain,
                True,
                "topk",
            )
        ]

    return _in_rows(op, ins, outs, make)
