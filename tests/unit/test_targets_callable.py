"""What CallableTarget says of functions that do not do what they should, and what it does about edits meanwhile."""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime, timezone
from decimal import Decimal
from math import nan
from pathlib import Path
from typing import Any

import attrs
import pytest
from leafcatalog import LeafCatalog

from batchkit.errors import TargetError, UsageError
from batchkit.ids import Digest
from batchkit.targets import Json, Note, StagedRow
from batchkit.targets.callable import CallableTarget, Change

NOTE = Note(run="r", receipt=Digest("d" * 64), content=Digest("d" * 64), fields=("category",))


def staged(*keys: str, category: Any = "new", guard: Mapping[str, str] | None = None) -> list[StagedRow]:
    return [StagedRow(key, {"category": category}, guard or {}) for key in keys]


@pytest.fixture
def catalog(tmp_path: Path) -> LeafCatalog:
    catalog = LeafCatalog(tmp_path / "promotions.db", page=2)
    for key in "abcde":
        catalog.insert(key, category=f"old {key}")
    return catalog


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"read": None}, "read= is a function, not a NoneType"),
        ({"write": "write"}, "write= is a function, not a str"),
        ({"missing": "insert"}, "knows 'report', 'error'"),
        ({"page": 0}, "a page has one row at least"),
        ({"table": "batchkit_before"}, "take the name your table or model has"),
        ({"columns": {"a": "x", "b": "X"}}, "both go to column 'X'"),
    ],
)
def test_arguments_that_cannot_work(catalog: LeafCatalog, options: dict[str, Any], words: str) -> None:
    """An argument that cannot work is refused by name when the target is made."""
    with pytest.raises(UsageError, match=words):
        catalog.target(**options)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "read\\(\\) gave a list; it gives a mapping of key to row"),
        ({7: {"category": "x"}}, "read\\(\\) gave key 7, a int, which it was not asked for"),
        ({"a": ("x",)}, "row 'a': read\\(\\) gave a tuple; it gives a mapping of column to value"),
        ({"a": {"kind": "x"}}, "row 'a': read\\(\\) gave no column 'category'; it gave kind"),
        ({"a": {"category": Decimal(1)}}, "row 'a', column 'category': read\\(\\) gave a Decimal"),
        ({"a": {"category": nan}}, "row 'a', column 'category': read\\(\\) gave a float"),
    ],
)
def test_what_read_gives_wrongly(catalog: LeafCatalog, rows: Any, words: str) -> None:
    """Whatever read gives that is of no use is named by row and column, and nothing is written."""
    before = catalog.read()
    with pytest.raises(TargetError, match=words):
        catalog.target(read=lambda keys: rows).promote(NOTE, staged("a"))
    assert catalog.read() == before
    assert catalog.target().promotions() == []


def test_a_guard_that_is_no_text(catalog: LeafCatalog) -> None:
    """A guard that has no text form is named by row and column."""
    catalog.edit("a", updated_at=b"1")
    with pytest.raises(TargetError, match=r"row 'a', guard 'updated_at': read.. gave bytes"):
        catalog.target(guard="updated_at").promote(NOTE, staged("a", guard={"updated_at": "1"}))


def test_a_guard_compares_as_it_was_frozen(catalog: LeafCatalog) -> None:
    """A guard of any type that a source may hold is compared by the text that freezing made of it."""
    then = datetime(2026, 11, 1, 8, tzinfo=timezone.utc)
    catalog.edit("a", updated_at=then)
    catalog.edit("b", updated_at=then.replace(hour=9))
    rows = staged("a", "b", guard={"updated_at": then.isoformat()})
    made = catalog.target(guard="updated_at").promote(NOTE, rows)
    assert (list(made.keys("written")), list(made.keys("conflict"))) == (["a"], ["b"])


def test_a_value_that_json_cannot_hold(catalog: LeafCatalog) -> None:
    """An answer that JSON has no word for is named by row and field, and nothing is written."""
    with pytest.raises(TargetError, match=r"row 'a', field 'category': JSON cannot hold its value .float"):
        catalog.target().promote(NOTE, staged("a", category=nan))
    assert catalog.read()["a"]["category"] == "old a"


def test_errors_of_the_functions_keep_their_cause(catalog: LeafCatalog) -> None:
    """What read or write raises is a TargetError with the cause, which names the rows and what to do."""

    def fail(_: object) -> Any:
        raise OSError("secret text")

    with pytest.raises(TargetError, match=r"read.. raised OSError for 2 rows from 'a' to 'b'") as read:
        catalog.target(read=fail).promote(NOTE, staged("a", "b"))
    with pytest.raises(TargetError, match=r"write.. raised OSError for row 'a'.*rollback") as write:
        catalog.target(write=fail).promote(NOTE, staged("a"))
    for caught in (read, write):
        assert isinstance(caught.value.__cause__, OSError)
        assert "secret" not in str(caught.value)


@pytest.mark.parametrize("answer", ["a", ["z"], [7]])
def test_what_write_gives_wrongly(catalog: LeafCatalog, answer: Any) -> None:
    """Keys that write gives back and was not given are refused."""
    with pytest.raises(TargetError, match="It gives the keys of the rows that it did not take, or None"):
        catalog.target(write=lambda changes: answer).promote(NOTE, staged("a"))


def test_a_write_that_does_not_write(catalog: LeafCatalog) -> None:
    """A write that leaves no trace is told at the first page, and once it is mended the promotion goes on."""
    with pytest.raises(TargetError, match=r"row 'a': write.. raised nothing.*2 such rows.*commit"):
        catalog.target(write=lambda changes: None).promote(NOTE, staged(*"abcde"))
    made = catalog.target().promote(NOTE, staged(*"abcde"))
    assert (made.written, made.repeated) == (5, True)
    assert {row["category"] for row in catalog.read().values()} == {"new"}


def test_a_refused_value_can_be_rolled_back(catalog: LeafCatalog) -> None:
    """Where write refuses a page for good, what was written before it is put back by a rollback."""
    before = catalog.read()

    def strict(changes: Sequence[Change]) -> None:
        if any(change.key == "c" and change.values["category"] == "new" for change in changes):
            raise ValueError
        catalog.store(changes)

    target = catalog.target(write=strict)
    for _ in range(2):
        with pytest.raises(TargetError, match="raised ValueError for 2 rows from 'c' to 'd'"):
            target.promote(NOTE, staged(*"abcde"))
    assert [row["category"] for row in catalog.read().values()] == ["new", "new", "old c", "old d", "old e"]
    assert target.rollback().restored == 5
    assert catalog.read() == before


class Meddling:
    """Somebody else who edits row ``c`` once, just after a call of ``read`` or of ``write``."""

    def __init__(self, catalog: LeafCatalog, after: int) -> None:
        self.catalog, self.left = catalog, after

    def meddle(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.catalog.edit("c", category="mine")

    def fetch(self, keys: Sequence[str]) -> Any:
        found = self.catalog.fetch(keys)
        self.meddle()
        return found


@pytest.mark.parametrize("after", range(1, 4))
def test_an_edit_between_reading_and_writing(catalog: LeafCatalog, after: int) -> None:
    """An edit after the row was read is kept where write compares: the row is a conflict, and stays after a rollback."""
    catalog.compares = True
    before, meddling = catalog.read(), Meddling(catalog, after + 1)
    made = catalog.target(read=meddling.fetch).promote(NOTE, staged(*"abcde"))
    assert (made.written, made.conflict) == (4, 1)
    assert list(made.keys("conflict")) == ["c"]
    assert catalog.target().promotions() == [made]
    assert made.rollback().restored == 4
    assert catalog.read() == {**before, "c": {**before["c"], "category": "mine"}}


def test_an_edit_between_reading_and_undoing(catalog: LeafCatalog) -> None:
    """An edit after a rollback read its row is kept where write compares, and listed."""
    catalog.compares = True
    catalog.target().promote(NOTE, staged(*"abcde"))
    meddling = Meddling(catalog, 3)
    undone = catalog.target(read=meddling.fetch).rollback()
    assert (undone.restored, undone.conflicts) == (4, ("c",))
    assert catalog.read()["c"]["category"] == "mine"


def test_a_row_deleted_meanwhile(catalog: LeafCatalog) -> None:
    """A row that is gone when its page is written is a conflict, and is not made again."""

    def deleting(changes: Sequence[Change]) -> None:
        catalog.rows.pop("c", None)
        catalog.store(changes)

    made = catalog.target(write=deleting).promote(NOTE, staged(*"abcde"))
    assert (made.written, list(made.keys("conflict"))) == (4, ["c"])
    assert made.rollback().conflicts == ()
    assert "c" not in catalog.rows


def test_what_the_catalog_makes_of_a_value_counts_as_written(catalog: LeafCatalog) -> None:
    """A catalog that stores values in its own form is rolled back all the same."""
    before = catalog.read()

    def trimming(changes: Sequence[Change]) -> None:
        catalog.store([c._replace(values={k: v.strip() for k, v in c.values.items()}) for c in changes])

    made = catalog.target(write=trimming).promote(NOTE, staged(*"abcde", category=" new "))
    assert made.written == 5
    assert catalog.read()["a"]["category"] == "new"
    undone = made.rollback()
    assert (undone.restored, undone.conflicts) == (5, ())
    assert catalog.read() == before


@pytest.mark.parametrize("old", [True, 1, 1.0, "1", [1], {"b": 1, "a": None}, "", "\ud800", 2**70, "null"])
def test_values_come_back_with_their_types(catalog: LeafCatalog, old: Any) -> None:
    """What stood there comes back as the very value, and values that only look alike are not taken for one."""
    catalog.edit("a", category=old)
    made = catalog.target().promote(NOTE, staged("a", category=None))
    assert (made.written, catalog.rows["a"]["category"]) == (1, None)
    made.rollback()
    assert repr(catalog.rows["a"]["category"]) == repr(
        old if not isinstance(old, dict) else dict(sorted(old.items()))
    )


def test_write_gets_what_differs_and_what_was_there(catalog: LeafCatalog) -> None:
    """A change names the columns that differ, with the new value of each and the one that was read."""
    seen: list[Change] = []

    def store(changes: Sequence[Change]) -> None:
        seen.extend(changes)
        catalog.store(changes)

    catalog.edit("a", score=9)
    note = attrs.evolve(NOTE, fields=("category", "score"))
    rows = [StagedRow("a", {"category": "new", "score": 9}, {})]
    catalog.target(write=store).promote(note, rows).rollback()
    new, old = {"category": "new"}, {"category": "old a"}
    assert seen == [Change("a", new, old), Change("a", old, new)]


def test_two_catalogs_in_one_file(catalog: LeafCatalog) -> None:
    """Promotions of two catalogs in one file are kept apart."""
    catalog.target().promote(NOTE, staged("a"))
    other = catalog.target("prices")
    assert other.promotions() == []
    assert other.rollback().promotions == ()
    assert catalog.rows["a"]["category"] == "new"


def test_the_file_is_its_owners_alone(catalog: LeafCatalog) -> None:
    """The file that holds what stood in the catalog can be read by its owner only."""
    catalog.target().promote(NOTE, staged("a"))
    assert stat.S_IMODE(catalog.path.stat().st_mode) == 0o600


def _rolled_back(target: CallableTarget) -> object:
    return target.rollback()


def _promoted(target: CallableTarget) -> object:
    return target.promote(NOTE, staged("a", "b"))


@pytest.mark.parametrize("call", [_promoted, _rolled_back])
def test_one_at_a_time(catalog: LeafCatalog, call: Callable[[CallableTarget], object]) -> None:
    """While another process promotes or rolls back, nothing is read or written, and the error says so."""
    catalog.target().promote(attrs.evolve(NOTE, content=Digest("e" * 64)), staged("a"))
    before = catalog.read()
    with closing(sqlite3.connect(f"{catalog.path}.lock", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(TargetError, match="another process promotes or rolls back"):
            call(catalog.target(timeout=0.05))
    assert catalog.read() == before
    call(catalog.target())


def test_json_text_is_another_promotion(catalog: LeafCatalog) -> None:
    """The same answer as it is and as JSON text are two promotions to one column, each with its own value."""
    target = catalog.target(columns={"category": "category"})
    as_text = catalog.target(columns={"category": Json("category")})
    target.promote(NOTE, staged("a", category=["x"]))
    assert catalog.rows["a"]["category"] == ["x"]
    assert not as_text.promote(NOTE, staged("a", category=["x"])).repeated
    assert catalog.rows["a"]["category"] == '["x"]'
    as_text.rollback()
    assert catalog.rows["a"]["category"] == ["x"]


def test_a_promotion_over_one_that_broke_off(catalog: LeafCatalog) -> None:
    """What broke off is finished before the next promotion looks at the catalog, so each can be undone by itself."""

    def fail(_: object) -> Any:
        raise OSError

    before = catalog.read()
    with pytest.raises(TargetError):
        catalog.target(write=fail).promote(NOTE, staged(*"abcde"))
    catalog.edit("c", category="mine")
    next_note = attrs.evolve(NOTE, content=Digest("e" * 64))
    rows = staged(*"abcde", category="newer")
    assert catalog.target().promote(next_note, rows, dry_run=True).written == 5
    assert catalog.read() == {**before, "c": {**before["c"], "category": "mine"}}
    second = catalog.target().promote(next_note, rows)
    first = catalog.target().promotions()[0]
    assert (second.written, first.written, list(first.keys("conflict"))) == (5, 4, ["c"])
    second.rollback()
    assert [row["category"] for row in catalog.read().values()] == ["new", "new", "mine", "new", "new"]
    first.rollback()
    assert catalog.read() == {**before, "c": {**before["c"], "category": "mine"}}
