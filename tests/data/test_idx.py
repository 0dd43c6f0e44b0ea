"""IDX files: what is written comes back, and each way to be wrong has its error."""

import gzip
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from amity.core.errors import FormatError
from amity.data.idx import TYPES, read_idx

CODES = {np.dtype(name): code for code, name in TYPES.items()}


def encode(array):
    big = array.astype(array.dtype.newbyteorder(">"))
    head = bytes([0, 0, CODES[big.dtype], array.ndim])
    return head + struct.pack(f">{array.ndim}I", *array.shape) + big.tobytes()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("idx") / "file"


@given(
    st.sampled_from(sorted(TYPES)).flatmap(
        lambda code: hnp.arrays(TYPES[code][1:], hnp.array_shapes(max_dims=4, min_side=0))
    ),
    st.booleans(),
)
def test_round_trip(path, array, is_zipped):
    data = encode(array)
    path.write_bytes(gzip.compress(data, 1) if is_zipped else data)
    got = read_idx(path)
    assert got.shape == array.shape and got.dtype == array.dtype and got.dtype.isnative
    np.testing.assert_array_equal(got, array)
    assert got.flags.writeable


GOOD = encode(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "first bytes ''"),
        (GOOD[:3], "first bytes '00 00 08'"),
        (b"PK\3\4" + GOOD, "first bytes '50 4b 03 04'"),
        (b"\0\0\x07\2" + GOOD[4:], "first bytes '00 00 07 02'"),
        (b"\0\0\x08\0", "first bytes '00 00 08 00'"),
        (GOOD[:9], "a header that is cut short"),
        (GOOD[:-1], "5 bytes of data"),
        (GOOD + b"x", "more bytes of data"),
        (b"\0\0\x08\xff" + b"\xff" * 1020, "0 bytes of data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("is_zipped", [False, True])
def test_wrong_files(path, data, says, is_zipped):
    path.write_bytes(gzip.compress(data) if is_zipped else data)
    with pytest.raises(FormatError, match=f"read_idx: got {says}.* in .*file; expected"):
        read_idx(path)


def test_a_shape_that_is_not_the_expected_one(path):
    path.write_bytes(GOOD)
    assert read_idx(path, (2, 3)).tolist() == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(FormatError, match=r"got shape \(2, 3\) in .*; expected shape \(3, 2\)"):
        read_idx(path, (3, 2))


@given(st.data())
def test_any_damage_to_a_gzip_file_is_found(path, data):
    whole = gzip.compress(encode(np.arange(200, dtype=np.int32)), mtime=0)
    place = data.draw(st.integers(10, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        damaged = bytearray(whole)
        damaged[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with pytest.raises(FormatError):
        read_idx(path)


def test_a_header_that_lies_costs_no_memory(path):
    path.write_bytes(b"\0\0\x0e\2" + b"\xff" * 8 + bytes(100))
    tracemalloc.start()
    with pytest.raises(FormatError, match="100 bytes of data"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_bomb_is_not_unpacked(path):
    path.write_bytes(gzip.compress(GOOD + bytes(50 << 20), 1))
    tracemalloc.start()
    with pytest.raises(FormatError, match="more bytes"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_idx(tmp_path / "none")
