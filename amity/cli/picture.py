"""Draws the story of a training: its loss curve, and what the model says of test images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from amity.cli.font import HEIGHT, text_mask

Color = tuple[int, int, int]
WHITE, INK, GREY, PALE = (255, 255, 255), (34, 38, 46), (120, 126, 138), (228, 231, 236)
BLUE, PALE_BLUE = (32, 92, 196), (190, 210, 242)
GREEN, RED = (22, 138, 62), (208, 36, 44)

COLUMNS, CELL, TILE = 10, 104, 84  # the grid of images, and the side of each, in pixels
WIDTH = COLUMNS * CELL + 40
LINE = 2 * HEIGHT + 6  # the height of one line of text
ROW = TILE + 2 * LINE + 14  # an image, its two lines of words, and air


class Canvas:
    """White paper of `height` by `width` pixels, with a few tools."""

    def __init__(self, height: int, width: int):
        self.pixels = np.full((height, width, 3), WHITE, np.uint8)

    def fill(self, top: int, left: int, height: int, width: int, color: Color) -> None:
        self.pixels[top : top + height, left : left + width] = color

    def blend(self, top: int, left: int, ink: np.ndarray, color: Color) -> None:
        """Lay `color` over the paper, as opaque as `ink` (0 to 1) says for each pixel."""
        height, width = ink.shape
        part = self.pixels[top : top + height, left : left + width]
        opacity = ink[: part.shape[0], : part.shape[1], None].astype(np.float32)
        part[:] = np.rint(part * (1 - opacity) + np.float32(color) * opacity).astype(np.uint8)

    def write(
        self, top: int, left: int, text: str, color: Color = INK, scale: int = 2, anchor: float = 0
    ) -> None:
        """Write `text`; `anchor` 0 begins at `left`, 0.5 is centred on it, 1 ends there."""
        mask = text_mask(text, scale)
        self.blend(top, max(0, left - round(anchor * mask.shape[1])), mask, color)

    def paste(self, top: int, left: int, grey: np.ndarray, side: int) -> None:
        """Show a small grey image, each dot as a square, as large as fits `side`."""
        scale = side // max(grey.shape)
        tile = grey.repeat(scale, 0).repeat(scale, 1)[:, :, None]
        self.pixels[top : top + tile.shape[0], left : left + tile.shape[1]] = tile

    def curve(self, box: Box, heights: np.ndarray, thickness: float, color: Color) -> None:
        """Draw one height (0 bottom, 1 top) for each column of `box`, with soft edges."""
        y = (1 - np.clip(heights, 0, 1)) * (box.height - 1)
        before = np.concatenate([y[:1], (y[1:] + y[:-1]) / 2])
        after = np.concatenate([before[1:], y[-1:]])
        low = np.minimum(np.minimum(before, after), y) - thickness / 2
        high = np.maximum(np.maximum(before, after), y) + thickness / 2
        row = np.arange(box.height)[:, None]
        ink = np.clip(np.minimum(high, row + 1) - np.maximum(low, row), 0, 1)
        self.blend(box.top, box.left, ink, color)


@dataclass(frozen=True)
class Box:
    """A rectangle on the canvas."""

    top: int
    left: int
    height: int
    width: int


def ticks(high: float, most: int = 6) -> list[float]:
    """Round numbers from 0 to `high`, at most `most` of them.

    >>> ticks(2.3)
    [0.0, 0.5, 1.0, 1.5, 2.0]
    """
    power = 10.0 ** math.floor(math.log10(high / most))
    step = next(power * m for m in (1, 2, 5, 10, 20) if high / (power * m) < most)
    return [round(i * step, 10) for i in range(int(high / step + 1e-9) + 1)]


def smooth(values: np.ndarray, window: int) -> np.ndarray:
    """The mean of the `window` values up to each one, of fewer at the start."""
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(1, len(values) + 1)
    start = np.maximum(0, index - window)
    return (total[index] - total[start]) / (index - start)


def draw_losses(
    canvas: Canvas, box: Box, losses: Sequence[float], accuracies: Sequence[float]
) -> None:
    """The loss of every step, its running mean, and the test accuracy at the end of each epoch."""
    values = np.asarray(losses, np.float64)
    shown = np.linspace(0, len(values) - 1, box.width)
    step = np.flatnonzero(np.isfinite(values))  # a loss that ran away leaves a straight gap
    values = values[step]
    high = max(1e-6, float(values.max(initial=0.0))) * 1.05
    for tick in ticks(high):
        row = box.top + round((1 - tick / high) * (box.height - 1))
        canvas.fill(row, box.left, 1, box.width, PALE)
        canvas.write(row - HEIGHT, box.left - 10, f"{tick:g}", GREY, anchor=1)
    for number, accuracy in enumerate(accuracies, 1):
        column = box.left + round(number / len(accuracies) * (box.width - 1))
        canvas.fill(box.top, column, box.height, 1, PALE)
        if len(accuracies) <= 8 or number % -(-len(accuracies) // 8) == 0:
            canvas.write(box.top + box.height + 8, column, f"{number}", GREY, anchor=1)
            canvas.write(box.top - LINE, column, f"{accuracy:.1%}", GREEN, anchor=1)
    if len(values):
        averaged = smooth(values, max(1, len(values) // 50))
        canvas.curve(box, np.interp(shown, step, values) / high, 1.0, PALE_BLUE)
        canvas.curve(box, np.interp(shown, step, averaged) / high, 2.6, BLUE)
    canvas.write(box.top + box.height + 8, box.left, "epoch", GREY)
    canvas.fill(box.top, box.left, box.height, 2, GREY)
    canvas.fill(box.top + box.height, box.left, 2, box.width, GREY)


@dataclass(frozen=True)
class Samples:
    """Test images, grey uint8, with what they are and what the model takes them for."""

    images: np.ndarray  # (N, H, W)
    labels: np.ndarray
    predicted: np.ndarray

    def take(self, rows: np.ndarray) -> Samples:
        return Samples(self.images[rows], self.labels[rows], self.predicted[rows])


def draw_samples(canvas: Canvas, top: int, samples: Samples, names: Sequence[str]) -> None:
    """A grid of images: what is predicted in green where right, in red over the truth where not."""
    for i, image in enumerate(samples.images):
        y, x = top + i // COLUMNS * ROW, 20 + i % COLUMNS * CELL
        label, predicted = int(samples.labels[i]), int(samples.predicted[i])
        color = GREEN if label == predicted else RED
        frame = TILE // max(image.shape) * max(image.shape) + 8
        left, middle = x + (CELL - frame) // 2, x + CELL // 2
        canvas.fill(y, left, frame, frame, color)
        canvas.paste(y + 4, left + 4, image, TILE)
        canvas.write(y + frame + 4, middle, names[predicted], color, anchor=0.5)
        if label != predicted:
            canvas.write(y + frame + 4 + LINE, middle, names[label], GREY, anchor=0.5)


def draw_training(
    title: str,
    losses: Sequence[float],
    accuracies: Sequence[float],
    samples: Samples,
    names: Sequence[str],
) -> np.ndarray:
    """The whole picture, as pixels[height, width, 3].

    `losses` has one entry a step, `accuracies` one an epoch, `samples` the whole test set.
    """
    first = samples.take(np.arange(min(4 * COLUMNS, len(samples.labels))))
    missed = samples.take(np.flatnonzero(samples.predicted != samples.labels)[:COLUMNS])
    box = Box(top=110, left=90, height=280, width=WIDTH - 130)
    grid = box.top + box.height + 100
    rows = -(-len(first.labels) // COLUMNS)
    below = grid + rows * ROW + 10
    height = below + (LINE + 10 + ROW if len(missed.labels) else 0) + 10
    canvas = Canvas(height, WIDTH)
    canvas.write(20, 20, title, INK, scale=3)
    canvas.write(60, 20, "loss of each step, running mean", BLUE)
    canvas.write(60, WIDTH - 40, "test accuracy after each epoch", GREEN, anchor=1)
    draw_losses(canvas, box, losses, accuracies)
    canvas.write(grid - LINE - 10, 20, f"the first {len(first.labels)} test images")
    draw_samples(canvas, grid, first, names)
    if len(missed.labels):
        canvas.write(below, 20, "mistakes: predicted, and what it is")
        draw_samples(canvas, below + LINE + 10, missed, names)
    return canvas.pixels
