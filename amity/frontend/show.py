"""`amity.show`: every stage of one function, from its source to machine code and times."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from amity.core import flags
from amity.engine import program
from amity.engine.probe import Inspector, Probe
from amity.engine.profile import Watch
from amity.engine.snapshot import Snapshot
from amity.engine.stages import stages

from .compiled import Compiled

LINES = 40  # of a stage, unless AMITY_SHOW asks for it


class _Capture(Inspector):
    """Keeps each Program that runs, with what it found."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[program.Paper, Snapshot]] = {}

    def begins(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """A Program starts."""
        if id(probe.paper) not in self.found:
            self.found[id(probe.paper)] = probe.paper, Snapshot(probe.paper, arrays)


def show(function: Callable, *args: Any, **kwargs: Any) -> str:
    """Every stage of what a function does with these arguments, as `compile` sees it: its source, and
    of each Program the graph, the graph after each pass that changed it, launches, kernels, their
    code, and the time each takes; printed, and returned.

    The function runs once; its kernels are timed on copies of what they found. Long stages are cut,
    unless `AMITY_SHOW` names them.

    errors: TypeError for what cannot be called
    """
    if not callable(function):
        raise TypeError(f"show: got {type(function).__name__}; expected a function or a Module")
    plain = function.function if isinstance(function, Compiled) else function
    recompute = isinstance(function, Compiled) and function.recompute
    with _Capture() as capture:
        Compiled(plain, static=False, recompute=recompute)(*args, **kwargs)
    parts = [_part("source", _source(plain))]
    kernels: set[str] = set()
    for paper, snapshot in capture.found.values():
        parts += _of_program(paper, snapshot, kernels)
    text = "\n\n".join(parts)
    print(text)
    return text


def _source(function: Callable) -> str:
    shown = getattr(type(function), "forward", function)
    try:
        return inspect.getsource(shown).rstrip()
    except (OSError, TypeError):
        return f"{function!r}, whose source is not at hand"


def _of_program(paper: program.Paper, snapshot: Snapshot, kernels: set[str]) -> Iterator[str]:
    """The stages of a Program; `kernels` were shown before."""
    for stage in stages(paper, paper.plan()):
        if stage.name in ("kernel", "code"):
            if stage.title in kernels:
                continue
            kernels.add(stage.title)
            yield _part(stage.title, stage.body, stage.name)
        else:
            yield _part(f"{paper.name}: {stage.title}", stage.body, stage.name)
    times = Watch(False, False, False, False).kernel_times(paper, snapshot.arguments)
    total = sum(ns for _, ns in times)
    rows = [f"{ns / 1e3:10.2f} us  {name}" for name, ns in times]
    yield _part(f"{paper.name}: time, {total / 1e3:.2f} us in all", "\n".join(rows), "time")


def _part(title: str, body: str, name: str = "") -> str:
    lines = body.splitlines()
    left = 0 if name in flags.show else max(len(lines) - LINES, 0)
    if left:
        lines = [*lines[:LINES], f"... {left} lines more; AMITY_SHOW={name} shows all"]
    return "\n".join([f"== {title}", *lines])
