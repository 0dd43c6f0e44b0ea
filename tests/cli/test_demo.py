"""`amity demo`, from the command to the files it leaves."""

import gzip
import os
import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

import amity
from amity.cli import demo, task
from amity.cli.main import main


def write_idx(path, array):
    """An IDX file: magic of unsigned bytes and rank, sizes, data."""
    head = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(head + array.astype(np.uint8).tobytes(), 1))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    """One whole run on the digits: its folder, and what it printed."""
    out = tmp_path_factory.mktemp("demo") / "new" / "folder"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr(demo, "print", printed.append, raising=False)
        assert main(["demo", "--dataset", "digits", "--quiet", "--out", str(out)]) == 0
    return out, "\n".join(printed)


def test_digits_reach_97_percent(digits_run):
    _, printed = digits_run
    reached, again = re.findall(r"(\d+\.\d+)%", printed)
    assert float(reached) >= 97
    assert again == reached


def test_the_model_is_a_safetensors_file(digits_run):
    out, _ = digits_run
    kept = load_file(out / "model.safetensors")
    shapes = {name: array.shape for name, array in kept.items()}
    assert shapes["1.weight"] == (16, 1, 3, 3)
    assert shapes["3.weight"] == (32, 16, 3, 3)
    assert shapes["10.bias"] == (10,)
    assert shapes["0.running_mean"] == (1,)


def test_the_picture_is_a_png(digits_run):
    out, _ = digits_run
    with Image.open(out / "training.png") as image:
        image.load()
        assert image.format == "PNG" and image.width == 1080


def test_the_split_keeps_every_digit_once():
    learned = task.load_task("digits", None, False)
    images = amity.cat([learned.train_images, learned.test_images])
    assert images.shape == (1797, 1, 8, 8) and images.dtype == amity.uint8
    assert len(learned.test_labels) == 360 and int(images.max()) == 255


def test_shift_moves_the_whole_image_and_fills_with_black():
    amity.manual_seed(0)
    image = amity.zeros(1, 1, 5, 5)
    image[0, 0, 2, 2] = 1
    seen = set()
    for _ in range(100):
        moved = demo.shift(image, 1)
        assert moved.shape == image.shape and moved.sum().item() == 1
        seen.add(tuple(map(int, moved[0, 0].nonzero()[0])))
    assert seen == {(y, x) for y in (1, 2, 3) for x in (1, 2, 3)}


def test_batches_show_every_image_once():
    amity.manual_seed(0)
    n = 10
    images = amity.arange(n, dtype=amity.uint8).reshape(n, 1, 1, 1)
    small = task.Task(
        title="", source="", names=("a",), recipe=task.Recipe(1, 4, 0.1, 0.0, 0),
        train_images=images, train_labels=amity.arange(n),
        test_images=images, test_labels=amity.arange(n),
    )  # fmt: skip
    got = list(demo.batches(small, 4))
    assert [len(labels) for _, labels in got] == [4, 4, 2]
    for shown, labels in got:
        assert shown.dtype == amity.float32
        assert shown.flatten().long().tolist() == labels.tolist()
    order = amity.cat([labels for _, labels in got]).tolist()
    assert sorted(order) == list(range(n)) and order != list(range(n))


def test_the_same_seed_gives_the_same_training(tmp_path):
    kept = []
    for name in ("a", "b"):
        options = ["--dataset", "digits", "--epochs", "1", "--seed", "7", "--quiet"]
        assert main(["demo", *options, "--out", str(tmp_path / name)]) == 0
        kept.append(load_file(tmp_path / name / "model.safetensors"))
    for name in kept[0]:
        np.testing.assert_array_equal(kept[0][name], kept[1][name])


def test_a_file_that_changed_is_found_out(tmp_path):
    learned = task.load_task("digits", None, False)
    model = demo.build_model(learned)
    predicted = demo.predict(model, learned.test_images)
    amity.save(model.state_dict(), tmp_path / "model.safetensors")
    assert demo.check_kept(tmp_path / "model.safetensors", learned, predicted) == demo.accuracy(
        predicted, learned.test_labels
    )
    amity.save(demo.build_model(learned).state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(RuntimeError, match="got .* other predictions"):
        demo.check_kept(tmp_path / "model.safetensors", learned, predicted)


@pytest.fixture
def fashion_folder(tmp_path):
    """Fashion-MNIST's four files at their full size, with noise in them."""
    random = np.random.default_rng(0)
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        images = np.zeros((count, 28, 28), np.uint8)
        images[::100] = random.integers(0, 256, (28, 28))
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    return tmp_path


def test_a_folder_given_is_taken(fashion_folder):
    learned = task.load_task("auto", fashion_folder, False)
    assert learned.title == "Fashion-MNIST" and str(fashion_folder) in learned.source
    assert learned.train_images.shape == (60_000, 1, 28, 28)
    assert learned.test_images.shape == (10_000, 1, 28, 28)
    assert learned.train_labels[:12].tolist() == [*range(10), 0, 1]
    scores = demo.build_model(learned)(learned.test_images[:3].float())
    assert scores.shape == (3, len(learned.names))


def test_auto_takes_the_digits_where_there_is_nothing_else(monkeypatch):
    def missing(*args, **kwargs):
        raise RuntimeError("FashionMNIST: got no files; expected them")

    monkeypatch.setattr(task, "FashionMNIST", missing)
    assert task.load_task("auto", None, False).title == "digits"


@pytest.mark.parametrize("dataset", ["auto", "fashion-mnist"])
def test_a_folder_without_the_files_is_an_error(dataset, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "train", None)
    options = ["--dataset", dataset, "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(["demo", *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("amity demo: FashionMNIST: got no ") and str(tmp_path) in error
    assert not (tmp_path / "out").exists()


def test_digits_take_no_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "train", None)
    assert main(["demo", "--dataset", "digits", "--data", str(tmp_path)]) == 1
    assert "--data" in capsys.readouterr().err


def test_ctrl_c_stops_at_once(monkeypatch, tmp_path, capsys):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, "train", interrupted)
    assert main(["demo", "--dataset", "digits", "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "\nstopped\n"


def test_a_second_run_compiles_nothing(tmp_path):
    """In processes of their own, with a cache of their own, that share nothing else."""
    command = [sys.executable, "-m", "amity", "demo", "--dataset", "digits", "--epochs", "1"]
    environment = os.environ | {"AMITY_CACHE_DIR": str(tmp_path / "cache")}
    counts = []
    for _ in range(2):
        told = subprocess.run(
            [*command, "--out", str(tmp_path)], env=environment, capture_output=True, text=True
        )
        assert told.returncode == 0, told.stderr
        counts.append(re.search(r"kernels: (\d+) compiled, (\d+) taken", told.stdout).groups())
    (first, _), (second, taken) = counts
    assert int(first) > 10
    assert int(second) == 0 and 10 < int(taken) <= int(first)  # some kernels are for other sizes


def test_compiled_and_eager_training_agree(tmp_path, capsys):
    options = ["--dataset", "digits", "--epochs", "2", "--out", str(tmp_path), "--quiet"]
    assert main(["demo", *options, "--compile"]) == 0
    text = capsys.readouterr().out
    reached = re.search(r"test accuracy ([\d.]+)% after", text).group(1)
    eagerly = re.search(r"from the same seed: ([\d.]+)% after", text).group(1)
    assert abs(float(reached) - float(eagerly)) < 2  # sums in another order, over 2 epochs
    assert re.search(r"compiled took [\d.]+ of that time", text)
