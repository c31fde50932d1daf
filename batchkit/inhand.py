"""The page in hand: a rule that never ends cannot be killed in its thread, so whoever dies over it is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import attrs
from typing_extensions import Self

from batchkit.clock import Clock
from batchkit.errors import LeaseLost, StoreError
from batchkit.lease import SECONDS
from batchkit.model import Batch, BatchFacts, DocKind, Lease
from batchkit.storage import Store

__all__ = ["InHand"]

LOST = 2
"""Readings of one file, or judgings of one row, that must be lost before it is treated with care."""


@attrs.define(kw_only=True)
class InHand:
    """What a batch's notes keep of a reading that is under way, until it is put down in good order.

    The first readings note only that they began. Where two of them ended without a word, every later one
    notes each row before it is judged. A row over which two readings ended is judged no more.

    Whoever finds within the block that its lease was given to another is not dead. It cannot write that down on the
    batch any more, so it does in a document, and its reading counts as lost no more, however late that is. A reading
    that noted nothing for as long as a lease lives stays lost, whoever ended the lease: else several workers would
    take a row from each other for ever that is judged for longer than that.

    Attributes:
        lost: Epochs of the readings that ended without a word.
        row: The number of the member that is being judged, where that is noted.
        rows: Epochs of the readings that ended over a row, by the number of its member.
    """

    _store: Store = attrs.field(alias="store")
    _lease: Lease = attrs.field(alias="lease")
    _batch: Batch = attrs.field(alias="batch")
    _clock: Clock = attrs.field(alias="clock")
    _noted: float = attrs.field(default=0.0, init=False)
    lost: list[int] = attrs.field(factory=list)
    row: int | None = None
    rows: dict[int, list[int]] = attrs.field(factory=dict)

    @classmethod
    def taken_up(cls, store: Store, lease: Lease, batch: Batch, clock: Clock) -> InHand:
        """Begin a reading: count what an earlier one left behind, and note that this one began."""
        hand = cls(store=store, lease=lease, batch=batch, clock=clock)
        noted = batch.notes.get("in_hand")
        if isinstance(noted, Mapping):
            lost, rows = _losses(noted)
            if noted["epoch"] is not None:
                lost.append(noted["epoch"])
                if noted["row"] is not None:
                    rows.setdefault(noted["row"], []).append(noted["epoch"])
            cut = hand._cut_off()
            hand.lost = [epoch for epoch in lost if epoch not in cut]
            hand.rows = {number: [e for e in epochs if e not in cut] for number, epochs in rows.items()}
        hand._write(lease.epoch)
        return hand

    def __enter__(self) -> Self:
        """Read within the block."""
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """Leave word where the lease was given to another."""
        if isinstance(error, LeaseLost) and self._clock.monotonic() - self._noted < SECONDS:
            with suppress(StoreError):
                self._store.put(DocKind.CLAIM, f"{self._cuts}/{self._lease.epoch}", b"")

    @property
    def careful(self) -> bool:
        """Tell whether every row is to be noted before it is judged."""
        return len(self.lost) >= LOST

    @property
    def unjudged(self) -> frozenset[int]:
        """Give the numbers of the members that are judged no more."""
        return frozenset(number for number, epochs in self.rows.items() if len(epochs) >= LOST)

    def renewed(self) -> None:
        """Take note that a write of this reading has just renewed its lease."""
        self._noted = self._clock.monotonic()

    def note(self, number: int) -> None:
        """Note which member is judged next, on disk."""
        self.row = number
        self._write(self._lease.epoch)

    def put_down(self, batch: Batch) -> Batch:
        """Give the batch without the note, to be written by whoever moves it next.

        What is known of rows stays for the readings to come, until the batch is collected.
        """
        notes = {name: value for name, value in batch.notes.items() if name != "in_hand"}
        if self.lost:
            notes["in_hand"] = self._plain(None)
        return attrs.evolve(batch, notes=notes)

    def dropped(self, number: int | None) -> None:
        """End a reading that was interrupted from outside, over a row or between rows."""
        if number is not None:
            self.rows.setdefault(number, []).append(self._lease.epoch)
            self.lost.append(self._lease.epoch)
        self.row = None
        with suppress(StoreError):  # then the note stays as it is
            self._write(None)

    @property
    def _cuts(self) -> str:
        return f"cut-{self._batch.id}"

    def _cut_off(self) -> set[int]:
        """Give the epochs whose readers have said that they were cut off."""
        told = self._store.docs(DocKind.CLAIM, scope=self._cuts)
        return {int(key.rpartition("/")[2]) for key, _ in told}

    def _plain(self, epoch: int | None) -> dict[str, object]:
        rows = {str(number): epochs for number, epochs in self.rows.items()}
        return {
            "epoch": epoch,
            "lost": len(self.lost),
            "row": self.row if epoch is not None else None,
            "rows": {row: len(epochs) for row, epochs in rows.items()},
            "epochs": {"lost": self.lost, "rows": rows},
        }

    def _write(self, epoch: int | None) -> None:
        state = self._batch.state
        facts = BatchFacts(notes={**self._batch.notes, "in_hand": self._plain(epoch)})
        self._store.move_batch(self._lease, self._batch.id, expect=state, to=state, facts=facts)
        self.renewed()


def _losses(noted: Mapping[str, Any]) -> tuple[list[int], dict[int, list[int]]]:
    """Give the epochs of a note; of one by version 0.1, which only counts, as many that nobody takes back.

    The counts stand beside the epochs, for workers of both versions may read one file by turns.
    """
    told = noted.get("epochs")
    if told is None:
        told = {
            "lost": [0] * noted["lost"],
            "rows": {row: [0] * times for row, times in noted["rows"].items()},
        }
    return list(told["lost"]), {int(row): list(epochs) for row, epochs in told["rows"].items()}
