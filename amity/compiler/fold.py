"""Columns of sliding blocks added up into images: one plane a task, block element by block element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from amity.core.dtype import float32
from amity.core.layout import Layout, layout
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .group import copy_launch
from .plan import GRAIN_WORK, Launch

WORDS = 12  # for height then width: size, kernel, dilation, padding, stride, blocks


class _Fold:
    """Writes the kernel for a dtype, and for blocks that are side by side in memory or not."""

    def __init__(self, key: tuple, name: str, target: Target, math: Callable) -> None:
        _, self.source, self.result, self.is_unit = key
        self.b = Builder(name, target, math)
        self.kind = register_type(self.result)
        self.width = target.lanes(itemsize(self.kind))

    def build(self) -> Kernel:
        b = self.b
        with b.entry():
            words = [b.param(i) for i in range(WORDS)]
            self.high, self.wide = words[:6], words[6:]
            self.x, self.y = b.pointer(0), b.pointer(1)
            kernel = self.high[1] * self.wide[1]
            with b.loop(b.lo, b.hi) as plane:
                image = plane.index * self.high[0] * self.wide[0]
                self.clear(image)
                with b.loop(0, self.high[1]) as i, b.loop(0, self.wide[1]) as j:
                    element = plane.index * kernel + i.index * self.wide[1] + j.index
                    self.add(element * self.high[5] * self.wide[5], image, i.index, j.index)
        return b.kernel

    def clear(self, image: Value) -> None:
        b, w, n = self.b, self.width, self.high[0] * self.wide[0]
        with b.loop(0, n & -w, w) as c:
            b.store(self.y, image + c.index, b.const(0, self.kind, w), self.result)
        with b.loop(n & -w, n) as c:
            b.store(self.y, image + c.index, b.const(0, self.kind), self.result)

    def reach(self, words: Sequence[Value], tap: Value) -> tuple[Value, Value, Value]:
        """Which blocks have this element inside the image, and where the first block's lies."""
        b, zero = self.b, self.b.const(0, "i64")
        size, _, dilation, padding, stride, blocks = words
        start = tap * dilation - padding
        first = (b.max(zero - start, zero) + stride - 1) // stride
        last = b.min((b.max(size - start, zero) + stride - 1) // stride, blocks)
        return start, b.min(first, blocks), last

    def add(self, source: Value, image: Value, i: Value, j: Value) -> None:
        b, w = self.b, self.width if self.is_unit else 1
        top, low, high = self.reach(self.high, i)
        left, first, last = self.reach(self.wide, j)
        stride = self.b.const(1, "i64") if self.is_unit else self.wide[4]
        with b.loop(low, high) as row:
            to = image + (top + row.index * self.high[4]) * self.wide[0] + left
            of = source + row.index * self.wide[5]

            def step(at: Value, width: int) -> None:
                place = to + at * stride
                v = b.convert(b.load(self.x, of + at, self.source, width), self.kind)
                have = b.load(self.y, place, self.result, width)
                b.store(self.y, place, have | v if self.kind == "bool" else have + v, self.result)

            whole = first + (b.max(last - first, 0) & -w)
            if w > 1:
                with b.loop(first, whole, w) as c:
                    step(c.index, w)
            with b.loop(whole if w > 1 else first, last) as c:
                step(c.index, 1)


def _build(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    return _Fold(key, name, target, math).build()


def plan_fold(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """Blocks [N, C * kernel, blocks] added up into images [N, C, H, W]."""
    (x,), (y,) = ins, outs
    launches, temporaries = [], []

    def new(lay: Layout) -> int:
        temporaries.append(max(lay.nbytes, 1))
        return 1 + len(temporaries)

    source = 0
    if not x.is_contiguous:
        flat = layout(x.dtype, x.shape)
        source = new(flat)
        launches.append(copy_launch(x, x.dtype.code, x.shape, flat.strides, 0, source))
    is_half = y.dtype.kind == "f" and y.dtype.itemsize == 2
    is_direct = y.is_contiguous and not is_half
    to = y if is_direct else layout(float32 if is_half else y.dtype, y.shape)
    place = 1 if is_direct else new(to)
    meta = []
    for d, blocks in enumerate(op.blocks):
        meta += [op.size[d], op.kernel[d], op.dilation[d], op.padding[d], op.stride[d], blocks]
    key = ("fold", x.dtype.code, to.dtype.code, op.stride[1] == 1)
    planes = y.shape[0] * y.shape[1]
    grain = max(1, GRAIN_WORK // max(x.numel // max(planes, 1), 1))
    fold = Launch(key, partial(_build, key), meta, [source, place], planes, grain, False, "fold")
    launches.append(fold)
    if not is_direct:
        launches.append(copy_launch(to, y.dtype.code, y.shape, y.strides, place, 1))
    return launches, temporaries
