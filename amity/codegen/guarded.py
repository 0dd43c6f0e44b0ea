"""Kernels whose loads and stores ask first whether the memory is theirs: `AMITY_CHECK=bounds`.

Before each access the kernel looks for its address among the ranges of memory that the launch may
touch. One that lies outside is told of once, and goes to memory that nobody reads.
"""

from __future__ import annotations

from amity.ir.guard import (
    ADDRESS,
    ASTRAY,
    ASTRAY_BYTES,
    BYTES,
    COUNT,
    RANGES,
    TABLE,
    TABLE_WORDS,
    WHICH,
)
from amity.ir.kernel import BITS, Value

from .printer import Printer
from .words import type_of


def _word(name: str, at: int) -> str:
    return f"%{name} = getelementptr i64, ptr @{TABLE}, i64 {at}"


INSIDE = f"""
@{TABLE} = external global [{TABLE_WORDS} x i64]
@{ASTRAY} = external global [{ASTRAY_BYTES} x i8]
; whether so many bytes lie in one range
define internal i1 @inside(ptr %p, i64 %bytes, i64 %which) nounwind {{
entry:
  %first = ptrtoint ptr %p to i64
  %end = add i64 %first, %bytes
  {_word("np", COUNT)}
  %n = load i64, ptr %np
  {_word("rp", RANGES)}
  %ranges = load ptr, ptr %rp
  %idle = icmp eq i64 %bytes, 0
  br i1 %idle, label %good, label %search
search:
  %lo = phi i64 [ 0, %entry ], [ %lo1, %look ]
  %hi = phi i64 [ %n, %entry ], [ %hi1, %look ]
  %open = icmp ult i64 %lo, %hi
  br i1 %open, label %look, label %found
look:
  %sum = add i64 %lo, %hi
  %mid = lshr i64 %sum, 1
  %sp = getelementptr [2 x i64], ptr %ranges, i64 %mid
  %s = load i64, ptr %sp
  %above = icmp ule i64 %s, %first
  %mid1 = add i64 %mid, 1
  %lo1 = select i1 %above, i64 %mid1, i64 %lo
  %hi1 = select i1 %above, i64 %hi, i64 %mid
  br label %search
found:
  %none = icmp eq i64 %lo, 0
  br i1 %none, label %bad, label %test
test:
  %i = sub i64 %lo, 1
  %ep = getelementptr [2 x i64], ptr %ranges, i64 %i, i64 1
  %e = load i64, ptr %ep
  %fits = icmp ule i64 %end, %e
  br i1 %fits, label %good, label %bad
bad:
  {_word("wp", WHICH)}
  %before = load i64, ptr %wp
  %is_first = icmp eq i64 %before, 0
  br i1 %is_first, label %tell, label %no
tell:
  {_word("ap", ADDRESS)}
  {_word("bp", BYTES)}
  store i64 %which, ptr %wp
  store i64 %first, ptr %ap
  store i64 %bytes, ptr %bp
  br label %no
good:
  ret i1 true
no:
  ret i1 false
}}
"""


class GuardedPrinter(Printer):
    """Prints a kernel with a question before each access."""

    def text(self) -> str:
        return INSIDE + super().text()

    def place(self, v: Value, dtype: str) -> str:
        pointer, index = v.args[:2]
        mask = v.args[2 if v.op == "load" else 3 :]
        p, size = super().place(v, dtype), max(BITS.get(dtype, 64) // 8, 1)
        if index.width > 1:
            return self._lanes(v, p, size, mask)
        if mask and v.width > 1:
            t = type_of(dtype, 1, True)
            fits = "true"
            for i in range(v.width):
                q = self.temp(f"getelementptr {t}, ptr {p}, i64 {i}")
                lane = self.temp(f"extractelement {self.typed(mask[0])}, i32 {i}")
                fits = self.temp(f"and i1 {fits}, {self._asked(v, q, size, lane)}")
        else:
            active = self.ref(mask[0]) if mask else "true"
            fits = self._asked(v, p, size * v.width, active)
        return self.temp(f"select i1 {fits}, ptr {p}, ptr @{ASTRAY}")

    def _lanes(self, v: Value, p: str, size: int, mask: tuple[Value, ...]) -> str:
        """Pointers of a vector, each asked about alone."""
        t = f"<{v.width} x ptr>"
        for i in range(v.width):
            q = self.temp(f"extractelement {t} {p}, i32 {i}")
            lane = self.temp(f"extractelement {self.typed(mask[0])}, i32 {i}") if mask else "true"
            fits = self._asked(v, q, size, lane)
            safe = self.temp(f"select i1 {fits}, ptr {q}, ptr @{ASTRAY}")
            p = self.temp(f"insertelement {t} {p}, ptr {safe}, i32 {i}")
        return p

    def _asked(self, v: Value, p: str, size: int, active: str) -> str:
        """Whether so many bytes are there, if the access is made at all."""
        count = (
            str(size) if active == "true" else self.temp(f"select i1 {active}, i64 {size}, i64 0")
        )
        return self.temp(f"call i1 @inside(ptr {p}, i64 {count}, i64 {v.id + 1})")
