"""Runs and leases in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from batchkit.errors import StoreError
from batchkit.ids import Digest, RunId
from batchkit.model import Lease, NewRun, Run, RunFacts
from batchkit.states import RunState
from batchkit.storage.postgres_base import NOW, PostgresBase
from batchkit.storage.postgres_database import Transaction
from batchkit.storage.records import as_run, check_move, dump, dump_needs

_NOTHING = RunFacts()
_OPEN: Final = f"""
    INSERT INTO run (name, spec, parent, options, state, created_at)
    VALUES (%(name)s, %(spec)s, %(parent)s, %(options)s, %(state)s, {NOW})
    ON CONFLICT (name) DO NOTHING RETURNING *
"""  # noqa: S608 (a constant)
_ACQUIRE: Final = f"""
    UPDATE run SET epoch = epoch + 1, seq = seq + 1, owner = %(owner)s, lease_ttl = %(ttl)s, lease_until = {NOW} + %(ttl)s
    WHERE id = %(run)s AND (owner IN ('', %(owner)s) OR lease_until <= {NOW})
    RETURNING epoch, lease_until
"""  # noqa: S608 (a constant)
_HOLDER: Final = f"SELECT owner, epoch, lease_until, lease_until > {NOW} FROM run WHERE id = %(run)s"  # noqa: S608 (a constant)


class PostgresRuns(PostgresBase):
    """`batchkit.storage.RunStore` on PostgreSQL."""

    def open_run(self, new: NewRun) -> tuple[Run, bool]:
        """Create a run, or give the one of that name."""
        with self._db.write() as transaction:
            found = transaction.first("SELECT * FROM run WHERE name = %s", (new.name,))
            if found is not None:
                return as_run(found), False
            if new.parent is not None:
                self._run(transaction, new.parent)
            made = transaction.first(
                _OPEN,
                self._moment(
                    name=new.name,
                    spec=new.spec,
                    parent=new.parent,
                    options=dump(dict(new.options)),
                    state=RunState.FREEZING.value,
                ),
            )
            if made is not None:
                return as_run(made), True
            # Another process made it since.
            return as_run(transaction.all("SELECT * FROM run WHERE name = %s", (new.name,))[0]), False

    def runs(self, *, name: str | None = None, parent: RunId | None = None) -> Sequence[Run]:
        """Give the runs that match all arguments given."""
        with self._db.read() as transaction:
            found = transaction.all(
                "SELECT * FROM run WHERE (%(name)s::text IS NULL OR name = %(name)s::text) "
                "AND (%(parent)s::bigint IS NULL OR parent = %(parent)s::bigint) ORDER BY id",
                {"name": name, "parent": parent},
            )
        return [as_run(row) for row in found]

    def acquire(self, run: RunId, owner: str, ttl: float) -> Lease | None:
        """Take the lease, unless another owner's lives."""
        with self._db.write() as transaction:
            taken = transaction.first(_ACQUIRE, self._moment(run=run, owner=owner, ttl=float(ttl)))
            if taken is None:
                self._run(transaction, run)
                return None
        epoch, until = taken
        return Lease(run=run, owner=owner, epoch=epoch, until=until)

    def holder(self, run: RunId) -> Lease | None:
        """Give the living lease of a run, if there is one."""
        with self._db.read() as transaction:
            found = transaction.first(_HOLDER, self._moment(run=run))
        if found is None:
            raise StoreError(f"the store holds no run {run}")
        owner, epoch, until, lives = found
        return Lease(run=run, owner=owner, epoch=epoch, until=until) if owner and lives else None

    def release(self, lease: Lease) -> None:
        """End the lease, if it is still current."""
        with self._db.write() as transaction:
            transaction.change(
                "UPDATE run SET seq = seq + 1, owner = '', lease_until = 0 WHERE id = %s AND epoch = %s AND owner = %s",
                (lease.run, lease.epoch, lease.owner),
            )

    def move_run(self, lease: Lease, *, expect: RunState, to: RunState, facts: RunFacts = _NOTHING) -> Run:
        """Move the run and apply the facts."""
        with self._db.write() as transaction:
            run = self._fence(transaction, lease)
            check_move(run, expect, to, facts)
            if facts.refreeze is not None:
                self._refreeze(transaction, run, facts.refreeze)
            made = transaction.all(
                "UPDATE run SET state = %s, needs = coalesce(%s, needs), options = coalesce(%s, options) WHERE id = %s "
                "RETURNING *",
                (
                    to.value,
                    None if facts.needs is None else dump_needs(facts.needs),
                    None if facts.options is None else dump(dict(facts.options)),
                    run.id,
                ),
            )
            self._append_events(transaction, run.id, facts.events)
            return as_run(made[0])

    def _refreeze(self, transaction: Transaction, run: Run, spec: Digest) -> None:
        self._drop(transaction, run)
        transaction.change("UPDATE run SET spec = %s WHERE id = %s", (spec, run.id))
