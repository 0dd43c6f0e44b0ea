"""What the kernels of matrix products share: their key, the words of their `meta`, their tasks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .epilogue import HEAD, Finish
from .nest import Nest

# The words of `meta`. Strides are bytes (of D's columns: elements). The products of a batch are cut
# into `tasks` of `task` rows and columns. After these words come the axes of the batch, the last
# one first, each with its size and the strides of A, B, C and D along it.
FIELDS = (
    *HEAD, "m", "n", "k", "a_row", "a_k", "b_k", "b_column", "c_row", "c_column",
    "tasks_m", "task_m", "extra_m", "unit_m", "tasks_n", "task_n", "extra_n", "unit_n",
    "mc", "nc", "kc", "pack_a", "pack_b", "a_at", "b_at", "b_whole", "strip_row", "strip_panel",
    "b_panel", "turned_row",
    "axes",
)  # fmt: skip
MAX_AXES, AXIS_WORDS = 6, 5
DOT_COLUMNS = 256  # of sums that wait for an ending
EXTRA = len(FIELDS) + MAX_AXES * AXIS_WORDS  # where the words of an ending begin


@dataclass(frozen=True)
class GemmKey:
    """What is static in a matrix product, but for the nest of its ending, if it is ended.

    `kind` is "tiles", or for a few rows "dot" (vectors along k) or "axpy" (along columns).
    """

    dtype: str
    kind: str = "tiles"
    added: str = ""
    scaled: bool = False
    is_ended: bool = False

    @property
    def is_direct(self) -> bool:
        """Whether tiles may store sums themselves, as they are or with D."""
        return not (self.added == "strided" or self.scaled or self.is_ended)

    @property
    def name(self) -> str:
        scaled, ended = "scaled" * self.scaled, "ended" * self.is_ended
        words = ("gemm", self.kind, self.dtype, self.added, scaled, ended)
        return "_".join(w for w in words if w)


class Product:
    """A kernel in the making. `element` is what it computes in, `width` the lanes of a vector."""

    def __init__(
        self, name: str, target: Target, key: GemmKey, element: str, accumulator: str,
        math: Callable, nest: Nest | None,
    ) -> None:  # fmt: skip
        self.b = b = Builder(name, target, math)
        self.key, self.element, self.accumulator = key, element, accumulator
        self.width = target.lanes(itemsize(accumulator))
        self.size = itemsize(key.dtype)
        how = key.added, key.scaled, nest, EXTRA, 4
        self.finish = Finish(b, key.dtype, accumulator, self.width, *how)
        self.meta: dict[str, Value] = {}

    def write(self) -> Kernel:
        b = self.b
        self.functions()
        with b.entry():
            self.meta = {name: b.param(i) for i, name in enumerate(FIELDS)}
            with b.loop(b.lo, b.hi) as loop:
                self.enter(loop.index)
                self.task()
        return b.kernel

    def functions(self) -> None:
        """Write the functions that the entry calls."""
        raise NotImplementedError

    def task(self) -> None:
        """Write the product of A's rows and B's columns that `enter` has chosen."""
        raise NotImplementedError

    def enter(self, item: Value) -> None:
        """Find the place of a task: its product of the batch, its rows and its columns."""
        b, m = self.b, self.meta
        rest, row = item // m["tasks_m"], item % m["tasks_m"]
        batch, column = rest // m["tasks_n"], rest % m["tasks_n"]
        pointers = [b.pointer(i) for i in range(4 if self.key.added else 3)]
        with b.loop(0, m["axes"], 1, [batch, *pointers]) as loop:
            rest, *pointers = loop.carry
            at = loop.index * AXIS_WORDS + len(FIELDS)
            size, *steps = (b.load(b.meta, at + i, "i64") for i in range(1 + len(pointers)))
            index = rest % size
            moved = (b.offset(p, index * step) for p, step in zip(pointers, steps, strict=True))
            loop.next(rest // size, *moved)
        _, self.a, self.bp, self.c, *d = loop.results
        self.d = d[0] if d else self.c
        self.first_row = batch * m["m"]
        self.rows_from, self.rows_to = self.span("m", row)
        self.columns_from, self.columns_to = self.span("n", column)

    def span(self, axis: str, i: Value) -> tuple[Value, Value]:
        """Where the i-th task begins and ends: the first `extra` tasks are one unit larger."""
        b, m = self.b, self.meta
        task, extra, unit = (m[f"{word}_{axis}"] for word in ("task", "extra", "unit"))
        first, last = (j * task + b.min(j, extra) * unit for j in (i, i + 1))
        return first, b.min(last, m[axis])

    def c_at(self, row: Value, column: Value) -> Value:
        m = self.meta
        return self.b.offset(self.c, row * m["c_row"] + column * m["c_column"])

    def d_at(self, row: Value, column: Value) -> Value:
        m = self.meta
        return self.b.offset(self.d, row * m["d_row"] + column * m["d_column"] * self.size)
