"""LLVM itself, through llvmlite: modules of IR text become machine code."""

from __future__ import annotations

import functools

import llvmlite.binding as binding

from amity.ir.target import Target


@functools.cache
def skip_idle_passes() -> None:
    """Kernels carry their pointers along loops, so LLVM's search for better induction variables
    finds nothing; without it they compile in two thirds of the time."""
    binding.set_option("amity", "-disable-lsr")


@functools.cache
def machine(target: Target):
    """The LLVM target machine; made once for a target."""
    skip_idle_passes()
    if target.triple == binding.get_default_triple():
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
    else:
        binding.initialize_all_targets()
        binding.initialize_all_asmprinters()
    found = binding.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
    )


def emit_object(text: str, target: Target) -> bytes:
    """Machine code of a module. No IR passes run: kernels are printed in their final form."""
    module = binding.parse_assembly(text)
    module.verify()
    return machine(target).emit_object(module)


def emit_assembly(text: str, target: Target) -> str:
    """The same as readable assembly."""
    return machine(target).emit_assembly(binding.parse_assembly(text))
