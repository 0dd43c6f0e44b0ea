"""Values placed or joined at positions that tensors hold: rows in order, columns in parallel.

Every element of the result is written by one task, which goes through the positions in order, so
results do not depend on the number of threads. Where columns are too few for all threads, tasks
share a column block by ranges of positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from amity.core.dtype import float32
from amity.core.layout import Layout, layout
from amity.core.shape import numel
from amity.ir.kernel import Builder, Kernel, Value, itemsize, register_type
from amity.ir.target import Target

from .group import copy_launch
from .nest import Access, collapse
from .plan import GRAIN_WORK, Code, Launch
from .reduction import COMBINE, highest, lowest

BLOCK = 256  # columns of a task
JOINS = {
    "add": "sum",
    "sum": "sum",
    "multiply": "prod",
    "prod": "prod",
    "amax": "max",
    "amin": "min",
}
OFFSET_BLOCK = 4096  # positions of a task that computes offsets


class ScatterKey(NamedTuple):
    """What a kernel's code depends on; all sizes and strides are read when it runs."""

    mode: str  # assign, reset, or a key of JOINS
    neutral: str  # the join whose neutral element `reset` writes
    dtype: str
    source: str
    at: str
    rank: int  # of the columns
    is_shared: bool  # one position for all columns of a block
    width: int  # lanes; 1 where columns are not neighbours in memory
    is_single: bool  # one column a task
    is_split: bool  # tasks share columns by ranges of positions


def combine(b: Builder, mode: str, old: Value, v: Value) -> Value:
    """What is there joined with a value."""
    name = JOINS[mode]
    if old.dtype == "bool":
        name = {"sum": "any", "prod": "all"}.get(name, name)
    return COMBINE[name].combine(b, old, v)


def neutral(mode: str, dtype: str) -> int | float | bool:
    """What a join leaves every value with."""
    return {"sum": 0, "prod": 1, "max": lowest(dtype), "min": highest(dtype)}[JOINS[mode]]


class _Scatter:
    """Writes the kernel of one key."""

    def __init__(self, key: ScatterKey, name: str, target: Target, math: Callable) -> None:
        self.b, self.key = Builder(name, target, math), key

    def build(self) -> Kernel:
        b, r = self.b, self.key.rank
        with b.entry():
            self.words = [b.param(i) for i in range(8 + 4 * r)]
            (
                self.rows,
                self.parts,
                self.chunk,
                self.wrap,
                self.step,
                self.at_row,
                self.src_row,
                blocks,
            ) = self.words[:8]
            self.sizes, self.out_strides, self.at_strides, self.src_strides = (
                self.words[8 + i * r : 8 + (i + 1) * r] for i in range(4)
            )
            self.out, self.at, self.src = (b.pointer(i) for i in range(3))
            with b.loop(b.lo, b.hi) as task:
                column = task.index // self.parts
                self.first = (task.index - column * self.parts) * self.chunk
                rest = column // blocks
                self.task((column - rest * blocks) * BLOCK, rest)
        return b.kernel

    def task(self, lo: Value, rest: Value) -> None:
        """One block of columns, all positions in order."""
        b, zero = self.b, self.b.const(0, "i64")
        out, at, src = zero, zero, zero
        for d in reversed(range(self.key.rank - 1)):
            q = rest // self.sizes[d] if d else zero
            i = rest - q * self.sizes[d]
            out, at = out + i * self.out_strides[d], at + i * self.at_strides[d]
            src, rest = src + i * self.src_strides[d], q
        hi = b.min(lo + BLOCK, self.sizes[-1])
        with b.loop(0, self.rows) as row:
            here, source = at + row.index * self.at_row, src + row.index * self.src_row
            if self.key.is_shared:
                one = lambda base: self.write(out + base, source, 1)  # noqa: E731
                all_ = lambda base: self.columns(lo, hi, out + base, source)  # noqa: E731
                self.placed(here, one if self.key.is_single else all_)
            else:
                with b.loop(lo, hi) as c:
                    to, of = (
                        out + c.index * self.out_strides[-1],
                        source + c.index * self.src_strides[-1],
                    )
                    self.placed(
                        here + c.index * self.at_strides[-1],
                        lambda base, to=to, of=of: self.write(to + base, of, 1),
                    )

    def placed(self, here: Value, body: Callable[[Value], None]) -> None:
        """`body` at the position that `here` holds, if it is in this task's range."""
        b = self.b
        i = b.convert(b.load(self.at, here, self.key.at), "i64")
        i = b.select(i < 0, i + self.wrap, i)
        if not self.key.is_split:
            body(i * self.step)
            return
        with b.branch((i >= self.first) & (i < self.first + self.chunk)):
            body(i * self.step)

    def columns(self, lo: Value, hi: Value, out: Value, src: Value) -> None:
        b, width = self.b, self.key.width
        if width == 1:
            with b.loop(lo, hi) as c:
                self.write(
                    out + c.index * self.out_strides[-1], src + c.index * self.src_strides[-1], 1
                )
            return
        while width:  # narrower and narrower, as columns may be few
            whole = lo + ((hi - lo) & b.const(-width, "i64"))
            with b.loop(lo, whole, width) as c:
                self.write(out + c.index, src + c.index, width)
            lo, width = whole, width // 2

    def write(self, to: Value, of: Value, width: int) -> None:
        b, key = self.b, self.key
        dtype = register_type(key.dtype)
        if key.mode == "reset":
            v = b.const(neutral(key.neutral, dtype), dtype, width)
        else:
            v = b.convert(b.load(self.src, of, key.source, width), dtype)
        if key.mode in JOINS:
            v = combine(b, key.mode, b.load(self.out, to, key.dtype, width), v)
        b.store(self.out, to, v, key.dtype)


def _build_scatter(key: ScatterKey, name: str, target: Target, math: Callable) -> Kernel:
    return _Scatter(key, name, target, math).build()


def _scatter_code(key: ScatterKey) -> Code:
    return Code(("scatter", *key), partial(_build_scatter, key), "scatter")


class Run(NamedTuple):
    """The run of positions and values: how many, and how far apart in the positions and the values."""

    rows: int
    at: int
    source: int
    range: int  # positions are below it
    step: int  # elements of the result from one position to the next


def scatter_launch(
    mode: str, out: Layout, at: str, source: str, run: Run, columns: Sequence[int], strides: Sequence[Sequence[int]],
    target: Target, threads: int, buffers: Sequence[Any], neutral: str = "",
) -> Launch:  # fmt: skip
    """One pass over all positions; `strides` of the result, positions and values over the columns."""
    accesses = [
        Access(d, tuple(s))
        for d, s in zip(
            (source, at, out.dtype.code), (strides[2], strides[1], strides[0]), strict=True
        )
    ]
    sizes, _, (ss, as_, os) = collapse(columns, "r" * len(columns), accesses, False)
    if not sizes:
        sizes, ss, as_, os = [1], [0], [0], [0]
    if (
        run.source == 1 and sizes[-1] > 1 and ss[-1] != 1
    ):  # values run along the positions: a column a task
        sizes, ss, as_, os = [*sizes, 1], [*ss, 0], [*as_, 0], [*os, 0]
    is_shared, inner = as_[-1] == 0, sizes[-1]
    lanes = target.lanes(itemsize(register_type(out.dtype.code)))
    dense = is_shared and os[-1] == 1 and (ss[-1] == 1 or mode == "reset")
    width = lanes if dense else 1
    blocks = -(-inner // BLOCK)
    tasks = numel(sizes[:-1]) * blocks
    parts = 1
    if tasks < threads and inner >= 8 and run.rows * inner > 2 * GRAIN_WORK:
        parts = max(1, min(-(-threads // max(tasks, 1)), run.range))
    chunk = -(-run.range // parts)
    key = ScatterKey(
        mode, neutral, out.dtype.code, source, at, len(sizes), is_shared, width,
        is_shared and inner == 1, parts > 1,
    )  # fmt: skip
    meta = [
        run.rows,
        parts,
        chunk,
        run.range,
        run.step,
        run.at,
        run.source,
        blocks,
        *sizes,
        *os,
        *as_,
        *ss,
    ]
    work = run.rows * min(inner, BLOCK) // parts
    grain = max(1, GRAIN_WORK // max(work, 1))
    code = _scatter_code(key)
    return Launch(
        *code[:2],
        meta,
        buffers,
        tasks * parts,
        grain,
        False,
        "scatter",
        lambda: [_scatter_code(key._replace(is_split=x)) for x in (False, not key.is_single)],
    )


def _is_widened(mode: str, out: Layout) -> bool:
    """Whether 16-bit sums are kept in f32 until all values are in."""
    return out.dtype.kind == "f" and out.dtype.itemsize == 2 and JOINS.get(mode) in ("sum", "prod")


def _around(
    x: Layout,
    out: Layout,
    mode: str,
    first: int,
    passes: Callable[[Layout, int], list[Launch]],
    n: int,
):
    """Launches of `passes` over a copy of x in the result, or in an f32 temporary; `n` buffers are known."""
    if not _is_widened(mode, out):
        start = copy_launch(x, out.dtype.code, out.shape, out.strides, 0, first)
        return [start, *passes(out, first)], []
    wide = layout(float32, out.shape)
    start = copy_launch(x, "f32", wide.shape, wide.strides, 0, n)
    end = copy_launch(wide, out.dtype.code, out.shape, out.strides, n, first)
    return [start, *passes(wide, n), end], [wide.nbytes]


def plan_scatter(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """`x` with values of `src` joined in along one dimension."""
    x, index, src = (m if m.ndim else layout(m.dtype, (1,)) for m in ins)
    out = outs[0] if outs[0].ndim else layout(outs[0].dtype, (1,))
    d = op.dim
    columns = [n for i, n in enumerate(index.shape) if i != d]

    def passes(to: Layout, place: int) -> list[Launch]:
        if index.numel == 0:
            return []
        strides = [[s for i, s in enumerate(m.strides) if i != d] for m in (to, index, src)]
        run = Run(index.shape[d], index.strides[d], src.strides[d], out.shape[d], to.strides[d])
        modes = (
            [(op.reduce, "")]
            if op.include_self or op.reduce == "assign"
            else [("reset", op.reduce), (op.reduce, "")]
        )
        return [
            scatter_launch(
                mode,
                to,
                index.dtype.code,
                src.dtype.code,
                run,
                columns,
                strides,
                target,
                threads,
                [place, 1, 2],
                n,
            )
            for mode, n in modes
        ]

    return _around(x, out, op.reduce, 3, passes, 4)


# -- several index tensors


def build_offsets(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    """Offsets in memory from index tensors: for each place of their joined shape, a sum of steps."""
    _, codes, rank = key
    b = Builder(name, target, math)
    with b.entry():
        sizes = [b.param(i) for i in range(rank)]
        total = b.param(rank)
        pointers = [b.pointer(i) for i in range(len(codes) + 1)]
        with b.loop(b.lo * OFFSET_BLOCK, b.min(b.hi * OFFSET_BLOCK, total)) as L:
            rest, position = L.index, []
            for d in reversed(range(rank)):
                q = rest // sizes[d] if d else b.const(0, "i64")
                position.insert(0, rest - q * sizes[d])
                rest = q
            offset, word = b.const(0, "i64"), rank + 1
            for pointer, code in zip(pointers, codes, strict=False):
                at = b.const(0, "i64")
                for d in range(rank):
                    at = at + position[d] * b.param(word + 2 + d)
                i = b.convert(b.load(pointer, at, code), "i64")
                i = b.select(i < 0, i + b.param(word), i)
                offset, word = offset + i * b.param(word + 1), word + 2 + rank
            b.store(pointers[-1], L.index, offset, "i64")
    return b.kernel


def _offsets_launch(
    op: Any, indices: Sequence[Layout], joined: Sequence[int], out: Layout, buffers: list
) -> Launch:
    key = ("offsets", tuple(i.dtype.code for i in indices), len(joined))
    total = numel(joined)
    meta = [*joined, total]
    for i, d in zip(indices, op.dims, strict=True):
        pad = len(joined) - i.ndim
        strides = [0] * pad + [0 if n == 1 else s for n, s in zip(i.shape, i.strides, strict=True)]
        meta += [out.shape[d], out.strides[d], *strides]
    return Launch(
        key,
        partial(build_offsets, key),
        meta,
        buffers,
        -(-total // OFFSET_BLOCK),
        4,
        False,
        "offsets",
    )


def _single_stride(sizes: Sequence[int], strides: Sequence[int]) -> int | None:
    """The one step by which several dimensions are walked in row-major order, if there is one."""
    step, first = None, 0
    for n, s in reversed([(n, s) for n, s in zip(sizes, strides, strict=True) if n != 1]):
        if step is not None and s != step:
            return None
        first = s if step is None else first
        step = s * n
    return first


def plan_index_put(
    op: Any, ins: Sequence[Layout], outs: Sequence[Layout], target: Target, threads: int
) -> tuple:
    """`x` with values put, or added, where index tensors say."""
    x, values, *indices = ins
    (out,) = outs
    joined, at, columns = op.parts(tuple(x.shape), [tuple(i.shape) for i in indices])
    shape = (*columns[:at], *joined, *columns[at:])
    rows, mode = numel(joined), "add" if op.accumulate else "assign"
    known, temporaries, before = len(ins) + 1, [], []
    here = slice(at, at + len(joined))
    walk = [0] * (len(shape) - values.ndim) + [
        0 if n == 1 else s for n, s in zip(values.shape, values.strides, strict=True)
    ]
    source, step = 1, _single_stride(joined, walk[here])
    if step is None:
        flat = layout(values.dtype, shape)
        before.append(copy_launch(values, values.dtype.code, shape, flat.strides, 1, known))
        temporaries.append(flat.nbytes)
        source, known, walk = known, known + 1, list(flat.strides)
        step = _single_stride(joined, walk[here]) or 0
    walk = [*walk[:at], *walk[at + len(joined) :]]
    is_direct = len(indices) == 1 and indices[0].is_contiguous
    offsets = known
    if not is_direct:
        temporaries.append(max(rows, 1) * 8)
        known += 1

    def passes(to: Layout, place: int) -> list[Launch]:
        if rows == 0 or numel(columns) == 0:
            return []
        out_strides = [s for d, s in enumerate(to.strides) if d not in op.dims]
        strides = [out_strides, [0] * len(columns), walk]
        if is_direct:
            d = op.dims[0]
            run = Run(rows, 1, step, to.shape[d], to.strides[d])
            code, positions, first = indices[0].dtype.code, 2, []
        else:
            run, code, positions = Run(rows, 1, step, to.extent, 1), "i64", offsets
            first = [_offsets_launch(op, indices, joined, to, [*range(2, len(ins)), offsets])]
        put = scatter_launch(
            mode,
            to,
            code,
            values.dtype.code,
            run,
            columns,
            strides,
            target,
            threads,
            [place, positions, source],
        )
        return [*first, put]

    launches, wide = _around(x, out, mode, len(ins), passes, known)
    return [*before, *launches], [*temporaries, *wide]
