"""The networks of `models.py` as functions of arrays, written once for JAX and TensorFlow.

Images are NHWC and kernels HWIO here, what both are fastest with; weights of linear layers are (in,
out). `ops` is the module that has the library's own functions (`ops_jax.py`, `ops_tensorflow.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .models import SEPARABLE, STAGES
from .workloads import MOMENTUM, Workload

Arrays = dict[str, Any]
EPS = 1e-5


class Net:
    """Layers of one library over named weights; new statistics of BatchNorm are left in `stats`."""

    def __init__(self, ops: Any, weights: Arrays, stats: Arrays, work: Workload) -> None:
        self.ops, self.weights, self.stats = ops, weights, stats
        self.is_training, self.is_mixed = work.is_training, work.is_mixed

    def narrow(self, x: Any) -> Any:
        """Operands of products, in 16 bits where the workload has them so."""
        return self.ops.cast(x, "bfloat16") if self.is_mixed else x

    def wide(self, x: Any) -> Any:
        return self.ops.cast(x, "float32") if self.is_mixed else x

    def linear(self, name: str, x: Any) -> Any:
        y = self.ops.matmul(self.narrow(x), self.narrow(self.weights[f"{name}.weight"]))
        return self.wide(y) + self.weights[f"{name}.bias"]

    def layer_norm(self, name: str, x: Any) -> Any:
        mean, var = self.ops.moments(x, (-1,))
        scale, shift = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        return (x - mean) * self.ops.rsqrt(var + EPS) * scale + shift

    def convolved(self, name: str, at: int, x: Any, stride: int = 1, groups: int = 1) -> Any:
        """A convolution and the BatchNorm after it, which have the numbers `at` and `at` + 1."""
        kernel = self.weights[f"{name}{at}.weight"]
        x = self.ops.conv(x, kernel, stride, kernel.shape[0] // 2, groups)
        norm = f"{name}{at + 1}."
        scale, shift = self.weights[f"{norm}weight"], self.weights[f"{norm}bias"]
        mean, var = self.stats[f"{norm}running_mean"], self.stats[f"{norm}running_var"]
        if not self.is_training:
            scale = scale * self.ops.rsqrt(var + EPS)
            return x * scale + (shift - mean * scale)
        x, new_mean, new_var = self.ops.batch_norm(x, scale, shift, EPS)
        self.stats[f"{norm}running_mean"] = 0.9 * mean + 0.1 * new_mean
        self.stats[f"{norm}running_var"] = 0.9 * var + 0.1 * new_var
        return x


def mlp(net: Net, x: Any, sizes: tuple[int, ...]) -> Any:
    last = len(sizes) - 2
    for i in range(last + 1):
        x = net.linear(str(2 * i), x)
        x = net.ops.relu(x) if i < last else x
    return x


def resnet(net: Net, x: Any, depth: int, is_small: bool) -> Any:
    relu, wide, width = net.ops.relu, 4 if depth == 50 else 1, 64
    x = relu(net.convolved("stem.", 0, x, 1 if is_small else 2))
    if not is_small:
        x = net.ops.max_pool(x, 3, 2, 1)
    number = 0
    for stage, count in enumerate(STAGES[depth]):
        for n in range(count):
            name, o, stride = f"blocks.{number}.", 64 << stage, 2 if stage and not n else 1
            body, side = f"{name}body.", x
            y = relu(net.convolved(body, 0, x, stride if wide == 1 else 1))
            y = net.convolved(body, 3, y, 1 if wide == 1 else stride)
            if wide > 1:
                y = net.convolved(body, 6, relu(y))
            if stride != 1 or width != o * wide:
                side = net.convolved(f"{name}side.", 0, x, stride)
            x, width, number = relu(y + side), o * wide, number + 1
    return net.linear("tail.2", net.ops.mean(x, (1, 2)))


def mobilenet(net: Net, x: Any) -> Any:
    x, at, i = net.ops.relu6(net.convolved("", 0, x, 2)), 3, 32
    for o, stride in SEPARABLE:
        x = net.ops.relu6(net.convolved("", at, x, stride, groups=i))
        x = net.ops.relu6(net.convolved("", at + 3, x))
        at, i = at + 6, o
    return net.linear(str(at + 2), net.ops.mean(x, (1, 2)))


def transformer(
    net: Net, x: Any, layers: int, width: int, heads: int, T: int, is_causal: bool, **_: int
) -> Any:
    ops, B = net.ops, x.shape[0]
    x = ops.take(net.weights["words.weight"], x) + net.weights["places.weight"][:T]
    for i in range(layers):
        name = f"blocks.{i}."
        parts = ops.split(net.linear(f"{name}qkv", net.layer_norm(f"{name}norm1", x)), 3)
        q, k, v = (ops.reshape(net.narrow(t), (B, T, heads, width // heads)) for t in parts)
        y = ops.reshape(ops.attention(q, k, v, is_causal), (B, T, width))
        x = x + net.linear(f"{name}out", y)
        y = ops.gelu(net.linear(f"{name}up", net.layer_norm(f"{name}norm2", x)))
        x = x + net.linear(f"{name}down", y)
    return net.linear("head", net.layer_norm("norm", x))


def lstm(net: Net, x: Any, inputs: int, hidden: int, layers: int) -> Any:
    ops, weights = net.ops, net.weights

    def cell(weight: Any, state: tuple[Any, Any], given: Any) -> tuple[Any, Any]:
        h, c = state
        i, f, g, o = ops.split(given + ops.matmul(h, weight), 4)
        c = ops.sigmoid(f) * c + ops.sigmoid(i) * ops.tanh(g)
        return ops.sigmoid(o) * ops.tanh(c), c

    x = ops.transpose(x, (1, 0, 2))  # (T, B, C)
    for i in range(layers):
        ih, hh, b, d = (
            weights[f"lstm.{part}_l{i}"]
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        given = ops.matmul(x, ih) + (b + d)
        zero = ops.zeros((given.shape[1], hidden))
        x = ops.scan(lambda state, y, w=hh: cell(w, state, y), (zero, zero), given)
    return net.linear("head", x[-1])


def chain(net: Net, x: Any, y: Any) -> Any:
    ops = net.ops
    a = ops.sigmoid(x * 0.5 + y) * x
    a = a - ops.mean(a, (-1,), True)
    a = a * ops.rsqrt(ops.mean(a * a, (-1,), True) + 1e-5)
    a = ops.tanh(a) + ops.exp(-a * a) * y
    a = ops.relu(a) + ops.abs(x) * 0.1
    return ops.sum(a, (0,)), ops.max(a, (1,)), ops.mean(a * a, None)


def one_op(net: Net, x: Any) -> Any:
    return x + 1


MODELS: dict[str, Callable] = {
    f.__name__: f for f in (mlp, resnet, mobilenet, transformer, lstm, chain, one_op)
}


def run(ops: Any, work: Workload, weights: Arrays, stats: Arrays, inputs: list[Any]) -> Any:
    """What the network gives; in training, `stats` gets new statistics."""
    net = Net(ops, weights, stats, work)
    return MODELS[work.model](net, *inputs, **work.config)


# -- numbers, as these libraries want them


def is_statistic(name: str) -> bool:
    return "running_" in name


def converted(weights: dict[str, np.ndarray]) -> tuple[Arrays, Arrays]:
    """Weights and statistics of `models.py` in the order of dimensions that is used here."""
    params, stats = {}, {}
    for name, value in weights.items():
        if name.endswith("num_batches_tracked"):
            continue
        if value.ndim == 4:
            value = value.transpose(2, 3, 1, 0)
        elif value.ndim == 2 and not name.startswith(("words", "places")):
            value = value.T
        (stats if is_statistic(name) else params)[name] = np.ascontiguousarray(value)
    return params, stats


def batch(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Images as NHWC, words in 32 bits."""
    out = []
    for x in arrays:
        x = x.transpose(0, 2, 3, 1) if x.ndim == 4 else x
        out.append(np.ascontiguousarray(x, np.int32 if x.dtype.kind == "i" else x.dtype))
    return out


# -- optimizers: for each weight the new value and the new state


def clipped(ops: Any, grads: Arrays, limit: float) -> Arrays:
    """Gradients whose norm together is at most `limit`."""
    if not limit:
        return grads
    norm = ops.sqrt(sum(ops.sum(g * g, None) for g in grads.values()))
    scale = ops.minimum(limit / (norm + 1e-6), 1.0)
    return {name: g * scale for name, g in grads.items()}


def updated(ops: Any, kind: str, lr: float, p: Any, g: Any, state: Any, t: Any) -> tuple[Any, Any]:
    """One weight after a step, the number `t`, of SGD with momentum or AdamW."""
    if kind == "SGD":
        velocity = MOMENTUM * state[0] + g
        return p - lr * velocity, (velocity,)
    m, v = 0.9 * state[0] + 0.1 * g, 0.999 * state[1] + 0.001 * g * g
    root = ops.sqrt(v / (1 - 0.999**t)) + 1e-8
    return p * (1 - lr * 0.01) - lr / (1 - 0.9**t) * m / root, (m, v)


STATES = {"SGD": 1, "AdamW": 2}
