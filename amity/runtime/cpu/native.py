"""Generated glue between CPython and kernels: Storage, allocator, one call per Program.

All of it is LLVM IR text, compiled once and cached like a kernel. Addresses that differ between
processes are symbols bound at load. A Program is described by a plan (its form: runtime/plan.py);
`amity_run` is a METH_FASTCALL function whose `self` is a bytes object holding the plan's address.
"""

from __future__ import annotations

import ctypes
from string import Template

from .abi import CELLS
from .blocks import ADVICE, NO_ADVICE
from .guard_code import GUARD
from .heap_code import HEAP
from .meet_code import MEET
from .note_code import NOTES
from .replay_code import REPLAY
from .run_code import RUNNER
from .storage_code import ALLOCATOR, BUILTINS, TENSORS

PYTHON = {
    "Py_IncRef": "void (ptr)",
    "Py_DecRef": "void (ptr)",
    "PyErr_SetString": "void (ptr, ptr)",
    "PyErr_Occurred": "ptr ()",
    "PyFloat_AsDouble": "double (ptr)",
    "PyLong_AsLongLong": "i64 (ptr)",
    "PyLong_FromLongLong": "ptr (i64)",
    "PyBytes_FromStringAndSize": "ptr (ptr, i64)",
    "PyTuple_New": "ptr (i64)",
    "PyTuple_SetItem": "i32 (ptr, i64, ptr)",
    "PyType_GenericAlloc": "ptr (ptr, i64)",
    "PyType_IsSubtype": "i32 (ptr, ptr)",
    "PyObject_Vectorcall": "ptr (ptr, ptr, i64, ptr)",
    "PyThread_get_thread_ident": "i64 ()",
    "PyEval_SaveThread": "ptr ()",
    "PyEval_RestoreThread": "void (ptr)",
}


def python_symbols() -> dict[str, int]:
    """Addresses of the CPython functions that the glue calls."""
    return {n: ctypes.cast(getattr(ctypes.pythonapi, n), ctypes.c_void_p).value for n in PYTHON}


GLOBALS = f"""
@amity_cells = external global [{len(CELLS)} x ptr]
declare i32 @posix_memalign(ptr, i64, i64)
declare void @free(ptr)
declare i32 @madvise(ptr, i64, i32)
"""


def code(slots: dict[str, int], platform: str) -> str:
    """The glue's IR. `slots` are the byte offsets of Tensor's storage, layout, tape and base."""
    lines = []
    for name, signature in PYTHON.items():
        result, params = signature.split(" ", 1)
        lines.append(f"declare {result} @{name}{params}")
    advice = [_advice(name, number) for name, number in ADVICE.get(platform, NO_ADVICE).items()]
    parts = [HEAP, ALLOCATOR, TENSORS, NOTES, REPLAY, MEET, RUNNER, GUARD, BUILTINS]
    whole = "\n".join([*lines, GLOBALS, *advice, *parts])
    return Template(whole).substitute(slots)


def _advice(name: str, number: int | None) -> str:
    """A function that tells the system how some memory is used, where the system has a way."""
    call = "" if number is None else f"  %r = call i32 @madvise(ptr %p, i64 %n, i32 {number})\n"
    return f"define internal void @{name}(ptr %p, i64 %n) nounwind {{\n{call}  ret void\n}}"
