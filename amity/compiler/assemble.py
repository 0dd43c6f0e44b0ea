"""Graphs put together from graphs and from looks at memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amity.core.layout import Layout
from amity.ir.graph import NOWHERE, Graph, Node, Where
from amity.ops.movement import Permute, Reshape
from amity.ops.strided import AsStrided


def apply(op: Any, x: Node) -> Node:
    """A view of a node."""
    return Node(op, (x,), op.infer(x.spec), 0, x.where)


def inline(graph: Graph, values: Sequence[Node], where: Where = NOWHERE) -> list[Node]:
    """The results of a graph on other inputs."""
    table = dict(zip(graph.inputs, values, strict=True))
    for n in graph.nodes():
        if n not in table:
            table[n] = Node(n.op, [table[x] for x in n.inputs], n.spec, n.index, where)
    return [table[o] for o in graph.outputs]


def seen(value: Node, held: Layout, lay: Layout, offset: int) -> Node:
    """What a layout shows, `offset` bytes on, of the memory that holds a value as `held`."""
    if held is lay and not offset:
        return value
    if held.is_contiguous and lay.is_contiguous and not offset and held.numel == lay.numel:
        return apply(Reshape(tuple(lay.shape)), value)
    dims = permutation(held, lay) if not offset else None
    if dims is not None:
        return apply(Permute(dims), value)
    memory = value
    if not held.is_contiguous:
        order = sorted(range(held.ndim), key=lambda d: (-held.strides[d], d))
        memory = apply(Permute(tuple(order)), memory)
    strided = AsStrided(tuple(lay.shape), tuple(lay.strides), offset // lay.dtype.itemsize)
    return apply(strided, memory)


def permutation(held: Layout, lay: Layout) -> tuple[int, ...] | None:
    """The order of dimensions in which one layout shows the memory of another, if it is just that."""
    if held.ndim != lay.ndim or held.numel != lay.numel:
        return None
    left = list(range(held.ndim))
    dims = []
    for n, s in zip(lay.shape, lay.strides, strict=True):
        found = [d for d in left if held.shape[d] == n and (n == 1 or held.strides[d] == s)]
        if not found:
            return None
        dims.append(found[0])
        left.remove(found[0])
    return tuple(dims)
