"""Nests to kernels: which loops, which vectors, in which order.

Three forms, by what the nest reduces and how memory runs:
- no reduction: rows over the grid, vectors along the last dimension;
- reduction along memory: vectors along the reduced dimension, one row a grid unit, one pass for
  each level of reduction (softmax: max, then sum, then the result);
- reduction across memory: vectors along the last row dimension, plain loops over the reduced ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amity.ir.kernel import Builder, Kernel, Value
from amity.ir.target import Target

from .body import Body, Point
from .nest import Nest
from .reduction import COMBINE, Reduction

BLOCK_STEPS = 64  # vector steps of a reduction that are added up apart
COLUMN_BLOCK = 128  # rows of a grid unit when vectors run along the rows
MOST_BYTES = 64  # of a vector, on any machine
BLOCK = 4096  # elements of a grid unit when one dimension is all there is


def build_nest(nest: Nest, name: str, target: Target, math: Callable) -> Kernel:
    """The kernel of a nest."""
    b = Builder(name, target, math)
    with b.entry():
        _Schedule(nest, b, target).run()
    return b.kernel


def order_of(nest: Nest, sizes: Sequence[int]) -> tuple:
    """How a nest adds up what it reduces, but for the order of its loops: how long its vectors' loop
    is, how many elements that takes at a time, and in how many sums.
    """
    if nest.vector_rows:  # one after the other
        return ()
    return sizes[len(nest.dims) - 1], nest.lanes(MOST_BYTES), unroll(nest)


def unroll(nest: Nest) -> int:
    """Independent accumulators, to hide the latency of the add; costly bodies hide it already."""
    has_math = any(getattr(i.what, "is_costly", False) for i in nest.body if i.op == "pointwise")
    return 1 if has_math or len(nest.body) > 6 else 4


class _Schedule(Body):
    """Writes the loops of one nest."""

    def run(self) -> None:
        if not self.reduced:
            self._run_map()
        elif self.nest.vector_rows:
            self._run_column()
        else:
            self._run_row()

    def _walk_rows(self, g: Value, dims: Sequence[int]) -> tuple[list[Value], dict[int, Value]]:
        """Offsets of all operands, and indices, at grid position `g` of the given row dims."""
        indices: dict[int, Value] = {}
        rest = g
        for d in reversed(dims):
            if d == dims[0]:
                indices[d] = rest
            else:
                quotient = rest // self.sizes[d]
                indices[d] = rest - quotient * self.sizes[d]
                rest = quotient
        offsets = []
        for o, operand in enumerate(self.nest.operands):
            at = self.zero
            for d in dims if operand.rank < 0 else ():
                stride = self.stride(o, d)
                if stride is not None:
                    at = at + indices[d] * stride
            offsets.append(at)
        return offsets, indices

    def _vectors(
        self, lo: Value, hi: Value, body: Callable[[Value, int, Value | None], None]
    ) -> None:
        """`body(at, width, mask)` over [lo, hi): whole vectors, then the rest."""
        b, w = self.b, self.width
        if w == 1:
            with b.loop(lo, hi) as L:
                body(L.index, 1, None)
            return
        whole = lo + ((hi - lo) & b.const(-w, "i64"))
        with b.loop(lo, whole, w) as L:
            body(L.index, w, None)
        if self.has_masks:
            with b.loop(whole, hi, w) as L:
                lanes = b.splat(L.index, w) + b.iota(w)
                body(L.index, w, lanes < b.splat(hi, w))
        else:
            with b.loop(whole, hi) as L:
                body(L.index, 1, None)

    def _run_map(self) -> None:
        b = self.b
        last = self.rows - 1
        if self.rows == 1:
            n = self.sizes[0]
            lo, hi = b.lo * BLOCK, b.min(b.hi * BLOCK, n)
            offsets = [self.zero] * len(self.nest.operands)
            self._vectors(lo, hi, lambda at, w, m: self.store_all(Point(w, m, at, offsets, {})))
            return
        with b.loop(b.lo, b.hi) as L:
            offsets, indices = self._walk_rows(L.index, range(last))
            self._vectors(
                self.zero,
                self.sizes[last],
                lambda at, w, m: self.store_all(Point(w, m, at, offsets, indices)),
            )

    # -- reductions along memory
    def _passes(self) -> int:
        return max(self.level, default=0)

    def _run_row(self) -> None:
        b = self.b
        with b.loop(b.lo, b.hi) as L:
            offsets, indices = self._walk_rows(L.index, range(self.rows))
            self.row_values, self.spilled = {}, {}
            last = self.sizes[-1]
            if self.nest.split:
                done = indices[self.rows - 1] * last
                last = b.max(b.min(last, b.param(self.words.total) - done), 0)
            for level in range(1, self._passes() + 1):
                wanted = [
                    v
                    for v, i in enumerate(self.nest.body)
                    if i.op == "reduce" and self.level[v] == level
                ]
                self._reduce_pass(wanted, offsets, indices, last)
            self._finish_row(offsets, indices, last)

    def _finish_row(self, offsets, indices, last) -> None:
        """Row results once, full results in a last pass."""
        point = Point(1, None, self.zero, offsets, indices | {"linear": self.zero})
        full = []
        for operand, value in self.nest.stores:
            if self._is_row_operand(operand):
                o = self.nest.operands[operand]
                self.b.store(
                    self.pointers[operand], offsets[operand], self.evaluate(point, value), o.dtype
                )
            else:
                full.append((operand, value))
        if not full:
            return

        def leaf(offsets, linear, carry):
            def body(at, w, m):
                p = Point(w, m, at, offsets, indices | {"linear": linear})
                for operand, value in full:
                    self._store(p, operand, value)

            self._vectors(self.zero, last, body)
            return carry

        self._reduced_loops(self.reduced[0], offsets, self.zero, [], leaf)

    def _is_row_operand(self, operand: int) -> bool:
        return all(self.nest.operands[operand].classes[d] == "0" for d in self.reduced)

    def _reduced_loops(self, d, offsets, linear, carry, leaf):
        """Loops over the reduced dimensions but the vector one, around `leaf`."""
        b = self.b
        end = len(self.nest.dims) - (0 if self.nest.vector_rows else 1)
        if d >= end:
            return leaf(offsets, linear, carry)
        with b.loop(0, self.sizes[d], 1, carry) as L:
            inner = list(offsets)
            for o, operand in enumerate(self.nest.operands):
                if operand.rank < 0 and operand.classes[d] != "0":
                    inner[o] = inner[o] + L.index * self.stride(o, d)
            position = (linear * self.sizes[d]) + L.index
            if d + 1 < len(self.nest.dims) and d + 1 >= end:
                position = position * self.sizes[d + 1]
            L.next(*self._reduced_loops(d + 1, inner, position, L.carry, leaf))
        return L.carry

    def _reduce_pass(self, wanted: list[int], offsets, indices, last) -> None:
        b = self.b
        kinds = [COMBINE[self.nest.body[v].what] for v in wanted]
        types = [self._type(v) for v in wanted]
        w, spills = self.width, self._spills(wanted)
        start_v = [s for k, t in zip(kinds, types, strict=True) for s in k.start(b, t, w)]
        start_s = [s for k, t in zip(kinds, types, strict=True) for s in k.start(b, t, 1)]
        scalar_tail = not self.has_masks and w > 1

        def leaf(offsets, linear, carry):
            def step(at, width, mask, acc):
                p = Point(width, mask, at, offsets, indices | {"linear": linear})
                out = self._accumulate(p, wanted, kinds, acc)
                self._spill(p, spills)
                return out

            return self._accumulate_vectors(last, carry, start_v, kinds, step)

        carry = start_v + (start_s if scalar_tail else [])
        result = self._reduced_loops(self.reduced[0], offsets, self.zero, carry, leaf)
        at = 0
        for v, k in zip(wanted, kinds, strict=True):
            n = k.parts
            acc = k.lanes(b, result[at : at + n])
            if scalar_tail:
                acc = k.join(b, acc, result[len(start_v) + at : len(start_v) + at + n])
            self.row_values[v] = k.result(acc)
            at += n
        first = len(self.spilled)
        self.spilled |= {v: first + n for n, v in enumerate(spills)}

    def _accumulate_vectors(self, n, carry, start, kinds, step):
        """The vector loop of a reduction, in blocks whose results are added up: so rounding errors
        grow with the number of blocks, not of elements."""
        b, w, sums = self.b, self.width, unroll(self.nest)
        head, tail = list(carry[: len(start)]), list(carry[len(start) :])
        if w == 1:
            with b.loop(0, n, 1, head) as L:
                L.next(*step(L.index, 1, None, L.carry))
            return L.carry
        stride = w * sums
        groups, whole = n & b.const(-stride, "i64"), n & b.const(-w, "i64")
        with b.loop(0, groups, stride * BLOCK_STEPS, head) as outer:
            stop = b.min(outer.index + stride * BLOCK_STEPS, groups)
            with b.loop(outer.index, stop, stride, start * sums) as L:
                new = []
                for u in range(sums):
                    part = L.carry[u * len(start) : (u + 1) * len(start)]
                    new += step(L.index + u * w, w, None, part)
                L.next(*new)
            total = outer.carry
            for u in range(sums):
                total = self._join(kinds, total, L.carry[u * len(start) : (u + 1) * len(start)])
            outer.next(*total)
        with b.loop(groups, whole, w, outer.carry) as L:
            L.next(*step(L.index, w, None, L.carry))
        if tail:
            with b.loop(whole, n, 1, tail) as T:
                T.next(*step(T.index, 1, None, T.carry))
            return L.carry + T.carry
        with b.loop(whole, n, w, L.carry) as M:
            mask = (b.splat(M.index, w) + b.iota(w)) < b.splat(n, w)
            M.next(*step(M.index, w, mask, M.carry))
        return M.carry

    def _join(self, kinds: list[Reduction], a: list[Value], c: list[Value]) -> list[Value]:
        out, at = [], 0
        for k in kinds:
            out += k.join(self.b, a[at : at + k.parts], c[at : at + k.parts])
            at += k.parts
        return out

    def _accumulate(self, p: Point, wanted, kinds: list[Reduction], acc) -> list[Value]:
        b, out, at = self.b, [], 0
        for v, k in zip(wanted, kinds, strict=True):
            x = b.splat(
                b.convert(self.evaluate(p, self.nest.body[v].args[0]), self._type(v)), p.width
            )
            index = self._position(p, "linear") if k.parts == 2 else None
            new = k.step(b, acc[at : at + k.parts], x, index)
            if p.mask is not None:
                new = [
                    b.select(p.mask, a, c) for a, c in zip(new, acc[at : at + k.parts], strict=True)
                ]
            out += new
            at += k.parts
        return out

    # -- costly values kept in scratch between passes
    def _spills(self, wanted: list[int]) -> list[int]:
        """Costly full values that this pass computes and a later one needs."""
        if not self.nest.spill:
            return []
        later = [
            v
            for v, i in enumerate(self.nest.body)
            if i.op == "reduce" and self.level[v] > self.level[wanted[0]]
        ]
        later += [v for _, v in self.nest.stores]
        now = self._reached(wanted)
        return [
            v
            for v in sorted(now & self._reached(later))
            if self._costly(v) and self.full[v] and v not in self.spilled
        ]

    def _reached(self, roots: list[int]) -> set[int]:
        seen: set[int] = set()
        stack = [
            a
            for r in roots
            for a in (self.nest.body[r].args if self.nest.body[r].op == "reduce" else (r,))
        ]
        while stack:
            v = stack.pop()
            if v in seen or v in self.row_values or v in self.spilled:
                continue
            seen.add(v)
            if self.nest.body[v].op != "reduce":
                stack += self.nest.body[v].args
        return seen

    # -- reductions across memory
    def _run_column(self) -> None:
        b, last = self.b, self.rows - 1
        n = self.sizes[last]
        blocks = (n + (COLUMN_BLOCK - 1)) // b.const(COLUMN_BLOCK, "i64")
        with b.loop(b.lo, b.hi) as L:
            row = L.index // blocks if last else self.zero
            at = (L.index - row * blocks) * COLUMN_BLOCK
            offsets, indices = (
                self._walk_rows(row, range(last))
                if last
                else ([self.zero] * len(self.nest.operands), {})
            )
            end = b.min(at + COLUMN_BLOCK, n)
            step = self.width * self._neighbours()
            if step > self.width:  # whole vectors side by side, so that each row is a long read
                whole = at + ((end - at) & b.const(-step, "i64"))
                with b.loop(at, whole, step) as C:
                    places = [C.index + u for u in range(0, step, self.width)]
                    self._columns(places, self.width, None, offsets, indices)
                at = whole
            self._vectors(
                at, end, lambda i, width, mask: self._columns([i], width, mask, offsets, indices)
            )

    def _neighbours(self) -> int:
        """Vectors of columns that go through the rows together."""
        has_math = any(self._costly(v) for v in range(len(self.nest.body)))
        if has_math or self.width == 1 or len(self.nest.body) > 10:
            return 1
        return 8 if len(self.nest.body) <= 4 else 4

    def _columns(self, places, width, mask, offsets, indices) -> None:
        b = self.b
        rows: list[dict[int, Value]] = [{} for _ in places]
        for level in range(1, self._passes() + 1):
            wanted = [
                v
                for v, i in enumerate(self.nest.body)
                if i.op == "reduce" and self.level[v] == level
            ]
            kinds = [COMBINE[self.nest.body[v].what] for v in wanted]
            start = [
                s
                for v, k in zip(wanted, kinds, strict=True)
                for s in k.start(b, self._type(v), width)
            ]

            def leaf(offsets, linear, carry, wanted=wanted, kinds=kinds, start=start):
                out, n = [], len(start)
                for u, at in enumerate(places):
                    self.row_values = rows[u]
                    p = Point(width, mask, at, offsets, indices | {"linear": linear})
                    acc = carry[u * n : (u + 1) * n]
                    out += self._accumulate_column(p, wanted, kinds, acc, linear)
                return out

            carry = start * len(places)
            result = self._reduced_loops(self.reduced[0], offsets, self.zero, carry, leaf)
            i = 0
            for row in rows:
                for v, k in zip(wanted, kinds, strict=True):
                    row[v] = k.result(result[i : i + k.parts])
                    i += k.parts
        self._finish_columns(places, rows, width, mask, offsets, indices)

    def _finish_columns(self, places, rows, width, mask, offsets, indices) -> None:
        """Row results, then full results in one more walk along the rows."""
        full, first = [], indices | {"linear": self.zero}
        for operand, value in self.nest.stores:
            if not self._is_row_operand(operand):
                full.append((operand, value))
                continue
            for at, self.row_values in zip(places, rows, strict=True):
                self._store(Point(width, mask, at, offsets, first), operand, value)
        if full:

            def leaf(offsets, linear, carry):
                for at, self.row_values in zip(places, rows, strict=True):
                    p = Point(width, mask, at, offsets, indices | {"linear": linear})
                    for operand, value in full:
                        self._store(p, operand, value)
                return carry

            self._reduced_loops(self.reduced[0], offsets, self.zero, [], leaf)
        self.row_values = {}

    def _accumulate_column(self, p: Point, wanted, kinds, acc, linear) -> list[Value]:
        b, out, at = self.b, [], 0
        for v, k in zip(wanted, kinds, strict=True):
            x = b.splat(
                b.convert(self.evaluate(p, self.nest.body[v].args[0]), self._type(v)), p.width
            )
            index = b.splat(linear, p.width) if k.parts == 2 else None
            out += k.step(b, acc[at : at + k.parts], x, index)
            at += k.parts
        return out
