"""Attention: each query's mean of the values, weighted by how well the keys match it."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import bool_
from amity.core.errors import ShapeError, fail
from amity.core.shape import broadcast_shapes
from amity.ir.graph import Spec

from .activation import softmax
from .dropout import dropout
from .matmul import matmul
from .movement import expand
from .position import Position
from .rearrange import repeat_interleave
from .record import ErrorSample, Op, Sample, composite, opmath, unlike
from .select import where

F = "f"
HIDDEN = np.array([[-math.inf, -math.inf], [0.5, -math.inf]], np.float32)
_NAME = "scaled_dot_product_attention"


def _check(query, key, value, attn_mask, is_causal: bool) -> None:
    if attn_mask is not None and is_causal:
        raise RuntimeError(f"{_NAME}: Explicit attn_mask should not be set when is_causal=True")
    if min(query.ndim, key.ndim, value.ndim) < 2:
        got = f"{query.ndim}, {key.ndim} and {value.ndim} dimensions"
        raise fail(ShapeError, _NAME, got, "query, key and value of at least 2 dimensions")
    if query.shape[-1] != key.shape[-1] or key.shape[-2] != value.shape[-2]:
        shapes = " and ".join(str(tuple(t.shape)) for t in (query, key, value))
        expected = "query and key of one width, key and value of one length"
        raise fail(ShapeError, _NAME, shapes, expected)
    if query.dtype is not key.dtype or query.dtype is not value.dtype:
        raise RuntimeError(
            "Expected query, key, and value to have the same dtype, but got query.dtype: "
            f"{query.dtype} key.dtype: {key.dtype} and value.dtype: {value.dtype} instead."
        )
    if attn_mask is not None and attn_mask.dtype not in (bool_, query.dtype):
        raise RuntimeError(
            f"Expected attn_mask dtype to be bool or to match query dtype, but got "
            f"attn_mask.dtype: {attn_mask.dtype} and  query.dtype: {query.dtype} instead."
        )


def _share_heads(query, key, value):
    """Keys and values repeated for groups of query heads."""
    heads = query.shape[-3]
    if query.ndim < 3 or heads % key.shape[-3] or heads % value.shape[-3]:
        got = f"{heads} query heads, {key.shape[-3]} key heads and {value.shape[-3]} value heads"
        raise fail(ShapeError, _NAME, got, "a multiple of the key and of the value heads")
    key = repeat_interleave(key, heads // key.shape[-3], -3)
    return key, repeat_interleave(value, heads // value.shape[-3], -3)


def scaled_dot_product_attention(
    query,
    key,
    value,
    attn_mask=None,
    dropout_p=0.0,
    is_causal=False,
    scale=None,
    enable_gqa=False,
):
    """softmax(query @ key^T * scale + mask) @ value, with `scale` 1 / sqrt(width) by default.

    A boolean mask is True where a key is seen; a query that sees no key gives zeros.

    shape:  query [*, L, E], key [*, S, E], value [*, S, Ev] -> [*, L, Ev]; with `enable_gqa` the
            third dimension from the right, the heads, may be a multiple of the others'
    errors: RuntimeError for sizes or dtypes that do not fit, and for a mask beside `is_causal`
    source: Vaswani et al. 2017, arXiv:1706.03762; Ainslie et al. 2023, arXiv:2305.13245 for groups
    """
    _check(query, key, value, attn_mask, is_causal)
    if enable_gqa:
        key, value = _share_heads(query, key, value)
    scale = 1.0 / math.sqrt(query.shape[-1] or 1) if scale is None else scale
    if dropout_p == 0.0 and not (attn_mask is not None and attn_mask.requires_grad):
        return _whole(query, key, value, attn_mask, is_causal, float(scale))
    mask = () if attn_mask is None else (attn_mask,)
    weights = _of_scores(matmul(query, key.transpose(-2, -1)), is_causal, scale, *mask)
    return matmul(dropout(weights, dropout_p) if dropout_p > 0.0 else weights, value)


def _whole(query, key, value, mask, is_causal: bool, scale: float):
    """Attention in one kernel: all that leads is given to each argument."""
    tensors = (query, key, value) if mask is None else (query, key, value, mask)
    lead = broadcast_shapes(_NAME, *(t.shape[:-2] for t in tensors))
    lasts = [tuple(t.shape[-2:]) for t in (query, key, value)]
    lasts.append((query.shape[-2], key.shape[-2]))
    shapes = [(*lead, *last) for last in lasts]
    wide = [t if tuple(t.shape) == s else expand(t, s) for t, s in zip(tensors, shapes)]
    return Attention(bool(is_causal), scale)(*wide)[0]


def _weights(scores: np.ndarray, is_causal: bool, mask: tuple) -> tuple:
    """NumPy's weights of scaled scores, and the logarithms of their sums."""
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:]) > 0, scores, -np.inf)
    if mask:
        given = mask[0]
        is_bool = given.dtype == bool
        scores = (
            np.where(given, scores, -np.inf) if is_bool else scores + given.astype(scores.dtype)
        )
    peak = scores.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(scores - np.where(peak == -np.inf, 0, peak))
    total = weights.sum(-1, keepdims=True)
    seen = np.where(total == 0, 1, total)
    lse = np.where(total == 0, 0, np.where(peak == -np.inf, 0, peak) + np.log(seen))
    return weights / seen, lse[..., 0]


def _widened(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.astype(np.float64 if a.dtype == np.float64 else np.float32) for a in arrays]


def _wholes(size: int, is_mapped, inputs) -> list:
    """All inputs with a new first dimension."""
    pairs = zip(inputs, is_mapped, strict=True)
    return [t if m else expand(t, (size, *t.shape)) for t, m in pairs]


class Attention(Op):
    """`softmax(q @ k^T * scale + mask) @ v`, and the logarithms of the softmax's sums: a by-product.

    shape: q [*, L, E], k [*, S, E], v [*, S, Ev], mask [*, L, S] -> [*, L, Ev], [*, L]
    """

    name = "attention"
    kind = "kernel"
    planner = "attention"
    results = 2
    byproducts = (1,)
    carries = "own"
    is_causal: bool
    scale: float
    samples = (
        Sample(((2, 3, 4), F), ((2, 5, 4), F), ((2, 5, 3), F), is_causal=False, scale=0.5),
        Sample(((6, 4), F), ((6, 4), F), ((6, 4), F), is_causal=True, scale=0.7),
        Sample(((3, 4), F), ((5, 4), F), ((5, 2), F), ((3, 5), "b"), is_causal=False, scale=0.5),
    )
    errors = (
        ErrorSample(*[((2, 2), "i")] * 3, is_causal=False, scale=1.0, error=NotImplementedError,
                    says="'Long'"),
    )  # fmt: skip

    def infer(self, q: Spec, k: Spec, v: Spec, *mask: Spec):
        if q.dtype.kind != "f":
            raise unlike(_NAME, q.dtype, "f")
        return Spec((*q.shape[:-1], v.shape[-1]), q.dtype), Spec(q.shape[:-1], opmath(q.dtype))

    def orders(self, q, *others):
        return q, None

    def reference(self, q, k, v, *mask):
        dtype = q.dtype
        q, k, v = _widened(q, k, v)
        weights, lse = _weights(q @ np.swapaxes(k, -1, -2) * self.scale, self.is_causal, mask)
        return (weights @ v).astype(dtype), lse.astype(q.dtype)

    def batch(self, size, is_mapped, *inputs):
        return self(*_wholes(size, is_mapped, inputs))

    def grad(self, gs, q, k, v, result0, result1, *mask):
        back = AttentionGrad(self.is_causal, self.scale)
        return (*back(q, k, v, result0, result1, gs[0], *mask), *[None] * len(mask))


def _of_sample(q, k, v, g, *mask) -> tuple:
    """A call's gradients as other ops see them: behind its results."""
    return q, k, v, *Attention(False, 0.5)(q, k, v, *mask), g, *mask


class AttentionGrad(Op):
    """The gradients of queries, keys and values, from the results and the result's gradient."""

    name = "attention_grad"
    kind = "kernel"
    planner = "attention"
    results = 3
    carries = "own"
    is_causal: bool
    scale: float
    samples = (
        Sample(((2, 3, 4), F), ((2, 5, 4), F), ((2, 5, 3), F), ((2, 3, 3), F), is_causal=False,
               scale=0.5, through=_of_sample),
    )  # fmt: skip
    errors = (
        ErrorSample(*[((2, 2), "i")] * 6, is_causal=False, scale=1.0, error=NotImplementedError,
                    says="'Long'"),
    )  # fmt: skip

    def infer(self, q: Spec, k: Spec, v: Spec, o: Spec, lse: Spec, g: Spec, *mask: Spec):
        if q.dtype.kind != "f":
            raise unlike(_NAME, q.dtype, "f")
        return tuple(Spec(x.shape, x.dtype) for x in (q, k, v))

    def orders(self, q, k, v, *others):
        return q, k, v

    def reference(self, q, k, v, o, lse, g, *mask):
        dtype = q.dtype
        q, k, v, o, g = _widened(q, k, v, o, g)
        weights, _ = _weights(q @ np.swapaxes(k, -1, -2) * self.scale, self.is_causal, mask)
        turned = np.swapaxes
        slopes = g @ turned(v, -1, -2) - (g * o).sum(-1, keepdims=True)
        slopes = slopes * weights * self.scale
        grads = slopes @ k, turned(slopes, -1, -2) @ q, turned(weights, -1, -2) @ g
        return tuple(x.astype(dtype) for x in grads)

    def batch(self, size, is_mapped, *inputs):
        return self(*_wholes(size, is_mapped, inputs))

    def grad(self, gs, q, k, v, g, *mask):
        """With all weights in memory: gradients of gradients are rare. What the results bring
        themselves is in those of queries, keys and values."""
        weights = _of_scores(matmul(q, k.transpose(-2, -1)), self.is_causal, self.scale, *mask)
        gq, gk, gv = (x.new_zeros(x.shape) if y is None else y for x, y in zip((q, k, v), gs))
        across = matmul(g, v.transpose(-2, -1))
        apart = across - (weights * across).sum(-1, True)
        slopes = weights * apart * self.scale
        asked = matmul(gq, k.transpose(-2, -1)) + matmul(q, gk.transpose(-2, -1))
        asked = asked * self.scale
        mean = (weights * asked).sum(-1, True)
        further = weights * (asked - mean)
        changed = matmul(g, gv.transpose(-2, -1)) + asked * apart - across * mean
        changed = weights * (changed - (weights * changed).sum(-1, True)) * self.scale
        dq = matmul(changed, k) + matmul(slopes, gk)
        dk = matmul(changed.transpose(-2, -1), q) + matmul(slopes.transpose(-2, -1), gq)
        dv = matmul(further.transpose(-2, -1), g)
        dg = matmul(further, v) + matmul(weights, gv)
        return dq, dk, dv, None, None, dg, *[None] * len(mask)


def _of_scores(scores, is_causal: bool, scale: float, *mask):
    """The weights that scores mean."""
    if is_causal:
        return causal_softmax(scores, scale)
    if not mask:
        return softmax(scores * scale, -1)
    return (shown_softmax if mask[0].dtype is bool_ else masked_softmax)(scores, *mask, scale)


@composite(
    samples=(Sample(((2, 3, 4), F), scale=0.5), Sample(((0, 2, 2), F), scale=1.0)),
    errors=(ErrorSample(((3,), F), scale=0.5, error=IndexError, says="dimension"),),
)
def causal_softmax(scores, scale):
    """Softmax of scaled scores, each row up to its own position."""
    rows, columns = Position(scores.ndim - 2)(scores), Position(scores.ndim - 1)(scores)
    return softmax(where(columns > rows, -math.inf, scores * scale), -1)


@composite(
    samples=(
        Sample(((2, 3, 4), F), ((3, 4), "b"), scale=0.5),
        Sample(((2, 2), F), np.array([[False, False], [True, False]]), scale=0.5),
    ),
    errors=(
        ErrorSample(((2, 3), F), ((2, 2), "b"), scale=0.5, error=RuntimeError, says="broadcast"),
    ),
)
def shown_softmax(scores, shown, scale):
    """Softmax of scaled scores where `shown` is True; rows without any are zero."""
    some = shown.any(-1, keepdim=True)
    weights = softmax(where(shown | ~some, scores * scale, -math.inf), -1)
    return where(some, weights, 0.0)


@composite(
    samples=(
        Sample(((2, 3, 4), F), ((3, 4), F), scale=0.5),
        Sample(((2, 2), F), HIDDEN, scale=0.5),
    ),
    errors=(
        ErrorSample(((2, 3), F), ((2, 2), F), scale=0.5, error=RuntimeError, says="broadcast"),
    ),
)
def masked_softmax(scores, mask, scale):
    """Softmax of scaled scores plus a mask; rows whose mask is -inf throughout are zero."""
    some = mask.amax(-1, keepdim=True) > -math.inf
    weights = softmax(where(some, scores * scale + mask, 0.0), -1)
    return where(some, weights, 0.0)
