"""`x[…]` against PyTorch: read, written, added to; what is a view; gradients and errors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import amity  # noqa: E402
from tests.ops.compare import BUILTIN, Names, array_of, match, of_amity, of_torch, same  # noqa: E402

INPUTS = {"x": "float64[3,4,5]", "z": "float64[400]"}
# `k` has duplicates, `n` counts from the end, `g` is 2-d; `a`, `b`, `c` are masks of ranks 1, 2 and 3
TENSORS = """
k = [0, 2, 2]; n = [-1, 0, -3]; g = [[0, 1], [2, 0]]; a = [True, False, True]; o = [[1], [0]]
b = [[1, 0, 1, 1], [0, 0, 1, 0], [1, 1, 0, 0]]; q = [0, 1, 3, 2]; f = [False, False, False]
h = [0, 1, 1]; m = [-1, 0, -2]; j = [True] * 4
"""
KEYS = """
0 | -1 | 2, 3, 4 | 1, -2 | ... | None | () | ..., 0 | 0, ... | 1, ..., 2 | None, 0 | ..., None
None, ..., None | : | 1: | :2 | ::2 | -2: | :-1 | 5: | 2:1 | 1:2, ::3 | :, :, ::2 | -9:9 | :, 1:1
0, 1:3, None | ..., 1:3 | None, :, None, 0 | 0:3:2, ..., -1 | :, None, 2, None | ::7 | -100:
:, :-100 | 1:None | None:2, None:None:2 | k | n | g | :, k | :, :, k | ..., k | k, n | k, :, n
:, k, n | k, n, k | 0, k | k, 0 | k, 0, n | 0, k, n | :, 0, k | k, :, 0 | k, None | None, k
k, None, n | None, k, n | k, ..., n | ..., k, n | ..., k, None | g, k[:2] | g, :, o | o, q[:2]
k, 1: | 1:, k | 1:, ::2, k | k, ::2, n | k[:, None], n | k[:, None], n, :2 | :, g, o | g[None], k[0]
k[:0] | :, k[:0] | k[:0], n[:0] | ..., g | k[0] | k[0], n[1] | :, k[1] | k[0], :, n | :, k[0], n
k[0], n, k[2] | k, k[0], n | ..., k[2] | k.int() | k.int(), n | a | a, 0 | a, :, 0 | a, 1:
a, k[:2] | :, j | :, j, 0 | b | b, 0 | b, 1:3 | b, k[:1] | a, None | None, a | ..., x[0, 0] > 0
x > 0 | x > 99 | f | 0, j | x[:, :, 0] > 0 | b, None | a, ..., 0 | True | False | True, 0 | 0, True
None, True | True, k | ..., True | True, False | x.sum() > 1e9 | x.sum() < 1e9 | tensor(True)
tensor(False) | tensor(True), 0 | tensor(1), True | [0, 2] | [0, 2], [1, 3] | :, [0, 1]
[True, False, True] | [-1] | [] | [], 0 | :, [] | [0, 1], 1:, [2, 2] | (0, 1) | (0, [1, 2])
range(2) | 0, range(1, 3) | [1], [[0], [1]], 0 | array([0, 2])
array([[True, False, True, True]] * 3) | array(1) | array([0, 1], dtype='int32')
array([1, 0], dtype='int16') | long(1) | long(2), long(0) | array([], dtype='int64')
array([True, False, True]) | slice(long(0), long(2)) | slice(0, 3, long(2)) | array(True)
array(2), 0 | slice(k[0], k[1]) | slice(None, k[2]) | 0, slice(tensor(1), None) | slice(True, 3)
""".strip()
ERRORS = """
3 | -4 | 0, 4 | 0, 0, 0, 0 | ::-1 | ::0 | :, ::-2 | k + 1 | n - 1 | k, g, n | k, k[:2] | a[:2]
b[:2] | :, a | b, 0, 0 | x > 0, 0 | 1.5 | 'a' | 0, 1.0 | k.double() | tensor(1.0) | 1:2.5 | {}
:, :, :, k | k, k, k, k | x[0] > 0 | k.to(int16) | k.to(int8) | [0, 1], [0, 1, 2] | [0, 3] | 0, [9]
array([5]) | -4, ... | b, k | a, k | None, None, 5 | ..., 5 | k[:0] + 9, 7 | slice('a', None)
slice(0.5, 2) | True, 0, 0, 0, 0 | k, n[:2] | object() | slice(0, k)
""".strip()


def names(lib, given):
    space = Names(lib, given)
    for line in TENSORS.replace("\n", ";").split(";"):
        if "=" in line:
            name, value = line.split("=")
            space[name.strip()] = lib.tensor(eval(value))
    space["b"] = space["b"].bool()
    space |= {"array": np.array, "long": np.int64, "range": range, "object": object, "key": Key()}
    return space


class Key:
    """The key itself, of `Key()[key]`."""

    def __getitem__(self, key):
        return key


def key_of(lib, text, given):
    return eval(f"key[{text}]", {}, names(lib, given))


def cases(text):
    found = [t.strip() for line in text.splitlines() for t in line.split(" | ")]
    return list(dict.fromkeys(found))


def inputs_of(lib):
    make = of_torch if lib is torch else of_amity
    return {n: make(array_of(s, n), False) for n, s in INPUTS.items()}


@pytest.mark.parametrize("key", cases(KEYS))
def test_reading(key):
    def read(lib, x, z):
        return x[key_of(lib, key, {"x": x, "z": z})]

    read(torch, **inputs_of(torch))  # two errors would match too
    match(read, order=2, **INPUTS)


@pytest.mark.parametrize("key", cases(KEYS))
def test_views_and_copies(key):
    """What is written to the result shows in the tensor just where PyTorch gives a view."""
    shown = []
    for lib in (torch, amity):
        given = inputs_of(lib)
        y = given["x"][key_of(lib, key, given)]
        if y.numel():
            y.fill_(7.5)
        shown.append((given["x"], y))
    (expected, a), (got, b) = shown
    same(got, expected, f"writing to x[{key}]")
    steps = [[s for n, s in zip(t.shape, t.stride(), strict=True) if n > 1] for t in (a, b)]
    assert steps[0] == steps[1] or not a.numel(), f"x[{key}]: {b.stride()} is not {a.stride()}"


def part(x, key, z):
    """A taped value that fits x[key], or one that is broadcast to it."""
    shape = tuple(x.detach()[key].shape)
    count = int(np.prod(shape))
    return z[:count].reshape(shape)


@pytest.mark.parametrize("key", cases(KEYS))
def test_writing(key):
    def numbers(lib, x, z):
        y = x * 1
        y[key_of(lib, key, {"x": x, "z": z})] = 7
        return y

    def tensors(lib, x, z):
        y = x * 1
        at = key_of(lib, key, {"x": x, "z": z})
        y[at] = part(x, at, z)
        return y, y * y

    def scalars(lib, x, z):
        y = x * 1
        y[key_of(lib, key, {"x": x, "z": z})] = z[3]
        return y

    for f in (numbers, tensors, scalars):
        f(torch, **inputs_of(torch))
        match(f, order=1, **INPUTS)


@pytest.mark.parametrize("key", cases(KEYS))
def test_augmented_assignment(key):
    def run(lib, x, z):
        y = x * 1
        at = key_of(lib, key, {"x": x, "z": z})
        y[at] += part(x, at, z)
        y[at] *= 2
        return y

    match(run, order=1, **INPUTS)


@pytest.mark.parametrize("key", cases(ERRORS))
def test_errors(key):
    def read(lib, x, z):
        return x[key_of(lib, key, {"x": x, "z": z})]

    def write(lib, x, z):
        x[key_of(lib, key, {"x": x, "z": z})] = 1
        return x

    for f in (read, write):
        with pytest.raises(BUILTIN):
            f(torch, **inputs_of(torch))
        match(f, **INPUTS)


VALUES = """
y[0] = z[:5] | y[0] = z[:20].view(1, 4, 5) | y[0] = z[:5].view(1, 1, 5) | y[0] = z[:4].view(4, 1)
y[:] = z[:1] | y[...] = z[0] | y[1:] = z[:20].view(1, 4, 5) | y[k] = z[:20].view(4, 5)
y[k] = z[:3].view(3, 1, 1) | y[k, 0] = z[:5] | y[k, n] = z[:15].view(1, 3, 5)
y[k] = z[:20].view(1, 1, 4, 5) | y[b] = z[:6].view(6, 1) | y[b] = z[:5] | y[x > 0] = z[0]
y[x > 0] = 2 | y[x > 0] = z[:1] | y[a] = 0.5 | y[a] = True | y[0] = tensor(3) | y[0] = z[:5].float()
y[0, 0] = tensor([1, 2, 3, 4, 5]) | y[True] = 1.5 | y[False] = 1.5 | y[None, 0] = z[:20].view(4, 5)
y[:, None] = z[:1] | y[:0] = 3 | y[k[:0]] = 4 | y[k[:0]] = z[:20].view(4, 5)
y[f] = z[:20].view(4, 5) | y[0] = y[1] | y[k] = y[n] | y[0][1] = 5 | y[0, 1][2:] = z[:3]
y[..., 0][1] = z[:4] | y[k][0] = 3 | y[1:][k[:2] // 2] = z[:5]
y.transpose(0, 2)[k] = z[:12].view(4, 3) | y[::2][a[:2]] = 9 | y[0] += 1 | y[k] += 1 | y[k] -= z[:5]
y[b] *= z[:6].view(6, 1) | y[x > 0] /= 2 | y[:, ::2] **= 2 | y[1:, k] += y[:2, n]
y[0, 0, 0] += z[0] | y[..., -1] -= y[..., 0] | y[k, n] += z[:5] | y[k, k] = -inf | y[0] = -z[:5]
y[y > 0] = -1 | y[y > 0] = y[y > 0] * 2 | y[a, k[:2]] = z[:10].view(2, 5) | y[a] = z[:20].view(4, 5)
""".strip()
WRONG = """
y[0] = z[:4] | y[0] = z[:3] | y[0] = z[:40].view(2, 4, 5) | y[k] = z[:40].view(2, 4, 5)
y[b] = z[:7] | y[x > 0] = z[:2] | y[a] = z[:60].view(3, 4, 5) | y[0] = 'a' | y[0] = None
y[0, 0, 0] = z[:2] | y[k] = 'a' | y[:0] = z[:2] | y[k[:0]] = z[:3] | y[5] = 1 | y[0] = z[:400]
y[1:] = z[:9].view(3, 3) | y[0] = {} | y[k] = None | y[..., 0] = z[:5]
""".strip()


@pytest.mark.parametrize("text", cases(VALUES))
def test_values_that_are_written(text):
    def run(lib, x, z):
        space = names(lib, {"x": x, "z": z})
        space["y"] = x * 1
        exec(text, {}, space)
        return space["y"]

    run(torch, **inputs_of(torch))
    match(run, order=1, **INPUTS)


@pytest.mark.parametrize("text", cases(WRONG))
def test_values_that_do_not_fit(text):
    def run(lib, x, z):
        space = names(lib, {"x": x, "z": z})
        space["y"] = x * 1
        exec(text, {}, space)
        return space["y"]

    with pytest.raises(BUILTIN):
        run(torch, **inputs_of(torch))
    match(run, **INPUTS)


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32"]
)
def test_every_dtype(dtype):
    for text in (
        "x[k]",
        "x[:, k]",
        "x[b]",
        "x[k, k]",
        "x[x > 0]",
        "x[::2, 1:]",
        "x[tensor(1)]",
        "x[..., None]",
    ):
        match(lambda lib, x, text=text: eval(text, {}, names(lib, {"x": x})), x=f"{dtype}[3,4]")
    for text in (
        "y[k] = 1",
        "y[b] = 0",
        "y[0] = 2",
        "y[k, k] = x[0, :3]",
        "y[:, 1:3] = 1.7",
        "y[k] = True",
    ):

        def write(lib, x, text=text):
            space = names(lib, {"x": x, "y": x.clone()})
            exec(text, {}, space)
            return space["y"]

        match(write, x=f"{dtype}[3,4]")


@pytest.mark.filterwarnings("ignore:indexing with dtype torch.uint8")
@pytest.mark.parametrize(
    "key",
    [
        "b.byte()",
        "a.byte()",
        "a.byte(), 0",
        ":, j.byte()",
        "tensor(1, dtype=uint8)",
        "tensor(0, dtype=uint8)",
    ],
)
def test_masks_of_bytes(key):
    def read(lib, x, z):
        return x[key_of(lib, key, {"x": x})]

    match(read, order=1, **INPUTS)


ZERO_D = "() | ... | None | True | False | ..., None | tensor(True) | s > 99 | None, True | True, True".split(
    " | "
)
NOT_ZERO_D = "0 | : | [0] | tensor(0) | 0, ... | tensor([0]) | tensor([True])".split(" | ")


@pytest.mark.parametrize("key", [*ZERO_D, *NOT_ZERO_D])
def test_zero_dimensions(key):
    def read(lib, s):
        return s[key_of(lib, key, {"s": s})]

    def write(lib, s):
        y = s * 1
        y[key_of(lib, key, {"s": s})] = 2.5
        return y

    match(read, order=1, s="float64[]")
    match(write, order=1, s="float64[]")


EMPTY = """
0:0 | k[:0] | :, k[:0] | :, 1 | ..., 0 | :, a | e > 0 | None, :, 2 | :, 1:2 | [] | :, [0, 2] | False | True
""".strip()


@pytest.mark.parametrize("key", cases(EMPTY))
def test_no_elements(key):
    def read(lib, e):
        return e[key_of(lib, key, {"e": e})]

    def write(lib, e):
        y = e * 1
        y[key_of(lib, key, {"e": e})] = 2.5
        return y

    for f in (read, write):
        f(torch, torch.zeros(0, 3))
        match(f, order=1, e="float64[0,3]")


LAYOUTS = [
    "x.transpose(0, 2)",
    "x[:, ::2]",
    "x[..., 1:4]",
    "x[:1].expand(3, 4, 5)",
    "x.permute(1, 2, 0)[1:]",
]
PLAIN = "h | h, m | :, h | ..., h, m | 0, h | h[1] | h[:, None], m | ::2, None, h | h, :, m".split(
    " | "
)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("key", PLAIN)
def test_other_layouts(layout, key):
    def read(lib, x, z):
        space = names(lib, {"x": x})
        return eval(layout, {}, space)[eval(f"key[{key}]", {}, space)]

    def write(lib, x, z):
        y = x * 1
        space = names(lib, {"x": y})
        shown, at = eval(layout, {}, space), eval(f"key[{key}]", {}, space)
        shown[at] = part(shown, at, z)
        return y

    read(torch, **inputs_of(torch))
    match(read, order=2, **INPUTS)
    if "expand" not in layout:
        match(write, order=1, **INPUTS)


PLACES = """
y.index_put_((k,), z[:5]) | y.index_put_((k, n), z[:5]) | y.index_put_((k,), z[0], accumulate=True)
y.index_put_((k, n), z[:15].view(3, 5), accumulate=True) | y.index_put_((b,), z[0])
y.index_put_((a,), z[:20].view(4, 5), accumulate=True)
y.index_put_((k, k, k), z[:3], accumulate=True) | y.index_put_((g, g), z[:5], True)
y.index_put_([k[:0]], z[:5]) | y.index_put_((tensor(1),), z[0], True)
y.index_put_((k,), tensor(1.0)) | y.index_put_((k, n), z[:10].view(2, 5))
y.index_put_((k + 5,), z[0]) | y.index_put_((k,), 1.0) | y.index_put_((k,), z[:7])
""".strip()


@pytest.mark.parametrize("text", cases(PLACES))
def test_index_put(text):
    def run(lib, x, z):
        space = names(lib, {"x": x, "z": z})
        space["y"] = x * 1
        exec(text, {}, space)
        return space["y"]

    match(run, order=1, **INPUTS)


def test_leaves_are_not_written():
    for text in ("x[0] = 1", "x[k] = 1", "x[b] += 1", "x[...] = z[0]", "x[:0] = 1"):

        def run(lib, x, z, text=text):
            exec(text, {}, names(lib, {"x": x, "z": z}))
            return x

        match(run, order=1, **INPUTS)


def test_the_error_names_what_was_got():
    x = amity.ones(3, 4)
    for key, words in (
        (5, "index 5"),
        ((0, 0, 0), "too many indices"),
        (amity.tensor([3]), "index 3"),
        (1.5, "float"),
    ):
        with pytest.raises((IndexError, TypeError), match=words):
            x[key]
    with pytest.raises(ValueError, match="step"):
        x[::-1]
    with pytest.raises(IndexError, match=r"mask \[2\].*\[3, 4\]"):
        x[amity.tensor([True, False])]
