"""Numbers with formulas: at every size that passes the guards, they are what plain numbers are."""

from __future__ import annotations

import math
import random

import pytest

from amity.core.symbolic import SymFloat, SymInt, Trace, bits_of, float_of, greatest, has_formula

OPS = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "//": lambda x, y: x // y,
    "%": lambda x, y: x % y,
    "divmod": lambda x, y: sum(divmod(x, y)),
    "max": max,
    "min": min,
    "greatest": greatest,
    "&": lambda x, y: (x & -64) + (x & 7),
    "<<": lambda x, y: (x << 3) - (x >> 2),
    "abs": lambda x, y: abs(x) - (-y),
    "bit_length": lambda x, y: x.bit_length(),
    "prod": lambda x, y: math.prod((x, 3, y)) + sum((x, 4, y)),
}


def plain(x) -> int:
    return int.__int__(x)


def computed(a, b, seed: int) -> tuple[list, list[bool]]:
    """Numbers computed at random from two, and how they compare."""
    rng = random.Random(seed)
    numbers, answers = [a, b, 3, 64, -7], []
    for _ in range(rng.randint(1, 12)):
        x, y = rng.choice(numbers), rng.choice(numbers)
        name = rng.choice(list(OPS))
        if name in ("//", "%", "divmod") and y == 0:
            answers.append(True)
            continue
        z = OPS[name](x, y)
        if -(10**12) < plain(z) < 10**12:
            numbers.append(z)
        answers += [x == y, x < y, x >= y, x != y, x > y, x <= y, bool(x)]
    return numbers, answers


@pytest.mark.parametrize("seed", range(150))
def test_formulas_hold_wherever_guards_do(seed):
    rng = random.Random(-seed - 1)
    here = [rng.randint(0, 50) for _ in range(2)]
    trace = Trace()
    numbers, answers = computed(trace.size(0, here[0]), trace.size(1, here[1]), seed)
    assert (list(map(plain, numbers)), answers) == computed(*here, seed)
    formulas = [x for x in numbers if isinstance(x, SymInt)]
    f = trace.function(formulas, list(trace.guards))
    assert f(here) == [plain(x) for x in formulas]
    for _ in range(20):
        sizes = [rng.randint(0, 60) for _ in range(2)]
        found = f(sizes)
        if found is not None:
            found.reverse()
            wanted, same = computed(*sizes, seed)
            assert same == answers
            assert [found.pop() if isinstance(x, SymInt) else x for x in numbers] == wanted


def test_guards_let_other_sizes_pass():
    """Without this the test above could pass for nothing."""
    trace = Trace()
    n = trace.size(0, 17)
    words = [n * 8 + 3, -(-n // 4), (n * 64) // 8, greatest(n, 20), n & -16]
    assert n != 1 and n * 8 >= 16
    f = trace.function(words, list(trace.guards))
    assert f([17]) == [139, 5, 136, 20, 16]
    assert f([33]) == [267, 9, 264, 33, 32]
    assert f([1]) is None
    assert not trace.pins


@pytest.mark.parametrize(
    "lose",
    [int, float, str, repr, lambda n: n / 2, lambda n: n | 1, lambda n: f"{n:d}", lambda n: n == 2.5,
     round, lambda n: n**2],
)  # fmt: skip
def test_what_cannot_keep_a_formula_is_for_that_size_alone(lose):
    trace = Trace()
    n = trace.size(0, 17)
    assert lose(n) == lose(17)
    assert len(trace.pins) == 1 and "test_symbolic" in trace.pins[0]
    f = trace.function([], list(trace.guards))
    assert f([17]) == [] and f([18]) is None


def test_equal_formulas_are_one_key_and_others_are_not():
    n, m = (Trace().size(0, 4) for _ in range(2))
    assert len({n * 8, n + 7 * n, 8 * n}) == 1
    assert len({n, m, 4}) == 3
    assert len({(n, n * 2): 0, (n, n + n): 1}) == 1


def test_guards_are_told_as_ranges():
    trace = Trace()
    n, m = trace.size(0, 17), trace.size(1, 5)
    assert n != 1 and 4 * n >= 8 and n < 100 and n != 32 and n != m
    assert trace.about(["batch", "time"]) == (
        "batch from 2 to 99 but 32 and time from 0 and batch != time"
    )


def test_floats_are_words():
    trace = Trace()
    word = trace.size(0, bits_of(0.1))
    x = SymFloat(0.1, word)
    assert bits_of(x) is word and float_of(bits_of(-2.5)) == -2.5
    assert has_formula((1, [2.0, (x,)])) and not has_formula((1, [2.0]))
    assert x != 0.5 and not trace.pins
    assert x + 1 == 1.1 and len(trace.pins) == 1
