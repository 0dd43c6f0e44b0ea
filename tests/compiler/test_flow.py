"""Minimal cuts, beside all cuts there are."""

from __future__ import annotations

import random

import pytest

from amity.compiler.flow import ENDLESS, Network


def all_cuts(nodes, edges, source, sink):
    """What each cut costs, by the nodes on the source's side."""
    others = [n for n in range(nodes) if n not in (source, sink)]
    for bits in range(1 << len(others)):
        side = {source, *(n for i, n in enumerate(others) if bits >> i & 1)}
        yield side, sum(c for a, b, c in edges if a in side and b not in side)


@pytest.mark.parametrize("seed", range(150))
def test_the_cheapest_cut(seed):
    draw = random.Random(seed)
    nodes = draw.randint(2, 8)
    edges = [
        (*draw.sample(range(nodes), 2), draw.choice([0, 1, 2, 3, 7, 100, ENDLESS]))
        for _ in range(draw.randint(0, 24))
    ]
    source, sink = draw.sample(range(nodes), 2)
    cuts = list(all_cuts(nodes, edges, source, sink))
    least = min(cost for _, cost in cuts)
    if least >= ENDLESS:
        return  # no cut parts them
    net = Network(nodes)
    for edge in edges:
        net.join(*edge)
    assert net.flow(source, sink) == least
    assert net.before(sink) == max((side for side, cost in cuts if cost == least), key=len)


def test_a_long_path_with_a_narrow_place():
    net = Network(3001)
    for n in range(3000):
        net.join(n, n + 1, 1 if n == 1234 else 10)
    assert net.flow(0, 3000) == 1
    assert net.before(3000) == set(range(1235))


def test_nothing_flows_where_there_is_no_way():
    net = Network(3)
    net.join(0, 1, 5)
    net.join(2, 1, 5)
    assert net.flow(0, 2) == 0 and net.before(2) == {0, 1}
