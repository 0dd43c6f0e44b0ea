"""Datasets that are there: handwritten digits with the package, Fashion-MNIST from outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from amity.core import flags
from amity.core.errors import FormatError, fail
from amity.data.dataset import Dataset, TensorDataset
from amity.data.download import Source, fetch_file
from amity.data.idx import read_idx
from amity.frontend import create
from amity.frontend.tensor import Tensor

DEBIAN = Path("/usr/share/datasets/fashion-mnist")  # of the package dataset-fashion-mnist
MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)


def digits() -> TensorDataset:
    """1797 real handwritten digits, 8x8 pixels, with their labels: shipped with the package.

    shape:  images [1797, 1, 8, 8], labels [1797]
    dtype:  images float32 in 0..1, labels int64
    source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
            Learning Repository 1998, CC BY 4.0; amity/data/DIGITS.md

    >>> image, label = digits()[0]
    >>> tuple(image.shape), int(label)
    ((1, 8, 8), 0)
    """
    with (resources.files(__package__) / "digits.npz").open("rb") as file, np.load(file) as arrays:
        images, labels = arrays["images"], arrays["labels"]
    pixels = images[:, None].astype(np.float32) / 16
    return TensorDataset(create.from_numpy(pixels), create.from_numpy(labels.astype(np.int64)))


class FashionMNIST(Dataset[tuple[Any, Any]]):
    """70,000 images of clothes, 28x28 grey pixels, in ten classes: 60,000 to train, 10,000 to test.

    The files are looked for in `root` (or its `FashionMNIST/raw`); without a root, where Debian's
    package `dataset-fashion-mnist` puts them, then in the user's cache. `download` fetches what is
    missing, verified by checksum, into `root` or the cache. A sample is (image, class): a uint8
    array [28, 28] and an int, each through its transform; all of them are in `data`, `targets`.
    errors: RuntimeError if the files are not there, or cannot be had; FormatError if one is damaged
    source: H. Xiao, K. Rasul, R. Vollgraf 2017, arXiv:1708.07747; MIT licence
    """

    classes = (
        "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
        "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
    )  # fmt: skip
    sources = {
        "train-images-idx3-ubyte.gz": Source(
            26421880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"
        ),
        "train-labels-idx1-ubyte.gz": Source(
            29515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"
        ),
        "t10k-images-idx3-ubyte.gz": Source(
            4422102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"
        ),
        "t10k-labels-idx1-ubyte.gz": Source(
            5148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"
        ),
    }

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        transform: Callable[[Any], Any] | None = None,
        target_transform: Callable[[Any], Any] | None = None,
        download: bool = False,
    ) -> None:
        self.train, self.transform, self.target_transform = train, transform, target_transform
        count = 60_000 if train else 10_000
        names = [name for name in self.sources if name.startswith("train" if train else "t10k")]
        images, labels = self._find(names, root, download)
        self.root = images.parent
        self._images = read_idx(images, (count, 28, 28))
        self._labels = read_idx(labels, (count,)).astype(np.int64)
        if self._labels.min() < 0 or self._labels.max() >= len(self.classes):
            got = f"label {self._labels.max()} in {labels}"
            raise fail(FormatError, "FashionMNIST", got, "labels 0..9")

    def _find(
        self, names: list[str], root: str | os.PathLike[str] | None, is_wanted: bool
    ) -> list[Path]:
        places = [DEBIAN, flags.data_dir / "fashion-mnist"] if root is None else [Path(root)]
        for folder in _folders(places):
            found = [path for name in names if (path := _file(folder, name)) is not None]
            if len(found) == len(names):
                return found
        target = places[-1]
        if not is_wanted:
            got = f"no {' and '.join(names)} in {', '.join(map(str, places))}"
            hint = "Debian has them in the package dataset-fashion-mnist"
            raise fail(RuntimeError, "FashionMNIST", got, "the files, or download=True", hint)
        for name in names:
            if not (target / name).is_file():
                urls = [mirror + name for mirror in MIRRORS]
                fetch_file(urls, target / name, self.sources[name])
        return [target / name for name in names]

    @property
    def data(self) -> Tensor:
        """All images, uint8 [N, 28, 28], sharing memory with the samples."""
        return create.from_numpy(self._images)

    @property
    def targets(self) -> Tensor:
        """All classes, int64 [N]."""
        return create.from_numpy(self._labels)

    @property
    def class_to_idx(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image: Any = self._images[index]
        target: Any = int(self._labels[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            target = self.target_transform(target)
        return image, target

    def __len__(self) -> int:
        return len(self._labels)


def _folders(places: list[Path]) -> Iterator[Path]:
    for place in places:
        yield from (place, place / "FashionMNIST" / "raw")


def _file(folder: Path, name: str) -> Path | None:
    """The file in `folder`, gzipped or unpacked."""
    for path in (folder / name, (folder / name).with_suffix("")):
        if path.is_file():
            return path
    return None


def to_tensor(image: Any) -> Tensor:
    """An image array as a tensor with channels first; bytes are scaled to 0..1.

    shape:  image [H, W] or [H, W, C] -> [1, H, W] or [C, H, W]
    dtype:  uint8 -> float32, others as they are
    errors: ValueError for another rank

    >>> tuple(to_tensor(np.full((2, 3), 255, np.uint8)).shape)
    (1, 2, 3)
    """
    array = np.asarray(image)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3:
        raise fail(ValueError, "to_tensor", f"rank {array.ndim}", "[H, W] or [H, W, C]")
    array = np.ascontiguousarray(array.transpose(2, 0, 1))
    return create.from_numpy(array.astype(np.float32) / 255 if array.dtype == np.uint8 else array)
