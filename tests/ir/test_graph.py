"""Graphs print as text that is read back; what is no graph is refused."""

from __future__ import annotations

import pytest

from amity.core.dtype import float32, float64, int16
from amity.frontend.bind import Constant
from amity.ir.graph import Graph, Node, Spec, parse, text
from amity.ops.cast import Cast
from amity.ops.elementwise import MUL
from amity.ops.padding import Pad
from amity.ops.record import REGISTRY
from amity.ops.sorting import Sort

SHOWN = """\
%0 = input()  # float32[2, 3]
%1 = input()  # float64[] weak
%2 = mul(%0, %1)  # float32[2, 3]
%3 = sort(%2, dim=1, descending=False)[1]  # int64[2, 3]
%4 = cast(%3, dtype=amity.int16)  # int16[2, 3]
%5 = pad(%2, pad=((0, 0), (1, 2)), mode='constant', value=-inf)  # float32[2, 6]
%6 = constant(value=nan, is_weak=True)  # float64[] weak
return %4, %5, %6"""


def graph() -> Graph:
    x, z = Node(None, (), Spec((2, 3), float32)), Node(None, (), Spec((), float64, True))
    y = Node(MUL, (x, z), MUL.infer(x.spec, z.spec))
    sort, cast = Sort(1, False), Cast(int16)
    at = Node(sort, (y,), sort.infer(y.spec)[1], 1)
    pad = Pad(((0, 0), (1, 2)), "constant", -float("inf"))
    nan = Constant(float("nan"), True)
    ends = [Node(cast, (at,), cast.infer(at.spec)), Node(pad, (y,), pad.infer(y.spec))]
    return Graph([x, z], [*ends, Node(nan, (), nan.infer())])


def test_text():
    assert text(graph()) == SHOWN


def test_parse():
    again = parse(SHOWN, REGISTRY)
    assert text(again) == SHOWN
    assert [n.spec for n in again.inputs] == [n.spec for n in graph().inputs]
    assert [n.op for n in again.outputs[:2]] == [n.op for n in graph().outputs[:2]]


def test_what_no_output_needs_is_still_an_input():
    x = Node(None, (), Spec((0,), int16))
    again = parse(text(Graph([x], [x])), {})
    assert again.outputs == again.inputs and again.inputs[0].spec == x.spec


@pytest.mark.parametrize(
    ("lines", "error", "says"),
    [
        ("%0 = input()  # float32[2]", ValueError, "expected one at the end"),
        ("%0 = input()  # float3[2]\nreturn %0", ValueError, "got 'float3.2.'; expected a dtype"),
        ("%0 = input()  # int64[2, x]\nreturn %0", ValueError, "expected a dtype and a shape"),
        (SHOWN.replace("[1]", "").replace("dim=1", "dim=2"), IndexError, "got dimension 2"),
        ("%0 = frobnicate()  # int64[]\nreturn %0", ValueError, "got the op 'frobnicate'"),
        ("return %7", KeyError, "%7"),
    ],
)
def test_what_is_no_graph(lines, error, says):
    with pytest.raises(error, match=says):
        parse(lines, REGISTRY)
