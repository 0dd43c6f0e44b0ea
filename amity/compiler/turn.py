"""Transposing copies: memory that runs along one dimension written along another.

Squares as wide as a vector are loaded row by row, turned in registers and stored row by row, so
that both sides move whole cache lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from amity.core.shape import numel
from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .nest import Nest, words
from .plan import GRAIN_WORK, Code, Launch

UNIT = 16  # rows of the result in a grid unit: a vector of the widest target, or several
LEAST = 8  # elements of either dimension from which on squares pay


def turned(b: Builder, rows: list[Value]) -> list[Value]:
    """The square whose rows are the columns of another: blocks are swapped, ever larger ones."""
    rows, w, s = list(rows), len(rows), 1
    while s < w:
        low = [w + j - s if j & s else j for j in range(w)]
        high = [w + j if j & s else j + s for j in range(w)]
        for i in range(w):
            if not i & s:
                first, second = rows[i], rows[i + s]
                rows[i] = b.shuffle(first, second, low)
                rows[i + s] = b.shuffle(first, second, high)
        s *= 2
    return rows


def build_turn(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    """`y[…, n, m] = x[…, m, n]`; a grid unit is UNIT of `n`, for all `m`."""
    _, dtype, rank = key
    b, w = Builder(name, target, math), target.lanes(itemsize(dtype))
    with b.entry():
        m_size, n_size, x_step, y_step, blocks = (b.param(i) for i in range(5))
        sizes, x_steps, y_steps = (
            [b.param(5 + k * rank + d) for d in range(rank)] for k in range(3)
        )
        x, y = b.pointer(0), b.pointer(1)
        with b.loop(b.lo, b.hi) as unit:
            rest = unit.index // blocks
            first = (unit.index - rest * blocks) * UNIT
            end = b.min(first + UNIT, n_size)
            whole, from_, to = m_size & -w, b.const(0, "i64"), b.const(0, "i64")
            for d in reversed(range(rank)):
                q = rest // sizes[d] if d else rest
                i = rest - q * sizes[d] if d else rest
                from_, to, rest = from_ + i * x_steps[d], to + i * y_steps[d], q
            squares = first + ((end - first) & -w)
            with b.loop(0, whole, w) as m, b.loop(first, squares, w) as n:
                at = from_ + m.index * x_step + n.index
                rows = [b.load(x, at + x_step * i, dtype, w) for i in range(w)]
                at = to + n.index * y_step + m.index
                for i, row in enumerate(turned(b, rows)):
                    b.store(y, at + y_step * i, row, dtype)
            for lo, hi, start in ((first, squares, whole), (squares, end, b.const(0, "i64"))):
                with b.loop(lo, hi) as n, b.loop(start, m_size) as m:
                    v = b.load(x, from_ + m.index * x_step + n.index, dtype)
                    b.store(y, to + n.index * y_step + m.index, v, dtype)
    return b.kernel


def turn_code(nest: Nest, meta: Sequence[int]) -> Code | None:
    """The kernel for a nest that is just such a copy, whether or not it pays; else None."""
    if "d" in nest.dims or len(nest.operands) != 2 or nest.body[0].op != "load":
        return None
    kind = nest.body[0].dtype
    if any(getattr(i.what, "name", "") != "cast" or i.dtype != kind for i in nest.body[1:]):
        return None
    source, target = nest.operands
    if source.dtype != target.dtype or itemsize(source.dtype) not in (4, 8) or source.rank >= 0:
        return None
    x, y = _strides(nest, meta)
    if 1 not in x or 1 not in y or all(s != 1 for d, s in enumerate(x) if d != y.index(1)):
        return None
    key = ("turn", source.dtype, len(x) - 2)
    return Code(key, partial(build_turn, key), "turn")


def _strides(nest: Nest, meta: Sequence[int]) -> list[list[int]]:
    """The strides of a nest's operands."""
    found = words(nest).strides
    return [
        [0 if c == "0" else 1 if c == "1" else meta[found[o, d]] for d, c in enumerate(op.classes)]
        for o, op in enumerate(nest.operands)
    ]


def turn_launch(
    code: Code, nest: Nest, meta: Sequence[int], places: Sequence[Any]
) -> Launch | None:
    """The launch of a nest that is just such a copy where it pays, or None."""
    m = nest.vector_dim
    if (nest.operands[0].classes[m], nest.operands[1].classes[m]) != ("s", "1"):
        return None
    sizes, (x, y) = list(meta[: len(nest.dims)]), _strides(nest, meta)
    n = next((d for d, s in enumerate(x) if s == 1 and d != m), None)
    if n is None or min(sizes[m], sizes[n]) < LEAST:
        return None
    others = [d for d in range(len(sizes)) if d not in (m, n)]
    blocks = -(-sizes[n] // UNIT)
    numbers = [sizes[m], sizes[n], x[m], y[n], blocks]
    numbers += [row[d] for row in (sizes, x, y) for d in others]
    grid = blocks * numel([sizes[d] for d in others])
    grain = max(1, GRAIN_WORK // (UNIT * sizes[m]))
    return Launch(*code[:2], numbers, list(places), grid, grain, False, "turn")
