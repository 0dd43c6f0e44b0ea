"""Activations: each one op to the user, with the derivative that needs least memory."""

from __future__ import annotations

import math

import numpy as np

from amity.core.shape import canonical_dim, check_dims

from .arguments import numpy_names
from .elementwise import ABS, EXP, GT, LOG1P, NEG, SIGMOID, TANH, costly, maximum, minimum
from .joining import cat, chunk
from .record import (
    INPLACE,
    METHODS,
    NO_TENSOR,
    ErrorSample,
    Sample,
    composite,
    means,
    method,
    pointwise,
    publish,
)
from .reduce import PEAK, SUM, Amax
from .select import WHERE

F = "f"
ONE = (Sample(((3, 4), F)), Sample(((), F)), Sample(((0, 3), F)))
BEYOND = ErrorSample(((3, 4), F), dim=2, error=IndexError, says="imension")


def _relu_code(k, x):
    if x.dtype[0] != "f":
        return k.max(x, 0)
    return k.select(x < 0, 0, x)  # NaN stays


RELU = pointwise(
    "relu",
    lambda x: np.maximum(x, 0),
    _relu_code,
    lambda g, y: WHERE(GT(y, 0), g, 0.0),
    takes="uif",
    samples=ONE,
)
_relu = publish(RELU, "max(0, x).")


def relu(input, inplace=False):
    """max(0, x).

    >>> import amity
    >>> amity.ops.relu(amity.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return input.relu_() if inplace else RELU(input)


METHODS["relu"] = INPLACE["relu"] = relu
means(relu, RELU)
ERF = costly(
    pointwise(
        "erf",
        lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x) if x.size else x,
        lambda k, x: k.math("erf", x),
        lambda g, x: g * EXP(-x * x) * (2 / math.sqrt(math.pi)),
        rule="float",
        samples=ONE,
    )
)
erf = publish(ERF, "The error function.")


def _inplace(input, y, inplace: bool):
    return input._become(y) if inplace else y


@composite(
    samples=(Sample(((3, 4), F), min_val=-0.5, max_val=0.5),),
    errors=NO_TENSOR,
    grad=lambda g, input, min_val, max_val: WHERE(
        (input > min_val).logical_and(input < max_val), g, 0.0
    ),
)
def _hardtanh(input, min_val, max_val):
    return WHERE(input < min_val, min_val, WHERE(input > max_val, max_val, input))


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """x cut to [min_val, max_val]."""
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _inplace(input, _hardtanh(input, min_val, max_val), inplace)


def relu6(input, inplace=False):
    """min(max(0, x), 6)."""
    return hardtanh(input, 0.0, 6.0, inplace)


@composite(samples=(Sample(((3, 4), F), negative_slope=0.1),), errors=NO_TENSOR)
def _leaky_relu(input, negative_slope):
    return WHERE(input > 0, input, input * negative_slope)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where it is positive, else `negative_slope * x`."""
    return _inplace(input, _leaky_relu(input, negative_slope), inplace)


@composite(
    samples=(
        Sample(((3, 4), F), alpha=1.0, scale=1.0, input_scale=1.0),
        Sample(((), F), alpha=0.5, scale=2.0, input_scale=3.0),
    ),
    errors=NO_TENSOR,
)
def _elu(input, alpha, scale, input_scale):
    low = (input * input_scale).expm1() * (alpha * scale)
    return WHERE(input > 0, input * scale, low)


def elu(input, alpha=1.0, inplace=False):
    """x where it is positive, else `alpha * (exp(x) - 1)`."""
    return _inplace(input, _elu(input, alpha, 1.0, 1.0), inplace)


def selu(input, inplace=False):
    """The self-normalising exponential unit. source: Klambauer et al. 2017, arXiv:1706.02515"""
    return _inplace(input, _elu(input, 1.6732632423543772, 1.0507009873554805, 1.0), inplace)


def celu(input, alpha=1.0, inplace=False):
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _inplace(input, _elu(input, alpha, 1.0, 1.0 / alpha), inplace)


ROOT_HALF = math.sqrt(0.5)


def _gelu_grad(g, input, approximate):
    x = input
    if approximate == "tanh":
        inner = _gelu_inner(x)
        t = TANH(inner)
        slope = 0.7978845608028654 * (1 + 3 * 0.044715 * x * x)
        return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope)
    cdf = 0.5 * (1 + ERF(x * ROOT_HALF))
    return g * (cdf + x * EXP(x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


def _gelu_inner(x):
    return 0.7978845608028654 * (x + 0.044715 * x * x * x)


@composite(samples=(Sample(((3, 4), F)), Sample(((3, 4), F), approximate="tanh")), grad=_gelu_grad,
           errors=(ErrorSample(((2,), F), approximate="x", error=RuntimeError, says="approximate"),))  # fmt: skip
def gelu(input, approximate="none"):
    """x times the normal distribution function of x, exactly or by tanh.

    source: Hendrycks & Gimpel 2016, arXiv:1606.08415
    """
    if approximate == "tanh":
        return 0.5 * input * (1 + TANH(_gelu_inner(input)))
    if approximate != "none":
        raise RuntimeError(
            f"gelu: got approximate {approximate!r}; approximate argument must be either none "
            "or tanh."
        )
    return 0.5 * input * (1 + ERF(input * ROOT_HALF))


def _silu_grad(g, input):
    s = SIGMOID(input)
    return g * s * (1 + input * (1 - s))


@composite(samples=ONE, errors=NO_TENSOR, grad=_silu_grad)
def _silu(input):
    return input * SIGMOID(input)


def silu(input, inplace=False):
    """x * sigmoid(x)."""
    return _inplace(input, _silu(input), inplace)


@composite(samples=ONE, errors=NO_TENSOR)
def _mish(input):
    return input * TANH(_softplus_of(input))


def _softplus_of(x):
    """log(1 + exp(x)) without overflow."""
    return maximum(x, 0.0) + LOG1P(EXP(NEG(ABS(x))))


def mish(input, inplace=False):
    """x * tanh(softplus(x))."""
    return _inplace(input, _mish(input), inplace)


@composite(
    samples=(Sample(((3, 4), F)), Sample(((3, 4), F), beta=2.0, threshold=1.0)), errors=NO_TENSOR
)
def softplus(input, beta=1, threshold=20):
    """log(1 + exp(beta * x)) / beta; x itself beyond the threshold."""
    scaled = input * beta
    return WHERE(scaled > threshold, input, _softplus_of(scaled) / beta)


@composite(samples=ONE, errors=NO_TENSOR)
def softsign(input):
    """x / (1 + |x|)."""
    return input / (1 + ABS(input))


@composite(samples=ONE, errors=NO_TENSOR)
def tanhshrink(input):
    """x - tanh(x)."""
    return input - TANH(input)


@composite(samples=ONE, errors=NO_TENSOR)
def logsigmoid(input):
    """log(sigmoid(x)) without overflow."""
    return minimum(input, 0.0) - LOG1P(EXP(NEG(ABS(input))))


METHODS["logsigmoid"] = logsigmoid


@composite(samples=ONE, errors=NO_TENSOR)
def _hardsigmoid(input):
    return WHERE(input <= -3, 0.0, WHERE(input >= 3, 1.0, input / 6 + 0.5)) + input * 0


def hardsigmoid(input, inplace=False):
    """x / 6 + 1/2 cut to [0, 1]."""
    return _inplace(input, _hardsigmoid(input), inplace)


@composite(samples=ONE, errors=NO_TENSOR)
def _hardswish(input):
    return WHERE(input <= -3, 0.0, WHERE(input >= 3, input, input * (input + 3) / 6))


def hardswish(input, inplace=False):
    """x * hardsigmoid(x)."""
    return _inplace(input, _hardswish(input), inplace)


@composite(samples=ONE, errors=NO_TENSOR)
def hardshrink(input, lambd=0.5):
    """x where |x| > lambd, else 0."""
    return WHERE((input >= -lambd).logical_and(input <= lambd), 0.0, input)


@composite(
    samples=ONE,
    errors=(ErrorSample(((2,), F), lambd=-1.0, error=RuntimeError, says="greater or equal to 0"),),
)
def softshrink(input, lambd=0.5):
    """x moved towards 0 by lambd, 0 within."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return WHERE(input > lambd, input - lambd, WHERE(input < -lambd, input + lambd, input * 0))


METHODS["hardshrink"] = hardshrink


@composite(samples=(Sample(((3, 4), F), threshold=0.1, value=2.0),), errors=NO_TENSOR)
def _threshold(input, threshold, value):
    return WHERE(input <= threshold, value, input)


def threshold(input, threshold, value, inplace=False):
    """x where it exceeds the threshold, else a value."""
    return _inplace(input, _threshold(input, threshold, value), inplace)


@method
def prelu(input, weight):
    """x where it is positive, else `weight * x`, one weight for all or per channel."""
    if weight.numel() != 1:
        if input.ndim == 0 or weight.numel() != (input.shape[1] if input.ndim > 1 else 1):
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. Found parameter numbers "
                f"= {weight.numel()} and channel size = "
                f"{input.shape[1] if input.ndim > 1 else 1}."
            )
        weight = weight.reshape((1, -1) + (1,) * (input.ndim - 2))
    return _prelu(input, weight)


@composite(
    samples=(Sample(((2, 3, 2), F), ((1, 3, 1), F)), Sample(((3, 4), F), ((), F))),
    errors=(ErrorSample(((2, 3), F), ((2,), F), error=RuntimeError, says="broadcast"),),
)
def _prelu(input, weight):
    return WHERE(input > 0, input, input * weight)


def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """Leaky with a random slope in [lower, upper] in training, their mean otherwise."""
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    slope = input.detach()._like_uniform() * (upper - lower) + lower
    return _inplace(input, _prelu(input, slope), inplace)


def glu(input, dim=-1):
    """The first half of a dimension times the sigmoid of the second."""
    d = canonical_dim("glu", dim, input.ndim)
    if input.ndim == 0:
        raise RuntimeError("glu does not support 0-dimensional tensors")
    if input.shape[d] % 2:
        raise RuntimeError(
            f"Halving dimension must be even, but dimension {d} is size {input.shape[d]}"
        )
    return _glu(input, d)


def _glu_grad(g, input, dim):
    a, b = chunk(input, 2, dim)
    s = SIGMOID(b)
    return cat([g * s, g * a * s * (1 - s)], dim)


@composite(
    grad=_glu_grad,
    samples=(Sample(((2, 6), F), dim=1), Sample(((4, 3), F), dim=0)),
    errors=(ErrorSample(((5, 4), F), dim=0, error=RuntimeError, says="broadcast"), BEYOND),
)
def _glu(input, dim):
    a, b = chunk(input, 2, dim)
    return a * SIGMOID(b)


# -- softmax and its family


def _softmax_grad(g, y, dim):
    gy = g * y
    return gy - y * SUM(gy, (dim,), True)


@composite(
    samples=(Sample(((3, 4), F), dim=1), Sample(((2, 3, 4), F), dim=1), Sample(((2, 0), F), dim=1)),
    errors=(BEYOND,),
    grad=_softmax_grad,
)
def _softmax(input, dim):
    check_dims("softmax", dim, input.ndim)
    if not input.shape[dim]:
        return input * 1
    e = EXP(input - PEAK(input, (dim,)))
    return e * (1 / SUM(e, (dim,), True))


def _log_softmax_grad(g, y, dim):
    return g - EXP(y) * SUM(g, (dim,), True)


@composite(
    samples=(Sample(((3, 4), F), dim=1), Sample(((2, 3, 4), F), dim=1), Sample(((2, 0), F), dim=1)),
    errors=(BEYOND,),
    grad=_log_softmax_grad,
)
def _log_softmax(input, dim):
    check_dims("log_softmax", dim, input.ndim)
    if not input.shape[dim]:
        return input * 1
    shifted = input - PEAK(input, (dim,))
    return shifted - SUM(EXP(shifted), (dim,), True).log()


def _over(name: str, function, input, dim, dtype):
    if dim is None:
        dim = 0 if input.ndim in (0, 1, 3) else 1
    x = input if dtype is None or dtype is input.dtype else input.to(dtype)
    lay = x.layout
    if lay.dtype.kind != "f":
        raise RuntimeError(f"\"{name}_lastdim_kernel_impl\" not implemented for '{lay.dtype.name}'")
    d = canonical_dim(name, dim, lay.ndim)
    if lay.ndim == 0:
        return function(x.unsqueeze(0), 0).squeeze(0)
    return function(x, d)


@numpy_names
def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) divided by its sum along a dimension.

    shape:  as input
    dtype:  floating, or `dtype`
    errors: IndexError for a dimension out of range
    """
    return _over("softmax", _softmax, input, dim, dtype)


@numpy_names
def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """The logarithm of softmax, computed without its underflow."""
    return _over("log_softmax", _log_softmax, input, dim, dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """softmax of -x."""
    return softmax(-input, dim, dtype=dtype)


METHODS["softmax"] = lambda self, dim, dtype=None: softmax(self, dim, dtype=dtype)
METHODS["log_softmax"] = lambda self, dim, dtype=None: log_softmax(self, dim, dtype=dtype)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """A sample of the Gumbel-softmax distribution; `hard` makes it one-hot while gradients stay soft."""
    noise = -(-logits.detach()._like_uniform().clamp(min=1e-20).log()).log()
    y = softmax((logits + noise) / tau, dim)
    if not hard:
        return y
    top = Amax((canonical_dim("gumbel_softmax", dim, y.ndim),), True)(y)
    one = (y.detach() == top.detach()).to(y.dtype)
    return one - y.detach() + y
