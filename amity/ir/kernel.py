"""Kernels as data: structured instructions over scalars and vectors, and the builder that writes them.

A kernel is a list of functions; a function is a list of instructions; a loop or a branch holds a
list of its own. Values are typed by dtype code and vector width (1 is a scalar). There is no
control flow but `loop` (with carried values) and `branch`, so every target can print a kernel: LLVM
as basic blocks, WGSL as text.

The entry function of a kernel is `(meta, buffers, lo, hi, scratch)`: `meta` holds the 64-bit sizes,
strides and parameters of this call, `buffers` the pointers, `[lo, hi)` the part of the grid to do,
`scratch` memory of the calling thread. f16 and bf16 exist only in memory: a load gives f32, a store
rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

BITS = {
    "bool": 1, "u8": 8, "i8": 8, "i16": 16, "u16": 16, "i32": 32, "u32": 32, "i64": 64, "u64": 64,
    "f16": 16, "bf16": 16, "f32": 32, "f64": 64,
}  # fmt: skip
ENTRY = (("meta", "ptr"), ("buffers", "ptr"), ("lo", "i64"), ("hi", "i64"), ("scratch", "ptr"))
COMPARE = ("eq", "ne", "lt", "le", "gt", "ge")
ROUNDING = ("floor", "ceil", "trunc", "round")  # instructions of targets that have `round`
Number = int | float | bool


def itemsize(dtype: str) -> int:
    """Bytes of one element in memory."""
    return max(1, BITS[dtype] // 8)


def register_type(dtype: str) -> str:
    """The dtype that a value of a buffer's dtype has in registers."""
    return "f32" if dtype in ("f16", "bf16") else dtype


class Value:
    """The result of one instruction. Operators write further instructions."""

    __slots__ = ("args", "attr", "builder", "dtype", "id", "op", "width")

    def __init__(self, builder, op, dtype, width, args, attr, id):
        self.builder, self.op, self.dtype, self.width = builder, op, dtype, width
        self.args, self.attr, self.id = args, attr, id

    def __repr__(self) -> str:
        return f"%{self.id}:{self.dtype}x{self.width}"

    def __add__(self, other):
        return self.builder.binary("add", self, other)  # noqa: E704

    def __radd__(self, other):
        return self.builder.binary("add", other, self)  # noqa: E704

    def __sub__(self, other):
        return self.builder.binary("sub", self, other)  # noqa: E704

    def __rsub__(self, other):
        return self.builder.binary("sub", other, self)  # noqa: E704

    def __mul__(self, other):
        return self.builder.binary("mul", self, other)  # noqa: E704

    def __rmul__(self, other):
        return self.builder.binary("mul", other, self)  # noqa: E704

    def __truediv__(self, other):
        return self.builder.binary("div", self, other)  # noqa: E704

    def __rtruediv__(self, other):
        return self.builder.binary("div", other, self)  # noqa: E704

    def __floordiv__(self, other):
        return self.builder.binary("div", self, other)  # noqa: E704

    def __mod__(self, other):
        return self.builder.binary("rem", self, other)  # noqa: E704

    def __and__(self, other):
        return self.builder.binary("and", self, other)  # noqa: E704

    def __or__(self, other):
        return self.builder.binary("or", self, other)  # noqa: E704

    def __xor__(self, other):
        return self.builder.binary("xor", self, other)  # noqa: E704

    def __lshift__(self, other):
        return self.builder.binary("shl", self, other)  # noqa: E704

    def __rshift__(self, other):
        return self.builder.binary("shr", self, other)  # noqa: E704

    def __lt__(self, other):
        return self.builder.compare("lt", self, other)  # noqa: E704

    def __le__(self, other):
        return self.builder.compare("le", self, other)  # noqa: E704

    def __gt__(self, other):
        return self.builder.compare("gt", self, other)  # noqa: E704

    def __ge__(self, other):
        return self.builder.compare("ge", self, other)  # noqa: E704

    def __neg__(self):
        return self.builder.unary("neg", self)  # noqa: E704

    def __invert__(self):
        return self.builder.unary("not", self)  # noqa: E704

    def eq(self, other):
        return self.builder.compare("eq", self, other)  # noqa: E704

    def ne(self, other):
        return self.builder.compare("ne", self, other)  # noqa: E704

    def to(self, dtype):
        return self.builder.convert(self, dtype)  # noqa: E704


class Loop:
    """`for index in range(lo, hi, step)` with carried values; `next` sets what the next turn sees."""

    __slots__ = ("body", "carry", "hi", "index", "init", "lo", "new", "results", "step")
    body: list
    lo: Value
    hi: Value
    step: Value
    index: Value
    init: list[Value]
    carry: list[Value]
    new: list[Value]
    results: list[Value]

    def next(self, *values: Value) -> None:
        self.new = list(values)


class Branch:
    """`if condition:` around effects; it has no results."""

    __slots__ = ("body", "condition")
    body: list
    condition: Value


class Function:
    """One function of a kernel; only the entry is visible from outside."""

    def __init__(self, name: str, params: Sequence[tuple[str, str]], is_entry: bool) -> None:
        self.name, self.is_entry = name, is_entry
        self.params = list(params)
        self.args: list[Value] = []
        self.body: list = []


class Kernel:
    """The functions of one kernel, the entry last."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.functions: list[Function] = []


def instructions(body: Sequence[Value | Loop | Branch]) -> Iterator[Value]:
    """All instructions of a body, those of loops and branches too."""
    for item in body:
        if isinstance(item, Value):
            yield item
        else:
            yield from instructions(item.body)


class Builder:
    """Writes a kernel, instruction by instruction.

    `math` expands a function such as `exp` into instructions (see compiler/numerics.py), so that
    no target needs a library.
    """

    def __init__(
        self, name: str, target, math: Callable[[Builder, str, list[Value]], Value]
    ) -> None:
        self.kernel = Kernel(name)
        self.target, self._math = target, math
        self._count = 0
        self._block: list = []
        self._consts: dict = {}
        self._function: Function | None = None
        self.meta: Any = None  # these five: set by `entry`
        self.buffers: Any = None
        self.lo: Any = None
        self.hi: Any = None
        self.scratch: Any = None

    # -- functions
    @contextmanager
    def function(self, name: str, params: Sequence[tuple[str, str]]) -> Iterator[list[Value]]:
        """A function that this kernel's others may `call`; gives its arguments."""
        outer = self._function, self._block, self._consts
        f = Function(f"{self.kernel.name}.{name}", params, False)
        self._function, self._block, self._consts = f, f.body, {}
        f.args = [self._value("param", t, 1, (), n) for n, t in params]
        yield f.args
        self.kernel.functions.append(f)
        self._function, self._block, self._consts = outer

    @contextmanager
    def entry(self) -> Iterator[None]:
        """The entry function; sets `meta`, `buffers`, `lo`, `hi` and `scratch`."""
        f = Function(self.kernel.name, ENTRY, True)
        self._function, self._block, self._consts = f, f.body, {}
        f.args = [self._value("param", t, 1, (), n) for n, t in ENTRY]
        self.meta, self.buffers, self.lo, self.hi, self.scratch = f.args
        yield
        self.kernel.functions.append(f)

    def call(self, name: str, *args: Value | int) -> None:
        """Call a function of this kernel; functions give no results but through memory."""
        values = tuple(a if isinstance(a, Value) else self.const(a, "i64") for a in args)
        self._emit("call", "void", 1, values, f"{self.kernel.name}.{name}")

    # -- values
    def _value(self, op, dtype, width, args, attr=None) -> Value:
        self._count += 1
        return Value(self, op, dtype, width, args, attr, self._count)

    def _emit(self, op, dtype, width, args, attr=None) -> Value:
        v = self._value(op, dtype, width, args, attr)
        self._block.append(v)
        return v

    def const(self, x: Number, dtype: str, width: int = 1) -> Value:
        """A constant; it takes no instruction."""
        key = (repr(x), dtype, width)
        if key not in self._consts:
            self._consts[key] = self._value("const", dtype, width, (), x)
        return self._consts[key]

    def param(self, i: int, dtype: str = "i64") -> Value:
        """The i-th 64-bit word of `meta`."""
        return self.load(self.meta, i, dtype)

    def pointer(self, i: int) -> Value:
        """The i-th buffer."""
        return self._emit("pointer", "ptr", 1, (self.buffers,), i)

    def _pair(self, a, b) -> tuple[Value, Value]:
        if not isinstance(a, Value):
            a = self.const(a, b.dtype, b.width)
        if not isinstance(b, Value):
            b = self.const(b, a.dtype, a.width)
        a, b = self.widen(a, b)
        return a, b

    def widen(self, *values: Value) -> tuple[Value, ...]:
        """The same values, scalars splat to the widest."""
        width = max(v.width for v in values)
        return tuple(self.splat(v, width) for v in values)

    def splat(self, v: Value, width: int) -> Value:
        if v.width == width:
            return v
        if v.op == "const":
            return self.const(v.attr, v.dtype, width)
        return self._emit("splat", v.dtype, width, (v,))

    def iota(self, width: int, dtype: str = "i64") -> Value:
        """The vector 0, 1, 2, …"""
        return self._emit("iota", dtype, width, ()) if width > 1 else self.const(0, dtype)

    # -- arithmetic
    def binary(self, op: str, a, b) -> Value:
        a, b = self._pair(a, b)
        if a.dtype in ("i64", "ptr") and a.width == 1:
            folded = self._fold(op, a, b)
            if folded is not None:
                return folded
        return self._emit(op, a.dtype, a.width, (a, b))

    def _fold(self, op: str, a: Value, b: Value) -> Value | None:
        """Index arithmetic with constants, folded so that kernels stay small."""
        if a.op == "const" and b.op == "const":
            x, y = a.attr, b.attr
            done = {"add": lambda: x + y, "sub": lambda: x - y, "mul": lambda: x * y,
                    "min": lambda: min(x, y), "max": lambda: max(x, y)}.get(op)  # fmt: skip
            return self.const(done(), a.dtype) if done else None
        for v, other in ((a, b), (b, a)):
            if v.op == "const" and (op in ("add", "mul") or v is b):
                if v.attr == 0 and op in ("add", "sub"):
                    return other
                if v.attr == 0 and op == "mul":
                    return v
                if v.attr == 1 and op in ("mul", "div"):
                    return other
        return None

    def compare(self, op: str, a, b) -> Value:
        a, b = self._pair(a, b)
        return self._emit(op, "bool", a.width, (a, b))

    def unary(self, op: str, a: Value) -> Value:
        if op in ROUNDING and "round" not in self.target.has:
            return self._math(self, op, [a])
        return self._emit(op, a.dtype, a.width, (a,))

    def min(self, a, b) -> Value:
        """The smaller; of floats, `b` unless `a < b` (so a NaN in `b` passes through)."""
        return self.binary("min", a, b)

    def max(self, a, b) -> Value:
        """The larger; of floats, `b` unless `a > b` (so a NaN in `b` passes through)."""
        return self.binary("max", a, b)

    def mulhi(self, a, b) -> Value:
        """The upper half of the product of two u32."""
        return self.binary("mulhi", a, b)

    def fma(self, a, b, c) -> Value:
        """a * b + c, rounded once."""
        first = next(v for v in (a, b, c) if isinstance(v, Value))
        vs = [v if isinstance(v, Value) else self.const(v, first.dtype) for v in (a, b, c)]
        a, b, c = self.widen(*vs)
        return self._emit("fma", a.dtype, a.width, (a, b, c))

    def dot2(self, a: Value, b: Value, acc: Value) -> Value:
        """acc + a0*b0 + a1*b1 in f32, for i32 lanes that hold two bf16 each (targets that have `bf16dot`)."""
        return self._emit("dot2", "f32", acc.width, (a, b, acc))

    def select(self, condition: Value, a, b) -> Value:
        a, b = self._pair(a, b)
        condition, a, b = self.widen(condition, a, b)
        return self._emit("select", a.dtype, a.width, (condition, a, b))

    def convert(self, v: Value, dtype: str) -> Value:
        """To another dtype, as PyTorch's `.to`: floats truncate to integers, anything but 0 is True."""
        dtype = register_type(dtype)
        if v.dtype == dtype:
            return v
        if v.op == "const" and dtype != "bool":
            return self.const(float(v.attr) if dtype[0] == "f" else int(v.attr), dtype, v.width)
        if dtype == "bool":
            return self.compare("ne", v, False if v.dtype == "bool" else 0)
        return self._emit("convert", dtype, v.width, (v,))

    def round_to(self, v: Value, dtype: str) -> Value:
        """An f32 rounded to what a 16-bit float holds, still as f32."""
        return (
            v
            if dtype not in ("f16", "bf16")
            else self._emit("round_to", "f32", v.width, (v,), dtype)
        )

    def bitcast(self, v: Value, dtype: str) -> Value:
        return self._emit("bitcast", dtype, v.width * BITS[v.dtype] // BITS[dtype], (v,))

    def math(self, name: str, *args: Value) -> Value:
        """A function such as `exp`, expanded into instructions."""
        if name in ROUNDING:
            return self.unary(name, *args)
        return self._math(self, name, list(args))

    # -- vectors
    def reduce(self, op: str, v: Value) -> Value:
        """All lanes joined by `add`, `mul`, `min`, `max`, `and` or `or`, by halves."""
        while v.width > 1:
            h = v.width // 2
            v = self.binary(op, self.shuffle(v, v, range(h)), self.shuffle(v, v, range(h, 2 * h)))
        return v

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """Lanes picked from `a` (0…w-1) and `b` (w…2w-1); one lane gives a scalar."""
        lanes = tuple(lanes)
        if len(lanes) == 1:
            src = a if lanes[0] < a.width else b
            return self.extract(src, lanes[0] % a.width)
        return self._emit("shuffle", a.dtype, len(lanes), (a, b), lanes)

    def extract(self, v: Value, lane: int) -> Value:
        return v if v.width == 1 else self._emit("extract", v.dtype, 1, (v,), lane)

    # -- memory
    def offset(self, pointer: Value, bytes: Value | int) -> Value:
        """A pointer moved by bytes."""
        if not isinstance(bytes, Value):
            bytes = self.const(bytes, "i64")
        return (
            pointer
            if bytes.op == "const" and bytes.attr == 0
            else self._emit("offset", "ptr", 1, (pointer, bytes))
        )

    def load(self, pointer, index, dtype, width=1, mask=None) -> Value:
        """Elements at `pointer[index]`; a vector index gathers. Lanes masked off are 0."""
        if not isinstance(index, Value):
            index = self.const(index, "i64")
        args = (pointer, index) if mask is None else (pointer, index, mask)
        width = max(width, index.width)
        return self._emit("load", register_type(dtype), width, args, dtype)

    def store(self, pointer, index, value, dtype, mask=None, stream=False) -> None:
        """Write `value` at `pointer[index]`; a vector index scatters; `stream` bypasses the caches."""
        if not isinstance(index, Value):
            index = self.const(index, "i64")
        args = (pointer, index, value) if mask is None else (pointer, index, value, mask)
        self._emit("store", "void", max(value.width, index.width), args, (dtype, stream))

    def prefetch(self, pointer: Value, write: bool = False, near: bool = True) -> None:
        """Fetch a cache line ahead of use: into the nearest cache, or the one behind it."""
        self._emit("prefetch", "void", 1, (pointer,), (write, near))

    # -- control
    @contextmanager
    def loop(self, lo, hi, step=1, carry: Sequence[Value] = ()) -> Iterator[Loop]:
        loop = Loop()
        as_value = lambda x: x if isinstance(x, Value) else self.const(x, "i64")  # noqa: E731
        loop.lo, loop.hi, loop.step = as_value(lo), as_value(hi), as_value(step)
        loop.init = list(carry)
        loop.index = self._value("index", "i64", 1, ())
        loop.carry = [self._value("carry", v.dtype, v.width, ()) for v in carry]
        loop.new, loop.results = list(loop.carry), list(loop.carry)
        loop.body, outer, consts = [], self._block, self._consts
        outer.append(loop)
        self._block = loop.body
        yield loop
        self._block, self._consts = outer, consts

    @contextmanager
    def branch(self, condition: Value) -> Iterator[None]:
        b = Branch()
        b.condition, b.body, outer = condition, [], self._block
        outer.append(b)
        self._block = b.body
        yield
        self._block = outer
