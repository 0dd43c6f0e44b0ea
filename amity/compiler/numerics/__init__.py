"""Mathematical functions as kernel instructions, for any vector width, in f32 and f64.

No target needs a library: a function is a polynomial, a few bit operations and selections. Each
docstring states the greatest error measured, in units in the last place, for both dtypes; the tests
read the bounds from there.
"""

from __future__ import annotations

from amity.ir.kernel import Builder, Value

from . import arithmetic, bessel, error, exponential, gamma, hyperbolic, power, trigonometric
from .floats import FORMATS, FUNCTIONS

__all__ = ["FUNCTIONS", "expand"]


def expand(b: Builder, name: str, args: list[Value]) -> Value:
    """The instructions of a function such as `exp`; the builder's `math`."""
    f = FUNCTIONS.get(name)
    if f is None:
        raise ValueError(f"{name}: got an unknown function; expected one of {sorted(FUNCTIONS)}")
    if args[0].dtype not in FORMATS:
        raise TypeError(f"{name}: got {args[0].dtype}; expected f32 or f64")
    return f(b, *b.widen(*args))
