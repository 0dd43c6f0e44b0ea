"""Code of the heap that large blocks come from.

The best fit serves, the lowest of several; neighbours join as soon as both are free. Memory that
one size of tensor gave back serves any other, so what a process holds follows the most it used at
once, and new sizes seldom touch new pages. A chunk from the system is a row of spans; a span is a
header, then memory. Free spans form a list.

What noted calls make has a heap of its own, without huge pages: most of it is gone before a Program
fills it, so it should take no memory, nor lie where the Program's own memory would fit in one piece.
"""

from __future__ import annotations

from .abi import (
    FILLED_HEAP,
    FREE_SPANS,
    KEPT_BYTES,
    KEPT_LIMIT,
    NOTED_HEAP,
    TAKES_HUGE,
    cell,
)
from .blocks import CHUNK, HUGE_PAGE, MIN_SPAN
from .flow import at

# A span: its bytes, the span before it in its chunk, whether it is free and whether it is the
# chunk's last (in one word each), its neighbours in the list, how many of its bytes were used before,
# the state of its heap
SIZE, BEFORE, IS_FREE, IS_LAST, NEXT, PREVIOUS, TOUCHED, STATE, SPAN_HEADER = range(0, 72, 8)

LIST = f"""
define internal void @heap_link(ptr %state, ptr %s) nounwind {{
entry:
  {at("listp", "state", FREE_SPANS)}
  {at("freep", "s", IS_FREE)}
  {at("nextp", "s", NEXT)}
  {at("prevp", "s", PREVIOUS)}
  %next = load ptr, ptr %listp
  store i64 1, ptr %freep
  store ptr %next, ptr %nextp
  store ptr null, ptr %prevp
  store ptr %s, ptr %listp
  %alone = icmp eq ptr %next, null
  br i1 %alone, label %done, label %tie
tie:
  {at("backp", "next", PREVIOUS)}
  store ptr %s, ptr %backp
  br label %done
done:
  ret void
}}
define internal void @heap_unlink(ptr %state, ptr %s) nounwind {{
entry:
  {at("freep", "s", IS_FREE)}
  {at("nextp", "s", NEXT)}
  {at("prevp", "s", PREVIOUS)}
  store i64 0, ptr %freep
  %next = load ptr, ptr %nextp
  %prev = load ptr, ptr %prevp
  %isfirst = icmp eq ptr %prev, null
  {at("listp", "state", FREE_SPANS)}
  {at("forthp", "prev", NEXT)}
  %from = select i1 %isfirst, ptr %listp, ptr %forthp
  store ptr %next, ptr %from
  %islast = icmp eq ptr %next, null
  br i1 %islast, label %done, label %tie
tie:
  {at("backp", "next", PREVIOUS)}
  store ptr %prev, ptr %backp
  br label %done
done:
  ret void
}}
; let the span after %s know that %s is before it
define internal void @heap_face(ptr %s) nounwind {{
entry:
  {at("lastp", "s", IS_LAST)}
  %last = load i64, ptr %lastp
  %end = icmp ne i64 %last, 0
  br i1 %end, label %done, label %tell
tell:
  %size = load i64, ptr %s
  %after = getelementptr i8, ptr %s, i64 %size
  {at("beforep", "after", BEFORE)}
  store ptr %s, ptr %beforep
  br label %done
done:
  ret void
}}
"""

GROW = f"""
; a free span in a new chunk, in the list; null if the system has none
define internal ptr @heap_grow(ptr %state, i64 %need) nounwind {{
entry:
  %cellp = alloca ptr
  %round = add i64 %need, {HUGE_PAGE - 1}
  %exact = and i64 %round, {-HUGE_PAGE}
  %most = call i64 @llvm.smax.i64(i64 %exact, i64 {CHUNK})
  %bad = call i32 @posix_memalign(ptr %cellp, i64 {HUGE_PAGE}, i64 %most)
  %failed = icmp ne i32 %bad, 0
  br i1 %failed, label %less, label %got
less:
  call void @amity_trim_heap()
  %bad2 = call i32 @posix_memalign(ptr %cellp, i64 {HUGE_PAGE}, i64 %exact)
  %failed2 = icmp ne i32 %bad2, 0
  br i1 %failed2, label %none, label %got
none:
  ret ptr null
got:
  %total = phi i64 [ %most, %entry ], [ %exact, %less ]
  %block = load ptr, ptr %cellp
  {at("hugep", "state", TAKES_HUGE)}
  %takes = load i64, ptr %hugep
  %takeshuge = icmp ne i64 %takes, 0
  br i1 %takeshuge, label %advise, label %set
advise:
  call void @in_huge_pages(ptr %block, i64 %total)
  br label %set
set:
  {at("beforep", "block", BEFORE)}
  {at("lastp", "block", IS_LAST)}
  {at("touchedp", "block", TOUCHED)}
  store i64 %total, ptr %block
  store ptr null, ptr %beforep
  store i64 1, ptr %lastp
  store i64 0, ptr %touchedp
  {at("ownp", "block", STATE)}
  store ptr %state, ptr %ownp
  call void @heap_link(ptr %state, ptr %block)
  ret ptr %block
}}
declare i64 @llvm.smax.i64(i64, i64)
"""

TAKE = f"""
; a span of at least %need bytes of a heap, or null
define internal ptr @heap_take(ptr %state, i64 %need) nounwind {{
entry:
  {at("listp", "state", FREE_SPANS)}
  %first = load ptr, ptr %listp
  br label %look
look:
  %s = phi ptr [ %first, %entry ], [ %next, %weigh ]
  %best = phi ptr [ null, %entry ], [ %best1, %weigh ]
  %least = phi i64 [ {(1 << 63) - 1}, %entry ], [ %least1, %weigh ]
  %over = icmp eq ptr %s, null
  br i1 %over, label %chosen, label %weigh
weigh:
  %size = load i64, ptr %s
  %fits = icmp uge i64 %size, %need
  %smaller = icmp ult i64 %size, %least
  %same = icmp eq i64 %size, %least
  %lower = icmp ult ptr %s, %best
  %tie = and i1 %same, %lower
  %nicer = or i1 %smaller, %tie
  %better = and i1 %fits, %nicer
  %best1 = select i1 %better, ptr %s, ptr %best
  %least1 = select i1 %better, i64 %size, i64 %least
  {at("nextp", "s", NEXT)}
  %next = load ptr, ptr %nextp
  br label %look
chosen:
  %nothing = icmp eq ptr %best, null
  br i1 %nothing, label %grow, label %have
grow:
  %new = call ptr @heap_grow(ptr %state, i64 %need)
  %failed = icmp eq ptr %new, null
  br i1 %failed, label %out, label %have
out:
  ret ptr null
have:
  %span = phi ptr [ %best, %chosen ], [ %new, %grow ]
  call void @heap_unlink(ptr %state, ptr %span)
  %all = load i64, ptr %span
  {at("touchedp", "span", TOUCHED)}
  %touched = load i64, ptr %touchedp
  {at("keptp", "state", KEPT_BYTES)}
  %kept = load i64, ptr %keptp
  %kept1 = sub i64 %kept, %touched
  store i64 %kept1, ptr %keptp
  %rest = sub i64 %all, %need
  %splits = icmp uge i64 %rest, {MIN_SPAN}
  br i1 %splits, label %split, label %done
split:
  %tail = getelementptr i8, ptr %span, i64 %need
  {at("lastp", "span", IS_LAST)}
  {at("tlastp", "tail", IS_LAST)}
  {at("tbeforep", "tail", BEFORE)}
  {at("ttouchedp", "tail", TOUCHED)}
  {at("tstatep", "tail", STATE)}
  store ptr %state, ptr %tstatep
  %last = load i64, ptr %lastp
  store i64 0, ptr %lastp
  store i64 %last, ptr %tlastp
  store i64 %need, ptr %span
  store i64 %rest, ptr %tail
  store ptr %span, ptr %tbeforep
  %beyond = sub i64 %touched, %need
  %used = call i64 @llvm.smax.i64(i64 %beyond, i64 0)
  store i64 %used, ptr %ttouchedp
  %kept2 = add i64 %kept1, %used
  store i64 %kept2, ptr %keptp
  call void @heap_face(ptr %tail)
  call void @heap_link(ptr %state, ptr %tail)
  br label %done
done:
  ret ptr %span
}}
"""

GIVE = f"""
; join %s with the span after it, which is not in the list
define internal void @heap_join(ptr %s, ptr %after) nounwind {{
entry:
  {at("stp", "s", TOUCHED)}
  {at("atp", "after", TOUCHED)}
  {at("slp", "s", IS_LAST)}
  {at("alp", "after", IS_LAST)}
  %size = load i64, ptr %s
  %more = load i64, ptr %after
  %both = add i64 %size, %more
  store i64 %both, ptr %s
  %t = load i64, ptr %stp
  %u = load i64, ptr %atp
  %touched = add i64 %t, %u
  store i64 %touched, ptr %stp
  %last = load i64, ptr %alp
  store i64 %last, ptr %slp
  call void @heap_face(ptr %s)
  ret void
}}
define internal void @heap_give(ptr %s) nounwind {{
entry:
  {at("statep", "s", STATE)}
  %state = load ptr, ptr %statep
  %size = load i64, ptr %s
  {at("touchedp", "s", TOUCHED)}
  store i64 %size, ptr %touchedp
  {at("keptp", "state", KEPT_BYTES)}
  %kept = load i64, ptr %keptp
  %kept1 = add i64 %kept, %size
  store i64 %kept1, ptr %keptp
  {at("lastp", "s", IS_LAST)}
  %last = load i64, ptr %lastp
  %atend = icmp ne i64 %last, 0
  br i1 %atend, label %backward, label %forward
forward:
  %after = getelementptr i8, ptr %s, i64 %size
  {at("afreep", "after", IS_FREE)}
  %afree = load i64, ptr %afreep
  %joins = icmp ne i64 %afree, 0
  br i1 %joins, label %joinafter, label %backward
joinafter:
  call void @heap_unlink(ptr %state, ptr %after)
  call void @heap_join(ptr %s, ptr %after)
  br label %backward
backward:
  {at("beforep", "s", BEFORE)}
  %before = load ptr, ptr %beforep
  %isfirst = icmp eq ptr %before, null
  br i1 %isfirst, label %keep, label %ask
ask:
  {at("bfreep", "before", IS_FREE)}
  %bfree = load i64, ptr %bfreep
  %joins2 = icmp ne i64 %bfree, 0
  br i1 %joins2, label %joinbefore, label %keep
joinbefore:
  call void @heap_unlink(ptr %state, ptr %before)
  call void @heap_join(ptr %before, ptr %s)
  br label %keep
keep:
  %span = phi ptr [ %s, %backward ], [ %s, %ask ], [ %before, %joinbefore ]
  {at("limitp", "state", KEPT_LIMIT)}
  %limit = load i64, ptr %limitp
  call void @heap_link(ptr %state, ptr %span)
  %toomuch = icmp sgt i64 %kept1, %limit
  br i1 %toomuch, label %shed, label %done
shed:
  call void @heap_shed(ptr %state, ptr %span)
  br label %done
done:
  ret void
}}
; give the memory of a free span back to the system
define internal void @heap_shed(ptr %state, ptr %s) nounwind {{
entry:
  {at("touchedp", "s", TOUCHED)}
  {at("keptp", "state", KEPT_BYTES)}
  {at("beforep", "s", BEFORE)}
  {at("lastp", "s", IS_LAST)}
  %touched = load i64, ptr %touchedp
  %kept = load i64, ptr %keptp
  %kept1 = sub i64 %kept, %touched
  store i64 %kept1, ptr %keptp
  store i64 0, ptr %touchedp
  %before = load ptr, ptr %beforep
  %last = load i64, ptr %lastp
  %isfirst = icmp eq ptr %before, null
  %islast = icmp ne i64 %last, 0
  %whole = and i1 %isfirst, %islast
  br i1 %whole, label %drop, label %part
drop:
  call void @heap_unlink(ptr %state, ptr %s)
  call void @free(ptr %s)
  ret void
part:
  %size = load i64, ptr %s
  %from = ptrtoint ptr %s to i64
  %to = add i64 %from, %size
  %from1 = add i64 %from, {SPAN_HEADER + 4095}
  %lo = and i64 %from1, -4096
  %hi = and i64 %to, -4096
  %bytes = sub i64 %hi, %lo
  %page = inttoptr i64 %lo to ptr
  call void @forget(ptr %page, i64 %bytes)
  ret void
}}
; give all free spans back to the system
define void @amity_trim_heap() nounwind {{
  %states = load ptr, ptr {cell("state")}
  {at("filled", "states", FILLED_HEAP)}
  {at("noted", "states", NOTED_HEAP)}
  call void @heap_trim(ptr %filled)
  call void @heap_trim(ptr %noted)
  ret void
}}
define internal void @heap_trim(ptr %state) nounwind {{
entry:
  {at("listp", "state", FREE_SPANS)}
  %first = load ptr, ptr %listp
  br label %look
look:
  %s = phi ptr [ %first, %entry ], [ %next, %shed ]
  %over = icmp eq ptr %s, null
  br i1 %over, label %done, label %shed
shed:
  {at("nextp", "s", NEXT)}
  %next = load ptr, ptr %nextp
  call void @heap_shed(ptr %state, ptr %s)
  br label %look
done:
  ret void
}}
"""

HEAP = LIST + GROW + TAKE + GIVE
