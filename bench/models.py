"""The networks of the benchmark, written once for amity and PyTorch: the same code, another import.

`functional.py` has the same networks for JAX and TensorFlow, by the same names of weights.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def mlp(lib: Any, sizes: tuple[int, ...]) -> Any:
    """Linear layers with ReLU between them."""
    layers: list[Any] = []
    for i, o in zip(sizes, sizes[1:], strict=False):
        layers += [lib.nn.Linear(i, o), lib.nn.ReLU()]
    return lib.nn.Sequential(*layers[:-1])


def convolved(lib: Any, i: int, o: int, kernel: int, stride: int = 1, groups: int = 1) -> list:
    """A convolution with BatchNorm after it."""
    conv = lib.nn.Conv2d(i, o, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, lib.nn.BatchNorm2d(o)]


STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


def resnet(lib: Any, depth: int, is_small: bool, classes: int = 10) -> Any:
    """ResNet-18 or -50; for small images without the pooling stem.

    source: He et al. 2015, arXiv:1512.03385, with the stride of a bottleneck on its 3x3 convolution
    """
    nn = lib.nn
    wide = 4 if depth == 50 else 1

    class Block(nn.Module):
        def __init__(self, i: int, o: int, stride: int) -> None:
            super().__init__()
            if wide == 1:
                parts = [*convolved(lib, i, o, 3, stride), nn.ReLU(), *convolved(lib, o, o, 3)]
            else:
                parts = [*convolved(lib, i, o, 1), nn.ReLU(), *convolved(lib, o, o, 3, stride)]
                parts += [nn.ReLU(), *convolved(lib, o, o * wide, 1)]
            self.body = nn.Sequential(*parts)
            self.side = nn.Sequential()
            if stride != 1 or i != o * wide:
                self.side = nn.Sequential(*convolved(lib, i, o * wide, 1, stride))

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(self.body(x) + self.side(x))

    stem = convolved(lib, 3, 64, 3) if is_small else convolved(lib, 3, 64, 7, 2)
    stem.append(nn.ReLU())
    if not is_small:
        stem.append(nn.MaxPool2d(3, 2, 1))
    blocks, i = [], 64
    for stage, count in enumerate(STAGES[depth]):
        for n in range(count):
            blocks.append(Block(i, 64 << stage, 2 if stage and not n else 1))
            i = (64 << stage) * wide
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, classes)]
    model = nn.Sequential()
    for name, part in (("stem", stem), ("blocks", blocks), ("tail", tail)):
        model.add_module(name, nn.Sequential(*part))
    return model


SEPARABLE = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)
SEPARABLE += ((1024, 2), (1024, 1))


def mobilenet(lib: Any, classes: int = 10) -> Any:
    """A stem, then depthwise 3x3 and pointwise convolutions in turn.

    source: Howard et al. 2017, arXiv:1704.04861, table 1
    """
    nn = lib.nn
    parts = [*convolved(lib, 3, 32, 3, 2), nn.ReLU6()]
    i = 32
    for o, stride in SEPARABLE:
        parts += [*convolved(lib, i, i, 3, stride, groups=i), nn.ReLU6()]
        parts += [*convolved(lib, i, o, 1), nn.ReLU6()]
        i = o
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, classes)]
    return nn.Sequential(*parts)


def transformer(
    lib: Any, layers: int, width: int, heads: int, T: int, is_causal: bool, words: int, classes: int
) -> Any:
    """Embeddings, pre-norm blocks of attention and MLP, and a head for each position."""
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            B, T, C = x.shape
            parts = self.qkv(self.norm1(x)).split(C, dim=2)
            q, k, v = (t.view(B, T, heads, C // heads).transpose(1, 2) for t in parts)
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=is_causal)
            x = x + self.out(y.transpose(1, 2).reshape(B, T, C))
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    class Transformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(words, width), nn.Embedding(T, width)
            self.blocks = nn.Sequential(*[Block() for _ in range(layers)])
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

        def forward(self, x: Any) -> Any:
            h = self.words(x) + self.places.weight[: x.shape[1]]
            return self.head(self.norm(self.blocks(h)))

    return Transformer()


def lstm(lib: Any, inputs: int, hidden: int, layers: int, classes: int = 10) -> Any:
    """An LSTM and a head on its last step."""

    class Recurrent(lib.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = lib.nn.LSTM(inputs, hidden, layers, batch_first=True)
            self.head = lib.nn.Linear(hidden, classes)

        def forward(self, x: Any) -> Any:
            return self.head(self.lstm(x)[0][:, -1])

    return Recurrent()


def chain(lib: Any) -> Any:
    """A long chain of elementwise ops with reductions in and after it."""

    class Chain(lib.nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            a = (x * 0.5 + y).sigmoid() * x
            a = a - a.mean(-1, keepdim=True)
            a = a / ((a * a).mean(-1, keepdim=True) + 1e-5).sqrt()
            a = a.tanh() + (-a * a).exp() * y
            a = a.relu() + x.abs() * 0.1
            return a.sum(0), a.amax(1), (a * a).mean()

    return Chain()


def one_op(lib: Any) -> Any:
    """The least that a compiled program can do."""

    class Increment(lib.nn.Module):
        def forward(self, x: Any) -> Any:
            return x + 1

    return Increment()


MODELS = {f.__name__: f for f in (mlp, resnet, mobilenet, transformer, lstm, chain, one_op)}


def draw(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """Numbers for all weights and statistics of a model, the same for every library."""
    rng = np.random.default_rng(0)
    out = {}
    for name, value in state.items():
        shape, last = tuple(value.shape), name.rpartition(".")[2]
        noise = rng.standard_normal(shape, dtype=np.float32)
        if last == "num_batches_tracked":
            out[name] = np.zeros(shape, np.int64)
        elif last == "running_var" or (last == "weight" and len(shape) == 1):
            out[name] = 1 + 0.1 * np.abs(noise)
        elif len(shape) > 1:
            out[name] = noise / np.float32(math.sqrt(math.prod(shape[1:])))
        else:
            out[name] = 0.02 * noise
    return out
