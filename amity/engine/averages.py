"""Events of a profile as lists, averages and tables."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .profile import Event

UNITS = {"s": 1e6, "ms": 1e3, "us": 1.0}


@dataclass(eq=False)
class EventAverage:
    """All events of one name (and, if asked for, of the same shapes and stack) together."""

    key: str
    is_user_annotation: bool = False
    input_shapes: list[list[int]] = field(default_factory=list)
    stack: list[str] = field(default_factory=list)
    count: int = 0
    cpu_time_total: float = 0.0
    self_cpu_time_total: float = 0.0
    cpu_memory_usage: int = 0
    self_cpu_memory_usage: int = 0
    flops: int = 0

    @property
    def cpu_time(self) -> float:
        """Microseconds from start to end, on average."""
        return self.cpu_time_total / self.count if self.count else 0.0

    def add(self, event: Event | EventAverage) -> None:
        """Count one more; what lies in an event of the same name is counted with that one."""
        self.count += event.count
        self.self_cpu_time_total += event.self_cpu_time_total
        self.self_cpu_memory_usage += event.self_cpu_memory_usage
        self.flops += event.flops
        if not (isinstance(event, Event) and _is_within_its_like(event)):
            self.cpu_time_total += event.cpu_time_total
            self.cpu_memory_usage += event.cpu_memory_usage

    def __repr__(self) -> str:
        return (
            f"<EventAverage key={self.key} self_cpu_time={_time(self.self_cpu_time_total)} "
            f"cpu_time={_time(self.cpu_time)} input_shapes={self.input_shapes} "
            f"cpu_memory_usage={self.cpu_memory_usage}>"
        )


def _is_within_its_like(event: Event) -> bool:
    around = event.cpu_parent
    while around is not None:
        if around.name == event.name:
            return True
        around = around.cpu_parent
    return False


class EventList(list):
    """Events or averages of them, which print as a table."""

    def __init__(self, events: Iterable[Any] = (), has_shapes: bool = False, has_memory: bool = False,
                 has_stack: bool = False, has_flops: bool = False) -> None:  # fmt: skip
        super().__init__(events)
        self.has_shapes, self.has_memory = has_shapes, has_memory
        self.has_stack, self.has_flops = has_stack, has_flops

    @property
    def self_cpu_time_total(self) -> float:
        """Microseconds in all events."""
        return sum(e.self_cpu_time_total for e in self)

    def _like(self, events: Iterable[Any], **changes: Any) -> EventList:
        made = EventList(events)
        made.__dict__.update(self.__dict__, **changes)
        return made

    def key_averages(
        self,
        group_by_input_shapes: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """One row for each name, and if asked for each tuple of shapes and each stack."""
        rows: dict[tuple, EventAverage] = {}
        for e in self:
            shapes = e.input_shapes if group_by_input_shapes else []
            stack = e.stack[:group_by_stack_n]
            key = (e.key, e.is_user_annotation, str(shapes), *stack)
            if key not in rows:
                rows[key] = EventAverage(e.key, e.is_user_annotation, shapes, stack)
            rows[key].add(e)
        has_shapes = self.has_shapes and group_by_input_shapes
        has_stack = self.has_stack and group_by_stack_n > 0
        return self._like(rows.values(), has_shapes=has_shapes, has_stack=has_stack)

    def total_average(self) -> EventAverage:
        """All events as one row."""
        total = EventAverage("Total")
        for e in self:
            total.add(e)
        return total

    def table(
        self, sort_by: str | None = None, row_limit: int = 100, max_src_column_width: int = 75,
        max_name_column_width: int = 55, max_shapes_column_width: int = 80, header: str | None = None,
        top_level_events_only: bool = False, time_unit: str | None = None,
    ) -> str:  # fmt: skip
        """The rows as text, the largest `sort_by` first; negative widths and limits are none.

        errors: AttributeError for an unknown `sort_by`
        """
        rows = list(self)
        if sort_by is not None:
            if rows and not hasattr(rows[0], sort_by):
                raise AttributeError(
                    f"table: got sort_by={sort_by!r}; expected e.g. 'cpu_time_total', "
                    "'self_cpu_time_total', 'cpu_memory_usage' or 'count'"
                )
            rows.sort(key=lambda e: getattr(e, sort_by), reverse=True)
        if top_level_events_only:
            rows = [e for e in rows if getattr(e, "cpu_parent", None) is None]
        total = sum(e.self_cpu_time_total for e in self)
        rows = rows[:row_limit] if row_limit >= 0 else rows
        widths = max_name_column_width, max_shapes_column_width, max_src_column_width
        cells = [self._heads(), *(self._cells(e, total, widths, time_unit) for e in rows)]
        text = _aligned(cells, left=self._lefts())
        foot = f"Self CPU time total: {_time(total, time_unit)}"
        return "\n".join([*([header] if header else []), text, foot, ""])

    def _heads(self) -> list[str]:
        heads = ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"]
        heads += ["CPU Mem", "Self CPU Mem"] if self.has_memory else []
        heads += ["# of Calls"]
        heads += ["Input Shapes"] if self.has_shapes else []
        heads += ["Source Location"] if self.has_stack else []
        return heads + (["Total FLOPs"] if self.has_flops else [])

    def _lefts(self) -> list[bool]:
        return [h in ("Name", "Input Shapes", "Source Location") for h in self._heads()]

    def _cells(self, e: Any, total: float, widths: tuple, unit: str | None) -> list[str]:
        name, shapes, source = widths
        out = [
            _cut(e.key, name),
            _share(e.self_cpu_time_total, total), _time(e.self_cpu_time_total, unit),
            _share(e.cpu_time_total, total), _time(e.cpu_time_total, unit), _time(e.cpu_time, unit),
        ]  # fmt: skip
        if self.has_memory:
            out += [_bytes(e.cpu_memory_usage), _bytes(e.self_cpu_memory_usage)]
        out.append(str(e.count))
        if self.has_shapes:
            out.append(_cut(str(e.input_shapes), shapes))
        if self.has_stack:
            out.append(_cut(e.stack[0] if e.stack else "", source, is_end=True))
        return out + ([str(e.flops) if e.flops else "--"] if self.has_flops else [])

    def __str__(self) -> str:
        return self.table()


def _aligned(cells: list[list[str]], left: list[bool]) -> str:
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    rule = "  ".join("-" * n for n in sizes)
    lines = [
        "  ".join(
            c.ljust(n) if at else c.rjust(n) for c, n, at in zip(row, sizes, left, strict=True)
        )
        for row in cells
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def _cut(text: str, width: int, is_end: bool = False) -> str:
    if width < 0 or len(text) <= width:
        return text
    return "..." + text[3 - width :] if is_end else text[: width - 3] + "..."


def _share(part: float, total: float) -> str:
    return f"{part / total * 100:.2f}%" if total else "0.00%"


def _time(us: float, unit: str | None = None) -> str:
    if unit is None:
        unit = "s" if us >= 1e6 else "ms" if us >= 1e3 else "us"
    return f"{us / UNITS[unit]:.3f}{unit}"


def _bytes(n: int) -> str:
    step = min(int(math.log(n, 1024)), 3) if n > 0 else 0
    return f"{n / 1024**step:.2f} {('B', 'KB', 'MB', 'GB')[step]}" if step else f"{n} B"
