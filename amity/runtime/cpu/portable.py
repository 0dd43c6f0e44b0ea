"""The processor as a device, in plain Python and ctypes: where generated builtins do not fit.

Slower by some microseconds a call, with the same results: free-threaded and unknown Pythons use it,
and it is what the generated glue is tested against.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from array import array
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

from amity.core import flags
from amity.core.errors import OutOfMemoryError
from amity.runtime import plan as form
from amity.runtime.plan import Plan, Step

from . import pool
from .abi import LOOSE
from .blocks import (
    ADVICE,
    ALIGNMENT,
    HUGE,
    HUGE_PAGE,
    KEPT_LIMIT,
    LARGE,
    NO_ADVICE,
    NOT_A_TENSOR,
    OUT_OF_MEMORY,
    SCRATCH_BYTES,
    size_class,
)  # fmt: skip
from .loader import Loader, keep
from .notes import Notes

HUGE_PAGES = 14  # MADV_HUGEPAGE of Linux
POINTER, WORD = ctypes.c_void_p, ctypes.c_int64
KERNEL = ctypes.CFUNCTYPE(None, POINTER, POINTER, WORD, WORD, POINTER)
PARALLEL = ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER, POINTER, WORD, WORD, POINTER)


class Heap:
    """Blocks of memory from the C library, kept for reuse by size."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(None)
        self._library.free.argtypes = [POINTER]
        self._kept: defaultdict[int, deque[int]] = defaultdict(deque)
        self.kept_bytes = 0  # of large blocks
        self.lock = (
            threading.RLock()
        )  # reentrant: collecting garbage may give blocks back meanwhile

    def take(self, size: int) -> int:
        """The address of a block of a size class."""
        try:
            address = self._kept[size].pop()
        except IndexError:
            return self._fresh(size)
        if size >= LARGE:
            with self.lock:
                self.kept_bytes -= size
        return address

    def _fresh(self, size: int) -> int:
        found, is_huge = POINTER(), size >= HUGE
        align = HUGE_PAGE if is_huge else ALIGNMENT
        size = max(size, ALIGNMENT)
        if self._library.posix_memalign(
            ctypes.byref(found), ctypes.c_size_t(align), ctypes.c_size_t(size)
        ):
            raise OutOfMemoryError(OUT_OF_MEMORY)
        advice = ADVICE.get(sys.platform, NO_ADVICE)["in_huge_pages"]
        if is_huge and advice is not None:
            self._library.madvise(found, ctypes.c_size_t(size), advice)
        return found.value or 0

    def give(self, size: int, address: int) -> None:
        """Take a block back."""
        if size >= LARGE:
            with self.lock:
                is_over = self.kept_bytes + size > KEPT_LIMIT
                self.kept_bytes += 0 if is_over else size
            if is_over:
                self._library.free(address)
                return
        self._kept[size].append(address)

    def trim(self) -> None:
        """Give the blocks that are kept for reuse back to the system."""
        for size, addresses in list(self._kept.items()):
            while addresses:
                self._library.free(self.take(size))


class Storage:
    """Memory with a count of the writes to it; a part of another has that one as its root, and may
    have an owner of its own that counts.
    """

    __slots__ = ("__weakref__", "_heap", "_is_loose", "_root", "_size", "_writes", "data", "mark", "nbytes",
                 "owner")  # fmt: skip

    def __init__(
        self, data: int, nbytes: int, root: Storage | None = None, owner: Any = None
    ) -> None:
        self.data, self.nbytes, self.owner = data, nbytes, owner
        self._root, self._writes, self.mark = root, 0, 0
        self._is_loose = False
        self._heap: Heap | None = None
        self._size = 0

    @property
    def root(self) -> Storage:
        """The storage that owns the memory."""
        return self._root or self

    @property
    def version(self) -> int:
        """Writes so far."""
        return self.counter._writes

    @property
    def counter(self) -> Storage:
        """The one that has its version."""
        return self if self._root is None else self.owner or self._root

    @property
    def stamp(self) -> int:
        """Of a root, its version, with what else tells of writes."""
        return self._writes | (LOOSE if self._is_loose else 0)

    def __del__(self, is_ending: Callable[[], bool] = sys.is_finalizing) -> None:
        if self._heap is not None and not is_ending():  # then modules are half gone
            self._heap.give(self._size, self.data)


class Program:
    """A plan ready to call."""

    __slots__ = ("kinds", "machine", "paper", "plan")

    def __init__(self, machine: Machine, plan: Plan, paper: Any) -> None:
        self.machine, self.plan, self.kinds = machine, plan, tuple(plan.kinds)
        self.paper = paper

    def __call__(self, *args: Any) -> Any:
        machine = self.machine
        is_told = not self.plan.flags & form.UNTOLD and machine.recorder is not None
        here = threading.get_ident()
        if is_told and machine.recording_thread in (0, here):
            return machine.recorder(self, self._run(args, True), *args)
        if machine.recorder is not None and machine.recording_thread not in (0, here, -here):
            machine.meet(self, *args)
        if self.plan.flags & form.UNBUILT:
            self.plan = self.paper.plan()
        return self._run(args, False)

    def _run(self, args: Sequence[Any], is_noted: bool) -> Any:
        """Allocate, run every step unless the call is only noted, and give the results."""
        plan, machine = self.plan, self.machine
        numbers: list[array] = []
        slots = self._arguments(args, numbers)
        made = [machine.output(o, args) for o in plan.outputs]
        if not is_noted:
            self.run_steps([*slots, *[s.data for s in made]])
        for a in plan.bumps:
            machine.bump(args[a].storage)
        return self._result(args, made)

    def run_steps(self, slots: list[int]) -> None:
        """Run every step over memory at the slots of arguments and outputs."""
        plan, machine = self.plan, self.machine
        arena = machine.allocate(plan.arena) if plan.arena else None
        scratch = machine.allocate(SCRATCH_BYTES) if plan.flags & form.SCRATCH else None
        kept = machine.allocate(plan.kept) if plan.kept else None  # for this call only
        slots += [arena.data if arena else 0, kept.data if kept else 0]
        for step in plan.steps:
            machine.launch(step, slots, scratch.data if scratch else 0)

    def _arguments(self, args: Sequence[Any], numbers: list[array]) -> list[int]:
        """Where each argument is; `numbers` keeps Python numbers in memory."""
        if len(args) != len(self.kinds):
            raise TypeError(NOT_A_TENSOR)
        slots = []
        for kind, value in zip(self.kinds, args, strict=True):
            if kind not in form.NUMBERS:
                if not isinstance(value, self.machine.tensor_type):
                    raise TypeError(NOT_A_TENSOR)
                slots.append(value.storage.data)
            else:
                numbers.append(array("d" if kind == form.FLOAT else "q", (value,)))
                slots.append(numbers[-1].buffer_info()[0])
        return slots

    def _result(self, args: Sequence[Any], made: Sequence[Storage]) -> Any:
        plan, make = self.plan, self.machine.make
        if plan.result == form.GIVES_FIRST:
            return args[0]
        if plan.result == form.GIVES_NONE:
            return None
        tensors = tuple([make(s, o.layout) for s, o in zip(made, plan.outputs, strict=True)])
        return tensors if plan.result == form.GIVES_TUPLE else tensors[0]


class Machine:
    """The running side of the CPU: made once, when the first tensor is."""

    def __init__(
        self, tensor_type: type, compile: Callable[[str], bytes], meet: Callable[..., None]
    ) -> None:
        """`meet` is asked before a call takes memory that another thread's notes may know."""
        self.tensor_type, self.heap, self.meet = tensor_type, Heap(), meet
        self.recorder: Callable | None = None
        self.recording_thread = 0
        self.notes = Notes()
        self.seal, self.forget = self.notes.seal, self.notes.clear
        self.replayer = self.notes.replayer
        self.start(compile)

    def start(self, compile: Callable[[str], bytes]) -> None:
        """Get ready to run kernels."""
        loader = Loader()
        self.load, self.locks = loader.load, [loader.lock, self.heap.lock]
        worker, parallel = self.load(compile(pool.CODE), ["amity_worker", "amity_parallel"])
        self.workers = pool.Pool(worker, flags.threads or pool.usable_cores())
        self._parallel = PARALLEL(parallel)
        self._kernels: dict[int, Callable] = {}
        keep(self)

    # -- memory
    def allocate(self, nbytes: int) -> Storage:
        """A fresh Storage of at least that many bytes."""
        size = size_class(nbytes)
        storage = Storage(self.heap.take(size), size)
        storage._heap, storage._size = self.heap, size
        return storage

    def alias(self, storage: Storage, offset: int) -> Storage:
        """A Storage of a part of another, from so many bytes on."""
        counter = None if storage.counter is storage.root else storage.counter
        return Storage(storage.data + offset, storage.nbytes - offset, storage.root, counter)

    def apart(self, storage: Storage) -> Storage:
        """A Storage of the same memory, writes through which are counted apart."""
        return Storage(storage.data, storage.nbytes, storage.root, Storage(0, 0))

    def external(self, address: int, owner: Any, nbytes: int) -> Storage:
        """A Storage of memory that `owner` keeps alive."""
        return Storage(address, nbytes, None, owner)

    def share(self, storage: Storage) -> None:
        """Note that others may write the memory of a storage that has it alone so far."""
        if storage.root.owner is None:
            storage.root.owner = Machine

    def bump(self, storage: Storage) -> None:
        """Count a write."""
        storage.counter._writes += 1
        storage.root._is_loose |= storage.counter is not storage.root

    def trim(self) -> None:
        """Give the blocks that are kept for reuse back to the system."""
        self.heap.trim()

    def make(self, storage: Storage, layout: Any) -> Any:
        """A Tensor on a Storage."""
        t = object.__new__(self.tensor_type)
        t.storage, t.layout, t.tape, t.base = storage, layout, None, None
        return t

    # -- programs
    def program(self, plan: Plan, paper: Any = None) -> Program:
        """A callable for a plan; `paper` is what a recorder is told of it."""
        return Program(self, plan, paper)

    def callable(self, program: Program) -> Program:
        """What runs a plan that a recorder was told of."""
        return program

    def note(self, recorder: Callable | None) -> None:
        """Tell `recorder` of this thread's calls instead of running them, so that it notes them; None
        to run them again.
        """
        self.record(recorder, threading.get_ident())

    def record(self, recorder: Callable | None, thread: int) -> None:
        """Tell `recorder` of all calls of a thread, or for 0 of all, instead of running them. A negative
        thread is told of nothing meanwhile.
        """
        self.recorder, self.recording_thread = recorder, thread

    def listening(self) -> tuple:
        """Who is told of whose calls."""
        return self.recorder, self.recording_thread

    def listen(self, listening: tuple) -> None:
        """Tell those again."""
        self.record(*listening)

    def output(self, output: form.Output, args: Sequence[Any]) -> Storage:
        """Memory for an output: fresh, or an argument's."""
        if output.source < 0:
            return self.allocate(output.nbytes)
        return self.alias(args[output.source].storage, output.offset)

    def launch(self, step: Step, slots: Sequence[int], scratch: int) -> None:
        """Run one kernel, on several threads if its grid is worth it. The GIL is not held."""
        buffers = (POINTER * len(step.buffers))(*[slots[s] + at for s, at in step.buffers])
        meta = step.meta.buffer_info()[0]
        if step.grid > step.grain:
            self._parallel(
                self.workers.context, step.kernel, meta, buffers, step.grid, step.grain, scratch
            )
            return
        kernel = self._kernels.get(step.kernel)
        if kernel is None:
            kernel = self._kernels[step.kernel] = KERNEL(step.kernel)
        kernel(meta, buffers, 0, step.grid, scratch)
