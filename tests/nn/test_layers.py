"""Every layer against PyTorch: names, state, printing, outputs and gradients."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from amity import nn  # noqa: E402

rng = np.random.default_rng(0)


def f(*shape, low=None, high=None):
    """Floats: normal ones, or uniform ones between two bounds."""
    if low is None:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.uniform(low, high, shape).astype(np.float32)


def ints(high, *shape):
    return rng.integers(0, high, shape)


def signs(*shape):
    return np.where(rng.standard_normal(shape) > 0, 1, -1).astype(np.float32)


# PyTorch warns of paths it does not take
pytestmark = [
    pytest.mark.filterwarnings("ignore:enable_nested_tensor is True"),
    pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN"),
]


def table(*cases):
    return [pytest.param(*case, id=f"{i}-{case[0]}") for i, case in enumerate(cases)]


# name, positional arguments, keyword arguments, inputs
LINEAR = table(
    ("Identity", (), {}, (f(2, 3),)),
    ("Linear", (5, 3), {}, (f(4, 5),)),
    ("Linear", (5, 3), {"bias": False}, (f(2, 4, 5),)),
    ("Linear", (5, 3), {}, (f(5),)),
    ("Linear", (5, 3), {}, (f(0, 5),)),
    ("Bilinear", (5, 4, 3), {}, (f(6, 5), f(6, 4))),
    ("Bilinear", (5, 4, 3), {"bias": False}, (f(2, 6, 5), f(2, 6, 4))),
    ("Flatten", (), {}, (f(2, 3, 4),)),
    ("Flatten", (0, 1), {}, (f(2, 3, 4),)),
    ("Unflatten", (1, (2, 3)), {}, (f(4, 6),)),
    ("PairwiseDistance", (), {}, (f(4, 5), f(4, 5))),
    ("PairwiseDistance", (1.0,), {"keepdim": True}, (f(4, 5), f(4, 5))),
    ("CosineSimilarity", (), {}, (f(4, 5), f(4, 5))),
    ("CosineSimilarity", (0,), {}, (f(4, 5), f(4, 5))),
)
CONV = table(
    ("Conv1d", (4, 6, 3), {}, (f(2, 4, 9),)),
    ("Conv1d", (4, 6, 3), {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}, (f(4, 9),)),
    ("Conv2d", (4, 6, (3, 2)), {"padding": (1, 0)}, (f(2, 4, 7, 6),)),
    ("Conv2d", (4, 6, 3), {"padding": "same", "dilation": 2, "bias": False}, (f(2, 4, 7, 6),)),
    ("Conv2d", (4, 6, 3), {"padding": "valid"}, (f(4, 7, 6),)),
    ("Conv2d", (4, 4, 3), {"groups": 4, "stride": 2}, (f(2, 4, 7, 6),)),
    ("Conv2d", (4, 6, 3), {"padding": 1, "padding_mode": "reflect"}, (f(2, 4, 7, 6),)),
    ("Conv2d", (4, 6, 3), {"padding": 2, "padding_mode": "circular"}, (f(2, 4, 7, 6),)),
    (
        "Conv2d",
        (4, 6, (3, 4)),
        {"padding": "same", "padding_mode": "replicate"},
        (f(2, 4, 7, 6),),
    ),
    ("Conv3d", (2, 4, 2), {"padding": 1, "stride": (1, 2, 1)}, (f(2, 2, 4, 5, 3),)),
    ("ConvTranspose1d", (4, 6, 3), {"stride": 2, "output_padding": 1}, (f(2, 4, 5),)),
    ("ConvTranspose2d", (4, 6, 3), {"stride": 2, "padding": 1, "groups": 2}, (f(2, 4, 5, 4),)),
    ("ConvTranspose2d", (4, 6, 2), {"dilation": 2, "bias": False}, (f(4, 5, 4),)),
    ("ConvTranspose3d", (2, 3, 2), {"stride": 2}, (f(1, 2, 2, 3, 2),)),
)
POOL = table(
    ("MaxPool1d", (3,), {"stride": 2, "padding": 1}, (f(2, 3, 9),)),
    ("MaxPool1d", (3,), {"return_indices": True}, (f(2, 3, 9),)),
    ("MaxPool2d", (2,), {}, (f(2, 3, 6, 7),)),
    ("MaxPool2d", (3,), {"stride": 2, "padding": 1, "ceil_mode": True}, (f(2, 3, 6, 7),)),
    ("MaxPool2d", ((2, 3),), {"dilation": 2, "return_indices": True}, (f(3, 8, 9),)),
    ("MaxPool3d", (2,), {}, (f(1, 2, 4, 4, 5),)),
    ("AvgPool1d", (3,), {"padding": 1, "count_include_pad": False}, (f(2, 3, 9),)),
    ("AvgPool2d", (2,), {"ceil_mode": True}, (f(2, 3, 5, 7),)),
    ("AvgPool2d", ((3, 2),), {"stride": 1, "padding": 1, "divisor_override": 5}, (f(2, 3, 5, 7),)),
    ("AvgPool3d", (2,), {}, (f(1, 2, 4, 4, 5),)),
    ("LPPool1d", (2, 3), {}, (f(2, 3, 9),)),
    ("LPPool2d", (3, 2), {"stride": 1, "ceil_mode": True}, (f(2, 3, 5, 6, low=0.1, high=1),)),
    ("LPPool3d", (2, 2), {}, (f(1, 2, 4, 4, 4),)),
    ("AdaptiveAvgPool1d", (4,), {}, (f(2, 3, 9),)),
    ("AdaptiveAvgPool2d", ((2, None),), {}, (f(2, 3, 5, 7),)),
    ("AdaptiveAvgPool3d", (2,), {}, (f(1, 2, 3, 4, 5),)),
    ("AdaptiveMaxPool1d", (4,), {"return_indices": True}, (f(2, 3, 9),)),
    ("AdaptiveMaxPool2d", ((2, 3),), {}, (f(2, 3, 5, 7),)),
    ("AdaptiveMaxPool3d", (2,), {}, (f(1, 2, 3, 4, 5),)),
    (
        "FractionalMaxPool2d",
        (2,),
        {"output_size": (3, 4), "_random_samples": f(2, 3, 2, low=0, high=1)},
        (f(2, 3, 7, 9),),
    ),
    (
        "FractionalMaxPool3d",
        (2,),
        {"output_ratio": 0.5, "_random_samples": f(1, 2, 3, low=0, high=1)},
        (f(1, 2, 6, 6, 6),),
    ),
    ("MaxUnpool1d", (2,), {}, (f(1, 1, 2), np.array([[[1, 2]]]))),
    ("MaxUnpool2d", (2,), {}, (f(1, 1, 1, 2), np.array([[[[1, 6]]]]))),
    ("MaxUnpool3d", (2,), {}, (f(1, 1, 1, 1, 2), np.array([[[[[1, 14]]]]]))),
)
NORM = table(
    ("BatchNorm1d", (3,), {}, (f(5, 3),)),
    ("BatchNorm1d", (3,), {"momentum": None}, (f(5, 3, 4),)),
    ("BatchNorm2d", (3,), {}, (f(4, 3, 5, 2),)),
    ("BatchNorm2d", (3,), {"affine": False, "eps": 1e-3}, (f(4, 3, 5, 2),)),
    ("BatchNorm2d", (3,), {"track_running_stats": False}, (f(4, 3, 5, 2),)),
    ("BatchNorm2d", (3,), {"bias": False}, (f(4, 3, 5, 2),)),
    ("BatchNorm3d", (2,), {"momentum": 0.5}, (f(2, 2, 3, 2, 2),)),
    ("InstanceNorm1d", (3,), {}, (f(2, 3, 5),)),
    ("InstanceNorm2d", (3,), {"affine": True}, (f(3, 5, 4),)),
    ("InstanceNorm2d", (3,), {"affine": True, "track_running_stats": True}, (f(2, 3, 5, 4),)),
    ("InstanceNorm3d", (2,), {}, (f(2, 2, 3, 2, 2),)),
    ("LayerNorm", (6,), {}, (f(2, 3, 6),)),
    ("LayerNorm", ([3, 6],), {"bias": False}, (f(2, 3, 6),)),
    ("LayerNorm", (6,), {"elementwise_affine": False}, (f(2, 3, 6),)),
    ("GroupNorm", (2, 6), {}, (f(2, 6, 4),)),
    ("GroupNorm", (3, 6), {"affine": False}, (f(2, 6, 4, 3),)),
    ("GroupNorm", (1, 6), {"bias": False}, (f(2, 6),)),
    ("RMSNorm", (6,), {}, (f(2, 3, 6),)),
    ("RMSNorm", ((3, 6),), {"eps": 1e-3, "elementwise_affine": False}, (f(2, 3, 6),)),
    ("LocalResponseNorm", (3,), {}, (f(2, 5, 4, 3),)),
    ("LocalResponseNorm", (2,), {"alpha": 0.1, "k": 2.0}, (f(2, 5, 4),)),
)
ACTIVATION = table(
    *(
        (name, (), {}, (2 * f(3, 4),))
        for name in (
            "ReLU ReLU6 Sigmoid Hardsigmoid Tanh SiLU Mish Hardswish ELU CELU SELU GLU GELU "
            "Hardshrink Softshrink LeakyReLU LogSigmoid Softplus PReLU Softsign Tanhshrink Hardtanh"
        ).split()
    ),
    ("Threshold", (0.1, 20.0), {}, (f(3, 4),)),
    ("Hardtanh", (-0.5, 0.25), {}, (f(3, 4),)),
    ("ELU", (0.5,), {}, (f(3, 4),)),
    ("CELU", (2.0,), {}, (f(3, 4),)),
    ("GELU", ("tanh",), {}, (f(3, 4),)),
    ("GLU", (0,), {}, (f(4, 3),)),
    ("Softplus", (2.0, 1.0), {}, (f(3, 4),)),
    ("PReLU", (4,), {"init": 0.1}, (f(3, 4, 2),)),
    ("LeakyReLU", (0.3,), {}, (f(3, 4),)),
    ("Softmin", (1,), {}, (f(3, 4),)),
    ("Softmax", (-1,), {}, (f(3, 4),)),
    ("Softmax2d", (), {}, (f(2, 3, 4, 2),)),
    ("LogSoftmax", (0,), {}, (f(3, 4),)),
    ("Dropout", (0.0,), {}, (f(3, 4),)),
    ("AlphaDropout", (0.0,), {}, (f(3, 4),)),
)
PLACE = table(
    ("ConstantPad1d", (2, 3.5), {}, (f(2, 3, 4),)),
    ("ConstantPad2d", ((1, 0, 2, -1), 1.5), {}, (f(2, 3, 4),)),
    ("ConstantPad3d", (1, 0.5), {}, (f(2, 3, 4, 2),)),
    ("ZeroPad1d", ((1, 2),), {}, (f(2, 3, 4),)),
    ("ZeroPad2d", (1,), {}, (f(2, 3, 4, 2),)),
    ("ZeroPad3d", (1,), {}, (f(2, 3, 4, 2),)),
    ("ReflectionPad1d", ((2, 1),), {}, (f(2, 3, 4),)),
    ("ReflectionPad2d", ((1, 2, 0, 3),), {}, (f(2, 3, 4, 5),)),
    ("ReflectionPad3d", (1,), {}, (f(1, 2, 3, 2, 2),)),
    ("ReplicationPad1d", (2,), {}, (f(2, 3, 4),)),
    ("ReplicationPad2d", ((1, 2, 0, 3),), {}, (f(3, 4, 5),)),
    ("ReplicationPad3d", (1,), {}, (f(1, 2, 3, 2, 2),)),
    ("CircularPad1d", (2,), {}, (f(2, 3, 4),)),
    ("CircularPad2d", ((1, 2, 0, 3),), {}, (f(2, 3, 4, 5),)),
    ("CircularPad3d", (1,), {}, (f(1, 2, 3, 2, 2),)),
    ("Upsample", ((5, 7),), {}, (f(2, 3, 4, 3),)),
    ("Upsample", (), {"scale_factor": 2, "mode": "bilinear"}, (f(2, 3, 4, 3),)),
    ("Upsample", (), {"scale_factor": (1.5, 2.0), "mode": "bicubic"}, (f(1, 2, 4, 4),)),
    ("UpsamplingNearest2d", (), {"scale_factor": 2}, (f(2, 3, 4, 3),)),
    ("UpsamplingBilinear2d", ((5, 6),), {}, (f(2, 3, 4, 3),)),
    ("PixelShuffle", (2,), {}, (f(2, 8, 3, 2),)),
    ("PixelUnshuffle", (2,), {}, (f(2, 2, 4, 6),)),
    ("ChannelShuffle", (2,), {}, (f(2, 6, 3, 2),)),
    ("Fold", ((5, 4), (2, 2)), {"padding": 1, "stride": 2}, (f(2, 12, 9),)),
    ("Unfold", ((2, 3),), {"dilation": 2, "padding": 1}, (f(2, 3, 6, 7),)),
)
TABLE = table(
    ("Embedding", (7, 3), {}, (ints(7, 4, 2),)),
    ("Embedding", (7, 3), {"padding_idx": -2}, (ints(7, 9),)),
    ("Embedding", (7, 3), {"scale_grad_by_freq": True}, (ints(7, 9),)),
    ("EmbeddingBag", (7, 3), {}, (ints(7, 4, 2),)),
    ("EmbeddingBag", (7, 3), {"mode": "sum"}, (ints(7, 6), np.array([0, 2, 2]))),
    ("EmbeddingBag", (7, 3), {"mode": "max"}, (ints(7, 6), np.array([0, 2, 3]))),
    (
        "EmbeddingBag",
        (7, 3),
        {"padding_idx": 1, "include_last_offset": True},
        (np.array([0, 1, 2, 3, 1, 1]), np.array([0, 2, 4, 6])),
    ),
)
LOSS = table(
    *(
        (name, (), {}, (f(3, 4), f(3, 4)))
        for name in ("L1Loss", "MSELoss", "SmoothL1Loss", "HuberLoss")
    ),
    ("L1Loss", (), {"reduction": "none"}, (f(3, 4), f(3, 4))),
    ("MSELoss", (), {"reduction": "sum"}, (f(3, 4), f(3, 4))),
    ("SmoothL1Loss", (), {"beta": 0.3}, (f(3, 4), f(3, 4))),
    ("HuberLoss", (), {"delta": 0.3}, (f(3, 4), f(3, 4))),
    ("NLLLoss", (), {}, (f(5, 3), ints(3, 5))),
    ("NLLLoss", (f(3, low=0.1, high=1),), {"ignore_index": 1}, (f(5, 3, 2), ints(3, 5, 2))),
    ("CrossEntropyLoss", (), {}, (f(5, 3), ints(3, 5))),
    ("CrossEntropyLoss", (), {"label_smoothing": 0.2}, (f(5, 3), ints(3, 5))),
    ("CrossEntropyLoss", (), {"reduction": "none"}, (f(5, 3), f(5, 3, low=0, high=1))),
    (
        "CrossEntropyLoss",
        (f(3, low=0.1, high=1),),
        {"ignore_index": 2, "label_smoothing": 0.1},
        (f(5, 3, 2), ints(3, 5, 2)),
    ),
    ("KLDivLoss", (), {"reduction": "batchmean"}, (f(3, 4), f(3, 4, low=0.1, high=1))),
    ("KLDivLoss", (), {"reduction": "sum", "log_target": True}, (f(3, 4), f(3, 4))),
    ("BCELoss", (), {}, (f(3, 4, low=0.1, high=0.9), f(3, 4, low=0, high=1))),
    ("BCELoss", (f(4, low=0, high=1),), {}, (f(3, 4, low=0.1, high=0.9), f(3, 4, low=0, high=1))),
    ("BCEWithLogitsLoss", (), {}, (f(3, 4), f(3, 4, low=0, high=1))),
    (
        "BCEWithLogitsLoss",
        (f(4, low=0, high=1),),
        {"pos_weight": f(4, low=0, high=2)},
        (f(3, 4), f(3, 4, low=0, high=1)),
    ),
    ("PoissonNLLLoss", (), {}, (f(3, 4), f(3, 4, low=0, high=3))),
    (
        "PoissonNLLLoss",
        (False, True),
        {},
        (f(3, 4, low=0.1, high=2), f(3, 4, low=0.5, high=3)),
    ),
    ("GaussianNLLLoss", (), {}, (f(3, 4), f(3, 4), f(3, 4, low=0.1, high=1))),
    ("GaussianNLLLoss", (), {"full": True}, (f(3, 4), f(3, 4), f(3, 1, low=0.1, high=1))),
    ("HingeEmbeddingLoss", (0.5,), {}, (f(3, 4), signs(3, 4))),
    ("MultiLabelMarginLoss", (), {}, (f(2, 4), np.array([[3, 0, -1, 1], [1, -1, 2, 0]]))),
    ("SoftMarginLoss", (), {}, (f(3, 4), signs(3, 4))),
    ("MultiLabelSoftMarginLoss", (), {}, (f(3, 4), ints(2, 3, 4).astype(np.float32))),
    ("CosineEmbeddingLoss", (0.2,), {}, (f(3, 4), f(3, 4), signs(3))),
    ("MarginRankingLoss", (0.2,), {}, (f(5), f(5), signs(5))),
    ("MultiMarginLoss", (), {}, (f(3, 4), ints(4, 3))),
    ("MultiMarginLoss", (2, 0.5, f(4, low=0, high=1)), {}, (f(3, 4), ints(4, 3))),
    ("TripletMarginLoss", (), {}, (f(3, 4), f(3, 4), f(3, 4))),
    ("TripletMarginLoss", (), {"swap": True, "p": 1.5}, (f(3, 4), f(3, 4), f(3, 4))),
    ("TripletMarginWithDistanceLoss", (), {}, (f(3, 4), f(3, 4), f(3, 4))),
    (
        "CTCLoss",
        (),
        {},
        (
            np.log(rng.dirichlet(np.ones(5), (6, 2))).astype(np.float32),
            np.array([[1, 2, 2], [3, 1, 0]]),
            np.array([6, 5]),
            np.array([3, 2]),
        ),
    ),
    ("AdaptiveLogSoftmaxWithLoss", (8, 12, [3, 7]), {"div_value": 2.0}, (f(6, 8), ints(12, 6))),
    ("AdaptiveLogSoftmaxWithLoss", (8, 12, [3]), {"head_bias": True}, (f(8), np.array(10))),
)
SEQUENCE = table(
    ("RNN", (4, 3), {}, (f(5, 2, 4),)),
    ("RNN", (4, 3, 2, "relu"), {"bias": False}, (f(5, 2, 4), f(2, 2, 3))),
    ("RNN", (4, 3), {"bidirectional": True, "num_layers": 2}, (f(5, 4), f(4, 3))),
    ("LSTM", (4, 3), {}, (f(5, 2, 4),)),
    ("LSTM", (4, 3, 2), {"batch_first": True, "bidirectional": True}, (f(2, 5, 4),)),
    ("LSTM", (4, 3, 2), {"bias": False}, (f(5, 2, 4), (f(2, 2, 3), f(2, 2, 3)))),
    (
        "LSTM",
        (4, 3),
        {"proj_size": 2, "bidirectional": True},
        (f(5, 2, 4), (f(2, 2, 2), f(2, 2, 3))),
    ),
    ("GRU", (4, 3), {}, (f(5, 2, 4),)),
    ("GRU", (4, 3, 2), {"batch_first": True, "bidirectional": True}, (f(2, 5, 4), f(4, 2, 3))),
    ("GRU", (4, 3), {"bias": False}, (f(1, 4),)),
    ("RNNCell", (4, 3), {}, (f(2, 4), f(2, 3))),
    ("RNNCell", (4, 3), {"nonlinearity": "relu", "bias": False}, (f(4),)),
    ("LSTMCell", (4, 3), {}, (f(2, 4), (f(2, 3), f(2, 3)))),
    ("LSTMCell", (4, 3), {"bias": False}, (f(2, 4),)),
    ("GRUCell", (4, 3), {}, (f(2, 4), f(2, 3))),
    ("GRUCell", (4, 3), {}, (f(4), f(3))),
)
X, MASK = f(4, 2, 6), np.triu(np.full((4, 4), -np.inf, np.float32), 1)
small = {"dim_feedforward": 8, "dropout": 0.0}
ATTENTION = table(
    ("MultiheadAttention", (6, 2), {}, (X, X, X)),
    ("MultiheadAttention", (6, 2), {"batch_first": True}, (X, f(4, 3, 6), f(4, 3, 6))),
    (
        "MultiheadAttention",
        (6, 3),
        {"kdim": 5, "vdim": 4, "bias": False},
        (X, f(3, 2, 5), f(3, 2, 4)),
    ),
    ("MultiheadAttention", (6, 2), {"add_bias_kv": True, "add_zero_attn": True}, (X, X, X)),
    ("MultiheadAttention", (6, 2), {}, (f(4, 6), f(3, 6), f(3, 6))),
    (
        "MultiheadAttention",
        (6, 2),
        {"add_zero_attn": True},
        (X, X, X, np.array([[False, True, False, False]] * 2), True, np.isinf(MASK), False),
    ),
    (
        "MultiheadAttention",
        (6, 2),
        {},
        (X, X, X, None, False, np.isinf(MASK), True, True),
    ),
    ("MultiheadAttention", (6, 2), {}, (X, X, X, None, False, f(4, 4, 4))),
    ("TransformerEncoderLayer", (6, 2), small, (X,)),
    ("TransformerEncoderLayer", (6, 2), {**small, "norm_first": True, "activation": "gelu"}, (X,)),
    ("TransformerEncoderLayer", (6, 2), {**small, "bias": False, "batch_first": True}, (X,)),
    ("TransformerDecoderLayer", (6, 2), small, (X, f(3, 2, 6))),
    ("TransformerDecoderLayer", (6, 2), {**small, "norm_first": True}, (X, f(3, 2, 6), MASK)),
    ("Transformer", (6, 2, 1, 2), small, (X, f(3, 2, 6))),
)
CASES = [
    *LINEAR, *CONV, *POOL, *NORM, *ACTIVATION, *PLACE, *TABLE, *LOSS, *SEQUENCE, *ATTENTION,
]  # fmt: skip


def convert(value, to):
    """Arrays inside tuples, lists and dicts as tensors of one of the two frameworks."""
    if isinstance(value, np.ndarray):
        return to(value)
    if isinstance(value, (tuple, list)):
        return type(value)(convert(v, to) for v in value)
    if isinstance(value, dict):
        return {k: convert(v, to) for k, v in value.items()}
    return value


def to_torch(array):
    return torch.from_numpy(array.copy())


def to_amity(array):
    return amity.from_numpy(array.copy())


def pair(name, args, kwargs):
    """The layer in both frameworks, with the same state."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, name)(*convert(args, to_torch), **convert(kwargs, to_torch))
    ours = getattr(nn, name)(*convert(args, to_amity), **convert(kwargs, to_amity))
    state = {k: to_amity(v.numpy()) for k, v in theirs.state_dict().items()}
    ours.load_state_dict(state)
    return theirs, ours


def leaves(value):
    """All tensors of nested tuples, as a flat list."""
    if isinstance(value, (tuple, list)):
        return [leaf for v in value for leaf in leaves(v)]
    return [value] if hasattr(value, "requires_grad") else []


def floats(inputs):
    return [t for t in leaves(inputs) if t.is_floating_point()]


def close(ours, theirs, what):
    if theirs is None:
        assert ours is None, what
        return
    theirs = theirs.detach().numpy()
    assert tuple(ours.shape) == theirs.shape, what
    ours = ours.detach().numpy()
    assert ours.dtype == theirs.dtype, what
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=2e-5, err_msg=what)


@pytest.mark.parametrize("name, args, kwargs, inputs", CASES)
def test_state_and_printing(name, args, kwargs, inputs):
    theirs = getattr(torch.nn, name)(*convert(args, to_torch), **convert(kwargs, to_torch))
    ours = getattr(nn, name)(*convert(args, to_amity), **convert(kwargs, to_amity))
    assert repr(ours) == repr(theirs)
    expected = {k: tuple(v.shape) for k, v in theirs.state_dict().items()}
    assert {k: tuple(v.shape) for k, v in ours.state_dict().items()} == expected
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [k for k, _ in ours.named_parameters()] == [k for k, _ in theirs.named_parameters()]


@pytest.mark.parametrize("name, args, kwargs, inputs", CASES)
def test_outputs_and_gradients(name, args, kwargs, inputs):
    theirs, ours = pair(name, args, kwargs)
    their_inputs, our_inputs = convert(inputs, to_torch), convert(inputs, to_amity)
    # PyTorch gives no gradient for the targets of these
    is_trained = name not in ("BCELoss", "SoftMarginLoss", "MultiMarginLoss")
    for tensor in [*floats(their_inputs), *floats(our_inputs)] if is_trained else ():
        tensor.requires_grad_(True)
    their_outputs, our_outputs = leaves(theirs(*their_inputs)), leaves(ours(*our_inputs))
    assert len(our_outputs) == len(their_outputs)
    for i, (a, b) in enumerate(zip(our_outputs, their_outputs)):
        close(a, b, f"output {i}")
    total, our_total = 0, 0
    for a, b in zip(our_outputs, their_outputs):
        if b.requires_grad:
            weights = rng.standard_normal(tuple(b.shape)).astype(np.float32)
            total = total + (b * to_torch(np.asarray(weights))).sum()
            our_total = our_total + (a * to_amity(np.asarray(weights))).sum()
    if hasattr(total, "backward"):
        total.backward()
        our_total.backward()
    for i, (a, b) in enumerate(zip(floats(our_inputs), floats(their_inputs))):
        close(a.grad, b.grad, f"gradient of input {i}")
    for (key, a), (_, b) in zip(ours.named_parameters(), theirs.named_parameters()):
        close(a.grad, b.grad, f"gradient of {key}")
    for (key, a), (_, b) in zip(ours.named_buffers(), theirs.named_buffers()):
        close(a, b, f"buffer {key} after forward")


@pytest.mark.parametrize("name, args, kwargs, inputs", NORM)
def test_norms_in_evaluation(name, args, kwargs, inputs):
    theirs, ours = pair(name, args, kwargs)
    for module, to in ((theirs, to_torch), (ours, to_amity)):
        module(*convert(inputs, to))
        module.eval()
    close(ours(to_amity(inputs[0])), theirs(to_torch(inputs[0])), "output")


DONE_ELSEWHERE = {
    "Container": "deprecated since 2017, and only a Module",
    "DataParallel": "several devices in one process: belongs to dist",
    "SyncBatchNorm": "statistics across processes: belongs to dist",
    "LinearCrossEntropyLoss": "a prototype whose arguments still change",
    "LinearCrossEntropyOptions": "a prototype whose arguments still change",
}
TESTED_ELSEWHERE = {
    "Module", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict",
    "Parameter", "Buffer", "UninitializedParameter", "UninitializedBuffer", "RNNBase",
    "RNNCellBase", "RReLU", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout",
    "TransformerEncoder", "TransformerDecoder", "CrossMapLRN2d", "NLLLoss2d",
}  # fmt: skip


def test_no_layer_is_missing():
    names = {n for n in dir(torch.nn) if isinstance(getattr(torch.nn, n), type)}
    assert names - set(dir(nn)) == set(DONE_ELSEWHERE)
    tabled = {case.values[0] for case in CASES}
    untested = {n for n in names & set(dir(nn)) if n not in tabled and not n.startswith("Lazy")}
    assert untested == TESTED_ELSEWHERE


def test_layers_take_pytorchs_arguments():
    for name in sorted(set(dir(nn)) & set(dir(torch.nn))):
        theirs, ours = getattr(torch.nn, name), getattr(nn, name)
        if not isinstance(theirs, type) or name in ("Parameter", "Buffer"):
            continue
        if name.startswith(("Uninitialized", "Container")):
            continue
        wanted, given = (inspect.signature(c.__init__).parameters for c in (theirs, ours))
        if any(p.kind is p.VAR_POSITIONAL for p in given.values()):
            continue
        assert list(given) == list(wanted), name
        for key, parameter in wanted.items():
            default = given[key].default
            if not callable(parameter.default) or parameter.default is inspect.Parameter.empty:
                assert default == parameter.default, (name, key)


def test_older_argument_names_warn():
    with pytest.warns(FutureWarning, match="`min_value`"):
        assert nn.Hardtanh(min_value=-3.0).min_val == -3
    with pytest.warns(FutureWarning, match="`max_value`"):
        assert nn.Hardtanh(max_value=3.0).max_val == 3
    with pytest.raises(ValueError, match="max_val must be larger"):
        nn.Hardtanh(1.0, 1.0)
    with pytest.warns(UserWarning, match="reduction='sum'"):
        assert nn.MSELoss(size_average=False).reduction == "sum"
    with pytest.warns(UserWarning, match="reduction='none'"):
        assert nn.NLLLoss(reduce=False).reduction == "none"


@pytest.mark.parametrize(
    "build, error, text",
    [
        (lambda: nn.Bilinear(0, 2, 3), ValueError, "in1_features must be > 0"),
        (lambda: nn.Conv2d(3, 4, 2, groups=2), ValueError, "in_channels must be divisible"),
        (lambda: nn.Conv2d(4, 3, 2, groups=2), ValueError, "out_channels must be divisible"),
        (lambda: nn.Conv2d(4, 4, 2, groups=0), ValueError, "groups must be a positive integer"),
        (lambda: nn.Conv2d(4, 4, 2, padding="full"), ValueError, "Invalid padding string 'full'"),
        (lambda: nn.Conv2d(4, 4, 2, 2, padding="same"), ValueError, "strided convolutions"),
        (lambda: nn.Conv2d(4, 4, 2, padding_mode="wrap"), ValueError, "padding_mode must be one"),
        (
            lambda: nn.ConvTranspose1d(4, 4, 2, padding_mode="reflect"),
            ValueError,
            'Only "zeros" padding mode',
        ),
        (lambda: nn.GroupNorm(3, 4), ValueError, "must be divisible by num_groups"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, "padding_idx=3"),
        (lambda: nn.Embedding(3, 2, _weight=amity.ones(2, 2)), ValueError, r"expected \(3, 2\)"),
        (lambda: nn.Embedding.from_pretrained(amity.ones(3)), ValueError, "1 dimensions"),
        (lambda: nn.Unflatten("a", (1,)), TypeError, "expected int for dim"),
        (lambda: nn.Unflatten(1, 3), TypeError, "tuple or list of ints"),
        (lambda: nn.Unflatten(1, (1.5,)), TypeError, "element of type float at pos 0"),
        (lambda: nn.MultiMarginLoss(p=3), ValueError, "only p == 1 and p == 2"),
        (lambda: nn.MultiMarginLoss(weight=amity.ones(1, 1)), ValueError, "got 2D"),
        (lambda: nn.TripletMarginLoss(margin=0), ValueError, "margin to be greater than 0"),
        (lambda: nn.TripletMarginWithDistanceLoss(margin=0), ValueError, "margin to be greater"),
        (lambda: nn.FractionalMaxPool2d(2), ValueError, "requires specifying either"),
        (lambda: nn.FractionalMaxPool2d(2, 2, 0.5), ValueError, "only one of"),
        (lambda: nn.FractionalMaxPool2d(2, output_ratio=1.5), ValueError, "between 0 and 1"),
        (lambda: nn.FractionalMaxPool2d(0, 2), ValueError, "greater than zero"),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 5, []), ValueError, "length larger than 0"),
        (lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 5, [3, 2]), ValueError, "increasing order"),
    ],
)
def test_wrong_arguments(build, error, text):
    with pytest.raises(error, match=text):
        build()


@pytest.mark.parametrize(
    "module, shape, text",
    [
        (nn.BatchNorm1d(2), (2,), "expected 2D or 3D input"),
        (nn.BatchNorm2d(2), (2, 2, 2), "expected 4D input"),
        (nn.BatchNorm3d(2), (2, 2, 2), "expected 5D input"),
        (nn.InstanceNorm1d(2), (2,), "expected 2D or 3D input"),
        (nn.InstanceNorm2d(2, affine=True), (1, 3, 4, 4), r"num_features \(2\), but got: 3"),
        (nn.CircularPad1d(1), (2,), "expected 2D or 3D input"),
        (nn.Softmax2d(), (2, 2), "expected input to be 3D or 4D"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else "",
)
def test_wrong_dimensions(module, shape, text):
    with pytest.raises(ValueError, match=text):
        module(amity.ones(*shape))


def test_output_size_of_transposed_convolution():
    theirs, ours = pair("ConvTranspose2d", (2, 3, 3), {"stride": 2, "padding": 1})
    x = f(1, 2, 4, 5)
    for size in ([8, 10], [7, 9], (1, 3, 8, 9)):
        close(ours(to_amity(x), output_size=size), theirs(to_torch(x), output_size=size), str(size))
    with pytest.raises(ValueError, match="valid sizes range from"):
        ours(to_amity(x), output_size=[6, 9])
    with pytest.raises(ValueError, match="must have 2 or 4 elements"):
        ours(to_amity(x), output_size=[1, 2, 3])


def test_pretrained_tables():
    weight = amity.from_numpy(f(3, 2))
    for cls in (nn.Embedding, nn.EmbeddingBag):
        frozen = cls.from_pretrained(weight, padding_idx=1)
        assert not frozen.weight.requires_grad and frozen.weight.data_ptr() == weight.data_ptr()
        assert cls.from_pretrained(weight, freeze=False).weight.requires_grad
        assert frozen.padding_idx == 1


def test_padding_row_starts_at_zero_and_stays():
    m = nn.Embedding(4, 3, padding_idx=2)
    assert not m.weight[2].detach().numpy().any()
    m(amity.tensor([2, 1])).sum().backward()
    assert not m.weight.grad[2].numpy().any() and m.weight.grad[1].numpy().all()


def test_norms_load_checkpoints_without_a_count():
    m = nn.BatchNorm1d(2)
    state = {k: v for k, v in m.state_dict().items() if k != "num_batches_tracked"}
    m.num_batches_tracked.add_(3)
    m.load_state_dict(state)
    assert m.num_batches_tracked.item() == 3
    state = {"running_mean": amity.zeros(2), "running_var": amity.ones(2)}
    nn.InstanceNorm1d(2, track_running_stats=True).load_state_dict(state)


def test_running_statistics_can_be_reset():
    m = nn.BatchNorm1d(2)
    m(amity.from_numpy(f(4, 2)))
    assert m.num_batches_tracked.item() == 1 and m.running_mean.numpy().any()
    m.reset_running_stats()
    assert m.num_batches_tracked.item() == 0 and not m.running_mean.numpy().any()
    assert m.running_var.tolist() == [1, 1]


def test_adaptive_softmax_predicts():
    theirs, ours = pair("AdaptiveLogSoftmaxWithLoss", (8, 12, [3, 7]), {"div_value": 2.0})
    x = f(6, 8)
    close(ours.log_prob(to_amity(x)), theirs.log_prob(to_torch(x)), "log_prob")
    assert ours.predict(to_amity(x)).tolist() == theirs.predict(to_torch(x)).tolist()
    for target in (amity.tensor([0, 12, 1, 1, 1, 1]), amity.zeros(2, 2, dtype=amity.int64)):
        with pytest.raises(RuntimeError):
            ours(to_amity(x), target)
    with pytest.raises(RuntimeError, match="expected the same number"):
        ours(to_amity(x), amity.tensor([1]))
    old = ours.head.weight.detach().numpy().copy()
    ours.reset_parameters()
    assert not np.array_equal(old, ours.head.weight.detach().numpy())
