"""Running results: one pass along a dimension, rows in parallel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from amity.core.layout import Layout
from amity.core.shape import numel
from amity.ir.kernel import Builder, Kernel, register_type
from amity.ir.target import Target

from .plan import GRAIN_WORK, Launch
from .reduction import COMBINE


def build_scan(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    """Vectors over neighbouring rows where there are enough of them, else one element at a time."""
    _, combine, source, result = key
    b, kind = Builder(name, target, math), COMBINE[combine]
    dtype = register_type(result)
    width = target.lanes(8 if dtype in ("i64", "f64") else 4)
    with b.entry():
        length, inner = b.param(0), b.param(1)
        x, y = b.pointer(0), b.pointer(1)

        def column(base: Any, width: int) -> None:
            with b.loop(0, length, 1, kind.start(b, dtype, width)) as L:
                at = base + L.index * inner
                v = b.convert(b.load(x, at, source, width), dtype)
                acc = kind.step(b, L.carry, v, None)
                b.store(y, at, acc[0], result)
                L.next(*acc)

        with b.loop(b.lo, b.hi) as row:
            base = row.index * length * inner
            whole = inner & b.const(-width, "i64")
            with b.loop(0, whole, width) as L:
                column(base + L.index, width)
            with b.loop(whole, inner) as L:
                column(base + L.index, 1)
    return b.kernel


def plan_scan(op: Any, x: Layout, y: Layout) -> Launch:
    """A scan of a row-major tensor along one dimension."""
    d = op.dim
    outer, length, inner = numel(x.shape[:d]), x.shape[d], numel(x.shape[d + 1 :])
    key = ("scan", op.combine, x.dtype.code, y.dtype.code)
    grain = max(1, GRAIN_WORK // max(length * inner, 1))
    return Launch(
        key,
        partial(build_scan, key),
        [length, inner],
        [0, 1],
        outer if y.numel else 0,
        grain,
        False,
        "scan",
    )
