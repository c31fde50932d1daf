"""What the contract's tests stand on: fixtures to override and values to store."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

import attrs
import pytest

from batchkit.clock import Clock
from batchkit.ids import Digest, Nonce, RemoteId, RowId, RowKey, row_id
from batchkit.model import (
    PAGE,
    Batch,
    BatchFacts,
    Head,
    Intent,
    Lease,
    NewRun,
    Place,
    Run,
    Seal,
    Settled,
    SourceRow,
    Usage,
)
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowEvent, RunState
from batchkit.storage import Store
from batchkit.testing.clock import FakeClock

TTL = 60.0
PLACE = Place(base_url="https://api.example.test", organization="org", workspace="wrk")
OTHER_PLACE = Place(base_url="https://api.example.test", organization="org", workspace="other")
USAGE = Usage(input=900, output=80, cache_write_5m=3, cache_write_1h=2, cache_read=1)


OpenStore: TypeAlias = Callable[[], AbstractContextManager[Store]]
"""Opens another handle on one store; as a context manager, which closes it."""


class StoreCase:
    """Overridden by each backend."""

    @pytest.fixture
    def clock(self) -> Clock:
        """Give the clock that the store runs by."""
        return FakeClock()

    @pytest.fixture
    def open_store(self, clock: Clock) -> OpenStore:
        """Give what opens handles on one store, which is empty at first, as another process would open it.

        A store that lives and dies with its only handle gives that one again and leaves it open.
        """
        raise NotImplementedError("override the fixture `open_store`: it opens handles on one empty store")

    @pytest.fixture
    def store(self, open_store: OpenStore) -> Iterator[Store]:
        """Give a handle on the store."""
        with open_store() as store:
            yield store


def code_of(store: Store) -> str:
    """Name the package whose code a store is: a part that several modules share, or the one module."""
    module = type(store).__module__
    return module.rpartition(".")[0] or module


@attrs.frozen(kw_only=True)
class Opened:
    """A run with its lease."""

    store: Store
    run: Run
    lease: Lease

    def ids(self, positions: Iterable[int]) -> list[RowId]:
        """Give row ids of positions."""
        return [row_id(self.run.id, position) for position in positions]

    def intend(self, positions: Iterable[int], intent: Intent | None = None) -> Batch:
        """Make a batch of these records."""
        return self.store.intend(self.lease, intent or an_intent(), self.ids(positions))

    def live(self, positions: Iterable[int], nonce: str = "aaaaaaaa") -> Batch:
        """Make a batch of these records and bring it to LIVE."""
        batch = self.intend(positions, an_intent(nonce))
        self.move(batch, BatchState.INTENT, BatchState.SENDING)
        return self.move(batch, BatchState.SENDING, BatchState.LIVE, remote_id=RemoteId(f"msgbatch_{nonce}"))

    def move(
        self,
        batch: Batch,
        expect: BatchState,
        to: BatchState,
        *,
        free: bool = False,
        remote_id: RemoteId | None = None,
    ) -> Batch:
        """Move a batch."""
        facts = BatchFacts(remote_id=remote_id)
        return self.store.move_batch(self.lease, batch.id, expect=expect, to=to, facts=facts, free=free)


def record(
    position: int,
    key: str | None = None,
    fields: Mapping[str, str | None] | None = None,
    event: RowEvent = RowEvent.FROZEN,
    reason: Reason | None = None,
    detail: str = "",
) -> SourceRow:
    """Make a source record."""
    key = f"k{position}" if key is None else key
    fields = {"text": f"record {position}"} if fields is None else fields
    line = json.dumps([position, key, fields], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return SourceRow(position, RowKey(key), line.encode(), len(line), event, reason, detail)


def a_run(store: Store, name: str = "run") -> Opened:
    """Open a run and take its lease."""
    run, _ = store.open_run(NewRun(name=name, spec=Digest("ab" * 32), options={"canary": 3}))
    lease = store.acquire(run.id, "me", TTL)
    assert lease is not None
    return Opened(store=store, run=run, lease=lease)


def frozen(opened: Opened, records: Sequence[SourceRow], seal: Seal | None = None) -> Opened:
    """Freeze records page by page and seal them."""
    for first in range(0, len(records), PAGE):
        opened.store.freeze(opened.lease, records[first : first + PAGE])
    opened.store.freeze(opened.lease, [], seal=seal or Seal(count=len(records)))
    return attrs.evolve(opened, run=the_run(opened))


def an_open_run(store: Store, rows: int = 10, name: str = "run") -> Opened:
    """Open a run with so many records, sealed."""
    return frozen(a_run(store, name), [record(n) for n in range(rows)])


def the_run(opened: Opened) -> Run:
    """Read the run again."""
    return opened.store.runs(name=opened.run.name)[0]


def an_intent(
    nonce: str = "aaaaaaaa",
    *,
    place: Place = PLACE,
    reserve: int = 100,
    cap: int | None = None,
    head: bool = True,
) -> Intent:
    """Make an intent."""
    return Intent(
        nonce=Nonce(nonce),
        size=1234,
        place=place,
        head=Head(remote_id=RemoteId("msgbatch_head"), created_at=1_700_000_000.5) if head else None,
        reserve=reserve,
        cap=cap,
        deadline=1_800_000_000.0,
    )


def accepted(row: RowId, answer: bytes = b"{}", cost: int = 7) -> Settled:
    """Make a valid result."""
    return Settled(
        row, RowEvent.ACCEPTED, None, 0, 1, 0, answer=answer, usage=USAGE, cost=cost, model="claude-haiku-4-5"
    )


def close(opened: Opened) -> None:
    """Cancel every pending record and close the run."""
    store, lease = opened.store, opened.lease
    store.move_run(lease, expect=RunState.OPEN, to=RunState.CANCELING)
    page = [
        Settled(row, RowEvent.RUN_CANCELED, Reason.RUN_CANCELED, 0, 0, 0)
        for row in opened.ids(range(opened.run.rows))
    ]
    store.settle(lease, None, page)
    store.move_run(lease, expect=RunState.CANCELING, to=RunState.CLOSED)
