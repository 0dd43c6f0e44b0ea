"""The datasets themselves: digits with the package, Fashion-MNIST where it is, and downloads."""

import gzip
import hashlib
import http.server
import struct
import threading
from importlib import resources

import numpy as np
import pytest

from amity.core import dtype, flags
from amity.core.errors import FormatError
from amity.data import DataLoader, FashionMNIST, datasets, digits, random_split, to_tensor
from amity.data.download import Source
from amity.frontend.random import Generator

HAS_DEBIAN = (datasets.DEBIAN / "t10k-labels-idx1-ubyte.gz").is_file()
NEEDS_DEBIAN = pytest.mark.skipif(
    not HAS_DEBIAN, reason="needs Debian's package dataset-fashion-mnist"
)


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with files of Fashion-MNIST's names and shapes."""
    folder = tmp_path_factory.mktemp("fashion")
    for name, count in (("train", 60_000), ("t10k", 10_000)):
        labels = np.arange(count) % 10
        images = np.broadcast_to(labels[:, None, None], (count, 28, 28))
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(array), 1))
    return folder


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """No Fashion-MNIST on this machine."""
    monkeypatch.setattr(datasets, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(flags, "data_dir", tmp_path / "cache")
    return tmp_path


def test_digits():
    images, labels = digits().tensors
    assert images.dtype == dtype.float32 and labels.dtype == dtype.int64
    assert tuple(images.shape) == (1797, 1, 8, 8) and tuple(labels.shape) == (1797,)
    assert np.bincount(labels.numpy()).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert images.numpy().min() == 0 and images.numpy().max() == 1
    contents = (images.numpy() * 16).astype(np.uint8).tobytes() + labels.numpy().astype(
        np.uint8
    ).tobytes()
    assert (
        hashlib.sha256(contents).hexdigest()
        == "87ff0c9e40dc7e2c0e34e7257799c2e3f3aec1a016363bb11cad869ec428a826"
    )


def test_digits_in_a_loader():
    train, test = random_split(digits(), [0.8, 0.2], Generator().manual_seed(0))
    images, labels = next(iter(DataLoader(train, 32, shuffle=True)))
    assert tuple(images.shape) == (32, 1, 8, 8) and tuple(labels.shape) == (32,)
    assert len(train) + len(test) == 1797


def test_digits_say_whence():
    text = (resources.files("amity.data") / "DIGITS.md").read_text()
    assert "Alpaydin" in text and "CC BY 4.0" in text


@pytest.mark.parametrize("inside", ["", "FashionMNIST/raw"])
def test_fashion_from_a_folder(made, tmp_path, inside):
    root = tmp_path
    target = root / inside
    target.parent.mkdir(parents=True, exist_ok=True)
    if inside:
        target.symlink_to(made)
    else:
        root = made
    test = FashionMNIST(root, train=False)
    assert len(test) == 10_000 and test.root == target if inside else made
    image, label = test[17]
    assert image.dtype == np.uint8 and image.shape == (28, 28) and image[3, 3] == 7
    assert label == 7 and type(label) is int and test.classes[label] == "Sneaker"
    assert test.class_to_idx["Bag"] == 8
    assert tuple(test.data.shape) == (10_000, 28, 28) and test.targets[17].item() == 7


def test_fashion_train_unpacked(made, tmp_path):
    for kind in ("images-idx3", "labels-idx1"):
        name = f"train-{kind}-ubyte"
        (tmp_path / name).write_bytes(gzip.decompress((made / (name + ".gz")).read_bytes()))
    assert len(FashionMNIST(tmp_path)) == 60_000


def test_fashion_transforms_and_batches(made):
    dataset = FashionMNIST(made, False, transform=to_tensor, target_transform=lambda y: 9 - y)
    images, labels = next(iter(DataLoader(dataset, 4)))
    assert tuple(images.shape) == (4, 1, 28, 28) and images.dtype == dtype.float32
    assert images[3, 0, 0, 0].item() == pytest.approx(3 / 255)
    assert labels.tolist() == [9, 8, 7, 6]
    images, _ = next(iter(DataLoader(FashionMNIST(made, False), 4)))
    assert tuple(images.shape) == (4, 28, 28) and images.dtype == dtype.uint8


def test_fashion_that_is_not_there(nowhere):
    with pytest.raises(RuntimeError, match="no t10k-images.*download=True.*dataset-fashion-mnist"):
        FashionMNIST(train=False)
    with pytest.raises(RuntimeError, match="nothing"):
        FashionMNIST(nowhere / "nothing")


@pytest.mark.parametrize("kind", ["images-idx3", "labels-idx1"])
def test_fashion_files_that_are_wrong(made, tmp_path, kind):
    for path in made.glob("t10k-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / f"t10k-{kind}-ubyte.gz"
    whole = path.read_bytes()
    for data, says in (
        (whole[: len(whole) // 2], "damaged gzip"),
        (b"<html>", "first bytes '3c 68 74 6d'"),
        (gzip.compress(idx(np.zeros((3, 28, 28)))), r"shape \(3, 28, 28\)"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=says):
            FashionMNIST(tmp_path, train=False)


def test_fashion_labels_out_of_range(made, tmp_path):
    (tmp_path / "t10k-images-idx3-ubyte.gz").symlink_to(made / "t10k-images-idx3-ubyte.gz")
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(np.full(10_000, 10))))
    with pytest.raises(FormatError, match="label 10 in .*labels"):
        FashionMNIST(tmp_path, train=False)


@NEEDS_DEBIAN
def test_fashion_of_debian():
    for train, digest in ((True, "c59f468a2f672dc8"), (False, "5b4141f0afbad91e")):
        dataset = FashionMNIST(train=train)
        assert dataset.root == datasets.DEBIAN
        assert np.bincount(dataset.targets.numpy()).tolist() == [len(dataset) // 10] * 10
        content = idx(dataset.data.numpy())
        assert hashlib.sha256(content).hexdigest().startswith(digest)


@NEEDS_DEBIAN
def test_the_checksums_are_of_the_published_files():
    """Debian packs the same contents without name and time; with those, the bytes are the same."""
    for name, time in (("t10k-labels", 1504176627), ("train-labels", 1504176606)):
        name += "-idx1-ubyte"
        packed = (datasets.DEBIAN / (name + ".gz")).read_bytes()
        head = b"\x1f\x8b\x08\x08" + struct.pack("<I", time) + b"\0\3" + name.encode() + b"\0"
        published, source = head + packed[10:], FashionMNIST.sources[name + ".gz"]
        assert len(published) == source.size
        assert hashlib.sha256(published).hexdigest() == source.sha256


# -- downloads ---------------------------------------------------------------------------------


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def mirror(made, monkeypatch):
    """A server that has the made files, and their checksums in place of the real ones."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), lambda *args: Handler(*args, directory=str(made))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(datasets, "MIRRORS", (url + "absent/", url))
    sources = {
        path.name: Source(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in made.iterdir()
    }
    monkeypatch.setattr(FashionMNIST, "sources", sources)
    yield sources
    server.shutdown()
    thread.join()
    server.server_close()


def test_download_goes_to_the_cache_once(mirror, nowhere, monkeypatch):
    assert len(FashionMNIST(train=False, download=True)) == 10_000
    files = sorted(path.name for path in (nowhere / "cache" / "fashion-mnist").iterdir())
    assert files == ["t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"]
    monkeypatch.setattr(datasets, "MIRRORS", ())
    assert len(FashionMNIST(train=False, download=True)) == 10_000
    assert len(FashionMNIST(train=False)) == 10_000


def test_download_to_a_root(mirror, nowhere):
    root = nowhere / "given"
    assert FashionMNIST(root, train=False, download=True).root == root


@pytest.mark.parametrize(
    ("size", "digest", "says"),
    [(0, "0" * 64, "checksum .*, not 0000"), (1, "", "bytes of"), (-1, "", "more than")],
)
def test_download_that_is_not_the_file(mirror, nowhere, size, digest, says):
    name = "t10k-labels-idx1-ubyte.gz"
    mirror[name] = Source(mirror[name].size + size, digest or mirror[name].sha256)
    with pytest.raises(RuntimeError, match=f"download: got .*absent/.*404.*{says}"):
        FashionMNIST(train=False, download=True)
    left = [path.name for path in (nowhere / "cache" / "fashion-mnist").iterdir()]
    assert left == ["t10k-images-idx3-ubyte.gz"]


def test_download_without_a_server(nowhere, monkeypatch):
    monkeypatch.setattr(datasets, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(RuntimeError, match="127.0.0.1:9.*refused"):
        FashionMNIST(train=False, download=True)


# -- conversion --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"), [((2, 3), (1, 2, 3)), ((2, 3, 3), (3, 2, 3)), ((0, 3), (1, 0, 3))]
)
def test_to_tensor(shape, expected):
    image = (np.arange(np.prod(shape)).reshape(shape) % 256).astype(np.uint8)
    got = to_tensor(image)
    assert tuple(got.shape) == expected and got.dtype == dtype.float32
    want = (image if image.ndim == 3 else image[:, :, None]).transpose(2, 0, 1).astype(
        np.float32
    ) / 255
    np.testing.assert_array_equal(got.numpy(), want)


def test_to_tensor_leaves_other_dtypes():
    assert to_tensor(np.full((1, 1), 300, np.int16)).tolist() == [[[300]]]
    with pytest.raises(ValueError, match="to_tensor: got rank 1"):
        to_tensor(np.zeros(3))
