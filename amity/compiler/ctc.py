"""Connectionist temporal classification: forward variables, and gradients through backward ones.

A task is one sequence, vectors run along the places of its path. Rows of variables have margins of
impossible places, so that a step needs no look at the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from amity.core.layout import Layout, layout
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .group import copy_launch
from .plan import Launch

MARGIN = 2  # places that a step looks back, or ahead
IMPOSSIBLE = -1e30


class _Ctc:
    """Writes the forward kernel or the gradient's."""

    def __init__(self, key: tuple, name: str, target: Target, math: Callable) -> None:
        _, self.role, self.dtype, self.variables = key
        self.b = Builder(name, target, math)
        self.kind = register_type(self.dtype)
        self.width = target.lanes(itemsize(self.kind))

    def build(self) -> Kernel:
        b = self.b
        with b.entry():
            self.times, self.batch, self.classes, self.size = (b.param(i) for i in range(4))
            names = ["x", "path", "skip", "first", "steps", "lengths"]
            names += ["loss", "alpha"] if self.role == "forward" else ["loss", "alpha", "g", "grad"]
            self.at = {name: b.pointer(i) for i, name in enumerate(names)}
            with b.loop(b.lo, b.hi) as n:
                self.n = n.index
                self.places = self.n * (self.size + MARGIN)
                self.rows = self.n * self.times * (self.size + MARGIN)
                self.steps = b.load(self.at["steps"], self.n, "i64")
                self.length = b.load(self.at["lengths"], self.n, "i64")
                (self.forward if self.role == "forward" else self.gradient)()
        return b.kernel

    def emitted(self, t: Value, s: Value) -> Value:
        """The log probability at time t of the label at each place from s."""
        b = self.b
        label = b.load(self.at["path"], self.places + s, "i64", self.width)
        start = (t * self.batch + self.n) * self.classes
        return b.load(self.at["x"], b.splat(start, self.width) + label, self.dtype)

    def joined(self, pointer: Value, at: Value, step: int, skip: Value) -> Value:
        """The variables at a place, its neighbour and, where it may be, the next but one."""
        b, w, kind = self.b, self.width, self.kind
        one, two, three = (b.load(pointer, at + i * step, self.variables, w) for i in range(3))
        three = b.select(skip, three, b.const(IMPOSSIBLE, kind, w))
        top = b.max(b.max(one, two), three)
        total = None
        for v in (one, two, three):
            e = b.math("exp", v - top)
            total = e if total is None else total + e
        return b.math("log", total) + top

    def margin(self, pointer: Value, at: Value) -> None:
        for i in range(MARGIN):
            b = self.b
            b.store(pointer, at + i, b.const(IMPOSSIBLE, self.kind), self.variables)

    # -- forward
    def forward(self) -> None:
        b, alpha, wide = self.b, self.at["alpha"], self.size + MARGIN
        self.margin(alpha, self.rows)
        with b.loop(0, self.size, self.width) as s:
            v = b.load(self.at["first"], self.places + s.index, self.variables, self.width)
            e = self.emitted(b.const(0, "i64"), s.index)
            v = v + b.select(self.steps > 0, e, b.const(0, self.kind, self.width))
            b.store(alpha, self.rows + MARGIN + s.index, v, self.variables)
        with b.loop(1, self.steps) as t:
            row = self.rows + t.index * wide
            self.margin(alpha, row)
            with b.loop(0, self.size, self.width) as s:
                at = row + MARGIN + s.index
                skip = b.load(self.at["skip"], self.places + s.index, "bool", self.width)
                v = self.joined(alpha, at - wide, -1, skip) + self.emitted(t.index, s.index)
                b.store(alpha, at, v, self.variables)
        end = self.rows + b.max(self.steps - 1, 0) * wide + MARGIN + self.length * 2
        last = b.load(alpha, end, self.variables)
        before = b.select(self.length > 0, b.load(alpha, end - 1, self.variables), IMPOSSIBLE)
        top = b.max(last, before)
        total = b.math("log", b.math("exp", last - top) + b.math("exp", before - top)) + top
        b.store(self.at["loss"], self.n, -total, self.dtype)

    # -- gradient
    def gradient(self) -> None:
        """Labels get minus the likelihood of all paths through them."""
        b, wide, size = self.b, self.size + MARGIN, itemsize(self.variables)
        beta, shares = b.scratch, b.offset(b.scratch, wide * (2 * size))
        with b.loop(0, self.times) as t:
            start = (t.index * self.batch + self.n) * self.classes
            with b.loop(0, self.classes) as c:
                b.store(self.at["grad"], start + c.index, b.const(0, self.kind), self.dtype)
        for row in (0, 1):
            self.margin(beta, wide * row + self.size)
        with b.loop(0, self.steps) as back:
            t = self.steps - 1 - back.index
            here = (back.index & 1) * wide
            there = wide - here
            with b.loop(0, self.size, self.width) as s:
                e = self.emitted(t, s.index)
                v = self.ends(s.index)
                ahead = b.load(self.at["skip"], self.places + MARGIN + s.index, "bool", self.width)
                later = self.joined(beta, there + s.index, 1, ahead)
                v = b.select(back.index.eq(0), v, later) + e
                b.store(beta, here + s.index, v, self.variables)
                self.share(shares, t, s.index, v - e)
            self.send(shares, t)

    def ends(self, s: Value) -> Value:
        """0 at the last label and the blank behind it, where paths end."""
        b, w = self.b, self.width
        place = b.splat(s, w) + b.iota(w)
        last = b.splat(self.length * 2, w)
        before = (place + 1).eq(last) & b.splat(self.length > 0, w)
        zero = b.const(0, self.kind, w)
        return b.select(place.eq(last) | before, zero, b.const(IMPOSSIBLE, self.kind, w))

    def share(self, shares: Value, t: Value, s: Value, rest: Value) -> None:
        """How likely paths go through each place, times the gradient of the loss."""
        b, w = self.b, self.width
        row = self.rows + t * (self.size + MARGIN) + MARGIN
        alpha = b.load(self.at["alpha"], row + s, self.variables, w)
        loss = b.splat(b.load(self.at["loss"], self.n, self.dtype), w)
        g = b.splat(b.load(self.at["g"], self.n, self.dtype), w)
        share = b.math("exp", b.min(alpha + rest + loss, b.const(0, self.kind, w))) * g
        b.store(shares, s, share, self.variables)

    def send(self, shares: Value, t: Value) -> None:
        b, grad = self.b, self.at["grad"]
        start = (t * self.batch + self.n) * self.classes
        with b.loop(0, self.length * 2 + 1) as s:
            at = start + b.load(self.at["path"], self.places + s.index, "i64")
            share = b.load(shares, s.index, self.variables)
            b.store(grad, at, b.load(grad, at, self.dtype) - share, self.dtype)


def _build(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    return _Ctc(key, name, target, math).build()


def plan_ctc(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """The loss and the forward variables, or the gradient of the log probabilities."""
    launches, temporaries, buffers = [], [], []
    for place, m in enumerate(ins):
        if m.is_contiguous:
            buffers.append(place)
            continue
        flat = layout(m.dtype, m.shape)
        temporaries.append(max(flat.nbytes, 1))
        buffers.append(len(ins) + len(outs) + len(temporaries) - 1)
        launches.append(copy_launch(m, m.dtype.code, m.shape, flat.strides, place, buffers[-1]))
    x, path, first = ins[0], ins[1], ins[3]
    role = "forward" if len(outs) == 2 else "gradient"
    key = ("ctc", role, x.dtype.code, first.dtype.code)
    buffers += range(len(ins), len(ins) + len(outs))
    meta = [*x.shape, path.shape[1] - MARGIN]
    tasks = x.shape[1] if x.numel else 0
    launches.append(Launch(key, partial(_build, key), meta, buffers, tasks, 1, True, "ctc"))
    return launches, temporaries
