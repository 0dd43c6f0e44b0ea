"""The functions of TensorFlow that `functional.py` is written in."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

abs, exp, minimum, sqrt, rsqrt = tf.abs, tf.exp, tf.minimum, tf.sqrt, tf.math.rsqrt
matmul, reshape, tanh, transpose, zeros = tf.matmul, tf.reshape, tf.tanh, tf.transpose, tf.zeros
cast = tf.cast
max, mean, sum = tf.reduce_max, tf.reduce_mean, tf.reduce_sum
relu, relu6, sigmoid, gelu, take = tf.nn.relu, tf.nn.relu6, tf.sigmoid, tf.nn.gelu, tf.gather


def moments(x: Any, axes: tuple[int, ...]) -> tuple[Any, Any]:
    return tf.nn.moments(x, axes, keepdims=True)


def conv(x: Any, kernel: Any, stride: int, padding: int, groups: int) -> Any:
    pads = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    strides = (1, stride, stride, 1)
    if groups == 1:
        return tf.nn.conv2d(x, kernel, strides, pads)
    by_channel = tf.reshape(kernel, (*kernel.shape[:2], groups, 1))
    return tf.nn.depthwise_conv2d(x, by_channel, strides, pads)


def batch_norm(x: Any, scale: Any, shift: Any, eps: float) -> tuple[Any, Any, Any]:
    """Normalised by its own statistics; the mean, and the variance of the population."""
    return tf.compat.v1.nn.fused_batch_norm(x, scale, shift, epsilon=eps, is_training=True)


def max_pool(x: Any, kernel: int, stride: int, padding: int) -> Any:
    pads = [[0, 0], [padding, padding], [padding, padding], [0, 0]]
    padded = tf.pad(x, pads, constant_values=x.dtype.min)  # XLA has no pooling with padding
    return tf.nn.max_pool2d(padded, kernel, stride, "VALID")


def split(x: Any, parts: int) -> list[Any]:
    return tf.split(x, parts, -1)


def attention(q: Any, k: Any, v: Any, is_causal: bool) -> Any:
    q, k, v = (tf.transpose(t, (0, 2, 1, 3)) for t in (q, k, v))
    scores = tf.matmul(q, k, transpose_b=True) * (q.shape[-1] ** -0.5)
    if is_causal:
        T = q.shape[2]
        scores = tf.where(tf.linalg.band_part(tf.ones((T, T), tf.bool), -1, 0), scores, -1e30)
    return tf.transpose(tf.matmul(tf.nn.softmax(scores), v), (0, 2, 1, 3))


def scan(f: Any, state: Any, xs: Any) -> Any:
    """The first state after each step of `f`, written out step by step."""
    out = []
    for x in tf.unstack(xs):
        state = f(state, x)
        out.append(state[0])
    return tf.stack(out)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
