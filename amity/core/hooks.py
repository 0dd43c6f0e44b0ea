"""Hooks: functions kept in an ordered dictionary, and the handle that takes one out again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import count
from weakref import ref

_next_id = count().__next__


class RemovableHandle:
    """Takes a hook out again: call `remove()`, or use the handle as a context manager.

    It holds its dictionaries weakly, so a handle does not keep their owner alive.
    """

    def __init__(self, hooks: OrderedDict, flags: tuple[OrderedDict, ...] = ()) -> None:
        self.id = _next_id()
        self._dicts = tuple(ref(d) for d in (hooks, *flags))

    def remove(self) -> None:
        for hooks in self._dicts:
            alive = hooks()
            if alive is not None:
                alive.pop(self.id, None)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *exc: object) -> None:
        self.remove()

    def __getstate__(self) -> tuple:
        return self.id, tuple(d() for d in self._dicts)

    def __setstate__(self, state: tuple) -> None:
        self.id, dicts = state
        self._dicts = tuple(ref(OrderedDict() if d is None else d) for d in dicts)


def add(
    hooks: OrderedDict,
    hook: Callable,
    prepend: bool = False,
    flags: tuple[tuple[OrderedDict, bool], ...] = (),
) -> RemovableHandle:
    """Put `hook` into `hooks`, its id into each flag dictionary whose flag is set.

    >>> steps = OrderedDict()
    >>> with add(steps, print):
    ...     len(steps)
    1
    >>> len(steps)
    0
    """
    handle = RemovableHandle(hooks, tuple(d for d, _ in flags))
    hooks[handle.id] = hook
    for flag_dict, flag in flags:
        if flag:
            flag_dict[handle.id] = True
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle
