"""Compiled objects on disk: content-addressed, bounded, safe for several processes at once."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from amity.core import flags

DIGEST = 32
SUFFIX = ".o"


class Cache:
    """A folder of entries. An entry is a SHA-256 of its bytes, then the bytes: one that does not
    match is as good as absent. A folder that cannot be written only costs time.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder, self.limit = folder, limit
        self.hits = self.misses = 0

    def path(self, key: str) -> Path:
        return self.folder / (hashlib.sha256(key.encode()).hexdigest() + SUFFIX)

    def get(self, key: str) -> bytes | None:
        path = self.path(key)
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

    def put(self, key: str, code: bytes) -> None:
        path = self.path(key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as f:
                f.write(hashlib.sha256(code).digest() + code)
            os.replace(f.name, path)
        except OSError:
            return  # a read-only or full disk: the kernel is simply built again next time
        if self.misses % 64 == 0:
            self.shrink()

    def entries(self) -> list[Path]:
        return list(self.folder.glob("*" + SUFFIX)) if self.folder.is_dir() else []

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(_stat(p)[1] for p in self.entries())

    def shrink(self) -> None:
        """Remove the entries used longest ago until the folder keeps its limit."""
        rows = sorted((*_stat(p), p) for p in self.entries())
        total = sum(size for _, size, _ in rows)
        for _, size, path in rows:
            if total <= self.limit:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size

    def clear(self) -> int:
        """Remove every entry; gives how many there were."""
        found = self.entries()
        for path in found:
            path.unlink(missing_ok=True)
        return len(found)


def _stat(path: Path) -> tuple[float, int]:
    try:
        s = path.stat()
    except OSError:
        return (0.0, 0)  # another process removed it
    return (s.st_mtime, s.st_size)


def source_stamp() -> str:
    """Changes whenever the code that makes kernels does."""
    root = Path(__file__).resolve().parents[1]
    rows = []
    for folder in ("ir", "ops", "compiler", "codegen", "runtime"):
        for path in sorted((root / folder).rglob("*.py")):
            s = path.stat()
            rows.append(f"{path.name}:{s.st_size}:{s.st_mtime_ns}")
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


cache = Cache(flags.cache_dir, flags.cache_limit)
