"""What was seen of a doubtful batch, as values."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum

import attrs

from batchkit.ids import Nonce, RemoteId
from batchkit.model import Place
from batchkit.remote import RemoteBatch

__all__ = ["Finding", "Known", "Reading", "Suspect", "Trail", "suspects_from", "suspects_plain"]


@attrs.frozen(kw_only=True)
class Reading:
    """One pass over the list of remote batches: one credential, from the newest as deep as was asked.

    Args:
        date: The server's time when the newest items were listed. None: not told.
        place: What the headers of the pages say.
        items: Everything seen, newest first.
        complete: The end of the list was reached.
        coherent: Every page named the same organization and workspace.
        cached: A cache in between answered (``Age`` above 0).
    """

    date: float | None
    place: Place
    items: tuple[RemoteBatch, ...]
    complete: bool
    coherent: bool = True
    cached: bool = False


@attrs.frozen(kw_only=True)
class Known:
    """What the store knows, for telling one's own batches from strangers.

    Args:
        nonces: Every nonce of the store.
        claimed: Remote ids that batches of the store hold.
        in_place: Those of them that were acknowledged, or proved by nonce, in the place in question.
        strangers: Remote ids that were opened and are not ours.
        late_twin: A batch that had been declared absent turned up in this place before.
    """

    nonces: AbstractSet[Nonce] = frozenset()
    claimed: AbstractSet[RemoteId] = frozenset()
    in_place: AbstractSet[RemoteId] = frozenset()
    strangers: AbstractSet[RemoteId] = frozenset()
    late_twin: bool = False


class Finding(str, Enum):
    """What a look at one suspect showed."""

    RUNNING = "running"
    OURS = "ours"
    OTHER = "of another batch of this store"
    STRANGER = "stranger"
    UNREADABLE = "unreadable"
    MISSING = "missing"


@attrs.frozen(kw_only=True)
class Suspect:
    """A remote batch that may be ours.

    ``since`` is when the finding became what it is, ``seen_at`` when it was last looked at and
    ``expires_at`` when it ends at the latest, all of the server's clock.
    """

    id: RemoteId
    finding: Finding
    since: float
    seen_at: float
    expires_at: float | None = None

    @property
    def open(self) -> bool:
        """Tell whether it may still turn out to be ours."""
        return self.finding in {Finding.RUNNING, Finding.UNREADABLE, Finding.MISSING}


@attrs.frozen(kw_only=True)
class Trail:
    """Everything seen since a batch became doubtful.

    ``since``, ``valid_at`` and ``asked_at`` are of the store's clock: the beginning, the last valid reading
    and the last attempt, after ``failed`` attempts in a row without one. The others are of the server's:
    ``begun`` and ``dated``, the first and newest reading, ``first`` and ``last``, those of an unbroken
    series of ``clean`` valid ones.
    """

    since: float
    begun: float | None = None
    dated: float | None = None
    first: float | None = None
    last: float | None = None
    clean: int = 0
    failed: int = 0
    valid_at: float | None = None
    suspects: Mapping[RemoteId, Suspect] = attrs.field(factory=dict)
    void: str = ""
    no_list: bool = False
    asked_at: float | None = None

    def to_json(self) -> dict[str, object]:
        """Give plain JSON for a batch's notes."""
        plain: dict[str, object] = attrs.asdict(self, recurse=False)
        plain["suspects"] = suspects_plain(self.suspects)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, object]) -> Trail:
        """Read what `to_json` gave."""
        fields = dict(plain)
        suspects = suspects_from(fields.pop("suspects", None))
        # Written by `to_json`, so of these types; a store is not asked to prove it.
        return cls(suspects=suspects, **fields)  # type: ignore[arg-type]


def suspects_plain(suspects: Mapping[RemoteId, Suspect]) -> list[list[object]]:
    """Give suspects as plain JSON."""
    return [[s.id, s.finding.value, s.since, s.seen_at, s.expires_at] for _, s in sorted(suspects.items())]


def suspects_from(listed: object) -> dict[RemoteId, Suspect]:
    """Read what `suspects_plain` gave."""
    return {
        remote: Suspect(
            id=remote, finding=Finding(finding), since=since, seen_at=seen_at, expires_at=expires_at
        )
        for remote, finding, since, seen_at, expires_at in (listed if isinstance(listed, list) else ())
    }
