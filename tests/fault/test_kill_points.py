"""A fresh process gets a SIGKILL at the moments that matter most; another one goes on."""

from __future__ import annotations

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


@pytest.mark.parametrize("way", [Way.KILL_BEFORE, Way.KILL_AFTER])
@pytest.mark.parametrize(("target", "operation", "nth"), POINTS)
def test_a_killed_process_loses_nothing(target: Target, operation: str, nth: int, way: Way) -> None:
    """Killed before or after it, the run goes on to its end: no row lost, nothing paid twice."""
    assert killed_afresh(target, operation, way, nth) == []
