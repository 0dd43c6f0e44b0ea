"""`repr` character by character as PyTorch's, with the module's name for its."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import DTYPES  # noqa: E402

TENSORS = """
tensor(3)
tensor(3.0)
tensor(-0.0)
tensor(True)
tensor(2.5, dtype=float64)
tensor([1, 2, 3])
tensor([1, -20, 300])
tensor([1.0, 2.0])
tensor([1.5, -2.25])
tensor([0.1, 100.0])
tensor([0.1, 1000.0])
tensor([0.1, 10000.0])
tensor([1e-5, 1.0])
tensor([1e-4, 0.5])
tensor([1e-5])
tensor([1e8])
tensor([1e8, 2e8])
tensor([1.1e8])
tensor([123456789.0])
tensor([99999.0, 1.0])
tensor([100000.0, 0.1])
tensor([1e10, -1e-10])
tensor([1e38, 1e-38])
tensor([1e-45])
tensor([1e300, 1.0], dtype=float64)
tensor([nan, 1.0])
tensor([inf, 1.5])
tensor([-inf, inf, nan])
tensor([nan])
tensor(nan)
tensor(inf)
tensor([0.0, 0.0])
tensor([0.0, 1e-10])
tensor([1.0, inf, -2.0])
tensor([1e6, inf])
tensor([1234.5678, 0.001])
tensor([0.99999, 1.00001])
tensor([0.99995])
tensor([True, False])
tensor([])
tensor([], dtype=int64)
tensor([[]])
zeros(0, 3)
zeros(2, 0, dtype=int64)
zeros(0, dtype=bool)
zeros(3, 0, 2, dtype=float64)
tensor([[1, 2], [3, 4]])
tensor([[1.0, 20.5], [-300.25, 4.0]])
tensor([[[1.0], [2.0]], [[3.0], [4.0]]])
zeros(1, 1, 1, 1)
arange(24).reshape(2, 3, 4)
arange(16.0).reshape(2, 2, 2, 2)
arange(100)
arange(100.0)
arange(30.0) / 7
arange(1000)
arange(1001)
arange(1001.0)
arange(1200).reshape(30, 40)
arange(1200.0).reshape(30, 40) / 3
arange(2000.0).reshape(10, 10, 20)
arange(4096).reshape(8, 8, 8, 8)
arange(5000).reshape(5000, 1)
arange(5000).reshape(1, 5000)
arange(1002).reshape(3, 334)
arange(1008).reshape(6, 168)
arange(1015).reshape(7, 145)
ones(2000) * 1e-7
full((40, 40), 1e9)
ones(1001, dtype=bool)
zeros(1001, 0)
cat([ones(1500) * 1e-6, ones(1) * 1e6])
cat([ones(1), zeros(1500) + 1e6, ones(1)])
ones(3, requires_grad=True)
tensor(1.5, requires_grad=True)
tensor(1.5, requires_grad=True) * 2
ones(2, 2, requires_grad=True).exp()
ones(3, dtype=float64, requires_grad=True).sum()
ones(100, requires_grad=True) + 0.5
zeros(0, requires_grad=True)
ones(3, requires_grad=True).detach()
ones(3, dtype=float16, requires_grad=True) * 3
ones(30, 30, requires_grad=True)[1:, 1:]
(arange(7.0) / 3).requires_grad_().sigmoid()
arange(12).reshape(3, 4).t()
arange(12).reshape(3, 4)[:, ::2]
ones(1).expand(3, 4)
arange(3).to(uint8)
arange(1024).to(int16)
tensor([-128, 127], dtype=int8)
tensor([2**62, -1])
tensor([0.1, 0.2], dtype=float16)
tensor([65504.0, 1e-7], dtype=float16)
tensor([0.1, 3.0], dtype=bfloat16)
tensor([1e30, 1.0], dtype=bfloat16)
tensor([1 / 3, 2 / 3], dtype=float64)
tensor([1e-8, 1e8], dtype=float64)
zeros(2, 3, device="meta")
empty(0, device="meta")
ones(2, dtype=float64, device="meta")
linspace(-1, 1, 17)
linspace(0, 1e5, 9)
logspace(-6, 6, 13)
tensor([12345678, 1.5])
tensor([[1e-3, 1e3], [1e2, 1e-2]])
tensor([1.00005, 1.00015])
tensor([[0.1] * 13] * 2)
arange(26).reshape(1, 26) * 1000
Size([2, 3])
Size([])
ones(2, 3).shape
float32
bool
bfloat16
finfo(float32)
finfo(bfloat16)
finfo(float16)
finfo(float64)
iinfo(int8)
iinfo(uint8)
device("cpu")
device("meta")
get_default_dtype()
Generator().device
""".strip().splitlines()


def text(lib, expression, **names):
    space = {n: getattr(lib, n) for n in dir(lib) if not n.startswith("_")}
    space |= {"nan": float("nan"), "inf": float("inf")} | names
    return repr(eval(expression, space)).replace(lib.__name__, "m")


@pytest.mark.parametrize("expression", TENSORS)
def test_repr(expression):
    assert text(amity, expression) == text(torch, expression)


@pytest.mark.parametrize("name", DTYPES)
def test_repr_of_dtypes(name):
    for shape in ((), (3,), (2, 2)):
        expression = f"ones({shape}, dtype={name})"
        assert text(amity, expression) == text(torch, expression)


@pytest.mark.parametrize("seed", range(40))
def test_repr_of_random_numbers(seed):
    """Shapes up to four dimensions, scales over thirty powers of ten, some special values."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.choice([1, 2, 3, 5, 8, 13, 40], rng.integers(0, 4)))
    a = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 9, shape if seed % 2 else ())
    if seed % 3 == 0:
        a = np.round(a)
    a = np.where(rng.random(shape) < 0.05, rng.choice([np.nan, np.inf, -np.inf, 0.0, -0.0]), a)
    with np.errstate(over="ignore"):
        a = np.asarray(a, rng.choice(["f2", "f4", "f8"]) if seed % 5 else "f4")
    assert repr(amity.tensor(a)).replace("amity", "torch") == repr(torch.tensor(a))


OPTIONS = [
    {"precision": 2},
    {"precision": 8},
    {"precision": 0},
    {"sci_mode": True},
    {"sci_mode": False},
    {"linewidth": 40},
    {"linewidth": 200},
    {"threshold": 10},
    {"threshold": 10, "edgeitems": 1},
    {"threshold": 0},
    {"threshold": 5000, "edgeitems": 5},
    {"profile": "short"},
    {"profile": "full"},
    {"profile": "default"},
    {"profile": "short", "precision": 6},
]
SHOWN = """
arange(30.0) / 7
arange(1200.0).reshape(30, 40)
tensor([1e-7, 1e7])
tensor([0.5, nan, inf])
arange(20)
tensor(3.14159265)
ones(12, 12, requires_grad=True) * 2
arange(4.0).reshape(2, 2)
""".strip().splitlines()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(options):
    for lib in (torch, amity):
        lib.set_printoptions(profile="default")
        lib.set_printoptions(**options)
    try:
        for expression in SHOWN:
            assert text(amity, expression) == text(torch, expression)
    finally:
        for lib in (torch, amity):
            lib.set_printoptions(profile="default")


def test_limits():
    for name in ("float16", "bfloat16", "float32", "float64"):
        got, expected = (lib.finfo(getattr(lib, name)) for lib in (amity, torch))
        for limit in (
            "bits",
            "min",
            "max",
            "eps",
            "tiny",
            "smallest_normal",
            "resolution",
            "dtype",
        ):
            assert getattr(got, limit) == getattr(expected, limit), (name, limit)
    assert amity.finfo() == amity.finfo(amity.float32) != amity.finfo(amity.float64)
    assert repr(amity.iinfo(amity.int64)) == f"iinfo(min={-(2**63)}, max={2**63 - 1}, dtype=int64)"
    for wrong in (amity.finfo, amity.iinfo):
        with pytest.raises(TypeError, match="got amity.bool; expected"):
            wrong(amity.bool)


def test_a_wrong_profile_is_an_error():
    with pytest.raises(ValueError, match="set_printoptions: got profile 'loud'"):
        amity.set_printoptions(profile="loud")


def test_default_dtype_is_not_written():
    for lib in (torch, amity):
        lib.set_default_dtype(lib.float64)
    try:
        for expression in ("tensor([1.5])", "ones(2, dtype=float32)", "tensor([])", "arange(3.0)"):
            assert text(amity, expression) == text(torch, expression)
    finally:
        for lib in (torch, amity):
            lib.set_default_dtype(lib.float32)


def test_subclasses_and_parameters():
    for make in (
        lambda lib: lib.nn.Parameter(lib.ones(2)),
        lambda lib: lib.nn.ParameterList([lib.ones(2, 3)]),
        lambda lib: lib.nn.Linear(2, 3),
        lambda lib: str(lib.ones(2)),
        lambda lib: [lib.ones(2), lib.tensor(1)],
        lambda lib: {"a": lib.ones(1)},
        lambda lib: lib.ones(2, 3).max(0),
        lambda lib: lib.ones(2, 3).sort(),
        lambda lib: f"{lib.ones(2)}",
    ):
        got, expected = repr(make(amity)), repr(make(torch))
        assert got.replace("amity", "torch") == expected
