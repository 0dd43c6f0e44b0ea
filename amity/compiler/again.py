"""Nodes computed again: late readers of some early nodes read copies, made just before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from amity.ir.graph import Graph, Node


class Round(NamedTuple):
    """Nodes that are computed again after a node, all by their places in the order of a graph."""

    boundary: int
    again: frozenset[int]


class Again(NamedTuple):
    """What is computed again, and how many bytes that saves."""

    rounds: tuple[Round, ...] = ()
    saved: int = 0

    @property
    def count(self) -> int:
        """How many nodes."""
        return sum(len(r.again) for r in self.rounds)


NOTHING = Again()


def repeat(graph: Graph, rounds: Sequence[Round]) -> Graph:
    """The graph with some nodes computed again where late ones read them."""
    for found in rounds:
        graph = Repeated(graph, found).graph
    return graph


def positions(graph: Graph) -> dict[Node, int]:
    """Where each node is computed; an op with several results computes all at the first."""
    first: dict[tuple, int] = {}
    found = {}
    for i, n in enumerate(graph.nodes()):
        is_one = n.op is None or n.op.results == 1
        found[n] = i if is_one else first.setdefault((n.op, n.inputs), i)
    return found


class Repeated:
    """A graph with copies of nodes for those that read them after a boundary. `copies` tells them, and
    what late nodes became.
    """

    def __init__(self, graph: Graph, found: Round) -> None:
        self.before, self.found = graph, found
        self.position = positions(graph)
        self.copies: dict[Node, Node] = {}
        self.order: list[Node] = []
        self.graph = self._graph()

    def _graph(self) -> Graph:
        """The new graph, its nodes in the old order, copies before the first that reads them."""
        before = self.before
        for n in before.nodes():
            if self._is_late(n):
                self._add(n)
            else:
                self.order.append(n)
        outputs = [self.copies[n] if self._is_late(n) else n for n in before.outputs]
        graph = Graph(before.inputs, outputs, before.constants)
        wanted = set(graph.nodes())
        return graph.in_order([n for n in self.order if n in wanted])

    def _is_late(self, n: Node) -> bool:
        return self.position[n] > self.found.boundary

    def _add(self, late: Node) -> None:
        """A late node, after copies of what it reads."""
        stack, again = [late], self.found.again
        while stack:
            n = stack[-1]
            missing = [x for x in n.inputs if self.position[x] in again and x not in self.copies]
            if missing:
                stack += reversed(missing)
                continue
            stack.pop()
            if n not in self.copies:
                inputs = tuple([self.copies.get(x, x) for x in n.inputs])
                is_same = inputs == n.inputs and n is late
                self.copies[n] = n if is_same else Node(n.op, inputs, n.spec, n.index, n.where)
                self.order.append(self.copies[n])
