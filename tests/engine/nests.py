"""A table of small programs that reach every form of kernel, each with its meaning in NumPy.

Run as a script it computes them all under the settings of its environment and writes the results,
and what the objects of its kernels refer to, into a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "int32",
    "int64",
    "float16",
    "bfloat16",
    "float32",
    "float64",
)


@dataclass
class Case:
    """`run(amity)` gives a tensor; `oracle()` an array, or None where only bits are compared."""

    run: Callable[[Any], Any]
    oracle: Callable[[], Any] | None
    rtol: float = 0.0
    atol: float = 0.0


CASES: dict[str, Case] = {}


def normal(*shape: int, seed: int = 0, dtype: str = "f4") -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def whole(
    *shape: int, low: int = -50, high: int = 50, seed: int = 1, dtype: str = "i8"
) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).integers(low, high, shape).astype(dtype)


def add(
    name: str, inputs: Sequence[np.ndarray], run: Callable, oracle: Callable | None,
    rtol: float = 0.0, atol: float = 0.0,
) -> None:  # fmt: skip
    """`run(amity, *tensors)` and `oracle(*arrays)` on the same inputs."""
    assert name not in CASES
    meaning = None if oracle is None else lambda: oracle(*[x.copy() for x in inputs])
    CASES[name] = Case(
        lambda amity: run(amity, *[amity.from_numpy(x) for x in inputs]), meaning, rtol, atol
    )


def wide(*arrays: np.ndarray) -> list[np.ndarray]:
    return [a.astype("f8") for a in arrays]


# -- elementwise: tails, strides, broadcasting, rounding, division


def elementwise() -> None:
    for n in (1, 7, 63, 64, 65, 1000):
        add(f"exp of {n}", [normal(n)], lambda a, x: x.exp(), lambda x: np.exp(*wide(x)), 1e-6)
    x = normal(37, 41, seed=2) * 9
    whole_x, whole_z = whole(37, 41), whole(37, 41, low=1, seed=3)
    for name in ("floor", "ceil", "trunc", "round"):
        add(f"{name} f32", [x], lambda a, x, f=name: getattr(x, f)(), getattr(np, name))
        add(
            f"{name} f64", [x.astype("f8")], lambda a, x, f=name: getattr(x, f)(), getattr(np, name)
        )
    for name in ("remainder", "fmod", "floor_divide"):
        for kind, p, q in (("f32", x, whole_z.astype("f4")), ("i64", whole_x, whole_z)):
            add(
                f"{name} {kind}",
                [p, q],
                lambda a, x, z, f=name: getattr(a, f)(x, z),
                getattr(np, name),
                1e-6,
            )
    add("transposed and broadcast", [x, normal(37, 1)], lambda a, x, z: x.t() * z.t() + 1,
        lambda x, z: x.T * z.T + 1, 1e-6)  # fmt: skip
    add(
        "every second",
        [x],
        lambda a, x: x[::2, 1::3].tanh(),
        lambda x: np.tanh(*wide(x[::2, 1::3])),
        1e-6,
    )
    add("select", [x, whole_x], lambda a, x, w: a.where(w > 0, x, -x.double()),
        lambda x, w: np.where(w > 0, x, -x.astype("f8")))  # fmt: skip
    add("logic", [whole_x], lambda a, w: (w > 3) & ~(w % 2 == 0) | (w == -50),
        lambda w: (w > 3) & ~(w % 2 == 0) | (w == -50))  # fmt: skip
    add("shifts", [whole_x], lambda a, w: (w << 3) ^ (w >> 1), lambda w: (w << 3) ^ (w >> 1))
    add("gelu", [x], lambda a, x: a.nn.functional.gelu(x, approximate="tanh"), _gelu, 1e-5, 1e-6)


def _gelu(x: np.ndarray) -> np.ndarray:
    (x,) = wide(x)
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# -- casts between all dtypes


def numpy_dtype(name: str) -> Any:
    return ml_dtypes.bfloat16 if name == "bfloat16" else np.dtype(name)


def casts() -> None:
    for source in NAMES:
        values = whole(3, 23, low=0, high=100, seed=5)
        for target in NAMES:
            add(f"{source} to {target}", [values.astype(numpy_dtype(source))],
                lambda a, x, t=target: x.to(getattr(a, t)),
                lambda x, t=target: x.astype(numpy_dtype(t)))  # fmt: skip
    hard = np.array(
        [
            0.0,
            -0.0,
            np.inf,
            -np.inf,
            np.nan,
            65504,
            65520,
            1e-8,
            6e-8,
            6.2e-5,
            1.0009765,
            3e38,
            1e-40,
        ],
        "f4",
    )
    hard = np.concatenate([hard, normal(200, seed=6) * 1e-5, normal(200, seed=7) * 1e4])
    for name in ("float16", "bfloat16"):
        add(
            f"rounding to {name}",
            [hard],
            lambda a, x, t=name: x.to(getattr(a, t)),
            lambda x, t=name: _quietly(x, t),
        )
        add(
            f"there and back from {name}",
            [_quietly(hard, name)],
            lambda a, x: x.float(),
            lambda x: x.astype("f4"),
        )


def _quietly(x: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return x.astype(numpy_dtype(name))


# -- reductions: along memory, across it, over all, in the middle


def reductions() -> None:
    x = normal(19, 23, 37, seed=8)
    dims: dict[str, Any] = {
        "all": None,
        "last": 2,
        "first": 0,
        "middle": 1,
        "outer": (0, 2),
        "inner": (1, 2),
    }
    for where, dim in dims.items():
        for name, numpy in (("sum", np.sum), ("amax", np.max), ("mean", np.mean)):
            run = lambda a, x, d=dim, f=name: getattr(x, f)() if d is None else getattr(x, f)(d)  # noqa: E731
            add(
                f"{name} {where}",
                [x],
                run,
                lambda x, d=dim, f=numpy: f(*wide(x), axis=d),
                1e-5,
                1e-5,
            )
    add(
        "sum of a long vector",
        [normal(300_001)],
        lambda a, x: x.sum(),
        lambda x: np.sum(*wide(x)),
        1e-5,
        1e-3,
    )
    add("sum of integers", [whole(301, 7)], lambda a, x: x.sum(0), lambda x: x.sum(0))
    add(
        "sum of bytes",
        [whole(301, 7, low=0, dtype="u1")],
        lambda a, x: x.sum(1),
        lambda x: x.sum(1, dtype="i8"),
    )
    add("mean of halves", [normal(31, 65).astype("f2")], lambda a, x: x.mean(1),
        lambda x: np.mean(*wide(x), axis=1), 1e-3, 1e-3)  # fmt: skip
    add(
        "product",
        [x[:3, :4, :5]],
        lambda a, x: x.prod(2),
        lambda x: np.prod(*wide(x), axis=2),
        1e-5,
    )
    add("any and all", [whole(9, 70, low=0, high=9)], lambda a, x: a.stack([(x == 3).any(1), (x < 8).all(1)]),
        lambda x: np.stack([(x == 3).any(1), (x < 8).all(1)]))  # fmt: skip
    for dim in (0, 1, 2):
        add(f"argmax {dim}", [x], lambda a, x, d=dim: x.argmax(d), lambda x, d=dim: x.argmax(d))
        add(
            f"argmin of integers {dim}",
            [whole(9, 11, 70)],
            lambda a, x, d=dim: x.argmin(d),
            lambda x, d=dim: x.argmin(d),
        )
    add("var", [x], lambda a, x: x.var(1), lambda x: np.var(*wide(x), axis=1, ddof=1), 1e-5)
    add("sum of a turned one", [x], lambda a, x: x.permute(2, 0, 1).sum(1),
        lambda x: x.transpose(2, 0, 1).sum(1, dtype="f8"), 1e-5, 1e-5)  # fmt: skip


# -- rows: several passes over the same row


def rows() -> None:
    x = normal(33, 129, seed=9)
    for dim in (0, 1):
        add(
            f"softmax {dim}",
            [x],
            lambda a, x, d=dim: x.softmax(d),
            lambda x, d=dim: _softmax(x, d),
            1e-5,
            1e-7,
        )
        add(f"log_softmax {dim}", [x], lambda a, x, d=dim: x.log_softmax(d),
            lambda x, d=dim: np.log(_softmax(x, d)), 1e-5, 1e-5)  # fmt: skip
    add(
        "softmax of halves",
        [x.astype("f2")],
        lambda a, x: x.softmax(1),
        lambda x: _softmax(x, 1),
        1e-3,
        1e-5,
    )
    add("layer_norm", [x, normal(129, seed=10)], lambda a, x, w: a.nn.functional.layer_norm(x, (129,), w),
        _layer_norm, 1e-4, 1e-5)  # fmt: skip
    add("cumsum", [whole(9, 77)], lambda a, x: x.cumsum(1), lambda x: x.cumsum(1))
    add("sort", [x], lambda a, x: x.sort(1)[0], lambda x: np.sort(x, 1))


def _softmax(x: np.ndarray, dim: int) -> np.ndarray:
    (x,) = wide(x)
    e = np.exp(x - x.max(dim, keepdims=True))
    return e / e.sum(dim, keepdims=True)


def _layer_norm(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    x, w = wide(x, w)
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5) * w


# -- indexed: every output element reads where it likes


def indexed() -> None:
    x, at = normal(13, 21, seed=11), whole(13, 5, low=0, high=21, seed=12)
    images = normal(2, 3, 11, 14, seed=13)
    add("gather", [x, at], lambda a, x, i: x.gather(1, i), lambda x, i: np.take_along_axis(x, i, 1))
    add("index_select", [x, at[0]], lambda a, x, i: x.index_select(1, i), lambda x, i: x[:, i])
    add(
        "embedding",
        [x, at % 13],
        lambda a, x, i: a.nn.functional.embedding(i, x),
        lambda x, i: x[i],
    )
    add(
        "scatter_add",
        [x, at],
        lambda a, x, i: a.zeros(13, 21).scatter_add(1, i, x[:, :5]),
        _scatter_add,
        1e-5,
        1e-6,
    )
    add("pad", [images], lambda a, x: a.nn.functional.pad(x, (1, 2, 0, 3), value=7.0),
        lambda x: np.pad(x, ((0, 0), (0, 0), (0, 3), (1, 2)), constant_values=7))  # fmt: skip
    add("pad reflected", [images], lambda a, x: a.nn.functional.pad(x, (3, 2, 1, 4), mode="reflect"),
        lambda x: np.pad(x, ((0, 0), (0, 0), (1, 4), (3, 2)), mode="reflect"))  # fmt: skip
    add("max_pool2d", [images], lambda a, x: a.nn.functional.max_pool2d(x, 3, 2),
        lambda x: _windows(x, 3, 2).max((-2, -1)))  # fmt: skip
    add("avg_pool2d", [images], lambda a, x: a.nn.functional.avg_pool2d(x, 2),
        lambda x: _windows(x, 2, 2).mean((-2, -1), dtype="f8"), 1e-5, 1e-6)  # fmt: skip
    add(
        "flip and roll", [x], lambda a, x: x.flip(1).roll(4, 0), lambda x: np.roll(x[:, ::-1], 4, 0)
    )
    add("cat", [x, x[:2]], lambda a, x, y: a.cat([x, y], 0), lambda x, y: np.concatenate([x, y]))
    add("triangle", [x], lambda a, x: x.tril(2), lambda x: np.tril(x, 2))


def _scatter_add(x: np.ndarray, at: np.ndarray) -> np.ndarray:
    out = np.zeros((13, 21))
    for r in range(13):
        np.add.at(out[r], at[r], x[r, :5])
    return out


def _windows(x: np.ndarray, size: int, stride: int) -> np.ndarray:
    w = np.lib.stride_tricks.sliding_window_view(x, (size, size), (-2, -1))
    return w[..., ::stride, ::stride, :, :]


# -- products and convolutions


def products() -> None:
    for m, k, n in ((1, 1, 1), (5, 33, 17), (64, 64, 64), (70, 129, 3)):
        x, y = normal(m, k, seed=14), normal(k, n, seed=15)
        add(
            f"mm {m}x{k}x{n}",
            [x, y],
            lambda a, x, y: x @ y,
            lambda x, y: np.matmul(*wide(x, y)),
            1e-5,
            1e-4,
        )
    x, y = normal(9, 31, seed=16), normal(31, 20, seed=17)
    for name, tol in (("float16", 2e-3), ("bfloat16", 2e-2), ("float64", 1e-12)):
        add(f"mm {name}", [x.astype(numpy_dtype(name)), y.astype(numpy_dtype(name))],
            lambda a, x, y: x @ y, lambda x, y: np.matmul(*wide(x, y)), tol, tol)  # fmt: skip
    add("mm of integers", [whole(9, 31), whole(31, 20)], lambda a, x, y: x @ y, np.matmul)
    add(
        "mm of turned ones",
        [x, y],
        lambda a, x, y: y.t() @ x.t(),
        lambda x, y: np.matmul(*wide(y.T, x.T)),
        1e-5,
        1e-5,
    )
    add("mv", [x, y[:, 0]], lambda a, x, y: x @ y, lambda x, y: np.matmul(*wide(x, y)), 1e-5, 1e-5)
    add(
        "bmm",
        [normal(3, 9, 8), normal(3, 8, 7)],
        lambda a, x, y: a.bmm(x, y),
        lambda x, y: np.matmul(*wide(x, y)),
        1e-5,
        1e-5,
    )
    for name, size, stride in (("3x3", 3, 1), ("3x3 strided", 3, 2), ("1x1", 1, 1), ("5x5", 5, 1)):
        x, w = normal(2, 6, 13, 15, seed=18), normal(8, 6, size, size, seed=19)
        add(f"conv2d {name}", [x, w], lambda a, x, w, s=stride: a.nn.functional.conv2d(x, w, stride=s),
            lambda x, w, s=stride: _conv2d(x, w, s), 1e-4, 1e-4)  # fmt: skip
        add(f"conv2d {name} weight gradient", [x, w], lambda a, x, w, s=stride: _weight_gradient(a, x, w, s),
            lambda x, w, s=stride: _numpy_weight_gradient(x, w, s), 1e-4, 1e-3)  # fmt: skip


def _conv2d(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    return np.einsum(
        "bchwyx,ocyx->bohw", _windows(*wide(x), w.shape[-1], stride), w.astype("f8"), optimize=True
    )


def _weight_gradient(a: Any, x: Any, w: Any, stride: int) -> Any:
    w.requires_grad_()
    a.nn.functional.conv2d(x, w, stride=stride).sum().backward()
    return w.grad


def _numpy_weight_gradient(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
    one = _windows(*wide(x), w.shape[-1], stride).sum((0, 2, 3))
    return np.broadcast_to(one, w.shape)


# -- random numbers and training: compared between settings only


def random() -> None:
    def drawn(draw: Callable) -> Callable:
        def run(a: Any) -> Any:
            a.manual_seed(7)
            return draw(a)

        return run

    add("rand", [], drawn(lambda a: a.rand(3, 101)), None)
    add("randint", [], drawn(lambda a: a.randint(-5, 1000, (203,))), None)
    add("randperm", [], drawn(lambda a: a.randperm(77)), None)
    add("randn", [], drawn(lambda a: a.randn(3, 101)), None, 1e-5, 1e-6)
    add(
        "dropout",
        [normal(9, 33)],
        lambda a, x: drawn(lambda a: a.nn.functional.dropout(x, 0.3))(a),
        None,
        1e-6,
    )
    for name in ("AdamW", "SGD"):
        add(f"training with {name}", [normal(32, 1, 8, 8), whole(32, low=0, high=3)],
            lambda a, x, y, n=name: _train(a, x, y, n), None, 1e-3, 1e-4)  # fmt: skip


def _train(a: Any, x: Any, y: Any, optimizer: str) -> Any:
    a.manual_seed(3)
    nn = a.nn
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                          nn.Linear(36, 3))  # fmt: skip
    steps = getattr(a.optim, optimizer)(model.parameters(), lr=0.01)
    losses = []
    for _ in range(5):
        steps.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        steps.step()
        losses.append(loss.detach())
    return a.stack(losses)


for fill in (elementwise, casts, reductions, rows, indexed, products, random):
    fill()


# -- as a script


def compute(path: Path) -> None:
    """All results into a folder, with the symbols that each kernel's object lacks."""
    from tests.engine.symbols import watch

    watched = watch()
    import amity

    results = {}
    for name, case in CASES.items():
        watched.now = name
        results[name] = np.asarray(case.run(amity).detach().numpy())
    raw = {n: np.frombuffer(np.ascontiguousarray(r).tobytes(), "u1") for n, r in results.items()}
    np.savez(path / "results.npz", **raw)
    notes = {
        "dtypes": {n: str(r.dtype) for n, r in results.items()},
        "shapes": {n: r.shape for n, r in results.items()},
        "missing": watched.missing,
        "kernels": watched.kernels,
    }
    (path / "notes.json").write_text(json.dumps(notes))


def results_under(
    settings: dict[str, str], folder: Path
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a child process with these settings computes, and its notes."""
    environment = (
        os.environ | {"AMITY_CACHE_DIR": str(folder / "cache"), "AMITY_NUM_THREADS": "2"} | settings
    )
    command = [sys.executable, "-m", "tests.engine.nests", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    notes = json.loads((folder / "notes.json").read_text())
    with np.load(folder / "results.npz") as raw:
        flat = {n: np.frombuffer(raw[n].tobytes(), numpy_dtype(notes["dtypes"][n])) for n in CASES}
    arrays = {n: x.reshape(notes["shapes"][n]) for n, x in flat.items()}
    return arrays, notes


if __name__ == "__main__":
    compute(Path(sys.argv[1]))
