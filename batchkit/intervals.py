"""How far a share seen in a few rows may be from the truth."""

from __future__ import annotations

import math

Z95 = 1.959964
"""Normal quantile of a two-sided 95 % interval."""


def wilson(good: int, rows: int, z: float = Z95) -> tuple[float, float]:
    """Give Wilson's score interval of a share (E. B. Wilson, 1927); the whole range where nothing was seen."""
    if rows == 0:
        return 0.0, 1.0
    share = good / rows
    middle = share + z * z / (2 * rows)
    spread = z * math.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    scale = 1 + z * z / rows
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)
