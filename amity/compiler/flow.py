"""The least that must be cut to part a source from a sink: maximal flow through a network."""

from __future__ import annotations

from collections import deque

ENDLESS = 1 << 62  # a capacity that no cut takes


class Network:
    """Edges with whole capacities between nodes that are numbers.

    source: E. A. Dinitz, 1970, "Algorithm for solution of a problem of maximum flow in networks with
    power estimation"

    >>> net = Network(3)
    >>> net.join(0, 1, 5), net.join(1, 2, 3)
    (None, None)
    >>> net.flow(0, 2), net.before(2)
    (3, {0, 1})
    """

    def __init__(self, nodes: int) -> None:
        self.edges: list[list[int]] = [[] for _ in range(nodes)]  # that leave a node
        self.to: list[int] = []  # edge e and the one back, e ^ 1
        self.left: list[int] = []  # capacity that is not used yet

    def join(self, a: int, b: int, capacity: int) -> None:
        """An edge from a to b."""
        for x, y, room in ((a, b, capacity), (b, a, 0)):
            self.edges[x].append(len(self.to))
            self.to.append(y)
            self.left.append(room)

    def flow(self, source: int, sink: int) -> int:
        """As much as can flow, which is what the cheapest cut costs."""
        total = 0
        while (levels := self._levels(source, sink)) is not None:
            at = [0] * len(self.edges)  # edges before these lead nowhere
            while more := self._path(source, sink, levels, at):
                total += more
        return total

    def before(self, sink: int) -> set[int]:
        """After the flow: the nodes on the source's side of the cheapest cut next to the sink."""
        behind, stack = {sink}, [sink]
        while stack:
            for e in self.edges[stack.pop()]:
                if self.left[e ^ 1] and self.to[e] not in behind:
                    behind.add(self.to[e])
                    stack.append(self.to[e])
        return set(range(len(self.edges))) - behind

    def _levels(self, source: int, sink: int) -> list[int] | None:
        """How far from the source each node is where there is room, if the sink can be reached."""
        levels = [-1] * len(self.edges)
        levels[source] = 0
        queue = deque([source])
        while queue:
            x = queue.popleft()
            for e in self.edges[x]:
                y = self.to[e]
                if self.left[e] and levels[y] < 0:
                    levels[y] = levels[x] + 1
                    if y == sink:
                        return levels
                    queue.append(y)
        return None

    def _path(self, source: int, sink: int, levels: list[int], at: list[int]) -> int:
        """Fill one shortest path; gives by how much."""
        edges, to, left = self.edges, self.to, self.left
        path: list[int] = []
        x = source
        while x != sink:
            if at[x] < len(edges[x]):
                e = edges[x][at[x]]
                if left[e] and levels[to[e]] == levels[x] + 1:
                    path.append(e)
                    x = to[e]
                else:
                    at[x] += 1
            elif path:
                x = to[path.pop() ^ 1]
                at[x] += 1
            else:
                return 0
        room = min([left[e] for e in path])
        for e in path:
            left[e] -= room
            left[e ^ 1] += room
        return room
