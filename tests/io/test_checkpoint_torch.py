"""Files go both ways between amity and PyTorch, bit for bit."""

from __future__ import annotations

import io
import zipfile
from collections import Counter, OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from amity import nn, optim  # noqa: E402
from amity.core import dtype as dtypes  # noqa: E402
from amity.core.device import Device  # noqa: E402
from amity.core.errors import FormatError  # noqa: E402
from amity.core.shape import Size  # noqa: E402
from amity.frontend import create, ranges  # noqa: E402
from amity.frontend.tensor import Tensor  # noqa: E402
from amity.io import load, save  # noqa: E402
from amity.nn.parameter import Parameter  # noqa: E402

FORMATS = {
    "zip": {},
    "legacy": {"_use_new_zipfile_serialization": False},
    "protocol-3": {"pickle_protocol": 3},
    "protocol-4": {"pickle_protocol": 4},
    "protocol-5": {"pickle_protocol": 5},
}


def from_torch(obj, **options):
    file = io.BytesIO()
    torch.save(obj, file, **options)
    file.seek(0)
    return load(file)


def to_torch(obj, **options):
    file = io.BytesIO()
    save(obj, file)
    file.seek(0)
    return torch.load(file, weights_only=True, **options)


def bits_of_torch(x):
    raw = x.detach().contiguous().reshape(-1)
    raw = raw.view(torch.uint8).numpy().tobytes() if raw.numel() else b""
    return str(x.dtype).removeprefix("torch."), tuple(x.shape), raw


def bits(x):
    array = x.detach().numpy()
    return x.dtype.name, tuple(x.shape), array.tobytes()


def random(dtype, shape):
    if dtype is torch.bool:
        return torch.rand(shape) > 0.5
    return (torch.randn(shape) * 50).to(dtype)


DTYPES = [getattr(torch, d.name) for d in dtypes.ALL]
SHAPES = [(), (0,), (3, 0), (5, 3), (2, 1, 4)]


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_load_reads_torch_tensors(dtype, options):
    saved = [random(dtype, shape) for shape in SHAPES]
    loaded = from_torch(saved, **options)
    assert [bits(x) for x in loaded] == [bits_of_torch(x) for x in saved]


@pytest.mark.parametrize("dtype", dtypes.ALL, ids=lambda d: d.name)
@pytest.mark.parametrize("mmap", [False, True])
def test_torch_reads_our_tensors(tmp_path, dtype, mmap):
    rng = np.random.default_rng(0)
    saved = [create.from_numpy(np.array(rng.integers(0, 2, s), dtype.numpy)) for s in SHAPES]
    save(saved, tmp_path / "a.pt")
    loaded = torch.load(tmp_path / "a.pt", weights_only=True, mmap=mmap)
    assert [bits_of_torch(x) for x in loaded] == [bits(x) for x in saved]


PLAIN = {
    "none": None,
    "bool": [True, False],
    "int": [0, -1, 300, 2**31, -(2**63), 10**40],
    "float": [0.5, -0.0, float("inf")],
    "complex": 3 - 4j,
    "str": "naïve 日本",
    "bytes": b"\xff\0abc",
    "tuple": ((), (1,), (1, 2, 3), (1, (2, [3]))),
    "set": {1, "a"},
    "dict": {1: 2, None: 3, (1, "x"): 4},
    "ordered": OrderedDict(b=1, a=2),
    "counter": Counter("abca"),
    "many": list(range(3000)),
    "pairs": {i: str(i) for i in range(3000)},
}


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_load_reads_torch_plain_values(options):
    assert from_torch(PLAIN, **options) == PLAIN


def test_torch_reads_our_plain_values():
    assert to_torch(PLAIN) == PLAIN
    assert to_torch(bytearray(b"\xff\0")) == bytearray(b"\xff\0")


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_dtype_size_and_device(options):
    theirs = [torch.bfloat16, torch.bool, torch.Size([2, 3]), torch.device("cpu")]
    ours = [dtypes.bfloat16, dtypes.bool_, Size((2, 3)), Device("cpu")]
    assert from_torch(theirs, **options) == ours
    assert to_torch(ours) == theirs
    assert type(to_torch(ours)[2]) is torch.Size


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_state_dicts(options):
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(2, 3, 5, 5)).sum().backward()
    optimizer.step()
    saved = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3}
    loaded = from_torch(saved, **options)
    assert {k: bits(v) for k, v in loaded["model"].items()} == {
        k: bits_of_torch(v) for k, v in saved["model"].items()
    }
    assert loaded["model"]._metadata == saved["model"]._metadata
    assert loaded["optimizer"]["param_groups"] == saved["optimizer"]["param_groups"]
    again = to_torch(loaded)
    other = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    other.load_state_dict(again["model"])
    torch.optim.AdamW(other.parameters()).load_state_dict(again["optimizer"])
    assert torch.equal(other[0].weight, model[0].weight)


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_parameters_and_grad(options):
    theirs = [
        torch.nn.Parameter(torch.ones(2)),
        torch.nn.Parameter(torch.ones(2), requires_grad=False),
        torch.ones(2, requires_grad=True),
    ]
    ours = from_torch(theirs, **options)
    assert [type(p) for p in ours] == [Parameter, Parameter, Tensor]
    assert [p.requires_grad for p in ours] == [True, False, True]
    back = to_torch(ours)
    assert [type(p) for p in back] == [torch.nn.Parameter, torch.nn.Parameter, torch.Tensor]
    assert [p.requires_grad for p in back] == [True, False, True]


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_views_stay_views_of_one_storage(options):
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    a, b, c = from_torch([base[:2], base[1:], base.t()], **options)
    assert c.stride() == (1, 4) and c.tolist() == base.t().tolist()
    a[1, 2] = 99.0
    assert b[0, 2].item() == c[2, 1].item() == 99.0
    x, y, z = to_torch([a, b, c])
    x[1, 2] = -1.0
    assert y[0, 2] == z[2, 1] == -1.0 and z.stride() == (1, 4)


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
def test_expanded_and_empty_views(options):
    saved = [torch.ones(1).expand(3, 4), torch.arange(6)[6:], torch.arange(6)[1::2]]
    loaded = from_torch(saved, **options)
    assert [bits(x) for x in loaded] == [bits_of_torch(x) for x in saved]
    assert [bits_of_torch(x) for x in to_torch(loaded)] == [bits_of_torch(x) for x in saved]


def test_mmap_reads_torch_files(tmp_path):
    x = torch.randn(100, 7)
    torch.save({"x": x, "y": x[3:5]}, tmp_path / "a.pt")
    loaded = load(tmp_path / "a.pt", mmap=True)
    assert bits(loaded["x"]) == bits_of_torch(x)
    loaded["y"][0, 0] = 5.0
    assert loaded["x"][3, 0].item() == 5.0


def test_torch_reads_our_files_at_their_offsets(tmp_path):
    save({"x": ranges.arange(100), "y": create.zeros(3)}, tmp_path / "a.pt")
    loaded = torch.load(tmp_path / "a.pt", mmap=True, weights_only=True)
    loaded["x"][0] = 5
    assert loaded["x"][:3].tolist() == [5, 1, 2] and loaded["y"].tolist() == [0.0] * 3


def test_torch_reads_without_weights_only():
    file = io.BytesIO()
    save({"x": ranges.arange(3), "o": OrderedDict(a=b"x")}, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    assert loaded["x"].tolist() == [0, 1, 2] and loaded["o"] == {"a": b"x"}


def test_tensors_with_attributes():
    theirs = [torch.nn.Parameter(torch.ones(2)), torch.zeros(3)]
    theirs[0].note, theirs[1].note = "x", [1]
    ours = from_torch(theirs)
    assert [type(x) for x in ours] == [Parameter, Tensor]
    assert [x.note for x in ours] == ["x", [1]]
    back = to_torch(ours)
    assert [type(x) for x in back] == [torch.nn.Parameter, torch.Tensor]
    assert [x.note for x in back] == ["x", [1]]


@pytest.mark.parametrize("dtype", [torch.complex64, torch.uint16, torch.float8_e4m3fn], ids=str)
def test_dtypes_that_amity_lacks(dtype):
    with pytest.raises(FormatError, match="expected .*float32"):
        from_torch(torch.zeros(2).to(dtype))


def test_whole_modules_are_refused():
    with pytest.raises(FormatError, match="torch.nn.modules.linear.Linear"):
        from_torch(torch.nn.Linear(2, 2))


def test_sparse_tensors_are_refused():
    with pytest.raises(FormatError, match="_rebuild_sparse_tensor"):
        from_torch(torch.eye(3).to_sparse())


def test_torchscript_is_refused():
    file = io.BytesIO()
    with pytest.warns(DeprecationWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), file)
    file.seek(0)
    with pytest.raises(FormatError, match="a TorchScript program"):
        load(file)


def test_tensors_of_another_device():
    """A file written on a GPU: the location is in its pickle."""
    file = io.BytesIO()
    save({"x": create.zeros(2)}, file)
    moved = repickled(file.getvalue(), b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0")
    with pytest.raises(RuntimeError, match=r"'cuda:0'.*map_location='cpu'"):
        load(io.BytesIO(moved))
    for place in ("cpu", {"cuda:0": "cpu"}, lambda storage, location: storage):
        assert load(io.BytesIO(moved), map_location=place)["x"].tolist() == [0.0, 0.0]


def repickled(data, old, new):
    source, out = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for info in source.infolist():
            archive.writestr(info.filename, source.read(info).replace(old, new))
    return out.getvalue()


@pytest.mark.parametrize("options", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("dtype", ["f8", ">f4", "i8", "u1", "?", "c16", "U5", "S3", "f2"])
def test_numpy_scalars_and_arrays(dtype, options):
    x = np.array([[1, 0, 1], [0, 1, 1]], dtype)
    saved = [x, x.T, x[:, ::2], x[:0], np.array(1, dtype), x[0, 0], np.asfortranarray(x)]
    loaded = from_torch(saved, **options)
    for a, b in zip(saved, loaded, strict=True):
        assert type(a) is type(b) and a.shape == b.shape
        assert a.dtype.newbyteorder("=") == b.dtype.newbyteorder("=")
        assert a.tolist() == b.tolist()


@pytest.mark.parametrize(
    "value",
    [
        np.array([print, None], object),
        np.zeros(2, [("a", "f4"), ("b", "i4")]),
        np.array(["2020-01-01"], "M8[D]"),
        np.ma.masked_array([1, 2]),
    ],
    ids=["objects", "records", "dates", "masked"],
)
def test_numpy_values_that_are_no_plain_data(value):
    with pytest.raises(FormatError, match="the NumPy dtype|the name "):
        from_torch(value)


def test_a_trained_model_moves_to_torch_and_back():
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    optimizer = optim.AdamW(model.parameters())
    model(create.ones(5, 4)).sum().backward()
    optimizer.step()
    moved = to_torch({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    their_optimizer = torch.optim.AdamW(theirs.parameters())
    theirs.load_state_dict(moved["model"])
    their_optimizer.load_state_dict(moved["optimizer"])
    back = from_torch({"model": theirs.state_dict(), "optimizer": their_optimizer.state_dict()})
    assert {k: bits(v) for k, v in back["model"].items()} == {
        k: bits(v) for k, v in model.state_dict().items()
    }
    model.load_state_dict(back["model"])
    optimizer.load_state_dict(back["optimizer"])
    assert optimizer.state_dict()["state"][0]["step"].item() == 1.0
