"""Kernels and Programs on disk: content-addressed, bounded, safe for several processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
from pathlib import Path

from amity.core import flags

DIGEST = 32
KERNEL, PROGRAM, UNFINISHED, MARK = ".o", ".program", ".part", ".all"
KINDS = (KERNEL, PROGRAM)  # of entries, which share the limit
SHRINK_EVERY = 64  # entries written between looks at the limit
ABANDONED = 3600.0  # seconds after which a file that nobody finished goes


class Cache:
    """A folder of entries. An entry is a SHA-256 of its bytes, then the bytes: one that does not
    match is as good as absent. A folder that cannot be written only costs time.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.hits = self.misses = self.writes = 0

    def path(self, key: str, kind: str = KERNEL) -> Path:
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + kind)

    def get(self, key: str, kind: str = KERNEL) -> bytes | None:
        path = self.path(key, kind)
        try:
            raw = path.read_bytes()
        except OSError:
            self.misses += 1
            return None
        digest, code = raw[:DIGEST], raw[DIGEST:]
        if hashlib.sha256(code).digest() != digest:
            self.misses += 1
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the oldest entries go first when the folder is full
        self.hits += 1
        return code

    def put(self, key: str, code: bytes, kind: str = KERNEL) -> None:
        """Write an entry in full, then give it its name: other processes never see half of one."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(UNFINISHED, dir=self.folder)
        except OSError:
            return  # a read-only disk: the kernel is simply built again next time
        try:
            with open(number, "wb") as f:
                f.write(hashlib.sha256(code).digest() + code)
            os.replace(name, self.path(key, kind))
        except OSError:  # a full disk
            with contextlib.suppress(OSError):
                os.unlink(name)
            return
        if self.writes % SHRINK_EVERY == 0:
            self.shrink()
        self.writes += 1

    def mark(self, key: str) -> None:
        """Note that all of a family is there; shrinking and clearing forget it."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            self.path(key, MARK).touch()

    def is_marked(self, key: str) -> bool:
        return self.path(key, MARK).exists()

    def _files(self, *suffixes: str) -> list[tuple[float, int, str]]:
        """(time of last use, bytes, path) of all files of these kinds, oldest first."""
        rows = []
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.folder) as found,
        ):
            for entry in found:
                if entry.name.endswith(suffixes):
                    with contextlib.suppress(OSError):  # another process removed it
                        s = entry.stat()
                        rows.append((s.st_mtime, s.st_size, entry.path))
        return sorted(rows)

    def entries(self, *kinds: str) -> list[Path]:
        """The entries of some kinds, or of all."""
        return [Path(path) for _, _, path in self._files(*(kinds or KINDS))]

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(size for _, size, _ in self._files(*KINDS))

    def shrink(self) -> None:
        """Remove the entries used longest ago until the folder keeps its limit."""
        rows = self._files(*KINDS)
        total, going = sum(size for _, size, _ in rows), []
        for _, size, path in rows:
            if total <= self.limit:
                break
            going.append(path)
            total -= size
        if going:  # marks first: nobody may find one whose kernels are gone
            going = [*[path for _, _, path in self._files(MARK)], *going]
        going += [p for used, _, p in self._files(UNFINISHED) if time.time() - used > ABANDONED]
        for path in going:
            with contextlib.suppress(OSError):
                os.unlink(path)

    def clear(self) -> int:
        """Remove every entry; gives how many there were."""
        found = self.entries()
        for path in (*(Path(p) for _, _, p in self._files(MARK)), *found):
            path.unlink(missing_ok=True)
        return len(found)


cache = Cache(flags.cache_dir, flags.cache_limit)
