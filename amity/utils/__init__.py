"""What `torch.utils` has."""

from . import checkpoint

__all__ = ["checkpoint"]
