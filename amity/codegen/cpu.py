"""Code for the processor at hand (x86-64, AArch64)."""

from __future__ import annotations

import functools

from amity.core import flags
from amity.core.errors import fail
from amity.ir.kernel import Kernel
from amity.ir.target import Target
from amity.ir.verify import verify

from . import legality
from .guarded import GuardedPrinter
from .llvm import binding, emit_assembly, emit_object
from .printer import Printer

# What AMITY_CPU may cap the features to: (LLVM cpu, vector bytes, vector registers, abilities).
CAPS = {
    "sse2": ("x86-64", 16, 16, frozenset()),
    "avx2": ("haswell", 32, 16, frozenset({"fma", "f16", "round"})),
}
# Machines that need not be this one: AMITY_CPU names them where nothing runs, AMITY_DEVICE=null.
OTHERS = {
    t.name: t
    for t in (
        Target("arm64", "aarch64-unknown-linux-gnu", "generic", "", 16, 32,
               frozenset({"fma", "f16", "round"})),
        Target("apple", "arm64-apple-macosx11.0.0", "apple-m1", "", 16, 32,
               frozenset({"fma", "f16", "round"})),
        Target("wasm32", "wasm32-unknown-unknown", "generic", "+simd128", 16, 16,
               frozenset({"round"})),
    )
}  # fmt: skip


@functools.cache
def host_target() -> Target:
    """The machine this process runs on, or the lesser one that AMITY_CPU names."""
    triple = binding.get_default_triple()
    if flags.cpu != "native":
        return named_target(flags.cpu, triple)
    host = binding.get_host_cpu_features()
    features = host.flatten()
    cpu = binding.get_host_cpu_name()
    if triple.startswith(("aarch64", "arm64")):
        return Target("arm64", triple, cpu, features, 16, 32, frozenset({"fma", "f16", "round"}))
    abilities = {"fma": "fma", "f16": "f16c", "round": "sse4.1", "bf16dot": "avx512bf16"}
    has = {ability for ability, feature in abilities.items() if host.get(feature)}
    if all(host.get(f) for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl")):
        return Target("avx512", triple, cpu, features, 64, 32, frozenset(has))
    if host.get("avx2"):
        return Target("avx2", triple, cpu, features, 32, 16, frozenset(has))
    return Target("sse2", triple, cpu, features, 16, 16, frozenset(has))


def named_target(name: str, triple: str) -> Target:
    """The target that AMITY_CPU names, on a machine of that triple."""
    if name in OTHERS:
        if flags.device != "null":
            raise fail(
                ValueError, "AMITY_CPU", name, "a target that can run here, or AMITY_DEVICE=null"
            )
        return OTHERS[name]
    if not triple.startswith("x86_64") and flags.device != "null":
        raise fail(ValueError, "AMITY_CPU", f"{name} on {triple}", "native")
    cpu, width, registers, has = CAPS[name]
    return Target(name, triple, cpu, "", width, registers, has)


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


def compile_kernel(kernel: Kernel, target: Target, is_guarded: bool = False) -> bytes:
    """The object file of a kernel; a guarded one looks at each address before it goes there."""
    if "ir" in flags.check:
        verify(kernel)
    legality.check(kernel, target)
    printer = GuardedPrinter if is_guarded else Printer
    return emit_object(printer(kernel, target.has, attributes(target)).text(), target)


def assembly(kernel: Kernel, target: Target) -> str:
    """The assembly of a kernel, for people."""
    return emit_assembly(print_kernel(kernel, target), target)
