"""Every store operation of a run fails once, in each of four ways; the run goes on from there to a right end."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from sweep import MEMORY, STORES_AND_WAYS, events, named, operations, sweep

from batchkit.testing.faults import Way

STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "40"))
"""CI takes every so-manieth operation; `nox -s fault` takes all."""
SERVER = 6
"""On a server, which takes longer, CI takes every so-manieth of those."""


@pytest.mark.parametrize(("kept", "way"), STORES_AND_WAYS, indirect=["kept"])
def test_a_run_survives_at_any_operation(
    way: Way, kept: str | None, swept: Callable[[int, int, str], None]
) -> None:
    """Whichever store operation fails, no row is lost, nothing is paid twice, and the equations hold."""
    tried, wrong = 0, []
    server = kept not in {None, MEMORY}
    # Each way starts elsewhere, so that together they take more of the operations.
    step = min(STEP * (SERVER if server else 2 if kept else 1), STEP**2)
    first = 1 + list(Way).index(way) * step // 4
    for at, how, found in sweep("store", [way], step=step, first=first, database=kept):
        tried += 1
        wrong += [(at, how.value, what) for what in found]
    swept(tried, len(operations("store", database=kept)), f"store operations, {way.value}, {named(kept)}")
    assert wrong == []
    assert tried


def test_the_run_that_is_swept_has_a_tail() -> None:
    """Its rows are retried, sent again and escalated, as well as accepted, handed to people and given up."""
    assert events() == {"accept", "retry", "resend", "escalate", "to the human queue", "quarantine"}
