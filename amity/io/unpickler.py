"""Reads a pickle as data: values are built, and only functions on a given list are called.

A pickle is a program for a small stack machine. This machine runs it with no way to reach a
module, an attribute or a class of Python: a name that the caller's table does not have is an error.

source: Lib/pickletools.py of CPython, which documents and decodes every opcode.
"""

from __future__ import annotations

import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from amity.core.device import Device
from amity.core.dtype import DType
from amity.core.errors import FormatError, fail

MAX_KEY = 64  # parts of one dictionary key; hashing a deep tuple could take for ever
MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2's names, in protocol 2
KEY_TYPES = (str, int, float, bool, bytes, complex, type(None), DType, Device)
SIZED = (str, bytes, bytearray, list, tuple, dict, set)


@dataclass(frozen=True, slots=True)
class Function:
    """A name in a pickle that may be called: `call` builds the value, `build` sets its state.

    It is not callable itself, so that one left in the result can do nothing.
    """

    name: str
    call: Callable[..., Any]
    build: Callable[[Any, Any], None] | None = None
    makes: type | None = None


class Unpickler:
    """One pickle read from `stream`; `names` is all that it can reach.

    Calls may copy at most `budget` items in all, so that a small file cannot fill the memory.

    errors: FormatError for anything that is not plain data made by the named functions.
    """

    def __init__(
        self,
        op: str,
        stream: BinaryIO,
        names: Callable[[str], Any],
        persistent_load: Callable[[Any], Any],
        budget: int,
    ) -> None:
        self.op, self.stream = op, stream
        self.names, self.persistent_load = names, persistent_load
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The object, with the stream left after it."""
        ops = pickletools.genops(self.stream)
        while True:
            try:
                code, argument, _ = next(ops)
            except StopIteration:
                return self.pop()
            except (ValueError, OverflowError, MemoryError) as error:
                raise self.fail(f"a damaged pickle ({error})", "a whole one") from error
            if code.name in PUSHES:
                self.stack.append(argument)
            elif code.name in ACTIONS:
                ACTIONS[code.name](self, argument)
            else:
                raise self.fail(f"the opcode {code.name}", "those that torch.save writes")

    def fail(self, got: str, expected: str, hint: str | None = None) -> Exception:
        return fail(FormatError, self.op, f"{got} in the pickle", expected, hint)

    def pop(self) -> Any:
        if not self.stack:
            raise self.fail("an empty stack", "a value")
        return self.stack.pop()

    def top(self, *types: type) -> Any:
        """The value on top of the stack, which must be exactly of one of the types."""
        if not self.stack:
            raise self.fail("an empty stack", "a value")
        if types and type(self.stack[-1]) not in types:
            names = " or ".join(t.__name__ for t in types)
            raise self.fail(f"{type(self.stack[-1]).__name__} to fill", names)
        return self.stack[-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def mark(self, _: Any) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """The values above the last mark."""
        if not self.marks:
            raise self.fail("no mark", "a mark")
        items, self.stack = self.stack, self.marks.pop()
        return items

    def discard(self, _: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def tuple_of(self, count: int) -> None:
        items = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def extend(self, items: list[Any]) -> None:
        self.top(list).extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.top(dict, OrderedDict, Counter)
        if len(items) % 2:
            raise self.fail("a key without a value", "pairs")
        for key, value in zip(items[::2], items[1::2], strict=True):
            check_key(self, key)
            target[key] = value

    def add(self, items: list[Any]) -> None:
        target = self.top(set)
        for item in items:
            check_key(self, item)
        target.update(items)

    def put(self, index: int) -> None:
        self.memo[index] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise self.fail(f"reference {index} to nothing", "a value put before")
        self.push(self.memo[index])

    def find(self, name: str) -> None:
        """Push what `module name` stands for in the caller's table."""
        module, _, rest = name.partition(" ")
        self.push(self.names(f"{MODULES.get(module, module)}.{rest}"))

    def find_on_stack(self, _: Any) -> None:
        name, module = self.pop(), self.pop()
        if type(name) is not str or type(module) is not str:
            raise self.fail("a name that is no text", "a module and a name")
        self.find(f"{module} {name}")

    def reduce(self, _: Any) -> None:
        """Call a function of the table."""
        arguments = self.pop()
        function = self.pop()
        if type(function) is not Function or type(arguments) is not tuple:
            raise self.fail(f"a call of {type(function).__name__}", "a call of an allowed function")
        self.push(self.guarded(function, function.call, *arguments))

    def new_object(self, _: Any) -> None:
        """Make an empty object of a class that the user allowed."""
        arguments = self.pop()
        function = self.pop()
        if type(function) is not Function or function.makes is None or type(arguments) is not tuple:
            raise self.fail(f"an object of {type(function).__name__}", "an allowed class")
        self.push(self.guarded(function, function.makes.__new__, function.makes, *arguments))

    def build(self, _: Any) -> None:
        """Set the state of an object that a function of the table made."""
        state = self.pop()
        instance = self.top()
        function = self.names(f"{type(instance).__module__}.{type(instance).__qualname__}")
        if type(function) is not Function or function.build is None:
            raise self.fail(f"state for {type(instance).__name__}", "a class that has state")
        self.guarded(function, function.build, instance, state)

    def guarded(self, function: Function, call: Callable[..., Any], *arguments: Any) -> Any:
        self.budget -= sum(len(a) for a in arguments if isinstance(a, SIZED))
        if self.budget < 0:
            raise self.fail("calls that copy more than the file holds", "each value used once")
        try:
            return call(*arguments)
        except FormatError:
            raise
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            got = f"{function.name} with arguments that it does not take ({error})"
            raise self.fail(got, "those that torch.save writes") from error

    def persistent(self, _: Any) -> None:
        self.push(self.persistent_load(self.pop()))


def check_key(machine: Unpickler, key: Any) -> None:
    """Refuse keys whose hash could run code, never end, or overflow the stack."""
    rest, count = [key], 0
    while rest:
        part = rest.pop()
        count += 1
        if isinstance(part, tuple) and count + len(part) <= MAX_KEY:
            rest.extend(part)
        elif isinstance(part, tuple):
            raise machine.fail("a very large key", f"keys of at most {MAX_KEY} parts")
        elif type(part) not in KEY_TYPES:
            raise machine.fail(f"{type(part).__name__} as a key", "a plain value as a key")


PUSHES = frozenset(
    "INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING "
    "UNICODE SHORT_BINUNICODE BINUNICODE BINUNICODE8 SHORT_BINBYTES BINBYTES BINBYTES8".split()
)

ACTIONS: Mapping[str, Callable[[Unpickler, Any], None]] = {
    "PROTO": lambda m, _: None,
    "FRAME": lambda m, _: None,
    "STOP": lambda m, _: None,
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "EMPTY_SET": lambda m, _: m.push(set()),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "BYTEARRAY8": lambda m, data: m.push(data),
    "MARK": Unpickler.mark,
    "POP": Unpickler.discard,
    "POP_MARK": lambda m, _: m.pop_mark() and None,
    "DUP": lambda m, _: m.push(m.top()),
    "TUPLE1": lambda m, _: m.tuple_of(1),
    "TUPLE2": lambda m, _: m.tuple_of(2),
    "TUPLE3": lambda m, _: m.tuple_of(3),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "DICT": lambda m, _: (items := m.pop_mark(), m.push({}), m.update(items)) and None,
    "APPEND": lambda m, _: m.extend([m.pop()]),
    "APPENDS": lambda m, _: m.extend(m.pop_mark()),
    "SETITEM": lambda m, _: m.update([m.pop(), m.pop()][::-1]),
    "SETITEMS": lambda m, _: m.update(m.pop_mark()),
    "ADDITEMS": lambda m, _: m.add(m.pop_mark()),
    "PUT": Unpickler.put,
    "BINPUT": Unpickler.put,
    "LONG_BINPUT": Unpickler.put,
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    "GET": Unpickler.get,
    "BINGET": Unpickler.get,
    "LONG_BINGET": Unpickler.get,
    "GLOBAL": Unpickler.find,
    "STACK_GLOBAL": Unpickler.find_on_stack,
    "REDUCE": Unpickler.reduce,
    "NEWOBJ": Unpickler.new_object,
    "BUILD": Unpickler.build,
    "BINPERSID": Unpickler.persistent,
}
