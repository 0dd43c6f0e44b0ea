"""Graphs run in NumPy: what every op means, without a kernel. The oracle of the tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from amity.core.dtype import BY_NUMPY, float64
from amity.ir.graph import Graph, Node, Spec, needed
from amity.ops.record import Op, Pointwise, opmath, weak_spec


def spec_of(value: Any) -> Spec:
    """What an op's shape rule sees of an array or a number."""
    return Spec(value.shape, BY_NUMPY[value.dtype]) if hasattr(value, "dtype") else weak_spec(value)


def meaning(
    op: Op, *values: Any, specs: Sequence[Spec] | None = None, is_wide: bool = False
) -> Any:
    """The result of a bound op on arrays and Python numbers: one array, or a tuple of them.

    dtype: that of the op's rule; 16-bit floats are computed as float32 and rounded at the end; where
    `is_wide`, all floats are computed as float64 and not rounded
    """
    specs = [spec_of(v) for v in values] if specs is None else specs
    results = op.infer(*specs)
    with np.errstate(all="ignore"):
        out = op.reference(*_arguments(op, values, specs, is_wide))
        if isinstance(results, Spec):
            return _rounded(out, results, is_wide)
        return tuple(_rounded(o, r, is_wide) for o, r in zip(out, results, strict=True))


def _rounded(out: Any, spec: Spec, is_wide: bool) -> Any:
    is_kept = is_wide and spec.dtype.kind == "f"
    return np.asarray(out).astype(np.float64 if is_kept else spec.dtype.numpy)


def _arguments(op: Op, values: Sequence[Any], specs: Sequence[Spec], is_wide: bool) -> list[Any]:
    """The values as kernels load them, or as wide as can be."""
    if isinstance(op, Pointwise):
        wanted = [opmath(d) for d in op.argument_dtypes(*specs)]
    elif op.kind == "view":  # bytes stay what they are
        return list(values)
    else:
        wanted = [opmath(s.dtype) for s in specs]
    if is_wide:
        wanted = [float64 if d.kind == "f" else d for d in wanted]
    return [
        v if s.is_weak and not isinstance(op, Pointwise) else np.asarray(v).astype(d.numpy)
        for v, d, s in zip(values, wanted, specs, strict=True)
    ]


def run(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of a graph for these inputs."""
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    for _ in follow(graph.outputs, values):
        pass
    return [values[n] for n in graph.outputs]


def follow(
    wanted: Sequence[Node], values: dict[Node, Any], is_wide: bool = False
) -> Iterator[Node]:
    """Each node that the wanted ones need beyond those in `values`, once its value is there too."""
    several: dict[tuple, tuple] = {}  # results of one op, of which each node is one
    for node in needed(wanted, values):
        if node.op.kind == "constant":
            spec, value = node.spec, node.op.value
            values[node] = value if spec.is_weak else np.full(spec.shape, value, spec.dtype.numpy)
        else:
            key = (node.op, node.inputs)
            if key not in several:
                inputs, specs = [values[x] for x in node.inputs], [x.spec for x in node.inputs]
                out = meaning(node.op, *inputs, specs=specs, is_wide=is_wide)
                several[key] = out if isinstance(out, tuple) else (out,)
            values[node] = several[key][node.index]
        yield node


# -- how far results may be from it

# How far results may be from NumPy's, as part of the largest of them and of each: sums are added in
# another order, and what is fused is rounded less often.
UNSURE = 100  # times as far as NumPy's own results are from those in double precision
TOLERANCE = {"float64": 1e-9, "float32": 1e-4, "float16": 4e-3, "bfloat16": 3e-2}


def plain(value: Any) -> np.ndarray:
    """An array of a dtype that NumPy itself has."""
    array = np.asarray(value)
    return array if array.dtype.kind in "biuf" else array.astype(np.float32)


def place(shape: Sequence[int], flat: int) -> str:
    return str([int(i) for i in np.unravel_index(flat, tuple(shape))])


def shown(value: Any) -> str:
    array = np.asarray(value)
    return f"{array.dtype.name}[{', '.join(map(str, array.shape))}]"


def departure(got: Any, want: Any, wide: Any = None) -> str:
    """Where an array is further from what it should be than TOLERANCE, and by how much; "" if it is
    not. `wide` is what it should be, computed in double precision: where that differs too, as sums
    that cancel do, more is allowed.
    """
    a, b = plain(got), plain(want)
    if not a.size:
        return ""
    if a.dtype.kind in "biu":
        wrong, within = a != b, "exactly"
    else:
        part = TOLERANCE[np.asarray(got).dtype.name]
        a, b = a.astype(np.float64), b.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        size = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        with np.errstate(invalid="ignore"):
            unsure = 0.0 if wide is None else np.abs(b - plain(wide))
            unsure = UNSURE * np.max(unsure, where=np.isfinite(unsure), initial=0.0)
            wrong = ~(same | (np.abs(a - b) <= part * (size + np.abs(b)) + unsure))
        wrong |= ~same & ~np.isfinite(b)
        within = f"within {part:g} of the largest"
    if not wrong.any():
        return ""
    flat = int(np.flatnonzero(wrong)[0])
    return (
        f"{a.flat[flat]} at {place(a.shape, flat)} of {shown(got)} ({int(wrong.sum())} of {a.size} "
        f"differ); expected {b.flat[flat]}, as NumPy gives, {within}"
    )
