"""Checks a kernel: every value is defined where it is used, and operands fit their instruction.

`AMITY_CHECK=ir` runs it on every kernel before code is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .kernel import BITS, COMPARE, ROUNDING, Branch, Function, Kernel, Loop, Value, register_type
from .text import line

FLOATS = ("f32", "f64")
MOST_SHOWN = 8


class InvalidKernel(ValueError):
    """A kernel that breaks the rules of the IR: a defect of the compiler, not of a user."""


def verify(kernel: Kernel) -> None:
    """Raise InvalidKernel if a kernel is not what every code generator may rely on."""
    problems = [p for f in kernel.functions for p in _Check(kernel, f).run()]
    if not kernel.functions or not kernel.functions[-1].is_entry:
        problems.append("got no entry as the last function; expected one")
    if problems:
        shown = "\n  ".join(problems[:MOST_SHOWN])
        raise InvalidKernel(f"{kernel.name}: {len(problems)} problems\n  {shown}")


class _Check:
    """Walks one function with the set of values that are defined so far."""

    def __init__(self, kernel: Kernel, function: Function) -> None:
        self.function = function
        self.known = {f.name: [t for _, t in f.params] for f in kernel.functions}
        self.seen = {id(v) for v in function.args}
        self.problems: list[str] = []

    def run(self) -> list[str]:
        self.body(self.function.body)
        return self.problems

    def say(self, where: Value | Loop | Branch, problem: str) -> None:
        self.problems.append(f"{self.function.name}: `{line(where)}` {problem}")

    # -- regions
    def body(self, items: Sequence[Value | Loop | Branch]) -> None:
        """What a region defines is seen to its end, and not after it."""
        for item in items:
            if isinstance(item, Loop):
                self.loop(item)
            elif isinstance(item, Branch):
                self.branch(item)
            else:
                self.instruction(item)

    def region(self, items: Sequence[Value | Loop | Branch], inside: Sequence[Value]) -> set[int]:
        """Check a nested region; gives what was seen at its end."""
        before = set(self.seen)
        self.seen |= {id(v) for v in inside}
        self.body(items)
        at_end, self.seen = self.seen, before
        return at_end

    def loop(self, loop: Loop) -> None:
        for v in (loop.lo, loop.hi, loop.step, *loop.init):
            self.defined(loop, v)
        if any((v.dtype, v.width) != ("i64", 1) for v in (loop.lo, loop.hi, loop.step, loop.index)):
            self.say(loop, "got a bound that is no i64; expected i64 scalars")
        carried = [(v.dtype, v.width) for v in loop.carry]
        for name, values in (("initial", loop.init), ("next", loop.new)):
            if [(v.dtype, v.width) for v in values] != carried:
                self.say(loop, f"got {name} values {list(values)}; expected types {loop.carry}")
        at_end = self.region(loop.body, [loop.index, *loop.carry])
        for v in loop.new:
            if v.op != "const" and id(v) not in at_end:
                self.say(loop, f"got next value {v}, which the body does not define")
        self.seen |= {id(v) for v in loop.carry}

    def branch(self, branch: Branch) -> None:
        self.defined(branch, branch.condition)
        if (branch.condition.dtype, branch.condition.width) != ("bool", 1):
            self.say(branch, f"got condition {branch.condition}; expected a bool scalar")
        self.region(branch.body, ())

    # -- instructions
    def defined(self, where: Value | Loop | Branch, v: Value) -> None:
        if v.op == "const":
            problem = _constant(v)
            if problem:
                self.say(where, problem)
        elif id(v) not in self.seen:
            self.say(where, f"got {v}, which is not defined there")

    def instruction(self, v: Value) -> None:
        for a in v.args:
            self.defined(v, a)
        if (
            v.dtype != "void"
            and v.dtype != "ptr"
            and v.dtype not in BITS
            or v.dtype in ("f16", "bf16")
        ):
            self.say(v, f"got dtype {v.dtype}; expected one that registers hold")
        problems = (
            self.call(v) if v.op == "call" else RULES[v.op](v) if v.op in RULES else ["unknown"]
        )
        for problem in problems:
            self.say(v, problem)
        self.seen.add(id(v))

    def call(self, v: Value) -> Iterator[str]:
        params = self.known.get(v.attr)
        if params is None:
            yield f"calls {v.attr}; expected a function of this kernel"
        elif [(a.dtype, a.width) for a in v.args] != [(t, 1) for t in params]:
            yield f"got arguments {list(v.args)}; expected {params}"


def _constant(v: Value) -> str:
    """What is wrong with a constant."""
    if v.dtype in FLOATS:
        return (
            ""
            if isinstance(v.attr, (int, float))
            else f"got constant {v.attr!r}; expected a number"
        )
    if v.dtype in ("ptr", "bool"):
        return ""
    bits = BITS[v.dtype]
    if not isinstance(v.attr, int) or not -(1 << bits - 1) <= v.attr < 1 << bits:
        return f"got constant {v.attr!r}; expected one that fits {v.dtype}"
    return ""


# -- rules: what is wrong with an instruction, by its op


def _same(v: Value, values: Sequence[Value], dtype: str | None = None) -> Iterator[str]:
    """Operands of the result's width and of one dtype."""
    dtype = dtype or v.dtype
    for a in values:
        if (a.dtype, a.width) != (dtype, v.width):
            yield f"got operand {a}; expected {dtype}x{v.width}"


def _of(
    kinds: Callable[[str], bool], arity: int, expected: str
) -> Callable[[Value], Iterator[str]]:
    """The rule of an op on `arity` values of one dtype that gives the same."""

    def rule(v: Value) -> Iterator[str]:
        if len(v.args) != arity:
            yield f"got {len(v.args)} operands; expected {arity}"
        if not kinds(v.dtype):
            yield f"got {v.dtype}; expected {expected}"
        yield from _same(v, v.args)

    return rule


def _is_int(dtype: str) -> bool:
    return dtype in BITS and dtype[0] in "iu"


def _is_number(dtype: str) -> bool:
    return _is_int(dtype) or dtype in FLOATS


def _compare(v: Value) -> Iterator[str]:
    if v.dtype != "bool" or len(v.args) != 2:
        yield "expected two operands and a bool"
    yield from _same(v, v.args, v.args[0].dtype)


def _select(v: Value) -> Iterator[str]:
    condition, *values = v.args
    yield from _same(v, [condition], "bool")
    yield from _same(v, values)


def _convert(v: Value) -> Iterator[str]:
    (a,) = v.args
    if a.width != v.width or a.dtype == v.dtype or v.dtype == "bool" or "ptr" in (a.dtype, v.dtype):
        yield f"got {a}; expected as many elements of another dtype"


def _round_to(v: Value) -> Iterator[str]:
    if v.dtype != "f32" or v.attr not in ("f16", "bf16"):
        yield f"got {v.dtype} to {v.attr}; expected f32 to f16 or bf16"
    yield from _same(v, v.args)


def _bitcast(v: Value) -> Iterator[str]:
    (a,) = v.args
    if BITS.get(a.dtype, 0) * a.width != BITS.get(v.dtype, 0) * v.width:
        yield f"got {a}; expected as many bits as {v.dtype}x{v.width}"


def _dot2(v: Value) -> Iterator[str]:
    yield from _same(v, v.args[:2], "i32")
    yield from _same(v, v.args[2:], "f32")


def _splat(v: Value) -> Iterator[str]:
    (a,) = v.args
    if (a.dtype, a.width) != (v.dtype, 1) or v.width < 2:
        yield f"got {a}; expected a {v.dtype} scalar"


def _iota(v: Value) -> Iterator[str]:
    if v.args or v.width < 2 or not _is_int(v.dtype):
        yield "expected an integer vector of no operands"


def _shuffle(v: Value) -> Iterator[str]:
    a, b = v.args
    if (a.dtype, a.width) != (b.dtype, b.width) or a.dtype != v.dtype or len(v.attr) != v.width:
        yield f"got {a} and {b}; expected two alike of {v.dtype}"
    if any(not 0 <= i < 2 * a.width for i in v.attr):
        yield f"got lanes {v.attr}; expected lanes below {2 * a.width}"


def _extract(v: Value) -> Iterator[str]:
    (a,) = v.args
    if a.dtype != v.dtype or v.width != 1 or not 0 <= v.attr < a.width:
        yield f"got lane {v.attr} of {a}; expected one of its lanes"


def _pointer(v: Value) -> Iterator[str]:
    if v.dtype != "ptr" or [a.dtype for a in v.args] != ["ptr"] or v.attr < 0:
        yield "expected a place among the buffers"


def _offset(v: Value) -> Iterator[str]:
    if [(a.dtype, a.width) for a in v.args] != [("ptr", 1), ("i64", 1)]:
        yield f"got {list(v.args)}; expected a pointer and an i64"


def _address(v: Value, mask: Sequence[Value]) -> Iterator[str]:
    pointer, index = v.args[:2]
    if (pointer.dtype, pointer.width) != ("ptr", 1):
        yield f"got pointer {pointer}; expected a ptr scalar"
    if not _is_int(index.dtype) or index.width not in (1, v.width):
        yield f"got index {index}; expected one integer, or {v.width}"
    for m in mask:
        if (m.dtype, m.width) != ("bool", v.width):
            yield f"got mask {m}; expected boolx{v.width}"


def _load(v: Value) -> Iterator[str]:
    if v.attr not in BITS and v.attr != "ptr" or v.dtype != register_type(v.attr):
        yield f"got {v.dtype} of memory's {v.attr}; expected {register_type(v.attr)}"
    yield from _address(v, v.args[2:])


def _store(v: Value) -> Iterator[str]:
    value, dtype = v.args[2], v.attr[0]
    if value.dtype != register_type(dtype) or value.width not in (1, v.width):
        yield f"got value {value}; expected {register_type(dtype)}x{v.width}"
    yield from _address(v, v.args[3:])


def _prefetch(v: Value) -> Iterator[str]:
    if [a.dtype for a in v.args] != ["ptr"]:
        yield f"got {list(v.args)}; expected a pointer"


_NUMBERS = _of(_is_number, 2, "numbers")
_WHOLE = _of(_is_int, 2, "integers")  # a float's remainder would need a library
_BITS = _of(lambda d: _is_int(d) or d == "bool", 2, "integers or bool")
_ORDERED = _of(lambda d: _is_number(d) or d == "bool", 2, "numbers or bool")
RULES: dict[str, Callable[[Value], Iterator[str]]] = {
    **dict.fromkeys(("add", "sub", "mul", "div"), _NUMBERS),
    **dict.fromkeys(("rem", "shl", "shr"), _WHOLE),
    **dict.fromkeys(("and", "or", "xor"), _BITS),
    **dict.fromkeys(("min", "max"), _ORDERED),
    **dict.fromkeys(COMPARE, _compare),
    **dict.fromkeys(("sqrt", *ROUNDING), _of(FLOATS.__contains__, 1, "f32 or f64")),
    "neg": _of(_is_number, 1, "numbers"),
    "abs": _of(_is_number, 1, "numbers"),
    "not": _of(lambda d: _is_int(d) or d == "bool", 1, "integers or bool"),
    "fma": _of(FLOATS.__contains__, 3, "f32 or f64"),
    "mulhi": _of("u32".__eq__, 2, "u32"),
    "select": _select, "convert": _convert, "round_to": _round_to, "bitcast": _bitcast, "dot2": _dot2,
    "splat": _splat, "iota": _iota, "shuffle": _shuffle, "extract": _extract,
    "pointer": _pointer, "offset": _offset, "load": _load, "store": _store, "prefetch": _prefetch,
}  # fmt: skip
