"""Nonces that no copy of a store repeats, and a fence that only the store can pass."""

from __future__ import annotations

import pytest
from rig import Faulty, Rig

from batchkit.errors import LeaseLost, StoreError
from batchkit.testing import Handler, Request, Response


def test_two_stores_alike_draw_different_nonces() -> None:
    """Stores of the same rows, seeds and batches mark what they send differently: nothing is derived from them."""
    nonces = []
    for _ in range(3):
        batch = Rig(6).send().batch
        assert batch is not None
        nonces.append(batch.nonce)
    assert len(set(nonces)) == 3


def test_a_lease_that_was_taken_over_stops_the_last_chunk_whatever_the_clock_says() -> None:
    """The lease may be another's while our own clock still counts it as ours: only the store knows."""
    rig = Rig(6)

    def taken_over(request: Request, api: Handler) -> Response | None:
        if request.method == "POST":
            rig.store.release(rig.lease)
            assert rig.store.acquire(rig.run.id, "another", 60.0) is not None
        return None

    assert isinstance(rig.faults, Faulty)
    rig.faults.rules.append(taken_over)
    with pytest.raises((LeaseLost, StoreError)):
        rig.send()
    assert rig.sim.state()["batches"] == []
