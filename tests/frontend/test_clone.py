"""Copies with memory of their own: their bits, their layouts, and that compiling keeps them in one graph."""

import numpy as np
import pytest

import amity


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_nans_keep_their_bits(dtype):
    bits = np.array([[0x7FC1, 0xFFA5, 0x7E01], [0x7D55, 0x3F80, 0x8000]], "u2")
    x = amity.from_numpy(bits.view(np.int16)).view(getattr(amity, dtype))
    for y in (x.clone(), x.t().contiguous().t(), amity.zeros_like(x).copy_(x)):
        np.testing.assert_array_equal(y.contiguous().view(amity.int16).numpy().view("u2"), bits)


def test_order_of_dimensions():
    x = amity.randn(2, 3, 4).transpose(0, 2)
    assert x.clone().stride() == x.stride() and x.contiguous().stride() == (6, 2, 1)
    np.testing.assert_array_equal(x.contiguous().numpy(), x.numpy())
    assert amity.empty(3, 0).t().contiguous().shape == (0, 3)


@pytest.mark.parametrize("dtype", [amity.float32, amity.bfloat16])
def test_copies_stay_in_one_graph(dtype):
    def f(x):
        y = x.transpose(0, 1).reshape(-1) + 1
        z = x.t().contiguous()
        z.copy_(z * 2)
        return y * z.clone().view(-1)

    x = amity.randn(5, 7).to(dtype)
    got = amity.compile(f, fullgraph=True)(x)
    assert got.dtype is dtype
    np.testing.assert_array_equal(got.float().numpy(), f(x).float().numpy())
