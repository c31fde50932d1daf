"""The promises about runs and leases."""

from __future__ import annotations

import json
from collections.abc import Callable

import attrs
import pytest

from batchkit.clock import Clock
from batchkit.errors import IllegalTransition, LeaseLost, StoreError
from batchkit.ids import Digest, RunId
from batchkit.model import BatchFacts, DocKind, Need, NewEvent, NewRun, RunFacts, Seal
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.testing.store_contract.base import StoreCase, a_run, an_intent, an_open_run, record, the_run

SHORT = 0.15


class RunContract(StoreCase):
    """`batchkit.storage.RunStore`."""

    def test_a_new_run_is_freezing(self, store: Store) -> None:
        """A name not known yet makes a run in FREEZING without rows."""
        run, new = store.open_run(
            NewRun(name="nightly", spec=Digest("ab" * 32), options={"canary": 3, "lock": None})
        )
        assert new
        assert (run.state, run.rows, run.digest, run.needs, run.parent) == (
            RunState.FREEZING,
            0,
            None,
            (),
            None,
        )
        assert (run.name, run.spec, run.options) == ("nightly", "ab" * 32, {"canary": 3, "lock": None})
        assert abs(run.created_at - store.now()) < 60

    def test_a_known_name_gives_the_run_unchanged(self, store: Store) -> None:
        """Opening a name twice gives the first run, whatever spec and options the second call names."""
        first, _ = store.open_run(NewRun(name="nightly", spec=Digest("ab" * 32)))
        again, new = store.open_run(NewRun(name="nightly", spec=Digest("cd" * 32), options={"x": 1}))
        assert (again, new) == (first, False)
        assert store.runs() == [first]

    def test_runs_match_all_arguments(self, store: Store) -> None:
        """Runs are found by name, by parent, by both, and all of them without arguments, in order of id."""
        parent, _ = store.open_run(NewRun(name="a", spec=Digest("ab" * 32)))
        child, _ = store.open_run(NewRun(name="b", spec=Digest("ab" * 32), parent=parent.id))
        assert store.runs() == [parent, child]
        assert store.runs(name="b") == [child]
        assert store.runs(parent=parent.id) == [child]
        assert store.runs(name="a", parent=parent.id) == []
        assert store.runs(name="c") == []

    def test_an_unknown_parent_is_refused(self, store: Store) -> None:
        """A run whose parent does not exist is not made."""
        with pytest.raises(StoreError):
            store.open_run(NewRun(name="b", spec=Digest("ab" * 32), parent=RunId(99)))
        assert store.runs() == []

    def test_a_living_lease_keeps_others_out(self, store: Store) -> None:
        """While an owner's lease lives, another owner gets None and sees whose it is."""
        opened = a_run(store)
        assert store.acquire(opened.run.id, "somebody else", 60) is None
        held = store.holder(opened.run.id)
        assert held is not None
        assert (held.owner, held.epoch, held.run) == ("me", opened.lease.epoch, opened.run.id)
        assert held.until == pytest.approx(opened.lease.until)

    def test_nobody_holds_a_fresh_run(self, store: Store) -> None:
        """A run whose lease nobody took has no holder."""
        run, _ = store.open_run(NewRun(name="a", spec=Digest("ab" * 32)))
        assert store.holder(run.id) is None

    def test_each_lease_has_a_higher_epoch(self, store: Store) -> None:
        """The same owner gets a new epoch at once, and the older lease is lost."""
        opened = a_run(store)
        again = store.acquire(opened.run.id, "me", 60)
        assert again is not None
        assert again.epoch == opened.lease.epoch + 1
        with pytest.raises(LeaseLost):
            store.freeze(opened.lease, [record(0)])
        assert store.freeze(again, [record(0)]) == 1

    def test_an_expired_lease_can_be_taken(self, store: Store, clock: Clock) -> None:
        """After the lease's time another owner gets it and the former holder's writes are refused."""
        run, _ = store.open_run(NewRun(name="a", spec=Digest("ab" * 32)))
        old = store.acquire(run.id, "first", SHORT)
        assert old is not None
        clock.sleep(2 * SHORT)
        assert store.holder(run.id) is None
        new = store.acquire(run.id, "second", 60)
        assert new is not None
        assert new.epoch > old.epoch
        with pytest.raises(LeaseLost):
            store.move_run(old, expect=RunState.FREEZING, to=RunState.FREEZING)

    def test_an_expired_lease_nobody_took_is_current(self, store: Store, clock: Clock) -> None:
        """A write under an expired lease that nobody has taken since succeeds and renews it."""
        run, _ = store.open_run(NewRun(name="a", spec=Digest("ab" * 32)))
        lease = store.acquire(run.id, "first", SHORT)
        assert lease is not None
        clock.sleep(2 * SHORT)
        assert store.freeze(lease, [record(0)]) == 1
        assert store.acquire(run.id, "second", 60) is None

    def test_writes_renew_the_lease_by_its_ttl(self, store: Store, clock: Clock) -> None:
        """Every write under the lease moves its end to now plus the time it was taken for."""
        run, _ = store.open_run(NewRun(name="a", spec=Digest("ab" * 32)))
        lease = store.acquire(run.id, "first", 30)
        assert lease is not None
        clock.sleep(SHORT)
        store.freeze(lease, [])
        held = store.holder(run.id)
        assert held is not None
        assert held.until >= lease.until + SHORT * 0.9
        assert held.until == pytest.approx(store.now() + 30, abs=5)

    def test_release_ends_the_lease(self, store: Store) -> None:
        """After release another owner gets the lease at once and the released one is lost."""
        opened = a_run(store)
        store.release(opened.lease)
        assert store.holder(opened.run.id) is None
        with pytest.raises(LeaseLost):
            store.freeze(opened.lease, [record(0)])
        new = store.acquire(opened.run.id, "somebody else", 60)
        assert new is not None
        assert new.epoch > opened.lease.epoch

    def test_releasing_a_lost_lease_changes_nothing(self, store: Store) -> None:
        """Release under an older epoch leaves the newer lease alone."""
        opened = a_run(store)
        new = store.acquire(opened.run.id, "me", 60)
        assert new is not None
        store.release(opened.lease)
        assert store.freeze(new, [record(0)]) == 1

    def test_leases_are_per_run(self, store: Store) -> None:
        """Two runs are held by two owners at once."""
        first = a_run(store, "a")
        other, _ = store.open_run(NewRun(name="b", spec=Digest("ab" * 32)))
        assert store.acquire(other.id, "somebody else", 60) is not None
        assert store.freeze(first.lease, [record(0)]) == 1

    def test_an_unknown_run_has_no_lease(self, store: Store) -> None:
        """Lease calls for a run that does not exist raise StoreError."""
        with pytest.raises(StoreError):
            store.acquire(RunId(99), "me", 60)
        with pytest.raises(StoreError):
            store.holder(RunId(99))

    def test_every_leased_write_is_fenced(self, store: Store) -> None:
        """Each method that takes a lease raises LeaseLost under an older epoch and writes nothing."""
        opened = an_open_run(store)
        batch = opened.intend([0])
        newer = store.acquire(opened.run.id, "me", 60)
        assert newer is not None
        before = (the_run(opened), store.tally(opened.run.id), store.members(batch.id))
        stale = opened.lease
        writes: list[Callable[[], object]] = [
            lambda: store.freeze(stale, [], seal=Seal()),
            lambda: store.move_run(stale, expect=RunState.OPEN, to=RunState.PAUSED),
            lambda: store.intend(stale, an_intent("bbbbbbbb"), opened.ids([1])),
            lambda: store.move_batch(
                stale, batch.id, expect=BatchState.INTENT, to=BatchState.SENDING, facts=BatchFacts()
            ),
            lambda: store.settle(stale, batch.id, []),
        ]
        for write in writes:
            with pytest.raises(LeaseLost):
                write()
        assert (the_run(opened), store.tally(opened.run.id), store.members(batch.id)) == before

    def test_each_leased_write_counts(self, store: Store) -> None:
        """The run's seq grows with each leased write, so that one can tell whether it landed."""
        opened = a_run(store)
        before = the_run(opened).seq
        store.freeze(opened.lease, [record(0)])
        assert the_run(opened).seq > before

    def test_move_run_applies_facts_and_events(self, store: Store) -> None:
        """A move changes the state, replaces needs and options, and appends its events."""
        opened = an_open_run(store)
        need = Need(who="money", why="cap reached", fix="run.raise_cap(10)", code="cap")
        event = NewEvent(
            kind="run.paused", severity="warn", data={"spent": 5, "why": None, "share": 0.5, "ok": True}
        )
        moved = store.move_run(
            opened.lease,
            expect=RunState.OPEN,
            to=RunState.PAUSED,
            facts=RunFacts(
                needs=(need,), options={"canary": 4}, events=(event, attrs.evolve(event, kind="second"))
            ),
        )
        assert moved == the_run(opened)
        assert (moved.state, moved.needs, moved.options) == (RunState.PAUSED, (need,), {"canary": 4})
        kinds = [
            json.loads(body)["kind"] for _, body in store.docs(DocKind.EVENT, scope=f"run-{opened.run.id}")
        ]
        assert kinds == ["run.paused", "second"]
        body = json.loads(store.docs(DocKind.EVENT)[0][1])
        assert body["data"] == {"spent": 5, "why": None, "share": 0.5, "ok": True}
        assert (body["severity"], type(body["at"])) == ("warn", float)

    def test_move_to_the_same_state_only_applies_facts(self, store: Store) -> None:
        """``to`` equal to ``expect`` keeps the state; facts not given keep their values."""
        opened = an_open_run(store)
        need = Need(who="person", why="why", fix="fix")
        store.move_run(opened.lease, expect=RunState.OPEN, to=RunState.OPEN, facts=RunFacts(needs=(need,)))
        moved = store.move_run(opened.lease, expect=RunState.OPEN, to=RunState.OPEN)
        assert (moved.state, moved.needs, moved.options) == (RunState.OPEN, (need,), {"canary": 3})

    def test_needs_can_be_emptied(self, store: Store) -> None:
        """Facts with no needs at all remove the run's needs."""
        opened = an_open_run(store)
        need = Need(who="person", why="why", fix="fix")
        store.move_run(opened.lease, expect=RunState.OPEN, to=RunState.OPEN, facts=RunFacts(needs=(need,)))
        moved = store.move_run(opened.lease, expect=RunState.OPEN, to=RunState.OPEN, facts=RunFacts(needs=()))
        assert moved.needs == ()

    def test_an_edge_not_listed_is_refused(self, store: Store) -> None:
        """A move the table does not list raises IllegalTransition and leaves no event behind."""
        opened = an_open_run(store)
        with pytest.raises(IllegalTransition):
            store.move_run(
                opened.lease,
                expect=RunState.OPEN,
                to=RunState.FREEZING,
                facts=RunFacts(events=(NewEvent(kind="never"),)),
            )
        assert the_run(opened).state is RunState.OPEN
        assert store.docs(DocKind.EVENT) == []

    def test_a_run_elsewhere_is_not_moved(self, store: Store) -> None:
        """A run that is not in ``expect`` stays where it is."""
        opened = an_open_run(store)
        with pytest.raises(StoreError):
            store.move_run(opened.lease, expect=RunState.PAUSED, to=RunState.OPEN)
        assert the_run(opened).state is RunState.OPEN

    def test_a_closed_store_is_refused(self, store: Store) -> None:
        """After close every use raises StoreError, and closing again is fine."""
        store.close()
        store.close()
        with pytest.raises(StoreError):
            store.runs()
