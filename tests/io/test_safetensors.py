"""What save_file writes, load_file gives back; the format's own wheel is the oracle."""

from __future__ import annotations

import io
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amity.core import dtype as dtypes
from amity.core.errors import FormatError
from amity.frontend import create, ranges
from amity.frontend.tensor import Tensor
from amity.io import load, load_file, safe_open, save, save_file
from amity.nn.parameter import Parameter


def tensor_of(dtype, shape, seed=0):
    raw = np.random.default_rng(seed).integers(0, 2, (*shape, dtype.itemsize), np.uint8)
    if dtype is not dtypes.bool_:
        raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    return create.from_numpy(np.ascontiguousarray(raw).view(dtype.numpy).reshape(shape))


def bits(tensor):
    array = tensor.detach().numpy()
    return array.dtype, array.shape, array.tobytes()


SHAPES = [(), (0,), (1,), (3, 0, 2), (5, 3), (2, 3, 4, 1)]


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_round_trip(tmp_path, dtype, shape, mmap):
    saved = {"x": tensor_of(dtype, shape), "odd": tensor_of(dtypes.uint8, (3,), 1)}
    save_file(saved, tmp_path / "a.safetensors")
    loaded = load_file(tmp_path / "a.safetensors", mmap=mmap)
    assert {k: bits(v) for k, v in loaded.items()} == {k: bits(v) for k, v in saved.items()}
    assert type(loaded["x"]) is Tensor and loaded["x"].dtype is dtype


@pytest.mark.parametrize("kind", ["path", "str", "file", "BytesIO"])
def test_places_to_write(tmp_path, kind):
    saved = {"x": tensor_of(dtypes.float32, (3, 2))}
    path = tmp_path / "a.safetensors"
    if kind == "BytesIO":
        file = io.BytesIO()
        save_file(saved, file)
        file.seek(0)
        assert bits(load_file(file)["x"]) == bits(saved["x"])
        return
    if kind == "file":
        with open(path, "wb") as file:
            save_file(saved, file)
        with open(path, "rb") as file:
            assert bits(load_file(file)["x"]) == bits(saved["x"])
    else:
        save_file(saved, str(path) if kind == "str" else path)
    assert bits(load_file(str(path))["x"]) == bits(saved["x"])


def test_save_and_load_choose_the_format_by_name(tmp_path):
    saved = {"w": tensor_of(dtypes.float32, (3, 2))}
    save(saved, tmp_path / "m.safetensors", metadata={"format": "pt"})
    assert (tmp_path / "m.safetensors").read_bytes()[8:9] == b"{"
    assert bits(load(tmp_path / "m.safetensors")["w"]) == bits(saved["w"])
    assert bits(load(tmp_path / "m.safetensors", mmap=True)["w"]) == bits(saved["w"])
    (tmp_path / "m.safetensors").rename(tmp_path / "m.bin")
    assert bits(load(tmp_path / "m.bin")["w"]) == bits(saved["w"])


def test_empty_dict(tmp_path):
    save_file({}, tmp_path / "a.safetensors")
    assert load_file(tmp_path / "a.safetensors") == {}


def test_strided_tensors_are_written_contiguously(tmp_path):
    x = tensor_of(dtypes.float32, (4, 6))
    saved = {"t": x.detach().clone().t(), "step": x[:, ::2]}
    save_file(saved, tmp_path / "a.safetensors")
    loaded = load_file(tmp_path / "a.safetensors")
    assert {k: bits(v) for k, v in loaded.items()} == {k: bits(v) for k, v in saved.items()}
    assert loaded["t"].is_contiguous()


def test_parameters_load_as_tensors(tmp_path):
    save_file({"w": Parameter(create.zeros(2, 3))}, tmp_path / "a.safetensors")
    loaded = load_file(tmp_path / "a.safetensors")["w"]
    assert type(loaded) is Tensor and not loaded.requires_grad


def test_loaded_tensors_are_writable_and_the_file_stays(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": create.zeros(4)}, path)
    before = path.read_bytes()
    for mmap in (False, True):
        x = load_file(path, mmap=mmap)["x"]
        x[1] = 5.0
        assert x.tolist() == [0.0, 5.0, 0.0, 0.0]
    assert path.read_bytes() == before


def test_mapped_tensors_outlive_the_files_name(tmp_path):
    path = tmp_path / "a.safetensors"
    saved = tensor_of(dtypes.float32, (1000,))
    save_file({"x": saved}, path)
    loaded = load_file(path, mmap=True)["x"]
    path.unlink()
    assert bits(loaded) == bits(saved)


def test_mapped_tensor_that_is_misaligned_is_copied(tmp_path):
    header = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} '
    assert (8 + len(header)) % 4
    data = np.array([1.5, -2.0], "<f4").tobytes()
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    assert load_file(path, mmap=True)["x"].tolist() == [1.5, -2.0]
    assert load_file(path)["x"].tolist() == [1.5, -2.0]


def test_overwriting_the_file_that_is_mapped(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"x": create.zeros(4)}, path)
    x = load_file(path, mmap=True)
    save_file(x, path)
    assert load_file(path)["x"].tolist() == [0.0] * 4


def test_failing_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_file({"x": create.zeros(4)}, path)
    before = path.read_bytes()
    from amity.io import bridge

    def refuse(array):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bridge, "little_endian", refuse)
    with pytest.raises(OSError, match="No space"):
        save_file({"y": create.zeros(9)}, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


class TestSafeOpen:
    @pytest.fixture
    def path(self, tmp_path):
        path = tmp_path / "a.safetensors"
        save_file(
            {"b": ranges.arange(6, dtype=dtypes.int64), "a": create.zeros(2, 3)}, path, {"k": "v"}
        )
        return path

    def test_reads_names_metadata_and_tensors(self, path):
        with safe_open(path, framework="pt", device="cpu") as file:
            assert sorted(file.keys()) == ["a", "b"]
            assert file.offset_keys() == ["b", "a"]
            assert file.metadata() == {"k": "v"}
            kept = file.get_tensor("b")
        assert kept.tolist() == list(range(6))

    def test_slices(self, path):
        with safe_open(path) as file:
            part = file.get_slice("b")
            assert part.get_shape() == [6] and part.get_dtype() == "I64"
            assert part[1:3].tolist() == [1, 2]
            assert part[4].tolist() == 4

    def test_numpy(self, path):
        with safe_open(path, framework="np") as file:
            array = file.get_tensor("a")
        assert type(array) is np.ndarray and array.shape == (2, 3)

    def test_no_metadata_is_none(self, tmp_path):
        save_file({}, tmp_path / "a.safetensors")
        with safe_open(tmp_path / "a.safetensors") as file:
            assert file.metadata() is None

    def test_unknown_name(self, path):
        with safe_open(path) as file, pytest.raises(KeyError, match="'c', which the file"):
            file.get_tensor("c")

    def test_use_after_close(self, path):
        with safe_open(path) as file:
            pass
        with pytest.raises(ValueError, match="closed file"):
            file.get_tensor("a")

    def test_unknown_framework(self, path):
        with pytest.raises(ValueError, match="framework='tf'; expected 'pt' or 'np'"):
            safe_open(path, framework="tf")

    def test_broken_file_is_closed(self, tmp_path):
        (tmp_path / "a.safetensors").write_bytes(b"abc")
        with pytest.raises(FormatError, match="at least 8 bytes"):
            safe_open(tmp_path / "a.safetensors")


class TestRefusesToWrite:
    def refuse(self, obj, error, words, metadata=None):
        with pytest.raises(error, match=words):
            save_file(obj, io.BytesIO(), metadata)

    def test_value_that_is_no_tensor(self):
        self.refuse(
            {"epoch": 3}, TypeError, "save_file: got int under key 'epoch'; expected a flat"
        )

    def test_nested_dict(self):
        self.refuse({"a": {"b": create.zeros(1)}}, TypeError, "got dict under key 'a'")

    def test_list(self):
        self.refuse([create.zeros(1)], TypeError, "got list; expected a flat dict")

    def test_key_that_is_no_text(self):
        self.refuse({1: create.zeros(1)}, TypeError, "key 1 of class int; expected str keys")

    def test_reserved_name(self):
        self.refuse({"__metadata__": create.zeros(1)}, ValueError, "expected another name")

    def test_surrogate_name(self):
        self.refuse({"\ud800": create.zeros(1)}, ValueError, "expected valid Unicode")

    def test_metadata_that_is_no_text(self):
        self.refuse({}, TypeError, "metadata 'step': 3; expected str to str", {"step": 3})

    def test_shared_memory(self):
        x = create.zeros(4)
        self.refuse({"a": x[:3], "b": x[2:]}, ValueError, "'a' and 'b' sharing memory")
        self.refuse({"a": x, "b": x}, ValueError, "'a' and 'b' sharing memory")

    def test_neighbours_do_not_share(self):
        x = create.zeros(4)
        save_file({"a": x[:2], "b": x[2:], "c": x[1:1]}, io.BytesIO())

    def test_metadata_for_a_zip(self, tmp_path):
        with pytest.raises(ValueError, match="metadata for a zip"):
            save({}, tmp_path / "a.pt", metadata={"a": "b"})


class TestWheel:
    """The `safetensors` package reads what amity writes, byte for byte its own, and back."""

    def test_same_bytes(self):
        wheel = pytest.importorskip("safetensors.numpy")
        arrays = {
            f"{name}.{dtype.name}": tensor_of(dtype, shape, i).numpy()
            for i, (name, shape) in enumerate({"é": (2, 3), "a": (), 'z"\\\n': (0, 3)}.items())
            for dtype in dtypes.ALL
        }
        file = io.BytesIO()
        save_file({k: create.from_numpy(v) for k, v in arrays.items()}, file, {"a": "ü\t"})
        ours, theirs = file.getvalue(), wheel.save(arrays, {"a": "ü\t"})
        assert ours == theirs

    @pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
    def test_wheel_reads_ours(self, tmp_path, dtype):
        wheel = pytest.importorskip("safetensors")
        x = tensor_of(dtype, (3, 5))
        save_file({"x": x}, tmp_path / "a.safetensors", {"k": "v"})
        with wheel.safe_open(tmp_path / "a.safetensors", framework="np") as file:
            assert file.metadata() == {"k": "v"}
            entry = file.get_slice("x")
            assert (entry.get_shape(), file.keys()) == ([3, 5], ["x"])
            if dtype is not dtypes.bfloat16:
                assert file.get_tensor("x").tobytes() == x.numpy().tobytes()

    @pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
    def test_we_read_the_wheels(self, tmp_path, dtype):
        wheel = pytest.importorskip("safetensors.numpy")
        x = tensor_of(dtype, (3, 5))
        (tmp_path / "a.safetensors").write_bytes(wheel.save({"x": x.numpy()}, {"k": "v"}))
        assert bits(load_file(tmp_path / "a.safetensors")["x"]) == bits(x)
        with safe_open(tmp_path / "a.safetensors") as file:
            assert file.metadata() == {"k": "v"}

    def test_torch_reads_our_bfloat16(self, tmp_path):
        pytest.importorskip("torch")
        wheel = pytest.importorskip("safetensors.torch")
        x = np.array([1.0, -3.25, np.nan, np.inf], ml_dtypes.bfloat16)
        save_file({"x": create.from_numpy(x)}, tmp_path / "a.safetensors")
        read = wheel.load_file(tmp_path / "a.safetensors")["x"]
        assert str(read.dtype) == "torch.bfloat16"
        assert read.float().numpy().tolist()[:2] == [1.0, -3.25]


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=12).filter(
    lambda s: s != "__metadata__"
)
tensors = st.builds(
    tensor_of,
    st.sampled_from(dtypes.ALL),
    st.lists(st.integers(0, 4), max_size=4).map(tuple),
    st.integers(0, 100),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(names, tensors, max_size=5), st.dictionaries(names, st.text(), max_size=3))
def test_any_dict_round_trips(saved, metadata):
    metadata = {k: v for k, v in metadata.items() if v.isascii()}
    file = io.BytesIO()
    save_file(saved, file, metadata)
    file.seek(0)
    assert {k: bits(v) for k, v in load_file(file).items()} == {
        k: bits(v) for k, v in saved.items()
    }
