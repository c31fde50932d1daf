"""What the parts of a SQLite store share: the database, the clock, the fence."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from batchkit.clock import Clock
from batchkit.errors import LeaseLost, StoreError
from batchkit.ids import Digest, RowId, RunId, row_id, run_of
from batchkit.model import DocKind, Lease, Need, NewEvent, Run
from batchkit.states import RunState
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.guard import Guard
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
        cursor = connection.execute(_FENCE, (self.now(), lease.run, lease.epoch, lease.owner))
        for found in cursor.fetchall():
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


def bounds(run: Run) -> tuple[int, int]:
    """Give the first row id of a run and the one after its last."""
    return row_id(run.id, 0), row_id(run.id, run.rows)


def check_rows(run: Run, lowest: RowId, highest: RowId) -> None:
    """Make sure that two ids, and so all between them, are rows of the run.

    Raises:
        StoreError: one of them is not.
    """
    first, end = bounds(run)
    for row in (lowest, highest):
        if not first <= row < end:
            where = "another run" if run_of(row) != run.id else f"beyond the run's {run.rows} rows"
            raise StoreError(f"row {row} is {where}, not of run {run.id}; nothing was changed")


def clean(text: str) -> str:
    """Give text that UTF-8 can hold: halves of surrogate pairs become escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def dump(value: object) -> str:
    """Encode a value as JSON text, keys sorted."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def load_map(text: str) -> Mapping[str, object]:
    """Decode a JSON object."""
    value: Mapping[str, object] = json.loads(text)
    return value


def dump_needs(needs: Iterable[Need]) -> str:
    """Encode needs as a JSON array."""
    return dump([attrs.asdict(need) for need in needs])


def as_run(found: tuple[Any, ...]) -> Run:
    """Make a run of a row of its table."""
    id_, name, spec, parent, options, state, rows, digest, created_at, needs, seq, *_ = found
    return Run(
        id=RunId(id_),
        name=name,
        spec=Digest(spec),
        parent=None if parent is None else RunId(parent),
        options=load_map(options),
        state=RunState(state),
        rows=rows,
        digest=None if digest is None else Digest(digest),
        created_at=float(created_at),  # RETURNING gives what was bound, before the column made it a float
        needs=tuple(Need(**need) for need in json.loads(needs)),
        seq=seq,
    )


def numbered(*values: object) -> dict[str, object]:
    """Give values for the placeholders ``:p1``, ``:p2`` …, which may stand more than once in a statement."""
    return {f"p{number}": value for number, value in enumerate(values, 1)}
