"""Matrix products."""

from __future__ import annotations

import numpy as np

from amity.core.errors import ShapeError
from amity.core.shape import broadcast_shapes
from amity.ir.graph import Spec

from .arguments import check_same_out, check_tensor
from .record import ErrorSample, Op, Sample, deliver, method, result_dtype, unlike

F = "f"


def _check(op: str, a: Spec, b: Spec) -> None:
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"{op}: mat1 and mat2 shapes cannot be multiplied ({_text(a)} and {_text(b)}): got "
            f"{a.shape[-1]} columns "
            f"and {b.shape[-2]} rows; expected as many"
        )
    if a.dtype is not b.dtype:
        raise RuntimeError(
            f"{op}: expected m1 and m2 to have the same dtype, but got: {a.dtype} != {b.dtype}"
        )
    if a.dtype.kind == "b":
        raise unlike(op, a.dtype, "uif")


def _text(s: Spec) -> str:
    return "x".join(map(str, s.shape))


class Matmul(Op):
    """The product of matrices, over a batch that broadcasts."""

    name = "matmul"
    kind = "kernel"
    fuses_grad = True
    planner = "matmul"
    carries = "own"
    samples = (
        Sample(((3, 4), F), ((4, 5), F)), Sample(((2, 3, 4), F), ((4, 5), F)),
        Sample(((2, 1, 3, 4), F), ((3, 4, 2), F)), Sample(((3, 0), F), ((0, 2), F)),
    )  # fmt: skip
    errors = (ErrorSample(((3, 4), F), ((5, 2), F), error=RuntimeError, says="3x4 and 5x2"),)

    def infer(self, a: Spec, b: Spec) -> Spec:
        _check("matmul", a, b)
        batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
        return Spec((*batch, a.shape[-2], b.shape[-1]), a.dtype)

    def reference(self, a, b):
        return np.matmul(a, b)

    def grad(self, g, a, b, like_a, like_b, needs):
        ga = Matmul()(g, b.transpose(-2, -1)).sum_to_size(like_a.shape) if needs[0] else None
        gb = _grad_right(a, g, like_b) if needs[1] else None
        return ga, gb

    def batch(self, size, is_mapped, a, b):
        if is_mapped == [False, True] and a.ndim == 2 and b.ndim == 3 and b.shape[2] == 1:
            return Matmul()(b.squeeze(2), a.transpose(0, 1)).unsqueeze(2)  # vectors as one matrix
        rank = max(t.ndim - m for t, m in zip((a, b), is_mapped, strict=True))
        return Matmul()(
            *(
                t.reshape((size, *(1,) * (rank - t.ndim + 1), *t.shape[1:])) if m else t
                for t, m in zip((a, b), is_mapped, strict=True)
            )
        )


def _grad_right(a, g, b):
    """`a.T @ g`, summed over the batch in the product itself where b has none."""
    if b.ndim == 2 and a.ndim > 2 and a.shape[:-2] == g.shape[:-2]:
        return Matmul()(a.reshape((-1, a.shape[-1])).transpose(0, 1), g.reshape((-1, g.shape[-1])))
    return Matmul()(a.transpose(-2, -1), g).sum_to_size(b.shape)


class Addmm(Op):
    """`beta * input + alpha * (a @ b)` in one kernel."""

    name = "addmm"
    kind = "kernel"
    carries = "apart"
    fuses_grad = True
    planner = "matmul"
    beta: float
    alpha: float
    samples = (Sample(((5,), F), ((3, 4), F), ((4, 5), F), beta=1, alpha=1),
               Sample(((3, 5), F), ((3, 4), F), ((4, 5), F), beta=0.5, alpha=2.0))  # fmt: skip
    errors = (
        ErrorSample(
            ((4,), F),
            ((3, 4), F),
            ((4, 5), F),
            beta=1,
            alpha=1,
            error=RuntimeError,
            says="broadcast",
        ),
        ErrorSample(
            ((5,), F),
            ((3, 4), F),
            ((3, 5), F),
            beta=1,
            alpha=1,
            error=RuntimeError,
            says="3x4 and 3x5",
        ),
        ErrorSample(
            ((5,), "i"),
            ((3, 4), F),
            ((4, 5), F),
            beta=1,
            alpha=1,
            error=RuntimeError,
            says="same dtype",
        ),
    )

    def infer(self, input: Spec, a: Spec, b: Spec) -> Spec:
        _check("addmm", a, b)
        if input.dtype is not a.dtype:
            raise RuntimeError(
                f"addmm: self and mat2 must have the same dtype, but got {input.dtype} and "
                f"{a.dtype}"
            )
        batch = broadcast_shapes("addmm", a.shape[:-2], b.shape[:-2])
        shape = (*batch, a.shape[-2], b.shape[-1])
        if broadcast_shapes("addmm", input.shape, shape) != shape:
            raise ShapeError(
                f"addmm: got an input of shape {list(input.shape)}; expected one that "
                f"broadcasts to {list(shape)}"
            )
        return Spec(shape, a.dtype)

    def reference(self, input, a, b):
        return (self.beta * input + self.alpha * np.matmul(a, b)).astype(a.dtype)

    def grad(self, g, like_input, a, b, like_a, like_b, needs):
        gi = g.sum_to_size(like_input.shape) if needs[0] else None
        gi = gi if gi is None or self.beta == 1 else gi * self.beta
        ag = g if self.alpha == 1 else g * self.alpha
        ga = Matmul()(ag, b.transpose(-2, -1)).sum_to_size(like_a.shape) if needs[1] else None
        return gi, ga, _grad_right(a, ag, like_b) if needs[2] else None

    def apart(self, input, a, b):
        y = Matmul()(a, b)
        y = y if self.alpha == 1 else y * self.alpha
        return input + y if self.beta == 1 else input * self.beta + y


def matmul(input, other, *, out=None):
    """The matrix product; vectors count as one row (left) or one column (right); batches broadcast.

    shape:  [..., m, k] @ [..., k, n] -> [..., m, n]
    errors: RuntimeError if the inner sizes differ or an operand has no dimensions
    """
    check_tensor("matmul", other, "other")
    check_same_out("matmul", input.dtype, out)
    if input.ndim == 0 or other.ndim == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {input.ndim}D and "
            f"{other.ndim}D"
        )
    a = input.unsqueeze(0) if input.ndim == 1 else input
    b = other.unsqueeze(1) if other.ndim == 1 else other
    y = Matmul()(a, b)
    if input.ndim == 1:
        y = y.squeeze(-2)
    if other.ndim == 1:
        y = y.squeeze(-1)
    return deliver(y, out)


method(matmul)


def _dims(op: str, x, n: int, which: str) -> None:
    if x.ndim != n:
        raise RuntimeError(
            f"{op}: {which} must be a {'matrix' if n == 2 else f'{n}D tensor'}, got {x.ndim}-D "
            "tensor"
        )


def _batches(op: str, a, b) -> None:
    if a.shape[0] != b.shape[0]:
        raise ShapeError(
            f"{op}: got batches of {a.shape[0]} and {b.shape[0]}; expected size for first two "
            "dimensions of batch2 tensor to be equal"
        )


@method
def mm(input, mat2, *, out=None):
    """The product of two matrices."""
    _dims("mm", input, 2, "self")
    _dims("mm", mat2, 2, "mat2")
    return deliver(Matmul()(input, mat2), out)


@method
def bmm(input, mat2, *, out=None):
    """The products of two batches of matrices."""
    _dims("bmm", input, 3, "batch1")
    _dims("bmm", mat2, 3, "batch2")
    _batches("bmm", input, mat2)
    return deliver(Matmul()(input, mat2), out)


@method
def mv(input, vec, *, out=None):
    """A matrix times a vector."""
    _dims("mv", input, 2, "self")
    _dims("mv", vec, 1, "vec")
    return matmul(input, vec, out=out)


@method
def dot(input, tensor, *, out=None):
    """The inner product of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(
            f"dot: 1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors"
        )
    return matmul(input, tensor, out=out)


@method
def outer(input, vec2, *, out=None):
    """The outer product of two vectors."""
    for name, v in (("self", input), ("vec2", vec2)):
        if v.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {v.ndim}-D")
    return deliver(input.unsqueeze(1) * vec2.unsqueeze(0), out)


@method
def ger(input, vec2, *, out=None):
    """The outer product of two vectors."""
    return outer(input, vec2, out=out)


@method(inplace=True)
def addmm(input, mat1, mat2, *, beta=1, alpha=1, out=None):
    """`beta * input + alpha * (mat1 @ mat2)`."""
    _dims("addmm", mat1, 2, "mat1")
    _dims("addmm", mat2, 2, "mat2")
    return deliver(Addmm(beta, alpha)(input, mat1, mat2), out)


@method(inplace=True)
def baddbmm(input, batch1, batch2, *, beta=1, alpha=1, out=None):
    """`beta * input + alpha * (batch1 @ batch2)`, over a batch."""
    _dims("baddbmm", batch1, 3, "batch1")
    _dims("baddbmm", batch2, 3, "batch2")
    _batches("baddbmm", batch1, batch2)
    return deliver(Addmm(beta, alpha)(input, batch1, batch2), out)


class Linear(Op):
    """`x @ weight.T`, plus a bias if there is a third input."""

    name = "linear"
    kind = "kernel"
    carries = "own"
    fuses_grad = True
    planner = "linear"
    samples = (Sample(((3, 4), F), ((5, 4), F), ((5,), F)), Sample(((2, 3, 4), F), ((5, 4), F)))
    errors = (ErrorSample(((3, 4), F), ((5, 3), F), error=RuntimeError, says="3x4 and 3x5"),)

    def infer(self, x: Spec, weight: Spec, bias: Spec | None = None) -> Spec:
        turned = Spec(weight.shape[::-1], weight.dtype)
        _check("linear", Spec(x.shape[-2:], x.dtype), turned)
        shape = (*x.shape[:-1], weight.shape[0])
        if bias is not None:
            if bias.dtype is not x.dtype:
                raise RuntimeError(
                    f"linear: self and mat2 must have the same dtype, but got {bias.dtype} and "
                    f"{x.dtype}"
                )
            if broadcast_shapes("linear", bias.shape, shape) != shape:
                raise ShapeError(
                    f"linear: got a bias of shape {list(bias.shape)}; expected one that "
                    f"broadcasts to {list(shape)}"
                )
        return Spec(shape, x.dtype)

    def reference(self, x, weight, bias=None):
        y = np.matmul(x, weight.T)
        return y if bias is None else (y + bias).astype(x.dtype)

    def grad(self, g, x, weight, like_bias, needs):
        gx = Matmul()(g, weight) if needs[0] else None
        gw = None
        if needs[1]:
            rows, gs = x.reshape((-1, x.shape[-1])), g.reshape((-1, g.shape[-1]))
            gw = Matmul()(gs.transpose(0, 1), rows)
        if len(needs) < 3:
            return gx, gw
        return gx, gw, g.sum_to_size(like_bias.shape) if needs[2] else None

    def batch(self, size, is_mapped, x, weight, bias=None):
        if not any(is_mapped[1:]):
            return self(x, weight) if bias is None else self(x, weight, bias)
        y = Matmul().batch(size, is_mapped[:2], x, weight.transpose(-2, -1))
        if bias is None or not is_mapped[2]:
            return y if bias is None else y + bias
        rank = y.ndim - any(is_mapped[:2])
        return y + bias.reshape((size, *(1,) * (rank - bias.ndim + 1), *bias.shape[1:]))


def linear(input, weight, bias=None):
    """`input @ weight.T + bias`.

    shape:  input [..., in], weight [out, in], bias [out] -> [..., out]
    errors: RuntimeError if the inner sizes differ
    """
    if weight.layout.ndim == 1:
        y = matmul(input, weight)
        return y if bias is None else y + bias
    is_vector = input.layout.ndim < 2
    x = input.unsqueeze(0) if is_vector else input
    y = LINEAR(x, weight) if bias is None else LINEAR(x, weight, bias)
    return y.squeeze(0) if is_vector else y


LINEAR = Linear()


@method(inplace=True)
def addmv(input, mat, vec, *, beta=1, alpha=1, out=None):
    """`beta * input + alpha * (mat @ vec)`."""
    if mat.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got {input.ndim}, {mat.ndim}, {vec.ndim}"
        )
    if mat.shape[1] != vec.shape[0]:
        raise ShapeError(
            f"addmv: size mismatch, got input ({_text(input)}), mat ({_text(mat)}), "
            f"vec ({vec.shape[0]})"
        )
    column = input.unsqueeze(-1) if input.ndim else input
    return deliver(Addmm(beta, alpha)(column, mat, vec.unsqueeze(1)).squeeze(1), out)


@method(inplace=True)
def addr(input, vec1, vec2, *, beta=1, alpha=1, out=None):
    """`beta * input + alpha * outer(vec1, vec2)`."""
    for name, v in (("vec1", vec1), ("vec2", vec2)):
        if v.ndim != 1:
            raise RuntimeError(f"addr: Expected 1-D argument {name}, but got {v.ndim}-D")
    y = outer(vec1, vec2)
    start = input.expand(tuple(y.shape))
    y = y if alpha == 1 else y * alpha
    return deliver(y if beta == 0 else start + y if beta == 1 else start * beta + y, out)


@method(inplace=True)
def addbmm(input, batch1, batch2, *, beta=1, alpha=1, out=None):
    """`beta * input + alpha * ` the sum of the products of two batches of matrices."""
    _dims("addbmm", batch1, 3, "batch1")
    _dims("addbmm", batch2, 3, "batch2")
    _batches("addbmm", batch1, batch2)
    if batch1.shape[2] != batch2.shape[1]:
        raise ShapeError(
            f"addbmm: Incompatible matrix sizes for bmm ({_text(batch1)} and {_text(batch2)})"
        )
    count, n, k = batch1.shape
    wide = batch1.transpose(0, 1).reshape(n, count * k)  # one product sums over the batch too
    return addmm(
        input, wide, batch2.reshape(count * k, batch2.shape[2]), beta=beta, alpha=alpha, out=out
    )


@method
def vdot(input, other, *, out=None):
    """The inner product of two vectors."""
    return dot(input, other, out=out)


def common_dtype(*tensors):
    """The dtype that several tensors promote to."""
    return result_dtype([Spec(tuple(t.shape), t.dtype) for t in tensors])
