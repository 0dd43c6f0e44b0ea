"""Resizing, grids, blocks, shuffles, bags, pairs and further poolings, against PyTorch."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402

X = "float32[2,3,7,6]"
pytestmark = [
    pytest.mark.filterwarnings("ignore:Default .* behavior has changed"),
    pytest.mark.filterwarnings("ignore:Since version 1.3.0, affine_grid behavior has changed"),
]


def arrays_of(specs):
    """`float32[3,4]` as fixed random numbers; arrays as they are."""
    out = {}
    for name, spec in specs.items():
        if isinstance(spec, str):
            kind, _, sizes = spec.rstrip("]").partition("[")
            values = 2 * np.random.default_rng(len(name + spec)).standard_normal(
                eval(f"({sizes},)")
            )
            spec = (np.abs(9 * values) if kind == "uint8" else values).astype(kind)
        out[name] = spec
    return out


def outcome(library, functions, make, text, arrays, order):
    """Results and gradients of a weighted sum of them, or the error."""
    inputs = {k: make(v.copy()) for k, v in arrays.items()}
    leaves = [t for t in inputs.values() if order and t.is_floating_point()]
    for t in leaves:
        t.requires_grad_(True)
    try:
        out = eval(text, {"F": functions, "m": library, **inputs})
        out = out if isinstance(out, tuple) else (out,)
        total = 0
        for i, t in enumerate(out):
            if t.requires_grad:
                weight = np.random.default_rng(i).standard_normal(tuple(t.shape)) + 1.5
                total = total + (t * make(np.asarray(weight)).to(t.dtype)).sum()
        if leaves and not isinstance(total, int):
            total.backward()
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        return error
    return [t.detach().numpy() for t in out] + [
        None if t.grad is None else t.grad.numpy() for t in leaves
    ]


def match(text, order=0, tolerance=2e-5, **specs):
    """Both libraries give the same results and gradients, or errors of one class."""
    arrays = arrays_of(specs)
    expected = outcome(torch, torch.nn.functional, torch.from_numpy, text, arrays, order)
    got = outcome(amity, amity.ops, amity.from_numpy, text, arrays, order)
    if isinstance(expected, Exception):
        classes = (NotImplementedError, RuntimeError, ValueError, TypeError, IndexError)
        wanted = next(c for c in classes if isinstance(expected, c))
        assert isinstance(got, wanted), f"got {got!r}; expected {expected!r}"
        return
    assert not isinstance(got, Exception), f"got {got!r}"
    assert len(got) == len(expected)
    for a, b in zip(got, expected):
        if a is None or b is None:
            assert (a is None or not a.any()) and (b is None or not b.any())
            continue
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
@pytest.mark.parametrize(
    "to",
    [
        "size=(5, 9)",
        "size=13",
        "size=(1, 1)",
        "scale_factor=2",
        "scale_factor=(0.6, 1.7)",
        "scale_factor=1.3, recompute_scale_factor=True",
    ],
)
def test_interpolate_images(mode, to):
    match(f"F.interpolate(x, {to}, mode='{mode}')", order=1, x=X)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("to", ["size=(5, 9)", "size=(1, 6)", "scale_factor=2.5"])
def test_interpolate_with_aligned_corners(mode, to):
    match(f"F.interpolate(x, {to}, mode='{mode}', align_corners=True)", order=1, x=X)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("to", ["size=(3, 4)", "size=(9, 3)", "scale_factor=0.4"])
def test_interpolate_antialiased(mode, to):
    text = f"F.interpolate(x, {to}, mode='{mode}', antialias=True)"
    match(text, order=1, tolerance=1e-4, x=X)


@pytest.mark.parametrize(
    "text, x",
    [
        ("F.interpolate(x, 5, mode='linear')", "float32[2,3,4]"),
        ("F.interpolate(x, scale_factor=2, mode='trilinear')", "float32[1,2,3,2,4]"),
        ("F.interpolate(x, (5, 3, 2), mode='nearest')", "float32[1,2,3,2,4]"),
        ("F.interpolate(x, 5, mode='bilinear')", "float64[1,2,3,4]"),
        ("F.interpolate(x, 5)", "uint8[1,2,3]"),
        ("F.interpolate(x)", X),
        ("F.interpolate(x, 3, 2)", X),
        ("F.interpolate(x, (3, 3, 3))", X),
        ("F.interpolate(x, scale_factor=(3, 3, 3))", X),
        ("F.interpolate(x, 3, mode='nearest', align_corners=True)", X),
        ("F.interpolate(x, 3, mode='linear')", X),
        ("F.interpolate(x, 3, antialias=True)", X),
        ("F.interpolate(x, 3, recompute_scale_factor=True)", X),
        ("F.interpolate(x, 0)", X),
    ],
)
def test_interpolate_other_inputs(text, x):
    match(text, order=1 if x.startswith("float") else 0, x=x)


GRID = "float32[2,4,5,2]"


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [True, False])
def test_grid_sample(mode, padding, corners):
    text = f"F.grid_sample(x, g, '{mode}', '{padding}', {corners})"
    match(text, order=1, tolerance=2e-4, x="float32[2,3,5,4]", g=GRID)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_grid_sample_of_volumes(mode):
    text = f"F.grid_sample(x, g, '{mode}', align_corners=False)"
    match(text, order=1, tolerance=2e-4, x="float32[1,2,3,4,3]", g="float32[1,2,2,3,3]")


@pytest.mark.parametrize(
    "text",
    [
        "F.grid_sample(x, g, 'linear')",
        "F.grid_sample(x, g, padding_mode='wrap')",
        "F.grid_sample(x, g[:1])",
        "F.grid_sample(x, g[..., :1])",
        "F.affine_grid(t, (2, 3, 4))",
        "F.affine_grid(t, (2, 3, 4, 5, 6))",
        "F.affine_grid(t, (2, 3, 0, 5))",
    ],
)
def test_grid_errors(text):
    match(text, x="float32[2,3,5,4]", g=GRID, t="float32[2,2,3]")


@pytest.mark.parametrize("corners", [True, False])
def test_affine_grid(corners):
    match(f"F.affine_grid(t, (2, 3, 4, 5), {corners})", order=1, t="float32[2,2,3]")
    match(f"F.affine_grid(t, (1, 2, 3, 1, 4), {corners})", order=1, t="float32[1,3,4]")


@pytest.mark.parametrize(
    "text",
    [
        "F.unfold(x, 3)",
        "F.unfold(x, (2, 3), dilation=2, padding=1)",
        "F.unfold(x[0], 2, stride=(3, 2))",
        "F.unfold(x, 9)",
        "F.unfold(x, 0)",
        "F.fold(x.reshape(2, 18, 7), (2, 8), (1, 2), stride=(2, 1))",
        "F.fold(x.reshape(2, 12, -1)[..., :20], (5, 6), 2)",
        "F.fold(x.reshape(2, 12, -1)[..., :9], (5, 4), 2, padding=1, stride=2)",
        "F.fold(x[0].reshape(6, -1)[:, :12], (5, 6), (2, 3), dilation=(1, 2), padding=(0, 1))",
        "F.fold(x, (5, 6), 2)",
        "F.fold(x.reshape(2, 18, 7)[..., :6], (6, 9), 3, stride=3)",
        "F.fold(x.reshape(2, 18, 7)[0, :, :6], (6, 6), (3, 2), stride=(3, 2))",
        "F.fold(x.reshape(2, 18, 7), (5, 6), 4)",
        "F.fold(x.reshape(2, 18, 7), (5, 6), 3)",
    ],
)
def test_blocks(text):
    match(text, order=1, x=X)


@pytest.mark.parametrize(
    "text",
    [
        "F.pixel_shuffle(x.reshape(1, 12, 7, 3), 2)",
        "F.pixel_shuffle(x[0].reshape(18, 7, 1), 3)",
        "F.pixel_shuffle(x, 2)",
        "F.pixel_shuffle(x[0, 0], 2)",
        "F.pixel_shuffle(x, -1)",
        "F.pixel_unshuffle(x[:, :, :6], 3)",
        "F.pixel_unshuffle(x, 2)",
        "F.pixel_unshuffle(x, 0)",
        "F.channel_shuffle(x.reshape(2, 6, 7, 3), 3)",
        "F.channel_shuffle(x, 2)",
        "F.channel_shuffle(x[0, 0], 2)",
        "F.local_response_norm(x, 3)",
        "F.local_response_norm(x[0], 2, alpha=0.3, beta=0.5, k=2.0)",
        "F.local_response_norm(x[0, 0], 2)",
        "F.pdist(x[0, 0])",
        "F.pdist(x[0, 0], 1)",
        "F.pdist(x[0, 0, :1])",
        "F.pdist(x)",
        "F.bilinear(x, x[..., :4], w)",
        "F.bilinear(x, x[..., :4], w, w[:, 0, 0])",
        "F.bilinear(x, x, w)",
        "F.bilinear(x, x[0, ..., :4], w)",
    ],
)
def test_rearrangements_and_pairs(text):
    match(text, order=1, tolerance=5e-5, x=X, w="float32[5,6,4]")


@pytest.mark.parametrize(
    "text",
    [
        "F.adaptive_avg_pool2d(x, (3, 4))",
        "F.adaptive_avg_pool2d(x, (7, None))",
        "F.adaptive_avg_pool2d(x, 1)",
        "F.adaptive_avg_pool2d(x[0], (9, 2))",
        "F.adaptive_avg_pool1d(x[0], 4)",
        "F.adaptive_max_pool2d(x, (3, 4), True)",
        "F.adaptive_max_pool2d(x, (7, 3), True)",
        "F.adaptive_max_pool2d(x[0], (9, None))",
        "F.adaptive_max_pool1d(x[0], 4, True)",
        "F.adaptive_avg_pool2d(x, (3, 4, 5))",
        "F.adaptive_avg_pool2d(x[0, 0], 2)",
        "F.adaptive_avg_pool2d(x, -1)",
        "F.lp_pool2d(x.abs() + 0.1, 3, 2)",
        "F.lp_pool2d(x, 2, (2, 3), stride=1, ceil_mode=True)",
        "F.lp_pool1d(x[0], 2, 3)",
        "F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)",
        "F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(7, 6))",
        "F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2, output_size=(9, 6))",
        "F.max_unpool1d(*F.max_pool1d(x[0], 3, 2, return_indices=True), 3, 2)",
        "F.fractional_max_pool2d(x, 2)",
        "F.fractional_max_pool2d(x, 2, output_size=(6, 9))",
        "F.fractional_max_pool2d(x, 2, (3, 4), None, True, u)",
        "F.fractional_max_pool2d(x, (3, 2), None, (0.5, 0.6), True, u)",
        "F.fractional_max_pool2d(x, 2, 1, None, True, u)",
    ],
)
def test_poolings(text):
    u = np.random.default_rng(0).random((2, 3, 2)).astype(np.float32)
    match(text.replace("u)", "u.detach())"), order=1, x=X, u=u)


W, I = "float32[7,4]", np.array([1, 2, 4, 5, 4, 3, 2, 6])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize(
    "rest",
    [
        "i.reshape(2, 4), w",
        "i, w, o",
        "i, w, o, include_last_offset=True",
        "i, w, o, padding_idx=4",
        "i.reshape(4, 2), w, padding_idx=-3",
    ],
)
def test_embedding_bag(mode, rest):
    text = f"F.embedding_bag({rest}, mode='{mode}')"
    match(text, order=1, i=I, w=W, o=np.array([0, 3, 3, 8]))


@pytest.mark.parametrize(
    "text",
    [
        "F.embedding_bag(i, w, o, mode='sum', per_sample_weights=s)",
        "F.embedding_bag(i.reshape(2, 4), w, mode='sum', per_sample_weights=s.reshape(2, 4))",
        "F.embedding_bag(i, w, o, mode='mean', per_sample_weights=s)",
        "F.embedding_bag(i, w, o, mode='sum', per_sample_weights=s[:2])",
        "F.embedding_bag(i, w, o, mode='median')",
        "F.embedding_bag(i, w)",
        "F.embedding_bag(i.reshape(2, 4), w, o)",
        "F.embedding_bag(i.reshape(2, 2, 2), w)",
        "F.embedding_bag(i, w, o.reshape(2, 2))",
        "F.embedding_bag(i, w, o + 1)",
        "F.embedding_bag(w[:, 0], w, o)",
    ],
)
def test_embedding_bag_options(text):
    match(text, order=1, i=I, w=W, o=np.array([0, 3, 3, 7]), s="float32[8]")


TARGETS = np.array([[1, 2, 2, 0], [3, 1, 0, 0], [4, 0, 0, 0]])


@pytest.mark.parametrize(
    "options",
    [
        "reduction='none'",
        "reduction='sum'",
        "",
        "zero_infinity=True",
    ],
)
@pytest.mark.parametrize("lengths", ["(7, 5, 6), (3, 2, 1)", "(7, 2, 6), (3, 2, 0)"])
def test_ctc(options, lengths):
    text = f"F.ctc_loss(x.log_softmax(2), t, {lengths}, {options})"
    match(text, order=1, tolerance=1e-4, x="float32[7,3,5]", t=TARGETS)


@pytest.mark.parametrize(
    "text",
    [
        "F.ctc_loss(x, t, (7, 7, 7), (3, 2, 1))",
        "F.ctc_loss(x[:, 0], t[0, :3], (7,), (3,))",
        "F.ctc_loss(x, t.reshape(-1)[:6], (7, 7, 7), (3, 2, 1))",
        "F.ctc_loss(x, t, m.tensor([7, 7, 7]), m.tensor([3, 2, 1]))",
        "F.ctc_loss(x.double(), t, (7, 7, 7), (3, 2, 1), reduction='none')",
        "F.ctc_loss(x, t, (7, 8, 7), (3, 2, 1))",
        "F.ctc_loss(x, t, (7, 7), (3, 2, 1))",
        "F.ctc_loss(x, t, (7, 7, 7), (3, 2))",
        "F.ctc_loss(x, t, (7, 7, 7), (3, 5, 1))",
        "F.ctc_loss(x, t, (7, 7, 7), (3, 2, 1), blank=5)",
        "F.ctc_loss(x, t, (7, 7, 7), (3, 2, 1), reduction='max')",
    ],
)
def test_ctc_inputs(text):
    probs = np.log(np.random.default_rng(0).dirichlet(np.ones(5), (7, 3))).astype(np.float32)
    match(text, order=1, tolerance=1e-4, x=probs, t=TARGETS)


def test_embedding_bag_scales_gradients_by_frequency():
    """Against the definition: PyTorch divides by the counts of other rows."""
    index, weight = amity.tensor([1, 2, 2, 2]), amity.ones(4, 1, requires_grad=True)
    offsets = amity.tensor([0, 2])
    out = amity.ops.embedding_bag(index, weight, offsets, scale_grad_by_freq=True, mode="sum")
    out.sum().backward()
    assert out.reshape(-1).tolist() == [2, 2]
    np.testing.assert_allclose(weight.grad.reshape(-1).numpy(), [0, 1, 1, 0], rtol=1e-6)


def test_ctc_with_another_blank():
    text = "F.ctc_loss(x.log_softmax(2), (t + 1) % 5, (7, 5, 6), (3, 2, 1), 1, 'none')"
    match(text, order=1, tolerance=1e-4, x="float32[7,3,5]", t=TARGETS)
