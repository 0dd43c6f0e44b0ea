"""A progress line that lives on a terminal, and becomes a few plain lines elsewhere."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

PLAIN_EVERY = 5.0  # seconds between lines where nothing can be redrawn
REDRAW_EVERY = 0.1
RECENT = 5.0  # seconds that the speed is taken over, so that a slow start is soon forgotten
CLEAR = "\r\x1b[2K"  # to the start of the line, and wipe it


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(75.2)
    '1:15'
    """
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d}"


class Progress:
    """Counts items up to `total`, and shows how far it is, how fast, and for how long yet."""

    def __init__(
        self,
        total: int,
        stream: TextIO,
        quiet: bool = False,
        now: Callable[[], float] = time.perf_counter,
    ):
        self.total, self.stream, self.now = total, stream, now
        self.done = 0
        self.is_quiet = quiet
        self.is_live = not quiet and stream.isatty()
        self.drawn = now()
        self.recent = deque([(self.drawn, 0)])  # (time, done), oldest first
        self.marks = bar_marks(stream)

    def advance(self, count: int, head: str, note: str) -> None:
        """Count `count` more items; draw if it is time."""
        self.done += count
        self.recent.append((self.now(), self.done))
        while self.now() - self.recent[1][0] > RECENT:
            self.recent.popleft()
        every = REDRAW_EVERY if self.is_live else PLAIN_EVERY
        if not self.is_quiet and self.now() - self.drawn >= every:
            self.draw(f"{head}  {{bar}}{note}  {self.speed()}")

    def draw(self, text: str) -> None:
        self.drawn = self.now()
        if not self.is_live:
            self.print(text.format(bar=f"{self.done / self.total:4.0%}  "))
            return
        width = shutil.get_terminal_size().columns - 1
        room = width - len(text.format(bar="")) - 8
        line = text.format(bar=f"{self.bar(min(30, room))} {self.done / self.total:4.0%}  ")
        self.stream.write(CLEAR + line[:width])
        self.stream.flush()

    def bar(self, length: int) -> str:
        full = round(self.done / self.total * max(0, length))
        return self.marks[0] * full + self.marks[1] * (max(0, length) - full)

    def speed(self) -> str:
        (before, had), (last, has) = self.recent[0], self.recent[-1]
        rate = (has - had) / (last - before) if last > before else 0.0
        left = (self.total - self.done) / rate if rate else 0.0
        return f"{rate:,.0f} images/s  ETA {clock(left)}"

    def print(self, text: str) -> None:
        """A line that stays."""
        if not self.is_quiet:
            self.stream.write((CLEAR if self.is_live else "") + text + "\n")
            self.stream.flush()


def bar_marks(stream: TextIO) -> tuple[str, str]:
    """What a full and an empty part of the bar look like in the stream's encoding."""
    try:
        "━─".encode(stream.encoding or "ascii")
    except UnicodeEncodeError:
        return "#", "-"
    return "━", "─"
