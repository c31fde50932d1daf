"""A process is asked to stop at any operation of its run: what it leaves behind is definite, and another goes on at once."""

from __future__ import annotations

import os

import pytest
from interrupts import STOPS, Stop, operations, stopped_at

STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "300"))
"""CI takes every so-manieth operation; `nox -s fault` takes all."""
EDGES: list[tuple[str, int, bool]] = [
    ("acquire", 2, True),  # the lease is taken, and nobody was told
    ("release", 2, False),  # about to be given back
    ("move_batch", 1, True),  # claimed, and nothing sent
    ("move_batch", 2, True),  # the fence before the last chunk
    ("POST /v1/messages/batches", 1, True),  # created, the answer on its way
    ("move_batch", 3, False),  # the answer in hand, and not written down
]


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_at_any_operation_leaves_nothing_open(stop: Stop, capsys: pytest.CaptureFixture[str]) -> None:
    """No thread, no lease and no batch in mid-send is left, nothing is canceled, and the run goes on to a right end."""
    total = len(operations(stop))
    places = [(at, after) for after in (False, True) for at in range(1 + after * STEP // 2, total + 1, STEP)]
    wrong = [(at, after, what) for at, after in places for what in stopped_at(stop, at, after=after)]
    with capsys.disabled():
        print(f" [{len(places)} stops at {total} operations, {stop}]", end="")
    assert wrong == []
    assert places


@pytest.mark.parametrize(("operation", "nth", "after"), EDGES)
def test_ctrl_c_at_the_edges_of_a_send(operation: str, nth: int, after: bool) -> None:
    """Where a lease or a claim has just been taken, or is about to be let go, Ctrl-C leaves neither behind."""
    named = [number for number, name in enumerate(operations("Ctrl-C"), 1) if name == operation]
    assert stopped_at("Ctrl-C", named[nth - 1], after=after) == []
