"""What the simulated provider holds: its time, its batches, its bill, and the journal of them."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from batchkit.testing.answers import Model
from batchkit.testing.batch import Batch, Settled, settle
from batchkit.testing.bill import Bill, Invoice, InvoiceWriter
from batchkit.testing.http import APIError
from batchkit.testing.journal import Journal
from batchkit.testing.lines import Lines
from batchkit.testing.settings import Settings

__all__ = ["World", "opaque_id"]

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def opaque_id(prefix: str, *parts: object) -> str:
    """Return an id that looks random and depends on ``parts`` alone."""
    number = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=16).digest(), "big")
    digits = []
    for _ in range(21):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return f"{prefix}_01{''.join(digits)}"


class World:
    """The state behind the API. Every change is journaled before it takes effect; not safe for threads.

    Args:
        model: Answers the requests.
        settings: Limits and habits.
        state: The journal's file; what it holds is taken up again.

    Raises:
        ValueError: The journal was written under another seed.
    """

    def __init__(self, model: Model, settings: Settings, state: Path | None) -> None:
        self.model = model
        self.settings = settings
        self.now: float = settings.start
        self.starts: int = 0
        self._batches: dict[str, Batch] = {}
        self._direct: list[Invoice] = []
        self._asked: Counter[str] = Counter()
        self._journal: Journal | None = None
        if state is not None:
            journal = Journal(state)
            try:
                for record, lines in journal.read():
                    self._replay(record, lines)
            except BaseException:
                journal.close()
                raise
            self._journal = journal
        self._commit({"op": "start", "seed": settings.seed, "now": self.now})

    def close(self) -> None:
        """Close the journal, if there is one."""
        if self._journal is not None:
            self._journal.close()

    # -- time

    def advance(self, seconds: float) -> None:
        """Move virtual time forward, and answer the requests of the batches that ended by then.

        Answering takes real time. Here it is spent by whoever sleeps, not by whoever asks next.
        """
        self._commit({"op": "advance", "now": self.now + seconds})
        for batch in self._batches.values():
            if batch.settled is None and self.now >= batch.ended_at:
                self.settled(batch)

    # -- batches

    def create(self, workspace: str, version: str, requests: Lines, size: int) -> Batch:
        """Take a batch in.

        Raises:
            APIError: The queue is full.
        """
        limit = self.settings.queue_limit
        if self.waiting() + size > limit:
            raise APIError(
                "rate_limit_error",
                f"This batch of {size} requests would exceed your organization's limit of {limit} requests in the batch queue",
            )
        serial = len(self._batches) + 1
        rng = random.Random(f"{self.settings.seed}:batch:{serial}")
        batch = Batch(
            id=opaque_id("msgbatch", self.settings.seed, serial),
            serial=serial,
            workspace=workspace,
            version=version,
            size=size,
            created_at=self.now,
            done_at=self.now + self.settings.latency.draw(rng),
            drain=rng.uniform(*self.settings.drain),
            requests=requests,
        )
        fields = attrs.asdict(batch, filter=lambda field, _: field.name in _CREATED)
        self._commit({"op": "create", **fields}, requests)
        return self._batches[batch.id]

    def cancel(self, batch: Batch) -> None:
        """Begin to cancel a batch that has not ended."""
        self._commit({"op": "cancel", "id": batch.id, "at": self.now})

    def delete(self, batch: Batch) -> None:
        """Forget a batch that has ended; its bill stays."""
        self._commit({"op": "delete", "id": batch.id})

    def find(self, workspace: str, batch_id: str) -> Batch:
        """Return a batch of this workspace.

        Raises:
            APIError: There is none.
        """
        batch = self._batches.get(batch_id)
        if batch is None or batch.deleted or batch.workspace != workspace:
            raise APIError("not_found_error", f"Message batch {batch_id} not found")
        return batch

    def listed(self, workspace: str) -> list[Batch]:
        """Return the batches of this workspace, newest first."""
        return [
            batch
            for batch in reversed(self._batches.values())
            if batch.workspace == workspace and not batch.deleted
        ]

    def batches(self) -> list[Batch]:
        """Return every batch ever made, oldest first, deleted ones included."""
        return list(self._batches.values())

    def waiting(self) -> int:
        """Return how many requests wait in batches that have not ended."""
        return sum(batch.size for batch in self._batches.values() if self.now < batch.ended_at)

    def settled(self, batch: Batch) -> Settled:
        """Return what an ended batch holds; answers its requests on the first call."""
        if batch.settled is None:
            assert batch.requests is not None
            assert self.now >= batch.ended_at
            batch.settled = settle(batch, batch.requests, self.model, self.settings.seed)
            batch.requests = None
        return batch.settled

    # -- money

    def bill(self) -> Bill:
        """Return what was charged: every batch that has ended, and every direct message."""
        ended = (
            self.settled(batch).invoice for batch in self._batches.values() if self.now >= batch.ended_at
        )
        return Bill.of([*ended, *self._direct])

    def times_asked(self, digest: str) -> int:
        """Return how often a direct message with this digest was asked for."""
        return self._asked[digest]

    def charge(self, digest: str, model: str, usage: Mapping[str, Any] | None) -> None:
        """Record a direct message: asked for once more and, unless ``usage`` is None, paid."""
        self._commit({"op": "direct", "digest": digest, "model": model, "usage": usage})

    # -- the journal

    def _commit(self, record: dict[str, Any], lines: Lines | None = None) -> None:
        if self._journal is not None:
            self._journal.append(record, lines)
        self._apply(record, lines)

    def _replay(self, record: dict[str, Any], lines: Lines) -> None:
        if record["op"] == "start" and record["seed"] != self.settings.seed:
            raise ValueError(
                f"this state was written with seed {record['seed']}, not {self.settings.seed}: "
                "start with the same seed, or with a new file"
            )
        self._apply(record, lines)

    def _apply(self, record: dict[str, Any], lines: Lines | None) -> None:
        """Change the state; the same for what happens now and for what is read back."""
        op = record["op"]
        if op == "start":
            self.starts += 1
            self.now = record["now"]
        elif op == "advance":
            self.now = record["now"]
        elif op == "create":
            fields = {name: record[name] for name in _CREATED}
            self._batches[record["id"]] = Batch(**fields, requests=lines)
        elif op == "cancel":
            self._batches[record["id"]].cancel_at = record["at"]
        elif op == "delete":
            self._batches[record["id"]].deleted = True
        elif op == "direct":
            self._asked[record["digest"]] += 1
            if record["usage"] is not None:
                invoice = InvoiceWriter(None)
                invoice.add(None, record["model"], record["usage"])
                self._direct.append(invoice.close())


_CREATED = ("id", "serial", "workspace", "version", "size", "created_at", "done_at", "drain")
