"""NumPy, DLPack and plain Python objects, in and out, as PyTorch takes and gives them."""

from __future__ import annotations

import math
import operator

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.frontend.programs import leaf, programs, raised  # noqa: E402
from tests.ops.compare import DTYPES, match  # noqa: E402


class FromNumPy:
    def shares_memory(m):
        a = np.arange(6, dtype=np.float32).reshape(2, 3)
        t = m.from_numpy(a)
        a[0, 0] = 9
        t[1, 1] = 7
        return t, a.tolist()

    def strided(m):
        a = np.arange(24).reshape(2, 3, 4)
        t = m.from_numpy(a[:, ::2, 1:].transpose(2, 0, 1))
        t.mul_(10)
        return t, t.stride(), a.tolist()

    def broadcast(m):
        a = np.broadcast_to(np.arange(3.0), (2, 3)).copy()
        return m.from_numpy(a).stride()

    def zero_dimensions(m):
        a = np.array(3.5)
        t = m.from_numpy(a)
        a[...] = 2
        return t, t.shape == ()

    def empty(m):
        return m.from_numpy(np.zeros((0, 3))), m.from_numpy(np.zeros((2, 0), np.int16))

    def of_each_dtype(m):
        names = (
            "bool",
            "uint8",
            "int8",
            "int16",
            "int32",
            "int64",
            "float16",
            "float32",
            "float64",
        )
        return [m.from_numpy(np.ones(2, n)) for n in names]

    def negative_strides(m):
        return raised(m.from_numpy, np.arange(3)[::-1])

    def foreign_bytes(m):
        return raised(m.from_numpy, np.arange(3, dtype=">f4"))

    def unaligned_fields(m):
        a = np.zeros(3, dtype=[("a", "i1"), ("b", "<f4")])
        return raised(m.from_numpy, a["b"])

    def objects_and_strings(m):
        return [
            raised(m.from_numpy, a)
            for a in (np.array(["a"]), np.array([object()]), np.array([1], "M8[s]"), [1, 2], 3.0)
        ]

    def numbers_of_numpy(m):
        return raised(m.from_numpy, np.float32(3))

    def as_tensor_shares(m):
        a = np.arange(3.0)
        t, u, v = m.as_tensor(a), m.as_tensor(a, dtype=m.float32), m.tensor(a)
        a[0] = 5
        return t, u, v

    def from_scalars(m):
        return [m.tensor(x) for x in (np.float32(1.5), np.int8(3), np.bool_(True), np.float64(2))]

    def lists_of_arrays(m):
        return m.tensor([list(np.arange(3.0)), [1, 2, 3]]), m.tensor([np.float32(1), 2])

    def frombuffer(m):
        b = bytearray(b"\x01\x00\x02\x00\x03\x00")
        t = m.frombuffer(b, dtype=m.int16)
        t[0] = 258
        return (
            t, list(b), m.frombuffer(b, dtype=m.uint8, count=2, offset=1),
            raised(m.frombuffer, b, dtype=m.float32), raised(m.frombuffer, b, dtype=m.int8, count=9),
            raised(m.frombuffer, b, dtype=m.int8, offset=6), raised(m.frombuffer, 3, dtype=m.int8),
            raised(m.frombuffer, b, dtype=m.int8, count=0),
        )  # fmt: skip

    def asarray(m):
        a = np.arange(3.0)
        t = m.asarray(a)
        c = m.asarray(a, copy=True)
        a[0] = 7
        return t, c, m.asarray([1, 2], dtype=m.float32), raised(m.asarray, [1, 2], copy=False)


class ToNumPy:
    def shares_memory(m):
        t = m.arange(6.0).view(2, 3)
        a = t.numpy()
        a[0, 0] = 5
        t[1, 1] = 7
        return t, a.tolist(), str(a.dtype)

    def strided(m):
        a = m.arange(24).view(2, 3, 4).permute(2, 0, 1)[1:, :, ::2].numpy()
        return a.tolist(), a.shape, a.strides

    def with_gradient(m):
        t = leaf(m, 1, 2)
        return (
            raised(t.numpy), raised(np.asarray, t), t.detach().numpy().tolist(),
            t.numpy(force=True).tolist(), raised((t * 2).numpy), raised(np.array, t),
        )  # fmt: skip

    def array_protocol(m):
        t = m.arange(3.0)
        same, other = np.asarray(t), np.asarray(t, dtype=np.int64)
        copied = np.array(t)
        t[0] = 9
        return same.tolist(), other.tolist(), str(other.dtype), copied.tolist()

    def zero_dimensions(m):
        a = m.tensor(3.5).numpy()
        return a.shape, a.item(), m.zeros(0, 3).numpy().shape

    def shape_and_lists(m):
        t = m.arange(6.0).view(2, 3)
        return np.array([t[0].tolist(), t[1].tolist()]).tolist(), np.stack([t[0], t[1]]).tolist()

    def ufuncs(m):
        t = m.tensor([1.0, 4.0, 9.0])
        made = np.sqrt(t)
        return (
            isinstance(made, m.Tensor), np.asarray(made).tolist(), float(np.sum(np.asarray(t))),
            np.add(np.ones(3, "f4"), t.numpy()).tolist(),
        )  # fmt: skip

    def numpy_functions(m):
        t = m.tensor([3.0, 1.0, 2.0])
        return np.sort(t).tolist(), np.concatenate([t, t]).tolist(), np.allclose(t, [3, 1, 2])

    def arrays_on_the_right(m):
        t, a = m.tensor([1.0, 2.0]), np.array([3.0, 4.0])
        return t + a, t * a, t - a, t / a, t**a, t == a

    def numbers_of_numpy(m):
        t = m.tensor([1.0, 2.0])
        return (
            t * np.float32(2), t + np.int64(1), t / np.float64(2), t > np.float32(1),
            m.tensor([1, 2]) + np.float64(0.5), m.tensor([1, 2]) * np.int32(2),
        )  # fmt: skip

    def indices_of_numpy(m):
        t = m.arange(6.0).view(2, 3)
        return t[np.int64(1)], t[np.array([1, 0])], t[np.array([True, False])], t[:, np.array([2])]

    def shapes_of_numpy(m):
        n = np.int64(2)
        return (
            m.zeros(n, 3),
            m.ones((n,)),
            m.arange(6).view(n, 3),
            m.arange(6).reshape(-1, n),
            m.arange(n),
        )


class DLPack:
    def to_numpy(m):
        t = m.arange(6.0).view(2, 3)
        a = np.from_dlpack(t)
        t[0, 0] = 9
        return a.tolist(), a.strides, str(a.dtype)

    def strided_to_numpy(m):
        t = m.arange(24).view(2, 3, 4).permute(1, 2, 0)[1:]
        return np.from_dlpack(t).tolist(), np.from_dlpack(t).strides

    def from_numpy(m):
        a = np.arange(6, dtype=np.int16).reshape(2, 3)[:, ::2]
        t = m.from_dlpack(a)
        a[0, 0] = 9
        return t, t.stride()

    def with_itself(m):
        t = m.arange(3.0)
        u = m.from_dlpack(t)
        u[0] = 5
        return t, u.data_ptr() == t.data_ptr()

    def device(m):
        return tuple(int(x) for x in m.ones(1).__dlpack_device__())

    def with_gradient(m):
        t = leaf(m, 1, 2)
        return raised(t.__dlpack__), m.from_dlpack(t.detach())

    def of_something_else(m):
        return raised(m.from_dlpack, [1, 2])


class Numbers:
    def item(m):
        values = [
            m.tensor(v, dtype=getattr(m, n)) for v, n in
            ((True, "bool"), (200, "uint8"), (-3, "int8"), (-300, "int16"), (7, "int32"), (1 << 40, "int64"),
             (0.1, "float16"), (0.1, "bfloat16"), (0.1, "float32"), (0.1, "float64"))
        ]  # fmt: skip
        got = [v.item() for v in values]
        return got, [type(g).__name__ for g in got], m.tensor([[4]]).item()

    def item_of_many(m):
        return raised(m.ones(2).item), raised(m.ones(0).item)

    def tolist(m):
        return (
            m.tensor(3).tolist(), m.tensor([True]).tolist(), m.arange(4.0).view(2, 2).t().tolist(),
            m.zeros(0, 2).tolist(), m.zeros(2, 0).tolist(), type(m.tensor(2.0).tolist()).__name__,
            m.tensor([0.1], dtype=m.bfloat16).tolist(), m.tensor([0.1], dtype=m.float16).tolist(),
            leaf(m, 1, 2).tolist(), type(m.arange(2).tolist()[0]).__name__,
        )  # fmt: skip

    def truth(m):
        return (
            bool(m.tensor(0)), bool(m.tensor([[2.0]])), bool(m.tensor(float("nan"))),
            raised(bool, m.ones(2)), raised(bool, m.ones(1, 0)), not m.tensor(False),
        )  # fmt: skip

    def conversions(m):
        return (
            int(m.tensor(2.7)), float(m.tensor(3)), int(m.tensor([True])), complex(m.tensor(2.0)),
            operator.index(m.tensor(3)), operator.index(m.tensor([3])), [10, 20, 30][m.tensor(1)],
            raised(int, m.ones(2)), raised(float, m.ones(0)), raised(operator.index, m.tensor(1.0)),
            raised(operator.index, m.ones(2, dtype=m.int64)), raised(int, m.tensor(float("nan"))),
            list(range(m.tensor(3))), operator.index(m.tensor(True)), math.sqrt(m.tensor(4.0)),
        )  # fmt: skip

    def rounding(m):
        t = m.tensor([1.26, -2.5])
        return (
            round(t), round(t, 1) if m is not amity else m.round(t, decimals=1), abs(t), -t, +t,
            divmod(m.tensor([7.0]), 2) if m is amity else (m.tensor([7.0]) // 2, m.tensor([7.0]) % 2),
        )  # fmt: skip

    def length(m):
        return len(m.ones(3, 2)), raised(len, m.tensor(1)), len(m.zeros(0, 2))

    def iteration(m):
        rows = list(m.arange(6).view(3, 2))
        a, b = m.tensor([1.0, 2.0])
        first, *rest = m.arange(3)
        return (
            rows,
            a,
            b,
            first,
            rest,
            raised(iter, m.tensor(1)),
            list(m.zeros(0)),
            list(reversed(m.arange(3))),
        )

    def iteration_has_gradients(m):
        x = leaf(m, 1, 2, 3)
        sum(v * i for i, v in enumerate(x)).backward()
        return x.grad

    def zipped(m):
        return [(a.item(), b.item()) for a, b in zip(m.arange(3), m.arange(3.0), strict=True)]

    def membership(m):
        t = m.tensor([1, 2, 3])
        return (
            2 in t, 5 in t, 2.5 in t, m.tensor(3) in t, m.tensor([1, 2, 3]) in t, True in m.tensor([0, 1]),
            raised(operator.contains, t, "a"), raised(operator.contains, t, None),
            raised(operator.contains, t, [1, 2, 3]),
        )  # fmt: skip

    def identity(m):
        a, b = m.ones(2), m.ones(2)
        return hash(a) == hash(a), len({a, b, a}), {a: 1}[a], (a == a), a is a, [a, b].index(a)

    def comparisons_with_others(m):
        t = m.ones(2)
        return (
            raised(lambda: t == None), (t == "a") is False, (t != "a") is True, (t == [1, 1]) is False,  # noqa: E711
            raised(lambda: t < "a"), raised(lambda: t < None), (t == object()) is False,
        )  # fmt: skip

    def formats(m):
        return (
            f"{m.tensor(3.14159):.2f}", f"{m.tensor(7):>5d}", f"{m.tensor(2)}", f"{m.tensor(0.5)}", f"{m.tensor(True)}",
            f"{m.tensor([1, 2])}", raised(format, m.ones(2), ".2f"),
            str(m.tensor([1])), f"{m.tensor(0.1, dtype=m.float64)}", f"{m.tensor([0.5]).squeeze():e}",
        )  # fmt: skip

    def operators_refuse(m):
        t = m.ones(2)
        fs = (
            operator.add,
            operator.sub,
            operator.mul,
            operator.truediv,
            operator.pow,
            operator.mod,
            operator.matmul,
        )
        return [[raised(f, t, x) for f in fs] for x in ("a", None, [1, 2], object())]

    def python_numbers(m):
        t = m.tensor([1, 2])
        return (
            t + True,
            1.5 - t,
            2**t,
            t**2,
            7 // t,
            7 % t,
            t / 2,
            1 / t,
            -t,
            t & 1,
            3 | t,
            t << 1,
            ~t,
            6 ^ t,
            8 >> t,
        )


@pytest.mark.parametrize("program", programs(FromNumPy, ToNumPy, DLPack, Numbers))
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context")
def test_program(program):
    match(program)


@pytest.mark.parametrize("name", DTYPES)
def test_numpy_dtypes(name):
    """The dtype of an array and back; bfloat16 is NumPy's through ml_dtypes, which PyTorch refuses."""
    t = amity.ones(2, dtype=getattr(amity, name))
    assert t.numpy().dtype.name == name
    assert amity.from_numpy(t.numpy()).dtype is t.dtype
    assert amity.tensor(t.numpy()).dtype is t.dtype


@pytest.mark.parametrize("m", [torch, amity], ids=["torch", "amity"])
def test_read_only_arrays_warn(m):
    a = np.arange(3.0)
    a.flags.writeable = False
    with pytest.warns(UserWarning, match="not writable"):
        t = m.from_numpy(a)
    assert t.tolist() == [0, 1, 2]


def test_numpy_is_served_without_its_warnings():
    """What PyTorch leaves to NumPy's deprecations: `copy`, and results of ufuncs."""
    t = amity.arange(3.0)
    shared, copied = t.__array__(copy=False), t.__array__(copy=True)
    same, made = np.array(t, copy=False), np.sqrt(t)
    t[0] = 9
    assert shared.tolist() == same.tolist() == [9, 1, 2] and copied.tolist() == [0, 1, 2]
    assert (
        isinstance(made, amity.Tensor)
        and made.tolist() == np.sqrt(np.arange(3, dtype="f4")).tolist()
    )
    with pytest.raises(ValueError, match="copy=False"):
        t.__array__(np.int64, copy=False)


def test_reversed_arrays_are_copied():
    """PyTorch refuses them here too, though a copy is made anyhow."""
    a = np.arange(3)[::-1]
    assert amity.tensor(a).tolist() == amity.as_tensor(a).tolist() == [2, 1, 0]


@pytest.mark.parametrize("m", [torch, amity], ids=["torch", "amity"])
def test_capsules(m):
    t = m.arange(3.0)
    capsule = t.__dlpack__()
    u = m.from_dlpack(capsule)
    u[0] = 5
    assert t.tolist() == [5, 1, 2]
    with pytest.raises(RuntimeError):
        m.from_dlpack(capsule)


STRIDED = [
    lambda m: m.arange(12.0).view(3, 4),
    lambda m: m.arange(12.0).view(3, 4).t(),
    lambda m: m.arange(12.0).view(3, 4)[1:, ::2],
    lambda m: m.arange(3).expand(2, 3),
    lambda m: m.tensor(5),
    lambda m: m.zeros(0, 3),
    lambda m: m.ones(2, dtype=m.bfloat16),
    lambda m: m.tensor([True, False]),
]


@pytest.mark.parametrize("make", STRIDED)
def test_dlpack_between_both(make):
    """One memory under both libraries, with its strides."""
    mine, theirs = make(amity), make(torch)
    there, here = torch.from_dlpack(mine), amity.from_dlpack(theirs)
    for t, u in ((mine, there), (here, theirs)):
        assert tuple(t.shape) == tuple(u.shape) and t.dtype.name == str(u.dtype).split(".")[1]
        assert t.tolist() == u.tolist()
        if t.numel():
            assert t.stride() == u.stride() and t.data_ptr() == u.data_ptr()
    if mine.numel() and 0 not in mine.stride():
        mine.zero_()
        theirs.zero_()
        assert not there.any() and not here.any()


def test_dlpack_keeps_memory_alive():
    t = amity.arange(1000.0) + 0.5
    there = torch.from_dlpack(t)
    here = amity.from_dlpack(torch.arange(1000.0) + 0.5)
    del t
    others = [amity.zeros(1000) + 1 for _ in range(10)], [torch.zeros(1000) + 1 for _ in range(10)]
    assert there.sum().item() == here.sum().item() == 500_000 and len(others) == 2


def test_errors_say_what_was_got():
    with pytest.raises(RuntimeError, match=r"Use tensor.detach\(\).numpy\(\) instead"):
        leaf(amity, 1).numpy()
    with pytest.raises(RuntimeError, match="item: a Tensor with 2 elements cannot be converted"):
        amity.ones(2).item()
    with pytest.raises(ValueError, match="byte order different"):
        amity.from_numpy(np.arange(3, dtype=">f4"))
    with pytest.raises(TypeError, match="can't convert np.ndarray of type <U1"):
        amity.from_numpy(np.array(["a"]))
    with pytest.raises(ValueError, match="negative strides"):
        amity.from_numpy(np.arange(3)[::-1])
