"""A catalog behind two functions dies at every call and every row: what was begun goes on, and all can be undone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from leafcatalog import LeafCatalog

from batchkit.errors import TargetError
from batchkit.ids import Digest
from batchkit.targets import Note, Promotion, StagedRow
from batchkit.targets.callable import CallableTarget, Change
from batchkit.testing.faults.moments import Killed, Nth, Way, die_in_process

KEYS = "abcdef"
NOTE = Note(run="r", receipt=Digest("d" * 64), content=Digest("d" * 64), fields=("category", "score"))


class DyingCatalog(LeafCatalog):
    """Fails at one of its operations: a call of ``read``, or the writing of one row, so that pages are torn."""

    faults = Nth()

    def fetch(self, keys: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
        return self.faults("read", lambda: super(DyingCatalog, self).fetch(keys), ConnectionError)

    def store(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.faults("write", lambda c=change: super(DyingCatalog, self).store([c]), ConnectionError)  # type: ignore[misc]


def filled(path: Path) -> DyingCatalog:
    catalog = DyingCatalog(path)
    for number, key in enumerate(KEYS):
        catalog.insert(key, title=f"title {key}", category=f"old {key}", score=number)
    catalog.edit("f", category="new f", score=9)
    return catalog


def promote(target: CallableTarget) -> Promotion:
    return target.promote(NOTE, [StagedRow(key, {"category": f"new {key}", "score": 9}, {}) for key in KEYS])


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
