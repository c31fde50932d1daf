"""What a store over an ordered map does beyond the contract."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from runpy import run_path

import pytest
from orderedmap import Memory, MemoryStore
from sqlalchemy import create_engine

from batchkit.errors import StoreError
from batchkit.ids import Digest, ResultId, RunId
from batchkit.model import PAGE, DocKind, NewRun
from batchkit.storage.keyvalue.entries import BULK, key, number
from batchkit.testing.clock import FakeClock
from batchkit.testing.store_contract.base import TTL, Opened, accepted, an_open_run, record

EXAMPLE = Path(__file__).parents[2] / "examples" / "sqlalchemy_store.py"


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def store(memory: Memory) -> Iterator[MemoryStore]:
    with closing(MemoryStore(memory, FakeClock())) as store:
        yield store


def test_a_store_of_another_format_is_not_touched(memory: Memory, store: MemoryStore) -> None:
    """Where a newer version has written, reads and writes are refused and nothing changes."""
    memory.newest.put({b"format": b"2"})
    with pytest.raises(StoreError, match=r"format b'2'.*Upgrade: pip"):
        store.runs()
    with pytest.raises(StoreError, match="format b'2'"):
        store.put(DocKind.CAP, "a", b"")
    assert memory.newest.values == {b"format": b"2"}


def test_the_format_is_written_with_the_first_write_that_lasts(memory: Memory, store: MemoryStore) -> None:
    """A first write that is refused leaves nothing at all, and the next notes the format."""
    with pytest.raises(StoreError):
        store.acquire(RunId(1), "me", TTL)
    assert memory.newest.values == {}
    store.put(DocKind.CAP, "a", b"")
    assert memory.newest.values[b"format"] == b"1"


def test_keys_are_in_the_order_of_their_numbers() -> None:
    """The key of a higher number is the higher key, up to the highest row there can be."""
    numbers = [0, 1, 9, 10, 15, 16, 255, 2**32 - 1, 2**32, 2**63 - 1]
    keys = [key("rows", n) for n in numbers]
    assert keys == sorted(keys)
    assert [number(one) for one in keys] == numbers


def test_more_than_one_call_brings(store: MemoryStore) -> None:
    """Documents, and strangers, are given in order and whole where there are more than one call of the database brings."""
    keys = [store.append(DocKind.CAP, "s", str(n).encode()) for n in range(BULK + 3)]
    whole = [(key_, str(n).encode()) for n, key_ in enumerate(keys)]
    assert store.docs(DocKind.CAP) == whole
    assert store.docs(DocKind.CAP, scope="s", after=keys[0], limit=BULK + 1) == whole[1 : BULK + 2]
    assert store.docs(DocKind.CAP, limit=0) == []
    many = [f"msgbatch_{n}" for n in range(BULK + 3)]
    store.dismiss("w", many)  # type: ignore[arg-type]
    assert store.strangers("w", many) == frozenset(many)  # type: ignore[arg-type]


def test_a_number_that_was_put_is_counted_on_from(store: MemoryStore) -> None:
    """The next key of a scope is above every number that stands in it, however it came there."""
    store.put(DocKind.CAP, "s/000000000007", b"")
    store.put(DocKind.CAP, "s/000000000003", b"")
    assert store.append(DocKind.CAP, "s", b"") == "s/000000000008"


def test_a_lease_of_a_process_that_is_gone_is_free(store: MemoryStore) -> None:
    """Whoever comes after a process of this machine that died does not wait for its lease's end."""
    name = "from batchkit.storage.owner import this_process; print(this_process())"
    gone = subprocess.run([sys.executable, "-c", name], capture_output=True, text=True, check=True).stdout
    run, _ = store.open_run(NewRun(name="run", spec=Digest("ab" * 32)))
    assert store.acquire(run.id, gone.strip(), TTL) is not None
    assert store.holder(run.id) is None
    assert store.acquire(run.id, "me", TTL) is not None


def test_results_of_many_pages_and_runs(store: MemoryStore) -> None:
    """Results of a run are found among those of another, whatever limit and start cut through the pages settled."""
    one, two = an_open_run(store, 12, "one"), an_open_run(store, 12, "two")
    batches = {opened.run.id: opened.live(range(12), f"{opened.run.name}12345") for opened in (one, two)}
    for first in range(0, 12, 4):
        for opened in (one, two):
            page = [accepted(row) for row in opened.ids(range(first, first + 4))]
            store.settle(opened.lease, batches[opened.run.id].id, page)
    whole = store.results(two.run.id)
    assert [result.row for result in whole] == two.ids(range(12))
    for start in range(13):
        after = whole[start - 1].id if start else ResultId(0)
        assert store.results(two.run.id, after=after, limit=5) == whole[start : start + 5]


def test_an_index_of_more_than_a_page(store: MemoryStore) -> None:
    """All that a run staged is found, also where it is more than is indexed at a time; a second look finds the rest."""
    rows = PAGE + 60
    opened = an_open_run(store, rows)
    later, _ = store.open_run(NewRun(name="later", spec=opened.run.spec))
    lease = store.acquire(later.id, "me", TTL)
    assert lease is not None
    store.index_staged(lease, [])
    batch = opened.live(range(rows))
    for part in (range(rows - 5), range(rows - 5, rows)):
        store.settle(opened.lease, batch.id, [accepted(row) for row in opened.ids(part)])
        store.index_staged(lease, [opened.run.id])
        assert _found(opened, rows) == part.stop


def test_an_error_of_the_examples_database_is_a_store_error(tmp_path: Path) -> None:
    """Where SQLAlchemy fails, here for want of a table, a StoreError says why, and shows no statement or value."""
    example, engine = run_path(str(EXAMPLE)), create_engine(f"sqlite:///{tmp_path / 'store.db'}")
    with closing(example["SQLAlchemyStore"](engine)) as store:
        example["META"].drop_all(engine)
        with pytest.raises(StoreError, match=r"no such table: \w+\)$"):
            store.runs()


def _found(opened: Opened, rows: int) -> int:
    page = [record(n) for n in range(rows)]
    found = opened.store.find_staged(opened.run.id, opened.run.spec, page)
    held = [row.result for row in opened.store.rows(opened.ids(range(rows)))]
    assert [(n, result) for n, result in enumerate(found) if result is not None] == [
        (n, result) for n, result in enumerate(held) if result is not None
    ]
    return sum(result is not None for result in found)
