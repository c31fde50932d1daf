"""Every http operation of a run fails once, in each of four ways; the run goes on from there to a right end."""

from __future__ import annotations

import os

import pytest
from sweep import operations, sweep

from batchkit.testing.faults import Way

STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "8"))
"""CI takes every so-manieth operation; `nox -s fault` takes all."""
SERVER = 4
"""On a server, which takes longer, CI takes every so-manieth of those."""


@pytest.mark.parametrize("way", list(Way))
def test_a_run_survives_at_any_operation(
    way: Way, kept: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whichever http operation fails, no row is lost, nothing is paid twice, and the equations hold."""
    swept, wrong = 0, []
    # Each way starts elsewhere, so that together they take more of the operations.
    step = STEP if kept is None else min(STEP * SERVER, STEP**2)
    first = 1 + list(Way).index(way) * step // 4
    for at, how, found in sweep("http", [way], step=step, first=first, database=kept):
        swept += 1
        wrong += [(at, how.value, what) for what in found]
    with capsys.disabled():
        print(f" [{swept} of {len(operations('http'))} http operations, {way.value}]", end="")
    assert wrong == []
    assert swept
