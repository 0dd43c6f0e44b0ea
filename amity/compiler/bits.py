"""What decides the bits of values beyond what is computed: how sums are added up, and where numbers of
16 bits are rounded, which loops that hold other nodes may do otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amity.ir.graph import Node

from .plan import Launch, Lowered

EXACT = ("max", "peak", "min", "all", "any", "argmax", "argmin")  # in any order


class Ways:
    """How each node of a lowered graph is computed."""

    def __init__(self, lowered: Lowered) -> None:
        self.loops: dict[Node, Launch] = {}  # those that compute a node, in registers or to memory
        self.ways: dict[Node, tuple] = {}
        self.layouts: dict[Node, Any] = {}  # of what goes to memory: kernels may choose by them
        for step in lowered.steps:
            inside = set(step.nodes)
            for n in step.nodes:
                self.loops[n] = step
                order = step.order if n.op.kind == "reduce" and n.op.combine not in EXACT else ()
                self.ways[n] = order, tuple([x in inside for x in n.inputs if is_short(x)])
            for n, p in step.makes:
                self.loops.setdefault(n, step)
                self.layouts[n] = lowered.places[p].layout

    def differs(self, n: Node, other: Ways, m: Node) -> bool:
        """Whether a node may get other bits than another one elsewhere, which does the same."""
        pairs = ((self.ways, other.ways), (self.layouts, other.layouts))
        return any(n in mine and m in its and mine[n] != its[m] for mine, its in pairs)


def is_short(n: Node) -> bool:
    """Whether a value is of floats that registers hold in more bits than memory."""
    return n.spec.dtype.kind == "f" and n.spec.dtype.itemsize == 2


def suspects(old: Lowered, new: Lowered, copies: Mapping[Node, Node]) -> set[Node]:
    """The nodes whose copies are to blame for other bits: those near to values that are computed another
    way in a graph with `copies`, which tell of each node that has another there what that is.
    """
    before, after = Ways(old), Ways(new)
    found: set[Node] = set()
    for n in before.loops:
        for m in {n, copies.get(n, n)}:
            if before.differs(n, after, m):
                near = {*before.loops[n].nodes, n}
                loop = after.loops[m].nodes
                blamed = {x for x in copies if copies[x] in loop or x in near}
                found |= blamed or {x for u in near for x in u.inputs}
    return found
