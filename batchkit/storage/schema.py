"""The tables of a SQLite store and the small integers that stand for codes.

Both only ever grow at their end: a number once written keeps its meaning for ever, and
``MIGRATIONS[n]`` brings a database from version ``n`` to ``n + 1``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from batchkit.reasons import Reason
from batchkit.states import ROW_TRANSITIONS, Outcome, RowEvent, RowState, outcome

APPLICATION_ID: Final = 0x42_4B_49_54
"""``BKIT``: marks a database file as a batchkit store."""

ROW_STATES: Final[tuple[RowState, ...]] = (
    RowState.PENDING,
    RowState.SUBMITTED,
    RowState.SUCCEEDED,
    RowState.HUMAN,
    RowState.QUARANTINED,
    RowState.CANCELED,
    RowState.UNCHANGED,
)

ROW_EVENTS: Final[tuple[RowEvent, ...]] = (
    RowEvent.FROZEN,
    RowEvent.INPUT_REFUSED,
    RowEvent.INPUT_SPARSE,
    RowEvent.UNCHANGED,
    RowEvent.TAKEN,
    RowEvent.UNSENDABLE,
    RowEvent.RUN_CANCELED,
    RowEvent.TWIN_ACCEPTED,
    RowEvent.FREED,
    RowEvent.ACCEPTED,
    RowEvent.RETRIED,
    RowEvent.ESCALATED,
    RowEvent.RESENT,
    RowEvent.MONEY_PAUSED,
    RowEvent.LINE_CANCELED,
    RowEvent.TO_HUMAN,
    RowEvent.QUARANTINED,
    RowEvent.MISSING_ACCEPTED,
    RowEvent.RESULTS_GONE,
    RowEvent.ANSWERED,
    RowEvent.JUDGED_OUT,
    RowEvent.SENT_BACK,
    RowEvent.ANSWER_UNDONE,
)

REASONS: Final[tuple[Reason | None, ...]] = (
    None,
    Reason.INPUT_MISSING_KEY,
    Reason.INPUT_DUPLICATE_KEY,
    Reason.INPUT_UNENCODABLE,
    Reason.INPUT_TOO_LARGE,
    Reason.INPUT_SPARSE,
    Reason.API_INVALID_REQUEST,
    Reason.API_AUTHENTICATION,
    Reason.API_BILLING,
    Reason.API_PERMISSION,
    Reason.API_NOT_FOUND,
    Reason.API_RATE_LIMIT,
    Reason.API_TIMEOUT,
    Reason.API_SERVER,
    Reason.API_OVERLOADED,
    Reason.API_UNKNOWN,
    Reason.API_CREDIT,
    Reason.BATCH_EXPIRED,
    Reason.BATCH_CANCELED,
    Reason.BATCH_MISSING_RESULT,
    Reason.BATCH_UNREADABLE_LINE,
    Reason.BATCH_UNRECOVERABLE,
    Reason.RUN_CANCELED,
    Reason.OUTPUT_TRUNCATED,
    Reason.OUTPUT_REFUSED,
    Reason.OUTPUT_EMPTY,
    Reason.OUTPUT_UNPARSEABLE,
    Reason.OUTPUT_SCHEMA,
    Reason.OUTPUT_RULE,
    Reason.OUTPUT_UNEXPECTED,
    Reason.OUTPUT_SPARSE,
    Reason.HUMAN_UNANSWERABLE,
    Reason.HUMAN_REJECTED,
    Reason.CATALOG_MISSING_KEY,
    Reason.CATALOG_STALE,
)

CODES: Final[Mapping[int, int]] = MappingProxyType(
    {id(member): n for members in (ROW_STATES, ROW_EVENTS, REASONS) for n, member in enumerate(members)}
)
"""The numbers by identity of the member: an enum's own hash is computed in Python, and these are asked several times per row."""


def state_code(state: RowState) -> int:
    """Give the number that stands for a row state."""
    return CODES[id(state)]


def event_code(event: RowEvent) -> int:
    """Give the number that stands for a row event."""
    return CODES[id(event)]


def reason_code(reason: Reason | None) -> int:
    """Give the number that stands for a reason; 0 for none."""
    return CODES[id(reason)]


ALL: Final = -1
"""The mask that admits every code."""


def state_mask(states: Iterable[RowState] | None) -> int:
    """Give the bits of some row states; all bits for None."""
    return ALL if states is None else _mask(map(state_code, states))


def reason_mask(reasons: Iterable[Reason] | None) -> int:
    """Give the bits of some reasons; all bits, "no reason" among them, for None."""
    return ALL if reasons is None else _mask(map(reason_code, reasons))


def tier_mask(tiers: Iterable[int] | None) -> int:
    """Give the bits of some tiers; all bits for None."""
    return ALL if tiers is None else _mask(t for t in tiers if 0 <= t < 63)


def outcome_masks(outcomes: Iterable[Outcome] | None) -> tuple[int, int]:
    """Give two masks that admit the outcomes: of states, and of reasons within QUARANTINED."""
    if outcomes is None:
        return ALL, ALL
    wanted = frozenset(outcomes)
    quarantined = _mask(n for n, r in enumerate(REASONS) if outcome(RowState.QUARANTINED, r) in wanted)
    states = _mask(
        n
        for n, s in enumerate(ROW_STATES)
        if (quarantined if s is RowState.QUARANTINED else outcome(s, None) in wanted)
    )
    return states, quarantined


def _mask(codes: Iterable[int]) -> int:
    bits = 0
    for code in codes:
        bits |= 1 << code
    return bits


def _by_event(of: Mapping[RowEvent, RowState | None]) -> str:
    # The branches are tried in order, and nearly every event is an accepted answer.
    ordered = sorted(enumerate(ROW_EVENTS), key=lambda item: item[1] is not RowEvent.ACCEPTED)
    whens = " ".join(f"WHEN {n} THEN {state_code(state)}" for n, e in ordered if (state := of[e]) is not None)
    return f"CASE event {whens} END"


EVENT_ORIGIN: Final = _by_event({event: origin for event, (origin, _) in ROW_TRANSITIONS.items()})
"""SQL: the state that the column ``event`` takes a row from."""

EVENT_TARGET: Final = _by_event({event: to for event, (_, to) in ROW_TRANSITIONS.items()})
"""SQL: the state that the column ``event`` brings a row to."""

_FIRST: Final = (
    """
    CREATE TABLE run (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        spec TEXT NOT NULL,
        parent INTEGER REFERENCES run (id),
        options TEXT NOT NULL,
        state TEXT NOT NULL,
        rows INTEGER NOT NULL DEFAULT 0,
        digest TEXT,
        created_at REAL NOT NULL,
        needs TEXT NOT NULL DEFAULT '[]',
        seq INTEGER NOT NULL DEFAULT 0,
        epoch INTEGER NOT NULL DEFAULT 0,
        owner TEXT NOT NULL DEFAULT '',
        lease_until REAL NOT NULL DEFAULT 0,
        lease_ttl REAL NOT NULL DEFAULT 0
    ) STRICT
    """,
    # One frozen page: its id is the row id of its first record. `lines` comes last, so that a reader
    # of keys and sizes never touches it.
    """
    CREATE TABLE source_page (
        id INTEGER PRIMARY KEY,
        count INTEGER NOT NULL,
        digest TEXT NOT NULL,
        sizes BLOB NOT NULL,
        keys BLOB NOT NULL,
        lines BLOB NOT NULL
    ) STRICT
    """,
    # What the freezer had to say about a record it did not let pass; rare.
    "CREATE TABLE refusal (row INTEGER PRIMARY KEY, detail TEXT NOT NULL) STRICT",
    # The only table that is updated per row. No index beyond the key: one would double the cost of a settle.
    """
    CREATE TABLE row_state (
        id INTEGER PRIMARY KEY,
        state INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        tier INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        resends INTEGER NOT NULL,
        batch INTEGER,
        result INTEGER,
        cost INTEGER NOT NULL,
        answers INTEGER NOT NULL
    ) STRICT
    """,
    # Append-only. `reason` to `resends` are the row's values after the event, `verdict` what this line says.
    """
    CREATE TABLE result (
        id INTEGER PRIMARY KEY,
        row INTEGER NOT NULL,
        batch INTEGER,
        event INTEGER NOT NULL,
        reason INTEGER NOT NULL,
        tier INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        resends INTEGER NOT NULL,
        verdict INTEGER NOT NULL,
        cost INTEGER NOT NULL,
        input INTEGER,
        output INTEGER,
        cache_write_5m INTEGER,
        cache_write_1h INTEGER,
        cache_read INTEGER,
        model INTEGER NOT NULL,
        by INTEGER NOT NULL,
        detail TEXT NOT NULL,
        answer BLOB
    ) STRICT
    """,
    # Models and people: few texts, named by number in every result.
    "CREATE TABLE name (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT",
    """
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY,
        run INTEGER NOT NULL REFERENCES run (id),
        state TEXT NOT NULL,
        nonce TEXT NOT NULL UNIQUE,
        count INTEGER NOT NULL,
        size INTEGER NOT NULL,
        base_url TEXT NOT NULL,
        organization TEXT NOT NULL,
        workspace TEXT NOT NULL,
        head_id TEXT,
        head_at REAL,
        reserved INTEGER NOT NULL,
        deadline REAL NOT NULL,
        created_at REAL NOT NULL,
        spent INTEGER NOT NULL DEFAULT 0,
        lines INTEGER NOT NULL DEFAULT 0,
        claim TEXT NOT NULL DEFAULT '',
        remote_id TEXT UNIQUE,
        sent_at REAL,
        expires_at REAL,
        held_from TEXT,
        need TEXT,
        notes TEXT NOT NULL DEFAULT '{}'
    ) STRICT
    """,
    "CREATE TABLE member (batch INTEGER PRIMARY KEY REFERENCES batch (id), rows BLOB NOT NULL) STRICT",
    "CREATE TABLE stranger (workspace TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (workspace, id)) STRICT, WITHOUT ROWID",
    """
    CREATE TABLE document (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        digest TEXT NOT NULL,
        at REAL NOT NULL,
        body BLOB NOT NULL,
        UNIQUE (kind, key)
    ) STRICT
    """,
)

_SERIES: Final = (
    # Of a series (its first run), the row that was staged last for each key: hashes, so that a row is 40 bytes.
    """
    CREATE TABLE last_staged (
        series INTEGER NOT NULL,
        key INTEGER NOT NULL,
        row INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (series, key)
    ) STRICT, WITHOUT ROWID
    """,
    # Up to which result the table above has followed a series.
    "CREATE TABLE series (run INTEGER PRIMARY KEY, until INTEGER NOT NULL) STRICT",
)

MIGRATIONS: Final[tuple[tuple[str, ...], ...]] = (_FIRST, _SERIES)
"""Append-only: the statements that bring a database from each version to the next."""

VERSION: Final = len(MIGRATIONS)
"""The version of the tables this code reads and writes (``user_version``)."""
