"""Code for the processor at hand (x86-64, AArch64)."""

from __future__ import annotations

import functools

from amity.core import flags
from amity.ir.kernel import Kernel
from amity.ir.target import Target

from .llvm import binding, emit_assembly, emit_object
from .printer import Printer

# What AMITY_CPU may cap the features to: (LLVM cpu, vector bytes, vector registers, abilities).
CAPS = {
    "sse2": ("x86-64", 16, 16, frozenset()),
    "avx2": ("haswell", 32, 16, frozenset({"fma", "f16"})),
}


@functools.cache
def host_target() -> Target:
    """The machine this process runs on, or the lesser one that AMITY_CPU names."""
    triple = binding.get_default_triple()
    cap = flags.cpu
    if cap != "native":
        cpu, width, registers, has = CAPS[cap]
        return Target(cap, triple, cpu, "", width, registers, has)
    host = binding.get_host_cpu_features()
    features = host.flatten()
    cpu = binding.get_host_cpu_name()
    if triple.startswith(("aarch64", "arm64")):
        return Target("arm64", triple, cpu, features, 16, 32, frozenset({"fma", "f16"}))
    has = {a for a, names in (("fma", ("fma",)), ("f16", ("f16c",)), ("bf16dot", ("avx512bf16",)))
           if all(host.get(n) for n in names)}  # fmt: skip
    if all(host.get(f) for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        return Target("avx512", triple, cpu, features, 64, 32, frozenset(has))
    if host.get("avx2"):
        return Target("avx2", triple, cpu, features, 32, 16, frozenset(has))
    return Target("sse2", triple, cpu, features, 16, 16, frozenset(has))


def attributes(target: Target) -> str:
    bits = target.vector_bytes * 8
    # no-builtins: LLVM must not turn a copy loop into a call of a library function
    return (
        f'nounwind "no-builtins" "no-trapping-math"="true" "prefer-vector-width"="{bits}" '
        f'"min-legal-vector-width"="{bits}"'
    )


def print_kernel(kernel: Kernel, target: Target) -> str:
    """The LLVM IR of a kernel."""
    return Printer(kernel, target.has, attributes(target)).text()


def compile_kernel(kernel: Kernel, target: Target) -> bytes:
    """The object file of a kernel."""
    return emit_object(print_kernel(kernel, target), target)


def assembly(kernel: Kernel, target: Target) -> str:
    """The assembly of a kernel, for people."""
    return emit_assembly(print_kernel(kernel, target), target)
