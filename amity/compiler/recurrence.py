"""Recurrent networks: all steps of some rows of the batch in one task.

A step forward is a product of the state with weights that were packed once for all steps, then the
cell's formulas over the rows, vectors along the hidden numbers; a step back is the formulas, then the
product. States and sums stay in the caches between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

from amity.core.layout import Layout, layout
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target
from amity.ops.activation import RELU
from amity.ops.elementwise import SIGMOID, TANH

from .gemm_plan import TASK_WORK, packing, rounded
from .group import copy_launch
from .pack import COPY, GATHER, ONE_PANEL, TURN, Packer, in_vectors
from .plan import GRAIN_WORK, Launch
from .tile import Tile, micro_kernel, row_variants

MOST_ROWS = 64  # of a task: their sums stay in the second cache

# The words of `meta`; pitches are numbers in a row of the wide buffers. Then come the first row and
# the rows of each step, or of all steps where they are alike.
FIELDS = (
    "batch", "hidden", "steps", "is_reverse", "is_kept", "task", "pitch", "sums_pitch", "step_rows",
    "words",
)  # fmt: skip


def recurrent_tile(target: Target, element: str) -> Tile:
    """8x3 vectors, or 4x3 or 4x2 with fewer registers: batches are multiples of 4 or 8."""
    width = target.lanes(itemsize(element))
    if target.registers >= 32:
        return Tile(element, width, 8, 3)
    return Tile(element, width, 4, 3 if "fma" in target.has else 2)


def build_panels(dtype: str, name: str, target: Target, math: Callable) -> Kernel:
    """`(matrix, panels)`: a matrix in panels as wide as the tile, one a task."""
    tile = recurrent_tile(target, register_type(dtype))
    b = Builder(name, target, math)
    Packer(b, tile, dtype).write()
    with b.entry():
        lanes, depth, lane_stride, k_stride, mode = (b.param(i) for i in range(5))
        row = tile.columns * tile.bytes
        with b.loop(b.lo, b.hi) as panel:
            at = panel.index * tile.columns
            source = b.offset(b.pointer(0), at * lane_stride)
            place = b.offset(b.pointer(1), panel.index * depth * row)
            some = b.min(lanes - at, tile.columns)
            part = source, k_stride, lane_stride, place, row, depth, some, tile.columns, ONE_PANEL
            for number, function in ((COPY, "copy"), (TURN, "turn"), (GATHER, "gather")):
                with b.branch(mode.eq(number)):
                    b.call(function, *part)
    return b.kernel


class Steps:
    """Writes the kernel of a cell in one direction. Wide buffers hold what is computed in."""

    is_forward: bool
    names: list[str]  # of the buffers

    def __init__(self, cell: Any, dtype: str, name: str, target: Target, math: Callable) -> None:
        self.cell, self.dtype, self.kind = cell, dtype, register_type(dtype)
        self.tile = recurrent_tile(target, self.kind)
        self.size, self.wide = itemsize(dtype), self.tile.bytes
        self.b = b = Builder(name, target, math)
        self.m = SimpleNamespace(
            sigmoid=partial(SIGMOID.emit, b), tanh=partial(TANH.emit, b),
            relu=partial(RELU.emit, b), where=b.select,
        )  # fmt: skip

    def build(self) -> Kernel:
        b, tile = self.b, self.tile
        for vectors in range(1, tile.vectors + 1):
            for rows in row_variants(tile):
                micro_kernel(b, f"tile{rows}x{vectors}", tile.with_shape(rows, vectors))
        with b.entry():
            self.meta = {name: b.param(i) for i, name in enumerate(FIELDS)}
            self.hidden, self.pitch = self.meta["hidden"], self.meta["pitch"]
            self.gates, self.sums_pitch = self.hidden * self.cell.gates, self.meta["sums_pitch"]
            self.at = {name: b.pointer(i) for i, name in enumerate(self.names)}
            with b.loop(b.lo, b.hi) as task:
                first = task.index * self.meta["task"]
                self.task(first, b.min(first + self.meta["task"], self.meta["batch"]))
        return b.kernel

    def task(self, first: Value, last: Value) -> None:
        """All steps of the rows from `first` to `last` of the batch."""
        b, m = self.b, self.meta
        self.move(first, last, ("first", "state") if self.is_forward else ("last", "state"))
        is_turned = m["is_reverse"].eq(int(self.is_forward))
        with b.loop(0, m["steps"]) as loop:
            t = b.select(is_turned, m["steps"] - 1 - loop.index, loop.index)
            word = t * m["words"] + len(FIELDS)
            start = b.load(b.meta, word, "i64") + t * m["step_rows"] + first
            rows = b.max(b.min(b.load(b.meta, word + 1, "i64"), last) - first, 0)
            self.step(first, start, rows)
        self.move(first, last, ("state", "last") if self.is_forward else ("state", "first"))

    def step(self, first: Value, start: Value, rows: Value) -> None:
        """One step of `rows` rows: from `first` of the batch, `start` of all rows of all steps."""
        raise NotImplementedError

    # -- places
    def row(self, name: str, row: Value, numbers: Value, at: Value) -> Value:
        """Number `at` of a row of a buffer, of so many numbers a row."""
        return self.b.offset(self.at[name], (row * numbers + at) * self.size)

    def wide_row(self, name: str, row: Value, at: Value | int = 0) -> Value:
        pitch = self.sums_pitch if name == "sums" else self.pitch
        return self.b.offset(self.at[name], (row * pitch + at) * self.wide)

    def several(self, name: str, row: Value, count: int, at: Value, mask: Any) -> list[Value]:
        """Values of a row that holds `count` for each hidden number."""
        place = self.row(name, row, self.hidden * count, at)
        step, width = self.hidden * self.size, self.tile.width
        return [
            self.b.load(self.b.offset(place, step * i), 0, self.dtype, width, mask)
            for i in range(count)
        ]

    def several_wide(self, name: str, row: Value, count: int, at: Value, mask: Any) -> list[Value]:
        place, step = self.wide_row(name, row, at), self.hidden * self.wide
        width = self.tile.width
        return [
            self.b.load(self.b.offset(place, step * i), 0, self.kind, width, mask)
            for i in range(count)
        ]

    def put(self, name: str, row: Value, values: Sequence[Value], at: Value, mask: Any) -> None:
        place = self.row(name, row, self.hidden * len(values), at)
        for i, v in enumerate(values):
            self.b.store(
                self.b.offset(place, self.hidden * (i * self.size)), 0, v, self.dtype, mask
            )

    def put_wide(self, name: str, row: Value, values: Sequence[Value], at: Value, mask) -> None:
        place = self.wide_row(name, row, at)
        for i, v in enumerate(values):
            self.b.store(self.b.offset(place, self.hidden * (i * self.wide)), 0, v, self.kind, mask)

    def over(self, rows: Value, body: Callable) -> None:
        """`body(row, at, mask)` for each vector of hidden numbers of each row."""
        with self.b.loop(0, rows) as row:
            in_vectors(self.b, self.hidden, self.hidden, self.tile.width, partial(body, row.index))

    def move(self, first: Value, last: Value, way: tuple[str, str]) -> None:
        """States of a task's rows from their arguments to wide buffers, or from these to results."""
        source, target = way

        def one(i: Value, at: Value, mask: Any) -> None:
            row = first + i
            for s in range(self.cell.states):
                if source == "state":
                    values = self.several_wide(f"state{s}", row, 1, at, mask)
                    self.put(f"{target}{s}", row, values, at, mask)
                else:
                    values = self.several(f"{source}{s}", row, 1, at, mask)
                    self.put_wide(f"state{s}", row, values, at, mask)

        self.over(last - first, one)

    def states(self, row: Value, at: Value, mask: Any) -> list[Value]:
        found = [self.several_wide(f"state{s}", row, 1, at, mask) for s in range(self.cell.states)]
        return [v for (v,) in found]

    # -- the product
    def product(
        self, a: Value, a_pitch: Value, depth: Value, c: Value, c_pitch: Value, columns: Value,
        rows: Value, adds: bool,
    ) -> None:  # fmt: skip
        """`c = a @ panels`, or added to it; pitches are numbers in a row."""
        b, tile = self.b, self.tile
        a_row, c_row = a_pitch * self.wide, c_pitch * self.wide
        sizes = row_variants(tile)
        full = rows // tile.rows
        left = rows - full * tile.rows
        count = full
        for bit in range(len(sizes) - 1):
            count = count + ((left >> bit) & 1)
        with b.loop(0, columns, tile.columns) as jr:
            vectors = (b.min(columns - jr.index, tile.columns) + (tile.width - 1)) // tile.width
            panel = b.offset(self.at["panels"], jr.index * depth * self.wide)
            place = b.offset(c, jr.index * self.wide)
            with b.loop(0, count, 1, [b.const(0, "i64")]) as loop:
                (i,) = loop.carry
                size = b.const(sizes[-1], "i64")
                for n in reversed(sizes[:-1]):
                    size = b.select(rows - i >= n, n, size)
                args = (
                    b.offset(a, i * a_row), a_row, self.wide, panel, tile.columns * self.wide,
                    b.offset(place, i * c_row), c_row, depth, int(adds),
                )  # fmt: skip
                for v in range(1, tile.vectors + 1):
                    with b.branch(vectors.eq(v)):
                        for n in sizes:
                            with b.branch(size.eq(n)):
                                b.call(f"tile{n}x{v}", *args)
                loop.next(i + size)


class Forward(Steps):
    is_forward = True

    @property
    def names(self) -> list[str]:
        cell, states = self.cell, range(self.cell.states)
        pairs = [f"{what}{s}" for s in states for what in ("before", "last")]
        bias = ["bias"] * cell.has_bias
        return ["x", "w", *(f"first{s}" for s in states), *bias, "out", "kept", *pairs, "panels",
                "sums", *(f"state{s}" for s in states)]  # fmt: skip

    def step(self, first: Value, start: Value, rows: Value) -> None:
        sums = self.wide_row("sums", first)
        state = self.wide_row("state0", first), self.pitch, self.hidden
        self.product(*state, sums, self.sums_pitch, self.gates, rows, adds=False)
        self.over(rows, partial(self.formulas, first, start))

    def formulas(self, first: Value, start: Value, i: Value, at: Value, mask: Any) -> None:
        b, cell = self.b, self.cell
        row = start + i
        x = self.several("x", row, cell.gates, at, mask)
        h = self.several_wide("sums", first + i, cell.gates, at, mask)
        if cell.has_bias:
            bias = self.several("bias", b.const(0, "i64"), cell.gates, at, mask)
            h = [a + c for a, c in zip(h, bias, strict=True)]
        state = self.states(first + i, at, mask)
        new, kept = cell.step(self.m, x, h, state)
        with b.branch(self.meta["is_kept"].ne(0)):
            self.put("kept", row, kept, at, mask)
            for s, old in enumerate(state):
                self.put(f"before{s}", row, [old], at, mask)
        self.put("out", row, new[:1], at, mask)
        for s, v in enumerate(new):
            self.put_wide(f"state{s}", first + i, [v], at, mask)


class Back(Steps):
    is_forward = False

    @property
    def names(self) -> list[str]:
        cell, states = self.cell, range(self.cell.states)
        gates = ["gx", "gh"] if cell.has_bias else ["gx"]
        return ["g", "w", "kept", *(f"last{s}" for s in states), *(f"before{s}" for s in states),
                *gates, *(f"first{s}" for s in states), "panels", "sums",
                *(f"state{s}" for s in states)]  # fmt: skip

    def step(self, first: Value, start: Value, rows: Value) -> None:
        self.over(rows, partial(self.formulas, first, start))
        gates = self.wide_row("sums", first), self.sums_pitch, self.gates
        state = self.wide_row("state0", first), self.pitch, self.hidden
        self.product(*gates, *state, rows, adds=self.is_direct)

    @property
    def is_direct(self) -> bool:
        """Whether the state reaches the next one beside the product too."""
        return self.cell.has_bias

    def formulas(self, first: Value, start: Value, i: Value, at: Value, mask: Any) -> None:
        cell, row = self.cell, start + i
        g = self.states(first + i, at, mask)
        g[0] = g[0] + self.several("g", row, 1, at, mask)[0]
        kept = self.several("kept", row, cell.kept, at, mask)
        before = [self.several(f"before{s}", row, 1, at, mask)[0] for s in range(cell.states)]
        gx, gh, direct = cell.back(self.m, g, kept, before, (None,) * cell.kept)
        self.put("gx", row, gx, at, mask)
        if gh is not gx:
            self.put("gh", row, gh, at, mask)
        self.put_wide("sums", first + i, gh, at, mask)
        for s, v in enumerate(direct):
            if v is not None:
                self.put_wide(f"state{s}", first + i, [v], at, mask)


def build_steps(key: tuple, cell: Any, name: str, target: Target, math: Callable) -> Kernel:
    _, _, is_forward, dtype = key
    return (Forward if is_forward else Back)(cell, dtype, name, target, math).build()


def plan_recurrence(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple[list[Launch], list[int]]:
    """Weights packed, then the steps; inputs that are not row-major are copied first."""
    cell, w, dtype = op.cell, ins[1], outs[0].dtype
    steps, hidden = ins[0].shape[0], w.shape[1]
    batch = op.sizes[0] if op.sizes else ins[0].shape[1]
    if batch == 0:
        return [], []
    tile = recurrent_tile(target, register_type(dtype.code))
    gates, wide = cell.gates * hidden, tile.bytes
    launches, temporaries, buffers = [], [], list(range(len(ins) + len(outs)))
    for i, x in enumerate(ins):
        if i != 1 and not x.is_contiguous:
            flat = layout(dtype, x.shape)
            buffers[i] = len(ins) + len(outs) + len(temporaries)
            launches.append(copy_launch(x, dtype.code, tuple(x.shape), flat.strides, i, buffers[i]))
            temporaries.append(flat.nbytes)
    lanes, depth = (gates, hidden) if op.is_forward else (hidden, gates)
    lane_stride, k_stride = (s * dtype.itemsize for s in w.strides[:: 1 if op.is_forward else -1])
    panels = -(-lanes // tile.columns)
    pitch, sums_pitch = rounded(hidden, tile.width), rounded(gates, tile.width)
    own = [panels * tile.columns * depth, batch * sums_pitch, *[batch * pitch] * cell.states]
    buffers += [len(ins) + len(outs) + len(temporaries) + i for i in range(len(own))]
    temporaries += [n * wide for n in own]
    words = lanes, depth, lane_stride, k_stride, packing(k_stride, lane_stride, dtype.itemsize)
    launches.append(
        Launch(
            ("panels", dtype.code), partial(build_panels, dtype.code), words,
            [1, buffers[len(ins) + len(outs)]], panels,
            max(1, GRAIN_WORK // max(1, depth * tile.columns)), False, "panels",
        )
    )  # fmt: skip
    spans = op.spans(ins[0].shape, batch)
    table = [n for span in spans for n in span] if op.sizes else (0, batch)
    task = min(MOST_ROWS, rounded(-(-batch // threads), tile.rows))
    meta = (
        batch, hidden, len(spans), int(op.is_reverse), int(getattr(op, "is_kept", False)), task,
        pitch, sums_pitch, 0 if op.sizes else batch, 2 if op.sizes else 0, *table,
    )  # fmt: skip
    key = ("recurrence", cell.__name__, op.is_forward, dtype.code)
    work = max(1, steps * hidden * gates * (task if not op.sizes else 1))
    launches.append(
        Launch(
            key, partial(build_steps, key, cell), meta, buffers, -(-batch // task),
            -(-TASK_WORK // work), False, op.name,
        )
    )  # fmt: skip
    return launches, temporaries
