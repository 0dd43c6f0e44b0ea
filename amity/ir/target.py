"""What a machine can do, as data: schedules ask it, code generators print for it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """A machine that kernels are made for.

    `vector_bytes` and `registers` describe one core's vector unit; `features` is LLVM's feature
    string. `has` holds the abilities that change which instructions a kernel may use.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    has: frozenset[str] = frozenset()

    def lanes(self, itemsize: int) -> int:
        """How many elements of that size fill one vector register."""
        return max(1, self.vector_bytes // itemsize)

    @property
    def key(self) -> str:
        """The text that a cached object is bound to."""
        return f"{self.triple}|{self.cpu}|{self.features}"
