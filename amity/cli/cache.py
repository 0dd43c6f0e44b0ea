"""`amity cache`: the kernels and Programs kept on disk, shown or cleared."""

from __future__ import annotations

import argparse

from amity.engine.cache import KERNEL, PROGRAM, cache


def size(count: int) -> str:
    """Bytes, for people.

    >>> size(1_234_567)
    '1.2 MB'
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"


def run(options: argparse.Namespace) -> int:
    """Show the folder and what is in it, or empty it."""
    kernels, programs = len(cache.entries(KERNEL)), len(cache.entries(PROGRAM))
    held = f"{counted(kernels, 'kernel')}, {counted(programs, 'program')}, {size(cache.size())}"
    if options.action == "clear":
        cache.clear()
        print(f"removed {held} from {cache.folder}")
    else:
        print(f"{cache.folder}: {held} of at most {size(cache.limit)}")
    return 0


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "kernel"), counted(2, "kernel")
    ('1 kernel', '2 kernels')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
