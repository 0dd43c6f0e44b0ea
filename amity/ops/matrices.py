"""Functions of matrices that PyTorch keeps outside `linalg`, some with older arguments."""

from __future__ import annotations

import math

from . import linalg
from .inverse import SolveTriangular, eye_like, turned
from .linalg import det, matrix_exp, matrix_power, slogdet
from .record import deliver, method
from .select import WHERE
from .structs import ReturnTypes

for _function in (det, matrix_exp, matrix_power, slogdet):
    method(_function)


@method
def inverse(input, *, out=None):
    """The inverse of square matrices."""
    return linalg.inv(input, out=out)


@method
def pinverse(input, rcond=1e-15):
    """The Moore-Penrose inverse; singular values up to `rcond` of the largest count as 0."""
    return linalg.pinv(input, rtol=rcond)


@method
def logdet(input):
    """The logarithm of the determinant: -inf where it is 0, NaN where it is negative."""
    sign, size = linalg.slogdet(input)
    return WHERE(sign == -1, math.nan, size)


@method
def cholesky(input, upper=False, *, out=None):
    """The triangle L with L L^T = input, or its transpose."""
    return linalg.cholesky(input, upper=upper, out=out)


@method
def cholesky_solve(input, L, upper=False, *, out=None):
    """X with A X = input, from A's Cholesky factor."""
    low = turned(L) if upper else L
    half = linalg.solve_triangular(low, input, upper=False)
    return linalg.solve_triangular(turned(low), half, upper=True, out=out)


@method
def cholesky_inverse(L, upper=False, *, out=None):
    """The inverse of a matrix, from its Cholesky factor."""
    return cholesky_solve(eye_like(L, L.shape[-1]).expand(tuple(L.shape)), L, upper, out=out)


@method
def triangular_solve(b, A, upper=True, transpose=False, unitriangular=False, *, out=None):
    """X with A X = b for a triangle A, and A again."""
    half = SolveTriangular(upper != transpose, unitriangular)
    x = half(turned(A) if transpose else A, b)
    return deliver(ReturnTypes("triangular_solve", solution=x, cloned_coefficient=A.clone()), out)


@method
def qr(input, some=True, *, out=None):
    """Orthogonal Q and upper R with Q R = input."""
    q, r = linalg.qr(input, "reduced" if some else "complete")
    return deliver(ReturnTypes("qr", Q=q, R=r), out)


@method
def svd(input, some=True, compute_uv=True, *, out=None):
    """U, the singular values and V (not transposed), with U S V^T = input."""
    u, s, vh = linalg.svd(input, full_matrices=not some and compute_uv)
    if not compute_uv:
        u, vh = (x.detach() * 0 for x in (u, vh))
    return deliver(ReturnTypes("svd", U=u, S=s, V=turned(vh)), out)


def frobenius_norm(input, dim=(), keepdim=False, *, out=None):
    """The root of the sum of squares."""
    return linalg.vector_norm(input, 2, dim or None, keepdim, out=out)


def nuclear_norm(input, dim=(-2, -1), keepdim=False, *, out=None):
    """The sum of singular values."""
    return linalg.matrix_norm(input, "nuc", dim, keepdim, out=out)


def chain_matmul(*matrices, out=None):
    """The product of several matrices in the cheapest order."""
    if len(matrices) == 1:
        return deliver(matrices[0].clone(), out)
    return linalg.multi_dot(matrices, out=out)
