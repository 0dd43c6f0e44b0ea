"""Generated glue between CPython and kernels: the Storage type, the allocator, one call per Program.

All of it is LLVM IR text, compiled once and cached like a kernel. Addresses that differ between
processes are symbols bound at load. A Program is described by a *plan*, an array of 64-bit words
(see engine/plan.py for its form); `amity_run` is a METH_FASTCALL function whose `self` is a bytes
object holding the plan's address.
"""

from __future__ import annotations

import ctypes

# Storage: 0 refcount, 8 type, then
DATA, ROOT, VERSION, OWNER, POOL, NBYTES, HEADER = 16, 24, 32, 40, 48, 56, 64
# Pool of blocks of one size: free list, block size, blocks kept free, bytes a block counts for
HEAD, BLOCK_SIZE, KEPT = 0, 8, 16
POOL_WORDS = 4
# State shared by all pools: bytes kept free, their limit
KEPT_BYTES, KEPT_LIMIT = 0, 8
HUGE = 4 << 20  # blocks from this size on lie in huge pages
LARGE = 64 << 10  # blocks from this size on count against the limit of kept bytes
PAYLOAD = bytes.__basicsize__ - 1  # where the data of a bytes object starts

PYTHON = {
    "Py_IncRef": "void (ptr)",
    "Py_DecRef": "void (ptr)",
    "PyErr_SetString": "void (ptr, ptr)",
    "PyErr_Occurred": "ptr ()",
    "PyFloat_AsDouble": "double (ptr)",
    "PyLong_AsLongLong": "i64 (ptr)",
    "PyLong_FromLongLong": "ptr (i64)",
    "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)",
    "PyType_GenericAlloc": "ptr (ptr, i64)",
    "PyType_IsSubtype": "i32 (ptr, ptr)",
    "PyEval_SaveThread": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
}


def python_symbols() -> dict[str, int]:
    """Addresses of the CPython functions that the glue calls."""
    return {n: ctypes.cast(getattr(ctypes.pythonapi, n), ctypes.c_void_p).value for n in PYTHON}


def at(name: str, base: str, offset: int | str) -> str:
    return f"%{name} = getelementptr i8, ptr %{base}, i64 {offset}"


def code(slots: dict[str, int], has_madvise: bool) -> str:
    """The glue's IR. `slots` are the byte offsets of Tensor's storage, layout, tape and base."""
    signatures = []
    for name, signature in PYTHON.items():
        result, params = signature.split(" ", 1)
        signatures.append(f"declare {result} @{name}{params}")
    return "\n".join(
        [*signatures, _GLOBALS, _allocator(has_madvise), _tensors(slots), _runner(), _builtins()]
    )


def text(name: str, words: str) -> str:
    """A C string constant."""
    return f'@{name} = private constant [{len(words) + 1} x i8] c"{words}\\00"'


# Cells that Python fills in: types, exceptions and shared state.
_GLOBALS = """
@amity_cells = external global [8 x ptr]
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)
"""
CELLS = (
    "storage_type",
    "tensor_type",
    "state",
    "pool_context",
    "none",
    "memory_error",
    "type_error",
    "scratch_pool",
)


def cell(name: str) -> str:
    return f"getelementptr ([8 x ptr], ptr @amity_cells, i64 0, i64 {CELLS.index(name)})"


def _allocator(has_madvise: bool) -> str:
    advise = "%adv = call i32 @madvise(ptr %block, i64 %total, i32 14)" if has_madvise else ""
    declare = "declare i32 @madvise(ptr, i64, i32)" if has_madvise else ""
    return f"""
{declare}
{text("oom_text", "out of memory: the allocator got no block of the size that was asked")}
{text("type_text", "kernel call: got an argument that is not a Tensor")}
; a Storage with one reference from a pool, or null with an error set
define internal ptr @take(ptr %pool) nounwind {{
entry:
  %head = load ptr, ptr %pool
  %empty = icmp eq ptr %head, null
  br i1 %empty, label %fresh, label %reuse
fresh:
  {at("sizep", "pool", BLOCK_SIZE)}
  %size = load i64, ptr %sizep
  %total = add i64 %size, {HEADER}
  %cellp = alloca ptr
  %huge = icmp uge i64 %total, {HUGE}
  %align = select i1 %huge, i64 {2 << 20}, i64 64
  %bad = call i32 @posix_memalign(ptr %cellp, i64 %align, i64 %total)
  %failed = icmp ne i32 %bad, 0
  br i1 %failed, label %oom, label %got
oom:
  %exc = load ptr, ptr {cell("memory_error")}
  call void @PyErr_SetString(ptr %exc, ptr @oom_text)
  ret ptr null
got:
  %block = load ptr, ptr %cellp
  br i1 %huge, label %advise, label %init
advise:
  {advise}
  br label %init
init:
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
  {at("size2p", "pool", BLOCK_SIZE)}
  %size2 = load i64, ptr %size2p
  %islarge = icmp uge i64 %size2, {LARGE}
  br i1 %islarge, label %uncount, label %ready
uncount:
  %state = load ptr, ptr {cell("state")}
  %kept = load i64, ptr %state
  %less = sub i64 %kept, %size2
  store i64 %less, ptr %state
  br label %ready
ready:
  %o = phi ptr [ %block, %init ], [ %head, %reuse ], [ %head, %uncount ]
  store i64 1, ptr %o
  {at("rootp", "o", ROOT)}
  {at("verp", "o", VERSION)}
  {at("ownp", "o", OWNER)}
  store ptr null, ptr %rootp
  store i64 0, ptr %verp
  store ptr null, ptr %ownp
  ret ptr %o
}}
; tp_dealloc: let go of what the storage leans on, then keep the block for the next one
define void @amity_dealloc(ptr %o) nounwind {{
entry:
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
  {at("sizep", "pool", BLOCK_SIZE)}
  %size = load i64, ptr %sizep
  %islarge = icmp uge i64 %size, {LARGE}
  br i1 %islarge, label %count, label %push
count:
  %state = load ptr, ptr {cell("state")}
  %kept = load i64, ptr %state
  %more = add i64 %kept, %size
  {at("limitp", "state", KEPT_LIMIT)}
  %limit = load i64, ptr %limitp
  %over = icmp sgt i64 %more, %limit
  br i1 %over, label %release, label %counted
counted:
  store i64 %more, ptr %state
  br label %push
release:
  call void @free(ptr %o)
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


def _tensors(slots: dict[str, int]) -> str:
    return f"""
; a Tensor that takes over the reference to %storage
define internal ptr @tensor(ptr %storage, ptr %layout) nounwind {{
entry:
  %type = load ptr, ptr {cell("tensor_type")}
  %t = call ptr @PyType_GenericAlloc(ptr %type, i64 0)
  %none = load ptr, ptr {cell("none")}
  {at("sp", "t", slots["storage"])}
  {at("lp", "t", slots["layout"])}
  {at("tp", "t", slots["tape"])}
  {at("bp", "t", slots["base"])}
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
  {at("sp", "tensor", slots["storage"])}
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
"""


def _runner() -> str:
    """Plan words: 0 arguments, 1 outputs, 2 steps, 3 arena pool, 4 flags (1 release the GIL, 2 scratch),
    5 result (0 None, 1 tensor, 2 tuple, 3 first argument), 6 bumped arguments, 7 most buffers of a
    step; then argument kinds, outputs (pool, layout, alias slot + 1, offset), bumped arguments, steps
    (kernel, meta, grid, grain, buffers, then slot and offset of each)."""
    return f"""
define internal ptr @fail(ptr %cellp, ptr %text) noinline cold {{
  %exc = load ptr, ptr %cellp
  call void @PyErr_SetString(ptr %exc, ptr %text)
  ret ptr null
}}
define ptr @amity_run(ptr %self, ptr %args, i64 %nargs) nounwind {{
entry:
  {at("planp", "self", PAYLOAD)}
  %plan = load ptr, ptr %planp
  %p1 = getelementptr i64, ptr %plan, i64 1
  %p2 = getelementptr i64, ptr %plan, i64 2
  %p3 = getelementptr i64, ptr %plan, i64 3
  %p4 = getelementptr i64, ptr %plan, i64 4
  %p5 = getelementptr i64, ptr %plan, i64 5
  %p6 = getelementptr i64, ptr %plan, i64 6
  %p7 = getelementptr i64, ptr %plan, i64 7
  %kinds = getelementptr i64, ptr %plan, i64 8
  %n = load i64, ptr %plan
  %nout = load i64, ptr %p1
  %nsteps = load i64, ptr %p2
  %arena = load ptr, ptr %p3
  %flags = load i64, ptr %p4
  %mode = load i64, ptr %p5
  %nbump = load i64, ptr %p6
  %nbuf = load i64, ptr %p7
  %outs = getelementptr i64, ptr %kinds, i64 %n
  %no4 = mul i64 %nout, 4
  %bumps = getelementptr i64, ptr %outs, i64 %no4
  %steps = getelementptr i64, ptr %bumps, i64 %nbump
  %nslots0 = add i64 %n, %nout
  %nslots = add i64 %nslots0, 1
  %slots = alloca ptr, i64 %nslots
  %scalars = alloca i64, i64 %nslots
  %made = alloca ptr, i64 %nslots
  %bufs = alloca ptr, i64 %nbuf
  %okn = icmp eq i64 %nargs, %n
  br i1 %okn, label %arg, label %bad
bad:
  %e0 = call ptr @fail(ptr {cell("type_error")}, ptr @type_text)
  ret ptr null
arg:
  %i = phi i64 [ 0, %entry ], [ %i1, %argnext ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %argone, label %outsetup
argone:
  %ap = getelementptr ptr, ptr %args, i64 %i
  %a = load ptr, ptr %ap
  %kp = getelementptr i64, ptr %kinds, i64 %i
  %kind = load i64, ptr %kp
  %slot = getelementptr ptr, ptr %slots, i64 %i
  %scalar = getelementptr i64, ptr %scalars, i64 %i
  switch i64 %kind, label %bad [ i64 0, label %astensor i64 1, label %asfloat i64 2, label %asint ]
astensor:
  %is = call i1 @is_tensor(ptr %a)
  br i1 %is, label %tensorok, label %bad
tensorok:
  %s = call ptr @storage_of(ptr %a)
  {at("dp", "s", DATA)}
  %d = load ptr, ptr %dp
  store ptr %d, ptr %slot
  br label %argnext
asfloat:
  %f = call double @PyFloat_AsDouble(ptr %a)
  store double %f, ptr %scalar
  store ptr %scalar, ptr %slot
  %fneg = fcmp oeq double %f, -1.0
  br i1 %fneg, label %check, label %argnext
asint:
  %l = call i64 @PyLong_AsLongLong(ptr %a)
  store i64 %l, ptr %scalar
  store ptr %scalar, ptr %slot
  %lneg = icmp eq i64 %l, -1
  br i1 %lneg, label %check, label %argnext
check:
  %err = call ptr @PyErr_Occurred()
  %iserr = icmp ne ptr %err, null
  br i1 %iserr, label %failed, label %argnext
failed:
  ret ptr null
argnext:
  %i1 = add i64 %i, 1
  br label %arg
outsetup:
  br label %out
out:
  %j = phi i64 [ 0, %outsetup ], [ %j1, %outnext ]
  %moreo = icmp slt i64 %j, %nout
  br i1 %moreo, label %outone, label %temps
outone:
  %o4 = mul i64 %j, 4
  %op = getelementptr i64, ptr %outs, i64 %o4
  %madep = getelementptr ptr, ptr %made, i64 %j
  %oslot0 = add i64 %n, %j
  %oslot = getelementptr ptr, ptr %slots, i64 %oslot0
  %pool = load ptr, ptr %op
  %op2 = getelementptr i64, ptr %op, i64 2
  %alias = load i64, ptr %op2
  %isalias = icmp ne i64 %alias, 0
  br i1 %isalias, label %shared, label %fresh
shared:
  %op3 = getelementptr i64, ptr %op, i64 3
  %aoff = load i64, ptr %op3
  %aslot = sub i64 %alias, 1
  %aargp = getelementptr ptr, ptr %args, i64 %aslot
  %aarg = load ptr, ptr %aargp
  %as = call ptr @storage_of(ptr %aarg)
  %al = call ptr @amity_alias_of(ptr %as, i64 %aoff, ptr %pool)
  br label %outgot
fresh:
  %fs = call ptr @take(ptr %pool)
  br label %outgot
outgot:
  %os = phi ptr [ %al, %shared ], [ %fs, %fresh ]
  %onull = icmp eq ptr %os, null
  br i1 %onull, label %undo, label %outok
outok:
  store ptr %os, ptr %madep
  {at("odp", "os", DATA)}
  %od = load ptr, ptr %odp
  store ptr %od, ptr %oslot
  br label %outnext
outnext:
  %j1 = add i64 %j, 1
  br label %out
undo:
  %u = phi i64 [ %j, %outgot ], [ %u1, %undone ], [ %nout, %tempfail ]
  %moreu = icmp sgt i64 %u, 0
  br i1 %moreu, label %undone, label %failed2
undone:
  %u1 = sub i64 %u, 1
  %up = getelementptr ptr, ptr %made, i64 %u1
  %us = load ptr, ptr %up
  call void @Py_DecRef(ptr %us)
  br label %undo
failed2:
  ret ptr null
temps:
  %hasarena = icmp ne ptr %arena, null
  br i1 %hasarena, label %taketemp, label %scratch
taketemp:
  %tb = call ptr @take(ptr %arena)
  %tnull = icmp eq ptr %tb, null
  br i1 %tnull, label %tempfail, label %tempok
tempfail:
  br label %undo
tempok:
  {at("tdp", "tb", DATA)}
  %td = load ptr, ptr %tdp
  %tslot = getelementptr ptr, ptr %slots, i64 %nslots0
  store ptr %td, ptr %tslot
  br label %scratch
scratch:
  %arenablock = phi ptr [ null, %temps ], [ %tb, %tempok ]
  %wants = and i64 %flags, 2
  %haswants = icmp ne i64 %wants, 0
  br i1 %haswants, label %takescratch, label %go
takescratch:
  %sp = load ptr, ptr {cell("scratch_pool")}
  %sb = call ptr @take(ptr %sp)
  %snull = icmp eq ptr %sb, null
  br i1 %snull, label %dropfail, label %scratchok
dropfail:
  br i1 %hasarena, label %droparena, label %tempfail2
droparena:
  call void @Py_DecRef(ptr %arenablock)
  br label %tempfail2
tempfail2:
  br label %undo2
undo2:
  %w = phi i64 [ %nout, %tempfail2 ], [ %w1, %undone2 ]
  %morew = icmp sgt i64 %w, 0
  br i1 %morew, label %undone2, label %failed2
undone2:
  %w1 = sub i64 %w, 1
  %wp = getelementptr ptr, ptr %made, i64 %w1
  %ws = load ptr, ptr %wp
  call void @Py_DecRef(ptr %ws)
  br label %undo2
scratchok:
  {at("sdp", "sb", DATA)}
  %sd = load ptr, ptr %sdp
  br label %go
go:
  %scratchblock = phi ptr [ null, %scratch ], [ %sb, %scratchok ]
  %scratchdata = phi ptr [ null, %scratch ], [ %sd, %scratchok ]
  %rel = and i64 %flags, 1
  %release = icmp ne i64 %rel, 0
  br i1 %release, label %unlock, label %bump
unlock:
  %ts0 = call ptr @PyEval_SaveThread()
  br label %bump
bump:
  %ts = phi ptr [ null, %go ], [ %ts0, %unlock ]
  %context = load ptr, ptr {cell("pool_context")}
  br label %step
step:
  %k = phi i64 [ 0, %bump ], [ %k1, %stepnext ]
  %q = phi ptr [ %steps, %bump ], [ %q1, %stepnext ]
  %mores = icmp slt i64 %k, %nsteps
  br i1 %mores, label %steprun, label %finish
steprun:
  %q_1 = getelementptr i64, ptr %q, i64 1
  %q_2 = getelementptr i64, ptr %q, i64 2
  %q_3 = getelementptr i64, ptr %q, i64 3
  %q_4 = getelementptr i64, ptr %q, i64 4
  %q_5 = getelementptr i64, ptr %q, i64 5
  %kernel = load ptr, ptr %q
  %meta = load ptr, ptr %q_1
  %grid = load i64, ptr %q_2
  %grain = load i64, ptr %q_3
  %nb = load i64, ptr %q_4
  br label %fill
fill:
  %b = phi i64 [ 0, %steprun ], [ %b1, %fillone ]
  %moreb = icmp slt i64 %b, %nb
  br i1 %moreb, label %fillone, label %launch
fillone:
  %b2 = mul i64 %b, 2
  %fp = getelementptr i64, ptr %q_5, i64 %b2
  %fp1 = getelementptr i64, ptr %fp, i64 1
  %fslot = load i64, ptr %fp
  %foff = load i64, ptr %fp1
  %fsp = getelementptr ptr, ptr %slots, i64 %fslot
  %fbase = load ptr, ptr %fsp
  %faddr = getelementptr i8, ptr %fbase, i64 %foff
  %bp = getelementptr ptr, ptr %bufs, i64 %b
  store ptr %faddr, ptr %bp
  %b1 = add i64 %b, 1
  br label %fill
launch:
  %wide = icmp sgt i64 %grid, %grain
  br i1 %wide, label %parallel, label %serial
parallel:
  call void @amity_parallel(ptr %context, ptr %kernel, ptr %meta, ptr %bufs, i64 %grid, i64 %grain, ptr %scratchdata)
  br label %stepnext
serial:
  call void %kernel(ptr %meta, ptr %bufs, i64 0, i64 %grid, ptr %scratchdata)
  br label %stepnext
stepnext:
  %k1 = add i64 %k, 1
  %nb2 = mul i64 %nb, 2
  %q1 = getelementptr i64, ptr %q_5, i64 %nb2
  br label %step
finish:
  br i1 %release, label %lock, label %cleanup
lock:
  call void @PyEval_RestoreThread(ptr %ts)
  br label %cleanup
cleanup:
  %has_sb = icmp ne ptr %scratchblock, null
  br i1 %has_sb, label %dropscratch, label %cleanup2
dropscratch:
  call void @Py_DecRef(ptr %scratchblock)
  br label %cleanup2
cleanup2:
  br i1 %hasarena, label %dropa, label %versions
dropa:
  call void @Py_DecRef(ptr %arenablock)
  br label %versions
versions:
  %v = phi i64 [ 0, %cleanup2 ], [ 0, %dropa ], [ %v1, %bumpone ]
  %morev = icmp slt i64 %v, %nbump
  br i1 %morev, label %bumpone, label %result
bumpone:
  %vp = getelementptr i64, ptr %bumps, i64 %v
  %varg = load i64, ptr %vp
  %vap = getelementptr ptr, ptr %args, i64 %varg
  %va = load ptr, ptr %vap
  %vs = call ptr @storage_of(ptr %va)
  %vr = call ptr @root_of(ptr %vs)
  {at("vverp", "vr", VERSION)}
  %ver = load i64, ptr %vverp
  %ver1 = add i64 %ver, 1
  store i64 %ver1, ptr %vverp
  %v1 = add i64 %v, 1
  br label %versions
result:
  switch i64 %mode, label %rnone [ i64 1, label %rone i64 2, label %rtuple i64 3, label %rself ]
rnone:
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
rself:
  %self0 = load ptr, ptr %args
  call void @Py_IncRef(ptr %self0)
  ret ptr %self0
rone:
  %rs = load ptr, ptr %made
  %rlp = getelementptr i64, ptr %outs, i64 1
  %rl = load ptr, ptr %rlp
  %rt = call ptr @tensor(ptr %rs, ptr %rl)
  ret ptr %rt
rtuple:
  %tuple = call ptr @PyTuple_New(i64 %nout)
  br label %rloop
rloop:
  %r = phi i64 [ 0, %rtuple ], [ %r1, %rnext ]
  %morer = icmp slt i64 %r, %nout
  br i1 %morer, label %rnext, label %rdone
rnext:
  %rmp = getelementptr ptr, ptr %made, i64 %r
  %rms = load ptr, ptr %rmp
  %r4 = mul i64 %r, 4
  %r41 = add i64 %r4, 1
  %rmlp = getelementptr i64, ptr %outs, i64 %r41
  %rml = load ptr, ptr %rmlp
  %rmt = call ptr @tensor(ptr %rms, ptr %rml)
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %r, ptr %rmt)
  %r1 = add i64 %r, 1
  br label %rloop
rdone:
  ret ptr %tuple
}}
"""


def _builtins() -> str:
    return f"""
; a Storage of a part of another: header from an empty pool, memory of the root
define internal ptr @amity_alias_of(ptr %s, i64 %offset, ptr %pool) nounwind {{
entry:
  %o = call ptr @take(ptr %pool)
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
  br label %out
out:
  ret ptr %o
}}
; allocate() -> Storage; self holds a pool
define ptr @amity_allocate(ptr %self, ptr %ignored) nounwind {{
  {at("pp", "self", PAYLOAD)}
  %pool = load ptr, ptr %pp
  %o = call ptr @take(ptr %pool)
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
  %o = call ptr @take(ptr %pool)
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
  %r = call ptr @root_of(ptr %s)
  {at("vp", "r", VERSION)}
  %v = load i64, ptr %vp
  %o = call ptr @PyLong_FromLongLong(i64 %v)
  ret ptr %o
}}
define ptr @amity_get_root(ptr %s, ptr %ignored) nounwind {{
  %r = call ptr @root_of(ptr %s)
  call void @Py_IncRef(ptr %r)
  ret ptr %r
}}
define ptr @amity_bump(ptr %self, ptr %s) nounwind {{
  %r = call ptr @root_of(ptr %s)
  {at("vp", "r", VERSION)}
  %v = load i64, ptr %vp
  %v1 = add i64 %v, 1
  store i64 %v1, ptr %vp
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
"""
