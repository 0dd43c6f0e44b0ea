"""Derivatives checked against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import autograd, create
from .grad_mode import enable_grad, no_grad
from .tensor import Tensor


class GradcheckError(RuntimeError):
    """A derivative that does not agree with finite differences."""


def _tensors(out: Any) -> tuple[Tensor, ...]:
    return (out,) if isinstance(out, Tensor) else tuple(o for o in out if isinstance(o, Tensor))


def _numerical(
    function: Callable, inputs: Sequence[Any], which: int, eps: float
) -> list[np.ndarray]:
    """The Jacobians with respect to one input, by central differences: [inputs x outputs] each."""
    x = inputs[which].detach()
    flat = x.contiguous()._array().astype(np.float64).reshape(-1)
    rows: list[list[np.ndarray]] = []
    for i in range(flat.size):
        sides = []
        for step in (eps, -eps):
            moved = flat.copy()
            moved[i] += step
            changed = create.tensor(moved.reshape(tuple(x.shape)), dtype=x.dtype)
            arguments = [changed if j == which else a for j, a in enumerate(inputs)]
            with no_grad():
                sides.append(
                    [
                        o.detach().contiguous()._array().astype(np.float64).reshape(-1)
                        for o in _tensors(function(*arguments))
                    ]
                )
        rows.append([(a - b) / (2 * eps) for a, b in zip(*sides, strict=True)])
    if not rows:
        return []
    return [np.stack([row[o] for row in rows]) for o in range(len(rows[0]))]


def _analytical(out: Tensor, x: Tensor) -> np.ndarray:
    """The Jacobian of one output with respect to one input, row by row of the output."""
    columns = []
    for i in range(out.numel()):
        seed = np.zeros(out.numel())
        seed[i] = 1
        g = create.tensor(seed.reshape(tuple(out.shape)), dtype=out.dtype)
        (found,) = autograd.grad(out, (x,), g, retain_graph=True, allow_unused=True)
        columns.append(
            np.zeros(x.numel())
            if found is None
            else found.detach().contiguous()._array().astype(np.float64).reshape(-1)
        )
    return np.stack(columns, 1) if columns else np.zeros((x.numel(), 0))


def gradcheck(
    func: Callable, inputs: Any, *, eps: float = 1e-6, atol: float = 1e-5, rtol: float = 1e-3,
    raise_exception: bool = True, **_: Any,
) -> bool:  # fmt: skip
    """Whether the derivatives of a function agree with finite differences; inputs best in float64.

    errors: GradcheckError (a RuntimeError) on disagreement, unless `raise_exception` is False

    >>> import amity
    >>> gradcheck(lambda x: x.sin(), amity.ones(2, dtype=amity.float64, requires_grad=True))
    True
    """
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    wanted = [i for i, x in enumerate(inputs) if isinstance(x, Tensor) and x.requires_grad]
    if not wanted:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of the "
            "them have requires_grad=True."
        )
    with enable_grad():
        outs = _tensors(func(*inputs))
    for i in wanted:
        numerical = _numerical(func, inputs, i, eps)
        for o, out in enumerate(outs):
            if not out.requires_grad:
                continue
            a = _analytical(out, inputs[i])
            n = numerical[o] if numerical else a
            if not np.allclose(a, n, rtol, atol, equal_nan=True):
                if raise_exception:
                    raise GradcheckError(
                        f"Jacobian mismatch for output {o} with respect to input "
                        f"{i},\nnumerical:{n}\nanalytical:{a}\n"
                    )
                return False
    return True


def gradgradcheck(
    func: Callable, inputs: Any, grad_outputs: Any = None, *, eps: float = 1e-6, atol: float = 1e-5,
    rtol: float = 1e-3, raise_exception: bool = True, **_: Any,
) -> bool:  # fmt: skip
    """Whether the derivatives of a function's derivatives agree with finite differences."""
    inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    with enable_grad():
        outs = [o for o in _tensors(func(*inputs)) if o.requires_grad]
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        grad_outputs = [
            create.tensor(rng.normal(size=tuple(o.shape)), dtype=o.dtype, requires_grad=True)
            for o in outs
        ]
    grad_outputs = (grad_outputs,) if isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    count = len(grad_outputs)

    def first(*arguments: Any) -> tuple:
        xs, gs = arguments[:-count], arguments[-count:]
        with enable_grad():
            xs = tuple(x.detach().requires_grad_() if isinstance(x, Tensor) and w and not x.requires_grad else x
                       for x, w in zip(xs, needs, strict=True))  # fmt: skip
            ys = [o for o in _tensors(func(*xs)) if o.requires_grad]
            targets = [x for x, w in zip(xs, needs, strict=True) if w]
            found = autograd.grad(ys, targets, gs, create_graph=True, allow_unused=True)
        return tuple(f for f in found if f is not None)

    needs = [isinstance(x, Tensor) and x.requires_grad for x in inputs]
    return gradcheck(
        first,
        (*inputs, *grad_outputs),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
    )
