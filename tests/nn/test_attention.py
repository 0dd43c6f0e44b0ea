"""Attention and transformers: masks, stacks, dropout and errors."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402

rng = np.random.default_rng(5)
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True")


def f(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def array(t):
    return t.detach().numpy()


def load(ours, theirs):
    state = {k: amity.from_numpy(v.numpy()) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return ours


def both(ours, theirs, *args, **kwargs):
    """Outputs of both modules for the same arrays, compared."""

    def convert(to):
        pick = lambda v: to(v.copy()) if isinstance(v, np.ndarray) else v  # noqa: E731
        return [pick(a) for a in args], {k: pick(v) for k, v in kwargs.items()}

    a, k = convert(amity.from_numpy)
    y = ours(*a, **k)
    a, k = convert(torch.from_numpy)
    z = theirs(*a, **k)
    y, z = (v if isinstance(v, tuple) else (v,) for v in (y, z))
    assert len(y) == len(z)
    for p, q in zip(y, z):
        if q is None:
            assert p is None
        else:
            np.testing.assert_allclose(array(p), array(q), rtol=1e-4, atol=2e-5)


CAUSAL = np.triu(np.ones((4, 4), bool), 1)
PADDED = np.array([[False, False, False, True], [False, False, True, True]])


@pytest.mark.parametrize("needs_weights", [True, False])
@pytest.mark.parametrize(
    "mask, padding",
    [
        (None, None),
        (CAUSAL, None),
        (None, PADDED),
        (CAUSAL, PADDED),
        (f(4, 4), None),
        (f(4, 4, 4), f(2, 4)),
        (np.repeat(CAUSAL[None], 4, 0), PADDED),
    ],
    ids=["none", "mask", "padding", "both", "numbers", "numbers-3d", "bool-3d"],
)
@pytest.mark.parametrize("options", [{}, {"add_bias_kv": True}, {"add_zero_attn": True}], ids=str)
def test_masks(needs_weights, mask, padding, options):
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(6, 2, **options)
    ours = load(nn.MultiheadAttention(6, 2, **options), theirs)
    x = f(4, 2, 6)
    both(
        ours, theirs, x, f(4, 2, 6), x,
        key_padding_mask=padding, attn_mask=mask, need_weights=needs_weights,
    )  # fmt: skip


def test_batch_first_and_single_projection():
    theirs = torch.nn.MultiheadAttention(6, 3, batch_first=True)
    ours = load(nn.MultiheadAttention(6, 3, batch_first=True), theirs)
    x = f(2, 4, 6)
    both(ours, theirs, x, x, x, average_attn_weights=False)
    same = amity.from_numpy(x)
    np.testing.assert_allclose(
        array(ours(same, same, same)[0]), array(ours(same, same + 0, same * 1)[0]), atol=1e-6
    )


def test_causal_hint():
    theirs = torch.nn.MultiheadAttention(6, 2)
    ours = load(nn.MultiheadAttention(6, 2), theirs)
    x = f(4, 2, 6)
    both(ours, theirs, x, x, x, attn_mask=CAUSAL, is_causal=True, need_weights=False)
    both(ours, theirs, x, x, x, attn_mask=CAUSAL, is_causal=True)
    with pytest.raises(RuntimeError, match="Need attn_mask"):
        ours(*[amity.from_numpy(x)] * 3, is_causal=True)


def test_dropout_hides_weights_in_training_only():
    m = nn.MultiheadAttention(6, 2, dropout=1.0)
    x = amity.from_numpy(f(4, 2, 6))
    assert not array(m(x, x, x)[1]).any()
    assert array(m.eval()(x, x, x)[1]).any()


def test_merged_masks():
    theirs, ours = torch.nn.MultiheadAttention(6, 2), nn.MultiheadAttention(6, 2)
    query, mask, padding = f(2, 4, 6), f(4, 4), f(2, 4)
    for args in (
        (mask, padding),
        (None, padding),
        (mask, None),
        (f(4, 4, 4), padding),
        (None, None),
    ):
        a = [None if v is None else amity.from_numpy(v) for v in (*args, query)]
        b = [None if v is None else torch.from_numpy(v) for v in (*args, query)]
        (x, i), (y, j) = ours.merge_masks(*a), theirs.merge_masks(*b)
        assert i == j
        assert (x is None and y is None) or np.array_equal(array(x), array(y))


@pytest.mark.parametrize(
    "change, text",
    [
        ({"query": f(2)}, "a query of 1 dimensions"),
        ({"key": f(4, 6)}, "expected the same for all"),
        ({"value": f(3, 2, 6)}, "the same length and batch"),
        ({"query": f(4, 2, 5)}, "embedding size 5; expected 6"),
        ({"key_padding_mask": f(4)}, "key_padding_mask of 1 dimensions"),
        ({"key_padding_mask": f(2, 3)}, r"key_padding_mask of shape \(2, 3\); expected \(2, 4\)"),
        ({"attn_mask": f(4)}, "attn_mask of 1 dimensions"),
        ({"attn_mask": f(4, 3)}, r"attn_mask of shape \(4, 3\); expected \(4, 4\)"),
        ({"attn_mask": f(3, 4, 4)}, r"attn_mask of shape \(3, 4, 4\); expected \(4, 4, 4\)"),
        ({"attn_mask": np.zeros((4, 4), np.int64)}, "only bool and floating types of attn_mask"),
    ],
)
def test_wrong_inputs(change, text):
    values = {"query": f(4, 2, 6), "key": f(4, 2, 6), "value": f(4, 2, 6)} | change
    with pytest.raises(RuntimeError, match=text):
        nn.MultiheadAttention(6, 2)(**{k: amity.from_numpy(v) for k, v in values.items()})


def test_wrong_arguments():
    with pytest.raises(ValueError, match="greater than 0"):
        nn.MultiheadAttention(0, 2)
    with pytest.raises(ValueError, match="divisible by num_heads"):
        nn.MultiheadAttention(5, 2)
    with pytest.raises(RuntimeError, match="should be relu/gelu, not tanh"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")


def test_stacks():
    layer = torch.nn.TransformerEncoderLayer(6, 2, 8, 0.0)
    theirs = torch.nn.TransformerEncoder(layer, 2, torch.nn.LayerNorm(6))
    ours = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, 0.0), 2, nn.LayerNorm(6))
    assert repr(ours) == repr(theirs)
    both(load(ours, theirs), theirs, f(4, 2, 6), mask=CAUSAL, src_key_padding_mask=PADDED)
    layer = torch.nn.TransformerDecoderLayer(6, 2, 8, 0.0)
    theirs = torch.nn.TransformerDecoder(layer, 2)
    ours = nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, 0.0), 2)
    assert repr(ours) == repr(theirs)
    both(
        load(ours, theirs), theirs, f(4, 2, 6), f(3, 2, 6),
        tgt_mask=CAUSAL, memory_key_padding_mask=PADDED[:, 1:], tgt_is_causal=True,
    )  # fmt: skip


def test_clones_are_apart():
    m = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8), 2)
    a, b = m.layers
    assert a.linear1.weight is not b.linear1.weight
    np.testing.assert_array_equal(array(a.linear1.weight), array(b.linear1.weight))


def test_whole_transformer():
    sizes = (6, 2, 1, 1, 8, 0.0)
    theirs = torch.nn.Transformer(*sizes, batch_first=True, norm_first=True)
    ours = load(nn.Transformer(*sizes, batch_first=True, norm_first=True), theirs)
    mask = nn.Transformer.generate_square_subsequent_mask(4)
    expected = torch.nn.Transformer.generate_square_subsequent_mask(4)
    np.testing.assert_array_equal(array(mask), array(expected))
    both(ours, theirs, f(2, 3, 6), f(2, 4, 6), tgt_mask=array(mask))
    with pytest.raises(RuntimeError, match="batch number of src and tgt"):
        ours(amity.ones(1, 3, 6), amity.ones(2, 3, 6))
    with pytest.raises(RuntimeError, match="feature number"):
        ours(amity.ones(1, 3, 5), amity.ones(1, 3, 5))


def test_own_activation_and_encoder():
    m = nn.TransformerEncoderLayer(6, 2, 8, activation=nn.Tanh())
    assert "activation" in dict(m.named_children())
    encoder = nn.TransformerEncoder(m, 1)
    assert nn.Transformer(6, 2, custom_encoder=encoder, num_decoder_layers=1).encoder is encoder
