"""The right to move a run, held for the length of a block and given back however the block ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from batchkit.errors import StoreError
from batchkit.ids import RunId
from batchkit.model import Lease
from batchkit.storage import Store
from batchkit.storage.owner import this_process

__all__ = ["SECONDS", "held", "new_owner"]

SECONDS: Final = 60.0
"""How long a lease lives without a write."""

_numbers = itertools.count(1)


def new_owner(role: str) -> str:
    """Name a holder that nobody else is, neither in another process nor in another thread of this one."""
    return this_process(f"{role}-{next(_numbers)}")


@contextmanager
def held(store: Store, run: RunId, owner: str) -> Iterator[Lease | None]:
    """Hold the lease of a run within the block; None where somebody else holds it.

    Ctrl-C may come while the lease is being taken or given back. Then it is given back too, so that the next
    process need not wait for it to run out.

    Args:
        store: Where the run is.
        run: The run.
        owner: A name that nobody else uses: under it a lease is found that was taken without anybody being told.

    Raises:
        StoreError: the store failed.
    """
    lease: Lease | None = None
    taking = True
    try:
        lease = store.acquire(run, owner, SECONDS)
        taking = False
        yield lease
    finally:
        try:
            _let_go(store, run, owner, lease, taking=taking)
        except KeyboardInterrupt:
            _let_go(store, run, owner, lease, taking=taking)
            raise


def _let_go(store: Store, run: RunId, owner: str, lease: Lease | None, *, taking: bool) -> None:
    if taking:
        # The call broke off: what it did is in the store only.
        with suppress(StoreError):
            standing = store.holder(run)
            lease = standing if standing is not None and standing.owner == owner else None
    if lease is not None:
        store.release(lease)
