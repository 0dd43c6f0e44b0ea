"""Factors of matrices: NumPy's LAPACK, never hot, with derivatives written in ops."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from amity.core.errors import LinAlgError
from amity.core.shape import numel
from amity.ir.graph import Spec

from .diagonal import tril, triu
from .inverse import MM, SQUARE, F, Factor, Solve, SolveTriangular, eye_like, turned
from .joining import cat
from .record import ErrorSample, Sample
from .select import WHERE

TALL, WIDE, EMPTY = ((4, 3), F), ((2, 3), F), ((0, 3), F)


class Cholesky(Factor):
    """The lower triangle L with L L^T = x; only the lower half of x is read."""

    name = "linalg_cholesky"
    samples = (
        Sample(((3, 3), F), through=lambda x: (MM(x, turned(x)) + eye_like(x, 3),)),
        Sample(((2, 2, 2), F), through=lambda x: (MM(x, turned(x)) + eye_like(x, 2),)),
    )
    errors = (
        *Factor.errors,
        ErrorSample(-np.eye(2), error=LinAlgError, says="not positive-definite"),
    )

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return x

    def reference(self, x):
        try:
            return np.linalg.cholesky(x)
        except np.linalg.LinAlgError:
            says = "The factorization could not be completed because the input is not positive-definite."
            raise self.failed(x, says) from None

    def grad(self, g, y):
        inner = tril(MM(turned(y), g))
        inner = inner - 0.5 * inner * eye_like(y, y.shape[-1])
        half = Solve()(turned(y), turned(Solve()(turned(y), turned(inner))))
        return (half + turned(half)) * 0.5


class Qr(Factor):
    """Orthogonal Q and triangular R with Q R = x."""

    name = "linalg_qr"
    results: ClassVar[int] = 2
    is_complete: bool
    samples = (
        Sample(TALL, is_complete=False),
        Sample(WIDE, is_complete=True),
        Sample(TALL, is_complete=True, rough="further columns have no derivative"),
    )
    errors = (ErrorSample(((3,), F), is_complete=True, error=RuntimeError, says="2 dimensions"),)

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        self.check(x, is_square=False)
        m, n = x.shape[-2:]
        k = m if self.is_complete else min(m, n)
        batch = x.shape[:-2]
        return Spec((*batch, m, k), x.dtype), Spec((*batch, k, n), x.dtype)

    def reference(self, x):
        return tuple(np.linalg.qr(x, "complete" if self.is_complete else "reduced"))

    def grad(self, gs, like_x, result0, result1):
        q, r = result0, result1
        m, n = like_x.shape[-2:]
        if self.is_complete and m > n:
            raise RuntimeError(
                "The QR decomposition is not differentiable when mode='complete' and nrows > ncols"
            )
        gq, gr = (q * 0 if gs[0] is None else gs[0]), (r * 0 if gs[1] is None else gs[1])
        if m >= n:
            return _qr_grad(gq, gr, q, r)
        # the last columns follow from the first: x = q [u | v]
        u, v = r.narrow(-1, 0, m), r.narrow(-1, m, n - m)
        gu, gv = gr.narrow(-1, 0, m), gr.narrow(-1, m, n - m)
        x2 = MM(q, v)
        first = _qr_grad(gq + MM(x2, turned(gv)), gu, q, u)
        return cat([first, MM(q, gv)], -1)


def _qr_grad(gq, gr, q, r):
    """The gradient of a square or tall matrix."""
    m = MM(r, turned(gr)) - MM(turned(gq), q)
    low = tril(m, -1)
    whole = low + turned(low) + m * eye_like(m, m.shape[-1])
    return turned(SolveTriangular(True, False)(r, turned(gq + MM(q, whole))))


def _symmetric(x: np.ndarray, is_upper: bool) -> np.ndarray:
    """A symmetric matrix of which one half was given."""
    half = np.triu(x) if is_upper else np.tril(x)
    return half + np.swapaxes(half, -1, -2) - half * np.eye(x.shape[-1], dtype=x.dtype)


class Eigh(Factor):
    """Eigenvalues, smallest first, and eigenvectors of symmetric matrices."""

    name = "linalg_eigh"
    results: ClassVar[int] = 2
    is_upper: bool
    samples = (
        Sample(((3, 3), F), is_upper=False, through=lambda x: (x + turned(x),)),
        Sample(((2, 4, 4), F), is_upper=True, through=lambda x: (x + turned(x),)),
    )
    errors = (
        ErrorSample(((3, 2), F), is_upper=False, error=RuntimeError, says="square"),
        ErrorSample(
            np.full((2, 2), np.inf), is_upper=True, error=LinAlgError, says="failed to converge"
        ),
    )

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        self.check(x)
        return Spec(x.shape[:-1], x.dtype), x

    def reference(self, x):
        if not np.isfinite(x).all():
            raise self.failed(
                x, "The algorithm failed to converge because the input matrix is ill-conditioned."
            )
        return tuple(np.linalg.eigh(_symmetric(x, self.is_upper)))

    def grad(self, gs, result0, result1):
        w, v = result0, result1
        inner = None
        if gs[1] is not None:
            gap = w.unsqueeze(-2) - w.unsqueeze(-1)
            inner = _divided(MM(turned(v), gs[1]), gap)
        if gs[0] is not None:
            values = gs[0].unsqueeze(-1) * eye_like(v, v.shape[-1])
            inner = values if inner is None else inner + values
        half = MM(MM(v, inner), turned(v))
        return (half + turned(half)) * 0.5


def _divided(x, gap):
    """x / gap, and 0 on the diagonal and where there is nothing to divide."""
    is_none = (gap == 0) & ((x == 0) | (eye_like(gap, gap.shape[-1]) == 1))
    return WHERE(is_none, 0.0, x / WHERE(is_none, 1.0, gap))


class Svd(Factor):
    """U, the singular values, largest first, and V^T, with U S V^T = x."""

    name = "linalg_svd"
    results: ClassVar[int] = 3
    is_full: bool
    samples = (
        Sample(TALL, is_full=False),
        Sample(((2, 3, 3), F), is_full=True),
        Sample(WIDE, is_full=True, rough="further rows have no derivative"),
    )
    errors = (
        ErrorSample(((3,), F), is_full=True, error=RuntimeError, says="2 dimensions"),
        ErrorSample(np.full((2, 2), np.nan), is_full=True, error=LinAlgError, says="non-finite"),
    )

    def infer(self, x: Spec) -> tuple[Spec, Spec, Spec]:
        self.check(x, is_square=False)
        m, n = x.shape[-2:]
        k, batch = min(m, n), x.shape[:-2]
        u = Spec((*batch, m, m if self.is_full else k), x.dtype)
        return u, Spec((*batch, k), x.dtype), Spec((*batch, n if self.is_full else k, n), x.dtype)

    def reference(self, x):
        if not np.isfinite(x).all():
            raise self.failed(
                x,
                "The algorithm failed to converge because the input matrix contained "
                "non-finite values.",
            )
        return tuple(np.linalg.svd(x, self.is_full))

    def grad(self, gs, result0, result1, result2):
        """Townsend's formula; the full factors' further columns have no derivative."""
        s, k = result1, result1.shape[-1]
        u, vh = result0.narrow(-1, 0, k), result2.narrow(-2, 0, k)
        m, n = u.shape[-2], vh.shape[-1]
        gu = None if gs[0] is None else gs[0].narrow(-1, 0, k)
        gv = None if gs[2] is None else gs[2].narrow(-2, 0, k)
        squares = s * s
        gap = squares.unsqueeze(-2) - squares.unsqueeze(-1)
        inner = None if gs[1] is None else gs[1].unsqueeze(-1) * eye_like(s, k)
        across, down = s.unsqueeze(-2), s.unsqueeze(-1)
        if gu is not None:
            inner = _plus(inner, _divided(_skew(MM(turned(u), gu)), gap) * across)
        if gv is not None:
            inner = _plus(inner, down * _divided(_skew(MM(vh, turned(gv))), gap))
        if inner is None:
            return None
        g = MM(MM(u, inner), vh)
        if gu is not None and m > k:
            outside = gu / across
            g = g + MM(outside - MM(u, MM(turned(u), outside)), vh)
        if gv is not None and n > k:
            outside = gv / down
            g = g + MM(u, outside - MM(MM(outside, turned(vh)), vh))
        return g


def _plus(a, b):
    return b if a is None else a + b


def _skew(x):
    return x - turned(x)


class PseudoInverse(Factor):
    """The Moore-Penrose inverse; singular values up to max(atol, rtol * the largest) count as 0."""

    name = "linalg_pinv"
    atol: float
    rtol: float
    is_hermitian: bool
    samples = (
        Sample(TALL, atol=0.0, rtol=1e-5, is_hermitian=False),
        Sample(WIDE, atol=1e-6, rtol=0.0, is_hermitian=False),
        Sample(EMPTY, atol=0.0, rtol=1e-5, is_hermitian=False),
    )
    errors = (
        ErrorSample(
            ((3,), F), atol=0.0, rtol=0.0, is_hermitian=False, error=RuntimeError, says="2 dim"
        ),
    )

    def infer(self, x: Spec) -> Spec:
        self.check(x, is_square=False)
        return Spec((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)

    def reference(self, x):
        if 0 in x.shape:
            return np.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)
        u, s, vh = np.linalg.svd(x, False, hermitian=self.is_hermitian)
        kept = s > np.maximum(self.atol, self.rtol * s.max(-1, keepdims=True))
        inverse = np.where(kept, 1 / np.where(kept, s, 1), 0).astype(x.dtype)
        return np.matmul(np.swapaxes(vh, -1, -2) * inverse[..., None, :], np.swapaxes(u, -1, -2))

    def grad(self, g, x, y):
        """Golub & Pereyra 1973."""
        yt, gt = turned(y), turned(g)
        if x.shape[-2] <= x.shape[-1]:
            k = MM(gt, y)
            kyt = MM(k, yt)
            g1 = kyt - turned(MM(y, k)) - MM(MM(x, y), kyt)
            return g1 + MM(MM(yt, y), gt - MM(k, x))
        k = MM(y, gt)
        ytk = MM(yt, k)
        g1 = ytk - turned(MM(k, y)) - MM(MM(ytk, y), x)
        return g1 + MM(MM(gt - MM(x, k), y), yt)


class LuFactor(Factor):
    """Row exchanges P, unit lower L and upper U with P L U = x."""

    name = "linalg_lu"
    results: ClassVar[int] = 3
    samples = (
        *SQUARE,
        Sample(TALL),
        Sample(WIDE),
        Sample(((2, 5, 2), F)),
        Sample(EMPTY),
    )
    errors = (ErrorSample(((3,), F), error=RuntimeError, says="2 dimensions"),)

    def infer(self, x: Spec) -> tuple[Spec, Spec, Spec]:
        self.check(x, is_square=False)
        m, n = x.shape[-2:]
        k, batch = min(m, n), x.shape[:-2]
        return (
            Spec((*batch, m, m), x.dtype),
            Spec((*batch, m, k), x.dtype),
            Spec((*batch, k, n), x.dtype),
        )

    def reference(self, x):
        m, n = x.shape[-2:]
        k, flat = min(m, n), x.reshape((numel(x.shape[:-2]), m, n)).copy()
        p = np.broadcast_to(np.eye(m, dtype=x.dtype), (len(flat), m, m)).copy()
        for a, q in zip(flat, p, strict=True):
            for j in range(k):
                pivot = j + int(np.argmax(np.abs(a[j:, j])))
                if a[pivot, j] == 0:
                    continue
                if pivot != j:
                    a[[j, pivot]], q[[j, pivot]] = a[[pivot, j]], q[[pivot, j]]
                a[j + 1 :, j] /= a[j, j]
                a[j + 1 :, j + 1 :] -= np.outer(a[j + 1 :, j], a[j, j + 1 :])
        low = np.tril(flat[:, :, :k], -1) + np.eye(m, k, dtype=x.dtype)
        shape = x.shape[:-2]
        return (
            np.swapaxes(p, -1, -2).reshape((*shape, m, m)),
            low.reshape((*shape, m, k)),
            np.triu(flat[:, :k]).reshape((*shape, k, n)),
        )

    def grad(self, gs, result0, result1, result2):
        p, low, up = result0, result1, result2
        m, n, k = low.shape[-2], up.shape[-1], low.shape[-1]
        if (gs[1] is None and gs[2] is None) or k == 0:
            return None
        g_low, g_up = (x * 0 if g is None else g for g, x in zip(gs[1:], (low, up), strict=True))
        # the square parts; rows of L below and columns of U beyond follow from them and from x
        (l1, l2), (u1, u2) = _cut(low, -2, k), _cut(up, -1, k)
        (gl1, gl2), (gu1, gu2) = _cut(g_low, -2, k), _cut(g_up, -1, k)
        inner_low, inner_up = MM(turned(l1), gl1), MM(gu1, turned(u1))
        if m > k:
            inner_up = inner_up - MM(turned(l2), gl2)
        if n > k:
            inner_low = inner_low - MM(gu2, turned(u2))
        inner = tril(inner_low, -1) + triu(inner_up)
        under_low = lambda x: SolveTriangular(True, True)(turned(l1), x)  # noqa: E731
        over_up = lambda x: turned(SolveTriangular(True, False)(u1, turned(x)))  # noqa: E731
        g = over_up(under_low(inner))
        if m > k:
            g = cat([g, over_up(gl2)], -2)
        if n > k:
            g = cat([g, under_low(gu2)], -1)
        return MM(p, g)


def _cut(x, dim: int, k: int):
    """The first k along a dimension, and the rest."""
    return x.narrow(dim, 0, k), x.narrow(dim, k, x.shape[dim] - k)
