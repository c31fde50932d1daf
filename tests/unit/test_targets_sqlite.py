"""What SQLite adds to the Target's promises: affinities, collations, triggers, foreign keys, locks."""

from __future__ import annotations

import gc
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchkit.errors import TargetError, UsageError
from batchkit.ids import Digest
from batchkit.targets import Json, Note, OutputField, StagedRow
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.targets.sqlite_session import translated
from batchkit.testing.faults import Killed, die_in_process, midway

MOMENTS = 100
"""How many moments of a promotion are tried, of some twelve hundred."""
TEXT = OutputField(name="x", kinds=frozenset({"string"}), max_length=20)


class Db:
    """A catalog file and a way to run statements on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run("CREATE TABLE made (n)")

    def run(self, *statements: str, values: Any = ()) -> list[Any]:
        with closing(sqlite3.connect(self.path)) as db, db:
            return [db.execute(statement, values).fetchall() for statement in statements][-1]

    def target(self, table: str = "t", key: str = "k", **options: Any) -> SQLiteTarget:
        return SQLiteTarget(self.path, table, key, **options)


@pytest.fixture
def db(tmp_path: Path) -> Db:
    return Db(tmp_path / "catalog.db")


def note(content: str = "one", fields: tuple[str, ...] = ("x",), run: str = "r") -> Note:
    return Note(run=run, receipt=Digest(content), content=Digest(content), fields=fields)


def rows(**values: Any) -> list[StagedRow]:
    return [StagedRow(key, {"x": value}, {}) for key, value in values.items()]


# -- types


def test_every_storage_class_comes_back(db: Db) -> None:
    """Integers, reals, texts, blobs and NULL come back with their own type and bytes."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x)")
    for key, value in {"i": 7, "r": 7.0, "t": "7", "b": b"7\0", "n": None, "z": "a\0b"}.items():
        db.run("INSERT INTO t VALUES (?, ?)", values=(key, value))
    before = db.run("SELECT k, typeof(x), hex(x) FROM t ORDER BY k")
    promotion = db.target().promote(note(), rows(i="new", r="new", t="new", b="new", n="new", z="new"))
    assert promotion.rollback().restored == 6
    assert db.run("SELECT k, typeof(x), hex(x) FROM t ORDER BY k") == before


def test_a_key_without_a_type_that_means_two_rows_since_stops_the_rollback(db: Db) -> None:
    """Where 8 is gone and the text '7' stands beside the number, as many rows match as were written, and none is put back."""
    db.run("CREATE TABLE t (k UNIQUE, x)", "INSERT INTO t VALUES (7, 'old'), (8, 'old')")
    promotion = db.target().promote(note(), [StagedRow(key, {"x": "new"}, {}) for key in "78"])
    assert promotion.written == 2
    db.run("DELETE FROM t WHERE k = 8", "INSERT INTO t VALUES ('7', 'new')")
    with pytest.raises(TargetError, match="several rows"):
        promotion.rollback()
    assert db.run("SELECT x FROM t") == [("new",), ("new",)]


def test_a_change_of_type_is_a_change(db: Db) -> None:
    """1 and 1.0 are equal numbers and different values."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x)", "INSERT INTO t VALUES ('a', 1)")
    assert db.target().promote(note(), rows(a=1.0)).written == 1
    assert db.run("SELECT typeof(x) FROM t") == [("real",)]


def test_values_compare_as_the_column_holds_them(db: Db) -> None:
    """The text 5 that an INTEGER column holds as a number is unchanged when it comes again."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x INTEGER)", "INSERT INTO t VALUES ('a', 5)")
    assert db.target().promote(note(), rows(a="5")).unchanged == 1


def test_lists_and_booleans(db: Db) -> None:
    """Lists and objects become JSON text, booleans 1 and 0, and Json makes JSON of anything but NULL."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x, y)", "INSERT INTO t (k) VALUES ('a'), ('b')")
    staged = [
        StagedRow("a", {"x": ["é", {"n": 1}], "y": "text"}, {}),
        StagedRow("b", {"x": True, "y": None}, {}),
    ]
    db.target(columns={"x": "x", "y": Json("y")}).promote(note(fields=("x", "y")), staged)
    assert db.run("SELECT x, y FROM t ORDER BY k") == [('["é",{"n":1}]', '"text"'), (1, None)]


def test_strict_table_refuses(db: Db) -> None:
    """A STRICT table that refuses a value stops the promotion, and nothing is changed."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x INTEGER) STRICT", "INSERT INTO t VALUES ('a', 1), ('b', 2)")
    with pytest.raises(TargetError, match="constraint"):
        db.target().promote(note(), rows(a=7, b="seven"))
    assert db.run("SELECT x FROM t ORDER BY k") == [(1,), (2,)]


def test_strict_columns_of_any_type(db: Db) -> None:
    """A column of type ANY in a STRICT table takes a text of digits as text."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x ANY) STRICT", "INSERT INTO t VALUES ('a', 5)")
    assert db.target().promote(note(), rows(a="5")).written == 1
    assert db.run("SELECT x FROM t") == [("5",)]


def test_blob_is_no_frozen_text(db: Db) -> None:
    """A guard column that holds a blob is a conflict, whatever the blob spells."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT, g)", "INSERT INTO t VALUES ('a', 'old', x'31')")
    assert db.target(guard="g").promote(note(), [StagedRow("a", {"x": "new"}, {"g": "1"})]).conflict == 1


@pytest.mark.parametrize(
    "value",
    [2**63, "\ud800", ["\ud800"], object()],
    ids=["too large", "surrogate", "surrogate in a list", "object"],
)
def test_value_that_sqlite_cannot_hold(db: Db, value: Any) -> None:
    """A value that SQLite cannot hold stops the promotion; the message names the row and not the value."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x)", "INSERT INTO t VALUES ('a', 1), ('b', 2)")
    with pytest.raises(TargetError, match="row 'b'") as caught:
        db.target().promote(note(), rows(a="fine", b=value))
    assert str(value) not in str(caught.value)
    assert caught.value.__cause__ is None
    assert db.run("SELECT x FROM t ORDER BY k") == [(1,), (2,)]


def test_more_columns_than_the_table_was_made_for(db: Db) -> None:
    """A mapping wider than batchkit's table widens it, and both promotions can be undone."""
    fields = tuple(f"c{n}" for n in range(12))
    db.run(
        f"CREATE TABLE t (k TEXT PRIMARY KEY, {', '.join(fields)})",
        "INSERT INTO t (k, c0, c11) VALUES ('a', 1, 2)",
    )
    before = db.run("SELECT * FROM t")
    values = {name: f"new {name}" for name in fields}
    db.target(columns={"c0": "c0"}).promote(note("one", fields), [StagedRow("a", values, {})])
    db.target().promote(note("two", fields), [StagedRow("a", values, {})])
    assert db.run("SELECT c0, c11 FROM t") == [("new c0", "new c11")]
    assert db.target().rollback(to=1).conflicts == ()
    assert db.run("SELECT * FROM t") == before


# -- keys


def test_integer_keys_match_canonical_text_only(db: Db) -> None:
    """The key 00123 is not the integer 123, and 123 is."""
    db.run("CREATE TABLE t (k INTEGER PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES (123, 'old')")
    promotion = db.target().promote(
        note(), [StagedRow(k, {"x": "new"}, {}) for k in ("00123", "123.0", "+123", "123")]
    )
    assert (promotion.written, promotion.absent) == (1, 3)
    assert list(promotion.keys("written")) == ["123"]


def test_integer_keys_are_inserted_only_as_they_are(db: Db) -> None:
    """A key that an INTEGER column would change is reported as absent, not inserted as another key."""
    db.run("CREATE TABLE t (k INTEGER PRIMARY KEY, x TEXT)")
    staged = [StagedRow(k, {"x": "new"}, {}) for k in ("00123", "abc", "7", "1e3", "-5")]
    target = db.target(missing="insert")
    assert target.promote(note(), staged, dry_run=True).inserted == 2
    promotion = target.promote(note(), staged)
    assert (promotion.inserted, promotion.absent) == (2, 3)
    assert db.run("SELECT k FROM t ORDER BY k") == [(-5,), (7,)]
    assert promotion.rollback().deleted == 2


def test_collation_of_the_key_does_not_match_other_keys(db: Db) -> None:
    """A key column that ignores case still matches by exact text, and another case is not inserted beside it."""
    db.run("CREATE TABLE t (k TEXT COLLATE NOCASE PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('Ab', 'old')")
    promotion = db.target(missing="insert").promote(note(), rows(aB="new"))
    assert (promotion.absent, promotion.inserted) == (1, 0)
    assert db.run("SELECT * FROM t") == [("Ab", "old")]


def test_collation_of_a_column_hides_no_change(db: Db) -> None:
    """A column that ignores case is written where only the case differs, and restored."""
    db.run(
        "CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT COLLATE NOCASE)", "INSERT INTO t VALUES ('a', 'audio')"
    )
    promotion = db.target().promote(note(), rows(a="AUDIO"))
    assert promotion.written == 1
    db.run("UPDATE t SET x = 'Audio'")
    assert promotion.rollback().conflicts == ("a",)


def test_two_rows_with_one_text(db: Db) -> None:
    """A key column that holds 5 and '5' is ambiguous, and the promotion is refused."""
    db.run("CREATE TABLE t (k PRIMARY KEY, x)", "INSERT INTO t VALUES (5, 'int'), ('5', 'text')")
    with pytest.raises(TargetError, match="same key as text"):
        db.target().promote(note(), [StagedRow("5", {"x": "new"}, {})])


def test_integers_without_a_type_match_their_text(db: Db) -> None:
    """A key column without a type that holds integers is matched by their text."""
    db.run("CREATE TABLE t (k PRIMARY KEY, x)", "INSERT INTO t VALUES (5, 'int'), ('05', 'text')")
    promotion = db.target().promote(note(), [StagedRow(k, {"x": k}, {}) for k in ("5", "05", "005")])
    assert db.run("SELECT k, x FROM t") == [(5, "5"), ("05", "05")]
    assert promotion.rollback().restored == 2


def test_blob_keys_never_match(db: Db) -> None:
    """A blob that spells a key is not that key."""
    db.run("CREATE TABLE t (k PRIMARY KEY, x)", "INSERT INTO t VALUES (x'61', 'old')")
    assert db.target().promote(note(), rows(a="new")).absent == 1


def test_untyped_keys_take_no_quadratic_time(db: Db) -> None:
    """Keys are found through an index even where the column has no type."""
    db.run("CREATE TABLE t (k PRIMARY KEY, x)")
    with closing(sqlite3.connect(db.path)) as raw, raw:
        raw.executemany("INSERT INTO t VALUES (?, 'old')", [(f"key {n}",) for n in range(20_000)])
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return int(steps > 500)

    connect = sqlite3.connect

    def counting(*args: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*args, **options)
        connection.set_progress_handler(count, 100_000)
        return connection

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sqlite3, "connect", counting)
        promotion = db.target().promote(
            note(), (StagedRow(f"key {n}", {"x": "new"}, {}) for n in range(20_000))
        )
        assert promotion.rollback().restored == 20_000


def test_key_that_is_not_unique(db: Db) -> None:
    """A key column without a unique index of its own over every row is refused."""
    db.run("CREATE TABLE t (k TEXT, x TEXT, b TEXT)", "CREATE UNIQUE INDEX some ON t (k) WHERE x IS NOT NULL")
    db.run("CREATE UNIQUE INDEX pair ON t (k, b)", "CREATE UNIQUE INDEX folded ON t (lower(k))")
    with pytest.raises(TargetError, match="not unique"):
        db.target().promote(note(), rows(a="new"))
    db.run("CREATE UNIQUE INDEX whole ON t (k)", "INSERT INTO t VALUES ('a', 'old', 'b')")
    assert db.target().promote(note(), rows(a="new")).written == 1


def test_columns_that_take_the_names_of_the_row_id(db: Db) -> None:
    """Columns called rowid, oid and _rowid_ do not mislead a promotion."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT, rowid TEXT, oid TEXT, _rowid_ TEXT)")
    db.run("INSERT INTO t VALUES ('a', 'old', 'same', 'same', 'same'), ('b', 'old', 'same', 'same', 'same')")
    promotion = db.target().promote(note(), rows(a="new", b="newer"))
    assert db.run("SELECT k, x FROM t ORDER BY k") == [("a", "new"), ("b", "newer")]
    assert promotion.rollback().restored == 2


# -- several runs


@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "RESTRICT"])
def test_an_inserted_row_that_another_row_of_its_table_points_at_stays(db: Db, action: str) -> None:
    """A rollback deletes no row that a row of the same table was hung under since, and not that one either."""
    db.run(f"CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT, parent TEXT REFERENCES t (k) ON DELETE {action})")
    promotion = db.target(missing="insert").promote(note(), rows(a="new", b="new"))
    db.run("INSERT INTO t VALUES ('kid', 'mine', 'a')")
    undone = promotion.rollback()
    assert (undone.deleted, undone.conflicts) == (1, ("a",))
    assert db.run("SELECT k, parent FROM t ORDER BY k") == [("a", None), ("kid", "a")]


def staged(key: str, value: str, answer: int) -> StagedRow:
    return StagedRow(key, {"x": value}, {}, answer)


@pytest.mark.parametrize("suffix", ["", "WITHOUT ROWID"])
def test_runs_that_find_rows_by_different_columns(db: Db, suffix: str) -> None:
    """A newer answer stands in an older one's way also where its run found the row by another key column."""
    db.run(f"CREATE TABLE t (k TEXT PRIMARY KEY, ean INTEGER UNIQUE, x TEXT) {suffix}")
    db.run("INSERT INTO t VALUES ('7', 11, 'old'), ('b', 7, 'old'), ('c', 13, 'old')")
    db.target(key="ean").promote(note("one", run="child"), [staged("11", "new", 5), staged("13", "new", 5)])
    rows = [staged("7", "older", 2), staged("b", "older", 2), staged("c", "newest", 6)]
    made = db.target().promote(note("two", run="parent"), rows)
    assert (list(made.keys("conflict")), list(made.keys("written"))) == (["7"], ["b", "c"])
    assert db.run("SELECT k, x FROM t ORDER BY k") == [("7", "new"), ("b", "older"), ("c", "newest")]


def test_a_key_column_that_was_dropped(db: Db) -> None:
    """A promotion whose key column is gone stands in nobody's way: which rows it covers cannot be told."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, ean TEXT, x TEXT)", "CREATE UNIQUE INDEX u ON t (ean)")
    db.run("INSERT INTO t VALUES ('a', '1', 'old')")
    db.target(key="ean").promote(note("one", run="child"), [staged("1", "new", 5)])
    db.run("DROP INDEX u", "ALTER TABLE t RENAME ean TO barcode")
    assert db.target().promote(note("two", run="parent"), [staged("a", "older", 2)]).written == 1


def test_tables_of_the_first_version(db: Db) -> None:
    """Promotions that a catalog of version 0.1.0 remembers are listed, built upon and undone."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    first = db.target().promote(note("one", run="one"), [staged("a", "one", 0)])
    db.run(
        "ALTER TABLE batchkit_promotion DROP COLUMN store",
        "ALTER TABLE batchkit_promotion DROP COLUMN newest",
        "ALTER TABLE batchkit_before DROP COLUMN answer",
    )
    assert db.target().promotions() == [first]
    rows = [staged("a", "two", 2)]
    assert db.target().promote(note("two", run="two"), rows, dry_run=True).written == 1
    assert db.target().promote(note("two", run="two"), rows).written == 1
    assert db.target().promote(note("three", run="one"), [staged("a", "one", 1)]).conflict == 1
    assert db.target().rollback(to=1).restored == 2
    assert db.run("SELECT x FROM t") == [("old",)]


def test_a_catalog_of_newer_code_is_left_alone(db: Db) -> None:
    """Where newer code widened the table of promotions, nothing is promoted or undone, and the upgrade is named."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    db.target().promote(note("one"), [staged("a", "one", 0)])
    db.run("ALTER TABLE batchkit_promotion ADD COLUMN later TEXT")
    with pytest.raises(TargetError, match=r"newer code \(later .*Upgrade: pip"):
        db.target().rollback()
    with pytest.raises(TargetError, match="newer code"):
        db.target().promote(note("two"), [staged("a", "two", 1)])
    assert db.run("SELECT x FROM t") == [("one",)]


def test_the_plan_looks_at_other_promotions(db: Db) -> None:
    """The plan shows how newer answers are found, once promotions stand."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    assert not any("b.answer > s.answer" in sql for sql in db.target().plan(("x",), 10).sql)
    for number in (1, 2):
        db.target().promote(note(f"{number}"), [staged("a", f"{number}", number)])
    assert sum("b.answer > s.answer" in sql for sql in db.target().plan(("x",), 10).sql) == 1


def test_a_promotion_that_nobody_touched_is_undone_in_one_statement(db: Db) -> None:
    """Where every row is as the promotion left it, none is looked up before it is put back."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', '1'), ('b', NULL)")
    target = db.target()
    for content, values in (("one", {"a": "2", "b": "3"}), ("two", {"a": "4"})):
        target.promote(note(content), rows(**values))
    undone = target.rollback(to=1)
    assert (undone.promotions, undone.restored, undone.conflicts) == ((2, 1), 3, ())
    assert db.run("SELECT x FROM t ORDER BY k") == [("1",), (None,)]
    assert [promotion.rolled_back_at is not None for promotion in target.promotions()] == [True, True]
    assert db.run("SELECT count(*) FROM batchkit_before WHERE kept") == [(0,)]


def test_one_touched_promotion_of_two_is_undone_row_by_row(db: Db) -> None:
    """Where somebody changed a row of one of several promotions, every other row still comes back, and that one stays."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', '1'), ('b', '1')")
    target = db.target()
    target.promote(note("one"), rows(a="2", b="2"))
    target.promote(note("two"), rows(a="3"))
    db.run("UPDATE t SET x = 'mine' WHERE k = 'b'")
    undone = target.rollback(to=1)
    assert (undone.promotions, undone.restored, undone.conflicts) == ((2, 1), 2, ("b",))
    assert db.run("SELECT x FROM t ORDER BY k") == [("1",), ("mine",)]


# -- names


def test_key_that_is_no_longer_unique(db: Db) -> None:
    """A rollback that finds two rows under one key is refused, and nothing is changed."""
    db.run(
        "CREATE TABLE t (k TEXT, x TEXT)",
        "CREATE UNIQUE INDEX u ON t (k)",
        "INSERT INTO t VALUES ('a', 'old')",
    )
    promotion = db.target().promote(note(), rows(a="new"))
    db.run("DROP INDEX u", "INSERT INTO t VALUES ('a', 'new')")
    with pytest.raises(TargetError, match="several rows"):
        promotion.rollback()
    assert db.run("SELECT x FROM t") == [("new",), ("new",)]


def test_names_with_quotes_and_keywords(db: Db) -> None:
    """Names are quoted: keywords, spaces, quotes and other scripts are names like any other."""
    db.run('CREATE TABLE "or""der; --" ("select" TEXT PRIMARY KEY, "from ""where" TEXT, "цена" TEXT)')
    db.run("INSERT INTO \"or\"\"der; --\" VALUES ('a', 'old', '2')")
    target = db.target('or"der; --', "select", columns={"x": 'from "where'}, guard="цена")
    assert not target.check([TEXT])
    promotion = target.promote(note(), [StagedRow("a", {"x": "new"}, {"цена": "2"})])
    assert promotion.written == 1
    assert promotion.rollback().restored == 1


@pytest.mark.parametrize(
    "name", ["t; DROP TABLE t", 't" --', "sqlite_schema", "", "t\0", "pragma_table_list"]
)
def test_a_name_is_only_a_name(db: Db, name: str) -> None:
    """A table name that is no table of the catalog is refused, whatever it spells."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    with pytest.raises((TargetError, UsageError)):
        db.target(name).promote(note(), rows(a="new"))
    assert db.run("SELECT * FROM t") == [("a", "old")]


def test_spelling_of_names_makes_no_second_promotion(db: Db) -> None:
    """Names match as SQLite matches them, so another spelling is the same promotion."""
    db.run("CREATE TABLE Things (Key TEXT PRIMARY KEY, X TEXT)", "INSERT INTO Things VALUES ('a', 'old')")
    first = db.target("things", "key").promote(note(), rows(a="new"))
    second = db.target("THINGS", "KEY", columns={"x": "x"}).promote(note(), rows(a="new"))
    assert second.repeated
    assert second.id == first.id


def test_a_view_is_no_target(db: Db) -> None:
    """A view is refused by name."""
    db.run("CREATE TABLE base (k TEXT PRIMARY KEY, x TEXT)", "CREATE VIEW t AS SELECT * FROM base")
    with pytest.raises(TargetError, match="view"):
        db.target().promote(note(), [])


def test_older_promotion_by_another_key_column(db: Db) -> None:
    """Where a later promotion finds rows by another column, what is shared cannot be told, and undoing is refused."""
    db.run(
        "CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER UNIQUE, x TEXT)",
        "INSERT INTO t VALUES ('a', 1, 'old')",
    )
    first = db.target().promote(note("one"), rows(a="new"))
    db.target(key="n").promote(note("two"), [StagedRow("1", {"x": "newer"}, {})])
    with pytest.raises(TargetError, match="another key column"):
        first.rollback()
    assert db.target().rollback(to=first.id).promotions == (2, 1)
    assert db.run("SELECT x FROM t") == [("old",)]


# -- the catalog's own rules


def test_a_trigger_that_stamps_rows(db: Db) -> None:
    """A trigger on other columns does not stand in the way of promotion or rollback."""
    db.run(
        "CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT, stamp INTEGER DEFAULT 0)",
        "INSERT INTO t (k, x) VALUES ('a', 'old')",
    )
    db.run(
        "CREATE TRIGGER s AFTER UPDATE OF x ON t BEGIN UPDATE t SET stamp = stamp + 1 WHERE k = new.k; END"
    )
    promotion = db.target().promote(note(), rows(a="new"))
    assert promotion.rollback().conflicts == ()
    assert db.run("SELECT x, stamp FROM t") == [("old", 2)]


def test_a_trigger_that_changes_what_is_written(db: Db) -> None:
    """What a trigger makes of a value counts as written, so that it is no conflict later."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'OLD')")
    db.run("CREATE TRIGGER s AFTER UPDATE OF x ON t BEGIN UPDATE t SET x = upper(new.x) WHERE k = new.k; END")
    promotion = db.target().promote(note(), rows(a="new"))
    assert db.run("SELECT x FROM t") == [("NEW",)]
    assert promotion.rollback().restored == 1
    assert db.run("SELECT x FROM t") == [("OLD",)]


def test_a_trigger_that_leaves_rows_out(db: Db) -> None:
    """A trigger that silently ignores a row stops the promotion, and nothing is changed."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old'), ('b', 'old')")
    db.run("CREATE TRIGGER s BEFORE UPDATE ON t WHEN new.k = 'b' BEGIN SELECT RAISE(IGNORE); END")
    with pytest.raises(TargetError, match="only 1 of 2"):
        db.target().promote(note(), rows(a="new", b="new"))
    assert db.run("SELECT x FROM t ORDER BY k") == [("old",), ("old",)]


def test_a_trigger_that_spoils_the_rollback(db: Db) -> None:
    """Where a trigger changes the values that are put back, the rollback is refused and nothing is changed."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    promotion = db.target().promote(note(), rows(a="new"))
    db.run("CREATE TRIGGER s AFTER UPDATE OF x ON t BEGIN UPDATE t SET x = 'mine' WHERE k = new.k; END")
    with pytest.raises(TargetError, match="trigger"):
        promotion.rollback()
    assert db.run("SELECT x FROM t") == [("new",)]
    assert db.target().promotions()[0].rolled_back_at is None


def test_foreign_keys_hold(db: Db) -> None:
    """A value that breaks a foreign key stops the promotion, though SQLite does not check by default."""
    db.run(
        "CREATE TABLE c (name TEXT PRIMARY KEY)", "CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT REFERENCES c)"
    )
    db.run("INSERT INTO c VALUES ('Audio')", "INSERT INTO t VALUES ('a', 'Audio'), ('b', NULL)")
    with pytest.raises(TargetError, match="FOREIGN KEY"):
        db.target().promote(note(), rows(b="Audio", a="Cables"))
    assert db.run("SELECT x FROM t ORDER BY k") == [("Audio",), (None,)]
    closed = OutputField(name="x", kinds=frozenset({"string"}), allowed=("Audio", "Cables"))
    (problem,) = db.target().check([closed])
    assert "Cables" in problem.what


def test_inserted_row_with_children_stays(db: Db) -> None:
    """A row that was inserted and that other tables point at now is not deleted, nor are those that point."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)")
    db.run("CREATE TABLE review (product TEXT REFERENCES t (k) ON DELETE CASCADE, said TEXT)")
    db.run("CREATE TABLE stock (product TEXT REFERENCES t ON DELETE CASCADE)")
    promotion = db.target(missing="insert").promote(note(), rows(a="new", b="new", c="new"))
    db.run("INSERT INTO review VALUES ('a', 'good')", "INSERT INTO stock VALUES ('c')")
    undone = promotion.rollback()
    assert (undone.deleted, undone.conflicts) == (1, ("a", "c"))
    assert db.run("SELECT * FROM review") == [("a", "good")]
    assert db.run("SELECT * FROM stock") == [("c",)]


def test_deleting_an_inserted_row_spares_its_other_case(db: Db) -> None:
    """Where keys differ in case only, undoing an insert deletes no other row."""
    db.run("CREATE TABLE t (k TEXT COLLATE NOCASE, x TEXT, PRIMARY KEY (k COLLATE BINARY)) WITHOUT ROWID")
    db.run("INSERT INTO t VALUES ('A', 'old')")
    promotion = db.target(missing="insert").promote(note(), rows(a="new"))
    assert promotion.rollback().deleted == 1
    assert db.run("SELECT * FROM t") == [("A", "old")]


def test_inserted_row_of_an_altered_table_stays(db: Db) -> None:
    """After the table got another column, a row that was inserted is somebody's, and stays."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)")
    promotion = db.target(missing="insert").promote(note(), rows(a="new"))
    db.run("ALTER TABLE t ADD COLUMN y TEXT")
    assert promotion.rollback().conflicts == ("a",)


def test_insert_that_meets_another_unique_column(db: Db) -> None:
    """A row that the catalog's uniqueness keeps out is absent; the others are inserted."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT UNIQUE)", "INSERT INTO t VALUES ('there', 'taken')")
    promotion = db.target(missing="insert").promote(note(), rows(a="taken", b="free"))
    assert (promotion.inserted, promotion.absent) == (1, 1)
    assert list(promotion.keys("absent")) == ["a"]


def test_a_column_that_is_gone(db: Db) -> None:
    """A rollback of a column that was dropped since is refused."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    promotion = db.target().promote(note(), rows(a="new"))
    db.run("ALTER TABLE t RENAME COLUMN x TO y")
    with pytest.raises(TargetError, match="no column 'x'"):
        promotion.rollback()


def test_a_table_altered_while_rows_are_staged(db: Db) -> None:
    """A table that changes shape between staging and writing stops the promotion."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")

    def altering() -> Iterator[StagedRow]:
        db.run("ALTER TABLE t ADD COLUMN y TEXT")
        yield from rows(a="new")

    with pytest.raises(TargetError, match="altered"):
        db.target().promote(note(), altering())
    assert db.run("SELECT x FROM t") == [("old",)]


# -- the file


def test_a_locked_catalog(db: Db) -> None:
    """While somebody else writes, the promotion waits for its timeout and says so; nothing is changed."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    with closing(sqlite3.connect(db.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TargetError, match=r"lock; waited 0\.05 s"):
            db.target(timeout=0.05).promote(note(), rows(a="new"))
    assert db.target().promotions() == []


def test_a_writer_that_is_in_the_middle(db: Db) -> None:
    """A promotion waits for a writer that is in the middle of its work, and keeps what that writer wrote."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    with closing(sqlite3.connect(db.path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE t SET x = 'theirs'")
        timer = threading.Timer(0.3, other.execute, ["COMMIT"])
        timer.start()
        promotion = db.target().promote(note(), rows(a="new"))
        timer.join()
    assert promotion.rollback().restored == 1
    assert db.run("SELECT x FROM t") == [("theirs",)]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A path without a file is refused, and no file is made."""
    target = SQLiteTarget(tmp_path / "no.db", "t", key="k")
    with pytest.raises(TargetError, match="cannot be opened"):
        target.promote(note(), [])
    (problem,) = target.check([TEXT])
    assert "cannot be opened" in problem.what
    assert not (tmp_path / "no.db").exists()


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A file of another kind is refused by name."""
    (tmp_path / "notes.db").write_text("not a database " * 100)
    with pytest.raises(TargetError, match=r"notes\.db: the file is no SQLite database"):
        SQLiteTarget(tmp_path / "notes.db", "t", key="k").promotions()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (sqlite3.OperationalError("database is locked"), "lock"),
        (sqlite3.OperationalError("attempt to write a readonly database"), "permissions"),
        (sqlite3.OperationalError("database or disk is full"), "disk is full"),
        (sqlite3.OperationalError("unable to open database file"), "cannot be opened"),
        (sqlite3.DatabaseError("file is not a database"), "no SQLite database"),
        (sqlite3.DatabaseError("database disk image is malformed"), "damaged"),
        (sqlite3.IntegrityError("CHECK constraint failed: x"), "constraint"),
        (sqlite3.OperationalError("disk I/O error"), "Ask again"),
    ],
)
def test_errors_say_what_to_do(error: sqlite3.Error, words: str) -> None:
    """Each error of the database is told in words, with the database's own beside them."""
    told = str(translated(error, Path("catalog.db"), 5.0))
    assert words in told
    assert str(error) in told
    assert ("Nothing was changed" in told) == ("I/O" not in told)


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%.db", "#1.db", "ü.db"])
def test_any_file_name(tmp_path: Path, name: str) -> None:
    """A path is a path, whatever a URI would make of it."""
    db = Db(tmp_path / name)
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    assert db.target().promote(note(), rows(a="new")).written == 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"where": ":memory:"},
        {"where": "postgresql:///shop"},
        {"strategy": "overlay"},
        {"missing": "ignore"},
        {"columns": {}},
        {"columns": {"x": "K"}},
        {"columns": {"x": "y", "z": Json("Y")}},
    ],
)
def test_arguments_that_cannot_work(arguments: dict[str, Any]) -> None:
    """Arguments that cannot work are refused when the target is made."""
    with pytest.raises(UsageError):
        SQLiteTarget(**{"where": "catalog.db", "table": "t", "key": "k", **arguments})


def test_rows_without_a_field(db: Db) -> None:
    """A row that lacks a field is named with it; without any field there is nothing to promote."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT, y TEXT)")
    with pytest.raises(UsageError, match="row 'a' has no field 'y'"):
        db.target().promote(note(fields=("x", "y")), rows(a="new"))
    with pytest.raises(UsageError, match="no field to promote"):
        db.target().promote(note(fields=()), [])


def test_a_field_of_the_keys_name(db: Db) -> None:
    """Without a map a field that is called as the key column is refused, not written over it."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)")
    with pytest.raises(UsageError, match="key column"):
        db.target().promote(note(fields=("k", "x")), [])
    assert [
        p.column for p in db.target().check([OutputField(name="k", kinds=frozenset({"string"})), TEXT])
    ] == ["k"]


# -- check


@pytest.mark.parametrize(
    ("definition", "column", "words"),
    [
        ("k REAL PRIMARY KEY, x TEXT", "k", "123.0"),
        ("k TEXT PRIMARY KEY, x VARCHAR(10)", "x", "20 characters"),
        ("k TEXT PRIMARY KEY, x TEXT GENERATED ALWAYS AS (upper(k))", "x", "generated"),
        ("k TEXT PRIMARY KEY, x TEXT CHECK (length(x) <= 10)", "x", "20 characters"),
        ("k TEXT PRIMARY KEY, x NUMERIC", "x", "string"),
        ("k TEXT, x TEXT", "k", "not unique"),
    ],
)
def test_check_names_the_column(db: Db, definition: str, column: str, words: str) -> None:
    """Each kind of trouble is named with its column before any money is spent."""
    db.run(f"CREATE TABLE t ({definition})", "INSERT INTO t (k) VALUES (1)")
    (problem,) = db.target().check([TEXT])
    assert problem.column == column
    assert words in problem.what
    assert column in str(problem)


def test_check_tries_null(db: Db) -> None:
    """A constraint that refuses NULL is named if the contract allows null."""
    db.run(
        "CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT CHECK (x IS NOT NULL))",
        "INSERT INTO t VALUES ('a', 'old')",
    )
    nullable = OutputField(name="x", kinds=frozenset({"string", "null"}))
    (problem,) = db.target().check([nullable])
    assert "NULL" in problem.what
    assert not db.target().check([TEXT])


def test_check_before_inserts(db: Db) -> None:
    """With missing="insert" a column that needs a value which nobody gives is named."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT, y TEXT NOT NULL, z TEXT NOT NULL DEFAULT 'z')")
    assert [p.column for p in db.target(missing="insert").check([TEXT])] == ["y"]
    assert not db.target().check([TEXT])


def test_check_of_a_locked_catalog(db: Db) -> None:
    """While somebody else writes, what can be read is checked."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x INTEGER)")
    with closing(sqlite3.connect(db.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert [p.column for p in db.target(timeout=0.01).check([TEXT])] == ["x"]


def test_check_of_a_catalog_that_cannot_be_written(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalog that cannot be written is told before any money is spent, and refused by a promotion."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)", "INSERT INTO t VALUES ('a', 'old')")
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda where, **options: connect(f"{where}&immutable=1", **options)
    )
    (problem,) = db.target().check([TEXT])
    assert "cannot be written" in problem.what
    with pytest.raises(TargetError, match="permissions"):
        db.target().promote(note(), rows(a="new"))


def test_check_of_a_key_that_is_not_there(db: Db) -> None:
    """A key column that does not exist is named, with the one that may be meant."""
    db.run("CREATE TABLE t (sku TEXT PRIMARY KEY, x TEXT)")
    (problem,) = db.target(key="skuu").check([TEXT])
    assert problem.column == "skuu"
    assert "'sku'" in problem.fix


def test_check_of_a_table_that_is_empty(db: Db) -> None:
    """A table without rows is checked by its shape."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)")
    assert not db.target().check([TEXT])


def test_plan_with_inserts(db: Db) -> None:
    """The plan of a target that inserts shows the INSERT into the catalog."""
    db.run("CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT)")
    assert any('INSERT INTO main."t"' in sql for sql in db.target(missing="insert").plan(("x",), 10).sql)
    assert not any('INSERT INTO main."t"' in sql for sql in db.target().plan(("x",), 10).sql)


# Python swallows what is raised where a generator is let go of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_an_interrupted_promotion_locks_nobody_out(db: Db, action: str) -> None:
    """Ctrl-C at any moment, and its traceback kept as a notebook does: the catalog is free for others at once."""
    db.run(
        "CREATE TABLE t (k TEXT PRIMARY KEY, x TEXT UNIQUE)", "INSERT INTO t VALUES ('a', '1'), ('b', '2')"
    )
    target = db.target()

    def act() -> None:
        target.promote(note(), rows(a="3")) if action == "promote" else target.rollback()

    target.promote(note(), rows(a="3"))
    target.rollback()
    if action == "rollback":
        target.promote(note(), rows(a="3"))
    with midway("batchkit") as moments:
        act()
    kept = []
    for at in moments.spread(MOMENTS):
        target.rollback() if action == "promote" else target.promote(note(), rows(a="3"))
        try:
            with midway("batchkit", at, die_in_process):
                act()
        except Killed as pressed:
            kept.append(pressed)
        with closing(sqlite3.connect(db.path, timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
    assert len(kept) > 0.8 * MOMENTS
    kept.clear()
    gc.collect()  # from Python 3.13 on, a connection that nobody was given yet warns when it goes
