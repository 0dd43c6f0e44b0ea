"""Linear algebra: inverses, factors, norms and powers of matrices, with PyTorch's names."""

from __future__ import annotations

import math

from amity.core.dtype import finfo
from amity.core.errors import LinAlgError
from amity.core.shape import broadcast_shapes, canonical_dim

from .chain import multi_dot
from .decomposition import Cholesky, Eigh, LuFactor, PseudoInverse, Qr, Svd
from .einsum import cross as _cross
from .integration import powers
from .inverse import (
    Determinant,
    Inverse,
    SignLogDet,
    Solve,
    SolveTriangular,
    check,
    eye_like,
    turned,
)
from .matmul import matmul
from .record import deliver
from .statistics import vector_norm
from .structs import ReturnTypes

__all__ = [
    "LinAlgError", "cholesky", "cholesky_ex", "cond", "cross", "det", "diagonal", "eigh", "eigvalsh", "inv", "inv_ex",
    "lstsq", "lu", "matmul", "matrix_exp", "matrix_norm", "matrix_power", "matrix_rank", "multi_dot", "norm", "pinv",
    "qr", "slogdet", "solve", "solve_triangular", "svd", "svdvals", "tensorinv", "tensorsolve", "vander", "vecdot",
    "vector_norm",
]  # fmt: skip


# -- inverses and equations


def inv(A, *, out=None):
    """The inverse of square matrices.

    errors: LinAlgError if one is singular; RuntimeError unless they are square
    """
    check("inv", A, is_square=True)
    return deliver(Inverse()(A), out)


def _with_info(name: str, parts: dict, make, A, check_errors: bool):
    """The result, and 0; where it fails, NaNs and 1, unless errors are to be raised."""
    what = next(iter(parts))
    zeros = A.detach().new_zeros(A.shape[:-2]).int()
    try:
        return ReturnTypes(name, **{what: make(), "info": zeros})
    except LinAlgError:
        if check_errors:
            raise
        return ReturnTypes(name, **{what: A * math.nan, "info": zeros + 1})


def inv_ex(A, *, check_errors=False, out=None):
    """The inverse, and for each matrix whether it failed (then not 0)."""
    return deliver(
        _with_info("linalg_inv_ex", {"inverse": 0}, lambda: inv(A), A, check_errors), out
    )


def _broadcast(a, b):
    batch = broadcast_shapes("linalg.solve", a.shape[:-2], b.shape[:-2])
    return a.expand((*batch, *a.shape[-2:])), b.expand((*batch, *b.shape[-2:]))


def solve(A, B, *, left=True, out=None):
    """X with A X = B, or X A = B with `left=False`; B holds matrices, or vectors.

    errors: LinAlgError if a matrix is singular; RuntimeError for shapes that do not fit
    """
    check("solve", A, is_square=True)
    if A.dtype is not B.dtype:
        raise RuntimeError(
            "linalg.solve: Expected A and B to have the same dtype, but found A of type "
            f"{A.dtype} and B of type {B.dtype} instead"
        )
    is_vector = B.ndim == 1 or (B.ndim == A.ndim - 1 and tuple(B.shape) == tuple(A.shape[:-1]))
    b = B.unsqueeze(-1) if is_vector else B
    if b.shape[-2 if left else -1] != A.shape[-1]:
        raise RuntimeError(
            "linalg.solve: Incompatible shapes of A and B for the equation "
            f"{'AX' if left else 'XA'} = B "
            f"({A.shape[-2]}x{A.shape[-1]} and {b.shape[-2]}x{b.shape[-1]})"
        )
    if left:
        x = Solve()(*_broadcast(A, b))
    else:
        x = turned(Solve()(*_broadcast(turned(A), turned(b))))
    return deliver(x.squeeze(-1) if is_vector else x, out)


def solve_triangular(A, B, *, upper, left=True, unitriangular=False, out=None):
    """X with A X = B (or X A = B) for a triangle A; its other half is not read."""
    check("solve_triangular", A, B, is_square=True)
    if B.shape[-2 if left else -1] != A.shape[-1]:
        raise RuntimeError(
            "linalg.solve_triangular: Incompatible shapes of A and B for the equation "
            f"{'AX' if left else 'XA'} = B ({A.shape[-2]}x{A.shape[-1]} and "
            f"{B.shape[-2]}x{B.shape[-1]})"
        )
    if left:
        return deliver(SolveTriangular(upper, unitriangular)(*_broadcast(A, B)), out)
    x = SolveTriangular(not upper, unitriangular)(*_broadcast(turned(A), turned(B)))
    return deliver(turned(x), out)


def _tolerance(A, atol, rtol) -> tuple[float, float]:
    """Which singular values count as 0: PyTorch's defaults."""
    atol, rtol = (None if t is None else float(t) for t in (atol, rtol))
    if rtol is None:
        rtol = 0.0 if atol else max(A.shape[-2:]) * finfo(A.dtype).eps
    return atol or 0.0, rtol


def pinv(A, *, atol=None, rtol=None, hermitian=False, out=None):
    """The Moore-Penrose inverse.

    shape:  [..., m, n] -> [..., n, m]
    """
    check("pinv", A, is_square=hermitian)
    return deliver(PseudoInverse(*_tolerance(A, atol, rtol), bool(hermitian))(A), out)


def lstsq(A, B, rcond=None, *, driver=None):
    """The X of least |A X - B|, by singular values, whatever the driver.

    errors: RuntimeError for shapes that do not fit
    """
    check("lstsq", A)
    is_vector = A.ndim - 1 == B.ndim
    b = B.unsqueeze(-1) if is_vector else B
    if b.shape[-2] != A.shape[-2]:
        raise RuntimeError("torch.linalg.lstsq: input.size(-2) should match other.size(-1)")
    x = matmul(pinv(A, rtol=rcond), b)
    values = svdvals(A.detach())
    m, n = A.shape[-2:]
    rank = matrix_rank(A.detach(), rtol=rcond)
    if m > n and bool((rank == n)._held().all()):
        rest = (matmul(A, x) - b).square().sum(-2)
    else:
        rest = A.new_zeros((0,))
    parts = {"solution": x.squeeze(-1) if is_vector else x, "residuals": rest}
    return ReturnTypes("linalg_lstsq", **parts, rank=rank, singular_values=values)


# -- determinants


def det(A, *, out=None):
    """The determinant of square matrices."""
    check("det", A, is_square=True)
    return deliver(Determinant()(A), out)


def slogdet(A, *, out=None):
    """The sign of the determinant, and the logarithm of its size."""
    check("slogdet", A, is_square=True)
    sign, size = SignLogDet()(A)
    return deliver(ReturnTypes("linalg_slogdet", sign=sign, logabsdet=size), out)


# -- factors


def cholesky(A, *, upper=False, out=None):
    """The triangle L with L L^T = A, or its transpose.

    errors: LinAlgError unless A is positive definite
    """
    check("cholesky", A, is_square=True)
    y = Cholesky()(turned(A) if upper else A)
    return deliver(turned(y) if upper else y, out)


def cholesky_ex(A, *, upper=False, check_errors=False, out=None):
    """The triangle L with L L^T = A, and for each matrix whether it failed (then not 0)."""
    make = lambda: cholesky(A, upper=upper)  # noqa: E731
    return deliver(_with_info("linalg_cholesky_ex", {"L": 0}, make, A, check_errors), out)


def qr(A, mode="reduced", *, out=None):
    """Orthogonal Q and upper R with Q R = A; mode "r" leaves Q out."""
    check("qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), "
            "'r', or 'complete'"
        )
    q, r = Qr(mode == "complete")(A)
    return deliver(ReturnTypes("linalg_qr", Q=A.new_zeros((0,)) if mode == "r" else q, R=r), out)


def _check_half(uplo: str) -> bool:
    if uplo.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {uplo}")
    return uplo.upper() == "U"


def eigh(A, UPLO="L", *, out=None):
    """Eigenvalues, smallest first, and eigenvectors of symmetric matrices."""
    check("eigh", A, is_square=True)
    w, v = Eigh(_check_half(UPLO))(A)
    return deliver(ReturnTypes("linalg_eigh", eigenvalues=w, eigenvectors=v), out)


def eigvalsh(A, UPLO="L", *, out=None):
    """Eigenvalues of symmetric matrices, smallest first."""
    check("eigvalsh", A, is_square=True)
    return deliver(Eigh(_check_half(UPLO))(A)[0], out)


def svd(A, full_matrices=True, *, driver=None, out=None):
    """U, the singular values, largest first, and V^T, with U S V^T = A."""
    check("svd", A)
    u, s, vh = Svd(bool(full_matrices))(A)
    return deliver(ReturnTypes("linalg_svd", U=u, S=s, Vh=vh), out)


def svdvals(A, *, driver=None, out=None):
    """The singular values, largest first."""
    check("svdvals", A)
    return deliver(Svd(False)(A)[1], out)


def lu(A, *, pivot=True, out=None):
    """Row exchanges P, unit lower L and upper U with P L U = A.

    errors: NotImplementedError without pivots
    """
    check("lu", A)
    if not pivot:
        raise NotImplementedError("linalg.lu: got pivot=False; expected pivot=True")
    p, low, up = LuFactor()(A)
    return deliver(ReturnTypes("linalg_lu", P=p, L=low, U=up), out)


# -- norms


def _two(name: str, x, dim) -> tuple[int, int]:
    a, b = (canonical_dim(name, d, x.ndim) for d in dim)
    if a == b:
        raise RuntimeError(f"linalg.{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    return a, b


def matrix_norm(A, ord="fro", dim=(-2, -1), keepdim=False, *, dtype=None, out=None):
    """The norm of matrices: "fro", "nuc", inf, -inf, 1, -1, 2 or -2.

    errors: RuntimeError for another order
    """
    if A.ndim < 2:
        raise RuntimeError(
            "linalg.matrix_norm: The input tensor A must have at least 2 dimensions."
        )
    x = A if dtype is None else A.to(dtype)
    a, b = _two("matrix_norm", x, tuple(dim))
    if ord == "fro":
        return deliver(vector_norm(x, 2, (a, b), keepdim), out)
    if ord not in ("nuc", 1, -1, 2, -2, math.inf, -math.inf):
        raise RuntimeError(f"linalg.matrix_norm: Order {ord} not supported.")
    if ord == "nuc" or abs(ord) == 2:
        s = svdvals(x.movedim((a, b), (-2, -1)))
        y = s.sum(-1) if ord == "nuc" else s.amax(-1) if ord > 0 else s.amin(-1)
        for d in sorted((a, b)) if keepdim else ():
            y = y.unsqueeze(d)
        return deliver(y, out)
    first, last = (a, b) if abs(ord) == 1 else (b, a)
    sums = x.abs().sum(first, True)
    y = sums.amax(last, True) if ord > 0 else sums.amin(last, True)
    return deliver(y if keepdim else y.squeeze((a, b)), out)


def norm(A, ord=None, dim=None, keepdim=False, *, out=None, dtype=None):
    """The norm of a vector or of matrices, as `dim` and `ord` say; of all elements without both."""
    if dim is not None:
        dims = (dim,) if isinstance(dim, int) else tuple(dim)
        if len(dims) not in (1, 2):
            raise RuntimeError(
                f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}"
            )
    elif ord is not None:
        if A.ndim not in (1, 2):
            raise RuntimeError(
                "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. "
                f"Got {A.ndim}D."
            )
        dims = tuple(range(A.ndim))
    if ord is None:
        return vector_norm(A, 2, dim, keepdim, dtype=dtype, out=out)
    if len(dims) == 1:
        if isinstance(ord, str):
            raise RuntimeError(f"linalg.norm: Order {ord} not supported for vectors.")
        return vector_norm(A, ord, dims, keepdim, dtype=dtype, out=out)
    return matrix_norm(A, ord, dims, keepdim, dtype=dtype, out=out)


def cond(A, p=None, *, out=None):
    """The condition number: the norm times that of the inverse."""
    check("cond", A)
    if p is None or p in (2, -2):
        s = svdvals(A)
        high, low = s.amax(-1), s.amin(-1)
        return deliver(low / high if p == -2 else high / low, out)
    check(f"cond(ord={p})", A, is_square=True)
    return deliver(matrix_norm(A, p) * matrix_norm(inv(A), p), out)


def matrix_rank(A, *, atol=None, rtol=None, hermitian=False, out=None):
    """How many singular values are not 0 to within max(atol, rtol * the largest)."""
    check("matrix_rank", A, is_square=hermitian)
    if 0 in A.shape[-2:]:
        return A.detach().new_zeros(A.shape[:-2]).long()
    low, part = _tolerance(A, atol, rtol)
    s = svdvals(A.detach())
    return deliver((s > (s.amax(-1, True) * part).clamp(min=low)).sum(-1), out)


# -- products


def matrix_power(A, n, *, out=None):
    """The product of n equal matrices; of inverses for negative n."""
    if n < 0:
        check("matrix_power", A, is_square=True)
    elif A.ndim < 2 or A.shape[-1] != A.shape[-2]:
        raise RuntimeError(
            f"linalg.matrix_power: A must be batches of square matrices, got shape {list(A.shape)}"
        )
    x, n = (inv(A), -n) if n < 0 else (A, n)
    y = None
    while n:
        if n & 1:
            y = x if y is None else matmul(y, x)
        n >>= 1
        x = matmul(x, x) if n else x
    if y is None:
        zero = x * 0
        y = (zero.nan_to_num(0.0) if x.dtype.kind == "f" else zero) + eye_like(x, x.shape[-1])
    return deliver(y.clone() if y is A else y, out)


PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
REACH = 5.371920351148152  # norms up to which the approximant is exact in double precision


def matrix_exp(A):
    """The exponential of square matrices, by scaling, a rational approximant, and squaring.

    source: Higham 2005, SIAM J. Matrix Anal. Appl. 26(4)
    """
    check("matrix_exp", A, is_square=True)
    n = A.shape[-1]
    if A.numel() == 0:
        return A.clone()
    largest = float(matrix_norm(A.detach(), 1).amax())
    halvings = (
        max(0, math.ceil(math.log2(largest / REACH))) if math.isfinite(largest) and largest else 0
    )
    x, one = A / 2**halvings, eye_like(A, n)
    x2 = matmul(x, x)
    x4 = matmul(x2, x2)
    x6 = matmul(x4, x2)
    c = PADE
    odd = (
        matmul(x6, x6 * c[13] + x4 * c[11] + x2 * c[9])
        + x6 * c[7]
        + x4 * c[5]
        + x2 * c[3]
        + one * c[1]
    )
    even = (
        matmul(x6, x6 * c[12] + x4 * c[10] + x2 * c[8])
        + x6 * c[6]
        + x4 * c[4]
        + x2 * c[2]
        + one * c[0]
    )
    odd = matmul(x, odd)
    y = Solve()(even - odd, even + odd)
    for _ in range(halvings):
        y = matmul(y, y)
    return y


def vecdot(x, y, *, dim=-1, out=None):
    """The inner product of vectors along a dimension.

    errors: RuntimeError for a dtype that is not floating
    """
    for t in (x, y):
        if t.dtype.kind != "f":
            raise RuntimeError(
                f"linalg.vecdot: Expected a floating point or complex tensor as input. Got {t.dtype}"
            )
    return deliver((x * y).sum(dim), out)


def cross(input, other, *, dim=-1, out=None):
    """The cross product of vectors of three along a dimension."""
    for d, t in ((dim, input), (dim, other)):
        if t.shape[d] != 3:
            raise RuntimeError(
                f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[d]} "
                f"and {other.shape[d]}"
            )
    return _cross(input, other, dim, out=out)


def diagonal(A, *, offset=0, dim1=-2, dim2=-1):
    """The view of a diagonal."""
    return A.diagonal(offset, dim1, dim2)


def vander(x, *, N=None):
    """The matrix of powers 0 … N - 1 of every element.

    errors: RuntimeError for N below 2
    """
    n = x.shape[-1] if N is None else N
    if n <= 1:
        raise RuntimeError("N must be greater than 1.")
    return powers(x, n)


# -- more dimensions


def tensorinv(A, ind=2, *, out=None):
    """The inverse for `tensordot` over `ind` dimensions."""
    if ind <= 0:
        raise RuntimeError("Expected a strictly positive integer for 'ind'")
    head, tail = tuple(A.shape[:ind]), tuple(A.shape[ind:])
    if math.prod(head) != math.prod(tail):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == "
            "prod(self.shape[:ind]), "
            f"but got {math.prod(tail)} != {math.prod(head)}"
        )
    n = math.prod(head)
    return deliver(inv(A.reshape(n, n)).reshape((*tail, *head)), out)


def tensorsolve(A, B, dims=None, *, out=None):
    """X with `tensordot(A, X, X.ndim) = B`."""
    if dims is not None:
        A = A.movedim(tuple(dims), tuple(range(A.ndim - len(dims), A.ndim)))
    rest = tuple(A.shape[B.ndim :])
    if math.prod(rest) != B.numel():
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == "
            f"prod(self.shape[:other.ndim]), but got {math.prod(rest)} != {B.numel()}"
        )
    n = B.numel()
    return deliver(solve(A.reshape(n, n), B.reshape(n)).reshape(rest), out)
