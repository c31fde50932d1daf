"""What a user writes becomes a store, or an error that says what to write."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest
from pg import url

from batchkit.clock import SystemClock
from batchkit.errors import StoreError, UsageError
from batchkit.ids import RunId
from batchkit.model import NewEvent
from batchkit.storage import postgres_schema
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.opening import migrate_store, open_store, shown
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing.clock import FakeClock


def test_a_path_is_a_file(tmp_path: Path) -> None:
    """A path, as text or as Path, opens a SQLite file with the clock given."""
    for where in (tmp_path / "a.db", str(tmp_path / "b.db")):
        store = open_store(where, clock=FakeClock(5.0))
        assert isinstance(store, SQLiteStore)
        assert store.now() == 5.0
        assert Path(where).exists()
        store.close()


def test_memory_is_a_store() -> None:
    """The text ":memory:" opens a store without a file."""
    store = open_store(":memory:")
    assert store.runs() == []
    store.close()


def test_a_store_is_given_back() -> None:
    """A store is given back as it is."""
    store = SQLiteStore()
    assert open_store(store) is store
    store.close()


@pytest.mark.parametrize("address", ["postgresql://u:hush@localhost/db", "postgres://localhost/db"])
def test_postgres_needs_its_extra(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its driver, a PostgreSQL address names the extra to install and shows no password."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(UsageError, match=r"message-batchkit\[postgres\]") as caught:
        open_store(address)
    assert "hush" not in str(caught.value)


def test_postgres_gets_address_schema_and_clock(postgres: str) -> None:
    """A PostgreSQL address opens its store, in the schema that is added to it; a machine's clock gives way to the server's."""
    address = url(postgres, schema="jobs")
    assert migrate_store(address) == (0, postgres_schema.VERSION)
    with closing(open_store(address, clock=FakeClock(5.0))) as simulated:
        assert simulated.now() == 5.0
        assert simulated.runs() == []
    with closing(open_store(address, clock=SystemClock())) as store:
        assert isinstance(store, PostgresStore)
        assert store._clock is None
    with pytest.raises(StoreError, match=r"schema batchkit holds no store.*python -m batchkit migrate"):
        open_store(url(postgres))


def test_a_file_is_not_migrated(tmp_path: Path) -> None:
    """Only a PostgreSQL store has a command that makes its tables; a mistyped path makes no file."""
    with pytest.raises(UsageError, match="whenever it is opened"):
        migrate_store(str(tmp_path / "a.db"))
    assert not (tmp_path / "a.db").exists()


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("shop.db", "shop.db"),
        ("postgresql://ada:hush@db.test:5432/jobs?schema=s", "postgresql://ada@db.test:5432/jobs?schema=s"),
        ("postgresql://ada:a@b@db.test/jobs", "postgresql://ada@db.test/jobs"),
        ("postgresql:///jobs?password=hush&user=ada%20b", "postgresql:///jobs?user=ada%20b"),
    ],
)
def test_what_is_printed_holds_no_password(written: str, printed: str) -> None:
    """An address is shown without its password, wherever that stands in it."""
    assert shown(written) == printed


def test_other_addresses_are_refused() -> None:
    """An address of an unknown kind names what is possible."""
    with pytest.raises(UsageError, match="mysql"):
        open_store("mysql://localhost/db")


def test_events_are_the_same_bytes_everywhere() -> None:
    """An event is stored as canonical JSON under its run's scope."""
    event = NewEvent(kind="batch.live", severity="warn", data={"batch": 3, "why": None, "share": 0.5})
    assert encode_event(event, 12.5) == (
        b'{"at":12.5,"data":{"batch":3,"share":0.5,"why":null},"kind":"batch.live","severity":"warn"}'
    )
    assert event_scope(RunId(7)) == "run-7"
