"""Runs and leases in an ordered map."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from batchkit.ids import RunId
from batchkit.model import Lease, NewRun, Run, RunFacts
from batchkit.states import RunState
from batchkit.storage.keyvalue.base import Held
from batchkit.storage.keyvalue.documents import KeyValueDocuments
from batchkit.storage.keyvalue.entries import named
from batchkit.storage.keyvalue.freeze import drop
from batchkit.storage.owner import is_gone
from batchkit.storage.records import check_move

_NOTHING = RunFacts()


class KeyValueRuns(KeyValueDocuments):
    """`batchkit.storage.RunStore` on an ordered map."""

    def open_run(self, new: NewRun) -> tuple[Run, bool]:
        """Create a run, or give the one of that name."""
        name = named("name", new.name)
        with self._write() as entries:
            known = entries.one(name)
            if known is not None:
                return self._held(entries, RunId(int(known))).run, False
            if new.parent is not None:
                self._held(entries, new.parent)
            run = Run(
                id=RunId(entries.draw("run")),
                name=new.name,
                spec=new.spec,
                parent=new.parent,
                options=dict(new.options),
                state=RunState.FREEZING,
                rows=0,
                digest=None,
                created_at=self.now(),
            )
            entries.put({name: b"%d" % run.id})
            self._keep_run(entries, Held(run))
            return self._held(entries, run.id).run, True

    def runs(self, *, name: str | None = None, parent: RunId | None = None) -> Sequence[Run]:
        """Give the runs that match all arguments given."""
        with self._read() as entries:
            if name is None:
                found = [Held.decoded(stored).run for stored in entries.table("run")]
            else:
                known = entries.one(named("name", name))
                found = [] if known is None else [self._held(entries, RunId(int(known))).run]
        return [run for run in found if parent is None or run.parent == parent]

    def acquire(self, run: RunId, owner: str, ttl: float) -> Lease | None:
        """Take the lease, unless another living owner holds it."""
        with self._write() as entries:
            held = self._held(entries, run)
            living = self._living(held)
            if living is not None and living.owner != owner:
                return None
            now = attrs.evolve(held.run, seq=held.run.seq + 1)
            taken = Held(now, held.epoch + 1, owner, self.now() + ttl, ttl)
            self._keep_run(entries, taken)
            return Lease(run=run, owner=owner, epoch=taken.epoch, until=taken.until)

    def holder(self, run: RunId) -> Lease | None:
        """Give the living lease of a run, if there is one."""
        with self._read() as entries:
            return self._living(self._held(entries, run))

    def release(self, lease: Lease) -> None:
        """End the lease, if it is still current."""
        with self._write() as entries:
            held = self._held(entries, lease.run)
            if (held.epoch, held.owner) == (lease.epoch, lease.owner):
                run = attrs.evolve(held.run, seq=held.run.seq + 1)
                self._keep_run(entries, attrs.evolve(held, run=run, owner="", until=0.0))

    def move_run(self, lease: Lease, *, expect: RunState, to: RunState, facts: RunFacts = _NOTHING) -> Run:
        """Move the run and apply the facts."""
        with self._write() as entries:
            run = self._fence(entries, lease)
            check_move(run, expect, to, facts)
            if facts.refreeze is not None:
                drop(entries, run.id)
                run = attrs.evolve(run, spec=facts.refreeze, rows=0)
            run = attrs.evolve(
                run,
                state=to,
                needs=run.needs if facts.needs is None else facts.needs,
                options=run.options if facts.options is None else dict(facts.options),
            )
            self._change_run(entries, run)
            self._tell(entries, run.id, facts.events)
            return run

    def _living(self, held: Held) -> Lease | None:
        if not held.owner or held.until <= self.now() or is_gone(held.owner):
            return None
        return Lease(run=held.run.id, owner=held.owner, epoch=held.epoch, until=held.until)
