"""Code that notes calls instead of running them.

`notes.py` says what notes are and has the same in Python, which is told of the calls that do not
fit here: those that no room is left for, that read memory which others may write, or whose writes
and reads cannot be told from what the roots hold.
"""

from __future__ import annotations

from amity.runtime import plan

from . import abi
from .abi import DATA, MARK, OWNER, at, cell


def word(name: str, base: str, index: int | str) -> str:
    return f"%{name} = getelementptr i64, ptr %{base}, i64 {index}"


def start(name: str, buffer: int) -> str:
    """Where a buffer of %notes starts."""
    return f"{word(f'{name}.at', 'notes', buffer)}\n  %{name} = load ptr, ptr %{name}.at"


def count(name: str, buffer: int) -> str:
    """How many records a buffer of %notes has."""
    return f"{word(f'{name}.at', 'notes', buffer + 1)}\n  %{name} = load i64, ptr %{name}.at"


def root(name: str, number: str) -> str:
    return f"%{name} = getelementptr [{abi.ROOT_WORDS} x i64], ptr %roots, i64 %{number}"


def argument() -> str:
    """What is known of argument %i: its layout, the root it is in, and how far from the start."""
    return f"""
  %s = call ptr @storage_of(ptr %a)
  %r = call ptr @root_of(ptr %s)
  {at("dp", "s", DATA)}
  {at("rdp", "r", DATA)}
  %data = load i64, ptr %dp
  %first = load i64, ptr %rdp
  %away = sub i64 %data, %first
  %factat = getelementptr [{plan.FACT_WORDS} x i64], ptr %facts, i64 %i
  %layout = load i64, ptr %factat
"""


def heads() -> str:
    """The parts of %plan that tell of arguments."""
    return f"""
  %n = load i64, ptr %plan
  {word("kinds", "plan", plan.HEAD)}
  {word("factsp", "plan", plan.FACTS)}
  %factsat = load i64, ptr %factsp
  {word("facts", "plan", "%factsat")}
"""


def room() -> str:
    """Whether every buffer has space for one more call (%room), and sealed words for all roots."""
    tests = {"words": abi.WORDS, "numbers": abi.NUMBERS, "roots": abi.ROOTS, "reads": abi.READS}
    lines = [
        f"{word('notedp', 'plan', plan.NOTED)}\n  %noted = load i64, ptr %notedp",
        f"{word('noutp', 'plan', plan.OUTPUTS)}\n  %nout = load i64, ptr %noutp",
        "%most = add i64 %n, %nout",
        *(count(f"{name}.n", buffer) for name, buffer in tests.items()),
        "%more.roots = add i64 %roots.n, %most",
        "%more.sealed = add i64 %more.roots, 1",
        "%more.call = add i64 %words.n, %noted",
        "%more.words = add i64 %more.call, %more.sealed",
        "%more.numbers = add i64 %numbers.n, %n",
        "%more.reads = add i64 %reads.n, %n",
    ]
    for name, buffer in tests.items():
        lines += [
            word(f"{name}.limitp", "notes", buffer + 2),
            f"%{name}.limit = load i64, ptr %{name}.limitp",
            f"%fits.{name} = icmp sle i64 %more.{name}, %{name}.limit",
        ]
    lines += [
        "%fits.1 = and i1 %fits.words, %fits.numbers",
        "%fits.2 = and i1 %fits.roots, %fits.reads",
        "%room = and i1 %fits.1, %fits.2",
    ]
    return "\n  ".join(lines)


READING = f"""
@no_root = private constant [{abi.ROOT_WORDS} x i64] zeroinitializer
; what is known of a root
define internal ptr @root_known(ptr %notes, ptr %r) nounwind {{
entry:
  {at("markp", "r", MARK)}
  %mark = load i32, ptr %markp
  %new = icmp eq i32 %mark, 0
  %wide = zext i32 %mark to i64
  %number = sub i64 %wide, 1
  {start("roots", abi.ROOTS)}
  {root("known", "number")}
  %out = select i1 %new, ptr @no_root, ptr %known
  ret ptr %out
}}
; whether memory so far from a root's start was read through that layout
define internal i1 @was_read(ptr %notes, ptr %known, i64 %away, i64 %layout) nounwind {{
entry:
  {start("reads", abi.READS)}
  {word("lastp", "known", abi.LAST_READ)}
  %last = load i64, ptr %lastp
  br label %look
look:
  %next = phi i64 [ %last, %entry ], [ %before, %other ]
  %over = icmp eq i64 %next, 0
  br i1 %over, label %no, label %compare
compare:
  %k = sub i64 %next, 1
  %read = getelementptr [{abi.READ_WORDS} x i64], ptr %reads, i64 %k
  {word("awayp", "read", abi.AWAY)}
  {word("seenp", "read", abi.SEEN)}
  {word("beforep", "read", abi.READ_BEFORE)}
  %far = load i64, ptr %awayp
  %seen = load i64, ptr %seenp
  %sameaway = icmp eq i64 %far, %away
  %samelayout = icmp eq i64 %seen, %layout
  %same = and i1 %sameaway, %samelayout
  br i1 %same, label %yes, label %other
other:
  %before = load i64, ptr %beforep
  br label %look
yes:
  ret i1 true
no:
  ret i1 false
}}
; whether all reads of a root were of its first so many bytes
define internal i1 @reads_cover(ptr %notes, ptr %known, i64 %bytes) nounwind {{
entry:
  {start("reads", abi.READS)}
  {word("lastp", "known", abi.LAST_READ)}
  %last = load i64, ptr %lastp
  br label %look
look:
  %next = phi i64 [ %last, %entry ], [ %before, %other ]
  %over = icmp eq i64 %next, 0
  br i1 %over, label %yes, label %compare
compare:
  %k = sub i64 %next, 1
  %read = getelementptr [{abi.READ_WORDS} x i64], ptr %reads, i64 %k
  {word("awayp", "read", abi.AWAY)}
  {word("seenp", "read", abi.SEEN_BYTES)}
  {word("beforep", "read", abi.READ_BEFORE)}
  %far = load i64, ptr %awayp
  %seen = load i64, ptr %seenp
  %atstart = icmp eq i64 %far, 0
  %samebytes = icmp eq i64 %seen, %bytes
  %same = and i1 %atstart, %samebytes
  br i1 %same, label %other, label %no
other:
  %before = load i64, ptr %beforep
  br label %look
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

FITTING = f"""
; whether a call can be noted here
define internal i1 @note_fits(ptr %notes, ptr %plan, ptr %args, i64 %nargs) nounwind {{
entry:
  {heads()}
  {room()}
  %right = icmp eq i64 %nargs, %n
  %starts = and i1 %right, %room
  br i1 %starts, label %arg, label %no
arg:
  %i = phi i64 [ 0, %entry ], [ %i1, %next ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %yes
one:
  %ap = getelementptr ptr, ptr %args, i64 %i
  %a = load ptr, ptr %ap
  {word("kp", "kinds", "%i")}
  %kind = load i64, ptr %kp
  %fills = icmp eq i64 %kind, {plan.FILLED}
  switch i64 %kind, label %no [
    i64 {plan.TENSOR}, label %ask
    i64 {plan.FILLED}, label %ask
    i64 {plan.FLOAT}, label %next
    i64 {plan.INT}, label %next ]
ask:
  %is = call i1 @is_tensor(ptr %a)
  br i1 %is, label %tensor, label %no
tensor:
  {argument()}
  {word("dtypep", "factat", plan.DTYPE)}
  {word("itemp", "factat", plan.ITEMSIZE)}
  {word("extentp", "factat", plan.EXTENT)}
  {word("bytesp", "factat", plan.NBYTES)}
  %dtype = load i64, ptr %dtypep
  %bytes = load i64, ptr %bytesp
  %known = call ptr @root_known(ptr %notes, ptr %r)
  {word("heldp", "known", abi.HELD)}
  {word("heldtypep", "known", abi.HELD_DTYPE)}
  {word("heldbytesp", "known", abi.HELD_BYTES)}
  %held = load i64, ptr %heldp
  %heldtype = load i64, ptr %heldtypep
  %heldbytes = load i64, ptr %heldbytesp
  %isheld = icmp ne i64 %held, 0
  %atstart = icmp eq i64 %away, 0
  %sametype = icmp eq i64 %heldtype, %dtype
  {at("ownp", "r", OWNER)}
  %owner = load ptr, ptr %ownp
  %isalone = icmp eq ptr %owner, null
  br i1 %isheld, label %written, label %found
written:
  %samelayout = icmp eq i64 %held, %layout
  %same = and i1 %samelayout, %atstart
  br i1 %same, label %fits, label %inside
inside:
  %item = load i64, ptr %itemp
  %extent = load i64, ptr %extentp
  %low = sub i64 %item, 1
  %off = and i64 %away, %low
  %aligned = icmp eq i64 %off, 0
  %end = add i64 %away, %extent
  %within = icmp sle i64 %end, %heldbytes
  %in1 = and i1 %aligned, %within
  %in2 = and i1 %in1, %sametype
  br i1 %in2, label %fits, label %no
found:
  br i1 %isalone, label %fits, label %shared
shared:
  %again = call i1 @was_read(ptr %notes, ptr %known, i64 %away, i64 %layout)
  br i1 %again, label %fits, label %no
fits:
  br i1 %fills, label %fill, label %next
fill:
  %whole = and i1 %atstart, %isalone
  br i1 %whole, label %renew, label %no
renew:
  br i1 %isheld, label %rewrite, label %overwrite
rewrite:
  %samebytes = icmp eq i64 %heldbytes, %bytes
  %alike = and i1 %samebytes, %sametype
  br i1 %alike, label %next, label %no
overwrite:
  %covers = call i1 @reads_cover(ptr %notes, ptr %known, i64 %bytes)
  br i1 %covers, label %next, label %no
next:
  %i1 = add i64 %i, 1
  br label %arg
yes:
  ret i1 true
no:
  ret i1 false
}}
"""

ADDING = f"""
define internal void @add_word(ptr %notes, i64 %value) nounwind {{
entry:
  {start("words", abi.WORDS)}
  {count("n", abi.WORDS)}
  {word("to", "words", "%n")}
  store i64 %value, ptr %to
  %n1 = add i64 %n, 1
  store i64 %n1, ptr %n.at
  ret void
}}
define internal void @add_number(ptr %notes, i64 %value) nounwind {{
entry:
  {start("numbers", abi.NUMBERS)}
  {count("n", abi.NUMBERS)}
  {word("to", "numbers", "%n")}
  store i64 %value, ptr %to
  %n1 = add i64 %n, 1
  store i64 %n1, ptr %n.at
  ret void
}}
; the number of a root, which is held from now on; words count from where it was first met
define internal i64 @number_of(ptr %notes, ptr %r, i64 %away) nounwind {{
entry:
  {at("markp", "r", MARK)}
  %mark = load i32, ptr %markp
  %known = icmp ne i32 %mark, 0
  br i1 %known, label %old, label %new
old:
  %wide = zext i32 %mark to i64
  %number = sub i64 %wide, 1
  ret i64 %number
new:
  call void @Py_IncRef(ptr %r)
  {start("roots", abi.ROOTS)}
  {count("n", abi.ROOTS)}
  {root("rec", "n")}
  store [{abi.ROOT_WORDS} x i64] zeroinitializer, ptr %rec
  store ptr %r, ptr %rec
  {word("basep", "rec", abi.BASE)}
  store i64 %away, ptr %basep
  %n1 = add i64 %n, 1
  store i64 %n1, ptr %n.at
  %mark1 = trunc i64 %n1 to i32
  store i32 %mark1, ptr %markp
  ret i64 %n
}}
; a root holds a layout with these facts all over
define internal void @hold(ptr %notes, i64 %number, ptr %fact) nounwind {{
entry:
  {start("roots", abi.ROOTS)}
  {root("rec", "number")}
  {word("heldp", "rec", abi.HELD)}
  {word("typep", "rec", abi.HELD_DTYPE)}
  {word("bytesp", "rec", abi.HELD_BYTES)}
  {word("facttypep", "fact", plan.DTYPE)}
  {word("factbytesp", "fact", plan.NBYTES)}
  %layout = load i64, ptr %fact
  %type = load i64, ptr %facttypep
  %bytes = load i64, ptr %factbytesp
  store i64 %layout, ptr %heldp
  store i64 %type, ptr %typep
  store i64 %bytes, ptr %bytesp
  ret void
}}
; memory of a root is read as it is, if no noted call wrote it or read it so
define internal void @read_as_is(ptr %notes, i64 %number, i64 %data, i64 %away, ptr %fact) nounwind {{
entry:
  {start("roots", abi.ROOTS)}
  {root("rec", "number")}
  {word("heldp", "rec", abi.HELD)}
  %layout = load i64, ptr %fact
  %held = load i64, ptr %heldp
  %isheld = icmp ne i64 %held, 0
  br i1 %isheld, label %done, label %look
look:
  %again = call i1 @was_read(ptr %notes, ptr %rec, i64 %away, i64 %layout)
  br i1 %again, label %done, label %add
add:
  {start("reads", abi.READS)}
  {count("n", abi.READS)}
  %read = getelementptr [{abi.READ_WORDS} x i64], ptr %reads, i64 %n
  {word("lastp", "rec", abi.LAST_READ)}
  {word("awayp", "read", abi.AWAY)}
  {word("seenp", "read", abi.SEEN)}
  {word("bytesp", "read", abi.SEEN_BYTES)}
  {word("beforep", "read", abi.READ_BEFORE)}
  {word("factbytesp", "fact", plan.NBYTES)}
  %bytes = load i64, ptr %factbytesp
  %before = load i64, ptr %lastp
  %n1 = add i64 %n, 1
  store i64 %data, ptr %read
  store i64 %away, ptr %awayp
  store i64 %layout, ptr %seenp
  store i64 %bytes, ptr %bytesp
  store i64 %before, ptr %beforep
  store i64 %n1, ptr %lastp
  store i64 %n1, ptr %n.at
  br label %done
done:
  ret void
}}
"""

NOTING = f"""
; note a call that fits: what it takes, its numbers, and the storages that it made
define internal void @note(ptr %self, ptr %plan, ptr %args, ptr %scalars, ptr %made) nounwind {{
entry:
  %notes = load ptr, ptr {cell("notes")}
  {heads()}
  call void @Py_IncRef(ptr %self)
  %payload = ptrtoint ptr %self to i64
  call void @add_word(ptr %notes, i64 %payload)
  br label %arg
arg:
  %i = phi i64 [ 0, %entry ], [ %i1, %argnext ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %one, label %tofill
one:
  %ap = getelementptr ptr, ptr %args, i64 %i
  %a = load ptr, ptr %ap
  {word("kp", "kinds", "%i")}
  %kind = load i64, ptr %kp
  %isfloat = icmp eq i64 %kind, {plan.FLOAT}
  %isint = icmp eq i64 %kind, {plan.INT}
  %isnumber = or i1 %isfloat, %isint
  br i1 %isnumber, label %number, label %tensor
number:
  {word("scalar", "scalars", "%i")}
  %value = load i64, ptr %scalar
  call void @add_number(ptr %notes, i64 %value)
  br label %argnext
tensor:
  {argument()}
  %which = call i64 @number_of(ptr %notes, ptr %r, i64 %away)
  call void @add_word(ptr %notes, i64 %which)
  {start("roots", abi.ROOTS)}
  {root("rec", "which")}
  {word("basep", "rec", abi.BASE)}
  %base = load i64, ptr %basep
  %beyond = sub i64 %away, %base
  call void @add_word(ptr %notes, i64 %beyond)
  call void @read_as_is(ptr %notes, i64 %which, i64 %data, i64 %away, ptr %factat)
  br label %argnext
argnext:
  %i1 = add i64 %i, 1
  br label %arg
tofill:
  %f = phi i64 [ 0, %arg ], [ %f1, %fillnext ]
  %moref = icmp slt i64 %f, %n
  br i1 %moref, label %fillone, label %out
fillone:
  {word("fkp", "kinds", "%f")}
  %fkind = load i64, ptr %fkp
  %fills = icmp eq i64 %fkind, {plan.FILLED}
  br i1 %fills, label %fill, label %fillnext
fill:
  %fap = getelementptr ptr, ptr %args, i64 %f
  %fa = load ptr, ptr %fap
  %fs = call ptr @storage_of(ptr %fa)
  %fr = call ptr @root_of(ptr %fs)
  %fnumber = call i64 @number_of(ptr %notes, ptr %fr, i64 0)
  %ffact = getelementptr [{plan.FACT_WORDS} x i64], ptr %facts, i64 %f
  call void @hold(ptr %notes, i64 %fnumber, ptr %ffact)
  br label %fillnext
fillnext:
  %f1 = add i64 %f, 1
  br label %tofill
out:
  {word("noutp", "plan", plan.OUTPUTS)}
  %nout = load i64, ptr %noutp
  {word("outs", "kinds", "%n")}
  br label %output
output:
  %j = phi i64 [ 0, %out ], [ %j1, %outnext ]
  %moreo = icmp slt i64 %j, %nout
  br i1 %moreo, label %outone, label %done
outone:
  %op = getelementptr [{plan.OUTPUT_WORDS} x i64], ptr %outs, i64 %j
  {word("sourcep", "op", plan.SOURCE)}
  %source = load i64, ptr %sourcep
  %isview = icmp ne i64 %source, 0
  br i1 %isview, label %outnext, label %fresh
fresh:
  %madep = getelementptr ptr, ptr %made, i64 %j
  %new = load ptr, ptr %madep
  %newnumber = call i64 @number_of(ptr %notes, ptr %new, i64 0)
  call void @add_word(ptr %notes, i64 %newnumber)
  %ofact0 = add i64 %n, %j
  %ofact = getelementptr [{plan.FACT_WORDS} x i64], ptr %facts, i64 %ofact0
  call void @hold(ptr %notes, i64 %newnumber, ptr %ofact)
  {start("newroots", abi.ROOTS)}
  {root("newroot", "newnumber").replace("%roots", "%newroots")}
  {word("ismadep", "newroot", abi.IS_MADE)}
  store i64 1, ptr %ismadep
  call void @Py_DecRef(ptr %new) ; whoever wants it holds it; else its memory serves again
  br label %outnext
outnext:
  %j1 = add i64 %j, 1
  br label %output
done:
  ret void
}}
"""

NOTES = READING + FITTING + ADDING + NOTING
