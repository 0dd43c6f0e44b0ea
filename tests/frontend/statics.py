"""What tests of static calls share: functions compiled and called until Python is skipped."""

import pytest

import amity
from amity.frontend.statics import can_guard

X = amity.arange(6.0).reshape(2, 3)
needs_guards = pytest.mark.skipif(not can_guard(), reason="this machine has no guards")


def uses(f):
    return sum(s.uses for s in f.statics.found)


def warmed(function, *args, static=None):
    """The function compiled, and called until a static call stands for it."""
    f = amity.compile(function, static=static)
    for _ in range(8):
        f(*args)
        if uses(f):
            return f
    raise AssertionError(f.statics.reason)


def agree(f, function, *args):
    a, b = f(*args), function(*args)
    assert str(a) == str(b)
