"""The values that pass between parts. Frozen; change by ``attrs.evolve``.

Values that exist once per row of a page are named tuples, because 600,000 of them are made on the
way through; everything else is a keyword-only attrs class.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from enum import Enum
from typing import Literal, NamedTuple, TypeAlias

import attrs

from batchkit.ids import BatchId, Digest, Nonce, RemoteId, ResultId, RowId, RowKey, RunId
from batchkit.reasons import Reason
from batchkit.states import BatchState, Outcome, RowEvent, RowState, RunState
from batchkit.tally import Tally as Tally  # noqa: PLC0414 (part of this module's names)

NANO = 1_000_000_000
"""Nano-dollars in one dollar: every amount in the store is an integer of these."""

PAGE = 500
"""Source records per frozen page. Pages start at multiples of it; only the last may be shorter."""

OnDuplicate: TypeAlias = Literal["refuse", "first", "quarantine"]


class Usage(NamedTuple):
    """Tokens billed for one answer. Total input is input + both cache writes + cache read."""

    input: int = 0
    output: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    cache_read: int = 0


class SourceRow(NamedTuple):
    """One source record on its way into the store.

    ``line`` is the record's canonical JSON, ``[position, key, {field: text or null}]`` with sorted
    field names, no spaces and no newline at its end, in UTF-8: what the page digest is made of.
    ``event`` is one of FROZEN, INPUT_REFUSED, INPUT_SPARSE, UNCHANGED.
    """

    position: int
    key: RowKey
    line: bytes
    size: int
    event: RowEvent = RowEvent.FROZEN
    reason: Reason | None = None
    detail: str = ""
    result: ResultId | None = None


class RowView(NamedTuple):
    """One row as a reader sees it.

    ``fields`` is None unless the reader asked for the source; ``answer``, ``usage``, ``model`` and
    ``by`` are of the row's latest result and empty unless the reader asked for results. ``size`` is
    the encoded length, in bytes, of the record's own text. ``cost`` (nano-dollars) and ``answers``
    count everything the row was billed for so far.
    """

    id: RowId
    key: RowKey
    state: RowState
    reason: Reason | None
    tier: int
    tries: int
    resends: int
    size: int
    batch: BatchId | None
    result: ResultId | None
    cost: int
    answers: int
    fields: Mapping[str, str | None] | None = None
    detail: str = ""
    answer: bytes | None = None
    usage: Usage | None = None
    model: str = ""
    by: str = ""

    def record(self) -> dict[str, str | None]:
        """Give the fields as a dict of one's own, for users' code: it may test for one, or write it as JSON."""
        return dict(self.fields or {})


class Settled(NamedTuple):
    """What one result line, one person's answer or one decision of the run does to one row.

    ``reason``, ``tier``, ``tries`` and ``resends`` are the row's values *after* the event.
    ``verdict`` is what this line itself says (None: valid), which differs from ``reason`` where a
    resend keeps the reason of the last judged answer. ``answer`` is the valid JSON text, or the raw
    text of an answer that was not accepted. ``cost`` is in nano-dollars.
    """

    row: RowId
    event: RowEvent
    reason: Reason | None
    tier: int
    tries: int
    resends: int
    verdict: Reason | None = None
    detail: str = ""
    answer: bytes | None = None
    usage: Usage | None = None
    cost: int = 0
    model: str = ""


class ResultView(NamedTuple):
    """One entry of the append-only results: one line, one person's answer, or one decision."""

    id: ResultId
    row: RowId
    batch: BatchId | None
    event: RowEvent
    tier: int
    verdict: Reason | None
    detail: str
    answer: bytes | None
    usage: Usage | None
    cost: int
    model: str
    by: str


class LedgerLine(NamedTuple):
    """The results of a run that are alike, counted and summed.

    ``stands`` tells that the row is staged and this is its answer; ``tier`` is the row's after the event, as
    in `ResultView`. ``usage`` is None where none was billed or told; ``cost`` is in nano-dollars.
    """

    batch: BatchId | None
    event: RowEvent
    tier: int
    verdict: Reason | None
    model: str
    stands: bool
    results: int
    usage: Usage | None
    cost: int


@attrs.frozen(kw_only=True)
class Seal:
    """The end of freezing: fixes count and digest and checks the keys.

    ``count`` is how many records the source gave; None: told by the page that comes with the seal.
    """

    on_duplicate: OnDuplicate = "refuse"
    count: int | None = None


@attrs.frozen(kw_only=True)
class Place:
    """Where batches live remotely: one list of batches. Empty text means not told by the answers."""

    base_url: str
    organization: str = ""
    workspace: str = ""


@attrs.frozen(kw_only=True)
class Head:
    """The newest remote batch of a place when an intent was made; ``created_at`` is the server's, epoch seconds."""

    remote_id: RemoteId
    created_at: float


@attrs.frozen(kw_only=True)
class Need:
    """What a run waits for that only somebody else can give."""

    who: Literal["person", "money", "operator"]
    why: str
    fix: str
    code: str = ""


@attrs.frozen(kw_only=True)
class NewEvent:
    """An event to be appended in the transaction it reports. ``data`` holds ids, codes and counts only."""

    kind: str
    severity: Literal["info", "warn", "page"] = "info"
    data: Mapping[str, str | int | float | bool | None] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Event:
    """Something that happened, at least once delivered; ``id`` is the same on every delivery."""

    id: str
    kind: str
    run: str
    at: float
    severity: Literal["info", "warn", "page"]
    data: Mapping[str, str | int | float | bool | None]


@attrs.frozen(kw_only=True)
class NewRun:
    """What makes a run. ``options`` is JSON that the workflow reads back (canary, lock, series …)."""

    name: str
    spec: Digest
    parent: RunId | None = None
    options: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class Run:
    """One durable pass of one spec over a set of rows.

    ``rows`` counts the records frozen so far; ``digest`` is set by the seal. Times are epoch seconds.
    """

    id: RunId
    name: str
    spec: Digest
    parent: RunId | None
    options: Mapping[str, object]
    state: RunState
    rows: int
    digest: Digest | None
    created_at: float
    needs: tuple[Need, ...] = ()
    seq: int = 0


@attrs.frozen(kw_only=True)
class RunFacts:
    """What else changes with a move of the run. None: as it was. Events go in the same transaction.

    ``refreeze`` drops the records of a run that is FREEZING, so that it begins again from record 0, under the
    spec of that fingerprint. Nothing was sent of them yet.
    """

    needs: tuple[Need, ...] | None = None
    options: Mapping[str, object] | None = None
    refreeze: Digest | None = None
    events: tuple[NewEvent, ...] = ()


@attrs.frozen(kw_only=True)
class Lease:
    """The right to move one run, until ``until`` (epoch seconds of the store's clock) or the next write."""

    run: RunId
    owner: str
    epoch: int
    until: float


@attrs.frozen(kw_only=True)
class Intent:
    """A batch before it exists remotely.

    ``size`` is the exact body length in bytes, ``reserve`` the worst cost and ``cap`` the store's cap,
    both in nano-dollars (``cap`` None: no cap). ``deadline`` (epoch seconds) is the last moment at which
    it may be claimed. ``head`` None means that the place's list was seen empty.
    """

    nonce: Nonce
    size: int
    place: Place
    head: Head | None
    reserve: int
    cap: int | None
    deadline: float


@attrs.frozen(kw_only=True)
class Batch:
    """Our record of one Message Batch. Amounts are nano-dollars, times epoch seconds.

    ``lines`` counts settled lines, ``spent`` their cost, ``reserved`` what is still set aside.
    ``held_from`` and ``need`` are set while HELD. ``notes`` is free JSON of the part that moves it
    (readings, suspects, counts, digest of the result file, twin ids).
    """

    id: BatchId
    run: RunId
    state: BatchState
    nonce: Nonce
    count: int
    size: int
    place: Place
    head: Head | None
    reserved: int
    deadline: float
    created_at: float
    spent: int = 0
    lines: int = 0
    claim: str = ""
    remote_id: RemoteId | None = None
    sent_at: float | None = None
    expires_at: float | None = None
    held_from: BatchState | None = None
    need: Need | None = None
    notes: Mapping[str, object] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class BatchFacts:
    """What else changes with a move of a batch. None: as it was; ``notes`` replaces the notes whole.

    ``booked`` nano-dollars are added to what the batch spent: answers that were billed and that no row can use.
    """

    claim: str | None = None
    remote_id: RemoteId | None = None
    sent_at: float | None = None
    expires_at: float | None = None
    reserved: int | None = None
    need: Need | None = None
    notes: Mapping[str, object] | None = None
    events: tuple[NewEvent, ...] = ()
    booked: int = 0


@attrs.frozen(kw_only=True)
class Members:
    """The rows of one batch, in the order they were sent; fixed for ever."""

    batch: BatchId
    rows: array[int]


@attrs.frozen(kw_only=True)
class Applied:
    """What a settle did: ``applied`` rows changed; ``ignored`` were no longer where the page took them from."""

    applied: int
    ignored: tuple[RowId, ...] = ()


@attrs.frozen(kw_only=True)
class Where:
    """Which rows to read, and how much of each. None admits everything.

    ``results`` reads all of a row's latest result, ``answers`` its answer alone, which takes half the time.
    """

    states: frozenset[RowState] | None = None
    outcomes: frozenset[Outcome] | None = None
    reasons: frozenset[Reason] | None = None
    tiers: frozenset[int] | None = None
    batch: BatchId | None = None
    source: bool = False
    results: bool = False
    answers: bool = False


@attrs.frozen(kw_only=True)
class BatchWhere:
    """Which batches to read. None admits everything."""

    run: RunId | None = None
    states: frozenset[BatchState] | None = None
    place: Place | None = None
    ids: tuple[BatchId, ...] | None = None


class DocKind(str, Enum):
    """The kinds of immutable documents in a store."""

    SPEC = "spec"
    LOCK = "lock"
    EVALSET = "evalset"
    RECEIPT = "receipt"
    PROMOTION = "promotion"
    READING = "reading"
    REQUEST = "request"
    CAP = "cap"
    JUDGEMENT = "judgement"
    CLAIM = "claim"
    EVENT = "event"
    PILOT = "pilot"
    LOOSE = "loose"
