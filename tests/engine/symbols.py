"""What an object file of any format refers to and does not define."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import llvmlite.binding as binding


def undefined(code: bytes) -> list[str]:
    """Names of the symbols that an object needs from elsewhere."""
    if code[:4] == b"\x7fELF":
        return _elf(code)
    if code[:4] == b"\0asm":
        return _wasm(code)
    if code[:4] == b"\xcf\xfa\xed\xfe":
        return _mach_o(code)
    raise ValueError(f"undefined: got an object that starts with {code[:4]!r}")


def _name(code: bytes, at: int) -> str:
    return code[at : code.index(b"\0", at)].decode()


def _elf(code: bytes) -> list[str]:
    start, size, count = struct.unpack_from("<Q", code, 40)[0], *struct.unpack_from("<HH", code, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", code, start + i * size) for i in range(count)]
    found = []
    for _, kind, _, _, offset, length, link, *_ in sections:
        if kind == 2:  # a table of symbols
            names = sections[link][4]
            for at in range(offset, offset + length, 24):
                name, _, _, section, _, _ = struct.unpack_from("<IBBHQQ", code, at)
                if section == 0 and name:
                    found.append(_name(code, names + name))
    return found


def _mach_o(code: bytes) -> list[str]:
    found, at = [], 32
    for _ in range(struct.unpack_from("<I", code, 16)[0]):
        command, size = struct.unpack_from("<II", code, at)
        if command == 2:  # LC_SYMTAB
            symbols, count, names, _ = struct.unpack_from("<IIII", code, at + 8)
            for i in range(count):
                name, kind, *_ = struct.unpack_from("<IBBHQ", code, symbols + 16 * i)
                if kind & 0x0E == 0:
                    found.append(_name(code, names + name))
        at += size
    return found


def _number(code: bytes, at: int) -> tuple[int, int]:
    """A LEB128 number and where it ends."""
    value = shift = 0
    while True:
        byte = code[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _wasm(code: bytes) -> list[str]:
    """Imported functions; memory, table and stack pointer come from the linker."""
    at, found = 8, []
    while at < len(code):
        section = code[at]
        length, at = _number(code, at + 1)
        if section == 2:
            found = _imports(code, at)
        at += length
    return found


def _imports(code: bytes, at: int) -> list[str]:
    count, at = _number(code, at)
    found = []
    for _ in range(count):
        words = []
        for _ in range(2):
            length, at = _number(code, at)
            words.append(code[at : at + length].decode())
            at += length
        kind, at = code[at], at + 1
        if kind == 0:
            found.append(words[1])
            _, at = _number(code, at)
        elif kind == 3:  # a global: its type, whether it changes
            at += 2
        else:
            at += 1 if kind == 1 else 0  # a table has a type
            flags, at = _number(code, at)
            for _ in range(1 + (flags & 1)):
                _, at = _number(code, at)
    return found


@dataclass
class Watch:
    """What is being computed, the kernels compiled, and the symbols that they lack."""

    now: str = ""
    kernels: int = 0
    missing: dict[str, list[str]] = field(default_factory=dict)


def watch() -> Watch:
    """Look at every kernel that is compiled from now on."""
    from amity.codegen import cpu

    watched, compile_kernel = Watch(), cpu.compile_kernel

    def look(kernel: Any, target: Any) -> bytes:
        code = compile_kernel(kernel, target)
        watched.kernels += 1
        for name in undefined(code):
            watched.missing.setdefault(name, []).append(watched.now)
        return code

    cpu.compile_kernel = look
    return watched


def object_of(text: str, triple: str) -> bytes:
    """The object of LLVM IR text, for tests of this file."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(triple).create_target_machine()
    return machine.emit_object(binding.parse_assembly(text))
