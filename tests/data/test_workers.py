"""Workers that fail, die, hang or are left: an error in time, and nothing left behind."""

import contextlib
import faulthandler
import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from amity.core import dtype
from amity.data import DataLoader, Dataset, IterableDataset, get_worker_info
from amity.data import pool as pool_module
from amity.frontend import create

ROOT = Path(__file__).resolve().parents[2]
SOON = 5.0  # seconds in which an error must have come; most take a few milliseconds


def open_files():
    return {
        fd: os.readlink(f"/proc/self/fd/{fd}")
        for fd in os.listdir("/proc/self/fd")
        if os.path.exists(f"/proc/self/fd/{fd}")
    }


def shared_memory():
    """Names of shared memory that Python's processes made; other programs make theirs meanwhile."""
    names = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    return {n for n in names if n.startswith(("psm_", "amity"))}


def segments():
    """Mapped or open shared-memory files of this process."""
    maps = Path("/proc/self/maps").read_text().count("amity-data")
    return maps + sum("amity-data" in name for name in open_files().values())


@pytest.fixture(autouse=True, scope="module")
def collecting_is_fast():
    """Only what the tests make is looked at by `gc.collect`."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """After every test here: no process, no descriptor, no shared memory."""
    monkeypatch.setattr(pool_module, "GRACE", 0.2)
    gc.collect()
    shm = shared_memory()
    files = len(open_files())
    yield
    gc.collect()
    deadline = time.monotonic() + SOON
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert multiprocessing.active_children() == []
    assert segments() == 0
    assert len(open_files()) <= files
    assert shared_memory() <= shm


@contextlib.contextmanager
def soon(seconds=SOON):
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


class Big(Dataset):
    """Samples large enough for shared memory."""

    def __init__(self, size=20, floats=50_000):
        self.size, self.floats = size, floats

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return np.full(self.floats, index, np.float32)


class Calls(Dataset):
    """Sample `i` is what `functions.get(i)` gives, else `i`."""

    def __init__(self, functions, size=12):
        self.functions, self.size = functions, size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        function = self.functions.get(index)
        return function() if function else index


class Custom(Exception):
    def __init__(self, code, *, detail):
        super().__init__(f"code {code}: {detail}")
        self.code, self.detail = code, detail


def raise_custom():
    raise Custom(7, detail="sensor")


def raise_local():
    class Local(Exception):
        pass

    raise Local("nobody can import this")


def raise_chain():
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise OSError(2, "no such file", "x.png") from error


def raise_with_lock():
    raise ValueError("held", threading.Lock())


def hang():
    time.sleep(3600)


def pids(loader_iterator):
    return [worker.pid for worker in loader_iterator._pool.workers]


# -- hand-over ---------------------------------------------------------------------------------


def test_large_batches_keep_their_values_and_order():
    for index, batch in enumerate(DataLoader(Big(), 2, num_workers=2)):
        assert batch.shape == (2, 50_000)
        assert batch[0, 0].item() == batch[0, -1].item() == 2 * index
        assert batch[1, 0].item() == 2 * index + 1


def test_batches_that_are_kept_are_not_overwritten():
    kept = list(DataLoader(Big(), 1, num_workers=2))
    assert [batch[0, -1].item() for batch in kept] == list(range(20))


def test_a_view_keeps_its_batch():
    loader = DataLoader(Big(30), 1, num_workers=1)
    rows = [batch[0, 10:20] for batch in loader]
    assert [row.tolist() for row in rows] == [[float(i)] * 10 for i in range(30)]


def test_more_kept_batches_than_leases(monkeypatch):
    monkeypatch.setattr(pool_module, "LEASES", 4)
    kept = list(DataLoader(Big(30), 1, num_workers=2))
    assert segments() <= 8  # each is mapped and open
    assert [batch[0, -1].item() for batch in kept] == list(range(30))


def test_segments_are_used_again():
    iterator = iter(DataLoader(Big(40), 1, num_workers=1))
    for batch in iterator:
        last = batch
        assert len(iterator._pool.workers[0].receiver._maps) <= 5
    assert last[0, 0].item() == 39


def test_batches_of_growing_sizes():
    class Growing(Big):
        def __getitem__(self, index):
            return np.full(1000 * 2 ** (index % 8), index, np.float64)

    for index, batch in enumerate(DataLoader(Growing(40), None, num_workers=2)):
        assert batch.shape == (1000 * 2 ** (index % 8),) and batch[-1].item() == index


def test_batches_are_writable_and_outlive_the_loader():
    iterator = iter(DataLoader(Big(4), 1, num_workers=1))
    first = next(iterator)
    del iterator
    gc.collect()
    first += 1
    assert first[0, 5].item() == 1.0


KINDS = {
    "text": "x" * 300_000,
    "bytes": b"x" * 300_000,
    "none": None,
    "empty array": np.zeros((0, 3)),
    "0-d array": np.array(3.5),
    "transposed": np.arange(60_000.0).reshape(200, 300).T,
    "reversed": np.arange(60_000)[::-1],
    "objects": np.array([1, "a", None], dtype=object),
    "records": np.zeros(5000, dtype=[("a", "f4"), ("b", "i8")]),
    "read only": np.frombuffer(bytes(80_000), np.int64),
    "several": [np.full(n, n, np.int16) for n in (0, 1, 7, 9000, 33)],
}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)


@pytest.mark.parametrize("name", KINDS)
def test_any_object_crosses(name):
    value = KINDS[name]
    (got,) = DataLoader([value], None, num_workers=1, collate_fn=lambda sample: sample)
    if isinstance(value, list):
        assert all(same(a, b) for a, b in zip(got, value))
    elif isinstance(value, np.ndarray):
        assert same(got, value)
    else:
        assert got == value


def test_tensors_cross_with_dtype_and_requires_grad():
    def make(sample):
        return create.zeros(3, dtype=dtype.float16), create.ones(2).requires_grad_()

    ((half, leaf),) = DataLoader([0], None, num_workers=1, collate_fn=make)
    assert half.dtype == dtype.float16 and half.tolist() == [0.0] * 3
    assert leaf.requires_grad and leaf.is_leaf and leaf.tolist() == [1.0, 1.0]


def test_a_tensor_with_history_is_refused():
    def make(sample):
        return create.ones(2).requires_grad_() * 2

    with pytest.raises(RuntimeError, match="a tensor that autograd follows"):
        list(DataLoader([0], None, num_workers=1, collate_fn=make))


# -- errors in a worker ------------------------------------------------------------------------


def test_an_error_has_its_class_arguments_and_own_traceback():
    dataset = Calls({3: raise_chain})
    with soon(), pytest.raises(FileNotFoundError) as caught:
        list(DataLoader(dataset, 2, num_workers=2))
    assert caught.value.args == (2, "no such file") and caught.value.filename == "x.png"
    (note,) = caught.value.__notes__
    assert "in DataLoader worker 1 (pid " in note
    assert "in raise_chain" in note and "KeyError: 'inner'" in note


def test_an_error_whose_init_wants_other_arguments():
    with pytest.raises(Custom, match="code 7: sensor") as caught:
        list(DataLoader(Calls({0: raise_custom}), num_workers=1))
    assert caught.value.code == 7 and caught.value.detail == "sensor"


def test_an_error_with_an_argument_that_cannot_be_pickled():
    with pytest.raises(ValueError, match="held"):
        list(DataLoader(Calls({0: raise_with_lock}), num_workers=1))


def test_an_error_of_a_class_that_cannot_be_imported():
    with pytest.raises(
        RuntimeError, match="got Local in DataLoader worker 0.*\n(.*\n)*.*nobody can"
    ):
        list(DataLoader(Calls({0: raise_local}), num_workers=1))


def test_the_epoch_goes_on_after_an_error():
    iterator = iter(DataLoader(Calls({2: raise_custom}, 6), num_workers=2))
    got = []
    while True:
        try:
            got.append(int(next(iterator)))
        except Custom:
            got.append("error")
        except StopIteration:
            break
    assert got == [0, 1, "error", 3, 4, 5]


def test_a_batch_that_cannot_be_pickled():
    with soon(), pytest.raises((TypeError, AttributeError), match="pickle"):
        list(DataLoader([1], None, num_workers=1, collate_fn=lambda sample: (x for x in "ab")))


def test_an_error_in_collate_fn_and_in_worker_init_fn():
    def broken(value):
        raise LookupError(f"broken {value}")

    with soon(), pytest.raises(LookupError, match="broken"):
        list(DataLoader([1], num_workers=2, collate_fn=broken))
    with soon(), pytest.raises(LookupError, match="broken [01]"):
        list(DataLoader([1], num_workers=2, worker_init_fn=broken))


def test_an_error_in_a_stream():
    class Broken(IterableDataset):
        def __iter__(self):
            yield 0
            raise Custom(1, detail="stream")

    iterator = iter(DataLoader(Broken(), None, num_workers=1))
    assert next(iterator) == 0
    with pytest.raises(Custom):
        next(iterator)
    assert list(iterator) == []


def test_an_error_in_the_sampler_ends_the_workers():
    def indices():
        yield 0
        raise Custom(1, detail="sampler")

    with pytest.raises(Custom, match="sampler"):
        list(DataLoader([1, 2], sampler=indices(), num_workers=2))


# -- workers that die --------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 77])
def test_a_worker_that_exits(code):
    with soon(), pytest.raises(RuntimeError, match=rf"worker \d \(pid \d+\) .* with code {code}\b"):
        list(DataLoader(Calls({5: lambda: os._exit(code)}), num_workers=2))


def test_a_worker_that_calls_sys_exit():
    with soon(), pytest.raises(RuntimeError, match="with code 3"):
        list(DataLoader(Calls({5: lambda: sys.exit(3)}), num_workers=2))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM"])
def test_a_worker_that_is_killed(name):
    def die():
        faulthandler.disable()  # pytest's would print all stacks
        os.kill(os.getpid(), getattr(signal, name))
        time.sleep(60)

    number = int(getattr(signal, name))
    with soon(), pytest.raises(RuntimeError, match=f"code -{number}, killed by {name}"):
        list(DataLoader(Calls({5: die}), 3, num_workers=2))


def test_a_worker_killed_while_the_parent_waits():
    iterator = iter(DataLoader(Calls({1: hang}), num_workers=1))
    assert int(next(iterator)) == 0
    (pid,) = pids(iterator)
    timer = threading.Timer(0.1, os.kill, (pid, signal.SIGKILL))
    timer.start()
    with soon(), pytest.raises(RuntimeError, match=rf"pid {pid}\) .*SIGKILL"):
        next(iterator)
    timer.join()
    assert list(iterator) == []


def test_a_worker_killed_while_another_is_waited_for():
    iterator = iter(DataLoader(Calls({0: hang}), num_workers=2))
    os.kill(pids(iterator)[1], signal.SIGKILL)
    with soon(), pytest.raises(RuntimeError, match=r"worker 1 \(pid \d+\) .*SIGKILL"):
        next(iterator)


def test_a_worker_that_dies_at_the_start():
    with soon(), pytest.raises(RuntimeError, match="with code 9"):
        list(DataLoader([1, 2], num_workers=2, worker_init_fn=lambda worker: os._exit(9)))


def test_persistent_workers_come_back_after_a_death():
    loader = DataLoader(Big(4), num_workers=1, persistent_workers=True)
    iterator = iter(loader)
    next(iterator)
    (pid,) = pids(iterator)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="SIGKILL"):
        list(iterator)
    again = iter(loader)
    assert len(list(again)) == 4 and pids(again) != [pid]


# -- time-outs ---------------------------------------------------------------------------------


def test_a_timeout():
    iterator = iter(DataLoader(Calls({1: hang}), num_workers=2, timeout=0.2))
    assert int(next(iterator)) == 0
    with soon(), pytest.raises(RuntimeError, match=r"nothing from worker 1 \(pid \d+\) for 0.2 s"):
        next(iterator)


def test_a_slow_batch_within_the_timeout():
    dataset = Calls({1: lambda: time.sleep(0.2) or 1}, 3)
    assert len(list(DataLoader(dataset, num_workers=1, timeout=SOON))) == 3


# -- loaders that are left ---------------------------------------------------------------------


@pytest.mark.parametrize("persistent", [False, True])
def test_leaving_a_loop_ends_the_workers(persistent):
    loader = DataLoader(Big(), num_workers=2, persistent_workers=persistent)
    batch = next(iter(loader))
    assert batch[0, 0].item() == 0


def test_a_stuck_worker_is_terminated():
    iterator = iter(DataLoader(Calls({1: hang}), num_workers=1))
    next(iterator)
    with soon():
        del iterator


def test_a_worker_that_ignores_sigterm_is_killed(monkeypatch):
    def stubborn():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        hang()

    monkeypatch.setattr(pool_module, "LAST", 0.3)
    iterator = iter(DataLoader(Calls({1: stubborn}), num_workers=1))
    next(iterator)
    time.sleep(0.1)
    with soon():
        del iterator


def test_persistent_workers_stay():
    loader = DataLoader(Calls({}, 6), 2, num_workers=2, persistent_workers=True)
    first = iter(loader)
    assert len(list(first)) == 3
    second = iter(loader)
    assert pids(second) == pids(first) and len(list(second)) == 3


def test_persistent_workers_after_an_epoch_that_was_left():
    loader = DataLoader(Big(12), num_workers=2, persistent_workers=True)
    for _ in range(3):
        left = iter(loader)
        assert next(left)[0, 0].item() == 0
    assert [batch[0, 0].item() for batch in loader] == list(range(12))
    with pytest.raises(RuntimeError, match="a newer one"):
        next(left)


def test_persistent_streams_begin_again():
    class Stream(IterableDataset):
        def __iter__(self):
            info = get_worker_info()
            return iter(range(info.id, 5, info.num_workers))

    loader = DataLoader(Stream(), None, num_workers=2, persistent_workers=True)
    assert [list(loader) for _ in range(3)] == [[0, 1, 2, 3, 4]] * 3


# -- order, prefetch, start --------------------------------------------------------------------


def test_order_holds_when_workers_differ_in_speed():
    dataset = Calls({i: lambda i=i: time.sleep(0.02) or i for i in range(0, 12, 3)})
    assert [int(b) for b in DataLoader(dataset, num_workers=3)] == list(range(12))


def test_out_of_order_gives_the_fast_ones_first():
    dataset = Calls({0: lambda: time.sleep(0.5) or 0}, 8)
    got = [int(b) for b in DataLoader(dataset, num_workers=2, in_order=False)]
    assert sorted(got) == list(range(8)) and got[0] != 0


@pytest.mark.parametrize("prefetch", [1, 3, 700])
def test_prefetch_runs_ahead_so_far(prefetch):
    taken = []

    def indices():
        for index in range(40):
            taken.append(index)
            yield index

    loader = DataLoader(range(40), sampler=indices(), num_workers=2, prefetch_factor=prefetch)
    iterator = iter(loader)
    assert len(taken) == min(2 * prefetch, 40)
    next(iterator)
    assert len(taken) == min(2 * prefetch + 1, 40)
    assert [int(batch) for batch in iterator] == list(range(1, 40))


def test_huge_index_lists_do_not_lock_up():
    batches = [[0] * 200_000] * 12
    loader = DataLoader(Calls({}), batch_sampler=batches, num_workers=2, collate_fn=bytes)
    with soon(30):
        assert [len(batch) for batch in loader] == [200_000] * 12


def test_worker_init_fn_and_info():
    seen = multiprocessing.get_context("fork").SimpleQueue()
    dataset = Calls({})

    def init(worker):
        info = get_worker_info()
        seen.put((worker, info.id, info.num_workers, type(info.dataset).__name__, info.seed))

    list(DataLoader(dataset, num_workers=2, worker_init_fn=init))
    rows = sorted(seen.get() for _ in range(2))
    seen.close()
    assert [row[:4] for row in rows] == [(0, 0, 2, "Calls"), (1, 1, 2, "Calls")]
    assert rows[1][4] == rows[0][4] + 1


def test_a_loader_in_a_thread():
    got = []
    thread = threading.Thread(
        target=lambda: got.extend(b.shape[0] for b in DataLoader(Big(), 5, num_workers=2))
    )
    thread.start()
    thread.join(SOON)
    assert got == [5, 5, 5, 5]


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_other_start_methods_share_the_dataset(method):
    script = """
        import os
        import numpy as np
        from amity.data import DataLoader, Dataset, get_worker_info

        class Rows(Dataset):
            def __init__(self):
                self.rows = np.arange(400_000.0).reshape(4, -1)
            def __len__(self):
                return 4
            def __getitem__(self, index):
                self.rows[index] += 1  # a worker's copy is its own
                return self.rows[index], os.getpid()

        if __name__ == "__main__":
            dataset = Rows()
            loader = DataLoader(dataset, 2, num_workers=2, multiprocessing_context="METHOD")
            batches = list(loader)
            assert [b[0][0, 0].item() for b in batches] == [1.0, 200_001.0], batches
            assert batches[0][1].tolist() != batches[1][1].tolist()
            assert dataset.rows[0, 0] == 0
            print("done")
    """
    done = run_script(script.replace("METHOD", method), "-W", "error")
    assert done.stdout == "done\n" and done.stderr == "" and done.returncode == 0


def test_spawn_says_what_cannot_be_pickled():
    loader = DataLoader(
        [1], num_workers=1, multiprocessing_context="spawn", collate_fn=lambda samples: samples
    )
    with pytest.raises((AttributeError, TypeError, ValueError, OSError, Exception)) as caught:
        iter(loader)
    assert "must be picklable" in caught.value.__notes__[0]


# -- whole programs ----------------------------------------------------------------------------


def run_script(script, *options, **arguments):
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with temporary_script(script) as name:
        return subprocess.run(
            [sys.executable, *options, name],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            **arguments,
        )


@contextlib.contextmanager
def temporary_script(script):
    name = f"/tmp/amity-test-{os.getpid()}-{time.monotonic_ns()}.py"
    Path(name).write_text(textwrap.dedent(script))
    try:
        yield name
    finally:
        os.unlink(name)


ENDLESS = """
    import os, sys, time
    from amity.data import DataLoader, IterableDataset

    class Endless(IterableDataset):
        def __iter__(self):
            while True:
                yield os.getpid()
                time.sleep(SLEEP)

    iterator = iter(DataLoader(Endless(), None, num_workers=2))
    print(next(iterator), next(iterator), flush=True)
    for pid in iterator:
        pass
"""


def start_endless(sleep):
    """A program in a process group of its own, and the pids of its workers."""
    path = os.pathsep.join([str(ROOT), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    program = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(ENDLESS.replace("SLEEP", str(sleep)))],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    return program, [int(pid) for pid in program.stdout.readline().split()]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def wait_until_gone(worker_pids):
    deadline = time.monotonic() + SOON
    while not all(gone(pid) for pid in worker_pids):
        assert time.monotonic() < deadline, worker_pids
        time.sleep(0.02)


@pytest.mark.parametrize("sleep", [0.001, 3600])
def test_ctrl_c_leaves_no_process(sleep):
    program, workers = start_endless(sleep)
    assert len(workers) == 2
    time.sleep(0.1)
    os.killpg(program.pid, signal.SIGINT)
    with soon():
        _, errors = program.communicate()
    assert program.returncode == -signal.SIGINT or program.returncode == 130
    assert errors.count("Traceback") == 1 and errors.rstrip().endswith("KeyboardInterrupt")
    wait_until_gone(workers)


def test_workers_end_when_the_parent_is_killed():
    program, workers = start_endless(0.01)
    program.kill()
    program.communicate()
    wait_until_gone(workers)


def test_an_iterator_alive_at_exit_is_quiet():
    script = """
        from amity.data import DataLoader
        kept = iter(DataLoader(range(100), num_workers=2))
        print(next(kept).tolist())
    """
    with soon(60):
        done = run_script(script, "-W", "error")
    assert (done.stdout, done.stderr, done.returncode) == ("[0]\n", "", 0)


def test_a_forked_child_leaves_the_workers_alone():
    iterator = iter(DataLoader(Big(), num_workers=1))
    next(iterator)
    child = os.fork()
    if child == 0:
        del iterator
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert next(iterator)[0, 0].item() == 1
