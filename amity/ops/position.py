"""Positions: the index of each element along a dimension, computed where it is used."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import int64
from amity.core.shape import check_dims
from amity.ir.graph import Spec

from .record import ErrorSample, Op, Sample, method


class Position(Op):
    """The index along a dimension of the input, whose other dimensions become 1."""

    name = "position"
    kind = "position"
    carries = "own"
    dim: int
    samples = (Sample(((3, 4), "f"), dim=1), Sample(((0,), "f"), dim=0))
    errors = (ErrorSample(((3, 4), "f"), dim=2, error=IndexError, says="dimension 2"),)

    def infer(self, x: Spec) -> Spec:
        check_dims(self.name, self.dim, x.ndim)
        return Spec(tuple(n if d == self.dim else 1 for d, n in enumerate(x.shape)), int64)

    def reference(self, x):
        shape = [-1 if d == self.dim else 1 for d in range(x.ndim)]
        return np.arange(x.shape[self.dim]).reshape(shape)

    def batch(self, size, is_mapped, x):
        y = Position(self.dim + 1)(x)
        return y.expand((size, *y.shape[1:]))


@method
def one_hot(tensor, num_classes=-1):
    """1 at the class of each element, else 0, along a new last dimension.

    dtype:  int64, as the input must be
    errors: RuntimeError for negative classes or classes beyond `num_classes`
    """
    if tensor.dtype is not int64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return tensor.new_zeros((*tensor.shape, num_classes))
    seen = tensor._held()
    if int(seen.amin()) < 0:
        raise RuntimeError("one_hot: got a negative class; Class values must be non-negative.")
    top = int(seen.amax()) + 1
    if num_classes == -1:
        num_classes = top
    elif num_classes < 1:
        raise RuntimeError("num_classes should be positive")
    elif num_classes < top:
        raise RuntimeError(
            f"one_hot: got a class of {top - 1} and num_classes={num_classes}; Class values must be "
            "smaller than num_classes."
        )
    return (tensor.unsqueeze(-1) == tensor.new_tensor(range(num_classes))).to(int64)
