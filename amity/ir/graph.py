"""Graphs: what is computed, without when or where. Nodes never change once made."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amity.core.dtype import BY_NAME, DType
from amity.core.shape import Shape, numel


class Spec:
    """What is known of a value before it is computed. A `weak` one is a Python number."""

    __slots__ = ("dtype", "is_weak", "shape")

    def __init__(self, shape: Shape, dtype: DType, is_weak: bool = False) -> None:
        self.shape, self.dtype, self.is_weak = shape, dtype, is_weak

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[Shape, DType, bool]:
        return self.shape, self.dtype, self.is_weak

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def numel(self) -> int:
        return numel(self.shape)

    def __str__(self) -> str:
        weak = " weak" if self.is_weak else ""
        return f"{self.dtype.name}[{', '.join(map(str, self.shape))}]{weak}"

    __repr__ = __str__


class Where:
    """Who asked for some nodes: `file:line` of the user's program, empty as long as nobody said."""

    __slots__ = ("line",)

    def __init__(self, line: str = "") -> None:
        self.line = line

    def __repr__(self) -> str:
        return self.line


NOWHERE = Where()


class Node:
    """One op applied to nodes. `op` is a bound record, or None for an input of the graph.

    An op with several results has one node per result: `index` says which.
    """

    __slots__ = ("index", "inputs", "op", "spec", "where")

    def __init__(
        self, op: Any, inputs: Sequence[Node], spec: Spec, index: int = 0, where: Where = NOWHERE
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
    _order: list[Node] | None = field(default=None, init=False, repr=False, compare=False)

    def nodes(self) -> list[Node]:
        """All nodes that the outputs need, inputs first, producers before users."""
        if self._order is None:
            self._order = needed(self.outputs)
        return self._order

    def in_order(self, order: list[Node]) -> Graph:
        """The same graph, whose nodes come in this order, producers before users."""
        graph = Graph(self.inputs, self.outputs, self.constants)
        graph._order = order
        return graph


def needed(wanted: Sequence[Node], known: Iterable[Node] = ()) -> list[Node]:
    """All nodes that some nodes need, producers before users, but for those that are known and what
    only they need.
    """
    order: dict[Node, None] = dict.fromkeys(known)
    first = len(order)
    for root in wanted:
        stack = [root]
        while stack:
            node = stack[-1]
            if node not in order:
                missing = [x for x in node.inputs if x not in order]
                if missing:
                    stack += reversed(missing)
                    continue
                order[node] = None
            stack.pop()
    return list(order)[first:]


def text(graph: Graph) -> str:
    """The graph as lines: `%3 = softmax(%2, dim=-1)  # float32[2, 3]`."""
    lines = texts(graph)
    results = ", ".join(lines[n].partition(" ")[0] for n in graph.outputs)
    return "\n".join([*lines.values(), f"return {results}"])


def texts(graph: Graph) -> dict[Node, str]:
    """The line of each node."""
    names = {n: f"%{i}" for i, n in enumerate(graph.inputs)}
    lines = {n: f"{name} = input()  # {n.spec}" for n, name in names.items()}
    for node in graph.nodes():
        if node in names:
            continue
        names[node] = f"%{len(names)}"
        args = [names[x] for x in node.inputs]
        args += [f"{k}={v!r}" for k, v in node.op.attributes().items()]
        result = f"[{node.index}]" if node.index else ""
        call = f"{node.op.name}({', '.join(args)}){result}"
        lines[node] = f"{names[node]} = {call}  # {node.spec}"
    return lines


def parse(lines: str, ops: Mapping[str, Any]) -> Graph:
    """The graph that `text` printed; `ops` finds a record by its name.

    What follows `#` says what an input is; all others follow from the rules of their ops.
    """
    nodes: dict[str, Node] = {}
    inputs: list[Node] = []
    for line in lines.splitlines():
        if line.startswith("return "):
            return Graph(inputs, [nodes[n] for n in line.removeprefix("return ").split(", ")])
        name, code = line.split(" = ", 1)
        code, _, shown = code.rpartition("  # ")
        if code == "input()":
            nodes[name] = Node(None, (), _spec(shown))
            inputs.append(nodes[name])
        else:
            nodes[name] = _node(code, nodes, ops)
    raise ValueError("parse: got no line with `return`; expected one at the end")


def _spec(shown: str) -> Spec:
    found = re.fullmatch(r"(\w+)\[([\d, ]*)\]( weak)?", shown)
    if found is None or found[1] not in BY_NAME:
        raise ValueError(f"parse: got {shown!r}; expected a dtype and a shape")
    shape = tuple(int(n) for n in found[2].split(", ") if n)
    return Spec(shape, BY_NAME[found[1]], found[3] is not None)


def _node(code: str, nodes: Mapping[str, Node], ops: Mapping[str, Any]) -> Node:
    """The node of `softmax(%2, dim=-1)`, or of one of several results: `sort(%2, dim=0)[1]`."""
    call: Any = ast.parse(re.sub(r"%(\d+)", r"_\1", code), mode="eval").body
    index = 0
    if isinstance(call, ast.Subscript):
        call, index = call.value, ast.literal_eval(call.slice)
    if call.func.id not in ops:
        raise ValueError(f"parse: got the op {call.func.id!r}; expected one that is known")
    op = ops[call.func.id](**{k.arg: _value(k.value) for k in call.keywords})
    inputs = [nodes["%" + a.id[1:]] for a in call.args]
    specs = op.infer(*(n.spec for n in inputs))
    return Node(op, inputs, specs[index] if isinstance(specs, tuple) else specs, index)


def _value(code: Any) -> Any:
    """An attribute: a literal, a dtype, infinity or NaN, or a tuple of such."""
    if isinstance(code, ast.Tuple):
        return tuple(_value(v) for v in code.elts)
    if isinstance(code, ast.Attribute):
        return BY_NAME[code.attr]
    if isinstance(code, ast.Name):
        return float(code.id)
    if isinstance(code, ast.UnaryOp) and isinstance(code.operand, ast.Name):
        return -float(code.operand.id)
    return ast.literal_eval(code)
