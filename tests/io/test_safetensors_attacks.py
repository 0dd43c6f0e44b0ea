"""Every way in which a safetensors file can be wrong, by name: each gives a FormatError."""

from __future__ import annotations

import io
import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amity.core.errors import FormatError
from amity.frontend import create, ranges
from amity.io import load, load_file, save_file

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def file_of(header, data=b"", size=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if size is None else size) + text + data


def refuse(data, words):
    with pytest.raises(FormatError, match=words) as caught:
        load_file(io.BytesIO(data))
    assert str(caught.value).startswith("load_file: got the file object")


def test_valid_file_is_read():
    assert load_file(io.BytesIO(file_of({"x": F32}, bytes(8))))["x"].tolist() == [0.0, 0.0]


def test_empty_file():
    refuse(b"", "of 0 bytes; expected a safetensors file of at least 8 bytes")


def test_file_shorter_than_the_length():
    refuse(b"\1\0\0", "of 3 bytes; expected a safetensors file of at least 8 bytes")


def test_huge_header():
    refuse(
        file_of(b"{}", size=2**63), "claims 9223372036854775808 bytes; expected at most 100000000"
    )


def test_header_longer_than_the_file():
    refuse(file_of(b"{}", size=3), "of 10 bytes, whose header claims 3; .*is it truncated?")


def test_header_of_no_bytes():
    refuse(file_of(b""), "begins with b''")


def test_truncated_data():
    refuse(file_of({"x": F32}, bytes(7)), "with 7 bytes of tensors; expected 8 .*truncated")


def test_trailing_data():
    refuse(file_of({"x": F32}, bytes(9)), "with 9 bytes of tensors; expected 8")


def test_overlapping_offsets():
    y = {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}
    refuse(file_of({"x": F32, "y": y}, bytes(12)), "'y' at byte 4 overlaps another")


def test_same_offsets_twice():
    refuse(file_of({"x": F32, "y": F32}, bytes(8)), "overlaps another")


def test_hole_between_tensors():
    y = {"dtype": "F32", "shape": [1], "data_offsets": [12, 16]}
    refuse(file_of({"x": F32, "y": y}, bytes(16)), "'y' at byte 12 leaves a hole before it")


def test_empty_tensor_inside_another():
    y = {"dtype": "F32", "shape": [0], "data_offsets": [4, 4]}
    refuse(file_of({"x": F32, "y": y}, bytes(8)), "'y' at byte 4 overlaps another")


def test_offsets_beyond_the_file():
    x = {"dtype": "U8", "shape": [2**40], "data_offsets": [0, 2**40]}
    refuse(file_of({"x": x}, bytes(8)), "with 8 bytes of tensors; expected 1099511627776")


@pytest.mark.parametrize(
    "offsets",
    [[8, 0], [-8, 0], [0], [0, 8, 16], [0, 8.0], ["0", "8"], [False, 8], None, [0, 2**64]],
)
def test_offsets_that_are_no_range(offsets):
    refuse(file_of({"x": F32 | {"data_offsets": offsets}}, bytes(8)), "no valid data_offsets")


@pytest.mark.parametrize("shape", [[-2], [2.0], ["2"], [True, 2], None, 2, [2**63], [1] * 65])
def test_shape_that_is_no_list_of_sizes(shape):
    refuse(file_of({"x": F32 | {"shape": shape}}, bytes(8)), "'x' has no valid shape")


def test_shape_that_overflows():
    x = F32 | {"shape": [2**62, 2**62, 0], "data_offsets": [0, 0]}
    refuse(file_of({"x": x}), "expected fewer than 2\\*\\*63 elements")


def test_size_that_differs_from_the_shape():
    refuse(file_of({"x": F32 | {"shape": [3]}}, bytes(8)), "8 bytes; expected 12 bytes for F32")


@pytest.mark.parametrize("dtype", ["F33", "U16", "C64", "f32", "", None, 3, ["F32"]])
def test_wrong_dtype(dtype):
    refuse(
        file_of({"x": F32 | {"dtype": dtype}}, bytes(8)), "'x' has dtype .*; expected one of I64"
    )


def test_bool_that_is_neither_true_nor_false():
    x = {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}
    refuse(file_of({"x": x}, b"\0\1\2"), "with a bool of 2; expected bools that are 0 or 1")


def test_duplicate_keys():
    one = json.dumps(F32).encode()
    refuse(file_of(b'{"x":' + one + b',"x":' + one + b"}", bytes(8)), "the key 'x' twice")


def test_duplicate_fields():
    refuse(file_of(b'{"x":{"dtype":"F32","dtype":"I32"}}'), "the key 'dtype' twice")


def test_unknown_field():
    refuse(file_of({"x": F32 | {"code": "import os"}}, bytes(8)), "entry 'x' has other fields")


def test_missing_field():
    refuse(file_of({"x": {"dtype": "F32", "shape": [2]}}, bytes(8)), "entry 'x' has other fields")


def test_entry_that_is_no_object():
    refuse(file_of({"x": [1, 2]}), "entry 'x' has other fields")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_nan_header(number):
    header = b'{"x":{"dtype":"F32","shape":[' + number + b'],"data_offsets":[0,8]}}'
    refuse(
        file_of(header, bytes(8)), f"whose header has {number.decode()}; expected finite numbers"
    )


def test_number_with_too_many_digits():
    header = b'{"x":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,8]}}'
    refuse(file_of(header, bytes(8)), "header is not JSON")


def test_header_that_is_a_list():
    refuse(file_of([F32]), "begins with b'\\['; expected a header that begins with b'{'")


def test_header_that_begins_with_a_space():
    refuse(file_of(b" {}"), "begins with b' '")


def test_header_that_is_not_json():
    refuse(file_of(b"{x}"), "header is not JSON")


def test_header_that_is_not_utf8():
    refuse(file_of(b'{"\xff": 1}'), "header is not JSON .*; expected JSON in UTF-8")


def test_header_with_text_after_it():
    refuse(file_of(b"{}{}"), "header is not JSON")


def test_header_that_nests_deeply():
    refuse(file_of(b'{"x":' + b"[" * 200_000), "nests too deeply|not JSON")


@pytest.mark.parametrize("metadata", [{"a": 1}, {"a": None}, [], "text", {"a": {"b": "c"}}, None])
def test_metadata_that_is_no_text(metadata):
    refuse(file_of({"__metadata__": metadata}), "__metadata__ is not text")


def test_not_a_safetensors_file():
    refuse(b"PK\3\4" + bytes(30), "header claims .*")


def test_name_of_the_file_stands_in_the_error(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(b"abc")
    with pytest.raises(FormatError, match=r"load: got '.*m\.safetensors', of 3 bytes"):
        load(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "none.safetensors")


def valid():
    file = io.BytesIO()
    save_file(
        {"a": create.zeros(3), "b": ranges.arange(2), "c": create.zeros(0, 2)}, file, {"k": "v"}
    )
    return file.getvalue()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_damage_is_named_or_harmless(data):
    damaged = bytearray(valid())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from("set cut drop".split())):
            case "set":
                damaged[at] = data.draw(st.integers(0, 255))
            case "cut":
                del damaged[max(at, 1) :]
            case "drop" if len(damaged) > 1:
                del damaged[at]
    try:
        load_file(io.BytesIO(bytes(damaged)))
    except FormatError:
        pass


@pytest.mark.parametrize("size", range(0, 60, 7))
def test_every_cut_is_named(size):
    refuse(valid()[:size], "expected")
