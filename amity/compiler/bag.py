"""Sums of bags of rows of a table, and gradients given back to the rows.

Forward, a task is one bag, whose sum stays in registers while its rows go by. Backward, a task is
a block of columns, which goes through all bags in order: results do not depend on the threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from amity.core.dtype import float32
from amity.core.layout import Layout, layout
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .group import copy_launch
from .nest import Access
from .pad import filled
from .plan import GRAIN_WORK, Launch
from .scatter import BLOCK, combine

VECTORS = 8  # of a sum that are in registers at once


class _Bag:
    """Writes the kernel of one role and dtype."""

    def __init__(self, key: tuple, name: str, target: Target, math: Callable) -> None:
        _, self.role, self.dtype, self.store_dtype, self.at = key
        self.b, self.kind = Builder(name, target, math), register_type(self.dtype)
        self.width = target.lanes(itemsize(self.kind))

    def build(self) -> Kernel:
        b = self.b
        with b.entry():
            self.columns, self.bags = b.param(0), b.param(1)
            self.source, self.index, self.starts, self.out = (b.pointer(i) for i in range(4))
            with b.loop(b.lo, b.hi) as task:
                if self.role == "sum":
                    rows = self.rows(task.index)
                    self.blocks(
                        b.const(0, "i64"), self.columns, partial(self.sum, task.index, rows)
                    )
                else:
                    lo = task.index * BLOCK
                    self.place(lo, b.min(lo + BLOCK, self.columns))
        return b.kernel

    def rows(self, bag: Value) -> tuple[Value, Value]:
        """Where in the index a bag begins and ends."""
        return self.b.load(self.starts, bag, "i64"), self.b.load(self.starts, bag + 1, "i64")

    def row(self, j: Value) -> Value:
        return self.b.convert(self.b.load(self.index, j, self.at), "i64") * self.columns

    def blocks(self, lo: Value, hi: Value, body: Callable[[Value, int, int], None]) -> None:
        """`body(column, vectors, width)` over [lo, hi): many vectors at once, then one, then none."""
        b = self.b
        for vectors, width in ((VECTORS, self.width), (1, self.width), (1, 1)):
            step = vectors * width
            end = lo + ((hi - lo) & -step)
            with b.loop(lo, end, step) as c:
                body(c.index, vectors, width)
            lo = end

    def sum(self, bag: Value, rows: tuple, column: Value, vectors: int, width: int) -> None:
        b = self.b
        places = [column + u * width for u in range(vectors)]
        with b.loop(*rows, 1, [b.const(0, self.kind, width)] * vectors) as j:
            at = self.row(j.index)
            added = [b.load(self.source, at + p, self.dtype, width) for p in places]
            j.next(*(combine(b, "add", *p) for p in zip(j.carry, added, strict=True)))
        for p, total in zip(places, j.carry, strict=True):
            b.store(self.out, bag * self.columns + p, total, self.store_dtype)

    def place(self, lo: Value, hi: Value) -> None:
        b = self.b
        with b.loop(0, self.bags) as bag, b.loop(*self.rows(bag.index)) as j:
            to, of = self.row(j.index), bag.index * self.columns

            def add(column: Value, vectors: int, width: int) -> None:
                for u in range(vectors):
                    c = column + u * width
                    old = b.load(self.out, to + c, self.store_dtype, width)
                    v = b.load(self.source, of + c, self.dtype, width)
                    b.store(self.out, to + c, combine(b, "add", old, v), self.store_dtype)

            self.blocks(lo, hi, add)


def _build(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    return _Bag(key, name, target, math).build()


def plan_bag(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple[list[Launch], list[int]]:
    """`(table, index, starts) -> sums`, or `(gradient, index, starts) -> table`."""
    launches, temporaries, buffers = [], [], [0, 1, 2, 3]
    for i, x in enumerate(ins):
        if not x.is_contiguous:
            flat = layout(x.dtype, x.shape)
            buffers[i] = len(ins) + 1 + len(temporaries)
            temporaries.append(flat.nbytes)
            launches.append(copy_launch(x, x.dtype.code, x.shape, flat.strides, i, buffers[i]))
    (out,), code = outs, ins[0].dtype.code
    columns, bags = out.shape[1], max(ins[2].shape[0] - 1, 0)
    if op.role == "sum":
        key = ("bag", "sum", code, code, ins[1].dtype.code)
        build, grain = partial(_build, key), max(1, GRAIN_WORK // max(columns * 8, 1))
        meta = [columns, bags]
        return [
            *launches,
            Launch(key, build, meta, buffers, bags, grain, False, "bag"),
        ], temporaries
    work = out
    if (
        out.dtype.kind == "f" and out.dtype.itemsize == 2
    ):  # 16-bit sums are kept in f32 until all rows are in
        work = layout(float32, out.shape)
        buffers[3] = len(ins) + 1 + len(temporaries)
        temporaries.append(work.nbytes)
    key = ("bag", "place", code, work.dtype.code, ins[1].dtype.code)
    tasks = -(-columns // BLOCK)
    launches.append(filled(work.shape, Access(work.dtype.code, work.strides), buffers[3], 0))
    launches.append(
        Launch(key, partial(_build, key), [columns, bags], buffers, tasks, 1, False, "bag")
    )
    if work is not out:
        launches.append(copy_launch(work, out.dtype.code, out.shape, out.strides, buffers[3], 3))
    return launches, temporaries
