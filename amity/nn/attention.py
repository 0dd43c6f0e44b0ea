"""Attention with several heads.

Letters: L target length, S source length, N batch, E embedding size, H heads.
"""

from __future__ import annotations

import math
from typing import Any

from amity import ops
from amity.core.dtype import bool_
from amity.core.errors import fail
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.nn import init
from amity.nn.linear import NonDynamicallyQuantizableLinear
from amity.nn.module import Module
from amity.nn.parameter import Parameter

_NAME = "multi_head_attention_forward"


def _additive(mask: Tensor | None, name: str, dtype: Any) -> Tensor | None:
    """A boolean mask (True = do not look) as numbers to add to the scores."""
    if mask is None or mask.is_floating_point():
        return mask
    if mask.dtype is not bool_:
        raise RuntimeError(f"only bool and floating types of {name} are supported")
    return create.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -math.inf)


def _check_shapes(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    padding: Tensor | None,
    mask: Tensor | None,
    heads: int,
) -> bool:
    """Check dimensions; gives whether there is a batch."""
    ndim = query.dim()
    if ndim not in (2, 3):
        raise fail(RuntimeError, _NAME, f"a query of {ndim} dimensions", "2 or 3 dimensions")
    if key.dim() != ndim or value.dim() != ndim:
        got = f"query, key and value of {ndim}, {key.dim()} and {value.dim()} dimensions"
        raise fail(RuntimeError, _NAME, got, "the same for all")
    if padding is not None and padding.dim() != ndim - 1:
        got = f"key_padding_mask of {padding.dim()} dimensions"
        raise fail(RuntimeError, _NAME, got, f"{ndim - 1}")
    if mask is not None and mask.dim() not in (2, 3):
        raise fail(RuntimeError, _NAME, f"attn_mask of {mask.dim()} dimensions", "2 or 3")
    if mask is not None and mask.dim() == 3 and ndim == 2:
        shape = (heads, query.shape[0], key.shape[0])
        if tuple(mask.shape) != shape:
            raise fail(RuntimeError, _NAME, f"attn_mask of shape {tuple(mask.shape)}", f"{shape}")
    return ndim == 3


def _is_causal(hint: bool, mask: Tensor | None) -> bool:
    if hint and mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
    return hint


def _project(
    query: Tensor, key: Tensor, value: Tensor, weights: tuple | Tensor, bias: Tensor | None
) -> tuple[Tensor, ...]:
    """The three input projections; one product where they share input and weight."""
    if isinstance(weights, tuple):
        biases = (None,) * 3 if bias is None else bias.chunk(3)
        inputs = (query, key, value)
        return tuple(ops.linear(x, w, b) for x, w, b in zip(inputs, weights, biases, strict=True))
    if query is key and key is value:
        return tuple(ops.linear(query, weights, bias).chunk(3, -1))
    size = query.shape[-1]
    w_q, w_kv = weights.split([size, 2 * size])
    b_q, b_kv = (None, None) if bias is None else bias.split([size, 2 * size])
    q = ops.linear(query, w_q, b_q)
    if key is value:
        return q, *ops.linear(key, w_kv, b_kv).chunk(2, -1)
    (w_k, w_v), (b_k, b_v) = w_kv.chunk(2), (None, None) if b_kv is None else b_kv.chunk(2)
    return q, ops.linear(key, w_k, b_k), ops.linear(value, w_v, b_v)


def _heads(x: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """[length, N, E] -> [N, H, length, E / H], with the bias as one more place."""
    if bias is not None:
        x = ops.cat([x, bias.expand(1, *x.shape[1:])])
    return x.reshape(*x.shape[:2], heads, -1).permute(1, 2, 0, 3)


def _widen(mask: Tensor | None, columns: int) -> Tensor | None:
    """`mask` with further columns that hide nothing."""
    return ops.pad(mask, (0, columns)) if mask is not None and columns else mask


def _joint_mask(
    mask: Tensor | None, padding: Tensor | None, q: Tensor, k: Tensor, extra: int
) -> Tensor | None:
    """Both masks as one that broadcasts over the scores; the last `extra` keys are never hidden."""
    batch, heads, length, _ = q.shape
    _check_masks(mask, padding, (batch, heads, length, k.shape[2] - extra))
    mask = _widen(_additive(mask, "attn_mask", q.dtype), extra)
    padding = _widen(_additive(padding, "key_padding_mask", q.dtype), extra)
    if mask is not None and mask.dim() == 3:
        mask = mask.reshape(batch, heads, *mask.shape[1:])
    elif mask is not None:
        mask = mask.unsqueeze(0).unsqueeze(0)
    if padding is None:
        return mask
    padding = padding.reshape(batch, 1, 1, padding.shape[-1])
    return padding if mask is None else mask + padding


def _attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout_p: float
) -> tuple[Tensor, Tensor]:
    """What all heads see, and how much of it."""
    scores = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1)
    weights = ops.softmax(scores if mask is None else scores + mask, -1)
    weights = ops.dropout(weights, dropout_p) if dropout_p else weights
    return weights @ v, weights


def _add_batch(*tensors: Tensor) -> list[Tensor]:
    """Each tensor with a batch of one; those that are the same stay so."""
    made = {id(t): t.unsqueeze(1) for t in tensors}
    return [made[id(t)] for t in tensors]


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Project, attend with each head, join the heads and project.

    shape:  query[L, N, E], key[S, N, Ek], value[S, N, Ev] -> out[L, N, E], weights[N, L, S]; all
            may come without N
    source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2
    """
    is_batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    is_causal = _is_causal(is_causal, attn_mask) and key_padding_mask is None and not need_weights
    if not is_batched:
        query, key, value = _add_batch(query, key, value)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    length, batch, size = query.shape
    _check_sizes(size, embed_dim_to_check, key, value)
    separate = (q_proj_weight, k_proj_weight, v_proj_weight)
    weights: Any = separate if use_separate_proj_weight else in_proj_weight
    q, k, v = _project(query, key, value, weights, in_proj_bias)
    q, k, v = _heads(q, num_heads), _heads(k, num_heads, bias_k), _heads(v, num_heads, bias_v)
    k = k if static_k is None else static_k.reshape(batch, num_heads, *static_k.shape[1:])
    v = v if static_v is None else static_v.reshape(batch, num_heads, *static_v.shape[1:])
    extra = int(add_zero_attn) + int(bias_k is not None)
    if add_zero_attn:
        k, v = ops.pad(k, (0, 0, 0, 1)), ops.pad(v, (0, 0, 0, 1))
    mask = None if is_causal else _joint_mask(attn_mask, key_padding_mask, q, k, extra)
    dropout_p, scores = dropout_p if training else 0.0, None
    if need_weights:
        out, scores = _attend(q, k, v, mask, dropout_p)
        scores = scores.mean(1) if average_attn_weights else scores
        scores = scores if is_batched else scores.squeeze(0)
    else:
        out = ops.scaled_dot_product_attention(q, k, v, mask, dropout_p, is_causal)
    out = out.permute(2, 0, 1, 3).reshape(length, batch, size)
    out = ops.linear(out, out_proj_weight, out_proj_bias)
    return out if is_batched else out.squeeze(1), scores


def _check_sizes(size: int, expected: int, key: Tensor, value: Tensor) -> None:
    if size != expected:
        raise fail(RuntimeError, _NAME, f"embedding size {size}", f"{expected}")
    if key.shape[:2] != value.shape[:2]:
        got = f"key {tuple(key.shape)} and value {tuple(value.shape)}"
        raise fail(RuntimeError, _NAME, got, "the same length and batch")


def _check_masks(mask: Tensor | None, padding: Tensor | None, shape: tuple[int, ...]) -> None:
    batch, heads, length, source = shape
    if mask is not None:
        want = (length, source) if mask.dim() == 2 else (batch * heads, length, source)
        if tuple(mask.shape) != want:
            raise fail(RuntimeError, _NAME, f"attn_mask of shape {tuple(mask.shape)}", f"{want}")
    if padding is not None and tuple(padding.shape) != (batch, source):
        got = f"key_padding_mask of shape {tuple(padding.shape)}"
        raise fail(RuntimeError, _NAME, got, f"{(batch, source)}")


class MultiheadAttention(Module):
    """Attention in several subspaces at once.

    shape:  query[L, N, E], key[S, N, kdim], value[S, N, vdim] -> out[L, N, E], weights[N, L, S];
            with `batch_first` N comes first, and all may come without N
    source: Vaswani et al. 2017, arXiv:1706.03762, section 3.2.2
    """

    __constants__ = ["batch_first"]

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ValueError(
                "embed_dim and num_heads must be greater than 0, "
                f"got embed_dim={embed_dim} and num_heads={num_heads} instead"
            )
        if embed_dim % num_heads:
            raise ValueError("embed_dim must be divisible by num_heads")
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim = embed_dim if kdim is None else kdim
        self.vdim = embed_dim if vdim is None else vdim
        self._qkv_same_embed_dim = self.kdim == self.vdim == embed_dim
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        options = {"device": device, "dtype": dtype}
        is_joint, n = self._qkv_same_embed_dim, embed_dim
        self._add("q_proj_weight", not is_joint, (n, n), options)
        self._add("k_proj_weight", not is_joint, (n, self.kdim), options)
        self._add("v_proj_weight", not is_joint, (n, self.vdim), options)
        self._add("in_proj_weight", is_joint, (3 * n, n), options)
        self._add("in_proj_bias", bias, (3 * n,), options)
        self.out_proj = NonDynamicallyQuantizableLinear(n, n, bias=bias, **options)
        self._add("bias_k", add_bias_kv, (1, 1, n), options)
        self._add("bias_v", add_bias_kv, (1, 1, n), options)
        self._reset_parameters()

    def _add(self, name: str, wanted: bool, shape: tuple[int, ...], options: dict) -> None:
        value = Parameter(create.empty(shape, **options)) if wanted else None
        self.register_parameter(name, value)

    def _reset_parameters(self) -> None:
        """Draw the projections by Xavier's rule, with biases 0."""
        for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
            if getattr(self, name) is not None:
                init.xavier_uniform_(getattr(self, name))
        if self.in_proj_bias is not None:
            init.zeros_(self.in_proj_bias)
            init.zeros_(self.out_proj.bias)
        for bias in (self.bias_k, self.bias_v):
            if bias is not None:
                init.xavier_normal_(bias)

    def __setstate__(self, state: dict) -> None:
        super().__setstate__({"_qkv_same_embed_dim": True, **state})

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        swaps = self.batch_first and query.dim() == 3
        if swaps:
            # tensors that are the same stay so, for one joint projection
            same_qk, same_kv = query is key, key is value
            query = query.transpose(0, 1)
            key = query if same_qk else key.transpose(0, 1)
            value = key if same_kv else value.transpose(0, 1)
        out, weights = multi_head_attention_forward(
            query, key, value, self.embed_dim, self.num_heads, self.in_proj_weight,
            self.in_proj_bias, self.bias_k, self.bias_v, self.add_zero_attn, self.dropout,
            self.out_proj.weight, self.out_proj.bias,
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            use_separate_proj_weight=not self._qkv_same_embed_dim,
            q_proj_weight=self.q_proj_weight,
            k_proj_weight=self.k_proj_weight,
            v_proj_weight=self.v_proj_weight,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )  # fmt: skip
        return (out.transpose(0, 1) if swaps else out), weights

    def merge_masks(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor
    ) -> tuple[Tensor | None, int | None]:
        """Both masks as one of [N, H, L, S], and its kind: 1 for padding alone, else 2.

        shape: query[N, L, E]
        """
        kind = None if key_padding_mask is None else 1
        merged = key_padding_mask
        if attn_mask is not None:
            batch, length = query.shape[0], query.shape[1]
            kind = 2
            if attn_mask.dim() == 3:
                merged = attn_mask.view(batch, -1, length, length)
            else:
                merged = attn_mask.view(1, 1, length, length).expand(batch, self.num_heads, -1, -1)
            if key_padding_mask is not None:
                padding = key_padding_mask.view(batch, 1, 1, length)
                merged = merged + padding.expand(-1, self.num_heads, -1, -1)
        return merged, kind
