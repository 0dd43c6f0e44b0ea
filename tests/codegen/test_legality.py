"""What LLVM would abort on is refused before it sees it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from amity.codegen import cpu
from amity.codegen.legality import IllegalKernel
from amity.ir.kernel import Builder
from amity.ir.target import Target
from tests.engine.nests import ROOT
from tests.engine.symbols import undefined

X86 = "x86_64-unknown-linux-gnu"


def target(name: str) -> Target:
    if name in cpu.OTHERS:
        return cpu.OTHERS[name]
    processor, width, registers, has = cpu.CAPS[name]
    return Target(name, X86, processor, "", width, registers, has)


AVX512 = Target(
    "avx512", X86, "cooperlake", "", 64, 32, frozenset({"fma", "f16", "round", "bf16dot"})
)
TARGETS = {n: target(n) for n in ("sse2", "avx2", "arm64", "apple", "wasm32")} | {"avx512": AVX512}


def kernel(write, on: Target):
    b = Builder("k", on, None)
    with b.entry():
        write(b)
    return b.kernel


def load(b, dtype="f32", width=4):
    return b.load(b.pointer(0), 0, dtype, width)


def store(b, v):
    """Results that nobody uses would not be compiled at all."""
    b.store(b.pointer(1), 0, v, v.dtype)


def dot2(width):
    return lambda b: store(
        b, b.dot2(load(b, "i32", width), load(b, "i32", width), load(b, "f32", width))
    )


def rounding(b):
    store(b, b._emit("floor", "f32", 4, (load(b),)))


ILLEGAL = [
    *[(t, dot2(4), "dot2; expected an instruction of a target without 'bf16dot'") for t in TARGETS if t != "avx512"],
    ("avx512", dot2(32), r"dot2 of 32 lanes; expected one of \(4, 8, 16\)"),
    ("avx512", dot2(2), r"dot2 of 2 lanes; expected one of \(4, 8, 16\)"),
    ("sse2", rounding, "floor; expected an instruction of a target without 'round'"),
    ("wasm32", lambda b: b._emit("convert", "bf16", 4, (load(b),)), "a value of dtype bf16; expected f32"),
    ("sse2", lambda b: b._emit("convert", "f16", 4, (load(b),)), "a value of dtype f16; expected f32"),
    ("arm64", lambda b: load(b) % 2.0, "rem of f32; expected the function fmod"),
    ("avx2", lambda b: load(b, "f32", 128) + 1.0, "load of 128 lanes; expected at most 64"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "says"), ILLEGAL)
def test_illegal(name, write, says):
    on = TARGETS[name]
    with pytest.raises(IllegalKernel, match=says):
        cpu.compile_kernel(kernel(write, on), on)


LEGAL = [
    ("avx512", dot2(4)), ("avx512", dot2(16)), ("avx2", rounding), ("wasm32", rounding), ("arm64", rounding),
    ("apple", rounding),
]  # fmt: skip
HALVES = [(t, d) for t in TARGETS for d in ("f16", "bf16")]


@pytest.mark.parametrize(("name", "write"), LEGAL)
def test_legal(name, write):
    on = TARGETS[name]
    assert undefined(cpu.compile_kernel(kernel(write, on), on)) == []


@pytest.mark.parametrize(("name", "dtype"), HALVES)
@pytest.mark.parametrize("width", [1, 4, 64])
def test_halves_in_memory_are_legal_everywhere(name, dtype, width):
    """Loads and stores convert, by bit code where the target has no instruction."""

    def write(b):
        x = load(b, dtype, width)
        b.store(b.pointer(1), 0, b.round_to(x * 2.0, dtype), dtype)

    on = TARGETS[name]
    assert undefined(cpu.compile_kernel(kernel(write, on), on)) == []


ABORTS = """
from tests.codegen.test_legality import *
from amity.codegen import legality
legality.check = lambda kernel, target: None
on = TARGETS["sse2"]
cpu.compile_kernel(kernel(dot2(4), on), on)
"""


def test_llvm_does_abort():
    """Why the table is there: without it the process ends here."""
    done = subprocess.run(
        [sys.executable, "-c", ABORTS], cwd=ROOT, env=os.environ, capture_output=True, text=True
    )
    assert done.returncode < 0
