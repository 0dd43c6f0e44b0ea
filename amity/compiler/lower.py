"""Graphs to launches: groups of fused loops, planned kernels, views and host calls, in order."""

from __future__ import annotations

from collections.abc import Sequence

from amity.core.dtype import BY_CODE
from amity.core.layout import Layout, layout, like, ordered
from amity.ir.graph import Graph, Node
from amity.ir.target import Target

from . import pipeline
from .ending import Ending, plain_ending
from .group import Axes, Group, Head, copy_launch, nest_launch
from .nest import Access, Instruction, make_nest
from .orders import channels_last, channels_side_by_side, keeps_channels
from .outline import Outline, State
from .plan import HostCall, Launch, Lowered, Place
from .planned import Planned
from .planners import ENDERS
from .writes import Writes


def lower(
    graph: Graph,
    inputs: Sequence[Layout],
    target: Target,
    threads: int,
    given: dict[int, int] | None = None,
    roots: Sequence[int] | None = None,
    makes: Sequence[Layout | None] = (),
    is_late: bool = False,
) -> Lowered:
    """Launches for a graph whose inputs have these layouts.

    `given` maps an output to the argument whose memory it is written to; arguments of which some
    memory is the same have the same number in `roots`; `makes` are layouts that outputs shall have.
    Kernel ops wait for their sizes if it `is_late`.
    """

    how = graph, inputs, target, threads, given or {}, roots, makes, is_late
    splits = pipeline.is_on("split")
    lowering = _Lowering(*how, None if splits else False)
    out = lowering.run()
    if splits and any(n.op.kind == "reduce" for n in lowering.nodes):
        out.alternatives = lambda: [_Lowering(*how, split).run() for split in (True, False)]
    return out


REPEATS_FROM = 32  # nodes from which on parts that repeat are looked for


def _reduced(node: Node) -> tuple[int, ...]:
    """The dimensions that a reduction reduces."""
    dims = node.op.dims
    return tuple(range(node.inputs[0].spec.ndim)) if dims is None else dims


class _Lowering:
    def __init__(
        self,
        graph: Graph,
        inputs: Sequence[Layout],
        target: Target,
        threads: int,
        given: dict[int, int],
        roots: Sequence[int] | None,
        makes: Sequence[Layout | None],
        is_late: bool,
        split: bool | None,
    ) -> None:
        self.graph, self.given, self.target, self.threads = graph, given, target, threads
        self.split, self.fuses, self.is_late = split, pipeline.is_on("fuse"), is_late
        self.out = Lowered(graph)
        self.place: dict[int, int] = {}  # id(node) -> place
        self.done: set[int] = set()  # ids of nodes that are computed
        self.kept: set[int] = set()  # places of weights that are cast once
        self.group: Group | None = None
        self.axes: Axes | None = None  # how the node that joins lies in the group
        for i, (node, lay) in enumerate(zip(graph.inputs, inputs, strict=True)):
            self.out.places.append(Place(lay, i, 0, i))
            self.place[id(node)] = i
        self.roots = roots
        self.written = set() if roots is None else {roots[a] for a in self.given.values()}
        self.writes = Writes(graph, self.given, roots or range(len(inputs)))
        self.nodes = self.writes.order()
        self.users = self.writes.users
        self.wanted = {id(n) for n in graph.outputs}
        pairs = zip(graph.outputs, makes, strict=False)
        self.laid = {id(n): lay for n, lay in pairs if lay is not None}
        chooses = pipeline.is_on("order")
        self.sideways = channels_side_by_side(self.nodes, self.wanted) if chooses else set()

    def run(self) -> Lowered:
        at, outline = 0, self._outline()
        while at < len(self.nodes):
            node = self.nodes[at]
            if id(node) not in self.place:  # else a further result of an op that is done
                if self.group is not None and not self._joins(node):
                    self._flush()
                if self.group is None and outline is not None:
                    at = outline.skip(at)
                    if at == len(self.nodes):
                        break
                    node = self.nodes[at]
                getattr(self, f"_{node.op.kind}")(node)
            at += 1
        self._flush()
        self._set_apart()
        for o, node in enumerate(self.graph.outputs):
            self.out.outputs.append(self._output(o, node))
        return self.out

    def _outline(self) -> Outline | None:
        """Where there may be parts that repeat, what knows them."""
        is_apt = pipeline.is_on("outline") and len(self.nodes) >= REPEATS_FROM
        if not is_apt or self.laid or self.is_late:  # to compare formulas would guard them
            return None
        return Outline(
            State(
                self.nodes, self.out, self.place, self.done, self.writes, self.wanted, self.sideways
            )
        )

    def _joins(self, node: Node) -> bool:
        """Whether a node leaves the open group open."""
        kind = node.op.kind
        if kind == "pointwise":
            self.axes = self._axes(node)
            return self.axes is not None
        if kind == "reduce":
            takes = self.fuses and self.group.takes_reduce(node, _reduced(node))
            return takes and not self._ends_before(node)
        return kind not in ("kernel", "host", "indexed")

    def _ends_before(self, node: Node) -> bool:
        """Whether a kernel's ending is to stop where a reduction follows: it stores one value, which
        the reduction reads, where both read and store the kernel's result if they are one."""
        group = self.group
        if group.head is None or len(group.body) == 1 or not pipeline.is_on("end"):
            return False
        used = self._used(group)
        return len(used) == 1 and used[0] is not group.head.node and group.can_end(used)

    def _axes(self, node: Node) -> Axes | None:
        """How a pointwise node lies in the open group, if it belongs there."""
        axes = self.group.axes_for(node) if self.fuses else None
        if axes is not None and self.group.is_split_worthy:  # long rows are not read again
            if len(axes) == len(self.group.domain) and None not in axes:
                return None
        return axes

    def _set_apart(self) -> None:
        """Copy values that lie where another output is still to be copied to."""
        late = {o for o, n in enumerate(self.graph.outputs) if self._is_late(o, n)}
        taken = {self.writes.roots[self.given[o]] for o in late}
        for o, node in enumerate(self.graph.outputs):
            place = self.out.places[self.place[id(node)]]
            if place.base < len(self.graph.inputs) and self.writes.roots[place.base] in taken:
                if o in late or o not in self.given:
                    copy = self._new(layout(place.layout.dtype, place.layout.shape))
                    self._copy(node, self.place[id(node)], copy)
                    self.place[id(node)] = copy

    def _is_late(self, o: int, node: Node) -> bool:
        """Whether an output is to be copied into its argument at the end."""
        return o in self.given and self._read(node)[0] != self.given[o]

    # -- places
    def _read(self, node: Node) -> tuple[int, Layout]:
        """Where a node's value is, computing what is still pending."""
        if id(node) not in self.place:
            if node.op is not None and node.op.kind in ("constant", "position"):
                self._materialize(node)
            else:
                self._flush()
        p = self.place[id(node)]
        return p, self.out.places[p].layout

    def _new(self, lay: Layout) -> int:
        self.out.places.append(Place(lay, len(self.out.places)))
        return len(self.out.places) - 1

    def _partial(self, code: str, shape: Sequence[int]) -> int:
        return self._new(layout(BY_CODE[code], shape))

    def _for_result(
        self, node: Node, preferred: Layout | None = None, group: Group | None = None
    ) -> int:
        """A place for a result: the argument it is meant for, if all has been read of that that will
        be, or a new buffer."""
        spec = node.spec
        if id(node) in self.laid:
            return self._new(self.laid[id(node)])
        target = self.writes.target(node)
        if target is not None and pipeline.is_on("in_place") and self._may_write(target, group):
            return target
        lay = layout(spec.dtype, spec.shape) if preferred is None else like(preferred, spec.dtype)
        return self._new(lay)

    def _in_order(self, node: Node, order: Layout | None) -> int:
        """A place for a kernel's result, in the order of dimensions of an input if there is one."""
        if order is None or self.writes.target(node) is not None:
            return self._for_result(node)
        return self._new(ordered(order, node.spec.dtype, node.spec.shape))

    def _may_write(self, argument: int, group: Group | None) -> bool:
        inside = {id(n) for n in group.nodes} if group is not None else set()
        if not self.writes.is_read(argument, inside, self.done):
            return (
                group is None
                or not self.writes.is_read(argument, self.done)
                or (group.reads_like(argument, self.out.places, self.writes.roots))
            )
        return False

    def _output(self, o: int, node: Node) -> int:
        """The place of a graph output; one that is an input's or another's value gets a copy."""
        place, _ = self._read(node)
        if o in self.given and place != self.given[o]:
            self._copy(node, place, self.given[o])
            return self.given[o]
        base = self.out.places[place].base
        if base >= len(self.graph.inputs) and not self._may_leave(place):
            lay = self.out.places[place].layout
            copy = self._new(layout(lay.dtype, lay.shape))
            self._copy(node, place, copy)
            return copy
        return place

    def _may_leave(self, place: int) -> bool:
        """Whether a result may take its memory along: all of it, and nobody else has it."""
        found, places = self.out.places[place], self.out.places
        if any(places[o].base == found.base for o in self.out.outputs):
            return False
        whole = places[found.base].layout
        return place == found.base or (
            found.offset == 0 and found.layout.is_dense and found.layout.nbytes == whole.nbytes
        )

    def _copy(self, node: Node, source: int, target: int) -> None:
        """Copy a node's value to another place."""
        a, b = self.out.places[source].layout, self.out.places[target].layout
        launch = copy_launch(a, b.dtype.code, b.shape, b.strides, source, target)
        self._add([launch], (node, target))

    def _add(self, launches: Sequence[Launch], *makes: tuple[Node, int]) -> None:
        """Add launches that together give nodes their values."""
        if launches:
            launches[-1].makes = makes
        self.out.steps += launches

    def _materialize(self, node: Node) -> None:
        """A place for what is otherwise computed where it is used."""
        if node.op.kind == "constant":
            self._materialize_constant(node)
            return
        place = self._new(layout(node.spec.dtype, node.spec.shape))
        code = node.spec.dtype.code
        body = [Instruction("index", node.op.dim, (), "i64")]
        if code != "i64":
            body.append(Instruction("cast", None, (0,), "f32" if code in ("f16", "bf16") else code))
        access = Access(code, self.out.places[place].layout.strides)
        nest, meta = make_nest(
            node.spec.shape,
            "r" * node.spec.ndim,
            [access],
            0,
            body,
            [(0, len(body) - 1)],
            keep_order=True,
        )
        self._add([nest_launch(nest, meta, [place])], (node, place))
        self.place[id(node)] = place

    def _materialize_constant(self, node: Node) -> None:
        place = self._new(layout(node.spec.dtype, node.spec.shape))
        code = "f32" if node.spec.dtype.code in ("f16", "bf16") else node.spec.dtype.code
        body = [Instruction("const", node.op.value, (), code)]
        strides = self.out.places[place].layout.strides
        nest, meta = make_nest(
            node.spec.shape,
            "r" * node.spec.ndim,
            [Access(node.spec.dtype.code, strides)],
            0,
            body,
            [(0, 0)],
        )
        self._add([nest_launch(nest, meta, [place])], (node, place))
        self.place[id(node)] = place

    # -- groups
    def _flush(self) -> None:
        """Close the open group: what others need of it goes to memory."""
        group, self.group = self.group, None
        if group is None:
            return
        outputs, inside = [], {id(n) for n in group.nodes}  # the head leaves where it is on its own
        layouts = [self.out.places[p].layout for p, _ in group.operands]
        for node in self._used(group):
            place = self._for_result(node, group.preferred(node, layouts), group)
            self.place[id(node)] = place
            outputs.append((node, place, self.out.places[place].layout))
        if group.head is not None:
            outputs = self._launch_head(group, outputs)
        if outputs:
            made = [(n, p) for n, p, _ in outputs]
            launches = group.launches(outputs, self._partial)
            if self._casts_weight(group):
                launches[-1].keeps = True
                self.kept.add(made[0][1])
            self._add(launches, *made)
        self.done |= inside

    def _casts_weight(self, group: Group) -> bool:
        """Whether a group is the cast of memory that stays from call to call, for linear layers."""
        if [n.op.name for n in group.nodes] != ["cast"]:
            return False
        (node,), users = group.nodes, self.users.get(id(group.nodes[0]), ())
        is_weight = id(node) not in self.wanted and all(
            u.op.kind == "kernel" and u.op.planner == "linear" and u.inputs[0] is not node
            for u in users
        )
        return is_weight and self._stays(group.operands[0][0])

    def _used(self, group: Group) -> list[Node]:
        """The nodes of a group that others need."""
        inside = {id(n) for n in group.nodes}
        return [
            n
            for n in group.nodes
            if id(n) in self.wanted or any(id(u) not in inside for u in self.users.get(id(n), ()))
        ]

    def _launch_head(self, group: Group, outputs: list) -> list:
        """Launch the kernel that a group begins with; gives the outputs that are left to compute."""
        head = group.head
        always = ENDERS[head.node.op.planner].always
        ends = pipeline.is_on("end") and (always or len(group.body) > 1)
        end = group.ending(outputs) if ends else None
        if end is not None:
            made = [(n, p) for n, p, _ in outputs]
            first = len(self.out.steps)
            self._launch(head.node, head.inputs, [head.layout], end.places, made, end)
            for step in self.out.steps[first:]:
                if isinstance(step, Launch):
                    step.nodes = group.nodes
            return []
        place = self.place.get(id(head.node))
        place = self._new(head.layout) if place is None else place
        lay = self.out.places[place].layout
        end = plain_ending(lay, head.column, place) if always else None
        made = [(head.node, place)]
        self._launch(head.node, head.inputs, [lay], [place], made, end)
        group.settle(place, lay)
        return [o for o in outputs if o[0] is not head.node]

    def _constant(self, node: Node) -> None:
        if id(node) in self.wanted:
            self._materialize(node)

    _position = _constant

    def _pointwise(self, node: Node) -> None:
        if self.group is None:
            self.group = Group(node.spec.shape, self.split)
            self.axes = self.group.full
        self.group.add_pointwise(node, self.axes, self._read_apart)

    def _read_apart(self, node: Node) -> tuple[int, Layout]:
        """Like `_read`, while the open group stays open: its own nodes are never asked for here."""
        if id(node) not in self.place:
            self._materialize(node)
        p = self.place[id(node)]
        return p, self.out.places[p].layout

    def _reduce(self, node: Node) -> None:
        if self.group is None:
            self.group = Group(node.inputs[0].spec.shape, self.split)
        self.group.add_reduce(node, _reduced(node), self._read_apart)

    # -- other kinds
    def _view(self, node: Node) -> None:
        source, lay = self._read(node.inputs[0])
        # what shows memory means a row-major one, unless it is that of an argument
        is_apt = lay.is_contiguous or not node.op.is_of_memory or node.inputs[0].op is None
        found = node.op.view(lay) if is_apt else None
        if found is None:  # memory does not allow the view: take a row-major copy of it
            copy = self._new(layout(lay.dtype, lay.shape))
            self._copy(node.inputs[0], source, copy)
            source, lay = copy, self.out.places[copy].layout
            found = node.op.view(lay)
        shown, offset = found
        origin = self.out.places[source]
        self.out.places.append(
            Place(shown, origin.base, origin.offset + offset * lay.dtype.itemsize)
        )
        self.place[id(node)] = len(self.out.places) - 1

    def _wanted_layout(self, node: Node) -> Layout:
        """How a kernel's result is to lie in memory."""
        spec = node.spec
        strides = channels_last(spec.shape) if id(node) in self.sideways else None
        return layout(spec.dtype, spec.shape, strides)

    def _results(self, node: Node, inputs: Sequence[Layout]) -> list[int]:
        places = []
        orders = node.op.orders(*inputs)
        specs = node.op.infer(*(x.spec for x in node.inputs))
        specs = specs if isinstance(specs, tuple) else (specs,)
        for spec, n, order in zip(specs, self.writes.siblings(node), orders, strict=True):
            if n is None:
                places.append(self._new(layout(spec.dtype, spec.shape)))
            else:
                apt = self._wanted_layout(n) if id(n) in self.sideways else None
                places.append(self._in_order(n, order) if apt is None else self._new(apt))
                self.place[id(n)] = places[-1]
        return places

    def _host(self, node: Node) -> None:
        inputs = [self._read(x) for x in node.inputs]
        results = self._results(node, [lay for _, lay in inputs])
        self.out.steps.append(HostCall(node.op, [p for p, _ in inputs], results))
        self.done.add(id(node))

    def _kernel(self, node: Node) -> None:
        inputs = [self._read(x) for x in node.inputs]
        ender, places = ENDERS.get(node.op.planner), [p for p, _ in inputs]
        layouts = [lay for _, lay in inputs]
        if self.sideways and id(node) not in self.wanted and keeps_channels(node.op, layouts[0]):
            self.sideways.add(id(node))
        if ender is not None:
            wanted = self._wanted_layout(node)
            column = ender.column % node.spec.ndim
            is_apt = id(node) in self.sideways or column == node.spec.ndim - 1
            if is_apt and ender.can_end(node.op, layouts, wanted):
                self.group = Group(node.spec.shape, self.split)
                self.group.begin(Head(node, places, wanted, column))
                return
            self.sideways.discard(id(node))
        results = self._results(node, layouts)
        made = [(n, self.place[id(n)]) for n in self.writes.siblings(node) if n is not None]
        self._launch(node, places, [self.out.places[p].layout for p in results], results, made)
        self.done.add(id(node))

    def _launch(
        self,
        node: Node,
        inputs: Sequence[int],
        outs: Sequence[Layout],
        results: Sequence[int],
        makes: Sequence[tuple[Node, int]],
        end: Ending | None = None,
    ) -> None:
        """A kernel's launches, now or later; with an ending, its operands take the place of the
        results.
        """
        stays = frozenset(i for i, p in enumerate(inputs) if self._stays(p))
        step = Planned(node.op, inputs, outs, results, end, stays)
        if self.is_late:
            self.out.steps.append(step)
        else:
            self._add(step.launches(self.out, self.target, self.threads), *makes)

    def _stays(self, place: int) -> bool:
        """Whether a place is memory that a segment finds as it is and does not write, or a cast of such
        that it keeps."""
        roots, found = self.roots, self.out.places[place]
        if place in self.kept:
            return True
        if roots is None or found.base >= len(roots) or not pipeline.is_on("keep"):
            return False
        return found.offset == 0 and 0 <= roots[found.base] not in self.written

    def _indexed(self, node: Node) -> None:
        op = node.op
        inputs = [self._read(x) for x in node.inputs]
        place = self._results(node, [lay for _, lay in inputs])[0]
        lay = self.out.places[place].layout
        walks = [
            [0 if n == 1 else s for n, s in zip(i.shape, i.strides, strict=True)] for _, i in inputs
        ]
        accesses = [
            Access(i.dtype.code, (), (i.shape, w)) for (_, i), w in zip(inputs, walks, strict=True)
        ]
        body: list[Instruction] = []
        code = "f32" if node.spec.dtype.code in ("f16", "bf16") else node.spec.dtype.code
        body.append(Instruction("indexed", (op, tuple(range(len(inputs)))), (), code))
        stores = [(len(accesses), 0)]
        accesses.append(Access(lay.dtype.code, lay.strides))
        nest, meta = make_nest(
            lay.shape or (1,), "r" * max(lay.ndim, 1),
            accesses if lay.ndim else [*accesses[:-1], Access(lay.dtype.code, (0,))],
            len(inputs), body, stores, keep_order=True,
        )  # fmt: skip
        meta = [*meta, *op.parameters(*(x.spec for x in node.inputs))]
        launch = nest_launch(nest, meta, [*(p for p, _ in inputs), place])
        self._add([launch], (node, place))
        self.done.add(id(node))
