"""Where a value that a call gave goes: into what a function returns and nowhere else, or not.

Read off bytecode, along every way that may be taken from the call on: the value may wait in local
variables, be put into tuples, lists and dicts, dropped and returned; whatever else takes it might look
at it.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import types
from collections.abc import Iterator, Sequence

from .watch import is_own

Path = tuple[tuple[int, int], ...]  # down into nested tuples, lists and dicts: which of how many
Frame = tuple[types.CodeType, int, dict]  # its code, the instruction that calls, its globals
Stack = tuple[Path | None, ...]  # what was pushed last; None for what is not the value
Locals = frozenset[tuple[str, Path]]
WAYS = 4000  # that are looked at
ONE = (
    "BINARY_OP BINARY_SUBSCR BUILD_CONST_KEY_MAP BUILD_LIST BUILD_MAP BUILD_SLICE BUILD_STRING BUILD_TUPLE "
    "CALL CALL_FUNCTION_EX CALL_KW COMPARE_OP CONTAINS_OP FORMAT_VALUE GET_ITER IS_OP UNARY_INVERT "
    "UNARY_NEGATIVE UNARY_NOT TO_BOOL CONVERT_VALUE FORMAT_SIMPLE FORMAT_WITH_SPEC BINARY_SLICE MAKE_FUNCTION"
).split()  # instructions that push one result
NONE = (
    "POP_TOP STORE_ATTR STORE_SUBSCR STORE_SLICE STORE_GLOBAL STORE_DEREF STORE_NAME STORE_FAST DELETE_FAST "
    "RETURN_VALUE POP_JUMP_IF_TRUE POP_JUMP_IF_FALSE POP_JUMP_IF_NONE POP_JUMP_IF_NOT_NONE "
    "POP_JUMP_FORWARD_IF_TRUE POP_JUMP_FORWARD_IF_FALSE POP_JUMP_FORWARD_IF_NONE POP_JUMP_FORWARD_IF_NOT_NONE "
    "JUMP_FORWARD JUMP_BACKWARD NOP RESUME KW_NAMES RETURN_CONST"
).split()  # that push none
LOADS = "LOAD_CONST LOAD_FAST LOAD_FAST_CHECK LOAD_GLOBAL LOAD_DEREF LOAD_CLOSURE PUSH_NULL".split()
BUILDS = {"BUILD_TUPLE": 1, "BUILD_LIST": 1, "BUILD_MAP": 2, "BUILD_CONST_KEY_MAP": 1}
JUMPS = {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT"}  # always
ENDS = {"RETURN_VALUE", "RETURN_CONST", "RERAISE", "RAISE_VARARGS"}
CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}


class Used(Exception):
    """The value goes elsewhere too; the text says where."""


def effect(i: dis.Instruction) -> tuple[int, int] | None:
    """How many values an instruction pops and pushes, where that is known."""
    name = i.opname
    if name == "PRECALL":
        return 0, 0
    if name == "CALL":
        return i.arg + 2, 1
    if name in ("LOAD_ATTR", "LOAD_METHOD"):
        return 1, 1 + dis.stack_effect(i.opcode, i.arg)
    if name not in ONE and name not in NONE and name not in LOADS:
        return None
    net = dis.stack_effect(i.opcode, i.arg, jump=False)
    pushes = 1 if name in ONE else 0 if name in NONE else net
    return pushes - net, pushes


class Flow:
    """The ways of a value through a function's code, from the instruction at which a call gave it."""

    def __init__(self, code: types.CodeType, at: int) -> None:
        self.code = code
        if code.co_flags & (
            inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
        ):
            raise Used(f"{code.co_name} is a generator")
        self.all = list(dis.get_instructions(code))
        self.index = {i.offset: k for k, i in enumerate(self.all)}
        self.call = max(k for i, k in self.index.items() if i <= at)  # caches may follow it
        self.handlers = [(e.start, e.end, e.target) for e in dis.Bytecode(code).exception_entries]

    def callee(self) -> dis.Instruction:
        """The instruction that found what was called."""
        call = self.all[self.call]
        if call.opname != "CALL":
            raise self.used(call)
        targets = {k for i in self.all if (k := self.index.get(_target(i))) is not None}
        need, k = effect(call)[0], self.call
        while True:
            k -= 1
            found = self.all[k]
            moves = effect(found)
            if moves is None or found.opname in JUMPS or k + 1 in targets:
                raise self.used(call)
            if moves[1] >= need:
                return found
            need += moves[0] - moves[1]

    def used(self, i: dis.Instruction) -> Used:
        """That an instruction takes the value."""
        line = i.positions.lineno or self.code.co_firstlineno
        return Used(f"{self.code.co_filename}:{line}")

    def path(self, given: Path) -> Path | None:
        """Where in what the function returns the value is, which lies so far down in what the call
        gave; None if it is nowhere.
        """
        todo: list[tuple[int, Stack, Locals]] = [(self.call + 1, (given,), frozenset())]
        seen, found = set(todo), set()
        while todo:
            if len(seen) > WAYS:
                raise Used(f"{self.code.co_name} has too many ways")
            k, stack, kept = todo.pop()
            i = self.all[k]
            if i.opname in ("RETURN_VALUE", "RETURN_CONST"):
                found.add(stack[-1] if i.opname == "RETURN_VALUE" and stack else None)
                continue
            for state in self._next(k, i, stack, kept):
                if state not in seen and (state[2] or any(v is not None for v in state[1])):
                    seen.add(state)
                    todo.append(state)
                elif state not in seen:
                    found.add(None)
        if len(found) > 1:
            raise Used(f"{self.code.co_name} returns it on some ways only")
        return found.pop() if found else None

    def _next(
        self, k: int, i: dis.Instruction, stack: Stack, kept: Locals
    ) -> Iterator[tuple[int, Stack, Locals]]:
        """What follows an instruction."""
        for start, end, target in self.handlers:
            if start <= i.offset < end and kept:
                yield self.index[target], (), kept
        stack, kept = self._step(i, stack, kept)
        if i.opname in ENDS:
            return
        if i.opname not in JUMPS:
            yield k + 1, stack, kept
        target = self.index.get(_target(i))
        if target is not None:
            yield target, stack, kept

    def _step(self, i: dis.Instruction, stack: Stack, kept: Locals) -> tuple[Stack, Locals]:
        """The stack and local variables after an instruction."""
        name, local = i.opname, dict(kept)
        if i.opcode in dis.haslocal or "_FAST" in name:
            return self._local(i, stack, local)
        if all(v is None for v in stack):
            return (), kept
        if name in ("COPY", "SWAP"):
            stack = (None,) * (i.arg - len(stack)) + stack
            if name == "COPY":
                return (*stack, stack[-i.arg]), kept
            swapped = list(stack)
            swapped[-1], swapped[-i.arg] = swapped[-i.arg], swapped[-1]
            return tuple(swapped), kept
        moves = effect(i)
        if moves is None:
            raise self.used(i)
        pops, pushes = moves
        stack = (None,) * (pops - len(stack)) + stack
        rest, taken = stack[: len(stack) - pops], stack[len(stack) - pops :]
        given: Path | None = None
        if any(v is not None for v in taken):
            given = self._taken(i, taken)
        return (*rest, *[given] * pushes), kept

    def _taken(self, i: dis.Instruction, taken: Stack) -> Path | None:
        """What an instruction makes of the value, which is among what it takes."""
        if i.opname == "POP_TOP":
            return None
        width = BUILDS.get(i.opname)
        if width is None or sum(v is not None for v in taken) > 1:
            raise self.used(i)
        where = next(n for n, v in enumerate(taken) if v is not None)
        if width == 2 and where % 2 == 0 or where // width >= i.arg:
            raise self.used(i)  # as a key
        return ((where // width, i.arg), *taken[where])

    def _local(
        self, i: dis.Instruction, stack: Stack, local: dict[str, Path]
    ) -> tuple[Stack, Locals]:
        """After an instruction that is about local variables."""
        name = i.opname
        if name in ("LOAD_FAST", "LOAD_FAST_CHECK"):
            stack = (*stack, local.get(i.argval))
        elif name == "LOAD_FAST_LOAD_FAST":
            stack = (*stack, *[local.get(v) for v in i.argval])
        elif name in ("STORE_FAST", "STORE_FAST_LOAD_FAST", "STORE_FAST_STORE_FAST"):
            names = (i.argval,) if isinstance(i.argval, str) else i.argval
            for n, v in enumerate(names):
                if name == "STORE_FAST_LOAD_FAST" and n:
                    stack = (*stack, local.get(v))
                    continue
                top, stack = (stack[-1], stack[:-1]) if stack else (None, ())
                local.pop(v, None)
                if top is not None:
                    local[v] = top
        elif name in ("DELETE_FAST", "LOAD_FAST_AND_CLEAR"):
            found = local.pop(i.argval, None)
            stack = stack if name == "DELETE_FAST" else (*stack, found)
        elif local or any(v is not None for v in stack):
            raise self.used(i)
        return stack, frozenset(local.items())


def _target(i: dis.Instruction) -> int | None:
    """Where an instruction may jump to, or None."""
    is_jump = i.opcode in dis.hasjrel or i.opcode in dis.hasjabs
    return i.argval if is_jump else None


def follow(method: str, frames: Sequence[Frame]) -> Path | None:
    """Where a value is in what the last of the frames returned. The first called a method of a tensor,
    or a class like `float` that does; each other one called the one before it.

    errors: Used where the value may go elsewhere
    """
    path: Path | None = ()
    for n, (code, at, space) in enumerate(frames):
        flow = Flow(code, at)
        callee = None if n and is_own(space.get("__name__")) else flow.callee()
        if callee is not None and not _is_right(
            callee, method, frames[n - 1][0] if n else None, space
        ):
            raise flow.used(callee)
        if n and flow.all[flow.call].opname not in CALLS:
            raise flow.used(flow.all[flow.call])
        path = flow.path(path)
        if path is None:
            return None
    return path


def _is_right(
    callee: dis.Instruction, method: str, code: types.CodeType | None, space: dict
) -> bool:
    """Whether an instruction finds what was called: a method, a builtin class, or a function with that code."""
    if code is None and method == "item":
        return callee.opname in ("LOAD_METHOD", "LOAD_ATTR") and callee.argval == "item"
    if callee.opname != "LOAD_GLOBAL":
        return False
    name = callee.argval
    found = space.get(name, getattr(builtins, name, None))
    if code is None:
        return found is getattr(builtins, method)
    return isinstance(found, types.FunctionType) and found.__code__ is code
