"""Figures kept between runs, so that a long run may be stopped and go on: `bench/figures.json`.

`bench/results.md` is written from them whenever one is added.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .report import Line, circumstances, write
from .workloads import Workload

FILE = Path(__file__).with_name("figures.json")


@dataclass
class Figures:
    """What was measured, when, and on what; `lines` and `growth` by workload and threads."""

    about: list[str]
    rounds: int
    libraries: list[str]
    skipped: list[str]
    since: str = ""
    until: str = ""
    lines: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: dict[str, list[str]] = field(default_factory=dict)  # cells of first steps
    growth: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_kept: bool = True

    @classmethod
    def begin(cls, rounds: int, libraries: list[str], skipped: list[str], goes_on: bool) -> Figures:
        """Those of an earlier run, to go on or to renew some; else none yet.

        errors: SystemExit if the earlier ones were measured with something else
        """
        new = cls(circumstances(), rounds, libraries, skipped)
        if not (goes_on and FILE.exists()):
            return new
        old = cls(**json.loads(FILE.read_text()))
        if (old.about, old.libraries) != (new.about, new.libraries):
            raise SystemExit(
                f"bench: got figures of another machine or of other versions in {FILE.name}; "
                "expected the same to go on: start anew without --resume and --only"
            )
        return old

    def add(self, where: dict, key: str, value: Any) -> None:
        """Keep a figure, and write the file and the report."""
        where[key] = value
        if not self.is_kept:
            return
        self.until = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        self.since = self.since or self.until
        FILE.write_text(json.dumps(asdict(self), indent=1) + "\n")

    def add_line(self, where: dict, line: Line) -> None:
        self.add(where, key_of(line.name, line.threads), asdict(line))

    def known(self, where: dict, works: Sequence[Workload]) -> dict[tuple[str, int], Line]:
        """What was measured of some workloads, in their order."""
        lines = [Line(**found) for found in where.values()]
        order = {w.name: i for i, w in enumerate(works)}
        lines.sort(key=lambda line: (order[line.name], line.threads))
        return {(line.name, line.threads): line for line in lines}

    def report(self, lines: list[Line], growth: list[str], total: int) -> None:
        """Write `bench/results.md`."""
        if not self.is_kept:
            return
        about = [f"- measured from {self.since} to {self.until}, {self.rounds} rounds", *self.about]
        if len(lines) < total:
            about.append(f"- so far {len(lines)} of {total} lines")
        write(about, lines, list(self.steps.values()), growth, self.libraries, self.skipped)


def key_of(name: str, what: Any) -> str:
    """What a figure is kept under."""
    return f"{name}, {what}"
