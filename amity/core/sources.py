"""Which code this process runs: what it compiles is kept on disk for those that run the same.

Imported before any of that code: what old code made must not get a name that newer code on disk,
changed meanwhile, would look for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDERS = ("core", "ir", "ops", "compiler", "codegen", "runtime", "engine")  # that make kernels


def _stamp() -> str:
    root = Path(__file__).resolve().parents[1]
    rows = [str(root)]
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            s = path.stat()
            rows.append(f"{path.relative_to(root)}:{s.st_size}:{s.st_mtime_ns}")
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


STAMP = _stamp()  # changes whenever the code that makes kernels and Programs does
