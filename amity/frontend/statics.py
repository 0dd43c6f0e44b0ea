"""The static calls of a compiled function: found, kept, given up."""

from __future__ import annotations

import sys
from collections.abc import Callable
from time import perf_counter
from typing import Any

from amity.engine import device
from amity.engine.segment import Recorder
from amity.engine.witness import Witness
from amity.runtime.cpu import objects

from .reach import Refused
from .static import MISSED, Static
from .trial import Changed, Trial
from .watch import Watch

KEPT = 8  # for other arguments
PATIENCE = 3  # trials in which something may still change, where a static call is insisted on
WAITS = 64  # calls between trials, at most
FREE = 8  # failures, until trials must be worth their time
PRICE = 50  # times as long as trials took, until the next one


class Statics:
    """What stands for calls of a function; `is_wanted` insists on it, False wants none."""

    def __init__(self, function: Callable, is_wanted: bool | None) -> None:
        self.function, self.is_wanted = function, is_wanted
        self.found: list[Static] = []  # replaced, never changed: other threads may go through it
        self.reason = "it was not called often enough"  # why there is none, or no other one
        self.ends: list[str] = []  # what changed when one was given up; the last few
        self.trials = 0
        self._wait = self._pause = (
            1  # calls until the next is tried out, and after the next failure
        )
        self._failures = 0
        self._tried = self._took = 0.0  # when the last trial ended, and its seconds
        self._watched: Watch | None = None  # the call before, of which a trial is made now
        if is_wanted is False:
            self.reason = "static=False asks for it"
        elif not can_guard():
            self._give_up("this Python's objects cannot be guarded")

    def call(self, args: tuple, kwargs: dict) -> Any:
        """What a static call gives, or MISSED."""
        for i, static in enumerate(self.found):
            result = static(args, kwargs)
            if result is not MISSED:
                if i:
                    self.found = [static, *self._without(static)]
                return result
            static.release()  # so that another one, or Python, has gradients to itself
            if static.end is not None:
                self.found = self._without(static)
                self.ends = [*self.ends, static.end][-KEPT:]
                self.reason = static.end
                self._later()
                return MISSED  # the others lean on the same
        return MISSED

    def _without(self, static: Static) -> list[Static]:
        return [s for s in self.found if s is not static]

    def is_due(self) -> bool:
        """Whether this call is to be tried out."""
        if self._wait:
            self._wait -= 1
            return False
        if self._failures > FREE and self._watched is None:
            if perf_counter() - self._tried < PRICE * self._took:
                return False
        return self.is_wanted is not False

    def run(self, recorder: Recorder, args: tuple, kwargs: dict) -> Any:
        """Call the function while it is recorded, and see whether calls like it may skip Python."""
        start = perf_counter()
        try:
            if self._watched is None:
                self._took = 0.0
                return self._watch(recorder, args, kwargs)
            return self._try(recorder, args, kwargs)
        finally:
            self._tried = perf_counter()
            self._took += self._tried - start

    def _watch(self, recorder: Recorder, args: tuple, kwargs: dict) -> Any:
        """Find out what code runs."""
        with Watch() as watch:
            result = self.function(*args, **kwargs)
        recorder.finish()
        if watch.reasons:
            self._refused(Refused("; ".join(watch.reasons)))
        else:
            self._watched = watch
        return result

    def _try(self, recorder: Recorder, args: tuple, kwargs: dict) -> Any:
        self.trials += 1
        seen, self._watched = self._watched, None
        try:
            trial = Trial(self.function, seen, args, kwargs)
        except Refused as refused:
            self._refused(refused)
            result = self.function(*args, **kwargs)
            recorder.finish()
            return result
        witness = recorder.witness = Witness(recorder.notes, sys._getframe())
        try:
            with Watch() as watch:
                result = self.function(*args, **kwargs)
            recorder.finish()
        finally:
            recorder.witness = witness.frame = None  # a frame that holds what holds it
        try:
            found = trial.outcome(result, watch, witness)
        except Refused as refused:
            self._refused(refused)
        else:
            is_full = len(self.found) == KEPT
            self.found = [found, *self.found][:KEPT]
            self.reason = "its arguments are others"
            if is_full:  # one was given up for this one, and may be wanted again
                self._later()
            else:
                self._wait = 1
        return result

    def _refused(self, refused: Refused) -> None:
        self.reason = str(refused)
        may_settle = isinstance(refused, Changed) and self.trials < PATIENCE
        if self.is_wanted and not may_settle:
            raise RuntimeError(
                f"compile: got static=True, but Python cannot be skipped as {self.reason}"
            ) from None
        self._later()

    def _later(self) -> None:
        if not self.is_wanted:
            self._failures += 1
            self._wait, self._pause = self._pause, min(2 * self._pause, WAITS)

    def _give_up(self, reason: str) -> None:
        if self.is_wanted:
            raise RuntimeError(f"compile: got static=True, but {reason}; expected one that can")
        self.is_wanted, self.reason = False, reason


def can_guard() -> bool:
    """Whether generated code can see what Python's objects hold."""
    return hasattr(device.machine(), "guard") and objects.are_known()
