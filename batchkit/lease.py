"""The right to move a run, held for the length of a block and given back however the block ends."""

from __future__ import annotations

import itertools
from contextlib import suppress
from typing import Final

from batchkit.errors import StoreError
from batchkit.ids import RunId
from batchkit.model import Lease
from batchkit.storage import Store
from batchkit.storage.owner import is_gone, this_process

__all__ = ["SECONDS", "held", "is_gone", "new_owner"]

SECONDS: Final = 60.0
"""How long a lease lives without a write."""

_numbers = itertools.count(1)


def new_owner(role: str) -> str:
    """Name a holder that nobody else is, neither in another process nor in another thread of this one."""
    return this_process(f"{role}-{next(_numbers)}")


class held:  # noqa: N801 - read as a word: `with held(store, run, owner) as lease`
    """Holds the lease of a run within the block; None where somebody else holds it.

    Ctrl-C may come while the store takes the lease or gives it back. Then it is given back too, so that the next
    process need not wait for it to run out. Between those calls, where Python itself enters or leaves the block, an
    instruction remains in which Ctrl-C leaves the lease to run out.
    """

    def __init__(self, store: Store, run: RunId, owner: str) -> None:
        """Prepare to take it.

        Args:
            store: Where the run is.
            run: The run.
            owner: A name that nobody else uses: under it a lease is found that was taken without anybody being told.
        """
        self._store = store
        self._run = run
        self._owner = owner
        self._lease: Lease | None = None

    def __enter__(self) -> Lease | None:
        """Take the lease.

        Raises:
            StoreError: the store failed.
        """
        try:
            self._lease = self._store.acquire(self._run, self._owner, SECONDS)
        except BaseException:
            # The call broke off: what it did is in the store only.
            with suppress(StoreError):
                standing = self._store.holder(self._run)
                self._lease = standing if standing is not None and standing.owner == self._owner else None
            self._give_back()
            raise
        return self._lease

    def __exit__(self, *_: object) -> None:
        """Give it back.

        Raises:
            StoreError: the store failed.
        """
        self._give_back()

    def _give_back(self) -> None:
        if self._lease is None:
            return
        try:
            self._store.release(self._lease)
        except KeyboardInterrupt:
            self._store.release(self._lease)
            raise
