"""Padding: the inside is copied as it is, then each border filled, one dimension after another.

A border of the outer dimensions is as wide as the inner dimensions are by then, so corners come
by themselves. The gradient walks the same way back: borders are added to where they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from amity.core.dtype import float32
from amity.core.layout import Layout, layout
from amity.ir.kernel import register_type
from amity.ir.target import Target
from amity.ops.elementwise import ADD

from .group import nest_launch
from .nest import Access, Instruction, make_nest
from .plan import Launch


class Slab(NamedTuple):
    """One border: its sizes, where it starts, and from where and how it is read along `dim`."""

    dim: int
    sizes: list[int]
    start: int  # in elements
    source: int
    step: int  # elements of the source from one to the next along `dim`


def _buffer(place: int, elements: int, m: Layout) -> Any:
    return (place, elements * m.dtype.itemsize) if elements else place


def filled(sizes: Sequence[int], to: Access, place: Any, value: Any) -> Launch:
    """A block set to one value."""
    return _launch(sizes, [to], [place], value)


def _copied(a: Layout, sizes: Sequence[int], b: Layout, places: Sequence[Any]) -> Launch:
    """A block copied between tensors of the same rank."""
    return _launch(
        sizes, [Access(a.dtype.code, a.strides), Access(b.dtype.code, b.strides)], places
    )


def _launch(
    sizes: Sequence[int], accesses: list[Access], places: Sequence[Any], value: Any = None
) -> Launch:
    """Elements copied, or set to a value."""
    to = register_type(accesses[-1].dtype)
    if value is not None:
        body = [Instruction("const", value, (), to)]
    else:
        body = [Instruction("load", 0, (), register_type(accesses[0].dtype))]
        if body[0].dtype != to:
            body.append(Instruction("cast", None, (0,), to))
    last = len(accesses) - 1
    nest, meta = make_nest(sizes, "r" * len(sizes), accesses, last, body, [(last, len(body) - 1)])
    return nest_launch(nest, meta, list(places))


def _inside(
    pad: Sequence[tuple[int, int]], x: Sequence[int]
) -> tuple[list[int], list[int], list[int]]:
    """Sizes of what is kept, and where it starts in the small and in the padded tensor."""
    sizes = [n + min(a, 0) + min(b, 0) for n, (a, b) in zip(x, pad, strict=True)]
    return sizes, [max(-a, 0) for a, _ in pad], [max(a, 0) for a, _ in pad]


def _at(m: Layout, start: Sequence[int]) -> int:
    return sum(i * s for i, s in zip(start, m.strides, strict=True))


def _slabs(op: Any, x: Sequence[int], y: Layout) -> list[Slab]:
    """All borders in the order in which they are filled: the last dimension first."""
    sizes, _, first = _inside(op.pad, x)
    out = []
    for d in reversed(range(len(sizes))):
        n, low, s = sizes[d], first[d], y.strides[d]
        corner = _at(y, first) - low * s
        for count, at, source in (
            (low, 0, {"reflect": 2 * low, "replicate": low, "circular": n}),
            (
                max(op.pad[d][1], 0),
                low + n,
                {"reflect": low + n - 2, "replicate": low + n - 1, "circular": low},
            ),
        ):
            if count:
                step = {"reflect": -s, "replicate": 0, "circular": s}.get(op.mode, 0)
                block = [*sizes[:d], count, *sizes[d + 1 :]]
                out.append(
                    Slab(d, block, corner + at * s, corner + source.get(op.mode, 0) * s, step)
                )
        sizes[d], first[d] = y.shape[d], 0
    return out


def plan_pad(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """A tensor with borders."""
    (x,), (y,) = ins, outs
    sizes, cut, first = _inside(op.pad, x.shape)
    launches = [_copied(x, sizes, y, [_buffer(0, _at(x, cut), x), _buffer(1, _at(y, first), y)])]
    code = y.dtype.code
    for slab in _slabs(op, x.shape, y):
        to, place = Access(code, y.strides), _buffer(1, slab.start, y)
        if op.mode == "constant":
            launches.append(_launch(slab.sizes, [to], [place], op.fill(register_type(code))))
            continue
        walk = tuple(slab.step if d == slab.dim else s for d, s in enumerate(y.strides))
        places = [_buffer(1, slab.source, y), place]
        launches.append(_launch(slab.sizes, [Access(code, walk), to], places))
    return [launch for launch in launches if launch.grid], []


def plan_embed(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """A tensor in zeros, its elements `step` apart along one dimension."""
    (x,), (y,) = ins, outs
    d, s, code = op.dim, y.strides[op.dim], y.dtype.code
    count = x.shape[d]
    gaps = [(0, op.start), (op.start + count, op.size)] if op.step == 1 else [(0, op.size)]
    launches = []
    for first, end in gaps:
        block = [*y.shape[:d], end - first, *y.shape[d + 1 :]]
        launches.append(_launch(block, [Access(code, y.strides)], [_buffer(1, first * s, y)], 0))
    walk = (*y.strides[:d], s * op.step, *y.strides[d + 1 :])
    places = [0, _buffer(1, op.start * s, y)]
    launches.append(_launch(x.shape, [Access(x.dtype.code, x.strides), Access(code, walk)], places))
    return [launch for launch in launches if launch.grid], []


def plan_pad_back(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """What was copied out added up again, in a copy of the gradient."""
    (g,), (x,) = ins, outs
    is_half = g.dtype.kind == "f" and g.dtype.itemsize == 2
    work = layout(float32 if is_half else g.dtype, g.shape)
    sizes, cut, first = _inside(op.pad, x.shape)
    launches = [_copied(g, g.shape, work, [0, 2])]
    for slab in reversed(_slabs(op, x.shape, work)):
        launches.append(_added(slab, work))
    if sizes != list(x.shape):
        launches.append(_launch(x.shape, [Access(x.dtype.code, x.strides)], [1], 0))
    places = [_buffer(2, _at(work, first), work), _buffer(1, _at(x, cut), x)]
    launches.append(_copied(work, sizes, x, places))
    return [launch for launch in launches if launch.grid], [max(work.nbytes, 1)]


def _added(slab: Slab, m: Layout) -> Launch:
    """A border added to the elements it was copied from."""
    code, kind = m.dtype.code, register_type(m.dtype.code)
    walk = tuple(slab.step if d == slab.dim else s for d, s in enumerate(m.strides))
    to = Access(code, walk)
    body = [Instruction("load", 0, (), kind)]
    flags = "r" * len(slab.sizes)
    if not slab.step:  # many onto one
        flags = "".join("d" if d == slab.dim else "r" for d in range(len(slab.sizes)))
        body.append(Instruction("reduce", "sum", (0,), kind))
    body.append(Instruction("load", 1, (), kind))
    body.append(Instruction("pointwise", ADD, (len(body) - 2, len(body) - 1), kind))
    accesses = [Access(code, m.strides), to, to]
    nest, meta = make_nest(slab.sizes, flags, accesses, 2, body, [(2, len(body) - 1)])
    source = _buffer(2, slab.source, m)
    return nest_launch(nest, meta, [_buffer(2, slab.start, m), source, source])
