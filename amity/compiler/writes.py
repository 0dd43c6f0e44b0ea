"""Results that are written to arguments: in what order, and when an argument is free to take one."""

from __future__ import annotations

from collections.abc import Sequence

from amity.ir.graph import Graph, Node

from . import pipeline


class Writes:
    """Which arguments a graph writes, and who reads them."""

    def __init__(self, graph: Graph, given: dict[int, int], roots: Sequence[int]) -> None:
        self.graph, self.roots = graph, roots
        self.targets: dict[int, int] = {}  # id(node) -> argument that receives it
        for o, a in given.items():
            self.targets.setdefault(id(graph.outputs[o]), a)
        self.all = [n for n in graph.nodes() if n.op is not None]
        self.users: dict[int, list[Node]] = {}
        for n in self.all:
            for x in n.inputs:
                self.users.setdefault(id(x), []).append(n)
        self._several: dict[tuple, list[Node | None]] = {}  # by op and inputs
        self.readers: dict[int, set[int]] = {}  # root -> ids of the nodes that read its memory
        written = {roots[a] for a in given.values()}
        for i, node in enumerate(graph.inputs):
            if roots[i] in written:
                self._note_readers(node, self.readers.setdefault(roots[i], set()))

    def _note_readers(self, node: Node, found: set[int]) -> None:
        """Those that read a node's memory, itself or through views."""
        for user in self.users.get(id(node), ()):
            if user.op.kind == "view":
                self._note_readers(user, found)
            else:
                found.add(id(user))

    def siblings(self, node: Node) -> list[Node | None]:
        """The nodes of all results of a node's op, in order; None for a result nobody wants."""
        if node.op.results == 1:
            return [node]
        if not self._several:
            for n in self.all:
                if n.op.results > 1:
                    results = self._several.setdefault((n.op, n.inputs), [None] * n.op.results)
                    results[n.index] = n
        return self._several[node.op, node.inputs]

    def target(self, node: Node) -> int | None:
        """The argument that a node's value is meant for."""
        return self.targets.get(id(node))

    def is_read(self, argument: int, *done: set[int]) -> bool:
        """Whether nodes other than those that are done read an argument's memory."""
        left = self.readers[self.roots[argument]]
        for nodes in done:
            left = left - nodes
        return bool(left)

    def order(self) -> list[Node]:
        """All nodes, producers first; what only updates of arguments need comes last, together."""
        is_on = pipeline.is_on("defer")
        if not is_on or len(self.targets) < 2 or len(self.targets) == len(self.all):
            return self.all
        late: set[int] = set()
        wanted = {id(n) for n in self.graph.outputs}
        for n in reversed(self.all):
            if n.op.kind in ("pointwise", "constant") and (
                id(n) in self.targets
                or (id(n) not in wanted and all(id(u) in late for u in self.users[id(n)]))
            ):
                late.add(id(n))
        for n in self.all:  # what others need cannot wait
            if id(n) in late and any(id(u) not in late for u in self.users.get(id(n), ())):
                self._hurry(n, late)
        return [n for n in self.all if id(n) not in late] + self._together(late)

    def _together(self, late: set[int]) -> list[Node]:
        """Late nodes, producers first, those of one update next to each other."""
        order: dict[int, Node] = {}
        for end in self.all:
            if id(end) not in late or any(id(u) in late for u in self.users.get(id(end), ())):
                continue
            stack = [end]
            while stack:
                node = stack[-1]
                missing = [x for x in node.inputs if id(x) in late and id(x) not in order]
                if missing:
                    stack += reversed(missing)
                else:
                    order.setdefault(id(stack.pop()), node)
        return list(order.values())

    def _hurry(self, node: Node, late: set[int]) -> None:
        stack = [node]
        while stack:
            n = stack.pop()
            if id(n) in late:
                late.discard(id(n))
                stack += n.inputs
