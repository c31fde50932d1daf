"""What is kept of a create beyond its answer: the watch for a copy of it, and the copies that were found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from batchkit.ids import RemoteId
from batchkit.model import Batch, Usage
from batchkit.remote import RemoteBatch
from batchkit.states import BatchState
from batchkit.trail import Suspect, suspects_from, suspects_plain

__all__ = [
    "LENGTH",
    "NEVER_TAKEN",
    "REPLAYED_WITHIN",
    "Share",
    "Twin",
    "Watch",
    "claimed_by",
    "set_aside",
    "twins_of",
    "unread",
    "was_late",
    "watch_of",
]

LENGTH = 90_000.0
"""Seconds of server time for which a create is watched once its last byte left: 25 hours."""
REPLAYED_WITHIN = 1_800.0
"""Seconds after an answered create within which a proxy's replay of it would have arrived."""
NEVER_TAKEN = frozenset({BatchState.ABSENT, BatchState.REJECTED})
"""States in which a batch counts as never created, so that its rows went elsewhere."""


@attrs.frozen(kw_only=True)
class Watch:
    """The lookout for a remote copy of a batch whose last byte left.

    ``until``, ``latest`` and ``ended_at`` are of the server's clock. A remote batch created after ``latest``
    is no copy (None: it may be, whenever it was created). ``next_at`` is of the store's clock: when the next
    look is due. Suspects in ``overruled`` were seen by the person who declared the batch absent all the same.
    """

    until: float
    latest: float | None = None
    suspects: Mapping[RemoteId, Suspect] = attrs.field(factory=dict)
    overruled: frozenset[RemoteId] = frozenset()
    next_at: float | None = None
    ended_at: float | None = None

    @property
    def running(self) -> bool:
        """Tell whether the watch has not ended."""
        return self.ended_at is None

    @property
    def open(self) -> list[Suspect]:
        """Give the suspects that nobody has opened yet."""
        return [suspect for suspect in self.suspects.values() if suspect.open]

    def covers(self, item: RemoteBatch) -> bool:
        """Tell whether a remote batch is old enough to be a copy."""
        return self.latest is None or item.created_at <= self.latest

    def to_json(self) -> dict[str, object]:
        """Give plain JSON for a batch's notes."""
        return {
            "until": self.until,
            "latest": self.latest,
            "suspects": suspects_plain(self.suspects),
            "overruled": sorted(self.overruled),
            "next_at": self.next_at,
            "ended_at": self.ended_at,
        }


def watch_of(batch: Batch) -> Watch | None:
    """Read a batch's watch from its notes."""
    noted = batch.notes.get("watch")
    if not isinstance(noted, Mapping):
        return None
    return Watch(
        until=noted["until"],
        latest=noted.get("latest"),
        suspects=suspects_from(noted.get("suspects")),
        overruled=frozenset(noted.get("overruled") or ()),
        next_at=noted.get("next_at"),
        ended_at=noted.get("ended_at"),
    )


@attrs.frozen(kw_only=True)
class Share:
    """Lines of a twin that no row could use, by what they are, who answered and what was said of them.

    ``use`` is "duplicate" (the row has been paid for elsewhere) or "unused" (the row was canceled).
    """

    use: str
    model: str
    tier: int
    verdict: str
    lines: int
    usage: Usage
    cost: int


@attrs.frozen(kw_only=True)
class Twin:
    """A second remote batch of the same create.

    ``read_at`` is None until all of it is booked. ``lines`` are those of its file, ``applied`` those that a row
    took; the others are in ``shares``. ``readings`` and ``counted_at`` count readings that did not agree with what
    was sent, ``why`` says what stood in the way of a complete one.
    """

    remote_id: RemoteId
    found_at: float
    read_at: float | None = None
    lines: int = 0
    applied: int = 0
    shares: tuple[Share, ...] = ()
    sha256: str = ""
    readings: int = 0
    counted_at: float | None = None
    why: str = ""

    @property
    def cost(self) -> int:
        """Give what the lines cost that no row could use, in nano-dollars."""
        return sum(share.cost for share in self.shares)

    def to_json(self) -> dict[str, object]:
        """Give plain JSON for a batch's notes."""
        plain: dict[str, object] = attrs.asdict(self, recurse=False)
        plain["shares"] = [[*attrs.astuple(share, recurse=False)] for share in self.shares]
        return plain


def twins_of(batch: Batch) -> tuple[Twin, ...]:
    """Give the twins of a batch that were found, in that order."""
    noted = batch.notes.get("twins")
    return tuple(map(_twin, noted)) if isinstance(noted, Sequence) else ()


def unread(batch: Batch) -> list[Twin]:
    """Give the twins whose lines are not booked yet."""
    if batch.state in {BatchState.UNRECOVERABLE, BatchState.HELD} and was_late(batch):
        # The batch's own twin is decided by a person or gone; others wait for nothing.
        return [t for t in twins_of(batch) if t.read_at is None and t.remote_id != batch.remote_id]
    return [twin for twin in twins_of(batch) if twin.read_at is None]


def set_aside(twins: Sequence[Twin]) -> list[dict[str, object]]:
    """Give twins as plain JSON for a batch's notes."""
    return [twin.to_json() for twin in twins]


def was_late(batch: Batch) -> bool:
    """Tell whether the batch turned up after it had counted as never created."""
    return batch.notes.get("late") is not None


def claimed_by(batch: Batch) -> list[RemoteId]:
    """Give every remote id that is known to be this batch's."""
    own = [] if batch.remote_id is None else [batch.remote_id]
    return [*own, *(twin.remote_id for twin in twins_of(batch))]


def _twin(noted: Mapping[str, Any]) -> Twin:
    shares = tuple(
        Share(use=use, model=model, tier=tier, verdict=verdict, lines=lines, usage=Usage(*usage), cost=cost)
        for use, model, tier, verdict, lines, usage, cost in noted["shares"]
    )
    return Twin(**{**noted, "shares": shares})
