"""Code that ends notes: makes their key, runs a Program over what was noted, forgets them."""

from __future__ import annotations

from amity.runtime import plan

from . import abi
from .abi import DATA, MARK, PAYLOAD, cell
from .flow import at, each, read_at, read_word, when, word
from .note_code import count, root, start

NONE = f"""%none = load ptr, ptr {cell("none")}
  call void @Py_IncRef(ptr %none)
  ret ptr %none"""

HOLD = f"""
  call void @Py_IncRef(ptr %s) ; until the notes are cleared
  store i64 {abi.KEPT}, ptr %ismade.at
"""

LIVING = f"""
  {root("rec", "r")}
  {read_word("ismade", "rec", abi.IS_MADE)}
  %isfound = icmp eq i64 %ismade, 0
  br i1 %isfound, label %r.seen, label %ask
ask:
  %s = load ptr, ptr %rec
  %gone = icmp eq ptr %s, null
  br i1 %gone, label %r.seen, label %alive
alive:
  %isnew = icmp ne i64 %ismade, {abi.KEPT} ; else they were sealed before, and did not run
  {when("isnew", HOLD)}
  {word("to", "words", "%k")}
  store i64 %r, ptr %to
  %kalive = add i64 %k, 1
  br label %r.seen
r.seen:
  %k1 = phi i64 [ %k, %r.body ], [ %k, %ask ], [ %kalive, %isnew.no ]
"""

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
  {NONE}
begin:
  {word("zero", "words", "%nwords")}
  store i64 0, ptr %zero
  %from = add i64 %nwords, 1
  {each("r", "%nroots", LIVING, [("i64", "k", "%from", "%k1")])}
  %size = mul i64 %k, 8
  %key = call ptr @PyBytes_FromStringAndSize(ptr %words, i64 %size)
  ret ptr %key
}}
"""

SLOT = f"""
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
  {read_word("which", "targets", "%t")}
  {root("into", "which")}
  %s = load ptr, ptr %into
  {read_at("data", "s", DATA)}
  br label %fill
number:
  %k = sub i64 %i, %memory
  {word("value", "numbers", "%k")}
  br label %fill
fill:
  %base = phi ptr [ %address, %read ], [ %data, %target ], [ %value, %number ]
  {word("slot", "slots", "%i")}
  store ptr %base, ptr %slot
"""

REPLAYING = f"""
; replay() -> None: run a Program over what was noted, and clear; self holds its plan, how many roots
; receive results, and which
define ptr @amity_replay(ptr %self, ptr %ignored) nounwind {{
entry:
  %notes = load ptr, ptr {cell("notes")}
  {read_at("plan", "self", PAYLOAD)}
  {read_word("ntargets", "plan.at", 1)}
  {word("targets", "plan.at", 2)}
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
  {each("i", "%n", SLOT)}
  %ran = call i1 @run_steps(ptr %plan, ptr %slots, i64 %n)
  call void @clear(ptr %notes)
  br i1 %ran, label %done, label %failed
failed:
  ret ptr null
done:
  {NONE}
}}
; forget() -> None
define ptr @amity_forget(ptr %self, ptr %ignored) nounwind {{
  %notes = load ptr, ptr {cell("notes")}
  call void @clear(ptr %notes)
  {NONE}
}}
"""

UNMARK = f"""
  {root("urec", "u")}
  %us = load ptr, ptr %urec
  %ugone = icmp eq ptr %us, null
  br i1 %ugone, label %u.next, label %mark
mark:
  {at("mark.at", "us", MARK)}
  store i32 0, ptr %mark.at
"""

RELEASE = f"""
  {root("rec", "r")}
  %s = load ptr, ptr %rec
  %gone = icmp eq ptr %s, null
  {read_word("ismade", "rec", abi.IS_MADE)}
  %isothers = icmp eq i64 %ismade, 1
  %stays = or i1 %gone, %isothers
  br i1 %stays, label %r.next, label %release
release:
  call void @Py_DecRef(ptr %s)
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
  {each("u", "%nroots", UNMARK)}
  br label %call
call:
  %c = phi i64 [ 0, %u.done ], [ %c1, %drop ]
  %morec = icmp slt i64 %c, %nwords
  br i1 %morec, label %drop, label %release_roots
drop:
  {read_word("payload", "words", "%c", "ptr")}
  {read_at("plan", "payload", PAYLOAD)}
  {read_word("noted", "plan", plan.NOTED)}
  %c1 = add i64 %c, %noted
  call void @Py_DecRef(ptr %payload)
  br label %call
release_roots:
  {each("r", "%nroots", RELEASE)}
  {word("nnumbers.at", "notes", abi.NUMBERS + 1)}
  {word("nreads.at", "notes", abi.READS + 1)}
  store i64 0, ptr %nwords.at
  store i64 0, ptr %nnumbers.at
  store i64 0, ptr %nroots.at
  store i64 0, ptr %nreads.at
  store ptr %recorder, ptr {cell("recorder")}
  ret void
}}
"""

REPLAY = SEALING + REPLAYING + CLEARING
