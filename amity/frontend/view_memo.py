"""Views made again: which layout a view has, and where it starts, by what it was asked of and how."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from amity.core.layout import Layout
from amity.core.shape import Size

from .bind import note_view
from .tape import modes
from .tensor import Tensor

KEPT = 20_000
NAMES = (
    "expand", "flatten", "movedim", "narrow", "permute", "reshape", "select", "squeeze", "swapaxes",
    "t", "transpose", "unflatten", "unsqueeze", "view",
)  # fmt: skip


class ViewMemo:
    """Views by a layout and a key. On the tape a view is made the long way, which records it."""

    def __init__(self) -> None:
        self.known: dict[tuple[Layout, Any], tuple[Layout, int]] = {}

    def find(self, x: Tensor, key: Any, is_noted: bool = True) -> Tensor | None:
        """The view; its base need not know of one for a moment's use."""
        found = self.known.get((x.layout, key))
        if found is None or (x.tape is not None and modes.grad):
            return None
        view = x._view(*found)
        if is_noted and modes.grad:
            note_view(view)
        return view

    def keep(self, x: Tensor, key: Any, view: Any) -> None:
        """Remember what was found the long way, if it is a view of the same memory."""
        if type(view) is not Tensor or type(x.layout) is not Layout or view is x:
            return
        if x.storage is None or view.base is not (x if x.base is None else x.base):
            return
        if len(self.known) > KEPT:
            self.known.clear()
        self.known[x.layout, key] = view.layout, view.storage.data - x.storage.data


def remembered(function: Callable) -> Callable:
    """A method that makes views, remembered where its arguments are plain integers or a tuple of them."""
    memo = ViewMemo()

    @wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        is_tuple = len(args) == 1 and (type(args[0]) is tuple or type(args[0]) is Size)
        for a in args[0] if is_tuple else args:
            if type(a) is not int:
                return function(self, *args, **kwargs)
        if kwargs:
            return function(self, *args, **kwargs)
        view = memo.find(self, args)
        if view is None:
            view = function(self, *args)
            memo.keep(self, args, view)
        return view

    return method
