"""Pickles that are wrong or hostile, by name: each gives a FormatError and runs nothing."""

from __future__ import annotations

import io
import os
import pickle
import struct

import pytest

from amity.io import load
from tests.io.forge import END, archive, number, refuse, tensor, text, with_tensor


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
