"""The number of threads, and forks in the middle of other threads' work."""

import os
import threading
import time

import pytest

import amity
from amity.engine import device
from amity.engine.threads import get_num_threads, set_num_threads


@pytest.fixture(autouse=True)
def threads_stay():
    before = get_num_threads()
    yield
    set_num_threads(before)


def test_set_and_get():
    for number in (1, 3, 2):
        set_num_threads(number)
        assert get_num_threads() == number
        assert amity.ones(300, 300).sum().item() == 90_000


@pytest.mark.parametrize(
    ("number", "error"),
    [(0, RuntimeError), (-1, RuntimeError), (1.5, TypeError), (True, TypeError)],
)
def test_numbers_that_are_none(number, error):
    with pytest.raises(error, match="set_num_threads: got"):
        set_num_threads(number)


def child_status(work):
    """How a forked child ends that does `work`; it is killed after 20 seconds."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hung"


@pytest.mark.parametrize("which", range(3))
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_fork_waits_for_what_another_thread_holds(which):
    """Else the child finds a lock taken for ever by a thread that it does not have."""
    amity.ones(2).sum()
    lock = device.locks()[which]
    held = threading.Event()

    def hold():
        with lock:
            held.set()
            time.sleep(0.2)

    def compile_something():
        with device.locks()[which]:
            assert (amity.ones(3) + 1).sum().item() == 6

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert child_status(compile_something) == 0
    thread.join()
    assert not any(lock_is_taken(lock) for lock in device.locks())


def lock_is_taken(lock):
    got = []

    def attempt():
        got.append(lock.acquire(blocking=False))
        if got[0]:
            lock.release()

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not got[0]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_child_computes_alone():
    set_num_threads(2)
    big = amity.ones(600, 600)
    assert (big @ big).sum().item() == 600**3

    def compute():
        assert get_num_threads() == 1
        assert (big @ big).sum().item() == 600**3
        set_num_threads(2)
        assert (big @ big).sum().item() == 600**3

    assert child_status(compute) == 0
    assert get_num_threads() == 2


def test_a_fork_while_this_thread_holds_a_lock():
    with device.locks()[0]:
        assert child_status(lambda: (amity.ones(3) * 2).sum().item()) == 0
