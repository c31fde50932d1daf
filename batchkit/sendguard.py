"""The right to go on sending, asked before every chunk of a body."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from batchkit.body import BodyStopped
from batchkit.clock import Clock
from batchkit.connection import WRITE_TIMEOUT
from batchkit.model import Batch, BatchFacts, Lease
from batchkit.states import BatchState
from batchkit.storage import Store

__all__ = ["SendGuard"]

RENEW = 10.0
"""Seconds between two renewals of the lease while a body is sent."""


@attrs.define
class SendGuard:
    """Says before every chunk whether this process may still send."""

    store: Store
    clock: Clock
    lease: Lease
    batch: Batch
    until: float
    stop: Callable[[], bool] | None
    renewed: float | None = None
    stopped: bool = False

    def check(self) -> None:
        """Raise if the caller said stop or the deadline passed; renew the lease now and then."""
        now = self.clock.monotonic()
        if self.stop is not None and self.stop():
            self.stopped = True
            raise BodyStopped("asked to stop")
        if now >= self.until:
            raise BodyStopped("the send deadline passed")
        if self.renewed is None:
            self.renewed = now
        elif now - self.renewed >= RENEW:
            self._renew()
            self.renewed = now

    def fence(self) -> None:
        """Commit, in the store, that the lease is ours, and that it outlasts the last write."""
        self._renew()
        holder = self.store.holder(self.lease.run)
        if (
            holder is None
            or holder.epoch != self.lease.epoch
            or holder.until - self.store.now() <= WRITE_TIMEOUT
        ):
            raise BodyStopped(
                f"the lease is shorter than the {WRITE_TIMEOUT:.0f} s that the last write may take"
            )

    def _renew(self) -> None:
        self.store.move_batch(
            self.lease, self.batch.id, expect=BatchState.SENDING, to=BatchState.SENDING, facts=BatchFacts()
        )
