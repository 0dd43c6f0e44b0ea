"""Spread, extremes and norms over dimensions."""

from __future__ import annotations

import builtins
import math

from amity.core.dtype import float32, uint8
from amity.core.shape import broadcast_shapes, canonical_dim, canonical_dims

from .decomposition import Svd
from .elementwise import ABS, EXP, LOG, MAXIMUM, MINIMUM
from .gather import Gather
from .rearrange import movedim
from .record import METHODS, ErrorSample, Sample, composite, deliver, method
from .reduce import SUM, Amax, Amin, Argmax, Argmin, cast, count_of, dims_of, mean
from .select import WHERE
from .structs import ReturnTypes

F = "f"


def _var_grad(g, input, dims, correction, keepdim):
    n = count_of(input.shape, dims)
    centre = SUM(input, dims, True) / n
    spread = g
    if not keepdim:
        for d in dims:
            spread = spread.unsqueeze(d)
    return (input - centre) * spread * (2.0 / (n - correction) if n > correction else math.inf)


@composite(
    grad=_var_grad,
    samples=(
        Sample(((3, 4), F), dims=(1,), correction=1, keepdim=False),
        Sample(((3, 4), F), dims=(0, 1), correction=0, keepdim=True),
    ),
    errors=(
        ErrorSample(
            ((3,), F), dims=(1,), correction=1, keepdim=False, error=IndexError, says="dim"
        ),
    ),
)
def _var(input, dims, correction, keepdim):
    whole = SUM(input, dims, True)
    n = count_of(input.shape, dims)
    centred = input - whole / n
    total = SUM(centred * centred, dims, keepdim)
    left = n - correction
    return total / builtins.max(left, type(left)(0))


@composite(
    grad=lambda g, input, y, dims, correction, keepdim: _std_grad(
        g, input, y, dims, correction, keepdim
    ),
    samples=(
        Sample(((3, 4), F), dims=(1,), correction=1, keepdim=False),
        Sample(((3, 4), F), dims=(0, 1), correction=0, keepdim=True),
    ),
    errors=(
        ErrorSample(
            ((3,), F), dims=(1,), correction=1, keepdim=False, error=IndexError, says="dim"
        ),
    ),
)
def _std(input, dims, correction, keepdim):
    return _var.function(input, dims, correction, keepdim).sqrt()


def _std_grad(g, input, y, dims, correction, keepdim):
    """As the variance's, but 0 where nothing varies."""
    half = WHERE(y == 0, 0.0, g / (WHERE(y == 0, 1.0, y) * 2))
    return _var_grad(half, input, dims, correction, keepdim)


def _correction(unbiased, correction) -> float:
    if correction is not None:
        return correction
    return 1 if unbiased in (None, True) else 0


def _arguments(name, input, dim, unbiased, correction):
    """`var(unbiased)` and `var(dim, …)` alike."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None and correction is not None:
        raise TypeError(f"{name}(): got both unbiased and correction; expected one of them")
    if input.dtype.kind != "f":
        raise RuntimeError(f"{name} only support floating point and complex dtypes")
    return canonical_dims(name, dim, input.ndim), _correction(unbiased, correction)


@method
def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None, out=None):
    """The variance over dimensions, divided by the count less `correction` (1)."""
    dims, c = _arguments("var", input, dim, unbiased, correction)
    return deliver(_var(input, dims, c, keepdim), out)


@method
def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None, out=None):
    """The standard deviation over dimensions."""
    dims, c = _arguments("std", input, dim, unbiased, correction)
    return deliver(_std(input, dims, c, keepdim), out)


@method
def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None, out=None):
    """The variance and the mean over dimensions."""
    dims, c = _arguments("var_mean", input, dim, unbiased, correction)
    return deliver((_var(input, dims, c, keepdim), mean(input, dims or None, keepdim)), out)


@method
def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None, out=None):
    """The standard deviation and the mean over dimensions."""
    dims, c = _arguments("std_mean", input, dim, unbiased, correction)
    return deliver((_std(input, dims, c, keepdim), mean(input, dims or None, keepdim)), out)


for _name in ("var_mean", "std_mean"):
    METHODS.pop(_name)

# -- extremes


def _extreme(name, whole, arg, pairwise, input, dim, keepdim):
    if dim is None:
        if input.numel() == 0:
            raise RuntimeError(
                f"{name}(): Expected reduction dim to be specified for input.numel() == 0. "
                "Specify the reduction dim with the 'dim' argument."
            )
        return whole(tuple(range(input.ndim)), False)(input)
    if hasattr(dim, "layout"):
        return pairwise(input, dim)
    d = canonical_dim(name, dim, input.ndim)
    x = input if input.ndim else input.reshape(1)
    if x.shape[d] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
    ranked = x.detach() if x.dtype.kind != "b" else x.to(uint8)
    at = arg((d,), True)(ranked)
    values = Gather(d)(x, at)
    if not keepdim or input.ndim == 0:
        values, at = values.squeeze(d), at.squeeze(d)
    return ReturnTypes(name, values=values, indices=at)


@method
def max(input, dim=None, keepdim=False, *, other=None, out=None):
    """The largest element; along a dimension also where it is; of two tensors the larger elements."""
    return deliver(
        _extreme("max", Amax, Argmax, MAXIMUM, input, dim if other is None else other, keepdim), out
    )


@method
def min(input, dim=None, keepdim=False, *, other=None, out=None):
    """The smallest element; along a dimension also where it is; of two tensors the smaller elements."""
    return deliver(
        _extreme("min", Amin, Argmin, MINIMUM, input, dim if other is None else other, keepdim), out
    )


@method
def aminmax(input, *, dim=None, keepdim=False, out=None):
    """The smallest and the largest element."""
    if dim is None and input.numel() == 0:
        raise RuntimeError(
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no "
            f"identity: got shape {list(input.shape)}"
        )
    dims = tuple(range(input.ndim)) if dim is None else (canonical_dim("aminmax", dim, input.ndim),)
    dims = dims if input.ndim else ()
    return deliver(
        ReturnTypes("aminmax", min=Amin(dims, keepdim)(input), max=Amax(dims, keepdim)(input)), out
    )


# -- counts and sums without NaN


@method
def count_nonzero(input, dim=None):
    """How many elements are not 0."""
    return SUM(input != 0, canonical_dims("count_nonzero", dim, input.ndim), False)


@method
def nansum(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The sum, NaNs counted as 0."""
    x = cast(input, dtype, out)
    x = x if x.dtype.kind != "f" else WHERE(x != x, 0.0, x)
    y = SUM(x, dims_of("nansum", x, dim, keepdim), keepdim)
    return deliver(cast(y, dtype, out), out)


@method
def nanmean(input, dim=None, keepdim=False, *, dtype=None, out=None):
    """The mean of what is no NaN."""
    x = input if dtype is None else input.to(dtype)
    if x.dtype.kind != "f":
        raise RuntimeError(
            "nanmean(): expected input to have floating point or complex dtype but got "
            f"{x.dtype.name}"
        )
    dims = canonical_dims("nanmean", dim, x.ndim)
    count = SUM((x == x), dims, keepdim).to(x.dtype)
    return deliver(nansum(x, dims, keepdim) / count, out)


# -- norms


def _logsumexp_grad(g, input, y, dims, keepdim):
    if not keepdim:
        for d in dims:
            g, y = g.unsqueeze(d), y.unsqueeze(d)
    return g * EXP(input - y)


@composite(
    grad=_logsumexp_grad,
    samples=(
        Sample(((3, 4), F), dims=(1,), keepdim=False),
        Sample(((3, 4), F), dims=(0,), keepdim=True),
    ),
    errors=(
        ErrorSample(((3,), F), dims=(1,), keepdim=False, error=IndexError, says="dimension 1"),
    ),
)
def _logsumexp(input, dims, keepdim):
    top = Amax(dims, True)(input)
    top = WHERE(ABS(top) == math.inf, 0.0, top)
    out = LOG(SUM(EXP(input - top), dims, True)) + top
    if not keepdim:
        for d in reversed(dims):
            out = out.squeeze(d)
    return out


@method
def logsumexp(input, dim, keepdim=False, *, out=None):
    """log(sum(exp(x))) without overflow."""
    x = input if input.dtype.kind == "f" else input.to(float32)
    dims = canonical_dims("logsumexp", dim, x.ndim)
    if any_empty(x.shape, dims):
        return deliver(SUM(x, dims, keepdim).log(), out)
    return deliver(_logsumexp(x, dims, keepdim), out)


def any_empty(shape, dims) -> bool:
    return builtins.any(shape[d] == 0 for d in dims)


def _norm_grad(g, input, y, p, dims, keepdim):
    if not keepdim:
        for d in dims:
            g, y = g.unsqueeze(d), y.unsqueeze(d)
    if p == 2:
        return WHERE(y == 0, 0.0, input * (g / WHERE(y == 0, 1.0, y)))
    if p == 1:
        return input.sign() * g
    size = ABS(input)
    safe = WHERE(y == 0, 1.0, y)
    return WHERE(size == 0, 0.0, input.sign() * (WHERE(size == 0, 1.0, size) / safe) ** (p - 1)) * g


@composite(
    grad=_norm_grad,
    samples=(
        Sample(((3, 4), F), p=2.0, dims=(1,), keepdim=False),
        Sample(((3, 4), F), p=3.0, dims=(0, 1), keepdim=True),
        Sample(((3, 4), F), p=1.0, dims=(0,), keepdim=False),
    ),
    errors=(
        ErrorSample(
            ((3,), F), p=2.0, dims=(1,), keepdim=False, error=IndexError, says="dimension 1"
        ),
    ),
)
def _p_norm(input, p, dims, keepdim):
    if p == 2:
        return SUM(input * input, dims, keepdim).sqrt()
    if p == 1:
        return SUM(ABS(input), dims, keepdim)
    return SUM(ABS(input) ** p, dims, keepdim) ** (1.0 / p)


def vector_norm(input, ord=2, dim=None, keepdim=False, *, dtype=None, out=None):
    """The p-norm of all elements, or over dimensions."""
    x = input if dtype is None or input.dtype.kind != "f" else input.to(dtype)
    if x.dtype.kind != "f":
        raise RuntimeError(
            "linalg.vector_norm: Expected a floating point or complex tensor as input. Got "
            f"{x.dtype.name}"
        )
    if isinstance(ord, str):
        raise TypeError(
            f"linalg_vector_norm(): argument 'ord' (position 2) must be Number, not str: got {ord!r}"
        )
    if dtype is not None and dtype.itemsize < input.dtype.itemsize:
        raise RuntimeError(
            f"linalg.vector_norm: the dtype of the input ({input.dtype}) should be convertible without "
            f"narrowing to the specified dtype ({dtype})"
        )
    dims = canonical_dims("vector_norm", dim, x.ndim)
    if ord < 0 and any_empty(x.shape, dims):
        raise RuntimeError(
            f"linalg.vector_norm cannot compute the {ord} norm on an empty dimension because the "
            "operation does not have an identity"
        )
    if ord == math.inf or ord == -math.inf:
        size = ABS(x)
        if any_empty(x.shape, dims):
            raise RuntimeError(
                f"linalg.vector_norm cannot compute the {ord} norm on an empty dimension "
                "because the operation does not have an identity"
            )
        return deliver((Amax if ord > 0 else Amin)(dims, keepdim)(size), out)
    if ord == 0:
        return deliver(SUM(x != 0, dims, keepdim).to(x.dtype), out)
    return deliver(_p_norm(x, float(ord), dims, keepdim), out)


def _nuclear(input, dim, keepdim):
    """The sum of the singular values of matrices."""
    dims = canonical_dims("norm", dim, input.ndim)
    if len(dims) != 2:
        raise RuntimeError(f"norm: got {len(dims)} dimensions with p='nuc'; expected two")
    y = Svd(False)(movedim(input, dims, (-2, -1)))[1].sum(-1)
    for d in dims if keepdim else ():
        y = y.unsqueeze(d)
    return y


@method
def norm(input, p="fro", dim=None, keepdim=False, out=None, dtype=None):
    """The norm: "fro" (the 2-norm of all elements), "nuc" (of matrices) or a number."""
    if p == "nuc":
        return deliver(_nuclear(cast(input, dtype), dim, keepdim), out)
    if p is None or p == "fro":
        p = 2
    if isinstance(p, str):
        raise RuntimeError(f"norm: got p={p!r}; expected 'fro', 'nuc' or a number")
    return vector_norm(input, p, dim, keepdim, dtype=dtype, out=out)


@method
def dist(input, other, p=2):
    """The p-norm of the difference."""
    return vector_norm(input - other, p)


@method
def renorm(input, p, dim, maxnorm, *, out=None):
    """Slices along a dimension scaled down to a norm of at most `maxnorm`."""
    if input.ndim < 2:
        raise RuntimeError(
            f"renorm: input needs at least 2 dimensions, got {input.ndim} dimensions"
        )
    d = canonical_dim("renorm", dim, input.ndim)
    dims = tuple(i for i in range(input.ndim) if i != d)
    size = vector_norm(input, p, dims, True)
    return deliver(input * WHERE(size > maxnorm, maxnorm / (size + 1e-7), 1.0), out)


def normalize(input, p=2.0, dim=1, eps=1e-12, out=None):
    """Divided by the p-norm over a dimension."""
    size = vector_norm(input, p, dim, True).clamp_min(eps)
    return deliver(input / size, out)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """The cosine of the angle between vectors along a dimension."""
    dims = (canonical_dim("cosine_similarity", dim, builtins.max(x1.ndim, x2.ndim)),)
    dot = SUM(x1 * x2, dims, False)
    n1 = vector_norm(x1.expand(_common(x1, x2)), 2, dims, False).clamp_min(eps)
    n2 = vector_norm(x2.expand(_common(x1, x2)), 2, dims, False).clamp_min(eps)
    return dot / (n1 * n2)


def _common(a, b):
    return broadcast_shapes("cosine_similarity", a.shape, b.shape)


@method
def cov(input, *, correction=1, fweights=None, aweights=None):
    """The covariance matrix of variables in rows."""
    if input.ndim > 2:
        raise RuntimeError(
            "cov(): expected input to have two or fewer dimensions but got an input with "
            f"{input.ndim} dimensions"
        )
    x = input if input.ndim == 2 else input.reshape(1, -1)
    w = fweights if aweights is None else aweights if fweights is None else fweights * aweights
    if w is None:
        n = x.shape[1]
        centred = x - x.mean(1, keepdim=True)
        c = centred @ centred.t() / builtins.max(n - correction, 0)
    else:
        total = w.sum().to(x.dtype)
        centred = x - (x * w).sum(1, keepdim=True) / total
        left = (
            total - correction
            if aweights is None
            else total - correction * (w * aweights).sum() / total
        )
        c = (centred * w) @ centred.t() / left
    return c.squeeze() if input.ndim < 2 else c


@method
def corrcoef(input):
    """The matrix of correlation coefficients of variables in rows."""
    c = cov(input)
    if c.ndim == 0:
        return c / c
    s = c.diagonal().sqrt()
    return (c / s.unsqueeze(1) / s.unsqueeze(0)).clamp(-1, 1)
