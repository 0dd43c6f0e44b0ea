"""The functions of JAX that `functional.py` is written in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

abs, exp, max, minimum, sqrt, sum = jnp.abs, jnp.exp, jnp.max, jnp.minimum, jnp.sqrt, jnp.sum
matmul, reshape, tanh, transpose, zeros = (
    jnp.matmul, jnp.reshape, jnp.tanh, jnp.transpose, jnp.zeros,
)  # fmt: skip
relu, relu6, sigmoid = jax.nn.relu, jax.nn.relu6, jax.nn.sigmoid
rsqrt = lax.rsqrt


def cast(x: Any, dtype: str) -> Any:
    return x.astype(dtype)


def mean(x: Any, axes: tuple[int, ...] | None, keepdims: bool = False) -> Any:
    return jnp.mean(x, axes, keepdims=keepdims)


def moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    return jnp.mean(x, axes, keepdims=True), jnp.var(x, axes, keepdims=True)


def conv(x: Any, kernel: Any, stride: int, padding: int, groups: int) -> Any:
    if groups > 1:
        return depthwise(x, kernel, stride, padding)
    return lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def depthwise(x: Any, kernel: Any, stride: int, padding: int) -> Any:
    """By shifted products, which fuse: a grouped convolution's gradient takes XLA many seconds."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    high, wide = kernel.shape[:2]
    H, W = (x.shape[1] - high) // stride + 1, (x.shape[2] - wide) // stride + 1
    out = 0.0
    for i in range(high):
        for j in range(wide):
            rows = slice(i, i + stride * (H - 1) + 1, stride)
            columns = slice(j, j + stride * (W - 1) + 1, stride)
            out = out + x[:, rows, columns] * kernel[i, j, 0]
    return out


def batch_norm(x: Any, scale: Any, shift: Any, eps: float) -> tuple[Any, Any, Any]:
    """Normalised by its own statistics; the mean, and the variance of the population."""
    mean, var = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    count = x.size // x.shape[-1]
    y = (x - mean) * (rsqrt(var + eps) * scale) + shift
    return y, mean, var * (count / (count - 1))


def max_pool(x: Any, kernel: int, stride: int, padding: int) -> Any:
    pads = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    window, strides = (1, kernel, kernel, 1), (1, stride, stride, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, pads)


def split(x: Any, parts: int) -> list[Any]:
    return jnp.split(x, parts, -1)


def take(table: Any, index: Any) -> Any:
    return jnp.take(table, index, axis=0, mode="clip")


def gelu(x: Any) -> Any:
    return jax.nn.gelu(x, approximate=False)


def attention(q: Any, k: Any, v: Any, is_causal: bool) -> Any:
    return jax.nn.dot_product_attention(q, k, v, is_causal=is_causal)


def scan(f: Any, state: Any, xs: Any) -> Any:
    """The first state after each step of `f`."""

    def step(state: Any, x: Any) -> tuple[Any, Any]:
        state = f(state, x)
        return state, state[0]

    return lax.scan(step, state, xs)[1]


def cross_entropy(logits: Any, labels: Any) -> Any:
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)
    return -jnp.mean(chosen)
