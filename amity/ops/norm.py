"""Normalisation: each a single fused kernel forward and backward."""

from __future__ import annotations

from amity.core.dtype import finfo

from .record import ErrorSample, Sample, composite, opmath
from .reduce import SUM, count_of

F = "f"


def _wide(x):
    """A 16-bit input as float32: parameters and statistics may be float32 beside it."""
    return x.to(opmath(x.dtype))


def _moments(x, dims):
    """Mean and (biased) variance over dims, which stay as size 1."""
    n = count_of(x.shape, dims)
    mean = SUM(x, dims, True) / n
    centred = x - mean
    return mean, SUM(centred * centred, dims, True) / n


def _normalized_grad(g, hat, rstd, dims):
    """The gradient through `hat = (x - mean) * rstd`."""
    n = count_of(hat.shape, dims)
    return rstd * (g - SUM(g, dims, True) / n - hat * (SUM(g * hat, dims, True) / n))


# -- layer norm


def _leading(x, dims):
    return tuple(d for d in range(x.ndim) if d not in dims)


def _layer_norm_grad(g, input, weight, bias, count, eps):
    dims = tuple(range(input.ndim - count, input.ndim))
    x, g = _wide(input), _wide(g)
    mean, var = _moments(x, dims)
    rstd = (var + eps).rsqrt()
    hat = (x - mean) * rstd
    lead = _leading(input, dims)
    gx = _normalized_grad(g if weight is None else g * weight, hat, rstd, dims)
    gw = None if weight is None else SUM(g * hat, lead, False)
    gb = None if bias is None else SUM(g, lead, False)
    return tuple(v for v, a in ((gx, input), (gw, weight), (gb, bias)) if a is not None)


@composite(grad=_layer_norm_grad, samples=(
    Sample(((3, 4), F), ((4,), F), ((4,), F), count=1, eps=1e-5), Sample(((2, 3, 4), F), None, None, count=2, eps=1e-5),
), errors=(ErrorSample(((2, 3), F), ((2,), F), None, count=1, eps=1e-5, error=RuntimeError, says="broadcast"),)
)  # fmt: skip
def _layer_norm(input, weight, bias, count, eps):
    x = _wide(input)
    mean, var = _moments(x, tuple(range(input.ndim - count, input.ndim)))
    y = (x - mean) * (var + eps).rsqrt()
    y = y if weight is None else y * weight
    return (y if bias is None else y + bias).to(input.dtype)


def _check_normalized(name, input, normalized_shape):
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            f"{name}: Expected normalized_shape to be at least 1-dimensional, i.e., containing "
            f"at least one element, but got normalized_shape = {list(shape)}"
        )
    if tuple(input.shape[-len(shape) :]) != shape:
        raise RuntimeError(
            f"{name}: Given normalized_shape={list(shape)}, expected input with shape [*, "
            f"{', '.join(map(str, shape))}], but got input of size{list(input.shape)}"
        )
    return shape


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """Mean 0 and variance 1 over the last dimensions, then scaled and shifted.

    shape:  input [*, *normalized_shape]; weight and bias of normalized_shape
    errors: RuntimeError if the shapes do not fit
    source: Ba, Kiros & Hinton 2016, arXiv:1607.06450
    """
    shape = _check_normalized("layer_norm", input, normalized_shape)
    for name, t in (("weight", weight), ("bias", bias)):
        if t is not None and tuple(t.shape) != shape:
            raise RuntimeError(
                f"layer_norm: Expected {name} to be of same shape as normalized_shape, but got "
                f"{name} of shape {list(t.shape)} and normalized_shape = {list(shape)}"
            )
    if input.numel() == 0:
        return input * 1
    return _layer_norm(input, weight, bias, len(shape), eps)


def _rms_norm_grad(g, input, weight, count, eps):
    dims = tuple(range(input.ndim - count, input.ndim))
    n = count_of(input.shape, dims)
    x, g = _wide(input), _wide(g)
    scale = (SUM(x * x, dims, True) / n + eps).rsqrt()
    hat = x * scale
    gy = g if weight is None else g * weight
    gx = scale * (gy - hat * (SUM(gy * hat, dims, True) / n))
    if weight is None:
        return (gx,)
    return gx, SUM(g * hat, _leading(input, dims), False)


@composite(grad=_rms_norm_grad, samples=(
    Sample(((3, 4), F), ((4,), F), count=1, eps=1e-5), Sample(((2, 3, 4), F), None, count=2, eps=1e-5),
), errors=(ErrorSample(((2, 3), F), ((2,), F), count=1, eps=1e-5, error=RuntimeError, says="broadcast"),)
)  # fmt: skip
def _rms_norm(input, weight, count, eps):
    dims = tuple(range(input.ndim - count, input.ndim))
    x = _wide(input)
    y = x * (SUM(x * x, dims, True) / count_of(input.shape, dims) + eps).rsqrt()
    return (y if weight is None else y * weight).to(input.dtype)


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """Divided by the root mean square over the last dimensions, then scaled.

    source: Zhang & Sennrich 2019, arXiv:1910.07467
    """
    shape = _check_normalized("rms_norm", input, normalized_shape)
    return _rms_norm(input, weight, len(shape), finfo(input.dtype).eps if eps is None else eps)


# -- batch norm


def _per_channel(v, ndim):
    return v.reshape((1, -1) + (1,) * (ndim - 2)) if ndim != 1 else v


def _batch_norm_grad(gs, input, weight, bias, eps, y1, y2):
    g, gmean, gvar = gs
    dims = _batch_dims(input)
    rstd = _per_channel((y2 + eps).rsqrt(), input.ndim)
    g = _wide(g)
    centred = _wide(input) - _per_channel(y1, input.ndim)
    hat = centred * rstd
    gx = _normalized_grad(
        g if weight is None else g * _per_channel(weight, input.ndim), hat, rstd, dims
    )
    share = _per_channel(gmean, input.ndim) + centred * (2 * _per_channel(gvar, input.ndim))
    gx = gx + share / count_of(input.shape, dims)
    gw = None if weight is None else SUM(g * hat, dims, False)
    gb = None if bias is None else SUM(g, dims, False)
    return tuple(v for v, a in ((gx, input), (gw, weight), (gb, bias)) if a is not None)


def _batch_dims(x):
    return (0, *range(2, x.ndim))


@composite(
    grad=_batch_norm_grad,
    samples=(
        Sample(((4, 3, 2, 2), F), ((3,), F), ((3,), F), eps=1e-5),
        Sample(((4, 3), F), None, None, eps=1e-5),
    ),
    errors=(
        ErrorSample(((4, 3), F), ((2,), F), None, eps=1e-5, error=RuntimeError, says="broadcast"),
    ),
)
def _batch_norm_train(input, weight, bias, eps):
    """The result, and the mean and variance of the batch."""
    dims = _batch_dims(input)
    x = _wide(input)
    mean, var = _moments(x, dims)
    y = (x - mean) * (var + eps).rsqrt()
    y = y if weight is None else y * _per_channel(weight, input.ndim)
    y = y if bias is None else y + _per_channel(bias, input.ndim)
    return y.to(input.dtype), mean.reshape(-1), var.reshape(-1)


@composite(
    samples=(
        Sample(((4, 3, 2, 2), F), ((3,), F), ((3,), "p"), ((3,), F), ((3,), F), eps=1e-5),
        Sample(((0, 3), F), ((3,), F), ((3,), "p"), None, None, eps=1e-5),
    ),
    errors=(
        ErrorSample(
            ((4, 3), F),
            ((2,), F),
            ((2,), "p"),
            None,
            None,
            eps=1e-5,
            error=RuntimeError,
            says="broadcast",
        ),
    ),
)
def _batch_norm_eval(input, mean, var, weight, bias, eps):
    n = input.ndim
    scale = (_per_channel(var, n) + eps).rsqrt()  # first, so that the rest is one kernel
    scale = scale if weight is None else scale * _per_channel(weight, n)
    y = scale * (input - _per_channel(mean, n))
    return (y if bias is None else y + _per_channel(bias, n)).to(input.dtype)


def batch_norm(
    input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5
):
    """Mean 0 and variance 1 for each channel, over the batch in training, else by running statistics.

    shape:  input [N, C, ...]; the others [C]
    errors: RuntimeError if sizes do not fit; ValueError for a batch of one value per channel in training
    source: Ioffe & Szegedy 2015, arXiv:1502.03167
    """
    channels = input.shape[1]
    for name, t in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if t is not None and t.numel() != channels:
            raise RuntimeError(
                f"batch_norm: {name} should contain {channels} elements not {t.numel()}"
            )
    if not training:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "batch_norm: Expected running_mean and running_var to be defined when "
                "training=False"
            )
        return _batch_norm_eval(input, running_mean, running_var, weight, bias, eps)
    count = input.numel() // max(channels, 1)
    if count <= 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )
    y, mean, var = _batch_norm_train(input, weight, bias, eps)
    for running, new in ((running_mean, mean), (running_var, var)):
        if running is not None:
            scale = momentum * (count / (count - 1) if running is running_var else 1)
            running._blend(new, 1 - momentum, scale)
    return y


# -- group and instance norm


def _group_norm_grad(g, input, weight, bias, groups, eps):
    n, c = input.shape[:2]
    shape = (n, groups, c // groups, -1)
    x, g = _wide(input).reshape(shape), _wide(g).reshape(shape)
    mean, var = _moments(x, (2, 3))
    rstd = (var + eps).rsqrt()
    hat = (x - mean) * rstd
    gx = g if weight is None else g * weight.reshape((1, groups, c // groups, 1))
    gx = _normalized_grad(gx, hat, rstd, (2, 3)).reshape(tuple(input.shape))
    gw = None if weight is None else SUM(g * hat, (0, 3), False).reshape((c,))
    gb = None if bias is None else SUM(g, (0, 3), False).reshape((c,))
    return tuple(v for v, a in ((gx, input), (gw, weight), (gb, bias)) if a is not None)


@composite(
    grad=_group_norm_grad,
    samples=(
        Sample(((2, 4, 3), F), ((4,), F), ((4,), F), groups=2, eps=1e-5),
        Sample(((2, 4, 3), F), None, None, groups=4, eps=1e-5),
    ),
    errors=(
        ErrorSample(
            ((2, 4, 3), F), ((3,), F), None, groups=2, eps=1e-5, error=RuntimeError, says="reshape"
        ),
    ),
)
def _group_norm(input, weight, bias, groups, eps):
    n, c = input.shape[:2]
    x = _wide(input).reshape((n, groups, c // groups, -1))
    mean, var = _moments(x, (2, 3))
    y = (x - mean) * (var + eps).rsqrt()
    y = y if weight is None else y * weight.reshape((1, groups, c // groups, 1))
    y = y if bias is None else y + bias.reshape((1, groups, c // groups, 1))
    return y.reshape(tuple(input.shape)).to(input.dtype)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """Mean 0 and variance 1 for each group of channels of each sample.

    errors: RuntimeError if the channels are no multiple of the groups
    source: Wu & He 2018, arXiv:1803.08494
    """
    if input.ndim < 2:
        raise RuntimeError(
            f"Expected at least 2 dimensions for input tensor but received {input.ndim}"
        )
    if input.shape[1] % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input "
            f"of shape {list(input.shape)} and num_groups={num_groups}"
        )
    if input.numel() == 0:
        return input * 1
    return _group_norm(input, weight, bias, num_groups, eps)


def instance_norm(
    input,
    running_mean=None,
    running_var=None,
    weight=None,
    bias=None,
    use_input_stats=True,
    momentum=0.1,
    eps=1e-5,
):
    """Mean 0 and variance 1 for each channel of each sample, or by running statistics.

    source: Ulyanov, Vedaldi & Lempitsky 2016, arXiv:1607.08022
    """
    if not use_input_stats:
        return batch_norm(input, running_mean, running_var, weight, bias, False, momentum, eps)
    count = input.numel() // max(input.shape[0] * input.shape[1], 1)
    if count <= 1:
        raise ValueError(
            f"Expected more than 1 spatial element when training, got input size {input.shape}"
        )
    if running_mean is not None or running_var is not None:
        x = _wide(input.detach())
        dims = tuple(range(2, x.ndim))
        mean, var = _moments(x, dims)
        for running, new, scale in (
            (running_mean, mean, 1),
            (running_var, var, count / (count - 1)),
        ):
            if running is not None:
                running._blend(new.mean(0).reshape(-1), 1 - momentum, momentum * scale)
    return _group_norm(input, weight, bias, input.shape[1], eps)
