"""Code that finds what a plan's first steps made of some arguments, while nobody wrote these since.

A guard compares the argument's address, and the version of the root storage that is known to be there
and held. Memory that has other owners is never the same. What is made while a guard failed stays for
the next calls, unless one that began later renewed it: threads may run a plan at the same time.
"""

from __future__ import annotations

from amity.runtime import kept, plan

from .abi import DATA, FILLED_HEAP, OWNER, VERSION
from .flow import each, read_at, read_word, word

# in `run_steps`: from label `go` on to `begin`, with what is kept in its slot if the plan keeps anything
LOOKUP = f"""{read_word("keptpool", "plan", plan.KEPT, "ptr")}
  %keeps = icmp ne ptr %keptpool, null
  br i1 %keeps, label %lookup, label %begin
lookup:
  %kslotno = add i64 %arenaslot, 1
  {word("kslot", "slots", "%kslotno")}
  %times = call i64 @find_kept(ptr %plan, ptr %slots, ptr %kslot)
  %kb = load ptr, ptr %kslot
  %knull = icmp eq ptr %kb, null
  br i1 %knull, label %dropscratch, label %keptok
keptok:
  {read_at("kd", "kb", DATA)}
  store ptr %kd, ptr %kslot
  %hit = icmp eq i64 %times, -1
  {read_word("skips0", "plan", plan.SKIPS)}
  %skips1 = select i1 %hit, i64 %skips0, i64 0
  br label %begin
begin:
  %keptblock = phi ptr [ null, %go ], [ %kb, %keptok ]
  %madetimes = phi i64 [ -1, %go ], [ %times, %keptok ]
  %skips = phi i64 [ 0, %go ], [ %skips1, %keptok ]"""


def guard(name: str, number: str) -> str:
    """One of the guards at %first."""
    return f"%{name} = getelementptr [{kept.GUARD_WORDS} x i64], ptr %first, i64 %{number}"


COMPARE = f"""
  {guard("g", "i")}
  %slot = load i64, ptr %g
  {read_word("address", "g", kept.GUARD_ADDRESS, "ptr")}
  {read_word("root", "g", kept.GUARD_ROOT, "ptr")}
  {read_word("seen", "g", kept.GUARD_VERSION)}
  {read_word("here", "slots", "%slot", "ptr")}
  {read_at("owner", "root", OWNER)}
  {read_at("version", "root", VERSION, "i32")}
  %is_here = icmp eq ptr %here, %address
  %is_alone = icmp eq ptr %owner, null
  %is_strict = icmp sge i32 %version, 0 ; no write may have been missed: the first bit tells
  %is_known = and i1 %is_here, %is_strict
  %is_same = and i1 %is_known, %is_alone
  br i1 %is_same, label %placed, label %disarm
placed:
  %now = zext i32 %version to i64
  %is_old = icmp eq i64 %now, %seen
  %old1 = and i1 %old, %is_old
"""

RENEW = f"""
  {guard("rg", "t")}
  {read_word("rroot", "rg", kept.GUARD_ROOT, "ptr")}
  {read_at("rversion", "rroot", VERSION, "i32")}
  %rnow = zext i32 %rversion to i64
  {word("rseen.at", "rg", kept.GUARD_VERSION)}
  store i64 %rnow, ptr %rseen.at
"""

KEEPING = f"""
; find what is kept, or room for it: a storage, held, goes to %out, or null with an error set; -1 if it is
; there already, else how often it was made, or -2 if it is not to be kept
define internal i64 @find_kept(ptr %plan, ptr %slots, ptr %out) nounwind noinline {{
entry:
  {read_word("state", "plan", plan.STATE, "ptr")}
  {read_word("armed", "state", kept.ARMED)}
  {read_word("count", "state", kept.GUARDS)}
  {word("first", "state", kept.STATE_HEAD)}
  %is_armed = icmp ne i64 %armed, 0
  br i1 %is_armed, label %place, label %make
place:
  {each("i", "%count", COMPARE, [("i1", "old", "true", "%old1")])}
  %block = load ptr, ptr %state
  %is_there = icmp ne ptr %block, null
  %hit = and i1 %old, %is_there
  br i1 %hit, label %use, label %renew
disarm:
  store i64 0, ptr %armed.at
  br label %make
use:
  call void @Py_IncRef(ptr %block)
  store ptr %block, ptr %out
  ret i64 -1
renew:
  {each("t", "%count", RENEW)}
  {read_word("before", "state", kept.TIMES)}
  %after = add i64 %before, 1
  store i64 %after, ptr %before.at
  store ptr null, ptr %state
  br i1 %is_there, label %drop, label %make
drop:
  call void @Py_DecRef(ptr %block)
  br label %make
make:
  %result = phi i64 [ -2, %entry ], [ -2, %disarm ], [ %after, %t.done ], [ %after, %drop ]
  {read_word("pool", "plan", plan.KEPT, "ptr")}
  %new = call ptr @take(ptr %pool, i64 {FILLED_HEAP})
  store ptr %new, ptr %out
  ret i64 %result
}}
; let go of what was kept or made; what was made stays if nothing newer was begun meanwhile
define internal void @leave_kept(ptr %plan, ptr %block, i64 %times) nounwind noinline {{
entry:
  {read_word("state", "plan", plan.STATE, "ptr")}
  {read_word("now", "state", kept.TIMES)}
  %is_newest = icmp eq i64 %now, %times
  br i1 %is_newest, label %stay, label %leave
stay:
  store ptr %block, ptr %state
  ret void
leave:
  call void @Py_DecRef(ptr %block)
  ret void
}}
"""
