"""Where things lie in memory that both Python and generated code touch."""

from __future__ import annotations

# Storage: 0 refcount, 8 type, then
DATA, ROOT, VERSION, MARK, OWNER, POOL, NBYTES, HEADER = 16, 24, 32, 36, 40, 48, 56, 64
LOOSE = 1 << 31  # in VERSION: writes may have been missed, as PyTorch's `.data` asks for
# Pool of blocks of one size: free list, block size, where the blocks come from
HEAD, BLOCK_SIZE, SOURCE = 0, 8, 16
POOL_WORDS = 3
SYSTEM, HEAP = range(2)  # the C library, and kept for ever; or spans of the heap
# State of a heap: bytes kept free, their limit, the list of free spans, whether it takes huge pages.
# There are two: of what is filled at once, and of what noted calls make
KEPT_BYTES, KEPT_LIMIT, FREE_SPANS, TAKES_HUGE = 0, 8, 16, 24
STATE_WORDS = 4
FILLED_HEAP, NOTED_HEAP = 0, STATE_WORDS * 8
# Notes (notes.py): start, count and limit of each buffer, by the word where these three begin
WORDS, NUMBERS, ROOTS, READS, NOTES_WORDS = 0, 3, 6, 9, 12
# A root: its storage; what it holds all over, if a noted call filled it: layout, dtype and bytes;
# whether a noted call made it; one more than the last of the reads of it; how far from its start it
# was first met, from where words count
STORAGE, HELD, HELD_DTYPE, HELD_BYTES, IS_MADE, LAST_READ, BASE, ROOT_WORDS = range(8)
KEPT = 2  # in IS_MADE: by the notes too, until they are cleared
# A read of memory as it was: where, how far from the root's start, layout, bytes; one more than
# the read before it of the same root
ADDRESS, AWAY, SEEN, SEEN_BYTES, READ_BEFORE, READ_WORDS = range(6)
PAYLOAD = bytes.__basicsize__ - 1  # where the data of a bytes object starts

# Cells that Python fills in: types, exceptions and shared state.
CELLS = (
    "storage_type",
    "tensor_type",
    "state",
    "pool_context",
    "none",
    "memory_error",
    "type_error",
    "scratch_pool",
    "recorder",
    "recording_thread",
    "complete",
    "notes",
    "is_noting",
    "meet",
)


def cell(name: str) -> str:
    return f"getelementptr ([{len(CELLS)} x ptr], ptr @amity_cells, i64 0, i64 {CELLS.index(name)})"


def text(name: str, words: str) -> str:
    """A C string constant."""
    return f'@{name} = private constant [{len(words) + 1} x i8] c"{words}\\00"'
