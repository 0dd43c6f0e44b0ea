"""Recurrent networks over all their steps: one op for a layer in one direction, one for its rule.

Letters: T steps, B batch, H hidden size, G gates times H, K kept values times H. The products with
the inputs, `x`, come from outside: [T, B, G], or [rows, G] where `sizes` says how many rows each step
has, the longest sequences first. What a step keeps (its gates, and the state before it) serves the
rule, which runs the steps the other way round; gradients of weights are one product over all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from amity.core.errors import ShapeError
from amity.ir.graph import Spec

from .matmul import Matmul
from .record import ErrorSample, Op, Sample, unlike
from .recurrent import TENSORS, Cell, Gru, Lstm, RnnRelu, RnnTanh

F = "f"

ARRAYS = SimpleNamespace(
    sigmoid=lambda x: 1 / (1 + np.exp(-x)), tanh=np.tanh, relu=lambda x: np.maximum(x, 0),
    where=np.where, cat=lambda parts, dim: np.concatenate(list(parts), dim),
    chunk=lambda x, count: np.split(x, count, -1),
    linear=lambda x, w, bias: x @ w.T if bias is None else x @ w.T + bias,
)  # fmt: skip


class Steps(Op):
    """What both directions of time share: how rows belong to steps, and the checks."""

    kind = "kernel"
    planner = "recurrence"
    carries = "apart"
    cell: ClassVar[type[Cell]]
    is_forward: ClassVar[bool]
    sizes: tuple[int, ...]
    is_reverse: bool

    def spans(self, shape: Sequence[int], batch: int) -> list[tuple[int, int]]:
        """The first row and the number of rows of each step, by time."""
        sizes = self.sizes or (batch,) * shape[0]
        return list(zip(accumulate(sizes, initial=0), sizes, strict=False))

    def walk(self, shape: Sequence[int], batch: int) -> list[tuple[int, slice, int]]:
        """Time, rows and their number, in the order in which the steps are run."""
        spans = enumerate(self.spans(shape, batch))
        steps = [(t, slice(first, first + n), n) for t, (first, n) in spans]
        return steps[::-1] if self.is_reverse else steps

    def check(self, like: Spec, specs: Sequence[Spec]) -> None:
        """That `specs` are of floats, all of one dtype, and `like` has as many rows as steps."""
        if like.dtype.kind != "f":
            raise unlike(self.name, like.dtype, "f")
        for s in specs:
            if s.dtype is not like.dtype:
                raise RuntimeError(
                    f"{self.name}: expected m1 and m2 to have the same dtype, but got: "
                    f"{like.dtype} != {s.dtype}"
                )
        if not like.shape[0]:
            raise RuntimeError(f"{self.name}: got no steps; expected at least one")
        if self.sizes and sum(self.sizes) != like.shape[0]:
            raise ShapeError(
                f"{self.name}: got {like.shape[0]} rows; expected {sum(self.sizes)}, as sizes say"
            )

    def expect(self, what: str, spec: Spec, shape: tuple[int, ...]) -> None:
        if spec.shape != shape:
            raise ShapeError(
                f"{self.name}: got {what} of shape {list(spec.shape)}; expected {list(shape)}"
            )


class Forward(Steps):
    """All steps of a layer.

    shape: x [T, B, G] or [rows, G], w [G, H], states [B, H], the state's bias [G], if there is one
    -> output [T, B, H] or [rows, H], kept [.., K]; for each state before the steps [.., H], and last
    [B, H]. Without `is_kept`, kept and before are empty.
    """

    is_forward = True
    is_kept: bool
    back: ClassVar[type[Back]]

    def infer(self, x: Spec, w: Spec, *rest: Spec) -> tuple[Spec, ...]:
        cell, states, bias = self.cell, rest[: self.cell.states], rest[self.cell.states :]
        self.check(x, (w, *rest))
        hidden, batch = w.shape[-1], states[0].shape[0]
        self.expect("weights", w, (cell.gates * hidden, hidden))
        rows = x.shape[:1] if self.sizes else (x.shape[0], batch)
        self.expect("products", x, (*rows, cell.gates * hidden))
        for s in states:
            self.expect("a state", s, (self.sizes[0] if self.sizes else batch, hidden))
        for s in bias:
            self.expect("a bias", s, (cell.gates * hidden,))
        kept = Spec((*rows, cell.kept * hidden) if self.is_kept else (0,), x.dtype)
        before = Spec((*rows, hidden) if self.is_kept else (0,), x.dtype)
        pairs = (before, Spec((batch, hidden), x.dtype)) * cell.states
        return Spec((*rows, hidden), x.dtype), kept, *pairs

    def reference(self, x, w, *rest):
        values = self.steps(ARRAYS, *map(wide, (x, w, *rest)))
        return tuple(v.astype(x.dtype) for v in values)

    def apart(self, x, w, *rest):
        return self.steps(TENSORS, x, w, *rest)

    def steps(self, m: Any, x: Any, w: Any, *rest: Any) -> tuple:
        """All results, step by step."""
        cell, running, bias = self.cell, list(rest[: self.cell.states]), rest[self.cell.states :]
        shape, hidden = tuple(x.shape[:-1]), w.shape[-1]
        batch, found = running[0].shape[0], {}
        flat = x if self.sizes else x.reshape((shape[0] * batch, x.shape[-1]))
        for t, rows, n in self.walk(shape, batch):
            state = [s[:n] for s in running]
            h = m.linear(state[0], w, bias[0] if bias else None)
            new, kept = cell.step(m, m.chunk(flat[rows], cell.gates), m.chunk(h, cell.gates), state)
            found[t] = new[0], m.cat(kept, -1), *state
            running = [_put(a, s, n, m) for a, s in zip(new, running, strict=True)]
        out, kept, *before = in_time(found, m)
        pairs: list = []
        for b, last in zip(before, running, strict=True):
            pairs += [self._shown(b, (*shape, hidden)), last]
        return out.reshape((*shape, hidden)), self._shown(kept, (*shape, kept.shape[-1])), *pairs

    def _shown(self, values: Any, shape: tuple[int, ...]) -> Any:
        return values.reshape(shape) if self.is_kept else values.reshape((-1,))[:0]

    def _grad(self, gs: Sequence, w: Any, kept: Any, before: Sequence) -> tuple:
        """Gradients of all inputs; in plain ops where they have gradients of their own."""
        if not self.is_kept:
            raise RuntimeError(f"{self.name}: got is_kept=False; expected True for a gradient")
        cell, hidden = self.cell, w.shape[-1]
        rows, batch = tuple(kept.shape[:-1]), self.sizes[0] if self.sizes else kept.shape[1]

        def zeros_for(g: Any, shape: tuple[int, ...]) -> Any:
            return kept.new_zeros(shape) if g is None else g

        given = zeros_for(gs[0], (*rows, hidden))
        last = [zeros_for(gs[3 + 2 * s], (batch, hidden)) for s in range(cell.states)]
        more = [gs[1], *(gs[2 + 2 * s] for s in range(cell.states))]
        back, values = self.back(self.sizes, self.is_reverse), (given, w, kept, *last, *before)
        is_taped = any(v.reshape(tuple(v.shape)).requires_grad for v in values)
        if is_taped or any(g is not None for g in more):
            gx, *out = back.steps(TENSORS, *values, more=more)
        else:
            gx, *out = back(*values)
        gh = out.pop(0) if cell.has_bias else gx
        gates = gh.reshape((-1, gh.shape[-1]))
        gw = Matmul()(gates.transpose(0, 1), before[0].reshape((-1, hidden)))
        return gx, gw, *out, *((gates.sum(0),) if cell.has_bias else ())


class Back(Steps):
    """The steps the other way round: the rule of `Forward`.

    shape: output's gradient [T, B, H] or [rows, H], w [G, H], kept [.., K], gradients of the last
    states [B, H], states before the steps [.., H] -> gradients of x [.., G]; of the product with the
    state [.., G], where it differs; of the first states [B, H]
    """

    is_forward = False
    no_gradient = "gradients of gradients run step by step"

    def infer(self, g: Spec, w: Spec, kept: Spec, *rest: Spec) -> tuple[Spec, ...]:
        cell, last, before = self.cell, rest[: self.cell.states], rest[self.cell.states :]
        self.check(g, (w, kept, *rest))
        rows, hidden = g.shape[:-1], w.shape[-1]
        batch = self.sizes[0] if self.sizes else g.shape[1]
        self.expect("a gradient", g, (*rows, hidden))
        self.expect("weights", w, (cell.gates * hidden, hidden))
        self.expect("kept values", kept, (*rows, cell.kept * hidden))
        for s in last:
            self.expect("a gradient of a state", s, (batch, hidden))
        for s in before:
            self.expect("states", s, (*rows, hidden))
        gates = Spec((*rows, cell.gates * hidden), g.dtype)
        return (gates,) * (2 if cell.has_bias else 1) + tuple(last)

    def reference(self, g, *rest):
        values = self.steps(ARRAYS, *map(wide, (g, *rest)))
        return tuple(v.astype(g.dtype) for v in values)

    def apart(self, *values):
        return self.steps(TENSORS, *values)

    def steps(self, m: Any, g: Any, w: Any, kept: Any, *rest: Any, more: Sequence = ()) -> tuple:
        """All results, step by step; `more` are gradients of what was kept, or None for each."""
        cell, shape = self.cell, tuple(g.shape[:-1])
        running, before = list(rest[: cell.states]), rest[cell.states :]
        batch, found = running[0].shape[0], {}
        walk = self.walk(shape, batch)
        count = sum(n for _, _, n in walk)
        flat = lambda x: None if x is None else x.reshape((count, x.shape[-1]))  # noqa: E731
        g, kept, before = flat(g), flat(kept), [flat(x) for x in before]
        of_kept, *of_before = map(flat, more or (None,) * (1 + cell.states))
        for t, rows, n in reversed(walk):
            now = [s[:n] for s in running]
            now[0] = now[0] + g[rows]
            extra = (None,) * cell.kept
            if of_kept is not None:
                extra = m.chunk(of_kept[rows], cell.kept)
            state = [x[rows] for x in before]
            gx, gh, direct = cell.back(m, now, m.chunk(kept[rows], cell.kept), state, extra)
            joined = m.cat(gx, -1)
            product = joined if gh is gx else m.cat(gh, -1)
            found[t] = joined, product
            old = list(direct)
            through = product @ w
            old[0] = through if old[0] is None else old[0] + through
            for s, more_of in enumerate(of_before):
                old[s] = old[s] if more_of is None else old[s] + more_of[rows]
            running = [_put(a, s, n, m) for a, s in zip(old, running, strict=True)]
        gates = in_time(found, m)[: 1 + cell.has_bias]
        return *(g.reshape((*shape, w.shape[0])) for g in gates), *running


def wide(array: np.ndarray) -> np.ndarray:
    """16-bit floats as 32-bit ones, in which kernels compute."""
    return array.astype(np.float32) if array.dtype.itemsize == 2 else array


def _put(new: Any, old: Any, count: int, m: Any) -> Any:
    """The first `count` rows renewed."""
    return new if count == old.shape[0] else m.cat((new, old[count:]), 0)


def in_time(found: dict[int, tuple], m: Any) -> tuple:
    """What was found at each time, joined in the order of time."""
    return tuple(m.cat([found[t][i] for t in sorted(found)], 0) for i in range(len(found[0])))


# -- samples

EVEN: dict[str, Any] = {"sizes": (), "is_reverse": False}
PACKED: dict[str, Any] = {"sizes": (3, 2, 2, 1), "is_reverse": True}


def _samples(cell: type[Cell]) -> tuple[list, list]:
    """Samples and error samples of `Forward`."""
    width = cell.gates * 2
    rest = ((width, 2), F), *[((3, 2), F)] * cell.states, *[((width,), F)] * cell.has_bias
    packed = ((8, width), F)
    good = [
        Sample(((4, 3, width), F), *rest, **EVEN, is_kept=True),
        Sample(packed, *rest, **PACKED, is_kept=True),
        Sample(((2, 3, width), F), *rest, sizes=(), is_reverse=True, is_kept=True),
        Sample(((5, width), F), *rest, sizes=(3, 2), is_reverse=False, is_kept=True),
    ]
    short = ErrorSample(
        ((7, width), F), *rest, **PACKED, is_kept=True, error=RuntimeError, says="expected 8"
    )
    wide = ErrorSample(
        ((4, 3, width + 1), F), *rest, **EVEN, is_kept=True, error=RuntimeError, says="products"
    )
    return good, [short, wide]


def _back_samples(cell: type[Cell]) -> tuple[list, list]:
    """Samples and error samples of `Back`."""
    w, last = ((cell.gates * 2, 2), F), [((3, 2), F)] * cell.states
    good = [
        Sample(((*rows, 2), F), w, ((*rows, cell.kept * 2), "u"), *last,
               *[((*rows, 2), "s")] * cell.states, **how)
        for rows, how in (((4, 3), EVEN), ((8,), PACKED))
    ]  # fmt: skip
    bad = ErrorSample(
        ((4, 3, 2), F), w, ((4, 3, 3), F), *last, *[((4, 3, 2), F)] * cell.states, **EVEN,
        error=RuntimeError, says="kept values of shape",
    )  # fmt: skip
    return good, [bad]


# -- the cells


class LstmBack(Back):
    name = "lstm_back"
    cell = Lstm
    results = 3
    samples, errors = _back_samples(Lstm)


class LstmSteps(Forward):
    name = "lstm_steps"
    cell, back = Lstm, LstmBack
    results = 6
    byproducts = (1, 2, 4)
    samples, errors = _samples(Lstm)

    def grad(self, gs, w, result1, result2, result4):
        return self._grad(gs, w, result1, (result2, result4))


class GruBack(Back):
    name = "gru_back"
    cell = Gru
    results = 3
    samples, errors = _back_samples(Gru)


class GruSteps(Forward):
    name = "gru_steps"
    cell, back = Gru, GruBack
    results = 4
    byproducts = (1, 2)
    samples, errors = _samples(Gru)

    def grad(self, gs, w, result1, result2):
        return self._grad(gs, w, result1, (result2,))


class RnnTanhBack(Back):
    name = "rnn_tanh_back"
    cell = RnnTanh
    results = 2
    samples, errors = _back_samples(RnnTanh)


class RnnTanhSteps(GruSteps):
    name = "rnn_tanh_steps"
    cell, back = RnnTanh, RnnTanhBack
    samples, errors = _samples(RnnTanh)


class RnnReluBack(Back):
    name = "rnn_relu_back"
    cell = RnnRelu
    results = 2
    samples, errors = _back_samples(RnnRelu)


class RnnReluSteps(GruSteps):
    name = "rnn_relu_steps"
    cell, back = RnnRelu, RnnReluBack
    samples, errors = _samples(RnnRelu)


STEPS = {"LSTM": LstmSteps, "GRU": GruSteps, "RNN_TANH": RnnTanhSteps, "RNN_RELU": RnnReluSteps}
