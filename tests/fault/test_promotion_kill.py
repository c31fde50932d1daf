"""A promotion or a rollback that is killed at any point leaves the catalog wholly before or wholly after."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from batchkit.ids import Digest
from batchkit.targets import Note, Promotion, StagedRow
from batchkit.targets.sqlite import SQLiteTarget

ROWS = 3_000
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}

# Kills itself just before or after the statement whose text holds a mark. The catalog's cache is made so small
# that pages reach the file long before the commit.
CHILD = """
import os, signal, sqlite3, sys
from batchkit.targets import Note, StagedRow
from batchkit.targets import sqlite_session
from batchkit.targets.sqlite import SQLiteTarget

path, action, mark, when, passes = sys.argv[1:]
left = int(passes)

class Killing(sqlite3.Connection):
    def execute(self, statement, *args):
        global left
        if "cache_size" in statement:
            statement = "PRAGMA cache_size = 10"
        hit = mark in statement and not statement.startswith(("CREATE TEMP", "SELECT"))
        if hit and left:
            left, hit = left - 1, False
        if hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if hit and when == "amid":
            self.set_progress_handler(lambda: os.kill(os.getpid(), signal.SIGKILL), 40_000)
        result = super().execute(statement, *args)
        if hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

connect = sqlite3.connect
sqlite3.connect = lambda *args, **options: connect(*args, factory=Killing, **options)
target = SQLiteTarget(path, "products", "sku", missing="insert")
if action == "promote":
    note = Note(run="r", receipt="d" * 64, content="d" * 64, fields=("category",))
    target.promote(note, (StagedRow(f"k{n}", {"category": "new " * 20}, {}) for n in range(int("ROWS") + 50)))
else:
    target.rollback()
print("not killed")
""".replace("ROWS", str(ROWS))


def make(path: Path, journal: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(f"PRAGMA journal_mode = {journal}")
        db.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, category TEXT)")
        db.executemany("INSERT INTO products VALUES (?, ?)", [(f"k{n}", "old " * 20) for n in range(ROWS)])


def read(path: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT sku, category FROM products ORDER BY sku").fetchall()


def run_child(
    path: Path, action: str, mark: str, when: str, passes: int = 0
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), action, mark, when, str(passes)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=ENVIRONMENT,
    )


def promote(path: Path) -> Promotion:
    note = Note(run="r", receipt=Digest("d" * 64), content=Digest("d" * 64), fields=("category",))
    target = SQLiteTarget(path, "products", "sku", missing="insert")
    return target.promote(note, (StagedRow(f"k{n}", {"category": "new " * 20}, {}) for n in range(ROWS + 50)))


POINTS = [
    ("INSERT INTO temp.batchkit_hit", "after"),
    ("ON CONFLICT DO NOTHING", "after"),
    ("INSERT INTO main.batchkit_before", "amid"),
    ("UPDATE main.", "before"),
    ("UPDATE main.", "amid"),
    ("UPDATE main.", "after"),
    ("INSERT INTO main.batchkit_promotion", "after"),
]


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
@pytest.mark.parametrize(("mark", "when"), POINTS)
def test_killed_before_the_commit_of_a_promotion(tmp_path: Path, mark: str, when: str, journal: str) -> None:
    """Killed anywhere before its commit, a promotion has not happened; made again, it happens once."""
    path = tmp_path / "catalog.db"
    make(path, journal)
    before = read(path)
    child = run_child(path, "promote", mark, when)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert read(path) == before
    target = SQLiteTarget(path, "products", "sku", missing="insert")
    assert target.promotions() == []
    promote(path)
    assert [(p.written, p.inserted) for p in target.promotions()] == [(ROWS + 50, 50)]
    assert target.rollback().conflicts == ()
    assert read(path) == before


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
@pytest.mark.parametrize(
    ("mark", "when"),
    [
        ("INSERT INTO temp.batchkit_undo", "after"),
        ("UPDATE main.", "amid"),
        ("DELETE FROM main.", "after"),
        ("UPDATE main.batchkit_promotion", "after"),
    ],
)
def test_killed_before_the_commit_of_a_rollback(tmp_path: Path, mark: str, when: str, journal: str) -> None:
    """Killed anywhere before its commit, a rollback has not happened; asked again, it restores everything."""
    path = tmp_path / "catalog.db"
    make(path, journal)
    before = read(path)
    promote(path)
    after = read(path)
    child = run_child(path, "rollback", mark, when)
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert read(path) == after
    target = SQLiteTarget(path, "products", "sku", missing="insert")
    assert target.rollback().restored == ROWS
    assert read(path) == before


def test_killed_after_the_commit_of_a_promotion(tmp_path: Path) -> None:
    """Killed once it is committed, a promotion has happened, and making it again does nothing."""
    path = tmp_path / "catalog.db"
    make(path, "DELETE")
    # The first COMMIT ends the staging.
    assert run_child(path, "promote", "COMMIT", "after", passes=1).returncode == -signal.SIGKILL
    after = read(path)
    assert {category for _, category in after} == {"new " * 20}
    assert promote(path).repeated
    assert read(path) == after


def test_killed_after_the_commit_of_a_rollback(tmp_path: Path) -> None:
    """Killed once it is committed, a rollback has happened, and asking again does nothing."""
    path = tmp_path / "catalog.db"
    make(path, "DELETE")
    before = read(path)
    promote(path)
    assert run_child(path, "rollback", "COMMIT", "after").returncode == -signal.SIGKILL
    assert read(path) == before
    assert SQLiteTarget(path, "products", "sku").rollback().promotions == ()


def test_two_processes_promote_once(tmp_path: Path) -> None:
    """Of two processes that promote the same content at once, one does, and both are content."""
    path = tmp_path / "catalog.db"
    make(path, "DELETE")
    command = [sys.executable, "-c", CHILD, str(path), "promote", "no such mark", "never", "0"]
    children = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait(timeout=60) for child in children] == [0, 0]
    (made,) = SQLiteTarget(path, "products", "sku").promotions()
    assert (made.written, made.unchanged) == (ROWS + 50, 0)


def test_a_reader_sees_old_or_new(tmp_path: Path) -> None:
    """A reader beside a promotion sees only old values until the commit, and only new ones after it."""
    path = tmp_path / "catalog.db"
    make(path, "WAL")
    seen: set[tuple[int, int]] = set()
    with closing(sqlite3.connect(path)) as reader:

        def look() -> tuple[int, int]:
            found = reader.execute(
                "SELECT sum(category LIKE 'old%'), sum(category LIKE 'new%') FROM products"
            )
            old, new = found.fetchone()
            return old, new

        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), "promote", "no such mark", "never", "0"],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
        )
        while child.poll() is None:
            seen.add(look())
        seen.add(look())
    assert child.returncode == 0
    assert seen == {(ROWS, 0), (0, ROWS + 50)}
