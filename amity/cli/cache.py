"""`amity cache`: the kernels kept on disk, shown or cleared."""

from __future__ import annotations

import argparse

from amity.engine.cache import cache


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
    count, taken = len(cache.entries()), cache.size()
    kernels = f"{count} {'kernel' if count == 1 else 'kernels'}, {size(taken)}"
    if options.action == "clear":
        cache.clear()
        print(f"removed {kernels} from {cache.folder}")
    else:
        print(f"{cache.folder}: {kernels} of at most {size(cache.limit)}")
    return 0
