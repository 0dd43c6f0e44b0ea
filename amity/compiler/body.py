"""The body of a nest at one point of its loops: loads, values and stores."""

from __future__ import annotations

from collections.abc import Sequence

from amity.ir.kernel import Builder, Value
from amity.ir.target import Target

from .accessor import Accessor, IndexedBuilder
from .nest import Instruction, Nest, words
from .reduction import COMBINE


class Point:
    """Where the body is evaluated: operand offsets, the vector's first index, its width and mask."""

    def __init__(
        self, width: int, mask: Value | None, at: Value, offsets: Sequence[Value], indices
    ) -> None:
        self.width, self.mask, self.at = width, mask, at
        self.offsets, self.indices = offsets, indices
        self.values: dict[int, Value] = {}


class Body:
    """Evaluates a nest's instructions wherever the schedule's loops stand."""

    def __init__(
        self, nest: Nest, b: Builder, target: Target, first_word: int = 0, first_buffer: int = 0
    ) -> None:
        self.nest, self.b, self.target = nest, b, target
        self.words = words(nest, first_word)
        self.width = nest.lanes(target.vector_bytes)
        self.has_masks = "masks" in target.has
        self.rows = nest.dims.count("r")
        self.reduced = range(self.rows, len(nest.dims))
        self.full = self._full()
        self.level = self._levels()
        self.row_values: dict[int, Value] = {}
        self.spilled: dict[int, int] = {}
        self.sizes = [self.size(d) for d in range(len(nest.dims))]
        self.strides = {key: b.param(word) for key, word in self.words.strides.items()}
        self.pointers = [b.pointer(first_buffer + i) for i in range(len(nest.operands))]
        self.zero = b.const(0, "i64")
        self.fixed = self._fixed()

    def _full(self) -> list[bool]:
        """Which values change along the reduced dimensions."""
        out: list[bool] = []
        for i in self.nest.body:
            if i.op == "load":
                classes = self.nest.operands[i.what].classes
                out.append(any(classes[d] != "0" for d in self.reduced))
            elif i.op == "reduce":
                out.append(False)
            elif i.op == "index":
                out.append(i.what == "linear" or i.what in self.reduced)
            else:
                out.append(i.op == "indexed" or any(out[a] for a in i.args))
        return out

    def _levels(self) -> list[int]:
        """How many reductions must be complete before a value can be known."""
        out: list[int] = []
        for i in self.nest.body:
            inner = max((out[a] for a in i.args), default=0)
            out.append(inner + 1 if i.op == "reduce" else inner)
        return out

    def _costly(self, v: int) -> bool:
        i = self.nest.body[v]
        return i.op == "pointwise" and getattr(i.what, "is_costly", False)

    def size(self, d: int) -> Value:
        return self.b.param(self.words.sizes[d])

    def stride(self, operand: int, d: int) -> Value | None:
        c = self.nest.operands[operand].classes[d]
        if c == "0":
            return None
        return self.b.const(1, "i64") if c == "1" else self.strides[operand, d]

    def _fixed(self) -> dict[int, Value]:
        """The values that are one scalar for the whole kernel, computed ahead of its loops."""
        b, out = self.b, {}
        for v, (i, fixed) in enumerate(zip(self.nest.body, self.nest.fixed(), strict=True)):
            if not fixed:
                continue
            if i.op == "load":
                out[v] = b.load(self.pointers[i.what], self.zero, self.nest.operands[i.what].dtype)
            elif i.op == "number":
                out[v] = b.convert(b.param(self.words.numbers[v], i.what), i.dtype)
            elif i.op == "const":
                out[v] = b.const(i.what, i.dtype)
            else:
                out[v] = b.convert(out[i.args[0]], i.dtype)
        return out

    def store_all(self, p: Point) -> None:
        for operand, value in self.nest.stores:
            self._store(p, operand, value)

    def _store(self, p: Point, operand: int, value: int) -> None:
        is_vector = self.nest.operands[operand].classes[self.nest.vector_dim] != "0"
        x = self.evaluate(p, value)
        x = self.b.splat(x, p.width) if is_vector else x
        dtype = self.nest.operands[operand].dtype
        self.b.store(
            self.pointers[operand], self._index(p, operand), x, dtype, p.mask if is_vector else None
        )

    def _needed_mask(self, p: Point, operand: int) -> Value | None:
        return p.mask if self.nest.operands[operand].classes[self.nest.vector_dim] != "0" else None

    def _index(self, p: Point, operand: int) -> Value:
        """The element index of an operand: scalar, or one per lane when its stride is not 1."""
        b = self.b
        c = self.nest.operands[operand].classes[self.nest.vector_dim]
        base = p.offsets[operand]
        if c == "0":
            return base
        if c == "1":
            return base + p.at
        stride = self.strides[operand, self.nest.vector_dim]
        if p.width == 1:
            return base + p.at * stride
        lanes = (b.splat(p.at, p.width) + b.iota(p.width)) * b.splat(stride, p.width)
        return b.splat(base, p.width) + lanes

    def evaluate(self, p: Point, v: int) -> Value:
        """The value of instruction `v` at a point; row values come from earlier passes."""
        if v in self.fixed:
            return self.fixed[v]
        if v in self.row_values:
            return self.row_values[v]
        if v in p.values:
            return p.values[v]
        if v in self.spilled and p.width >= 1 and self.full[v]:
            out = self._reload(p, v)
        else:
            out = self._compute(p, v, self.nest.body[v])
        p.values[v] = out
        return out

    def _compute(self, p: Point, v: int, i: Instruction) -> Value:
        b = self.b
        if i.op == "load":
            operand = self.nest.operands[i.what]
            c = operand.classes[self.nest.vector_dim]
            width = 1 if c == "0" else p.width
            return b.load(
                self.pointers[i.what],
                self._index(p, i.what),
                operand.dtype,
                width,
                self._needed_mask(p, i.what),
            )
        if i.op == "cast":
            return b.convert(self.evaluate(p, i.args[0]), i.dtype)
        if i.op == "round":
            return b.round_to(self.evaluate(p, i.args[0]), i.what)
        if i.op == "pointwise":
            return i.what.emit(b, *(self.evaluate(p, a) for a in i.args))
        if i.op == "index":
            return self._position(p, i.what)
        if i.op == "indexed":
            return self._indexed(p, v, i)
        raise ValueError(f"schedule: got instruction {i.op!r} where a value was expected")

    def _position(self, p: Point, d: int | str) -> Value:
        """The index along a dimension; `linear` counts within the reduced dimensions."""
        b = self.b
        if d == "linear":
            if self.nest.vector_rows:
                return p.indices["linear"]
            base = p.indices["linear"] + p.at
        elif d == self.nest.vector_dim:
            base = p.at
        else:
            return p.indices[d]
        return base if p.width == 1 else b.splat(base, p.width) + b.iota(p.width)

    def _indexed(self, p: Point, v: int, i: Instruction) -> Value:
        op, operands = i.what
        index = [self._position(p, d) for d in range(self.rows)]
        accessors = [self._accessor(o) for o in operands]
        k = IndexedBuilder(self.b, p.width, p.mask, index, self.words.parameters[v])
        return op.emit(k, *accessors)

    def _accessor(self, operand: int) -> Accessor:
        b, o = self.b, self.nest.operands[operand]
        size, stride = self.words.indexed[operand]
        sizes = [b.param(size + d) for d in range(o.rank)]
        strides = [b.param(stride + d) for d in range(o.rank)]
        return Accessor(b, self.pointers[operand], o.dtype, sizes, strides, o.classes == "1")

    def _type(self, v: int) -> str:
        """The dtype in which a reduction accumulates; positions come beside the value itself."""
        i = self.nest.body[v]
        return i.dtype if COMBINE[i.what].parts == 1 else self.nest.body[i.args[0]].dtype

    def _slot(self, p: Point, slot: int) -> Value:
        base = p.indices["linear"] + p.at
        length = self.sizes[-1]
        for d in self.reduced[:-1]:
            length = length * self.sizes[d]
        return base + length * slot

    def _spill(self, p: Point, spills: list[int]) -> None:
        for n, v in enumerate(spills):
            value = self.b.splat(p.values[v], p.width)
            self.b.store(
                self.b.scratch, self._slot(p, len(self.spilled) + n), value, value.dtype, p.mask
            )

    def _reload(self, p: Point, v: int) -> Value:
        dtype = self.nest.body[v].dtype
        return self.b.load(self.b.scratch, self._slot(p, self.spilled[v]), dtype, p.width, p.mask)
