"""Every function of compiler/numerics against an oracle of higher precision.

The bound that a function must keep stands in its docstring: `ulp: f32 1.0, f64 1.0`, and, where it
needs more room without a fused multiply-add, `; unfused f32 2.0, f64 2.0`.
"""

import ctypes
import functools
import math
import re

import llvmlite.binding as binding
import numpy as np
import pytest

from amity.codegen import cpu
from amity.compiler.numerics import FUNCTIONS, expand
from amity.ir.kernel import Builder
from amity.ir.target import Target
from amity.runtime.cpu.loader import Loader

DTYPES = {"f32": np.float32, "f64": np.float64}
HOST = cpu.host_target()
FEATURES = binding.get_host_cpu_features()
TARGETS = {"native": HOST}
if HOST.triple.startswith("x86_64"):
    for name, (processor, vector, registers, has) in cpu.CAPS.items():
        if name == "sse2" or FEATURES.get(name):
            TARGETS[name] = Target(name, HOST.triple, processor, "", vector, registers, has)
LOADER = Loader()


# -- running a function
@functools.cache
def compiled(name, dtype, width, target, count):
    t = TARGETS[target]
    b = Builder(f"test_{name}_{dtype}_{width}_{target}", t, expand)
    with b.entry():
        inputs, output = [b.pointer(i) for i in range(count)], b.pointer(count)
        with b.loop(b.lo, b.hi, width) as loop:
            args = [b.load(p, loop.index, dtype, width) for p in inputs]
            b.store(output, loop.index, b.math(name, *args), dtype)
    (address,) = LOADER.load(cpu.compile_kernel(b.kernel, t), [b.kernel.name])
    ptr, i64 = ctypes.c_void_p, ctypes.c_int64
    return ctypes.CFUNCTYPE(None, ptr, ptr, i64, i64, ptr)(address)


def run(name, *xs, dtype="f32", width=None, target="native"):
    width = width or TARGETS[target].lanes(DTYPES[dtype]().itemsize)
    kernel = compiled(name, dtype, width, target, len(xs))
    xs = np.broadcast_arrays(*[np.asarray(x, DTYPES[dtype]) for x in xs])
    n = xs[0].size
    padded = -(-n // width) * width
    ins = [np.concatenate([x.ravel(), np.ones(padded - n, x.dtype)]) for x in xs]
    out = np.empty(padded, DTYPES[dtype])
    buffers = np.array([a.ctypes.data for a in (*ins, out)], np.uint64)
    kernel(None, buffers.ctypes.data, 0, padded, None)
    return out[:n].reshape(xs[0].shape)


# -- the oracle
def high(f):
    """NumPy's own function: f64 for f32, the extended format for f64."""
    wide = {"f32": np.float64, "f64": np.longdouble}
    if np.finfo(np.longdouble).precision <= np.finfo(np.float64).precision:
        wide["f64"] = None

    def oracle(dtype, *xs):
        if wide[dtype] is None:
            pytest.skip("this platform has no extended format")
        with np.errstate(all="ignore"):
            return f(*[x.astype(wide[dtype]) for x in xs])

    return oracle


def exact(f):
    def oracle(dtype, *xs):
        with np.errstate(all="ignore"):
            return f(*xs)

    return oracle


def multiprecision(name):
    """mpmath's function; slow, so it gets few points."""

    def oracle(dtype, *xs):
        mp = pytest.importorskip("mpmath")
        mp.mp.dps = 40
        f = MULTIPRECISION[name](mp)
        out = np.full(xs[0].shape, np.nan, np.longdouble)
        for i, args in enumerate(zip(*[x.tolist() for x in xs])):
            try:
                y = f(*[mp.mpf(a) for a in args])
                main = float(y)
                out[i] = np.longdouble(main)
                if np.isfinite(main):
                    out[i] += np.longdouble(float(y - main))
            except (ValueError, ZeroDivisionError):  # a pole
                continue
        return out

    return oracle


MULTIPRECISION = {
    "erf": lambda mp: mp.erf,
    "erfc": lambda mp: mp.erfc,
    "ndtr": lambda mp: mp.ncdf,
    "log_ndtr": lambda mp: lambda x: log_normal(mp, x),
    "erfinv": lambda mp: mp.erfinv,
    "ndtri": lambda mp: lambda p: normal_quantile(mp, p),
    "lgamma": lambda mp: lambda x: mp.inf if mp.isinf(x) else mp.re(mp.loggamma(x)),
    "digamma": lambda mp: mp.digamma,
    "trigamma": lambda mp: lambda x: mp.psi(1, x),
    "zeta": lambda mp: lambda s, q: mp.zeta(s, q),
    "i0": lambda mp: lambda x: bessel(mp, 0, x, mp.mpf(1)),
    "i1": lambda mp: lambda x: bessel(mp, 1, x, mp.mpf(1)),
    "i0e": lambda mp: lambda x: bessel(mp, 0, x, mp.exp(-abs(x))),
    "i1e": lambda mp: lambda x: bessel(mp, 1, x, mp.exp(-abs(x))),
}


def log_normal(mp, x):
    if mp.isinf(x) and x < 0:
        return x
    return mp.log1p(-mp.ncdf(-x)) if x > 0 else mp.log(mp.ncdf(x))


def normal_quantile(mp, p):
    """Newton's method on the logarithm of the tail."""
    if not 0 <= p <= 1:
        return mp.nan
    if p > 0.5:
        return -normal_quantile(mp, 1 - p)
    if p in (0, 0.5):
        return mp.log(2 * p)
    x = -mp.sqrt(-2 * mp.log(2 * p)) if p < 0.3 else mp.sqrt(2 * mp.pi) * (p - 0.5)
    for _ in range(40):
        step = mp.log(mp.ncdf(x) / p) * mp.ncdf(x) / mp.npdf(x)
        x -= step
        if abs(step) < mp.mpf(10) ** -30 * abs(x):
            break
    return x


def bessel(mp, order, x, factor):
    if mp.isinf(x):
        return factor if factor == 0 else abs(x) if order == 0 else x
    return mp.besseli(order, x) * factor


ORACLES = {
    "exp": high(np.exp),
    "exp2": high(np.exp2),
    "expm1": high(np.expm1),
    "log": high(np.log),
    "log2": high(np.log2),
    "log10": high(np.log10),
    "log1p": high(np.log1p),
    "sigmoid": high(lambda x: 1 / (1 + np.exp(-x))),
    "softplus": high(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "logaddexp": high(np.logaddexp),
    "xlogy": high(lambda x, y: np.where((x == 0) & ~np.isnan(y), 0, x * np.log(y))),
    "sin": high(np.sin),
    "cos": high(np.cos),
    "tan": high(np.tan),
    "asin": high(np.arcsin),
    "acos": high(np.arccos),
    "atan": high(np.arctan),
    "atan2": high(np.arctan2),
    "sinh": high(np.sinh),
    "cosh": high(np.cosh),
    "tanh": high(np.tanh),
    "asinh": high(np.arcsinh),
    "acosh": high(np.arccosh),
    "atanh": high(np.arctanh),
    "pow": high(np.power),
    "hypot": high(np.hypot),
    "rsqrt": high(lambda x: 1 / np.sqrt(x)),
    "reciprocal": high(lambda x: 1 / x),
    "copysign": exact(np.copysign),
    "nextafter": exact(np.nextafter),
    "floor": exact(np.floor),
    "ceil": exact(np.ceil),
    "trunc": exact(np.trunc),
    "round": exact(np.round),
    "fmod": exact(np.fmod),
    "remainder": exact(lambda x, y: python_remainder(x, y)),
    "frexp_mantissa": exact(lambda x: np.frexp(x)[0]),
    "frexp_exponent": exact(lambda x: np.where(np.isfinite(x), np.frexp(x)[1], 0).astype(x.dtype)),
    "ldexp": exact(lambda x, n: times_power_of_two(x, n)),
} | {name: multiprecision(name) for name in MULTIPRECISION}
BINARY = {"logaddexp", "xlogy", "atan2", "pow", "hypot", "copysign", "nextafter", "fmod",
          "remainder", "ldexp", "zeta"}  # fmt: skip
FEW = 2000


def span(lo, hi):
    return lambda rng, n: rng.uniform(lo, hi, n)


# where points should lie, for functions that are dull elsewhere
DOMAINS = {
    "lgamma": (span(0, 3), span(0, 10), span(0, 200), span(-20, 0)),
    "digamma": (span(0, 3), span(0, 10), span(0, 200), span(-20, 0)),
    "trigamma": (span(0, 3), span(0, 10), span(0, 200), span(-20, 0)),
    "erfinv": (span(-1, 1), lambda rng, n: 1 - 10.0 ** rng.uniform(-15, 0, n)),
    "ndtri": (span(0, 1), lambda rng, n: 10.0 ** rng.uniform(-38, 0, n), span(0.49, 0.51)),
    "erfc": (span(-2, 2), span(0, 10), span(0, 27)),
    "ndtr": (span(-2, 2), span(-14, 0), span(-38, 6)),
    "log_ndtr": (span(-2, 2), span(-14, 6), span(-60, 10)),
}


def python_remainder(x, y):
    r = np.fmod(x, y)
    return np.where((r != 0) & (np.signbit(r) != np.signbit(y)), r + y, r)


def times_power_of_two(x, n):
    whole = np.nan_to_num(np.clip(n, -5000, 5000)).astype(int)
    return np.where(np.isnan(n), n, np.ldexp(x, whole))


# -- the points
EDGES = [
    0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 0.25, 3.0, -3.0, 4.0, 10.0, 100.0, 1000.0,
    np.inf, -np.inf, np.nan, 1e-45, -1e-45, 1e-40, 1.2e-38, -1.2e-38, 3.4e38, -3.4e38, 5e-324,
    2.3e-308, 1.7e308, -1.7e308, 87.4, 88.7, 88.73, 89.4, 89.5, -87.4, -103.9, -104.0, 709.7,
    709.8, 710.4, 710.5, -708.4, -745.1, -745.2, 127.9, 128.0, -126.5, -149.5, -150.0, 1023.9,
    1024.0, -1074.5, -1075.5, 8388607.5, 8388608.5, 16777215.0, 16777216.0, 2.0**52 + 0.5,
    2.0**53 - 1, 1e10, 1e22, 1e300, 9.0, 9.02, 19.0, 20.0,
]  # fmt: skip


def random_bits(rng, n, dtype):
    if dtype == "f32":
        return rng.integers(0, 2**32, n, dtype=np.uint32).view(np.float32)
    return rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64)


def points(name, dtype, n=40000, seed=0):
    """Random bit patterns, edges, and dense points where functions bend."""
    rng = np.random.default_rng(seed)
    if name == "zeta":
        s, q = 1 + 10.0 ** rng.uniform(-3, 1.5, FEW), rng.uniform(0, 3, FEW) ** 3
        return s.astype(DTYPES[dtype]), q.astype(DTYPES[dtype])
    scales = (1.0, 3.0, 10.0, 30.0, 100.0, 800.0, 1e5)
    parts = [rng.uniform(-s, s, n) for s in scales]
    parts.append(rng.uniform(-3, 3, n) * 10.0 ** rng.uniform(-10, 0, n))
    parts.append(1 + rng.uniform(-1, 1, n) * 10.0 ** rng.uniform(-8, 0, n))
    with np.errstate(over="ignore"):
        x = np.concatenate(parts).astype(DTYPES[dtype])
        edges = np.array(EDGES).astype(DTYPES[dtype])
    if name in DOMAINS:
        x = np.concatenate([d(rng, n) for d in DOMAINS[name]]).astype(x.dtype)
    if name in MULTIPRECISION:
        x = rng.permutation(x)[:FEW]
        n = FEW // 12
    x = np.concatenate([random_bits(rng, 2 * n, dtype), x])
    if name in MULTIPRECISION:  # which does not end for great numbers
        x, edges = (v[~(np.abs(v) > 1e4) | np.isinf(v)] for v in (x, edges))
    if name in ("lgamma", "digamma", "trigamma"):
        x, edges = (v[~((v <= 0) & (np.round(v) == v))] for v in (x, edges))  # poles
    if name not in BINARY:
        return (np.concatenate([x, edges]),)
    grid = [g.ravel() for g in np.meshgrid(edges, edges)]
    y = rng.permutation(x)
    if name == "ldexp":
        with np.errstate(invalid="ignore"):  # signalling NaNs
            y, grid[1] = np.trunc(y), np.trunc(grid[1])
    return np.concatenate([x, grid[0]]), np.concatenate([y, grid[1]])


def errors(got, want, dtype, scale=0.0):
    """The distance in units in the last place of the true value, or of a greater `scale`.

    Infinity counts as the number that would follow the last float.
    """
    limits = np.finfo(DTYPES[dtype])
    with np.errstate(all="ignore"):
        end = np.longdouble(2.0) ** limits.maxexp
        g, w = (np.clip(v.astype(np.longdouble), -end, end) for v in (got, want))
        size = np.minimum(np.maximum(np.abs(w), scale), limits.max)
        error = np.abs(g - w) / np.spacing(size.astype(DTYPES[dtype]))
    same = (g == w) | (np.isnan(g) & np.isnan(w))
    return np.where(same, 0, np.where(np.isnan(error), np.inf, error))


def bound(name, dtype, target):
    text = FUNCTIONS[name].__doc__
    found = re.search(r"ulp: f32 (\d+\.\d+), f64 (\d+\.\d+)", text)
    if "fma" not in TARGETS[target].has:
        found = re.search(r"unfused f32 (\d+\.\d+), f64 (\d+\.\d+)", text) or found
    return float(found[1 if dtype == "f32" else 2])


def terms(name, xs):
    """The size that errors are measured against where a sum of larger terms cancels."""
    with np.errstate(all="ignore"):
        if name == "logaddexp":
            return np.fmax(np.abs(xs[0]), np.abs(xs[1]))
        if name not in ("lgamma", "digamma"):
            return 0.0
        x = xs[0].astype(np.float64)  # reflected
        sine = np.abs(np.sin(np.pi * (x - np.round(x))))
        if name == "digamma":
            size = np.pi / sine + np.log(np.abs(x) + 2)
        else:
            mirrored = [math.lgamma(a) if a > 0 else np.inf for a in np.abs(x).tolist()]
            size = np.abs(mirrored) + np.abs(np.log(sine))
        return np.where((x < 0) & np.isfinite(size), size, 0)


@functools.cache
def truth(name, dtype, n):
    xs = points(name, dtype, n)
    return xs, ORACLES[name](dtype, *xs)


def check(name, dtype, target, width=None, n=40000):
    xs, want = truth(name, dtype, FEW if name in MULTIPRECISION else n)
    got = run(name, *xs, dtype=dtype, width=width, target=target)
    error = errors(got, want, dtype, terms(name, xs))
    worst = int(np.argmax(error))
    at = [x[worst] for x in xs]
    message = f"{name}{tuple(at)}: got {got[worst]}; expected {want[worst]}: {error[worst]} ulp"
    assert error[worst] <= bound(name, dtype, target), message
    if name not in MULTIPRECISION:  # mpmath has one zero
        wrong = (got == 0) & (want == 0) & (np.signbit(got) != np.signbit(want))
        assert not wrong.any(), f"{name}: sign of zero at {[x[wrong][:5] for x in xs]}"


# -- the tests
def test_every_function_has_an_oracle_and_a_bound():
    assert set(FUNCTIONS) == set(ORACLES)
    for name in FUNCTIONS:
        assert bound(name, "f32", "native") >= 0
        assert "\n" not in FUNCTIONS[name].__doc__


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_error_stays_within_the_stated_bound(name, dtype):
    check(name, dtype, "native")


@pytest.mark.parametrize("target", [t for t in TARGETS if t != "native"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_error_on_lesser_machines(name, dtype, target):
    check(name, dtype, target, n=4000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_scalars_equal_vectors(name, dtype):
    xs = points(name, dtype, 300)
    scalar = run(name, *xs, dtype=dtype, width=1)
    np.testing.assert_array_equal(scalar, run(name, *xs, dtype=dtype))


@pytest.mark.parametrize("width", [2, 4, 32])
@pytest.mark.parametrize("name", ["exp", "sin", "pow", "fmod", "erf"])
def test_widths_other_than_a_register(name, width):
    xs = points(name, "f32", 300)
    np.testing.assert_array_equal(run(name, *xs, width=width), run(name, *xs))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_exact_results(dtype, target):
    go = functools.partial(run, dtype=dtype, target=target)
    assert go("exp", [0.0, -0.0]).tolist() == [1, 1]
    assert go("cos", [0.0, -0.0]).tolist() == [1, 1]
    assert go("sin", [np.pi / 2]).tolist() == [1]
    assert go("sigmoid", [0.0]).tolist() == [0.5]
    assert go("tanh", [np.inf, -np.inf]).tolist() == [1, -1]
    assert go("erf", [np.inf, -7.0]).tolist() == [1, -1]
    whole = np.arange(-100, 101)
    np.testing.assert_array_equal(go("exp2", whole), 2.0**whole)
    np.testing.assert_array_equal(go("log2", 2.0**whole), whole)
    np.testing.assert_array_equal(go("pow", np.arange(-9, 10), 3.0), np.arange(-9.0, 10) ** 3)
    np.testing.assert_array_equal(go("pow", 2.0, whole), 2.0**whole)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pow_of_special_numbers(dtype):
    inf, nan = np.inf, np.nan
    cases = [(nan, 0, 1), (1, nan, 1), (nan, 1, nan), (2, nan, nan), (-1, inf, 1), (-1, -inf, 1),
             (0.5, inf, 0), (0.5, -inf, inf), (2, inf, inf), (2, -inf, 0), (-2, inf, inf),
             (-8, 1 / 3, nan), (0.0, -1, inf), (-0.0, -1, -inf), (-0.0, -2, inf), (-0.0, 3, -0.0),
             (-0.0, 0.5, 0.0), (inf, -1, 0.0), (-inf, 3, -inf), (-inf, 2, inf), (-inf, -3, -0.0),
             (-inf, 0.5, inf), (-2, 3, -8), (-2, -1, -0.5), (1, inf, 1), (1, 1e30, 1)]  # fmt: skip
    x, y, want = np.array(cases).T
    got = run("pow", x, y, dtype=dtype)
    np.testing.assert_array_equal(got, want)
    zero = want == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


INF, NAN = math.inf, math.nan
SPECIAL = {
    "erf": ([-0.0, INF, -INF, NAN], [-0.0, 1, -1, NAN]),
    "erfc": ([-0.0, INF, -INF, NAN, 30], [1, 0, 2, NAN, 0]),
    "erfinv": ([-0.0, 1, -1, 1.5, -INF, NAN], [-0.0, INF, -INF, NAN, NAN, NAN]),
    "ndtr": ([0.0, INF, -INF, NAN], [0.5, 1, 0, NAN]),
    "ndtri": ([0.5, 0, 1, -0.5, 2, NAN], [0, -INF, INF, NAN, NAN, NAN]),
    "log_ndtr": ([-INF, INF, NAN, -1e18], [-INF, -0.0, NAN, -5e35]),
    "lgamma": (
        [0.0, -0.0, 1, 2, -1, -3, INF, -INF, NAN],
        [INF, INF, 0, 0, INF, INF, INF, INF, NAN],
    ),
    "digamma": ([0.0, -0.0, -1, -2, INF, -INF, NAN], [-INF, INF, NAN, NAN, INF, NAN, NAN]),
    "trigamma": ([0.0, -0.0, -1, INF, NAN], [INF, INF, INF, 0, NAN]),
    "i0": ([0, INF, -INF, NAN], [1, INF, INF, NAN]),
    "i1": ([-0.0, INF, -INF, NAN], [-0.0, INF, -INF, NAN]),
    "i0e": ([0, INF, NAN], [1, 0, NAN]),
    "i1e": ([-0.0, INF, -INF, NAN], [-0.0, 0, -0.0, NAN]),
    "tan": ([-0.0, INF, NAN], [-0.0, NAN, NAN]),
    "sin": ([-0.0, INF, -INF, NAN], [-0.0, NAN, NAN, NAN]),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPECIAL)
def test_special_numbers(name, dtype, target):
    x, want = SPECIAL[name]
    got = run(name, x, dtype=dtype, target=target)
    np.testing.assert_allclose(got, np.array(want), rtol=4 * np.finfo(got.dtype).eps, atol=0)
    zero = got == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(np.array(want)[zero]))


@pytest.mark.parametrize("dtype", DTYPES)
def test_zeta_of_special_numbers(dtype):
    s = [2, 2, 2, 1, 0.5, 3, 2, NAN, 2]
    q = [0, -1, -1.5, 2, 2, -0.5, 1e38, 1, NAN]
    want = [INF, INF, 9.379246644989124, INF, NAN, 0.41439832211716, 1e-38, NAN, NAN]
    got = run("zeta", s, q, dtype=dtype)
    np.testing.assert_allclose(got, np.array(want), rtol=8 * np.finfo(got.dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_angles_that_are_great_or_close_to_a_multiple_of_pi(dtype):
    rng = np.random.default_rng(3)
    turns = np.concatenate([rng.integers(1, 2**40, 3000), 2 ** np.arange(40)]).astype(np.longdouble)
    x = (turns * (np.arctan(np.longdouble(1)) * 2)).astype(DTYPES[dtype])
    x = np.concatenate([x, -x, np.nextafter(x, x.dtype.type(0))])
    for name in ("sin", "cos", "tan"):
        error = errors(run(name, x, dtype=dtype), ORACLES[name](dtype, x), dtype)
        assert error.max() <= bound(name, dtype, "native"), name


def test_an_unknown_function_is_refused():
    b = Builder("k", HOST, expand)
    with b.entry(), pytest.raises(ValueError, match="got an unknown function; expected one of"):
        b.math("cube", b.const(1.0, "f32"))


def test_integers_are_refused():
    b = Builder("k", HOST, expand)
    with b.entry(), pytest.raises(TypeError, match="exp: got i32; expected f32 or f64"):
        b.math("exp", b.const(1, "i32"))


@pytest.mark.parametrize("target", TARGETS)
def test_no_function_calls_a_library(target):
    for name in FUNCTIONS:
        t = TARGETS[target]
        b = Builder("k", t, expand)
        with b.entry():
            width, count = t.lanes(4), 2 if name in BINARY else 1
            args = [b.load(b.pointer(i), 0, "f32", width) for i in range(count)]
            b.store(b.pointer(2), 0, b.math(name, *args), "f32")
        calls = [line for line in cpu.assembly(b.kernel, t).splitlines() if "\tcall" in line]
        assert not calls, f"{name}: {calls}"
