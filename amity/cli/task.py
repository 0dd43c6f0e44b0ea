"""What the demo learns: images, their names, and the recipe that learns them fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import amity
from amity.data import FashionMNIST, digits


@dataclass(frozen=True)
class Recipe:
    """Measured: the least work that reaches the accuracy with some room."""

    epochs: int
    batch_size: int
    lr: float
    dropout: float
    shift: int  # pixels that a batch is moved by, at most


@dataclass(frozen=True)
class Task:
    """Images as uint8[N, 1, H, W], labels as int64[N]."""

    title: str
    source: str
    names: tuple[str, ...]
    recipe: Recipe
    train_images: amity.Tensor
    train_labels: amity.Tensor
    test_images: amity.Tensor
    test_labels: amity.Tensor


NAMES = ("T-shirt", "trouser", "pullover", "dress", "coat")
NAMES += ("sandal", "shirt", "sneaker", "bag", "boot")


def fashion_mnist(train: FashionMNIST, test: FashionMNIST) -> Task:
    """60000 training and 10000 test images of clothes, 28x28."""
    return Task(
        title="Fashion-MNIST",
        source=f"clothes, 28x28 pixels, from {train.root}",
        names=NAMES,
        recipe=Recipe(epochs=5, batch_size=128, lr=0.004, dropout=0.0, shift=0),
        train_images=train.data[:, None],
        train_labels=train.targets,
        test_images=test.data[:, None],
        test_labels=test.targets,
    )


def handwritten_digits() -> Task:
    """The digits of the package. The last 360 are the test: mostly of people not trained on."""
    images, labels = digits().tensors
    images = (images * 255).to(amity.uint8)
    return Task(
        title="digits",
        source="handwritten, 8x8 pixels, come with amity (Alpaydin & Kaynak 1998, UCI, CC BY 4.0)",
        names=tuple("0123456789"),
        recipe=Recipe(epochs=30, batch_size=64, lr=0.01, dropout=0.5, shift=1),
        train_images=images[:-360],
        train_labels=labels[:-360],
        test_images=images[-360:],
        test_labels=labels[-360:],
    )


def load_task(name: str, path: Path | None, download: bool) -> Task:
    """The images by name; `auto` is Fashion-MNIST where it is there or asked for, else digits."""
    if name == "digits":
        if path is not None or download:
            raise ValueError("got --data or --download with digits; expected neither")
        return handwritten_digits()
    is_optional = name == "auto" and path is None and not download
    try:
        parts = [FashionMNIST(path, train=train, download=download) for train in (True, False)]
    except RuntimeError:  # the files are not there
        if is_optional:
            return handwritten_digits()
        raise
    return fashion_mnist(*parts)
