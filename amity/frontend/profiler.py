"""Profiles: what ran, for how long, on what, and who asked for it."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from contextlib import ContextDecorator
from enum import Enum
from pathlib import Path
from typing import Any

from amity.core.errors import fail
from amity.engine import chrome
from amity.engine.averages import EventList
from amity.engine.profile import RANGE, Event, Watch

_running: list[profile] = []  # one at most


class ProfilerActivity(Enum):
    """Where to look."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3


class ProfilerAction(Enum):
    """What a profile does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)


def supported_activities() -> set[ProfilerActivity]:
    """Where a profile can look."""
    return {ProfilerActivity.CPU}


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:  # fmt: skip
    """What to do in each step: after `skip_first` steps rounds of `wait`, `warmup` and `active` steps,
    `repeat` rounds or for ever; with `skip_first_wait` the first round does not wait.

    errors: AssertionError for negative numbers or `active` 0

    >>> todo = schedule(wait=1, warmup=1, active=2)
    >>> [todo(step).name for step in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if min(wait, warmup, repeat, skip_first) < 0 or active <= 0:
        raise AssertionError(
            f"Invalid profiler schedule arguments. Got wait={wait} (need >= 0), warmup={warmup} "
            f"(need >= 0), active={active} (need > 0), repeat={repeat} (need >= 0), "
            f"skip_first={skip_first} (need >= 0)."
        )
    if warmup == 0:
        warnings.warn(
            "Profiler won't be using warmup, this can skew profiler results", stacklevel=2
        )

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"schedule: got step {step}; expected step >= 0")
        if step < skip_first:
            return ProfilerAction.NONE
        step += (wait if skip_first_wait else 0) - skip_first
        count = wait + warmup + active
        if repeat and step // count >= repeat:
            return ProfilerAction.NONE
        at = step % count
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < count - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """For `on_trace_ready`: a trace file into a folder, under the name that TensorBoard looks for."""

    def write(finished: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        name = f"{worker}.{time.time_ns()}.pt.trace.json{'.gz' if use_gzip else ''}"
        finished.export_chrome_trace(os.path.join(dir_name, name))

    return write


class profile:
    """Watches the calls of this thread: names, times, kernels; with `record_shapes`, `profile_memory`,
    `with_stack` and `with_flops` also shapes, bytes of results, the user's lines, and the arithmetic of
    products and convolutions. Without a `schedule` it watches from start to end; with one, `step()`
    marks the steps, and `on_trace_ready` is called with the profile after each round.

    `with_modules` is, as in PyTorch, for scripted modules, of which there are none. A compiled
    function shows its segments. Views do no work and are not shown.

    errors: RuntimeError if another profile runs

    >>> import amity
    >>> with profile() as p:
    ...     y = amity.ones(3) * 2
    >>> [e.key for e in p.key_averages() if e.key == "mul"]
    ['mul']
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[[profile], Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        acc_events: bool = False,
    ) -> None:
        self.activities = set(supported_activities() if activities is None else activities)
        if ProfilerActivity.CPU not in self.activities:
            got = ", ".join(a.name for a in self.activities) or "no activities"
            raise fail(ValueError, "profile", got, "ProfilerActivity.CPU among the activities")
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.has_steps = schedule is not None
        self.on_trace_ready, self.acc_events = on_trace_ready, acc_events
        self.record_shapes, self.profile_memory = record_shapes, profile_memory
        self.with_stack, self.with_flops = with_stack, with_flops
        self.step_num, self.current_action = 0, self.schedule(0)
        self.watch: Watch | None = None
        self._step: Event | None = None
        self._metadata: dict[str, Any] = {}
        self._is_watching = False

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with the first step."""
        if _running:
            raise fail(RuntimeError, "profile", "a second profile", "one at a time")
        _running.append(self)
        if self.current_action in RECORDING:
            self._begin()
        self._begin_step()

    def stop(self) -> None:
        """End, in whatever step it is."""
        if self not in _running:
            return
        _running.remove(self)
        is_done = self._is_watching
        self._end()
        if is_done and self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def step(self) -> None:
        """The next step begins."""
        if self not in _running:
            raise fail(RuntimeError, "step", "a profile that does not run", "`start()` before")
        before = self.current_action
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        self._end_step()
        if before is ProfilerAction.RECORD_AND_SAVE:
            self._end()
            if self.on_trace_ready is not None:
                self.on_trace_ready(self)
        elif self._is_watching and self.current_action not in RECORDING:
            warnings.warn("Incorrect schedule: RECORD followed by no recording", stacklevel=2)
            self._end()
        if self.current_action in RECORDING and not self._is_watching:
            self._begin()
        self._begin_step()

    def _begin(self) -> None:
        before = self.watch if self.acc_events else None
        self.watch = Watch(
            self.record_shapes, self.profile_memory, self.with_stack, self.with_flops
        )
        self._is_watching = True
        self.watch.start()
        if before is not None:
            self.watch.events, self.watch.began = before.events, before.began

    def _end(self) -> None:
        self._end_step()
        if self._is_watching:
            self._is_watching = False
            self.watch.stop()

    def _begin_step(self) -> None:
        if self._is_watching and self.has_steps:
            self._step = self.watch.enter(f"ProfilerStep#{self.step_num}", RANGE)

    def _end_step(self) -> None:
        if self._step is not None:
            self.watch.leave(self._step)
            self._step = None

    def _watched(self, what: str) -> Watch:
        if self.watch is None:
            raise fail(AssertionError, what, "a profile that recorded nothing", "a finished one")
        return self.watch

    def events(self) -> EventList:
        """All events, in the order in which they began."""
        events = sorted(self._watched("events").events, key=lambda e: (e.start, -e.end))
        return EventList(
            events, self.record_shapes, self.profile_memory, self.with_stack, self.with_flops
        )

    def key_averages(
        self,
        group_by_input_shape: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """Events averaged by name, and if asked for by shapes and by the innermost frames."""
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def add_metadata(self, key: str, value: str) -> None:
        """A text that the trace file is to hold."""
        self._metadata[key] = value

    def add_metadata_json(self, key: str, value: str) -> None:
        """A value, as JSON, that the trace file is to hold."""
        self._metadata[key] = json.loads(value)

    preset_metadata_json = add_metadata_json

    def export_chrome_trace(self, path: str | Path) -> None:
        """Write a file that Perfetto and chrome://tracing open, compressed if it ends with `.gz`."""
        chrome.write(path, self._watched("export_chrome_trace"), self._metadata)

    def export_stacks(self, path: str | Path, metric: str = "self_cpu_time_total") -> None:
        """Write stacks with microseconds, as flame graphs are made of.

        errors: ValueError for an unknown metric
        """
        if metric != "self_cpu_time_total":
            raise fail(ValueError, "export_stacks", repr(metric), "'self_cpu_time_total'")
        rows = self.events().key_averages(group_by_stack_n=1 << 30)
        lines = [
            f"{';'.join([*reversed(e.stack), e.key])} {int(getattr(e, metric))}\n"
            for e in rows
            if e.stack and int(getattr(e, metric)) > 0
        ]
        Path(path).write_text("".join(lines))


class record_function(ContextDecorator):
    """Names what runs inside, as a context manager or a decorator; nothing while no profile runs.

    >>> with profile() as p, record_function("mine"):
    ...     pass
    >>> p.events()[0].name
    'mine'
    """

    def __init__(self, name: str, args: str | None = None) -> None:
        self.name, self.args = name, args
        self._open: list[tuple[Watch, Event] | None] = []

    def _recreate_cm(self) -> record_function:
        return record_function(self.name, self.args)

    def __enter__(self) -> record_function:
        running = _running[0] if _running else None
        watch = running.watch if running is not None and running._is_watching else None
        self._open.append(None if watch is None else (watch, watch.enter(self.name, RANGE)))
        return self

    def __exit__(self, *exc: object) -> None:
        found = self._open.pop()
        if found is not None:
            watch, event = found
            watch.leave(event)
