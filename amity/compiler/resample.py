"""Resizing along one dimension after another: every result element is a weighted sum of few others.

Which elements, and their weights, come in tables that travel in the kernel's `meta` words.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from amity.core.dtype import float32, float64, uint8
from amity.core.layout import Layout, layout
from amity.core.shape import numel
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .group import copy_launch
from .plan import GRAIN_WORK, Code, Launch

HEAD = 6  # words before the tables
# (taps that are written out or 0 for any number, whether they have weights), for tables of any sizes
FORMS = ((1, False), (2, True), (4, True), (0, False), (0, True))


class ResampleKey(NamedTuple):
    """What a kernel's code depends on."""

    source: str
    result: str
    taps: int  # as many for every element, or 0 for a count of its own
    is_inner: bool  # whether the dimension is the innermost one
    has_weights: bool
    is_rounded: bool


class _Resample:
    """Writes the kernel of one key."""

    def __init__(self, key: ResampleKey, name: str, target: Target, math: Callable) -> None:
        self.b, self.key = Builder(name, target, math), key
        self.kind = "f64" if register_type(key.source) == "f64" else "f32"
        self.width = target.lanes(itemsize(self.kind))

    def build(self) -> Kernel:
        b = self.b
        with b.entry():
            self.n, self.out, self.inner, self.taps, self.weights, self.counts = (
                b.param(i) for i in range(HEAD)
            )
            self.x, self.y = b.pointer(0), b.pointer(1)
            with b.loop(b.lo, b.hi) as unit:
                (self.along if self.key.is_inner else self.across)(unit.index)
        return b.kernel

    def place(self, tap: Value, at: Value, width: int = 1) -> Value:
        i = self.b.load(self.b.meta, tap * self.out + at + 2 * HEAD, "i32", width)
        return self.b.convert(i, "i64")

    def weight(self, tap: Value, at: Value, width: int = 1) -> Value:
        return self.b.load(self.b.meta, self.weights + tap * self.out + at, self.kind, width)

    def read(self, at: Value, width: int, mask: Value | None = None) -> Value:
        return self.b.convert(self.b.load(self.x, at, self.key.source, width, mask), self.kind)

    def added(self, total: Value | None, v: Value, weight: Value | None) -> Value:
        if weight is None:
            return v if total is None else total + v
        return v * weight if total is None else self.b.fma(v, weight, total)

    def write(self, at: Value, v: Value) -> None:
        b = self.b
        if self.key.is_rounded:
            v = b.convert(b.min(b.max(b.math("floor", v + 0.5), 0.0), 255.0), "i32")
        b.store(self.y, at, b.convert(v, self.key.result), self.key.result)

    # -- a dimension with others inside it: rows are added up
    def across(self, unit: Value) -> None:
        b, zero = self.b, self.b.const(0, "i64")
        plane = unit // self.out
        at = unit - plane * self.out
        source, result = plane * self.n * self.inner, unit * self.inner
        if self.key.taps:
            taps = [b.const(k, "i64") for k in range(self.key.taps)]
            rows = [source + self.place(k, at) * self.inner for k in taps]
            weights = [self.weight(k, at) if self.key.has_weights else None for k in taps]

            def vector(c: Value, width: int) -> None:
                total = None
                for row, w in zip(rows, weights, strict=True):
                    total = self.added(total, self.read(row + c, width), w)
                self.write(result + c, total)
        else:
            count = b.convert(b.load(b.meta, self.counts + at, "i32"), "i64")

            def vector(c: Value, width: int) -> None:
                with b.loop(0, count, 1, [b.const(0, self.kind, width)]) as k:
                    row = source + self.place(k.index, at) * self.inner
                    w = self.weight(k.index, at) if self.key.has_weights else None
                    k.next(self.added(k.carry[0], self.read(row + c, width), w))
                self.write(result + c, k.carry[0])

        self.vectors(zero, self.inner, vector)

    # -- the innermost dimension: results next to each other, each from its own places
    def along(self, unit: Value) -> None:
        b = self.b
        source, result = unit * self.n, unit * self.out

        def tap(k: Value, at: Value, width: int, total: Value | None) -> Value:
            i = self.place(k, at, width)
            w = self.weight(k, at, width) if self.key.has_weights else None
            mask = None if self.key.taps else i >= 0
            return self.added(total, self.read(b.splat(source, width) + i, width, mask), w)

        def vector(at: Value, width: int) -> None:
            if self.key.taps:
                total = None
                for k in range(self.key.taps):
                    total = tap(b.const(k, "i64"), at, width, total)
            else:
                with b.loop(0, self.taps, 1, [b.const(0, self.kind, width)]) as k:
                    k.next(tap(k.index, at, width, k.carry[0]))
                total = k.carry[0]
            self.write(result + at, total)

        self.vectors(b.const(0, "i64"), self.out, vector)

    def vectors(self, lo: Value, hi: Value, body: Callable[[Value, int], None]) -> None:
        b, w = self.b, self.width
        whole = hi & b.const(-w, "i64")
        with b.loop(lo, whole, w) as v:
            body(v.index, w)
        with b.loop(whole, hi) as v:
            body(v.index, 1)


def _build(key: ResampleKey, name: str, target: Target, math: Callable) -> Kernel:
    return _Resample(key, name, target, math).build()


def _form(index: np.ndarray, weight: np.ndarray) -> tuple[int, bool]:
    """The form of a table."""
    most, has_weights = index.shape[1], bool((weight[index >= 0] != 1).any())
    if (index >= 0).all():
        for form in ((most, has_weights), (most, True)):
            if form in FORMS:
                return form
    return 0, has_weights


def _code(key: ResampleKey) -> Code:
    return Code(("resample", *key), partial(_build, key), "resample")


def _family(source: Layout, work: Layout, result: Layout) -> Iterator[Code]:
    """The kernels of all tables, for each dimension as the first, a middle, the last or the only."""
    a, w, z = (x.dtype.code for x in (source, work, result))
    for of, to in {(a, w), (w, w), (w, z), (a, z)}:
        for is_inner in (False, True):
            for taps, has_weights in FORMS:
                yield _code(ResampleKey(of, to, taps, is_inner, has_weights, to == "u8"))


def _launch(
    source: Layout, result: Layout, axis: int, table: Any, buffers: Sequence[Any], family: partial
) -> Launch:
    """One dimension of row-major tensors resized."""
    index, weight = table
    out, most = index.shape
    inner = numel(source.shape[axis + 1 :])
    codes, is_rounded = (source.dtype.code, result.dtype.code), result.dtype is uint8
    taps, has_weights = _form(index, weight)
    code = _code(ResampleKey(*codes, taps, inner == 1, has_weights, is_rounded))
    kind = np.float64 if source.dtype is float64 else np.float32
    parts = [index.T.astype(np.int32), weight.T.astype(kind), (index >= 0).sum(1).astype(np.int32)]
    words, starts = array("q"), []
    for part in parts:
        raw = np.ascontiguousarray(part).tobytes()
        starts.append((HEAD + len(words)) * 8 // part.itemsize)
        words.frombytes(raw + bytes(-len(raw) % 8))
    meta = [source.shape[axis], out, inner, most, starts[1], starts[2], *words]
    outer = numel(result.shape[:axis])
    units, work = (outer, out) if inner == 1 else (outer * out, inner)
    grain = max(1, GRAIN_WORK // max(work * most, 1))
    units = units if result.numel else 0
    kin = tuple([x.dtype.code for x in family.args])
    return Launch(*code[:2], meta, buffers, units, grain, False, "resample", family, kin)


def plan_resample(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """The spatial dimensions resized one by one, the one that leaves least to do first."""
    (x,), (y,) = ins, outs
    work = (
        x.dtype if x.dtype in (float64, uint8) else float32
    )  # bytes are rounded after each dimension
    launches, temporaries = [], []

    def new(lay: Layout) -> int:
        temporaries.append(max(lay.nbytes, 1))
        return 1 + len(temporaries)

    source, have = 0, x
    if not x.is_contiguous:
        have = layout(x.dtype, x.shape)
        source = new(have)
        launches.append(copy_launch(x, x.dtype.code, x.shape, have.strides, 0, source))
    first = x.ndim - len(op.size)
    family = partial(_family, x, layout(work, ()), y)
    axes = [d for d in range(first, x.ndim) if not op.is_kept(d - first)] or [x.ndim - 1]
    if work is uint8:
        axes.reverse()
    else:
        axes.sort(key=lambda d: y.shape[d] / max(x.shape[d], 1))
    for i, d in enumerate(axes):
        is_last = i == len(axes) - 1
        shape = [*have.shape[:d], y.shape[d], *have.shape[d + 1 :]]
        to = layout(y.dtype if is_last else work, shape)
        direct = is_last and y.is_contiguous
        place = 1 if direct else new(to)
        launches.append(
            _launch(have, to, d, op.table(d - first, work is not float64), [source, place], family)
        )
        source, have = place, to
    if source != 1:
        launches.append(copy_launch(have, y.dtype.code, y.shape, y.strides, source, 1))
    return launches, temporaries
