"""Nodes that are equal become one."""

from __future__ import annotations

from typing import Any

from amity.ir.graph import Graph, Node


def share(graph: Graph) -> Graph:
    """The same graph with one node for each op on the same inputs. Ops are pure: those of random
    numbers take their counters as inputs.
    """
    if len(graph.outputs) == 1 and all(x.op is None for x in graph.outputs[0].inputs):
        return graph  # one op, as in eager
    table: dict[Node, Node] = {n: n for n in graph.inputs}
    found: dict[tuple[Any, ...], Node] = {}
    for n in graph.nodes():
        if n in table:
            continue
        inputs = tuple([table[x] for x in n.inputs])
        key = (n.op, inputs, n.index, n.spec)
        node = found.get(key)
        if node is None:
            is_same = inputs == n.inputs
            node = found[key] = n if is_same else Node(n.op, inputs, n.spec, n.index, n.where)
        table[n] = node
    return Graph(graph.inputs, [table[o] for o in graph.outputs])
