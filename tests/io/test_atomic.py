"""A write that fails leaves the old file as it was, and nothing else behind."""

from __future__ import annotations

import os
import stat

import pytest

from amity.io import atomic, atomic_write


def test_new_file_appears_whole(tmp_path):
    with atomic_write("save", tmp_path / "a.bin") as file:
        file.write(b"new")
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_failure_during_write_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_write("save", path) as file:
        file.write(b"half of the n")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_to_finish_leaves_the_old_file(tmp_path, monkeypatch, step):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(atomic.os, step, refuse)
    with pytest.raises(OSError, match="Input/output"), atomic_write("save", path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_replaced_file_keeps_its_mode(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with atomic_write("save", path) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_new_file_has_the_mode_that_open_gives(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    with atomic_write("save", tmp_path / "a.bin"):
        pass
    assert (tmp_path / "a.bin").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    with atomic_write("save", tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_reader_of_the_old_file_keeps_it(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with open(path, "rb") as reader:
        with atomic_write("save", path) as file:
            file.write(b"new")
        assert reader.read() == b"old"


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="save: got a path in a folder that does not exist"):
        with atomic_write("save", tmp_path / "no" / "a.bin"):
            pass


def test_folder_is_no_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="save: got a folder; expected the path of a file"):
        with atomic_write("save", tmp_path):
            pass


def test_long_name_leaves_room_for_the_temporary_one(tmp_path):
    path = tmp_path / ("x" * 250)
    with atomic_write("save", path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_device_file_is_written_in_place():
    with atomic_write("save", os.devnull) as file:
        file.write(b"new")
    assert not stat.S_ISREG(os.stat(os.devnull).st_mode)
