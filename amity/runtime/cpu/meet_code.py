"""Code for calls of threads that do not record while another one does: memory that its notes know may
wait to be filled, or be read before it is written; Python sees to that.
"""

from __future__ import annotations

from .abi import MARK, cell
from .flow import each, read_at, read_word, word

MARKED = f"""
  {read_word("a", "args", "%i", "ptr")}
  %is = call i1 @is_tensor(ptr %a)
  br i1 %is, label %ask, label %i.next
ask:
  %s = call ptr @storage_of(ptr %a)
  %r = call ptr @root_of(ptr %s)
  {read_at("mark", "r", MARK, "i32")}
  %isknown = icmp ne i32 %mark, 0
  br i1 %isknown, label %known, label %i.next
"""

PASS_ON = f"""
  {read_word("argument", "args", "%j", "ptr")}
  %at = add i64 %j, 1
  {word("to", "stack", "%at")}
  store ptr %argument, ptr %to
"""

MEET = f"""
; let memory that another thread's notes know be as they want it, before a call takes it; false with an
; error set if that fails
define internal i1 @meet_notes(ptr %self, ptr %args, i64 %nargs) nounwind noinline cold {{
entry:
  {each("i", "%nargs", MARKED)}
  ret i1 true
known:
  %count = add i64 %nargs, 1
  %stack = alloca ptr, i64 %count
  store ptr %self, ptr %stack
  {each("j", "%nargs", PASS_ON)}
  %meet = load ptr, ptr {cell("meet")}
  %done = call ptr @PyObject_Vectorcall(ptr %meet, ptr %stack, i64 %count, ptr null)
  %failed = icmp eq ptr %done, null
  br i1 %failed, label %bad, label %good
bad:
  ret i1 false
good:
  call void @Py_DecRef(ptr %done)
  ret i1 true
}}
"""
