"""A fresh process gets a SIGKILL at the moments that matter most; another one goes on."""

from __future__ import annotations

import os

import pytest
from sweep import Target, killed_afresh

from batchkit.testing.faults import Way

POINTS: list[tuple[Target, str, int]] = [
    ("store", "intend", 1),  # the intent, on disk or not
    ("store", "move_batch", 1),  # the claim
    ("store", "move_batch", 2),  # the fence before the last chunk
    ("http", "POST /v1/messages/batches", 2),  # the batch, made or not, its id not stored
    ("store", "settle", 2),  # a page of judged lines
]


WAYS = [Way.KILL_BEFORE, Way.KILL_AFTER]
ALL = os.environ.get("BATCHKIT_SWEEP_STEP") == "1"
"""`nox -s fault` takes all on a server too; CI kills there before one point and after the next."""
CASES = [
    (place, *point, way)
    for place in ("file", "postgres")
    for n, point in enumerate(POINTS)
    for way in (WAYS if ALL or place == "file" else [WAYS[n % 2]])
]


@pytest.mark.parametrize(("kept", "target", "operation", "nth", "way"), CASES, indirect=["kept"])
def test_a_killed_process_loses_nothing(
    kept: str | None, target: Target, operation: str, nth: int, way: Way
) -> None:
    """Killed before or after it, the run goes on to its end: no row lost, nothing paid twice."""
    assert killed_afresh(target, operation, way, nth, database=kept) == []
