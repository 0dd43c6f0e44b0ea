"""Programs for many sizes: launches whose numbers are formulas of the sizes in the notes.

Notes of one frame (numbers.py) differ in numbers alone. When these have changed often enough, numbers
that change become formulas of a few sizes, by what calls so far have shown; the frame is lowered once
more with them, and each comparison that lowering makes is a guard (core/symbolic.py). A later call
whose numbers are what the formulas say, and whose sizes pass the guards, takes its launches from them.
Nothing is taken on trust: every number of a call is compared, and a form is used only if at another
size it gives what lowering gives there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from amity.compiler import pipeline
from amity.compiler.again import NOTHING, Again
from amity.compiler.plan import Launch, Lowered, Place
from amity.compiler.planned import Planned
from amity.core.layout import Layout, layout
from amity.core.symbolic import SymFloat, SymInt, Terms, Trace, float_of, has_formula
from amity.runtime.plan import GIVES_NONE, Plan

from . import device, program, template
from .noted import Noted
from .numbers import Frame, with_numbers

CHANGES = 2  # of a number, until its Program is made for many sizes
SAMPLES_KEPT = 4
FORMS_KEPT = 8  # of one frame
UNFIT = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


class Wish(NamedTuple):
    """What is wanted of Programs. They are made for many sizes after so many `changes` (None: never) of
    any, and at once of those that were declared, by names and values at this call; they compute
    values again rather than to keep them if it `recomputes`.
    """

    changes: int | None = CHANGES
    names: Sequence[str] = ()
    sizes: tuple[int, ...] = ()
    recomputes: bool = False


class Refusal(Exception):
    """Why numbers of launches cannot be formulas."""


class Fit(NamedTuple):
    """How numbers of a frame depend on sizes: those at `places` have one of the `laws`."""

    places: np.ndarray
    which: np.ndarray  # the law of each
    sizes: list[int]  # of the laws, those that are sizes themselves
    laws: list[tuple[int, int, int]]  # (a, size, b): a * size + b
    names: list[str]  # of the sizes, empty for those that were not declared
    floats: set[int]  # sizes that are words of floats
    others: np.ndarray  # places of what does not change
    fixed: np.ndarray  # and the numbers there

    def read(self, numbers: np.ndarray) -> list[int] | None:
        """The sizes that numbers tell of, if the numbers are what the laws say."""
        if not np.array_equal(numbers[self.others], self.fixed):
            return None
        first = np.zeros(len(self.laws), np.int64)
        first[self.which] = numbers[self.places]
        sizes = [int(first[law]) for law in self.sizes]
        said = np.array([a * sizes[s] + b for a, s, b in self.laws], np.int64)
        return sizes if np.array_equal(said[self.which], numbers[self.places]) else None

    def numbers(self, sizes: Sequence[Any], like: np.ndarray) -> list[Any]:
        """All numbers at other sizes."""
        out: list[Any] = like.tolist()
        said = [a * sizes[s] + b for a, s, b in self.laws]
        for place, law in zip(self.places.tolist(), self.which.tolist(), strict=True):
            out[place] = said[law]
        return out


def fit(samples: np.ndarray, ints: int, declared: Mapping[str, Sequence[int]]) -> Fit:
    """What rows of numbers have in common: `a * size + b` with whole `a`, in as few sizes as will do.
    `declared` are the values of sizes that come first; after `ints` numbers words of floats follow.
    """
    is_varying = (samples != samples[0]).any(0)
    places = np.flatnonzero(is_varying)
    kinds = (places >= ints).astype(np.int64)
    columns, which = np.unique(np.vstack([kinds, samples[:, places]]), axis=1, return_inverse=True)
    rows = [tuple(c) for c in columns.T.tolist()]
    names = {(0, *values): name for name, values in declared.items()}
    sizes: list[int] = []
    laws: dict[int, tuple[int, int, int]] = {}
    for at in sorted(range(len(rows)), key=lambda i: _weight(rows[i], names)):
        law = next((law for s, i in enumerate(sizes) if (law := _law(rows[at], rows[i], s))), None)
        if law is None:
            law = 1, len(sizes), 0
            sizes.append(at)
        laws[at] = law
    floats = {s for s, at in enumerate(sizes) if rows[at][0]}
    others = np.flatnonzero(~is_varying)
    in_order = [laws[at] for at in range(len(rows))]
    said = [names.get(rows[at], "") for at in sizes]
    fixed = samples[0, others]
    return Fit(places, which.reshape(-1), sizes, in_order, said, floats, others, fixed)


def _weight(row: tuple[int, ...], names: Mapping[tuple[int, ...], str]) -> tuple:
    """What comes first may be a size that others are told by: what has a name, what changes least."""
    return row not in names, row[0], [abs(x - row[1]) for x in row[1:]], row


def _law(row: Sequence[int], size: Sequence[int], which: int) -> tuple[int, int, int] | None:
    """`row` as a whole multiple of a size and something more."""
    if row[0] or size[0]:
        return None
    step, change = next(
        ((s - size[1], r - row[1]) for r, s in zip(row[2:], size[2:], strict=True) if s != size[1]),
        (0, 0),
    )
    if not step or change % step:
        return None
    a = change // step
    b = row[1] - a * size[1]
    fits = all(r == a * s + b for r, s in zip(row[1:], size[1:], strict=True))
    return (a, which, b) if fits and a else None


class Form:
    """The launches of a frame with formulas for numbers; kernel ops are planned at each size."""

    def __init__(
        self,
        noted: Noted,
        frame: Frame,
        found: Fit,
        rows: Sequence[np.ndarray],
        again: Again = NOTHING,
    ) -> None:
        """`again` is what was worth to be computed again at other sizes.

        errors: Refusal where formulas get lost
        """
        self.fit, self.again = found, Again(again.rounds)
        self.trace = trace = Trace()
        here = found.read(frame.numbers)
        assert here is not None  # rows were fitted, this one among them
        sizes = [trace.size(i, value) for i, value in enumerate(here)]
        try:
            self.lowered = self._lower(noted, frame, sizes)
        except UNFIT as error:
            raise Refusal(f"formulas are refused: {error}") from error
        if trace.pins:
            raise Refusal(f"a size must be a plain number at {trace.pins[0]}")
        if any(has_formula(s.key) for s in self.lowered.steps if isinstance(s, Launch)):
            raise Refusal("a kernel depends on a size")
        self.guards = list(trace.guards)
        self._index: dict[Terms, int] = {}
        _lowered_at(self.lowered, self._note)
        numbers = [SymInt(0, terms, trace) for terms in self._index]
        self._values = trace.function(numbers, self.guards)
        loose = [(terms, test) for terms, test in self.guards if test != "!="]
        self._is_in_range = trace.function([], loose)
        self._check(noted, frame, here, rows)

    def _note(self, terms: Terms) -> int:
        """Give a formula a place among the values."""
        return self._index.setdefault(terms, len(self._index))

    def _lower(self, noted: Noted, frame: Frame, sizes: Sequence[int]) -> Lowered:
        numbers = self.fit.numbers(sizes, frame.numbers)
        words = [
            SymFloat(float_of(int.__int__(x)), x) if isinstance(x, SymInt) else float_of(x)
            for x in numbers[frame.ints :]
        ]
        new = with_numbers(noted, numbers[: frame.ints], words)
        graph = pipeline.run(new.graph, self.again.rounds)
        return program.lower_here(graph, new.layouts, new.given, new.roots, is_late=True)

    # -- other sizes
    def at(self, sizes: Sequence[int]) -> Lowered | None:
        """The launches at some sizes, if the guards let them pass."""
        values = self._values(sizes)
        if values is None:
            return None
        index = self._index
        return _lowered_at(self.lowered, lambda terms: values[index[terms]])

    def program(self, noted: Noted, frame: Frame, name: str) -> Callable | None:
        """What runs notes of this frame, if their numbers are as told here."""
        sizes = self.fit.read(frame.numbers)
        lowered = None if sizes is None else self.at(sizes)
        if lowered is None:
            return None
        target, threads = device.kernels().target, device.machine().workers.threads
        steps = []
        for step in lowered.steps:
            is_planned = isinstance(step, Planned)
            steps += step.launches(lowered, target, threads) if is_planned else [step]
        lowered.steps = steps
        outline = Plan(noted.layouts, noted.kinds, [], GIVES_NONE)
        plan = program.with_steps(lowered, outline, noted.given, roots=noted.roots)
        return noted.program(plan, name, self.again)

    # -- trust
    def _check(
        self, noted: Noted, frame: Frame, here: list[int], rows: Sequence[np.ndarray]
    ) -> None:
        """Compare with what lowering gives at another size."""
        for sizes in self._others(here, rows):
            found = self.at(sizes)
            if found is None:
                continue
            try:
                wanted = self._lower(noted, frame, sizes)
            except UNFIT:
                continue  # no call can have these sizes
            if _summary(found) != _summary(wanted):
                raise Refusal(f"a number of a launch changes with sizes {here} in an unknown way")
            return
        raise Refusal(f"there is no size like {here}")

    def _others(self, here: list[int], rows: Sequence[np.ndarray]) -> Iterator[list[int]]:
        """Sizes to try: those of earlier calls, then some near these."""
        for row in rows:
            sizes = self.fit.read(row)
            if sizes is not None and sizes != here:
                yield sizes
        for step in (1, 2, -1, 4, 8, 16):
            floats = self.fit.floats
            yield [n if s in floats else n + step for s, n in enumerate(here)]

    def leaves_out(self, frame: Frame) -> bool:
        """Whether sizes are just some of those that are left out, for being like others."""
        sizes = self.fit.read(frame.numbers)
        return sizes is not None and self._is_in_range(sizes) is not None

    @property
    def about(self) -> str:
        """The sizes that it is for, for people."""
        return self.trace.about(self.names)

    @property
    def names(self) -> list[str]:
        """What its sizes are called."""
        return [n or _letters(i) for i, n in enumerate(self.fit.names)]

    def sizes(self, frame: Frame) -> str:
        """The sizes of a frame, for people."""
        pairs = zip(self.names, self.fit.read(frame.numbers), strict=True)
        return ", ".join([f"{name}={size}" for name, size in pairs])


def _letters(i: int) -> str:
    """a to z, then a1."""
    return chr(ord("a") + i % 26) + (str(i // 26) if i >= 26 else "")


def _lowered_at(lowered: Lowered, value: Callable[[Terms], int]) -> Lowered:
    """A lowered graph with the values of its formulas."""

    def plain(x: Any) -> Any:
        if isinstance(x, SymInt):
            return value(x.terms)
        if isinstance(x, SymFloat):
            return float_of(value(x.bits.terms))
        return type(x)([plain(v) for v in x]) if isinstance(x, (tuple, list)) else x

    def lay_out(lay: Layout) -> Layout:
        shape = [plain(n) for n in lay.shape]
        return layout(lay.dtype, shape, [plain(n) for n in lay.strides], lay.device)

    def step_at(step: Any) -> Any:
        if isinstance(step, Launch):
            meta = [plain(x) for x in step.meta]
            return replace(step, meta=meta, grid=plain(step.grid), grain=plain(step.grain))
        fields = [getattr(step.op, f) for f in step.op.fields]
        op = type(step.op)(*plain(fields)) if has_formula(fields) else step.op
        end = step.ending and step.ending.at(plain)
        return replace(step, op=op, outs=[lay_out(lay) for lay in step.outs], ending=end)

    places = [Place(lay_out(p.layout), p.base, plain(p.offset), p.argument) for p in lowered.places]
    return Lowered(lowered.graph, places, [step_at(s) for s in lowered.steps], lowered.outputs)


def _summary(lowered: Lowered) -> list[Any]:
    """All that matters of a lowered graph, to be compared."""
    rows: list[Any] = [(p.layout, p.base, p.offset) for p in lowered.places]
    for s in lowered.steps:
        if isinstance(s, Launch):
            rows.append((s.key, list(s.meta), list(s.buffers), s.grid, s.grain, s.has_scratch))
        else:
            end = s.ending and (s.ending.nest.key, s.ending.meta, s.ending.places, s.ending.whole)
            rows.append((s.op, list(s.inputs), list(s.outs), list(s.results), end))
    return [*rows, list(lowered.outputs)]


class Family:
    """The Programs of one frame."""

    def __init__(self) -> None:
        self.samples: list[tuple[np.ndarray, tuple[int, ...]]] = []  # numbers, and declared sizes
        self.forms: list[Form] = []
        self.refusals: list[str] = []
        self.again = NOTHING  # what the last one that was planned computes again

    def build(
        self, noted: Noted, frame: Frame, name: str, wish: Wish
    ) -> tuple[Callable, Form | None]:
        """What runs these notes, and the form that it comes from, if any."""
        made = self._from_forms(noted, frame, name)
        if made is None and self._grow(noted, frame, wish):
            made = self._from_forms(noted, frame, name)
        if not any(np.array_equal(frame.numbers, numbers) for numbers, _ in self.samples):
            self.samples = [*self.samples[-SAMPLES_KEPT + 1 :], (frame.numbers, wish.sizes)]
        if made is not None:
            return made
        run = template.build(noted, frame, name, wish.recomputes)
        self.again = program.paper_of(run).again
        return run, None

    def _from_forms(self, noted: Noted, frame: Frame, name: str) -> tuple[Callable, Form] | None:
        for form in self.forms:
            run = form.program(noted, frame, name)
            if run is not None:
                return run, form
        return None

    def _grow(self, noted: Noted, frame: Frame, wish: Wish) -> bool:
        """Make a form for sizes like these, if it is time and there is one."""
        known = [s for s in self.samples if not np.array_equal(s[0], frame.numbers)]
        is_full = max(len(self.forms), len(self.refusals)) >= FORMS_KEPT
        if is_full or not known or any(f.leaves_out(frame) for f in self.forms):
            return False
        rows = [*[numbers for numbers, _ in known], frame.numbers]
        values = zip(*[*[sizes for _, sizes in known], wish.sizes], strict=True)
        found = fit(np.array(rows), frame.ints, dict(zip(wish.names, values, strict=True)))
        is_declared = all(n or s in found.floats for s, n in enumerate(found.names))
        if not is_declared and (wish.changes is None or len(known) < wish.changes):
            return False
        try:
            self.forms.append(Form(noted, frame, found, rows, self.again))
        except Refusal as refusal:
            self.refusals.append(str(refusal))
            return False
        return True
