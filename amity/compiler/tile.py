"""Register tiles: the inner loops of matrix products and convolutions.

A tile keeps `rows x vectors` accumulators in registers and walks along k: each step loads one row
of B (`vectors` vectors) and multiplies it by one scalar of A for each row. All strides are bytes,
given as Python ints (constants) or as values of the kernel, so that one tile serves operands in
place and packed ones, whichever way they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

from amity.ir.kernel import Builder, Value, itemsize
from amity.ir.target import Target

Bytes = int | Value
UNROLL, LINE = 2, 64  # steps of k that a tile takes at once, and bytes that a cache fetches
FETCHED = LINE // UNROLL  # bytes that a tile fetches ahead at each step of k
PAIRS = "bf16x2"  # an element of two bf16 along k, which `dot2` multiplies and adds at once


@dataclass(frozen=True)
class Tile:
    """`rows x vectors` accumulators of `width` lanes each; `element` is what A and B hold."""

    element: str
    width: int
    rows: int
    vectors: int

    @property
    def accumulator(self) -> str:
        return "f32" if self.element == PAIRS else self.element

    @property
    def bytes(self) -> int:
        """Bytes of one element, of A or B as of an accumulator."""
        return 4 if self.element == PAIRS else itemsize(self.element)

    @property
    def columns(self) -> int:
        return self.width * self.vectors

    def with_shape(self, rows: int, vectors: int | None = None) -> Tile:
        return Tile(self.element, self.width, rows, vectors or self.vectors)


def best_tile(target: Target, element: str) -> Tile:
    """The tile that fills the registers: 14x32 f32 on AVX-512, 6x16 on AVX2, 5x8 on SSE2."""
    size = 4 if element == PAIRS else itemsize(element)
    vectors = 4 if target.registers >= 32 and target.vector_bytes <= 16 else 2
    spare = vectors + 2 + ("fma" not in target.has)  # a row of B, a broadcast and the product
    return Tile(element, target.lanes(size), (target.registers - spare) // vectors, vectors)


def padded_rows(tile: Tile) -> int:
    """Lanes of a packed panel of A: the tile's rows, in whole vectors."""
    return -(-tile.rows // tile.width) * tile.width


def row_variants(tile: Tile) -> list[int]:
    """Row counts that sum up to any number of rows: the tile's own, then powers of two below it."""
    powers = [1 << i for i in range(8) if 1 << i < tile.rows]
    return [tile.rows, *reversed(powers)]


def zeros(b: Builder, tile: Tile) -> list[Value]:
    """Accumulators to start with, row by row."""
    zero = b.splat(b.const(0, tile.accumulator), tile.width)
    return [zero] * (tile.rows * tile.vectors)


def moved(b: Builder, pointer: Value, stride: Bytes, times: int = 1) -> Value:
    """`pointer + times * stride`."""
    return b.offset(pointer, stride * times) if times else pointer


def row_pointers(b: Builder, tile: Tile, a: Value, row_stride: Bytes) -> list[Value]:
    """Pointers that the k loop carries: every third row of A; the others are addressed from it."""
    step = tile.rows if isinstance(row_stride, int) else 3
    return [moved(b, a, row_stride, i) for i in range(0, tile.rows, step)]


def scalars(b: Builder, tile: Tile, bases: list[Value], row_stride: Bytes) -> list[Value]:
    """The pointers of A's rows, from those that `row_pointers` gave."""
    step = tile.rows if isinstance(row_stride, int) else 3
    return [moved(b, bases[i // step], row_stride, i % step) for i in range(tile.rows)]


def step(
    b: Builder, tile: Tile, acc: list[Value], rows: list[Value], bp: Value, at: int = 0
) -> list[Value]:
    """One step of k: A's scalars at `rows` (`at` bytes on) by the row of B at `bp`."""
    element = "i32" if tile.element == PAIRS else tile.element
    unit = tile.width * tile.bytes
    columns = [b.load(b.offset(bp, j * unit), 0, element, tile.width) for j in range(tile.vectors)]
    acc = list(acc)
    for i, row in enumerate(rows):
        x = b.splat(b.load(b.offset(row, at), 0, element), tile.width)
        for j, column in enumerate(columns):
            n = i * tile.vectors + j
            acc[n] = multiply_add(b, tile, x, column, acc[n])
    return acc


def multiply_add(b: Builder, tile: Tile, x: Value, y: Value, acc: Value) -> Value:
    if tile.element == PAIRS:
        return b.dot2(x, y, acc)
    return b.fma(x, y, acc) if acc.dtype[0] == "f" else acc + x * y


def k_loop(
    b: Builder, tile: Tile, acc: list[Value], a: Value, row_stride: Bytes, k_stride: Bytes,
    bp: Value, b_stride: Bytes, depth: Bytes, unroll: int = 4, ahead: Value | None = None,
    pace: Bytes = FETCHED,
) -> list[Value]:  # fmt: skip
    """Accumulate `depth` steps of k from A (scalars, two strides) and B (rows of vectors).

    Where `acc` holds a tile's accumulators several times over, the steps take turns with them.
    `pace` bytes a step are fetched from `ahead` on, where it is given, for those who come later.
    """
    bases = row_pointers(b, tile, a, row_stride)
    count, size = len(bases), tile.rows * tile.vectors
    is_constant = isinstance(k_stride, int)
    every = LINE // pace if isinstance(pace, int) else 1  # steps for a line that is fetched

    def turn(carry: list[Value], steps: int) -> list[Value]:
        bases, bp, acc = carry[:count], carry[count], carry[count + 1 :]
        rows = scalars(b, tile, bases, row_stride)
        for k in range(steps):
            line, at = (moved(b, bp, b_stride, k), k * k_stride) if is_constant else (bp, 0)
            first = k * size % len(acc)
            mine = step(b, tile, acc[first : first + size], rows, line, at)
            acc = [*acc[:first], *mine, *acc[first + size :]]
            if not is_constant:
                bases, bp = [b.offset(p, k_stride) for p in bases], b.offset(bp, b_stride)
                rows = scalars(b, tile, bases, row_stride) if k + 1 < steps else rows
        if is_constant:
            bases = [b.offset(p, steps * k_stride) for p in bases]
            bp = moved(b, bp, b_stride, steps)
        return [*bases, bp, *acc]

    depth = depth if isinstance(depth, Value) else b.const(depth, "i64")
    whole = depth & -unroll
    carry = [*bases, bp, *acc]
    spans = [(0, whole, unroll), (whole, depth, 1)] if unroll > 1 else [(0, depth, 1)]
    for lo, hi, steps in spans:
        with b.loop(lo, hi, steps, carry) as loop:
            if ahead is not None and steps == unroll:
                for k in range(0, steps, every):
                    b.prefetch(b.offset(ahead, (loop.index + k) * pace), near=False)
            loop.next(*turn(loop.carry, steps))
        carry = loop.results
    return carry[count + 1 :]


def fetch_rows(b: Builder, place: Value, stride: Value, rows: Value, width: int) -> None:
    """Ask for memory of `width` bytes, in rows far apart, which the machine does not foresee."""
    with b.loop(0, rows, 1, [place]) as loop:
        (p,) = loop.carry
        for at in range(0, width, LINE):
            b.prefetch(b.offset(p, at), near=False)
        loop.next(b.offset(p, stride))


def add_from(
    b: Builder, tile: Tile, acc: list[Value], c: Value, c_stride: Bytes, when: Value
) -> list[Value]:
    """The accumulators plus the tile at `c`, where `when` (0 or 1) is 1."""
    with b.loop(0, when, 1, acc) as loop:  # a loop of one turn is a branch that has results
        old = [b.load(p, 0, tile.accumulator, tile.width) for p in places(b, tile, c, c_stride)]
        loop.next(*(x + y for x, y in zip(loop.carry, old, strict=True)))
    return loop.results


def store(b: Builder, tile: Tile, acc: list[Value], c: Value, c_stride: Bytes) -> None:
    for p, x in zip(places(b, tile, c, c_stride), acc, strict=True):
        b.store(p, 0, x, tile.accumulator)


def places(b: Builder, tile: Tile, c: Value, c_stride: Bytes) -> list[Value]:
    """Where each accumulator of a tile lies in memory."""
    unit = tile.width * itemsize(tile.accumulator)
    bases = row_pointers(b, tile, c, c_stride)
    rows = scalars(b, tile, bases, c_stride)
    return [b.offset(p, j * unit) for p in rows for j in range(tile.vectors)]


MICRO = (("a", "ptr"), ("row_stride", "i64"), ("k_stride", "i64"), ("b", "ptr"),
         ("b_stride", "i64"), ("c", "ptr"), ("c_stride", "i64"), ("depth", "i64"),
         ("accumulate", "i64"))  # fmt: skip
ADDEND = (("d", "ptr"), ("d_stride", "i64"), ("ahead", "ptr"))
CHAINS = 8  # accumulators that keep the multipliers busy: two of them, four cycles each


def micro_kernel(b: Builder, name: str, tile: Tile, has_addend: bool = False) -> None:
    """The function `name(*MICRO)`, or with `has_addend` `name(*MICRO, *ADDEND)`.

    It writes (or adds to) the tile at `c` the product of `depth` steps of A's rows and B's columns.
    What is added to is the tile at `d`, if that is given; memory from `ahead` on is fetched meanwhile.
    """
    size = tile.rows * tile.vectors
    chains = max(1, CHAINS // size)  # a small tile has several sets of accumulators
    params = (*MICRO, *ADDEND) if has_addend else MICRO
    with b.function(name, params) as (a, row_stride, k_stride, bp, b_stride, *rest):
        c, c_stride, depth, accumulate, *more = rest
        d, d_stride, ahead = more or (c, c_stride, None)
        for p in places(b, tile, c, c_stride)[:: tile.vectors]:
            b.prefetch(p, write=True)
        acc, unroll = zeros(b, tile) * chains, max(chains, UNROLL if size > CHAINS else 1)
        acc = k_loop(b, tile, acc, a, row_stride, k_stride, bp, b_stride, depth, unroll, ahead)
        while len(acc) > size:
            half = len(acc) // 2
            acc = [x + y for x, y in zip(acc[:half], acc[half:], strict=True)]
        store(b, tile, add_from(b, tile, acc, d, d_stride, accumulate), c, c_stride)
