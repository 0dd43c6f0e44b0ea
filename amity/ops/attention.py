"""Attention: each query's mean of the values, weighted by how well the keys match it."""

from __future__ import annotations

import math

import numpy as np

from amity.core.dtype import bool_
from amity.core.errors import ShapeError, fail

from .activation import softmax
from .dropout import dropout
from .matmul import matmul
from .position import Position
from .rearrange import repeat_interleave
from .record import ErrorSample, Sample, composite
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
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = matmul(query, key.transpose(-2, -1))
    if is_causal:
        weights = causal_softmax(scores, scale)
    elif attn_mask is None:
        weights = softmax(scores * scale, -1)
    elif attn_mask.dtype is bool_:
        weights = shown_softmax(scores, attn_mask, scale)
    else:
        weights = masked_softmax(scores, attn_mask, scale)
    if dropout_p > 0.0:
        weights = dropout(weights, dropout_p)
    return matmul(weights, value)


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
