"""Endings: what is done with a kernel's sums before they go to memory, as a nest of rows and columns.

A product or a convolution computes vectors of neighbouring columns of a row. Elementwise ops that use
its result join it: their nest begins with an instruction `head`, the sums; its other operands are
read, and its results stored, at the same row and column.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from amity.core.layout import Layout
from amity.core.shape import numel
from amity.ir.kernel import Builder, Value, itemsize, register_type

from .body import Body, Point
from .nest import Access, Instruction, Nest, Operand, lift, make_nest

SMALL = ("f16", "bf16")


@dataclass(frozen=True)
class Ending:
    """A nest over rows and columns, its words of `meta`, and the places of its operands in order."""

    nest: Nest
    meta: tuple[int, ...]
    places: tuple[int, ...]
    whole: tuple = field(compare=False)  # what `make_ending` was given

    def at(self, plain: Callable[[Any], Any]) -> Ending:
        """The ending at other sizes, whose numbers for formulas `plain` gives."""
        domain, operands, inputs, body, stores = self.whole
        operands = [
            (place, replace(a, strides=plain(a.strides), whole=plain(a.whole)))
            for place, a in operands
        ]
        body = [type(i)(*map(plain, i)) for i in body]
        whole = plain(domain), tuple(operands), inputs, tuple(body), stores
        return replace(self, meta=plain(self.meta), whole=whole)

    def apart(self, sums: Layout) -> tuple[Nest, list[int], list[int | None], int | None]:
        """The ending as a nest of its own, after a kernel that stores its sums: the nest, its numbers,
        which operands it takes (None: the sums), and which one the sums may go to, if they are a result.
        """
        domain, operands, inputs, body, stores = self.whole
        strides = tuple(0 if n == 1 else s for n, s in zip(sums.shape, sums.strides))
        access = Access(sums.dtype.code, strides)
        read = [place for place, _ in operands[:inputs]]
        place = next(
            (
                o
                for o, v in stores
                if v == 0 and operands[o][1] == access and operands[o][0] not in read
            ),
            None,
        )
        order: list[int | None] = [*range(inputs), None]
        order += [o for o in range(inputs, len(operands)) if o != place]
        accesses = [access if o is None else operands[o][1] for o in order]
        body = [i._replace(op="load", what=inputs) if i.op == "head" else i for i in body]
        stores = [(order.index(o), v) for o, v in stores if o != place]
        nest, meta = make_nest(domain, "r" * len(domain), accesses, inputs + 1, body, stores)
        return nest, meta, order, place


def head(dtype: str) -> Instruction:
    """What stands for the sums of a kernel whose result has this dtype: what others see of a result of
    small floats is rounded, in registers too."""
    return Instruction("head", dtype if dtype in SMALL else None, (), register_type(dtype))


def make_ending(
    domain: Sequence[int],
    column: int,
    operands: Sequence[tuple[int, Access]],
    inputs: int,
    body: Sequence[Instruction],
    stores: Sequence[tuple[int, int]],
) -> Ending | None:
    """The ending of a kernel whose columns are one dimension of its result and whose rows are all
    others, in order; None where an operand is not that regular.

    `operands` are places and how they are walked, inputs first; `stores` as in a nest.
    """
    if any(i.op not in ("head", "load", "const", "cast", "pointwise") for i in body):
        return None
    rows = [d for d in range(len(domain)) if d != column]
    found, numbers = [], []
    for i, (_, access) in enumerate(operands):
        step, across = merged_stride(domain, access.strides, rows), access.strides[column]
        is_result = i >= inputs
        if domain[column] == 1:
            across = 1 if is_result else 0
        if step is None or across not in (0, 1) or (is_result and across == 0):
            return None
        is_moving = is_result or step != 0
        found.append(Operand(access.dtype, ("s" if is_moving else "0") + str(across)))
        numbers += [step] if is_moving else []
    lifted, constants = lift(body)
    nest = Nest("rr", True, tuple(found), inputs, tuple(lifted), tuple(stores))
    sizes = [numel([domain[d] for d in rows]), domain[column]]
    whole = tuple(domain), tuple(operands), inputs, tuple(body), tuple(stores)
    meta = (*sizes, *numbers, *constants)
    return Ending(nest, meta, tuple(p for p, _ in operands), whole)


def plain_ending(out: Layout, column: int, place: int) -> Ending | None:
    """The ending that stores sums as they are."""
    code = out.dtype.code
    operand = (place, Access(code, tuple(out.strides)))
    return make_ending(out.shape, column, [operand], 0, [head(code)], [(0, 0)])


def merged_stride(sizes: Sequence[int], strides: Sequence[int], dims: Sequence[int]) -> int | None:
    """The stride of some dimensions walked as one, if there is one."""
    stride = end = None
    for d in reversed(dims):
        if sizes[d] == 1:
            continue
        if stride is None:
            stride = strides[d]
        elif strides[d] != end:
            return None
        end = strides[d] * sizes[d]
    return stride or 0


class EndingBody:
    """Writes an ending; `first_word` and `first_buffer` say where its numbers and operands begin."""

    def __init__(self, nest: Nest, b: Builder, first_word: int, first_buffer: int) -> None:
        self.body = Body(nest, b, b.target, first_word, first_buffer)

    def far(self, row: Value, column: Value) -> list[tuple[Value, Value]]:
        """Where the operands that differ from row to row and from column to column are at some row and
        column, and bytes from row to row."""
        b, body = self.body.b, self.body
        found = []
        for o, operand in enumerate(body.nest.operands):
            if operand.classes == "s1":
                size, stride = itemsize(operand.dtype), body.stride(o, 0)
                at = b.offset(body.pointers[o], (row * stride + column) * size)
                found.append((at, stride * size))
        return found

    def store(self, sums: Value, row: Value, column: Value, mask: Value | None) -> None:
        """Finish a vector of sums that begins at this row and column."""
        body = self.body
        offsets = []
        for o in range(len(body.nest.operands)):
            stride = body.stride(o, 0)
            offsets.append(body.zero if stride is None else row * stride)
        point = Point(sums.width, mask, column, offsets, {0: row})
        first = body.nest.body[0]
        value = body.b.convert(sums, first.dtype)
        is_rounded = first.what is not None and len(body.nest.body) > 1
        point.values[0] = body.b.round_to(value, first.what) if is_rounded else value
        body.store_all(point)
