"""The one machine of this process, made when the first tensor is."""

from __future__ import annotations

import ctypes
import sys
import threading
from typing import Any

import numpy as np

from amity.core import flags
from amity.core.layout import Layout

from . import deferral
from .kernels import Kernels

_state: dict[str, Any] = {}
NOBODY = None, 0  # watches
_lock = threading.RLock()


def install(tensor_type: type) -> None:
    """Say which class native calls take and return."""
    _state["tensor"] = tensor_type


def kernels() -> Kernels:
    """The kernels of this process."""
    found = _state.get("kernels")
    if found is None:
        with _lock:
            found = _state.get("kernels") or _state.setdefault("kernels", Kernels())
    return found


def make(storage: Any, layout: Layout) -> Any:
    """A tensor on a storage; no copy. The machine's own function takes this one's place."""
    return machine().make(storage, layout)


def alias(storage: Any, offset: int) -> Any:
    """A storage of the same memory, `offset` bytes further; replaced likewise."""
    return machine().alias(storage, offset)


def machine() -> Any:
    """The CPU: allocator, workers, native calls."""
    global make, alias
    found = _state.get("machine")
    if found is None:
        with _lock:
            found = _state.get("machine")
            if found is None:
                found = _machine_type()(_state["tensor"], kernels().text_object, deferral.meet)
                kernels().load = found.load
                make, alias = found.make, found.alias
                _state["machine"] = found
    return found


def note(recorder: Any) -> None:
    """Have this thread's calls noted instead of run; None: tell whoever watches of them, or run them."""
    watcher, thread = _state.get("watch", NOBODY)
    if recorder is None and watcher is not None:
        machine().record(watcher, thread)
    else:
        machine().note(recorder)


def watch(recorder: Any, thread: int) -> tuple[Any, int]:
    """Tell `recorder` of a thread's calls whenever they are not noted, of all threads' for thread 0;
    nobody for None. Gives who was told before.
    """
    before = _state.get("watch", NOBODY)
    _state["watch"] = recorder, thread
    if not deferral.is_on:
        note(None)
    return before


def watcher() -> Any:
    """Who watches this thread, or None."""
    found, thread = _state.get("watch", NOBODY)
    return found if thread in (0, threading.get_ident()) else None


def _machine_type() -> type:
    """The machine that the settings and this Python allow."""
    if flags.device == "null":
        from amity.runtime.null.machine import Machine  # lazy: only one of the three is needed
    elif flags.native and is_known_python():
        from amity.runtime.cpu.machine import Machine  # lazy: loads LLVM's engine
    else:
        from amity.runtime.cpu.portable import Machine  # lazy: loads LLVM's engine
    return Machine


def is_known_python() -> bool:
    """Whether generated builtins fit this Python: CPython as released, with the GIL."""
    is_plain = sys.implementation.name == "cpython" and not getattr(sys, "abiflags", "")
    return is_plain and (3, 11) <= sys.version_info[:2] <= (3, 13)


def is_started() -> bool:
    return "machine" in _state


def locks() -> list[Any]:
    """The locks around notes and LLVM, in the order in which they are taken."""
    made = [deferral.busy, _lock]
    if "kernels" in _state:
        made.append(_state["kernels"].lock)
    if "machine" in _state:
        made += _state["machine"].locks
    return made


def array_of(storage: Any, layout: Layout) -> np.ndarray:
    """A NumPy array on a storage's memory; it keeps the storage alive."""
    if deferral.is_on:
        deferral.settle(storage)
    return array_at(storage.data, layout, storage)


def array_at(address: int, layout: Layout, owner: Any = None) -> np.ndarray:
    """A NumPy array on memory that it keeps alive by its owner."""
    size = layout.dtype.itemsize
    extent = layout.extent * size
    if not extent:
        return np.empty(layout.shape, layout.dtype.numpy)
    buffer = (ctypes.c_char * extent).from_address(address)
    buffer._owner = owner
    strides = tuple([s * size for s in layout.strides])
    return np.ndarray(tuple(layout.shape), layout.dtype.numpy, buffer, 0, strides)


def copy_storage(storage: Any, layout: Layout) -> Any:
    """A copy of the memory that a layout shows."""
    nbytes = layout.extent * layout.dtype.itemsize
    made = machine().allocate(max(nbytes, 1))
    ctypes.memmove(made.data, storage.data, nbytes)
    return made


def host_array(value: Any, layout: Layout) -> Any:
    """An argument of a host call: a tensor's memory, or a Python number."""
    return array_of(value.storage, layout) if hasattr(value, "storage") else value


def storage_of(array: np.ndarray, nbytes: int) -> Any:
    """A new storage holding a row-major copy of an array."""
    storage = machine().allocate(max(nbytes, 1))
    if array.nbytes:
        array = np.ascontiguousarray(array)
        ctypes.memmove(storage.data, array.ctypes.data, array.nbytes)
    return storage


def blank(layout: Layout) -> Any:
    """A tensor with whatever its new memory holds."""
    return make(machine().allocate(max(layout.nbytes, 1)), layout)


def from_host(array: np.ndarray, layout: Layout) -> Any:
    """A tensor with the values of an array, in a row-major layout."""
    array = np.asarray(array, dtype=layout.dtype.numpy)
    if array.shape != tuple(layout.shape):
        array = array.reshape(layout.shape)
    return make(storage_of(array, layout.nbytes), layout)
