"""Positions of triangles, against PyTorch."""

import itertools

import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402


@pytest.mark.parametrize("name", ["tril_indices", "triu_indices"])
def test_positions(name):
    for row, col, offset in itertools.product((0, 1, 3, 4), (0, 2, 4), (-5, -1, 0, 2)):
        mine = getattr(amity, name)(row, col, offset)
        theirs = getattr(torch, name)(row, col, offset)
        assert mine.dtype is amity.int64 and tuple(mine.shape) == tuple(theirs.shape)
        assert mine.tolist() == theirs.tolist()
    assert getattr(amity, name)(3, 3, dtype=amity.int32).dtype is amity.int32


def test_errors():
    with pytest.raises(RuntimeError, match="row must be non-negative"):
        amity.tril_indices(-1, 2)
    with pytest.raises(RuntimeError, match="col must be non-negative"):
        amity.triu_indices(1, -2)
