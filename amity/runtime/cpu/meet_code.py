"""Code for calls of threads that do not record while another one does: memory that its notes know may
wait to be filled, or be read before it is written; Python sees to that.
"""

from __future__ import annotations

from .abi import MARK, cell
from .flow import call_python, each, read_at, read_word

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

MEET = f"""
; let memory that another thread's notes know be as they want it, before a call takes it; false with an
; error set if that fails
define internal i1 @meet_notes(ptr %self, ptr %args, i64 %nargs) nounwind noinline cold {{
entry:
  {each("i", "%nargs", MARKED)}
  ret i1 true
known:
  %meet = load ptr, ptr {cell("meet")}
  {call_python("done", "meet", "self")}
  %failed = icmp eq ptr %done, null
  br i1 %failed, label %bad, label %good
bad:
  ret i1 false
good:
  call void @Py_DecRef(ptr %done)
  ret i1 true
}}
"""
