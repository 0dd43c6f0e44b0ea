"""Sizes of memory blocks: which are kept for reuse, and how they lie."""

from __future__ import annotations

from amity.core.errors import OutOfMemoryError, fail

HUGE = 4 << 20  # blocks from this size on lie in huge pages
HUGE_PAGE = 2 << 20
ALIGNMENT = 64
LARGE = 64 << 10  # blocks from this size on count against the limit of kept bytes
KEPT_LIMIT = 1 << 30  # bytes of large blocks kept for reuse
SCRATCH_BYTES = 8 << 20
ADVISE_HUGE = 14  # MADV_HUGEPAGE of Linux
MOST = 1 << 62  # bytes; more would not fit the words of a plan
OUT_OF_MEMORY = "out of memory: the allocator got no block of the size that was asked"
NOT_A_TENSOR = "kernel call: got an argument that is not a Tensor"


def size_class(nbytes: int) -> int:
    """The block size that serves a request: few classes, at most an eighth wasted above 4 KiB.

    >>> size_class(100), size_class(5000)
    (128, 5120)
    """
    if nbytes <= 4096:
        return (nbytes + 63) & ~63
    if nbytes > MOST:
        raise fail(OutOfMemoryError, "allocate", f"{nbytes} bytes", f"at most {MOST}")
    step = 1 << max(6, (nbytes - 1).bit_length() - 4)
    return (nbytes + step - 1) & ~(step - 1)
