"""`amity.compile`: a function whose eager calls are gathered into Programs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from amity.engine.segment import Recorder, Segment

_turn = threading.Lock()  # one thread defers at a time; others run eagerly


class Compiled:
    """A function that runs as Python each time, while its tensors' work runs as few Programs."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.segments: dict[tuple, Segment] = {}
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _turn.acquire(blocking=False):  # inside another, or while another thread's runs
            return self.function(*args, **kwargs)
        recorder = Recorder(self.segments)
        try:
            recorder.start()
            try:
                return self.function(*args, **kwargs)
            finally:
                recorder.flush("the function ended")
        finally:
            recorder.stop()
            _turn.release()

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"


def compile(model: Callable | None = None) -> Any:
    """Make a function or module run its tensors' work as whole programs.

    >>> import amity
    >>> @amity.compile
    ... def f(x):
    ...     return (x * 2).relu().sum()
    >>> f(amity.tensor([1.0, -1.0]))
    tensor(2.)
    """
    return Compiled if model is None else Compiled(model)
