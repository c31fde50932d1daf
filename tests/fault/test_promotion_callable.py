"""A catalog behind two functions dies at every call and every row: what was begun goes on, and all can be undone."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from leafcatalog import Binder, LeafCatalog

from batchkit.errors import TargetError
from batchkit.ids import Digest
from batchkit.targets import Note, Promotion, StagedRow
from batchkit.targets.callable import CallableTarget, Change
from batchkit.testing.faults.moments import Killed, Nth, Way, die_in_process

KEYS = "abcdef"
STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "3"))
"""Killed processes in CI die at every third operation."""
PROCESSES = multiprocessing.get_context("forkserver")
"""Its processes are forked from one that has no threads and has all this imported, which takes longer than a promotion."""
PROCESSES.set_forkserver_preload([__name__])
NOTE = Note(run="r", receipt=Digest("d" * 64), content=Digest("d" * 64), fields=("category", "score"))


class DyingCatalog(LeafCatalog):
    """Fails at one of its operations: a call of ``read``, or the writing of one row, so that pages are torn."""

    faults = Nth()

    def __init__(self, path: Path, rows: Binder | None = None) -> None:
        super().__init__(path)
        if rows is not None:
            self.rows = rows

    def fetch(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        return self.faults("read", lambda: super(DyingCatalog, self).fetch(keys), ConnectionError)

    def store(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.faults("write", lambda c=change: super(DyingCatalog, self).store([c]), ConnectionError)  # type: ignore[misc]


def kept(path: Path) -> DyingCatalog:
    """Give the catalog that a process which was killed left on disk."""
    return DyingCatalog(path, Binder(path.with_suffix(".leaves")))


def filled(path: Path, make: Callable[[Path], DyingCatalog] = DyingCatalog) -> DyingCatalog:
    catalog = make(path)
    for number, key in enumerate(KEYS):
        catalog.insert(key, title=f"title {key}", category=f"old {key}", score=number)
    catalog.edit("f", category="new f", score=9)
    return catalog


def promote(target: CallableTarget) -> Promotion:
    return target.promote(NOTE, [StagedRow(key, {"category": f"new {key}", "score": 9}, {}) for key in KEYS])


def killed(path: Path, at: int, way: Way, call: Callable[[CallableTarget], object]) -> None:
    """Be killed at one operation of a call, in a process of one's own."""
    catalog = kept(path)
    catalog.faults = Nth(at, way)
    call(catalog.target())


def was_killed(path: Path, at: int, way: Way, call: Callable[[CallableTarget], object]) -> bool:
    """Have a process make a call that is killed at one operation; tell whether it came so far."""
    process = PROCESSES.Process(target=killed, args=(path, at, way, call))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def broken_off(catalog: DyingCatalog, at: int, way: Way, call: Callable[[], object]) -> bool:
    """Let a call fail at one operation; tell whether it did."""
    catalog.faults = Nth(at, way, die=die_in_process)
    with suppress(Killed, TargetError):
        call()
    struck, catalog.faults = catalog.faults.struck, Nth()
    return struck


@pytest.mark.parametrize("resumed", [True, False], ids=["resumed", "rolled back at once"])
@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_a_promotion_that_breaks_off_anywhere(tmp_path: Path, way: Way, resumed: bool) -> None:
    """Wherever a promotion breaks off, it can be finished or not, and undone, and edits made meanwhile stay."""
    for at in itertools.count(1):
        catalog = filled(tmp_path / f"{at}.db")
        before, target = catalog.read(), catalog.target()
        if not broken_off(catalog, at, way, lambda t=target: promote(t)):  # type: ignore[misc]
            break
        catalog.edit("a", title="a title by somebody else")
        catalog.edit("d", category="mine")
        edited = catalog.read()["d"]
        begun = target.promotions()
        if resumed:
            made = promote(catalog.target())
            assert made.staged == len(KEYS)
            assert (len(catalog.target().promotions()), made.repeated) == (1, bool(begun))
            assert sorted(key for kind in ("written", "conflict") for key in made.keys(kind)) == [*"abcde"]
            assert {catalog.rows[key]["category"] for key in "abce"} == {f"new {key}" for key in "abce"}
            again = catalog.read()
            assert promote(catalog.target()) == made
            assert catalog.read() == again
        catalog.target().rollback()
        wanted = {**before, "a": {**before["a"], "title": "a title by somebody else"}, "d": edited}
        assert catalog.read() == wanted, f"{way.value} at {at}"
        assert catalog.target().rollback().promotions == ()
    assert at > 10


@pytest.mark.parametrize("way", Way, ids=lambda way: way.value)
def test_a_rollback_that_breaks_off_anywhere(tmp_path: Path, way: Way) -> None:
    """Wherever a rollback breaks off, the same call finishes it and undoes nothing else, and edits made meanwhile stay."""
    for at in itertools.count(1):
        catalog = filled(tmp_path / f"{at}.db")
        target, first = catalog.target(), catalog.read()
        target.promote(
            attrs.evolve(NOTE, content=Digest("e" * 64), fields=("category",)),
            [StagedRow(key, {"category": f"first {key}"}, {}) for key in KEYS],
        )
        before = catalog.read()
        promote(target)
        if not broken_off(catalog, at, way, lambda t=target: t.rollback()):  # type: ignore[misc]
            break
        catalog.edit("d", category="mine")
        edited = catalog.read()["d"]
        undone = catalog.target().rollback()
        assert undone.promotions == (2,)
        assert catalog.read() == {**before, "d": edited}, f"{way.value} at {at}"
        assert undone.restored + len(undone.conflicts) == len(KEYS)
        assert undone.conflicts in ((), ("d",))  # none if the row had been put back before the edit
        assert [p.rolled_back_at is None for p in target.promotions()] == [True, False]
        assert target.rollback().conflicts == ("d",)
        assert catalog.read() == {**first, "d": edited}
    assert at > 10


@pytest.mark.parametrize("way", [Way.KILL_BEFORE, Way.KILL_AFTER], ids=lambda way: way.value)
@pytest.mark.parametrize("call", [promote, CallableTarget.rollback])
def test_a_process_that_is_killed_anywhere(
    tmp_path: Path, call: Callable[[CallableTarget], object], way: Way
) -> None:
    """A SIGKILL amid a promotion or a rollback, at any call and any row: another process ends it, and all can be undone."""
    for at in itertools.count(1, STEP):
        path = tmp_path / f"{at}.db"
        catalog = filled(path, kept)
        before = catalog.read()
        if call is not promote:
            promote(catalog.target())
        if not was_killed(path, at, way, call):
            break
        if call is promote:
            promote(kept(path).target())
            assert {row["category"] for row in catalog.read().values()} == {f"new {key}" for key in KEYS}
        kept(path).target().rollback()
        assert catalog.read() == before, f"{way.value} at {at}"
        assert catalog.target().rollback().promotions == ()
        assert len(catalog.target().promotions()) == 1
    assert at > 10
