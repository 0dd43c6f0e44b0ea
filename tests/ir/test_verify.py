"""Broken kernels are refused, each for its own reason; sound ones pass."""

from __future__ import annotations

import pytest

from amity.ir.kernel import Builder, Kernel, Value, instructions
from amity.ir.target import Target
from amity.ir.verify import RULES, InvalidKernel, verify

TARGET = Target("test", "none", "none", "", 32, 16, frozenset({"fma", "round"}))


def no_math(b, name, args):
    raise AssertionError(f"asked for {name}")


def kernel(write) -> Kernel:
    b = Builder("k", TARGET, no_math)
    with b.entry():
        write(b)
    return b.kernel


def load(b: Builder, width: int = 8, dtype: str = "f32") -> Value:
    return b.load(b.pointer(0), 0, dtype, width)


def everything(b: Builder) -> None:
    """One of each instruction."""
    x, y, n = load(b), load(b), load(b, 8, "i32")
    u = load(b, 8, "u32")
    mask = b.splat(b.lo, 8) + b.iota(8) < b.splat(b.hi, 8)
    b.store(b.pointer(1), 0, b.fma(x, y, 2.0), "f32", mask)
    b.store(b.pointer(1), b.iota(8), b.select(x < y, x, y), "bf16")
    b.store(b.pointer(1), 0, b.dot2(n, n, x), "f32", stream=True)
    b.store(b.pointer(1), 0, b.mulhi(u, u), "u32")
    b.store(b.pointer(1), 0, b.unary("floor", b.unary("sqrt", b.unary("abs", -x))), "f32")
    b.store(b.pointer(1), 0, b.round_to(b.convert(n, "f32"), "f16"), "f32")
    b.store(b.offset(b.pointer(1), b.lo), 0, b.bitcast(x, "i64"), "i64")
    b.store(
        b.pointer(1), b.lo, b.reduce("max", x % 3 if x.dtype == "i32" else x), "f32", b.lo < b.hi
    )
    b.store(b.pointer(1), 0, (~n % 5 << 2 >> 1) ^ n & n | n, "i32")
    b.store(b.pointer(1), 0, b.shuffle(x, y, [15, 0]), "f32")
    b.prefetch(b.pointer(1))
    with b.loop(b.lo, b.hi, 2, [x, b.lo]) as loop:
        with b.branch(b.lo < loop.index):
            b.store(b.pointer(1), 0, loop.carry[0], "f32")
        loop.next(loop.carry[0] * 2.0, loop.carry[1] + 1)
    b.store(b.pointer(1), 0, loop.results[0] / x - y, "f32")


def test_a_sound_kernel_passes():
    k = kernel(everything)
    verify(k)
    used = {v.op for f in k.functions for v in instructions(f.body)}
    assert used >= set(RULES) - {
        "ceil",
        "trunc",
        "round",
        "eq",
        "ne",
        "le",
        "gt",
        "ge",
        "min",
        "call",
    }


def test_functions_call_each_other():
    b = Builder("k", TARGET, no_math)
    with b.function("inner", [("p", "ptr"), ("n", "i64")]) as (p, n):
        b.store(p, n, b.const(1.0, "f32"), "f32")
    with b.entry():
        b.call("inner", b.pointer(0), 3)
    verify(b.kernel)


def raw(b: Builder, op: str, dtype: str, width: int, *args: Value, attr=None) -> Value:
    """An instruction that the builder would not write."""
    return b._emit(op, dtype, width, args, attr)


def out_of_loop(b):
    with b.loop(b.lo, b.hi) as loop:
        x = loop.index + 1
    b.store(b.pointer(0), x, b.const(1.0, "f32"), "f32")


def out_of_branch(b):
    with b.branch(b.lo < b.hi):
        x = b.lo + 1
    b.store(b.pointer(0), x, b.const(1.0, "f32"), "f32")


def index_after_loop(b):
    with b.loop(b.lo, b.hi) as loop:
        pass
    b.store(b.pointer(0), loop.index, b.const(1.0, "f32"), "f32")


def carries_another_type(b):
    with b.loop(b.lo, b.hi, 1, [b.lo]) as loop:
        loop.next(b.const(1.0, "f64"))


def carries_too_few(b):
    with b.loop(b.lo, b.hi, 1, [b.lo, b.hi]) as loop:
        loop.next(b.lo)


def next_from_a_branch(b):
    with b.loop(b.lo, b.hi, 1, [b.lo]) as loop:
        with b.branch(b.lo < b.hi):
            x = loop.index + 1
        loop.next(x)


def used_before(b):
    v = b._value("add", "i64", 1, (b.lo, b.hi))
    b.store(b.pointer(0), v, b.const(1.0, "f32"), "f32")
    b._block.append(v)


def calls_a_stranger(b):
    b.call("nobody")


def float_bounds(b):
    with b.loop(b.const(0.0, "f64"), b.hi):
        pass


def vector_condition(b):
    with b.branch(load(b) < load(b)):
        pass


BROKEN = {
    "a value of a loop after it": (out_of_loop, "not defined there"),
    "a value of a branch after it": (out_of_branch, "not defined there"),
    "a loop's index after it": (index_after_loop, "not defined there"),
    "a value before it is made": (used_before, "not defined there"),
    "a next value of a branch": (next_from_a_branch, "the body does not define"),
    "a carried value of another type": (carries_another_type, "got next values"),
    "too few carried values": (carries_too_few, "got next values"),
    "float loop bounds": (float_bounds, "a bound that is no i64"),
    "a vector as a condition": (vector_condition, "expected a bool scalar"),
    "a call of nothing": (calls_a_stranger, "expected a function of this kernel"),
    "an unknown op": (lambda b: raw(b, "warp", "f32", 1), "unknown"),
    "halves in registers": (lambda b: raw(b, "splat", "f16", 8, b.const(0, "f16")), "registers"),
    "operands of two dtypes": (lambda b: raw(b, "add", "f32", 8, load(b), load(b, 8, "i32")), "expected f32x8"),
    "operands of two widths": (lambda b: raw(b, "add", "f32", 8, load(b), load(b, 4)), "expected f32x8"),
    "one operand too many": (lambda b: raw(b, "neg", "f32", 8, load(b), load(b)), "got 2 operands"),
    "a float remainder": (lambda b: load(b) % 2.0, "expected integers"),
    "bits of a float": (lambda b: load(b) & load(b), "expected integers or bool"),
    "a rounded integer": (lambda b: b.unary("floor", load(b, 8, "i32")), "expected f32 or f64"),
    "a product of bools": (lambda b: (load(b) < 1.0) * (load(b) < 1.0), "expected numbers"),
    "mulhi of i32": (lambda b: b.mulhi(load(b, 8, "i32"), load(b, 8, "i32")), "expected u32"),
    "dot2 of floats": (lambda b: b.dot2(load(b), load(b), load(b)), "expected i32x8"),
    "a comparison that gives a float": (lambda b: raw(b, "lt", "f32", 8, load(b), load(b)), "a bool"),
    "a select by floats": (lambda b: b.select(load(b), load(b), load(b)), "expected boolx8"),
    "a conversion to the same": (lambda b: raw(b, "convert", "f32", 8, load(b)), "another dtype"),
    "a conversion that widens": (lambda b: raw(b, "convert", "f64", 4, load(b)), "as many elements"),
    "a bitcast of other size": (lambda b: raw(b, "bitcast", "i64", 8, load(b)), "as many bits"),
    "a splat of a vector": (lambda b: raw(b, "splat", "f32", 16, load(b)), "expected a f32 scalar"),
    "a float iota": (lambda b: b.iota(8, "f32"), "integer vector"),
    "lanes that are not there": (lambda b: b.shuffle(load(b), load(b), [0, 16]), "lanes below 16"),
    "an extracted lane too far": (lambda b: raw(b, "extract", "f32", 1, load(b), attr=8), "one of its lanes"),
    "round_to of f64": (lambda b: raw(b, "round_to", "f64", 8, load(b, 8, "f64"), attr="f16"), "expected f32"),
    "a load as another dtype": (lambda b: raw(b, "load", "f64", 1, b.buffers, b.lo, attr="f32"), "expected f32"),
    "a load by a float": (lambda b: b.load(b.pointer(0), b.const(1.0, "f32"), "f32"), "expected one integer"),
    "a load from a number": (lambda b: b.load(b.lo, b.lo, "f32"), "expected a ptr scalar"),
    "a mask of another width": (lambda b: b.load(b.pointer(0), 0, "f32", 8, b.lo < b.hi), "expected boolx8"),
    "a store of another dtype": (lambda b: b.store(b.pointer(0), 0, b.lo, "f32"), "expected f32x1"),
    "an offset by a float": (lambda b: b.offset(b.pointer(0), b.const(1.0, "f64")), "a pointer and an i64"),
    "a prefetch of a number": (lambda b: b.prefetch(b.lo), "expected a pointer"),
    "a buffer before the first": (lambda b: b.pointer(-1), "a place among the buffers"),
    "a constant too large": (lambda b: load(b, 8, "u8") + b.const(256, "u8", 8), "fits u8"),
    "a broken constant": (lambda b: b.lo + b.const(1.5, "i64"), "fits i64"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_kernel_is_refused(name):
    write, says = BROKEN[name]
    with pytest.raises(InvalidKernel, match=says) as e:
        verify(kernel(write))
    assert str(e.value).startswith("k: ")


def test_arguments_of_a_call():
    b = Builder("k", TARGET, no_math)
    with b.function("inner", [("p", "ptr"), ("n", "i64")]):
        pass
    with b.entry():
        b.call("inner", b.lo, 3)
    with pytest.raises(InvalidKernel, match="got arguments"):
        verify(b.kernel)


def test_a_kernel_without_an_entry():
    with pytest.raises(InvalidKernel, match="expected one"):
        verify(Kernel("k"))


def test_all_problems_are_told_but_not_too_many():
    def write(b):
        for _ in range(30):
            load(b) & load(b)

    with pytest.raises(InvalidKernel, match="30 problems") as e:
        verify(kernel(write))
    assert len(str(e.value).splitlines()) == 9
