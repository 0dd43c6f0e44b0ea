"""Attention without its matrix of weights, and its gradients: blocks of queries by blocks of keys.

A task is one product of the batch: forward some of its queries, backward all of it. A block's scores
are computed turned, keys by queries, by register tiles into scratch: so vectors run along queries, and
maxima and sums along keys need no joining of lanes. There they become weights, and the tiles multiply
those further while all of it lies in the near caches. Where keys come in several blocks, each query
keeps its maximum and sum so far.

source: Dao et al. 2022, arXiv:2205.14135; Milakov and Gimelshein 2018, arXiv:1805.02867
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from amity.ir.kernel import Builder, Kernel, Value, itemsize
from amity.ir.target import Target

from .pack import ONE_PANEL, Packer, in_vectors
from .tile import best_tile, micro_kernel, row_variants

# The words of `meta`: sizes, blocks, bytes from row to row in scratch, places there, then the
# strides in bytes of each operand along rows and columns, then the axes of the batch, the last one
# first, each with its size and the stride of each operand.
FIELDS = (
    "scale", "queries", "keys", "width", "values", "query_block", "key_block", "chunk", "chunks",
    "q_row", "v_row", "s_row", "qt_at", "gt_at", "q_at", "g_at", "k_at", "v_at", "o_at", "s_at",
    "t_at", "dq_at", "dk_at", "dv_at", "first_at", "second_at", "is_whole", "axes",
)  # fmt: skip
OPERANDS = {
    "forward": ("q", "k", "v", "o", "lse"),
    "gradient": ("q", "k", "v", "o", "lse", "g", "dq", "dk", "dv", "sums"),
}
PRODUCT = (("a", "ptr"), ("a_row", "i64"), ("a_k", "i64"), ("b", "ptr"), ("b_panel", "i64"),
           ("b_row", "i64"), ("c", "ptr"), ("c_row", "i64"), ("rows", "i64"), ("columns", "i64"),
           ("depth", "i64"), ("accumulate", "i64"))  # fmt: skip
WRITE = (("source", "ptr"), ("source_row", "i64"), ("target", "ptr"), ("row", "i64"),
         ("column", "i64"), ("rows", "i64"), ("columns", "i64"))  # fmt: skip
OF_VALUES = ("v", "g", "o")  # operands as wide as values; the others are as wide as queries


class Block(NamedTuple):
    """Queries from `row` on, `rows` of them, `wide` with those that fill up a tile, by the first
    `limit` keys from `first` on, of which all queries see the first `sure`."""

    row: Value
    rows: Value
    wide: Value
    first: Value
    limit: Value
    sure: Value


class Attention:
    """What both roles share: places of a task, packed blocks, products in scratch."""

    role = ""

    def __init__(self, key: tuple, name: str, target: Target, math: Callable) -> None:
        _, _, self.dtype, self.is_causal, self.mask = key
        self.element = "f64" if self.dtype == "f64" else "f32"
        self.bytes = itemsize(self.element)
        self.tile = best_tile(target, self.element)
        self.lanes = self.tile.width
        self.b = Builder(name, target, math)
        self.names = [*OPERANDS[self.role], *(["mask"] if self.mask else [])]

    def build(self) -> Kernel:
        b = self.b
        for vectors in (self.tile.vectors, 1):
            for rows in row_variants(self.tile):
                shape = self.tile.with_shape(rows, vectors)
                micro_kernel(b, f"tile{rows}x{vectors}", shape)
        Packer(b, self.tile, self.dtype).write()
        self._product()
        self._write()
        with b.entry():
            self.m = {name: b.param(i) for i, name in enumerate(FIELDS)}
            self.scale = b.convert(b.param(0, "f64"), self.element)
            for i, name in enumerate(self.names):
                for j, axis in enumerate(("row", "column")):
                    self.m[f"{name}.{axis}"] = b.param(len(FIELDS) + 2 * i + j)
            with b.loop(b.lo, b.hi) as loop:
                self._enter(loop.index // self.m["chunks"])
                self.task(loop.index % self.m["chunks"])
        return b.kernel

    def task(self, chunk: Value) -> None:
        raise NotImplementedError

    def _enter(self, head: Value) -> None:
        """Find where the operands of one product of the batch begin."""
        b, count = self.b, len(self.names)
        first = len(FIELDS) + 2 * count
        pointers = [b.pointer(i) for i in range(count)]
        with b.loop(0, self.m["axes"], 1, [head, *pointers]) as loop:
            rest, *pointers = loop.carry
            at = loop.index * (count + 1) + first
            size, *steps = (b.load(b.meta, at + i, "i64") for i in range(count + 1))
            index = rest % size
            moved = (b.offset(p, index * step) for p, step in zip(pointers, steps, strict=True))
            loop.next(rest // size, *moved)
        self.at = dict(zip(self.names, loop.results[1:], strict=True))

    # -- functions of the kernel
    def _product(self) -> None:
        """`product(*PRODUCT)`: tiles over rows and panels of whole vectors; elements of A are side by
        side along rows or along k."""
        b, tile, sizes = self.b, self.tile, row_variants(self.tile)
        with b.function("product", PRODUCT) as args:
            a, a_row, a_k, bp, b_panel, b_row, c, c_row, rows, columns, depth, accumulate = args
            with b.loop(0, columns, tile.columns) as jr:
                panel = b.offset(bp, jr.index // tile.columns * b_panel)
                out = b.offset(c, jr.index * self.bytes)
                is_wide = columns - jr.index > tile.width
                for vectors, is_chosen in ((tile.vectors, is_wide), (1, ~is_wide)):
                    done = b.const(0, "i64")
                    with b.branch(is_chosen):
                        for n in sizes:
                            last = done + (rows - done) // n * n
                            with b.loop(done, last, n) as i:
                                p, q = (
                                    b.offset(x, i.index * step)
                                    for x, step in ((a, a_row), (out, c_row))
                                )
                                line = p, a_row, a_k, panel, b_row, q, c_row, depth, accumulate
                                b.call(f"tile{n}x{vectors}", *line)
                            done = last

    def _write(self) -> None:
        """`write(*WRITE)`: rows of scratch to memory."""
        b, size = self.b, itemsize(self.dtype)
        with b.function("write", WRITE) as (source, source_row, target, row, column, rows, columns):
            with b.loop(0, rows, 1, [source, target]) as loop:
                p, q = loop.carry

                def one(at: Value, mask: Value | None) -> None:
                    value = b.load(p, at, self.element, self.lanes)
                    b.store(q, at, value, self.dtype, mask)

                with b.branch(column.eq(size)):
                    in_vectors(b, columns, columns, self.lanes, one)
                with b.branch(column.ne(size)), b.loop(0, columns) as j:
                    value = b.load(p, j.index, self.element)
                    b.store(b.offset(q, j.index * column), 0, value, self.dtype)
                loop.next(b.offset(p, source_row), b.offset(q, row))

    # -- blocks
    def scratch(self, name: str) -> Value:
        return self.b.offset(self.b.scratch, self.m[f"{name}_at"])

    def row_of(self, name: str, row: Value) -> Value:
        return self.b.offset(self.at[name], row * self.m[f"{name}.row"])

    def columns_of(self, name: str) -> Value:
        return self.m["values" if name in OF_VALUES else "width"]

    def whole(self, n: Value) -> Value:
        """Rounded up to whole vectors."""
        return (n + self.lanes - 1) & -self.lanes

    def pack(self, source: Value, k: Value, lane: Value, *part: Value | int) -> None:
        """Elements `k` and `lane` bytes apart, by whichever of both lie side by side."""
        b, size = self.b, itemsize(self.dtype)
        is_copy = lane.eq(size)
        is_turn = ~is_copy & k.eq(size)
        modes = {"copy": is_copy, "turn": is_turn, "gather": ~(is_copy | is_turn)}
        for name, is_chosen in modes.items():
            with b.branch(is_chosen):
                b.call(name, source, k, lane, *part)

    def rows(self, name: str, row: Value, rows: Value) -> tuple[Value, Value]:
        """Rows of an operand as tiles read them: in place if that can be, else in scratch, filled up
        with zeros to whole vectors. Gives the pointer and the bytes from row to row."""
        b, m = self.b, self.m
        columns, source = self.columns_of(name), self.row_of(name, row)
        strides = m[f"{name}.row"], m[f"{name}.column"]
        target, pitch = self.scratch(name), m["v_row" if name in OF_VALUES else "q_row"]
        part = target, pitch, rows, columns, self.whole(columns), ONE_PANEL
        if self.dtype != self.element:
            self.pack(source, *strides, *part)
            return target, pitch
        is_apt = strides[1].eq(self.bytes) & (columns & (self.lanes - 1)).eq(0)
        with b.branch(~is_apt):
            self.pack(source, *strides, *part)
        return b.select(is_apt, source, target), b.select(is_apt, strides[0], pitch)

    def turned(self, name: str, row: Value, rows: Value, out: str) -> None:
        """Rows of an operand as columns, in panels as wide as a tile, filled up with zeros."""
        m, tile = self.m, self.tile
        wide = (rows + tile.columns - 1) // tile.columns * tile.columns
        strides = m[f"{name}.column"], m[f"{name}.row"]
        part = self.scratch(out), tile.columns * tile.bytes, self.columns_of(name), rows, wide
        self.pack(self.row_of(name, row), *strides, *part, tile.columns - 1)

    def scores(
        self, rows: tuple[Value, Value], count: Value, turned: str, queries: Value, depth: Value,
        out: str,
    ) -> None:  # fmt: skip
        """Rows, one a key, by the turned queries."""
        m, tile = self.m, self.tile
        line = tile.columns * tile.bytes
        pointer, pitch = rows
        self.b.call(
            "product", pointer, pitch, tile.bytes, self.scratch(turned), depth * line, line,
            self.scratch(out), m["s_row"], count, queries, depth, 0,
        )  # fmt: skip

    def by_rows(
        self, weights: Value, row: Value, k: Value, other: tuple[Value, Value], columns: Value,
        out: Value, pitch: Value, rows: Value, depth: Value, accumulate: Value | int,
    ) -> None:  # fmt: skip
        """Weights, `row` and `k` bytes apart, by the rows of another operand, added to `out`."""
        line = weights, row, k, other[0], self.tile.columns * self.bytes, other[1], out, pitch
        self.b.call("product", *line, rows, self.whole(columns), depth, accumulate)

    def number(self, x: float, width: int = 1) -> Value:
        return self.b.const(float(x), self.element, width)

    def load(self, p: Value, at: Value | int = 0) -> Value:
        return self.b.load(p, at, self.element, self.lanes)

    def store(self, p: Value, at: Value | int, x: Value) -> None:
        self.b.store(p, at, x, self.element)

    @contextmanager
    def key_blocks(self, end: Value) -> Iterator[tuple[Value, Value]]:
        b, m = self.b, self.m
        with b.loop(
            0, b.max(end, 1), m["key_block"]
        ) as loop:  # one, empty, where there are no keys
            yield loop.index, b.min(m["key_block"], end - loop.index)

    @contextmanager
    def query_blocks(self, lo: Value, hi: Value, first: Value, keys: Value) -> Iterator[Block]:
        """Blocks of queries, with the keys of the block from `first` on that they see."""
        b, block = self.b, self.m["query_block"]
        if self.is_causal:  # those before see none of these keys
            lo = b.max(lo, first // block * block)
        with b.loop(lo, hi, block) as loop:
            row, rows = loop.index, b.min(block, hi - loop.index)
            limit = b.min(keys, row + rows - first) if self.is_causal else keys
            sure = b.max(b.min(row + 1 - first, limit), 0) if self.is_causal else limit
            wide = (rows + self.tile.columns - 1) // self.tile.columns * self.tile.columns
            yield Block(row, rows, wide, first, limit, sure)

    def along_keys(self, x: Block, at: Value, carry: list[Value], body: Callable) -> list[Value]:
        """`body(carry, key, shown)` for the keys of a block and a vector of queries `at` on; `shown`
        is None where all of them see the key."""
        b, w = self.b, self.lanes
        with b.loop(0, x.sure & -2, 2, carry) as pairs:
            pairs.next(*body(body(pairs.carry, pairs.index, None), pairs.index + 1, None))
        with b.loop(x.sure & -2, x.sure, 1, pairs.results) as last:
            last.next(*body(last.carry, last.index, None))
        if not self.is_causal:
            return last.results
        places = b.splat(x.row + at, w) + b.iota(w)
        with b.loop(x.sure, x.limit, 1, last.results) as loop:
            shown = places >= b.splat(x.first + loop.index, w)
            loop.next(*body(loop.carry, loop.index, shown))
        return loop.results

    @contextmanager
    def vectors(self, x: Block) -> Iterator[Value]:
        """Each vector of the queries of a block."""
        with self.b.loop(0, x.rows, self.lanes) as loop:
            yield loop.index

    def line(self, name: str, key: Value, at: Value) -> Value:
        """Where the scores of a key begin, `at` queries on."""
        return self.b.offset(self.scratch(name), key * self.m["s_row"] + at * self.bytes)

    def score(self, key: Value, at: Value, shown: Value | None) -> Value:
        """Scaled scores of a key; -inf where it is hidden."""
        x = self.load(self.line("s", key, at))
        x = x if self.mask else x * self.b.splat(self.scale, self.lanes)
        hidden = self.number(-math.inf, self.lanes)
        return x if shown is None else self.b.select(shown, x, hidden)

    def hide(self, x: Block) -> None:
        """Scale the scores of a block and add the mask, or hide by it."""
        b, m, w = self.b, self.m, self.lanes
        size, last = itemsize(self.mask), b.splat(x.rows - 1, w)
        is_one = m["mask.row"].eq(0)
        source = b.offset(self.row_of("mask", x.row), x.first * m["mask.column"])
        with b.loop(0, x.limit) as key, self.vectors(x) as at:
            place, p = b.offset(source, key.index * m["mask.column"]), self.line("s", key.index, at)
            score = self.load(p) * b.splat(self.scale, w)

            def put(given: Value, p: Value = p, score: Value = score) -> None:
                if self.mask == "bool":
                    self.store(p, 0, b.select(given, score, self.number(-math.inf, w)))
                else:
                    self.store(p, 0, score + b.convert(given, self.element))

            with b.branch(is_one):
                put(b.splat(b.load(place, 0, self.mask), w))
            with b.branch(~is_one):
                lanes = b.min(b.splat(at, w) + b.iota(w), last)
                put(b.load(place, lanes * b.splat(m["mask.row"] // size, w), self.mask))


class Forward(Attention):
    """The result, and the logarithm of each row's sum of exponentials."""

    role = "forward"

    def task(self, chunk: Value) -> None:
        b, m = self.b, self.m
        lo = chunk * m["chunk"]
        hi = b.min(lo + m["chunk"], m["queries"])
        end = b.min(m["keys"], hi) if self.is_causal else m["keys"]
        self.peaks, self.sums = self.scratch("first"), self.scratch("second")
        with b.loop(0, hi - lo, self.lanes) as row:
            self.store(self.peaks, row.index, self.number(-math.inf, self.lanes))
            self.store(self.sums, row.index, self.number(0, self.lanes))
        with self.key_blocks(end) as (first, keys):
            k, v = self.rows("k", first, keys), self.rows("v", first, keys)
            with self.query_blocks(lo, hi, first, keys) as x:
                self.block(x, x.row - lo, k, v)
        self.finish(lo, hi)

    def block(self, x: Block, at: Value, k: tuple, v: tuple) -> None:
        b, m = self.b, self.m
        o = b.offset(self.scratch("o"), at * m["v_row"])
        self.turned("q", x.row, x.rows, "qt")
        self.scores(k, x.limit, "qt", x.wide, m["width"], "s")
        if self.mask:
            self.hide(x)
        with self.vectors(x) as lane:
            self.weights(x, lane, at + lane)
        with b.branch(x.first.ne(0)), b.loop(0, x.rows, 1, [o]) as i:
            less = b.splat(b.load(self.scratch("t"), i.index, self.element), self.lanes)
            with b.loop(0, m["v_row"], self.lanes * self.bytes) as loop:
                p = b.offset(i.carry[0], loop.index)
                self.store(p, 0, self.load(p) * less)
            i.next(b.offset(i.carry[0], m["v_row"]))
        weights = self.scratch("s"), b.const(self.bytes, "i64"), m["s_row"]
        is_later = b.min(x.first, 1)
        self.by_rows(*weights, v, m["values"], o, m["v_row"], x.rows, x.limit, is_later)

    def weights(self, x: Block, lane: Value, at: Value) -> None:
        """Scores as weights, by each query's largest so far; "t" gets what earlier ones count."""
        b, w = self.b, self.lanes
        old = self.load(self.peaks, at)

        def higher(carry: list[Value], key: Value, shown: Value | None) -> list[Value]:
            return [carry[1], b.max(carry[0], self.score(key, lane, shown))]

        peaks = self.along_keys(x, lane, [old, old], higher)
        peak = b.max(*peaks)
        base = b.select(peak.eq(-math.inf), self.number(0, w), peak)

        def weigh(carry: list[Value], key: Value, shown: Value | None) -> list[Value]:
            p = b.math("exp", self.score(key, lane, shown) - base)
            self.store(self.line("s", key, lane), 0, p)
            return [carry[1], carry[0] + p]

        sums = self.along_keys(x, lane, [self.number(0, w)] * 2, weigh)
        less = b.math("exp", old - base)
        self.store(self.scratch("t"), lane, less)
        self.store(self.peaks, at, peak)
        self.store(self.sums, at, b.fma(self.load(self.sums, at), less, sums[0] + sums[1]))

    def finish(self, lo: Value, hi: Value) -> None:
        """Rows divided by their sums; those that saw no key are 0."""
        b, m, w = self.b, self.m, self.lanes
        o, one, none = self.scratch("o"), self.number(1, w), self.number(0, w)
        with b.loop(0, hi - lo, w) as row:
            total, peak = self.load(self.sums, row.index), self.load(self.peaks, row.index)
            is_empty = total.eq(0)
            lse = b.select(is_empty, none, peak + b.math("log", total))
            self.store(self.sums, row.index, b.select(is_empty, none, one / total))
            self.store(self.peaks, row.index, lse)
        with b.loop(0, hi - lo, 1, [o]) as row:
            share = b.load(self.sums, row.index, self.element)
            with b.loop(0, m["v_row"], w * self.bytes) as loop:
                p = b.offset(row.carry[0], loop.index)
                x = self.load(p) * b.splat(share, w)
                self.store(p, 0, b.select(b.splat(share.eq(0), w), none, x))
            lse = b.load(self.peaks, row.index, self.element)
            b.store(self.row_of("lse", lo + row.index), 0, lse, self.element)
            row.next(b.offset(row.carry[0], m["v_row"]))
        strides = m["o.row"], m["o.column"]
        b.call("write", o, m["v_row"], self.row_of("o", lo), *strides, hi - lo, m["values"])


class Gradient(Attention):
    """The gradients of queries, keys and values; weights are made again from scores."""

    role = "gradient"

    def task(self, chunk: Value) -> None:
        b, m = self.b, self.m
        with self.key_blocks(m["keys"]) as (first, keys):
            k, v = self.rows("k", first, keys), self.rows("v", first, keys)
            for name, pitch in (("dk", m["q_row"]), ("dv", m["v_row"])):
                with b.loop(0, keys * pitch, self.lanes * self.bytes) as loop:
                    p = b.offset(self.scratch(name), loop.index)
                    self.store(p, 0, self.number(0, self.lanes))
            with self.query_blocks(b.const(0, "i64"), m["queries"], first, keys) as x:
                self.block(x, k, v)
            for name, pitch, columns in (("dk", "q_row", "width"), ("dv", "v_row", "values")):
                strides = m[f"{name}.row"], m[f"{name}.column"]
                target = self.row_of(name, first)
                b.call("write", self.scratch(name), m[pitch], target, *strides, keys, m[columns])
        with b.branch(m["is_whole"].eq(0)):
            self.put(self.at["sums"], b.const(0, "i64"), m["queries"])

    def put(self, source: Value, row: Value, rows: Value) -> None:
        m = self.m
        strides = m["dq.row"], m["dq.column"]
        target = self.row_of("dq", row)
        self.b.call("write", source, m["q_row"], target, *strides, rows, m["width"])

    def block(self, x: Block, k: tuple[Value, Value], v: tuple[Value, Value]) -> None:
        b, m = self.b, self.m
        self.turned("q", x.row, x.rows, "qt")
        self.turned("g", x.row, x.rows, "gt")
        q, g, o = (self.rows(n, x.row, x.rows) for n in ("q", "g", "o"))
        self.scores(k, x.limit, "qt", x.wide, m["width"], "s")
        self.scores(v, x.limit, "gt", x.wide, m["values"], "t")
        if self.mask:
            self.hide(x)
        self.shifts(x, g, o)
        with self.vectors(x) as lane:
            self.slopes(x, lane)
        is_whole, size = m["is_whole"].ne(0), b.const(self.bytes, "i64")
        sums = b.offset(self.at["sums"], x.row * m["q_row"])
        dq, is_later = b.select(is_whole, self.scratch("dq"), sums), b.min(x.first, 1)
        s, t, pitch = self.scratch("s"), self.scratch("t"), m["s_row"]
        self.by_rows(t, size, pitch, k, m["width"], dq, m["q_row"], x.rows, x.limit, is_later)
        with b.branch(is_whole):
            self.put(dq, x.row, x.rows)
        for weights, other, name in ((s, g, "v"), (t, q, "k")):
            columns, row = self.columns_of(name), m["v_row" if name == "v" else "q_row"]
            out = self.scratch(f"d{name}")
            self.by_rows(weights, pitch, size, other, columns, out, row, x.limit, x.rows, 1)

    def shifts(self, x: Block, g: tuple[Value, Value], o: tuple[Value, Value]) -> None:
        """Of each query the logarithm of its sum, and its result times the result's gradient."""
        b, w = self.b, self.lanes
        with b.loop(0, x.rows, 1, [g[0], o[0]]) as row:
            p, q = row.carry
            with b.loop(0, self.whole(self.m["values"]), w, [self.number(0, w)]) as loop:
                loop.next(b.fma(self.load(p, loop.index), self.load(q, loop.index), loop.carry[0]))
            mean = b.reduce("add", loop.results[0])
            lse = b.load(self.row_of("lse", x.row + row.index), 0, self.element)
            b.store(self.scratch("first"), row.index, lse, self.element)
            b.store(self.scratch("second"), row.index, mean, self.element)
            row.next(b.offset(p, g[1]), b.offset(q, o[1]))

    def slopes(self, x: Block, lane: Value) -> None:
        """Scores as weights, and the weights' gradients as those of scores."""
        b, w = self.b, self.lanes
        lse, mean = (self.load(self.scratch(n), lane) for n in ("first", "second"))
        scale, none = b.splat(self.scale, w), self.number(0, w)

        def one(carry: list[Value], key: Value, shown: Value | None) -> list[Value]:
            p = b.math("exp", self.score(key, lane, shown) - lse)
            place = self.line("t", key, lane)
            slope = (self.load(place) - mean) * p * scale
            self.store(self.line("s", key, lane), 0, p)
            self.store(place, 0, slope if shown is None else b.select(shown, slope, none))
            return []

        self.along_keys(x, lane, [], one)


ROLES = {"forward": Forward, "gradient": Gradient}


def build_attention(key: tuple, name: str, target: Target, math: Callable) -> Kernel:
    """The kernel of a key: ("attention", role, dtype, is_causal, dtype of the mask or "")."""
    return ROLES[key[1]](key, name, target, math).build()
