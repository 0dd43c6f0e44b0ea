"""Loop nests: what one fused kernel does, apart from all sizes.

A nest runs over row dimensions (in parallel) and reduced dimensions. Its `body` is a list of
instructions on values; an operand is a buffer with, per dimension, a stride class: `0` broadcast,
`1` unit, `s` known at run time. Equal nests share one compiled kernel whatever their sizes; those
go to the kernel's `meta` words in the order that `Words` fixes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from amity.core.shape import numel
from amity.core.symbolic import SymInt, bits_of
from amity.ir.kernel import BITS, register_type
from amity.ops.record import told_apart

REDUCES = {"add": "sum", "mul": "prod"}  # what reductions are called, by how they combine
WORDS_SAID = 6


class Operand(NamedTuple):
    """A buffer of a nest: dtype code and one stride class per dimension.

    `rank` is -1 for operands walked by the loops; an indexed operand (read at computed positions)
    has the rank of its tensor, and class `1` if its last stride is 1, else none.
    """

    dtype: str
    classes: str
    rank: int = -1


class Instruction(NamedTuple):
    """One value of a nest's body.

    `op` is load, const, number (a constant that `meta` holds), cast, pointwise, reduce, index,
    indexed, or head: what the kernel has computed that the nest is the ending of (ending.py).
    """

    op: str
    what: Any
    args: tuple[int, ...]
    dtype: str

    @property
    def key(self) -> tuple:
        what = self.what
        if self.op == "pointwise":
            what = what.structure
        elif self.op == "indexed":
            what = (what[0].structure, what[1])
        elif self.op == "const":
            what = told_apart(what)
        return (self.op, what, self.args, self.dtype)


@dataclass(frozen=True)
class Nest:
    """The structure of a fused kernel; everything in it is part of the kernel's identity."""

    dims: str  # one letter a dimension, outermost first: rows `r`, then reduced `d`
    vector_rows: bool  # whether the last row dimension (else the last of all) is the vector one
    operands: tuple[Operand, ...]  # inputs, then outputs
    inputs: int
    body: tuple[Instruction, ...]
    stores: tuple[tuple[int, int], ...]  # (operand, value)
    spill: bool = False  # keep costly values of a row in scratch between passes
    split: bool = False  # the last row dimension counts chunks of the one reduced dimension
    family: Callable[[], list[Nest]] = field(default=list, compare=False)  # for other sizes
    kin: tuple = field(default=(), compare=False)  # with the key, what decides the family

    @cached_property
    def key(self) -> tuple:
        body = tuple([i.key for i in self.body])
        ops = tuple([tuple(o) for o in self.operands])
        return (
            "nest",
            self.dims,
            self.vector_rows,
            ops,
            self.inputs,
            body,
            self.stores,
            self.spill,
            self.split,
        )

    @property
    def label(self) -> str:
        """What it computes, in a few words, for the kernel's name."""
        said: dict[str, None] = {}
        for i in self.body:
            if i.op == "pointwise":
                said[i.what.name] = None
            elif i.op == "indexed":
                said[i.what[0].name] = None
            elif i.op == "reduce":
                said[REDUCES.get(i.what, i.what)] = None
        return "_".join(list(said)[:WORDS_SAID]) or "copy"

    @property
    def vector_dim(self) -> int:
        if self.vector_rows:
            return self.dims.count("r") - 1
        return len(self.dims) - 1

    def fixed(self) -> list[bool]:
        """Which values are one scalar for the whole kernel: constants, scalar operands, their casts."""
        out: list[bool] = []
        for i in self.body:
            if i.op == "load":
                o = self.operands[i.what]
                out.append(o.rank < 0 and set(o.classes) <= {"0"})
            else:
                out.append(i.op in ("const", "number") or (i.op == "cast" and out[i.args[0]]))
        return out

    def compute_types(self) -> set[str]:
        """The dtypes that vectors are made of: those of varying values, or of the stored ones."""
        varying = {i.dtype for i, fixed in zip(self.body, self.fixed(), strict=True) if not fixed}
        stored = {self.body[v].dtype for _, v in self.stores}
        return {register_type(t) for t in varying or stored} - {"bool"}

    def lanes(self, vector_bytes: int) -> int:
        """Vector width: one register of f32, or of the widest type if that is all there is."""
        sizes = [max(8, BITS[t]) // 8 for t in self.compute_types()] or [1]
        size = max(sizes) if min(sizes) >= 4 else min(4, max(sizes)) if max(sizes) < 8 else 4
        return max(1, vector_bytes // size)


@dataclass
class Words:
    """Where each run-time number of a nest stands in `meta`."""

    sizes: list[int]
    strides: dict[tuple[int, int], int]  # (operand, dim) -> word
    indexed: dict[int, tuple[int, int]]  # operand -> (first size word, first stride word)
    numbers: dict[int, int]  # instruction -> word
    parameters: dict[int, int]  # instruction -> first word
    total: int = 0  # word of the whole reduced size, when split


def words(nest: Nest, first: int = 0) -> Words:
    """The layout of `meta` from word `first` on: sizes, strides of class `s`, numbers, indexed operands,
    parameters of ops."""
    n = first + len(nest.dims)
    out = Words(list(range(first, n)), {}, {}, {}, {})
    at = n
    if nest.split:
        out.total = at
        at += 1
    for i, operand in enumerate(nest.operands):
        for d, c in enumerate(operand.classes):
            if c == "s":
                out.strides[i, d] = at
                at += 1
    for i, instruction in enumerate(nest.body):
        if instruction.op == "number":
            out.numbers[i] = at
            at += 1
    for i, operand in enumerate(nest.operands):
        if operand.rank >= 0:
            out.indexed[i] = (at, at + operand.rank)
            at += 2 * operand.rank
    for i, instruction in enumerate(nest.body):
        if instruction.op == "indexed":
            out.parameters[i] = at
            at += 64  # ops have at most 64 run-time words
    return out


@dataclass
class Access:
    """An operand before collapsing: strides over the domain, or a whole tensor for indexed reads."""

    dtype: str
    strides: tuple[int, ...]
    whole: tuple[Sequence[int], Sequence[int]] | None = None  # (shape, strides)
    is_scalar: bool = False  # whether the tensor has no dimensions


def in_turn(
    sizes: Sequence[int], flags: str, accesses: Sequence[Access], keep_order: bool
) -> list[int]:
    """The reduced dimensions in the order of their loops."""
    reduced = [d for d, n in enumerate(sizes) if flags[d] == "d" and (n != 1 or keep_order)]
    walked = [a for a in accesses if a.whole is None]
    if not keep_order and walked:
        reduced.sort(key=lambda d: tuple(-abs(a.strides[d]) for a in walked))
    return reduced


def collapse(
    sizes: Sequence[int], flags: str, accesses: Sequence[Access], keep_order: bool
) -> tuple[list[int], str, list[list[int]]]:
    """Dimensions merged and ordered so that loops are few and walk memory forwards.

    Gives sizes, flags and the strides of each access. Rows come first, then reduced dimensions.
    """
    walked = [a for a in accesses if a.whole is None]
    rows = [d for d, n in enumerate(sizes) if flags[d] == "r" and (n != 1 or keep_order)]
    reduced = in_turn(sizes, flags, accesses, keep_order)
    if not keep_order and walked:
        weight = lambda d: tuple(-abs(a.strides[d]) for a in reversed(walked))  # noqa: E731
        rows.sort(key=weight)
    out: list[int] = []
    merged: list[list[int]] = [[] for _ in accesses]
    out_flags = ""
    for d in rows + reduced:
        fits = (
            bool(out)
            and not keep_order
            and out_flags[-1] == flags[d]
            and all(
                m[-1] == a.strides[d] * (sizes[d] or 1)
                for a, m in zip(accesses, merged, strict=True)
                if a.whole is None
            )
        )
        if fits:
            out[-1] *= sizes[d]
            for a, m in zip(accesses, merged, strict=True):
                if a.whole is None:
                    m[-1] = a.strides[d]
        else:
            out.append(sizes[d])
            out_flags += flags[d]
            for a, m in zip(accesses, merged, strict=True):
                if a.whole is None:
                    m.append(a.strides[d])
    return out, out_flags, merged


SHORT, LONG = 8, 16  # innermost dimensions too short for vectors, and long enough


class Form(NamedTuple):
    """A domain after collapsing: sizes, flags and the strides of each access."""

    sizes: list[int]
    dims: str
    strides: list[list[int]]

    @property
    def can_turn(self) -> bool:
        """Whether vectors may run along two dimensions. A map's innermost loop may run along an
        input's memory instead of the result's; a reduction's vectors along its rows."""
        if "d" not in self.dims:
            return len(self.sizes) > 1 and any(s and s[-2] == 1 for s in self.strides)
        row, last = self.dims.count("r") - 1, len(self.dims) - 1
        moving = [s for s in self.strides if s and (s[last] or s[row])]
        first = next((s for s in moving if s[last] and s[row]), moving[0] if moving else None)
        return first is not None and abs(first[row]) == 1 and abs(first[last]) != 1

    @property
    def wants_turn(self) -> bool:
        """Whether the other dimension is the better one for these sizes."""
        if "d" not in self.dims:
            return self.sizes[-1] < SHORT and self.sizes[-2] >= LONG
        return self.sizes[self.dims.count("r") - 1] >= 4

    def turned(self) -> Form:
        """A map with its two innermost loops exchanged."""
        swap = lambda s: [*s[:-2], s[-1], s[-2]] if s else s  # noqa: E731
        return Form(swap(self.sizes), self.dims, [swap(s) for s in self.strides])


SPILL_BYTES = 2 << 20  # of scratch that rows may take
SPILLED_BYTES = 32  # that an element may take: a few values


def make_nest(
    sizes: Sequence[int],
    flags: str,
    accesses: Sequence[Access],
    inputs: int,
    body: Sequence[Instruction],
    stores: Sequence[tuple[int, int]],
    split: int = 0,
    keep_order: bool = False,
) -> tuple[Nest, list[int]]:
    """The nest of a group and the numbers of this call. `split` is the chunk count, or 0."""
    accesses, body = _as_bits(accesses, body, stores)
    out, dims, strides = collapse(sizes, flags, accesses, keep_order)
    is_reduction = any(i.op == "reduce" for i in body)
    total = []
    if split:
        out, dims, strides, n = _split(out, dims, strides, accesses, inputs, split)
        total = [n]
    if "r" not in dims:  # one element of a map is a vector of length 1, one result a row
        is_map = not (dims or is_reduction)
        steps = [1 if is_map and not a.is_scalar else 0 for a in accesses]
        out, dims = [1, *out], "r" + dims
        strides = [[step, *s] for step, s in zip(steps, strides, strict=True)]
    if "d" not in dims and is_reduction:  # all of size 1
        out, dims = [*out, 1], dims + "d"
        strides = [[*s, 0] for s in strides]
    if keep_order:
        body = _renumbered(body, flags)
    body, constants = lift(body)
    form = Form(out, dims, [s if a.whole is None else [] for a, s in zip(accesses, strides)])
    can_turn = form.can_turn and not (keep_order and "d" not in dims)
    can_spill = "d" in dims and any(getattr(i.what, "is_costly", False) for i in body)

    def make(is_turned: bool, spill: bool, family: Any = list) -> tuple[Nest, list[int]]:
        walked = form.turned() if is_turned and "d" not in dims else form
        is_column = is_turned or "d" not in dims
        operands, numbers = _operands(walked, accesses, is_column)
        nest = Nest(
            dims, is_column, operands, inputs, tuple(body), tuple(stores),
            spill and not is_column, bool(split), family, (can_turn, can_spill),
        )  # fmt: skip
        return nest, [*walked.sizes, *total, *numbers, *constants]

    def family() -> list[Nest]:
        turns, spills = {False, can_turn}, {False, can_spill}
        return [make(turn, spill)[0] for turn in turns for spill in spills]

    reduced = numel([n for n, f in zip(out, dims, strict=True) if f == "d"])
    spill = can_spill and reduced * SPILLED_BYTES <= SPILL_BYTES
    nest, meta = make(can_turn and form.wants_turn, spill, family)
    for a in accesses:
        if a.whole is not None:
            meta += [*a.whole[0], *a.whole[1]]
    return nest, meta


def _as_bits(
    accesses: Sequence[Access], body: Sequence[Instruction], stores: Sequence[tuple[int, int]]
) -> tuple[Sequence[Access], Sequence[Instruction]]:
    """A mere copy of 16-bit floats as one of integers: it is faster, and NaNs keep their bits."""
    is_copy = len(body) == 1 and body[0].op == "load" and len(stores) == len(accesses) - 1
    if not is_copy or {a.dtype for a in accesses} not in ({"f16"}, {"bf16"}):
        return accesses, body
    return [replace(a, dtype="i16") for a in accesses], [body[0]._replace(dtype="i16")]


def _operands(
    form: Form, accesses: Sequence[Access], is_column: bool
) -> tuple[tuple[Operand, ...], list[int]]:
    """The accesses as operands, and the strides that are known at run time only."""
    vector = form.dims.count("r") - 1 if is_column else len(form.dims) - 1
    operands, numbers = [], []
    for a, s in zip(accesses, form.strides, strict=True):
        if a.whole is not None:
            shape, walk = a.whole
            operands.append(Operand(a.dtype, "1" if walk and walk[-1] == 1 else "", len(shape)))
            continue
        classes = ""
        for d, stride in enumerate(s):
            is_one = form.sizes[d] == 1 and len(form.sizes) > 1
            c = "0" if stride == 0 or is_one else "1" if stride == 1 and d == vector else "s"
            classes += c
            if c == "s":
                numbers.append(stride)
        operands.append(Operand(a.dtype, classes))
    return tuple(operands), numbers


def lift(body: Sequence[Instruction]) -> tuple[list[Instruction], list[int]]:
    """Constants as run-time words, so that a size or a rate among them needs no kernel of its own."""
    out, numbers = [], []
    for i in body:
        x = i.what
        if i.op == "const" and isinstance(x, float):
            i = Instruction("number", "f64", (), i.dtype)
            numbers.append(bits_of(x))
        elif i.op == "const" and type(x) in (int, SymInt) and -(1 << 63) <= x < 1 << 63:
            i = Instruction("number", "i64", (), i.dtype)
            numbers.append(x)
        out.append(i)
    return out, numbers


def _renumbered(body: Sequence[Instruction], flags: str) -> list[Instruction]:
    """`index` instructions with the dimension's place in the nest: rows first, then the reduced one."""
    order = [d for d, f in enumerate(flags) if f == "r"] + [
        d for d, f in enumerate(flags) if f == "d"
    ]
    extra = 0 if "r" in flags else 1  # a nest of only reduced dimensions gets a row of size 1
    out = []
    for i in body:
        if i.op == "index":
            is_reduced = flags[i.what] == "d"
            place: int | str = (
                "linear" if is_reduced and flags.count("d") == 1 else order.index(i.what) + extra
            )
            i = Instruction("index", place, i.args, i.dtype)
        out.append(i)
    return out


def _split(out, dims, strides, accesses, inputs, chunks):
    """Turn the one reduced dimension into chunks (a row) of a fixed length (reduced)."""
    at = len(out) - 1
    total = out[at]
    length = max(2, -(-total // chunks))
    new = []
    for i, (a, s) in enumerate(zip(accesses, strides, strict=True)):
        if a.whole is not None:
            new.append(s)
        elif i < inputs:
            new.append([*s[:at], s[at] * length, s[at]])
        else:  # partial results: one per chunk, innermost
            new.append([*[x * chunks for x in s[:at]], 1, 0])
    return [*out[:at], chunks, length], dims[:at] + "rd", new, total
