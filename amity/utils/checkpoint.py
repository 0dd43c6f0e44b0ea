"""Recomputation instead of memory, by the names of `torch.utils.checkpoint`."""

from amity.frontend.checkpoint import (
    CheckpointError,
    checkpoint,
    checkpoint_sequential,
    noop_context_fn,
)

__all__ = ["CheckpointError", "checkpoint", "checkpoint_sequential", "noop_context_fn"]
