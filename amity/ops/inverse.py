"""Inverses, solutions and determinants: NumPy's LAPACK, never hot, with derivatives written in ops."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from amity.core.dtype import float32, float64
from amity.core.errors import LinAlgError, ShapeError, fail
from amity.ir.graph import Spec

from .diagonal import tril, triu
from .matmul import Matmul
from .record import ErrorSample, Op, Sample

F = "f"
MM = Matmul()
SQUARE = (Sample(((3, 3), F)), Sample(((2, 4, 4), F)), Sample(((0, 2, 2), F)))


def turned(x):
    """The last two dimensions swapped."""
    return x.transpose(-2, -1)


def eye_like(x, n: int):
    return x.detach().new_tensor(np.eye(n, dtype=x.dtype.numpy))


def diagonal_of(x):
    return x.diagonal(0, -2, -1)


def check(name: str, *tensors, is_square: bool = False) -> None:
    """Matrices of a dtype that LAPACK knows, square ones where they must be."""
    for x in tensors:
        if x.ndim < 2:
            raise RuntimeError(
                f"linalg.{name}: The input tensor A must have at least 2 dimensions."
            )
        if x.dtype.kind != "f":
            raise RuntimeError(
                f"linalg.{name}: Expected a floating point or complex tensor as input. Got "
                f"{x.dtype}"
            )
        if x.dtype not in (float32, float64):
            raise RuntimeError(f"linalg.{name}: Low precision dtypes not supported. Got {x.dtype}")
    if is_square and tensors[0].shape[-1] != tensors[0].shape[-2]:
        m, n = tensors[0].shape[-2:]
        raise RuntimeError(
            f"linalg.{name}: A must be batches of square matrices, but they are {m} by {n} matrices"
        )


class Factor(Op):
    """Base of ops on batches of matrices; what NumPy calls an error gets PyTorch's name."""

    kind = "host"
    carries = "keep"
    errors = (
        ErrorSample(((3, 2), F), error=RuntimeError, says="square"),
        ErrorSample(((3,), F), error=RuntimeError, says="at least 2 dimensions"),
        ErrorSample(((2, 2), "i"), error=RuntimeError, says="Expected a floating point"),
    )

    def check(self, *xs: Spec, is_square: bool = True) -> None:
        check(self.name.removeprefix("linalg_"), *xs, is_square=is_square)

    def failed(self, x: np.ndarray, says: str) -> LinAlgError:
        batch = "" if x.ndim == 2 else "(Batch element 0): "
        return LinAlgError(f"linalg.{self.name.removeprefix('linalg_')}: {batch}{says}")


class Inverse(Factor):
    """The matrices whose products with the input are the identity."""

    name = "linalg_inv"
    samples = SQUARE

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return x

    def reference(self, x):
        try:
            y = np.linalg.inv(x)
        except np.linalg.LinAlgError:
            says = "The inversion could not be completed because the input matrix is singular."
            raise self.failed(x, says) from None
        return y

    def grad(self, g, y):
        return -MM(MM(turned(y), g), turned(y))


def _check_rows(op: str, a: Spec, b: Spec) -> None:
    if a.shape[-1] != b.shape[-2]:
        raise fail(ShapeError, op, f"a right side of shape {tuple(b.shape)}", f"{a.shape[-1]} rows")


class Solve(Factor):
    """X with A X = B."""

    name = "linalg_solve"
    samples = (Sample(((3, 3), F), ((3, 2), F)), Sample(((2, 3, 3), F), ((2, 3, 1), F)))
    errors = (
        ErrorSample(((3, 2), F), ((3, 2), F), error=RuntimeError, says="square"),
        ErrorSample(((3, 3), F), ((2, 2), F), error=ShapeError, says="3 rows"),
    )

    def infer(self, a: Spec, b: Spec) -> Spec:
        self.check(a, b)
        _check_rows(self.name, a, b)
        return b

    def reference(self, a, b):
        try:
            return np.linalg.solve(a, b)
        except np.linalg.LinAlgError:
            raise self.failed(
                a, "The solver failed because the input matrix is singular."
            ) from None

    def grad(self, g, a, y):
        gb = Solve()(turned(a), g)
        return -MM(gb, turned(y)), gb


class SolveTriangular(Factor):
    """X with A X = B, for A a triangle; its other half is not read."""

    name = "linalg_solve_triangular"
    upper: bool
    unit: bool
    samples = (
        Sample(((3, 3), F), ((3, 2), F), upper=True, unit=True),
        Sample(((2, 3, 3), F), ((2, 3, 1), F), upper=False, unit=False),
    )
    errors = (
        ErrorSample(
            ((3, 3), F), ((2, 2), F), upper=True, unit=True, error=ShapeError, says="3 rows"
        ),
    )

    def infer(self, a: Spec, b: Spec) -> Spec:
        self.check(a, b)
        _check_rows(self.name, a, b)
        return b

    def reference(self, a, b):
        a = np.triu(a) if self.upper else np.tril(a)
        n = a.shape[-1]
        if self.unit:
            a = np.where(np.eye(n, dtype=bool), np.ones((), a.dtype), a)
        x = np.zeros_like(b)
        with np.errstate(divide="ignore", invalid="ignore"):
            for i in reversed(range(n)) if self.upper else range(n):
                known = np.matmul(a[..., i : i + 1, :], x)[..., 0, :]
                x[..., i, :] = (b[..., i, :] - known) / a[..., i, i, None]
        return x

    def grad(self, g, a, y):
        gb = SolveTriangular(not self.upper, self.unit)(turned(a), g)
        k = int(self.unit)
        half = -MM(gb, turned(y))
        return (triu(half, k) if self.upper else tril(half, -k)), gb


class Determinant(Factor):
    """The determinants of square matrices."""

    name = "linalg_det"
    samples = SQUARE

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return Spec(x.shape[:-2], x.dtype)

    def reference(self, x):
        return np.linalg.det(x).astype(x.dtype)

    def grad(self, g, x):
        return g.unsqueeze(-1).unsqueeze(-1) * Cofactor()(x)


class Cofactor(Factor):
    """The derivative of the determinant, also of singular matrices."""

    name = "linalg_cofactor"
    samples = SQUARE

    def infer(self, x: Spec) -> Spec:
        self.check(x)
        return x

    def reference(self, x):
        u, s, vh = np.linalg.svd(x)
        n = x.shape[-1]
        others = np.where(np.eye(n, dtype=bool), 1, s[..., None, :]).prod(-1)
        sign = np.linalg.det(u) * np.linalg.det(vh)
        return np.matmul(u * (sign[..., None] * others)[..., None, :], vh).astype(x.dtype)

    def grad(self, g, x, y):
        """Through `det(x) * inv(x)^T`: the matrices must be regular here."""
        inverse = Inverse()(x)
        size = (g * y).sum((-2, -1), True)
        return turned(inverse) * size - MM(MM(turned(inverse), turned(g)), y)


class SignLogDet(Factor):
    """The sign of the determinant and the logarithm of its size."""

    name = "linalg_slogdet"
    results: ClassVar[int] = 2
    samples = SQUARE

    def infer(self, x: Spec) -> tuple[Spec, Spec]:
        self.check(x)
        s = Spec(x.shape[:-2], x.dtype)
        return s, s

    def reference(self, x):
        sign, size = np.linalg.slogdet(x)
        return sign.astype(x.dtype), size.astype(x.dtype)

    def grad(self, gs, x):
        g = gs[1]
        return None if g is None else g.unsqueeze(-1).unsqueeze(-1) * turned(Inverse()(x))
