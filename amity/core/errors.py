"""Errors: each names the op, what was got and what was expected, and is the class PyTorch raises."""

from __future__ import annotations


class ShapeError(RuntimeError):
    """Sizes that do not fit together."""


class DtypeError(RuntimeError):
    """A dtype that an op does not take."""


class DeviceError(RuntimeError):
    """Tensors on devices that do not meet."""


class AutogradError(RuntimeError):
    """A gradient that cannot be had."""


class OutOfMemoryError(RuntimeError):
    """More memory was asked for than the machine gives."""


class CheckError(RuntimeError):
    """What a check of compiled code found: AMITY_CHECK."""

    node: object = None  # of the graph that is wrong first, where one is known


class FormatError(ValueError):
    """A file that is not what it should be."""


class LinAlgError(RuntimeError):
    """A matrix that has no such factors."""


class DimError(IndexError):
    """A dimension that a tensor does not have."""


def message(op: str, got: object, expected: str, hint: str | None = None) -> str:
    """The one form of all errors."""
    return f"{op}: got {got}; expected {expected}" + (f" ({hint})" if hint else "")


def fail(
    cls: type[Exception], op: str, got: object, expected: str, hint: str | None = None
) -> Exception:
    """An error ready to raise: `raise fail(ShapeError, "mm", "(2, 3) and (4, 5)", "...")`."""
    return cls(message(op, got, expected, hint))
