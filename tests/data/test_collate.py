"""default_collate and default_convert give what torch.utils.data's do, kinds included."""

import collections
import types

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amity.data import default_collate, default_convert
from amity.frontend import create
from amity.frontend.tensor import Tensor

torch = pytest.importorskip("torch")
peer = torch.utils.data
Point = collections.namedtuple("Point", "x y")


class Frozen(collections.abc.Mapping):
    """A mapping that can be built from a dict."""

    def __init__(self, items):
        self.items_ = dict(items)

    def __getitem__(self, key):
        return self.items_[key]

    def __iter__(self):
        return iter(self.items_)

    def __len__(self):
        return len(self.items_)


class Unbuildable(collections.abc.Sequence):
    """A sequence whose constructor wants something else."""

    def __init__(self, first, second):
        self.both = [first, second]

    def __getitem__(self, index):
        return self.both[index]

    def __len__(self):
        return 2


def plain(value):
    """A batch with every tensor as (dtype, shape, contents), and each container's class by it."""
    if isinstance(value, Tensor | torch.Tensor):
        name = str(value.dtype).split(".")[-1]
        return ("tensor", name, tuple(value.shape), value.tolist())
    if isinstance(value, collections.abc.Mapping):
        return (type(value).__name__, {key: plain(value[key]) for key in value})
    if isinstance(value, list | tuple | collections.deque | Unbuildable):
        return (type(value).__name__, [plain(item) for item in value])
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.tolist())
    return value


SAMPLES = {
    "int": [1, 2],
    "bool": [True, False],
    "float": [1.5, 2],
    "str": ["a", "b"],
    "bytes": [b"a", b"b"],
    "float32 array": [np.ones(3, np.float32), np.zeros(3, np.float32)],
    "int16 array": [np.ones((2, 0), np.int16)] * 3,
    "bool array": [np.array([True])] * 2,
    "0-d array": [np.array(1.5), np.array(2.5)],
    "mixed arrays": [np.ones(2, np.float32), np.ones(2, np.float64)],
    "reversed array": [np.arange(3)[::1], np.arange(6)[::2]],
    "float32 scalar": [np.float32(1.5), np.float32(2.5)],
    "int64 scalar": [np.int64(1), np.int64(2)],
    "float64 scalar": [np.float64(1), np.float64(2)],
    "tuple": [(1, "a"), (2, "b")],
    "list": [[1, 2.5], [3, 4.5]],
    "empty list": [[], []],
    "dict": [{"a": 1, "b": [1.0]}, {"b": [2.0], "a": 2}],
    "ordered": [collections.OrderedDict(z=1, a=2)] * 2,
    "default": [collections.defaultdict(list, a=1)] * 2,
    "frozen": [Frozen({"a": 1})] * 2,
    "proxy": [types.MappingProxyType({"a": 1})] * 2,
    "named tuple": [Point(1, 2.5), Point(3, 4.5)],
    "deque": [collections.deque([1, 2])] * 2,
    "unbuildable": [Unbuildable(1, 2)] * 2,
    "range": [range(2), range(2)],
    "nested": [{"a": (np.ones(2), [Point(1, "x")])}] * 2,
}


@pytest.mark.parametrize("name", SAMPLES)
def test_collate_is_torchs(name):
    batch = SAMPLES[name]
    assert plain(default_collate(batch)) == plain(peer.default_collate(batch))


@pytest.mark.parametrize("name", SAMPLES)
def test_convert_is_torchs(name):
    sample = SAMPLES[name][0]
    assert plain(default_convert(sample)) == plain(peer.default_convert(sample))


def test_tensors_are_stacked():
    batch = [create.tensor([1.0, 2.0]), create.tensor([3.0, 4.0])]
    assert default_collate(batch).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert default_collate([{"x": (item, 1)} for item in batch])["x"][0].shape == (2, 2)
    assert default_convert(batch[0]) is batch[0]


@given(st.lists(st.integers(0, 3), max_size=3), st.integers(1, 4))
def test_stacking_adds_a_first_dimension(shape, count):
    batch = default_collate([create.zeros(shape)] * count)
    assert tuple(batch.shape) == (count, *shape)


def test_stacking_keeps_the_gradient():
    leaf = create.tensor([1.0, 2.0]).requires_grad_()
    default_collate([leaf, leaf]).sum().backward()
    assert leaf.grad.tolist() == [2.0, 2.0]


def test_a_batch_does_not_share_memory_with_its_samples():
    array = np.zeros(2)
    batch = default_collate([array])
    array += 1
    assert batch.tolist() == [[0.0, 0.0]]


def test_converted_arrays_share_memory():
    array = np.zeros(2)
    tensor = default_convert(array)
    array += 1
    assert tensor.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("batch", "error", "says"),
    [
        ([object()], TypeError, "<class 'object'>"),
        ([None], TypeError, "NoneType"),
        ([np.array(["a"])], TypeError, "arrays of dtype <U1"),
        ([np.array([object()])], TypeError, "arrays of dtype object"),
        ([[1, 2], [3]], RuntimeError, r"lengths \[1, 2\]"),
        ([np.ones(2), np.ones(3)], RuntimeError, "stack"),
        ([{"a": 1}, {"b": 1}], KeyError, "a"),
        ([], IndexError, "empty batch"),
    ],
)
def test_collate_errors(batch, error, says):
    with pytest.raises(error):
        peer.default_collate(batch)
    with pytest.raises(error, match=says):
        default_collate(batch)


def test_text_arrays_are_left_by_convert():
    array = np.array(["a", "b"])
    assert default_convert(array) is array
