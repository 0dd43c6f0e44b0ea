"""Every way in which a checkpoint can be wrong or hostile, by name: each gives a FormatError."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amity.core import dtype as dtypes
from amity.core.errors import FormatError
from amity.frontend import create
from amity.io import load, save

END = b"."


def archive(data_pkl, records=(), folder="archive", **options):
    """A zip with this pickle and these (name, bytes) records."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as out:
        for name, data in [("data.pkl", data_pkl), *records]:
            out.writestr(f"{folder}/{name}", data)
    return file.getvalue()


def refuse(data, words):
    with pytest.raises(FormatError, match=words) as caught:
        load(io.BytesIO(data))
    assert str(caught.value).startswith("load: got ")


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    return pickle.dumps(value, 2)[2:-1]


def storage(kind="FloatStorage", key="0", location="cpu", numel=4):
    name = b"ctorch\n" + kind.encode() + b"\n"
    return b"(" + text("storage") + name + text(key) + text(location) + number(numel) + b"tQ"


def tensor(store=None, offset=0, size=(2, 2), stride=(2, 1), grad=False, hooks=b"}", more=b""):
    arguments = (store or storage()) + number(offset) + number(size) + number(stride)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + number(grad) + hooks + more + b"tR"


def with_tensor(data=bytes(16), **claims):
    return archive(tensor(**claims) + END, [("data/0", data)])


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


class TestCode:
    """Nothing in a file runs: the marker that each attack would write does not appear."""

    @pytest.fixture(autouse=True)
    def marker(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        yield
        assert os.listdir(tmp_path) == []

    COMMAND = text("touch marker")

    @pytest.mark.parametrize(
        "module", ["os", "posix", "nt", "subprocess", "builtins", "__builtin__"]
    )
    @pytest.mark.parametrize("name", ["system", "Popen", "eval", "exec", "getattr", "open"])
    def test_pickle_with_os_system(self, module, name):
        pkl = f"c{module}\n{name}\n(".encode() + self.COMMAND + b"tR" + END
        refuse(archive(pkl), f"the name .*{name}; expected data only: no code runs from a file")

    def test_reduce_of_python(self):
        class Attack:
            def __reduce__(self):
                return os.system, ("touch marker",)

        for protocol in (2, 3, 4, 5):
            refuse(archive(pickle.dumps([Attack()], protocol)), "the name (posix|nt).system")

    def test_stack_global(self):
        pkl = b"\x80\x04" + text("os") + text("system") + b"\x93" + self.COMMAND + b"\x85R."
        refuse(archive(pkl), "the name os.system")

    def test_stack_global_that_is_no_text(self):
        refuse(archive(b"N" + text("system") + b"\x93."), "a name that is no text")

    def test_text_protocol(self):
        refuse(archive(b"cos\nsystem\n(S'touch marker'\ntR."), "the name os.system")
        refuse(archive(b"(S'touch marker'\nios\nsystem\n."), "the opcode INST")

    def test_obj_opcode(self):
        refuse(archive(b"(cos\nsystem\n" + self.COMMAND + b"o."), "the name os.system")
        refuse(archive(b"(ccollections\nOrderedDict\no."), "the opcode OBJ")

    @pytest.mark.parametrize("opcode", [b"\x82\x01", b"\x83\x01\0", b"\x84\x01\0\0\0"])
    def test_extension_registry(self, opcode):
        refuse(archive(opcode + b"."), "the opcode EXT")

    @pytest.mark.parametrize(
        "name",
        [
            "collections\nOrderedDict.__init__",
            "collections\nOrderedDict.fromkeys",
            "torch\nSize.__class__",
            "torch._utils\n_rebuild_tensor_v2.__globals__",
            "torch\nload",
            "torch.hub\nload",
            "amity.io\nload",
            "numpy\nload",
        ],
    )
    def test_attributes_of_allowed_names(self, name):
        refuse(archive(b"c" + name.encode() + b"\n)R."), "the name |amity does not have")

    def test_call_of_a_value(self):
        refuse(archive(text("system") + b")R."), "a call of str")
        refuse(archive(b"ctorch\nfloat32\n)R."), "a call of DType")

    def test_call_with_arguments_that_are_no_tuple(self):
        refuse(archive(b"ccollections\nOrderedDict\n]R."), "a call of Function")

    def test_new_object_of_a_function(self):
        refuse(
            archive(b"ctorch\nSize\n)\x81."), "an object of Function .*; expected an allowed class"
        )

    def test_new_object_of_a_value(self):
        refuse(archive(b"N)\x81."), "an object of NoneType")

    @pytest.mark.parametrize("target", [b"]", b"}", b"N", b"ctorch\nSize\n", b"ctorch\nfloat32\n"])
    def test_state_for_what_has_none(self, target):
        refuse(
            archive(target + b"}" + text("__class__") + b"Nsb."), "the name |state for|amity does"
        )

    @pytest.mark.parametrize("name", ["__class__", "items", "__reduce__", "update"])
    def test_state_that_replaces_a_method(self, name):
        pkl = b"ccollections\nOrderedDict\n)R}" + text(name) + b"Nsb."
        refuse(archive(pkl), f"an OrderedDict attribute '{name}'; expected a new name")

    def test_state_with_a_name_that_is_no_text(self):
        refuse(archive(b"ccollections\nOrderedDict\n)R}K\1Nsb."), "attribute 1")

    def test_backward_hooks(self):
        hooks = b"}K\1Ns"
        refuse(archive(tensor(hooks=hooks) + END, [("data/0", bytes(16))]), "none: hooks are code")
        pkl = b"ctorch._utils\n_rebuild_parameter\n(" + tensor() + b"\x88" + hooks + b"tR."
        refuse(archive(pkl, [("data/0", bytes(16))]), "none: hooks are code")

    def test_functions_left_in_the_result_do_nothing(self):
        left = load(io.BytesIO(archive(b"ctorch\nSize\n.")))
        with pytest.raises(TypeError, match="not callable"):
            left((1,))

    def test_encode_is_latin1_only(self):
        pkl = b"c_codecs\nencode\n(" + text("x") + text("zlib_codec") + b"tR."
        refuse(archive(pkl), "_codecs.encode with arguments that it does not take")


class TestExhaustion:
    """Small files that ask for much memory or time are refused at once."""

    def test_key_whose_hash_never_ends(self):
        pkl = b"}" + b"N" + b"2\x86" * 300 + b"Ns."
        refuse(archive(pkl), "a very large key .*; expected keys of at most 64 parts")

    def test_key_that_nests_deeply(self):
        refuse(archive(b"}" + b"N" + b"\x85" * 100_000 + b"Ns."), "a very large key")

    def test_set_of_tuples(self):
        refuse(archive(b"\x8f(" + b"N" + b"\x85" * 100_000 + b"\x90."), "a very large key")
        pkl = b"c__builtin__\nset\n(]" + b"N" + b"\x85" * 100_000 + b"atR."
        refuse(archive(pkl), "builtins.set with arguments that it does not take")

    @pytest.mark.parametrize("key", [b"]", b"}", b"\x8f", b"ctorch\nSize\n"])
    def test_key_that_cannot_be_hashed_or_compared(self, key):
        refuse(archive(b"}" + key + b"Ns."), "as a key .*; expected a plain value")

    def test_deep_list_loads_and_goes(self):
        value = load(io.BytesIO(archive(b"]" * 100_000 + b"a" * 99_999 + b".")))
        assert len(value) == 1

    def test_bytearray_of_a_size(self):
        pkl = b"c__builtin__\nbytearray\n(" + number(2**45) + b"tR."
        refuse(archive(pkl), "builtins.bytearray with arguments that it does not take")

    @pytest.mark.parametrize(
        "make", [b"_codecs\nencode", b"builtins\nset", b"collections\nCounter"]
    )
    def test_value_copied_again_and_again(self, make):
        big = {b"_codecs\nencode": text("x" * 10**5), b"builtins\nset": b"](" + b"N" * 10**5 + b"e"}
        value = big.get(make, b"}(" + b"".join(number(i) + b"N" for i in range(20_000)) + b"u")
        pkl = value + b"r\0\0\0\0" + (b"c" + make + b"\n(h\0tR0") * 10_000 + END
        refuse(archive(pkl), "calls that copy more than the file holds")

    @pytest.mark.parametrize("opcode", [b"\x8e", b"\x8d", b"\x96"])
    def test_length_beyond_the_file(self, opcode):
        refuse(archive(opcode + struct.pack("<Q", 2**40) + b"x."), "a damaged pickle")

    def test_memo_index_beyond_the_memory(self):
        assert load(io.BytesIO(archive(b"Nr\xff\xff\xff\xff."))) is None

    def test_number_with_too_many_digits(self):
        refuse(archive(b"L" + b"9" * 10_000 + b"L\n."), "a damaged pickle")

    def test_shape_that_overflows(self):
        refuse(with_tensor(size=(2**62, 2**62), stride=(0, 0)), "expected fewer than 2\\*\\*63")

    def test_size_beyond_63_bits(self):
        refuse(with_tensor(size=(2**63,), stride=(0,)), "a tensor whose size is")

    def test_too_many_dimensions(self):
        refuse(with_tensor(size=(1,) * 65, stride=(1,) * 65), "expected up to 64 ints")


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


class TestNumpy:
    F8 = b"cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tR"
    BYTES = b"c_codecs\nencode\n(" + text("\0" * 8) + text("latin1") + b"tR"
    EMPTY = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n)NtR"

    def test_valid_ones_are_read(self):
        pkl = b"cnumpy._core.multiarray\nscalar\n(" + self.F8 + self.BYTES + b"tR."
        assert load(io.BytesIO(archive(pkl))) == 0.0
        pkl = self.EMPTY + b"(K\1(K\1t" + self.F8 + b"\x89" + self.BYTES + b"tb."
        assert load(io.BytesIO(archive(pkl))).tolist() == [0.0]

    @pytest.mark.parametrize("name", ["O", "O8", "V8", "f4,O", "(2,)f4", "M8", "S", "object"])
    def test_dtype_of_objects(self, name):
        pkl = b"cnumpy\ndtype\n(" + text(name) + b"tR."
        refuse(archive(pkl), "the NumPy dtype .*; expected numbers, bools or text")

    def test_dtype_that_does_not_exist(self):
        refuse(archive(b"cnumpy\ndtype\n(" + text("f3") + b"tR."), "numpy.dtype with arguments")

    def test_byte_order_that_does_not_exist(self):
        refuse(archive(self.F8 + b"(K\3" + text("?") + b"tb."), "the byte order")
        refuse(archive(self.F8 + b"Nb."), "ArrayType with arguments that it does not take")

    def test_scalar_of_the_wrong_size(self):
        pkl = b"cnumpy._core.multiarray\nscalar\n(" + self.F8 + b"C\1xtR."
        refuse(archive(pkl), "a NumPy scalar over b'x'; expected 8 bytes")

    def test_scalar_without_a_dtype(self):
        pkl = b"cnumpy._core.multiarray\nscalar\n(N" + self.BYTES + b"tR."
        refuse(archive(pkl), "the NumPy dtype None")

    @pytest.mark.parametrize("shape", [b"K\2", b"K\0", number(2**62), number(-1), number(2**70)])
    def test_array_of_the_wrong_size(self, shape):
        pkl = self.EMPTY + b"(K\1(" + shape + b"t" + self.F8 + b"\x89" + self.BYTES + b"tb."
        refuse(archive(pkl), "an array of shape|a tensor whose shape")

    def test_array_of_a_list(self):
        pkl = self.EMPTY + b"(K\1(K\1t" + self.F8 + b"\x89]tb."
        refuse(archive(pkl), "an array over list; expected bytes")

    def test_array_class_called(self):
        refuse(archive(b"cnumpy\nndarray\n(" + number(2**40) + b"tR."), "called as a function")
        refuse(archive(b"cnumpy\nndarray\n(" + number(2**40) + b"t\x81."), "an object of Function")

    def test_array_of_another_class(self):
        pkl = b"cnumpy._core.multiarray\n_reconstruct\n(ctorch\nSize\n)NtR."
        refuse(archive(pkl), "an array of class")


class TestMachine:
    """Pickles that are no programs of the stack machine."""

    @pytest.mark.parametrize(
        ("pkl", "words"),
        [
            (b"", "a damaged pickle"),
            (b"N", "a damaged pickle"),
            (b".", "an empty stack"),
            (b"0.", "no mark"),
            (b"t.", "no mark"),
            (b"a.", "an empty stack"),
            (b"Na.", "an empty stack"),
            (b"NNa.", "NoneType to fill .*; expected list"),
            (b"]NNs.", "list to fill .*; expected dict"),
            (b")(Ne.", "tuple to fill .*; expected list"),
            (b"}(Nu.", "a key without a value"),
            (b"(Nd.", "a key without a value"),
            (b"](N\x90.", "list to fill .*; expected set"),
            (b"h\0.", "reference 0 to nothing"),
            (b"q\0.", "an empty stack"),
            (b"N\x86.", "an empty stack"),
            (b"\xff.", "a damaged pickle"),
            (b"\x97.", "the opcode NEXT_BUFFER"),
            (b"Pabc\n.", "the opcode PERSID"),
            (b"X\xff\xff\xff\xffabc.", "a damaged pickle"),
            (b"X\1\0\0\0\xff.", "a damaged pickle"),
            (b"cos.", "a damaged pickle"),
            (b"Ix\n.", "a damaged pickle"),
        ],
    )
    def test_broken_program(self, pkl, words):
        refuse(archive(pkl), words)

    def test_all_allowed_opcodes_are_known_to_python(self):
        import pickletools

        from amity.io import unpickler

        known = {opcode.name for opcode in pickletools.opcodes}
        assert set(unpickler.ACTIONS) | unpickler.PUSHES <= known


class TestLegacy:
    """The format before zip."""

    @pytest.fixture(scope="class")
    def whole(self):
        torch = pytest.importorskip("torch")
        file = io.BytesIO()
        saved = [torch.arange(4.0), torch.ones(3, dtype=torch.bool)]
        torch.save(saved, file, _use_new_zipfile_serialization=False)
        return file.getvalue()

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


SAVED = {"x": create.arange(6, dtype=dtypes.float32), "n": [1, 2.5, "a", b"b"], "t": (None, True)}


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
