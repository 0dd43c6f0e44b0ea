"""What a function can see from outside of its call: walked, so that it can be compared and guarded.

From a function, its arguments and the code that ran, `Reach` follows cells, globals by name, attributes,
containers and tensors. Each thing that it passes is a fact (who holds what), and each fact is guarded by
words of memory (runtime/cpu/objects.py). What cannot be followed, or changes unseen, is refused.
"""

from __future__ import annotations

import builtins
import types
from array import array
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from amity.core.device import Device
from amity.core.dtype import DType
from amity.core.layout import Layout
from amity.core.shape import Size
from amity.runtime.cpu import objects
from amity.runtime.cpu.machine import slot_offset

from .tape import HOOKS, is_leaf
from .tensor import Tensor
from .watch import Watch, is_own

ATOMS = (
    type(None),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(...),
    type(NotImplemented),
    range,
    DType,
)
ATOMS += (Device, Size, Layout, np.generic, np.dtype, np.ufunc, types.CodeType)
DICTS = (dict, OrderedDict, defaultdict)
CALLED = (types.BuiltinFunctionType, types.MethodDescriptorType, types.WrapperDescriptorType)
CALLED += (types.MethodWrapperType, types.GetSetDescriptorType, types.MemberDescriptorType)
AFTER, GRAD = 3, 2  # of a leaf on the tape
SLOTS = {name: slot_offset(Tensor, name) for name in ("storage", "layout", "tape", "base")}


def is_stateless(cls: type) -> bool:
    """Whether objects of a class of amity's are the same to their users whatever happens, or tell a
    witness of what changes.
    """
    parts = cls.__module__.split(".")
    return (
        parts[0] == "amity" and len(parts) > 1 and parts[1] not in ("nn", "optim", "data", "utils")
    )


class Refused(Exception):
    """Something cannot be vouched for; the text says what."""


class Reach:
    """Facts about what is reached, in the order in which it was met."""

    def __init__(self, names: set[str], sees_all: bool, ran: Iterable[types.CodeType]) -> None:
        """`names` are what the code that `ran` names; `sees_all` if it also asks by other names."""
        self.names, self.sees_all, self.ran = names, sees_all, set(ran)
        self.facts: list[tuple[str, Any, Any, Any]] = []  # where, holder, which, what
        self.guards: list[tuple[Callable, tuple]] = []  # of their words
        self.tensors: list[Tensor] = []
        self.codes: set[types.CodeType] = set()
        self._seen: dict[int, Any] = {}
        self._moving: dict[int, Iterable] = {}
        self._todo: list[tuple[Any, str]] = []

    def walk(self, x: Any, where: str) -> None:
        """Follow something and all that it leads to."""
        self.follow(x, where)
        while self._todo:
            self._visit(*self._todo.pop())

    def moves(self, table: dict, keys: Iterable) -> None:
        """Entries that may change: somebody looks at them at each call."""
        self._moving[id(table)] = keys

    def difference(self, other: Reach) -> str | None:
        """Where this differs from how it was before, or None."""
        for (where, holder, key, what), (_, a, b, c) in zip(self.facts, other.facts, strict=False):
            is_key = key is b or type(key) is type(b) in (int, str, tuple) and key == b
            if holder is not a or what is not c or not is_key:
                return where
        if len(self.facts) != len(other.facts):
            return (self.facts if len(self.facts) > len(other.facts) else other.facts)[-1][0]
        return None

    def has(self, x: Any) -> bool:
        """Whether something was met."""
        return id(x) in self._seen

    def words(self) -> array:
        """Pairs of address and word for all facts."""
        flat = array("q")
        for pairs, args in self.guards:
            for pair in pairs(*args):
                flat.extend(pair)
        return flat

    # -- following
    def _fact(self, where: str, holder: Any, key: Any, what: Any) -> None:
        self.facts.append((where, holder, key, what))

    def _guard(self, pairs: Callable[..., Iterator], *args: Any) -> None:
        self.guards.append((pairs, args))

    def follow(self, x: Any, where: str) -> None:
        """Let something be visited in its turn."""
        self._todo.append((x, where))

    def _visit(self, x: Any, where: str) -> None:
        if isinstance(x, ATOMS) and not isinstance(x, (tuple, Tensor)) or id(x) in self._seen:
            return
        self._seen[id(x)] = x
        follow = getattr(type(x), "__reach__", None)
        if follow is not None:
            follow(x, self, where)
        elif isinstance(x, Tensor):
            self._tensor(x, where)
        elif is_stateless(type(x)) or type(x) is object:
            pass
        elif isinstance(x, (tuple, frozenset)):
            for i, item in enumerate(x):
                self.follow(item, f"{where}[{i}]")
        elif type(x) in DICTS or isinstance(x, dict) and is_own(type(x).__module__):
            self.table(x, where, None)
        elif type(x) in FOLLOWED:
            FOLLOWED[type(x)](self, x, where)
        elif isinstance(x, type):
            self._class(x, where)
        elif isinstance(x, CALLED):
            owner = getattr(x, "__self__", None)
            if not isinstance(owner, types.ModuleType):
                self.follow(owner, f"{where}.__self__")
        else:
            self.instance(x, where)

    def _list(self, x: list, where: str) -> None:
        self._fact(where, x, len(x), None)
        self._guard(objects.of_list, x)
        for i, item in enumerate(x):
            self._fact(f"{where}[{i}]", x, i, item)
            self.follow(item, f"{where}[{i}]")

    def table(self, x: dict, where: str, names: set[str] | None, of: str = "[{!r}]") -> None:
        """A dict, or what it has under some names."""
        moving = self._moving.get(id(x), ())
        keys = [k for k in x if (names is None or k in names) and k not in moving]
        self._fact(where, x, len(keys), None)
        self._guard(objects.of_dict, x, set(keys))
        for key in keys:
            here = where + of.format(key)
            self._fact(here, x, key, x[key])
            self.follow(x[key], here)
            if names is None:
                self.follow(key, f"a key of {where}")

    def _set(self, x: set, where: str) -> None:
        for item in x:
            self._fact(where, x, None, item)
            self.follow(item, f"an item of {where}")
        self._guard(objects.of_set, x)

    def _cell(self, x: types.CellType, where: str) -> None:
        try:
            inside = x.cell_contents
        except ValueError:  # not set yet
            inside = x
        self._fact(where, x, None, inside)
        self._guard(objects.of_cell, x)
        self.follow(inside, where)

    def _function(self, x: types.FunctionType, where: str) -> None:
        self.codes.add(x.__code__)
        if is_own(x.__globals__.get("__name__")):
            self._own_function(x, where)
            return
        parts = (x.__code__, x.__defaults__, x.__kwdefaults__, x.__closure__)
        for i, part in enumerate(parts):
            self._fact(where, x, i, part)
        self._guard(objects.of_function, x)
        self._attributes(x, where, self.names)
        for name, cell in zip(x.__code__.co_freevars, x.__closure__ or (), strict=True):
            self.follow(cell, name)
        self.follow(x.__defaults__, f"a default of {where}")
        self.follow(x.__kwdefaults__, f"a default of {where}")

    def _own_function(self, x: types.FunctionType, where: str) -> None:
        """One of amity's, which may be around a user's."""
        for cell in x.__closure__ or ():
            inside = cell.cell_contents
            if callable(inside) and not is_own(getattr(inside, "__module__", None)):
                self.follow(cell, where)

    def space(self, space: dict) -> None:
        """What code that ran names in its module."""
        if id(space) not in self._seen:
            self._seen[id(space)] = space
            self.table(space, "global ", self.names, "{}")
            self.walk(None, "")

    def _method(self, x: types.MethodType, where: str) -> None:
        self.follow(x.__func__, where)
        self.follow(x.__self__, f"{where}.__self__")

    def _partial(self, x: partial, where: str) -> None:
        self._attributes(x, where, self.names)
        for part in (x.func, x.args, x.keywords):
            self.follow(part, where)

    def _wrapped(self, x: staticmethod | classmethod, where: str) -> None:
        self.follow(x.__func__, where)

    def _property(self, x: property, where: str) -> None:
        for part in (x.fget, x.fset, x.fdel):
            self.follow(part, where)

    def _module(self, x: types.ModuleType, where: str) -> None:
        self.table(x.__dict__, where, self.names, ".{}")

    def _class(self, x: type, where: str) -> None:
        if not x.__flags__ & HEAP or x.__flags__ & FIXED:
            return
        getattr(x, "__reach__", None)  # lookups give a class its number
        if not objects.has_version(x):
            raise Refused(f"changes of {x.__name__} ({where}) cannot be seen")
        self._fact(where, x, tuple(w for _, w in objects.of_class(x)), None)
        self._guard(objects.of_class, x)
        self.follow(type(x), type(x).__name__)
        for cls in x.__mro__:
            if (
                cls.__flags__ & HEAP
                and not is_own(cls.__module__)
                and id(vars(cls)) not in self._seen
            ):
                for name, value in vars(cls).items():
                    if isinstance(value, METHODS) or name in self.names:
                        self.follow(value, f"{cls.__name__}.{name}")

    def instance(self, x: Any, where: str) -> None:
        """An object with attributes."""
        cls = type(x)
        if not cls.__flags__ & HEAP or not hasattr(x, "__dict__") or _has_more(cls):
            raise Refused(f"{where} is a {cls.__module__}.{cls.__name__}, which may change unseen")
        self.follow(cls, cls.__name__)
        self._fact(where, x, None, cls)
        self._guard(objects.of_type, x)
        is_whole = self.sees_all or is_own(cls.__module__)
        self._attributes(x, where, None if is_whole else self.names | _names_of_own(cls))

    def _attributes(self, x: Any, where: str, names: set[str] | None) -> None:
        """What an object has by name."""
        self._fact(where, x, None, x.__dict__)
        self._guard(objects.of_attributes, x)
        self.table(x.__dict__, where, names, ".{}")

    def _tensor(self, x: Tensor, where: str) -> None:
        if type(x.layout) is not Layout or x.storage is None:
            raise Refused(f"{where} has no memory")
        if not is_leaf(x.tape):
            raise Refused(f"{where} was made by ops whose gradients are still wanted")
        self.tensors.append(x)
        for name, offset in SLOTS.items():
            self._fact(f"{where}.{name}", x, name, getattr(x, name))
            self._guard(_slot, x, offset)
        self._guard(objects.of_type, x)
        self._attributes(x, where, self.names)
        self.follow(type(x), type(x).__name__)
        if x.base is not None:
            self.follow(x.base, f"{where}._base")
        if x.tape is not None:
            for i in (AFTER, HOOKS):
                self._fact(f"{where}'s hooks", x.tape, i, x.tape[i])
                self._guard(_item, x.tape, i)
            if x.tape[AFTER] is not None or x.tape[HOOKS] is not None:
                raise Refused(f"{where} has hooks")
        if not is_own(type(x).__module__):
            raise Refused(f"{where} is of a class of its own: {type(x).__name__}")


class Sight:
    """Where a function's code can look, from one call to the next."""

    def __init__(self, function: Callable, watch: Watch, fixed: Sequence[tuple[int, Any]]) -> None:
        """`watch` saw a call; `fixed` are arguments that are the same each time, with their numbers."""
        self.function, self.watch, self.fixed = function, watch, fixed

    def walk(self) -> Reach:
        """What it sees now."""
        found = Reach(self.watch.names, self.watch.sees_all, self.watch.codes)
        try:
            found.walk(self.function, "the function")
            for space in (*self.watch.codes.values(), vars(builtins)):
                found.space(space)
            for i, leaf in self.fixed:
                found.walk(leaf, f"argument {i}")
        except (LookupError, RuntimeError) as error:  # a dict's size, a key that is gone
            raise Refused("another thread changes what it sees") from error
        return found

    def words(self, seen: Reach) -> array:
        """Words that tell of what was seen, which other threads may change while they are read."""
        try:
            found = seen.words()
        except LookupError as error:
            raise Refused("another thread changes what it sees") from error
        where = seen.difference(self.walk())
        if where is not None:
            raise Refused(f"{where} changed while it was looked at")
        return found


_asked: WeakKeyDictionary[type, frozenset[str]] = WeakKeyDictionary()


def _names_of_own(cls: type) -> frozenset[str]:
    """What the methods that a class has from amity's classes may ask its objects for."""
    found = _asked.get(cls)
    if found is None:
        own = [v for c in cls.__mro__ if is_own(c.__module__) for v in vars(c).values()]
        codes = [f.__code__ for f in own if isinstance(f, types.FunctionType)]
        found = _asked[cls] = frozenset(n for code in codes for n in code.co_names)
    return found


def slot_words(x: Tensor) -> list[tuple[int, int]]:
    """A tensor's storage, layout, place on the tape and base."""
    return [objects.of_slot(x, offset) for offset in SLOTS.values()]


def _slot(x: Any, offset: int) -> Iterator[tuple[int, int]]:
    yield objects.of_slot(x, offset)


def _item(x: list, i: int) -> Iterator[tuple[int, int]]:
    yield objects.of_item(x, i)


HEAP, FIXED = 1 << 9, 1 << 8  # Py_TPFLAGS_HEAPTYPE, as Python code makes them; and _IMMUTABLETYPE
METHODS = (types.FunctionType, staticmethod, classmethod, property)


def _has_more(cls: type) -> bool:
    """Whether objects of a class hold more than attributes."""
    plain = (object, *[c for c in cls.__mro__ if c.__flags__ & HEAP])
    slots = [s for c in cls.__mro__ for s in _slots(c) if s not in ("__dict__", "__weakref__")]
    return bool(slots) or any(c not in plain for c in cls.__mro__)


def _slots(cls: type) -> Sequence[str]:
    slots = vars(cls).get("__slots__", ())
    return (slots,) if isinstance(slots, str) else slots


FOLLOWED: dict[type, Callable] = {
    list: Reach._list, set: Reach._set, types.CellType: Reach._cell, types.FunctionType: Reach._function,
    types.MethodType: Reach._method, partial: Reach._partial, staticmethod: Reach._wrapped,
    classmethod: Reach._wrapped, property: Reach._property, types.ModuleType: Reach._module,
}  # fmt: skip
