"""The table that guarded kernels ask: what memory a launch may touch, and what went astray."""

from __future__ import annotations

# Words: which instruction went astray first (one more than its number), at what address, for how many
# bytes; how many ranges there are, and where: start and end of each, sorted, none in another.
WHICH, ADDRESS, BYTES, COUNT, RANGES, TABLE_WORDS = range(6)
TABLE = "amity_bounds"
# Memory that takes what would go astray.
ASTRAY, ASTRAY_BYTES = "amity_astray", 1024
