"""Branches and loops that depend on values, as functions: `cond`, `while_loop` and `scan`.

They look at their conditions and run Python: only the branch that is taken, only the steps that are
wanted. Under `vmap` a condition may differ from entry to entry: then both branches run, loops go on
until the last entry is done, and each entry keeps what its own condition says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from amity.core.dtype import bool_
from amity.core.tree import Nest, flatten
from amity.ops.joining import stack
from amity.ops.select import WHERE

from .batched import held, is_batched, outer
from .tensor import Tensor


def _differs(t: Any) -> bool:
    """Whether a condition is not the same for all entries of a map."""
    return isinstance(t, Tensor) and any(is_batched(x) and x.layout.is_mapped for x in outer(t))


def _chosen(which: Tensor, yes: Any, no: Any, op: str) -> Any:
    """Of two nests, the one that each entry's condition says."""
    (a, nest), (b, other) = flatten(yes), flatten(no)
    _check_alike(op, (a, nest), (b, other))
    return nest.fill([WHERE(which, x, y) for x, y in zip(a, b, strict=True)])


def _check_alike(op: str, got: tuple[list, Nest], expected: tuple[list, Nest]) -> None:
    if got[1] != expected[1]:
        raise RuntimeError(
            f"{op}: got results {got[1]}; expected the same structure as {expected[1]}"
        )
    for x, y in zip(got[0], expected[0], strict=True):
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            a, b = ((tuple(t.shape), t.dtype) for t in (x, y))
            if a != b:
                raise RuntimeError(
                    f"{op}: got a tensor of shape {a[0]} and {a[1]}; expected the same metadata as "
                    f"shape {b[0]} and {b[1]}"
                )


def cond(
    pred: bool | int | float | Tensor,
    true_fn: Callable,
    false_fn: Callable,
    operands: Sequence[Any] = (),
) -> Any:
    """`true_fn(*operands)` where `pred` is true, else `false_fn(*operands)`.

    errors: RuntimeError for a condition of several elements

    >>> import amity
    >>> x = amity.tensor(-2.0)
    >>> amity.cond(x > 0, amity.sqrt, amity.neg, (x,))
    tensor(2.)
    """
    if not isinstance(pred, (bool, int, float, Tensor)):
        raise RuntimeError(f"cond: Expected pred to be bool or tensor, but got {pred}.")
    if isinstance(pred, Tensor) and pred.numel() != 1:
        raise RuntimeError(
            f"cond: Expected pred to be bool or single-element tensor, but got {pred}."
        )
    if not callable(true_fn) or not callable(false_fn):
        raise TypeError(
            f"cond: got branches {true_fn} and {false_fn}, of which one is not callable; Expect both "
            "branches to be callable."
        )
    if not isinstance(operands, (tuple, list)):
        raise TypeError(
            "cond: Expect operands to be a tuple of possibly nested dict/list/tuple that only consists "
            f"of tensor leaves, but got {type(operands).__name__}"
        )
    if _differs(pred):
        which = pred.reshape(()).to(bool_)
        return _chosen(which, true_fn(*operands), false_fn(*operands), "cond")
    return true_fn(*operands) if pred else false_fn(*operands)


def while_loop(cond_fn: Callable, body_fn: Callable, carried_inputs: Sequence[Any]) -> Any:
    """`carried = body_fn(*carried)` for as long as `cond_fn(*carried)` is true.

    errors: RuntimeError if the body changes the structure, a shape or a dtype

    >>> import amity
    >>> amity.while_loop(lambda n, x: x < 100, lambda n, x: (n + 1, x * 3), (amity.tensor(0), amity.tensor(1)))
    (tensor(5), tensor(243))
    """
    if not callable(cond_fn) or not callable(body_fn):
        raise RuntimeError("while_loop: Expect cond_fn and body_fn to be callable.")
    if not isinstance(carried_inputs, (tuple, list)):
        raise RuntimeError(
            "while_loop: Expect carried_inputs to be a tuple of possibly nested dict/list/tuple, but got "
            f"{type(carried_inputs).__name__}"
        )
    carried = tuple(carried_inputs)
    while True:
        goes_on = cond_fn(*carried)
        if not isinstance(goes_on, bool) and (
            not isinstance(goes_on, Tensor) or goes_on.dtype is not bool_ or goes_on.numel() != 1
        ):
            raise RuntimeError(
                f"while_loop: cond_fn must return a boolean scalar tensor or a boolean but got {goes_on}"
            )
        is_mixed = _differs(goes_on)
        if not (bool(held(goes_on).any()) if is_mixed else goes_on):
            return carried
        made = body_fn(*carried)
        if not isinstance(made, (tuple, list)):
            raise RuntimeError(
                f"while_loop: body_fn should return a tuple or a list but got {type(made).__name__}"
            )
        made = tuple(made)
        _check_alike("while_loop", flatten(made), flatten(carried))
        carried = _chosen(goes_on.reshape(()), made, carried, "while_loop") if is_mixed else made


def scan(
    combine_fn: Callable, init: Any, xs: Any, *, dim: int = 0, reverse: bool = False
) -> tuple[Any, Any]:
    """`carry, y = combine_fn(carry, x)` for each slice `x` of `xs` along `dim`: the last carry, and all
    the `y`, stacked along `dim` at the places of their slices.

    errors: RuntimeError if there is nothing to scan, or a carry is unlike `init`

    >>> import amity
    >>> amity.scan(lambda c, x: (c + x, c * x), amity.tensor(0.0), amity.tensor([1.0, 2.0, 3.0]))
    (tensor(6.), tensor([0., 2., 9.]))
    """
    if not callable(combine_fn):
        raise RuntimeError(f"scan: Combine_fn must be a callable, but got {combine_fn}")
    leaves, nest = flatten(xs)
    if not leaves or not all(isinstance(x, Tensor) for x in leaves):
        raise RuntimeError(
            f"scan: got xs of {nest}; expected at least one tensor, and tensors only"
        )
    if not all(x.ndim > 0 and -x.ndim <= dim < x.ndim for x in leaves):
        ranks = [x.ndim for x in leaves]
        raise RuntimeError(
            f"scan: got dim={dim} for xs with {ranks} dimensions; expected one of them"
        )
    counts = {x.shape[dim] for x in leaves}
    if len(counts) > 1 or 0 in counts:
        raise RuntimeError(
            f"scan: got xs of sizes {sorted(counts)} along dim {dim}; All xs leaves must at least have "
            "one element there, and as many"
        )
    slices = [x.unbind(dim) for x in leaves]
    (count,), carry, rows = counts, init, []
    for i in reversed(range(count)) if reverse else range(count):
        made = combine_fn(carry, nest.fill([s[i] for s in slices]))
        if not isinstance(made, (tuple, list)) or len(made) != 2:
            raise RuntimeError("scan: combine_fn must return (next_carry, y)")
        carry, y = made
        _check_alike("scan", flatten(carry), flatten(init))
        rows.append(flatten(y))
    rows = rows[::-1] if reverse else rows
    columns = zip(*(ys for ys, _ in rows), strict=True)
    return carry, rows[0][1].fill([stack(c, dim) for c in columns])
