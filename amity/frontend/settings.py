"""Settings of PyTorch's that scripts make: kept and told, where amity's kernels need none of them."""

from __future__ import annotations

PRECISIONS = ("highest", "high", "medium")
_kept = {"precision": "highest", "deterministic": False, "warn_only": False}


def set_float32_matmul_precision(precision: str) -> None:
    """How exact products of float32 must be; amity's are always the exactest."""
    if precision not in PRECISIONS:
        raise RuntimeError(
            f"set_float32_matmul_precision: got {precision!r}; expected one of {', '.join(PRECISIONS)}"
        )
    _kept["precision"] = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was given."""
    return str(_kept["precision"])


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Ask for the same numbers in each run; amity's kernels always give them."""
    _kept["deterministic"], _kept["warn_only"] = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` was asked for."""
    return bool(_kept["deterministic"])


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether it was asked for with `warn_only`."""
    return bool(_kept["warn_only"])


def set_flush_denormal(mode: bool) -> bool:
    """Whether tiny numbers can be made zeros: they cannot, so this is False."""
    return False
