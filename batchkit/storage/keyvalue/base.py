"""What the parts of a store over an ordered map share: its transactions, the clock, the fence."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

import attrs

from batchkit.clock import Clock, SystemClock
from batchkit.errors import LeaseLost, StoreError
from batchkit.ids import RunId
from batchkit.model import Lease, Run
from batchkit.storage.keyvalue.entries import Entries, key
from batchkit.storage.keyvalue.transaction import Transaction
from batchkit.storage.records import as_run, dump, run_values

_FORMAT: Final = b"format"
_VERSION: Final = b"1"


@attrs.frozen
class Held:
    """A run and who moves it: an empty owner is nobody."""

    run: Run
    epoch: int = 0
    owner: str = ""
    until: float = 0.0
    ttl: float = 0.0

    def encoded(self) -> bytes:
        """Give it as it is stored."""
        return dump([*run_values(self.run), self.epoch, self.owner, self.until, self.ttl]).encode()

    @classmethod
    def decoded(cls, stored: bytes) -> Held:
        """Read what `encoded` gave."""
        values = json.loads(stored)
        return cls(as_run(values), *values[-4:])


class KeyValueBase(ABC):
    """The transactions, the clock and what every part does alike."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self._clock: Clock = clock or SystemClock()
        self._closed = False
        self._known = False

    @abstractmethod
    def transaction(self, *, write: bool) -> AbstractContextManager[Transaction]:
        """Begin a transaction; it is committed where the block ends, and undone where the block raises.

        With ``write`` no other writing transaction of this store, whoever's, reads or writes between the first
        moment of this one and its end: the second waits. What was committed is on disk. Without ``write``
        everything that is read is of one state, that of the begin or a later one.

        Raises:
            StoreError: the database failed, here or at a call within the block.
        """

    @abstractmethod
    def dispose(self) -> None:
        """Close what the database has open. Called once."""

    def now(self) -> float:
        """Give the time of the store's clock, the one that leases run by."""
        return self._clock.now()

    def close(self) -> None:
        """Close the store; twice is fine. A closed store raises StoreError on use."""
        if not self._closed:
            self._closed = True
            self.dispose()

    @contextmanager
    def _read(self) -> Iterator[Entries]:
        with self._begin(write=False) as transaction:
            yield Entries(transaction)

    @contextmanager
    def _write(self) -> Iterator[Entries]:
        with self._begin(write=True) as transaction:
            yield Entries(transaction)

    @contextmanager
    def _begin(self, *, write: bool) -> Iterator[Transaction]:
        if self._closed:
            raise StoreError("this store is closed; open it again to use it")
        with self.transaction(write=write) as transaction:
            if not self._known:
                self._check_format(transaction, write=write)
            yield transaction

    def _check_format(self, transaction: Transaction, *, write: bool) -> None:
        held = transaction.get([_FORMAT]).get(_FORMAT)
        if held is None and write:
            transaction.put({_FORMAT: _VERSION})
        elif held not in (None, _VERSION):
            raise StoreError(
                f"this store is of format {held!r}, this code knows {_VERSION!r} only; nothing was changed. "
                "Upgrade: pip install -U message-batchkit"
            )
        self._known = held is not None  # what was written just now may still be undone

    def _fence(self, entries: Entries, lease: Lease) -> Run:
        """Renew the lease and number the write; every leased write starts here."""
        stored = entries.one(key("run", lease.run))
        held = None if stored is None else Held.decoded(stored)
        if held is None or not lease.owner or (held.epoch, held.owner) != (lease.epoch, lease.owner):
            raise LeaseLost(
                f"run {lease.run}: the lease of epoch {lease.epoch} is over, another process moves this run or it was "
                "released; nothing was written"
            )
        run = attrs.evolve(held.run, seq=held.run.seq + 1)
        self._keep_run(entries, attrs.evolve(held, run=run, until=self.now() + held.ttl))
        return run

    def _held(self, entries: Entries, run: RunId) -> Held:
        stored = entries.one(key("run", run))
        if stored is None:
            raise StoreError(f"the store holds no run {run}")
        return Held.decoded(stored)

    def _keep_run(self, entries: Entries, held: Held) -> None:
        entries.put({key("run", held.run.id): held.encoded()})

    def _change_run(self, entries: Entries, run: Run) -> Run:
        """Keep a run that changed, under the lease that it has."""
        self._keep_run(entries, attrs.evolve(self._held(entries, run.id), run=run))
        return run
