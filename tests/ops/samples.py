"""What the samples of ops stand for: tensors of fixed random numbers, and the calls on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

import numpy as np

import amity
from amity.core.dtype import DType
from amity.frontend.bind import trace_op
from amity.frontend.trace import graph_of, input_node, traced
from amity.ir.graph import Graph, Node
from amity.ops.record import COMPOSITES, REGISTRY, Composite, Op, Sample

OPS: dict[str, Any] = {**REGISTRY, **COMPOSITES}  # every record and composite by name
KINDS = {"b": amity.bool, "i": amity.int64}  # of what a sample asks for; else a float
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 2e-5, "float64": 1e-9}


def bound(op: Any, sample: Sample) -> Callable:
    """The op with a sample's attributes."""
    if isinstance(op, Composite):
        return lambda *values: op(*values, **sample.attributes)
    return op(**sample.attributes)


def is_spec(given: Any) -> bool:
    """Whether a sample gives a shape and a kind of numbers, rather than a value."""
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str)


def numbers(shape: Sequence[int], kind: str, dtype: DType, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the range that a kind names: see `Sample`."""
    if dtype.kind == "b":
        return np.asarray(rng.random(shape) > 0.4)
    if dtype.kind != "f":
        low = {"p": 1, "g": 2}.get(kind, -9 if dtype.kind == "i" and kind in "fi" else 0)
        return np.asarray(rng.integers(low, 2 if kind in "us" else 9, shape)).astype(dtype.numpy)
    values = rng.standard_normal(shape)
    if kind in "us":
        values = rng.random(shape) * 0.8 + 0.1 if kind == "u" else rng.random(shape) * 1.6 - 0.8
    if kind in "pg":
        values = np.abs(values) + (0.1 if kind == "p" else 1.1)
    return np.asarray(values).astype(dtype.numpy)


def inputs(
    name: str, sample: Sample, dtype: DType | None = None, floats: DType = amity.float32
) -> list[Any]:
    """The free inputs of a sample: tensors, and what else it gives as it is.

    Shapes become integers, bools or `floats` as the sample says; all but bools `dtype` if given.
    """
    rng = np.random.default_rng(crc32(name.encode()))
    out = []
    for given in sample.inputs:
        if is_spec(given):
            shape, kind = given
            own = KINDS.get(kind, floats)
            of = own if dtype is None or kind == "b" else dtype
            out.append(amity.from_numpy(numbers(shape, kind, of, rng)))
        else:
            out.append(amity.tensor(given) if isinstance(given, np.ndarray) else given)
    return out


def given(name: str, sample: Sample, *dtypes: Any, **floats: Any) -> list[Any]:
    """What the op is called with."""
    values = inputs(name, sample, *dtypes, **floats)
    return values if sample.through is None else list(sample.through(*values))


def strided(values: Sequence[Any]) -> list[Any]:
    """Tensors that show every second element of their memory."""
    out = []
    for v in values:
        if isinstance(v, amity.Tensor) and v.ndim:
            wide = amity.zeros((*v.shape[:-1], v.shape[-1] * 2), dtype=v.dtype)
            wide[..., ::2] = v
            v = wide[..., ::2]
        out.append(v)
    return out


def emptied(sample: Sample) -> Sample | None:
    """A sample of an elementwise op without elements."""

    def cut(g: Any) -> Any:
        if is_spec(g):
            return ((*g[0][:-1], 1 if g[0][-1] == 1 else 0), g[1]) if g[0] else g
        return g[..., :0] if isinstance(g, np.ndarray) else g

    changed = [cut(g) for g in sample.inputs]
    found = any(is_spec(g) and 0 in g[0] for g in changed)
    return Sample(*changed, **sample.attributes) if found else None


def arrays(values: Any) -> list[Any]:
    """Tensors as arrays; the rest as it is."""
    return [v.detach().numpy() if isinstance(v, amity.Tensor) else v for v in values]


def graph_of_call(call: Callable, values: Sequence[Any]) -> Graph:
    """What a call of an op writes in a trace, over the tensors among its arguments."""
    nodes: list[Node] = []
    marks = []
    for v in values:
        if isinstance(v, amity.Tensor):
            nodes.append(input_node(v.dtype, tuple(v.shape)))
            v = traced(nodes[-1])
        marks.append(v)
    with amity.no_grad():
        out = trace_op(call, marks) if isinstance(call, Op) else call(*marks)
    return graph_of(nodes, out if isinstance(out, tuple) else (out,))
