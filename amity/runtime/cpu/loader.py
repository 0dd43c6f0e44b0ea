"""Object files to addresses, through one LLVM engine that lives as long as the process."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import llvmlite.binding as binding


class Loader:
    """Loads object files; what it loaded stays for ever, as builtins and pools point into it."""

    def __init__(self) -> None:
        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        machine = binding.Target.from_default_triple().create_target_machine(
            reloc="pic", codemodel="default"
        )
        self._engine = binding.create_mcjit_compiler(binding.parse_assembly(""), machine)
        self.lock = threading.RLock()  # taken around a fork too

    def load(self, code: bytes, names: list[str]) -> list[int]:
        """Addresses of the named functions of an object file."""
        with self.lock:
            self._engine.add_object_file(binding.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
            return [self._engine.get_function_address(n) for n in names]


def keep(thing: Any) -> None:
    """Never let go of an object: tensors may outlive every module when the interpreter ends, and
    their type, their pools, the code that frees them and the workers' memory must be there still.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def bind_symbol(name: str, address: int) -> None:
    """Let code that is loaded later refer to `name`."""
    binding.add_symbol(name, address)
