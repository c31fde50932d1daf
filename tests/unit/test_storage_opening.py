"""What a user writes becomes a store, or an error that says what to write."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from batchkit.errors import UsageError
from batchkit.ids import RunId
from batchkit.model import NewEvent
from batchkit.storage import opening
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.opening import open_store
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


@pytest.mark.parametrize("address", ["postgresql://u@localhost/db", "postgres://localhost/db"])
def test_postgres_needs_its_extra(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its driver, a PostgreSQL address names the extra to install and shows no password."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UsageError, match=r"message-batchkit\[postgres\]"):
        open_store(address)


def test_postgres_gets_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PostgreSQL address is handed to its store."""
    store = SQLiteStore()

    class Module:
        @staticmethod
        def PostgresStore(address: str) -> SQLiteStore:  # noqa: N802
            assert address == "postgresql://localhost/db"
            return store

    monkeypatch.setattr(importlib, "import_module", lambda name: Module)
    assert opening.open_store("postgresql://localhost/db") is store
    store.close()


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
