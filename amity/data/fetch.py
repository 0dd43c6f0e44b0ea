"""Fetching: from the indices of a batch to the batch, the same in a worker and without one."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from amity.core.errors import fail
from amity.data.collate import default_collate
from amity.data.dataset import fetch_samples, stack_rows


class StreamEnded(Exception):
    """An iterable-style dataset has no more batches."""


@dataclass(frozen=True)
class Recipe:
    """What turns indices into a batch."""

    dataset: Any
    collate_fn: Callable[[Any], Any]
    is_iterable: bool
    is_batched: bool
    drop_last: bool

    def start(self) -> Fetcher:
        """A fetcher for one epoch."""
        return StreamFetcher(self) if self.is_iterable else Fetcher(self)


class Fetcher:
    """Fetches from a dataset with indices."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe

    def __call__(self, indices: Any) -> Any:
        recipe = self.recipe
        try:
            if recipe.is_batched:
                if recipe.collate_fn is default_collate:
                    columns = stack_rows(recipe.dataset, indices)
                    if columns is not None:
                        return columns
                return recipe.collate_fn(fetch_samples(recipe.dataset, indices))
            return recipe.collate_fn(recipe.dataset[indices])
        except StopIteration as error:  # else it would end the epoch as if all were well
            got = f"StopIteration from {type(recipe.dataset).__name__} at {indices!r}"
            raise fail(RuntimeError, "DataLoader", got, "a sample") from error


class StreamFetcher(Fetcher):
    """Fetches from an iterable-style dataset: of the indices only their number counts."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self.stream = iter(recipe.dataset)
        self.has_ended = False

    def __call__(self, indices: Sequence[None] | None) -> Any:
        recipe = self.recipe
        count = len(indices) if recipe.is_batched and indices is not None else 1
        samples = [] if self.has_ended else list(itertools.islice(self.stream, count))
        self.has_ended = len(samples) < count
        if not samples or (self.has_ended and recipe.drop_last):
            raise StreamEnded
        return recipe.collate_fn(samples if recipe.is_batched else samples[0])
