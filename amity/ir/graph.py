"""Graphs: what is computed, without when or where. Nodes never change once made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from amity.core.dtype import DType
from amity.core.shape import Shape, numel


@dataclass(frozen=True, slots=True)
class Spec:
    """What is known of a value before it is computed. A `weak` one is a Python number."""

    shape: Shape
    dtype: DType
    is_weak: bool = False

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> int:
        return numel(self.shape)

    def __str__(self) -> str:
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]"


class Node:
    """One op applied to nodes. `op` is a bound record, or None for an input of the graph.

    An op with several results has one node per result: `index` says which.
    """

    __slots__ = ("index", "inputs", "op", "spec", "where")

    def __init__(
        self, op: Any, inputs: Sequence[Node], spec: Spec, index: int = 0, where: str = ""
    ) -> None:
        self.op, self.inputs, self.spec, self.index, self.where = (
            op,
            tuple(inputs),
            spec,
            index,
            where,
        )

    def __repr__(self) -> str:
        return f"Node({self.op or 'input'} {self.spec})"


@dataclass
class Graph:
    """Inputs (nodes without an op, in the order of the arguments) and the nodes wanted of them."""

    inputs: list[Node]
    outputs: list[Node]
    constants: dict[Node, Any] = field(default_factory=dict)

    def nodes(self) -> list[Node]:
        """All nodes that the outputs need, inputs first, producers before users."""
        order: list[Node] = []
        done: set[Node] = set()
        for root in self.outputs:
            stack = [root]
            while stack:
                node = stack[-1]
                missing = [x for x in node.inputs if x not in done]
                if missing and node not in done:
                    stack += reversed(missing)
                    continue
                stack.pop()
                if node not in done:
                    done.add(node)
                    order.append(node)
        return order


def text(graph: Graph) -> str:
    """The graph as lines: `%3 = softmax(%2, dim=-1)  # float32[2, 3]`."""
    names = {id(n): f"%{i}" for i, n in enumerate(graph.inputs)}
    lines = [f"{names[id(n)]} = input()  # {n.spec}" for n in graph.inputs]
    for node in graph.nodes():
        if id(node) in names:
            continue
        names[id(node)] = f"%{len(names)}"
        args = [names[id(x)] for x in node.inputs]
        args += [f"{k}={v!r}" for k, v in node.op.attributes().items()]
        result = f"[{node.index}]" if node.index else ""
        lines.append(
            f"{names[id(node)]} = {node.op.name}({', '.join(args)}){result}  # {node.spec}"
        )
    return "\n".join([*lines, "return " + ", ".join(names[id(n)] for n in graph.outputs)])
