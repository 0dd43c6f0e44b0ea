"""Code that asks whether words of memory are what they were: guards of calls that skip Python."""

from __future__ import annotations

from .abi import PAYLOAD, cell
from .flow import each, read_at, read_word

COMPARE = f"""
  %pair = getelementptr [2 x i64], ptr %list, i64 %i
  %where = load ptr, ptr %pair
  {read_word("expected", "pair", 1)}
  %found = load i64, ptr %where
  %is = icmp eq i64 %found, %expected
  br i1 %is, label %i.next, label %differs
differs:
  %number = call ptr @PyLong_FromLongLong(i64 %i)
  ret ptr %number
"""

GUARD = f"""
; differs() -> None, or the number of the first of the words that self lists, as address and value,
; that has another value; asked in order, so that one word can vouch for the memory of the next ones
define ptr @amity_differs(ptr %self, ptr %ignored) nounwind {{
entry:
  {read_at("list", "self", PAYLOAD)}
  {read_at("count", "self", PAYLOAD + 8, "i64")}
  {each("i", "%count", COMPARE)}
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
"""
