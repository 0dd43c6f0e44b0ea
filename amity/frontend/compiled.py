"""`amity.compile`: a function whose eager calls are gathered into Programs, and what became of it."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from amity.core.errors import fail
from amity.engine import deferral, device
from amity.engine.difference import difference
from amity.engine.dynamic import CHANGES, Wish
from amity.engine.segment import Recorder, Segment

from .dims import Dims
from .reach import Reach
from .static import MISSED
from .statics import Statics

SEGMENTS_EXPECTED = 64  # more than that, and something changes at every call

WAIT = 0.02  # seconds for another thread's call

_turn = threading.Lock()  # one thread defers at a time; others wait a while, and then run eagerly
_missed = 0  # the call for which somebody waited in vain


def _take_turn() -> bool:
    """Wait until another thread's call is over, unless it takes long."""
    global _missed
    if deferral.is_mine() or (deferral.is_on and deferral.turn == _missed):
        return False
    if _turn.acquire(timeout=WAIT):
        return True
    _missed = deferral.turn
    return False


def _after_fork() -> None:
    """In a forked child only the thread that forked goes on: another one's turn is over."""
    global _turn
    if _turn.locked() and not deferral.is_mine():
        deferral.stop()
        device.note(None)
        device.machine().forget()
        _turn = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)


class Compiled:
    """A function whose tensors' work runs as few Programs. Python runs each time, but for calls that
    a static one stands for.
    """

    def __init__(
        self,
        function: Callable,
        fullgraph: bool = False,
        static: bool | None = None,
        dynamic: bool | None = None,
        dynamic_shapes: Any = None,
        recompute: bool = False,
    ) -> None:
        for name, value in (("static", static), ("dynamic", dynamic)):
            if value not in (None, True, False):
                raise fail(TypeError, "compile", f"{name}={value!r}", "None, True or False")
        self.function, self.fullgraph, self.static = function, fullgraph, static
        self.dynamic, self.dynamic_shapes = dynamic, dynamic_shapes
        self.dims = None if dynamic_shapes is None else Dims(function, dynamic_shapes)
        self.recompute = recompute
        self.wish = Wish({None: CHANGES, True: 1, False: None}[dynamic], recomputes=recompute)
        self.statics = Statics(function, static)
        self.segments: dict[bytes, Segment] = {}
        self.recorder: Recorder | None = None
        self.has_warned = False
        self.crowded = 0  # calls that ran eagerly, as another thread's deferred
        update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        statics = self.statics
        if statics.found and deferral.recorder() is None:
            result = statics.call(args, kwargs)
            if result is not MISSED:
                return result
        if not _turn.acquire(False) and not _take_turn():  # inside another, or beside a long one
            self.crowded += not deferral.is_mine()
            return self.function(*args, **kwargs)
        try:
            recorder = self.recorder
            if recorder is None:
                recorder = self.recorder = Recorder(self.segments, self.fullgraph, self.wish)
            if self.dims is not None:
                sizes = self.dims.read(args, kwargs)
                recorder.wish = self.wish._replace(names=self.dims.names, sizes=sizes)
            recorder.begin()
            try:
                if statics.is_due():
                    return statics.run(recorder, args, kwargs)
                return self.function(*args, **kwargs)
            finally:
                try:
                    recorder.finish()
                finally:
                    recorder.stop()
        finally:
            _turn.release()
            if len(self.segments) > SEGMENTS_EXPECTED and not self.has_warned:
                self._warn_if_many()

    def _warn_if_many(self) -> None:
        planned = [s for s in self.segments.values() if s.form is None]
        if len(planned) <= SEGMENTS_EXPECTED:
            return
        self.has_warned = True
        *others, last = planned
        warnings.warn(
            f"compile: got {len(planned)} different segments of {self.name}; expected that "
            f"calls are alike. The last one is new because {difference(last.calls, others)}",
            stacklevel=3,
        )

    def __reach__(self, reach: Reach, where: str) -> None:
        reach.follow(self.function, where)

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
        return type(self), (
            self.function,
            self.fullgraph,
            self.static,
            self.dynamic,
            self.dynamic_shapes,
            self.recompute,
        )  # a copy has its own Programs to come

    def __repr__(self) -> str:
        return f"<compiled {self.function!r}>"


def compile(
    model: Callable | None = None,
    *,
    fullgraph: bool = False,
    static: bool | None = None,
    dynamic: bool | None = None,
    dynamic_shapes: Any = None,
    recompute: bool = False,
    backend: str | Callable = "inductor",
    mode: str | None = None,
    options: dict | None = None,
    disable: bool = False,
) -> Any:
    """Make a function or module run its tensors' work as whole Programs.

    Python runs at each call, so whatever it does happens each time; kernels wait until a value is
    looked at or the function ends, and then run as one Program, compiled when first met. Where a
    call shows that Python would do the same again, as nothing that it can see has changed, later
    ones skip it for as long as that holds; `static=True` insists on that, False never does it.
    `backend`, `mode` and `options` choose nothing here.

    Where sizes changed twice, one Program is planned for all others too: with `dynamic=True` when one
    has changed once, with False never. `dynamic_shapes` declares sizes that change, as in
    `torch.export`: `{"x": {0: amity.Dim("batch", max=64)}}`.

    With `recompute=True` a Program keeps less between its kernels: where that lowers its peak, values
    that are cheap to compute and would be kept long are computed again where they are read late, as
    in a backward pass. Results stay the same, bit by bit; random numbers are drawn once.

    errors: RuntimeError at the line that ends a graph, with `fullgraph`; where Python cannot be
    skipped, with `static=True`; ValueError for sizes outside of what was declared; TypeError for
    settings of other types

    >>> import amity
    >>> @amity.compile
    ... def f(x):
    ...     return (x * 2).relu().sum()
    >>> f(amity.tensor([1.0, -1.0]))
    tensor(2.)
    """
    if model is None:
        return lambda function: compile(
            function,
            fullgraph=fullgraph,
            static=static,
            dynamic=dynamic,
            dynamic_shapes=dynamic_shapes,
            recompute=recompute,
            disable=disable,
        )
    if not callable(model):
        raise TypeError(f"compile: got {type(model).__name__}; expected a function or a Module")
    if disable:
        return model
    return Compiled(model, fullgraph, static, dynamic, dynamic_shapes, recompute)
