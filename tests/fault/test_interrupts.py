"""A process is asked to stop at any operation of its run: what it leaves behind is definite, and another goes on at once."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from interrupts import STOPS, Stop, operations, stopped_at
from sweep import named

STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "300"))
"""CI takes every so-manieth operation; `nox -s fault` takes all."""
SERVER = 6
"""On a server, which takes longer, CI takes every so-manieth of those."""
EDGES: list[tuple[str, int, bool]] = [
    ("acquire", 2, True),  # the lease is taken, and nobody was told
    ("release", 2, False),  # about to be given back
    ("move_batch", 1, True),  # claimed, and nothing sent
    ("move_batch", 2, True),  # the fence before the last chunk
    ("POST /v1/messages/batches", 1, True),  # created, the answer on its way
    ("move_batch", 3, False),  # the answer in hand, and not written down
]


@pytest.mark.parametrize("stop", STOPS)
def test_a_stop_at_any_operation_leaves_nothing_open(
    stop: Stop, kept: str | None, swept: Callable[[int, int, str], None]
) -> None:
    """No thread, no lease and no batch in mid-send is left, nothing is canceled, and the run goes on to a right end."""
    total = len(operations(stop, database=kept))
    step = STEP if kept is None else min(STEP * SERVER, STEP**2)
    places = [(at, after) for after in (False, True) for at in range(1 + after * step // 2, total + 1, step)]
    wrong = [
        (at, after, what) for at, after in places for what in stopped_at(stop, at, after=after, database=kept)
    ]
    swept(len(places), 2 * total, f"edges of an operation, {stop}, {named(kept)}")
    assert wrong == []
    assert places


CASES = [
    (place, *edge)
    for place in ("file", "postgres")
    for n, edge in enumerate(EDGES)
    if STEP == 1 or place == "file" or n % 3 == 0
]


@pytest.mark.parametrize(("kept", "operation", "nth", "after"), CASES, indirect=["kept"])
def test_ctrl_c_at_the_edges_of_a_send(kept: str | None, operation: str, nth: int, after: bool) -> None:
    """Where a lease or a claim has just been taken, or is about to be let go, Ctrl-C leaves neither behind."""
    numbers = [
        number for number, name in enumerate(operations("Ctrl-C", database=kept), 1) if name == operation
    ]
    assert stopped_at("Ctrl-C", numbers[nth - 1], after=after, database=kept) == []
