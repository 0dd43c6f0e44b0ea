"""Products over named dimensions, as batched matrix products."""

from __future__ import annotations

import math
import string

from amity.core.shape import canonical_dim

from .joining import stack
from .matmul import matmul
from .record import deliver, method

NUMBERED = string.ascii_uppercase + string.ascii_lowercase


def _parse(equation: str, operands) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the result; `...` becomes upper-case letters of its own."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands):
        raise RuntimeError(
            f"einsum(): got {len(terms)} terms and {len(operands)} operands; expected as many"
        )
    dots = 0
    for term, x in zip(terms, operands, strict=True):
        letters = term.replace("...", "")
        if any(c not in string.ascii_letters for c in letters):
            raise RuntimeError(
                f"einsum(): invalid subscript given in {term!r}, subscripts must be in [a-zA-Z]"
            )
        if "..." in term:
            dots = max(dots, x.ndim - len(letters))
        elif len(letters) != x.ndim:
            raise RuntimeError(
                f"einsum(): the number of subscripts in the equation ({len(letters)}) does not "
                f"match the number of dimensions ({x.ndim}) for operand {term!r}"
            )
    marks = [f".{i}" for i in range(dots)]
    split = []
    for term, x in zip(terms, operands, strict=True):
        head, found, tail = term.partition("...")
        own = x.ndim - len(head) - len(tail)
        split.append([*head, *(marks[dots - own :] if found else []), *tail])
    if arrow:
        head, found, tail = right.partition("...")
        result = [*head, *(marks if found else []), *tail]
    else:
        every = [c for t in split for c in t]
        result = marks + sorted(c for c in set(every) if c[0] != "." and every.count(c) == 1)
    for c in result:
        if not any(c in t for t in split):
            raise RuntimeError(
                f"einsum(): output subscript {c} does not appear in the equation for any input "
                "operand"
            )
    if len(set(result)) != len(result):
        raise RuntimeError("einsum(): output subscripts appear more than once")
    return split, result


def _diagonals(x, letters: list[str]):
    """Repeated letters of one operand taken as diagonals."""
    while len(set(letters)) != len(letters):
        c = next(c for c in letters if letters.count(c) > 1)
        i = letters.index(c)
        j = letters.index(c, i + 1)
        if x.shape[i] != x.shape[j]:
            raise RuntimeError(
                f"einsum(): subscript {c} is repeated for operand 0 but the sizes don't match, "
                f"{x.shape[j]} != {x.shape[i]}"
            )
        x = x.diagonal(0, i, j)
        letters = [d for k, d in enumerate(letters) if k not in (i, j)] + [c]
    return x, letters


def _summed(x, letters: list[str], keep: set[str]):
    """Letters that nobody else needs summed away."""
    gone = [i for i, c in enumerate(letters) if c not in keep]
    if gone:
        x = x.sum(tuple(gone))
        letters = [c for c in letters if c in keep]
    return x, letters


def _arranged(x, letters: list[str], wanted: list[str]):
    """Dimensions in the wanted order, missing ones of size 1."""
    x = x.permute([letters.index(c) for c in wanted if c in letters])
    for i, c in enumerate(wanted):
        if c not in letters:
            x = x.unsqueeze(i)
    return x


def _pair(a, la, b, lb, keep: set[str]):
    """Two operands as one batched matrix product."""
    sizes = dict(zip(la, a.shape, strict=True))
    for c, n in zip(lb, b.shape, strict=True):
        if c in sizes and sizes[c] != n and 1 not in (n, sizes[c]):
            raise RuntimeError(
                f"einsum(): subscript {c} has size {n} for operand 1 which does not broadcast "
                f"with previously seen size {sizes[c]}"
            )
        sizes[c] = max(n, sizes.get(c, 1)) if n else 0
    joined = [c for c in la if c in lb and c not in keep]
    batch = [c for c in la if c in lb and c in keep]
    left = [c for c in la if c not in lb]
    right = [c for c in lb if c not in la]
    size = lambda cs: math.prod(sizes[c] for c in cs)  # noqa: E731
    a = _arranged(a, la, batch + left + joined).expand([sizes[c] for c in batch + left + joined])
    b = _arranged(b, lb, batch + joined + right).expand([sizes[c] for c in batch + joined + right])
    y = matmul(
        a.reshape(size(batch), size(left), size(joined)),
        b.reshape(size(batch), size(joined), size(right)),
    )
    order = batch + left + right
    return y.reshape([sizes[c] for c in order]), order


def _spelled(arguments):
    """The equation that lists of numbers after each operand stand for, and the operands."""
    operands, lists = arguments[::2], arguments[1::2]
    if len(operands) > len(lists):  # the last one says the result
        operands, lists, result = operands[:-1], lists, operands[-1]
    else:
        result = None
    spell = lambda numbers: "".join("..." if n is ... else _letter(n) for n in numbers)  # noqa: E731
    equation = ",".join(map(spell, lists))
    return (equation if result is None else f"{equation}->{spell(result)}"), operands


def _letter(number: int) -> str:
    if not 0 <= number < len(NUMBERED):
        raise RuntimeError(
            f"einsum(): got subscript {number}; not within the valid range [0, {len(NUMBERED)})"
        )
    return NUMBERED[number]


def einsum(equation, *operands):
    """Products and sums in Einstein's notation.

    shape:  as the equation says
    errors: RuntimeError for an equation that does not fit
    """
    if hasattr(equation, "layout"):
        equation, operands = _spelled((equation, *operands))
    if len(operands) == 1 and not hasattr(operands[0], "layout"):
        operands = tuple(operands[0])
    if not operands:
        raise RuntimeError("einsum(): must provide at least one operand")
    terms, result = _parse(equation, operands)
    xs = [_diagonals(x, t) for x, t in zip(operands, terms, strict=True)]
    x, letters = xs[0]
    for i, (y, more) in enumerate(xs[1:], 1):
        later = {c for _, t in xs[i + 1 :] for c in t} | set(result)
        x, letters = _summed(x, letters, later | set(more))
        y, more = _summed(y, more, later | set(letters))
        x, letters = _pair(x, letters, y, more, later)
    x, letters = _summed(x, letters, set(result))
    return x.permute([letters.index(c) for c in result])


def tensordot(a, b, dims=2, out=None):
    """The product summed over the last `dims` dimensions of a and the first of b, or over given pairs."""
    if isinstance(dims, int):
        if dims < 0:
            raise RuntimeError(f"tensordot expects dims >= 0, but got dims={dims}")
        if dims > min(a.ndim, b.ndim):
            raise RuntimeError(f"tensordot expects dims < ndim_a or ndim_b, but got dims={dims}")
        da, db = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else:
        pair = dims.tolist() if hasattr(dims, "layout") else dims
        da, db = ([d] if isinstance(d, int) else list(d) for d in pair)
        if len(da) != len(db):
            raise RuntimeError(
                f"tensordot: got {len(da)} and {len(db)} dimensions; both dimension lists should have "
                "same length"
            )
    da = [canonical_dim("tensordot", d, a.ndim) for d in da]
    db = [canonical_dim("tensordot", d, b.ndim) for d in db]
    for i, j in zip(da, db, strict=True):
        if a.shape[i] != b.shape[j] and 1 not in (a.shape[i], b.shape[j]):
            raise RuntimeError(
                f"tensordot: contracted dimensions need to match, but first has size {a.shape[i]} in dim "
                f"{i} and second has size {b.shape[j]} in dim {j}"
            )
    ra = [d for d in range(a.ndim) if d not in da]
    rb = [d for d in range(b.ndim) if d not in db]
    shape = [a.shape[d] for d in ra] + [b.shape[d] for d in rb]
    k = math.prod(a.shape[d] for d in da)
    x = a.permute(ra + da).reshape(math.prod(a.shape[d] for d in ra), k)
    y = b.permute(db + rb).reshape(k, math.prod(b.shape[d] for d in rb))
    return deliver(matmul(x, y).reshape(shape), out)


@method
def inner(input, other, *, out=None):
    """Products summed over the last dimensions."""
    if input.ndim == 0 or other.ndim == 0:
        return deliver(input * other, out)
    return tensordot(input, other, ([-1], [-1]), out)


@method
def kron(input, other, *, out=None):
    """The Kronecker product."""
    n = max(input.ndim, other.ndim)
    a, b = (t.reshape((1,) * (n - t.ndim) + tuple(t.shape)) for t in (input, other))
    wide = a.reshape([m for s in a.shape for m in (s, 1)]) * b.reshape(
        [m for s in b.shape for m in (1, s)]
    )
    return deliver(wide.reshape([s * t for s, t in zip(a.shape, b.shape, strict=True)]), out)


@method
def trace(input):
    """The sum of the diagonal of a matrix."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return input.diagonal().sum()


@method
def cross(input, other, dim=None, *, out=None):
    """The cross product of vectors of three elements along a dimension."""
    d = (
        next((i for i, n in enumerate(input.shape) if n == 3), None)
        if dim is None
        else canonical_dim("cross", dim, input.ndim)
    )
    if d is None or input.shape[d] != 3 or other.shape[d] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {d} must have length 3. Got {list(input.shape)} "
            f"and {list(other.shape)}"
        )
    a = [input.select(d, i) for i in range(3)]
    b = [other.select(d, i) for i in range(3)]
    return deliver(
        stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]], d),
        out,
    )
