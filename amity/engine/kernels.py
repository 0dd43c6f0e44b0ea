"""Kernels by key: in memory, on disk, or built now."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from amity.core import flags
from amity.core.sources import STAMP
from amity.ir.target import Target

from .cache import cache


class Found(NamedTuple):
    """A kernel, loaded; its name fixes its code."""

    address: int
    name: str


class Kernels:
    """All kernels of this process. Codegen and LLVM are loaded when the first one is asked for."""

    def __init__(self) -> None:
        from amity.codegen import cpu, llvm  # lazy: LLVM takes 0.1 s to load
        from amity.compiler.numerics import expand  # lazy: only kernels need it

        self.codegen, self._llvm, self.math = cpu, llvm, expand
        self.target: Target = cpu.host_target()
        self.stamp = f"{STAMP}|{self.target.key}"
        self._found: dict[tuple, Found] = {}
        self._address: dict[str, int] = {}
        self.names: dict[int, str] = {}  # of kernels, by their addresses
        self._built: set[tuple] = set()
        self._complete: set[tuple] = set()
        self.lock = threading.RLock()  # taken around a fork too
        self.load: Callable[[bytes, list[str]], list[int]] | None = None
        self.compiled = 0
        self.seconds = 0.0

    def text_object(self, code: str) -> bytes:
        """The object of LLVM IR text that is no kernel (the runtime's glue)."""
        return self._cached(f"{self.stamp}|{hashlib.sha256(code.encode()).hexdigest()}",
                            lambda: self._llvm.emit_object(code, self.target))  # fmt: skip

    def _cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        code = cache.get(key) if self.are_kept else None
        if code is None:
            start = time.perf_counter()
            code = make()
            self.compiled += 1
            self.seconds += time.perf_counter() - start
            cache.put(key, code)
        return code

    @property
    def are_kept(self) -> bool:
        """Whether what is on disk may be used: some settings look at all that is made."""
        return not flags.show and "ir" not in flags.check

    def find(self, key: tuple, build: Callable[..., Any], label: str) -> Found:
        """The kernel of that key, built if need be."""
        return self._find(key, build, label, self.codegen.compile_kernel)

    def find_guarded(self, key: tuple, build: Callable[..., Any], label: str) -> Found:
        """The same kernel, which looks at each address before it goes there."""
        return self._find(("guarded", key), build, label, self._guarded)

    def _guarded(self, kernel: Any, target: Target) -> bytes:
        return self.codegen.compile_kernel(kernel, target, is_guarded=True)

    def _find(
        self, key: tuple, build: Callable[..., Any], label: str, compile: Callable[..., bytes]
    ) -> Found:
        found = self._found.get(key)
        if found is None:
            with self.lock:
                found = self._found.get(key)
                if found is None:
                    found = self._found[key] = self._get(key, build, label, compile)
        return found

    def load_named(self, name: str) -> int | None:
        """Where the kernel of that name is, if it was built before, here or elsewhere."""
        address = self._address.get(name)
        if address is None:
            with self.lock:
                code = cache.get(f"{self.stamp}|{name}")
                if code is not None:
                    address = self._loaded(code, name)
        return address

    def _loaded(self, code: bytes, name: str) -> int:
        address = self._address.get(name)
        if address is None:
            address = self._address[name] = self.load(code, [name])[0]
            self.names[address] = name
        return address

    def complete(
        self, used: Sequence[tuple[tuple, tuple]], family: Callable[[], Iterable[tuple]]
    ) -> None:
        """Get all kernels of a family with the first that are used, so that no size waits for one.

        `used` are their keys, each with what else decides the family. A mark among the kernels on
        disk says that all are there.
        """
        names = tuple(used)
        if names in self._complete or not self.are_kept:
            return
        with self.lock:
            mark = f"{self.stamp}|family|{names}"
            is_new = any(key in self._built for key, _ in names)
            if is_new or not cache.is_marked(mark):
                for code in family():
                    self.find(*code)
                cache.mark(mark)
            self._complete.add(names)

    def _get(
        self, key: tuple, build: Callable[..., Any], label: str, compile: Callable[..., bytes]
    ) -> Found:
        words = repr(key)
        name = f"{label}_{hashlib.sha256(words.encode()).hexdigest()[:24]}"

        def make() -> bytes:
            kernel = build(name, self.target, self.math)
            self._built.add(key)
            return compile(kernel, self.target)

        address = self._address.get(name)
        if address is None:
            address = self._loaded(self._cached(f"{self.stamp}|{name}", make), name)
        return Found(address, name)
