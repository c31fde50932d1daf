"""Whether a create took effect. Pure: what was seen goes in, what may be concluded comes out.

`classify` reads the answer to a create. `observe` and `look` add what a reading of the list and a look
at one suspect showed to a `Trail`; `resolve` says what the trail allows. Absence is concluded only after
a grace, measured on the server's clock, in which every reading went deep enough in the right place
and no suspect is left unopened. A suspect is ours only by the nonce in its first result line.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import TypeAlias

import attrs

from batchkit.ids import Nonce, RemoteId
from batchkit.model import Batch, Need, Place
from batchkit.remote import CreateAnswer, RemoteBatch, remote_batch, usable_id
from batchkit.trail import Finding, Known, Reading, Suspect, Trail

__all__ = [
    "Absent",
    "Acknowledged",
    "Answer",
    "Cause",
    "Doubtful",
    "Finding",
    "Held",
    "Known",
    "Open",
    "Proved",
    "Reading",
    "Refused",
    "Resolution",
    "Suspect",
    "Trail",
    "Wait",
    "classify",
    "elsewhere",
    "look",
    "may_be",
    "observe",
    "owner",
    "resolve",
    "stuck",
]

MINUTE = 60.0
DAY = 86_400.0
GRACE = 1_800.0
"""Seconds of server time without a sign of the batch after which it counts as absent."""
SLACK = 600.0
"""How much older than the head an item must be to prove that a reading went deep enough."""
VANISHED = 3_600.0
"""Seconds for which a suspect may be unknown to the API before a person must look."""
OVERDUE = 3_600.0
"""Seconds after its expiry for which a suspect may still be running."""
LONGEST = 2 * DAY
"""No doubt is left open for longer, whatever its readings say."""
ATTEMPTS = 10
"""Readings in a row that must have failed before a person is asked."""


class Cause(str, Enum):
    """Why a create was refused, by what must happen next."""

    TOO_LARGE = "too large"
    RATE = "rate limit"
    QUEUE = "queue full"
    MONEY = "money"
    PERSON = "person"
    UNSENT = "never sent"


@attrs.frozen(kw_only=True)
class Acknowledged:
    """The batch exists, and this is it."""

    remote: RemoteBatch


@attrs.frozen(kw_only=True)
class Refused:
    """The batch does not exist. ``retry_after`` is the wait the server asked for, in seconds."""

    cause: Cause
    message: str = ""
    status: int | None = None
    retry_after: float | None = None


@attrs.frozen(kw_only=True)
class Doubtful:
    """Nobody can know yet. ``suspect`` is an id that an odd answer named."""

    why: str
    suspect: RemoteId | None = None


Answer: TypeAlias = "Acknowledged | Refused | Doubtful"

_REFUSALS = frozenset({400, 401, 402, 403, 404, 413, 422, 429})
_MONEY_CODES = frozenset(
    {"enforced_spend_limit_reached", "contract_spend_limit_reached", "ramp_limit_exceeded"}
)
_MONEY_WORDS = ("specified api usage limits", "credit balance is too low", "spend limit", "spending limit")


def classify(answer: CreateAnswer, sent: int) -> Answer:
    """Read the answer to a create of ``sent`` requests."""
    if answer.status is None:
        return _unanswered(answer)
    if answer.status == 200:
        return _success(answer, sent)
    if answer.status == 413:
        # The edge answers before the API does, so this one may be a page without an error body.
        return Refused(cause=Cause.TOO_LARGE, message=answer.error_message, status=413)
    if answer.status in _REFUSALS and answer.error_type:
        cause = _cause(answer)
        return Refused(
            cause=cause, message=answer.error_message, status=answer.status, retry_after=answer.retry_after
        )
    if not answer.handed_over:
        return Refused(cause=Cause.UNSENT, message=_unsent(answer), status=answer.status)
    kind = answer.error_type or ("JSON without an error" if answer.body is not None else "no JSON")
    return Doubtful(why=f"HTTP {answer.status} ({kind})")


def _unanswered(answer: CreateAnswer) -> Answer:
    if not answer.handed_over:
        return Refused(cause=Cause.UNSENT, message=_unsent(answer))
    # Whatever the error is called: a ConnectError after a whole body was taken means that something sent twice.
    return Doubtful(why=f"no answer ({' < '.join(answer.causes) or 'unknown'})")


def _unsent(answer: CreateAnswer) -> str:
    return f"the request was never complete ({' < '.join(answer.causes) or f'HTTP {answer.status}'})"


def _success(answer: CreateAnswer, sent: int) -> Answer:
    body = answer.body
    if body is None:
        return Doubtful(why="HTTP 200 without a JSON object")
    named = body.get("id")
    suspect = named if usable_id(named) else None
    remote = remote_batch(body)
    if remote is None:
        return Doubtful(why="HTTP 200 without a Message Batch", suspect=suspect)
    if remote.total != sent:
        return Doubtful(why=f"HTTP 200 for {remote.total} requests, {sent} were sent", suspect=suspect)
    if not answer.handed_over:
        return Doubtful(why="HTTP 200 before the body was complete", suspect=suspect)
    return Acknowledged(remote=remote)


def _cause(answer: CreateAnswer) -> Cause:
    text = answer.error_message.lower()
    if (
        answer.status == 402
        or answer.error_type == "billing_error"
        or answer.error_code in _MONEY_CODES
        or any(words in text for words in _MONEY_WORDS)
    ):
        return Cause.MONEY
    if answer.status != 429:
        return Cause.TOO_LARGE if answer.error_type == "request_too_large" else Cause.PERSON
    return Cause.RATE if answer.retry_after is not None else Cause.QUEUE


def observe(batch: Batch, trail: Trail, reading: Reading | None, known: Known, *, now: float) -> Trail:
    """Add one attempt at a reading; None where the list could not be read. ``now`` is the store's clock.

    A reading that does not count breaks the series: the grace starts again at the next one that does.
    Suspects are taken even from readings that do not count, except those of another place.
    """
    # Where the clock was set back, what it said before is no later than now: nobody waits for it to catch up.
    valid_at = None if trail.valid_at is None else min(trail.valid_at, now)
    trail = attrs.evolve(trail, asked_at=now, since=min(trail.since, now), valid_at=valid_at)
    if reading is None:
        return attrs.evolve(trail, failed=trail.failed + 1, void="the list could not be read")
    void = _void(batch, trail, reading, known)
    suspects = dict(trail.suspects)
    if not elsewhere(batch.place, reading.place):
        at = reading.date if reading.date is not None else now
        for item in reading.items:
            if item.id not in suspects and may_be(batch, item, known):
                suspects[item.id] = Suspect(
                    id=item.id, finding=Finding.RUNNING, since=at, seen_at=at, expires_at=item.expires_at
                )
    if void:
        return attrs.evolve(
            trail, suspects=suspects, void=void, failed=trail.failed + 1, first=None, last=None, clean=0
        )
    date = reading.date
    assert date is not None
    begun = date if trail.begun is None else trail.begun
    trail = attrs.evolve(trail, suspects=suspects, void="", failed=0, begun=begun, dated=date, valid_at=now)
    if trail.first is None or trail.last is None:
        return attrs.evolve(trail, first=date, last=date, clean=1)
    if date - trail.last < MINUTE:
        return trail
    return attrs.evolve(trail, last=date, clean=trail.clean + 1)


def look(
    trail: Trail, remote: RemoteId, finding: Finding, *, at: float, expires_at: float | None = None
) -> Trail:
    """Add what a look at one suspect showed; ``at`` is the server's time."""
    before = trail.suspects.get(remote)
    same = before is not None and before.finding is finding
    suspect = Suspect(
        id=remote,
        finding=finding,
        since=before.since if before is not None and same else at,
        seen_at=at,
        expires_at=expires_at if expires_at is not None else before.expires_at if before else None,
    )
    return attrs.evolve(trail, suspects={**trail.suspects, remote: suspect})


def owner(custom_id: str | None, batch: Batch, known: Known) -> Finding:
    """Say whose batch it is whose first result line carries ``custom_id`` (None: the line did not parse)."""
    if custom_id is None:
        return Finding.UNREADABLE
    nonce = Nonce(custom_id.rpartition("-")[2])
    if nonce == batch.nonce:
        return Finding.OURS
    return Finding.OTHER if nonce in known.nonces else Finding.STRANGER


@attrs.frozen(kw_only=True)
class Wait:
    """Nothing can be concluded before another reading, at ``until`` of the store's clock."""

    until: float
    why: str = ""


@attrs.frozen(kw_only=True)
class Open:
    """These suspects must be opened first; look again at ``until`` of the store's clock."""

    suspects: tuple[RemoteId, ...]
    until: float


@attrs.frozen(kw_only=True)
class Proved:
    """This remote batch carries our nonce, and has ended."""

    remote: RemoteId


@attrs.frozen(kw_only=True)
class Absent:
    """The grace is over and every reading in it was clean: the rows may go out again."""


@attrs.frozen(kw_only=True)
class Held:
    """Only a person can decide."""

    need: Need


Resolution: TypeAlias = "Wait | Open | Proved | Absent | Held"


def resolve(
    batch: Batch,
    trail: Trail,
    known: Known | None = None,
    *,
    now: float,
    grace: float = GRACE,
    held_fix: str = "",
) -> Resolution:
    """Say what the trail allows to conclude about a doubtful batch. ``now`` is the store's clock.

    Args:
        batch: The batch in doubt.
        trail: Everything seen since.
        known: What the store knows; only ``late_twin`` matters here.
        now: The store's time, for when to look again and when a person must; never for absence.
        grace: Seconds of server time; infinite holds for a person instead of concluding absence.
        held_fix: What a person types, for the need.
    """
    ours = sorted(s.id for s in trail.suspects.values() if s.finding is Finding.OURS)
    if ours:
        return Proved(remote=ours[0])

    def held(code: str, why: str) -> Held:
        return Held(
            need=Need(
                who="person",
                why=f"batch {batch.id} may or may not exist remotely: {why}",
                fix=held_fix,
                code=code,
            )
        )

    opened = [s for s in trail.suspects.values() if s.open]
    for suspect in opened:
        if (lasting := stuck(suspect)) is not None:
            return held(*lasting)
    if trail.no_list:
        return held("doubt.no_list", "this endpoint has no list of batches to look at")
    # The store's clock may jump, so its word alone is not enough: several attempts must have failed too.
    if now - max(trail.since, trail.valid_at or trail.since) >= DAY and trail.failed >= ATTEMPTS:
        return held("doubt.no_reading", f"no valid reading of the list for 24 hours ({trail.void})")
    if trail.begun is not None and trail.dated is not None and trail.dated - trail.begun >= LONGEST:
        return held("doubt.long", "two days of readings did not settle it")
    if opened:
        return Open(suspects=tuple(sorted(s.id for s in opened)), until=now + MINUTE)
    if trail.first is None or trail.last is None:
        return Wait(until=now + MINUTE, why=trail.void or "no reading yet")
    passed = trail.last - trail.first
    if trail.clean >= 3 and passed >= (grace if math.isfinite(grace) else GRACE):
        if not math.isfinite(grace):
            return held("doubt.grace", "no sign of it was found, and absence is left to a person")
        if known is not None and known.late_twin:
            return held("doubt.twin", "a batch declared absent turned up late in this place before")
        return Absent()
    return Wait(until=now + MINUTE, why=f"{passed:.0f} s of {grace:.0f} s without a sign of it")


def stuck(suspect: Suspect) -> tuple[str, str] | None:
    """Say why an open suspect is waited for no longer, as a code and a sentence; None while it is."""
    lasted = suspect.seen_at - suspect.since
    if suspect.finding is Finding.MISSING and lasted >= VANISHED:
        return "doubt.vanished", f"the suspect {suspect.id} vanished before it could be opened"
    if suspect.finding is Finding.UNREADABLE and lasted >= DAY:
        return "doubt.unreadable", f"the first result line of {suspect.id} is unreadable for 24 hours"
    end = suspect.expires_at if suspect.finding is Finding.RUNNING else None
    if end is not None and suspect.seen_at >= end + OVERDUE:
        return "doubt.overdue", f"the suspect {suspect.id} is more than an hour past its expiry"
    return None


def elsewhere(intended: Place, seen: Place) -> bool:
    """Tell whether two places certainly differ. What one of them was not told proves nothing."""
    return (
        intended.base_url != seen.base_url
        or bool(intended.organization and seen.organization and intended.organization != seen.organization)
        or bool(intended.workspace and seen.workspace and intended.workspace != seen.workspace)
    )


def _in_place(batch: Batch, reading: Reading, known: Known) -> bool:
    if elsewhere(batch.place, reading.place):
        return False
    if batch.place.workspace and batch.place.organization and batch.place == reading.place:
        return True
    # Without the headers only a batch that is certainly of this place proves it: never one that is
    # merely old, never a stranger, never one of our own from another place.
    proof = set(known.in_place) - set(known.strangers)
    if batch.head is not None:
        proof.add(batch.head.remote_id)
    return any(item.id in proof for item in reading.items)


def _void(batch: Batch, trail: Trail, reading: Reading, known: Known) -> str:
    """Give why a reading does not count, or nothing."""
    if reading.cached:
        return "answered by a cache"
    if reading.date is None:
        return "without the server's time"
    if trail.dated is not None and reading.date < trail.dated:
        return "older than the reading before it"
    if not reading.coherent:
        return "pages of several workspaces"
    deep = reading.complete or (
        batch.head is not None
        and any(item.created_at < batch.head.created_at - SLACK for item in reading.items)
    )
    if not deep:
        return "not deep enough"
    if not _in_place(batch, reading, known):
        return "not proved to be of the same place"
    return ""


def may_be(batch: Batch, item: RemoteBatch, known: Known) -> bool:
    """Tell whether a listed batch may be this one: its count, unclaimed, no stranger, no older than its head."""
    if item.total != batch.count or item.id in known.claimed or item.id in known.strangers:
        return False
    if batch.head is None:
        return True
    return item.id != batch.head.remote_id and item.created_at >= batch.head.created_at - SLACK
