"""Parcels and channels by themselves."""

import gc
import os
import pickle
import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from amity.data import parcel as parcel_module
from amity.data.channel import Channel, ChannelClosed
from amity.data.parcel import INLINE, Receiver, Sender
from amity.frontend import ranges


class Post:
    """A sender and a receiver in one process."""

    def __init__(self, **arguments):
        self.sender, self.receiver = Sender(), Receiver(**arguments)
        self.news = 0

    def send(self, obj):
        self.sender.take_back(self.receiver.released())
        parcel, fds = self.sender.pack(obj)
        self.news += len(fds)
        return self.receiver.open(pickle.loads(pickle.dumps(parcel)), [os.dup(fd) for fd in fds])


@given(st.recursive(
    st.one_of(st.integers(), st.text(), st.binary(max_size=3000), st.builds(
        np.arange, st.integers(0, 2000), dtype=st.sampled_from(["u1", "f4", "f8", "c16"]))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
))  # fmt: skip
def test_any_nest_of_arrays_arrives(value):
    post = Post()
    got = post.send(value)
    np.testing.assert_equal(got, value)
    del got
    post.sender.close()


def test_arrays_are_aligned_writable_and_apart():
    post = Post()
    arrays = [np.full(n, n % 251, np.uint8) for n in (1, 63, 64, 65, 5000)]
    got = post.send(arrays)
    assert all(a.ctypes.data % parcel_module.ALIGN == 0 for a in got)
    for a in got:
        a[:] = 0
    np.testing.assert_equal(post.send(arrays), arrays)
    post.sender.close()


def test_tensors_share_the_segment():
    post = Post()
    tensor = ranges.arange(5000)
    got = post.send({"x": tensor})["x"]
    assert got.tolist() == tensor.tolist() and post.sender._used
    del got
    gc.collect()
    assert post.receiver.released() == [0]
    post.sender.close()


def test_a_released_segment_is_filled_again():
    post = Post()
    for i in range(10):
        got = post.send(np.full(10_000 + i, i))
        assert got[-1] == i
        del got
    assert post.news == 1
    post.sender.close()


def test_a_held_segment_is_not():
    post = Post()
    held = [post.send(np.full(1000, i)) for i in range(5)]
    assert post.news == 5 and [int(a[-1]) for a in held] == list(range(5))
    post.sender.close()
    assert [int(a[0]) for a in held] == list(range(5))


def test_a_segment_that_is_too_small_gives_way():
    post = Post()
    for size in (1000, 10_000, 100_000, 500):
        assert len(post.send(np.zeros(size))) == size
        assert len(post.receiver._maps) == 1
    assert post.news == 3
    post.sender.close()


def test_beyond_the_leases_arrays_are_copies():
    post = Post(leases=2)
    held = [post.send(np.full(1000, i)) for i in range(6)]
    assert post.news == 3 and [int(a[-1]) for a in held] == list(range(6))
    post.sender.close()


def test_small_parcels_need_no_segment():
    post = Post()
    got = post.send([1, np.arange(3)])
    got[1][0] = 7
    assert post.news == 0 and got[1].tolist() == [7, 1, 2]
    assert post.send("x" * INLINE * 2) == "x" * INLINE * 2
    assert post.news == 1 and post.receiver.released() == [0]
    post.sender.close()


def test_a_private_receiver_does_not_write_back():
    sender = Sender()
    parcel, fds = sender.pack(np.zeros(1000))
    first, second = (Receiver(is_private=True) for _ in range(2))
    a, b = (r.open(parcel, [os.dup(fd) for fd in fds]) for r in (first, second))
    a += 1
    assert a.sum() == 1000 and b.sum() == 0
    sender.close()


def test_memory_that_cannot_be_had_is_an_error(monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No space left"):
        Sender().pack(np.zeros(1000))
    assert len(os.listdir("/proc/self/fd")) == before


# -- channels ----------------------------------------------------------------------------------


@pytest.fixture
def ends():
    a, b = socket.socketpair()
    channels = Channel(a, is_blocking=False), Channel(b, is_blocking=False)
    yield channels
    for channel in channels:
        channel.close()


def read(channel):
    while (message := channel.take()) is None and channel.fill():
        pass
    return message


def test_messages_come_in_order_and_whole(ends):
    a, b = ends
    messages = [b"x" * n for n in (0, 1, 60_000, 3)]
    for message in messages:
        a.send(message)
    assert [read(b)[0] for _ in messages] == messages and read(b) is None


def test_a_message_larger_than_the_socket_waits(ends):
    a, b = ends
    big = os.urandom(3_000_000)
    a.send(big)
    a.send("after")
    assert a.is_waiting_to_send
    got = []
    while len(got) < 2:
        a.flush()
        while message := read(b):
            got.append(message[0])
    assert got == [big, "after"] and not a.is_waiting_to_send


def test_descriptors_go_with_their_message(ends):
    a, b = ends
    files = [os.memfd_create(name) for name in "xyz"]
    for fd, name in zip(files, "xyz"):
        os.write(fd, name.encode())
    a.send("none")
    a.send("two", files[:2])
    a.send(b"x" * 1_000_000, files[2:])
    got = []
    while len(got) < 3:
        a.flush()
        while message := read(b):
            got.append(message)
    assert [len(fds) for _, fds in got] == [0, 2, 1]
    received = [fd for _, fds in got for fd in fds]
    assert [os.pread(fd, 9, 0) for fd in received] == [b"x", b"y", b"z"]
    for fd in files + received:
        os.close(fd)


def test_a_closed_end_is_noticed(ends):
    a, b = ends
    a.send("last")
    a.close()
    assert read(b)[0] == "last"
    with pytest.raises(ChannelClosed):
        b.fill()
    with pytest.raises(ChannelClosed):
        b.send("x")


def test_descriptors_that_nobody_took_are_closed():
    a, b = (Channel(end, is_blocking=False) for end in socket.socketpair())
    before = len(os.listdir("/proc/self/fd"))
    fd = os.memfd_create("x")
    a.send("x", [fd])
    os.close(fd)
    b.fill()
    assert len(os.listdir("/proc/self/fd")) == before + 1
    b.close()
    a.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2
