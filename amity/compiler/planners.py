"""Which module plans an op of kind `kernel`.

A planner is `plan(op, input layouts, result layouts) -> (launches, temporaries in bytes)`; the
buffers of its launches count inputs first, then results, then temporaries.
"""

from __future__ import annotations

from collections.abc import Callable

PLANNERS: dict[str, Callable] = {}
