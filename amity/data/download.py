"""Downloads: a file from the first mirror that gives it, verified, and written whole or not."""

from __future__ import annotations

import hashlib
import os
import tempfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from amity.core.errors import fail

PIECE = 1 << 18
TIMEOUT = 30.0  # seconds without a byte


@dataclass(frozen=True)
class Source:
    """What a file must be: its size in bytes and its SHA-256."""

    size: int
    sha256: str


def fetch_file(urls: Sequence[str], path: Path, source: Source) -> None:
    """Fetch a file from the first of `urls` that has it, to `path`.

    errors: RuntimeError, naming what each URL gave, if none gives the file that `source` describes
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    failures = []
    for url in urls:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                _copy(url, file, source)
            os.chmod(name, 0o644)
            os.replace(name, path)
            return
        except OSError as error:  # URLError and time-outs are OSErrors
            failures.append(f"{url}: {error}")
        except ValueError as error:
            failures.append(f"{url}: {error}")
        finally:
            if os.path.exists(name):
                os.unlink(name)
    raise fail(RuntimeError, "download", "; ".join(failures), f"{path.name}, {source.size} bytes")


def _copy(url: str, file: object, source: Source) -> None:
    digest, size = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=TIMEOUT) as reply:
        while piece := reply.read(PIECE):
            size += len(piece)
            if size > source.size:
                raise ValueError(f"more than {source.size} bytes")
            digest.update(piece)
            file.write(piece)  # type: ignore[attr-defined]
    if size != source.size:
        raise ValueError(f"{size} bytes of {source.size}")
    if digest.hexdigest() != source.sha256:
        raise ValueError(f"checksum {digest.hexdigest()}, not {source.sha256}")
