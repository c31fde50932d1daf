"""Column names: each once."""

from __future__ import annotations

from collections.abc import Iterable

from batchkit.errors import UsageError


def unique(names: Iterable[str], *, where: str) -> tuple[str, ...]:
    """Give the column names as a tuple.

    Raises:
        UsageError: a name stands there twice, so that one column would hide the other.
    """
    seen = tuple(names)
    repeated = sorted({name for name in seen if name and seen.count(name) > 1})
    if repeated:
        raise UsageError(
            f"{where} has {len(repeated)} column name(s) more than once: {', '.join(map(repr, repeated[:5]))}. "
            "One would hide the other; rename them."
        )
    return seen
