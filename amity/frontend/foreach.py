"""One function over many tuples of tensors, written back in place: what optimizers are made of.

The function is traced once for each kind of tuple and all of it runs as one native call; numbers
that change from step to step (learning rates) are arguments of the call, so nothing is built anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amity.core.dtype import float64
from amity.engine import program
from amity.ir.graph import Graph, Node, Spec

from .batched import Batched
from .bind import argument_layout, spec_of
from .grad_mode import no_grad
from .tensor import Tensor
from .trace import Symbol, traced

PLANS_KEPT = 256
_plans: dict[tuple, Callable] = {}


def update(
    function: Callable, tensors: Sequence[Tensor], width: int, scalars: dict[str, float]
) -> None:
    """`p, *state = function(p, grad, *state, **scalars)` for every row `p, grad, *state` of `width`
    tensors, all rows in one sequence.

    The results are written into the tensors of the row, the gradient excepted.
    """
    key = (function, width, *scalars, *[t.layout for t in tensors])
    plan = _plans.get(key)
    if plan is None:
        if not tensors:
            return
        if any(type(t.layout) is Batched for t in tensors):
            for row in _rows(tensors, width):
                new = _call(function, row, scalars)
                for t, value in zip([row[0], *row[2:]], new, strict=True):
                    t.copy_(value)
            return
        if any(type(t.layout) is Symbol for t in tensors):
            _update_traced(function, tensors, width, scalars)
            return
        if len(_plans) > PLANS_KEPT:
            _plans.clear()
        plan = _plans[key] = _build(function, tensors, width, list(scalars))
    plan(*tensors, *scalars.values())


def _rows(tensors: Sequence[Any], width: int) -> list[Sequence[Any]]:
    return [tensors[i : i + width] for i in range(0, len(tensors), width)]


def _build(
    function: Callable, tensors: Sequence[Tensor], width: int, names: Sequence[str]
) -> Callable:
    numbers = [Node(None, (), Spec((), float64, True)) for _ in names]
    marks = {n: traced(x) for n, x in zip(names, numbers, strict=True)}
    inputs = [Node(None, (), spec_of(t)) for t in tensors]
    outputs: list[Node] = []
    given: dict[int, int] = {}
    for first, nodes in zip(range(0, len(inputs), width), _rows(inputs, width), strict=True):
        results = _call(function, [traced(n) for n in nodes], marks)
        for at, result in zip([first, *range(first + 2, first + width)], results, strict=True):
            given[len(outputs)] = at
            outputs.append(result.layout.node)
    layouts = [argument_layout(t) for t in tensors] + [argument_layout(0.0) for _ in names]
    graph = Graph([*inputs, *numbers], outputs)
    bumps = sorted(set(given.values()))
    whose = getattr(function, "func", function)
    name = f"{whose.__module__.removeprefix('amity.')}.{whose.__name__}"
    return program.build(graph, layouts, given, bumps, program.NONE, name=name)


def _call(function: Callable, row: Sequence[Tensor], scalars: dict[str, Any]) -> Sequence[Tensor]:
    """The function's results, in the dtypes of the tensors they replace."""
    with no_grad():
        out = function(*row, **scalars)
    out = out if isinstance(out, tuple) else (out,)
    kept = [row[0], *row[2:]]
    if len(out) != len(kept):
        raise ValueError(
            f"foreach.update: got {len(out)} results; expected {len(kept)}, one for each tensor "
            "but the gradient"
        )
    return [o if o.dtype is t.dtype else o.to(t.dtype) for o, t in zip(out, kept, strict=True)]


def _update_traced(
    function: Callable, tensors: Sequence[Tensor], width: int, scalars: dict[str, float]
) -> None:
    for row in _rows(tensors, width):
        for t, new in zip([row[0], *row[2:]], _call(function, row, scalars), strict=True):
            t.layout = new.layout
