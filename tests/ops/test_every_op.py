"""Every record and composite, on every sample of its own: meaning, shapes, gradients, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import amity
from amity.core.dtype import ALL, FLOATING
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


@every_op
def test_meaning(name):
    """Eager gives what NumPy gives, wherever the elements lie in memory."""
    op = OPS[name]
    for i, sample in enumerate(op.samples):
        call, values = bound(op, sample), given(f"{name}{i}", sample)
        expected = meaning(call, values)
        same(call, values, expected, f"sample {i}")
        if i == 0 and not getattr(op, "is_of_memory", False):
            same(call, strided(values), expected, "strided")
    sample = emptied(op.samples[0])
    if isinstance(op, type) and issubclass(op, Pointwise) and sample is not None:
        call, values = bound(op, sample), given(name, sample)
        same(call, values, meaning(call, values), "without elements")


@every_op
def test_rule(name):
    """The shape and dtype rule tells what comes out, of eager and of NumPy."""
    op = OPS[name]
    for i, sample in enumerate(op.samples):
        call, values = bound(op, sample), given(f"{name}{i}", sample)
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
    op = OPS[name]
    for i, sample in enumerate(op.samples):
        graph = graph_of_call(bound(op, sample), given(f"{name}{i}", sample))
        shown = text(graph)
        again = parse(shown, REGISTRY)
        assert text(again) == shown
        for a, b in zip(graph.nodes(), again.nodes(), strict=True):
            assert (type(a.op), a.spec, a.index) == (type(b.op), b.spec, b.index)


def smooth(name: str) -> list[tuple[int, Sample]]:
    """The samples that have floats for a gradient, and give some."""
    found = []
    for i, sample in enumerate(OPS[name].samples):
        if sample.rough or not any(is_spec(g) and g[1] not in "ib" for g in sample.inputs):
            continue
        out = several(bound(OPS[name], sample)(*given(f"{name}{i}", sample)))
        if any(o.dtype.kind == "f" for o in out):
            found.append((i, sample))
    return found


@every_op
def test_gradients(name):
    """The derivative, and the derivative's, agree with finite differences."""
    op = OPS[name]
    no_gradient = getattr(op, "no_gradient", "")
    for i, sample in smooth(name):
        values = inputs(f"{name}{i}", sample, amity.float64)
        for v, g in zip(values, sample.inputs, strict=True):
            if is_spec(g) and g[1] not in "ib":
                v.requires_grad_()

        def call(*values, sample=sample):
            values = values if sample.through is None else sample.through(*values)
            return bound(op, sample)(*values)

        if no_gradient:
            continue
        assert any(o.requires_grad for o in several(call(*values)))
        amity.autograd.gradcheck(call, values)
        if not getattr(op, "no_second_gradient", ""):
            amity.autograd.gradgradcheck(call, values)


@every_op
def test_errors(name):
    """Each error sample raises its class and says what it should."""
    op = OPS[name]
    for sample in op.errors:
        with pytest.raises(sample.error) as caught:
            bound(op, sample)(*given(name, sample))
        assert sample.says in str(caught.value)


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
        else:
            same(call, values, meaning(call, values), str(dtype))
            taken.append(dtype)
    assert taken
