"""Kernels as text, for people: `AMITY_SHOW=kernel` prints them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .kernel import Branch, Kernel, Loop, Value


def text(kernel: Kernel) -> str:
    """A kernel as lines, a function after the other.

    >>> from amity.ir.kernel import Builder
    >>> b = Builder("twice", None, None)
    >>> with b.entry():
    ...     with b.loop(b.lo, b.hi) as i:
    ...         x = b.load(b.pointer(0), i.index, "f32")
    ...         b.store(b.pointer(1), i.index, x * 2.0, "f32")
    >>> print(text(b.kernel))
    twice(%1 meta: ptr, %2 buffers: ptr, %3 lo: i64, %4 hi: i64, %5 scratch: ptr):
      for %7 in range(%3, %4, 1):
        %8 = pointer %2, 0
        %9 = load f32 %8[%7]
        %10 = pointer %2, 1
        %12 = mul f32 %9, 2.0
        store f32 %10[%7], %12
    """
    lines = []
    for f in kernel.functions:
        args = ", ".join(f"%{a.id} {a.attr}: {a.dtype}" for a in f.args)
        lines += [f"{f.name}({args}):", *_body(f.body, 1)]
    return "\n".join(lines)


def _body(items: Sequence[Value | Loop | Branch], depth: int) -> Iterator[str]:
    space = "  " * depth
    for item in items:
        yield space + line(item)
        if isinstance(item, (Loop, Branch)):
            yield from _body(item.body, depth + 1)
        if isinstance(item, Loop) and item.carry:
            yield f"{space}  next {', '.join(map(name, item.new))}"


def name(v: Value) -> str:
    """How a value is written where it is used."""
    if v.op == "const":
        return repr(v.attr)
    return f"%{v.id}"


def kind(v: Value) -> str:
    return v.dtype if v.width == 1 else f"{v.dtype}x{v.width}"


def line(item: Value | Loop | Branch) -> str:
    """One instruction, or the first line of a loop or branch."""
    if isinstance(item, Loop):
        carried = [f"{name(c)} = {name(i)}" for c, i in zip(item.carry, item.init, strict=False)]
        more = f" carrying {', '.join(carried)}" if carried else ""
        bounds = ", ".join(map(name, (item.lo, item.hi, item.step)))
        return f"for {name(item.index)} in range({bounds}){more}:"
    if isinstance(item, Branch):
        return f"if {name(item.condition)}:"
    return _instruction(item)


def _instruction(v: Value) -> str:
    args = [name(a) for a in v.args]
    if v.op == "load":
        return f"{name(v)} = load {kind_in_memory(v, v.attr)} {_place(args)}{_mask(args[2:])}"
    if v.op == "store":
        dtype, is_streamed = v.attr
        how = "stream" if is_streamed else "store"
        return f"{how} {kind_in_memory(v, dtype)} {_place(args)}, {args[2]}{_mask(args[3:])}"
    if v.op == "call":
        return f"call {v.attr}({', '.join(args)})"
    if v.op == "prefetch":
        return f"prefetch {args[0]}" + (" to write" if v.attr[0] else "")
    if v.op == "convert":
        return f"{name(v)} = convert {kind(v)} {args[0]} from {v.args[0].dtype}"
    if v.attr is not None:
        args.append(str(v.attr))
    shown = "" if v.dtype == "ptr" else f" {kind(v)}"
    return f"{name(v)} = {v.op}{shown} {', '.join(args)}".rstrip()


def kind_in_memory(v: Value, dtype: str) -> str:
    return dtype if v.width == 1 else f"{dtype}x{v.width}"


def _place(args: Sequence[str]) -> str:
    return f"{args[0]}[{args[1]}]"


def _mask(mask: Sequence[str]) -> str:
    return f" where {mask[0]}" if mask else ""
