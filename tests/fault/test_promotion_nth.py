"""The database fails at its k-th statement, for every k: the catalog is wholly before or wholly after."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import pytest

from batchkit.errors import TargetError
from batchkit.ids import Digest
from batchkit.targets import Note, StagedRow
from batchkit.targets.sqlite import SQLiteTarget

ROWS = 60
NOTE = Note(run="r", receipt=Digest("d" * 64), content=Digest("d" * 64), fields=("category",))

When = Literal["before", "after"]


class Failing(sqlite3.Connection):
    """A connection that fails once, at the statement whose turn it is."""

    turn = 0
    when: When = "before"
    calls = 0

    @classmethod
    def arm(cls, turn: int, when: When) -> None:
        cls.turn, cls.when, cls.calls = turn, when, 0

    def _step(self, act: Callable[[], Any]) -> Any:
        Failing.calls += 1
        hit = Failing.calls == Failing.turn
        if hit and Failing.when == "before":
            raise sqlite3.OperationalError("disk I/O error")
        result = act()
        if hit:
            result.close()  # nobody gets it, and a kept traceback would keep it, and with it the lock
            raise sqlite3.OperationalError("disk I/O error")
        return result

    def execute(self, *args: Any) -> Any:
        return self._step(lambda: super(Failing, self).execute(*args))

    def executemany(self, *args: Any) -> Any:
        return self._step(lambda: super(Failing, self).executemany(*args))


def make(path: Path) -> None:
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, category TEXT, stamp INTEGER)")
        db.execute("CREATE TRIGGER s AFTER UPDATE OF category ON products BEGIN"
                   " UPDATE products SET stamp = 1 WHERE sku = new.sku; END")  # fmt: skip
        db.executemany("INSERT INTO products VALUES (?, ?, 0)", [(f"k{n}", "old " * 50) for n in range(ROWS)])


def read(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT sku, category FROM products ORDER BY sku").fetchall()


def target(path: Path) -> SQLiteTarget:
    return SQLiteTarget(path, "products", "sku", missing="insert")


def promote(path: Path) -> bool:
    staged = (StagedRow(f"k{n}", {"category": "new " * 50}, {}) for n in range(ROWS + 5))
    return target(path).promote(NOTE, staged).repeated


def failing_connect(monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *args, **options: connect(*args, **{"factory": Failing, **options})
    )


@pytest.mark.parametrize("when", ["before", "after"])
def test_every_statement_of_a_promotion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When) -> None:
    """A promotion that fails at any statement has happened wholly or not at all, and asked again it stands once."""
    path = tmp_path / "catalog.db"
    make(path)
    before = read(path)
    failing_connect(monkeypatch)
    outcomes: list[bool] = []
    for turn in range(1, 200):
        make(path)
        Failing.arm(turn, when)
        try:
            promote(path)
        except TargetError:
            done = read(path) != before
        else:
            break
        finally:
            Failing.arm(0, when)
        outcomes.append(done)
        assert promote(path) is done
        assert len(target(path).promotions()) == 1
        assert target(path).rollback().conflicts == ()
        assert read(path) == before
    assert len(outcomes) > 15
    # Only an error that hides a COMMIT that landed leaves the promotion made.
    assert outcomes.count(True) == (1 if when == "after" else 0)


@pytest.mark.parametrize("when", ["before", "after"])
def test_every_statement_of_a_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: When) -> None:
    """A rollback that fails at any statement has happened wholly or not at all, and asked again it has happened."""
    path = tmp_path / "catalog.db"
    make(path)
    before = read(path)
    failing_connect(monkeypatch)
    outcomes: list[bool] = []
    for turn in range(1, 200):
        make(path)
        promote(path)
        after = read(path)
        Failing.arm(turn, when)
        try:
            target(path).rollback(1)
        except TargetError:
            done = read(path) == before
            assert done or read(path) == after
        else:
            break
        finally:
            Failing.arm(0, when)
        outcomes.append(done)
        assert bool(target(path).rollback(1).promotions) is not done
        assert read(path) == before
    assert len(outcomes) > 10
    assert outcomes.count(True) == (1 if when == "after" else 0)


def test_a_disk_that_fills_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the room for the catalog ends, the promotion is refused and the catalog is as it was."""
    path = tmp_path / "catalog.db"
    make(path)
    before = read(path)
    with closing(sqlite3.connect(path)) as db:
        (pages,) = db.execute("PRAGMA page_count").fetchone()
    connect = sqlite3.connect

    def promote_within(room: int) -> str:
        def small(*args: Any, **options: Any) -> sqlite3.Connection:
            connection: sqlite3.Connection = connect(*args, **options)
            connection.execute(f"PRAGMA max_page_count = {pages + room}")
            return connection

        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", small)
            try:
                promote(path)
            except TargetError as error:
                return str(error)
        return ""

    refusals = 0
    while refusal := promote_within(refusals):
        assert "disk is full" in refusal
        assert read(path) == before
        assert target(path).promotions() == []
        refusals += 1
    assert refusals > 5
    assert len(target(path).promotions()) == 1
