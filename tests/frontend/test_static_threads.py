"""Calls that skip Python while other threads change what they stand for: never an error, never stale."""

from __future__ import annotations

import sys
import threading
import time

import pytest

import amity
from amity.frontend.reach import Reach
from tests.frontend.statics import needs_guards

pytestmark = needs_guards
SCALE = 1.0
TABLE = {"shift": 0.0}
ITEMS = [0.0]
ONES = amity.ones(3)


def scaled(x):
    return x * ONES * SCALE + TABLE["shift"] + ITEMS[0]


@pytest.fixture
def often():
    """Threads take turns all the time."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_threads_call_what_another_one_changes(often):
    global SCALE
    f, failures, is_over = amity.compile(scaled), [], threading.Event()

    def calls():
        while not is_over.is_set():
            before = SCALE
            try:
                found = f(ONES).tolist()[0]
            except Exception as error:
                failures.append(repr(error))
            else:
                if not before <= found <= SCALE:
                    failures.append((before, found, SCALE))

    threads = [threading.Thread(target=calls) for _ in range(3)]
    for thread in threads:
        thread.start()
    end, turn = time.monotonic() + 1.0, 0
    while time.monotonic() < end:
        turn += 1
        SCALE += 1.0
        TABLE[turn % 50] = turn
        TABLE.pop((turn + 7) % 50, None)
        ITEMS.append(turn)
        del ITEMS[1 + turn % 40 :]
        if turn % 50 == 0:
            time.sleep(0.002)
    is_over.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert f.statics.trials and len(f.statics.ends) <= 8


def test_a_change_between_looking_and_guarding_is_seen(monkeypatch):
    global SCALE
    f, words = amity.compile(scaled), Reach.words

    def slow_words(reach):
        global SCALE
        SCALE += 1.0  # as another thread would
        return words(reach)

    monkeypatch.setattr(Reach, "words", slow_words)
    for _ in range(20):
        found = f(ONES).tolist()
        assert found == [SCALE] * 3
    assert f.statics.trials
