"""The tape's parts: nodes, leaves, and the modes that say whether to record.

A node is a list, as making one is the cheapest thing Python can do:
`[seq, rule, edges, saved, versions, layouts, hooks]`. `seq` falls with time, so a heap pops the
latest node first; `rule.apply(node, g)` gives a gradient for each edge; an edge is the node of an
input, or None where no gradient is wanted. A leaf is `[seq, ACCUMULATE, grad, hooks, …]` with a
positive `seq`, so that leaves come last, when their gradient is complete.
"""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

SEQ, RULE, EDGES, SAVED, VERSIONS, LAYOUTS, HOOKS, WHERE = range(8)
next_seq = count(-1, -1).__next__
next_leaf = count(1).__next__
FREED = object()


class Modes(threading.local):
    """Per thread: whether ops are recorded, and how."""

    grad = True
    inference = False
    anomaly = False
    in_backward = False


modes = Modes()


class Rule:
    """How gradients pass a node."""

    name = "rule"

    def apply(self, node: list, g: Any) -> Any:
        """Gradients for the node's edges, given the gradient of its result."""
        raise RuntimeError(f"{self.name}: the rule has no derivative")

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Accumulate(Rule):
    """The end of an edge: a leaf's `.grad`."""

    name = "AccumulateGrad"


class Output(Rule):
    """One of several results of a node: `[seq, OUTPUT, (parent,), index]`."""

    name = "Output"


ACCUMULATE, OUTPUT = Accumulate(), Output()


def leaf() -> list:
    """A new leaf: no gradient, no hooks."""
    return [next_leaf(), ACCUMULATE, None, None, None, (), None]


def is_leaf(tape: list | None) -> bool:
    return tape is None or tape[RULE] is ACCUMULATE
