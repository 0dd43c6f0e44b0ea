"""Code that notes calls instead of running them.

`notes.py` says what notes are and has the same in Python, which is told of the calls that do not
fit here: those that no room is left for, that read memory which others may write, or whose writes
and reads cannot be told from what the roots hold.
"""

from __future__ import annotations

from amity.runtime import plan

from . import abi
from .abi import DATA, MARK, OWNER, cell
from .flow import each, read_at, read_word, word


def start(name: str, buffer: int) -> str:
    """Where a buffer of %notes starts."""
    return read_word(name, "notes", buffer, "ptr")


def count(name: str, buffer: int) -> str:
    """How many records a buffer of %notes has."""
    return read_word(name, "notes", buffer + 1)


def root(name: str, number: str, roots: str = "roots") -> str:
    return f"%{name} = getelementptr [{abi.ROOT_WORDS} x i64], ptr %{roots}, i64 %{number}"


def fact(name: str, number: str) -> str:
    """What %plan tells of an argument or output."""
    return f"%{name} = getelementptr [{plan.FACT_WORDS} x i64], ptr %facts, i64 %{number}"


def argument() -> str:
    """What is known of argument %i: its layout, the root it is in, and how far from the start."""
    return f"""
  %s = call ptr @storage_of(ptr %a)
  %r = call ptr @root_of(ptr %s)
  {read_at("data", "s", DATA, "i64")}
  {read_at("first", "r", DATA, "i64")}
  %away = sub i64 %data, %first
  {fact("fact", "i")}
  %layout = load i64, ptr %fact
"""


def heads() -> str:
    """The parts of %plan that tell of arguments."""
    return f"""
  %n = load i64, ptr %plan
  {word("kinds", "plan", plan.HEAD)}
  {read_word("facts.first", "plan", plan.FACTS)}
  {word("facts", "plan", "%facts.first")}
"""


def room() -> str:
    """Whether every buffer has space for one more call (%room), and sealed words for all roots."""
    tests = {"words": abi.WORDS, "numbers": abi.NUMBERS, "roots": abi.ROOTS, "reads": abi.READS}
    lines = [
        read_word("noted", "plan", plan.NOTED),
        read_word("nout", "plan", plan.OUTPUTS),
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
            read_word(f"{name}.limit", "notes", buffer + 2),
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
  {read_at("mark", "r", MARK, "i32")}
  %new = icmp eq i32 %mark, 0
  %wide = zext i32 %mark to i64
  %number = sub i64 %wide, 1
  {start("roots", abi.ROOTS)}
  {root("known", "number")}
  %out = select i1 %new, ptr @no_root, ptr %known
  ret ptr %out
}}
; whether there is a read of a root that is so far from its start and has such a word; or, if %wanted
; is false, a read that is not so
define internal i1 @has_read(ptr %notes, ptr %known, i64 %away, i64 %field, i64 %value, i1 %wanted)
    nounwind {{
entry:
  {start("reads", abi.READS)}
  {read_word("last", "known", abi.LAST_READ)}
  br label %look
look:
  %next = phi i64 [ %last, %entry ], [ %before, %compare ]
  %over = icmp eq i64 %next, 0
  br i1 %over, label %no, label %compare
compare:
  %k = sub i64 %next, 1
  %read = getelementptr [{abi.READ_WORDS} x i64], ptr %reads, i64 %k
  {read_word("far", "read", abi.AWAY)}
  {read_word("found", "read", "%field")}
  {read_word("before", "read", abi.READ_BEFORE)}
  %sameaway = icmp eq i64 %far, %away
  %samevalue = icmp eq i64 %found, %value
  %same = and i1 %sameaway, %samevalue
  %is = icmp eq i1 %same, %wanted
  br i1 %is, label %yes, label %look
yes:
  ret i1 true
no:
  ret i1 false
}}
"""


def was_read(known: str) -> str:
    """Whether memory %away from a root's start was read through %layout."""
    return f"""%again = call i1 @has_read(
    ptr %notes, ptr %{known}, i64 %away, i64 {abi.SEEN}, i64 %layout, i1 true)"""


FITS = f"""
  {read_word("a", "args", "%i", "ptr")}
  {read_word("kind", "kinds", "%i")}
  %fills = icmp eq i64 %kind, {plan.FILLED}
  switch i64 %kind, label %no [
    i64 {plan.TENSOR}, label %ask
    i64 {plan.FILLED}, label %ask
    i64 {plan.FLOAT}, label %i.next
    i64 {plan.INT}, label %i.next ]
ask:
  %is = call i1 @is_tensor(ptr %a)
  br i1 %is, label %tensor, label %no
tensor:
  {argument()}
  {read_word("dtype", "fact", plan.DTYPE)}
  {read_word("bytes", "fact", plan.NBYTES)}
  %known = call ptr @root_known(ptr %notes, ptr %r)
  {read_word("held", "known", abi.HELD)}
  {read_word("heldtype", "known", abi.HELD_DTYPE)}
  {read_word("heldbytes", "known", abi.HELD_BYTES)}
  %isheld = icmp ne i64 %held, 0
  %atstart = icmp eq i64 %away, 0
  %sametype = icmp eq i64 %heldtype, %dtype
  {read_at("owner", "r", OWNER)}
  %isalone = icmp eq ptr %owner, null
  br i1 %isheld, label %written, label %found
written:
  %samelayout = icmp eq i64 %held, %layout
  %same = and i1 %samelayout, %atstart
  br i1 %same, label %fits, label %inside
inside:
  {read_word("item", "fact", plan.ITEMSIZE)}
  {read_word("extent", "fact", plan.EXTENT)}
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
  {was_read("known")}
  br i1 %again, label %fits, label %no
fits:
  br i1 %fills, label %fill, label %i.next
fill:
  %whole = and i1 %atstart, %isalone
  br i1 %whole, label %renew, label %no
renew:
  br i1 %isheld, label %rewrite, label %overwrite
rewrite:
  %samebytes = icmp eq i64 %heldbytes, %bytes
  %alike = and i1 %samebytes, %sametype
  br i1 %alike, label %i.next, label %no
overwrite: ; all reads of it were of just these bytes
  %other = call i1 @has_read(
    ptr %notes, ptr %known, i64 0, i64 {abi.SEEN_BYTES}, i64 %bytes, i1 false)
  br i1 %other, label %no, label %i.next
"""

FITTING = f"""
; whether a call can be noted here
define internal i1 @note_fits(ptr %notes, ptr %plan, ptr %args, i64 %nargs) nounwind {{
entry:
  {heads()}
  {room()}
  %right = icmp eq i64 %nargs, %n
  %starts = and i1 %right, %room
  br i1 %starts, label %all, label %no
all:
  {each("i", "%n", FITS)}
  ret i1 true
no:
  ret i1 false
}}
"""


def adding(name: str, buffer: int) -> str:
    """A function that adds a word to a buffer."""
    return f"""
define internal void @{name}(ptr %notes, i64 %value) nounwind {{
entry:
  {start("words", buffer)}
  {count("n", buffer)}
  {word("to", "words", "%n")}
  store i64 %value, ptr %to
  %n1 = add i64 %n, 1
  store i64 %n1, ptr %n.at
  ret void
}}"""


ADDING = f"""
{adding("add_word", abi.WORDS)}
{adding("add_number", abi.NUMBERS)}
; the number of a root, which is held from now on; words count from where it was first met
define internal i64 @number_of(ptr %notes, ptr %r, i64 %away) nounwind {{
entry:
  {read_at("mark", "r", MARK, "i32")}
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
  {word("base.at", "rec", abi.BASE)}
  store i64 %away, ptr %base.at
  %n1 = add i64 %n, 1
  store i64 %n1, ptr %n.at
  %mark1 = trunc i64 %n1 to i32
  store i32 %mark1, ptr %mark.at
  ret i64 %n
}}
; a root holds a layout with these facts all over
define internal void @hold(ptr %notes, i64 %number, ptr %fact) nounwind {{
entry:
  {start("roots", abi.ROOTS)}
  {root("rec", "number")}
  {word("held.at", "rec", abi.HELD)}
  {word("heldtype.at", "rec", abi.HELD_DTYPE)}
  {word("heldbytes.at", "rec", abi.HELD_BYTES)}
  %layout = load i64, ptr %fact
  {read_word("type", "fact", plan.DTYPE)}
  {read_word("bytes", "fact", plan.NBYTES)}
  store i64 %layout, ptr %held.at
  store i64 %type, ptr %heldtype.at
  store i64 %bytes, ptr %heldbytes.at
  ret void
}}
; memory of a root is read as it is, if no noted call wrote it or read it so
define internal void @read_as_is(ptr %notes, i64 %number, i64 %data, i64 %away, ptr %fact) nounwind {{
entry:
  {start("roots", abi.ROOTS)}
  {root("rec", "number")}
  {read_word("held", "rec", abi.HELD)}
  %layout = load i64, ptr %fact
  %isheld = icmp ne i64 %held, 0
  br i1 %isheld, label %done, label %look
look:
  {was_read("rec")}
  br i1 %again, label %done, label %add
add:
  {start("reads", abi.READS)}
  {count("n", abi.READS)}
  %read = getelementptr [{abi.READ_WORDS} x i64], ptr %reads, i64 %n
  {word("away.at", "read", abi.AWAY)}
  {word("seen.at", "read", abi.SEEN)}
  {word("seenbytes.at", "read", abi.SEEN_BYTES)}
  {word("before.at", "read", abi.READ_BEFORE)}
  {read_word("bytes", "fact", plan.NBYTES)}
  {read_word("last", "rec", abi.LAST_READ)}
  %n1 = add i64 %n, 1
  store i64 %data, ptr %read
  store i64 %away, ptr %away.at
  store i64 %layout, ptr %seen.at
  store i64 %bytes, ptr %seenbytes.at
  store i64 %last, ptr %before.at
  store i64 %n1, ptr %last.at
  store i64 %n1, ptr %n.at
  br label %done
done:
  ret void
}}
"""

TAKE = f"""
  {read_word("a", "args", "%i", "ptr")}
  {read_word("kind", "kinds", "%i")}
  %isfloat = icmp eq i64 %kind, {plan.FLOAT}
  %isint = icmp eq i64 %kind, {plan.INT}
  %isnumber = or i1 %isfloat, %isint
  br i1 %isnumber, label %number, label %tensor
number:
  {read_word("value", "scalars", "%i")}
  call void @add_number(ptr %notes, i64 %value)
  br label %i.next
tensor:
  {argument()}
  %which = call i64 @number_of(ptr %notes, ptr %r, i64 %away)
  call void @add_word(ptr %notes, i64 %which)
  {start("roots", abi.ROOTS)}
  {root("rec", "which")}
  {read_word("base", "rec", abi.BASE)}
  %beyond = sub i64 %away, %base
  call void @add_word(ptr %notes, i64 %beyond)
  call void @read_as_is(ptr %notes, i64 %which, i64 %data, i64 %away, ptr %fact)
"""

FILL = f"""
  {read_word("fkind", "kinds", "%f")}
  %fills = icmp eq i64 %fkind, {plan.FILLED}
  br i1 %fills, label %fill, label %f.next
fill:
  {read_word("fa", "args", "%f", "ptr")}
  %fs = call ptr @storage_of(ptr %fa)
  %fr = call ptr @root_of(ptr %fs)
  %fnumber = call i64 @number_of(ptr %notes, ptr %fr, i64 0)
  {fact("ffact", "f")}
  call void @hold(ptr %notes, i64 %fnumber, ptr %ffact)
"""

MAKE = f"""
  %o = getelementptr [{plan.OUTPUT_WORDS} x i64], ptr %outs, i64 %j
  {read_word("source", "o", plan.SOURCE)}
  %isview = icmp ne i64 %source, 0
  br i1 %isview, label %j.next, label %fresh
fresh:
  {read_word("new", "made", "%j", "ptr")}
  %newnumber = call i64 @number_of(ptr %notes, ptr %new, i64 0)
  call void @add_word(ptr %notes, i64 %newnumber)
  %after = add i64 %n, %j
  {fact("ofact", "after")}
  call void @hold(ptr %notes, i64 %newnumber, ptr %ofact)
  {start("newroots", abi.ROOTS)}
  {root("newroot", "newnumber", "newroots")}
  {word("ismade.at", "newroot", abi.IS_MADE)}
  store i64 1, ptr %ismade.at
  call void @Py_DecRef(ptr %new) ; whoever wants it holds it; else its memory serves again
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
  {each("i", "%n", TAKE)}
  {each("f", "%n", FILL)}
  {read_word("nout", "plan", plan.OUTPUTS)}
  {word("outs", "kinds", "%n")}
  {each("j", "%nout", MAKE)}
  ret void
}}
"""

NOTES = READING + FITTING + ADDING + NOTING
