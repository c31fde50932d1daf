"""Opening a store's file, and what happens when the file or the machine does not play along."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import tenacity

from batchkit.errors import StoreError, StoreHeld, UsageError
from batchkit.ids import Digest, Nonce, RowId, RowKey, RunId, row_id
from batchkit.model import (
    BatchFacts,
    BatchWhere,
    DocKind,
    Intent,
    Lease,
    NewEvent,
    NewRun,
    Place,
    RunFacts,
    Seal,
    Settled,
    SourceRow,
)
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowEvent, RunState
from batchkit.storage import schema, sqlite_file
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.clock import FakeClock
from batchkit.testing.faults import Killed, die_in_process, midway
from batchkit.testing.store_contract.base import an_open_run

SPEC = Digest("ab" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def page(first: int, count: int, text: str = "x") -> list[SourceRow]:
    return [
        SourceRow(n, RowKey(f"k{n}"), f'[{n},"k{n}",{{"a":"{text}"}}]'.encode(), 1)
        for n in range(first, first + count)
    ]


def filled(path: Path, rows: int = 400) -> None:
    store = SQLiteStore(path)
    run, _ = store.open_run(NewRun(name="run", spec=SPEC))
    lease = store.acquire(run.id, "me", 60)
    assert lease is not None
    store.freeze(lease, page(0, rows, "x" * 200), seal=Seal())
    store.close()


def test_only_the_owner_may_read_its_files(path: Path) -> None:
    """The database, its log and its guard have mode 0600 from the start."""
    store = SQLiteStore(path)
    store.open_run(NewRun(name="run", spec=SPEC))
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
    assert set(modes) >= {"store.db", "store.db-wal", "store.db.guard"}
    assert set(modes.values()) == {0o600}
    store.close()


def test_what_was_written_is_there_again(path: Path) -> None:
    """A store opened again holds what was written before."""
    filled(path)
    store = SQLiteStore(path)
    assert store.runs()[0].rows == 400
    assert store.tally(store.runs()[0].id).total == 400
    store.close()


def test_writes_are_synced_to_disk(path: Path) -> None:
    """The database runs in WAL mode with full synchronisation and marks its file as ours."""
    store = SQLiteStore(path)
    with store._db.read() as connection:
        pragma = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "application_id", "user_version")
        }
    assert pragma == {
        "journal_mode": "wal",
        "synchronous": 2,
        "application_id": schema.APPLICATION_ID,
        "user_version": schema.VERSION,
    }
    store.close()


def test_a_database_of_another_program_is_left_alone(path: Path) -> None:
    """A file with other tables is refused and not changed."""
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE invoices (id INTEGER)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreHeld, match="another program"):
        SQLiteStore(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(path: Path) -> None:
    """A text file is refused with a message and not changed."""
    path.write_bytes(b"sku,text\n" * 1000)
    with pytest.raises(StoreError, match="no batchkit store"):
        SQLiteStore(path)
    assert path.read_bytes() == b"sku,text\n" * 1000


def test_newer_tables_are_refused(path: Path) -> None:
    """A store written by newer code names the upgrade and is not changed."""
    filled(path)
    with sqlite3.connect(path) as other:
        other.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    other.close()
    with pytest.raises(StoreHeld, match="pip install -U message-batchkit"):
        SQLiteStore(path)


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9])
def test_a_file_cut_short_is_refused(path: Path, keep: float) -> None:
    """A truncated database is refused with the way out."""
    filled(path)
    os.truncate(path, int(path.stat().st_size * keep))
    with pytest.raises(StoreError, match="Restore the newest backup"):
        SQLiteStore(path).tally(RunId(1))


def test_an_emptied_file_is_noticed(path: Path) -> None:
    """A database emptied to nothing is held, because its guard remembers writes."""
    filled(path)
    os.truncate(path, 0)
    store = SQLiteStore(path)
    assert "restored" in store.held()
    store.close()


def test_a_file_that_cannot_be_written_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only database is refused when it is opened, with the fix."""
    filled(path)
    connect = sqlite3.connect

    def read_only(database: Path, **settings: Any) -> Any:
        return connect(f"file:{database}?mode=ro", uri=True, **settings)

    monkeypatch.setattr(sqlite3, "connect", read_only)
    with pytest.raises(StoreError, match="right to write"):
        SQLiteStore(path)


def test_the_directory_must_exist(tmp_path: Path) -> None:
    """A path in a directory that does not exist, or that is one, is the caller's to change."""
    with pytest.raises(UsageError, match="no directory"):
        SQLiteStore(tmp_path / "nowhere" / "store.db")
    with pytest.raises(UsageError, match="is a directory"):
        SQLiteStore(tmp_path)


def test_an_old_sqlite_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python with an SQLite before 3.37 is told so before any file is made."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StoreError, match=r"3\.37"):
        SQLiteStore(path)
    assert not path.exists()


def test_memory_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store in memory writes nothing to the disk."""
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore()
    store.open_run(NewRun(name="run", spec=SPEC))
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_fork_must_open_its_own(path: Path) -> None:
    """A store used in a forked child raises StoreError there and goes on working in the parent."""
    store = SQLiteStore(path)
    store.open_run(NewRun(name="run", spec=SPEC))
    child = os.fork()
    if child == 0:
        try:
            store.runs()
        except StoreError as error:
            store.close()
            os._exit(0 if "fork" in str(error) else 2)
        os._exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.open_run(NewRun(name="other", spec=SPEC))
    assert [run.name for run in store.runs()] == ["run", "other"]
    store.close()


def test_a_store_may_be_used_from_other_threads(path: Path) -> None:
    """Threads that use one store at once wait for each other."""
    store = SQLiteStore(path)
    failed: list[BaseException] = []

    def work(name: str) -> None:
        try:
            for n in range(20):
                store.append(DocKind.EVENT, name, str(n).encode())
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store.docs(DocKind.EVENT)) == 80
    store.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_MS", 1)
    monkeypatch.setattr(
        sqlite_file, "_patience", sqlite_file._patience.copy(stop=tenacity.stop_after_delay(0.3))
    )


READS: list[Callable[[SQLiteStore, RunId], object]] = [
    lambda store, run: store.batches(BatchWhere()),
    lambda store, run: store.digests(run),
    lambda store, run: store.docs(DocKind.EVENT),
    lambda store, run: store.ledger(run),
    lambda store, run: store.locate(run, [RowKey("k0")]),
    lambda store, run: store.runs(),
]


# Python swallows what is raised where an object is let go of.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", range(len(READS)))
def test_a_read_that_is_broken_off_keeps_no_state_of_the_file(path: Path, number: int) -> None:
    """Ctrl-C while rows are read, and its traceback kept as a notebook does: others write, and then this store does."""
    with closing(SQLiteStore(path)) as store, closing(SQLiteStore(path)) as other:
        run = an_open_run(store).run.id
        store.append(DocKind.EVENT, "a", b"one")
        READS[number](store, run)
        with midway("batchkit") as moments:
            READS[number](store, run)
        kept = []
        for at in range(1, moments.count + 1):
            try:
                with midway("batchkit", at, die_in_process):
                    READS[number](store, run)
            except Killed as pressed:
                kept.append(pressed)
            other.append(DocKind.EVENT, "b", b"two")
            store.append(DocKind.EVENT, "c", b"three")
        assert len(kept) > 0.8 * moments.count


@pytest.mark.usefixtures("impatient")
def test_a_busy_file_is_tried_again(path: Path) -> None:
    """A write waits for another connection's transaction to end."""
    store = SQLiteStore(path)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.05, lambda: other.execute("COMMIT"))
    timer.start()
    assert store.open_run(NewRun(name="run", spec=SPEC))[1]
    timer.join()
    other.close()
    store.close()


@pytest.mark.usefixtures("impatient")
def test_a_file_kept_busy_is_reported(path: Path) -> None:
    """A write that never gets its turn raises StoreError; reading works meanwhile."""
    store = SQLiteStore(path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="busy"):
        store.open_run(NewRun(name="run", spec=SPEC))
    assert store.runs() == []
    other.execute("ROLLBACK")
    other.close()
    store.close()


def test_a_full_disk_changes_nothing(path: Path) -> None:
    """When the disk is full in the middle of a write, nothing of it is kept, and it works again with room."""
    store = SQLiteStore(path)
    run, _ = store.open_run(NewRun(name="run", spec=SPEC))
    lease = store.acquire(run.id, "me", 60)
    assert lease is not None
    store.freeze(lease, page(0, 500))
    with store._db.read() as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 3}")
    with pytest.raises(StoreError, match="disk is full"):
        store.freeze(lease, page(500, 500, "y" * 300))
    assert (store.runs()[0].rows, store.tally(run.id).total, len(store.digests(run.id))) == (500, 500, 1)
    with store._db.read() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    assert store.freeze(lease, page(500, 500, "y" * 300)) == 1000
    store.close()


class _Failing(sqlite3.Connection):
    """Raises at the n-th statement from now on."""

    left = 1_000_000

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise sqlite3.OperationalError("disk I/O error")

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self._count()
        return super().execute(*args)

    def executemany(self, *args: Any) -> sqlite3.Cursor:
        self._count()
        return super().executemany(*args)


Write = Callable[[SQLiteStore, Lease, list[RowId]], object]
WRITES: dict[str, Write] = {
    "freeze": lambda store, lease, ids: store.freeze(
        store.acquire(2, "me", 60),  # type: ignore[arg-type]
        [*page(0, 3), *(row._replace(event=RowEvent.INPUT_SPARSE, detail="d") for row in page(3, 2))],
        seal=Seal(),
    ),
    "intend": lambda store, lease, ids: store.intend(lease, _intent("bbbbbbbb"), ids[3:6]),
    "move_run": lambda store, lease, ids: store.move_run(
        lease,
        expect=RunState.OPEN,
        to=RunState.PAUSED,
        facts=RunFacts(events=(NewEvent(kind="a"), NewEvent(kind="b"))),
    ),
    "move_batch": lambda store, lease, ids: store.move_batch(
        lease,
        store.batches(BatchWhere())[0].id,
        expect=BatchState.LIVE,
        to=BatchState.LIVE,
        facts=BatchFacts(reserved=0, events=(NewEvent(kind="a"),)),
        free=True,
    ),
    "settle": lambda store, lease, ids: store.settle(
        lease,
        store.batches(BatchWhere())[0].id,
        [
            Settled(row, RowEvent.QUARANTINED, Reason.OUTPUT_EMPTY, 0, 1, 0, model="new", cost=3)
            for row in ids[1:5]
        ],
        by="new",
    ),
    "put": lambda store, lease, ids: store.put(DocKind.SPEC, "new", b"body"),
    "dismiss": lambda store, lease, ids: store.dismiss("w", ["a", "b"]),  # type: ignore[list-item]
}


def _intent(nonce: str) -> Intent:
    return Intent(
        nonce=Nonce(nonce), size=1, place=Place(base_url="u"), head=None, reserve=5, cap=99, deadline=2e9
    )


def _everything(path: Path) -> list[str]:
    """Give what the tables hold, but for the leases that a write before the failing one may have taken."""
    with sqlite3.connect(path) as other:
        dump = [line for line in other.iterdump() if not line.startswith('INSERT INTO "run"')]
        runs = [str(run) for run in other.execute("SELECT id, state, rows, digest, needs FROM run")]
    other.close()
    return dump + runs


@pytest.fixture
def failing(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SQLiteStore]:
    connect = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", lambda *a, **k: connect(*a, **k, factory=_Failing))
        store = SQLiteStore(path, clock=FakeClock())
    store.open_run(NewRun(name="run", spec=SPEC))
    store.open_run(NewRun(name="other", spec=SPEC))
    yield store
    store.close()


@pytest.mark.parametrize("name", WRITES)
def test_a_failing_statement_undoes_the_whole_write(failing: SQLiteStore, path: Path, name: str) -> None:
    """Whichever statement of a write fails, the store is as before, and the write works when tried again."""
    lease = failing.acquire(failing.runs()[0].id, "me", 60)
    assert lease is not None
    failing.freeze(lease, page(0, 10), seal=Seal())
    ids = [row_id(lease.run, n) for n in range(10)]
    batch = failing.intend(lease, _intent("aaaaaaaa"), ids[:3])
    failing.move_batch(lease, batch.id, expect=BatchState.INTENT, to=BatchState.SENDING)
    failing.move_batch(lease, batch.id, expect=BatchState.SENDING, to=BatchState.LIVE)
    before = _everything(path)
    connection = failing._db._connection
    assert isinstance(connection, _Failing)
    for statement in range(1, 100):
        connection.left = statement
        failure = _attempt(name, failing, lease, ids)
        connection.left = 1_000_000
        if not failure:
            break
        assert "I/O" in failure
        assert _everything(path) == before, f"statement {statement}"
    assert statement > 3
    assert _everything(path) != before
    if name == "settle":  # names numbered in a transaction that was undone are numbered again
        assert {(result.model, result.by) for result in failing.results(lease.run)} == {("new", "new")}


def _attempt(name: str, store: SQLiteStore, lease: Lease, ids: list[RowId]) -> str:
    try:
        WRITES[name](store, lease, ids)
    except StoreError as error:
        return str(error)
    return ""


def test_a_frozen_page_that_lost_a_record_is_an_error_and_not_a_request_less(tmp_path: Path) -> None:
    """Where the file was damaged, reading its records raises; no row is left out in silence."""
    path = tmp_path / "store.db"
    with closing(SQLiteStore(path)) as store:
        ids = an_open_run(store, 20).ids(range(20))
    with closing(sqlite3.connect(path)) as raw, raw:
        (lines,) = raw.execute("SELECT lines FROM source_page").fetchone()
        raw.execute("UPDATE source_page SET lines = ?", (lines.rpartition(b"\n")[0],))
    with closing(SQLiteStore(path)) as store, pytest.raises(StoreError, match="damaged"):
        store.rows(ids, source=True)
