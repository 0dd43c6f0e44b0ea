"""One step of recurrent networks: the formulas, the gates as one fused op, and PyTorch's cells.

The gates take `x`, the product with the input, and `h`, the product with the state, each with its
bias; the products stay outside, as a layer takes those with the inputs for all steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from .activation import relu
from .elementwise import sigmoid, tanh
from .joining import cat, chunk
from .matmul import linear
from .record import ErrorSample, Sample, composite
from .select import where

F = "f"
UNLIKE = (ErrorSample(((2, 3), F), ((2, 4), F), error=RuntimeError, says="broadcast"),)

# what formulas need beyond arithmetic, of tensors; arrays and kernels have their own
TENSORS = SimpleNamespace(
    sigmoid=sigmoid, tanh=tanh, relu=relu, where=where, linear=linear,
    cat=lambda parts, dim: cat(list(parts), dim), chunk=lambda x, count: chunk(x, count, -1),
)  # fmt: skip


class Cell:
    """The formulas of a step, for tensors, arrays and kernels alike: `m` has their functions.

    `gates` is how many products a hidden number has, `kept` how many values of it the step back
    reads, `states` how many tensors the state has: the first is the output. `has_bias` says that
    the product with the state has a bias of its own; elsewhere it may be added to the other one.
    """

    gates = kept = states = 1
    has_bias = False

    @staticmethod
    def step(m: Any, x: Sequence, h: Sequence, state: Sequence) -> tuple[tuple, tuple]:
        """The next state and what is kept."""
        raise NotImplementedError

    @staticmethod
    def back(m: Any, g: Sequence, kept: Sequence, state: Sequence, more: Sequence) -> tuple:
        """Gradients of `x`, of `h`, and of the state before, but for what comes through `h`: from
        those of the next state, and `more`: those of what is kept, or None for each.
        """
        raise NotImplementedError


def _plus(g: Any, more: Any) -> Any:
    return g if more is None else g + more


class RnnTanh(Cell):
    """tanh(x + h).

    source: Elman 1990, Cognitive Science 14(2)
    """

    @staticmethod
    def step(m, x, h, state):
        y = m.tanh(x[0] + h[0])
        return (y,), (y,)

    @staticmethod
    def back(m, g, kept, state, more):
        (y,) = kept
        gx = (_plus(g[0], more[0]) * (1 - y * y),)
        return gx, gx, (None,)


class RnnRelu(Cell):
    """max(0, x + h)."""

    @staticmethod
    def step(m, x, h, state):
        y = m.relu(x[0] + h[0])
        return (y,), (y,)

    @staticmethod
    def back(m, g, kept, state, more):
        gx = (m.where(kept[0] > 0, _plus(g[0], more[0]), 0.0),)
        return gx, gx, (None,)


class Lstm(Cell):
    """Input, forget and output gates around a cell.

    source: Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate
    """

    gates, kept, states = 4, 4, 2

    @staticmethod
    def step(m, x, h, state):
        i, f, g, o = (a + b for a, b in zip(x, h, strict=True))
        i, f, g, o = m.sigmoid(i), m.sigmoid(f), m.tanh(g), m.sigmoid(o)
        c = f * state[1] + i * g
        return (o * m.tanh(c), c), (i, f, g, o)

    @staticmethod
    def back(m, g, kept, state, more):
        (gh, gc), (i, f, g, o), c = g, kept, state[1]
        top = m.tanh(f * c + i * g)
        gc = gc + gh * o * (1 - top * top)
        gi = _plus(gc * g, more[0]) * i * (1 - i)
        gf = _plus(gc * c, more[1]) * f * (1 - f)
        gg = _plus(gc * i, more[2]) * (1 - g * g)
        go = _plus(gh * top, more[3]) * o * (1 - o)
        gx = gi, gf, gg, go
        return gx, gx, (None, gc * f)


class Gru(Cell):
    """Reset and update gates, with the reset gate after the product.

    source: Cho et al. 2014, arXiv:1406.1078
    """

    gates, kept, has_bias = 3, 4, True

    @staticmethod
    def step(m, x, h, state):
        r, z = m.sigmoid(x[0] + h[0]), m.sigmoid(x[1] + h[1])
        new = m.tanh(x[2] + r * h[2])
        return (new + z * (state[0] - new),), (r, z, new, h[2])

    @staticmethod
    def back(m, g, kept, state, more):
        (g,), (r, z, new, h) = g, kept
        gn = _plus(g * (1 - z), more[2]) * (1 - new * new)
        gr = _plus(gn * h, more[0]) * r * (1 - r)
        gz = _plus(g * (state[0] - new), more[1]) * z * (1 - z)
        return (gr, gz, gn), (gr, gz, _plus(gn * r, more[3])), (g * z,)


@composite(
    samples=(Sample(((2, 3), F), ((2, 3), F)), Sample(((0, 3), F), ((0, 3), F))), errors=UNLIKE
)
def rnn_tanh_gates(x, h):
    """The next state of an RNN: tanh(x + h)."""
    return tanh(x + h)


@composite(samples=(Sample(((2, 3), F), ((2, 3), F)),), errors=UNLIKE)
def rnn_relu_gates(x, h):
    """The next state of an RNN with ReLU: max(0, x + h)."""
    return relu(x + h)


def _gates_grad(cell, gs, x, h, state):
    """The rule of the gates: the step again, then back."""
    kept = cell.step(TENSORS, chunk(x, cell.gates, -1), chunk(h, cell.gates, -1), state)[1]
    gx, gh, before = cell.back(TENSORS, gs, kept, state, (None,) * cell.kept)
    joined = cat(list(gx), -1)
    return joined, joined if gh is gx else cat(list(gh), -1), before


def _lstm_gates_grad(gs, x, h, c):
    gx, gh, (_, gc) = _gates_grad(Lstm, gs, x, h, (None, c))
    return gx, gh, gc


def _gru_gates_grad(g, x, h, state):
    gx, gh, (before,) = _gates_grad(Gru, (g,), x, h, (state,))
    return gx, gh, before


@composite(
    grad=_lstm_gates_grad,
    samples=(Sample(((2, 12), F), ((2, 12), F), ((2, 3), F)),),
    errors=(
        ErrorSample(((2, 12), F), ((2, 12), F), ((2, 4), F), error=RuntimeError, says="broadcast"),
    ),
)
def lstm_gates(x, h, c):
    """The next output and cell of an LSTM.

    shape:  x, h [B, 4H], c [B, H] -> [B, H], [B, H]
    """
    return Lstm.step(TENSORS, chunk(x, 4, -1), chunk(h, 4, -1), (None, c))[0]


@composite(
    grad=_gru_gates_grad,
    samples=(Sample(((2, 9), F), ((2, 9), F), ((2, 3), F)),),
    errors=(
        ErrorSample(((2, 9), F), ((2, 9), F), ((2, 4), F), error=RuntimeError, says="broadcast"),
    ),
)
def gru_gates(x, h, state):
    """The next state of a GRU, with the reset gate after the product.

    shape:  x, h [B, 3H], state [B, H] -> [B, H]
    """
    return Gru.step(TENSORS, chunk(x, 3, -1), chunk(h, 3, -1), (state,))[0][0]


def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of an RNN with tanh.

    shape: input [B, I], hx [B, H], w_ih [H, I], w_hh [H, H] -> [B, H]
    """
    return rnn_tanh_gates(linear(input, w_ih, b_ih), linear(hx, w_hh, b_hh))


def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of an RNN with ReLU.

    shape: input [B, I], hx [B, H], w_ih [H, I], w_hh [H, H] -> [B, H]
    """
    return rnn_relu_gates(linear(input, w_ih, b_ih), linear(hx, w_hh, b_hh))


def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of an LSTM; `hx` is the pair of output and cell.

    shape: input [B, I], hx 2 x [B, H], w_ih [4H, I], w_hh [4H, H] -> [B, H], [B, H]
    """
    h, c = hx
    return lstm_gates(linear(input, w_ih, b_ih), linear(h, w_hh, b_hh), c)


def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """One step of a GRU.

    shape: input [B, I], hx [B, H], w_ih [3H, I], w_hh [3H, H] -> [B, H]
    """
    return gru_gates(linear(input, w_ih, b_ih), linear(hx, w_hh, b_hh), hx)
