"""Triangular factors kept in one matrix, as LAPACK does, and what is solved with them."""

from __future__ import annotations

import numpy as np

from amity.core.dtype import int32, int64
from amity.core.errors import LinAlgError
from amity.core.shape import broadcast_shapes
from amity.ir.graph import Spec

from .decomposition import LuFactor
from .diagonal import tril, triu
from .inverse import MM, SolveTriangular, check, eye_like, turned
from .linalg import solve
from .padding import pad
from .record import ErrorSample, Op, Sample, deliver
from .structs import ReturnTypes


class Exchanges(Op):
    """An order of rows as the exchanges that lead to it: row i with row `y[i]`, counted from 1."""

    name = "lu_exchanges"
    kind = "host"
    carries = "keep"
    count: int
    samples = (
        Sample(np.array([2, 0, 1]), count=3),
        Sample(np.array([[1, 0, 2], [2, 1, 0]]), count=2),
    )
    errors = (ErrorSample(((3,), "f"), count=3, error=TypeError, says="int64"),)

    def infer(self, order: Spec) -> Spec:
        if order.dtype is not int64:
            raise TypeError(f"{self.name}: got {order.dtype}; expected int64")
        return Spec((*order.shape[:-1], self.count), int32)

    def reference(self, order):
        rows = order.shape[-1]
        out = np.zeros((*order.shape[:-1], self.count), np.int32)
        for wanted, y in zip(order.reshape(-1, rows), out.reshape(-1, self.count), strict=True):
            have = list(range(rows))
            for i in range(self.count):
                j = have.index(wanted[i])
                have[i], have[j], y[i] = have[j], have[i], j + 1
        return out


class RowOrder(Op):
    """The order of `rows` rows after the exchanges of row i with row `pivots[i]`, from 1."""

    name = "lu_row_order"
    kind = "host"
    carries = "keep"
    rows: int
    samples = (
        Sample(np.array([3, 3, 3], np.int32), rows=3),
        Sample(np.array([[2, 2], [3, 2]], np.int32), rows=3),
    )
    errors = (ErrorSample(((3,), "f"), rows=3, error=RuntimeError, says="torch.int32"),)

    def infer(self, pivots: Spec) -> Spec:
        if pivots.dtype is not int32:
            raise RuntimeError(
                "linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32"
            )
        return Spec((*pivots.shape[:-1], self.rows), int64)

    def reference(self, pivots):
        count = pivots.shape[-1]
        if pivots.size and not (1 <= pivots.min() and pivots.max() <= self.rows):
            raise RuntimeError(f"linalg.lu_solve: got pivots outside of 1 to {self.rows}")
        out = np.broadcast_to(np.arange(self.rows), (*pivots.shape[:-1], self.rows)).copy()
        for exchanges, order in zip(
            pivots.reshape(-1, count), out.reshape(-1, self.rows), strict=True
        ):
            for i, j in enumerate(exchanges):
                order[[i, j - 1]] = order[[j - 1, i]]
        return out


def _factor(op: str, A, pivot: bool):
    check(op, A)
    if not pivot:
        raise RuntimeError(f"linalg.{op}: LU without pivoting is not implemented on the CPU")
    p, low, up = LuFactor()(A)
    m, n = A.shape[-2:]
    packed = pad(tril(low, -1), (0, n - low.shape[-1])) + pad(up, (0, 0, 0, m - up.shape[-2]))
    pivots = Exchanges(min(m, n))(p.detach().argmax(-2))
    is_zero = up.detach().diagonal(0, -2, -1) == 0
    if min(m, n) == 0:
        return packed, pivots, A.detach().new_zeros(A.shape[:-2]).int()
    first = is_zero.int().argmax(-1) + 1  # of the zeros on the diagonal, from 1
    return packed, pivots, (first * is_zero.any(-1)).int()


def lu_factor(A, *, pivot=True, out=None):
    """L and U in one matrix, and the exchanges of rows, for `lu_solve`.

    errors: RuntimeError if U has a zero on its diagonal
    """
    packed, pivots, info = _factor("lu_factor", A, pivot)
    info = info._held()
    if info.numel() and info.max().item():
        i = int(info.max().item())
        raise RuntimeError(
            f"linalg.lu_factor: U[{i},{i}] is zero and using it on lu_solve would result in a "
            "division by zero. If you still want to perform the factorization, consider calling "
            "linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)"
        )
    return deliver(ReturnTypes("linalg_lu_factor", LU=packed, pivots=pivots), out)


def lu_factor_ex(A, *, pivot=True, check_errors=False, out=None):
    """L and U in one matrix, the exchanges, and the first zero on U's diagonal (from 1), or 0."""
    if check_errors:
        lu_factor(A, pivot=pivot)
    packed, pivots, info = _factor("lu_factor_ex", A, pivot)
    return deliver(ReturnTypes("linalg_lu_factor_ex", LU=packed, pivots=pivots, info=info), out)


def lu_solve(LU, pivots, B, *, left=True, adjoint=False, out=None):
    """X with A X = B (X A = B, A^T X = B) for the A that `lu_factor` was given."""
    check("lu_solve", LU, B, is_square=True)
    n = LU.shape[-1]
    if pivots.shape[-1:] != (n,):
        raise RuntimeError(
            "linalg.lu_solve: Number of pivots per batch should be same as the dimension of the "
            "matrix"
        )
    if B.shape[-2 if left else -1] != n:
        raise RuntimeError(
            "linalg.lu_solve: Incompatible shapes of A and B for the equation "
            f"{'AX' if left else 'XA'} = B ({n}x{n} and {B.shape[-2]}x{B.shape[-1]})"
        )
    if not left:  # A^T X^T = B^T
        return deliver(turned(lu_solve(LU, pivots, turned(B), adjoint=not adjoint)), out)
    batch = broadcast_shapes("linalg.lu_solve", LU.shape[:-2], B.shape[:-2])
    lu, b = LU.expand((*batch, n, n)), B.expand((*batch, *B.shape[-2:]))
    order = RowOrder(n)(pivots)
    order = (order.argsort(-1) if adjoint else order).unsqueeze(-1)
    exchanged = lambda x: x.take_along_dim(order.expand(x.shape), -2)  # noqa: E731
    if adjoint:
        y = SolveTriangular(False, False)(turned(lu), b)
        return deliver(exchanged(SolveTriangular(True, True)(turned(lu), y)), out)
    y = SolveTriangular(False, True)(lu, exchanged(b))
    return deliver(SolveTriangular(True, False)(lu, y), out)


def solve_ex(A, B, *, left=True, check_errors=False, out=None):
    """X with A X = B (or X A = B), and for each matrix 0, or where its U has a zero (from 1)."""
    try:
        x = solve(A, B, left=left)
        info = A.detach().new_zeros(A.shape[:-2]).int()
    except LinAlgError:
        if check_errors:
            raise LinAlgError(
                "linalg.solve_ex: The solver failed because the input matrix is singular."
            ) from None
        info = _factor("solve_ex", A, True)[2]
        x = B * float("nan")
    return deliver(ReturnTypes("linalg_solve_ex", result=x, info=info), out)


def householder_product(input, tau, *, out=None):
    """The first columns of a product of reflections `1 - tau v v^T`, as `geqrf` leaves them.

    shape: input `[*, m, n]` with m >= n, tau `[*, k]` with k <= n; the result is `[*, m, n]`
    """
    check("householder_product", input)
    m, n = input.shape[-2:]
    if m < n:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-2] must be greater than or equal to "
            "input.shape[-1]"
        )
    if n < tau.shape[-1]:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-1] must be greater than or equal to "
            "tau.shape[-1]"
        )
    vectors = tril(input, -1) + triu(tril(input * 0 + 1))
    q = eye_like(input, m)[:, :n].expand(input.shape)
    for i in reversed(range(tau.shape[-1])):
        v = vectors.narrow(-1, i, 1)
        q = q - MM(v * tau.narrow(-1, i, 1).unsqueeze(-1), MM(turned(v), q))
    return deliver(q, out)
