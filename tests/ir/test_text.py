"""Kernels print as text that names every instruction once."""

from __future__ import annotations

import os
import subprocess
import sys

from amity.ir.kernel import Builder, instructions
from amity.ir.text import text
from tests.ir.test_verify import everything, kernel

SHOWN = """\
k(%1 meta: ptr, %2 buffers: ptr, %3 lo: i64, %4 hi: i64, %5 scratch: ptr):
  for %8 in range(%3, %4, 1) carrying %9 = 0.0:
    %10 = pointer %2, 0
    %11 = add i64 %8, 1
    %12 = load f16x4 %10[%11]
    %13 = extract f32 %12, 3
    %14 = lt bool %9, %13
    if %14:
      stream i64 %10[%8], %8
    %16 = convert i64 %13 from f32
    next %13
  prefetch %5 to write"""


def write(b: Builder) -> None:
    with b.loop(b.lo, b.hi, 1, [b.const(0.0, "f32")]) as loop:
        p = b.pointer(0)
        x = b.extract(b.load(p, loop.index + 1, "f16", 4), 3)
        with b.branch(loop.carry[0] < x):
            b.store(p, loop.index, loop.index, "i64", stream=True)
        b.convert(x, "i64")
        loop.next(x)
    b.prefetch(b.scratch, write=True)


def test_text():
    k = kernel(write)
    numbers = {v.id for f in k.functions for v in instructions(f.body)}
    assert len(numbers) == len([v for f in k.functions for v in instructions(f.body)])
    assert text(k) == SHOWN


def test_every_instruction_has_a_line():
    k = kernel(everything)
    lines = text(k).splitlines()
    for f in k.functions:
        for v in instructions(f.body):
            if v.dtype != "void":
                assert sum(line.strip().startswith(f"%{v.id} = {v.op}") for line in lines) == 1
    assert [line.strip().split()[0] for line in lines].count("for") == 1


def test_functions_stand_first():
    b = Builder("k", None, None)
    with b.function("inner", [("p", "ptr")]):
        pass
    with b.entry():
        b.call("inner", b.scratch)
    lines = text(b.kernel).splitlines()
    assert lines[0] == "k.inner(%1 p: ptr):"
    assert lines[2] == "  call k.inner(%6)"


def test_the_setting_prints_kernels(tmp_path):
    code = "import amity; print((amity.ones(3) * 2).tolist())"
    for _ in range(2):  # the second time the object is on disk
        environment = os.environ | {"AMITY_SHOW": "kernel", "AMITY_CACHE_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True
        )
        assert done.stdout == "[2.0, 2.0, 2.0]\n", done.stderr
        assert "mul f32" in done.stderr and "-- kernel" in done.stderr and "for %" in done.stderr
