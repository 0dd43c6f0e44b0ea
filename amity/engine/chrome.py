"""A profile as a trace file, which chrome://tracing and Perfetto open.

source: Trace Event Format, Google (JSON object format: complete events "X" and metadata "M")
"""

from __future__ import annotations

import gzip
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from amity.core.version import __version__

from .profile import Event, Watch


def document(watch: Watch, more: dict[str, Any]) -> dict[str, Any]:
    """The trace as data; times in microseconds since the profile began."""
    pid, main = os.getpid(), threading.main_thread().ident
    began = time.time_ns() - (time.perf_counter_ns() - watch.began)
    threads = sorted({e.thread for e in watch.events}, key=lambda t: t != main)
    small = {t: i + 1 for i, t in enumerate(threads)}  # readers take thread numbers of 32 bits
    rows: list[dict[str, Any]] = [
        {
            "ph": "M",
            "name": "process_name",
            "pid": pid,
            "tid": 0,
            "ts": 0,
            "args": {"name": "amity"},
        }
    ]
    for ident, tid in small.items():
        name = "main" if ident == main else f"thread {ident}"
        rows.append(
            {
                "ph": "M",
                "name": "thread_name",
                "pid": pid,
                "tid": tid,
                "ts": 0,
                "args": {"name": name},
            }
        )
    for event in sorted(watch.events, key=lambda e: (e.start, -e.end)):
        rows.append(
            {
                "ph": "X", "cat": event.kind, "name": event.name, "pid": pid,
                "tid": small[event.thread], "ts": (event.start - watch.began) / 1e3,
                "dur": (event.end - event.start) / 1e3, "args": _details(event),
            }
        )  # fmt: skip
    head = {"schemaVersion": 1, "displayTimeUnit": "ms", "baseTimeNanoseconds": began}
    flags = {
        "record_shapes": int(watch.shapes),
        "profile_memory": int(watch.memory),
        "with_stack": int(watch.stacks),
        "with_flops": int(watch.flops),
    }
    return head | flags | {"amity_version": __version__} | more | {"traceEvents": rows}


def _details(event: Event) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if event.input_shapes:
        found["Input Dims"], found["Input type"] = event.input_shapes, event.input_types
    if event.stack:
        found["Call stack"] = ";".join(event.stack)
    if event.memory:
        found["Bytes"] = event.memory
    if event.flops:
        found["FLOPs"] = event.flops
    return found


def write(path: str | Path, watch: Watch, more: dict[str, Any]) -> None:
    """Write the trace, compressed if the name ends with `.gz`; the file appears when it is whole."""
    data = json.dumps(document(watch, more)).encode()
    path = Path(path)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    os.replace(part, path)
