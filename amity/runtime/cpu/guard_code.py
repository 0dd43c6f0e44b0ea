"""Code that asks whether words of memory are what they were: guards of calls that skip Python."""

from __future__ import annotations

from .abi import PAYLOAD, at, cell

GUARD = f"""
; differs() -> None, or the number of the first of the words that self lists, as address and value,
; that has another value; asked in order, so that one word can vouch for the memory of the next ones
define ptr @amity_differs(ptr %self, ptr %ignored) nounwind {{
entry:
  {at("listp", "self", PAYLOAD)}
  {at("countp", "self", PAYLOAD + 8)}
  %list = load ptr, ptr %listp
  %count = load i64, ptr %countp
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %same ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %look, label %done
look:
  %pair = getelementptr [2 x i64], ptr %list, i64 %i
  %second = getelementptr i64, ptr %pair, i64 1
  %where = load ptr, ptr %pair
  %expected = load i64, ptr %second
  %found = load i64, ptr %where
  %is = icmp eq i64 %found, %expected
  %i1 = add i64 %i, 1
  br i1 %is, label %same, label %differs
same:
  br label %loop
done:
  %yes = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %yes)
  ret ptr %yes
differs:
  %number = call ptr @PyLong_FromLongLong(i64 %i)
  ret ptr %number
}}
"""
