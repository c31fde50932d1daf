"""What the strategy "overlay" adds: a view over a table that is left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from batchkit.errors import TargetError
from batchkit.ids import Digest
from batchkit.targets import Note, OutputField, StagedRow
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.postgres_loading import CHUNK


class Db:
    """A catalog database with a table of three rows."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.run(
            "DROP SCHEMA IF EXISTS batchkit_catalog CASCADE", "DROP SCHEMA public CASCADE", "CREATE SCHEMA public",
            "CREATE TABLE t (k text PRIMARY KEY, x text, y text)",
            "INSERT INTO t SELECT k, 'old', 'old' FROM unnest('{a,b,c}'::text[]) AS k",
        )  # fmt: skip

    def run(self, *statements: str) -> list[Any]:
        with psycopg.connect(self.address) as db:
            cursors = [db.execute(statement.encode()) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    def target(self, **options: Any) -> PostgresTarget:
        return PostgresTarget(self.address, "t", "k", **{"strategy": "overlay", **options})

    def seen(self) -> list[Any]:
        return self.run("SELECT k, x, y FROM t_promoted ORDER BY k")


@pytest.fixture
def db(postgres_catalog: str) -> Db:
    return Db(postgres_catalog)


def note(content: str = "one", *fields: str) -> Note:
    return Note(run="r", receipt=Digest(content), content=Digest(content), fields=fields or ("x",))


def rows(keys: str = "abc", **values: str) -> list[StagedRow]:
    return [StagedRow(key, values or {"x": "new"}, {}) for key in keys]


def test_the_table_is_left_as_it_is(db: Db) -> None:
    """The view shows the answers and the table holds none; after a rollback both are as before."""
    promotion = db.target().promote(note(), rows("ab"))
    assert db.seen() == [("a", "new", "old"), ("b", "new", "old"), ("c", "old", "old")]
    assert db.run("SELECT DISTINCT x FROM t") == [("old",)]
    assert promotion.rollback().restored == 2
    assert db.seen() == db.run("SELECT k, x, y FROM t ORDER BY k")


def test_a_direct_edit_is_seen_and_stays(db: Db) -> None:
    """A value written to the table itself is seen at once, is a conflict of the rollback, and stays as it is seen."""
    promotion = db.target().promote(note("one", "x", "y"), rows("abc", x="new", y="new"))
    db.run("UPDATE t SET x = 'theirs' WHERE k = 'b'")
    assert db.seen()[1] == ("b", "theirs", "new")
    undone = promotion.rollback()
    assert (undone.restored, undone.conflicts) == (2, ("b",))
    assert db.seen() == [("a", "old", "old"), ("b", "theirs", "new"), ("c", "old", "old")]


def test_an_edit_of_the_view_goes_to_the_table(db: Db) -> None:
    """An edit of an overlaid column brings the whole row to the table; another edit leaves the answer where it is."""
    promotion = db.target(columns={"x": "x"}).promote(note(), rows())
    db.run(
        "UPDATE t_promoted SET y = 'theirs' WHERE k = 'a'", "UPDATE t_promoted SET x = 'old' WHERE k = 'b'"
    )
    assert db.seen() == [("a", "new", "theirs"), ("b", "old", "old"), ("c", "new", "old")]
    assert db.run("SELECT k, x, y FROM t ORDER BY k")[0] == ("a", "old", "theirs")
    assert promotion.rollback().conflicts == ("b",)


def test_other_columns_of_earlier_promotions_stay(db: Db) -> None:
    """A promotion of other columns leaves what lies over the first ones, and its rollback, too."""
    db.target(columns={"x": "x"}).promote(note("one"), rows())
    second = db.target(columns={"y": "y"}).promote(note("two", "y"), rows("ab", y="newer"))
    assert db.seen() == [("a", "new", "newer"), ("b", "new", "newer"), ("c", "new", "old")]
    second.rollback()
    assert db.seen() == [(key, "new", "old") for key in "abc"]


def test_rules_of_the_table_hold(db: Db) -> None:
    """A CHECK over several columns refuses an answer that a view would have shown, and nothing is left of it."""
    db.run("ALTER TABLE t ADD CONSTRAINT pair CHECK (x <> y OR x = 'old')")
    db.target().install()
    db.run("UPDATE t SET y = 'new' WHERE k = 'b'")
    with pytest.raises(TargetError, match=r"'pair'.* Nothing was changed"):
        db.target(columns={"x": "x"}).promote(note(), rows())
    assert {x for _, x, _ in db.seen()} == {"old"}
    assert db.run("SELECT count(*) FROM batchkit_catalog.load") == [(0,)]


@pytest.mark.parametrize("rule", ["FOREIGN KEY (x) REFERENCES c", "UNIQUE (x, k)"])
def test_columns_tied_to_other_rows(db: Db, rule: str) -> None:
    """A column under a foreign key or a unique index is refused, and check() names it."""
    db.run(
        "CREATE TABLE c (name text PRIMARY KEY)", "INSERT INTO c VALUES ('old')", f"ALTER TABLE t ADD {rule}"
    )
    with pytest.raises(TargetError, match=r"'x'.*tied"):
        db.target().promote(note(), rows())
    field = OutputField(name="x", kinds=frozenset({"string"}), allowed=("old",))
    assert [problem.column for problem in db.target().check([field])] == ["x"]
    assert db.target(strategy="columns").check([field]) == []


def test_no_change_in_place_under_an_overlay(db: Db) -> None:
    """While answers lie over a table, changing it in place is refused; after the rollback it is not."""
    promotion = db.target().promote(note(), rows())
    in_place = db.target(strategy="columns")
    with pytest.raises(TargetError, match="lie over 't'"):
        in_place.promote(note("two"), rows("ab", x="newer"))
    promotion.rollback()
    assert in_place.promote(note("two"), rows("ab", x="newer")).written == 2


def test_another_promotion_while_rows_are_loaded(db: Db) -> None:
    """A promotion that is seen while another one's rows are loaded refuses that one, which leaves nothing."""
    target = db.target()
    target.install()

    def beside() -> Iterator[StagedRow]:
        target.promote(note("two"), rows("a", x="theirs"))
        yield from rows()

    with pytest.raises(TargetError, match=r"Nothing was changed.* Run it again"):
        target.promote(note(), beside())
    assert db.seen()[0] == ("a", "theirs", "old")
    assert [p.written for p in target.promotions()] == [1]
    assert db.run("SELECT count(*) FROM batchkit_catalog.load") == [(0,)]
    assert target.promote(note(), rows()).written == 3


def test_nobody_waits_while_rows_are_loaded(db: Db) -> None:
    """While rows are loaded, every row of the table can be changed, and nothing of the load is seen."""
    target = db.target(columns={"x": "x"})
    target.install()
    seen: list[Any] = []

    def beside() -> Iterator[StagedRow]:
        yield from rows("ab")
        yield from (StagedRow(f"none {n}", {"x": "new"}, {}) for n in range(CHUNK))
        db.run("SET statement_timeout = '5s'", "UPDATE t SET y = 'theirs'")
        seen.extend(db.seen())
        yield from rows("c")

    promotion = target.promote(note(), beside())
    assert seen == [(key, "old", "theirs") for key in "abc"]
    assert (promotion.written, promotion.absent) == (3, CHUNK)
    assert db.seen() == [(key, "new", "theirs") for key in "abc"]


def test_what_lets_the_rows_be_seen_reads_none_of_them(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transaction that lets the rows be seen is a few short statements, however many rows there are."""
    target = db.target()
    target.install()
    said: list[str] = []
    real: Any = psycopg.Connection.execute

    def heard(self: psycopg.Connection[Any], query: Any, *given: Any, **options: Any) -> Any:
        said.append(str(query))
        return real(self, query, *given, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", heard)
    assert target.promote(note(), rows()).written == 3
    began = [number for number, query in enumerate(said) if query.startswith("BEGIN")]
    counting, last = said[began[-2] : began[-1]], said[began[-1] :]
    assert last[-1] == "COMMIT"
    assert len(last) <= 16
    assert not any("image_t" in query for query in last)
    # What was counted just before waits for the log there, so that nothing but the last few lines is left to wait for.
    assert any("image_t" in query for query in counting)
    assert any(query.startswith("UPDATE") for query in counting)
