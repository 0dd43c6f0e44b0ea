"""Matrix products: one kernel a dtype, whatever the sizes, strides and batch.

`C[i] = A[i] @ B[i]`, with blocks of C [mc x nc] that walk along k in steps of kc. B is packed in
panels as wide as the register tile, or read in place where it is small; so is A. What is static is
the register tile and the way sums are finished; all else is in `meta`, computed by `plan_gemm`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .epilogue import HEAD, Epilogue, Finish
from .pack import Packer, element_of
from .tile import PAIRS, Tile, best_tile, micro_kernel, row_variants

# The words of `meta`. Strides are bytes (of D's columns: elements); the batch has up to three
# dimensions, of which the outermost size is implied.
FIELDS = (
    *HEAD, "m", "n", "k", "batch1", "batch2",
    "a_batch0", "a_batch1", "a_batch2", "b_batch0", "b_batch1", "b_batch2",
    "c_batch0", "c_batch1", "c_batch2", "d_batch0", "d_batch1", "d_batch2",
    "a_row", "a_k", "b_k", "b_column", "c_row",
    "tasks_m", "tasks_n", "task_m", "task_n", "mc", "nc", "kc",
    "pack_a", "pack_b", "a_at", "b_at", "b_whole", "strip_row", "strip_panel",
)  # fmt: skip
EXTRA = len(FIELDS)  # where the words of a fused function begin
IN_PLACE, COPY, TURN, GATHER = range(4)  # how an operand is packed


@dataclass(frozen=True)
class GemmKey:
    """What is static in a matrix product. `epilogue` names the fused function, if there is one."""

    dtype: str
    added: str = ""
    scaled: bool = False
    epilogue: str = ""

    @property
    def name(self) -> str:
        words = ("gemm", self.dtype, self.added, "scaled" if self.scaled else "", self.epilogue)
        return "_".join(w for w in words if w)


@dataclass(frozen=True)
class GemmPlan:
    """How to call a kernel: `grid` tasks, `grain` at least at once, `scratch` bytes for each thread.

    `order` says which of the buffers A, B, C, D the kernel takes where.
    """

    key: GemmKey
    meta: tuple[int, ...]
    grid: int
    grain: int
    scratch: int
    order: tuple[int, ...]


def padded_rows(tile: Tile) -> int:
    """Lanes of a packed panel of A: the tile's rows, in whole vectors."""
    return -(-tile.rows // tile.width) * tile.width


class Driver:
    """Writes the kernel of one key."""

    def __init__(self, target: Target, key: GemmKey, math: Callable, then: Epilogue | None) -> None:
        self.b = b = Builder(key.name, target, math)
        self.key = key
        self.tile = best_tile(target, element_of(key.dtype, target.has))
        self.size = itemsize(key.dtype)
        self.pairs = 2 if self.tile.element == PAIRS else 1
        self.finish = Finish(b, key.dtype, self.tile.accumulator, self.tile.width, key.added, key.scaled, then)
        self.meta: dict[str, Value] = {}

    def write(self) -> Kernel:
        b = self.b
        for vectors in {self.tile.vectors, 1}:
            for rows in row_variants(self.tile):
                micro_kernel(b, f"tile{rows}x{vectors}", self.tile.with_shape(rows, vectors), self.unroll(rows))
        Packer(b, self.tile, self.key.dtype).write()
        self.finish.write("finish")
        with b.entry():
            self.meta = {name: b.param(i) for i, name in enumerate(FIELDS)}
            with b.loop(b.lo, b.hi) as loop:
                self.task(loop.index)
        return b.kernel

    def unroll(self, rows: int) -> int:
        return 2 if rows > 4 else 1

    # -- one task: some rows by some columns of one product of the batch
    def task(self, item: Value) -> None:
        b, m = self.b, self.meta
        rest, row = item // m["tasks_m"], item % m["tasks_m"]
        batch, column = rest // m["tasks_n"], rest % m["tasks_n"]
        outer, i2 = batch // m["batch2"], batch % m["batch2"]
        i0, i1 = outer // m["batch1"], outer % m["batch1"]
        place = lambda n, p: b.offset(p, i0 * m[f"{n}_batch0"] + i1 * m[f"{n}_batch1"] + i2 * m[f"{n}_batch2"])  # noqa: E731
        self.a, self.bp, self.c = (place(n, b.pointer(i)) for i, n in enumerate("abc"))
        self.d = place("d", b.pointer(3)) if self.key.added else self.c
        self.first_row = batch * m["m"]
        self.rows_from, columns_from = row * m["task_m"], column * m["task_n"]
        self.rows_to = b.min(self.rows_from + m["task_m"], m["m"])
        columns_to = b.min(columns_from + m["task_n"], m["n"])
        with b.loop(columns_from, columns_to, m["nc"]) as jc, b.loop(self.rows_from, self.rows_to, m["mc"]) as ic:
            columns = b.min(m["nc"], columns_to - jc.index)
            rows = b.min(m["mc"], self.rows_to - ic.index)
            with b.loop(0, b.max(m["k"], 1), m["kc"]) as pc:
                self.block(ic.index, rows, jc.index, columns, pc.index)

    def block(self, row: Value, rows: Value, column: Value, columns: Value, k: Value) -> None:
        """`rows x columns` of C, by one block of k."""
        b, m, tile = self.b, self.meta, self.tile
        depth = b.min(m["kc"], m["k"] - k)
        elements = (depth + 1) >> 1 if self.pairs == 2 else depth
        is_last = k + m["kc"] >= m["k"]
        a = self.rows_of_a(row, rows, k, depth, elements)
        panel_bytes = tile.columns * tile.bytes
        packed = b.offset(b.scratch, m["b_at"] + (k // self.pairs) * m["b_whole"])
        is_first = row.eq(self.rows_from) | m["b_whole"].eq(0)
        with b.loop(0, columns, tile.columns) as jr:
            lanes = b.min(columns - jr.index, tile.columns)
            source = b.offset(self.bp, k * m["b_k"] + (column + jr.index) * m["b_column"])
            # panels cut short cannot be read in place: whole vectors would reach past B's rows
            is_ragged = lanes.ne(tile.columns) & lanes.ne(tile.width)
            mode = b.select(is_ragged, b.max(m["pack_b"], COPY), m["pack_b"])
            target = b.offset(packed, b.select(m["pack_b"].eq(IN_PLACE), 0, jr.index * elements * tile.bytes))
            with b.branch(mode.ne(IN_PLACE) & (is_first | m["pack_b"].eq(IN_PLACE))):
                self.pack(mode, source, m["b_k"], m["b_column"], target, panel_bytes, depth, lanes, tile.columns)
            in_place = mode.eq(IN_PLACE)
            panel = b.select(in_place, source, target)
            stride = b.select(in_place, m["b_k"], panel_bytes)
            self.strip(row, rows, column + jr.index, jr.index, lanes, elements, a, (panel, stride), k, is_last)

    def rows_of_a(self, row, rows, k, depth, elements) -> tuple[Value, Value, Value, Value]:
        """A's block, packed if the plan says so: pointer, bytes from tile to tile, row to row, k to k."""
        b, m, tile = self.b, self.meta, self.tile
        source = b.offset(self.a, row * m["a_row"] + k * m["a_k"])
        target = b.offset(b.scratch, m["a_at"])
        in_place = m["pack_a"].eq(IN_PLACE)
        unit = padded_rows(tile) * tile.bytes
        with b.branch(m["pack_a"].ne(IN_PLACE)), b.loop(0, rows, tile.rows) as ir:
            lanes = b.min(rows - ir.index, tile.rows)
            p, q = b.offset(source, ir.index * m["a_row"]), b.offset(target, (ir.index // tile.rows) * elements * unit)
            self.pack(m["pack_a"], p, m["a_k"], m["a_row"], q, unit, depth, lanes, padded_rows(tile))
        return (
            b.select(in_place, source, target),
            b.select(in_place, m["a_row"] * tile.rows, elements * unit),
            b.select(in_place, m["a_row"], tile.bytes),
            b.select(in_place, m["a_k"] * self.pairs, unit),
        )

    def pack(self, mode: Value, *args: Value | int) -> None:
        for number, name in ((COPY, "copy"), (TURN, "turn"), (GATHER, "gather")):
            with self.b.branch(mode.eq(number)):
                self.b.call(name, *args)

    def strip(self, row, rows, column, at, lanes, elements, a, panel, k, is_last) -> None:
        """One panel's columns: register tiles from top to bottom, of the largest sizes that fit."""
        b, m, tile = self.b, self.meta, self.tile
        pointer, a_tile, a_row, a_k = a
        sum_size = itemsize(tile.accumulator)
        sizes = row_variants(tile)
        count = rows // tile.rows
        left = rows - count * tile.rows
        for bit in range(len(sizes) - 1):
            count = count + ((left >> bit) & 1)
        is_wide = lanes > tile.width
        whole = lanes.eq(b.select(is_wide, b.const(tile.columns, "i64"), tile.width))
        is_direct = whole if self.finish.is_plain else b.const(False, "bool")
        strip = b.offset(b.scratch, (at // tile.columns) * m["strip_panel"])
        with b.loop(0, count, 1, [b.const(0, "i64")]) as loop:
            (i,) = loop.carry
            size = b.const(sizes[-1], "i64")
            for n in reversed(sizes[:-1]):
                size = b.select(rows - i >= n, n, size)
            start = b.min(i // tile.rows, rows // tile.rows)
            tile_a = b.offset(pointer, start * a_tile + (i - start * tile.rows) * a_row)
            c = b.offset(self.c, (row + i) * m["c_row"] + column * self.size)
            out = b.select(is_direct, c, b.offset(strip, i * m["strip_row"]))
            out_row = b.select(is_direct, m["c_row"], tile.columns * sum_size)
            args = (tile_a, a_row, a_k, *panel, out, out_row, elements, b.select(k > 0, 1, b.const(0, "i64")))
            for vectors in {tile.vectors, 1}:
                with b.branch(is_wide if vectors > 1 else ~is_wide):
                    for n in sizes:
                        with b.branch(size.eq(n)):
                            b.call(f"tile{n}x{vectors}", *args)
            with b.branch(is_last & ~is_direct):
                d = b.offset(self.d, (row + i) * m["d_row"] + column * m["d_column"] * self.size)
                b.call("finish", b.meta, b.buffers, out, out_row, c, m["c_row"], d, size, lanes,
                       self.first_row + row + i, column)  # fmt: skip
            loop.next(i + size)


def build_gemm(target: Target, key: GemmKey, math: Callable, epilogue: Epilogue | None = None) -> Kernel:
    """The kernel of a key."""
    return Driver(target, key, math, epilogue).write()


L1, L2 = 32 << 10, 512 << 10  # bytes that a panel of B and a block of A may fill
SCRATCH = 8 << 20


def bits_of(x: float, dtype: str) -> int:
    """A factor as the 64-bit word of `meta` that holds it."""
    return struct.unpack("<q", struct.pack("<d", x))[0] if dtype[0] in "fb" else int(x)


def packing(k_stride: int, lane_stride: int, size: int, is_needed: bool) -> int:
    """How an operand of these byte strides is packed."""
    if not is_needed:
        return IN_PLACE
    return COPY if lane_stride == size else TURN if k_stride == size else GATHER


def plan_gemm(
    target: Target, dtype: str, m: int, n: int, k: int,
    a: Sequence[int], b: Sequence[int], c: Sequence[int], d: Sequence[int] | None = None,
    batch: Sequence[int] = (), alpha: float = 1, beta: float = 1, epilogue: str = "", threads: int = 1,
) -> GemmPlan:  # fmt: skip
    """The plan of `C = epilogue(alpha * A @ B + beta * D)` for operands of these strides, in elements.

    `a`, `b`, `c` and `d` hold a stride for each dimension of `batch`, then for rows and columns; 0
    broadcasts. C needs unit stride along its columns.
    """
    tile = best_tile(target, element_of(dtype, target.has))
    size = itemsize(dtype)
    scaled = alpha != 1 or (d is not None and beta != 1)
    added = "" if d is None else "unit" if d[-1] == 1 or n == 1 else "strided"
    key = GemmKey(dtype, added, scaled, epilogue)
    a_row, a_k = (s * size for s in a[-2:])
    b_k, b_column = (s * size for s in b[-2:])
    if m == 1 and a_k != size: a_row = size
    if k == 1: a_k, b_k = size if a_row != size else a_k, b_k
    if n == 1: b_column = size
    is_plain = key == GemmKey(dtype) and element_of(dtype, target.has) == dtype
    is_paired = tile.element == PAIRS
    widened = element_of(dtype, target.has) not in (dtype, PAIRS)
    pack_a = widened or (is_paired and (k % 2 or a_k != size))
    pack_a = pack_a or (n > 4*tile.columns and m*k*size>32768)
    pack_b = widened or is_paired or b_column != size
    pack_b = pack_b or (m > 8 * tile.rows or n*k*size > 192<<10)
    kc = KC
    if k <= kc: kc = max(k,1)
    else: kc = -(-k // -(-k // kc)); kc = -(-kc//4)*4
    kc += kc % 2
    pairs = 2 if is_paired else 1
    kce = (kc+1)//pairs
    mc = max(1, L2 // (kce*tile.bytes*padded_rows(tile))) * tile.rows
    nc = 1024
    nc = min(nc, -(-n // tile.columns)*tile.columns)
    mc = min(mc, m)
    # scratch
    acc = itemsize(tile.accumulator)
    if k <= kc: strip_row, strip_panel, strips = tile.columns*acc, 0, tile.rows*tile.columns*acc
    else:
        strip_row = tile.columns*acc
        strip_panel = 0 if is_plain else mc*strip_row
        strips = mc*strip_row*(1 if is_plain else nc//tile.columns)
    if k <= kc: strip_row = 0
    a_at = strips
    a_bytes = (-(-mc//tile.rows)*kce + tile.width)*padded_rows(tile)*tile.bytes if pack_a else 0
    b_at = (a_at + a_bytes + 63)//64*64
    slack = tile.width*tile.columns*tile.bytes
    kk = -(-k//pairs)
    b_whole = nc*tile.bytes
    if not pack_b or m <= mc or b_at + kk*b_whole + slack > SCRATCH: b_whole = 0
    assert b_at + (nc*kce if pack_b else tile.columns*kce)*tile.bytes + slack <= SCRATCH
    tasks_m=tasks_n=1; task_m=m; task_n=n
    dims = [*batch]; dims = [1]*(3-len(dims))+dims
    def bs(x):
        x=[s*size for s in x[:-2]]
        return [0]*(3-len(x))+x
    dd = d if d is not None else c
    meta = (bits_of(alpha,dtype), bits_of(beta,dtype), dd[-2]*size, dd[-1], m, n, k, dims[1], dims[2], *bs(a), *bs(b), *bs(c), *bs(dd),
      a_row, a_k, b_k, b_column, c[-2]*size, tasks_m, tasks_n, task_m, task_n, mc, nc, kc,
      packing(a_k, a_row, size, pack_a), packing(b_k, b_column, size, pack_b), a_at, b_at, b_whole, strip_row, strip_panel)
    grid = math.prod(dims)*tasks_m*tasks_n if m and n else 0
    return GemmPlan(key, meta, grid, 1, SCRATCH, (0,1,2,3))
KC=384
