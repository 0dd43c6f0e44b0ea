"""The tape's parts: nodes, leaves, and the modes that say whether to record.

A node is a list, as making one is the cheapest thing Python can do:
`[seq, rule, edges, saved, versions, layouts, hooks]`. `seq` falls with time, so a heap pops the
latest node first; `rule.apply(node, g)` gives a gradient for each edge; an edge is the node of an
input, or None where no gradient is wanted. A leaf is `[seq, ACCUMULATE, grad, after, tensor, …]`
with a positive `seq`, so that leaves come last, when their gradient is complete; `after` are hooks
that run when `grad` was added to, `tensor` a weak reference.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any
from weakref import ref

from amity.engine import lines

SEQ, RULE, EDGES, SAVED, VERSIONS, LAYOUTS, HOOKS, WHERE = range(8)
next_seq = count(-1, -1).__next__
next_leaf = count(1).__next__
FREED = object()
lines.install(next_seq)


class Modes(threading.local):
    """Per thread: whether ops are recorded, and how."""

    grad = True
    inference = False
    anomaly = False
    checks_nan = False
    in_backward = False


modes = Modes()


class Rule:
    """How gradients pass a node."""

    name = "rule"
    is_fresh: bool | None = False  # whether each gradient that `apply` gives has memory of its own

    def apply(self, node: list, g: Any) -> Any:
        """Gradients for the node's edges, given the gradient of its result."""
        raise RuntimeError(f"{self.name}: the rule has no derivative")

    def label(self) -> str:
        """What `grad_fn` shows."""
        return "".join(w[:1].upper() + w[1:] for w in self.name.split("_")) + "Backward0"

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Accumulate(Rule):
    """The end of an edge: a leaf's `.grad`."""

    name = "AccumulateGrad"

    def label(self) -> str:
        return self.name


class Output(Rule):
    """One of several results of a node: `[seq, OUTPUT, (parent,), index]`."""

    name = "Output"


ACCUMULATE, OUTPUT = Accumulate(), Output()


class Hooks:
    """What is called with a node's gradients: `before` and `after` its rule, by key; `kept` is a weak
    reference to the tensor whose `.grad` takes what the former made of them."""

    __slots__ = ("after", "before", "kept")

    def __init__(self) -> None:
        self.before: dict[int, Callable] = {}
        self.after: dict[int, Callable] = {}
        self.kept: ref | None = None


def hooks_of(node: list) -> Hooks:
    """A node's hooks, made when first asked for."""
    if node[HOOKS] is None:
        node[HOOKS] = Hooks()
    return node[HOOKS]


def keep_grad(t: Any) -> None:
    """Let the node that made a tensor set its `.grad`."""
    t.__dict__["_retains_grad"] = True
    hooks_of(t.tape).kept = ref(t)


def retie(t: Any, tape: list) -> None:
    """Give a tensor that was written to its new place on the tape; a kept gradient is that one's."""
    before, t.tape = t.tape, tape
    if "_retains_grad" in t.__dict__:
        hooks_of(before).kept = None
        keep_grad(t)


def leaf(tensor: Any) -> list:
    """The tape of a new leaf: no gradient, no hooks."""
    return [next_leaf(), ACCUMULATE, None, None, ref(tensor), (), None]


def with_grads(tensors: Iterable[Any]) -> list[Any]:
    """Each tensor that has a `.grad`, followed by it."""
    found: list[Any] = []
    for t in tensors:
        tape = t.tape
        g = tape[2] if tape is not None and tape[RULE] is ACCUMULATE else t.grad
        if g is not None:
            found += (t, g)
    return found


def drop_grads(tensors: Iterable[Any]) -> None:
    """Set the `.grad` of each tensor to None."""
    for t in tensors:
        tape = t.tape
        if tape is not None and tape[RULE] is ACCUMULATE:
            tape[2] = None
        else:
            t.grad = None


def is_leaf(tape: list | None) -> bool:
    return tape is None or tape[RULE] is ACCUMULATE
