"""Where CPython keeps what its objects hold, so that generated code can see whether it is the same.

Each function gives pairs: an address, and the word that is there now. A pair may lie in memory that
only the pairs before it vouch for. Objects must be held while pairs of theirs are in use. LookupError
tells that another thread changed something meanwhile.
"""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Iterator
from functools import cache
from types import CellType, FunctionType
from typing import Any

Pair = tuple[int, int]
REFERENCES, TYPE, FIRST = 0, 8, 16  # of any object; FIRST: where its own part begins
LIST_SIZE, LIST_ITEMS = 16, 24
DICT_USED, DICT_KEYS, DICT_VALUES = 16, 32, 40
KEYS_INDEX_BITS, KEYS_KIND, KEYS_ENTRIES, KEYS_HEADER = 9, 10, 24, 32
GENERAL, UNICODE, SPLIT = range(3)  # kinds of keys
SET_FILL, SET_USED, SET_MASK, SET_TABLE = 16, 24, 32, 40
FUNCTION_CODE, FUNCTION_DEFAULTS, FUNCTION_KEYWORDS, FUNCTION_CLOSURE = 48, 56, 64, 72
TYPE_VERSION = 384
VALUES_HEADER = 8 if sys.version_info >= (3, 13) else 0


def word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def _byte(address: int) -> int:
    return ctypes.c_uint8.from_address(address).value


def now(address: int) -> Pair:
    return address, word(address)


def _words(address: int, count: int) -> array:
    """Words side by side, read at once: no other thread runs meanwhile."""
    return array("q", ctypes.string_at(address, 8 * count))


def entries(d: dict) -> dict[int, Pair]:
    """Where each value of a dict is, and its address, by the identity of its key."""
    holds = keys, values = word(id(d) + DICT_KEYS), word(id(d) + DICT_VALUES)
    first = keys + KEYS_HEADER + (1 << _byte(keys + KEYS_INDEX_BITS))
    width, key_at = (3, 1) if _byte(keys + KEYS_KIND) == GENERAL else (2, 0)  # words
    count = word(keys + KEYS_ENTRIES)
    table = _words(first, width * count)
    if values:  # apart from their keys, which other dicts have too
        start, step = values + VALUES_HEADER, 8
        held = _words(start, count)
    else:
        start, step = first + 8 * (key_at + 1), 8 * width
        held = table[key_at + 1 :: width]
    if holds != (word(id(d) + DICT_KEYS), word(id(d) + DICT_VALUES)):
        raise LookupError("a dict moved")
    rows = zip(table[key_at::width], held, strict=True)
    return {key: (start + i * step, value) for i, (key, value) in enumerate(rows) if key}


def of_dict(d: dict, names: Any = None) -> Iterator[Pair]:
    """Which keys a dict has, and the values of all or of some."""
    keys = word(id(d) + DICT_KEYS)
    for offset in (DICT_KEYS, DICT_VALUES, DICT_USED):
        yield now(id(d) + offset)
    yield now(keys + KEYS_ENTRIES)
    slots = entries(d)
    for key in list(d):  # at once: another thread may add some
        if names is None or key in names:
            yield slots[id(key)]


def of_list(items: list) -> Iterator[Pair]:
    """A list's length and items."""
    size, first = _words(id(items) + LIST_SIZE, 2)
    yield id(items) + LIST_ITEMS, first
    yield id(items) + LIST_SIZE, size
    for i, item in enumerate(_words(first, size)):
        yield first + 8 * i, item


def of_item(items: list, i: int) -> Pair:
    """An item of a list that keeps its length."""
    return now(word(id(items) + LIST_ITEMS) + 8 * i)


def of_set(items: set) -> Iterator[Pair]:
    """What a set holds."""
    for offset in (SET_TABLE, SET_MASK, SET_FILL, SET_USED):
        yield now(id(items) + offset)
    table = word(id(items) + SET_TABLE)
    for i, item in enumerate(_words(table, 2 * word(id(items) + SET_MASK) + 1)[::2]):
        yield table + 16 * i, item


def of_cell(cell: CellType) -> Iterator[Pair]:
    """What a cell holds."""
    yield now(id(cell) + FIRST)


def of_function(f: FunctionType) -> Iterator[Pair]:
    """A function's code, defaults and cells."""
    for offset in (FUNCTION_CODE, FUNCTION_DEFAULTS, FUNCTION_KEYWORDS, FUNCTION_CLOSURE):
        yield now(id(f) + offset)


def of_type(x: Any) -> Iterator[Pair]:
    """An object's class."""
    yield now(id(x) + TYPE)


def of_class(cls: type) -> Iterator[Pair]:
    """A class and those above it: any change to one gives it another number, or none."""
    yield id(cls) + TYPE_VERSION & -8, word(id(cls) + TYPE_VERSION & -8)


def has_version(cls: type) -> bool:
    """Whether changes to a class can be seen."""
    return ctypes.c_uint32.from_address(id(cls) + TYPE_VERSION).value != 0


_attributes = ctypes.pythonapi._PyObject_GetDictPtr
_attributes.argtypes, _attributes.restype = [ctypes.py_object], ctypes.c_void_p


def of_attributes(x: Any) -> Iterator[Pair]:
    """Which dict an object's attributes are in."""
    yield now(_attributes(x))


def of_slot(x: Any, offset: int) -> Pair:
    """A slot of an object."""
    return now(id(x) + offset)


def references(x: Any, count: int) -> Pair:
    """That so many references to an object exist."""
    return id(x) + REFERENCES, count


@cache
def are_known() -> bool:
    """Whether objects of this Python look as they are read here."""

    class Sample:
        def __init__(self) -> None:
            self.a, self.b = object(), object()

    def call(x: Any = (), *, y: Any = None) -> Any:
        return sample, x, y

    sample, items, table = Sample(), [object(), object()], {1: object(), "x": object()}
    kinds = {object(), object()}
    named = sample.__dict__
    cell = call.__closure__[0]
    found = [
        *[entries(d)[id(k)][1] for d in (table, named) for k in d],
        *[w for _, w in list(of_list(items))[2:]],
        *[w for _, w in of_cell(cell)],
        *[w for _, w in of_function(call)],
        *[w for _, w in of_type(sample)],
        *[w for _, w in of_attributes(sample)],
        word(id(items) + LIST_SIZE),
        word(id(table) + DICT_USED),
    ]
    real = [*table.values(), *named.values(), *items, sample, call.__code__, call.__defaults__]
    real += [call.__kwdefaults__, call.__closure__, Sample, named]
    if found != [*map(id, real), 2, 2]:
        return False
    held = {w for _, w in list(of_set(kinds))[4:]}
    sample.a, before = object(), entries(named)
    if word(before[id(next(iter(named)))][0]) != id(sample.a) or not {*map(id, kinds)} <= held:
        return False
    sample.call = None
    hasattr(sample, "missing")
    seen = list(of_class(Sample))
    had = has_version(Sample)
    Sample.more = 1
    return had and [now(a) for a, _ in seen] != seen
