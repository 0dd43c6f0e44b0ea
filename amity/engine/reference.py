"""Graphs run in NumPy: what every op means, without a kernel. The oracle of the tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from amity.core.dtype import BY_NUMPY
from amity.ir.graph import Graph, Node, Spec
from amity.ops.record import Op, Pointwise, opmath, weak_spec


def spec_of(value: Any) -> Spec:
    """What an op's shape rule sees of an array or a number."""
    return Spec(value.shape, BY_NUMPY[value.dtype]) if hasattr(value, "dtype") else weak_spec(value)


def meaning(op: Op, *values: Any, specs: Sequence[Spec] | None = None) -> Any:
    """The result of a bound op on arrays and Python numbers: one array, or a tuple of them.

    dtype: that of the op's rule; 16-bit floats are computed as float32 and rounded at the end
    """
    specs = [spec_of(v) for v in values] if specs is None else specs
    results = op.infer(*specs)
    with np.errstate(all="ignore"):
        out = op.reference(*_arguments(op, values, specs))
        if isinstance(results, Spec):
            return np.asarray(out).astype(results.dtype.numpy)
        return tuple(np.asarray(o).astype(r.dtype.numpy) for o, r in zip(out, results, strict=True))


def _arguments(op: Op, values: Sequence[Any], specs: Sequence[Spec]) -> list[Any]:
    """The values as kernels load them."""
    if isinstance(op, Pointwise):
        wanted = [opmath(d) for d in op.argument_dtypes(*specs)]
    elif op.kind == "view":  # bytes stay what they are
        return list(values)
    else:
        wanted = [opmath(s.dtype) for s in specs]
    return [
        v if s.is_weak and not isinstance(op, Pointwise) else np.asarray(v).astype(d.numpy)
        for v, d, s in zip(values, wanted, specs, strict=True)
    ]


def run(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of a graph for these inputs."""
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    several: dict[tuple, tuple] = {}  # results of one op, of which each node is one
    for node in graph.nodes():
        if node in values:
            continue
        if node.op.kind == "constant":
            values[node] = node.op.value
            continue
        key = (node.op, node.inputs)
        if key not in several:
            out = meaning(
                node.op, *(values[x] for x in node.inputs), specs=[x.spec for x in node.inputs]
            )
            several[key] = out if isinstance(out, tuple) else (out,)
        values[node] = several[key][node.index]
    return [values[n] for n in graph.outputs]
