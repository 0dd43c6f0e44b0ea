"""Files appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def atomic_write(op: str, path: str | os.PathLike) -> Iterator[BinaryIO]:
    """A file to write that takes the place of `path` only when the block ends well.

    The bytes go to a new file in the same folder, reach the disk, and are then renamed over the
    old file, so a crash, a full disk or Ctrl-C leaves the old file untouched.

    errors: OSError where the file system refuses; FileNotFoundError if the folder is missing.
    source: POSIX rename(2): the new name always refers to the old file or to the new one.
    """
    target = Path(os.path.realpath(os.fspath(path)))  # a link stays, the file behind it changes
    if not target.parent.is_dir():
        reason = f"{op}: got a path in a folder that does not exist; expected an existing folder"
        raise FileNotFoundError(errno.ENOENT, reason, str(target.parent))
    if target.is_dir():
        reason = f"{op}: got a folder; expected the path of a file"
        raise IsADirectoryError(errno.EISDIR, reason, str(target))
    if target.exists() and not target.is_file():
        with open(target, "wb") as file:  # a pipe or a device: there is no old file to keep
            yield file
        return
    temporary = target.with_name(f".{target.name[:200]}.{os.urandom(6).hex()}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            os.chmod(temporary, stat.S_IMODE(target.stat().st_mode))
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut, where the system lets folders be synced."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:  # some network file systems cannot, and say so
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
