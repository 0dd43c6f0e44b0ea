"""Recurrent networks: RNN, LSTM and GRU over sequences.

Letters: T steps, B batch, I input size, H hidden size, G gates times H, D directions.
The products with the inputs are taken for all steps at once; the steps are one op of their own.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from amity import ops
from amity.frontend import create
from amity.frontend.casting import cast, lowered, region
from amity.frontend.grad_mode import is_grad_enabled
from amity.frontend.tensor import Tensor
from amity.nn import init
from amity.nn.module import Module
from amity.nn.parameter import Parameter
from amity.nn.recurrent_cell import GATES, STEPS, State
from amity.nn.utils.rnn import PackedSequence
from amity.ops.recurrence import STEPS as ALL_STEPS

Weights = list[Tensor]
Sizes = tuple[int, ...]  # rows of each step of packed input, else none


def _all_steps(
    mode: str, x: Tensor, sizes: Sizes, state: State, weights: Weights, is_reverse: bool
) -> tuple[Tensor, State]:
    """All steps as one op; `weights` are the state's, with its bias where that stands alone."""
    values = [x, weights[0], *state, *weights[1:]]
    if region.is_on:  # x came in 16 bits: a state that is summed up keeps its dtype
        values = cast(values, x.dtype if mode.startswith("RNN") else state[0].dtype)
    is_kept = is_grad_enabled() and any(v.requires_grad for v in values)
    out, _, *pairs = ALL_STEPS[mode](sizes, is_reverse, is_kept)(*values)
    return out, tuple(pairs[1::2])


def _projected_steps(
    x: Tensor, sizes: Sizes, state: State, weights: list, is_reverse: bool
) -> tuple[Tensor, State]:
    """The steps of an LSTM whose output is projected, one by one."""
    counts = sizes or (x.shape[1],) * x.shape[0]
    parts = enumerate(x.split(list(counts)) if sizes else x.unbind(0))
    outputs: dict[int, Tensor] = {}
    for t, part in reversed(list(parts)) if is_reverse else parts:
        n = counts[t]
        new = STEPS["LSTM"](part, tuple(s[:n] for s in state), *weights)
        outputs[t] = new[0]
        pairs = zip(new, state, strict=True)
        state = tuple(a if n == len(s) else ops.cat([a, s[n:]]) for a, s in pairs)
    rows = ops.cat([outputs[t] for t in range(len(counts))])
    return rows if sizes else rows.reshape(*x.shape[:2], rows.shape[-1]), state


def _direction(
    mode: str, input: Tensor, sizes: Sizes, state: State, weights: list, is_reverse: bool
) -> tuple[Tensor, State]:
    """One layer in one direction over input[T, B, I], or over packed input[rows, I]."""
    w_ih, w_hh, b_ih, b_hh, *w_hr = weights
    if w_hr:
        x = ops.linear(input, w_ih, b_ih)
        return _projected_steps(x, sizes, state, [w_hh, b_hh, *w_hr], is_reverse)
    if mode == "GRU":  # its state's bias is weighed by the reset gate
        own = [w_hh, create.zeros(w_hh.shape[0], dtype=w_hh.dtype) if b_hh is None else b_hh]
    else:
        own, b_ih = [w_hh], None if b_ih is None else b_ih + b_hh
    return _all_steps(mode, ops.linear(input, w_ih, b_ih), sizes, state, own, is_reverse)


class RNNBase(Module):
    """What RNN, LSTM and GRU share: the parameters, the layers and the checks."""

    __constants__ = [
        "mode", "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout",
        "bidirectional", "proj_size",
    ]  # fmt: skip

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device=None,
        dtype=None,
    ) -> None:
        super().__init__()
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bidirectional, proj_size
        self._check_arguments(dropout)
        self._all_weights = self._make_parameters({"device": device, "dtype": dtype})
        self.reset_parameters()

    def _check_arguments(self, dropout: Any) -> None:
        if isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an "
                "element being zeroed"
            )
        if dropout > 0 and self.num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={dropout} and "
                f"num_layers={self.num_layers}",
                stacklevel=4,
            )
        if not isinstance(self.hidden_size, int):
            name = type(self.hidden_size).__name__
            raise TypeError(f"hidden_size should be of type int, got: {name}")
        if self.hidden_size <= 0:
            raise ValueError("hidden_size must be greater than zero")
        if self.num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if self.proj_size < 0:
            raise ValueError(
                "proj_size should be a positive integer or zero to disable projections"
            )
        if self.proj_size >= self.hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if self.mode not in STEPS:
            raise ValueError(f"Unrecognized RNN mode: {self.mode}")

    def _make_parameters(self, options: dict) -> list[list[str]]:
        """Register all weights; gives their names for each layer and direction."""
        gates, out = GATES[self.mode] * self.hidden_size, self.proj_size or self.hidden_size
        names = []
        for layer in range(self.num_layers):
            width = out * (2 if self.bidirectional else 1) if layer else self.input_size
            for suffix in ("", "_reverse") if self.bidirectional else ("",):
                shapes = {"weight_ih": (gates, width), "weight_hh": (gates, out)}
                if self.bias:
                    shapes |= {"bias_ih": (gates,), "bias_hh": (gates,)}
                if self.proj_size:
                    shapes["weight_hr"] = (self.proj_size, self.hidden_size)
                for kind, shape in shapes.items():
                    value = Parameter(create.empty(shape, **options))
                    self.register_parameter(f"{kind}_l{layer}{suffix}", value)
                names.append([f"{kind}_l{layer}{suffix}" for kind in shapes])
        return names

    def reset_parameters(self) -> None:
        """Draw all weights from U(-k, k) with k = 1 / sqrt(hidden_size)."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing: the weights need no common memory here."""

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> Weights:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def all_weights(self) -> list[Weights]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    def _state_sizes(self) -> list[int]:
        """The width of each tensor of the state."""
        return [self.hidden_size]

    def _check_input(self, input: Tensor, is_packed: bool) -> None:
        name = type(self).__name__
        if not is_packed and input.dim() not in (2, 3):
            raise ValueError(
                f"{name}: Expected input to be 2D or 3D, got {input.dim()}D tensor instead"
            )
        if input.shape[-1] != self.input_size:
            raise RuntimeError(
                "input.size(-1) must be equal to input_size. "
                f"Expected {self.input_size}, got {input.shape[-1]}"
            )

    def _first_state(self, hx: State | None, input: Tensor, batch: int, is_batched: bool) -> State:
        """The initial state with a batch dimension, checked, or zeros."""
        rows = self.num_layers * (2 if self.bidirectional else 1)
        shapes = [(rows, batch, size) for size in self._state_sizes()]
        if hx is None:
            options = {"dtype": input.dtype, "device": input.device}
            return tuple(create.zeros(shape, **options) for shape in shapes)
        names = ["hidden"] if len(shapes) == 1 else ["hidden[0]", "hidden[1]"]
        given = "hx" if len(shapes) == 1 else "hx and cx"
        state = []
        for name, tensor, shape in zip(names, hx, shapes, strict=True):
            if tensor.dim() != (3 if is_batched else 2):
                kind, n = ("batched 3-D", 3) if is_batched else ("unbatched 2-D", 2)
                raise RuntimeError(
                    f"For {kind} input, {given} should also be {n}-D "
                    f"but got {tensor.dim()}-D tensor"
                )
            tensor = tensor if is_batched else tensor.unsqueeze(1)
            if tuple(tensor.shape) != shape:
                raise RuntimeError(f"Expected {name} size {shape}, got {list(tensor.shape)}")
            state.append(tensor)
        return tuple(state)

    def _layers(self, input: Tensor, sizes: Sizes, state: State) -> tuple[Tensor, State]:
        """All layers in all directions."""
        count = 2 if self.bidirectional else 1
        last_states = []
        rows = list(zip(*(s.unbind(0) for s in state), strict=True))
        for layer in range(self.num_layers):
            outputs = []
            for direction in range(count):
                index = layer * count + direction
                weights = [getattr(self, name) for name in self._all_weights[index]]
                if not self.bias:
                    weights[2:2] = [None, None]
                output, last = _direction(
                    self.mode, input, sizes, rows[index], weights, direction == 1
                )
                outputs.append(output)
                last_states.append(last)
            input = outputs[0] if count == 1 else ops.cat(outputs, -1)
            if self.dropout and layer < self.num_layers - 1:
                input = ops.dropout(input, self.dropout, self.training)
        return input, tuple(ops.stack(list(column)) for column in zip(*last_states, strict=True))

    def _forward(self, input: Any, hx: State | None) -> tuple[Any, State]:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        self._check_input(input, is_packed=False)
        is_batched = input.dim() == 3
        if not is_batched:
            input = input.unsqueeze(1)
        elif self.batch_first:
            input = input.transpose(0, 1).contiguous()  # one product for all rows, not one a step
        if input.shape[0] == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        state = self._first_state(hx, input, input.shape[1], is_batched)
        output, state = self._layers(input, (), state)
        if not is_batched:
            return output.squeeze(1), tuple(s.squeeze(1) for s in state)
        return (output.transpose(0, 1) if self.batch_first else output), state

    def _forward_packed(
        self, packed: PackedSequence, hx: State | None
    ) -> tuple[PackedSequence, State]:
        data, batch_sizes, order, back = packed
        self._check_input(data, is_packed=True)
        sizes = tuple(batch_sizes.tolist())
        state = self._first_state(hx, data, sizes[0], True)
        if hx is not None and order is not None:
            state = tuple(s.index_select(1, order) for s in state)
        output, state = self._layers(data, sizes, state)
        if back is not None:
            state = tuple(s.index_select(1, back) for s in state)
        return PackedSequence(output, batch_sizes, order, back), state

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        output, state = self._forward(input, None if hx is None else (hx,))
        return output, state[0]

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "proj_size": 0,
            "num_layers": 1,
            "bias": True,
            "batch_first": False,
            "dropout": 0,
            "bidirectional": False,
        }
        for name, default in defaults.items():
            value = getattr(self, name)
            if value != default:
                text += f", {name}={value}"
        return text


def _refuse_projection(kwargs: dict) -> None:
    if "proj_size" in kwargs:
        raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")


class RNN(RNNBase):
    """h = tanh(W_ih x + b_ih + W_hh h + b_hh), or relu, in layers.

    Arguments: input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True,
    batch_first=False, dropout=0.0, bidirectional=False.
    shape:  x[T, B, I], h_0[layers D, B, H] -> output[T, B, D H], h_n[layers D, B, H]
    source: Elman 1990, Cognitive Science 14(2)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_projection(kwargs)
        if len(args) > 3:
            nonlinearity, args = args[3], (*args[:3], *args[4:])
        else:
            nonlinearity = kwargs.pop("nonlinearity", "tanh")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(
                f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'."
            )
        super().__init__(f"RNN_{nonlinearity.upper()}", *args, **kwargs)
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory in layers, with optional projections of the output.

    Arguments: input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
    bidirectional=False, proj_size=0.
    shape:  x[T, B, I], (h_0[layers D, B, H], c_0[layers D, B, H]) -> output[T, B, D H], (h_n, c_n)
    source: Hochreiter & Schmidhuber 1997; Sak et al. 2014, arXiv:1402.1128 for projections

    >>> LSTM(10, 20, num_layers=2, batch_first=True)
    LSTM(10, 20, num_layers=2, batch_first=True)
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__("LSTM", *args, **kwargs)

    def _state_sizes(self) -> list[int]:
        return [self.proj_size or self.hidden_size, self.hidden_size]

    def _layers(self, input: Tensor, sizes: Sizes, state: State) -> tuple[Tensor, State]:
        if not (sizes or self.proj_size):  # what autocast's list of PyTorch has as one op
            input, state = lowered((input, state))
        return super()._layers(input, sizes, state)

    def forward(self, input: Any, hx: State | None = None) -> tuple[Any, State]:
        return self._forward(input, hx)


class GRU(RNNBase):
    """Gated recurrent units in layers.

    Arguments: input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
    bidirectional=False.
    shape:  x[T, B, I], h_0[layers D, B, H] -> output[T, B, D H], h_n[layers D, B, H]
    source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        _refuse_projection(kwargs)
        super().__init__("GRU", *args, **kwargs)
