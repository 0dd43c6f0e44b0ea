"""Reductions and running results against PyTorch: dimensions, dtypes, NaN, ties, layouts, slopes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.ops.compare import DTYPES, FLOATS, cases, match  # noqa: E402

SUMS = cases(
    """
sum(x) ; sum(x, 1) ; sum(x, -1, True) ; sum(x, (0, 2)) ; sum(x, (0, -1), keepdim=True)
sum(x, ()) ; sum(x, []) ; sum(x, None) ; sum(x, dim=None, keepdim=True) ; sum(x, dtype=float64)
sum(x, 0, dtype=int64) ; sum(x, 3) ; sum(x, -4) ; sum(x, (0, 0)) ; sum(x, (0, -3)) ; sum(x, 'a')
sum(x, 1.5) ; sum(x, axis=1) ; sum(x[0, 0, 0]) ; sum(x[0, 0, 0], 0) ; sum(x[0, 0, 0], -1, True)
sum(x[0, 0, 0], 1) ; sum(x[:0]) ; sum(x[:0], 0) ; sum(x[:0], 1) ; sum(x, 1, out=empty(0))
sum(x, 1, out=empty(3, 5, dtype=float64)) ; sum(x, 1, out=empty(3, 5, dtype=int64)) ; sum(3)
sum([x, x]) ; mean(x) ; mean(x, 1) ; mean(x, (0, 2), keepdim=True) ; mean(x, -1, dtype=float64)
mean(x.to(int64)) ; mean(x.to(int64), dtype=float32) ; mean(x, dtype=int64) ; mean(x.to(bool))
mean(x[:0]) ; mean(x[:0], 0) ; mean(x[:0], 1) ; mean(x, ()) ; mean(x, None, True) ; mean(x, 5)
mean(x, (1, 1)) ; mean(x, 1, out=empty(0)) ; mean(x[0, 0, 0]) ; prod(x) ; prod(x, 1)
prod(x, -1, True) ; prod(x, dtype=float64) ; prod(x, 0, dtype=float64) ; prod(x[:0])
prod(x[:0], 0) ; prod(x, 3) ; prod(x, 1, out=empty(0)) ; prod(x[0, 0, 0], 0) ; count_nonzero(x)
count_nonzero(x > 0, 1) ; count_nonzero(x > 0, (0, 1)) ; count_nonzero(x > 0, -1)
count_nonzero(x.to(int8), dim=0) ; count_nonzero(x[:0]), count_nonzero(x[:0], 1)
count_nonzero(x, 3) ; count_nonzero(x, (0, 0)) ; count_nonzero(x[0, 0, 0]) ; nansum(x)
nansum(where(x > 1, nan, x)) ; nansum(where(x > 1, nan, x), 1)
nansum(where(x > 1, nan, x), (0, 1), True) ; nansum(x.to(int32), 1) ; nansum(x > 0)
nansum(x, dtype=float64) ; nansum(x * nan, dtype=int64) ; nansum(x, 3) ; nansum(x[:0])
nansum(x, 1, out=empty(0)) ; nanmean(x) ; nanmean(where(x > 1, nan, x), 1)
nanmean(where(x > 1, nan, x), (0, 2), True) ; nanmean(x.to(int32), 1) ; nanmean(x * nan, 1)
nanmean(x, dtype=float64) ; nanmean(x[:0]) ; nanmean(x, 3) ; sum(x, axis=1)
mean(x, axis=(0, 1), keepdims=True) ; cat((x, x), axis=1).sum(axis=0)
"""
)
METHODS = cases(
    """
x.sum(1, 2) ; x.sum((1, 2), True)
x.norm(), x.norm(1), x.norm(2, 1), x.norm(p=3, dim=0, keepdim=True) ; x.clone().cumsum_(1)
x.to(int32).cumsum_(0) ; x.clone().cumprod_(1)
x.mean(0, True), x.mean((0, 1)), x.std(), x.var(0), x.max(), x.min(1), x.argmax(1), x.all()
x.any(0), x.prod(1)
x.logsumexp(1), x.norm(), x.cumsum(1), x.cumprod(0), x.cummax(0), x.count_nonzero(), x.median(), x.quantile(0.5)
x.nansum(), x.nanmean(0), x.aminmax(), x.amax(1), x.amin((0, 1)), x.mode(), x.kthvalue(2)
x.nanmedian(), x.nanquantile(0.3, 1)
x.std(axis=0) ; softmax(x, axis=1) ; log_softmax(x, axis=-1)
"""
)
SPREADS = cases(
    """
var(x) ; var(x, 1) ; var(x, (0, 2)) ; var(x, 1, False) ; var(x, False)
var(x, 1, unbiased=False, keepdim=True) ; var(x, 1, correction=0) ; var(x, correction=2)
var(x, (0, 1), correction=0, keepdim=True) ; var(x, None, correction=1)
var(x, dim=1, correction=None) ; var(x, 0, correction=3) ; var(x, 0, correction=7)
var(x, 0, correction=0.5) ; var(x, 0, True, True) ; var(x, 1, unbiased=True, correction=0)
var(x[:1], 0) ; var(x[:0], 0) ; var(x[:0]) ; var(x[0, 0, 0]) ; var(x[0, 0, 0], correction=0)
var(x.to(int64)) ; var(x, 9) ; var(x, (1, 1)) ; var(x, 1, out=empty(0)) ; std(x) ; std(x, 1)
std(x, (0, 2)) ; std(x, 1, False) ; std(x, False) ; std(x, unbiased=False)
std(x, 1, correction=0, keepdim=True) ; std(x, -1, correction=2) ; std(x[:1], 0) ; std(x[:0])
std(x[0, 0, 0]) ; std(x.to(int32), 0) ; std(x, 4) ; std(x, 1, out=empty(0)) ; var_mean(x)
var_mean(x, 1) ; var_mean(x, (0, 1), keepdim=True) ; var_mean(x, 1, False) ; var_mean(x, False)
var_mean(x, correction=0) ; var_mean(x, dim=1, correction=2, keepdim=True) ; var_mean(x.to(int64))
var_mean(x[:0]) ; std_mean(x) ; std_mean(x, 1, True) ; std_mean(x, (0, 2), correction=0)
std_mean(x, unbiased=False) ; std_mean(x.to(bool))
cov(x[0]), cov(x[0], correction=0), cov(x[0, 0]), cov(x) ; corrcoef(x[0]), corrcoef(x[0, 0])
"""
)
EXTREMES = cases(
    """
min(x) ; min(x, 1) ; min(x, -1, True) ; min(x, 1).indices ; min(x, 1, keepdim=True).values
min(x, x[0]) ; min(x, dim=0) ; min(x, other=x + 1) ; min(x, 1.5) ; min(x, (0, 1)) ; min(x[:0])
min(x[:0], 0) ; min(x[:0], 1) ; min(x, 3) ; min(x[0, 0, 0], 0) ; min(x[0, 0, 0])
min(x, 1, out=(empty(0), empty(0, dtype=int64))) ; min(x, 1, out=(empty(0), empty(0)))
min(x, 1, out=empty(0)) ; min(x, out=empty(())) ; max(x) ; max(x, 1) ; max(x, -1, True)
max(x, 2)[1] ; max(x, x[:1] + 1) ; max(x.T, 0) ; max(x[:, ::2], 1) ; max(x[:1].expand(3, 4, 5), 0)
max(x[:0]) ; max(x[:, :0], 1) ; max(x[:, :0], 0) ; max(x, -4) ; max(x[0, 0, 0], -1)
max(x > 0), max(x > 0, 1) ; max(x, 0, out=(empty(0), empty(0, dtype=int64))) ; amin(x)
amin(x, 1) ; amin(x, (0, 2)) ; amin(x, (0, 1), keepdim=True) ; amin(x, ()) ; amin(x[:0])
amin(x[:0], 1) ; amin(x[:0], 0) ; amin(x, 3) ; amin(x, (1, 1)) ; amin(x, None)
amin(x, 1, out=empty(0)) ; amin(x, 1, out=empty(0, dtype=float64)) ; amin(x > 0, 1) ; amax(x)
amax(x, 1) ; amax(x, (0, -1), True) ; amax(x[:0], (0, 1)) ; amax(x[0, 0, 0], 0)
amax(x, 1, out=empty(0)) ; amax(x.to(uint8), 0) ; amax(x.T, (0, 1)) ; aminmax(x)
aminmax(x, dim=1) ; aminmax(x, dim=-1, keepdim=True) ; aminmax(x, keepdim=True) ; aminmax(x).max
aminmax(x, 1) ; aminmax(x[:0]) ; aminmax(x[:0], dim=0) ; aminmax(x[:0], dim=1) ; aminmax(x, dim=3)
aminmax(x > 0) ; aminmax(x, out=(empty(()), empty(()))) ; argmax(x) ; argmax(x, 1)
argmax(x, -1, True) ; argmax(x, None, True) ; argmax(x, dim=None) ; argmax(x, keepdim=True)
argmax(x, (0, 1)) ; argmax(x[:0]) ; argmax(x[:0], 0) ; argmax(x[:0], 1) ; argmax(x, 3)
argmax(x > 0) ; argmax(x.T, 0) ; argmax(x.T) ; argmax(x[:, ::2], 1) ; argmax(x[0, 0, 0])
argmax(x[0, 0, 0], 0) ; argmax(x, 1, out=empty(0, dtype=int64)) ; argmin(x) ; argmin(x, 1)
argmin(x, -1, True) ; argmin(x, None, True) ; argmin(x[:0]) ; argmin(x, -4)
argmin(x.to(int8), 0) ; all(x) ; all(x > -9) ; all(x > -9, 1) ; all(x > -9, (0, 1))
all(x > -9, (0, 2), keepdim=True) ; all(x > -9, ()) ; all(x, -1, True) ; all(x[:0])
all(x[:, :0], 1) ; all(x.to(uint8)) ; all(x.to(uint8), 1) ; all(x.to(int64), 0) ; all(x, 3)
all(x, (1, 1)) ; all(x, 1, out=empty(0, dtype=bool)) ; all(x, 1, out=empty(0))
all(x.to(uint8), 1, out=empty(0, dtype=uint8)) ; any(x) ; any(x > 2, 1) ; any(x > 2, (0, 1))
any(x > 2, -1, True) ; any(x[:0]) ; any(x[:, :0], 1) ; any(x.to(uint8), 1) ; any(x, 3)
any(x > 9, 0, out=empty(0, dtype=bool)) ; argmax(x, axis=1, keepdims=True)
"""
)
NORMS = cases(
    """
logsumexp(x, 0) ; logsumexp(x, (0, 2)) ; logsumexp(x, -1, True) ; logsumexp(x)
logsumexp(x[:0], 0) ; logsumexp(x[:0], 1) ; logsumexp(x.to(int64), 1) ; logsumexp(x > 0, 1)
logsumexp(x, 3) ; logsumexp(x, (1, 1)) ; logsumexp(x * 1000, 1) ; logsumexp(x / 0, 1)
logsumexp(x[0, 0, 0], 0) ; logsumexp(x, 1, out=empty(0)) ; norm(x) ; norm(x, 2) ; norm(x, 1)
norm(x, 0) ; norm(x, inf) ; norm(x, -inf) ; norm(x, 3) ; norm(x, 2.5, 1) ; norm(x, -1, 1)
norm(x, 0.5, 1) ; norm(x, 'fro') ; norm(x, 'fro', (0, 1)) ; norm(x, 'fro', 1)
norm(x, 'nuc', (0, 1)) ; norm(x[0], 'nuc') ; norm(x, 'nuc') ; norm(x, 'bad') ; norm(x, None, 1)
norm(x, 2, (0, 1), True) ; norm(x, 2, 1, dtype=float64) ; norm(x, dim=1)
norm(x, p=2, dim=-1, keepdim=True) ; norm(x.to(int64)) ; norm(x.to(int64), dtype=float32)
norm(x[:0]) ; norm(x[:0], inf) ; norm(x[:0], inf, 1) ; norm(x, 2, 3) ; norm(x, 2, (1, 1))
norm(x[0, 0, 0]) ; norm(x, 2, 1, out=empty(0)) ; norm(x, 2, 1, True, empty(0))
linalg.vector_norm(x) ; linalg.vector_norm(x, 3, 1) ; linalg.vector_norm(x, 0, (0, 1))
linalg.vector_norm(x, inf, 1, True) ; linalg.vector_norm(x, -inf, (1, 2))
linalg.vector_norm(x, 1, ()) ; linalg.vector_norm(x, -2, 0)
linalg.vector_norm(x, 2, dtype=float64) ; linalg.vector_norm(x, 2, dtype=int64)
linalg.vector_norm(x.to(int64)) ; linalg.vector_norm(x, 'fro') ; linalg.vector_norm(x, dim=4)
linalg.vector_norm(x[:0], inf) ; linalg.vector_norm(x[:0], -1) ; linalg.vector_norm(x[:0], 2, 0)
linalg.vector_norm(x[:0], inf, 0) ; linalg.vector_norm(x, 2, 1, out=empty(0))
linalg.vector_norm(x.to(float64), dtype=float32) ; linalg.norm(x) ; linalg.norm(x[0])
linalg.norm(x[0], 'fro') ; linalg.norm(x[0], 'nuc') ; linalg.norm(x[0], 2) ; linalg.norm(x[0], 1)
linalg.norm(x[0], -1) ; linalg.norm(x[0], inf) ; linalg.norm(x[0, 0], 3) ; linalg.norm(x, 2)
linalg.norm(x, dim=(0, 1)) ; linalg.norm(x, 'nuc', (0, 1)) ; linalg.matrix_norm(x)
linalg.matrix_norm(x, 1) ; linalg.matrix_norm(x, 'nuc', (0, 1), True)
linalg.matrix_norm(x[0, 0])
dist(x, x + 1), dist(x, x + 1, 1), dist(x, x[0], inf), dist(x, x[:, :3])
renorm(x, 2, 0, 1.0), renorm(x, 1, 1, 2.0), renorm(x, 2, 5, 1.0), renorm(x, -1, 0, 1.0)
"""
)
SCANS = cases(
    """
cumsum(x, 0) ; cumsum(x, 1) ; cumsum(x, -1) ; cumsum(x, 1, dtype=float64)
cumsum(x, 1, dtype=int64) ; cumsum(x.to(int8), 0) ; cumsum(x > 0, 0)
cumsum(x.to(uint8), 1, dtype=uint8) ; cumsum(x[:0], 0) ; cumsum(x[:0], 1) ; cumsum(x[0, 0, 0], 0)
cumsum(x[0, 0, 0], -1) ; cumsum(x[0, 0, 0], 1) ; cumsum(x, 3) ; cumsum(x) ; cumsum(x, (0, 1))
cumsum(x.T, 0) ; cumsum(x[:, ::2], 1) ; cumsum(x[:1].expand(3, 4, 5), 0)
cumsum(x, 1, out=empty(0)) ; cumprod(x, 0) ; cumprod(x, -1, dtype=float64)
cumprod(x.to(int8), 1) ; cumprod(x > 0, 0) ; cumprod(x[:0], 0) ; cumprod(x[0, 0, 0], 0)
cumprod(x, 3) ; cumprod(x, 1, out=empty(0)) ; cummax(x, 0) ; cummax(x, -1) ; cummax(x, 1).indices
cummax(x.to(int32), 0) ; cummax(x > 0, 1) ; cummax(x.T, 0) ; cummax(x[:0], 0)
cummax(x[0, 0, 0], 0) ; cummax(x, 3) ; cummax(x, 1, out=(empty(0), empty(0, dtype=int64)))
cummin(x, 0) ; cummin(x, -1) ; cummin(x.to(int32), 0) ; cummin(x[:, :0], 1)
cummin(x[0, 0, 0], -1) ; cummin(x, -4) ; logcumsumexp(x, 0) ; logcumsumexp(x, -1)
logcumsumexp(x * 1000, 1) ; logcumsumexp(x / 0, 1) ; logcumsumexp(x[:0], 0)
logcumsumexp(x[0, 0, 0], 0) ; logcumsumexp(x.to(int64), 0) ; logcumsumexp(x, 3)
logcumsumexp(x, 1, out=empty(0)) ; cumsum(x, axis=1)
"""
)
RANKS = cases(
    """
median(x) ; median(x, 1) ; median(x, -1, True) ; median(x, 0).indices ; median(x.to(int64), 1)
median(x > 0) ; median(x[:0]) ; median(x[:0], 0) ; median(x[:0], 1) ; median(x, 3)
median(x[0, 0, 0]), median(x[0, 0, 0], 0) ; median(x, 1, out=(empty(0), empty(0, dtype=int64)))
median(x.T, 0).values ; nanmedian(x) ; nanmedian(x, 1) ; nanmedian(where(x > 0, x, nan), 1).values
nanmedian(where(x > 0, x, nan)) ; nanmedian(x * nan, 1).values ; nanmedian(x.to(int32), 0)
nanmedian(x[:0]) ; nanmedian(x, 9) ; quantile(x, 0.5) ; quantile(x, 0.3, 1)
quantile(x, 0.3, dim=-1, keepdim=True) ; quantile(x, tensor([0.1, 0.5]))
quantile(x, tensor([0.1, 0.5]), 1) ; quantile(x, tensor([0.1, 0.5]), dim=1, keepdim=True)
quantile(x, tensor([0.1, 0.5]), keepdim=True) ; quantile(x, 0.4, interpolation='lower')
quantile(x, 0.4, 1, interpolation='higher') ; quantile(x, 0.4, 1, interpolation='midpoint')
quantile(x, 0.4, 1, interpolation='nearest') ; quantile(x, 0.5, 1, interpolation='nearest')
quantile(x, 0.4, interpolation='bad') ; quantile(x, 1.5) ; quantile(x, -0.1)
quantile(x, tensor([0.5, 1.5])) ; quantile(x, tensor([[0.5]])) ; quantile(x, tensor(0.5))
quantile(x, tensor(0.5, dtype=float64)) ; quantile(x, [0.5]) ; quantile(x.to(int64), 0.5)
quantile(x.to(float16), 0.5) ; quantile(x.to(float64), 0.5) ; quantile(x[:0], 0.5)
quantile(x[:0], 0.5, 0) ; quantile(x[:0], 0.5, 1) ; quantile(x, 0.5, 3)
quantile(x[0, 0, 0], 0.5) ; quantile(x[0, 0, 0], 0.5, 0) ; quantile(where(x > 1, nan, x), 0.5, 1)
quantile(x, 0.5, 1, out=empty(0)) ; quantile(x, tensor([])) ; quantile(x, 0.0), quantile(x, 1.0)
quantile(x, 1), quantile(x, 0) ; nanquantile(x, 0.5) ; nanquantile(where(x > 1, nan, x), 0.5, 1)
nanquantile(where(x > 1, nan, x), tensor([0.2, 0.7]), 1, True) ; nanquantile(x * nan, 0.5, 1)
nanquantile(where(x > 1, nan, x), 0.5, interpolation='lower') ; nanquantile(x.to(int64), 0.5)
nanquantile(x, 2) ; mode(x.to(int64)).values ; mode(x.to(int64), 1).values
mode(x.to(int64), 0, True).values ; mode(x[0, 0, 0]) ; mode(x[:0]) ; mode(x[:0], 0) ; mode(x, 3)
mode(x > 0, 1).values ; kthvalue(x, 1) ; kthvalue(x, 2, 1) ; kthvalue(x, 3, 0, True)
kthvalue(x, 2, dim=-1, keepdim=True) ; kthvalue(x, 0) ; kthvalue(x, 6) ; kthvalue(x, -1)
kthvalue(x, 1, 3) ; kthvalue(x[0, 0, 0], 1) ; kthvalue(x[:0], 1, 0) ; kthvalue(x[:0], 1, 1)
kthvalue(x.to(int32), 1, 1).values ; kthvalue(x.T, 2, 0)
kthvalue(x, 1, 1, out=(empty(0), empty(0, dtype=int64)))
"""
)
ALL = SUMS + SPREADS + EXTREMES + NORMS + SCANS + RANKS + METHODS


@pytest.mark.parametrize("text", ALL)
@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # PyTorch warns where nothing is left to divide by
def test_arguments(text):
    match(text, x="float32[3,4,5]")


# what PyTorch takes only with other arguments
@pytest.mark.parametrize(
    "text, meant",
    [
        ("prod(x, (0, 1))", "prod(prod(x, 0), 0)"),
        ("prod(x, None, True)", "prod(x).reshape(1, 1, 1)"),
        ("sum(x, keepdim=True)", "sum(x, (0, 1, 2), True)"),
        ("logsumexp(x, None)", "logsumexp(x, (0, 1, 2))"),
    ],
)
def test_more_than_pytorch_takes(text, meant):
    match(
        lambda m, x: eval(text if m is not torch else meant, {}, {**vars(m), "x": x}),
        x="float32[3,4,5]",
    )


ALONG = cases(
    """
sum(x, 1) ; mean(x, 1) ; prod(x, 1) ; var(x, 1) ; std(x, 1) ; var_mean(x, 1) ; min(x, 1)
max(x, 1) ; amin(x, 1) ; amax(x, 1) ; aminmax(x, dim=1) ; argmin(x, 1) ; argmax(x, 1) ; all(x, 1)
any(x, 1) ; logsumexp(x, 1) ; norm(x, 2, 1) ; cumsum(x, 1) ; cumprod(x, 1) ; cummax(x, 1)
cummin(x, 1) ; logcumsumexp(x, 1) ; count_nonzero(x, 1) ; median(x, 1).values
nanmedian(x, 1).values ; quantile(x, 0.5, 1) ; nanquantile(x, 0.5, 1) ; nansum(x, 1)
nanmean(x, 1) ; kthvalue(x, 2, 1).values ; mode(x, 1).values
"""
)
WHOLE = cases(
    "sum(x) ; prod(x) ; max(x) ; min(x) ; argmax(x) ; median(x) ; all(x) ; any(x) ; mean(x) ; norm(x)"
)
OF_SPECIAL = cases(
    """
min(x, 0) ; max(x.T, 1) ; argmax(x[:, ::2], 1) ; argmin(x.T, 0) ; cummax(x, 0) ; cummin(x.T, 0)
kthvalue(x, 12, 1).values ; median(x, 0).values ; sum(x.T, 0) ; amax(x, 0) ; amin(x.T, 0)
aminmax(x, dim=0) ; logsumexp(x, 0) ; nansum(x, 0) ; norm(x, inf, 1) ; norm(x, 1, 1)
norm(x, 0, 1) ; norm(x, -inf, 0) ; isnan(x).any(1) ; var(x, 1)
"""
)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text", ALONG)
def test_every_dtype(text, dtype):
    match(text, x=f"{dtype}[3,7]")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "bfloat16", "float32"])
def test_all_elements_of_every_dtype(dtype):
    for text in WHOLE:
        match(text, x=f"{dtype}[3,7]")


@pytest.mark.parametrize("dtype", FLOATS)
def test_places_of_nan_and_infinity(dtype):
    for text in OF_SPECIAL:
        match(text, x=f"{dtype}[4,12]|special")
    for text in (t for t in ALONG + WHOLE if "var" not in t and "std" not in t):
        match(text, x=f"{dtype}[4,12]|special")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float32"])
def test_ties(dtype):
    x = np.array([[1, 1, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]])
    for text in cases(
        "max(t, 1) ; min(t, 1) ; argmax(t, 1) ; argmin(t, 0) ; argmax(t) ; mode(t, 1).values"
    ):
        match(text.replace("t", f"x.to({dtype})"), x=x)
    for text in cases("cummax(t, 1) ; cummin(t, 1) ; cummax(t, 0)"):
        match(text.replace("(t", f"(x.to({dtype})"), x=x)


VIEWS = (
    "x.T", "x[:, ::2]", "x[:1].expand(3, 7)", "x[1:, 1:]", "x[:, None]", "x.flip(0)", "x[:, 0]",
    "x[..., None].expand(3, 7, 2)", "x[:, :1]",
)  # fmt: skip
OF_VIEWS = "sum mean prod var std amin amax argmin argmax all any count_nonzero nansum".split()
SCANS_OF_VIEWS = "cumsum cumprod cummax cummin logcumsumexp max min mode logsumexp".split()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_views(view):
    for name in OF_VIEWS:
        for dim in ("", ", 0", ", -1"):
            match(f"{name}({view}{dim})", x="float32[3,7]")
    for name in SCANS_OF_VIEWS:
        for dim in (0, -1):
            match(f"{name}({view}, {dim})", x="float32[3,7]")
            match(f"quantile({view}, 0.3, {dim})", x="float32[3,7]")
    if "expand" not in view:  # PyTorch's median sorts the shared memory in place
        match(f"median({view}, 0), median({view}), kthvalue({view}, 1, -1)", x="float32[3,7]")


SLOPES = cases(
    """
sum(x) ; sum(x, 1) ; sum(x, (0, 1), True) ; mean(x, 0) ; mean(x) ; prod(x) ; prod(x, 1)
prod(x, -1, True) ; prod(x * (x > 0.5), 1) ; prod(x * (x > 0.5)) ; var(x) ; var(x, 1)
var(x, 1, correction=0) ; var(x, (0, 1), correction=2, keepdim=True) ; std(x) ; std(x, 0)
std(x, 0, correction=0, keepdim=True) ; var_mean(x, 1) ; std_mean(x, 0) ; std_mean(x) ; min(x)
min(x, 1) ; max(x, 0, True) ; max(x, x.flip(0)) ; min(x, x.T.reshape(3, 4)) ; amin(x, 1)
amax(x, (0, 1)) ; amax(x) ; aminmax(x, dim=1) ; aminmax(x) ; logsumexp(x, 1)
logsumexp(x, (0, 1), True) ; norm(x) ; norm(x, 1) ; norm(x, 3, 1) ; norm(x, 1.5, 0, True)
norm(x, inf) ; norm(x, -inf, 1) ; norm(x, 0) ; norm(x, -2, 1) ; norm(x - x[:1], 3, 1)
linalg.vector_norm(x, 0.5) ; linalg.matrix_norm(x) ; linalg.matrix_norm(x, 1)
linalg.norm(x, 'nuc') ; linalg.norm(x, 2) ; cumsum(x, 1) ; cumsum(x.T, 0) ; cumprod(x, 1)
cumprod(x * (x > 0.5), 1) ; cummax(x, 1) ; cummin(x, 0) ; logcumsumexp(x, 1)
logcumsumexp(x.T, -1) ; median(x) ; median(x, 1) ; nanmedian(x, 1) ; quantile(x, 0.4, 1)
quantile(x, tensor([0.1, 0.6], dtype=float64), 0) ; quantile(x, 0.4, 1, interpolation='midpoint')
nanquantile(x, 0.4) ; nansum(x, 1) ; nansum(where(x > 1, nan, x), 1)
nanmean(where(x > 1, nan, x), 1) ; nanmean(x) ; mode(x, 1) ; kthvalue(x, 2, 1)
dist(x, x[:1] * 2) ; renorm(x, 2, 0, 1.0) ; cov(x) ; corrcoef(x) ; sum(x[0, 0]) ; prod(x[0, 0])
cumsum(x[0, 0], 0) ; cumprod(x[0, 0], 0) ; amax(x[0, 0]) ; max(x[0, 0], 0) ; var(x[:1], 0)
std(x[:, :1], 1, correction=0) ; sum(x[:0]) ; prod(x[:0]) ; prod(x[:0], 0) ; mean(x[:, :0], 0)
cumsum(x[:0], 0) ; cumprod(x[:0], 0) ; amax(x[:0], 1) ; max(x[:0], 1) ; logsumexp(x[:0], 1)
norm(x[:0])
"""
)


@pytest.mark.parametrize("text", SLOPES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_slopes(text):
    match(text, order=2, tolerance=1e-8, x="float64[3,4]|p")


ROUGH = cases(
    "norm(x - x[:1], 2, 1) ; norm(x * 0) ; norm(x * 0, 1.5) ; norm(x * 0, 3) ; norm(x * 0, 1)"
)


@pytest.mark.parametrize("text", ROUGH)
def test_slopes_where_there_is_no_second_one(text):
    match(text, order=1, tolerance=1e-8, x="float64[3,4]|p")


TIED = cases(
    """
amax(x, 1) ; amin(x) ; max(x) ; max(x, 1) ; min(x, 0) ; cummax(x, 1)
cummin(x, 0) ; aminmax(x) ; aminmax(x, dim=0) ; maximum(x, x.T) ; norm(x, inf) ; norm(x, inf, 1)
norm(x, -inf, 1) ; mode(x, 1) ; std(x) ; std(x, 1) ; logsumexp(x, 1) ; prod(x, 1) ; prod(x)
cumprod(x, 1)
"""
)


@pytest.mark.parametrize("text", TIED)
def test_slopes_of_ties_and_zeros(text):
    match(text, order=2, tolerance=1e-8, x=np.array([[1.0, 2, 2], [3, 3, 3], [0, -1, 0]]))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_slopes_of_other_dtypes(dtype):
    for text in cases("sum(x, 1) ; mean(x) ; cumsum(x, 0) ; amax(x, 1) ; sum(x, dtype=float64)"):
        match(text, order=1, x=f"{dtype}[3,4]|p")
