"""What PostgreSQL adds to the Target's promises: types, schemas, locks, triggers, privileges, secrets."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from batchkit.errors import TargetError, UsageError
from batchkit.ids import Digest
from batchkit.targets import Json, Note, OutputField, StagedRow
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.postgres_table import split

TEXT = OutputField(name="x", kinds=frozenset({"string"}), max_length=20)


class Db:
    """A catalog database, and a way to run statements on it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.run(
            "DROP SCHEMA IF EXISTS batchkit_catalog CASCADE", "DROP SCHEMA IF EXISTS shop CASCADE",
            "DROP SCHEMA public CASCADE", "CREATE SCHEMA public", "GRANT USAGE ON SCHEMA public TO PUBLIC",
        )  # fmt: skip

    def run(self, *statements: str, values: Any = None) -> list[Any]:
        with psycopg.connect(self.address) as db:
            cursors = [db.execute(statement, values) for statement in statements]
            return cursors[-1].fetchall() if cursors[-1].description else []

    def target(self, table: str = "t", key: str = "k", **options: Any) -> PostgresTarget:
        return PostgresTarget(self.address, table, key, **options)


@pytest.fixture
def db(postgres_catalog: str) -> Db:
    return Db(postgres_catalog)


def note(content: str = "one", fields: tuple[str, ...] = ("x",)) -> Note:
    return Note(run="r", receipt=Digest(content), content=Digest(content), fields=fields)


def rows(**values: Any) -> list[StagedRow]:
    return [StagedRow(key, {"x": value}, {}) for key, value in values.items()]


# -- types


@pytest.mark.parametrize(
    ("declared", "old", "new"),
    [
        ("numeric", "'1.50'", 1.5),
        ("numeric(10,2)", "7", 0.125),
        ("double precision", "'-0'", 0.0),
        ("double precision", "'NaN'", 1e300),
        ("bigint", "9007199254740993", 1),
        ("boolean", "true", False),
        ("varchar(20)", "'é '", "é"),
        ("char(5)", "'ab'", "cd"),
        ("json", """'{"b": 1,  "a": 2}'""", {"b": 1}),
        ("jsonb", """'[1.0, {"a": null}]'""", [1.0]),
        ("text[]", """'{a,NULL,"b,c"}'""", ["x", 'y"', "z\\"]),
        ("text[]", "NULL", []),
        ("bytea", r"'\xdeadbeef'", "text"),
        ("timestamptz", "'2026-11-01 10:00+02'", "2026-12-01T00:00:00+00:00"),
        ("interval", "'1 day 02:03'", "3 hours"),
        ("point", "'(1,2)'", "(3,4)"),
        ("mood", "'sad'", "happy"),
        ("positive", "5", 6),
    ],
)
def test_values_come_back_with_their_type(db: Db, declared: str, old: str, new: Any) -> None:
    """Whatever a column's type is, its old value comes back byte for byte, be the type one without an equality."""
    db.run(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')",
        "CREATE DOMAIN positive AS int NOT NULL CHECK (value > 0)",
        f"CREATE TABLE t (k text PRIMARY KEY, x {declared})",
        f"INSERT INTO t VALUES ('a', {old})",
    )
    before = db.run("SELECT k, concat(x), x IS NULL FROM t")
    promotion = db.target().promote(note(), [StagedRow("a", {"x": new}, {}), StagedRow("held", None, {})])
    assert (promotion.written, promotion.held_back) == (1, 1)
    assert db.run("SELECT k, concat(x), x IS NULL FROM t") != before
    assert promotion.rollback().restored == 1
    assert db.run("SELECT k, concat(x), x IS NULL FROM t") == before


def test_values_compare_as_the_column_holds_them(db: Db) -> None:
    """A value that the column rounds, or whose JSON is spelled in another way, is unchanged when it comes again."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x numeric(6,2), y jsonb)", "INSERT INTO t (k) VALUES ('a')")
    staged = [StagedRow("a", {"x": 0.125, "y": {"b": 1, "a": [2]}}, {})]
    assert db.target().promote(note(fields=("x", "y")), staged).written == 1
    assert db.target().promote(note("two", fields=("x", "y")), staged).unchanged == 1


def test_lists_objects_and_booleans(db: Db) -> None:
    """Lists go to arrays as they are, to JSON columns as JSON and elsewhere as JSON text; Json makes JSON of all but NULL."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, a text[], b jsonb, c text, d text, e int, f jsonb)")
    db.run("INSERT INTO t (k) VALUES ('k')")
    values = {"a": ["é", "b"], "b": "text", "c": {"n": 1}, "d": True, "e": True, "f": None}
    db.target(columns={**{name: name for name in "abcde"}, "f": Json("f")}).promote(
        note(fields=tuple(values)), [StagedRow("k", values, {})]
    )
    assert db.run("SELECT a, b, c, d, e, f FROM t") == [(["é", "b"], "text", '{"n":1}', "true", 1, None)]


@pytest.mark.parametrize(
    ("declared", "value"),
    [("text", "secret\0"), ("text", "secret\ud800"), ("int", "secret"), ("smallint", 40_000), ("varchar(3)", "secret"),
     ("jsonb", {"secret": "\0"}), ("int[]", ["secret"]), ("text[]", [["secret"], "b"])],
)  # fmt: skip
def test_value_that_the_column_cannot_hold(db: Db, declared: str, value: Any) -> None:
    """A value that does not fit stops the promotion; the message names the row and not the value."""
    db.run(f"CREATE TABLE t (k text PRIMARY KEY, x {declared})", "INSERT INTO t VALUES ('a'), ('b')")
    with pytest.raises(TargetError, match=r"row 'b': .* Nothing was changed") as caught:
        db.target().promote(note(), rows(a=None, b=value, c=None))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert db.run("SELECT x FROM t") == [(None,), (None,)]


def test_constraint_that_refuses_shows_no_value(db: Db) -> None:
    """The catalog's own refusal is told by the constraint's name, without the values that PostgreSQL would show."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text CONSTRAINT short CHECK (length(x) < 5))")
    db.run("INSERT INTO t VALUES ('a', 'old')")
    with pytest.raises(TargetError, match=r"'short'.* Nothing was changed") as caught:
        db.target().promote(note(), rows(a="secret"))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_column_that_got_another_type(db: Db) -> None:
    """After a column got another type, promotions before and after can still be undone."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x int)", "INSERT INTO t VALUES ('a', 1)")
    first = db.target().promote(note("one"), rows(a=2))
    db.run("ALTER TABLE t ALTER x TYPE text")
    second = db.target().promote(note("two"), rows(a="three"))
    assert (second.rollback().restored, first.rollback().restored) == (1, 1)
    assert db.run("SELECT x FROM t") == [("1",)]


# -- keys


@pytest.mark.parametrize(
    ("declared", "there", "others"),
    [
        ("int", "123", ["00123", "123.0", "+123", " 123", "1e2", "9" * 30, "abc", "", "١٢٣"]),
        ("uuid", "6b86b273-ff34-4ce1-9d6b-804eff5a3f57", ["6B86B273-FF34-4CE1-9D6B-804EFF5A3F57", "6b86b273ff344ce19d6b804eff5a3f57", "x"]),
        ("numeric", "1.50", ["1.5", "1.500", "01.50"]),
        ("char(4)", "ab  ", ["ab", "ab "]),
        ('text COLLATE "C"', "a", ["A", "a ", "á"]),
        ("shop.name", "a", ["A", "a "]),
    ],
)  # fmt: skip
def test_keys_match_by_exact_text(db: Db, declared: str, there: str, others: list[str]) -> None:
    """Whatever the key column's type and collation, only the very text of a key finds its row."""
    db.run("CREATE SCHEMA shop", "CREATE DOMAIN shop.name AS varchar(40) CHECK (value <> '')")
    db.run(f"CREATE TABLE t (k {declared} PRIMARY KEY, x text)", f"INSERT INTO t VALUES ('{there}', 'old')")
    staged = [StagedRow(key, {"x": "new"}, {}) for key in [*others, there]]
    promotion = db.target().promote(note(), staged)
    assert list(promotion.keys("written")) == [there]
    assert promotion.absent == len(others)
    assert promotion.rollback().restored == 1


def test_integer_keys_are_inserted_only_as_they_are(db: Db) -> None:
    """A key that the column would change is reported as absent, not inserted as another key."""
    db.run("CREATE TABLE t (k smallint PRIMARY KEY, x text)")
    staged = [StagedRow(k, {"x": "new"}, {}) for k in ("00123", "abc", "7", "40000", "-5")]
    target = db.target(missing="insert")
    assert target.promote(note(), staged, dry_run=True).inserted == 2
    promotion = target.promote(note(), staged)
    assert (promotion.inserted, promotion.absent) == (2, 3)
    assert db.run("SELECT k FROM t ORDER BY k") == [(-5,), (7,)]
    assert promotion.rollback().deleted == 2


def test_keys_without_one_text(db: Db) -> None:
    """A key column of a type whose values can be spelled in several ways is refused, and check() says so."""
    db.run("CREATE TABLE t (k timestamptz PRIMARY KEY, x text)")
    with pytest.raises(TargetError, match="timestamp with time zone"):
        db.target().promote(note(), rows(a="new"))
    assert [problem.column for problem in db.target().check([TEXT])] == ["k"]


def test_partitioned_catalog(db: Db) -> None:
    """A partitioned table is a catalog like any other."""
    db.run(
        "CREATE TABLE t (k text PRIMARY KEY, x text) PARTITION BY HASH (k)",
        "CREATE TABLE t0 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        "CREATE TABLE t1 PARTITION OF t FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        "INSERT INTO t SELECT n::text, 'old' FROM generate_series(1, 20) AS n",
    )
    staged = [StagedRow(str(n), {"x": "new"}, {}) for n in range(1, 25)]
    promotion = db.target(missing="insert").promote(note(), staged)
    assert (promotion.written, promotion.inserted) == (24, 4)
    undone = promotion.rollback()
    assert (undone.restored, undone.deleted) == (20, 4)
    assert db.run("SELECT DISTINCT x FROM t") == [("old",)]


@pytest.mark.parametrize(
    "below", ["PARTITION OF t FOR VALUES IN ('b')", "(LIKE t INCLUDING ALL) INHERITS (t)"]
)
def test_rows_in_one_place_of_two_parts(db: Db, below: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that stand in the same place of two tables below the catalog's each get their own value back, by any join."""
    top = "PARTITION BY LIST (k)" if "PARTITION" in below else ""
    first = below.replace("'b'", "'a'")
    db.run(
        f"CREATE TABLE t (k text PRIMARY KEY, x text) {top}",
        f"CREATE TABLE t0 {first}",
        f"CREATE TABLE t1 {below}",
        "INSERT INTO t0 VALUES ('a', 'old a')",
        "INSERT INTO t1 VALUES ('b', 'old b')",
    )
    promotion = db.target().promote(note(), rows(a="new a", b="new b"))
    ((there,),) = db.run("SELECT count(DISTINCT ctid) FROM t")
    assert there == 1
    said: list[str] = []
    real: Any = psycopg.Connection.execute

    def heard(self: psycopg.Connection[Any], query: Any, *given: Any, **options: Any) -> Any:
        said.append(str(query))
        return real(self, query, *given, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", heard)
    assert promotion.rollback().restored == 2
    # One row after the other would be looked for in every part.
    assert not any("set_config('enable" in query for query in said)
    assert db.run("SELECT k, x FROM t ORDER BY k") == [("a", "old a"), ("b", "old b")]


# -- guards


@pytest.mark.parametrize(
    ("declared", "now", "equal", "other"),
    [
        ("timestamptz", "2026-11-01 10:00:00.5+02", "2026-11-01T08:00:00.500000+00:00", "2026-11-01T08:00:00+00:00"),
        ("timestamp", "2026-11-01 10:00:00", "2026-11-01T10:00:00", "no time at all"),
        ("date", "2026-11-01", "2026-11-01", "2026-11-02"),
        ("numeric", "0.0000001", "1E-7", "1E-8"),
        ("boolean", "true", "true", "false"),
        ("jsonb", '{"b": 1, "a": 2}', '{"a":2,"b":1}', '{"a":2}'),
        ("text[]", "{a,b}", '["a","b"]', '["a"]'),
        ("char(3)", "a", "a  ", "a"),
        ("int", "7", "7", "07"),
    ],
)  # fmt: skip
def test_guards_of_any_type(db: Db, declared: str, now: str, equal: str, other: str) -> None:
    """A guard compares what was frozen with what stands there, whatever way the type is spelled."""
    db.run(f"CREATE TABLE t (k text PRIMARY KEY, x text, g {declared})")
    db.run("INSERT INTO t SELECT k, 'old', %s FROM unnest('{a,b,c}'::text[]) AS k", values=(now,))
    staged = [
        StagedRow(k, {"x": "new"}, {"g": text}) for k, text in {"a": equal, "b": other, "c": None}.items()
    ]
    promotion = db.target(guard="g").promote(note(), staged)
    assert (list(promotion.keys("written")), list(promotion.keys("conflict"))) == (["a"], ["b", "c"])


# -- names


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("t", (None, "t")),
        ("shop.t", ("shop", "t")),
        ('"a.b"', (None, "a.b")),
        ('"a""b"."c.d"', ('a"b', "c.d")),
    ],
)
def test_names_are_parted(name: str, parts: tuple[str | None, str]) -> None:
    """A name is a table or a schema and a table; a part in double quotes may hold anything."""
    assert split(name) == parts


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a.b.c", '"a', '"a"b', "a\0"])
def test_names_that_are_none(name: str) -> None:
    """What is no name of a table is refused when the target is made."""
    with pytest.raises(UsageError):
        PostgresTarget("dbname=x", name, "k")


def test_schemas_and_hostile_names(db: Db) -> None:
    """Names are quoted: schemas, keywords, quotes, percent signs and other scripts are names like any other."""
    table = '"or""der; --%s"'
    db.run("CREATE SCHEMA shop")
    db.run(
        f'CREATE TABLE shop.{table.replace("%", "%%")} ("select" text PRIMARY KEY, "fr""om %%(x)s $1" text, "цена" text)',
        values=(),
    )
    db.run(f"INSERT INTO shop.{table.replace('%', '%%')} VALUES ('a', 'old', '2')", values=())
    target = db.target(f"shop.{table}", "select", columns={"x": 'fr"om %(x)s $1'}, guard="цена")
    assert not target.check([TEXT])
    promotion = target.promote(note(), [StagedRow("a", {"x": "new"}, {"цена": "2"})])
    assert promotion.written == 1
    assert promotion.rollback().restored == 1


def test_long_names_stay_apart(db: Db) -> None:
    """Names as long as PostgreSQL allows do not run into each other in batchkit's tables."""
    first, second = "c" * 62 + "1", "c" * 62 + "2"
    db.run(
        f"CREATE TABLE t (k text PRIMARY KEY, {first} text, {second} text)",
        "INSERT INTO t VALUES ('a', '1', '2')",
    )
    promotion = db.target(columns={"x": first, "y": second}).promote(
        note(fields=("x", "y")), [StagedRow("a", {"x": "new", "y": "newer"}, {})]
    )
    assert promotion.rollback().restored == 1
    assert db.run("SELECT * FROM t") == [("a", "1", "2")]


def test_tables_of_one_name_in_two_schemas(db: Db) -> None:
    """Two tables of one name are two catalogs, each with its own promotions."""
    db.run("CREATE SCHEMA shop")
    for schema in ("public", "shop"):
        db.run(
            f"CREATE TABLE {schema}.t (k text PRIMARY KEY, x text)",
            f"INSERT INTO {schema}.t VALUES ('a', 'old')",
        )
    first = db.target("public.t").promote(note(), rows(a="new"))
    assert not db.target("shop.t").promotions()
    assert db.target("t").promote(note(), rows(a="new")).repeated
    assert db.target("shop.t").promote(note(), rows(a="new")).id != first.id
    assert db.run("SELECT x FROM shop.t") == [("new",)]


@pytest.mark.parametrize("kind", ["VIEW", "MATERIALIZED VIEW"])
def test_a_view_is_no_target(db: Db, kind: str) -> None:
    """A view is refused by name."""
    db.run("CREATE TABLE base (k text PRIMARY KEY, x text)", f"CREATE {kind} t AS SELECT * FROM base")
    with pytest.raises(TargetError, match=kind.lower()):
        db.target().promote(note(), [])


# -- the catalog's own rules


def trigger(db: Db, body: str, when: str = "BEFORE UPDATE") -> None:
    db.run(f"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} END $$")
    db.run(f"CREATE TRIGGER g {when} ON t FOR EACH ROW EXECUTE FUNCTION f()")


def test_a_trigger_that_changes_what_is_written(db: Db) -> None:
    """What a trigger makes of a value counts as written, so that it is no conflict later."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'OLD')")
    trigger(db, "NEW.x = upper(NEW.x); RETURN NEW;")
    promotion = db.target().promote(note(), rows(a="new"))
    assert db.run("SELECT x FROM t") == [("NEW",)]
    assert promotion.rollback().restored == 1
    assert db.run("SELECT x FROM t") == [("OLD",)]


def test_a_trigger_that_leaves_rows_out(db: Db) -> None:
    """A trigger that silently ignores a row stops the promotion, and nothing is changed."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'old'), ('b', 'old')")
    trigger(db, "IF NEW.k = 'b' THEN RETURN NULL; END IF; RETURN NEW;")
    with pytest.raises(TargetError, match="only 1 of 2"):
        db.target().promote(note(), rows(a="new", b="new"))
    assert db.run("SELECT DISTINCT x FROM t") == [("old",)]


def test_a_trigger_that_spoils_the_rollback(db: Db) -> None:
    """Where a trigger changes the values that are put back, the rollback is refused and nothing is changed."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'old')")
    promotion = db.target().promote(note(), rows(a="new"))
    trigger(db, "NEW.x = 'mine'; RETURN NEW;")
    with pytest.raises(TargetError, match="trigger"):
        promotion.rollback()
    assert db.run("SELECT x FROM t") == [("new",)]
    assert db.target().promotions()[0].rolled_back_at is None


def test_a_trigger_that_renames_what_is_inserted(db: Db) -> None:
    """A row that the catalog takes under another key stops the promotion."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)")
    trigger(db, "NEW.k = 'other'; RETURN NEW;", when="BEFORE INSERT")
    with pytest.raises(TargetError, match="under their own keys"):
        db.target(missing="insert").promote(note(), rows(a="new"))
    assert db.run("SELECT * FROM t") == []


def test_inserted_row_with_children_stays(db: Db) -> None:
    """A row that was inserted and that other tables point at now is not deleted, nor are those that point."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)")
    db.run("CREATE TABLE review (product text REFERENCES t ON DELETE CASCADE)")
    promotion = db.target(missing="insert").promote(note(), rows(a="new", b="new"))
    db.run("INSERT INTO review VALUES ('a')")
    undone = promotion.rollback()
    assert (undone.deleted, undone.conflicts) == (1, ("a",))
    assert db.run("SELECT * FROM review") == [("a",)]


def test_insert_that_meets_another_unique_column(db: Db) -> None:
    """A row that the catalog's uniqueness keeps out is absent; the others are inserted."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text UNIQUE)", "INSERT INTO t VALUES ('there', 'taken')")
    promotion = db.target(missing="insert").promote(note(), rows(a="taken", b="free"))
    assert (promotion.inserted, list(promotion.keys("absent"))) == (1, ["a"])


def test_constraint_that_waits_for_the_commit(db: Db) -> None:
    """A constraint that is checked at the commit refuses there, and nothing is changed."""
    db.run("CREATE TABLE c (name text PRIMARY KEY)", "INSERT INTO c VALUES ('old')")
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text REFERENCES c DEFERRABLE INITIALLY DEFERRED)")
    db.run("INSERT INTO t VALUES ('a', 'old')")
    with pytest.raises(TargetError, match=r"t_x_fkey.* Nothing was changed"):
        db.target().promote(note(), rows(a="new"))
    assert db.target().promotions() == []


def test_key_that_is_no_longer_unique(db: Db) -> None:
    """A rollback where a key may mean two rows is refused, and nothing is changed."""
    db.run(
        "CREATE TABLE t (k text, x text)",
        "CREATE UNIQUE INDEX u ON t (k)",
        "INSERT INTO t VALUES ('a', 'old')",
    )
    promotion = db.target().promote(note(), rows(a="new"))
    db.run("DROP INDEX u", "INSERT INTO t VALUES ('a', 'new')")
    with pytest.raises(TargetError, match="several rows"):
        promotion.rollback()
    assert db.run("SELECT x FROM t") == [("new",), ("new",)]


def test_a_table_altered_while_rows_are_staged(db: Db) -> None:
    """A table that changes shape between staging and writing stops the promotion."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'old')")

    def altering() -> Iterator[StagedRow]:
        db.run("ALTER TABLE t ADD COLUMN y text")
        yield from rows(a="new")

    with pytest.raises(TargetError, match="altered"):
        db.target().promote(note(), altering())
    assert db.run("SELECT x FROM t") == [("old",)]


# -- other sessions


def test_a_row_that_somebody_holds(db: Db) -> None:
    """While somebody holds a row, the promotion waits for its time and says so; nothing is changed."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'old'), ('b', 'old')")
    with psycopg.connect(db.address) as other:
        other.execute("SELECT FROM t WHERE k = 'b' FOR UPDATE")
        with pytest.raises(TargetError, match=r"waited for 0\.1 s"):
            db.target(lock_timeout=0.1).promote(note(), rows(a="new", b="new"))
        assert db.target(lock_timeout=0.1).promote(note(), rows(a="new")).written == 1
    assert db.run("SELECT * FROM t ORDER BY k") == [("a", "new"), ("b", "old")]


@pytest.mark.parametrize(
    ("theirs", "kind", "stands"),
    [
        ("UPDATE t SET x = 'theirs'", "written", ["new"]),
        ("UPDATE t SET x = 'new'", "unchanged", ["new"]),
        ("UPDATE t SET g = '2'", "conflict", ["old"]),
        ("DELETE FROM t", "absent", []),
    ],
)
def test_a_writer_that_is_in_the_middle(db: Db, theirs: str, kind: Any, stands: list[str]) -> None:
    """A promotion waits for a writer that is in the middle of its work, and judges the row as they left it."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text, g text)", "INSERT INTO t VALUES ('a', 'old', '1')")
    with psycopg.connect(db.address) as other:
        other.execute(theirs)
        timer = threading.Timer(0.3, other.commit)
        timer.start()
        promotion = db.target(guard="g").promote(note(), [StagedRow("a", {"x": "new"}, {"g": "1"})])
        timer.join()
    assert list(promotion.keys(kind)) == ["a"]
    assert [x for (x,) in db.run("SELECT x FROM t")] == stands


@pytest.mark.parametrize(
    ("theirs", "restored", "stands"),
    [
        ("UPDATE t SET g = 'theirs'", 1, [("old", "theirs")]),
        ("UPDATE t SET x = 'theirs'", 0, [("theirs", "1")]),
        ("UPDATE t SET k = 'b'", 0, [("new", "1")]),
        ("DELETE FROM t", 0, []),
    ],
)
def test_a_writer_that_is_in_the_middle_of_a_rollback(
    db: Db, theirs: str, restored: int, stands: Any
) -> None:
    """A rollback waits for a writer that is in the middle of its work, and goes by the row as they left it."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text, g text)", "INSERT INTO t VALUES ('a', 'old', '1')")
    promotion = db.target().promote(note(), rows(a="new"))
    with psycopg.connect(db.address) as other:
        other.execute(theirs.encode())
        timer = threading.Timer(0.3, other.commit)
        timer.start()
        undone = promotion.rollback()
        timer.join()
    assert (undone.restored, list(undone.conflicts)) == (restored, [] if restored else ["a"])
    assert db.run("SELECT x, g FROM t") == stands


def test_a_rollback_locks_its_rows_in_the_order_of_their_keys(db: Db) -> None:
    """A rollback that waits for a row holds those whose keys come before it, and no other, however they came in."""
    db.run(
        "CREATE TABLE t (k text PRIMARY KEY, x text)",
        "INSERT INTO t SELECT chr(97 + (n * 7) % 26), 'old' FROM generate_series(0, 25) AS n",
    )
    keys = [chr(97 + (n * 11) % 26) for n in range(26)]
    promotion = db.target(lock_timeout=30).promote(note(), rows(**dict.fromkeys(keys, "new")))
    undone: list[Any] = []
    with psycopg.connect(db.address) as other:
        other.execute("SELECT FROM t WHERE k = 'm' FOR UPDATE")
        rollback = threading.Thread(target=lambda: undone.append(promotion.rollback()))
        rollback.start()
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        while db.run(waiting) == [(0,)]:
            time.sleep(0.02)
        free = db.run(
            "SELECT string_agg(k, '' ORDER BY k) FROM (SELECT k FROM t FOR UPDATE SKIP LOCKED) AS f"
        )
        other.commit()
        rollback.join()
    assert free == [("nopqrstuvwxyz",)]
    assert undone[0].restored == 26


def test_a_rollback_finds_its_rows_by_their_place(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are put back one after the other, found where they stand, also where no table was ever analyzed."""
    db.run(
        "CREATE TABLE t (k text PRIMARY KEY, x text)",
        "INSERT INTO t SELECT n::text, repeat('old', 50) FROM generate_series(1, 3000) AS n",
    )
    promotion = db.target().promote(
        note(), [StagedRow(str(n), {"x": f"new {n}"}, {}) for n in range(1, 3001)]
    )
    plans: list[str] = []
    joins: list[Any] = []
    real: Any = psycopg.Connection.execute

    def explained(self: psycopg.Connection[Any], query: Any, *given: Any, **options: Any) -> Any:
        if str(query).startswith("UPDATE") and "batchkit_undo" in query:
            plans.append("\n".join(line for (line,) in real(self, f"EXPLAIN {query}", *given)))
        if query == "COMMIT":
            joins.extend(
                real(self, "SELECT current_setting('enable_hashjoin'), current_setting('enable_mergejoin')")
            )
        return real(self, query, *given, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", explained)
    assert promotion.rollback().restored == 3000
    assert len(plans) == 1
    assert "Tid Scan on t p" in plans[0]
    assert "Tid Scan on image_t" in plans[0]
    assert "Seq Scan on batchkit_undo" in plans[0]
    assert joins == [("on", "on")]


def test_a_triggers_own_joins_are_left_alone(db: Db) -> None:
    """While a rollback writes, a trigger of the table is planned as in any other session."""
    db.run(
        "CREATE TABLE t (k text PRIMARY KEY, x text)",
        "INSERT INTO t VALUES ('a', 'old')",
        "CREATE TABLE seen (joins text)",
        "CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO seen VALUES (current_setting('enable_hashjoin')); RETURN NULL; END $$",
        "CREATE TRIGGER look AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION look()",
    )
    db.target().promote(note(), rows(a="new")).rollback()
    assert db.run("SELECT joins FROM seen") == [("on",), ("on",)]


def test_unchanged_rows_are_not_touched(db: Db) -> None:
    """A row that holds the very values gets no new version and no lock."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'new'), ('b', 'old')")
    before = db.run("SELECT xmin::text, xmax::text, ctid::text FROM t WHERE k = 'a'")
    assert db.target().promote(note(), rows(a="new", b="new")).unchanged == 1
    assert db.run("SELECT xmin::text, xmax::text, ctid::text FROM t WHERE k = 'a'") == before


# -- privileges, errors, secrets


def test_least_privileges(db: Db) -> None:
    """A role with the documented privileges promotes and rolls back where somebody else installed."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text, y text)", "INSERT INTO t VALUES ('a', 'old')")
    db.target(columns={"x": "x"}).install()
    name = f"promoter_{os.getpid()}"
    db.run(f"DROP ROLE IF EXISTS {name}", f"CREATE ROLE {name} LOGIN")
    mine = PostgresTarget(f"{db.address} user={name}", "t", "k", columns={"x": "x"})
    wanting = " ".join(str(problem) for problem in mine.check([TEXT]))
    assert "GRANT SELECT" in wanting
    assert 'GRANT UPDATE ("x")' in wanting
    with pytest.raises(TargetError, match="may not"):
        mine.promote(note(), rows(a="new"))
    try:
        db.run(f"GRANT SELECT, UPDATE (x) ON t TO {name}")
        assert [problem.fix for problem in mine.check([TEXT])] == [
            'GRANT USAGE ON SCHEMA "batchkit_catalog" TO …',
            'GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA "batchkit_catalog" TO …',
            'GRANT USAGE ON ALL SEQUENCES IN SCHEMA "batchkit_catalog" TO …',
        ]
        db.run(
            f"GRANT USAGE ON SCHEMA batchkit_catalog TO {name}",
            f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA batchkit_catalog TO {name}",
            f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA batchkit_catalog TO {name}",
        )
        assert not mine.check([TEXT])
        overlay = PostgresTarget(mine.where, "t", "k", columns={"x": "x"}, strategy="overlay")
        assert any("DELETE ON ALL TABLES" in problem.fix for problem in overlay.check([TEXT]))
        assert mine.promote(note(), rows(a="new")).written == 1
        assert mine.rollback().restored == 1
        unmapped = attrs_without_map(mine).check([OutputField(name="y", kinds=frozenset({"string"}))])
        assert any("batchkit's own tables" in str(problem) for problem in unmapped)
    finally:
        db.run(f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_a_catalog_of_newer_code_is_left_alone(db: Db) -> None:
    """Where newer code widened the table of promotions, nothing is promoted or undone, and the upgrade is named."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text)", "INSERT INTO t VALUES ('a', 'old')")
    db.target().promote(note("one"), rows(a="one"))
    db.run("ALTER TABLE batchkit_catalog.promotion ADD COLUMN later text")
    with pytest.raises(TargetError, match=r"newer code \(later .*Upgrade: pip"):
        db.target().rollback()
    with pytest.raises(TargetError, match="newer code"):
        db.target().promote(note("two"), rows(a="two"))
    assert db.run("SELECT x FROM t") == [("one",)]


def test_a_login_that_is_refused(db: Db) -> None:
    """A role that is not let in is named as that, with where its name and password come from."""
    with pytest.raises(TargetError, match=r"refused the role.*PGUSER"):
        PostgresTarget(f"{db.address} user=nobody_here", "t", "k").promotions()


def attrs_without_map(target: PostgresTarget) -> PostgresTarget:
    return PostgresTarget(target.where, target.table, target.key)


@pytest.mark.parametrize(
    "where",
    [
        "postgresql://me:s3cret@127.0.0.1:1/shop?connect_timeout=2",
        "host=127.0.0.1 port=1 user=me password=s3cret dbname=shop connect_timeout=2",
        "postgresql://me:s3cret%zz@h/shop",
        "host=h password=s3cret s3cret",
    ],
)
def test_passwords_are_shown_nowhere(where: str) -> None:
    """Neither a target's text, nor its name, nor an error with its causes shows the password."""
    target = PostgresTarget(where, "t", "k")
    shown = [repr(target), str(target)]
    with pytest.raises((TargetError, UsageError)) as caught:
        target.promote(note(), [])
    error: BaseException | None = caught.value
    while error is not None:
        shown += [str(error), repr(error)]
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert "s3cret" not in " ".join(shown)


def test_server_that_is_not_there() -> None:
    """A server that does not answer is a problem for check() and an error for the rest."""
    target = PostgresTarget("postgresql://127.0.0.1:1/shop", "t", "k")
    assert target.name == "postgresql://127.0.0.1:1/shop#t"
    (problem,) = target.check([TEXT])
    assert "cannot be reached" in problem.what
    assert ".." not in str(problem)
    with pytest.raises(TargetError, match="cannot be reached"):
        target.promotions()


@pytest.mark.parametrize("where", ["catalog.db", "", None])
def test_what_is_no_address(where: Any) -> None:
    """A path is refused when the target is made."""
    with pytest.raises(UsageError, match="connection string"):
        PostgresTarget(where, "t", "k")


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg a target can be made, and says what to install when it is used."""
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    target = PostgresTarget("postgresql://h/db", "t", "k")
    with pytest.raises(UsageError, match=r"message-batchkit\[postgres\]"):
        target.promotions()


# -- check


@pytest.mark.parametrize(
    ("declared", "kinds", "words"),
    [
        ("int", {"number"}, "may be number"),
        ("text[]", {"string"}, "may be string"),
        ("boolean", {"string"}, "may be string"),
        ("varchar(10)", {"string"}, "20 characters"),
        ("text GENERATED ALWAYS AS (k) STORED", {"string"}, "generated"),
    ],
)
def test_check_names_what_a_type_cannot_hold(db: Db, declared: str, kinds: set[str], words: str) -> None:
    """Types, lengths and generated columns that cannot hold an allowed value are named."""
    db.run(f"CREATE TABLE t (k text PRIMARY KEY, x {declared})")
    field = OutputField(name="x", kinds=frozenset(kinds), max_length=20)
    (problem,) = db.target().check([field])
    assert problem.column == "x"
    assert words in problem.what


def test_check_tries_values(db: Db) -> None:
    """An enum that lacks an allowed value is named with it, and nothing is changed."""
    db.run("CREATE TYPE mood AS ENUM ('sad', 'happy')", "CREATE TABLE t (k text PRIMARY KEY, x mood)")
    db.run("INSERT INTO t VALUES ('a', 'sad')")
    (problem,) = db.target().check(
        [OutputField(name="x", kinds=frozenset({"string"}), allowed=("happy", "angry"))]
    )
    assert "'angry'" in problem.what
    assert db.run("SELECT x FROM t") == [("sad",)]


def test_check_names_columns_that_an_insert_needs(db: Db) -> None:
    """A column that must have a value and gets none keeps rows from being inserted, and is named."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text, y text NOT NULL, z int NOT NULL DEFAULT 0)")
    assert not db.target().check([TEXT])
    assert [problem.column for problem in db.target(missing="insert").check([TEXT])] == ["y"]


def test_plan_estimates_the_log(db: Db) -> None:
    """A plan's estimate of what will be logged is right within a factor of two."""
    db.run("CREATE TABLE t (k text PRIMARY KEY, x text, y text)")
    db.run(
        "INSERT INTO t SELECT 'key ' || n, repeat('old ', 10), repeat('y', 200) FROM generate_series(1, 4000) AS n",
        "ANALYZE t",
    )
    target = db.target()
    target.install()
    plan = target.plan(("x",), 4000)
    # The log is the server's, in which other tests write meanwhile: the least of three is this promotion's.
    logged = []
    for word in ("one ", "two ", "six "):
        (before,) = db.run("SELECT pg_current_wal_insert_lsn()::text")
        target.promote(note(word), (StagedRow(f"key {n}", {"x": word * 10}, {}) for n in range(1, 4001)))
        ((more,),) = db.run("SELECT (pg_current_wal_insert_lsn() - %s::pg_lsn)::bigint", values=before)
        logged.append(more)
    assert min(logged) / 2 < plan.log_bytes < min(logged) * 2
