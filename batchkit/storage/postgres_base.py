"""What the parts of a PostgreSQL store share: the database, the clock, the fence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from batchkit.clock import Clock
from batchkit.errors import LeaseLost, StoreError, StoreHeld
from batchkit.ids import RunId
from batchkit.model import DocKind, Lease, NewEvent, Run
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.postgres_database import Database, Transaction
from batchkit.storage.records import as_run

NOW: Final = "coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8)"
"""SQL: the time, in seconds since the epoch; the server's own unless the store was given a clock."""

_FENCE: Final = f"""
    UPDATE run SET seq = seq + 1, lease_until = {NOW} + lease_ttl
    WHERE id = %(run)s AND epoch = %(epoch)s AND owner = %(owner)s
    RETURNING *
"""  # noqa: S608 (a constant)
_RESULTS: Final = 15
"""Where the number of a run's results stands in its row."""


class PostgresBase:
    """The database, the clock and what every part does alike."""

    _db: Database
    _clock: Clock | None
    _why: str

    def now(self) -> float:
        """Give the time of the store's clock, the one that leases run by."""
        if self._clock is not None:
            return self._clock.now()
        with self._db.read() as transaction:
            return float(transaction.all(f"SELECT {NOW}", self._moment())[0][0])

    def _moment(self, **values: object) -> dict[str, object]:
        """Give values for a statement, and the time for its ``NOW``."""
        return {"now": None if self._clock is None else self._clock.now(), **values}

    def _fence(self, transaction: Transaction, lease: Lease) -> Run:
        """Renew the lease and number the write; every leased write starts here."""
        return self._fenced(transaction, lease)[0]

    def _fenced(self, transaction: Transaction, lease: Lease) -> tuple[Run, int]:
        """Pass the fence; give the run, and how many results it has."""
        found: tuple[Any, ...] | None = transaction.first(
            _FENCE, self._moment(run=lease.run, epoch=lease.epoch, owner=lease.owner)
        )
        if found is None:
            raise LeaseLost(
                f"run {lease.run}: the lease of epoch {lease.epoch} is over, another process moves this run or it was released; "
                "nothing was written"
            )
        run = as_run(found)
        transaction.written = (run.id, run.seq)
        return run, found[_RESULTS]

    def _run(self, transaction: Transaction, run: RunId) -> Run:
        found = transaction.first("SELECT * FROM run WHERE id = %s", (run,))
        if found is None:
            raise StoreError(f"the store holds no run {run}")
        return as_run(found)

    def _check_held(self) -> None:
        if self._why:
            raise StoreHeld(
                f"{self._db.name}: {self._why}. Reading works; no batch is made or sent until you confirm that no other copy "
                "of this store goes on: store.confirm(). Batches that may have been sent by the other copy are then looked up "
                "before anything is sent again."
            )

    def _append_events(self, transaction: Transaction, run: RunId, events: Iterable[NewEvent]) -> None:
        if events := tuple(events):
            at = self.now()
            for event in events:
                self._append(transaction, DocKind.EVENT, event_scope(run), encode_event(event, at))

    def _append(self, transaction: Transaction, kind: DocKind, scope: str, body: bytes) -> str:
        raise NotImplementedError

    def _drop(self, transaction: Transaction, run: Run) -> None:
        raise NotImplementedError


def storable(text: str) -> str:
    """Give text that the database can hold: NUL and halves of surrogate pairs become escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")
