"""Integrals of sampled functions, and powers of a vector's elements."""

from __future__ import annotations

from amity.core.errors import DimError
from amity.core.shape import canonical_dim

from .joining import cat
from .record import deliver
from .scan import cumprod, cumsum


def _areas(name: str, y, x, dx, dim: int):
    """The area between each two neighbours, and the dimension."""
    if x is not None and dx is not None:
        raise TypeError(f"{name}: got both x and dx; expected one of them")
    if y.ndim == 0:
        raise DimError(f"{name}: Dimension specified as {dim} but tensor has no dimensions")
    d = canonical_dim(name, dim, y.ndim)
    n = y.shape[d]
    heights = y.narrow(d, 1, max(n - 1, 0)) + y.narrow(d, 0, max(n - 1, 0)) if n else y
    if x is None:
        return heights * ((1 if dx is None else dx) / 2), d
    if x.ndim == 1:
        if x.shape[0] != n:
            raise RuntimeError(f"{name}: There must be one `x` value for each sample point")
        x = x.reshape(tuple(n if i == d else 1 for i in range(y.ndim)))
    elif x.ndim < y.ndim:
        x = x.reshape((*(1,) * (y.ndim - x.ndim), *x.shape))
    at = canonical_dim(name, dim, x.ndim)
    steps = x.narrow(at, 1, n - 1) - x.narrow(at, 0, n - 1) if n else x
    return heights * steps / 2, d


def trapezoid(y, x=None, *, dx=None, dim=-1):
    """The integral along a dimension by the trapezoidal rule, at points `x` or `dx` apart.

    errors: RuntimeError unless there is one `x` for each sample
    """
    areas, d = _areas("trapezoid", y, x, dx, dim)
    return areas.sum(d)


trapz = trapezoid


def cumulative_trapezoid(y, x=None, *, dx=None, dim=-1):
    """The running integral along a dimension by the trapezoidal rule; one element shorter."""
    areas, d = _areas("cumulative_trapezoid", y, x, dx, dim)
    return cumsum(areas, d)


def powers(x, n: int):
    """The powers 0 … n - 1 of every element, along a new last dimension."""
    if n == 0:
        return x.new_zeros((*x.shape, 0))
    one = x.detach().new_ones((*x.shape, 1))
    return cumprod(cat([one, x.unsqueeze(-1).expand((*x.shape, n - 1))], -1), -1)


def vander(x, N=None, increasing=False, *, out=None):
    """The matrix of powers of a vector's elements, highest first.

    shape:  [n] -> [n, N]
    errors: RuntimeError unless x is a vector and N not negative
    """
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    if N is not None and N < 0:
        raise RuntimeError("N must be non-negative.")
    y = powers(x, x.shape[0] if N is None else N)
    return deliver(y if increasing else y.flip(1), out)
