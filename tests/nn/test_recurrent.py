"""Recurrent networks over packed sequences, their errors, and the cells' agreement with them."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402
from amity.nn.utils import rnn  # noqa: E402

rng = np.random.default_rng(3)


def array(t):
    return t.detach().numpy()


def pair(name, *args, **kwargs):
    theirs = getattr(torch.nn, name)(*args, **kwargs)
    ours = getattr(nn, name)(*args, **kwargs)
    ours.load_state_dict({k: amity.from_numpy(v.numpy()) for k, v in theirs.state_dict().items()})
    return theirs, ours


@pytest.mark.parametrize("name", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("is_bidirectional", [False, True])
@pytest.mark.parametrize("lengths", [[5, 3, 1], [2, 5, 3], [4, 4, 4]])
def test_packed(name, is_bidirectional, lengths):
    theirs, ours = pair(name, 4, 3, 2, bidirectional=is_bidirectional)
    x = rng.standard_normal((max(lengths), 3, 4)).astype(np.float32)
    a, b = amity.from_numpy(x.copy()), torch.from_numpy(x.copy())
    a.requires_grad_(True)
    b.requires_grad_(True)
    ours_packed = rnn.pack_padded_sequence(a, lengths, enforce_sorted=False)
    their_packed = torch.nn.utils.rnn.pack_padded_sequence(b, lengths, enforce_sorted=False)
    y, state = ours(ours_packed)
    z, other = theirs(their_packed)
    np.testing.assert_allclose(array(y.data), array(z.data), rtol=1e-4, atol=1e-6)
    assert y.batch_sizes.tolist() == z.batch_sizes.tolist()
    states = zip(state, other) if name == "LSTM" else [(state, other)]
    for s, o in states:
        np.testing.assert_allclose(array(s), array(o), rtol=1e-4, atol=1e-6)
    (y.data * y.data).sum().backward()
    (z.data * z.data).sum().backward()
    np.testing.assert_allclose(array(a.grad), array(b.grad), rtol=1e-4, atol=1e-6)
    for (key, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters()):
        np.testing.assert_allclose(array(p.grad), array(q.grad), rtol=1e-4, atol=1e-5, err_msg=key)


def test_packed_with_state():
    theirs, ours = pair("LSTM", 4, 3)
    x = rng.standard_normal((4, 3, 4)).astype(np.float32)
    h, c = (rng.standard_normal((1, 3, 3)).astype(np.float32) for _ in "hc")
    lengths = [2, 4, 1]
    packed = rnn.pack_padded_sequence(amity.from_numpy(x), lengths, enforce_sorted=False)
    _, (hn, cn) = ours(packed, (amity.from_numpy(h), amity.from_numpy(c)))
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        torch.from_numpy(x), lengths, enforce_sorted=False
    )
    _, (ho, co) = theirs(packed, (torch.from_numpy(h), torch.from_numpy(c)))
    np.testing.assert_allclose(array(hn), array(ho), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(array(cn), array(co), rtol=1e-4, atol=1e-6)


def test_cells_are_one_step():
    for cell, layer in ((nn.RNNCell, nn.RNN), (nn.LSTMCell, nn.LSTM), (nn.GRUCell, nn.GRU)):
        long, one = layer(4, 3), cell(4, 3)
        one.load_state_dict({k.removesuffix("_l0"): v for k, v in long.state_dict().items()})
        x, state = amity.ones(5, 2, 4), None
        for step in range(5):
            state = one(x[step], state)
        _, last = long(x)
        h, expected = (state[0], last[0][0]) if cell is nn.LSTMCell else (state, last[0])
        np.testing.assert_allclose(array(h), array(expected), rtol=1e-4, atol=1e-6)


def test_dropout_between_layers():
    m = nn.GRU(4, 30, 2, dropout=1.0)
    y, _ = m(amity.ones(3, 2, 4))
    alone = nn.GRU(30, 30)
    alone.load_state_dict(
        {k.replace("_l1", "_l0"): v for k, v in m.state_dict().items() if "_l1" in k}
    )
    np.testing.assert_allclose(array(y), array(alone(amity.zeros(3, 2, 30))[0]), atol=1e-6)
    m.eval()
    assert np.abs(array(m(amity.ones(3, 2, 4))[0]) - array(y)).max() > 1e-3


def test_weights_by_layer():
    m = nn.LSTM(4, 3, 2, bidirectional=True, proj_size=2)
    assert len(m.all_weights) == 4 and len(m.all_weights[0]) == 5
    assert len(m._flat_weights) == 20
    assert m.flatten_parameters() is None
    m.weight_ih_l0 = nn.Parameter(amity.zeros(12, 4))
    assert m._flat_weights[0] is m.weight_ih_l0


@pytest.mark.parametrize(
    "build, error, text",
    [
        (lambda: nn.GRU(2, 3, proj_size=1), ValueError, "only supported for LSTM"),
        (lambda: nn.RNN(2, 3, proj_size=1), ValueError, "only supported for LSTM"),
        (lambda: nn.RNN(2, 3, nonlinearity="gelu"), ValueError, "Unknown nonlinearity 'gelu'"),
        (lambda: nn.LSTM(2, 3, dropout=1.5), ValueError, "dropout should be a number"),
        (lambda: nn.LSTM(2, 3, dropout=True), ValueError, "dropout should be a number"),
        (lambda: nn.LSTM(2, 3.0), TypeError, "hidden_size should be of type int"),
        (lambda: nn.LSTM(2, 0), ValueError, "hidden_size must be greater than zero"),
        (lambda: nn.LSTM(2, 3, 0), ValueError, "num_layers must be greater than zero"),
        (lambda: nn.LSTM(2, 3, proj_size=-1), ValueError, "positive integer or zero"),
        (lambda: nn.LSTM(2, 3, proj_size=3), ValueError, "smaller than hidden_size"),
        (lambda: nn.RNNBase("TREE", 2, 3), ValueError, "Unrecognized RNN mode: TREE"),
    ],
)
def test_wrong_arguments(build, error, text):
    with pytest.raises(error, match=text):
        build()


def test_dropout_of_one_layer_warns():
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        nn.LSTM(2, 3, dropout=0.5)


def test_wrong_inputs():
    m = nn.LSTM(4, 3)
    ones = amity.ones
    with pytest.raises(ValueError, match="LSTM: Expected input to be 2D or 3D, got 1D"):
        m(ones(4))
    with pytest.raises(RuntimeError, match="Expected 4, got 5"):
        m(ones(2, 1, 5))
    with pytest.raises(RuntimeError, match="hx and cx should also be 3-D but got"):
        m(ones(2, 1, 4), (ones(1, 3), ones(1, 3)))
    with pytest.raises(RuntimeError, match="hx and cx should also be 2-D but got"):
        m(ones(2, 4), (ones(1, 1, 3), ones(1, 1, 3)))
    with pytest.raises(
        RuntimeError, match=r"Expected hidden\[1\] size \(1, 1, 3\), got \[1, 1, 4\]"
    ):
        m(ones(2, 1, 4), (ones(1, 1, 3), ones(1, 1, 4)))
    with pytest.raises(RuntimeError, match="sequence length to be larger than 0"):
        m(ones(0, 1, 4))
    cell = nn.GRUCell(4, 3)
    with pytest.raises(ValueError, match="GRUCell: Expected input to be 1D or 2D, got 3D"):
        cell(ones(1, 1, 4))
    with pytest.raises(RuntimeError, match="got 5 expected 4"):
        cell(ones(1, 5))
    with pytest.raises(ValueError, match="Expected hidden to be 1D or 2D, got 3D"):
        cell(ones(1, 4), ones(1, 1, 3))
    with pytest.raises(RuntimeError, match="Input batch size 2 doesn't match hidden batch size 1"):
        cell(ones(2, 4), ones(1, 3))
    with pytest.raises(RuntimeError, match="got 4, expected 3"):
        cell(ones(1, 4), ones(1, 4))
    with pytest.raises(RuntimeError, match="Unknown nonlinearity: gelu"):
        nn.RNNCell(4, 3, nonlinearity="gelu")(ones(1, 4))


def compare(ours, theirs, inputs, tolerance):
    """Outputs, last states and all gradients of a layer, amity's and PyTorch's."""
    given = [amity.from_numpy(a.copy()).requires_grad_() for a in inputs]
    wanted = [torch.from_numpy(a.copy()).requires_grad_() for a in inputs]

    def run(layer, x, *state):
        y, last = layer(x, state if len(state) > 1 else state[0] if state else None)
        parts = [y, *(last if isinstance(last, tuple) else (last,))]
        (y * y).sum().backward()
        return parts

    for a, b in zip(run(ours, *given), run(theirs, *wanted), strict=True):
        np.testing.assert_allclose(array(a), array(b), rtol=tolerance, atol=tolerance)
    pairs = zip(ours.parameters(), theirs.parameters(), strict=True)
    for p, q in [*zip(given, wanted, strict=True), *pairs]:
        scale = np.abs(array(q.grad)).max() + 1e-30
        np.testing.assert_allclose(array(p.grad) / scale, array(q.grad) / scale, atol=tolerance)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize(
    "batch, hidden, threads", [(1, 40, 1), (13, 37, 1), (70, 19, 2), (7, 3, 1)]
)
def test_sizes(name, batch, hidden, threads):
    """Rows and hidden numbers that fill tiles and vectors, and that do not; several tasks."""
    theirs, ours = pair(name, 5, hidden)
    before = amity.get_num_threads()
    amity.set_num_threads(threads)
    try:
        states = [rng.standard_normal((1, batch, hidden)).astype(np.float32)]
        x = rng.standard_normal((6, batch, 5)).astype(np.float32)
        compare(ours, theirs, [x, *states * (2 if name == "LSTM" else 1)], 2e-5)
    finally:
        amity.set_num_threads(before)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_float64_and_relu(name):
    more = {"nonlinearity": "relu"} if name == "RNN" else {}
    theirs = getattr(torch.nn, name)(5, 9, 2, bidirectional=True, dtype=torch.float64, **more)
    ours = getattr(nn, name)(5, 9, 2, bidirectional=True, dtype=amity.float64, **more)
    state = {k: amity.from_numpy(v.numpy()) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    compare(ours, theirs, [rng.standard_normal((7, 4, 5))], 1e-10)


@pytest.mark.parametrize("name", ["LSTM", "GRU", "RNN"])
def test_gradients_of_gradients(name):
    theirs, ours = pair(name, 3, 4)
    x = rng.standard_normal((5, 2, 3)).astype(np.float32)

    def run(lib, layer, x):
        y, _ = layer(x)
        first = lib.autograd.grad((y * y * y).sum(), [x, *layer.parameters()], create_graph=True)
        lib.autograd.backward(sum((g * g).sum() for g in first))
        return [x.grad, *(p.grad for p in layer.parameters())]

    got = run(amity, ours, amity.from_numpy(x.copy()).requires_grad_())
    expected = run(torch, theirs, torch.from_numpy(x.copy()).requires_grad_())
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(array(a), array(b), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_mapped_over_weights(name):
    """Two layers at once, by vmap, and the gradients of both."""
    layers = [getattr(nn, name)(3, 4) for _ in range(2)]
    parameters, _ = amity.func.stack_module_state(layers)
    x = amity.from_numpy(rng.standard_normal((5, 2, 3)).astype(np.float32))

    def loss(parameters, x):
        return (amity.func.functional_call(layers[0], parameters, (x,))[0] ** 2).sum()

    got = amity.func.vmap(amity.func.grad(loss), in_dims=(0, None))(parameters, x)
    for i, layer in enumerate(layers):
        (layer(x)[0] ** 2).sum().backward()
        for key, p in layer.named_parameters():
            np.testing.assert_allclose(array(got[key][i]), array(p.grad), rtol=1e-4, atol=1e-5)


def test_nothing_is_kept_without_gradients():
    m, x = nn.LSTM(3, 4), amity.ones(5, 2, 3)
    with amity.no_grad():
        y, _ = m(x)
    assert not y.requires_grad
    np.testing.assert_allclose(array(y), array(m(x)[0]))
    assert m(x)[0].requires_grad
