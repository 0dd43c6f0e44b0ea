"""Code that makes, keeps and frees Storages, and Tensors on them.

`$storage`, `$layout`, `$tape` and `$base` are byte offsets in a Tensor.
"""

from __future__ import annotations

from .abi import (
    BLOCK_SIZE,
    DATA,
    FILLED_HEAP,
    HEADER,
    HEAP,
    LOOSE,
    MARK,
    NBYTES,
    OWNER,
    PAYLOAD,
    POOL,
    ROOT,
    SOURCE,
    SYSTEM,
    VERSION,
    cell,
    text,
)
from .blocks import ALIGNMENT, HUGE, HUGE_PAGE, NOT_A_TENSOR, OUT_OF_MEMORY
from .flow import at
from .heap_code import SPAN_HEADER

ALLOCATOR = f"""
{text("oom_text", OUT_OF_MEMORY)}
{text("type_text", NOT_A_TENSOR)}
; a Storage with one reference from a pool, which a heap fills, or null with an error set
define internal ptr @take(ptr %pool, i64 %heap) nounwind {{
entry:
  %head = load ptr, ptr %pool
  %empty = icmp eq ptr %head, null
  br i1 %empty, label %fresh, label %reuse
fresh:
  {at("sizep", "pool", BLOCK_SIZE)}
  {at("sourcep", "pool", SOURCE)}
  %size = load i64, ptr %sizep
  %total = add i64 %size, {HEADER}
  %source = load i64, ptr %sourcep
  %iscut = icmp ne i64 %source, {SYSTEM}
  br i1 %iscut, label %cut, label %own
cut:
  %need = add i64 %total, {SPAN_HEADER}
  %states = load ptr, ptr {cell("state")}
  {at("state", "states", "%heap")}
  %span = call ptr @heap_take(ptr %state, i64 %need)
  %nospan = icmp eq ptr %span, null
  {at("inner", "span", SPAN_HEADER)}
  br i1 %nospan, label %oom, label %init
own:
  %cellp = alloca ptr
  %huge = icmp uge i64 %total, {HUGE}
  %align = select i1 %huge, i64 {HUGE_PAGE}, i64 {ALIGNMENT}
  %bad = call i32 @posix_memalign(ptr %cellp, i64 %align, i64 %total)
  %failed = icmp ne i32 %bad, 0
  br i1 %failed, label %oom, label %got
oom:
  %exc = load ptr, ptr {cell("memory_error")}
  call void @PyErr_SetString(ptr %exc, ptr @oom_text)
  ret ptr null
got:
  %made = load ptr, ptr %cellp
  br i1 %huge, label %advise, label %init
advise:
  call void @in_huge_pages(ptr %made, i64 %total)
  br label %init
init:
  %block = phi ptr [ %inner, %cut ], [ %made, %got ], [ %made, %advise ]
  {at("typep", "block", 8)}
  {at("datap", "block", DATA)}
  {at("poolp", "block", POOL)}
  {at("nbytesp", "block", NBYTES)}
  {at("data", "block", HEADER)}
  %type = load ptr, ptr {cell("storage_type")}
  store ptr %type, ptr %typep
  store ptr %data, ptr %datap
  store ptr %pool, ptr %poolp
  store i64 %size, ptr %nbytesp
  br label %ready
reuse:
  {at("linkp", "head", ROOT)}
  %next = load ptr, ptr %linkp
  store ptr %next, ptr %pool
  br label %ready
ready:
  %o = phi ptr [ %block, %init ], [ %head, %reuse ]
  store i64 1, ptr %o
  {at("rootp", "o", ROOT)}
  {at("verp", "o", VERSION)}
  {at("ownp", "o", OWNER)}
  store ptr null, ptr %rootp
  store i64 0, ptr %verp ; and no mark
  store ptr null, ptr %ownp
  ret ptr %o
}}
; tp_dealloc: let go of what the storage leans on, then keep the block for the next one
define void @amity_dealloc(ptr %o) nounwind {{
entry:
  {at("markp", "o", MARK)}
  %mark = load i32, ptr %markp
  %ismarked = icmp ne i32 %mark, 0
  br i1 %ismarked, label %lost, label %first
lost:
  call void @lose_root(i32 %mark)
  br label %first
first:
  {at("rootp", "o", ROOT)}
  {at("ownp", "o", OWNER)}
  {at("poolp", "o", POOL)}
  %root = load ptr, ptr %rootp
  %hasroot = icmp ne ptr %root, null
  br i1 %hasroot, label %droproot, label %second
droproot:
  call void @Py_DecRef(ptr %root)
  br label %second
second:
  %owner = load ptr, ptr %ownp
  %hasowner = icmp ne ptr %owner, null
  br i1 %hasowner, label %dropowner, label %keep
dropowner:
  call void @Py_DecRef(ptr %owner)
  br label %keep
keep:
  %pool = load ptr, ptr %poolp
  {at("sourcep", "pool", SOURCE)}
  %source = load i64, ptr %sourcep
  %isspan = icmp eq i64 %source, {HEAP}
  br i1 %isspan, label %cut, label %push
cut:
  {at("span", "o", -SPAN_HEADER)}
  call void @heap_give(ptr %span)
  ret void
push:
  %head = load ptr, ptr %pool
  store ptr %head, ptr %rootp
  store ptr %o, ptr %pool
  ret void
}}
; free every block that a pool keeps
define void @amity_trim(ptr %pool) nounwind {{
entry:
  br label %look
look:
  %head = load ptr, ptr %pool
  %done = icmp eq ptr %head, null
  br i1 %done, label %out, label %drop
drop:
  {at("linkp", "head", ROOT)}
  %next = load ptr, ptr %linkp
  store ptr %next, ptr %pool
  call void @free(ptr %head)
  br label %look
out:
  ret void
}}
"""

TENSORS = f"""
; a Tensor that takes over the reference to %storage
define internal ptr @tensor(ptr %storage, ptr %layout) nounwind {{
entry:
  %type = load ptr, ptr {cell("tensor_type")}
  %t = call ptr @PyType_GenericAlloc(ptr %type, i64 0)
  %none = load ptr, ptr {cell("none")}
  {at("sp", "t", "$storage")}
  {at("lp", "t", "$layout")}
  {at("tp", "t", "$tape")}
  {at("bp", "t", "$base")}
  store ptr %storage, ptr %sp
  store ptr %layout, ptr %lp
  store ptr %none, ptr %tp
  store ptr %none, ptr %bp
  call void @Py_IncRef(ptr %layout)
  call void @Py_IncRef(ptr %none)
  call void @Py_IncRef(ptr %none)
  ret ptr %t
}}
define internal i1 @is_tensor(ptr %o) nounwind {{
entry:
  {at("typep", "o", 8)}
  %type = load ptr, ptr %typep
  %tensor = load ptr, ptr {cell("tensor_type")}
  %same = icmp eq ptr %type, %tensor
  br i1 %same, label %yes, label %ask
yes:
  ret i1 true
ask:
  %sub = call i32 @PyType_IsSubtype(ptr %type, ptr %tensor)
  %is = icmp ne i32 %sub, 0
  ret i1 %is
}}
define internal ptr @storage_of(ptr %tensor) nounwind {{
  {at("sp", "tensor", "$storage")}
  %s = load ptr, ptr %sp
  ret ptr %s
}}
; the storage that memory and version belong to
define internal ptr @root_of(ptr %s) nounwind {{
  {at("rp", "s", ROOT)}
  %r = load ptr, ptr %rp
  %own = icmp eq ptr %r, null
  %out = select i1 %own, ptr %s, ptr %r
  ret ptr %out
}}
; count a write; a root whose version misses it is marked
define internal void @count_write(ptr %s) nounwind {{
entry:
  %c = call ptr @counter_of(ptr %s)
  %r = call ptr @root_of(ptr %s)
  {at("vp", "c", VERSION)}
  %v = load i32, ptr %vp
  %v1 = add i32 %v, 1
  store i32 %v1, ptr %vp
  %usual = icmp eq ptr %c, %r
  br i1 %usual, label %out, label %miss
miss:
  {at("rvp", "r", VERSION)}
  %rv = load i32, ptr %rvp
  %loose = or i32 %rv, {LOOSE}
  store i32 %loose, ptr %rvp
  br label %out
out:
  ret void
}}
; the storage that counts the writes: the root, or what a part of it names as its own
define internal ptr @counter_of(ptr %s) nounwind {{
  {at("rp", "s", ROOT)}
  {at("op", "s", OWNER)}
  %r = load ptr, ptr %rp
  %o = load ptr, ptr %op
  %own = icmp eq ptr %r, null
  %usual = icmp eq ptr %o, null
  %out1 = select i1 %usual, ptr %r, ptr %o
  %out = select i1 %own, ptr %s, ptr %out1
  ret ptr %out
}}
"""

BUILTINS = f"""
; a Storage of a part of another: header from an empty pool, memory of the root
define internal ptr @amity_alias_of(ptr %s, i64 %offset, ptr %pool) nounwind {{
entry:
  %o = call ptr @take(ptr %pool, i64 {FILLED_HEAP})
  %bad = icmp eq ptr %o, null
  br i1 %bad, label %out, label %ok
ok:
  {at("dp", "s", DATA)}
  %d = load ptr, ptr %dp
  %d1 = getelementptr i8, ptr %d, i64 %offset
  {at("odp", "o", DATA)}
  store ptr %d1, ptr %odp
  %r = call ptr @root_of(ptr %s)
  call void @Py_IncRef(ptr %r)
  {at("orp", "o", ROOT)}
  store ptr %r, ptr %orp
  {at("nbp", "s", NBYTES)}
  %nb = load i64, ptr %nbp
  %left = sub i64 %nb, %offset
  {at("onbp", "o", NBYTES)}
  store i64 %left, ptr %onbp
  %c = call ptr @counter_of(ptr %s)
  %usual = icmp eq ptr %c, %r
  br i1 %usual, label %out, label %counted
counted:
  call void @Py_IncRef(ptr %c)
  {at("oop", "o", OWNER)}
  store ptr %c, ptr %oop
  br label %out
out:
  ret ptr %o
}}
; allocate() -> Storage; self holds a pool
define ptr @amity_allocate(ptr %self, ptr %ignored) nounwind {{
  {at("pp", "self", PAYLOAD)}
  %pool = load ptr, ptr %pp
  %o = call ptr @take(ptr %pool, i64 {FILLED_HEAP})
  ret ptr %o
}}
; alias(storage, bytes) -> Storage; self holds the empty pool
define ptr @amity_alias(ptr %self, ptr %args, i64 %n) nounwind {{
  {at("pp", "self", PAYLOAD)}
  %pool = load ptr, ptr %pp
  %s = load ptr, ptr %args
  %op = getelementptr ptr, ptr %args, i64 1
  %offset = load ptr, ptr %op
  %bytes = call i64 @PyLong_AsLongLong(ptr %offset)
  %o = call ptr @amity_alias_of(ptr %s, i64 %bytes, ptr %pool)
  ret ptr %o
}}
; apart(storage) -> Storage of the same memory, writes through which are counted apart; self holds the
; empty pool
define ptr @amity_apart(ptr %self, ptr %s) nounwind {{
entry:
  {at("pp", "self", PAYLOAD)}
  %pool = load ptr, ptr %pp
  %c = call ptr @take(ptr %pool, i64 {FILLED_HEAP})
  %bad = icmp eq ptr %c, null
  br i1 %bad, label %out, label %alias
alias:
  %o = call ptr @amity_alias_of(ptr %s, i64 0, ptr %pool)
  %worse = icmp eq ptr %o, null
  br i1 %worse, label %undo, label %ok
undo:
  call void @Py_DecRef(ptr %c)
  br label %out
ok:
  {at("oop", "o", OWNER)}
  %before = load ptr, ptr %oop
  store ptr %c, ptr %oop
  %had = icmp ne ptr %before, null
  br i1 %had, label %drop, label %out
drop:
  call void @Py_DecRef(ptr %before)
  br label %out
out:
  %made = phi ptr [ null, %entry ], [ null, %undo ], [ %o, %ok ], [ %o, %drop ]
  ret ptr %made
}}
; external(address, owner, nbytes) -> Storage of memory that `owner` keeps alive
define ptr @amity_external(ptr %self, ptr %args, i64 %n) nounwind {{
entry:
  {at("pp", "self", PAYLOAD)}
  %pool = load ptr, ptr %pp
  %ap = load ptr, ptr %args
  %address = call i64 @PyLong_AsLongLong(ptr %ap)
  %owp = getelementptr ptr, ptr %args, i64 1
  %owner = load ptr, ptr %owp
  %nbp = getelementptr ptr, ptr %args, i64 2
  %nbo = load ptr, ptr %nbp
  %nb = call i64 @PyLong_AsLongLong(ptr %nbo)
  %o = call ptr @take(ptr %pool, i64 {FILLED_HEAP})
  %bad = icmp eq ptr %o, null
  br i1 %bad, label %out, label %ok
ok:
  %d = inttoptr i64 %address to ptr
  {at("odp", "o", DATA)}
  store ptr %d, ptr %odp
  {at("onp", "o", NBYTES)}
  store i64 %nb, ptr %onp
  call void @Py_IncRef(ptr %owner)
  {at("oop", "o", OWNER)}
  store ptr %owner, ptr %oop
  br label %out
out:
  ret ptr %o
}}
; make(storage, layout) -> Tensor
define ptr @amity_make(ptr %self, ptr %args, i64 %n) nounwind {{
  %s = load ptr, ptr %args
  %lp = getelementptr ptr, ptr %args, i64 1
  %l = load ptr, ptr %lp
  call void @Py_IncRef(ptr %s)
  %t = call ptr @tensor(ptr %s, ptr %l)
  ret ptr %t
}}
define ptr @amity_get_version(ptr %s, ptr %ignored) nounwind {{
  %r = call ptr @counter_of(ptr %s)
  {at("vp", "r", VERSION)}
  %v = load i32, ptr %vp
  %strict = and i32 %v, {LOOSE - 1}
  %wide = zext i32 %strict to i64
  %o = call ptr @PyLong_FromLongLong(i64 %wide)
  ret ptr %o
}}
define ptr @amity_get_root(ptr %s, ptr %ignored) nounwind {{
  %r = call ptr @root_of(ptr %s)
  call void @Py_IncRef(ptr %r)
  ret ptr %r
}}
define ptr @amity_get_counter(ptr %s, ptr %ignored) nounwind {{
  %c = call ptr @counter_of(ptr %s)
  call void @Py_IncRef(ptr %c)
  ret ptr %c
}}
define ptr @amity_bump(ptr %self, ptr %s) nounwind {{
  call void @count_write(ptr %s)
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
"""
