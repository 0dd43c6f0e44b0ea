"""Find what makes results wrong: `python -m amity.tools.bisect script.py [arguments]`.

Runs a script, or a function given as `module:function`, and compares each Program with NumPy. Of the
first one that differs it names the pass that is to blame, and then the node.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable, Sequence

import numpy as np

from amity.core.errors import CheckError
from amity.engine import program, suspects
from amity.engine.checks import Checks
from amity.engine.probe import Probe
from amity.engine.snapshot import Snapshot
from amity.ir.graph import Graph, Node, texts

USAGE = "usage: python -m amity.tools.bisect script.py [argument ...] | module:function"


class Found(BaseException):
    """Ends a program whose results are wrong; not an Exception, which programs may take."""


class Hunt(Checks):
    """Compares with NumPy until a Program differs, and says which part of it is to blame."""

    def __init__(self) -> None:
        super().__init__("reference")
        self.programs = 0
        self._snapshot: Snapshot | None = None

    def begins(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """A Program starts: what it finds is kept, to run it again."""
        self.programs += not probe.has_run
        self._snapshot = Snapshot(probe.paper, arrays)
        try:
            super().begins(probe, arrays)
        except CheckError as error:
            found = suspects.wrong_pass(probe.paper, self._known)
            raise Found(_said(probe.paper, found and found.step, error)) from None

    def launched(self, probe: Probe, k: int, arrays: list[np.ndarray]) -> None:
        """A launch is done."""
        self._watched(probe, lambda: super(Hunt, self).launched(probe, k, arrays))

    def ends(self, probe: Probe, arrays: list[np.ndarray]) -> None:
        """A Program is done."""
        self._watched(probe, lambda: super(Hunt, self).ends(probe, arrays))

    def _watched(self, probe: Probe, look: Callable[[], None]) -> None:
        try:
            look()
        except CheckError as error:
            snapshot = self._snapshot
            assert snapshot is not None  # every Program begins
            found = suspects.wrong_choice(lambda: _run_again(probe.paper, snapshot))
            step, first = (None, error) if found is None else found
            raise Found(_said(probe.paper, step, first, found is None)) from None


def _run_again(paper: program.Paper, snapshot: Snapshot) -> CheckError | None:
    """What is wrong with a Program that is planned anew, on what it found."""
    arguments = snapshot.arguments()
    checks = Checks("reference")
    try:
        Probe(paper, checks).call(lambda run: run(*arguments))
    except CheckError as error:
        return error
    return None


def _said(
    paper: program.Paper, step: suspects.Pass | None, error: CheckError, is_gone: bool = False
) -> str:
    """The verdict."""
    lines = [f"{paper.name} gives wrong results"]
    if is_gone:
        lines.append("pass: none; planned again it is right, so its inputs changed meanwhile")
    elif step is None:
        lines.append("pass: none; it is wrong with all passes of lowering switched off")
    else:
        lines.append(f"pass: {step.name} ({step.does}); AMITY_PASSES=-{step.name} avoids it")
    if isinstance(error.node, Node):
        shown = texts(Graph(paper.graph.inputs, [error.node]))[error.node]
        lines.append(f"node: {shown} at {error.node.where.line or 'an unknown line'}")
    return "\n".join([*lines, str(error)])


def _run(target: str, arguments: Sequence[str]) -> None:
    """Run what is named as `python` would."""
    module, _, function = target.partition(":")
    if function and not target.endswith(".py"):
        getattr(importlib.import_module(module), function)()
        return
    sys.argv = [target, *arguments]
    runpy.run_path(target, run_name="__main__")


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what is found; 1 if that is something, else 0."""
    target, *rest = list(sys.argv[1:] if arguments is None else arguments) or [""]
    if target in ("", "-h", "--help"):
        print(USAGE)
        return 0 if target else 2
    hunt = Hunt()
    try:
        with hunt:
            _run(target, rest)
    except Found as found:
        print(found)
        return 1
    except SystemExit:  # the script's own
        pass
    print(f"{hunt.programs} Programs give what NumPy gives")
    return 0


if __name__ == "__main__":
    sys.exit(main())
