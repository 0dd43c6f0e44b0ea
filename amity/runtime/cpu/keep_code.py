"""Code that finds what a plan's first steps made of some arguments, while nobody wrote these since.

A guard compares the argument's address, and the version of the root storage that is known to be there
and held. Memory that has other owners is never the same. What is made while a guard failed stays for
the next calls, unless one that began later renewed it: threads may run a plan at the same time.
"""

from __future__ import annotations

from amity.runtime import kept, plan

from .abi import DATA, FILLED_HEAP, OWNER, VERSION, at

# in `run_steps`: from label `go` on to `begin`, with what is kept in its slot if the plan keeps anything
LOOKUP = f"""  %p10 = getelementptr i64, ptr %plan, i64 {plan.KEPT}
  %keptpool = load ptr, ptr %p10
  %keeps = icmp ne ptr %keptpool, null
  br i1 %keeps, label %lookup, label %begin
lookup:
  %kslotno = add i64 %arenaslot, 1
  %kslot = getelementptr ptr, ptr %slots, i64 %kslotno
  %times = call i64 @find_kept(ptr %plan, ptr %slots, ptr %kslot)
  %kb = load ptr, ptr %kslot
  %knull = icmp eq ptr %kb, null
  br i1 %knull, label %dropkeptfail, label %keptok
dropkeptfail:
  %has_sk = icmp ne ptr %scratchblock, null
  br i1 %has_sk, label %dropscratchfail, label %dropfail
dropscratchfail:
  call void @Py_DecRef(ptr %scratchblock)
  br label %dropfail
keptok:
  {at("kdp", "kb", DATA)}
  %kd = load ptr, ptr %kdp
  store ptr %kd, ptr %kslot
  %hit = icmp eq i64 %times, -1
  %p11 = getelementptr i64, ptr %plan, i64 {plan.SKIPS}
  %skips0 = load i64, ptr %p11
  %skips1 = select i1 %hit, i64 %skips0, i64 0
  br label %begin
begin:
  %keptblock = phi ptr [ null, %go ], [ %kb, %keptok ]
  %madetimes = phi i64 [ -1, %go ], [ %times, %keptok ]
  %skips = phi i64 [ 0, %go ], [ %skips1, %keptok ]
"""

KEEPING = f"""
; find what is kept, or room for it: a storage, held, goes to %out, or null with an error set; -1 if it is
; there already, else how often it was made, or -2 if it is not to be kept
define internal i64 @find_kept(ptr %plan, ptr %slots, ptr %out) nounwind noinline {{
entry:
  %statep = getelementptr i64, ptr %plan, i64 {plan.STATE}
  %state = load ptr, ptr %statep
  %armedp = getelementptr i64, ptr %state, i64 {kept.ARMED}
  %timesp = getelementptr i64, ptr %state, i64 {kept.TIMES}
  %countp = getelementptr i64, ptr %state, i64 {kept.GUARDS}
  %first = getelementptr i64, ptr %state, i64 {kept.STATE_HEAD}
  %armed = load i64, ptr %armedp
  %count = load i64, ptr %countp
  %is_armed = icmp ne i64 %armed, 0
  br i1 %is_armed, label %place, label %make
place:
  %i = phi i64 [ 0, %entry ], [ %i1, %placed ]
  %old = phi i1 [ true, %entry ], [ %old1, %placed ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %placeone, label %placesdone
placeone:
  %at = mul i64 %i, {kept.GUARD_WORDS}
  %g = getelementptr i64, ptr %first, i64 %at
  %slot = load i64, ptr %g
  %gaddress = getelementptr i64, ptr %g, i64 {kept.GUARD_ADDRESS}
  %address = load ptr, ptr %gaddress
  %groot = getelementptr i64, ptr %g, i64 {kept.GUARD_ROOT}
  %root = load ptr, ptr %groot
  %gversion = getelementptr i64, ptr %g, i64 {kept.GUARD_VERSION}
  %seen = load i64, ptr %gversion
  %herep = getelementptr ptr, ptr %slots, i64 %slot
  %here = load ptr, ptr %herep
  %is_here = icmp eq ptr %here, %address
  {at("ownerp", "root", OWNER)}
  %owner = load ptr, ptr %ownerp
  %is_alone = icmp eq ptr %owner, null
  {at("stampp", "root", VERSION)}
  %stamp = load i32, ptr %stampp
  %is_strict = icmp sge i32 %stamp, 0 ; no write may have been missed: the first bit tells
  %is_known = and i1 %is_here, %is_strict
  %is_same = and i1 %is_known, %is_alone
  br i1 %is_same, label %placed, label %disarm
placed:
  {at("versionp", "root", VERSION)}
  %version = load i32, ptr %versionp
  %now = zext i32 %version to i64
  %is_old = icmp eq i64 %now, %seen
  %old1 = and i1 %old, %is_old
  %i1 = add i64 %i, 1
  br label %place
disarm:
  store i64 0, ptr %armedp
  br label %make
placesdone:
  %block = load ptr, ptr %state
  %is_there = icmp ne ptr %block, null
  %hit = and i1 %old, %is_there
  br i1 %hit, label %use, label %renew
use:
  call void @Py_IncRef(ptr %block)
  store ptr %block, ptr %out
  ret i64 -1
renew:
  %t = phi i64 [ 0, %placesdone ], [ %t1, %renewone ]
  %moret = icmp slt i64 %t, %count
  br i1 %moret, label %renewone, label %drop
renewone:
  %tat = mul i64 %t, {kept.GUARD_WORDS}
  %tg = getelementptr i64, ptr %first, i64 %tat
  %tgroot = getelementptr i64, ptr %tg, i64 {kept.GUARD_ROOT}
  %troot = load ptr, ptr %tgroot
  {at("tversionp", "troot", VERSION)}
  %tversion = load i32, ptr %tversionp
  %tnow = zext i32 %tversion to i64
  %tgversion = getelementptr i64, ptr %tg, i64 {kept.GUARD_VERSION}
  store i64 %tnow, ptr %tgversion
  %t1 = add i64 %t, 1
  br label %renew
drop:
  %before = load i64, ptr %timesp
  %after = add i64 %before, 1
  store i64 %after, ptr %timesp
  store ptr null, ptr %state
  br i1 %is_there, label %dropone, label %make
dropone:
  call void @Py_DecRef(ptr %block)
  br label %make
make:
  %result = phi i64 [ -2, %entry ], [ -2, %disarm ], [ %after, %drop ], [ %after, %dropone ]
  %poolp = getelementptr i64, ptr %plan, i64 {plan.KEPT}
  %pool = load ptr, ptr %poolp
  %new = call ptr @take(ptr %pool, i64 {FILLED_HEAP})
  store ptr %new, ptr %out
  ret i64 %result
}}
; let go of what was kept or made; what was made stays if nothing newer was begun meanwhile
define internal void @leave_kept(ptr %plan, ptr %block, i64 %times) nounwind noinline {{
entry:
  %statep = getelementptr i64, ptr %plan, i64 {plan.STATE}
  %state = load ptr, ptr %statep
  %timesp = getelementptr i64, ptr %state, i64 {kept.TIMES}
  %now = load i64, ptr %timesp
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
