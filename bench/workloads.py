"""What is compared: networks, their sizes, and how many times as fast amity should be."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A training step (with an optimizer) or the inference of a network on one batch."""

    name: str
    model: str
    config: dict[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    classes: int = 10
    words: int = 0  # inputs are words of so many, not numbers
    optimizer: str = ""  # "SGD" or "AdamW"; none: inference
    lr: float = 1e-3
    clip: float = 0.0
    is_mixed: bool = False  # products in bfloat16, as under autocast
    wanted: float = 1.0
    limit: float = 0.0  # seconds that a call may take; then no ratio is wanted
    places: tuple[int, ...] = field(default=())  # the shape of what is classified, if not (batch,)

    @property
    def is_training(self) -> bool:
        return bool(self.optimizer)

    def inputs(self) -> list[np.ndarray]:
        """One batch, the same for every library."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        if self.words:
            return [rng.integers(0, self.words, s) for s in self.shapes]
        return [rng.standard_normal(s, dtype=np.float32) for s in self.shapes]

    def labels(self) -> np.ndarray:
        rng = np.random.default_rng(1)
        return rng.integers(0, self.classes, self.places or self.shapes[0][:1])


MOMENTUM = 0.9


def mlp(name: str, sizes: tuple[int, ...], batch: int, optimizer: str, wanted: float) -> Workload:
    shapes = ((batch, sizes[0]),)
    title = f"{name} {'-'.join(map(str, sizes))}, batch {batch}, {optimizer}"
    config = {"sizes": sizes}
    return Workload(title, "mlp", config, shapes, sizes[-1], optimizer=optimizer, wanted=wanted)


def images(
    name: str, model: str, size: int, batch: int, wanted: float, optimizer: str = "", **config: Any
) -> Workload:
    what = "training step" if optimizer else "inference"
    title = f"{name} {what}, {size} px, batch {batch}"
    shapes = ((batch, 3, size, size),)
    lr = 1e-3 if model == "resnet" else 1e-5  # its steps magnify rounding: larger ones never agree
    return Workload(title, model, config, shapes, optimizer=optimizer, lr=lr, wanted=wanted)


def resnet(depth: int, size: int, batch: int, wanted: float, optimizer: str = "") -> Workload:
    small = {"depth": depth, "is_small": size < 64}
    return images(f"ResNet-{depth}", "resnet", size, batch, wanted, optimizer, **small)


def gpt(
    width: int, T: int, batch: int, is_training: bool, layers: int = 6, is_mixed: bool = False
) -> Workload:
    what = "training step" if is_training else "inference"
    words = 256
    config = {"layers": layers, "width": width, "heads": width // 32, "T": T}
    config |= {"is_causal": True, "words": words, "classes": words}
    return Workload(
        f"GPT {layers}x{width} {what}, T={T}, batch {batch}{', bf16' if is_mixed else ''}",
        "transformer",
        config,
        ((batch, T),),
        classes=words,
        words=words,
        optimizer="AdamW" if is_training else "",
        lr=1e-4,
        clip=1.0,
        is_mixed=is_mixed,
        wanted=1.2,
        places=(batch, T),
    )


def bert(batch: int, T: int) -> Workload:
    config = {"layers": 6, "width": 384, "heads": 6, "T": T}
    config |= {"is_causal": False, "words": 1000, "classes": 8}
    name = f"BERT 6x384 inference, T={T}, batch {batch}"
    return Workload(name, "transformer", config, ((batch, T),), 8, 1000, wanted=1.3)


def lstm(T: int, hidden: int, batch: int) -> Workload:
    config = {"inputs": 64, "hidden": hidden, "layers": 2}
    name = f"LSTM 2x{hidden} training step, T={T}, batch {batch}"
    shapes = ((batch, T, 64),)
    return Workload(name, "lstm", config, shapes, optimizer="SGD", wanted=1.5)


FIRST = (resnet(18, 32, 16, 1.3, "SGD"), gpt(192, 128, 8, True))  # timed from their first step too

WORKLOADS = (
    mlp("tiny MLP step", (4, 32, 2), 8, "SGD", 3.0),
    mlp("MLP step", (784, 128, 64, 10), 32, "SGD", 2.0),
    mlp("wide MLP step", (1024, 4096, 1024), 128, "AdamW", 1.1),
    FIRST[0],
    *(resnet(18, size, batch, 1.5) for size in (112, 224) for batch in (1, 8)),
    *(resnet(50, 224, batch, 1.5) for batch in (1, 8)),
    images("MobileNet", "mobilenet", 224, 1, 1.2),
    images("MobileNet", "mobilenet", 112, 8, 1.2, "SGD"),
    FIRST[1],
    gpt(192, 128, 8, False),
    gpt(192, 128, 8, True, is_mixed=True),
    gpt(192, 128, 8, False, is_mixed=True),
    *(bert(batch, T) for batch in (1, 16) for T in (64, 256)),
    lstm(50, 128, 32),
    Workload("chain 2048x2048", "chain", {}, ((2048, 2048),) * 2, wanted=1.5),
    Workload("one op, 10 elements", "one_op", {}, ((10,),), limit=5e-6),
)

# How the step's time grows with depth, width and length: `python -m bench --growth`.
GROWTH = (
    gpt(192, 128, 8, True, 3), FIRST[1], gpt(192, 128, 8, True, 12),
    *(gpt(width, 128, 8, True) for width in (96, 384)),
    *(gpt(192, T, 8, True) for T in (64, 256, 512)),
)  # fmt: skip
