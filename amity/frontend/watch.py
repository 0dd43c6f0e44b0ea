"""Watching Python run: which code a call ran, and whether it called what nobody can vouch for."""

from __future__ import annotations

import builtins
import dis
import os
import sys
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

import numpy as np

PURE = {
    "abs", "all", "any", "ascii", "bin", "callable", "chr", "delattr", "divmod", "format", "getattr",
    "hasattr", "hex", "isinstance", "issubclass", "iter", "len", "max", "min", "next", "oct", "ord",
    "pow", "repr", "round", "setattr", "sorted", "sum", "__build_class__",
}  # fmt: skip
BY_NAME = {"getattr", "hasattr", "setattr", "delattr", "format", "format_map"}  # name by strings
MODULES = {
    "math",
    "cmath",
    "operator",
    "_operator",
    "itertools",
    "_functools",
    "_bisect",
    "_collections",
}
HOLDERS = (
    str,
    bytes,
    int,
    float,
    complex,
    bool,
    tuple,
    list,
    dict,
    set,
    frozenset,
    range,
    type(None),
)
HOLDERS += (
    OrderedDict,
    defaultdict,
    deque,
    slice,
    type({}.keys()),
    type({}.values()),
    type({}.items()),
)
HOLDERS += (types.GeneratorType, types.CellType, types.MappingProxyType)
LIBRARY = (os.path.dirname(os.__file__) + os.sep, "<frozen ")
THIRD = (os.path.dirname(np.__file__) + os.sep,)  # which amity calls
MATCHES = dis.opmap["MATCH_CLASS"]  # which asks for what the class names
UNSEEN = {
    "_version",
    "__dict__",
    "f_back",
    "f_locals",
    "_base",
    "_is_view",
    "storage_offset",
    "untyped_storage",
}  # attributes that tell more than a walk sees


def is_own(module: Any) -> bool:
    """Whether a module of that name is amity's, and no program that uses it."""
    if not isinstance(module, str):
        return False
    first, _, rest = module.partition(".")
    return first == "amity" and rest.split(".")[0] not in ("cli", "tools")


def is_library(frame: types.FrameType) -> bool:
    """Whether a frame runs code that comes with Python or NumPy."""
    file = frame.f_code.co_filename
    is_made = frame.f_globals.get("__name__", "").startswith("namedtuple_")
    is_python = file.startswith(LIBRARY) and "site-packages" not in file
    return is_made or is_python or file.startswith(THIRD)


class Watch:
    """Watches the calls of this thread inside of a `with` block."""

    def __init__(self) -> None:
        self.codes: dict[types.CodeType, dict] = {}  # of others than amity, with their globals
        self.reasons: list[str] = []
        self.sees_all = False
        self._own: dict[types.CodeType, bool] = {}

    def __enter__(self) -> Watch:
        if sys.getprofile() is not None or sys.gettrace() is not None:
            self.reasons.append("another profiler or debugger watches")
        else:
            sys.setprofile(self._event)
        return self

    def __exit__(self, *exc: object) -> None:
        if sys.getprofile() == self._event:
            sys.setprofile(None)
        for code in self.codes:
            by_string = _texts(code.co_consts) if self.sees_all else ()
            for name in UNSEEN.intersection((*code.co_names, *by_string)):
                self._refuse(f"{code.co_name} reads {name}", code.co_filename, code.co_firstlineno)

    @property
    def names(self) -> set[str]:
        """What the code that ran names, also by strings."""
        found = {name for code in self.codes for name in code.co_names}
        for code in self.codes:
            for text in _texts(code.co_consts):
                found.update(text.split("."))
        return found

    def strangers(self, known: set[types.CodeType]) -> list[types.CodeType]:
        """Code with free variables that ran, of functions that neither are known nor were made by
        code that ran.
        """
        inner = {c for code in self.codes for c in code.co_consts if isinstance(c, types.CodeType)}
        return [c for c in self.codes if c.co_freevars and c not in known and c not in inner]

    def _refuse(self, what: str, file: str, line: int) -> None:
        reason = f"{what} ({file}:{line})"
        if reason not in self.reasons:
            self.reasons.append(reason)

    def _is_trusted(self, frame: types.FrameType) -> bool:
        """Whether a frame runs amity's code, or Python's library for it."""
        code = frame.f_code
        found = self._own.get(code)
        if found is None:
            found = self._own[code] = is_own(frame.f_globals.get("__name__"))
        if found or code in self.codes:
            return found
        if is_library(frame) and frame.f_back is not None and self._is_trusted(frame.f_back):
            return True
        self.codes[code] = frame.f_globals
        self.sees_all |= MATCHES in code.co_code[::2]
        return False

    def _event(self, frame: types.FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self._is_trusted(frame)
        elif event == "c_call" and not self._is_trusted(frame):
            name = getattr(arg, "__name__", "")
            if name in BY_NAME:
                self.sees_all = True
            if not is_pure(arg) and arg is not sys.setprofile:
                whose = (
                    getattr(arg, "__module__", None) or type(getattr(arg, "__self__", 0)).__name__
                )
                self._refuse(f"calls {whose}.{name}", frame.f_code.co_filename, frame.f_lineno)


def _texts(constants: tuple) -> Iterator[str]:
    for c in constants:
        if isinstance(c, str):
            yield c
        elif isinstance(c, tuple):
            yield from _texts(c)


def is_pure(function: Any) -> bool:
    """Whether a function made by C code does the same each time, and nothing on the side that a
    comparison of what is reached would not show.
    """
    owner = getattr(function, "__self__", None)
    if isinstance(owner, types.ModuleType):
        return owner.__name__ in MODULES or (owner is builtins and function.__name__ in PURE)
    if isinstance(owner, type):
        return owner in HOLDERS or owner is object
    return isinstance(owner, HOLDERS)
