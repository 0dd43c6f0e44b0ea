"""The processor as a device: memory in pooled blocks and Programs as native callables."""

from __future__ import annotations

import ctypes
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Any

from amity.core import flags
from amity.core.errors import OutOfMemoryError
from amity.runtime.plan import Plan

from . import abi, native, pool
from .blocks import KEPT_LIMIT, LARGE, SCRATCH_BYTES, size_class
from .loader import Loader, bind_symbol, keep
from .notes import Notes

FASTCALL, ONE_ARGUMENT, NO_ARGUMENTS = 0x80, 8, 4
FUNCTIONS = (
    "run",
    "differs",
    "seal",
    "replay",
    "forget",
    "note",
    "allocate",
    "alias",
    "apart",
    "external",
    "make",
    "get_version",
    "get_root",
    "get_counter",
    "bump",
    "dealloc",
    "trim",
    "trim_heap",
)
LISTENING = ("recorder", "recording_thread", "is_noting")  # cells
NATIVE_NAMES = [f"amity_{n}" for n in FUNCTIONS] + ["amity_worker", "amity_parallel"]


class MethodDef(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("meth", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("pointer", ctypes.c_void_p)]


class TypeSpec(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int),
                ("flags", ctypes.c_uint), ("slots", ctypes.POINTER(Slot))]  # fmt: skip


class Member(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("type", ctypes.c_int), ("offset", ctypes.c_ssize_t),
                ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]  # fmt: skip


class GetSet(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("get", ctypes.c_void_p), ("set", ctypes.c_void_p),
                ("doc", ctypes.c_char_p), ("closure", ctypes.c_void_p)]  # fmt: skip


OBJECT, UINT, LONGLONG, TP_DEALLOC, TP_MEMBERS, TP_GETSET = 6, 11, 17, 52, 72, 73


new_builtin = ctypes.pythonapi.PyCFunction_NewEx
new_builtin.restype = ctypes.py_object
new_builtin.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]


def slot_offset(cls: type, name: str) -> int:
    """Where a `__slots__` member lies in its objects: PyMemberDescrObject.d_member->offset."""
    descriptor = id(cls.__dict__[name])
    member = ctypes.c_void_p.from_address(descriptor + 40).value
    return ctypes.c_ssize_t.from_address(member + Member.offset.offset).value


class Machine:
    """The running side of the CPU: made once, when the first tensor is."""

    def __init__(
        self, tensor_type: type, compile: Callable[[str], bytes], meet: Callable[..., None]
    ) -> None:
        """`meet` is asked before a call takes memory that another thread's notes know."""
        offsets = {n: slot_offset(tensor_type, n) for n in ("storage", "layout", "tape", "base")}
        loader = Loader()
        self.load, self.locks = loader.load, [loader.lock]
        self.tensor_type = tensor_type
        self._keep: list = []
        self._cells = (ctypes.c_void_p * len(abi.CELLS))()
        bind_symbol("amity_cells", ctypes.addressof(self._cells))
        for name, address in native.python_symbols().items():
            bind_symbol(name, address)
        code = compile(pool.CODE + native.code(offsets, sys.platform))
        self._address = dict(zip(NATIVE_NAMES, self.load(code, NATIVE_NAMES), strict=True))
        self._pools: dict[int, int] = {}
        filled, noted = (0, KEPT_LIMIT, 0, 1), (0, KEPT_LIMIT, 0, 0)
        self._state = (ctypes.c_int64 * (2 * abi.STATE_WORDS))(*filled, *noted)
        self.storage_type = self._make_type()
        self._method_defs: dict[str, MethodDef] = {}
        threads = flags.threads or pool.usable_cores()
        self.workers = pool.Pool(self._address["amity_worker"], threads)
        self._scratch = self._new_pool(SCRATCH_BYTES, abi.SYSTEM)
        self._complete, self.notes = self._complete_plan, Notes(is_told=True)
        self._meet = meet
        self._fill_cells(tensor_type)
        self.alias = self._builtin("alias", FASTCALL, self._words(self.pool(0)))
        self.apart = self._builtin("apart", ONE_ARGUMENT, self._words(self.pool(0)))
        self.external = self._builtin("external", FASTCALL, self._words(self.pool(0)))
        self.make = self._builtin("make", FASTCALL, b"")
        self.bump = self._builtin("bump", ONE_ARGUMENT, b"")
        self.seal = self._builtin("seal", NO_ARGUMENTS, b"")
        self.forget = self._builtin("forget", NO_ARGUMENTS, b"")
        # notes this thread's calls instead of running them, and tells a recorder of those that do not
        # fit; None runs them again
        self.note = self._builtin("note", ONE_ARGUMENT, b"")
        self._allocators: dict[int, Callable] = {}
        keep(self)

    def _fill_cells(self, tensor_type: type) -> None:
        values = {
            "storage_type": id(self.storage_type), "tensor_type": id(tensor_type),
            "state": ctypes.addressof(self._state), "pool_context": self.workers.context,
            "none": id(None), "memory_error": id(OutOfMemoryError), "type_error": id(TypeError),
            "scratch_pool": self._scratch, "recorder": None, "recording_thread": None,
            "complete": id(self._complete), "notes": ctypes.addressof(self.notes.head),
            "is_noting": None, "meet": id(self._meet),
        }  # fmt: skip
        for i, name in enumerate(abi.CELLS):
            self._cells[i] = values[name]

    def _make_type(self) -> type:
        get = self._address
        members = (Member * 6)(
            Member(b"data", LONGLONG, abi.DATA, 1, b"address of the first byte"),
            Member(b"nbytes", LONGLONG, abi.NBYTES, 1, b"bytes of the block"),
            Member(b"owner", OBJECT, abi.OWNER, 1, b"who else may write the memory"),
            Member(b"stamp", UINT, abi.VERSION, 1, b"its version, with what else tells of writes"),
            Member(b"mark", UINT, abi.MARK, 0, b"one more than its number in the notes"),
            Member(),
        )
        getset = (GetSet * 4)(
            GetSet(b"version", get["amity_get_version"], None, b"writes so far", None),
            GetSet(b"root", get["amity_get_root"], None, b"the storage that owns the memory", None),
            GetSet(
                b"counter", get["amity_get_counter"], None, b"the one that has its version", None
            ),
            GetSet(),
        )
        slots = (Slot * 4)(
            Slot(TP_DEALLOC, get["amity_dealloc"]),
            Slot(TP_MEMBERS, ctypes.addressof(members)),
            Slot(TP_GETSET, ctypes.addressof(getset)),
            Slot(0, None),
        )
        spec = TypeSpec(b"amity.Storage", abi.HEADER, 0, 1 << 7, slots)  # 1 << 7: no instantiation
        make = ctypes.pythonapi.PyType_FromSpec
        make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p]
        self._keep += [members, getset, slots, spec]
        return make(ctypes.addressof(spec))

    def _words(self, *words: int) -> bytes:
        return array("q", words).tobytes()

    def _builtin(self, name: str, flags_: int, payload: bytes) -> Callable:
        definition = self._method_defs.get(name)
        if definition is None:
            text = name.encode()
            definition = MethodDef(text, self._address[f"amity_{name}"], flags_, None)
            self._method_defs[name] = definition
            self._keep.append(text)
        return new_builtin(ctypes.addressof(definition), payload, None)

    def pool(self, nbytes: int) -> int:
        """The address of the pool that serves blocks of that size."""
        size = size_class(nbytes)
        found = self._pools.get(size)
        if found is None:
            source = abi.HEAP if size >= LARGE else abi.SYSTEM
            found = self._pools.setdefault(size, self._new_pool(size, source))
        return found

    def _new_pool(self, size: int, source: int) -> int:
        words = (ctypes.c_int64 * abi.POOL_WORDS)(0, size, source)
        self._keep.append(words)
        return ctypes.addressof(words)

    def allocator(self, nbytes: int) -> Callable[[], Any]:
        """What makes fresh Storages of at least that many bytes."""
        size = size_class(nbytes)
        make = self._allocators.get(size)
        if make is None:
            make = self._builtin("allocate", NO_ARGUMENTS, self._words(self.pool(size)))
            self._allocators[size] = make
        return make

    def allocate(self, nbytes: int):
        """A fresh Storage of at least that many bytes."""
        return self.allocator(nbytes)()

    def share(self, storage: Any) -> None:
        """Note that others may write the memory of a storage that has it alone so far."""
        owner = ctypes.c_void_p.from_address(id(storage.root) + abi.OWNER)
        if not owner.value:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(Machine))
            owner.value = id(Machine)

    def trim(self) -> None:
        """Give the blocks that are kept for reuse back to the system."""
        free = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(self._address["amity_trim"])
        for address in (*self._pools.values(), self._scratch):
            free(address)
        ctypes.PYFUNCTYPE(None)(self._address["amity_trim_heap"])()
        self._state[0] = self._state[abi.STATE_WORDS] = 0

    def program(self, plan: Plan, paper: Any = None) -> Callable:
        """A native callable for a plan; what the plan points to lives as long as the callable.

        `paper` is what a recorder is told of the plan; an unbuilt one is completed by `paper.plan()`.
        """
        words = plan.words(self.pool)
        payload = _PlanBytes(self._words(words.buffer_info()[0]))
        payload.keep, payload.paper = (words, plan), paper
        return self.callable(payload)

    def callable(self, payload: _PlanBytes) -> Callable:
        """What runs a plan that a recorder was told of."""
        return self._builtin("run", FASTCALL, payload)

    def _complete_plan(self, payload: _PlanBytes) -> None:
        """Give an unbuilt plan its steps."""
        plan = payload.paper.plan()
        words = plan.words(self.pool)
        pointer = ctypes.c_int64.from_address(id(payload) + abi.PAYLOAD)
        payload.before, payload.keep = payload.keep, (words, plan)  # another thread may run the old
        pointer.value = words.buffer_info()[0]

    def guard(self, words: array) -> Callable[[], int | None]:
        """What tells the number of the first pair of words, an address and what was there, that
        differs now; None if there is none.
        """
        payload = _PlanBytes(self._words(words.buffer_info()[0], len(words) // 2))
        payload.keep = words
        return self._builtin("differs", NO_ARGUMENTS, payload)

    def record(self, recorder: Callable, thread: int) -> None:
        """Tell `recorder` of all calls of a thread, or for 0 of all, instead of running them, until
        `note` is called. A negative thread is told of nothing meanwhile.
        """
        self._recorder = recorder
        self.listen((id(recorder), thread, None))

    def listening(self) -> tuple:
        """Who is told of whose calls, and how."""
        return tuple([self._cells[abi.CELLS.index(name)] for name in LISTENING])

    def listen(self, listening: tuple) -> None:
        """Tell those again."""
        for name, value in zip(LISTENING, listening, strict=True):
            self._cells[abi.CELLS.index(name)] = value

    def replayer(self, run: Callable, targets: Sequence[int]) -> Callable[[], None]:
        """What runs a program over the notes and clears them; results go to the roots `targets`."""
        words, _ = run.__self__.keep
        payload = _PlanBytes(self._words(words.buffer_info()[0], len(targets), *targets))
        payload.keep = run
        return self._builtin("replay", NO_ARGUMENTS, payload)


class _PlanBytes(bytes):
    """A bytes object that can hold on to what its words point to."""
