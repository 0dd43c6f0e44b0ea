"""What notes say, apart from the numbers in them: sizes, strides, offsets, attributes of ops.

The *frame* of notes is all the rest: two calls with one frame do the same on tensors of other sizes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from amity.core.layout import Layout, layout
from amity.core.symbolic import bits_of
from amity.ir.graph import Graph, Node, Spec

from . import program
from .noted import Call, Noted

MOST = 1 << 63


class Frame:
    """The frame of some notes, as a digest, and the numbers in it: `ints`, then words of floats."""

    def __init__(self, noted: Noted) -> None:
        known: dict[int, int] = {}
        papers: list[tuple[bytes, np.ndarray, np.ndarray]] = []
        words: list[int] = []
        offsets: list[int] = []
        for call in noted.calls:
            at = known.get(id(call.paper))
            if at is None:
                at = known[id(call.paper)] = len(known)
                papers.append(_told(call.paper))
            words.append(at)
            for take in call.takes:
                if take is not None:
                    words.append(~take[0] if take[2] else take[0])
                    offsets.append(take[1])
            words += [root for root, _ in filter(None, call.makes)]
        words += [-1, *noted.alive]
        digest = hashlib.sha256(b"".join(p[0] for p in papers))
        digest.update(array("q", words).tobytes())
        self.digest = digest.digest()
        ints = [p[1] for p in papers]
        self.numbers = np.concatenate([*ints, np.array(offsets, np.int64), *[p[2] for p in papers]])
        self.ints = sum(map(len, ints)) + len(offsets)


def with_numbers(noted: Noted, ints: Sequence[int], floats: Sequence[float]) -> Noted:
    """The same notes with other numbers in their frame."""
    papers: dict[int, program.Paper] = {}
    whole, parts = iter(ints), iter(floats)
    for call in noted.calls:
        if id(call.paper) not in papers:
            papers[id(call.paper)] = _rebuilt(call.paper, whole, parts)
    calls = []
    for call in noted.calls:
        paper = papers[id(call.paper)]
        takes = [t and (t[0], next(whole), t[2]) for t in call.takes]
        makes = [m and lay and (m[0], lay) for m, lay in zip(call.makes, paper.makes, strict=True)]
        calls.append(Call(call.payload, paper, takes, makes, call.where))
    return Noted(calls, noted.alive)


# -- papers


def _told(paper: program.Paper) -> tuple[bytes, np.ndarray, np.ndarray]:
    """The digest of a paper's frame, and its numbers."""
    if paper.frame is None:
        lines: list[str] = []
        ints: list[int] = []
        floats: list[float] = []
        for lay in (*paper.inputs, *paper.makes):
            lines.append("-" if lay is None else f"{lay.dtype.name}{lay.ndim}")
            if lay is not None:
                ints += [*lay.shape, *lay.strides]
        lines.append(str((sorted(paper.given.items()), list(paper.weak))))
        _tell(paper.graph, lines, ints, floats)
        digest = hashlib.sha256("\n".join(lines).encode()).digest()
        words = np.array([bits_of(x) for x in floats], np.int64)
        paper.frame = digest, np.array(ints, np.int64), words
    return paper.frame


def _tell(graph: Graph, lines: list[str], ints: list[int], floats: list[float]) -> None:
    numbers = {id(n): i for i, n in enumerate(graph.inputs)}
    ops: dict[int, tuple[str, list[int], list[float]]] = {}
    for node in _every(graph):
        spec = node.spec
        said = f"{spec.dtype.name}{len(spec.shape)}{'w' if spec.is_weak else ''}"
        if node.op is None:
            lines.append(said)
        else:
            numbers[id(node)] = len(numbers)
            told = ops.get(id(node.op))
            if told is None:
                told = ops[id(node.op)] = _told_op(node.op)
            ins = ",".join([str(numbers[id(x)]) for x in node.inputs])
            lines.append(f"{told[0]} {node.index} {ins} {said}")
            ints += told[1]
            floats += told[2]
        ints += spec.shape
    lines.append(str([numbers[id(n)] for n in graph.outputs]))


def _every(graph: Graph) -> list[Node]:
    """Inputs, those that nobody needs too, then all nodes, producers first."""
    return [*graph.inputs, *[n for n in graph.nodes() if n.op is not None]]


def _told_op(op: Any) -> tuple[str, list[int], list[float]]:
    """An op's name and attributes with `#` and `~` for numbers, and these."""
    ints: list[int] = []
    floats: list[float] = []

    def say(value: Any) -> str:
        if type(value) in (tuple, list):
            return f"({','.join(map(say, value))})"
        if type(value) is int and -MOST <= value < MOST:
            ints.append(value)
            return "#"
        if type(value) is float:
            floats.append(value)
            return "~"
        return repr(value)

    said = ",".join([say(getattr(op, f)) for f in op.fields])
    return f"{op.name}({said})", ints, floats


def _rebuilt(paper: program.Paper, ints: Iterator[int], floats: Iterator[float]) -> program.Paper:
    inputs = [_layout(lay, ints) for lay in paper.inputs]
    makes = [lay and _layout(lay, ints) for lay in paper.makes]
    old, table = paper.graph, {}
    for node in _every(old):
        op = node.op and _op(node.op, ints, floats)
        shape = tuple([next(ints) for _ in node.spec.shape])
        spec = Spec(shape, node.spec.dtype, node.spec.is_weak)
        table[node] = Node(op, [table[x] for x in node.inputs], spec, node.index, node.where)
    graph = Graph([table[n] for n in old.inputs], [table[n] for n in old.outputs])
    return program.Paper(graph, inputs, paper.given, paper.weak, makes, paper.plan, paper.name)


def _layout(lay: Layout, ints: Iterator[int]) -> Layout:
    shape = [next(ints) for _ in range(lay.ndim)]
    return layout(lay.dtype, shape, [next(ints) for _ in range(lay.ndim)], lay.device)


def _op(op: Any, ints: Iterator[int], floats: Iterator[float]) -> Any:
    """An op with its numbers taken from these."""

    def put(value: Any) -> Any:
        if type(value) in (tuple, list):
            return type(value)([put(v) for v in value])
        if type(value) is int and -MOST <= value < MOST:
            return next(ints)
        return next(floats) if type(value) is float else value

    return type(op)(*[put(getattr(op, f)) for f in op.fields])
