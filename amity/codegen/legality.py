"""What LLVM takes on each target: kernels that it would abort on, or turn into library calls.

LLVM ends the process where it finds no instruction, so this is asked before it sees a kernel.
"""

from __future__ import annotations

from amity.core.errors import message
from amity.ir.kernel import ROUNDING, Kernel, Value, instructions
from amity.ir.target import Target

# Instructions that only some targets have; printers write others in simpler ones.
NEEDS = {"dot2": "bf16dot", **dict.fromkeys(ROUNDING, "round")}
IN_MEMORY_ONLY = (
    "f16",
    "bf16",
)  # wasm aborts on bf16 in registers; x86-64 calls a library for both
DOT2_LANES = {64: (4, 8, 16), 32: (4, 8), 16: (4,)}  # by the vector bytes of the target
MOST_LANES = 64  # wider vectors compile, split up, but take time that grows faster than the width


class IllegalKernel(RuntimeError):
    """A kernel that a target has no code for."""


def check(kernel: Kernel, target: Target) -> None:
    """Raise IllegalKernel for the first instruction that the target cannot have."""
    for f in kernel.functions:
        for v in instructions(f.body):
            found = _problem(v, target)
            if found is not None:
                raise IllegalKernel(message(f"{kernel.name} for {target.name}", *found))


def _problem(v: Value, target: Target) -> tuple[str, str] | None:
    """What was got and what is expected, or None."""
    op = v.op
    needed = NEEDS.get(op)
    if needed is not None and needed not in target.has:
        return op, f"an instruction of a target without {needed!r}"
    if v.dtype in IN_MEMORY_ONLY:
        return f"a value of dtype {v.dtype}", "f32 in registers"
    if op == "rem" and v.dtype in ("f32", "f64"):
        return f"rem of {v.dtype}", "the function fmod, as no target has the instruction"
    if v.width > MOST_LANES:
        return f"{op} of {v.width} lanes", f"at most {MOST_LANES}"
    if op == "dot2" and v.width not in DOT2_LANES[target.vector_bytes]:
        return f"dot2 of {v.width} lanes", f"one of {DOT2_LANES[target.vector_bytes]}"
    return None
