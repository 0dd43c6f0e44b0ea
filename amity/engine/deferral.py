"""Whether a thread defers: eager calls are then noted instead of run (`segment.py` says how).

What reads memory asks here first, so that it finds values in it.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from threading import get_ident
from typing import Any

is_on = False  # whether some thread records
holds = 0  # references to memory made meanwhile that are the notes' own
_recorder: Any = None
_thread = 0
_AS_IT_IS = nullcontext()


def start(recorder: Any) -> None:
    """Let this thread's calls be noted by `recorder`."""
    global is_on, holds, _recorder, _thread
    is_on, _recorder, _thread = True, recorder, get_ident()
    holds = not recorder.machine.notes.is_told


def stop() -> None:
    """Run calls again."""
    global is_on, holds, _recorder, _thread
    is_on, holds, _recorder, _thread = False, 0, None, 0


def recorder() -> Any:
    """This thread's recorder, if it records."""
    return _recorder if is_on and _thread == get_ident() else None


def witness() -> Any:
    """Who is told what this thread's call leans on, if anybody."""
    found = recorder() if is_on else None
    return None if found is None else found.witness


def settle(storage: Any, to_write: bool = False) -> None:
    """Run what was noted, if someone is about to look at memory that waits for it, or to write to
    memory that it reads.
    """
    found = recorder()
    if found is None:
        return
    if found.witness is not None:
        found.witness.looks()
    if found.knows(storage) if to_write else found.is_pending(storage):
        found.flush()


def read(tensor: Any, reader: Any) -> Any:
    """The one element of a tensor, as `reader` finds it at an address, once what was noted has run."""
    found, storage = recorder(), tensor.storage
    if found is None:
        return reader(storage.data).value
    if found.is_pending(storage):
        found.flush()
    value = reader(storage.data).value
    if found.witness is not None:
        found.witness.gives(tensor, reader, value, sys._getframe(1))
    return value


def apart() -> Any:
    """Inside, calls run at once: for what looks at no memory that waits, such as state that a first
    call makes and later ones find, so that all do the same work.
    """
    found = recorder()
    return _AS_IT_IS if found is None else found.aside


def checking(tensor: Any, low: int, high: int, except_for: int | None) -> Any:
    """Inside, calls that look at a tensor, to see that its elements are in a range, run at once."""
    found = recorder()
    if found is None:
        return _AS_IT_IS
    if found.is_pending(tensor.storage):
        found.flush()
    if found.witness is not None:
        found.witness.checks_range(tensor, low, high, except_for)
    return found.aside
