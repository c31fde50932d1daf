"""What the parts of a SQLite store share: the database, the clock, the fence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from batchkit.clock import Clock
from batchkit.errors import LeaseLost, StoreError
from batchkit.ids import RunId
from batchkit.model import DocKind, Lease, NewEvent, Run
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.guard import Guard
from batchkit.storage.records import as_run
from batchkit.storage.sqlite_file import Database

_FENCE = """
    UPDATE run SET seq = seq + 1, lease_until = ? + lease_ttl
    WHERE id = ? AND epoch = ? AND owner = ?
    RETURNING *
"""


class SQLiteBase:
    """The database, the clock and what every part does alike."""

    _db: Database
    _clock: Clock
    _guard: Guard

    def now(self) -> float:
        """Give the time of the store's clock, the one that leases run by."""
        return self._clock.now()

    def _fence(self, connection: sqlite3.Connection, lease: Lease) -> Run:
        """Renew the lease and number the write; every leased write starts here."""
        values = (self.now(), lease.run, lease.epoch, lease.owner)
        for found in connection.execute(_FENCE, values).fetchall():
            return as_run(found)
        raise LeaseLost(
            f"run {lease.run}: the lease of epoch {lease.epoch} is over, another process moves this run or it was released; "
            "nothing was written"
        )

    def _run(self, connection: sqlite3.Connection, run: RunId) -> Run:
        found = connection.execute("SELECT * FROM run WHERE id = ?", (run,)).fetchone()
        if found is None:
            raise StoreError(f"the store holds no run {run}")
        return as_run(found)

    def _append_events(self, connection: sqlite3.Connection, run: RunId, events: Iterable[NewEvent]) -> None:
        for event in events:
            self._append(connection, DocKind.EVENT, event_scope(run), encode_event(event, self.now()))

    def _append(self, connection: sqlite3.Connection, kind: DocKind, scope: str, body: bytes) -> str:
        raise NotImplementedError

    def _drop(self, connection: sqlite3.Connection, run: Run) -> None:
        raise NotImplementedError


def numbered(*values: object) -> dict[str, object]:
    """Give values for the placeholders ``:p1``, ``:p2`` …, which may stand more than once in a statement."""
    return {f"p{number}": value for number, value in enumerate(values, 1)}
