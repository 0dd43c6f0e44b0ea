"""The tape's public names, as `torch.autograd` has them."""

from .frontend import function, functional, grad_mode
from .frontend.autograd import backward, grad
from .frontend.function import Function
from .frontend.grad_mode import (
    detect_anomaly,
    enable_grad,
    inference_mode,
    no_grad,
    set_detect_anomaly,
    set_grad_enabled,
)  # fmt: skip
from .frontend.gradcheck import GradcheckError, gradcheck, gradgradcheck
from .frontend.legacy import Variable

__all__ = [
    "Function", "GradcheckError", "Variable", "backward", "detect_anomaly", "enable_grad", "function", "functional",
    "grad", "grad_mode", "gradcheck", "gradgradcheck", "inference_mode", "no_grad", "set_detect_anomaly",
    "set_grad_enabled",
]  # fmt: skip
