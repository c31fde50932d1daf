"""Runs and leases in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from batchkit.errors import StoreError
from batchkit.ids import Digest, RunId
from batchkit.model import Lease, NewRun, Run, RunFacts
from batchkit.states import RunState
from batchkit.storage.owner import is_gone
from batchkit.storage.records import as_run, check_move, dump, dump_needs
from batchkit.storage.sqlite_base import SQLiteBase, numbered

_NOTHING = RunFacts()


class SQLiteRuns(SQLiteBase):
    """`batchkit.storage.RunStore` on SQLite."""

    def open_run(self, new: NewRun) -> tuple[Run, bool]:
        """Create a run, or give the one of that name."""
        with self._db.write() as connection:
            found = connection.execute("SELECT * FROM run WHERE name = ?", (new.name,)).fetchone()
            if found is not None:
                return as_run(found), False
            if new.parent is not None:
                self._run(connection, new.parent)
            made = connection.execute(
                "INSERT INTO run (name, spec, parent, options, state, created_at) VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
                (
                    new.name,
                    new.spec,
                    new.parent,
                    dump(dict(new.options)),
                    RunState.FREEZING.value,
                    self.now(),
                ),
            ).fetchall()
            return as_run(made[0]), True

    def runs(self, *, name: str | None = None, parent: RunId | None = None) -> Sequence[Run]:
        """Give the runs that match all arguments given."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT * FROM run WHERE (:p1 IS NULL OR name = :p1) AND (:p2 IS NULL OR parent = :p2) ORDER BY id",
                numbered(name, parent),
            ).fetchall()
            return [as_run(row) for row in found]

    def acquire(self, run: RunId, owner: str, ttl: float) -> Lease | None:
        """Take the lease, unless another living owner holds it."""
        with self._db.write() as connection:
            held = self._holder(connection, run)
            if held is not None and held.owner != owner and not is_gone(held.owner):
                return None
            until = self.now() + ttl
            taken = connection.execute(
                "UPDATE run SET epoch = epoch + 1, seq = seq + 1, owner = ?, lease_ttl = ?, lease_until = ? WHERE id = ? "
                "RETURNING epoch",
                (owner, ttl, until, run),
            ).fetchall()
            return Lease(run=run, owner=owner, epoch=taken[0][0], until=until)

    def holder(self, run: RunId) -> Lease | None:
        """Give the living lease of a run, if there is one."""
        with self._db.read() as connection:
            held = self._holder(connection, run)
        return None if held is None or is_gone(held.owner) else held

    def release(self, lease: Lease) -> None:
        """End the lease, if it is still current."""
        with self._db.write() as connection:
            connection.execute(
                "UPDATE run SET seq = seq + 1, owner = '', lease_until = 0 WHERE id = ? AND epoch = ? AND owner = ?",
                (lease.run, lease.epoch, lease.owner),
            )

    def move_run(self, lease: Lease, *, expect: RunState, to: RunState, facts: RunFacts = _NOTHING) -> Run:
        """Move the run and apply the facts."""
        with self._db.write() as connection:
            run = self._fence(connection, lease)
            check_move(run, expect, to, facts)
            if facts.refreeze is not None:
                self._refreeze(connection, run, facts.refreeze)
            made = connection.execute(
                "UPDATE run SET state = ?, needs = coalesce(?, needs), options = coalesce(?, options) WHERE id = ? RETURNING *",
                (
                    to.value,
                    None if facts.needs is None else dump_needs(facts.needs),
                    None if facts.options is None else dump(dict(facts.options)),
                    run.id,
                ),
            ).fetchall()
            self._append_events(connection, run.id, facts.events)
            return as_run(made[0])

    def _refreeze(self, connection: sqlite3.Connection, run: Run, spec: Digest) -> None:
        self._drop(connection, run)
        connection.execute("UPDATE run SET spec = ? WHERE id = ?", (spec, run.id))

    def _holder(self, connection: sqlite3.Connection, run: RunId) -> Lease | None:
        found = connection.execute(
            "SELECT owner, epoch, lease_until FROM run WHERE id = ?", (run,)
        ).fetchone()
        if found is None:
            raise StoreError(f"the store holds no run {run}")
        owner, epoch, until = found
        return Lease(run=run, owner=owner, epoch=epoch, until=until) if owner and until > self.now() else None
