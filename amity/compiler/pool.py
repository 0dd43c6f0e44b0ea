"""Pooling: a search or a sum over the windows of a plane, and gradients sent back into the plane.

A task is one plane: one channel of one sample. Windows that lie wholly inside along the innermost
dimension are done in vectors, those over an edge one at a time. Gradients clear the plane and then
add to it window by window, so overlapping windows need no search for who reached an element.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from amity.core.layout import Layout, layout
from amity.core.shape import numel
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .group import copy_launch
from .plan import GRAIN_WORK, Launch
from .pool_rows import lowest, plan_pool_rows, serves

AXIS = ("size", "out", "kernel", "stride", "pad", "dilation", "x", "y")  # words of one dimension
PLANE = (
    "channels",
    "x_batch",
    "x_plane",
    "y_batch",
    "y_plane",
    "inside_from",
    "inside_to",
    "divisor",
)
MOST_LANES = 32  # of pairs, a vector of twice as many is read
STRIDED, UNIT, PAIRS = 0, 1, 2  # how far apart the elements are that neighbouring windows read


class PoolKey(NamedTuple):
    """What a kernel's code depends on; all sizes and strides are read when it runs."""

    role: str  # max, index, mean; max_grad, mean_grad
    dtype: str
    rank: int
    apart: int
    is_dense: bool  # results are written with unit stride
    width: int
    has_padding: bool


class Reach(NamedTuple):
    """One window along one dimension: where it starts, and which of its taps are inside."""

    start: Value
    first: Value
    last: Value
    count: Value  # what a mean over this dimension divides by


class Pool:
    """Writes the kernel of one key."""

    def __init__(self, name: str, target: Target, key: PoolKey, math: Callable) -> None:
        self.b, self.key = Builder(name, target, math), key
        self.kind = register_type(key.dtype)
        self.is_grad = key.role.endswith("_grad")

    def build(self) -> Kernel:
        b, key = self.b, self.key
        with b.entry():
            words = [b.param(i) for i in range(len(AXIS) * key.rank + len(PLANE))]
            it = iter(words)
            self.axes = [{name: next(it) for name in AXIS} for _ in range(key.rank)]
            self.plane = {name: next(it) for name in PLANE}
            pointers = [b.pointer(i) for i in range(3 if key.role == "max_grad" else 2)]
            with b.loop(b.lo, b.hi) as loop:
                sample = loop.index // self.plane["channels"]
                channel = loop.index - sample * self.plane["channels"]
                x = sample * self.plane["x_batch"] + channel * self.plane["x_plane"]
                y = sample * self.plane["y_batch"] + channel * self.plane["y_plane"]
                if self.is_grad:
                    g, *source, self.result = pointers
                    self.g = self.moved(g, y)
                    self.x = self.moved(source[0], x) if source else None
                    # the gradient is laid out row by row, which `x` may not be
                    self.result = self.moved(self.result, loop.index * self.whole())
                    self.clear()
                else:
                    self.x = self.moved(pointers[0], x)
                    self.result = self.moved(pointers[1], y, self.result_dtype)
                self.rows(0, b.const(0, "i64"), [])
        return b.kernel

    @property
    def result_dtype(self) -> str:
        return "i64" if self.key.role == "index" else self.key.dtype

    def moved(self, pointer: Value, elements: Value, dtype: str | None = None) -> Value:
        return self.b.offset(pointer, elements * itemsize(dtype or self.key.dtype))

    def whole(self) -> Value:
        """Elements of one plane of the input."""
        total = self.axes[0]["size"]
        for axis in self.axes[1:]:
            total = total * axis["size"]
        return total

    def clear(self) -> None:
        b, width, total = self.b, self.b.target.lanes(itemsize(self.kind)), self.whole()
        with b.loop(0, total & -width, width) as loop:
            b.store(self.result, loop.index, b.const(0, self.kind, width), self.key.dtype)
        with b.loop(total & -width, total) as loop:
            b.store(self.result, loop.index, b.const(0, self.kind), self.key.dtype)

    # -- windows
    def reach(self, axis: dict[str, Value], at: Value) -> Reach:
        """The window at position `at` along a dimension."""
        b, taps, step = self.b, axis["kernel"], axis["dilation"]
        zero = b.const(0, "i64")
        start = at * axis["stride"] - axis["pad"]
        first = b.min((b.max(zero - start, zero) + step - 1) // step, taps)
        last = b.max(b.min((b.max(axis["size"] - start, zero) + step - 1) // step, taps), first)
        end = b.min(start + taps, axis["size"] + axis["pad"])
        return Reach(start, first, last, end - start if self.key.has_padding else last - first)

    def rows(self, depth: int, y: Value, reaches: Sequence[Reach]) -> None:
        """All windows, row by row; `y` is where a row's first window writes."""
        b, axis = self.b, self.axes[depth]
        if depth == self.key.rank - 1:
            self.row(y, reaches)
            return
        with b.loop(0, axis["out"]) as loop:
            reach = self.reach(axis, loop.index)
            self.rows(depth + 1, y + loop.index * axis["y"], [*reaches, reach])

    def row(self, y: Value, reaches: Sequence[Reach]) -> None:
        """The windows of one row: over the left edge, inside, over the right edge."""
        b, axis, width = self.b, self.axes[-1], self.key.width
        one = self.send if self.is_grad else self.gather
        low, high = self.plane["inside_from"], self.plane["inside_to"]

        def edge(lo: Value | int, hi: Value) -> None:
            with b.loop(lo, hi) as loop:
                one(y, loop.index, 1, None, [*reaches, self.reach(axis, loop.index)])

        if self.key.rank == 1 and width == 1:
            edge(0, axis["out"])  # no edge is worth code of its own
            return
        edge(0, low)
        with b.loop(low, high, width) as loop:
            left = high - loop.index if width > 1 else None
            start = loop.index * axis["stride"] - axis["pad"]
            taps = axis["kernel"]
            one(y, loop.index, width, left, [*reaches, Reach(start, b.const(0, "i64"), taps, taps)])
        edge(high, axis["out"])

    def taps(self, reaches: Sequence[Reach], carry: Sequence[Value], body: Callable) -> list[Value]:
        """`body(x offset, plane position, carried)` over the taps of a window that are inside."""
        b = self.b

        def nest(depth: int, x: Value, flat: Value, carry: Sequence[Value]) -> Sequence[Value]:
            if depth == len(reaches):
                return body(x, flat, carry)
            axis, reach = self.axes[depth], reaches[depth]
            with b.loop(reach.first, reach.last, 1, carry) as loop:
                at = reach.start + loop.index * axis["dilation"]
                inner = nest(depth + 1, x + at * axis["x"], flat * axis["size"] + at, loop.carry)
                loop.next(*inner)
            return loop.carry

        zero = b.const(0, "i64")
        return list(nest(0, zero, zero, carry))

    def lanes(self, x: Value, width: int, left: Value | None) -> Value:
        """What the tap at `x` of `width` neighbouring windows reads; `left` of them are wanted."""
        b, dtype = self.b, self.key.dtype
        if left is None:
            return b.load(self.x, x, dtype)
        if self.key.apart == STRIDED:
            step = self.axes[-1]["stride"] * self.axes[-1]["x"]
            index = b.splat(x, width) + b.iota(width) * b.splat(step, width)
            return b.load(self.x, index, dtype, width, b.iota(width) < b.splat(left, width))
        wide = width * self.key.apart
        known = b.iota(wide) < b.splat((left - 1) * self.key.apart + 1, wide)
        loaded = b.load(self.x, x, dtype, wide, known)
        return loaded if wide == width else b.shuffle(loaded, loaded, range(0, wide, 2))

    # -- forward
    def gather(self, y: Value, at: Value, width: int, left: Value | None, reaches: list) -> None:
        """The results of `width` windows from `at` on."""
        b, role = self.b, self.key.role
        if role == "mean":
            zero = b.const(0, self.kind, width)

            def add(x: Value, flat: Value, carry: Sequence[Value]) -> Sequence[Value]:
                return (carry[0] + self.lanes(x, width, left),)

            result = self.taps(reaches, [zero], add)[0] / b.splat(self.share(reaches), width)
        else:
            best, where = self.largest(reaches, width, left)
            result = where if role == "index" else best
        place = y + at * self.axes[-1]["y"]
        if left is None:
            b.store(self.result, place, result, self.result_dtype)
            return
        index = place
        if not self.key.is_dense:
            step = b.splat(self.axes[-1]["y"], width)
            index = b.splat(place, width) + b.iota(width) * step
        mask = b.iota(width) < b.splat(left, width)
        b.store(self.result, index, result, self.result_dtype, mask)

    def largest(self, reaches: list, width: int, left: Value | None) -> tuple[Value, Value]:
        """The largest element of a window, a NaN above all, and where in the plane it is."""
        b = self.b
        has_place = self.key.role != "max"
        start = [b.const(lowest(self.kind), self.kind, width)]
        place = "i64" if width == 1 else "i32"  # within one plane
        start += [b.const(-1, place, width)] if has_place else []

        def compare(x: Value, flat: Value, carry: Sequence[Value]) -> Sequence[Value]:
            v = self.lanes(x, width, left)
            better = v > carry[0]
            if self.kind[0] == "f":
                better = better | v.ne(v)
            if not has_place:
                return (b.select(better, v, carry[0]),)
            better = better | (carry[1] < 0)
            here = b.splat(b.convert(flat, place), width)
            return b.select(better, v, carry[0]), b.select(better, here, carry[1])

        found = self.taps(reaches, start, compare)
        return found[0], found[-1]

    def share(self, reaches: Sequence[Reach]) -> Value:
        """What the sum over a window is divided by."""
        b, total = self.b, reaches[0].count
        for reach in reaches[1:]:
            total = total * reach.count
        divisor = self.plane["divisor"]
        return b.convert(b.select(divisor.eq(0), total, divisor), self.kind)

    # -- backward
    def send(self, y: Value, at: Value, width: int, left: Value | None, reaches: list) -> None:
        """A window's gradient, to where its largest element was or shared out to all."""
        b = self.b
        if width > 1:
            self.send_many(y, at, width, left, reaches)
            return
        g = b.load(self.g, y + at * self.axes[-1]["y"], self.key.dtype)
        if self.key.role == "max_grad":
            where = self.largest(reaches, 1, None)[1]
            with b.branch(where >= 0):
                self.add(where, g)
            return
        g = g / self.share(reaches)

        def spread(x: Value, flat: Value, carry: Sequence[Value]) -> Sequence[Value]:
            self.add(flat, g)
            return ()

        self.taps(reaches, [], spread)

    def send_many(self, y: Value, at: Value, width: int, left: Value, reaches: list) -> None:
        """The gradients of `width` windows: all places are found at once, then served in turn."""
        b, axis = self.b, self.axes[-1]
        found = self.largest(reaches, width, left)[1]
        step = b.splat(b.convert(axis["stride"], "i32"), width)
        b.store(b.scratch, 0, found + b.iota(width, "i32") * step, "i32")
        with b.loop(0, b.min(left, width)) as lane:
            g = b.load(self.g, y + (at + lane.index) * axis["y"], self.key.dtype)
            self.add(b.convert(b.load(b.scratch, lane.index, "i32"), "i64"), g)

    def add(self, at: Value, g: Value) -> None:
        b, dtype = self.b, self.key.dtype
        b.store(self.result, at, b.load(self.result, at, dtype) + g, dtype)


def build_pool(key: PoolKey, name: str, target: Target, math: Callable) -> Kernel:
    """The kernel of a key."""
    return Pool(name, target, key, math).build()


def plan_pool(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple[list[Launch], list[int]]:
    """Pooling or its gradient, as `op.role` says: `x -> y`, `(g, x) -> gx` or `g -> gx`."""
    is_grad = op.role.endswith("_grad")
    x, y = (ins[-1], ins[0]) if is_grad else (ins[0], outs[0])
    plane = outs[0] if is_grad else x
    if plane.numel == 0 or y.numel == 0:
        return [], []
    if not is_grad and serves(op, x, y):
        return plan_pool_rows(op, x, y), []
    rank = len(op.kernel)
    sizes = zip(plane.shape[2:], y.shape[2:], op.kernel, op.stride, op.padding, op.dilation)
    x_strides = x.strides if op.role != "mean_grad" else plane.strides
    meta = []
    for i, row in enumerate(sizes, 2):
        meta += [*row, x_strides[i], y.strides[i]]
    size, out, kernel, stride, pad, dilation, x_step, y_step = meta[-len(AXIS) :]
    inside_from = min(out, -(-pad // stride))
    inside_to = min(out, max(inside_from, (size - dilation * (kernel - 1) - 1 + pad) // stride + 1))
    meta += [plane.shape[1], *x_strides[:2], *y.strides[:2], inside_from, inside_to]
    meta.append(getattr(op, "divisor", 0))
    apart = x_step * stride if x_step * stride in (UNIT, PAIRS) else STRIDED
    width = 1
    if op.role in ("max", "mean", "max_grad"):
        width = min(MOST_LANES, target.lanes(itemsize(register_type(x.dtype.code))))
    key = PoolKey(
        op.role, plane.dtype.code, rank, apart if width > 1 else STRIDED, y_step == 1, width,
        getattr(op, "has_padding", False),
    )  # fmt: skip
    grid = plane.shape[0] * plane.shape[1]
    grain = max(1, GRAIN_WORK * grid // (numel(y.shape) * numel(op.kernel)))
    order, then, temporaries = list(range(len(ins) + 1)), [], []
    rows = layout(plane.dtype, plane.shape)
    if is_grad and plane.strides != rows.strides:
        order[-1] = len(ins) + 1
        then = [copy_launch(rows, key.dtype, rows.shape, plane.strides, order[-1], len(ins))]
        temporaries = [rows.nbytes]
    build = partial(build_pool, key)
    has_scratch = op.role == "max_grad"
    launch = Launch(("pool", *key), build, meta, order, grid, grain, has_scratch, "pool")
    return [launch, *then], temporaries
