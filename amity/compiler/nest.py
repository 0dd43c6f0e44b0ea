"""Loop nests: what one fused kernel does, apart from all sizes.

A nest runs over row dimensions (in parallel) and reduced dimensions. Its `body` is a list of
instructions on values; an operand is a buffer with, per dimension, a stride class: `0` broadcast,
`1` unit, `s` known at run time. Equal nests share one compiled kernel whatever their sizes; those
go to the kernel's `meta` words in the order that `Words` fixes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import copysign
from typing import Any

from amity.core.shape import numel
from amity.ir.kernel import BITS, register_type


@dataclass(frozen=True)
class Operand:
    """A buffer of a nest: dtype code and one stride class per dimension.

    `rank` is -1 for operands walked by the loops; an indexed operand (read at computed positions)
    has the rank of its tensor, and class `1` if its last stride is 1, else none.
    """

    dtype: str
    classes: str
    rank: int = -1


@dataclass(frozen=True)
class Instruction:
    """One value of a nest's body.

    `op` is load, const, number (a constant that `meta` holds), cast, pointwise, reduce, index or
    indexed.
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

    @property
    def key(self) -> tuple:
        body = tuple(i.key for i in self.body)
        ops = tuple((o.dtype, o.classes, o.rank) for o in self.operands)
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


def words(nest: Nest) -> Words:
    """The layout of `meta`: sizes, strides of class `s`, numbers, indexed operands, parameters of ops."""
    n = len(nest.dims)
    out = Words(list(range(n)), {}, {}, {}, {})
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


def collapse(
    sizes: Sequence[int], flags: str, accesses: Sequence[Access], keep_order: bool
) -> tuple[list[int], str, list[list[int]]]:
    """Dimensions merged and ordered so that loops are few and walk memory forwards.

    Gives sizes, flags and the strides of each access. Rows come first, then reduced dimensions.
    """
    walked = [a for a in accesses if a.whole is None]
    order = [d for d in range(len(sizes)) if sizes[d] != 1 or keep_order]
    rows = [d for d in order if flags[d] == "r"]
    reduced = [d for d in order if flags[d] == "d"]
    if not keep_order and walked:
        weight = lambda d: tuple(-abs(a.strides[d]) for a in reversed(walked))  # noqa: E731
        by_input = lambda d: tuple(-abs(a.strides[d]) for a in walked)  # noqa: E731
        rows.sort(key=weight)
        reduced.sort(key=by_input)
    out: list[int] = []
    merged: list[list[int]] = [[] for _ in accesses]
    out_flags = ""
    for d in rows + reduced:
        fits = (
            bool(out)
            and not keep_order
            and out_flags[-1] == flags[d]
            and all(
                m[-1] == a.strides[d] * sizes[d]
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


def _lengthen(sizes: list[int], strides: list[list[int]]) -> None:
    """Let the innermost loop run along an input's memory where the result's own has few elements."""
    if len(sizes) < 2 or sizes[-1] >= SHORT or sizes[-2] < LONG:
        return
    if any(s and s[-2] == 1 for s in strides):
        for s in (sizes, *strides):
            if s:
                s[-2:] = [s[-1], s[-2]]


SPILL_BYTES = 2 << 20
CHUNK = 32768


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
    out, dims, strides = collapse(sizes, flags, accesses, keep_order)
    if not keep_order and "d" not in dims:
        _lengthen(out, strides)
    total = 0
    if split:
        out, dims, strides, total = _split(out, dims, strides, accesses, inputs, split)
    if "r" not in dims:
        out, dims = [1, *out], "r" + dims
        strides = [[0, *s] for s in strides]
    if "d" not in dims and any(i.op == "reduce" for i in body):  # all of size 1
        out, dims = [*out, 1], dims + "d"
        strides = [[*s, 0] for s in strides]
    if keep_order:
        body = _renumbered(body, flags)
    body, constants = _lift(body)
    vector_rows = _vector_rows(out, dims, strides, accesses)
    vector = dims.count("r") - 1 if vector_rows else len(dims) - 1
    operands, numbers = [], []
    for a, s in zip(accesses, strides, strict=True):
        if a.whole is not None:
            shape, walk = a.whole
            operands.append(Operand(a.dtype, "1" if walk and walk[-1] == 1 else "", len(shape)))
            continue
        classes = ""
        for d, stride in enumerate(s):
            c = "0" if stride == 0 or out[d] == 1 else "1" if stride == 1 and d == vector else "s"
            classes += c
            if c == "s":
                numbers.append(stride)
        operands.append(Operand(a.dtype, classes))
    reduced = numel([n for n, f in zip(out, dims, strict=True) if f == "d"])
    is_costly = any(getattr(i.what, "is_costly", False) for i in body)
    spill = not vector_rows and "d" in dims and is_costly and reduced * 8 * 4 <= SPILL_BYTES
    nest = Nest(
        dims, vector_rows, tuple(operands), inputs, tuple(body), tuple(stores), spill, bool(split)
    )
    meta = [*out, *([total] if split else []), *numbers, *constants]
    for a in accesses:
        if a.whole is not None:
            meta += [*a.whole[0], *a.whole[1]]
    return nest, meta


BAKED = (0, 1, -1, 2, 0.5)  # constants that code is better for knowing


def _lift(body: Sequence[Instruction]) -> tuple[list[Instruction], list[int]]:
    """Constants as run-time words, so that a size or a rate among them needs no kernel of its own."""
    out, numbers = [], []
    for i in body:
        x = i.what
        if (
            i.op == "const"
            and isinstance(x, float)
            and (x not in BAKED or (x == 0 and copysign(1, x) < 0))
        ):
            i = Instruction("number", "f64", (), i.dtype)
            numbers.append(struct.unpack("<q", struct.pack("<d", x))[0])
        elif (
            i.op == "const" and isinstance(x, int) and x not in BAKED and -(1 << 63) <= x < 1 << 63
        ):
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
    length = -(-total // chunks)
    new = []
    for i, (a, s) in enumerate(zip(accesses, strides, strict=True)):
        if a.whole is not None:
            new.append(s)
        elif i < inputs:
            new.append([*s[:at], s[at] * length, s[at]])
        else:  # partial results: one per chunk, innermost
            new.append([*[x * chunks for x in s[:at]], 1, 0])
    return [*out[:at], chunks, length], dims[:at] + "rd", new, total


def _vector_rows(sizes, dims, strides, accesses) -> bool:
    """Whether to vectorise over rows: when memory runs along them and not along the reduction."""
    if "d" not in dims:
        return True
    last_row, last = dims.count("r") - 1, len(dims) - 1
    if sizes[last_row] < 4:
        return False
    walked = [s for a, s in zip(accesses, strides, strict=True) if a.whole is None]
    moving = [s for s in walked if s[last] or s[last_row]]
    first = next((s for s in moving if s[last] and s[last_row]), moving[0] if moving else None)
    if first is None:
        return False
    return abs(first[last_row]) == 1 and abs(first[last]) != 1
