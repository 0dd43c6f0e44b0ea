"""Every setting, one table. Read from the environment once, at import."""

from __future__ import annotations

import os
from pathlib import Path

# name: (environment variable, default, meaning)
TABLE = {
    "cpu": (
        "AMITY_CPU",
        "native",
        "native; its features capped: avx2, sse2; on null: arm64, apple, wasm32",
    ),
    "device": ("AMITY_DEVICE", "cpu", "cpu, null (compile, never run)"),
    "native": ("AMITY_NATIVE", "1", "0: call kernels through ctypes instead of generated builtins"),
    "threads": (
        "AMITY_NUM_THREADS",
        "",
        "worker threads; by default the cores this process may use",
    ),
    "cache_dir": (
        "AMITY_CACHE_DIR",
        "",
        "where kernels and Programs are kept; empty: the user's cache folder",
    ),
    "data_dir": ("AMITY_DATA_DIR", "", "where datasets are kept; empty: the user's cache folder"),
    "cache_limit": (
        "AMITY_CACHE_LIMIT",
        "268435456",
        "bytes that kernels and Programs may take on disk",
    ),
    "show": (
        "AMITY_SHOW",
        "",
        "print stages: any of graph, schedule, kernel, code, time, joined by commas",
    ),
    "check": (
        "AMITY_CHECK",
        "",
        "extra checks: any of ir, bounds, nan, reference, joined by commas",
    ),
    "passes": (
        "AMITY_PASSES",
        "",
        "passes of the compiler to leave out, such as -fuse, joined by commas",
    ),
}


def read(name: str) -> str:
    variable, default, _ = TABLE[name]
    return os.environ.get(variable, default)


def one_of(name: str, *allowed: str) -> str:
    value = read(name)
    if value not in allowed:
        raise ValueError(f"{TABLE[name][0]}: got {value!r}; expected one of {', '.join(allowed)}")
    return value


def words(name: str, *allowed: str) -> frozenset[str]:
    """The words of a setting; any, if none are named."""
    found = frozenset(w for w in read(name).split(",") if w)
    unknown = sorted(found.difference(allowed)) if allowed else []
    if unknown:
        expected = ", ".join(allowed)
        raise ValueError(f"{TABLE[name][0]}: got {unknown[0]!r}; expected some of {expected}")
    return found


def folder(name: str, *inside: str) -> Path:
    """The folder that a setting names, or one inside the user's cache folder."""
    given = read(name)
    if given:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "amity", *inside)


cpu = one_of("cpu", "native", "avx2", "sse2", "arm64", "apple", "wasm32")
device = one_of("device", "cpu", "null")
native = one_of("native", "0", "1") == "1"
threads = int(read("threads") or 0)
cache_dir = folder("cache_dir")
data_dir = folder("data_dir", "datasets")
cache_limit = int(read("cache_limit"))
show = words("show", "graph", "schedule", "kernel", "code", "time")
check = words("check", "ir", "bounds", "nan", "reference")
passes = words("passes")
