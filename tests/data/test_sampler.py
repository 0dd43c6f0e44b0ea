"""Samplers: what torch.utils.data gives in length and kind, and where the randomness comes from."""

import collections

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amity.data import (
    BatchSampler,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from amity.frontend.random import Generator, manual_seed

torch = pytest.importorskip("torch")
peer = torch.utils.data


def seeded(seed):
    return Generator().manual_seed(seed)


def test_a_sampler_needs_iter():
    with pytest.raises(NotImplementedError, match="__iter__"):
        iter(Sampler())


@given(st.integers(0, 30))
def test_sequential(size):
    assert list(SequentialSampler(range(size))) == list(range(size))
    assert len(SequentialSampler(range(size))) == size


@given(st.integers(1, 30), st.integers(0, 2**63))
def test_random_is_a_permutation_that_the_seed_fixes(size, seed):
    drawn = list(RandomSampler(range(size), generator=seeded(seed)))
    assert sorted(drawn) == list(range(size))
    assert drawn == list(RandomSampler(range(size), generator=seeded(seed)))


@given(st.integers(1, 12), st.integers(1, 50), st.booleans())
def test_random_with_num_samples(size, count, replacement):
    arguments = {"replacement": replacement, "num_samples": count}
    mine = RandomSampler(range(size), generator=seeded(3), **arguments)
    drawn = list(mine)
    assert len(drawn) == len(mine) == len(list(peer.RandomSampler(range(size), **arguments)))
    assert set(drawn) <= set(range(size))
    if not replacement:  # whole permutations, then the start of one
        for start in range(0, count, size):
            part = drawn[start : start + size]
            assert len(set(part)) == len(part)


def test_replacement_in_more_than_one_draw_covers_evenly():
    counts = collections.Counter(RandomSampler(range(4), True, 4000, generator=seeded(0)))
    assert sum(counts.values()) == 4000
    assert all(880 < counts[i] < 1120 for i in range(4))  # 1000 each, four standard deviations


def test_random_draws_from_the_default_generator():
    manual_seed(5)
    first = list(RandomSampler(range(20)))
    second = list(RandomSampler(range(20)))
    manual_seed(5)
    assert first == list(RandomSampler(range(20))) and first != second


def test_the_default_generator_moves_as_far_for_any_length():
    manual_seed(5)
    list(RandomSampler(range(3)))
    after_short = list(RandomSampler(range(20)))
    manual_seed(5)
    list(RandomSampler(range(300)))
    assert after_short == list(RandomSampler(range(20)))


def test_a_given_generator_goes_on_between_epochs():
    sampler = RandomSampler(range(20), generator=seeded(1))
    assert list(sampler) != list(sampler)


def test_the_size_is_asked_for_each_epoch():
    data = [0]
    sampler = RandomSampler(data)
    data += [0, 0]
    assert len(sampler) == 3 and sorted(sampler) == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"data_source": []}, ValueError, "num_samples=0"),
        ({"data_source": [1], "num_samples": 0}, ValueError, "num_samples=0"),
        ({"data_source": [1], "num_samples": -1}, ValueError, "num_samples=-1"),
        ({"data_source": [1], "num_samples": 1.5}, ValueError, "num_samples=1.5"),
        ({"data_source": [1], "replacement": 1}, TypeError, "replacement=1"),
    ],
)
def test_random_errors(arguments, error, says):
    with pytest.raises(error):
        peer.RandomSampler(**arguments)
    with pytest.raises(error, match=f"RandomSampler: got {says}"):
        RandomSampler(**arguments)


def test_random_of_nothing_with_a_count():
    with pytest.raises(ValueError, match="empty data source"):
        list(RandomSampler([], num_samples=4))


@given(st.lists(st.integers(), unique=True, max_size=20), st.integers(0, 99))
def test_subset_random(indices, seed):
    drawn = list(SubsetRandomSampler(indices, seeded(seed)))
    assert sorted(drawn) == sorted(indices) and len(SubsetRandomSampler(indices)) == len(indices)
    assert drawn == list(SubsetRandomSampler(indices, seeded(seed)))


def test_weighted_draws_in_proportion():
    drawn = list(WeightedRandomSampler([1.0, 0.0, 3.0], 4000, generator=seeded(0)))
    counts = collections.Counter(drawn)
    assert counts[1] == 0 and counts[0] + counts[2] == 4000
    assert 890 < counts[0] < 1110  # 1000, four standard deviations of 27
    assert all(isinstance(i, int) for i in drawn)


def test_weighted_without_replacement_is_a_permutation():
    sampler = WeightedRandomSampler([0.1, 5.0, 1.0], 3, replacement=False, generator=seeded(0))
    assert sorted(sampler) == [0, 1, 2] and len(sampler) == 3


def test_weighted_errors():
    for arguments in ([[1.0], 0], [[[1.0]], 1], [[1.0], 1, 2]):
        with pytest.raises(ValueError):
            peer.WeightedRandomSampler(*arguments)
        with pytest.raises(ValueError, match="WeightedRandomSampler: got"):
            WeightedRandomSampler(*arguments)
    with pytest.raises(RuntimeError):
        list(WeightedRandomSampler([1.0], 2, replacement=False))


@given(st.integers(0, 30), st.integers(1, 8), st.booleans())
def test_batches_are_torchs(size, batch_size, drop_last):
    mine = BatchSampler(range(size), batch_size, drop_last)
    theirs = peer.BatchSampler(range(size), batch_size, drop_last)
    assert list(mine) == list(theirs) and len(mine) == len(theirs)


@pytest.mark.parametrize(
    ("size", "drop"), [(0, False), (-1, False), (True, False), (1.0, False), (1, 1)]
)
def test_batch_errors(size, drop):
    with pytest.raises(ValueError):
        peer.BatchSampler(range(3), size, drop)
    with pytest.raises(ValueError, match="BatchSampler: got"):
        BatchSampler(range(3), size, drop)


@given(st.integers(1, 30), st.integers(1, 5), st.booleans(), st.booleans())
def test_distributed_shares(size, replicas, shuffle, drop_last):
    shares = []
    for rank in range(replicas):
        mine = DistributedSampler(range(size), replicas, rank, shuffle, 7, drop_last)
        theirs = peer.DistributedSampler(range(size), replicas, rank, shuffle, 7, drop_last)
        assert len(mine) == len(theirs) == len(list(mine))
        if not shuffle:
            assert list(mine) == list(theirs)
        shares.append(list(mine))
    together = [i for row in zip(*shares) for i in row]
    if drop_last:
        assert len(set(together)) == len(together)
    else:
        assert set(together) == set(range(size))


def test_distributed_order_changes_with_the_epoch_only():
    sampler = DistributedSampler(range(40), 2, 0)
    first = list(sampler)
    assert first == list(sampler)
    sampler.set_epoch(1)
    assert first != list(sampler)
    with pytest.raises(ValueError, match="rank 2"):
        DistributedSampler(range(4), 2, 2)
