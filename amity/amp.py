"""Mixed precision, as `torch.amp` has it."""

from .frontend.autocast import autocast, custom_bwd, custom_fwd, is_autocast_available
from .optim.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]
