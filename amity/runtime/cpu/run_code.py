"""Code that runs a plan: one call from Python allocates, runs every step and gives the results.

While a thread records, its calls allocate and give results but run nothing. If notes are made, each
is noted (note_code.py); where it does not fit, or no notes are made, the recorder is told of it, as
`recorder(plan, result, *arguments)`, and what it returns is the call's result. A plan whose steps are
still to come is completed before it first runs.
"""

from __future__ import annotations

from amity.runtime import plan

from .abi import DATA, FILLED_HEAP, NOTED_HEAP, PAYLOAD, VERSION, at, cell
from .keep_code import KEEPING, LOOKUP

RUNS, TOLD, NOTED = range(3)  # what becomes of a call

ENTRY = f"""
define internal ptr @fail(ptr %cellp, ptr %text) noinline cold {{
  %exc = load ptr, ptr %cellp
  call void @PyErr_SetString(ptr %exc, ptr %text)
  ret ptr null
}}
; note(recorder): note this thread's calls instead of running them, and tell the recorder of those
; that do not fit; None to run them again
define ptr @amity_note(ptr %self, ptr %recorder) nounwind {{
  %none = load ptr, ptr {cell("none")}
  %stops = icmp eq ptr %recorder, %none
  %told = select i1 %stops, ptr null, ptr %recorder
  store ptr %told, ptr {cell("recorder")}
  store ptr %told, ptr {cell("is_noting")}
  %here = call i64 @PyThread_get_thread_ident()
  %thread = inttoptr i64 %here to ptr
  store ptr %thread, ptr {cell("recording_thread")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
define ptr @amity_run(ptr %self, ptr %args, i64 %nargs) nounwind {{
entry:
  {at("planp", "self", PAYLOAD)}
  %plan = load ptr, ptr %planp
  %flagp = getelementptr i64, ptr %plan, i64 {plan.FLAGS}
  %flags = load i64, ptr %flagp
  %unbuilt = and i64 %flags, {plan.UNBUILT}
  %is_unbuilt = icmp ne i64 %unbuilt, 0
  %recorder = load ptr, ptr {cell("recorder")}
  %is_recording = icmp ne ptr %recorder, null
  %is_special = or i1 %is_unbuilt, %is_recording
  br i1 %is_special, label %special, label %now
special:
  %r0 = call ptr @run_special(ptr %self, ptr %args, i64 %nargs, ptr %recorder, i1 %is_unbuilt)
  ret ptr %r0
now:
  %r1 = call ptr @run(ptr %self, ptr %args, i64 %nargs, i64 {RUNS})
  ret ptr %r1
}}
define internal ptr @run_special(ptr %self, ptr %args, i64 %nargs, ptr %recorder, i1 %is_unbuilt)
    nounwind noinline cold {{
entry:
  %is_recording = icmp ne ptr %recorder, null
  br i1 %is_recording, label %whose, label %build
whose:
  %here = call i64 @PyThread_get_thread_ident()
  %there0 = load ptr, ptr {cell("recording_thread")}
  %there = ptrtoint ptr %there0 to i64
  %is_here = icmp eq i64 %here, %there
  %is_anywhere = icmp eq i64 %there, 0
  %is_mine = or i1 %is_here, %is_anywhere
  {at("planp", "self", PAYLOAD)}
  %plan = load ptr, ptr %planp
  %flagp = getelementptr i64, ptr %plan, i64 {plan.FLAGS}
  %flags = load i64, ptr %flagp
  %untold = and i64 %flags, {plan.UNTOLD}
  %is_told = icmp eq i64 %untold, 0
  %tells = and i1 %is_mine, %is_told
  br i1 %tells, label %record, label %build
record:
  %noting = load ptr, ptr {cell("is_noting")}
  %is_noting = icmp ne ptr %noting, null
  br i1 %is_noting, label %weigh, label %ask
weigh:
  %notes = load ptr, ptr {cell("notes")}
  %fits = call i1 @note_fits(ptr %notes, ptr %plan, ptr %args, i64 %nargs)
  br i1 %fits, label %note, label %ask
note:
  %noted = call ptr @run(ptr %self, ptr %args, i64 %nargs, i64 {NOTED})
  ret ptr %noted
ask:
  %made = call ptr @run(ptr %self, ptr %args, i64 %nargs, i64 {TOLD})
  %failed = icmp eq ptr %made, null
  br i1 %failed, label %none, label %tell
tell:
  %count = add i64 %nargs, 2
  %stack = alloca ptr, i64 %count
  store ptr %self, ptr %stack
  %second = getelementptr ptr, ptr %stack, i64 1
  store ptr %made, ptr %second
  br label %copy
copy:
  %i = phi i64 [ 0, %tell ], [ %i1, %copyone ]
  %more = icmp slt i64 %i, %nargs
  br i1 %more, label %copyone, label %told
copyone:
  %from = getelementptr ptr, ptr %args, i64 %i
  %argument = load ptr, ptr %from
  %at = add i64 %i, 2
  %to = getelementptr ptr, ptr %stack, i64 %at
  store ptr %argument, ptr %to
  %i1 = add i64 %i, 1
  br label %copy
told:
  %answer = call ptr @PyObject_Vectorcall(ptr %recorder, ptr %stack, i64 %count, ptr null)
  call void @Py_DecRef(ptr %made)
  ret ptr %answer
build:
  br i1 %is_unbuilt, label %complete, label %go
complete:
  %completer = load ptr, ptr {cell("complete")}
  %selfp = alloca ptr
  store ptr %self, ptr %selfp
  %done = call ptr @PyObject_Vectorcall(ptr %completer, ptr %selfp, i64 1, ptr null)
  %bad = icmp eq ptr %done, null
  br i1 %bad, label %none, label %completed
completed:
  call void @Py_DecRef(ptr %done)
  br label %go
go:
  %result = call ptr @run(ptr %self, ptr %args, i64 %nargs, i64 {RUNS})
  ret ptr %result
none:
  ret ptr null
}}
"""

CALL = f"""
define internal ptr @run(ptr %self, ptr %args, i64 %nargs, i64 %how) nounwind {{
entry:
  {at("planp", "self", PAYLOAD)}
  %plan = load ptr, ptr %planp
  %p1 = getelementptr i64, ptr %plan, i64 {plan.OUTPUTS}
  %p5 = getelementptr i64, ptr %plan, i64 {plan.RESULT}
  %p6 = getelementptr i64, ptr %plan, i64 {plan.BUMPS}
  %kinds = getelementptr i64, ptr %plan, i64 {plan.HEAD}
  %n = load i64, ptr %plan
  %nout = load i64, ptr %p1
  %mode = load i64, ptr %p5
  %nbump = load i64, ptr %p6
  %outs = getelementptr i64, ptr %kinds, i64 %n
  %no4 = mul i64 %nout, {plan.OUTPUT_WORDS}
  %bumps = getelementptr i64, ptr %outs, i64 %no4
  %nslots0 = add i64 %n, %nout
  %nslots = add i64 %nslots0, 2
  %slots = alloca ptr, i64 %nslots
  %scalars = alloca i64, i64 %nslots
  %made = alloca ptr, i64 %nslots
  %runs = icmp eq i64 %how, {RUNS}
  %heap = select i1 %runs, i64 {FILLED_HEAP}, i64 {NOTED_HEAP}
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
  switch i64 %kind, label %bad [
    i64 {plan.TENSOR}, label %astensor
    i64 {plan.FILLED}, label %astensor
    i64 {plan.FILLED_IN_PART}, label %astensor
    i64 {plan.FLOAT}, label %asfloat
    i64 {plan.INT}, label %asint ]
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
  %o4 = mul i64 %j, {plan.OUTPUT_WORDS}
  %op = getelementptr i64, ptr %outs, i64 %o4
  %madep = getelementptr ptr, ptr %made, i64 %j
  %oslot0 = add i64 %n, %j
  %oslot = getelementptr ptr, ptr %slots, i64 %oslot0
  %pool = load ptr, ptr %op
  %op2 = getelementptr i64, ptr %op, i64 {plan.SOURCE}
  %alias = load i64, ptr %op2
  %isalias = icmp ne i64 %alias, 0
  br i1 %isalias, label %shared, label %fresh
shared:
  %op3 = getelementptr i64, ptr %op, i64 {plan.OFFSET}
  %aoff = load i64, ptr %op3
  %aslot = sub i64 %alias, 1
  %aargp = getelementptr ptr, ptr %args, i64 %aslot
  %aarg = load ptr, ptr %aargp
  %as = call ptr @storage_of(ptr %aarg)
  %al = call ptr @amity_alias_of(ptr %as, i64 %aoff, ptr %pool)
  br label %outgot
fresh:
  %fs = call ptr @take(ptr %pool, i64 %heap)
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
  %u = phi i64 [ %j, %outgot ], [ %u1, %undone ], [ %nout, %steps ]
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
  switch i64 %how, label %steps [
    i64 {TOLD}, label %versions
    i64 {NOTED}, label %note ]
note:
  call void @note(ptr %self, ptr %plan, ptr %args, ptr %scalars, ptr %made)
  br label %versions
steps:
  %ran = call i1 @run_steps(ptr %plan, ptr %slots, i64 %nslots0)
  br i1 %ran, label %versions, label %undo
versions:
  %v = phi i64 [ 0, %temps ], [ 0, %note ], [ 0, %steps ], [ %v1, %bumpone ]
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
  %ver = load i32, ptr %vverp
  %ver1 = add i32 %ver, 1
  store i32 %ver1, ptr %vverp
  %v1 = add i64 %v, 1
  br label %versions
result:
  switch i64 %mode, label %rnone [
    i64 {plan.GIVES_TENSOR}, label %rone
    i64 {plan.GIVES_TUPLE}, label %rtuple
    i64 {plan.GIVES_FIRST}, label %rself ]
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
  %rlp = getelementptr i64, ptr %outs, i64 {plan.LAYOUT}
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
  %r4 = mul i64 %r, {plan.OUTPUT_WORDS}
  %r41 = add i64 %r4, {plan.LAYOUT}
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

STEPS = f"""
; run the steps of a plan over memory at the slots of its arguments and outputs, which the arena's
; slot follows; false with an error set if there is no memory for what lies between
define internal i1 @run_steps(ptr %plan, ptr %slots, i64 %arenaslot) nounwind {{
entry:
  %n = load i64, ptr %plan
  %p1 = getelementptr i64, ptr %plan, i64 {plan.OUTPUTS}
  %p2 = getelementptr i64, ptr %plan, i64 {plan.STEPS}
  %p3 = getelementptr i64, ptr %plan, i64 {plan.ARENA}
  %p4 = getelementptr i64, ptr %plan, i64 {plan.FLAGS}
  %p6 = getelementptr i64, ptr %plan, i64 {plan.BUMPS}
  %p7 = getelementptr i64, ptr %plan, i64 {plan.MOST}
  %kinds = getelementptr i64, ptr %plan, i64 {plan.HEAD}
  %nout = load i64, ptr %p1
  %nsteps = load i64, ptr %p2
  %arena = load ptr, ptr %p3
  %flags = load i64, ptr %p4
  %nbump = load i64, ptr %p6
  %nbuf = load i64, ptr %p7
  %no4 = mul i64 %nout, {plan.OUTPUT_WORDS}
  %outs = getelementptr i64, ptr %kinds, i64 %n
  %bumps = getelementptr i64, ptr %outs, i64 %no4
  %steps = getelementptr i64, ptr %bumps, i64 %nbump
  %bufs = alloca ptr, i64 %nbuf
  %hasarena = icmp ne ptr %arena, null
  br i1 %hasarena, label %taketemp, label %scratch
taketemp:
  %tb = call ptr @take(ptr %arena, i64 {FILLED_HEAP})
  %tnull = icmp eq ptr %tb, null
  br i1 %tnull, label %failed, label %tempok
tempok:
  {at("tdp", "tb", DATA)}
  %td = load ptr, ptr %tdp
  %tslot = getelementptr ptr, ptr %slots, i64 %arenaslot
  store ptr %td, ptr %tslot
  br label %scratch
scratch:
  %arenablock = phi ptr [ null, %entry ], [ %tb, %tempok ]
  %wants = and i64 %flags, {plan.SCRATCH}
  %haswants = icmp ne i64 %wants, 0
  br i1 %haswants, label %takescratch, label %go
takescratch:
  %sp = load ptr, ptr {cell("scratch_pool")}
  %sb = call ptr @take(ptr %sp, i64 {FILLED_HEAP})
  %snull = icmp eq ptr %sb, null
  br i1 %snull, label %dropfail, label %scratchok
dropfail:
  br i1 %hasarena, label %droparena, label %failed
droparena:
  call void @Py_DecRef(ptr %arenablock)
  br label %failed
failed:
  ret i1 false
scratchok:
  {at("sdp", "sb", DATA)}
  %sd = load ptr, ptr %sdp
  br label %go
go:
  %scratchblock = phi ptr [ null, %scratch ], [ %sb, %scratchok ]
  %scratchdata = phi ptr [ null, %scratch ], [ %sd, %scratchok ]
{LOOKUP}  %rel = and i64 %flags, {plan.RELEASE_GIL}
  %release = icmp ne i64 %rel, 0
  br i1 %release, label %unlock, label %bump
unlock:
  %ts0 = call ptr @PyEval_SaveThread()
  br label %bump
bump:
  %ts = phi ptr [ null, %begin ], [ %ts0, %unlock ]
  %context = load ptr, ptr {cell("pool_context")}
  br label %step
step:
  %k = phi i64 [ 0, %bump ], [ %k1, %stepnext ]
  %q = phi ptr [ %steps, %bump ], [ %q1, %stepnext ]
  %mores = icmp slt i64 %k, %nsteps
  br i1 %mores, label %steprun, label %finish
steprun:
  %is_skipped = icmp slt i64 %k, %skips
  %q_1 = getelementptr i64, ptr %q, i64 {plan.META}
  %q_2 = getelementptr i64, ptr %q, i64 {plan.GRID}
  %q_3 = getelementptr i64, ptr %q, i64 {plan.GRAIN}
  %q_4 = getelementptr i64, ptr %q, i64 {plan.BUFFERS}
  %q_5 = getelementptr i64, ptr %q, i64 {plan.STEP_WORDS}
  %kernel = load ptr, ptr %q
  %meta = load ptr, ptr %q_1
  %grid = load i64, ptr %q_2
  %grain = load i64, ptr %q_3
  %nb = load i64, ptr %q_4
  br i1 %is_skipped, label %stepnext, label %fill
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
  call void @amity_parallel(ptr %context, ptr %kernel, ptr %meta, ptr %bufs,
                            i64 %grid, i64 %grain, ptr %scratchdata)
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
  br i1 %keeps, label %keep, label %cleanup1
keep:
  call void @leave_kept(ptr %plan, ptr %keptblock, i64 %madetimes)
  br label %cleanup1
cleanup1:
  %has_sb = icmp ne ptr %scratchblock, null
  br i1 %has_sb, label %dropscratch, label %cleanup2
dropscratch:
  call void @Py_DecRef(ptr %scratchblock)
  br label %cleanup2
cleanup2:
  br i1 %hasarena, label %dropa, label %done
dropa:
  call void @Py_DecRef(ptr %arenablock)
  br label %done
done:
  ret i1 true
}}
"""

RUNNER = ENTRY + CALL + STEPS + KEEPING
