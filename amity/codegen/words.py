"""Dtypes, constants and instructions of kernels in the words of LLVM IR."""

from __future__ import annotations

import struct

from amity.ir.kernel import BITS

SCALAR = {"bool": "i1", "u8": "i8", "u16": "i16", "u32": "i32", "u64": "i64", "f32": "float", "f64": "double",
          "f16": "half", "bf16": "bfloat", "ptr": "ptr", "void": "void"}  # fmt: skip
MEMORY = {"bool": "i8", "f16": "i16", "bf16": "i16"}
FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
INT_OPS = {"add": "add", "sub": "sub", "mul": "mul", "div": "sdiv", "rem": "srem", "and": "and", "or": "or",
           "xor": "xor", "shl": "shl", "shr": "ashr"}  # fmt: skip
UNSIGNED_OPS = {"div": "udiv", "rem": "urem", "shr": "lshr"}
FLOAT_COMPARE = {"eq": "oeq", "ne": "une", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge"}
INTRINSIC = {
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "roundeven",
}


def is_float(dtype: str) -> bool:
    return dtype in ("f32", "f64")


def is_unsigned(dtype: str) -> bool:
    return dtype[0] == "u" or dtype == "bool"


def type_of(dtype: str, width: int = 1, memory: bool = False) -> str:
    """The LLVM type of `width` elements, in registers or in memory."""
    name = MEMORY.get(dtype) if memory else None
    name = name or SCALAR.get(dtype, dtype)
    return name if width == 1 else f"<{width} x {name}>"


def float_text(x: float, dtype: str) -> str:
    """A float constant as the hex of a double, exact for its dtype."""
    if dtype == "f32":
        bits32 = struct.pack("<f", x) if abs(x) <= 3.4028235677973366e38 or x != x else None
        x = struct.unpack("<f", bits32)[0] if bits32 else (float("inf") if x > 0 else float("-inf"))
    return f"0x{struct.unpack('<Q', struct.pack('<d', x))[0]:016X}"


def constant(x, dtype: str, width: int = 1) -> str:
    if is_float(dtype):
        text = float_text(float(x), dtype)
    elif dtype == "bool":
        text = "true" if x else "false"
    elif dtype == "ptr":
        text = "null"
    else:
        text = str(int(x))
    return text if width == 1 else f"splat ({type_of(dtype)} {text})"


def memory_name(dtype: str) -> str:
    """A dtype as LLVM mangles it into the name of an intrinsic."""
    if dtype in ("f32", "f64"):
        return dtype
    return f"i{max(8, BITS[dtype])}"
