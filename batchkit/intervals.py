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


def so_few(good: int, rows: int, share: float) -> float:
    """Give how likely so few good rows, or fewer, are by chance where each is good with this probability.

    The exact lower tail of the binomial distribution; 1 where the rows are as good as that or better.
    """
    if good >= rows * share:
        return 1.0
    log = math.lgamma(rows + 1) - math.lgamma(good + 1) - math.lgamma(rows - good + 1)
    term = math.exp(log + good * math.log(share) + (rows - good) * math.log1p(-share))
    total = 0.0
    for n in range(good, -1, -1):
        total += term
        if term < total * 1e-9:  # below the mean each term is smaller than the one above it
            break
        term *= n * (1 - share) / ((rows - n + 1) * share)
    return min(1.0, total)
