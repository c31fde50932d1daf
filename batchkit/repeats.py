"""Records that share a key: which of them are set aside, as ``on_duplicate`` says. Pure."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, get_args

from batchkit.errors import UsageError
from batchkit.model import OnDuplicate

_BUCKETS: Final = 64


def meeting(codes: Iterable[int]) -> frozenset[int]:
    """Give the codes that come more than once. Held are 8 bytes each; the buckets keep the sets small."""
    buckets = [array("q") for _ in range(_BUCKETS)]
    for code in codes:
        buckets[code % _BUCKETS].append(code)
    found: set[int] = set()
    for bucket in buckets:
        if len(set(bucket)) != len(bucket):
            found.update(code for code, n in Counter(bucket).items() if n > 1)
    return frozenset(found)


def check_on_duplicate(chosen: object) -> None:
    """Make sure that it is a choice there is.

    Raises:
        UsageError: it is not.
    """
    if chosen not in get_args(OnDuplicate):
        *others, last = map(repr, get_args(OnDuplicate))
        raise UsageError(f"on_duplicate={chosen!r}: it is {', '.join(others)} or {last}")


def set_aside(positions: Sequence[int], *, same: bool, on_duplicate: OnDuplicate) -> Sequence[int] | None:
    """Give those of the records of one key that become ``input.duplicate_key``; None where that is refused.

    Args:
        positions: where they stand, in order; two at least.
        same: whether they are equal but for their position. Then the first stays, whatever the choice.
        on_duplicate: the choice.
    """
    if same or on_duplicate == "first":
        return positions[1:]
    return positions if on_duplicate == "quarantine" else None
