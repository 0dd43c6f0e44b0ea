"""`amity info`: the machine and the versions, as amity sees them."""

from __future__ import annotations

import argparse
import os
import platform
from importlib import metadata

import amity
from amity.codegen.cpu import host_target
from amity.core import flags


def rows() -> list[tuple[str, str]]:
    """What there is to know, as (name, value)."""
    target = host_target()
    python = f"{platform.python_implementation()} {platform.python_version()}"
    given = [
        f"{variable}={os.environ[variable]}"
        for variable, _, _ in flags.TABLE.values()
        if variable in os.environ
    ]
    return [
        ("amity", amity.__version__),
        ("python", f"{python} on {platform.platform()}"),
        *((name, metadata.version(name)) for name in ("numpy", "llvmlite", "ml_dtypes")),
        ("processor", f"{target.cpu} ({target.triple})"),
        ("kernels for", f"{target.name}, vectors of {target.vector_bytes} bytes"),
        ("abilities", ", ".join(sorted(target.has)) or "none beyond the least"),
        ("threads", str(amity.get_num_threads())),
        ("kernel cache", str(flags.cache_dir)),
        ("settings", ", ".join(given) or "none given"),
    ]


def run(_: argparse.Namespace) -> int:
    """Print the rows."""
    for name, value in rows():
        print(f"{name:<13} {value}")
    print("\nsettings that the environment may give:")
    for variable, default, meaning in flags.TABLE.values():
        print(f"  {variable:<18} {meaning} ({f'default {default}' if default else 'not set'})")
    return 0
