"""Parameters as one vector."""

import numpy as np
import pytest

import amity
from amity import nn

utils = nn.utils


def test_round_trip():
    m = nn.Linear(3, 2)
    vector = utils.parameters_to_vector(m.parameters())
    assert tuple(vector.shape) == (8,) and vector.requires_grad
    new = nn.Linear(3, 2)
    weight = new.weight
    utils.vector_to_parameters(vector, new.parameters())
    assert new.weight is weight and weight.is_leaf and weight.requires_grad
    for a, b in zip(m.parameters(), new.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_wrong_type():
    with pytest.raises(TypeError, match="expected a Tensor, but got: list"):
        utils.vector_to_parameters([1.0], [])


def test_order():
    parts = [amity.ones(2, 2), amity.zeros(1)]
    assert utils.parameters_to_vector(parts).tolist() == [1, 1, 1, 1, 0]
