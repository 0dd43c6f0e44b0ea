"""Kernels on disk: whatever happens to the folder, results are right and only time is lost."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from amity.engine import cache as module
from amity.engine.cache import ABANDONED, KERNEL, MARK, SHRINK_EVERY, UNFINISHED, Cache

ROOT = Path(__file__).resolve().parents[2]
SUM = """
import amity
from amity.engine import device
from amity.engine.cache import cache
x = amity.arange(100.0)
print(((x * 2 + 1).sum()).item(), device.kernels().compiled, cache.hits)
"""


def command(folder, code: str = SUM, **settings: str) -> dict:
    environment = os.environ | {"AMITY_CACHE_DIR": str(folder)} | settings
    return {"args": [sys.executable, "-c", code], "cwd": ROOT, "env": environment, "text": True}


def run(folder, code: str = SUM, **settings: str) -> list[str]:
    done = subprocess.run(**command(folder, code, **settings), capture_output=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr == ""
    return done.stdout.split()


def test_the_second_run_compiles_nothing(tmp_path):
    total, compiled, hits = run(tmp_path)
    assert (total, hits) == ("10000.0", "0") and int(compiled) >= 3
    assert len(list(tmp_path.glob("*" + KERNEL))) == int(compiled)
    total, again, hits = run(tmp_path)
    assert (total, again) == ("10000.0", "0") and 3 <= int(hits) <= int(compiled)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("spoil", [truncate, flip, empty])
def test_a_spoilt_entry_is_built_again(tmp_path, spoil):
    _, compiled, _ = run(tmp_path)
    for path in tmp_path.glob("*" + KERNEL):
        spoil(path)
    assert run(tmp_path) == ["10000.0", compiled, "0"]
    assert run(tmp_path)[:2] == ["10000.0", "0"]


def test_a_folder_in_an_entrys_place_only_costs_time(tmp_path):
    _, compiled, _ = run(tmp_path)
    for path in tmp_path.glob("*" + KERNEL):
        a_folder(path)
    assert run(tmp_path) == ["10000.0", compiled, "0"]
    assert list(tmp_path.glob("*" + UNFINISHED)) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder_only_costs_time(tmp_path):
    tmp_path.chmod(0o500)
    try:
        assert run(tmp_path)[0] == "10000.0"
    finally:
        tmp_path.chmod(0o700)


def test_a_folder_that_cannot_be_made_only_costs_time(tmp_path):
    """The same for root too: a file stands where the folder should."""
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert run(blocked / "cache")[0] == run(blocked)[0] == "10000.0"
    assert blocked.read_text() == "not a folder"


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    small = Cache(tmp_path, 1000)
    monkeypatch.setattr(module.os, "replace", full)
    small.put("a", b"code")
    assert list(tmp_path.iterdir()) == []
    assert small.get("a") is None


def test_processes_write_at_once(tmp_path):
    started = [
        subprocess.Popen(**command(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in started:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0 and err == "", err
        assert out.split()[0] == "10000.0"
    total, compiled, _ = run(tmp_path)
    assert (total, compiled) == ("10000.0", "0")
    assert list(tmp_path.glob("*" + UNFINISHED)) == []


def test_readers_never_see_half_an_entry(tmp_path):
    small, code = Cache(tmp_path, 1 << 30), os.urandom(200_000)
    stop, seen = threading.Event(), []

    def read():
        while not stop.is_set():
            seen.append(Cache(tmp_path, 1).get("a"))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        small.put("a", code)
    stop.set()
    reader.join()
    assert code in seen
    assert {len(x) for x in seen if x is not None} == {len(code)}


def test_the_oldest_go_when_the_limit_is_reached(tmp_path):
    small, old = Cache(tmp_path, 10_000), time.time() - 1000
    for n in range(20):
        small.put(f"k{n}", bytes(968))  # 1000 bytes with the checksum
        os.utime(small.path(f"k{n}"), (old + n, old + n))
    assert small.get("k0") is not None  # and so it is the youngest
    small.shrink()
    assert small.size() == 10_000
    assert small.get("k0") is not None and small.get("k19") is not None
    assert small.get("k1") is None and small.get("k10") is None


def test_writing_keeps_the_limit(tmp_path):
    small = Cache(tmp_path, 10_000)
    for n in range(2 * SHRINK_EVERY + 1):
        small.put(f"k{n}", bytes(968))
    assert small.size() <= 10_000


def test_the_setting_is_the_limit(tmp_path):
    for n in range(30):
        Cache(tmp_path, 1 << 30).put(f"k{n}", bytes(10_000))
    assert run(tmp_path, AMITY_CACHE_LIMIT="50000")[0] == "10000.0"
    assert Cache(tmp_path, 0).size() < 200_000


def test_files_that_nobody_finished_go(tmp_path):
    small = Cache(tmp_path, 10_000)
    stale, fresh = tmp_path / ("a" + UNFINISHED), tmp_path / ("b" + UNFINISHED)
    for path in (stale, fresh):
        path.write_bytes(b"half")
    long_ago = time.time() - ABANDONED - 60
    os.utime(stale, (long_ago, long_ago))
    small.shrink()
    assert not stale.exists() and fresh.exists()


def test_strangers_in_the_folder_stay(tmp_path):
    small = Cache(tmp_path, 0)
    (tmp_path / "notes.txt").write_text("mine")
    small.put("a", b"code")
    small.shrink()
    assert small.clear() == 0
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


def test_the_command_shows_and_clears(tmp_path):
    _, compiled, _ = run(tmp_path)
    ask = "import sys; from amity.cli.main import main; sys.exit(main(['cache'] + sys.argv[1:]))"

    def amity_cache(*words: str) -> str:
        settings = command(tmp_path, ask)
        settings["args"] += words
        return subprocess.run(**settings, capture_output=True, check=True).stdout

    assert amity_cache().startswith(f"{tmp_path}: {compiled} kernels, ")
    assert amity_cache("clear").startswith(f"removed {compiled} kernels")
    assert amity_cache("show").startswith(f"{tmp_path}: 0 kernels, 0 programs, 0 bytes")
    assert run(tmp_path)[1] == compiled


EDITED = """
import sys
from pathlib import Path
import amity
lowering = Path(amity.__file__).parent / "compiler" / "lower.py"
if sys.argv[1:]:
    lowering.write_text(lowering.read_text() + "# edited\\n")
amity.ones(3).sum().item()
from amity.engine import device
print(device.kernels().stamp)
"""


def test_code_that_is_edited_while_it_runs_has_its_old_name(tmp_path):
    """Else processes with the new code would find what old code made."""
    shutil.copytree(ROOT / "amity", tmp_path / "amity", ignore=shutil.ignore_patterns("*.pyc"))

    def stamp(*arguments: str) -> str:
        done = command(tmp_path / "cache", EDITED)
        done["args"] += arguments
        out = subprocess.run(**done | {"cwd": tmp_path}, capture_output=True)
        assert out.returncode == 0, out.stderr
        return out.stdout

    first = stamp()
    assert stamp("edit") == first
    assert stamp() != first


def test_marks_go_before_the_kernels_they_tell_of(tmp_path, monkeypatch):
    small = Cache(tmp_path, 1000)
    small.put("a", bytes(900))
    small.mark("family of a")
    small.put("b", bytes(900))
    gone = []
    monkeypatch.setattr(module.os, "unlink", lambda path: gone.append(Path(path).suffix))
    small.shrink()
    assert gone == [MARK, KERNEL]
