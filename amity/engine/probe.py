"""Programs that stop between launches, for those who look at what lies in memory there."""

from __future__ import annotations

import ctypes
import threading
from array import array
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np

from amity.compiler.plan import Launch, Place
from amity.ir.graph import Node
from amity.runtime import plan

from . import device, program
from .bounds import Guard

PROBES_KEPT = 1000
WORD, POINTER = ctypes.c_int64, ctypes.c_void_p
STOP = ctypes.CFUNCTYPE(None, POINTER, POINTER, WORD, WORD, POINTER)


class Probe:
    """A Program planned anew, which tells an observer what it does; with a `guard`, its launches ask
    for each access.
    """

    def __init__(
        self, paper: program.Paper, observer: Inspector, guard: Guard | None = None
    ) -> None:
        self.paper, self.guard, self.has_run = paper, guard, False
        self.graph = paper.passed
        self.lowered = paper.lower(self.graph)
        self.launches = [s for s in self.lowered.steps if isinstance(s, Launch) and s.grid]
        self._memory = program.Memory(self.lowered, paper.given)
        self._stops: list[tuple[Callable, list[Any]]] = []
        self._call = STOP(self._stop)
        self.error: BaseException | None = None
        find = device.kernels().find_guarded if guard else None
        whole = program.with_steps(self.lowered, paper.plan(), paper.given, find=find)
        self.steps = whole.steps
        places = self.lowered.places
        inputs = places[: len(self.graph.inputs)]
        steps = [self._stopping(lambda arrays: observer.begins(self, arrays), inputs)]
        for k, step in enumerate(whole.steps):
            steps += self._around(k, step, observer)
        outputs = [places[p] for p in self.lowered.outputs]
        steps.append(self._stopping(lambda arrays: observer.ends(self, arrays), outputs))
        bits = whole.flags | plan.UNTOLD
        self.run = device.machine().program(
            replace(whole, steps=steps, bumps=(), flags=bits), paper
        )

    def _around(self, k: int, step: plan.Step, observer: Inspector) -> list[plan.Step]:
        """A launch between its stops; a guarded one runs on one thread."""
        places, made = self.lowered.places, [p for _, p in self.launches[k].makes]
        after = self._stopping(
            lambda arrays: observer.launched(self, k, arrays), [places[p] for p in made]
        )
        if self.guard is None:
            return [step, after]
        bases = [places[b] for b in dict.fromkeys(places[p].base for p in self.launches[k].buffers)]
        sizes = [self._bytes(p) for p in bases]
        before = self._stopping(self._allow(step, sizes), bases, is_raw=True)
        return [before, replace(step, grain=step.grid), after]

    def _allow(self, step: plan.Step, sizes: Sequence[int]) -> Callable[[list[int]], None]:
        def allow(addresses: list[int]) -> None:
            *starts, scratch = addresses
            meta = step.meta.buffer_info()
            self.guard.allow([*zip(starts, sizes, strict=True), (meta[0], 8 * meta[1])], scratch)

        return allow

    def _bytes(self, base: Place) -> int:
        """How much memory a base place has."""
        lay = base.layout
        is_number = base.argument >= 0 and self.graph.inputs[base.argument].spec.is_weak
        return 8 if is_number else lay.extent * lay.dtype.itemsize

    def _stopping(self, call: Callable, places: Sequence[Place], is_raw: bool = False) -> plan.Step:
        """A launch that calls a function with the arrays at some places, or their addresses."""
        self._stops.append((call, [] if is_raw else [p.layout for p in places]))
        address = ctypes.cast(self._call, POINTER).value or 0
        words = array("q", [len(self._stops) - 1, len(places)])
        return plan.Step(address, words, 1, 1, [self._memory.at(p) for p in places], "stop")

    def _stop(self, meta: int, buffers: int, lo: int, hi: int, scratch: int | None) -> None:
        del lo, hi
        if self.error is not None:
            return
        try:
            at, count = (WORD * 2).from_address(meta)
            addresses = list((WORD * count).from_address(buffers)) if count else []
            call, layouts = self._stops[at]
            if layouts or not count:
                pairs = zip(addresses, layouts, strict=True)
                call([device.array_at(a, lay) for a, lay in pairs])
            else:
                call([*addresses, scratch or 0])
        except BaseException as error:  # nothing passes through native code
            self.error = error

    def call(self, run: Callable[[Callable], Any]) -> Any:
        """What `run` gives, which is to call the Program; errors of looks are raised."""
        self.error = None
        out = run(self.run)
        self.has_run = True
        if self.error is not None:
            raise self.error
        return out

    def node_of(self, k: int) -> Node | None:
        """The first node that launch k works for."""
        for launch in self.launches[k:]:
            for node, _ in launch.makes:
                return node
        return None


class Inspector:
    """Runs all Programs, of all threads, as probes; what derives from it says what to look at. While a
    thread's calls are noted, those of others are not seen.
    """

    wants_lines = True

    def __init__(self) -> None:
        self.guard: Guard | None = None
        self._probes: dict[int, Probe] = {}
        self._lock = threading.RLock()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Look from now on."""
        self._before = device.watch(self, 0)

    def stop(self) -> None:
        """Look no more."""
        device.watch(*self._before)
        self._probes.clear()

    # -- what the machine, segments and NumPy's calls tell
    def __call__(self, payload: Any, result: Any, *args: Any) -> Any:
        """A call: its memory is there, its writes are counted."""
        del result
        return self._run(payload.paper, lambda run: run(*args))

    def replay(self, paper: program.Paper, targets: Sequence[int]) -> None:
        """A segment's Program over what was noted; results go to the roots `targets`."""
        self._run(paper, lambda run: device.machine().replayer(run, targets)())

    def host(self, call: program.HostProgram, args: Sequence[Any]) -> Any:
        """A call of NumPy."""
        return call.run(*args)

    def _run(self, paper: program.Paper, call: Callable[[Callable], Any]) -> Any:
        with self._lock:
            probe = self._probes.get(id(paper))
            if probe is None:
                if len(self._probes) > PROBES_KEPT:
                    self._probes.clear()
                probe = self._probes[id(paper)] = Probe(paper, self, self.guard)
            return probe.call(call)

    # -- what probes tell
    def begins(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """Before the first launch, at the inputs of the graph."""

    def launched(self, probe: Probe, k: int, arrays: list[np.ndarray]) -> None:
        """After launch k, at what it made."""

    def ends(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """After the last launch, at the outputs of the graph."""
