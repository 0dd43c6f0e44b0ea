"""One step of a recurrent network: the formulas, and the cells as modules.

Letters: B batch, I input size, H hidden size. A step takes `x`, the product with the input and
its bias, and the state; it gives the next state, whose first tensor is the output.
"""

from __future__ import annotations

import math

from amity import ops
from amity.frontend import create
from amity.frontend.tensor import Tensor
from amity.nn import init
from amity.nn.module import Module
from amity.nn.parameter import Parameter

State = tuple[Tensor, ...]


def _rnn_tanh_step(x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    return (ops.rnn_tanh_gates(x, ops.linear(state[0], w_hh, b_hh)),)


def _rnn_relu_step(x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    return (ops.rnn_relu_gates(x, ops.linear(state[0], w_hh, b_hh)),)


def _lstm_step(
    x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None, w_hr: Tensor | None = None
) -> State:
    h, c = ops.lstm_gates(x, ops.linear(state[0], w_hh, b_hh), state[1])
    return (h if w_hr is None else ops.linear(h, w_hr)), c


def _gru_step(x: Tensor, state: State, w_hh: Tensor, b_hh: Tensor | None) -> State:
    return (ops.gru_gates(x, ops.linear(state[0], w_hh, b_hh), state[0]),)


STEPS = {
    "RNN_TANH": _rnn_tanh_step,
    "RNN_RELU": _rnn_relu_step,
    "LSTM": _lstm_step,
    "GRU": _gru_step,
}
GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}


class RNNCellBase(Module):
    """What the cells share: the parameters and the checks."""

    __constants__ = ["input_size", "hidden_size", "bias"]
    _mode = ""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        gates, options = num_chunks * hidden_size, {"device": device, "dtype": dtype}
        self.weight_ih = Parameter(create.empty((gates, input_size), **options))
        self.weight_hh = Parameter(create.empty((gates, hidden_size), **options))
        for name in ("bias_ih", "bias_hh"):
            value = Parameter(create.empty(gates, **options)) if bias else None
            self.register_parameter(name, value)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw all weights from U(-k, k) with k = 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _step(self, input: Tensor, hx: State | None, count: int) -> State:
        """One step for input[B, I] or input[I]."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                f"input has inconsistent input_size: got {input.shape[-1]} "
                f"expected {self.input_size}"
            )
        is_batched = input.dim() == 2
        rows = input if is_batched else input.unsqueeze(0)
        if hx is None:
            zeros = create.zeros(
                (rows.shape[0], self.hidden_size), dtype=input.dtype, device=input.device
            )
            state: State = (zeros,) * count
        else:
            for tensor in hx:
                if tensor.dim() not in (1, 2):
                    raise ValueError(
                        f"{name}: Expected hidden to be 1D or 2D, got {tensor.dim()}D instead"
                    )
            state = hx if is_batched else tuple(tensor.unsqueeze(0) for tensor in hx)
            self._check_state(rows, state)
        gates = ops.linear(rows, self.weight_ih, self.bias_ih)
        state = STEPS[self._mode](gates, state, self.weight_hh, self.bias_hh)
        return state if is_batched else tuple(tensor.squeeze(0) for tensor in state)

    def _check_state(self, rows: Tensor, state: State) -> None:
        for tensor in state:
            if tensor.shape[0] != rows.shape[0]:
                raise RuntimeError(
                    f"Input batch size {rows.shape[0]} doesn't match hidden batch size "
                    f"{tensor.shape[0]}"
                )
            if tensor.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden has inconsistent hidden_size: got {tensor.shape[1]}, "
                    f"expected {self.hidden_size}"
                )

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        if self.bias is not True:
            text += f", bias={self.bias}"
        if getattr(self, "nonlinearity", "tanh") != "tanh":
            text += f", nonlinearity={self.nonlinearity}"
        return text


class RNNCell(RNNCellBase):
    """One step of an `RNN`.

    shape: x[B, I], h[B, H] -> [B, H], or all without B
    """

    __constants__ = ["input_size", "hidden_size", "bias", "nonlinearity"]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device=None,
        dtype=None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(input, None if hx is None else (hx,), 1)[0]

    @property
    def _mode(self) -> str:
        return f"RNN_{self.nonlinearity.upper()}"


class LSTMCell(RNNCellBase):
    """One step of an `LSTM`.

    shape: x[B, I], (h[B, H], c[B, H]) -> (h[B, H], c[B, H]), or all without B
    """

    _mode = "LSTM"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device=None, dtype=None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: State | None = None) -> State:
        return self._step(input, hx, 2)


class GRUCell(RNNCellBase):
    """One step of a `GRU`.

    shape: x[B, I], h[B, H] -> [B, H], or all without B
    """

    _mode = "GRU"

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device=None, dtype=None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step(input, None if hx is None else (hx,), 1)[0]
