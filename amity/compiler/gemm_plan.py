"""Plans of matrix products: which kernel runs, on which blocks, with which numbers."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from math import prod
from typing import NamedTuple

from amity.core.errors import fail
from amity.core.symbolic import bits_of
from amity.ir.kernel import itemsize
from amity.ir.target import Target

from .pack import COPY, GATHER, IN_PLACE, READY, TURN, WIDENED, element_of
from .product import AXIS_WORDS, DOT_COLUMNS, MAX_AXES, GemmKey
from .tile import PAIRS, Tile, best_tile, padded_rows

SCRATCH = 8 << 20  # bytes that each thread has
KC = 384  # steps of k in a block
A_BLOCK, B_BLOCK = 128 << 10, 768 << 10  # bytes that packed blocks may fill: of the second cache
TASK_WORK = 400_000  # multiplications that are worth another thread
STREAM_COST = 8  # multiplications of a tile that take as long as one that waits for memory
DOT_ROWS, AXPY_ROWS = 4, 16  # rows up to which the streaming kernels win ...
DOT_BYTES, AXPY_BYTES = 256 << 10, 3 << 20  # ... if there is more than one, and B is this large
DOT_DEPTH = 32  # ... and sums are long enough to pay for adding lanes up
UNTURNED_ROWS, UNTURNED_DEPTH = 12, 256  # the same where tiles would have to turn B
MOST_TURNED = 128  # rows of A up to which it may be turned instead of B
AXPY_SUMS = 16384  # sums that stay in the first cache


class GemmPlan(NamedTuple):
    """How to call a kernel: `grid` tasks, at least `grain` at once.

    `order` says which of the buffers A, B, C, D the kernel takes where; words and buffers of an
    ending follow.
    """

    key: GemmKey
    meta: tuple[int, ...]
    grid: int
    grain: int
    order: tuple[int, ...]
    family: tuple[GemmKey, ...]  # of all sizes


class Shape(NamedTuple):
    """A product in numbers. Strides are elements, the batch's first, then of rows and columns."""

    m: int
    n: int
    k: int
    batch: tuple[int, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]
    c: tuple[int, ...]
    d: tuple[int, ...]

    @property
    def strides(self) -> tuple[tuple[int, ...], ...]:
        return self.a, self.b, self.c, self.d

    def swapped(self) -> Shape:
        """The same product transposed: `C.T = B.T @ A.T`."""
        a, b, c, d = ((*s[:-2], s[-1], s[-2]) for s in self.strides)
        return Shape(self.n, self.m, self.k, self.batch, b, a, c, d)

    def turned(self) -> Shape:
        """The product transposed, but for C and D: A and B change places, sums are turned at last."""
        return self.swapped()._replace(c=self.c, d=self.d)

    def merged(self) -> Shape:
        """Fewer dimensions in the batch: without those of size 1, neighbours joined if they can."""
        kept = [i for i, n in enumerate(self.batch) if n != 1]
        sizes: list[int] = []
        columns: list[tuple[int, ...]] = []  # the strides of A, B, C and D along each dimension
        for i in kept:
            n, steps = self.batch[i], tuple(s[i] for s in self.strides)
            if sizes and all(x == y * n for x, y in zip(columns[-1], steps, strict=True)):
                sizes[-1], columns[-1] = sizes[-1] * n, steps
            else:
                sizes.append(n)
                columns.append(steps)
        a, b, c, d = (
            (*(column[j] for column in columns), *s[-2:]) for j, s in enumerate(self.strides)
        )
        return Shape(self.m, self.n, self.k, tuple(sizes), a, b, c, d)

    def flattened(self) -> Shape:
        """The last dimensions of the batch as rows, as long as all of it multiplies the same B."""
        m, n, _, batch, a, b, c, d = self
        while batch and b[-3] == 0 and all(m == 1 or s[-3] == s[-2] * m for s in (a, c, d)):
            if c[-1] != 1 and n != 1 and m == 1 and c[-3] != 1:
                break  # C would have unit stride in no dimension
            a, c, d = ((*s[:-3], s[-3] if m == 1 else s[-2], s[-1]) for s in (a, c, d))
            b, m, batch = (*b[:-3], *b[-2:]), m * batch[-1], batch[:-1]
        return self._replace(m=m, batch=batch, a=a, b=b, c=c, d=d)

    def oriented(self) -> Shape:
        """The product or its transpose: C with unit stride along columns, a vector as one row."""
        is_turned = not self.has_unit_columns and (self.c[-2] == 1 or self.m == 1)
        return self.swapped() if is_turned or (self.n == 1 and self.m > 1) else self

    @property
    def has_unit_columns(self) -> bool:
        return self.c[-1] == 1 or self.n <= 1

    @property
    def work(self) -> int:
        return self.m * self.n * self.k


def plan_gemm(
    target: Target, dtype: str, m: int, n: int, k: int,
    a: Sequence[int], b: Sequence[int], c: Sequence[int], d: Sequence[int] | None = None,
    batch: Sequence[int] = (), alpha: float = 1, beta: float = 1, is_ended: bool = False,
    threads: int = 1, is_ready: bool = False,
) -> GemmPlan:  # fmt: skip
    """The plan of `C = alpha * A @ B + beta * D`, which may be ended, for operands of these strides.

    shape: A `[*batch, m, k]`, B `[*batch, k, n]`, C and D `[*batch, m, n]`; strides are elements,
    one of 0 broadcasts. D may be C itself; where beta is 0, D is not read. With `is_ready` B lies
    in panels already, one behind the other over all of k.
    errors: ValueError if C has unit stride neither along rows nor along columns.
    """
    if beta == 0:
        d = None
    strides = (tuple(a), tuple(b), tuple(c), tuple(c if d is None else d))
    shape = Shape(m, n, k, tuple(batch), *strides)
    if batch:
        shape = shape.merged().flattened()
    oriented = shape if is_ended or is_ready else shape.oriented()
    is_scaled = alpha != 1 or (d is not None and beta != 1)

    def chosen_for(kind: str) -> tuple[GemmKey, Shape]:
        chosen = shape if kind == "tiles" and not oriented.has_unit_columns else oriented
        added = "" if d is None else "unit" if chosen.d[-1] == 1 or kind == "dot" else "strided"
        return GemmKey(dtype, kind, added, is_scaled, is_ended), chosen

    kind = "tiles" if is_ready else kind_of(oriented, dtype, tile_of(target, dtype))
    key, chosen = chosen_for(kind)
    check(chosen, kind)
    kinds = ["tiles"] if is_ready else kinds_of(oriented, dtype)
    family = tuple([chosen_for(k)[0] for k in kinds])
    size, tile = itemsize(dtype), tile_of(target, dtype)
    is_swapped, is_turned = chosen is not shape, False
    if kind == "tiles" and not is_ready and is_better_turned(tile, chosen, dtype):
        chosen, is_swapped, is_turned = chosen.turned(), not is_swapped, True
    rows, columns = split(tile, kind, chosen, threads)
    if kind == "tiles":
        task = min(chosen.m, rows.most), min(chosen.n, columns.most)
        blocks = tile_blocks(tile, key, chosen, *task, is_ready, is_turned)
    else:
        blocks = stream_blocks(key, chosen, columns)
    meta = (
        word_of(alpha, dtype), word_of(beta, dtype), chosen.d[-2] * size, chosen.d[-1],
        chosen.m, chosen.n, chosen.k, *byte_strides(chosen, size), *rows, *columns, *blocks,
        *batch_words(chosen, size),
    )  # fmt: skip
    count = rows.count * columns.count
    grid = prod(chosen.batch) * count if chosen.m and chosen.n else 0
    grain = -(-TASK_WORK // max(1, chosen.work // count))
    order = (1, 0, 2, 3) if is_swapped else (0, 1, 2, 3)
    return GemmPlan(key, meta, grid, grain, order, family)


def word_of(x: float, dtype: str) -> int:
    """A factor as the 64-bit word of `meta` that holds it."""
    return bits_of(x) if "f" in dtype else int(x)


def check(s: Shape, kind: str) -> None:
    if len(s.batch) > MAX_AXES:
        limit = f"at most {MAX_AXES} dimensions that do not merge"
        raise fail(ValueError, "matmul", f"a batch of {s.batch}", limit)
    is_empty = s.m == 0 or prod(s.batch) == 0
    if kind != "dot" and not s.has_unit_columns and not is_empty:
        expected = "unit stride in one dimension"
        raise fail(ValueError, "matmul", f"a result with strides {s.c[-2:]}", expected)


def kind_of(s: Shape, dtype: str, tile: Tile) -> str:
    """Tiles, unless there are few rows: then B is read once, as it lies."""
    if copies_a(s, dtype) and s.m * s.k * 8 > SCRATCH // 2:
        return "tiles"
    is_one, size, kinds = s.m <= 1, s.n * s.k * itemsize(dtype), kinds_of(s, dtype)
    if "dot" in kinds and (is_one or (s.m <= DOT_ROWS and size >= DOT_BYTES and s.k >= DOT_DEPTH)):
        return "dot"
    is_short = s.m <= UNTURNED_ROWS and s.k >= UNTURNED_DEPTH and tile.element != PAIRS
    if "dot" in kinds and is_short and s.b[-1] != 1 and not is_better_turned(tile, s, dtype):
        return "dot"
    if "axpy" in kinds and (is_one or (s.m <= AXPY_ROWS and size >= AXPY_BYTES)):
        return "axpy"
    return "tiles"


def kinds_of(s: Shape, dtype: str) -> list[str]:
    """The kinds among which sizes choose."""
    kinds = [] if s.m == 1 and not copies_a(s, dtype) else ["tiles"]
    if s.b[-2] == 1:
        kinds.append("dot")
    if (s.b[-1] == 1 or s.n == 1) and s.has_unit_columns:
        kinds.append("axpy")
    return kinds


def copies_a(s: Shape, dtype: str) -> bool:
    """Whether the kernels for few rows must copy A to read it."""
    return dtype in WIDENED or (s.a[-1] != 1 and s.k > 1)


def batch_words(s: Shape, size: int) -> tuple[int, ...]:
    """How many axes the batch has; for each, the last first, its size and strides in bytes."""
    words = [len(s.batch)]
    for i in reversed(range(len(s.batch))):
        words += [s.batch[i], *(x[i] * size for x in s.strides)]
    return (*words, *(0,) * (1 + MAX_AXES * AXIS_WORDS - len(words)))


def byte_strides(s: Shape, size: int) -> tuple[int, ...]:
    """Bytes along rows, k and columns; those of one row or column count as side by side."""
    a_row = s.a[-2] if s.m > 1 else 1
    b_column, c_column = (s.b[-1], s.c[-1]) if s.n > 1 else (1, 1)
    return tuple(x * size for x in (a_row, s.a[-1], s.b[-2], b_column, s.c[-2], c_column))


@functools.cache
def tile_of(target: Target, dtype: str) -> Tile:
    return best_tile(target, element_of(dtype, target.has))


class Tasks(NamedTuple):
    """How many tasks one axis is cut into; their size, and how many are one unit larger."""

    count: int
    size: int
    extra: int
    unit: int

    @property
    def most(self) -> int:
        return self.size + (self.unit if self.extra else 0)


def cut(length: int, unit: int, count: int) -> Tasks:
    """About `count` tasks of nearly the same size, in whole units."""
    units = -(-length // unit)
    count = max(1, min(count, units))
    size, extra = divmod(units, count)
    return Tasks(count, size * unit, extra, unit)


def split(tile: Tile, kind: str, s: Shape, threads: int) -> tuple[Tasks, Tasks]:
    """Tasks along rows and columns: one a thread, two where there is much work."""
    is_stream, products = kind != "tiles", max(1, prod(s.batch))
    work = s.work * products * (STREAM_COST if is_stream else 1)
    wanted = min(threads * 2 if work > 8 * threads * TASK_WORK else threads, work // TASK_WORK)
    wanted = -(-wanted // products)
    rows, columns = 1, 1
    limit_m, limit_n = 1 if is_stream else s.m // tile.rows, s.n // tile.columns
    while rows * columns < wanted and (rows < limit_m or columns < limit_n):
        if rows >= limit_m or (columns < limit_n and s.n * rows >= s.m * columns):
            columns += 1
        else:
            rows += 1
    if kind == "axpy":
        columns = max(columns, -(-s.n * s.m // AXPY_SUMS))
    return cut(s.m, max(1, s.m) if is_stream else tile.rows, rows), cut(s.n, tile.columns, columns)


def rounded(x: int, unit: int) -> int:
    return -(-x // unit) * unit


def stream_blocks(key: GemmKey, s: Shape, columns: Tasks) -> tuple[int, ...]:
    """The block words of the kernels for few rows: how A is packed and where to."""
    size = itemsize(element_of(key.dtype, frozenset()))
    width = columns.size + columns.unit if key.kind == "axpy" else DOT_COLUMNS * key.is_ended
    sums = s.m * width * size
    return (0, 0, 0, int(copies_a(s, key.dtype)), IN_PLACE, sums, 0, 0, 0, 0, 0, 0)


def tile_blocks(
    tile: Tile, key: GemmKey, s: Shape, m: int, n: int, is_ready: bool, is_turned: bool
) -> tuple[int, ...]:
    """The block words of register tiles for tasks of `m` rows and `n` columns: sizes of blocks,
    what is packed, and where in scratch."""
    pairs = 2 if tile.element == PAIRS else 1
    count = max(1, (s.k // pairs + KC // 2) // KC)
    kc = rounded(-(-s.k // count), 4) if count > 1 else rounded(max(1, s.k), pairs)
    a_tile = kc // pairs * padded_rows(tile) * tile.bytes
    b_panel = kc // pairs * tile.columns * tile.bytes
    mc = min(m, max(1, A_BLOCK // a_tile) * tile.rows)
    nc = min(rounded(n, tile.columns), max(1, B_BLOCK // b_panel) * tile.columns)
    pack_a, pack_b = how_packed(tile, s, key.dtype, (m, n))
    pack_b = READY if is_ready else pack_b
    # sums of unfinished tiles: of one if k is one block, else of all that cannot go to C at once
    is_direct = key.is_direct and tile.accumulator == key.dtype and not is_turned
    is_kept = count > 1 or is_turned
    sum_row = tile.columns * itemsize(tile.accumulator)
    lanes = rounded(mc, tile.width) if is_turned else 0  # of turned sums, which follow the others
    strip = ((mc if is_kept else tile.rows) + lanes) * sum_row
    strips = 1 if count == 1 or is_direct else nc // tile.columns
    slack = tile.width * max(padded_rows(tile), tile.columns) * tile.bytes  # of whole vectors
    a_at = rounded(strip * strips, 64)
    b_at = rounded(a_at + (-(-mc // tile.rows) * a_tile + slack if pack_a else 0), 64)
    b_whole = nc * tile.bytes  # bytes of one k, where blocks of B are packed once for all rows
    fits = b_at + -(-s.k // pairs) * b_whole + slack <= SCRATCH
    return (
        mc, nc, kc, pack_a, pack_b, a_at, b_at, b_whole if pack_b and m > mc and fits else 0,
        sum_row if is_kept else 0, strip if strips > 1 else 0,
        -(-s.k // pairs) * tile.columns * tile.bytes, lanes * itemsize(tile.accumulator),
    )  # fmt: skip


def is_better_turned(tile: Tile, s: Shape, dtype: str) -> bool:
    """Whether to turn A and the sums, not B: A is smaller, and its rows fill vectors."""
    is_plain = tile.element == dtype and not s.batch and s.has_unit_columns
    is_small = s.m <= MOST_TURNED and 4 * s.m <= s.n and -s.m % tile.width <= s.m // 7
    return is_plain and is_small and s.b[-2] == 1 and s.b[-1] != 1


def how_packed(tile: Tile, s: Shape, dtype: str, task: tuple[int, int]) -> tuple[int, int]:
    """How A and B are packed: always where a tile cannot read them, else where it pays."""
    m, n = task
    size = itemsize(dtype)
    a_row, a_k, b_k, b_column, _, _ = byte_strides(s, size)
    is_paired = tile.element == PAIRS
    is_widened = tile.element not in (dtype, PAIRS)
    must_a = is_widened or (is_paired and (s.k % 2 == 1 or a_k != size))
    must_b = is_widened or is_paired or b_column != size
    # rows a multiple of 4 KiB apart fall on the same few lines of the caches
    is_crowded = (a_row if a_k == size else a_k) % 4096 == 0 and s.k >= 64
    wants_a = n >= 2 * tile.columns and (is_crowded or (a_k != size and m * s.k * size > 2 << 20))
    wants_b = m > 8 * tile.rows and n * s.k * size > B_BLOCK
    return (
        packing(a_k, a_row, size) if must_a or wants_a else IN_PLACE,
        packing(b_k, b_column, size) if must_b or wants_b else IN_PLACE,
    )


def packing(k_stride: int, lane_stride: int, size: int) -> int:
    return COPY if lane_stride == size else TURN if k_stride == size else GATHER
