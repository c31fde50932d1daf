"""A copied or restored store reads, but sends nothing until a person confirms it."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from batchkit.errors import LeaseLost, StoreError, StoreHeld
from batchkit.ids import Digest, Nonce, RowKey, row_id
from batchkit.model import Batch, BatchFacts, BatchWhere, Intent, Lease, NewRun, Place, Seal, SourceRow
from batchkit.states import BatchState, RunState
from batchkit.storage.guard import Guard
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.clock import FakeClock

SPEC = Digest("ab" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def opened(path: Path) -> tuple[SQLiteStore, Lease]:
    """Open the store and take the lease of its run, made if need be."""
    store = SQLiteStore(path, clock=FakeClock())
    run, new = store.open_run(NewRun(name="run", spec=SPEC))
    lease = store.acquire(run.id, "me", 60)
    assert lease is not None
    if new:
        store.freeze(
            lease,
            [SourceRow(n, RowKey(f"k{n}"), f'[{n},"k{n}",{{}}]'.encode(), 1) for n in range(9)],
            seal=Seal(),
        )
    return store, lease


def intend(store: SQLiteStore, lease: Lease, position: int, nonce: str = "aaaaaaaa") -> Batch:
    place = Place(base_url=f"https://{nonce}.test")
    intent = Intent(nonce=Nonce(nonce), size=1, place=place, head=None, reserve=1, cap=None, deadline=2e9)
    return store.intend(lease, intent, [row_id(lease.run, position)])


def claim(store: SQLiteStore, lease: Lease, batch: Batch) -> Batch:
    return store.move_batch(lease, batch.id, expect=BatchState.INTENT, to=BatchState.SENDING)


def copied(path: Path, to: Path) -> Path:
    """Copy a store's files as a backup tool would, guard and all."""
    to.mkdir(exist_ok=True)
    for suffix in ("", "-wal", ".guard"):
        if (file := path.with_name(path.name + suffix)).exists():
            shutil.copyfile(file, to / file.name)
    return to / path.name


def test_the_same_store_is_not_held(path: Path) -> None:
    """A store that stays where it is is opened again and again without a question."""
    for n in range(3):
        store, lease = opened(path)
        intend(store, lease, n, f"aaaaaaa{n}")
        assert store.held() == ""
        store.close()


def test_a_killed_process_leaves_no_hold(path: Path) -> None:
    """A store that was never closed is opened without a question."""
    first, lease = opened(path)
    claim(first, lease, intend(first, lease, 0))
    first.move_batch(lease, first.batches(BatchWhere())[0].id, expect=BatchState.SENDING, to=BatchState.LIVE)
    second, _ = opened(path)
    assert second.held() == ""
    first.close()
    second.close()


def test_the_guard_is_private(path: Path) -> None:
    """The guard file has mode 0600 and no other file is left beside it."""
    store, lease = opened(path)
    intend(store, lease, 0)
    store.close()
    assert stat.S_IMODE((path.parent / "store.db.guard").stat().st_mode) == 0o600
    assert sorted(file.name for file in path.parent.iterdir()) == ["store.db", "store.db.guard"]


def test_a_copy_reads_but_does_not_send(path: Path, tmp_path: Path) -> None:
    """A copy in another directory gives everything it holds, and refuses intents and claims."""
    store, lease = opened(path)
    intend(store, lease, 0)
    store.close()
    copy, lease = opened(copied(path, tmp_path / "copy"))
    assert copy.tally(lease.run).total == 9
    batch = copy.batches(BatchWhere())[0]
    with pytest.raises(StoreHeld, match="confirm"):
        intend(copy, lease, 1, "bbbbbbbb")
    with pytest.raises(StoreHeld, match="confirm"):
        claim(copy, lease, batch)
    assert copy.batches(BatchWhere()) == [batch]
    copy.close()
    again, lease = opened(tmp_path / "copy" / "store.db")
    assert again.held()
    again.close()
    original, lease = opened(path)
    claim(original, lease, batch)
    original.close()


def test_a_copy_without_its_guard_is_held(path: Path, tmp_path: Path) -> None:
    """A database without a guard beside it is held if anything was ever written to it."""
    store, _ = opened(path)
    store.close()
    copy = copied(path, tmp_path / "copy")
    (copy.parent / "store.db.guard").unlink()
    held, _ = opened(copy)
    assert "missing" in held.held()
    held.close()


def test_a_guard_that_cannot_be_read_holds(path: Path) -> None:
    """A guard file of odd content counts as missing."""
    store, _ = opened(path)
    store.close()
    for odd in (b"", b"{}", b"[1]", b"\xff", b'{"seq": "x", "inode": 1, "host": ""}'):
        (path.parent / "store.db.guard").write_bytes(odd)
        held, _ = opened(path)
        assert held.held()
        held.close()


def test_an_old_backup_put_back_is_held(path: Path, tmp_path: Path) -> None:
    """A backup from before the newest intent, written over the same file, is held."""
    store, lease = opened(path)
    store.close()
    backup = copied(path, tmp_path / "backup")
    store, lease = opened(path)
    intend(store, lease, 0)
    store.close()
    path.write_bytes(backup.read_bytes())  # keeps the inode
    held, lease = opened(path)
    assert "older" in held.held()
    with pytest.raises(StoreHeld):
        intend(held, lease, 0)
    held.close()


def test_a_backup_between_intent_and_claim_is_held(path: Path, tmp_path: Path) -> None:
    """A backup taken before the claim would claim the same nonce again; it is held."""
    store, lease = opened(path)
    batch = intend(store, lease, 0)
    with sqlite3.connect(path) as live, sqlite3.connect(tmp_path / "backup.db") as backup:
        live.backup(backup)
    live.close()
    backup.close()
    claim(store, lease, batch)
    store._db.close()  # killed: nothing is noted at the end
    path.write_bytes((tmp_path / "backup.db").read_bytes())
    held, lease = opened(path)
    assert held.batches(BatchWhere())[0].state is BatchState.INTENT
    with pytest.raises(StoreHeld):
        claim(held, lease, held.batches(BatchWhere())[0])
    held.close()


def test_a_moved_directory_is_not_held(path: Path, tmp_path: Path) -> None:
    """Renaming the store with its directory leaves the same file and needs no question."""
    (tmp_path / "one").mkdir()
    store, _ = opened(tmp_path / "one" / "store.db")
    store.close()
    (tmp_path / "one").rename(tmp_path / "two")
    moved, lease = opened(tmp_path / "two" / "store.db")
    assert intend(moved, lease, 0).state is BatchState.INTENT
    moved.close()


def test_another_host_is_held(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same file seen from a machine of another name is held."""
    store, _ = opened(path)
    store.close()
    monkeypatch.setattr(socket, "gethostname", lambda: "elsewhere")
    held, _ = opened(path)
    assert "host" in held.held()
    held.close()


def test_a_named_host_survives_another_host_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store whose host was named by the caller is not held when the machine's own name changes."""
    SQLiteStore(path, host="enrich-worker").close()
    monkeypatch.setattr(socket, "gethostname", lambda: "pod-7f3a")
    assert SQLiteStore(path, host="enrich-worker").held() == ""
    assert "enrich-worker" in SQLiteStore(path).held()


def test_confirm_lets_it_go_on(path: Path, tmp_path: Path) -> None:
    """After confirm, intents and unfinished sends are DOUBTFUL, other batches stay, old leases end, and it stays so."""
    store, lease = opened(path)
    live = intend(store, lease, 0, "aaaaaaaa")
    claim(store, lease, live)
    store.move_batch(
        lease, live.id, expect=BatchState.SENDING, to=BatchState.LIVE, facts=BatchFacts(reserved=9)
    )
    claim(store, lease, intend(store, lease, 1, "bbbbbbbb"))
    intend(store, lease, 2, "cccccccc")
    store.close()
    copy, lease = opened(copied(path, tmp_path / "copy"))
    copy.confirm()
    assert copy.held() == ""
    assert [batch.state for batch in copy.batches(BatchWhere())] == [
        BatchState.LIVE,
        BatchState.DOUBTFUL,
        BatchState.DOUBTFUL,
    ]
    with pytest.raises(LeaseLost):
        copy.move_run(lease, expect=RunState.OPEN, to=RunState.PAUSED)
    copy.close()
    again, lease = opened(tmp_path / "copy" / "store.db")
    assert intend(again, lease, 5, "dddddddd").state is BatchState.INTENT
    again.close()


def test_confirm_without_a_hold_does_nothing(path: Path) -> None:
    """Confirming a store that is not held leaves its batches and leases as they are."""
    store, lease = opened(path)
    batch = intend(store, lease, 0)
    store.confirm()
    assert store.batches(BatchWhere()) == [batch]
    claim(store, lease, batch)
    store.close()


def test_memory_has_no_guard() -> None:
    """A store in memory is never held."""
    store = SQLiteStore()
    assert store.held() == ""
    store.close()


def test_a_file_replaced_while_open_sends_nothing(path: Path, tmp_path: Path) -> None:
    """A store whose file was moved away or replaced under it refuses to send."""
    store, lease = opened(path)
    path.rename(tmp_path / "moved.db")
    with pytest.raises(StoreHeld, match="replaced"):
        intend(store, lease, 0)
    path.write_bytes(b"")
    with pytest.raises(StoreHeld, match="replaced"):
        intend(store, lease, 0)
    (tmp_path / "moved.db").rename(path)
    assert intend(store, lease, 0).state is BatchState.INTENT
    store.close()


def test_a_guard_that_cannot_be_written_stops_the_next_send(path: Path, tmp_path: Path) -> None:
    """The send in hand is not torn, but the next one is refused until the guard can be written."""
    store, lease = opened(path)
    guard = path.parent / "store.db.guard"
    guard.unlink()
    guard.mkdir()  # a rename onto it fails
    batch = intend(store, lease, 0)
    with pytest.raises(StoreError, match="guard"):
        claim(store, lease, batch)
    guard.rmdir()
    assert claim(store, lease, batch).state is BatchState.SENDING
    store.close()


def test_the_guard_is_read_before_the_writes_are_counted(path: Path) -> None:
    """Another process' write between the two does not make the database look restored."""
    store, _ = opened(path)
    store.close()

    def count() -> int:
        other.save(other_seq + 1)
        return other_seq

    with sqlite3.connect(path) as raw:
        other_seq = int(raw.execute("SELECT sum(seq) FROM run").fetchone()[0])
    raw.close()
    other = Guard(path, lambda: other_seq)
    assert Guard(path, count).why == ""


def test_movers_beside_each_other_are_not_held(path: Path) -> None:
    """Opening while another connection writes never looks like a restored backup."""
    store, lease = opened(path)
    held: list[str] = []
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            other = SQLiteStore(path)
            held.append(other.held())
            other.close()

    thread = threading.Thread(target=look)
    thread.start()
    for n in range(40):
        batch = intend(store, lease, 0, f"{n:08d}")
        store.move_batch(lease, batch.id, expect=BatchState.INTENT, to=BatchState.REJECTED, free=True)
    stop.set()
    thread.join()
    assert held
    assert set(held) == {""}
    store.close()
