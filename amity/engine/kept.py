"""Weights that a Program keeps in panels (ops/panels.py), as long as they stay what they were.

A weight is known again by its memory, whose storage is held, and its version. Only a segment's
weights that it does not write are kept; those that others may write without telling never are.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amity.compiler.assemble import apply
from amity.compiler.planners import panel_form
from amity.core.layout import Layout, layout
from amity.ir.graph import Graph, Node, Spec
from amity.ops.cast import Cast
from amity.ops.matmul import Linear
from amity.ops.panels import PanelLinear, forms
from amity.runtime.cpu.abi import LOOSE
from amity.runtime.cpu.notes import Notes, object_at

from . import device, program

if TYPE_CHECKING:
    from .noted import Noted

LEAST_BYTES = 64 << 10  # of a weight that is worth it
UNSURE = -1  # a stamp that no memory has
FEW_ROWS = 4  # up to which products read a weight as it lies


def weights_of(paper: program.Paper) -> dict[int, Layout]:
    """Arguments of a call that are weights worth keeping in panels, with the layout of those."""
    if paper.weights is None:
        paper.weights = _weights(paper.graph)
    return paper.weights


def _weights(graph: Graph) -> dict[int, Layout]:
    numbers = {id(n): i for i, n in enumerate(graph.inputs)}
    found: dict[int, Layout] = {}
    for node in graph.nodes():
        if not isinstance(node.op, Linear):
            continue
        x, w = node.inputs[:2]
        rows = x.spec.numel // max(x.spec.shape[-1], 1)
        if id(w) in numbers:
            form = panel_form(device.kernels().target, w.spec.dtype.code)
            lay = None if form is None else panels_layout(w.spec, *form)
            if lay is not None and rows > FEW_ROWS:
                found[numbers[id(w)]] = lay
    return found


def panels_layout(weight: Spec, columns: int, pairs: int) -> Layout | None:
    """The layout of a weight in panels, if it fills them and is large enough."""
    (n, k), size = weight.shape, weight.dtype.itemsize
    if n % columns or k % pairs or weight.numel * size < LEAST_BYTES:
        return None
    return layout(weight.dtype, (n // columns, k // pairs, columns * pairs))


def with_panels(graph: Graph, kept: dict[int, Layout]) -> Graph:
    """The graph with panels as further inputs, which its products of those weights take instead."""
    panels = {id(graph.inputs[i]): Node(None, (), Spec(tuple(m.shape), m.dtype))
              for i, m in kept.items()}  # fmt: skip
    table: dict[int, Node] = {id(n): n for n in graph.inputs}
    for node in graph.nodes():
        if id(node) in table:
            continue
        op, inputs = node.op, [table[id(x)] for x in node.inputs]
        found = panels.get(id(node.inputs[1])) if isinstance(op, Linear) else None
        if found is not None:
            form = panel_form(device.kernels().target, found.spec.dtype.code)
            assert form is not None  # or it would not be among the kept
            op, inputs = PanelLinear(*form), [inputs[0], found, *inputs[2:]]
        table[id(node)] = Node(op, inputs, node.spec, node.index, node.where)
    outputs = [table[id(n)] for n in graph.outputs]
    return Graph([*graph.inputs, *panels.values()], outputs)


def packing(weight: Layout) -> Callable:
    """A Program that gives a weight's panels."""
    form = panel_form(device.kernels().target, weight.dtype.code)
    assert form is not None
    source = y = Node(None, (), Spec(tuple(weight.shape), weight.dtype))
    for op in (*forms(*weight.shape, *form), Cast(weight.dtype)):
        y = apply(op, y)
    rows = layout(weight.dtype, y.spec.shape)
    return program.build(Graph([source], [y]), [weight], name="panels", makes=[rows])


class Kept:
    """A segment's Program, called as if it took no panels."""

    def __init__(self, run: Callable, noted: Noted) -> None:
        self.run, self.paper = run, program.paper_of(run)
        self.arguments = list(noted.kept)
        self.places = [noted.places[i] for i in self.arguments]
        self.words = array("q", [0] * len(self.places))  # where the panels are
        self._seen: list[tuple[Any, int, int]] = [(None, 0, 0)] * len(self.places)
        self._panels: list[Any] = [None] * len(self.places)
        self._packing: dict[Layout, Callable] = {}

    def __call__(self, *values: Any) -> Any:
        for i, a in enumerate(self.arguments):
            self._renew(i, values[a].storage)
        return self.run(*values, *self._panels)

    def is_stale(self, notes: Notes) -> bool:
        """Whether a weight of what was noted is not what it was."""
        wanted = zip(self._seen, self.places, self.arguments, strict=True)
        return any(
            id(held) != notes.storage(r) or stamp != held.stamp or at != notes.address(read)
            for (held, stamp, at), (r, _, _), read in wanted
        )

    def renew(self, notes: Notes) -> None:
        """Pack weights anew that are not what they were."""
        machine = device.machine()
        for i, (read, (r, _, _)) in enumerate(zip(self.arguments, self.places, strict=True)):
            root = object_at(notes.storage(r))
            beyond = notes.address(read) - root.data
            self._renew(i, machine.alias(root, beyond) if beyond else root)

    def _renew(self, i: int, storage: Any) -> None:
        root, (_, _, lay) = storage.root, self.places[i]
        held, stamp, at = self._seen[i]
        if held is root and stamp == root.stamp and at == storage.data and root.owner is None:
            return
        pack = self._packing.get(lay)
        if pack is None:
            pack = self._packing[lay] = packing(lay)
        self._panels[i] = None  # its memory serves again
        self._panels[i] = made = pack(device.machine().make(storage, lay))
        self.words[i] = made.storage.data
        is_sure = root.owner is None and not root.stamp & LOOSE
        self._seen[i] = root, root.stamp if is_sure else UNSURE, storage.data
