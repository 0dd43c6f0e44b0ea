"""Code that ends notes: makes their key, runs a Program over what was noted, forgets them."""

from __future__ import annotations

from amity.runtime import plan

from . import abi
from .abi import DATA, MARK, PAYLOAD, at, cell
from .note_code import count, root, start, word

SEALING = f"""
; a root that a call made is gone: nobody held it
define internal void @lose_root(i32 %mark) nounwind {{
  %notes = load ptr, ptr {cell("notes")}
  {start("roots", abi.ROOTS)}
  %wide = zext i32 %mark to i64
  %number = sub i64 %wide, 1
  {root("rec", "number")}
  store ptr null, ptr %rec
  ret void
}}
; seal() -> key, or None if nothing was noted: end the words with a zero and the roots that calls
; made and others hold, held here too from now on
define ptr @amity_seal(ptr %self, ptr %ignored) nounwind {{
entry:
  %notes = load ptr, ptr {cell("notes")}
  {start("words", abi.WORDS)}
  {count("nwords", abi.WORDS)}
  {start("roots", abi.ROOTS)}
  {count("nroots", abi.ROOTS)}
  %isempty = icmp eq i64 %nwords, 0
  br i1 %isempty, label %nothing, label %begin
nothing:
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
begin:
  {word("zero", "words", "%nwords")}
  store i64 0, ptr %zero
  %from = add i64 %nwords, 1
  br label %look
look:
  %r = phi i64 [ 0, %begin ], [ %r1, %next ]
  %k = phi i64 [ %from, %begin ], [ %k1, %next ]
  %more = icmp slt i64 %r, %nroots
  br i1 %more, label %one, label %sealed
one:
  {root("rec", "r")}
  {word("ismadep", "rec", abi.IS_MADE)}
  %made = load i64, ptr %ismadep
  %ismade = icmp ne i64 %made, 0
  br i1 %ismade, label %ask, label %next
ask:
  %s = load ptr, ptr %rec
  %gone = icmp eq ptr %s, null
  br i1 %gone, label %next, label %alive
alive:
  call void @Py_IncRef(ptr %s) ; until the notes are cleared
  store i64 {abi.KEPT}, ptr %ismadep
  {word("to", "words", "%k")}
  store i64 %r, ptr %to
  %kalive = add i64 %k, 1
  br label %next
next:
  %k1 = phi i64 [ %k, %one ], [ %k, %ask ], [ %kalive, %alive ]
  %r1 = add i64 %r, 1
  br label %look
sealed:
  %size = mul i64 %k, 8
  %key = call ptr @PyBytes_FromStringAndSize(ptr %words, i64 %size)
  ret ptr %key
}}
"""

REPLAYING = f"""
; replay() -> None: run a Program over what was noted, and clear; self holds its plan, how many roots
; receive results, and which
define ptr @amity_replay(ptr %self, ptr %ignored) nounwind {{
entry:
  %notes = load ptr, ptr {cell("notes")}
  {at("planp", "self", PAYLOAD)}
  {word("ntargetsp", "planp", 1)}
  {word("targets", "planp", 2)}
  %plan = load ptr, ptr %planp
  %ntargets = load i64, ptr %ntargetsp
  %n = load i64, ptr %plan
  {start("roots", abi.ROOTS)}
  {start("reads", abi.READS)}
  {count("nreads", abi.READS)}
  {start("numbers", abi.NUMBERS)}
  {count("nnumbers", abi.NUMBERS)}
  %memory = add i64 %nreads, %ntargets
  %all = add i64 %memory, %nnumbers
  %right = icmp eq i64 %all, %n
  br i1 %right, label %begin, label %wrong
wrong:
  %e0 = call ptr @fail(ptr {cell("type_error")}, ptr @type_text)
  ret ptr null
begin:
  %nslots = add i64 %n, 2
  %slots = alloca ptr, i64 %nslots
  br label %slot
slot:
  %i = phi i64 [ 0, %begin ], [ %i1, %fill ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %which, label %run
which:
  %isread = icmp slt i64 %i, %nreads
  br i1 %isread, label %read, label %beyond
read:
  %rec = getelementptr [{abi.READ_WORDS} x i64], ptr %reads, i64 %i
  %address = load ptr, ptr %rec
  br label %fill
beyond:
  %istarget = icmp slt i64 %i, %memory
  br i1 %istarget, label %target, label %number
target:
  %t = sub i64 %i, %nreads
  {word("targetp", "targets", "%t")}
  %which.root = load i64, ptr %targetp
  {root("into", "which.root")}
  %s = load ptr, ptr %into
  {at("dp", "s", DATA)}
  %data = load ptr, ptr %dp
  br label %fill
number:
  %k = sub i64 %i, %memory
  {word("value", "numbers", "%k")}
  br label %fill
fill:
  %base = phi ptr [ %address, %read ], [ %data, %target ], [ %value, %number ]
  %slotp = getelementptr ptr, ptr %slots, i64 %i
  store ptr %base, ptr %slotp
  %i1 = add i64 %i, 1
  br label %slot
run:
  %ran = call i1 @run_steps(ptr %plan, ptr %slots, i64 %n)
  call void @clear(ptr %notes)
  br i1 %ran, label %done, label %failed
failed:
  ret ptr null
done:
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
; forget() -> None
define ptr @amity_forget(ptr %self, ptr %ignored) nounwind {{
  %notes = load ptr, ptr {cell("notes")}
  call void @clear(ptr %notes)
  %none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none
}}
"""

CLEARING = f"""
; forget all notes; what runs as things are let go of is not noted
define internal void @clear(ptr %notes) nounwind {{
entry:
  %recorder = load ptr, ptr {cell("recorder")}
  store ptr null, ptr {cell("recorder")}
  {start("words", abi.WORDS)}
  {count("nwords", abi.WORDS)}
  {start("roots", abi.ROOTS)}
  {count("nroots", abi.ROOTS)}
  br label %unmark
unmark:
  %u = phi i64 [ 0, %entry ], [ %u1, %unmarked ]
  %moreu = icmp slt i64 %u, %nroots
  br i1 %moreu, label %unmarkone, label %call
unmarkone:
  {root("urec", "u")}
  %us = load ptr, ptr %urec
  %ugone = icmp eq ptr %us, null
  br i1 %ugone, label %unmarked, label %mark
mark:
  {at("markp", "us", MARK)}
  store i32 0, ptr %markp
  br label %unmarked
unmarked:
  %u1 = add i64 %u, 1
  br label %unmark
call:
  %c = phi i64 [ 0, %unmark ], [ %c1, %drop ]
  %morec = icmp slt i64 %c, %nwords
  br i1 %morec, label %drop, label %root
drop:
  {word("payloadp", "words", "%c")}
  %payload = load ptr, ptr %payloadp
  {at("planp", "payload", PAYLOAD)}
  %plan = load ptr, ptr %planp
  {word("notedp", "plan", plan.NOTED)}
  %noted = load i64, ptr %notedp
  %c1 = add i64 %c, %noted
  call void @Py_DecRef(ptr %payload)
  br label %call
root:
  %r = phi i64 [ 0, %call ], [ %r1, %rootnext ]
  %morer = icmp slt i64 %r, %nroots
  br i1 %morer, label %rootone, label %done
rootone:
  {root("rec", "r")}
  %s = load ptr, ptr %rec
  %gone = icmp eq ptr %s, null
  {word("ismadep", "rec", abi.IS_MADE)}
  %ismade = load i64, ptr %ismadep
  %isothers = icmp eq i64 %ismade, 1
  %stays = or i1 %gone, %isothers
  br i1 %stays, label %rootnext, label %release
release:
  call void @Py_DecRef(ptr %s)
  br label %rootnext
rootnext:
  %r1 = add i64 %r, 1
  br label %root
done:
  {word("wordsnp", "notes", abi.WORDS + 1)}
  {word("numbersnp", "notes", abi.NUMBERS + 1)}
  {word("rootsnp", "notes", abi.ROOTS + 1)}
  {word("readsnp", "notes", abi.READS + 1)}
  store i64 0, ptr %wordsnp
  store i64 0, ptr %numbersnp
  store i64 0, ptr %rootsnp
  store i64 0, ptr %readsnp
  store ptr %recorder, ptr {cell("recorder")}
  ret void
}}
"""

REPLAY = SEALING + REPLAYING + CLEARING
