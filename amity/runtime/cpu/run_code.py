"""Code that runs a plan: one call from Python allocates, runs every step and gives the results.

While a thread records, its calls allocate and give results but run nothing. If notes are made, each
is noted (note_code.py); where it does not fit, or no notes are made, the recorder is told of it, as
`recorder(plan, result, *arguments)`, and what it returns is the call's result. A plan whose steps are
still to come is completed before it first runs.
"""

from __future__ import annotations

from amity.runtime import plan

from .abi import DATA, FILLED_HEAP, NOTED_HEAP, PAYLOAD, cell
from .flow import at, call_python, drop_if_there, each, read_at, read_word, when, word
from .keep_code import KEEPING, LOOKUP

RUNS, TOLD, NOTED = range(3)  # what becomes of a call

# Where a plan's arguments, outputs and bumps of versions stand, and how many there are.
TABLES = f"""
  %n = load i64, ptr %plan
  {read_word("nout", "plan", plan.OUTPUTS)}
  {read_word("nbump", "plan", plan.BUMPS)}
  {word("kinds", "plan", plan.HEAD)}
  {word("outs", "kinds", "%n")}
  %bumps = getelementptr [{plan.OUTPUT_WORDS} x i64], ptr %outs, i64 %nout
"""

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
  {read_at("plan", "self", PAYLOAD)}
  {read_word("flags", "plan", plan.FLAGS)}
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
  {read_at("plan", "self", PAYLOAD)}
  {read_word("flags", "plan", plan.FLAGS)}
  %untold = and i64 %flags, {plan.UNTOLD}
  %is_told = icmp eq i64 %untold, 0
  %tells = and i1 %is_mine, %is_told
  %resting = add i64 %here, %there
  %is_resting = icmp eq i64 %resting, 0
  %is_own = or i1 %is_mine, %is_resting
  br i1 %tells, label %record, label %apart
apart:
  br i1 %is_own, label %build, label %meet
meet:
  %met = call i1 @meet_notes(ptr %self, ptr %args, i64 %nargs)
  br i1 %met, label %build, label %none
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
  {call_python("answer", "recorder", "self", "made")}
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

TAKE = f"""
  {read_word("a", "args", "%i", "ptr")}
  {read_word("kind", "kinds", "%i")}
  {word("slot", "slots", "%i")}
  {word("scalar", "scalars", "%i")}
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
  {read_at("d", "s", DATA)}
  store ptr %d, ptr %slot
  br label %i.next
asfloat:
  %f = call double @PyFloat_AsDouble(ptr %a)
  store double %f, ptr %scalar
  store ptr %scalar, ptr %slot
  %fneg = fcmp oeq double %f, -1.0
  br i1 %fneg, label %check, label %i.next
asint:
  %l = call i64 @PyLong_AsLongLong(ptr %a)
  store i64 %l, ptr %scalar
  store ptr %scalar, ptr %slot
  %lneg = icmp eq i64 %l, -1
  br i1 %lneg, label %check, label %i.next
check:
  %err = call ptr @PyErr_Occurred()
  %iserr = icmp ne ptr %err, null
  br i1 %iserr, label %failed, label %i.next
failed:
  ret ptr null
bad:
  %e0 = call ptr @fail(ptr {cell("type_error")}, ptr @type_text)
  ret ptr null
"""

MAKE = f"""
  %o = getelementptr [{plan.OUTPUT_WORDS} x i64], ptr %outs, i64 %j
  {word("madep", "made", "%j")}
  %oslot0 = add i64 %n, %j
  {word("oslot", "slots", "%oslot0")}
  %pool = load ptr, ptr %o
  {read_word("source", "o", plan.SOURCE)}
  %isview = icmp ne i64 %source, 0
  br i1 %isview, label %shared, label %fresh
shared:
  {read_word("offset", "o", plan.OFFSET)}
  %sourceslot = sub i64 %source, 1
  {read_word("whole", "args", "%sourceslot", "ptr")}
  %ws = call ptr @storage_of(ptr %whole)
  %view = call ptr @amity_alias_of(ptr %ws, i64 %offset, ptr %pool)
  br label %outgot
fresh:
  %new = call ptr @take(ptr %pool, i64 %heap)
  br label %outgot
outgot:
  %os = phi ptr [ %view, %shared ], [ %new, %fresh ]
  %onull = icmp eq ptr %os, null
  br i1 %onull, label %undo, label %outok
outok:
  store ptr %os, ptr %madep
  {read_at("od", "os", DATA)}
  store ptr %od, ptr %oslot
"""

UNDO = f"""
  {read_word("us", "made", "%u", "ptr")}
  call void @Py_DecRef(ptr %us)
"""

BUMP = f"""
  {read_word("varg", "bumps", "%v")}
  {read_word("va", "args", "%varg", "ptr")}
  %vs = call ptr @storage_of(ptr %va)
  call void @count_write(ptr %vs)
"""

GIVE = f"""
  {read_word("rs", "made", "%r", "ptr")}
  %ro = getelementptr [{plan.OUTPUT_WORDS} x i64], ptr %outs, i64 %r
  {read_word("rlayout", "ro", plan.LAYOUT, "ptr")}
  %rt = call ptr @tensor(ptr %rs, ptr %rlayout)
  %set = call i32 @PyTuple_SetItem(ptr %tuple, i64 %r, ptr %rt)
"""

CALL = f"""
define internal ptr @run(ptr %self, ptr %args, i64 %nargs, i64 %how) nounwind {{
entry:
  {read_at("plan", "self", PAYLOAD)}
  {TABLES}
  {read_word("mode", "plan", plan.RESULT)}
  %nslots0 = add i64 %n, %nout
  %nslots = add i64 %nslots0, 2
  %slots = alloca ptr, i64 %nslots
  %scalars = alloca i64, i64 %nslots
  %made = alloca ptr, i64 %nslots
  %runs = icmp eq i64 %how, {RUNS}
  %heap = select i1 %runs, i64 {FILLED_HEAP}, i64 {NOTED_HEAP}
  %okn = icmp eq i64 %nargs, %n
  br i1 %okn, label %takes, label %bad
takes:
  {each("i", "%n", TAKE)}
  {each("j", "%nout", MAKE)}
  switch i64 %how, label %steps [
    i64 {TOLD}, label %versions
    i64 {NOTED}, label %note ]
note:
  call void @note(ptr %self, ptr %plan, ptr %args, ptr %scalars, ptr %made)
  br label %versions
steps:
  %ran = call i1 @run_steps(ptr %plan, ptr %slots, i64 %nslots0)
  br i1 %ran, label %versions, label %undo
undo:
  %nmade = phi i64 [ %j, %outgot ], [ %nout, %steps ]
  {each("u", "%nmade", UNDO)}
  ret ptr null
versions:
  {each("v", "%nbump", BUMP)}
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
  %one = load ptr, ptr %made
  {read_word("layout", "outs", plan.LAYOUT, "ptr")}
  %t = call ptr @tensor(ptr %one, ptr %layout)
  ret ptr %t
rtuple:
  %tuple = call ptr @PyTuple_New(i64 %nout)
  {each("r", "%nout", GIVE)}
  ret ptr %tuple
}}
"""

FIND = f"""
  %pair = getelementptr [2 x i64], ptr %buffers, i64 %b
  %fslot = load i64, ptr %pair
  {read_word("foff", "pair", 1)}
  {read_word("fbase", "slots", "%fslot", "ptr")}
  {at("faddr", "fbase", "%foff")}
  {word("buf", "bufs", "%b")}
  store ptr %faddr, ptr %buf
"""

STEP = f"""
  %kernel = load ptr, ptr %q
  {read_word("meta", "q", plan.META, "ptr")}
  {read_word("grid", "q", plan.GRID)}
  {read_word("grain", "q", plan.GRAIN)}
  {read_word("nb", "q", plan.BUFFERS)}
  {word("buffers", "q", plan.STEP_WORDS)}
  %q1 = getelementptr [2 x i64], ptr %buffers, i64 %nb
  %is_skipped = icmp slt i64 %k, %skips
  br i1 %is_skipped, label %k.next, label %launch
launch:
  {each("b", "%nb", FIND)}
  %wide = icmp sgt i64 %grid, %grain
  br i1 %wide, label %parallel, label %serial
parallel:
  call void @amity_parallel(ptr %context, ptr %kernel, ptr %meta, ptr %bufs,
                            i64 %grid, i64 %grain, ptr %scratchdata)
  br label %k.next
serial:
  call void %kernel(ptr %meta, ptr %bufs, i64 0, i64 %grid, ptr %scratchdata)
"""

STEPS = f"""
; run the steps of a plan over memory at the slots of its arguments and outputs, which the arena's
; slot follows; false with an error set if there is no memory for what lies between
define internal i1 @run_steps(ptr %plan, ptr %slots, i64 %arenaslot) nounwind {{
entry:
  {TABLES}
  {read_word("nsteps", "plan", plan.STEPS)}
  {read_word("arena", "plan", plan.ARENA, "ptr")}
  {read_word("flags", "plan", plan.FLAGS)}
  {read_word("nbuf", "plan", plan.MOST)}
  {word("steps", "bumps", "%nbump")}
  %bufs = alloca ptr, i64 %nbuf
  %hasarena = icmp ne ptr %arena, null
  br i1 %hasarena, label %taketemp, label %scratch
taketemp:
  %tb = call ptr @take(ptr %arena, i64 {FILLED_HEAP})
  %tnull = icmp eq ptr %tb, null
  br i1 %tnull, label %failed, label %tempok
failed:
  ret i1 false
tempok:
  {read_at("td", "tb", DATA)}
  {word("tslot", "slots", "%arenaslot")}
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
  br i1 %snull, label %droparena, label %scratchok
scratchok:
  {read_at("sd", "sb", DATA)}
  br label %go
go:
  %scratchblock = phi ptr [ null, %scratch ], [ %sb, %scratchok ]
  %scratchdata = phi ptr [ null, %scratch ], [ %sd, %scratchok ]
  {LOOKUP}
  %context = load ptr, ptr {cell("pool_context")}
  %rel = and i64 %flags, {plan.RELEASE_GIL}
  %release = icmp ne i64 %rel, 0
  br i1 %release, label %unlock, label %all
unlock:
  %ts0 = call ptr @PyEval_SaveThread()
  br label %all
all:
  %ts = phi ptr [ null, %begin ], [ %ts0, %unlock ]
  {each("k", "%nsteps", STEP, [("ptr", "q", "%steps", "%q1")])}
  {when("release", "call void @PyEval_RestoreThread(ptr %ts)")}
  {when("keeps", "call void @leave_kept(ptr %plan, ptr %keptblock, i64 %madetimes)")}
  br label %dropscratch
dropscratch:
  %ran = phi i1 [ true, %keeps.no ], [ false, %lookup ]
  {drop_if_there("scratchblock")}
  br label %droparena
droparena:
  %out = phi i1 [ %ran, %scratchblock.is.no ], [ false, %takescratch ]
  {drop_if_there("arenablock")}
  ret i1 %out
}}
"""

RUNNER = ENTRY + CALL + STEPS + KEEPING
