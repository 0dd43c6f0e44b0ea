"""The DataLoader in one process and with workers gives what torch.utils.data's gives."""

import itertools
import random
import warnings

import numpy as np
import pytest

from amity.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    default_collate,
    get_worker_info,
)
from amity.frontend import ranges
from amity.frontend.random import Generator, manual_seed, rand
from amity.frontend.tensor import Tensor

torch = pytest.importorskip("torch")
peer = torch.utils.data


class Records(Dataset):
    """Samples of several kinds, made with NumPy so that both loaders read them."""

    def __init__(self, size=11):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        image = np.full((2, 3), index, np.float32)
        return {"image": image, "label": index, "name": f"sample {index}", "pair": (index / 2, [1])}


class Shards(IterableDataset):
    """A stream that workers share: worker `i` of `n` takes every n-th number."""

    def __init__(self, size, module):
        self.size, self.module = size, module

    def __iter__(self):
        info = self.module.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        return iter(range(first, self.size, step))


class LOCAL:
    get_worker_info = staticmethod(get_worker_info)


class PeerShards(Shards, peer.IterableDataset):
    pass


class Seeds(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        info = get_worker_info()
        drawn = float(rand(1).item())
        return info.id, info.seed % 2**32, random.random(), np.random.rand(), drawn


class Counting(Dataset):
    """Batches fetched at once."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        raise AssertionError("__getitems__ was passed over")

    def __getitems__(self, indices):
        return [index * 10 for index in indices]


class Announced(IterableDataset):
    def __iter__(self):
        return iter(range(5))

    def __len__(self):
        return 3


def plain(value):
    if isinstance(value, Tensor | torch.Tensor):
        return (str(value.dtype).split(".")[-1], tuple(value.shape), value.tolist())
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


ARGUMENTS = {
    "defaults": {},
    "batches": {"batch_size": 4},
    "drop_last": {"batch_size": 4, "drop_last": True},
    "no batches": {"batch_size": None},
    "sampler": {"batch_size": 2, "sampler": [3, 1, 2]},
    "batch_sampler": {"batch_sampler": [[0], [2, 1], []][:2]},
    "collate_fn": {"batch_size": 3, "collate_fn": len},
    "big": {"batch_size": 100},
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_batches_are_torchs(name, num_workers):
    arguments = ARGUMENTS[name]
    expected = [plain(batch) for batch in peer.DataLoader(Records(), **arguments)]
    loader = DataLoader(Records(), num_workers=num_workers, **arguments)
    assert [plain(batch) for batch in loader] == expected
    assert len(loader) == len(expected)
    assert len(iter(loader)) == len(expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_empty_dataset_gives_nothing(num_workers):
    assert list(DataLoader(Records(0), num_workers=num_workers)) == []


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # PyTorch counts the cores
@pytest.mark.parametrize(
    ("size", "batch_size", "drop_last", "num_workers"),
    [
        (7, None, False, 0),
        (7, 3, False, 0),
        (7, 3, True, 0),
        (7, None, False, 3),
        (7, 2, False, 3),
        (7, 2, True, 2),
        (1, 1, False, 2),
        (0, 1, False, 1),
    ],
)
def test_streams_are_torchs(size, batch_size, drop_last, num_workers):
    arguments = {"batch_size": batch_size, "drop_last": drop_last, "num_workers": num_workers}
    theirs = peer.DataLoader(PeerShards(size, peer), **arguments)
    mine = DataLoader(Shards(size, LOCAL), **arguments)
    assert [plain(batch) for batch in mine] == [plain(batch) for batch in theirs]


def test_shuffling_is_the_same_with_and_without_workers():
    def epochs(num_workers, generator=None):
        loader = DataLoader(
            range(20), 3, shuffle=True, num_workers=num_workers, generator=generator
        )
        return [[batch.tolist() for batch in loader] for _ in range(2)]

    manual_seed(3)
    local = epochs(0)
    manual_seed(3)
    assert epochs(2) == local
    assert local[0] != local[1]
    assert sorted(itertools.chain(*local[0])) == list(range(20))
    given = [epochs(n, Generator().manual_seed(9)) for n in (0, 2)]
    assert given[0] == given[1] != local


def test_two_shuffled_passes_at_once_differ():
    loader = DataLoader(range(50), shuffle=True)
    assert [int(b) for b in iter(loader)] != [int(b) for b in iter(loader)]


def test_getitems_is_used():
    assert [b.tolist() for b in DataLoader(Counting(), 4)] == [[0, 10, 20, 30], [40, 50]]


def test_tensor_dataset():
    x = ranges.arange(12).reshape(6, 2)
    for num_workers in (0, 1):
        batches = list(DataLoader(TensorDataset(x, x[:, 0]), 4, num_workers=num_workers))
        assert isinstance(batches[0], list)
        assert [b[0].tolist() for b in batches] == [x[:4].tolist(), x[4:].tolist()]
        assert [b[1].tolist() for b in batches] == [[0, 2, 4, 6], [8, 10]]


def test_rows_of_tensors_are_gathered_as_samples_are_stacked():
    class Own(TensorDataset):
        def __getitem__(self, index):
            return tuple(-t for t in super().__getitem__(index))

    leaf = ranges.arange(12.0).reshape(6, 2).requires_grad_()
    tensors = (leaf, ranges.arange(6), ranges.arange(12).reshape(2, 6).T)
    orders = {"batch_sampler": [[5, 0, -1], [2]]}
    fast = list(DataLoader(TensorDataset(*tensors), **orders))
    slow = list(
        DataLoader(TensorDataset(*tensors), collate_fn=lambda b: default_collate(b), **orders)
    )
    assert plain(fast) == plain(slow) and [type(b) for b in fast] == [type(b) for b in slow]
    part = Subset(Subset(TensorDataset(*tensors), [3, 4, 5]), [2, 0])
    assert next(iter(DataLoader(part, 2)))[1].tolist() == [5, 3]
    own = next(iter(DataLoader(Own(*tensors), 2)))
    assert own[1].tolist() == [0, -1]
    fast[0][0].sum().backward()
    assert leaf.grad.tolist() == [[1.0, 1.0]] + [[0.0, 0.0]] * 4 + [[2.0, 2.0]]
    with pytest.raises(IndexError):
        list(DataLoader(TensorDataset(*tensors), sampler=[6]))


def test_worker_seeds_differ_and_follow_the_generator():
    def drawn(seed):
        loader = DataLoader(Seeds(), None, num_workers=2, generator=Generator().manual_seed(seed))
        return list(loader)

    first, again, other = drawn(1), drawn(1), drawn(2)
    assert first == again != other
    assert [sample[0] for sample in first] == [0, 1, 0, 1]
    assert (first[1][1] - first[0][1]) % 2**32 == 1
    for column in range(2, 5):
        assert len({sample[column] for sample in first}) == 4


def test_there_is_no_worker_info_here():
    assert get_worker_info() is None


def test_a_stream_longer_than_announced_warns_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(list(DataLoader(Announced(), None))) == 5
    assert len(caught) == 1 and "got batch 4" in str(caught[0].message)


def test_stop_iteration_in_a_sample_does_not_end_the_epoch():
    class Stopping(Records):
        def __getitem__(self, index):
            return next(iter([]))

    for num_workers in (0, 1):
        with pytest.raises(RuntimeError, match="StopIteration from Stopping"):
            list(DataLoader(Stopping(), num_workers=num_workers))


def test_defaults_are_torchs():
    mine, theirs = DataLoader(range(3)), peer.DataLoader(range(3))
    names = [n for n in vars(theirs) if not n.startswith("_") and hasattr(mine, n)]
    assert {"batch_size", "drop_last", "num_workers", "prefetch_factor", "timeout"} <= set(names)
    for name in set(names) - {"sampler", "batch_sampler", "collate_fn"}:
        if name != "dataset":
            assert getattr(mine, name) == getattr(theirs, name), name
    assert isinstance(mine.sampler, SequentialSampler)
    assert isinstance(mine.batch_sampler, BatchSampler)
    assert DataLoader(range(3), num_workers=1).prefetch_factor == 2
    DataLoader(range(3), pin_memory=True)


REFUSED = [
    {"num_workers": -1},
    {"timeout": -1},
    {"prefetch_factor": 2},
    {"num_workers": 1, "prefetch_factor": -1},
    {"persistent_workers": True},
    {"batch_size": 0},
    {"batch_size": 1.5},
    {"batch_size": None, "drop_last": True},
    {"sampler": [0], "shuffle": True},
    {"batch_sampler": [[0]], "batch_size": 2},
    {"batch_sampler": [[0]], "shuffle": True},
    {"batch_sampler": [[0]], "sampler": [0]},
    {"batch_sampler": [[0]], "drop_last": True},
    {"multiprocessing_context": "fork"},
    {"num_workers": 1, "multiprocessing_context": "thread"},
]


@pytest.mark.parametrize("arguments", REFUSED, ids=str)
def test_arguments_that_torch_refuses(arguments):
    with pytest.raises(ValueError):
        peer.DataLoader([1, 2], **arguments)
    with pytest.raises(ValueError, match=r"(DataLoader|BatchSampler): got .*; expected "):
        DataLoader([1, 2], **arguments)


@pytest.mark.parametrize(
    "arguments", [{"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}]
)
def test_arguments_that_streams_refuse(arguments):
    with pytest.raises(ValueError):
        peer.DataLoader(PeerShards(3, peer), **arguments)
    with pytest.raises(ValueError, match="with an IterableDataset"):
        DataLoader(Shards(3, LOCAL), **arguments)


@pytest.mark.parametrize("arguments", [{"num_workers": 1.5}, {"timeout": 1}], ids=str)
def test_arguments_that_amity_refuses_earlier(arguments):
    with pytest.raises(ValueError, match="DataLoader: got"):
        DataLoader([1, 2], **arguments)


def test_a_context_has_a_kind():
    with pytest.raises(TypeError, match="multiprocessing_context=3"):
        DataLoader([1], num_workers=1, multiprocessing_context=3)


@pytest.mark.parametrize("name", ["batch_size", "sampler", "dataset", "drop_last"])
def test_what_was_built_cannot_be_replaced(name):
    loader = DataLoader([1, 2])
    with pytest.raises(ValueError, match=f"a new {name}"):
        setattr(loader, name, getattr(loader, name))
    loader.worker_init_fn = print


def test_a_subset_sampler_in_a_loader():
    loader = DataLoader(range(9), 2, sampler=SubsetRandomSampler([1, 5, 8]))
    assert sorted(i for batch in loader for i in batch.tolist()) == [1, 5, 8]
