"""Conversion between dtypes."""

from __future__ import annotations

from amity.core.dtype import DType, float64, int32
from amity.ir.graph import Spec

from .record import ErrorSample, Pointwise, Sample


class Cast(Pointwise):
    """The same values in another dtype: floats to integers truncate, anything but 0 is True."""

    name = "cast"
    arity = 1
    dtype: DType
    samples = (
        Sample(((3, 4), "f"), dtype=int32),
        Sample(((3,), "i"), dtype=float64),
        Sample(((), "f"), dtype=float64),
    )
    errors = (ErrorSample("x", dtype=int32, error=TypeError, says="expected a Tensor"),)

    def infer(self, x: Spec) -> Spec:
        return Spec(x.shape, self.dtype)

    def argument_dtypes(self, x: Spec):
        return (x.dtype,)

    def is_identity(self, x: Spec) -> bool:
        return x.dtype is self.dtype and not x.is_weak

    @property
    def structure(self):
        return ("cast", self.dtype.code)

    def emit(self, k, x):
        return k.round_to(k.convert(x, self.dtype.code), self.dtype.code)

    def reference(self, x):
        return x.astype(self.dtype.numpy)

    def grad(self, g, like_x):
        return g.to(like_x.dtype)
