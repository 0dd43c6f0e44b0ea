"""Groups: pointwise ops and reductions over one domain that become one loop nest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amity.core.layout import Layout, like
from amity.core.shape import Shape, numel
from amity.core.symbolic import greatest
from amity.ir.graph import Node
from amity.ir.kernel import register_type

from . import ending
from .nest import Access, Instruction, in_turn, make_nest
from .plan import GRAIN_WORK, Code, Launch, Place
from .schedule import BLOCK, COLUMN_BLOCK, build_nest, order_of
from .turn import turn_code, turn_launch

Axes = tuple[int | None, ...]  # for each dimension of a value: the domain's, or None for size 1
ACCUMULATE = {"f16": "f32", "bf16": "f32"}
SPLIT_OVER = 1 << 17  # elements of a whole-tensor reduction that are worth splitting


@dataclass(frozen=True)
class Head:
    """A kernel whose result a group uses: what it reads (places), and how its result is to lie."""

    node: Node
    inputs: Sequence[int]
    layout: Layout
    column: int  # the dimension that vectors run along


class Group:
    """Collects nodes that share a domain; `is_open` to a node only while one nest can hold it."""

    def __init__(self, domain: Sequence[int], split: bool | None = None) -> None:
        self.domain = tuple(domain)
        self.split = split  # whether long rows are split; None to see by the sizes
        self.reduced: tuple[int, ...] = ()
        self.full = tuple(range(len(self.domain)))
        self.forms: list[tuple[Shape, Axes]] = [(self.domain, self.full)]  # of values that fit
        self.is_split_worthy = False  # a few long rows: better as two launches, of chunks first
        self.body: list[Instruction] = []
        self.levels: list[int] = []
        self.value: dict[int, int] = {}  # id(node) -> instruction
        self.axes: dict[int, Axes] = {}
        self.nodes: list[Node] = []
        self.operands: list[tuple[int, Access]] = []  # (place, access), inputs
        self.loads: dict[tuple, int] = {}
        self.head: Head | None = None

    # -- what fits
    def axes_for(self, node: Node) -> Axes | None:
        """How a pointwise node lies in the domain, if it and its inputs do."""
        shape = tuple(node.spec.shape)
        for known, axes in self.forms:
            if known == shape and all(self._agrees(x, axes) for x in node.inputs):
                return axes
        return None

    def _agrees(self, x: Node, axes: Axes) -> bool:
        have = self.axes.get(id(x))
        if have is None or have == axes:
            return True  # what comes from memory may have any strides
        shift = len(axes) - len(have)
        if shift < 0:
            return False
        return all(x.spec.shape[d] == 1 or have[d] == axes[d + shift] for d in range(len(have)))

    def takes_reduce(self, node: Node, dims: tuple[int, ...]) -> bool:
        """Whether a reduction over `dims` of its input belongs here."""
        x = node.inputs[0]
        if tuple(x.spec.shape) != self.domain or (self.reduced and self.reduced != dims):
            return False
        have = self.axes.get(id(x))
        if have is not None and have != self.full:
            return False
        if self.reduced:
            return not (self.is_split_worthy and self._depends_on_reduce(x))
        return all(a == self.full for a in self.axes.values())

    def _depends_on_reduce(self, x: Node) -> bool:
        return id(x) in self.value and self._level(self.value[id(x)]) > 0

    def _level(self, v: int) -> int:
        """How many reductions a value waits for, its own among them."""
        return self.levels[v]

    @property
    def rows(self) -> int:
        return numel([s for d, s in enumerate(self.domain) if d not in self.reduced])

    def _wants_split(self) -> bool:
        between = range(min(self.reduced), max(self.reduced))
        if any(d not in self.reduced and self.domain[d] != 1 for d in between):
            return False  # no single dimension to cut
        length = numel([self.domain[d] for d in self.reduced])
        if self.split is not None:
            return self.split and length > 1
        return length >= SPLIT_OVER and self.rows < 8

    def reads_like(self, argument: int, places: Sequence[Place], roots: Sequence[int]) -> bool:
        """Whether the group reads the memory of an argument only element by element, as it lies, so
        that the argument may take a result of the same launch.
        """
        n = len(roots)
        lay = places[argument].layout
        if self.head is not None and any(
            places[p].base < n and roots[places[p].base] == roots[argument]
            for p in self.head.inputs
        ):
            return False
        strides = tuple(0 if m == 1 else s for m, s in zip(lay.shape, lay.strides, strict=True))
        return (
            tuple(lay.shape) == self.domain
            and not self.reduced
            and all(
                place == argument and access.strides == strides
                for place, access in self.operands
                if places[place].base < n and roots[places[place].base] == roots[argument]
            )
        )

    # -- adding
    def begin(self, head: Head) -> None:
        """Take in the result of a kernel that is not launched yet."""
        self.head = head
        instruction = ending.head(head.layout.dtype.code)
        self._add(head.node, instruction, tuple(range(len(self.domain))))

    def settle(self, place: int, layout: Layout) -> None:
        """Read the head's result where it is after all."""
        first, self.head, self.nodes = self.body[0], None, self.nodes[1:]
        strides = tuple(0 if n == 1 else s for n, s in zip(layout.shape, layout.strides))
        self.operands.append((place, Access(layout.dtype.code, strides)))
        self.body[0] = Instruction("load", len(self.operands) - 1, (), first.dtype)

    def can_end(self, nodes: Sequence[Node]) -> bool:
        """Whether the group may be what its head does to its sums, if these nodes are stored."""
        full = all(n.spec.shape == self.domain for n in nodes)
        outputs = [(n, -1, like(self.head.layout, n.spec.dtype)) for n in nodes if full]
        return full and self.ending(outputs) is not None

    def ending(self, outputs: list[tuple[Node, int, Layout]]) -> ending.Ending | None:
        """The group as what its head does to its sums, if all of it fits there."""
        operands, stores = list(self.operands), []
        for node, place, layout in outputs:
            stores.append((len(operands), self.value[id(node)]))
            access = Access(layout.dtype.code, self.output_strides(node, layout))
            operands.append((place, access))
        if self.reduced or any(
            self.axes[id(n)] != self.axes[id(self.head.node)] for n, _, _ in outputs
        ):
            return None
        n = len(self.operands)
        return ending.make_ending(self.domain, self.head.column, operands, n, self.body, stores)

    def add_pointwise(self, node: Node, axes: Axes, read: Any) -> None:
        op = node.op
        wanted = op.argument_dtypes(*(x.spec for x in node.inputs))
        values, args = self.value, []
        for x, d in zip(node.inputs, wanted, strict=True):
            v = values.get(id(x))
            v = self.operand(x, axes, read) if v is None else v
            args.append(self._cast(v, register_type(d.code)))
        dtype = register_type(node.spec.dtype.code)
        if op.is_identity(*(x.spec for x in node.inputs)):
            self._know(node, args[0], axes)
        else:
            self._add(node, Instruction("pointwise", op, tuple(args), dtype), axes)

    def add_reduce(self, node: Node, dims: tuple[int, ...], read: Any) -> None:
        if self.reduced != dims:
            self._set_reduced(dims)
        op, full = node.op, self.full
        source = self.operand(node.inputs[0], full, read)
        dtype = register_type(node.spec.dtype.code)
        accumulate = ACCUMULATE.get(dtype, dtype)
        if not op.combine.startswith("arg"):
            source = self._cast(source, accumulate)
        if op.keepdim:
            axes: Axes = tuple(None if d in dims else d for d in full)
        else:
            axes = tuple(d for d in full if d not in dims)
        self._add(node, Instruction("reduce", op.combine, (source,), accumulate), axes)

    def _set_reduced(self, dims: tuple[int, ...]) -> None:
        """What the first reduction says of the domain."""
        self.reduced = dims
        self.is_split_worthy = self._wants_split()
        kept = tuple([1 if d in dims else n for d, n in enumerate(self.domain)])
        rows = tuple([d for d in self.full if d not in dims])
        self.forms += [
            (kept, tuple([None if d in dims else d for d in self.full])),
            (tuple([self.domain[d] for d in rows]), rows),
        ]

    def _add(self, node: Node, instruction: Instruction, axes: Axes) -> None:
        self._know(node, self._append(instruction), axes)

    def _know(self, node: Node, value: int, axes: Axes) -> None:
        self.value[id(node)] = value
        self.axes[id(node)] = axes
        self.nodes.append(node)

    def _append(self, instruction: Instruction) -> int:
        self.body.append(instruction)
        args = instruction.args
        inner = max([self.levels[a] for a in args]) if args else 0
        self.levels.append(inner + 1 if instruction.op == "reduce" else inner)
        return len(self.body) - 1

    def _cast(self, v: int, dtype: str) -> int:
        return (
            v
            if self.body[v].dtype == dtype
            else self._append(Instruction("cast", None, (v,), dtype))
        )

    def operand(self, x: Node, axes: Axes, read: Any) -> int:
        """The instruction that gives `x` to a node with these axes."""
        if id(x) in self.value:
            return self.value[id(x)]
        if x.op is not None and x.op.kind == "constant":
            code = register_type(x.spec.dtype.code)
            return self._append(Instruction("const", x.op.value, (), code))
        if x.op is not None and x.op.kind == "position":
            axis = axes[x.op.dim + len(axes) - x.spec.ndim]
            dtype = register_type(x.spec.dtype.code)
            if axis is None:
                return self._append(Instruction("const", 0, (), dtype))
            return self._cast(self._append(Instruction("index", axis, (), "i64")), dtype)
        place, layout = read(x)
        strides = [0] * len(self.domain)
        shift = len(axes) - layout.ndim
        for d in range(layout.ndim):
            axis = axes[d + shift]
            if layout.shape[d] != 1 and axis is not None:
                strides[axis] = layout.strides[d]
        key = (place, tuple(strides))
        if key not in self.loads:
            access = Access(layout.dtype.code, tuple(strides), is_scalar=layout.ndim == 0)
            self.operands.append((place, access))
            load = Instruction("load", len(self.operands) - 1, (), register_type(layout.dtype.code))
            self.loads[key] = self._append(load)
        return self.loads[key]

    # -- the result
    def output_strides(self, node: Node, layout: Layout) -> tuple[int, ...]:
        """A result's strides over the domain."""
        strides = [0] * len(self.domain)
        for d, axis in enumerate(self.axes[id(node)]):
            if axis is not None and layout.shape[d] != 1:
                strides[axis] = layout.strides[d]
        return tuple(strides)

    def preferred(self, node: Node, layouts: Sequence[Layout]) -> Layout | None:
        """The memory order a full result takes over from the operands it is made of."""
        if self.head is not None and node.spec.shape == self.domain:
            return self.head.layout
        same = [m for m in layouts if m.shape == tuple(node.spec.shape) and m.is_dense]
        return same[0] if same and not any(m.is_contiguous for m in same) else None

    def launches(self, outputs: list[tuple[Node, int, Layout]], partial: Any) -> list[Launch]:
        """The launches that compute the wanted nodes into places."""
        flags = "".join("d" if d in self.reduced else "r" for d in range(len(self.domain)))
        launches = None
        if self.is_split_worthy and self._is_single_reduction(outputs):
            launches = self._split_launches(outputs, flags, partial)
        launches = launches or [self._launch(outputs, flags)]
        launches[-1].nodes = self.nodes
        return launches

    def _launch(self, outputs: list[tuple[Node, int, Layout]], flags: str) -> Launch:
        """All as one nest."""
        accesses = [a for _, a in self.operands]
        places = [p for p, _ in self.operands]
        stores = []
        for node, place, layout in outputs:
            stores.append((len(accesses), self.value[id(node)]))
            accesses.append(Access(layout.dtype.code, self.output_strides(node, layout)))
            places.append(place)
        natural = any(
            i.op == "index" or (i.op == "reduce" and i.what.startswith("arg")) for i in self.body
        )
        nest, meta = make_nest(
            self.domain, flags, accesses, len(self.operands), self.body, stores, keep_order=natural
        )
        launch = nest_launch(nest, meta, places)
        if self.reduced:
            launch.order = *in_turn(self.domain, flags, accesses, natural), *order_of(nest, meta)
        return launch

    def _is_single_reduction(self, outputs: list) -> bool:
        reduces = [v for v, i in enumerate(self.body) if i.op == "reduce"]
        return (
            len(reduces) == 1
            and not self.body[reduces[0]].what.startswith("arg")
            and all(self._level(self.value[id(n)]) == 1 for n, _, _ in outputs)
        )

    def _split_launches(self, outputs, flags, partial) -> list[Launch] | None:
        """Chunks of every row first, into a temporary; then the rest of the body over the chunks. None
        where there is no one dimension to cut.
        """
        accesses = [a for _, a in self.operands]
        places = [p for p, _ in self.operands]
        at = next(v for v, i in enumerate(self.body) if i.op == "reduce")
        dtype = self.body[at].dtype
        length = numel([self.domain[d] for d in self.reduced])
        chunks = max(2, min(256, length // 32768))
        temporary = partial(dtype, (self.rows, chunks))
        row_strides, step = [0] * len(self.domain), 1
        for d in reversed(range(len(self.domain))):
            if d not in self.reduced:
                row_strides[d] = step
                step *= self.domain[d]
        first = [*accesses, Access(dtype, tuple(row_strides))]
        nest, meta = make_nest(
            self.domain,
            flags,
            first,
            len(accesses),
            self.body[: at + 1],
            [(len(accesses), at)],
            split=chunks,
        )
        if nest.dims.count("d") != 1:
            return None
        head = nest_launch(nest, meta, [*places, temporary])
        order = order_of(nest, meta)
        rows = [d for d in range(len(self.domain)) if d not in self.reduced]
        sizes = [*(self.domain[d] for d in rows), chunks]
        follow = [Access(dtype, (*(row_strides[d] * chunks for d in rows), 1))]
        body = [
            Instruction("load", 0, (), dtype),
            Instruction("reduce", self.body[at].what, (0,), dtype),
        ]
        moved = {at: 1}
        follow_places = [temporary]
        for v in range(len(self.body)):
            self._follow(v, at, moved, body, follow, follow_places, rows)
        stores = []
        inputs = len(follow)
        for node, place, layout in outputs:
            stores.append((len(follow), moved[self.value[id(node)]]))
            strides = self.output_strides(node, layout)
            follow.append(Access(layout.dtype.code, (*(strides[d] for d in rows), 0)))
            follow_places.append(place)
        nest, meta = make_nest(sizes, "r" * len(rows) + "d", follow, inputs, body, stores)
        last = nest_launch(nest, meta, follow_places)
        last.order = (*order, *order_of(nest, meta))
        return [head, last]

    def _follow(self, v, at, moved, body, follow, places, rows) -> None:
        """Copy an instruction that needs the reduction, or a row operand, into the second nest."""
        i = self.body[v]
        if v in moved or (self._level(v) == 0 and i.op != "load" and not self._is_row_only(v)):
            return
        if i.op == "load":
            place, access = self.operands[i.what]
            if any(access.strides[d] for d in self.reduced):
                return
            follow.append(Access(access.dtype, (*(access.strides[d] for d in rows), 0)))
            places.append(place)
            body.append(Instruction("load", len(follow) - 1, (), i.dtype))
        else:
            body.append(Instruction(i.op, i.what, tuple(moved[a] for a in i.args), i.dtype))
        moved[v] = len(body) - 1

    def _is_row_only(self, v: int) -> bool:
        i = self.body[v]
        if i.op == "load":
            return not any(self.operands[i.what][1].strides[d] for d in self.reduced)
        return all(self._is_row_only(a) for a in i.args)


def nest_launch(nest, meta: list[int], places: list[int]) -> Launch:
    """A nest over its grid: rows, vectors of rows, or blocks of the only dimension."""

    def family() -> list[Code]:
        codes = [Code(n.key, _Builder(n), n.label) for n in nest.family()]
        return codes if turn is None else [*codes, turn]

    turn = turn_code(nest, meta)
    kin = (nest.key, nest.kin, turn is None)
    turned = None if turn is None else turn_launch(turn, nest, meta, places)
    if turned is not None:
        turned.family, turned.kin = family, kin
        return turned
    rows = nest.dims.count("r")
    sizes = meta[: len(nest.dims)]
    work = numel(sizes)
    if "d" not in nest.dims and rows == 1:
        grid = -(-sizes[0] // BLOCK)
        per_unit = BLOCK
    elif "d" not in nest.dims:
        grid, per_unit = numel(sizes[: rows - 1]), sizes[rows - 1]
    elif nest.vector_rows:
        grid = numel(sizes[: rows - 1]) * -(-sizes[rows - 1] // COLUMN_BLOCK)
        per_unit = work // greatest(grid, 1)
    else:
        grid = numel(sizes[:rows])
        per_unit = work // greatest(grid, 1)
    if work == 0 and "d" not in nest.dims:
        grid = 0
    weight = 8 if any(getattr(i.what, "is_costly", False) for i in nest.body) else 1
    grain = greatest(1, -(-GRAIN_WORK // greatest(per_unit * weight, 1)))

    build = _Builder(nest)
    return Launch(nest.key, build, meta, places, grid, grain, nest.spill, nest.label, family, kin)


class _Builder:
    """Makes the kernel of a nest when its key is new."""

    def __init__(self, nest) -> None:
        self.nest = nest

    def __call__(self, name: str, target: Any, math: Any) -> Any:
        return build_nest(self.nest, name, target, math)


def copy_launch(
    source: Layout, dtype: str, shape: Sequence[int], strides: Sequence[int], at: Any, to: Any
) -> Launch:
    """A tensor copied, broadcast and cast, to other strides; `at` and `to` name the buffers."""
    pad = len(shape) - source.ndim
    walk = (
        *[0] * pad,
        *(0 if n == 1 else s for n, s in zip(source.shape, source.strides, strict=True)),
    )
    accesses = [Access(source.dtype.code, walk), Access(dtype, tuple(strides))]
    body = [Instruction("load", 0, (), register_type(source.dtype.code))]
    if body[0].dtype != register_type(dtype):
        body.append(Instruction("cast", None, (0,), register_type(dtype)))
    nest, meta = make_nest(shape, "r" * len(shape), accesses, 1, body, [(1, len(body) - 1)])
    return nest_launch(nest, meta, [at, to])
