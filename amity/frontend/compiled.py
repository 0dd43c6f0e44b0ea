"""`amity.compile`: a function whose eager calls are gathered into Programs, and what became of it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from amity.engine import deferral
from amity.engine.difference import difference
from amity.engine.segment import Recorder, Segment

SEGMENTS_EXPECTED = 64  # more than that, and something changes at every call

_turn = threading.Lock()  # one thread defers at a time; others run eagerly


class Compiled:
    """A function that runs as Python each time, while its tensors' work runs as few Programs."""

    def __init__(self, function: Callable, fullgraph: bool = False) -> None:
        self.function, self.fullgraph = function, fullgraph
        self.segments: dict[bytes, Segment] = {}
        self.recorder: Recorder | None = None
        self.has_warned = False
        self.crowded = 0  # calls that ran eagerly, as another thread's deferred
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not _turn.acquire(False):  # inside another, or while another thread's runs
            self.crowded += deferral.recorder() is None
            return self.function(*args, **kwargs)
        try:
            recorder = self.recorder
            if recorder is None:
                recorder = self.recorder = Recorder(self.segments, self.fullgraph)
            recorder.begin()
            try:
                return self.function(*args, **kwargs)
            finally:
                try:
                    recorder.finish()
                finally:
                    recorder.stop()
        finally:
            _turn.release()
            if len(self.segments) > SEGMENTS_EXPECTED and not self.has_warned:
                self._warn()

    def _warn(self) -> None:
        self.has_warned = True
        *others, last = self.segments.values()
        warnings.warn(
            f"compile: got {len(self.segments)} different segments of {self.name}; expected that "
            f"calls are alike. The last one is new because {difference(last.calls, others)}",
            stacklevel=3,
        )

    @property
    def name(self) -> str:
        return getattr(self.function, "__name__", type(self.function).__name__)

    def __getattr__(self, name: str) -> Any:
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        """As a method: one set of Programs for all instances."""
        if instance is None:
            return self
        return lambda *args, **kwargs: self(instance, *args, **kwargs)

    def __reduce__(self) -> Any:
        return type(self), (self.function, self.fullgraph)  # a copy has its own Programs to come

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"


def compile(
    model: Callable | None = None,
    *,
    fullgraph: bool = False,
    dynamic: bool | None = None,
    backend: str | Callable = "inductor",
    mode: str | None = None,
    options: dict | None = None,
    disable: bool = False,
) -> Any:
    """Make a function or module run its tensors' work as whole Programs.

    Python runs at each call, so whatever it does happens each time; kernels wait until a value is
    looked at or the function ends, and then run as one Program, compiled when first met. Sizes are
    arguments of kernels: `dynamic`, like `backend`, `mode` and `options`, chooses nothing here.

    errors: RuntimeError at the line that ends a graph, with `fullgraph`

    >>> import amity
    >>> @amity.compile
    ... def f(x):
    ...     return (x * 2).relu().sum()
    >>> f(amity.tensor([1.0, -1.0]))
    tensor(2.)
    """
    if model is None:
        return lambda function: compile(function, fullgraph=fullgraph, disable=disable)
    if not callable(model):
        raise TypeError(f"compile: got {type(model).__name__}; expected a function or a Module")
    return model if disable else Compiled(model, fullgraph)
