"""Kernels by key: in memory, on disk, or built now."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from amity.core import flags
from amity.ir import text
from amity.ir.target import Target

from .cache import cache, source_stamp


class Kernels:
    """All kernels of this process. Codegen and LLVM are loaded when the first one is asked for."""

    def __init__(self) -> None:
        from amity.codegen import cpu, llvm  # lazy: LLVM takes 0.1 s to load
        from amity.compiler.numerics import expand  # lazy: only kernels need it

        self.codegen, self._llvm, self.math = cpu, llvm, expand
        self.target: Target = cpu.host_target()
        self._stamp = f"{source_stamp()}|{self.target.key}"
        self._address: dict[tuple, int] = {}
        self.names: dict[int, str] = {}  # of kernels, by their addresses
        self._built: set[tuple] = set()
        self._complete: set[tuple] = set()
        self.lock = threading.RLock()  # taken around a fork too
        self.load: Callable[[bytes, list[str]], list[int]] | None = None
        self.compiled = 0
        self.seconds = 0.0

    def text_object(self, code: str) -> bytes:
        """The object of LLVM IR text that is no kernel (the runtime's glue)."""
        return self._cached(f"{self._stamp}|{hashlib.sha256(code.encode()).hexdigest()}",
                            lambda: self._llvm.emit_object(code, self.target))  # fmt: skip

    def _cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        code = (
            None if flags.show or flags.check else cache.get(key)
        )  # these look at each as it is made
        if code is None:
            start = time.perf_counter()
            code = make()
            self.compiled += 1
            self.seconds += time.perf_counter() - start
            cache.put(key, code)
        return code

    def address(self, key: tuple, build: Callable[..., Any], label: str) -> int:
        """Where the kernel of that key is, building it if need be."""
        found = self._address.get(key)
        if found is None:
            with self.lock:
                found = self._address.get(key)
                if found is None:
                    found = self._address[key] = self._get(key, build, label)
        return found

    def complete(
        self, used: Sequence[tuple[tuple, tuple]], family: Callable[[], Iterable[tuple]]
    ) -> None:
        """Get all kernels of a family with the first that are used, so that no size waits for one.

        `used` are their keys, each with what else decides the family. A mark among the kernels on
        disk says that all are there.
        """
        names = tuple(used)
        if names in self._complete or flags.show or flags.check:  # which look at those that run
            return
        with self.lock:
            mark = f"{self._stamp}|family|{names}"
            is_new = any(key in self._built for key, _ in names)
            if is_new or not cache.is_marked(mark):
                for code in family():
                    self.address(*code)
                cache.mark(mark)
            self._complete.add(names)

    def _get(self, key: tuple, build: Callable[..., Any], label: str) -> int:
        words = repr(key)
        name = f"{label}_{hashlib.sha256(words.encode()).hexdigest()[:24]}"

        def make() -> bytes:
            start = time.perf_counter()
            kernel = build(name, self.target, self.math)
            code = self.codegen.compile_kernel(kernel, self.target)
            self._built.add(key)
            if flags.show:
                self._show(kernel, words, time.perf_counter() - start)
            return code

        code = self._cached(f"{self._stamp}|{words}", make)
        address = self.load(code, [name])[0]
        self.names[address] = name
        return address

    def _show(self, kernel: Any, key: str, seconds: float) -> None:
        out = sys.stderr
        if "kernel" in flags.show:
            print(f"-- kernel {kernel.name}\n{key}\n{text.text(kernel)}", file=out)
        if "code" in flags.show:
            print(self.codegen.print_kernel(kernel, self.target), file=out)
        if "time" in flags.show:
            print(f"-- {kernel.name}: built in {seconds * 1e3:.1f} ms", file=out)
