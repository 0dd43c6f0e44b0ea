"""What save writes, load gives back: values, sharing, places, and nothing half-written."""

from __future__ import annotations

import gzip
import io
import math
import os
import zipfile
from collections import Counter, OrderedDict
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amity.core import dtype as dtypes
from amity.core.device import Device
from amity.core.errors import FormatError
from amity.core.shape import Size
from amity.frontend import create, ranges
from amity.frontend.tensor import Tensor
from amity.io import (
    add_safe_globals,
    checkpoint,
    clear_safe_globals,
    get_safe_globals,
    load,
    safe_globals,
    save,
)
from amity.nn.parameter import Parameter, UninitializedParameter


def round_trip(obj, **options):
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return load(file, **options)


def tensor_of(dtype, shape, seed=0):
    raw = np.random.default_rng(seed).integers(0, 256, (*shape, dtype.itemsize), np.uint8)
    raw = raw % 2 if dtype is dtypes.bool_ else raw
    return create.from_numpy(np.ascontiguousarray(raw).view(dtype.numpy).reshape(shape))


def bits(tensor):
    array = tensor.detach().numpy()
    return array.dtype, array.shape, array.tobytes()


def same(a, b):
    """Equality of structure, classes and bits; nan equals nan, 0.0 differs from -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, Tensor):
        return bits(a) == bits(b)
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return math.isnan(a) == math.isnan(b) and str(a) == str(b)
    return a == b


VALUES = [
    None,
    True,
    False,
    0,
    -1,
    255,
    2**31 - 1,
    -(2**31),
    2**31,
    -(2**63),
    10**40,
    -(10**700),
    0.0,
    -0.0,
    1e-320,
    math.inf,
    math.nan,
    3 - 4j,
    "",
    "naïve 日本 \0 \ud800",
    b"",
    bytes(range(256)),
    bytearray(b"\xff\0"),
    [],
    (),
    {},
    [1, [2, (3,)]],
    {"a": 1, 2: "b", None: [], (1, "x"): 3.5, 1.5: b"k", True: 0},
    OrderedDict(b=1, a=2),
    Counter("abca"),
    {1, "a", None},
    set(),
    Size((2, 3)),
    Device("cpu"),
    dtypes.bfloat16,
    {dtypes.float32: 1},
    list(range(2500)),
    {i: str(i) for i in range(2500)},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda v: f"{type(v).__name__}-{str(v)[:12]!r}")
def test_plain_values(value):
    assert same(round_trip(value), value)
    assert same(round_trip([value, {"k": value}]), [value, {"k": value}])


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (5, 3), (2, 1, 4)])
@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
def test_tensors(tmp_path, dtype, shape, mmap):
    x = tensor_of(dtype, shape)
    save({"x": x}, tmp_path / "a.pt")
    loaded = load(tmp_path / "a.pt", mmap=mmap)["x"]
    assert bits(loaded) == bits(x) and loaded.dtype is dtype and type(loaded) is Tensor
    assert loaded.shape == x.shape and not loaded.requires_grad


def test_strides_are_kept():
    x = tensor_of(dtypes.float32, (4, 6))
    saved = [x.t(), x[1:, ::2], x[2], x[0, 3].expand(2, 3)]
    loaded = round_trip(saved)
    for a, b in zip(saved, loaded):
        assert bits(a) == bits(b) and a.stride() == b.stride()


def test_views_of_one_storage_stay_views_of_one():
    base = ranges.arange(10, dtype=dtypes.float32)
    low, high, whole = round_trip([base[1:6], base[4:9], base])
    assert whole.tolist() == list(range(10))
    low[3] = 99.0
    assert high[0].item() == whole[4].item() == 99.0


def test_mapped_views_share_too(tmp_path):
    base = ranges.arange(10, dtype=dtypes.float32)
    save([base, base[4:]], tmp_path / "a.pt")
    whole, part = load(tmp_path / "a.pt", mmap=True)
    part[0] = 99.0
    assert whole[4].item() == 99.0
    assert load(tmp_path / "a.pt")[0][4].item() == 4.0


def test_tensors_apart_stay_apart():
    a, b = round_trip([create.zeros(3), create.zeros(3)])
    a[0] = 1.0
    assert b.tolist() == [0.0] * 3


def test_one_tensor_named_twice_is_one_tensor():
    x = create.zeros(3)
    loaded = round_trip({"a": x, "b": [x]})
    assert loaded["a"] is loaded["b"][0]


def test_small_view_of_a_large_storage_is_small_on_disk():
    file = io.BytesIO()
    save(create.zeros(1_000_000)[10:20], file)
    assert len(file.getvalue()) < 3000
    file.seek(0)
    assert load(file).tolist() == [0.0] * 10


def test_shared_and_cyclic_containers():
    inner = [1]
    loop = [inner, inner]
    loop.append(loop)
    knot = ([],)
    knot[0].append(knot)
    loaded, tied = round_trip([loop, knot])
    assert loaded[0] is loaded[1] and loaded[2] is loaded
    assert tied[0][0] is tied


def test_parameters():
    saved = [
        Parameter(tensor_of(dtypes.float32, (2, 3))),
        Parameter(create.zeros(2), requires_grad=False),
        create.zeros(2).requires_grad_(True),
    ]
    loaded = round_trip(saved)
    assert [type(p) for p in loaded] == [Parameter, Parameter, Tensor]
    assert [p.requires_grad for p in loaded] == [True, False, True]
    assert [bits(p) for p in loaded] == [bits(p) for p in saved]


def test_attributes_of_tensors():
    x, p = create.zeros(2), Parameter(create.zeros(2))
    x.note, p.note = {"a": p}, "p"
    y, q = round_trip([x, p])
    assert (type(y), type(q), q.note) == (Tensor, Parameter, "p")
    assert y.note["a"] is q


def test_tied_parameters_stay_tied():
    w = Parameter(create.zeros(2, 3))
    loaded = round_trip({"a": w, "b": w})
    assert loaded["a"] is loaded["b"]


def test_state_dict_keeps_its_metadata():
    state = OrderedDict(w=create.zeros(2))
    state._metadata = OrderedDict({"": {"version": 1}})
    assert round_trip(state)._metadata == {"": {"version": 1}}


@pytest.mark.parametrize("mmap", [False, True])
def test_loaded_tensors_are_writable_and_the_file_stays(tmp_path, mmap):
    path = tmp_path / "a.pt"
    save(create.zeros(3), path)
    before = path.read_bytes()
    x = load(path, mmap=mmap)
    x[0] = 1.0
    assert x.tolist() == [1.0, 0.0, 0.0] and path.read_bytes() == before


class TestPlaces:
    def test_path_and_str(self, tmp_path):
        save([1], tmp_path / "a.pt")
        save([2], str(tmp_path / "b.pt"))
        assert load(str(tmp_path / "a.pt")) + load(tmp_path / "b.pt") == [1, 2]

    def test_open_file(self, tmp_path):
        with open(tmp_path / "a.pt", "wb") as file:
            save({"x": create.zeros(3)}, file)
        with open(tmp_path / "a.pt", "rb") as file:
            assert load(file)["x"].tolist() == [0.0] * 3

    def test_two_checkpoints_behind_other_bytes(self):
        file = io.BytesIO()
        file.write(b"before")
        save({"x": ranges.arange(5)}, file)
        file.seek(6)
        assert load(file)["x"].tolist() == list(range(5))

    def test_file_that_only_writes(self):
        written = []
        save([1, 2], SimpleNamespace(write=written.append))
        assert load(io.BytesIO(b"".join(map(bytes, written)))) == [1, 2]

    def test_file_that_reads_in_small_pieces(self):
        """No readinto, and never more than 100 bytes at once."""
        file = io.BytesIO()
        save({"x": ranges.arange(300)}, file)

        class Slow:
            seek, tell = file.seek, file.tell
            seekable = file.seekable

            @staticmethod
            def read(size=-1):
                return file.read(min(size, 100) if size >= 0 else size)

        file.seek(0)
        assert load(Slow())["x"].tolist() == list(range(300))

    def test_compressed_file(self, tmp_path):
        with gzip.open(tmp_path / "a.pt.gz", "wb") as file:
            save({"x": ranges.arange(300)}, file)
        with gzip.open(tmp_path / "a.pt.gz", "rb") as file:
            assert load(file)["x"].tolist() == list(range(300))

    def test_pipe(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with ThreadPoolExecutor(1) as pool:
            read = pool.submit((tmp_path / "pipe").read_bytes)
            save([1, create.zeros(2)], tmp_path / "pipe")
        assert load(io.BytesIO(read.result()))[0] == 1

    def test_unrewound_buffer(self):
        file = io.BytesIO()
        save([1], file)
        with pytest.raises(FormatError, match=r"which is empty.*rewind it with seek\(0\)"):
            load(file)

    def test_text_file(self, tmp_path):
        (tmp_path / "a.txt").write_text("x")
        with open(tmp_path / "a.txt") as file, pytest.raises(TypeError, match="opened as text"):
            load(file)

    def test_neither_path_nor_file(self):
        with pytest.raises(TypeError, match="load: got int; expected a path or a binary file"):
            load(3)
        with pytest.raises(TypeError, match="save: got int; expected a path or a binary file"):
            save([], 3)

    def test_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.pt")

    def test_mapping_a_buffer(self):
        with pytest.raises(ValueError, match="a file object with mmap=True; expected a path"):
            load(io.BytesIO(b"x"), mmap=True)

    def test_failing_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.pt"
        save([1], path)
        before = path.read_bytes()

        def stop(file, records):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint, "write_archive", stop)
        with pytest.raises(OSError, match="No space"):
            save([2], path)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == ["a.pt"]

    def test_refused_object_leaves_the_old_file(self, tmp_path):
        save([1], tmp_path / "a.pt")
        with pytest.raises(TypeError):
            save([print], tmp_path / "a.pt")
        assert load(tmp_path / "a.pt") == [1]

    def test_same_object_gives_the_same_bytes(self):
        files = [io.BytesIO(), io.BytesIO()]
        for file in files:
            save({"a": create.zeros(3), "b": [1, "x"]}, file)
        assert files[0].getvalue() == files[1].getvalue()

    def test_records_start_at_multiples_of_64(self):
        file = io.BytesIO()
        save([tensor_of(dtypes.float32, (n,)) for n in range(1, 9)], file)
        file.seek(0)
        for info in zipfile.ZipFile(file).infolist():
            head = file.getvalue()[info.header_offset :][:30]
            start = info.header_offset + 30 + int.from_bytes(head[26:28], "little")
            assert (start + int.from_bytes(head[28:30], "little")) % 64 == 0


class TestMapLocation:
    @pytest.mark.parametrize(
        "place",
        [None, "cpu", Device("cpu"), {"cpu": "cpu"}, {}, lambda s, loc: s, lambda s, loc: None],
        ids=["None", "str", "device", "dict", "empty-dict", "same-storage", "no-answer"],
    )
    def test_cpu(self, place):
        assert round_trip([create.zeros(2)], map_location=place)[0].tolist() == [0.0, 0.0]

    def test_function_sees_the_location(self):
        seen = []
        round_trip([create.zeros(2)], map_location=lambda s, loc: seen.append((s.numel, loc)))
        assert seen == [(2, "cpu")]

    def test_device_that_does_not_exist(self):
        with pytest.raises(RuntimeError, match="'abacus'"):
            round_trip([create.zeros(2)], map_location="abacus")

    def test_not_a_location(self):
        with pytest.raises(TypeError, match="load: got map_location=3; expected a device"):
            round_trip([create.zeros(2)], map_location=3)


class TestRefusesToSave:
    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (np.float64(1.5), r"numpy.float64 at \['k'\]\[1\]; .*call .item\(\) on it"),
            (np.zeros(2), r"numpy.ndarray at \['k'\]\[1\]; .*from_numpy"),
            (print, r"code cannot be saved"),
            (int, r"code cannot be saved"),
            (frozenset(), r"builtins.frozenset"),
            (SimpleNamespace(), r"types.SimpleNamespace at .*add_safe_globals"),
            (SimpleNamespace(state_dict=dict), r"save its state_dict\(\)"),
        ],
    )
    def test_objects_that_are_no_data(self, value, words):
        with pytest.raises(TypeError, match="save: got an object of class .*" + words):
            save({"k": [0, value]}, io.BytesIO())

    def test_top_level(self):
        with pytest.raises(TypeError, match="at the object itself"):
            save(object(), io.BytesIO())

    def test_attribute_that_is_no_data(self):
        x = create.zeros(2)
        x.hook = print
        with pytest.raises(TypeError, match=r"at \[0\] attributes\['hook'\]"):
            save([x], io.BytesIO())

    def test_parameter_without_a_shape(self):
        with pytest.raises(ValueError, match="a parameter without a shape.*run the model once"):
            save([UninitializedParameter()], io.BytesIO())

    def test_endless_nesting(self):
        deep = []
        for _ in range(10_000):
            deep = [deep]
        with pytest.raises(ValueError, match="nesting deeper than 200"):
            save(deep, io.BytesIO())

    def test_one_memory_in_two_dtypes(self):
        memory = np.zeros(4, np.float32)
        pair = [create.from_numpy(memory), create.from_numpy(memory.view(np.int32))]
        with pytest.raises(RuntimeError, match="tensors of float32 and int32 sharing memory"):
            save(pair, io.BytesIO())


class Settings:
    def __init__(self, rate):
        self.rate = rate


class Slotted:
    __slots__ = ("x", "y")


class Color(Enum):
    RED = 1


class Custom:
    def __reduce__(self):
        return print, ()


class TestSafeGlobals:
    @pytest.fixture(autouse=True)
    def forget(self):
        yield
        clear_safe_globals()

    def test_class_comes_back_only_when_allowed(self):
        file = io.BytesIO()
        with safe_globals([Settings, Slotted, Color]):
            slotted = Slotted()
            slotted.x = [1]
            save([Settings(0.5), slotted, Color.RED], file)
            file.seek(0)
            loaded, slots, color = load(file)
            assert color is Color.RED
            assert (loaded.rate, slots.x, hasattr(slots, "y")) == (0.5, [1], False)
        file.seek(0)
        with pytest.raises(FormatError, match="the name .*Settings; expected data only"):
            load(file)

    def test_weights_only_false_is_no_way_around(self):
        file = io.BytesIO()
        with safe_globals([Settings]):
            save(Settings(0.5), file)
        file.seek(0)
        with pytest.raises(FormatError, match="no code runs from a file"):
            load(file, weights_only=False)

    def test_class_that_pickles_by_code(self):
        with safe_globals([Custom]), pytest.raises(TypeError, match="pickles by its attributes"):
            save(Custom(), io.BytesIO())

    def test_list_of_classes(self):
        add_safe_globals([Settings, (Slotted, "old.Name")])
        assert get_safe_globals() == [Settings, Slotted]
        clear_safe_globals()
        assert get_safe_globals() == []

    def test_only_classes(self):
        with pytest.raises(TypeError, match="add_safe_globals: got .*print.*; expected a class"):
            add_safe_globals([print])


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers(allow_nan=False)
    | st.text(st.characters(exclude_categories=[]))
    | st.binary()
    | st.sampled_from(dtypes.ALL)
    | st.builds(
        tensor_of,
        st.sampled_from(dtypes.ALL),
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.integers(0, 9),
    ),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(plain)
def test_any_data_round_trips(value):
    assert same(round_trip(value), value)
