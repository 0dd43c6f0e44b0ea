"""Linear layers whose weights lie as register tiles read them: what a Program keeps of weights that
stay. A *panel* holds a few columns of the weight read the other way, side by side at each step of k.
"""

from __future__ import annotations

from amity.ir.graph import Spec

from .matmul import LINEAR
from .movement import Permute, Reshape
from .record import ErrorSample, Op, Sample, unlike

F = "f"


def forms(features: int, width: int, columns: int, pairs: int) -> tuple[Op, Op, Op]:
    """The views that put a weight's elements in order of panels."""
    panels, steps = features // columns, width // pairs
    return (
        Reshape((panels, columns, steps, pairs)),
        Permute((0, 2, 1, 3)),
        Reshape((panels, steps, columns * pairs)),
    )


def panels_of(weight, columns: int, pairs: int):
    """A weight as panels of so many columns, of whose elements `pairs` along k lie together.

    shape: [n, k] -> [n / columns, k / pairs, columns * pairs]
    """
    n, k = weight.shape
    for op in forms(n, k, columns, pairs):
        weight = op(weight)
    return weight.contiguous()


class PanelLinear(Op):
    """`x @ weight.T`, plus a bias if there is a third input, of a weight in panels."""

    name = "panel_linear"
    kind = "kernel"
    planner = "panels"
    no_gradient = "its weight stays: where a gradient is wanted there is `linear`"
    columns: int
    pairs: int
    samples = (
        Sample(((5, 6), F), ((8, 6), F), ((8,), F), columns=4, pairs=2,
               through=lambda x, w, b: (x, panels_of(w, 4, 2), b)),
        Sample(((2, 5, 3), F), ((64, 3), F), columns=32, pairs=1,
               through=lambda x, w: (x, panels_of(w, 32, 1))),
    )  # fmt: skip
    errors = (
        ErrorSample(((2, 3), "i"), ((1, 3, 4), "i"), columns=4, pairs=1, error=NotImplementedError,
                    says="'Long'"),
    )  # fmt: skip

    def infer(self, x: Spec, panels: Spec, bias: Spec | None = None) -> Spec:
        if x.dtype.kind != "f":
            raise unlike("linear", x.dtype, "f")
        return Spec((*x.shape[:-1], panels.shape[0] * self.columns), x.dtype)

    def reference(self, x, panels, bias=None):
        count, steps, _ = panels.shape
        apart = panels.reshape(count, steps, self.columns, self.pairs).transpose(0, 2, 1, 3)
        weight = apart.reshape(count * self.columns, steps * self.pairs)
        return LINEAR.reference(x, weight, *([] if bias is None else [bias]))
