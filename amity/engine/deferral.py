"""Whether a thread defers: eager calls are then noted instead of run (`segment.py` says how).

What reads memory asks here first, so that it finds values in it. So do other threads: what they share
with the one that defers, and its notes would fill, they wait for; if it notes nothing more, it may wait
for them, so they run its notes themselves.
"""

from __future__ import annotations

import sys
import time
from contextlib import nullcontext
from threading import RLock, get_ident
from typing import Any

STUCK = 0.02  # seconds without a note after which a thread may wait for others
PAUSE = 0.0005  # seconds between looks at its notes
is_on = False  # whether some thread records
turn = 0  # how many calls have recorded
busy = RLock()  # held while Python writes the notes, and while what they tell runs
_recorder: Any = None
_thread = 0  # that records
_rests = False  # though it does not just now
_AS_IT_IS = nullcontext()


def start(recorder: Any) -> None:
    """Let this thread's calls be noted by `recorder`."""
    global is_on, turn, _recorder, _thread, _rests
    is_on, _recorder, _thread, _rests = True, recorder, get_ident(), False
    turn += 1


def rest(does_rest: bool) -> None:
    """Run this thread's calls for now, or note them again."""
    global _rests
    _rests = does_rest


def stop() -> None:
    """Run calls again."""
    global is_on, _recorder, _thread
    is_on, _recorder, _thread = False, None, 0


def recorder() -> Any:
    """This thread's recorder, if it records."""
    return _recorder if is_on and _thread == get_ident() and not _rests else None


def is_mine() -> bool:
    """Whether this thread is the one that records, even if it does not just now."""
    return is_on and _thread == get_ident()


def thread() -> int:
    """The thread that records."""
    return _thread


def holds() -> int:
    """References to memory made meanwhile that are the notes' own."""
    found = recorder() if is_on else None
    return 0 if found is None else not found.notes.is_told


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
        _meet(storage, to_write)
        return
    if found.witness is not None:
        found.witness.looks()
    if found.knows(storage) if to_write else found.is_pending(storage):
        found.flush()


def read(tensor: Any, reader: Any) -> Any:
    """The one element of a tensor, as `reader` finds it at an address, once what was noted has run."""
    found, storage = recorder(), tensor.storage
    if found is None:
        _meet(storage, False)
        return reader(storage.data).value
    if found.is_pending(storage):
        found.flush()
    value = reader(storage.data).value
    if found.witness is not None:
        found.witness.gives(tensor, reader, value, sys._getframe(1))
    return value


def meet(payload: Any, *args: Any) -> None:
    """A call of this thread takes memory that another one's notes may know."""
    paper = payload.paper
    for a, value in enumerate(args):
        storage = getattr(value, "storage", None)
        if storage is not None:
            _meet(storage, paper is None or a in paper.given.values())


def _meet(storage: Any, to_write: bool) -> None:
    """Wait until no other thread's notes would fill memory, or read what is about to be written."""
    since, count, found, began = time.monotonic(), -1, _recorder, turn
    while storage.root.mark and found is not None and _thread != get_ident():
        with busy:
            if turn != began or not found.wants(storage, to_write):
                return
            if found.notes.count != count:
                since, count = time.monotonic(), found.notes.count
            elif time.monotonic() - since > STUCK:
                found.flush_for_another()
                return
        time.sleep(PAUSE)


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
