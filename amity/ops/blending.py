"""Elements of one tensor mixed with those of others."""

from __future__ import annotations

from amity.ir.graph import Spec

from .record import ErrorSample, Sample, composite, deliver, method, result_dtype, unlike

F = "f"


@composite(
    samples=(Sample(((3, 4), F), ((3, 4), F), ((3, 4), F)), Sample(((3, 4), F), ((3, 4), F), 0.3)),
    errors=(ErrorSample(((2,), F), ((3,), F), 0.5, error=RuntimeError, says="broadcast"),),
)
def _lerp(input, end, weight):
    return input + weight * (end - input)


@method(inplace=True)
def lerp(input, end, weight, *, out=None):
    """`input + weight * (end - input)`."""
    if input.dtype is not end.dtype:
        raise RuntimeError(
            f"expected dtype {input.dtype.name} for `end` but got dtype {end.dtype.name}"
        )
    if input.dtype.kind != "f":
        raise unlike("lerp", input.dtype, "f")
    return deliver(_lerp(input, end, weight), out)


UNLIKE = (ErrorSample(((2,), F), ((2,), F), ((3,), F), 1, error=RuntimeError, says="broadcast"),)


@composite(samples=(Sample(((3, 4), F), ((3, 4), F), ((4,), F), 0.5),), errors=UNLIKE)
def _addcmul(input, tensor1, tensor2, value):
    return input + tensor1 * tensor2 * value


@composite(samples=(Sample(((3, 4), F), ((3, 4), F), ((4,), "p"), 0.5),), errors=UNLIKE)
def _addcdiv(input, tensor1, tensor2, value):
    return input + tensor1 / tensor2 * value


def _alike(input, *factors):
    """The factors in the dtype of the sum, in which their product is to be rounded."""
    dtype = result_dtype([Spec(tuple(t.shape), t.dtype) for t in (input, *factors)])
    if dtype.kind == "b":
        raise unlike("addcmul", dtype, "uif")
    return [t if t.dtype is dtype else t.to(dtype) for t in factors]


@method(inplace=True)
def addcmul(input, tensor1, tensor2, *, value=1, out=None):
    """`input + value * tensor1 * tensor2`."""
    return deliver(_addcmul(input, *_alike(input, tensor1, tensor2), value), out)


@method(inplace=True)
def addcdiv(input, tensor1, tensor2, *, value=1, out=None):
    """`input + value * tensor1 / tensor2`."""
    if result_dtype([Spec((), tensor1.dtype), Spec((), tensor2.dtype)]).kind != "f":
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future release "
            "addcdiv will perform a true division of tensor1 and tensor2."
        )
    return deliver(_addcdiv(input, *_alike(input, tensor1, tensor2), value), out)
