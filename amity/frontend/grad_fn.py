"""Nodes of the tape as people see them: `y.grad_fn`, its name, its edges and its hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .autograd import Handle
from .tape import ACCUMULATE, EDGES, OUTPUT, RULE, hooks_of, is_leaf
from .tensor import Tensor


class GradFn:
    """A node of the tape.

    >>> import amity
    >>> amity.ones(2, requires_grad=True).exp().grad_fn
    <ExpBackward0>
    """

    def __init__(self, node: list) -> None:
        self._node = node[EDGES][0] if node[RULE] is OUTPUT else node

    def name(self) -> str:
        return self._node[RULE].label()

    @property
    def next_functions(self) -> tuple:
        """What made the inputs, each with the number of its result; None where no gradient goes."""
        edges = () if self._node[RULE] is ACCUMULATE else self._node[EDGES]
        return tuple((None if e is None else GradFn(e), output_number(e)) for e in edges)

    @property
    def variable(self) -> Tensor | None:
        """The leaf whose `.grad` this node adds to."""
        if self._node[RULE] is not ACCUMULATE:
            raise AttributeError(f"{self.name()} has no attribute 'variable'")
        return self._node[4]()

    def register_hook(self, hook: Callable) -> Handle:
        """Call `hook(grad_inputs, grad_outputs)` after this node ran; it may replace grad_inputs."""
        return Handle.of(hooks_of(self._node).after, hook)

    def register_prehook(self, hook: Callable) -> Handle:
        """Call `hook(grad_outputs)` before this node runs; what it returns replaces them."""

        def before(g: Any) -> Any:
            is_list = type(g) is list
            out = hook(tuple(g) if is_list else (g,))
            return out if out is None else list(out) if is_list else out[0]

        return Handle.of(hooks_of(self._node).before, before)

    def __repr__(self) -> str:
        return f"<{self.name()}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GradFn) and other._node is self._node

    def __hash__(self) -> int:
        return id(self._node)


def output_number(node: list | None) -> int:
    """Which of its node's results a tensor is."""
    return node[3] if node is not None and node[RULE] is OUTPUT else 0


def grad_fn(self: Tensor) -> GradFn | None:
    """The node that made this tensor; None for leaves."""
    return None if is_leaf(self.tape) else GradFn(self.tape)


Tensor.grad_fn = property(grad_fn)
Tensor.output_nr = property(lambda self: output_number(self.tape))
