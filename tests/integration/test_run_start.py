"""Starting runs: what is frozen, what is refused, and how often it may be repeated."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel
from shop import Shop, kinds, tiny_spec, words

from batchkit.contract import Contract
from batchkit.errors import (
    DuplicateKeys,
    LeaseLost,
    MissingField,
    NotLocked,
    RowsChanged,
    SpecChanged,
    StoreError,
    UsageError,
)
from batchkit.model import RunFacts
from batchkit.prompt import Prompt
from batchkit.states import Outcome, RunState
from batchkit.storage.sqlite_freeze import SQLiteFreeze


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


class Crash(BaseException):
    """The end of a process, which no except clause of the library catches."""


def crash_after(pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let freezing die once so many pages are in the store."""
    whole = SQLiteFreeze.freeze
    seen: list[int] = []

    def dying(self: SQLiteFreeze, *args: Any, **kwargs: Any) -> int:
        if len(seen) == pages:
            monkeypatch.undo()
            raise Crash
        seen.append(1)
        return whole(self, *args, **kwargs)

    monkeypatch.setattr(SQLiteFreeze, "freeze", dying)


def test_start_sends_nothing(shop: Shop) -> None:
    """Starting a run freezes its rows and makes no call to the API."""
    run = shop.start(rows=10)
    assert run.record.state is RunState.OPEN
    assert run.record.rows == 10
    assert shop.faults.seen == []


def test_start_again_gives_the_run(shop: Shop) -> None:
    """The same name with the same rows is the same run, frozen once."""
    first = shop.start(rows=1_200)
    again = shop.start(rows=1_200)
    assert (again.record.id, again.record.rows) == (first.record.id, 1_200)


def test_start_goes_on_after_a_crash(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose freezing died half way is frozen to its end by the next start, with nothing twice."""
    crash_after(2, monkeypatch)
    with pytest.raises(Crash):
        shop.start(rows=1_700)
    assert shop.flow().store.runs()[0].rows == 1_000
    run = shop.start(rows=1_700)
    assert run.record.state is RunState.OPEN
    assert run.rows().keys() == [row["sku"] for row in words(1_700)]


def test_start_begins_again_where_the_rows_changed_meanwhile(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was spent on an unsealed run, so other rows after a crash are frozen from record 0."""
    crash_after(1, monkeypatch)
    with pytest.raises(Crash):
        shop.start(rows=1_700)
    run = shop.start(rows=words(1_700, start=5))
    assert run.rows().keys()[:2] == ["S0005", "S0006"]
    assert run.record.rows == 1_700


def test_a_source_that_became_shorter_after_a_crash_is_not_mixed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that the source no longer has are not sealed into the run."""
    crash_after(3, monkeypatch)
    with pytest.raises(Crash):
        shop.start(rows=1_500)
    run = shop.start(rows=1_000)
    assert run.record.rows == 1_000


def test_a_generator_that_changed_after_a_crash_is_refused(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that can be read once only cannot be frozen anew; the message names the record."""
    crash_after(1, monkeypatch)
    with pytest.raises(Crash):
        shop.start(rows=700)
    with pytest.raises(RowsChanged, match="from record 0 on"):
        shop.start(rows=(row for row in words(700, start=5)))


def test_a_refused_start_can_be_put_right(shop: Shop) -> None:
    """After duplicate keys were refused, the same name takes another choice, and another spec."""
    rows = [*words(3), {"sku": "S0001", "word": "other", "brand": ""}]
    with pytest.raises(DuplicateKeys, match="S0001"):
        shop.start(rows=rows)
    other = tiny_spec(prompt=Prompt("The word: {word}"))
    run = shop.start(rows=rows, flow=shop.flow(other), on_duplicate="first")
    assert run.record.spec == other.fingerprint
    assert run.progress.tally.outcomes[Outcome.QUARANTINED] == 1


def test_other_rows_are_refused_once_sealed(shop: Shop) -> None:
    """A sealed run keeps its rows, and the message says where the source differs and what to do."""
    shop.start(rows=600)
    changed = words(600)
    changed[550]["word"] = "other"
    with pytest.raises(
        RowsChanged, match=r"record 550 \(key 'S0550'\) has another word\. Nothing was changed"
    ) as caught:
        shop.start(rows=changed)
    assert "flow.resume('run')" in str(caught.value)
    changed[550]["sku"] = "S9999"
    with pytest.raises(RowsChanged, match="record 550 has the key 'S9999', it had 'S0550'"):
        shop.start(rows=changed)
    with pytest.raises(RowsChanged, match="there are only 599 records, there were 600"):
        shop.start(rows=599)
    with pytest.raises(RowsChanged, match="frozen with 600 records, the source now gives 500"):
        shop.start(rows=500)
    with pytest.raises(RowsChanged, match="there are at least 601 records, there were 600"):
        shop.start(rows=601)


def test_another_spec_is_refused_once_sealed(shop: Shop) -> None:
    """A sealed run keeps its spec, and the message says what differs, field by field."""
    run = shop.start()
    other = tiny_spec(prompt=Prompt("Word: {word}", system="Be brief."))
    with pytest.raises(SpecChanged) as caught:
        shop.start(flow=shop.flow(other), unlocked=False)
    first, second = str(caught.value).split("\n")
    assert first.startswith(
        f"'run' runs under {run.spec.fingerprint[:6]}, this code has {other.fingerprint[:6]}. prompt.system:"
    )
    assert first.endswith("tiers: same.")
    assert second == (
        "  Finish the open run: flow.resume('run'). Use the new spec: grade it, flow.pilot().run(spec), then lock it."
    )


def test_an_unlocked_spec_is_refused(shop: Shop) -> None:
    """A spec that nobody accepted starts nothing unless told so, and then the run remembers it."""
    with pytest.raises(NotLocked, match="was not accepted by anyone"):
        shop.start(unlocked=False)
    assert shop.flow().store.runs() == []
    assert shop.start().record.options["unlocked"] is True
    shop.lock()
    assert shop.start("locked", unlocked=False).record.options["unlocked"] is False


def test_more_rows_than_meant_are_refused(shop: Shop) -> None:
    """A source beyond max_rows is refused before anything is sent, and the same name can then be used."""
    with pytest.raises(UsageError, match=r"more than max_rows=1,000"):
        shop.start(rows=1_001, max_rows=1_000)
    assert shop.start(rows=1_001, max_rows=1_001).record.rows == 1_001


def test_missing_fields_are_named(shop: Shop) -> None:
    """A field that the prompt uses and the rows lack is refused with the nearest name."""
    with pytest.raises(MissingField, match=r"Did you mean \{words\}"):
        shop.start(rows=[{"sku": "1", "words": "x", "brand": ""}])


def test_no_rows_make_a_run_that_is_done(shop: Shop) -> None:
    """A source without records makes a run that balances and closes at once."""
    run = shop.start(rows=[])
    progress = run.wait(progress="none")
    assert (progress.done, progress.rows, progress.balanced) == (True, 0, True)
    assert run.reconcile().balanced


@pytest.mark.parametrize("name", ["", " run", "run ", "a" * 201, "a\nb", "a\x1b[2Jb", "nightly#3"])
def test_names_that_cannot_be_used_are_refused(shop: Shop, name: str) -> None:
    """A name is printable text without spaces around it, and none that a series gives."""
    with pytest.raises(UsageError, match="name"):
        shop.start(name)


def test_a_run_that_was_never_sealed_cannot_be_resumed(shop: Shop) -> None:
    """Resuming needs frozen rows; the message says to start again."""
    with pytest.raises(DuplicateKeys):
        shop.start(rows=[*words(1), {"sku": "S0000", "word": "other", "brand": ""}])
    with pytest.raises(UsageError, match=r"start it again with its rows, flow.start\('run'"):
        shop.flow().resume("run")


def test_two_starts_at_once_freeze_once(shop: Shop) -> None:
    """A start that finds another process freezing the same run waits for it, and gives the same run."""
    flow, other = shop.flow(), shop.flow()
    rows = words(600)

    def slow() -> Iterator[dict[str, Any]]:
        yield from rows[:500]
        assert other.store.acquire(other.store.runs()[0].id, "another", 60.0) is None
        yield from rows[500:]

    assert flow.start("run", slow(), unlocked=True).record.rows == 600
    lease = other.store.acquire(flow.store.runs()[0].id, "another", 60.0)
    assert lease is not None
    assert shop.start(rows=600).record.state is RunState.OPEN


def test_a_dead_freezer_is_taken_over(shop: Shop) -> None:
    """A start waits for another's lease on an unsealed run to run out, then freezes it."""
    flow = shop.flow()
    with pytest.raises(DuplicateKeys):
        shop.start(rows=[*words(1), {"sku": "S0000", "word": "other", "brand": ""}], flow=flow)
    stale = flow.store.acquire(flow.store.runs()[0].id, "another", 60.0)
    assert stale is not None
    run = shop.start(rows=3)
    assert run.record.state is RunState.OPEN
    with pytest.raises(LeaseLost):
        flow.store.freeze(stale, [])


class Shade(BaseModel):
    color: Literal["red", "green"]
    shade: str


def test_resume_goes_on_under_the_stored_spec(shop: Shop) -> None:
    """After the code's prompt changed, a run goes on with the prompt it was started with."""
    shop.start(rows=2)
    changed = shop.flow(tiny_spec(prompt=Prompt("Another prompt: {word}")))
    run = changed.resume("run")
    assert run.spec.fingerprint == shop.spec.fingerprint
    assert run.wait(progress="none").done
    assert run.rows(outcome="succeeded").keys() == ["S0000", "S0001"]


def test_resume_refuses_another_contract(shop: Shop) -> None:
    """Judging needs the contract that the run was started with."""
    shop.start(rows=2)
    changed = shop.flow(tiny_spec(contract=Contract(Shade)))
    with pytest.raises(SpecChanged, match="Judging needs the code"):
        changed.resume("run")
    assert changed.open_runs() == []


@pytest.mark.parametrize("lost", [False, True], ids=["another contract", "spec lost"])
def test_a_run_that_cannot_be_judged_stops_no_other(
    shop: Shop, caplog: pytest.LogCaptureFixture, lost: bool
) -> None:
    """Workers leave a run alone whose contract is not theirs or whose spec is lost, say so once, and move the rest."""
    old = shop.start("old", rows=2)
    other = {"prompt": Prompt("Another prompt: {word}")} if lost else {"contract": Contract(Shade)}
    spec = tiny_spec(**other)
    if lost:
        with closing(sqlite3.connect(shop.path)) as db, db:
            db.execute("DELETE FROM document WHERE kind = 'spec' AND key = ?", (old.spec.fingerprint,))
    flow = shop.flow(spec)
    flow.start("new", words(2), unlocked=True)
    for _ in range(2):
        assert [run.name for run in flow.open_runs()] == ["new"]
    (said,) = [record.getMessage() for record in caplog.records if record.name == "batchkit"]
    assert said.startswith("run 'old' is left alone: the run was started under spec")
    with pytest.raises(SpecChanged, match="no more" if lost else "Judging needs the code"):
        flow.resume("old")


def test_a_sealed_run_is_never_frozen_again(shop: Shop) -> None:
    """The store drops the records of an unsealed run only."""
    store = shop.flow().store
    run = shop.start(rows=3).record
    lease = store.acquire(run.id, "another", 60.0)
    assert lease is not None
    facts = RunFacts(refreeze=run.spec)
    with pytest.raises(StoreError, match="is sealed"):
        store.move_run(lease, expect=RunState.OPEN, to=RunState.OPEN, facts=facts)
    assert store.tally(run.id).total == 3


def test_events_tell_the_story(shop: Shop) -> None:
    """A run's events are in the store, in order, and can be read from any point on."""
    run = shop.start(rows=2)
    run.wait(progress="none")
    assert kinds(run) == ["batch.sent", "batch.collected", "run.balanced"]
    first = run.events()[0]
    assert [event.kind for event in run.events(after=first.id)] == ["batch.collected", "run.balanced"]
