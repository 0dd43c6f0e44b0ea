"""Sizes of memory blocks: which are kept for reuse, and how they lie."""

from __future__ import annotations

import os
from pathlib import Path

from amity.core.errors import OutOfMemoryError, fail

HUGE = 4 << 20  # blocks from this size on lie in huge pages
HUGE_PAGE = 2 << 20
ALIGNMENT = 64
LARGE = 64 << 10  # blocks from this size on come from a heap: once free they serve any other size
CHUNK = 256 << 20  # bytes the heap asks the system for; those never used take no memory
MIN_SPAN = 64 << 10  # bytes that are worth a span of their own
SCRATCH_BYTES = 8 << 20
# What madvise calls huge pages and pages that may be dropped
ADVICE: dict[str, dict[str, int | None]] = {
    "linux": {"in_huge_pages": 14, "forget": 4},
    "darwin": {"in_huge_pages": None, "forget": 5},
}
NO_ADVICE: dict[str, int | None] = {"in_huge_pages": None, "forget": None}
MOST = 1 << 62  # bytes; more would not fit the words of a plan
OUT_OF_MEMORY = "out of memory: the allocator got no block of the size that was asked"
NOT_A_TENSOR = "kernel call: got an argument that is not a Tensor"


def memory() -> int:
    """Bytes of memory this process may use: the machine's, or the container's if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return total  # no such file: there is no limit to obey
    return total if limit == "max" else min(total, int(limit))


KEPT_LIMIT = max(256 << 20, memory() // 8)  # bytes of large blocks kept for reuse


def check_size(nbytes: int) -> int:
    """The same number, if a machine could have so many bytes at all."""
    if nbytes > MOST:
        raise fail(OutOfMemoryError, "allocate", f"{nbytes} bytes", f"at most {MOST}")
    return nbytes


def size_class(nbytes: int) -> int:
    """The block size that serves a request: few classes, at most an eighth wasted above 4 KiB.

    >>> size_class(100), size_class(5000)
    (128, 5120)
    """
    if nbytes <= 4096:
        return (nbytes + 63) & ~63
    check_size(nbytes)
    step = 1 << max(6, (nbytes - 1).bit_length() - (4 if nbytes < LARGE else 7))
    return (nbytes + step - 1) & ~(step - 1)
