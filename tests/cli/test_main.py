"""The commands, as typed."""

import subprocess
import sys
from importlib import metadata

import pytest

import amity
from amity.cli import cache as cache_command
from amity.cli.cache import size
from amity.cli.main import main
from amity.engine.cache import Cache


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"amity {amity.__version__}\n"


def test_python_dash_m():
    command = [sys.executable, "-m", "amity", "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert told.stdout == f"amity {amity.__version__}\n"


def test_info_names_the_versions_and_the_settings(capsys, monkeypatch):
    monkeypatch.setenv("AMITY_NUM_THREADS", "3")
    assert main(["info"]) == 0
    told = capsys.readouterr().out
    for name in ("numpy", "llvmlite", "ml_dtypes"):
        assert f"{name:<13} {metadata.version(name)}\n" in told
    assert "AMITY_NUM_THREADS=3" in told
    assert "AMITY_CACHE_DIR" in told


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["demo", "--epochs", "0"],
        ["demo", "--dataset", "mnist"],
        ["cache", "burn"],
    ],
)
def test_wrong_arguments_are_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: amity" in capsys.readouterr().err


@pytest.fixture
def two_kernels(tmp_path, monkeypatch):
    """A kernel cache of its own with two entries, 100 bytes each beside their checksum."""
    small = Cache(tmp_path, limit=1_000_000)
    for key in ("a", "b"):
        small.put(key, bytes(100))
    monkeypatch.setattr(cache_command, "cache", small)
    return small


def test_cache_shows_what_it_holds(two_kernels, capsys):
    assert main(["cache"]) == main(["cache", "show"]) == 0
    line = f"{two_kernels.folder}: 2 kernels, 0 programs, {size(two_kernels.size())} of at most 1.0 MB\n"
    assert capsys.readouterr().out == line * 2
    assert len(two_kernels.entries()) == 2


def test_cache_clear_removes_all(two_kernels, capsys):
    assert main(["cache", "clear"]) == 0
    assert capsys.readouterr().out.startswith("removed 2 kernels")
    assert two_kernels.entries() == [] and two_kernels.get("a") is None


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (268_435_456, "268.4 MB")],
)
def test_sizes_are_for_people(count, text):
    assert size(count) == text
