"""Ops over one more dimension: what `vmap` calls instead of an op, whose inputs have it in front.

How an op carries it follows from its kind and its fields, or its record says so by `carries`:

`align`  broadcasts: inputs of lower rank get dimensions of size 1 behind the new one
`shift`  fields that name dimensions count one more; shapes and paddings have one more in front
`keep`   works on the last dimensions, whatever leads
`fold`   treats the entries of the first dimension alike and apart: the new one is folded into it
`apart`  is other ops: `apart(*inputs)` says which
`own`    has a rule: `batch(size, is_mapped, *inputs)`

An op that none of these describes runs for each entry; a warning says so.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from amity.ir.graph import Spec

from .cast import Cast
from .joining import select, stack
from .movement import Expand, Permute, Reshape
from .record import Op, Pointwise, weak_spec

DIMENSIONS = ("dim", "dims", "dim1", "dim2")
SHIFTED = (*DIMENSIONS, "shape", "pad")
Mapped = Sequence[bool]


def way_of(op: Op) -> str:
    """How an op carries one more dimension."""
    if op.carries:
        return op.carries
    if op.kind == "pointwise":
        return "align"
    return "shift" if any(f in SHIFTED for f in op.fields) else "each"


def batched(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    """An op over a new first dimension of `size`, which mapped inputs have; so do all results."""
    return WAYS[way_of(op)](op, size, is_mapped, values)


def front(x: Any, d: int) -> Any:
    """Dimension `d` moved to the front."""
    return x if d == 0 else Permute((d, *[i for i in range(x.ndim) if i != d]))(x)


def back(x: Any, d: int) -> Any:
    """The first dimension moved to place `d`."""
    order = [*range(1, d + 1), 0, *range(d + 1, x.ndim)]
    return x if d == 0 else Permute(tuple(order))(x)


def padded(x: Any, rank: int) -> Any:
    """Dimensions of size 1 put behind the first, up to a rank without it."""
    more = rank - (x.ndim - 1)
    return Reshape((x.shape[0], *(1,) * more, *x.shape[1:]))(x) if more > 0 else x


def whole(x: Any, size: int, is_one: bool) -> Any:
    """A tensor with the new dimension, repeated in memory of its own size where it had none."""
    return x if is_one else Expand((size, *x.shape))(x)


def is_tensor(x: Any) -> bool:
    return hasattr(x, "layout")


# -- the ways


def _align(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    values = _promoted(op, is_mapped, values)
    ranks = [v.ndim - m for v, m in zip(values, is_mapped, strict=True) if is_tensor(v)]
    rank = max(ranks)
    return op(*[padded(v, rank) if m else v for v, m in zip(values, is_mapped, strict=True)])


def _promoted(op: Op, is_mapped: Mapped, values: Sequence[Any]) -> Sequence[Any]:
    """Values cast where the new dimension would change the promotion: of what was one number."""
    pairs = list(zip(values, is_mapped, strict=True))
    if not isinstance(op, Pointwise) or len(values) == 1:
        return values
    if all(v.ndim > 1 for v, m in pairs if m):
        return values
    specs = [Spec(tuple(v.shape)[m:], v.dtype) if is_tensor(v) else weak_spec(v) for v, m in pairs]
    wanted = op.argument_dtypes(*specs)
    return [
        Cast(d)(v) if is_tensor(v) and v.dtype is not d else v
        for v, d in zip(values, wanted, strict=True)
    ]


def _shift(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    fields = op.attributes()
    for name, value in fields.items():
        if name == "shape":
            fields[name] = (size, *value)
        elif name == "pad":
            fields[name] = ((0, 0), *value)
        elif name in DIMENSIONS:
            fields[name] = tuple(d + 1 for d in value) if isinstance(value, tuple) else value + 1
    return type(op)(**fields)(*_wholes(size, is_mapped, values))


def _wholes(size: int, is_mapped: Mapped, values: Sequence[Any]) -> list[Any]:
    return [whole(v, size, m) for v, m in zip(values, is_mapped, strict=True)]


def _keep(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    values = _wholes(size, is_mapped, values)
    rank = max(v.ndim for v in values) - 1
    return op(*[padded(v, rank) for v in values])


def _fold(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    folded = [
        Reshape((math.prod(v.shape[:2]), *v.shape[2:]))(v) for v in _wholes(size, is_mapped, values)
    ]
    out = op(*folded)
    outs = [
        Reshape((size, *_unfolded(y, size), *y.shape[1:]))(y)
        for y in (out if isinstance(out, tuple) else (out,))
    ]
    return tuple(outs) if isinstance(out, tuple) else outs[0]


def _unfolded(y: Any, size: int) -> tuple[int, ...]:
    return (y.shape[0] // size,) if size else (0,)


def _own(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    return op.batch(size, is_mapped, *values) if size else _nothing(op, is_mapped, values)


def _each(op: Op, size: int, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    warnings.warn(
        f"There is a performance drop because {op.name} has no batching rule yet: vmap runs it once "
        "for each entry",
        stacklevel=2,
    )
    if size == 0:
        return _nothing(op, is_mapped, values)
    rows = [
        op(*[select(v, 0, i) if m else v for v, m in zip(values, is_mapped, strict=True)])
        for i in range(size)
    ]
    if not isinstance(rows[0], tuple):
        return stack(rows)
    return tuple(stack(column) for column in zip(*rows, strict=True))


def _nothing(op: Op, is_mapped: Mapped, values: Sequence[Any]) -> Any:
    like = next(v for v, m in zip(values, is_mapped, strict=True) if m)
    specs = [Spec(tuple(v.shape)[m:], v.dtype) for v, m in zip(values, is_mapped, strict=True)]
    found = op.infer(*specs)
    outs = [
        like.new_zeros((0, *s.shape), dtype=s.dtype)
        for s in (found if isinstance(found, tuple) else (found,))
    ]
    return tuple(outs) if isinstance(found, tuple) else outs[0]


WAYS: dict[str, Callable] = {
    "align": _align, "shift": _shift, "keep": _keep, "fold": _fold, "own": _own, "each": _each,
}  # fmt: skip
