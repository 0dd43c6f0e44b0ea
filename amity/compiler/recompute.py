"""Cheap values that live long are computed again where they are read late, so that fewer are kept.

A graph is cut in two at the node where most memory is in use. What was made before and is read after
is either kept or computed again from what is kept: which, a minimal cut decides, in a network in which
to keep a value costs its bytes and to compute it again costs a part of them. In a training step the
place is the end of the forward pass, and what is read late is read by the backward pass; but nothing
here knows of gradients. Nodes are pure, so values computed again are the same bit by bit, whatever was
written to arguments in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amity.core.shape import numel
from amity.ir.graph import Graph, Node

from . import pipeline
from .again import NOTHING, Again, Repeated, Round, positions
from .bits import is_short, suspects
from .flow import ENDLESS, Network
from .memory import Memory
from .plan import Lowered

ROUNDS = 4  # of cutting where most memory is in use
WORTH = 0.02  # of its memory, what a round must save
SCALE = 16  # of capacities: costs are parts of bytes
TRIES = 8  # of a round, for results that are the same bit by bit
CHEAP, COSTLY = 1, 4  # what computing costs, in sixteenths of the bytes that it gives
PASS = 4  # what writing and reading them once more costs, where no loop takes them over

Lower = Callable[[Graph], Lowered]
LayOut = Callable[[Lowered], Memory]


def choose(lowered: Lowered, lower: Lower, lay_out: LayOut) -> tuple[Lowered, Again]:
    """What is worth to be computed again, and the graph lowered so, which `lower` does; `lay_out` says
    where values lie.
    """
    if not pipeline.is_on("recompute"):
        return lowered, NOTHING
    rounds: list[Round] = []
    memory = lay_out(lowered)
    first = memory.arena
    while len(rounds) < ROUNDS:
        found = _round(lowered, memory, lower, lay_out)
        if found is None:
            break
        chosen, lowered, memory = found
        rounds.append(chosen)
    return lowered, Again(tuple(rounds), first - memory.arena)


def _round(
    lowered: Lowered, memory: Memory, lower: Lower, lay_out: LayOut
) -> tuple[Round, Lowered, Memory] | None:
    """What to compute again so that less memory is in use where most is, and what comes of it."""
    values = Values(lowered.graph)
    boundary = values.boundary(lowered, memory.fullest())
    for _ in range(TRIES):
        chosen = Round(boundary, values.cut(boundary))
        if not chosen.again:
            break
        repeated = Repeated(lowered.graph, chosen)
        other = lower(repeated.graph)
        less = lay_out(other)
        if less.arena > memory.arena * (1 - WORTH):
            break
        wrong = suspects(lowered, other, repeated.copies)
        if not wrong:
            return chosen, other, less
        values.kept |= wrong
    return None


class Values:
    """What the values of a graph cost, and who reads them when."""

    def __init__(self, graph: Graph) -> None:
        self.nodes = graph.nodes()
        self.position = positions(graph)
        self.users: dict[Node, list[Node]] = {}
        outputs = set(graph.outputs)
        self.kept: set[Node] = set()  # what is not to be computed again
        self.free: set[Node] = set()  # what is there anyway, without more memory
        for n in self.nodes:
            if n.op is None or n.op.kind in ("constant", "position") or n in outputs:
                self.free.add(n)
            elif n.op.kind == "view" and n.inputs[0] in self.free:
                self.free.add(n)
            for x in n.inputs:
                self.users.setdefault(x, []).append(n)

    def boundary(self, lowered: Lowered, fullest: int) -> int:
        """The last node that launches up to one complete."""
        made = [n for s in lowered.steps[:fullest] for n, _ in s.makes]
        return max([self.position[n] for n in made if n in self.position], default=-1)

    # -- what to keep
    def cut(self, boundary: int) -> frozenset[int]:
        """The nodes up to a boundary that are best computed again after it."""
        read = [n for n in self.nodes if self._is_read_late(n, boundary)]
        region = self._region(read, boundary)
        at = {n: i for i, n in enumerate(region)}
        source, sink = 2 * len(region), 2 * len(region) + 1
        net = Network(sink + 1)
        for n, i in at.items():
            can, is_view = self._is_cheap(n, boundary), n.op.kind == "view"
            net.join(source, 2 * i, self._cost(n, boundary) if can else ENDLESS)
            net.join(2 * i, 2 * i + 1, ENDLESS if is_view else SCALE * _bytes(n))
            for x in n.inputs if can else ():
                if x in at:
                    net.join(2 * at[x] + 1, 2 * i, ENDLESS)
        for n in read:
            net.join(2 * at[n] + 1, sink, ENDLESS)
        net.flow(source, sink)
        early = net.before(sink)
        again: set[Node] = set()
        for n in region:
            if n.op.kind == "view":
                if n.inputs[0] in again:
                    again.add(n)
            elif 2 * at[n] not in early:
                again.add(n)
        return frozenset([self.position[n] for n in again])

    def _is_read_late(self, n: Node, boundary: int) -> bool:
        if n in self.free or self.position[n] > boundary:
            return False
        return any(self.position[u] > boundary for u in self.users.get(n, ()))

    def _region(self, read: Sequence[Node], boundary: int) -> list[Node]:
        """What late readers read, and what that can be computed from, producers first."""
        found, stack = set(read), list(read)
        while stack:
            n = stack.pop()
            if self._is_cheap(n, boundary):
                more = [x for x in n.inputs if x not in self.free and x not in found]
                found.update(more)
                stack += more
        return [n for n in self.nodes if n in found]

    def _is_cheap(self, n: Node, boundary: int) -> bool:
        """Whether a value can be computed again: loops do it, and the bits are the same. Numbers of 16
        bits are rounded where they are stored: so loops neither read copies of them, nor make copies
        of what they were held in registers for.
        """
        if n.op.kind != "pointwise" or n.op.results > 1 or n in self.kept:
            return n.op.kind == "view"
        if any(is_short(x) and x.op is not None for x in n.inputs):
            return False
        return not is_short(n) or not self._is_read_by_loops(n, boundary)

    def _is_read_by_loops(self, n: Node, boundary: int) -> bool:
        late = [u for u in self.users.get(n, ()) if self.position[u] > boundary]
        return any(u.op.kind in ("pointwise", "reduce") for u in late)

    def _cost(self, n: Node, boundary: int) -> int:
        """What it costs to compute a value again, in parts of bytes."""
        users = self.users.get(n, ())
        if n.op.kind == "view" or all(self.position[u] > boundary for u in users):
            return 0
        cost = COSTLY if getattr(n.op, "is_costly", False) else CHEAP
        if any(
            self.position[u] > boundary and u.op.kind not in ("pointwise", "reduce") for u in users
        ):
            cost += PASS
        return cost * _bytes(n)


def _bytes(n: Node) -> int:
    """Of a node's value, as plain numbers: choices are no guards of sizes."""
    return numel([int.__int__(s) for s in n.spec.shape]) * n.spec.dtype.itemsize
