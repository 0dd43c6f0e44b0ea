"""Choosing between elements."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import bool_, uint8
from amity.core.shape import broadcast_shapes
from amity.ir.graph import Spec

from .arguments import fit_number
from .record import METHODS, ErrorSample, Pointwise, Sample, deliver, result_dtype, saved_of


class Where(Pointwise):
    """`x` where the condition holds, else `z`."""

    name = "where"
    arity = 3
    samples = (
        Sample(((3, 1), "b"), ((3, 4), "f"), ((4,), "f")),
        Sample(((2,), "b"), ((2,), "i"), ((), "i")),
    )
    errors = (
        ErrorSample(((2,), "f"), ((2,), "f"), 0.0, error=RuntimeError, says="boolean"),
        ErrorSample(((2,), "b"), ((3,), "f"), 0.0, error=RuntimeError, says="broadcast"),
    )

    def compute_dtype(self, condition: Spec, x: Spec, z: Spec):
        return result_dtype([x, z])

    def argument_dtypes(self, condition: Spec, x: Spec, z: Spec):
        """The condition stays bool; the others are promoted."""
        dtype = result_dtype([x, z])
        return (bool_, dtype, dtype)

    def infer(self, condition: Spec, x: Spec, z: Spec) -> Spec:
        if condition.dtype not in (bool_, uint8):
            raise RuntimeError(
                f"where: got a condition of dtype {condition.dtype}; expected condition to be a "
                "boolean tensor"
            )
        shape = broadcast_shapes("where", condition.shape, x.shape, z.shape)
        return Spec(shape, result_dtype([x, z]))

    def emit(self, k, condition, x, z):
        return k.select(condition, x, z)

    def reference(self, condition, x, z):
        return np.where(condition, x, z)

    def grad(self, g, condition):
        return None, WHERE(condition, g, 0.0), WHERE(condition, 0.0, g)


Where.saved = saved_of(Where.grad, ["condition", "x", "z"], skip=2)
WHERE = Where()


def where(condition, input=None, other=None, *, out=None):
    """`input` where the condition holds, else `other`; with one argument, the indices where it holds.

    shape:  broadcast of all three
    dtype:  promote(input, other)
    errors: RuntimeError if the condition is not boolean
    """
    if input is None and other is None:
        return condition.nonzero(as_tuple=True)
    input, other = fit_number("where", input, other), fit_number("where", other, input)
    return deliver(WHERE(condition, input, other), out)


METHODS["where"] = lambda self, condition, other: WHERE(condition, self, other)
