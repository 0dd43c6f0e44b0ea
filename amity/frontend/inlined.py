"""Hot calls as plain code: a plan found, run, and the tape written in place, in one Python frame.

Each function here fills in a template for one op, composite or derivative. In a template `a` is an
argument, `a_` its tape, `t` the result, `s0, s1, ...` what the tape kept, `g` a gradient. What a
template does not expect (a number, a trace, a write in between) is left to the general way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import CodeType
from typing import Any

from amity.engine import device

from .tape import modes, next_seq

INPUT, RESULT, NUMBER, UNUSED = range(4)  # kinds of what a node keeps
Picks = Sequence[tuple[int, int]]  # (kind, index of the argument) for each


ALIAS = "device.make(t.storage, t.layout)"  # the result off the tape, which leads back to its node


@cache
def _compiled(source: str, about: str) -> CodeType:
    return compile(source, f"<{about}>", "exec")


def _function(source: str, about: str, **space: Any) -> Callable:
    """The one function that some source defines."""
    space |= {"modes": modes, "next_seq": next_seq, "device": device, "__name__": __name__}
    exec(_compiled(source, about), space)
    return space["call"]


def _listed(parts: Iterable[str]) -> str:
    return "(" + "".join(f"{p}, " for p in parts) + ")"


def _layouts(names: Iterable[str]) -> str:
    return _listed(f"{n}.layout" for n in names)


def _node(names: Sequence[str], picks: Picks, layouts: str) -> str:
    """A tape node as an expression."""
    kept = {INPUT: lambda i: names[i], RESULT: lambda i: ALIAS, UNUSED: lambda i: "None"}
    versions = {INPUT: lambda i: f"{names[i]}.storage.version",
                RESULT: lambda i: "t.storage.version", UNUSED: lambda i: "0"}  # fmt: skip
    return (
        f"[next_seq(), rule, {_listed(f'{n}_' for n in names)}, "
        f"{_listed(kept[kind](i) for kind, i in picks)}, "
        f"{_listed(versions[kind](i) for kind, i in picks)}, "
        f"{layouts}, None, None]"
    )


# What is done on a miss stands after the handler, so that its errors stand alone.
OP = """
def call({args}{more}):
    {unless_more}
    try:
        t = plans{key}({args})
        {tapes}
    except (KeyError, AttributeError):
        pass
    else:
        if {some}:
            if modes.grad is True:
                if {every}:
                    t.tape = {node}
                else:
                    notes.get(({wants},), note)(t, {args}, {edges})
            elif modes.grad:
                record(t, ({args},))
        return t
    return other({args})
"""
BY_TUPLE = "[k := {layouts}]"  # the key of a plan where the node's layouts may be the same tuple
MORE = ", *more, **named", "if more or named: return slow({args}, *more, **named)"


def op_call(
    names: str,
    plans: dict,
    other: Callable,
    record: Callable[[Any, Sequence[Any]], Any],
    rule: Any,
    key: str = BY_TUPLE,
    slow: Callable | None = None,
) -> Callable:
    """The call of an op on tensors. `plans{key}` is its plan; `rule` its derivative for arguments
    that all want one, `record(t, arguments)` writes the node in general and returns its rule; `slow`
    is called if there are more arguments, where that may be.
    """
    notes: dict[tuple, Callable] = {}  # by which arguments want a gradient

    def note(t: Any, *given: Any) -> None:
        arguments, tapes = given[: len(names)], given[len(names) :]
        found = record(t, arguments)
        if found is not None:
            needs = tuple([tape is not None for tape in tapes])
            notes[needs] = note_call(found, names, found.picks, names)

    args, layouts = ", ".join(names), _layouts(names)
    tapes = [f"{n}_" for n in names]
    wants = [f"{t} is not None" for t in tapes]
    is_known = rule is not None and rule.picks is not None
    more, unless_more = ("", "pass") if slow is None else MORE
    source = OP.format(
        args=args, more=more, unless_more=unless_more.format(args=args),
        key=key.format(layouts=layouts), edges=", ".join(tapes), wants=", ".join(wants),
        tapes="; ".join(f"{t} = {n}.tape" for t, n in zip(tapes, names, strict=True)),
        some=" or ".join(wants), every=" and ".join(wants) if is_known else "False",
        node=_node(names, rule.picks if is_known else (), "k" if key is BY_TUPLE else layouts),
    )  # fmt: skip
    return _function(source, "call of an op", plans=plans, other=other, record=record, rule=rule, note=note,
                     notes=notes, slow=slow)  # fmt: skip


NOTE = """
def call(t, {args}):
    t.tape = {node}
"""


def note_call(rule: Any, names: Sequence[str], picks: Picks, layouts: Sequence[str]) -> Callable:
    """Writes the node of a rule, given the result, the arguments and their tapes."""
    args = ", ".join([*names, *(f"{n}_" for n in names)])
    source = NOTE.format(args=args, node=_node(names, picks, _layouts(layouts)))
    return _function(source, f"node of {rule.name}", rule=rule)


COMPOSITE = """
def call(args):
    {args} = args
    try:
        entry = plans[{key}]
    except (KeyError, TypeError):
        pass
    else:
        t = entry.program({tensors})
        if modes.grad:
            {tapes}
            if {some}:
                if modes.grad is True:
                    entry.notes.get(({wants},), entry.note)(t, {tensors}, {edges})
                else:
                    entry.record(t, ({tensors},))
        return t
    return other(args)
"""


def composite_call(
    is_tensor: Sequence[bool], is_float: Sequence[bool], plans: dict, other: Callable
) -> Callable:
    """The call of a composite on arguments of which these are tensors and floats. `plans` holds its
    entries by the layouts of tensors and the values of the rest, told apart as in ops/record.py.
    """
    names = [f"x{i}" for i in range(len(is_tensor))]
    keys = [
        f"{n}.layout" if t else f"{n} or str({n})" if f else n
        for n, t, f in zip(names, is_tensor, is_float, strict=True)
    ]
    tensors = [n for n, is_one in zip(names, is_tensor, strict=True) if is_one]
    tapes = [f"{n}_" for n in tensors]
    wants = [f"{t} is not None" for t in tapes]
    source = COMPOSITE.format(
        args=_listed(names), tensors=", ".join(tensors), edges=", ".join(tapes),
        key=_listed(keys),
        tapes="; ".join(f"{t} = {n}.tape" for t, n in zip(tapes, tensors, strict=True)),
        some=" or ".join(wants), wants=", ".join(wants),
    )  # fmt: skip
    return _function(source, "call of a composite", plans=plans, other=other)


DERIVATIVE = """
def call(node, g):
    try:
        {names} = node[3]
        plan = plans[g.layout, node[5]]
        is_plain = ({versions}) == node[4] and not modes.grad
    except (KeyError, AttributeError, TypeError):
        is_plain = False
    if not is_plain:
        return other(node, g)
    {made} = plan({takes})
    return {results}
"""


def derivative_call(
    plans: dict, kinds: Sequence[int], takes: Sequence[str], given: Sequence[bool], other: Callable
) -> Callable:
    """A rule's `apply`, for saved values that are still what they were, where no gradient of the
    gradient is wanted. `kinds` are those of the saved values; the plan takes what `takes` names and
    returns the gradients that are `given`.
    """
    saved = [f"s{i}" for i in range(len(kinds))]
    results = [f"d{i}" if is_given else "None" for i, is_given in enumerate(given)]
    source = DERIVATIVE.format(
        names=_listed(saved) if saved else "_",
        versions="".join(
            f"{s}.storage.version, " if kind in (INPUT, RESULT) else "0, "
            for s, kind in zip(saved, kinds, strict=True)
        ),
        made=_listed(r for r in results if r != "None"),
        takes=", ".join(takes),
        results=_listed(results),
    )
    return _function(source, "derivative", plans=plans, other=other)
