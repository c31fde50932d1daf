"""A PostgreSQL catalog loses the connection at any statement, or the process dies there: wholly before or wholly after."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from itertools import count
from typing import Any, Literal

import psycopg
import pytest

from batchkit.errors import TargetError
from batchkit.ids import Digest
from batchkit.targets import Note, StagedRow
from batchkit.targets.postgres import PostgresTarget

ROWS = 20
STEP = int(os.environ.get("BATCHKIT_SWEEP_STEP", "7"))
NOTE = Note(run="r", receipt=Digest("d" * 64), content=Digest("d" * 64), fields=("category",))
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

When = Literal["before", "after"]


class Failing(psycopg.Connection[Any]):
    """A connection that is lost once, at the statement whose turn it is."""

    turn = 0
    when: When = "before"
    calls = 0
    hit: str | None = None

    @classmethod
    def arm(cls, turn: int, when: When = "before") -> None:
        cls.turn, cls.when, cls.calls, cls.hit = turn, when, 0, None

    def _turn(self, statement: Any) -> bool:
        Failing.calls += 1
        if Failing.calls != Failing.turn:
            return False
        Failing.hit = str(statement)
        return True

    def _lose(self) -> None:
        self.pgconn.finish()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        hit = self._turn(query)
        if hit and Failing.when == "before":
            self._lose()
        result = super().execute(query, *args, **options)
        if hit:
            self._lose()
        return result

    def cursor(self, *args: Any, **options: Any) -> Any:
        copying = sys._getframe(1).f_code.co_name == "_copy"
        if copying and self._turn("COPY"):
            self._lose()
        return super().cursor(*args, **options)


class Shop:
    """A catalog of some rows."""

    def __init__(self, address: str, rows: int, strategy: Any) -> None:
        self.address, self.rows, self.strategy = address, rows, strategy
        self.run("DROP SCHEMA IF EXISTS batchkit_catalog CASCADE")
        self.run("DROP TABLE IF EXISTS products CASCADE")
        self.run("CREATE TABLE products (sku text PRIMARY KEY, category text, stamp int NOT NULL DEFAULT 0)")
        self.run(
            "CREATE OR REPLACE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN NEW.stamp = NEW.stamp + 1; RETURN NEW; END $$"
        )
        self.run("CREATE TRIGGER s BEFORE UPDATE ON products FOR EACH ROW EXECUTE FUNCTION stamp()")
        self.run(
            f"INSERT INTO products SELECT 'k' || n, repeat('old ', 20) FROM generate_series(0, {rows - 1}) AS n"
        )
        self.target.install()

    @property
    def target(self) -> PostgresTarget:
        return PostgresTarget(self.address, "products", "sku", missing="insert", strategy=self.strategy)

    def run(self, statement: str) -> list[Any]:
        with psycopg.connect(self.address) as db:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def read(self) -> list[Any]:
        seen = "products" if self.strategy == "columns" else "products_promoted"
        return self.run(f"SELECT sku, category FROM {seen} ORDER BY sku")

    def promote(self) -> bool:
        staged = (StagedRow(f"k{n}", {"category": "new " * 20}, {}) for n in range(self.rows + 5))
        return self.target.promote(NOTE, staged).repeated

    def start_over(self, before: list[Any]) -> None:
        """Make the catalog what it was, with no promotion, without making its tables again."""
        self.target.rollback()
        assert self.read() == before
        self.run("TRUNCATE batchkit_catalog.promotion")


@pytest.fixture(params=["columns", "overlay"])
def shop(postgres_catalog: str, request: pytest.FixtureRequest) -> Shop:
    return Shop(postgres_catalog, ROWS, request.param)


def sweep(shop: Shop, when: When, action: str, before: list[Any]) -> int:
    """Lose the connection at one statement after the other, and give how many were tried."""
    for tried in count(1):
        if action == "rollback":
            shop.promote()
        stood = shop.read()
        Failing.arm(1 + (tried - 1) * STEP, when)
        try:
            done = not shop.promote() if action == "promote" else bool(shop.target.rollback().promotions)
        except TargetError as error:
            if "Nothing was changed" not in str(error):
                raise
            done = False
        hit = Failing.hit
        Failing.arm(0)
        assert (shop.read() != stood) is done
        assert done or hit is not None
        if action == "promote":
            assert shop.promote() is done
            assert len(shop.target.promotions()) == 1
        shop.start_over(before)
        if hit is None:
            return tried
    raise AssertionError


@pytest.mark.parametrize("action", ["promote", "rollback"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_every_statement(shop: Shop, monkeypatch: pytest.MonkeyPatch, when: When, action: str) -> None:
    """What loses its connection at any statement has happened wholly or not at all, and says which."""
    before = shop.read()
    monkeypatch.setattr(psycopg, "connect", Failing.connect)
    assert sweep(shop, when, action, before) > 15 / STEP


class BegunCopy:
    """A COPY that the server has begun and the process is stopped at, before the block that would end it."""

    def __init__(self, copy: Any) -> None:
        self._copy = copy

    def __enter__(self) -> Any:
        self._copy.__enter__()
        raise KeyboardInterrupt

    def __exit__(self, *_: object) -> None: ...


class Stopped(psycopg.RawCursor[Any]):
    """A cursor whose every COPY is stopped as it begins."""

    def copy(self, *args: Any, **options: Any) -> Any:
        return BegunCopy(super().copy(*args, **options))


@pytest.mark.timeout(60)
def test_stopped_as_a_copy_begins(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop between the start of a COPY and its first row ends the promotion at once; the next one is made."""
    before = shop.read()
    with monkeypatch.context() as patched:
        patched.setattr(psycopg, "RawCursor", Stopped)
        with pytest.raises(KeyboardInterrupt):
            shop.promote()
    assert shop.read() == before
    assert shop.promote() is False
    assert shop.read() != before


def last_commit() -> Any:
    """Tell of each statement whether it is the commit of a promotion or a rollback."""
    noted = False

    def turn(_: Failing, statement: Any) -> bool:
        nonlocal noted
        noted = (
            noted or 'INTO "batchkit_catalog"."promotion"' in statement or "SET rolled_back_at" in statement
        )
        return noted and statement == "COMMIT"

    return turn


@pytest.mark.parametrize("action", ["promote", "rollback"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_connection_lost_while_committing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, when: When, action: str
) -> None:
    """A commit whose answer is lost is looked up: it landed, and all is well, or it did not, and nothing was changed."""
    before = shop.read()
    if action == "rollback":
        shop.promote()
    stood = shop.read()
    with monkeypatch.context() as patch:
        patch.setattr(psycopg, "connect", Failing.connect)
        patch.setattr(Failing, "_turn", last_commit())
        Failing.arm(0, when)
        act = shop.promote if action == "promote" else shop.target.rollback
        if when == "before":
            with pytest.raises(TargetError, match=r"before the commit. Nothing was changed"):
                act()
        else:
            act()
    assert (shop.read() != stood) is (when == "after")
    shop.start_over(before)


def test_a_commit_whose_outcome_nobody_can_tell(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server is gone after the commit, the error does not say that nothing was changed."""
    connects = 0

    def once(*args: Any, **options: Any) -> Any:
        nonlocal connects
        connects += 1
        if connects > 1:
            raise psycopg.OperationalError("connection refused")
        return Failing.connect(*args, **options)

    monkeypatch.setattr(psycopg, "connect", once)
    monkeypatch.setattr(Failing, "_turn", last_commit())
    Failing.arm(0, "after")
    with pytest.raises(TargetError, match="Ask again: nothing is done twice"):
        shop.promote()
    monkeypatch.undo()
    assert shop.promote()


# Kills itself just before, amid or just after the statement whose text holds a mark.
CHILD = """
import os, psycopg, signal, sys, threading
from batchkit.targets import Note, StagedRow
from batchkit.targets.postgres import PostgresTarget

address, action, mark, when, rows, strategy = sys.argv[1:]

noted = False

class Killing(psycopg.Connection):
    def execute(self, statement, *args, **options):
        global noted
        noted = noted or 'INTO "batchkit_catalog"."promotion"' in statement or "SET rolled_back_at" in statement
        hit = noted and statement == mark if mark == "COMMIT" else mark in statement
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if hit and when == "amid":
            threading.Timer(0.01, os.kill, [os.getpid(), signal.SIGKILL]).start()
        result = super().execute(statement, *args, **options)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

psycopg.connect = Killing.connect
target = PostgresTarget(address, "products", "sku", missing="insert", strategy=strategy)
if action == "promote":
    note = Note(run="r", receipt="d" * 64, content="d" * 64, fields=("category",))
    target.promote(note, (StagedRow(f"k{n}", {"category": "new " * 20}, {}) for n in range(int(rows) + 5)))
else:
    target.rollback()
"""
MANY = 3_000


@pytest.fixture
def large(postgres_catalog: str, request: pytest.FixtureRequest) -> Shop:
    return Shop(postgres_catalog, MANY, getattr(request, "param", "columns"))


def kill(shop: Shop, action: str, mark: str, when: str) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, shop.address, action, mark, when, str(shop.rows), shop.strategy],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENVIRONMENT,
    )
    assert child.returncode == -signal.SIGKILL, child.stderr


OVERLAID = [
    ('INSERT INTO "batchkit_catalog"."image', "after"),
    ('UPDATE "batchkit_catalog"."load"', "after"),
    ("ON CONFLICT DO NOTHING RETURNING", "after"),
    ('DELETE FROM "batchkit_catalog"."load" WHERE promotion = $1', "after"),
    ("COMMIT", "before"),
]


@pytest.mark.parametrize("large", ["overlay"], indirect=True)
@pytest.mark.parametrize(("mark", "when"), OVERLAID)
def test_killed_before_an_overlay_is_seen(large: Shop, mark: str, when: str) -> None:
    """Killed anywhere before its rows are seen, an overlay has not happened; what it left is removed in time."""
    before = large.read()
    kill(large, "promote", mark, when)
    assert large.read() == before
    assert large.target.promotions() == []
    large.run("UPDATE batchkit_catalog.load SET at = at - 4000")
    assert not large.promote()
    assert large.run("SELECT count(*) FROM batchkit_catalog.load") == [(0,)]
    ((image,),) = large.run(
        "SELECT relname FROM pg_class WHERE relname LIKE 'image_products%' AND relkind = 'r'"
    )
    assert large.run(f"SELECT count(DISTINCT promotion) FROM batchkit_catalog.{image}") == [(1,)]
    undone = large.target.rollback()
    assert (undone.restored, undone.deleted, undone.conflicts) == (MANY, 5, ())
    assert large.read() == before


@pytest.mark.parametrize(
    ("mark", "when"),
    [
        ("FOR NO KEY UPDATE", "amid"),
        ("ON CONFLICT DO NOTHING RETURNING", "after"),
        ('UPDATE "public"."products" AS p', "amid"),
        ('INSERT INTO "batchkit_catalog"."promotion"', "after"),
        ("COMMIT", "before"),
    ],
)
def test_killed_before_the_commit_of_a_promotion(large: Shop, mark: str, when: str) -> None:
    """Killed anywhere before its commit, a promotion has not happened; made again, it happens once."""
    before = large.read()
    kill(large, "promote", mark, when)
    assert large.read() == before
    assert large.target.promotions() == []
    assert not large.promote()
    assert [(p.written, p.inserted) for p in large.target.promotions()] == [(MANY + 5, 5)]
    assert large.target.rollback().conflicts == ()
    assert large.read() == before


@pytest.mark.parametrize(
    ("mark", "when"),
    [
        ("CREATE TEMP TABLE batchkit_undo", "amid"),
        ('UPDATE "public"."products" AS p', "amid"),
        ('DELETE FROM "public"."products" AS p', "after"),
        ("COMMIT", "before"),
    ],
)
def test_killed_before_the_commit_of_a_rollback(large: Shop, mark: str, when: str) -> None:
    """Killed anywhere before its commit, a rollback has not happened; asked again, it restores everything."""
    before = large.read()
    large.promote()
    after = large.read()
    kill(large, "rollback", mark, when)
    assert large.read() == after
    undone = large.target.rollback()
    assert (undone.restored, undone.deleted, undone.conflicts) == (MANY, 5, ())
    assert large.read() == before


@pytest.mark.parametrize("large", ["columns", "overlay"], indirect=True)
@pytest.mark.parametrize("action", ["promote", "rollback"])
def test_killed_after_the_commit(large: Shop, action: str) -> None:
    """Killed once it is committed, a promotion or a rollback has happened, and asking again does nothing."""
    before = large.read()
    if action == "rollback":
        large.promote()
        kill(large, action, "COMMIT", "after")
        assert large.target.rollback().promotions == ()
        assert large.read() == before
    else:
        kill(large, action, "COMMIT", "after")
        assert {category for _, category in large.read()} == {"new " * 20}
        assert large.promote()
