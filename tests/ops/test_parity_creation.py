"""Functions that make tensors against PyTorch: values, dtypes, layouts, leaves and errors."""

from __future__ import annotations

import re

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import DTYPES, cases, match, same  # noqa: E402

CASES = cases(
    """
zeros(2, 3) ; zeros((2, 3)) ; zeros([2, 3]) ; zeros(()) ; zeros(0) ; zeros(2, 0, 3)
zeros(size=(2, 3)) ; zeros(2, dtype=int16) ; zeros(m.Size([2, 1])) ; zeros(True) ; zeros(-1)
zeros(2, -3) ; zeros(1.5) ; zeros('a') ; zeros((2.0, 3)) ; zeros(2, dtype='float32')
zeros(2, dtype=int) ; zeros(2, dtype=float64, device='cpu') ; zeros(2, device='nowhere')
zeros(2, requires_grad=True).requires_grad ; zeros(2, dtype=int32, requires_grad=True)
zeros(2, layout=strided, pin_memory=False) ; zeros(2, out=empty(2)) ; zeros(2, 3, out=empty(0))
zeros(2, out=empty(2, dtype=int64)) ; zeros(2, out=empty(2), dtype=float64) ; ones(2, 3)
ones((3,), dtype=bool) ; ones(2, out=empty(2, dtype=uint8)) ; ones([]) ; ones(3, -2) ; ones(None)
ones(2, 3, bogus=1) ; full((2, 3), 1.5) ; full((2,), 2) ; full((2,), True) ; full((), 3)
full([2], 1e300) ; full((2,), 3, dtype=float16) ; full((2,), 2.7, dtype=int32) ; full((2,), nan)
full((2,), inf, dtype=float64) ; full((2,), tensor(4)) ; full((2,), tensor([4, 5]))
full((2,), 300, dtype=uint8) ; full((2,), -1, dtype=uint8) ; full((2,), 2**40, dtype=int32)
full((-2,), 1) ; full(2, 1) ; full((2,), 1, requires_grad=True)
full((2,), 1.0, requires_grad=True) ; full((2,), 'a') ; full((2, 2), 7, out=empty(2, 2))
full((2, 2), 7, out=empty(2, 2, dtype=int64)).dtype ; full((2,), fill_value=3)
full(size=(2,), fill_value=3) ; full((2,), 0.1, dtype=bool) ; empty(2, 3).shape ; empty(()).shape
empty(0).dtype ; empty(2, dtype=bool).dtype ; empty(2, requires_grad=True).is_leaf ; empty(-2)
empty_strided((2, 3), (1, 2)).stride() ; empty_strided((2, 3), (0, 0)).stride()
empty_strided((2, 3), (1,)) ; empty_strided((2, -3), (1, 1)) ; empty_strided((2, 3), (-1, 1))
empty_permuted((2, 3, 4), (2, 0, 1)).stride() ; empty_permuted((2, 3), (0, 0)) ; arange(5)
arange(0) ; arange(1, 4) ; arange(1, 4, 2) ; arange(5, 1, -2) ; arange(0.5) ; arange(1, 2.5, 0.5)
arange(5, dtype=float16) ; arange(5, dtype=uint8) ; arange(-3, 3, dtype=int8) ; arange(0, 1, 0.1)
arange(1.0) ; arange(5.7, dtype=int64) ; arange(0.5, 5.5, 1.5, dtype=int64)
arange(0, 5, 0.5, dtype=int32) ; arange(start=1, end=7, step=3) ; arange(end=3)
arange(tensor(3)) ; arange(0, tensor(2.5)) ; arange(True) ; arange(2**40, 2**40 + 3)
arange(2**60, 2**60 + 3) ; arange(0, 5, 0) ; arange(5, 0) ; arange(0, 5, -1) ; arange(nan)
arange(0, inf) ; arange(0, 1, nan) ; arange('a') ; arange(3, requires_grad=True)
arange(3.0, requires_grad=True) ; arange(3, out=empty(3)) ; arange(3, out=empty(5))
arange(3, out=empty(3, dtype=int64)) ; arange(3, dtype=bool) ; arange(2, dtype=bool) ; range(1, 4)
range(0.5, 3) ; linspace(0, 1, 5) ; linspace(0, 1, 0) ; linspace(3, 7, 1) ; linspace(1, -1, 4)
linspace(0, 10, 4, dtype=int64) ; linspace(-5, 5, 8, dtype=int32)
linspace(0, 10, 7, dtype=int16) ; linspace(-1, 1, 5, dtype=float16)
linspace(-1, 1, 5, dtype=bfloat16) ; linspace(0, 1, 11, dtype=float64)
linspace(-3, 10, 9, dtype=float64) ; linspace(tensor(0.0), tensor(1.0), 3)
linspace(tensor(0.0), 1, steps=3) ; linspace(tensor([0.0]), 1, 3)
linspace(start=0, end=1, steps=4) ; linspace(0, 1, -1) ; linspace(0, 1) ; linspace(0, 1, 2.5)
linspace('a', 1, 2) ; linspace(nan, 1, 3) ; linspace(0, 1, 3, out=empty(3))
linspace(0, 4, 3, dtype=bool) ; linspace(0, 1, 3, requires_grad=True)
linspace(0, 300, 3, dtype=uint8) ; logspace(0, 2, 3) ; logspace(-1, 1, 5, dtype=float64)
logspace(0, 4, 5, base=2) ; logspace(0, 4, 5, 2.0) ; logspace(0, 3, 4, base=2, dtype=int64)
logspace(0, 2, 0) ; logspace(1, 2, 1) ; logspace(0, 2, -3) ; logspace(0, 2, 3, out=empty(3))
logspace(tensor(0.0), 2, 3) ; logspace(tensor([0.0]), 2, 3) ; logspace(0, 2, 4, dtype=float16)
logspace(0, 4, 5, base=-2) ; eye(3) ; eye(2, 3) ; eye(3, 2, dtype=int64) ; eye(0) ; eye(2, 0)
eye(3, dtype=bool) ; eye(2, dtype=bfloat16) ; eye(-1) ; eye(2, -1) ; eye(2.5)
eye(2, out=empty(2, 2)) ; eye(2, requires_grad=True).requires_grad ; scalar_tensor(3)
scalar_tensor(2.5, dtype=int32) ; scalar_tensor(True) ; zeros_like(x) ; zeros_like(x, dtype=int8)
zeros_like(x.T).stride() ; zeros_like(x[:, ::2]).stride()
zeros_like(x[:1].expand(3, 4)).stride()
zeros_like(x.T, memory_format=contiguous_format).stride()
zeros_like(x.T, memory_format=preserve_format).stride()
zeros_like(x[None, None], memory_format=channels_last).stride()
zeros_like(x, requires_grad=True).requires_grad ; zeros_like(x, dtype=int64, requires_grad=True)
zeros_like(3) ; zeros_like(x[0, 0]) ; zeros_like(x[:0]) ; ones_like(x.to(bool))
ones_like(x, dtype=bfloat16) ; ones_like(x.T) ; full_like(x, 3) ; full_like(x, 2.5, dtype=int64)
full_like(x.to(int32), 2.5) ; full_like(x, tensor(2)) ; full_like(x.to(uint8), 256)
full_like(x, nan) ; full_like(x, 'a') ; empty_like(x.T).stride() ; empty_like(x, dtype=bool).dtype
x.new_zeros(2, 3) ; x.new_zeros((2, 3)) ; x.new_zeros(2, dtype=int64) ; x.new_zeros(-2)
x.new_ones(()) ; x.new_ones(2, 1) ; x.new_full((2,), 7) ; x.new_full((2,), 7, dtype=int8)
x.to(int32).new_full((2,), 2.5) ; x.new_full(2, 7) ; x.new_empty(2, 3).shape
x.new_empty((0, 3)).dtype ; x.new_empty_strided((2, 3), (1, 2)).stride() ; x.new_tensor([1, 2])
x.new_tensor([1, 2], dtype=int64) ; x.to(int64).new_tensor([1.5, 2]) ; x.new_tensor(x)
x.new_tensor(3, requires_grad=True).requires_grad ; tril(x) ; tril(x, 1) ; tril(x, diagonal=-1)
tril(x, 10) ; tril(x, -10) ; tril(x[:, :0]) ; tril(x[0]) ; tril(x[None].expand(2, 3, 4), -1)
tril(x.to(bool)) ; tril(x.to(int32), 1) ; tril(x.T) ; triu(x) ; triu(x, 2) ; triu(x, -1)
triu(x.to(bfloat16)) ; triu(x[0, 0]) ; triu(x, 0.5) ; x.tril(1), x.triu(1)
x.clone().tril_(), x.clone().triu_(1) ; tril(x, out=empty(3, 4)) ; tril_indices(3, 3)
tril_indices(3, 4, 1) ; tril_indices(4, 3, offset=-1) ; tril_indices(0, 3) ; tril_indices(3, 0)
tril_indices(2, 2, dtype=int32) ; tril_indices(-1, 2)
tril_indices(2, 2, 5), tril_indices(2, 2, -5) ; tril_indices(2, 2, dtype=float32)
triu_indices(3, 3) ; triu_indices(3, 4, 1) ; triu_indices(4, 3, offset=-2)
triu_indices(2, 2, 5), triu_indices(2, 2, -5) ; triu_indices(2, -2)
meshgrid(arange(2), arange(3), indexing='ij') ; meshgrid(arange(2), arange(3), indexing='xy')
meshgrid([arange(2), arange(3)], indexing='ij') ; meshgrid(arange(2), tensor(3), indexing='ij')
meshgrid(arange(2), arange(3), arange(4), indexing='xy')[2].shape
meshgrid(arange(2), indexing='xy') ; meshgrid(arange(0), arange(3), indexing='ij')[0].shape
meshgrid(arange(2), arange(3), indexing='up') ; meshgrid(arange(2), arange(3.0), indexing='ij')
meshgrid(x, arange(2), indexing='ij') ; meshgrid(indexing='ij')
"""
)


@pytest.mark.parametrize("text", CASES)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_creation(text):
    match(text, x="float32[3,4]")


DATA = cases(
    """
3 ; 2.5 ; True ; -7 ; 1e300 ; nan ; [] ; [[]] ; [[], []] ; () ; [1, 2] ; [1, 2.5] ; [True, False]
[True, 2] ; [True, 0.5] ; [[1, 2], [3, 4]] ; ((1, 2), (3, 4)) ; [(1, 2), [3, 4]] ; [[[1]], [[2]]]
[[1, 2], [3]] ; [[1, 2], 3] ; [1, [2]] ; [[], [1]] ; 'abc' ; ['a'] ; None ; [None] ; {} ; object
range(4) ; [range(2), range(2)] ; 2**40 ; 2**63 - 1 ; 2**63 ; -2**63 ; [2**70] ; [2**62, 1]
[2**62, 0.5] ; np.int32(3) ; np.int64(3) ; np.uint8(3) ; [np.int32(1), np.int32(2)] ; np.arange(3)
np.arange(3, dtype=np.int16) ; np.arange(6.0).reshape(2, 3) ; np.arange(6.0).reshape(2, 3).T
np.zeros((2, 0)) ; np.array(3.5) ; np.array([True, False]) ; np.array(['a']) ; np.array([None])
np.arange(3, dtype='>i4') ; [np.arange(2), np.arange(2)] ; [np.arange(2.0), [3, 4]]
[np.arange(2), np.arange(3)] ; m.tensor(3) ; m.tensor([1.5, 2]) ; [m.tensor(1), m.tensor(2)]
[m.tensor(1), 2.5] ; [m.tensor([1])] ; bytearray(b'ab')
"""
)
MADE = (
    "tensor({0})",
    "as_tensor({0})",
    "asarray({0})",
    "tensor({0}, dtype=float32)",
    "tensor({0}, dtype=uint8)",
    "tensor({0}, dtype=bool)",
)


@pytest.mark.parametrize("data", DATA)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensor_of(data):
    for make in MADE:
        match(make.format(data))


# what PyTorch takes only without a dtype, or not inside of lists
@pytest.mark.parametrize(
    "data",
    ["np.float64(2.5)", "np.float32(2.5)", "np.float16(2.5)", "np.bool_(True)",
     "[np.float64(1.5), 2]", "[np.float32(1.5), 2]", "[m.tensor(1.5), 2]"],
)  # fmt: skip
def test_tensor_of_numpy_scalars(data):
    match(f"tensor({data})")
    match(f"as_tensor({data})")
    match(f"tensor({data}, dtype=float64)")


def test_tensor_of_tensors_asks_for_stack():
    for data in ([amity.ones(2), amity.ones(2)], [amity.ones(1, 2)]):
        with pytest.raises(TypeError, match="stack"):
            amity.tensor(data)


def test_negative_strides_and_wide_unsigned_numbers_are_copied():
    same(amity.tensor(np.arange(6)[::-1]), torch.arange(6).flip(0), "reversed")
    same(amity.as_tensor(np.arange(6)[::-2]), torch.tensor([5, 3, 1]), "reversed")
    same(amity.tensor(np.array([65535], np.uint16)), torch.tensor([65535]).int(), "uint16")
    same(amity.tensor(np.array([2**32 - 1], np.uint32)), torch.tensor([2**32 - 1]), "uint32")
    with pytest.raises(ValueError, match="negative"):
        amity.from_numpy(np.arange(6)[::-1])


MADE_OF_DTYPE = (
    "zeros(3) ones(2,1) full((2,),1) eye(2,3) arange(4) linspace(0,8,3) tensor([1,0])".split()
)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype(dtype):
    for made in MADE_OF_DTYPE:
        match(made[:-1] + f", dtype={dtype})")
    for like in ("zeros_like(x)", "ones_like(x)", "full_like(x, 1)", "x.new_ones(2)"):
        match(like[:-1] + f", dtype={dtype})", x="float32[2,3]")
        match(like, x=f"{dtype}[2,3]")
    match("tril(x), triu(x, 1), tril(x.T, -1)", x=f"{dtype}[3,4]")


@pytest.mark.parametrize("make", ["zeros(2", "full((2,), 1", "arange(3", "tensor([1, 0]", "eye(2"])
def test_dtypes_of_python(make):
    for kind in (bool, int, float):
        if kind is bool and make == "arange(3":
            continue
        match(f"{make}, dtype=type({kind(1)!r}))")
    match(make + ", dtype=type('a'))")


@pytest.mark.parametrize("text", ["tril(x, 1)", "triu(x)", "x.triu(-1)", "tril(x[None]) * x"])
def test_slopes_of_triangles(text):
    match(text, order=2, x="float64[3,4]")
    match(text, order=1, x="float32[0,4]")


FORMATS = cases(
    """
empty(2, 3, 4, 5, memory_format=channels_last).stride()
empty(2, 3, 4, 5, memory_format=contiguous_format).stride()
empty(2, 3, 4, 5, memory_format=preserve_format).stride()
empty(2, 3, 4, 5, 6, memory_format=channels_last_3d).stride()
empty(2, 3, memory_format=channels_last) ; empty(2, 3, 4, 5, memory_format=3)
empty_like(x.permute(0, 2, 3, 1)).stride()
empty_like(x.permute(0, 2, 3, 1), memory_format=channels_last).stride()
empty_like(x, memory_format=channels_last).stride()
empty_like(x[0], memory_format=channels_last).stride()
empty_like(x, memory_format=contiguous_format).stride()
ones_like(x, memory_format=channels_last) ; full_like(x, 2, memory_format=channels_last) + x
full_like(x.permute(0, 3, 1, 2), 2).stride()
"""
)


@pytest.mark.parametrize("text", FORMATS)
def test_memory_formats(text):
    match(text, x="float32[2,3,4,5]")


COPIES = cases(
    """
x.contiguous(memory_format=channels_last).stride()
x.contiguous(memory_format=contiguous_format).stride()
x.permute(0, 3, 1, 2).contiguous(memory_format=channels_last).stride()
x.contiguous(memory_format=channels_last) * 2 ; x.contiguous(memory_format=channels_last_3d)
x.contiguous(memory_format=preserve_format)
x.contiguous(memory_format=channels_last).is_contiguous()
x.contiguous(memory_format=channels_last).is_contiguous(memory_format=channels_last)
x.is_contiguous(memory_format=channels_last) ; x.is_contiguous(memory_format=contiguous_format)
x[0].is_contiguous(memory_format=channels_last) ; x[0].contiguous(memory_format=channels_last)
x.clone(memory_format=channels_last).stride()
x.permute(0, 2, 3, 1).clone(memory_format=contiguous_format).stride()
x.permute(0, 2, 3, 1).clone(memory_format=preserve_format).stride()
x.permute(0, 2, 3, 1).clone().stride() ; x.to(memory_format=channels_last).stride()
x.to(float64, memory_format=channels_last).stride()
x.to(float64, memory_format=channels_last).sum((1, 2))
x.contiguous(memory_format=channels_last).reshape(2, -1)
x[:, :1].contiguous(memory_format=channels_last).stride()
F.conv2d(x.contiguous(memory_format=channels_last), x[:, :, :3, :3])
F.max_pool2d(x.contiguous(memory_format=channels_last), 2) ; x.is_contiguous(memory_format=3)
x.contiguous(memory_format=3)
"""
)


@pytest.mark.parametrize("text", COPIES)
def test_copies_in_memory_formats(text):
    match(text, order=1, x="float32[2,3,4,5]")


def test_modules_in_memory_formats():
    def text(m):
        layer = m.nn.Conv2d(3, 4, 2).to(memory_format=m.channels_last)
        return layer.weight.stride(), layer.bias.stride(), layer.weight.requires_grad

    match(text)


BUFFERS = cases(
    """
frombuffer(b, dtype=int32) ; frombuffer(b, dtype=uint8) ; frombuffer(b, dtype=int32, offset=4)
frombuffer(b, dtype=int16, count=2) ; frombuffer(b, dtype=int32, count=1, offset=2)
frombuffer(b, dtype=int64, count=2) ; frombuffer(b, dtype=int32, offset=1)
frombuffer(b, dtype=int32, offset=8) ; frombuffer(b, dtype=int32, offset=-1)
frombuffer(b, dtype=int32, count=0) ; frombuffer(b[:0], dtype=int32)
frombuffer([1], dtype=int32) ; asarray(b, dtype=int16) ; asarray(np.arange(3)) ; asarray(3.5)
asarray([1, 2], copy=True, dtype=float64) ; asarray([1.0], requires_grad=True).requires_grad
m.Tensor(2, 3).shape ; m.Tensor([1, 2]) ; m.Tensor((2, 3)) ; m.Tensor(3).shape
m.Tensor(m.Size([2, 3])).shape ; m.Tensor(2.5) ; m.Tensor() ; m.Tensor(tensor([1.5]))
"""
)


@pytest.mark.parametrize("text", BUFFERS)
def test_buffers_and_the_class(text):
    match(re.sub(r"\(b\b", "(bytearray(b'abcdefgh')", text))


def test_memory_is_shared_or_copied_as_asked():
    array = np.arange(3.0)
    views = [amity.from_numpy(array), amity.as_tensor(array), amity.asarray(array)]
    copies = [amity.tensor(array), amity.asarray(array, copy=True)]
    array[0] = 9
    assert [v[0].item() for v in views] == [9, 9, 9]
    assert [c[0].item() for c in copies] == [0, 0]
    buffer = bytearray(8)
    amity.frombuffer(buffer, dtype=amity.int32)[0] = 1
    assert buffer[0] == 1
    t = amity.ones(2)
    assert amity.as_tensor(t) is t and amity.as_tensor(t, dtype=amity.float64) is not t


def test_default_dtype_and_device():
    amity.set_default_dtype(amity.float64)
    try:
        for t in (amity.zeros(2), amity.tensor(1.5), amity.arange(0.5), amity.linspace(0, 1, 2)):
            assert t.dtype is amity.float64
    finally:
        amity.set_default_dtype(amity.float32)
    with amity.device("meta"):
        for t in (
            amity.zeros(2),
            amity.tensor([1.5]),
            amity.arange(2),
            amity.eye(2),
            amity.randn(2),
        ):
            assert t.is_meta
        assert amity.ones(2, device="cpu").device.type == "cpu"
    assert amity.get_default_device() == amity.device("cpu")
    amity.set_default_device("meta")
    try:
        assert amity.full((2,), 1).is_meta
    finally:
        amity.set_default_device(None)
    assert not amity.zeros(1).is_meta
