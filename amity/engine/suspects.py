"""Which pass makes results wrong: graphs in NumPy before and after each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from amity.compiler import pipeline
from amity.compiler.pipeline import Pass
from amity.core.errors import CheckError
from amity.ir.graph import Graph, Node

from . import reference
from .program import Paper


class Suspect(NamedTuple):
    """The first pass after which results differ, the first node that it brought in, and how far off."""

    step: Pass
    node: Node
    text: str


def wrong_pass(paper: Paper, inputs: dict[Node, Any]) -> Suspect | None:
    """The first pass over graphs that changes what NumPy makes of a Program on these inputs."""
    before, values = paper.graph, None
    for step, after in pipeline.stages(before, paper.again.rounds):
        if after is before:
            continue
        if values is None:
            values = _values(before, inputs)
        made = _values(after, inputs)
        for old, new in zip(before.outputs, after.outputs, strict=True):
            if not reference.departure(made[new], values[old]):
                continue
            wide = _values(before, inputs, is_wide=True)
            text = reference.departure(made[new], values[old], wide[old])
            if text:
                return Suspect(step, _first_new(after, made, values) or new, text)
        before, values = after, made
    return None


def _values(graph: Graph, inputs: dict[Node, Any], is_wide: bool = False) -> dict[Node, Any]:
    values = dict(inputs)
    for _ in reference.follow(graph.outputs, values, is_wide):
        pass
    return values


def _first_new(graph: Graph, made: dict[Node, Any], before: dict[Node, Any]) -> Node | None:
    """The first node of a graph with a value that no node before it had."""
    seen: dict[tuple, list[Any]] = {}
    for node, value in before.items():
        seen.setdefault((node.spec.shape, node.spec.dtype), []).append(value)
    for node in graph.nodes():
        same = seen.get((node.spec.shape, node.spec.dtype), ())
        if all(reference.departure(made[node], value) for value in same):
            return node
    return None


class Choice(NamedTuple):
    """What lowering gets wrong: the first of its passes that must be on for it, if any, and what is
    found then.
    """

    step: Pass | None
    error: CheckError


def wrong_choice(is_wrong: Callable[[], CheckError | None]) -> Choice | None:
    """The first pass of lowering with which `is_wrong`, called anew for more and more passes, finds
    something.
    """
    passes = [p for p in pipeline.PASSES if p.run is None and pipeline.is_on(p.name)]
    off = pipeline.switched_off()
    for count in range(len(passes) + 1):
        with pipeline.without(*off, *(p.name for p in passes[count:])):
            error = is_wrong()
        if error is not None:
            return Choice(passes[count - 1] if count else None, error)
    return None
