"""Packing and padding, against PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity.nn.utils import rnn  # noqa: E402

theirs = torch.nn.utils.rnn
rng = np.random.default_rng(2)


def f(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def same(ours, expected):
    assert (ours is None) == (expected is None)
    if ours is not None:
        np.testing.assert_array_equal(ours.detach().numpy(), expected.detach().numpy())


def same_packed(ours, expected):
    assert type(ours) is rnn.PackedSequence
    for a, b in zip(ours, expected, strict=True):
        same(a, b)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[4, 4, 2], [1, 1, 1], [2, 4, 3]])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_padded_round_trip(batch_first, lengths, shape):
    x = f(*((3, 4) if batch_first else (4, 3)), *shape)
    enforce = lengths == sorted(lengths, reverse=True)
    args = (lengths, batch_first, enforce)
    ours = rnn.pack_padded_sequence(amity.from_numpy(x), *args)
    expected = theirs.pack_padded_sequence(torch.from_numpy(x), *args)
    same_packed(ours, expected)
    for total in (None, 6):
        a = rnn.pad_packed_sequence(ours, batch_first, -1.0, total)
        b = theirs.pad_packed_sequence(expected, batch_first, -1.0, total)
        same(a[0], b[0])
        same(a[1], b[1])


def test_gradients_pass():
    x = amity.from_numpy(f(4, 2, 3)).requires_grad_(True)
    packed = rnn.pack_padded_sequence(x, amity.tensor([3, 4]), enforce_sorted=False)
    out, _ = rnn.pad_packed_sequence(packed)
    (out * 2).sum().backward()
    expected = np.full((4, 2, 3), 2.0)
    expected[3, 0] = 0
    np.testing.assert_array_equal(x.grad.numpy(), expected)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("batch_first", [False, True])
def test_pad_sequence(side, batch_first):
    parts = [f(2, 3), f(4, 3), f(1, 3)]
    options = {"batch_first": batch_first, "padding_value": 7.0, "padding_side": side}
    ours = rnn.pad_sequence([amity.from_numpy(p) for p in parts], **options)
    same(ours, theirs.pad_sequence([torch.from_numpy(p) for p in parts], **options))
    if side == "right":
        again = rnn.unpad_sequence(ours, amity.tensor([2, 4, 1]), batch_first)
        for a, b in zip(again, parts, strict=True):
            np.testing.assert_array_equal(a.numpy(), b)


def test_pack_sequence():
    parts = [f(2, 3), f(4, 3), f(1, 3)]
    ours = rnn.pack_sequence([amity.from_numpy(p) for p in parts], enforce_sorted=False)
    same_packed(ours, theirs.pack_sequence([torch.from_numpy(p) for p in parts], False))
    for a, b in zip(rnn.unpack_sequence(ours), parts, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)


def test_packed_sequence_casts():
    packed = rnn.pack_sequence([amity.ones(2), amity.ones(1)])
    assert packed.double().data.dtype is amity.float64 and packed.float() is packed
    assert packed.half().data.dtype is amity.float16
    assert packed.long().data.dtype is amity.int64 and packed.int().data.dtype is amity.int32
    assert packed.cpu() is packed and packed.double().batch_sizes is packed.batch_sizes
    again = rnn.PackedSequence(packed.data, packed.batch_sizes, amity.tensor([1, 0]))
    assert again.unsorted_indices.tolist() == [1, 0]


@pytest.mark.parametrize(
    "lengths, text",
    [
        ([1, 2], "must be sorted in decreasing order"),
        ([2, 0], "has to be greater than 0"),
        ([2], "to be equal to batch_size, but got 1"),
        ([5, 2], "got a length of 5; expected at most 3"),
    ],
)
def test_wrong_lengths(lengths, text):
    with pytest.raises(RuntimeError, match=text):
        rnn.pack_padded_sequence(amity.ones(3, 2), lengths)


def test_wrong_arguments():
    packed = rnn.pack_sequence([amity.ones(2)])
    with pytest.raises(ValueError, match="total_length=1 and max sequence length being 2"):
        rnn.pad_packed_sequence(packed, total_length=1)
    with pytest.raises(RuntimeError, match="empty list"):
        rnn.pad_sequence([])
    with pytest.raises(RuntimeError, match="Expected iterable"):
        rnn.pad_sequence(3)
    with pytest.raises(ValueError, match="left or right"):
        rnn.pad_sequence([amity.ones(1)], padding_side="up")
