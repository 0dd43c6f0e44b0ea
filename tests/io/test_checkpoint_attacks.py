"""Archives and tensors that are wrong or hostile, by name: each gives a FormatError."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amity.core import dtype as dtypes
from amity.core.errors import FormatError
from amity.frontend import create, ranges
from amity.io import load, save
from tests.io.forge import END, archive, refuse, storage, tensor, text, with_tensor


def test_valid_archive_is_read():
    assert load(io.BytesIO(with_tensor())).tolist() == [[0.0, 0.0], [0.0, 0.0]]


class TestNotACheckpoint:
    def test_empty_file(self, tmp_path):
        (tmp_path / "a.pt").write_bytes(b"")
        with pytest.raises(FormatError, match=r"load: got '.*a\.pt', which is empty"):
            load(tmp_path / "a.pt")

    def test_mapped_empty_file(self, tmp_path):
        (tmp_path / "a.pt").write_bytes(b"")
        with pytest.raises(FormatError, match="which is empty; expected a checkpoint$"):
            load(tmp_path / "a.pt", mmap=True)

    def test_not_a_zip(self):
        refuse(
            b"\x93NUMPY....", "begins with b'.+NUM'; expected a checkpoint in zip or safetensors"
        )

    def test_one_byte(self):
        refuse(b"P", "begins with b'P'")

    def test_pickle_alone(self):
        refuse(pickle.dumps([1], 4), "begins with b'.x80.x04.x95.x06'; expected a checkpoint")

    def test_zip_magic_alone(self):
        refuse(b"PK\3\4" + bytes(60), "not a readable zip")

    def test_empty_zip(self):
        refuse(b"PK\5\6" + bytes(18), "an empty zip; expected a checkpoint's records")

    def test_zip_of_something_else(self):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as out:
            out.writestr("word/document.xml", "<a/>")
        refuse(file.getvalue(), "a zip without data.pkl")

    @pytest.mark.parametrize("part", range(1, 20, 2))
    def test_truncated(self, part):
        file = io.BytesIO()
        save({"x": create.zeros(100), "n": [1, 2]}, file)
        whole = file.getvalue()
        refuse(whole[: len(whole) * part // 20], "not a readable zip")


class TestZip:
    def test_zip_bomb(self):
        data = archive(tensor() + END, [("data/0", bytes(10**6))], compression=zipfile.ZIP_DEFLATED)
        assert len(data) < 3000
        refuse(data, "compressed record .*; expected uncompressed records")

    def test_compressed_size_that_lies(self):
        data = bytearray(with_tensor())
        at = data.rindex(b"PK\1\2")
        data[at + 24 : at + 28] = struct.pack("<I", 2**31)
        refuse(bytes(data), "compressed record|not a readable zip")

    @pytest.mark.parametrize(
        "name",
        ["../../etc/passwd", "data/../../x", "data//x", "./x", "data\\x", "a/\\\\server\\x", ""],
    )
    def test_path_traversal(self, name):
        refuse(archive(b"N.", [(name, b"x")]), "record .*; expected plain names in one folder")

    @pytest.mark.parametrize("name", ["/etc/passwd", "other/x", "x"])
    def test_record_outside_the_folder(self, name):
        file = io.BytesIO(archive(b"N."))
        with zipfile.ZipFile(file, "a") as out:
            out.writestr(name, b"x")
        refuse(file.getvalue(), "expected plain names in one folder")

    def test_folder_above(self):
        refuse(archive(b"N.", folder=".."), "expected plain names in one folder")

    def test_duplicate_records(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            data = archive(tensor() + END, [("data/0", bytes(16)), ("data/0", b"\1" * 16)])
        refuse(data, "record 'data/0' twice")

    def test_overlapping_records(self):
        """Two names for the same bytes: how small zips are made to unpack to huge ones."""
        data = archive(b"N.", [("data/0", bytes(64)), ("data/1", bytes(64))])
        first = data.index(b"PK\3\4", 1)
        entry = data.rindex(b"PK\1\2")
        forged = bytearray(data)
        forged[entry + 42 : entry + 46] = struct.pack("<I", first)
        forged = bytes(forged).replace(b"data/1", b"data/2")
        refuse(forged, "differs from the directory|overlapping another|not a readable zip")

    def test_record_inside_another(self):
        inner = archive(b"N.", [("data/1", b"x")])
        at = inner.index(b"PK\3\4", 1)
        data = archive(b"N.", [("data/0", inner[at:]), ("data/1", b"x")])
        nested = data.index(inner[at:])
        entry = data.rindex(b"PK\1\2")
        forged = bytearray(data)
        forged[entry + 42 : entry + 46] = struct.pack("<I", nested)
        refuse(bytes(forged), "overlapping another")

    def test_encrypted_record(self):
        data = bytearray(with_tensor())
        at = data.rindex(b"PK\1\2")
        data[at + 8] |= 1
        refuse(bytes(data), "encrypted record 'data/0'")

    def test_header_that_differs_from_the_directory(self):
        refuse(with_tensor().replace(b"archive/data/0", b"archive/data/1", 1), "header differs")

    def test_record_beyond_the_file(self):
        data = bytearray(with_tensor())
        at = data.rindex(b"PK\1\2")
        data[at + 20 : at + 28] = struct.pack("<II", 10**6, 10**6)
        refuse(bytes(data), "is it truncated")

    def test_damaged_storage(self):
        data = bytearray(with_tensor(b"\1" * 16))
        data[data.index(b"\1" * 16)] = 2
        refuse(bytes(data), "damaged record 'data/0'; expected bytes that match their checksum")

    def test_damaged_pickle(self):
        data = archive(text("hello") + END)
        refuse(data.replace(b"hello", b"jello"), "damaged record 'data.pkl'")

    def test_byte_order_that_does_not_exist(self):
        refuse(archive(b"N.", [("byteorder", b"middle")]), "byte order 'middle'")

    def test_big_endian_file_is_read(self):
        pkl = tensor() + END
        data = archive(pkl, [("byteorder", b"big"), ("data/0", struct.pack(">4f", 1, 2, 3, 4))])
        assert load(io.BytesIO(data)).tolist() == [[1.0, 2.0], [3.0, 4.0]]

    def test_mapped_big_endian_file_is_read(self, tmp_path):
        pkl = tensor() + END
        data = archive(pkl, [("byteorder", b"big"), ("data/0", struct.pack(">4f", 1, 2, 3, 4))])
        (tmp_path / "a.pt").write_bytes(data)
        loaded = load(tmp_path / "a.pt", mmap=True)
        assert loaded.tolist() == [[1.0, 2.0], [3.0, 4.0]]
        assert (tmp_path / "a.pt").read_bytes() == data


class TestTensor:
    def test_short_storage(self):
        refuse(with_tensor(bytes(12)), "record data/0 has 12 bytes; expected 4 elements of float32")

    def test_long_storage(self):
        refuse(with_tensor(bytes(20)), "record data/0 has 20 bytes; expected 4 elements")

    def test_wrong_dtype(self):
        store = storage("DoubleStorage")
        refuse(with_tensor(store=store), "16 bytes; expected 4 elements of float64")

    def test_missing_storage(self):
        refuse(archive(tensor() + END), "without the record data/0; expected all storages")

    def test_storage_outside_data(self):
        store = storage(key="../data.pkl")
        refuse(with_tensor(store=store), "without the record data/../data.pkl")

    @pytest.mark.parametrize("kind", ["ComplexFloatStorage", "QInt8Storage", "UntypedStorage"])
    def test_storage_that_amity_lacks(self, kind):
        refuse(with_tensor(store=storage(kind)), f"torch.{kind}, which amity does not have")

    def test_storage_in_two_dtypes(self):
        other = tensor(store=storage("IntStorage"))
        data = archive(b"(" + tensor() + other + b"t.", [("data/0", bytes(16))])
        refuse(data, "storage 0 in two dtypes")

    @pytest.mark.parametrize("numel", [-1, 2**70])
    def test_storage_of_impossible_size(self, numel):
        refuse(with_tensor(store=storage(numel=numel)), "the reference|expected [0-9]+ elements")

    @pytest.mark.parametrize(
        "claims",
        [
            {"offset": 1},
            {"offset": 2**60},
            {"size": (3, 2)},
            {"size": (2**40,), "stride": (1,)},
            {"stride": (3, 1)},
            {"stride": (2**62, 1)},
            {"size": (), "stride": (), "offset": 4},
        ],
        ids=str,
    )
    def test_elements_outside_the_storage(self, claims):
        refuse(
            with_tensor(**claims), "a tensor of shape .*; expected elements inside its storage of 4"
        )

    @pytest.mark.parametrize(
        "claims",
        [
            {"offset": -1},
            {"stride": (-2, 1)},
            {"size": (-2, 2)},
            {"size": (2.0, 2)},
            {"size": (True, 2)},
            {"size": "ab"},
            {"offset": None},
            {"stride": None},
        ],
        ids=str,
    )
    def test_numbers_that_are_no_sizes(self, claims):
        refuse(
            with_tensor(**claims), "a tensor whose (size|stride|offset) is .*; expected up to 64"
        )

    def test_sizes_without_strides(self):
        refuse(with_tensor(stride=(1,)), "2 sizes and 1 strides")

    def test_empty_tensor_anywhere_is_read(self):
        loaded = load(io.BytesIO(with_tensor(size=(0, 3), stride=(9, 9), offset=100)))
        assert loaded.tolist() == [] and tuple(loaded.shape) == (0, 3)

    @pytest.mark.parametrize("grad", [None, 1, "yes"])
    def test_requires_grad_that_is_no_bool(self, grad):
        refuse(with_tensor(grad=grad), "requires_grad=")

    def test_grad_of_integers(self):
        refuse(with_tensor(store=storage("IntStorage"), grad=True), "False for integers")

    def test_lazy_conjugate(self):
        metadata = b"}" + text("conj") + b"\x88s"
        refuse(with_tensor(more=metadata), "without lazy conjugation or negation")

    def test_bool_that_is_neither_true_nor_false(self):
        data = with_tensor(b"\0\1\7\1", store=storage("BoolStorage"))
        refuse(data, "with a bool of 7; expected bools that are 0 or 1")

    def test_tensor_over_no_storage(self):
        refuse(with_tensor(store=b"N"), "a tensor over NoneType; expected a storage")

    def test_parameter_over_no_tensor(self):
        refuse(
            archive(b"ctorch._utils\n_rebuild_parameter\n(N\x88}tR."), "a parameter over NoneType"
        )

    @pytest.mark.parametrize("identity", [b"N", b")", b"(" + text("module") + b"NNNNt", text("0")])
    def test_reference_that_names_no_storage(self, identity):
        refuse(archive(identity + b"Q."), "the reference .*; expected references to storages")

    def test_attribute_that_replaces_a_method(self):
        start = b"ctorch._utils\n_rebuild_parameter_with_state\n(" + tensor() + b"\x88}"
        for state in (b"}" + text("sum") + b"Ns", b"}" + text("no name") + b"Ns", b"}K\1Ns"):
            refuse(archive(start + state + b"tR.", [("data/0", bytes(16))]), "a tensor attribute")

    def test_unknown_tensor_class(self):
        pkl = b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\nSize\nctorch\nSize\n)}tR."
        refuse(archive(pkl), "a tensor of class .*; expected Tensor or Parameter")

    def test_device_that_does_not_exist(self):
        refuse(archive(b"ctorch\ndevice\n(" + text("abacus") + b"tR."), "device 'abacus'")


@pytest.fixture(scope="module")
def whole():
    """A file in the format before zip."""
    torch = pytest.importorskip("torch")
    file = io.BytesIO()
    saved = [torch.arange(4.0), torch.ones(3, dtype=torch.bool)]
    torch.save(saved, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


class TestLegacy:
    """The format before zip."""

    def test_truncated(self, whole):
        for size in (*range(16, len(whole) - 64, 37), *range(len(whole) - 64, len(whole))):
            refuse(whole[:size], "a damaged pickle|is it truncated")

    def test_unknown_version(self, whole):
        refuse(whole.replace(b"M\xe9\x03.", b"M\xea\x03.", 1), "of an unknown version")

    def test_big_endian(self, whole):
        flipped = whole.replace(
            text("little_endian") + b"q\x02\x88", text("little_endian") + b"q\x02\x89"
        )
        assert flipped != whole
        refuse(flipped, "of a big-endian machine")

    def test_storage_of_another_size(self, whole):
        at = whole.rindex(struct.pack("<q4f", 4, 0, 1, 2, 3))
        refuse(whole[:at] + b"\5" + whole[at + 1 :], "a storage of another size; expected 4")

    def test_huge_storage(self, whole):
        refuse(whole.replace(b"K\x04Nt", b"J\xff\xff\xff\x7fNt"), "2147483647 elements of float32")

    def test_storages_that_nobody_names(self, whole):
        old = whole[whole.rindex(b"]") :]
        refuse(
            whole.replace(old[:2], b"]]", 1)
            if old[:2] == b"]]"
            else whole.replace(old, b"]." + old[old.index(b".") + 1 :]),
            "with the storages|a damaged pickle",
        )

    def test_bool_that_is_neither_true_nor_false(self, whole):
        refuse(whole.replace(b"\1\1\1", b"\1\5\1"), "with a bool of 5")

    def test_mapping(self, whole, tmp_path):
        (tmp_path / "a.pt").write_bytes(whole)
        with pytest.raises(FormatError, match="load without mmap"):
            load(tmp_path / "a.pt", mmap=True)

    def test_code(self):
        from amity.io import legacy

        refuse(legacy.MAGIC + b"cos\nsystem\n(" + text("true") + b"tR.", "the name os.system")

    def test_storage_before_the_object(self):
        from amity.io import legacy

        refuse(legacy.MAGIC + storage() + b".", "a storage before the object")


SAVED = {"x": ranges.arange(6, dtype=dtypes.float32), "n": [1, 2.5, "a", b"b"], "t": (None, True)}


def pickle_and_storages():
    file = io.BytesIO()
    save(SAVED, file)
    with zipfile.ZipFile(file) as source:
        records = [(i.filename.partition("/")[2], source.read(i)) for i in source.infolist()]
    return records[0][1], records[1:]


def damage(draw, data):
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(out) - 1))
        if draw(st.booleans()):
            out[at] = draw(st.integers(0, 255))
        elif draw(st.booleans()):
            out[at:at] = draw(st.binary(max_size=4))
        elif len(out) > 1:
            del out[at]
    return bytes(out)


def load_or_name(data):
    """Load; the only way to fail is a named error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bad escapes in text opcodes
        try:
            load(io.BytesIO(data))
        except FormatError:
            pass
        except RuntimeError as error:
            assert "map_location" in str(error)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_any_damage_to_the_pickle_is_named_or_harmless(data):
    pkl, records = pickle_and_storages()
    load_or_name(archive(damage(data.draw, pkl), records))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_damage_to_the_zip_is_named_or_harmless(data):
    file = io.BytesIO()
    save(SAVED, file)
    load_or_name(damage(data.draw, file.getvalue()))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_as_a_pickle_are_named_or_harmless(data):
    load_or_name(archive(data + END))
