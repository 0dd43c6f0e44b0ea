"""One step of recurrent networks: the gates as one fused op, and PyTorch's cells.

The gates take `x`, the product with the input, and `h`, the product with the state, each with its
bias; the products stay outside, as a layer takes those with the inputs for all steps at once.
"""

from __future__ import annotations

from .activation import relu
from .elementwise import sigmoid, tanh
from .joining import cat, chunk
from .matmul import linear
from .record import ErrorSample, Sample, composite

F = "f"


UNLIKE = (ErrorSample(((2, 3), F), ((2, 4), F), error=RuntimeError, says="broadcast"),)


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


def _lstm_gates_grad(gs, x, h, c, y1):
    gh, gc = gs
    i, f, g, o = chunk(x + h, 4, -1)
    i, f, g, o, top = sigmoid(i), sigmoid(f), tanh(g), sigmoid(o), tanh(y1)
    gc = gc + gh * o * (1 - top * top)
    gi, gf = gc * g * i * (1 - i), gc * c * f * (1 - f)
    gg, go = gc * i * (1 - g * g), gh * top * o * (1 - o)
    gx = cat([gi, gf, gg, go], -1)
    return gx, gx, gc * f


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
    source: Hochreiter & Schmidhuber 1997; Gers et al. 2000 for the forget gate
    """
    i, f, g, o = chunk(x + h, 4, -1)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def _gru_gates_grad(g, x, h, state):
    xr, xz, xn = chunk(x, 3, -1)
    hr, hz, hn = chunk(h, 3, -1)
    r, z = sigmoid(xr + hr), sigmoid(xz + hz)
    new = tanh(xn + r * hn)
    gn = g * (1 - z) * (1 - new * new)
    gr, gz = gn * hn * r * (1 - r), g * (state - new) * z * (1 - z)
    return cat([gr, gz, gn], -1), cat([gr, gz, gn * r], -1), g * z


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
    source: Cho et al. 2014, arXiv:1406.1078
    """
    xr, xz, xn = chunk(x, 3, -1)
    hr, hz, hn = chunk(h, 3, -1)
    new = tanh(xn + sigmoid(xr + hr) * hn)
    return new + sigmoid(xz + hz) * (state - new)


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
