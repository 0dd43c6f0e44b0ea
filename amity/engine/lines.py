"""Lines of the user's program: who asked for a call, and for what went wrong in it."""

from __future__ import annotations

import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator
from threading import get_ident
from types import FrameType

OWN = __name__.partition(".")[0]
FRAMES = 64  # of a stack

backward: int | None = None  # the place on the tape whose rule runs, while lines are noted
_thread = 0  # that notes them
_moment: list[Callable[[], int]] = []


def install(next_seq: Callable[[], int]) -> None:
    """Say what numbers places on the tape; numbers fall with time."""
    _moment[:] = [next_seq]


def are_noted() -> bool:
    """Whether this thread's lines are noted."""
    return _thread != 0 and _thread == get_ident()


def frames() -> Iterator[FrameType]:
    """The frames of this thread that are not amity's own, innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", OWN)  # code that amity writes has none
        if module.partition(".")[0] != OWN:
            yield frame
        frame = frame.f_back


def stack() -> list[str]:
    """The user's frames, innermost first."""
    named = (f for f in frames() if f.f_code.co_filename[:1] != "<")
    return [
        f"{f.f_code.co_filename}({f.f_lineno}): {f.f_code.co_name}"
        for f, _ in zip(named, range(FRAMES), strict=False)
    ]


def line() -> str:
    """`file:number` of the user's innermost frame; Python's own libraries are left out."""
    for frame in frames():
        module = frame.f_globals["__name__"].partition(".")[0]
        if module == "__main__" or module not in sys.stdlib_module_names:
            return f"{_shown(frame.f_code.co_filename)}:{frame.f_lineno}"
    return ""


def _shown(path: str) -> str:
    """A path as short as it can be given from here."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


class Lines:
    """Where each call of a compiled function was asked for, in the order of the notes."""

    def __init__(self) -> None:
        global backward, _thread
        self.calls: list[str] = []
        self._times: list[int] = []  # when calls of forward passes were noted, as tapes count
        self._asked: list[str] = []  # and who asked for them
        backward, _thread = None, get_ident()

    def note(self) -> None:
        """Note the line of a call."""
        found = line()
        if backward is None:
            self._times.append(-_moment[0]())
            self._asked.append(found)
        else:  # its node was made right after the call that it is the derivative of
            i = bisect_right(self._times, -backward) - 1
            if i >= 0:
                found = f"{self._asked[i]}, backward from {found}"
        self.calls.append(found)

    def clear(self) -> None:
        """The notes are cleared; what their calls put on the tape may still come back."""
        self.calls = []

    def end(self) -> None:
        """The function ended."""
        global _thread
        _thread = 0
