"""The worker pool, as code generated once: fork and join over ranges of a kernel's grid.

A worker joins a task only while it is open; the caller closes it when nothing is left to take and
waits for those who joined, so a worker that the system does not run holds nobody up. Workers spin
for a moment, then sleep on a condition variable; so does the thread that waits. One
caller at a time uses the pool; another that comes meanwhile runs its kernel alone.
"""

from __future__ import annotations

import ctypes
import os
import platform

OPEN = 1 << 30  # in the pending word: workers may still join; the bits below count those that have
PARTS = 8  # ranges for each thread: long ones keep memory streams whole, short ones even out
SPIN = 4000  # turns of waiting before a thread sleeps: some 100 us
WORKER_SCRATCH = 8 << 20
# Byte offsets in the shared context; what threads write stands in cache lines of its own.
SEQ, PENDING, NEXT, TASK, SLEEPERS, STOP, IDS, BUSY, COUNT, JOINER = (
    0, 64, 128, 192, 256, 320, 384, 448, 512, 576,
)  # fmt: skip
MUTEX, WAKE, DONE, SCRATCH, CONTEXT_BYTES = 640, 768, 896, 1024, 1024 + 8 * 256


def pause() -> str:
    """The instruction that tells the core it is in a waiting loop."""
    if platform.machine() in ("x86_64", "AMD64"):
        return "call void @llvm.x86.sse2.pause()"
    return "call void @llvm.aarch64.hint(i32 1)"


def declarations() -> str:
    hint = (
        "declare void @llvm.x86.sse2.pause()"
        if "x86" in pause()
        else "declare void @llvm.aarch64.hint(i32 immarg)"
    )
    names = ("mutex_lock", "mutex_unlock")
    lines = [f"declare i32 @pthread_{n}(ptr)" for n in names]
    lines += [
        "declare i32 @pthread_cond_wait(ptr, ptr)",
        "declare i32 @pthread_cond_broadcast(ptr)",
    ]
    return "\n".join([hint, *lines])


def field(name: str, offset: int) -> str:
    return f"%{name} = getelementptr i8, ptr %c, i64 {offset}"


# `amity_parallel(ctx, kernel, meta, buffers, n, grain, scratch)` and the workers' loop.
CODE = f"""
{declarations()}
; take ranges until none is left
define internal void @drain(ptr %c, ptr %scratch) nounwind {{
entry:
  {field("next", NEXT)}
  {field("task", TASK)}
  %metap = getelementptr i8, ptr %task, i64 8
  %bufp = getelementptr i8, ptr %task, i64 16
  %np = getelementptr i8, ptr %task, i64 24
  %grainp = getelementptr i8, ptr %task, i64 32
  %f = load ptr, ptr %task
  %meta = load ptr, ptr %metap
  %buf = load ptr, ptr %bufp
  %n = load i64, ptr %np
  %grain = load i64, ptr %grainp
  br label %take
take:
  %lo = atomicrmw add ptr %next, i64 %grain seq_cst
  %more = icmp slt i64 %lo, %n
  br i1 %more, label %work, label %done
work:
  %end = add i64 %lo, %grain
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %n)
  call void %f(ptr %meta, ptr %buf, i64 %lo, i64 %hi, ptr %scratch)
  br label %take
done:
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)
; wait until *p is not `old`: spin, then sleep on `cond`; gives the new value
define internal i32 @await(ptr %c, ptr %p, i32 %old, ptr %sleepers, ptr %cond) nounwind {{
entry:
  br label %spin
spin:
  %i = phi i32 [ 0, %entry ], [ %i1, %again ]
  %v = load atomic i32, ptr %p seq_cst, align 4
  %changed = icmp ne i32 %v, %old
  br i1 %changed, label %ready, label %again
again:
  {pause()}
  %i1 = add i32 %i, 1
  %on = icmp slt i32 %i1, {SPIN}
  br i1 %on, label %spin, label %sleep
sleep:
  {field("mutex", MUTEX)}
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %s = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %look
look:
  %v2 = load atomic i32, ptr %p seq_cst, align 4
  %changed2 = icmp ne i32 %v2, %old
  br i1 %changed2, label %awake, label %doze
doze:
  %w = call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)
  br label %look
awake:
  %s2 = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret i32 %v2
ready:
  ret i32 %v
}}
define internal void @wake(ptr %c, ptr %sleepers, ptr %cond) nounwind {{
entry:
  %n = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp sgt i32 %n, 0
  br i1 %any, label %ring, label %done
ring:
  {field("mutex", MUTEX)}
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %b = call i32 @pthread_cond_broadcast(ptr %cond)
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  br label %done
done:
  ret void
}}
define ptr @amity_worker(ptr %c) nounwind {{
entry:
  {field("stop", STOP)}
  {field("pending", PENDING)}
  {field("sleepers", SLEEPERS)}
  {field("joiner", JOINER)}
  {field("wakec", WAKE)}
  {field("donec", DONE)}
  {field("ids", IDS)}
  {field("table", SCRATCH)}
  %id = atomicrmw add ptr %ids, i64 1 seq_cst
  %sp = getelementptr ptr, ptr %table, i64 %id
  %scratch = load ptr, ptr %sp
  br label %rest
rest:
  %seen = phi i32 [ 0, %entry ], [ %new, %finished ]
  %new = call i32 @await(ptr %c, ptr %c, i32 %seen, ptr %sleepers, ptr %wakec)
  %stopped = load atomic i32, ptr %stop seq_cst, align 4
  %leave = icmp ne i32 %stopped, 0
  br i1 %leave, label %out, label %work
work:
  %state = load atomic i32, ptr %pending seq_cst, align 4
  %openbit = and i32 %state, {OPEN}
  %isopen = icmp ne i32 %openbit, 0
  br i1 %isopen, label %enter, label %finished
enter:
  %one = add i32 %state, 1
  %pair = cmpxchg ptr %pending, i32 %state, i32 %one seq_cst seq_cst
  %entered = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %entered, label %take, label %work
take:
  call void @drain(ptr %c, ptr %scratch)
  %left = atomicrmw sub ptr %pending, i32 1 seq_cst
  %last = icmp eq i32 %left, 1
  br i1 %last, label %ring, label %finished
ring:
  call void @wake(ptr %c, ptr %joiner, ptr %donec)
  br label %finished
finished:
  br label %rest
out:
  ret ptr null
}}
define void @amity_parallel(
    ptr %c, ptr %f, ptr %meta, ptr %buf, i64 %n, i64 %grain, ptr %scratch) nounwind {{
entry:
  {field("busy", BUSY)}
  {field("count", COUNT)}
  %workers = load i32, ptr %count
  %small = icmp sle i64 %n, %grain
  %none = icmp eq i32 %workers, 0
  %alone = or i1 %small, %none
  br i1 %alone, label %serial, label %try
try:
  %pair = cmpxchg ptr %busy, i32 0, i32 1 seq_cst seq_cst
  %won = extractvalue {{ i32, i1 }} %pair, 1
  br i1 %won, label %fork, label %serial
serial:
  call void %f(ptr %meta, ptr %buf, i64 0, i64 %n, ptr %scratch)
  ret void
fork:
  {field("next", NEXT)}
  {field("pending", PENDING)}
  {field("task", TASK)}
  {field("sleepers", SLEEPERS)}
  {field("joiner", JOINER)}
  {field("wakec", WAKE)}
  {field("donec", DONE)}
  %metap = getelementptr i8, ptr %task, i64 8
  %bufp = getelementptr i8, ptr %task, i64 16
  %np = getelementptr i8, ptr %task, i64 24
  %grainp = getelementptr i8, ptr %task, i64 32
  store ptr %f, ptr %task
  store ptr %meta, ptr %metap
  store ptr %buf, ptr %bufp
  store i64 %n, ptr %np
  %wide = zext i32 %workers to i64
  %threads = add i64 %wide, 1
  %parts = mul i64 %threads, {PARTS}
  %share = udiv i64 %n, %parts
  %is_fine = icmp ugt i64 %share, %grain
  %take = select i1 %is_fine, i64 %share, i64 %grain
  store i64 %take, ptr %grainp
  store i64 0, ptr %next
  store atomic i32 {OPEN}, ptr %pending seq_cst, align 4
  %s = atomicrmw add ptr %c, i32 1 seq_cst
  call void @wake(ptr %c, ptr %sleepers, ptr %wakec)
  call void @drain(ptr %c, ptr %scratch)
  %shut = atomicrmw and ptr %pending, i32 {OPEN - 1} seq_cst
  br label %join
join:
  %p = load atomic i32, ptr %pending seq_cst, align 4
  %over = icmp eq i32 %p, 0
  br i1 %over, label %done, label %wait
wait:
  %r = call i32 @await(ptr %c, ptr %pending, i32 %p, ptr %joiner, ptr %donec)
  br label %join
done:
  store atomic i32 0, ptr %busy seq_cst, align 4
  ret void
}}
"""


def usable_cores() -> int:
    """Cores this process may use: affinity, and the container's quota where there is one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    try:
        quota, period = open("/sys/fs/cgroup/cpu.max").read().split()
        if quota != "max":
            cores = min(cores, max(1, -(-int(quota) // int(period))))
    except (OSError, ValueError):
        pass  # no such file: there is no quota to obey
    return cores


class Pool:
    """The threads beside the caller's. `threads` counts the caller too."""

    def __init__(self, worker: int, threads: int) -> None:
        self._raw = ctypes.create_string_buffer(CONTEXT_BYTES + 4096)
        self.context = (ctypes.addressof(self._raw) + 4095) & ~4095
        self._worker, self._threads, self.threads = worker, [], 1
        self._libc = ctypes.CDLL(None)
        self._init_waiting()
        self.resize(threads)
        os.register_at_fork(after_in_child=self._after_fork)

    def _init_waiting(self) -> None:
        self._libc.pthread_mutex_init(ctypes.c_void_p(self.context + MUTEX), None)
        for offset in (WAKE, DONE):
            self._libc.pthread_cond_init(ctypes.c_void_p(self.context + offset), None)

    def _word(self, offset: int) -> ctypes.c_int32:
        return ctypes.c_int32.from_address(self.context + offset)

    def resize(self, threads: int) -> None:
        """Use that many threads. All workers take part in every fork, so they all start anew."""
        threads = min(threads, 256)
        if threads == self.threads:
            return
        if self._word(BUSY).value:
            raise RuntimeError("set_num_threads: got a call while a kernel runs; expected none")
        self._stop()
        self._scratch = [
            ctypes.create_string_buffer(WORKER_SCRATCH + 64) for _ in range(threads - 1)
        ]
        for i, raw in enumerate(self._scratch):
            slot = ctypes.c_void_p.from_address(self.context + SCRATCH + 8 * i)
            slot.value = (ctypes.addressof(raw) + 63) & ~63
            self._start_one()
        self._word(COUNT).value = threads - 1
        self.threads = threads

    def _start_one(self) -> None:
        thread = ctypes.c_ulong()
        code = self._libc.pthread_create(
            ctypes.byref(thread), None, ctypes.c_void_p(self._worker), ctypes.c_void_p(self.context)
        )
        if code:
            raise RuntimeError(f"set_num_threads: the system gave no thread (error {code})")
        self._threads.append(thread)

    def _stop(self) -> None:
        self._word(STOP).value = 1
        self._word(SEQ).value += 1
        mutex, wake = (ctypes.c_void_p(self.context + o) for o in (MUTEX, WAKE))
        self._libc.pthread_mutex_lock(mutex)
        self._libc.pthread_cond_broadcast(wake)
        self._libc.pthread_mutex_unlock(mutex)
        for thread in self._threads:
            self._libc.pthread_join(thread, None)
        self._threads = []
        self._reset()

    def _reset(self) -> None:
        for offset in (STOP, SEQ, COUNT, SLEEPERS, BUSY, JOINER, PENDING):
            self._word(offset).value = 0
        ctypes.c_int64.from_address(self.context + IDS).value = 0
        self.threads = 1

    def _after_fork(self) -> None:
        """A forked child has no workers: it computes alone. The parent's would seem to wait."""
        self._threads = []
        self._init_waiting()
        self._reset()
