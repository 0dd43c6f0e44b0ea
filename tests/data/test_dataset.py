"""Datasets and random_split, beside torch.utils.data."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amity.data import (
    ChainDataset,
    ConcatDataset,
    Dataset,
    IterableDataset,
    StackDataset,
    Subset,
    TensorDataset,
    random_split,
)
from amity.frontend import create
from amity.frontend.random import Generator

torch = pytest.importorskip("torch")
peer = torch.utils.data


class Squares(Dataset):
    def __init__(self, size=5):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index * index


class Letters(IterableDataset):
    def __init__(self, text):
        self.text = text

    def __iter__(self):
        return iter(self.text)

    def __len__(self):
        return len(self.text)


class AtOnce(Squares):
    def __getitems__(self, indices):
        return [-i for i in indices]


class Short(Squares):
    def __getitems__(self, indices):
        return [0]


def test_tensor_dataset_gives_rows():
    x, y = create.tensor([[1.0, 2.0], [3.0, 4.0]]), create.tensor([5, 6])
    dataset = TensorDataset(x, y)
    row = dataset[1]
    assert isinstance(row, tuple) and row[0].tolist() == [3.0, 4.0] and row[1].item() == 6
    assert len(dataset) == 2
    assert dataset[0:2][1].tolist() == [5, 6]


def test_tensor_dataset_wants_one_first_size():
    with pytest.raises(ValueError, match=r"TensorDataset: got first sizes \[2, 3\]"):
        TensorDataset(create.zeros(2), create.zeros(3))
    with pytest.raises(ValueError, match="TensorDataset: got first sizes"):
        TensorDataset(create.tensor(1.0))


def test_datasets_are_generic_and_abstract():
    assert Dataset[int] is not None
    with pytest.raises(NotImplementedError, match="__getitem__"):
        Dataset()[0]
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(IterableDataset())


def test_sum_of_datasets():
    both = Squares(3) + Squares(2)
    assert isinstance(both, ConcatDataset) and [both[i] for i in range(5)] == [0, 1, 4, 0, 1]
    chain = Letters("ab") + Letters("c")
    assert isinstance(chain, ChainDataset) and list(chain) == ["a", "b", "c"] and len(chain) == 3


@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(-25, 25))
def test_concat_indexes_as_torch_does(sizes, index):
    mine, theirs = (cls([range(n) for n in sizes]) for cls in (ConcatDataset, peer.ConcatDataset))
    assert len(mine) == len(theirs) and mine.cumulative_sizes == theirs.cumulative_sizes
    try:
        expected = theirs[index]
    except (IndexError, ValueError) as error:
        with pytest.raises(type(error), match="ConcatDataset: got index"):
            mine[index]
    else:
        assert mine[index] == expected


def test_concat_refuses_nothing_and_streams():
    with pytest.raises(ValueError, match="no dataset"):
        ConcatDataset([])
    with pytest.raises(ValueError, match="Letters, an IterableDataset"):
        ConcatDataset([Letters("a")])


def test_chain_refuses_maps():
    with pytest.raises(TypeError, match="ChainDataset: got Squares"):
        list(ChainDataset([Letters("a"), Squares()]))


def test_stack_gives_tuples_or_dicts():
    assert StackDataset(Squares(3), "abc")[2] == (4, "c")
    named = StackDataset(n=Squares(3), c="abc")
    assert named[1] == {"n": 1, "c": "b"} and len(named) == 3
    assert named.__getitems__([0, 2]) == [{"n": 0, "c": "a"}, {"n": 4, "c": "c"}]
    assert StackDataset(AtOnce(3), "abc").__getitems__([1, 2]) == [(-1, "b"), (-2, "c")]


@pytest.mark.parametrize(
    ("args", "kwargs", "says"),
    [
        ((), {}, "no dataset"),
        (("ab",), {"x": "ab"}, "both positional and keyword"),
        (("ab", "abc"), {}, r"lengths \[2, 3\]"),
    ],
)
def test_stack_errors(args, kwargs, says):
    with pytest.raises(ValueError, match=says):
        StackDataset(*args, **kwargs)
    with pytest.raises(ValueError):
        peer.StackDataset(*args, **kwargs)


def test_stack_checks_what_getitems_gives():
    with pytest.raises(ValueError, match="1 samples from __getitems__; expected 2"):
        StackDataset(Short(3)).__getitems__([0, 1])


def test_subset():
    part = Subset(Squares(5), [4, 2, 0])
    assert [part[i] for i in range(len(part))] == [16, 4, 0] and part[-1] == 0
    assert part.__getitems__([0, 1]) == [16, 4]
    assert Subset(AtOnce(5), [4, 2]).__getitems__([1]) == [-2]
    rows = Subset(TensorDataset(create.tensor([5, 6, 7])), [2, 0])[[0, 1]]
    assert rows[0].tolist() == [7, 5]


@given(st.integers(1, 40), st.lists(st.integers(1, 20), min_size=1, max_size=5))
def test_split_by_fraction_has_torch_sizes(total, parts):
    fractions = [part / sum(parts) for part in parts]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            theirs = [len(part) for part in peer.random_split(range(total), fractions)]
        except ValueError:  # the fractions sum to a hair above 1
            with pytest.raises(ValueError, match="random_split: got lengths"):
                random_split(range(total), fractions)
            return
        mine = random_split(range(total), fractions)
    assert [len(part) for part in mine] == theirs
    assert sorted(i for part in mine for i in part.indices) == list(range(total))


def test_split_by_count_is_a_partition_and_follows_the_generator():
    first, second, other = (
        random_split(range(50), [20, 30], Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert [len(part) for part in first] == [20, 30]
    assert sorted([*first[0].indices, *first[1].indices]) == list(range(50))
    assert [p.indices for p in first] == [p.indices for p in second]
    assert [p.indices for p in first] != [p.indices for p in other]
    assert list(first[0].indices) != list(range(20))


@pytest.mark.parametrize(
    "lengths", [[1, 1], [0.5, 0.4], [0.5, 0.6], [1.5, -0.5], [-1, 4], [1.5, 1.5]]
)
def test_split_errors(lengths):
    with pytest.raises(ValueError, match="random_split: got"):
        random_split(range(3), lengths)


def test_split_warns_of_an_empty_part():
    with pytest.warns(UserWarning, match="part 1 of .* is empty"):
        parts = random_split(range(10), [0.95, 0.05])
    assert [len(part) for part in parts] == [10, 0]
