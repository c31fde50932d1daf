"""The page in hand: a rule that never ends cannot be killed in its thread, so whoever dies over it is remembered."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

import attrs

from batchkit.errors import StoreError
from batchkit.model import Batch, BatchFacts, Lease
from batchkit.storage import Store

__all__ = ["InHand"]

LOST = 2
"""Readings of one file, or judgings of one row, that must be lost before it is treated with care."""


@attrs.define(kw_only=True)
class InHand:
    """What a batch's notes keep of a reading that is under way, until it is put down in good order.

    The first readings note only that they began. Where two of them ended without a word, every later one
    notes each row before it is judged. A row over which two readings ended is judged no more.

    Attributes:
        lost: Readings that ended without a word.
        row: The number of the member that is being judged, where that is noted.
        rows: Readings that ended over a row, by the number of its member.
    """

    _store: Store = attrs.field(alias="store")
    _lease: Lease = attrs.field(alias="lease")
    _batch: Batch = attrs.field(alias="batch")
    lost: int = 0
    row: int | None = None
    rows: dict[int, int] = attrs.field(factory=dict)

    @classmethod
    def taken_up(cls, store: Store, lease: Lease, batch: Batch) -> InHand:
        """Begin a reading: count what an earlier one left behind, and note that this one began."""
        hand = cls(store=store, lease=lease, batch=batch)
        noted = batch.notes.get("in_hand")
        if isinstance(noted, Mapping):
            hand.rows = {int(number): times for number, times in noted["rows"].items()}
            hand.lost = noted["lost"] + (noted["epoch"] is not None)
            if noted["row"] is not None:
                hand.rows[noted["row"]] = hand.rows.get(noted["row"], 0) + 1
        hand._write(lease.epoch)
        return hand

    @property
    def careful(self) -> bool:
        """Tell whether every row is to be noted before it is judged."""
        return self.lost >= LOST

    @property
    def unjudged(self) -> frozenset[int]:
        """Give the numbers of the members that are judged no more."""
        return frozenset(number for number, times in self.rows.items() if times >= LOST)

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
            self.rows[number] = self.rows.get(number, 0) + 1
            self.lost += 1
        self.row = None
        with suppress(StoreError):  # a lost lease: the note stays as it is and counts as a loss
            self._write(None)

    def _plain(self, epoch: int | None) -> dict[str, object]:
        rows = {str(number): times for number, times in self.rows.items()}
        return {
            "epoch": epoch,
            "lost": self.lost,
            "row": self.row if epoch is not None else None,
            "rows": rows,
        }

    def _write(self, epoch: int | None) -> None:
        state = self._batch.state
        facts = BatchFacts(notes={**self._batch.notes, "in_hand": self._plain(epoch)})
        self._store.move_batch(self._lease, self._batch.id, expect=state, to=state, facts=facts)
