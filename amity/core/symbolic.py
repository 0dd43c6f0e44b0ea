"""Sizes that know how they were computed, so that one plan serves many sizes.

A `SymInt` is an int with a formula: a polynomial with integer coefficients in the sizes of a `Trace`
and in quotients of such. Arithmetic keeps formulas; a comparison is answered by the numbers and noted
as a guard, under which the answer holds for other sizes too. What cannot keep the formula pins it: the
guard then says that the number is this one.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Sequence
from math import gcd, prod
from typing import Any

Terms = tuple[tuple[tuple[int, ...], int], ...]  # (atoms that are multiplied, coefficient), sorted
ENDLESS = 1 << 31  # a size that no tensor has; bounds beyond it tell nothing
TESTS = ("==", "!=", "<", ">=")  # of a formula and 0


def bits_of(x: float) -> int:
    """A float64 as the 64-bit word that holds it.

    >>> bits_of(1.0) == 0x3FF << 52
    True
    """
    return x.bits if isinstance(x, SymFloat) else struct.unpack("<q", struct.pack("<d", x))[0]


def float_of(bits: int) -> float:
    """The float64 that a 64-bit word holds."""
    return struct.unpack("<d", struct.pack("<q", bits))[0]


class Trace:
    """The sizes that formulas are made of, and what was asked of them."""

    def __init__(self) -> None:
        self.atoms: list[tuple] = []  # ("size", which); ("quotient" or "greatest", terms, terms)
        self._found: dict[tuple, int] = {}
        self.guards: dict[tuple[Terms, str], None] = {}
        self.pins: list[str] = []  # where formulas got lost

    def size(self, which: int, value: int) -> SymInt:
        """The formula of one size."""
        return SymInt(value, (((self._atom(("size", which)),), 1),), self)

    def _atom(self, atom: tuple) -> int:
        found = self._found.get(atom)
        if found is None:
            found = self._found[atom] = len(self.atoms)
            self.atoms.append(atom)
        return found

    def number(self, value: int, terms: Terms) -> int:
        """A number with a formula, plain if that is a constant."""
        if _constant(terms) is not None:
            return value
        return SymInt(value, terms, self)

    def quotient(self, value: int, a: Terms, b: Terms) -> int:
        """a // b, simplified where terms of `a` are multiples of `b`."""
        whole, rest = _divided(a, b)
        if not rest:
            return self.number(value, whole)
        divisor = _constant(b)
        constant = _constant(rest)
        if divisor is not None and constant is not None:
            return self.number(value, _sum(whole, _terms_of(constant // divisor)))
        atom = self._atom(("quotient", rest, b))
        return self.number(value, _sum(whole, (((atom,), 1),)))

    def greatest(self, a: int, b: int) -> int:
        """The larger of two numbers."""
        for larger, other in ((a, b), (b, a)):
            least = self._least(_sum(_terms_of(larger), _terms_of(other), -1))
            if least is not None and least >= 0:
                return larger
        atom = self._atom(("greatest", _terms_of(a), _terms_of(b)))
        return SymInt(max(int.__int__(a), int.__int__(b)), (((atom,), 1),), self)

    def holds(self, a: Terms, b: Terms, test: str, answer: bool) -> bool:
        """Note that `a` and `b` compare so."""
        if not answer:
            test = {"==": "!=", "<": ">="}[test]
        difference = _sum(a, b, -1)
        least = self._least(difference)
        is_clear = least is not None and least >= {">=": 0, "!=": 1}.get(test, 1 << 62)
        if _constant(difference) is None and not is_clear:
            factor = gcd(*[c for _, c in difference])
            self.guards[tuple([(x, c // factor) for x, c in difference]), test] = None
        return answer

    def _least(self, terms: Terms) -> int | None:
        """What a formula is at least, whatever the sizes are, if that is easily told."""
        total = 0
        for atoms, c in terms:
            bounds = [b for b in map(self._least_of, atoms) if b is not None and b >= 0]
            if (c < 0 and atoms) or len(bounds) < len(atoms):
                return None
            total += c * prod(bounds)
        return total

    def _least_of(self, which: int) -> int | None:
        kind, *parts = self.atoms[which]
        if kind == "size":
            return 0
        bounds = [self._least(terms) for terms in parts]
        if kind == "greatest":
            return max((b for b in bounds if b is not None), default=None)
        return None if any(b is None or b < 0 for b in bounds) else 0

    def pin(self, number: SymInt) -> int:
        """The number without its formula."""
        value = int.__int__(number)
        self.holds(number.terms, _terms_of(value), "==", True)
        self.pins.append(_caller())
        return value

    def function(self, numbers: Sequence[Any], guards: Sequence[tuple[Terms, str]]) -> Callable:
        """`f(sizes)`, which gives the values of formulas at other sizes, None where a guard fails."""
        lines, names = ["def f(sizes):"], []
        for i, (kind, *parts) in enumerate(self.atoms):
            names.append(f"a{i}")
            if kind == "size":
                lines.append(f"    a{i} = sizes[{parts[0]}]")
            else:
                a, b = (_text(terms, names) for terms in parts)
                if kind == "greatest":
                    lines.append(f"    a{i} = {a} if {a} > {b} else {b}")
                else:
                    lines += [f"    if not {b}:", "        return None"]
                    lines.append(f"    a{i} = ({a}) // ({b})")
        for terms, test in guards:
            lines += [f"    if not {_text(terms, names)} {test} 0:", "        return None"]
        lines.append(f"    return [{', '.join(_text(n.terms, names) for n in numbers)}]")
        scope: dict[str, Any] = {}
        exec("\n".join(lines), scope)  # text made of numbers alone
        return scope["f"]

    def about(self, names: Sequence[str]) -> str:
        """What the guards ask of sizes with these names, for people."""
        least, most = dict.fromkeys(names, 0), dict[str, int]()
        others: dict[str, set[int]] = {}
        rest: dict[str, None] = {}
        for terms, test in self.guards:
            found = self._bound(terms, test)
            if found is None:
                more = tuple([(atoms, c) for atoms, c in terms if c > 0])
                less = tuple([(atoms, -c) for atoms, c in terms if c < 0])
                rest[f"{self.show(more, names)} {test} {self.show(less, names)}"] = None
                continue
            name, (low, high, other) = names[found[0]], found[1:]
            least[name] = max(least[name], low)
            if high is not None:
                most[name] = min(most.get(name, high), high)
            if other is not None:
                others.setdefault(name, set()).add(other)
        lines = []
        for name in names:
            but = sorted(others.get(name, ()))
            while least[name] in but:
                least[name] += 1
            while most.get(name) in but:
                most[name] -= 1
            to = f" to {most[name]}" if most.get(name, ENDLESS) < ENDLESS else ""
            but = [n for n in but if least[name] < n <= most.get(name, n)]
            apart = f" but {', '.join(map(str, but))}" if but else ""
            lines.append(f"{name} from {least[name]}{to}{apart}")
        return " and ".join([*lines, *rest])

    def _bound(self, terms: Terms, test: str) -> tuple[int, int, int | None, int | None] | None:
        """The size that a guard is of, and its least, its most and its forbidden value, if it is a
        line: c * size + d.
        """
        (atoms, c), *more = terms
        if len(atoms) != 1 or self.atoms[atoms[0]][0] != "size" or (more and more[0][0] != ()):
            return None
        which, d = self.atoms[atoms[0]][1], more[0][1] if more else 0
        if test == "!=":
            return which, 0, None, None if d % c else -d // c
        if test == "==":
            return which, -d // c, -d // c, None
        if test == "<":  # the same as -c * size - d - 1 >= 0
            c, d = -c, -d - 1
        return (which, -(d // c), None, None) if c > 0 else (which, 0, d // -c, None)

    def show(self, terms: Terms, names: Sequence[str]) -> str:
        """A formula for people; `names` are those of the sizes."""
        shown: list[str] = []
        for kind, *parts in self.atoms:
            if kind == "size":
                shown.append(names[parts[0]])
            else:
                a, b = (_text(t, shown) for t in parts)
                shown.append(f"max({a}, {b})" if kind == "greatest" else f"({a})//({b})")
        return _text(terms, shown)


def greatest(a: int, b: int) -> int:
    """The larger of two numbers, which stays a formula, where `max` would guard its choice.

    >>> greatest(2, 3)
    3
    """
    known = a if isinstance(a, SymInt) else b
    return known.trace.greatest(a, b) if isinstance(known, SymInt) else max(a, b)


def _caller() -> str:
    """Where a formula got lost: the first line outside of this file."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


# -- polynomials


def _terms_of(value: Any) -> Terms:
    return value.terms if isinstance(value, SymInt) else (((), value),) if value else ()


def _sum(a: Terms, b: Terms, factor: int = 1) -> Terms:
    out = dict(a)
    for atoms, c in b:
        c = out.pop(atoms, 0) + factor * c
        if c:
            out[atoms] = c
    return tuple(sorted(out.items(), reverse=True))


def _product(a: Terms, b: Terms) -> Terms:
    out: dict[tuple[int, ...], int] = {}
    for x, c in a:
        for y, d in b:
            atoms = tuple(sorted(x + y))
            out[atoms] = out.get(atoms, 0) + c * d
    return tuple(sorted([(x, c) for x, c in out.items() if c], reverse=True))


def _constant(terms: Terms) -> int | None:
    """The value of a formula without sizes."""
    if not terms:
        return 0
    return terms[0][1] if len(terms) == 1 and terms[0][0] == () else None


def _divided(a: Terms, b: Terms) -> tuple[Terms, Terms]:
    """The terms of `a` that are multiples of `b`, divided by it, and the others."""
    if len(b) != 1:
        return ((((), 1),), ()) if a == b else ((), a)
    (divisor, factor), whole, rest = b[0], [], []
    for atoms, c in a:
        left = list(atoms)
        if c % factor == 0 and all(x in left and not left.remove(x) for x in divisor):  # type: ignore[func-returns-value]
            whole.append((tuple(left), c // factor))
        else:
            rest.append((atoms, c))
    return tuple(sorted(whole, reverse=True)), tuple(rest)


def _text(terms: Terms, names: Sequence[str]) -> str:
    parts = [
        "*".join([str(c)] * (c != 1 or not atoms) + [names[i] for i in atoms]) for atoms, c in terms
    ]
    return f"({' + '.join(parts)})" if len(parts) > 1 else parts[0] if parts else "0"


# -- numbers


def _arithmetic(name: str, of: Callable[[Terms, Terms], Terms]) -> Callable:
    plain = getattr(int, name)
    swapped = name.startswith("__r")

    def method(self: SymInt, other: Any) -> Any:
        value = plain(self, other)
        if value is NotImplemented:
            return value
        a, b = self.terms, _terms_of(other)
        return self.trace.number(value, of(b, a) if swapped else of(a, b))

    return method


def _comparison(name: str, test: str, is_negated: bool, is_swapped: bool = False) -> Callable:
    plain = getattr(int, name)

    def method(self: SymInt, other: Any) -> Any:
        answer = plain(self, other)
        if answer is NotImplemented:
            if isinstance(other, float) and not other.is_integer():
                return getattr(self.trace.pin(self), name)(other)
            if isinstance(other, float):
                return method(self, int(other))
            return answer
        a, b = self.terms, _terms_of(other)
        if is_swapped:
            a, b = b, a
        self.trace.holds(a, b, test, answer is not is_negated)
        return answer

    return method


def _pinned(name: str) -> Callable:
    plain = getattr(int, name)

    def method(self: SymInt, *others: Any) -> Any:
        return plain(self.trace.pin(self), *others)

    return method


class SymInt(int):
    """An int with a formula."""

    terms: Terms
    trace: Trace

    def __new__(cls, value: int, terms: Terms, trace: Trace) -> SymInt:
        out = int.__new__(cls, value)
        out.terms, out.trace = terms, trace
        return out

    __add__ = _arithmetic("__add__", _sum)
    __radd__ = _arithmetic("__radd__", _sum)
    __sub__ = _arithmetic("__sub__", lambda a, b: _sum(a, b, -1))
    __rsub__ = _arithmetic("__rsub__", lambda a, b: _sum(a, b, -1))
    __mul__ = _arithmetic("__mul__", _product)
    __rmul__ = _arithmetic("__rmul__", _product)

    __eq__ = _comparison("__eq__", "==", False)
    __ne__ = _comparison("__ne__", "==", True)
    __lt__ = _comparison("__lt__", "<", False)
    __ge__ = _comparison("__ge__", "<", True)
    __gt__ = _comparison("__gt__", "<", False, True)
    __le__ = _comparison("__le__", "<", True, True)

    def __hash__(self) -> int:
        return hash((id(self.trace), self.terms))

    def __bool__(self) -> bool:
        return self != 0

    def __neg__(self) -> int:
        return self * -1

    def __pos__(self) -> int:
        return self

    def __abs__(self) -> int:
        return self if self >= 0 else -self

    def __floordiv__(self, other: Any) -> Any:
        return _quotient(self.trace, self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return _quotient(self.trace, other, self)

    def __mod__(self, other: Any) -> Any:
        return NotImplemented if not isinstance(other, int) else self - self // other * other

    def __rmod__(self, other: Any) -> Any:
        return NotImplemented if not isinstance(other, int) else other - other // self * self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __lshift__(self, other: Any) -> Any:
        return self * (1 << other)

    def __rshift__(self, other: Any) -> Any:
        return self // (1 << other)

    def __and__(self, other: Any) -> Any:
        """The multiples of powers of two below, and the rests beyond them, are formulas."""
        plain = type(other) is int
        if plain and other < 0 and (-other & (-other - 1)) == 0:
            return self // -other * -other
        if plain and other >= 0 and (other & (other + 1)) == 0:
            return self % (other + 1)
        return self.trace.pin(self) & other

    def bit_length(self) -> int:
        """Digits of the binary number: the same for all sizes between two powers of two."""
        n = int.bit_length(self)
        if not (self >= 1 << n - 1 and self < 1 << n if n else self == 0):
            return self.trace.pin(self).bit_length()  # a negative number
        return n

    def __repr__(self) -> str:
        return repr(self.trace.pin(self))

    __str__ = __repr__


for _name in (
    "__int__", "__index__", "__float__", "__truediv__", "__rtruediv__", "__pow__", "__rpow__", "__round__",
    "__trunc__", "__floor__", "__ceil__", "__or__", "__ror__", "__xor__", "__rxor__", "__rand__", "__invert__",
    "__rlshift__", "__rrshift__", "__format__", "to_bytes", "bit_count", "is_integer", "as_integer_ratio",
    "__getnewargs__",
):  # fmt: skip
    if hasattr(int, _name):
        setattr(SymInt, _name, _pinned(_name))


def _quotient(trace: Trace, a: Any, b: Any) -> Any:
    if not (isinstance(a, int) and isinstance(b, int)):
        return NotImplemented
    if isinstance(b, SymInt):
        trace.holds(b.terms, (), "==", int.__eq__(b, 0))
    value = int.__floordiv__(a, b)
    return trace.quotient(value, _terms_of(a), _terms_of(b))


class SymFloat(float):
    """A float that differs with sizes, read anew for each; `bits` is the formula of its word."""

    bits: SymInt

    def __new__(cls, value: float, bits: SymInt) -> SymFloat:
        out = float.__new__(cls, value)
        out.bits = bits
        return out

    def __eq__(self, other: Any) -> Any:
        if isinstance(other, SymFloat):
            return self.bits == other.bits
        return self.bits == bits_of(other) if isinstance(other, float) else self.plain() == other

    def __ne__(self, other: Any) -> Any:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.bits)

    def plain(self) -> float:
        """The number, for sizes at which it is this one."""
        return float_of(self.bits.trace.pin(self.bits))


def _plain(name: str) -> Callable:
    plain = getattr(float, name)
    return lambda self, *others: plain(self.plain(), *others)


for _name in (
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__",
    "__floordiv__", "__rfloordiv__", "__mod__", "__rmod__", "__divmod__", "__rdivmod__", "__pow__", "__rpow__",
    "__neg__", "__abs__", "__pos__", "__bool__", "__int__", "__trunc__", "__round__", "__lt__", "__le__",
    "__gt__", "__ge__", "__repr__", "__str__", "__format__", "__float__", "is_integer", "hex",
):  # fmt: skip
    setattr(SymFloat, _name, _plain(_name))


def has_formula(value: Any) -> bool:
    """Whether a formula is somewhere in tuples and lists."""
    if isinstance(value, (tuple, list)):
        return any(has_formula(v) for v in value)
    return isinstance(value, (SymInt, SymFloat))
