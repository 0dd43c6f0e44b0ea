"""Every record and composite, on every sample of its own: meaning, shapes, gradients, errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import amity
from amity.core.dtype import ALL, FLOATING, DType, float64, int64
from amity.engine import reference
from amity.frontend.bind import spec_of
from amity.ir.graph import parse, text
from amity.ops.record import REGISTRY, Composite, Op, Pointwise, Sample
from tests.ops.samples import (
    OPS,
    TOLERANCE,
    arrays,
    bound,
    emptied,
    given,
    graph_of_call,
    inputs,
    is_spec,
    strided,
)

every_op = pytest.mark.parametrize("name", OPS)


def several(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def wide(array: np.ndarray) -> np.ndarray:
    """A result as numbers that NumPy compares."""
    return array if array.dtype.kind in "biu" else array.astype(np.float64)


def same(call: Callable, values: list, expected: tuple, where: str) -> None:
    """The same dtypes and shapes, and values up to the rounding of the coarsest dtype."""
    got = several(call(*values))
    assert len(got) == len(expected), where
    floats = [v.dtype for v in values if isinstance(v, amity.Tensor) and v.dtype.kind == "f"]
    coarsest = max((TOLERANCE[d.name] for d in floats), default=0)
    for g, e in zip(got, expected, strict=True):
        assert (g.dtype.numpy, tuple(g.shape)) == (e.dtype, e.shape), where
        t = max(TOLERANCE[g.dtype.name], coarsest) if g.dtype.kind == "f" else 0
        np.testing.assert_allclose(wide(g.detach().numpy()), wide(e), t, t, err_msg=where)


def meaning(call: Callable, values: list) -> tuple:
    """What NumPy makes of an op: by its own rule, or by those of the primitives it is made of."""
    if isinstance(call, Op):
        return several(reference.meaning(call, *arrays(values)))
    tensors = [v for v in values if isinstance(v, amity.Tensor)]
    return tuple(reference.run(graph_of_call(call, values), arrays(tensors)))


@every_op
def test_has_samples(name):
    assert OPS[name].samples and OPS[name].errors


def cases(name: str) -> Iterator[tuple[Sample, Callable, list]]:
    """Each sample of an op, the op with the sample's attributes, and what it is called with."""
    for i, sample in enumerate(OPS[name].samples):
        yield sample, bound(OPS[name], sample), given(f"{name}{i}", sample, floats=float64)


@every_op
def test_meaning(name):
    """Eager gives what NumPy gives, wherever the elements lie in memory."""
    op = OPS[name]
    for i, (sample, call, values) in enumerate(cases(name)):
        expected = meaning(call, values)
        same(call, values, expected, f"sample {i}")
        if i == 0 and not getattr(op, "is_of_memory", False):
            same(call, strided(values), expected, "strided")
            none = emptied(sample) if isinstance(call, Pointwise) else None
            if none is not None:
                values = given(name, none, floats=float64)
                same(call, values, meaning(call, values), "without elements")


@every_op
def test_compiled(name):
    """A compiled function that squares, calls the op and doubles gives what it gives eagerly."""

    def function(*values: Any) -> tuple:
        changed = [v * v if is_floating(v) else v for v in values]
        return tuple([y + y if is_floating(y) else y for y in several(call(*changed))])

    compiled = amity.compile(function)
    for sample, call, values in cases(name):  # noqa: B007
        for found, expected in zip(compiled(*values), function(*values), strict=True):
            assert found.dtype is expected.dtype and found.stride() == expected.stride()
            a, b = (
                t.detach().to(float64).numpy() if is_floating(t) else t.numpy()
                for t in (found, expected)
            )
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def is_floating(value: Any) -> bool:
    return isinstance(value, amity.Tensor) and value.dtype.kind == "f"


@every_op
def test_rule(name):
    """The shape and dtype rule tells what comes out, of eager and of NumPy."""
    for _, call, values in cases(name):
        if isinstance(call, Op):
            specs = several(call.infer(*map(spec_of, values)))
        else:
            specs = tuple(n.spec for n in graph_of_call(call, values).outputs)
        rule = [(s.dtype, tuple(s.shape)) for s in specs]
        assert [(g.dtype, tuple(g.shape)) for g in several(call(*values))] == rule
        assert [e.shape for e in meaning(call, values)] == [shape for _, shape in rule]


@every_op
def test_text(name):
    """A graph of the op, printed and read, is the same graph."""
    for _, call, values in cases(name):
        graph = graph_of_call(call, values)
        shown = text(graph)
        again = parse(shown, REGISTRY)
        assert text(again) == shown
        for a, b in zip(graph.nodes(), again.nodes(), strict=True):
            assert (type(a.op), a.spec, a.index) == (type(b.op), b.spec, b.index)


def is_smooth(given: Any) -> bool:
    """Whether a sample gives floats that a gradient may be wanted of."""
    return is_spec(given) and given[1] not in "ib"


@every_op
def test_gradients(name):
    """The derivative, and the derivative's, agree with finite differences."""
    op = OPS[name]
    if getattr(op, "no_gradient", ""):
        return
    twice = not getattr(op, "no_second_gradient", "")
    for i, (sample, of_sample, values) in enumerate(cases(name)):
        out = several(of_sample(*values))
        has_slope = any(map(is_smooth, sample.inputs)) and any(o.dtype.kind == "f" for o in out)
        if sample.rough or not has_slope:
            continue
        free = inputs(f"{name}{i}", sample, floats=float64)
        for v, g in zip(free, sample.inputs, strict=True):
            if is_smooth(g):
                v.requires_grad_()

        def call(*values, of_sample=of_sample, through=sample.through):
            return of_sample(*(values if through is None else through(*values)))

        assert any(o.requires_grad for o in several(call(*free)))
        amity.autograd.gradcheck(call, free)
        if twice and (i == 0 or not isinstance(of_sample, Pointwise)):
            amity.autograd.gradgradcheck(call, free)


@every_op
def test_errors(name):
    """Each error sample raises its class and says what it should."""
    op = OPS[name]
    for sample in op.errors:
        with pytest.raises(sample.error) as caught:
            bound(op, sample)(*given(name, sample))
        assert sample.says in str(caught.value)


def is_converted(call: Callable, values: list, dtype: DType) -> bool:
    """Whether an elementwise op makes other numbers of this dtype first: a load that all share."""
    if not isinstance(call, Pointwise) or dtype.kind not in "ui" or dtype is int64:
        return False
    return dtype not in call.argument_dtypes(*map(spec_of, values))


def refusal(call: Callable, values: list) -> type[Exception] | None:
    """The class of error that the rule raises for these inputs."""
    try:
        graph_of_call(call, values)
    except (RuntimeError, TypeError) as error:
        return type(error)
    return None


@every_op
def test_dtypes(name):
    """In every dtype that the op takes the result is NumPy's; the others are refused."""
    op = OPS[name]
    sample = op.samples[0]
    taken = []
    for dtype in FLOATING if isinstance(op, Composite) else ALL:
        call = bound(op, sample)
        try:
            values = given(name, sample, dtype)
        except NotImplementedError:  # what makes its inputs has none of this dtype
            continue
        refused = refusal(call, values)
        if refused:
            with pytest.raises(refused):
                call(*values)
            continue
        taken.append(dtype)
        if not is_converted(call, values, dtype):
            same(call, values, meaning(call, values), str(dtype))
    assert taken
