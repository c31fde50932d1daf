"""The numbers written into a store keep their meaning for ever."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from enum import Enum
from pathlib import Path

import pytest

from batchkit.ids import Digest, RowKey, RunId
from batchkit.model import SourceRow
from batchkit.reasons import Reason
from batchkit.states import ROW_TRANSITIONS, Outcome, RowEvent, RowState, outcome
from batchkit.storage import schema
from batchkit.storage.sqlite import SQLiteStore

FIRST = {  # what version 1 wrote: these digests are never edited, the lists only grow behind them
    "states": (schema.ROW_STATES, 7, "PENDING SUBMITTED SUCCEEDED HUMAN QUARANTINED CANCELED UNCHANGED"),
    "events": (
        schema.ROW_EVENTS,
        23,
        (
            "FROZEN INPUT_REFUSED INPUT_SPARSE UNCHANGED TAKEN UNSENDABLE RUN_CANCELED TWIN_ACCEPTED FREED ACCEPTED RETRIED "
            "ESCALATED RESENT MONEY_PAUSED LINE_CANCELED TO_HUMAN QUARANTINED MISSING_ACCEPTED RESULTS_GONE ANSWERED "
            "JUDGED_OUT SENT_BACK ANSWER_UNDONE"
        ),
    ),
    "reasons": (
        schema.REASONS[1:],
        34,
        (
            "INPUT_MISSING_KEY INPUT_DUPLICATE_KEY INPUT_UNENCODABLE INPUT_TOO_LARGE INPUT_SPARSE API_INVALID_REQUEST "
            "API_AUTHENTICATION API_BILLING API_PERMISSION API_NOT_FOUND API_RATE_LIMIT API_TIMEOUT API_SERVER API_OVERLOADED "
            "API_UNKNOWN API_CREDIT BATCH_EXPIRED BATCH_CANCELED BATCH_MISSING_RESULT BATCH_UNREADABLE_LINE BATCH_UNRECOVERABLE "
            "RUN_CANCELED OUTPUT_TRUNCATED OUTPUT_REFUSED OUTPUT_EMPTY OUTPUT_UNPARSEABLE OUTPUT_SCHEMA OUTPUT_RULE "
            "OUTPUT_UNEXPECTED OUTPUT_SPARSE HUMAN_UNANSWERABLE HUMAN_REJECTED CATALOG_MISSING_KEY CATALOG_STALE"
        ),
    ),
}


@pytest.mark.parametrize(("members", "count", "names"), FIRST.values(), ids=FIRST)
def test_the_first_numbers_stay(members: tuple[Enum, ...], count: int, names: str) -> None:
    """What a number meant in version 1 it means now."""
    assert [member.name for member in members[:count]] == names.split()


def test_no_reason_is_zero() -> None:
    """A row without a reason carries the number 0."""
    assert schema.REASONS[0] is None
    assert schema.reason_code(None) == 0


@pytest.mark.parametrize(
    ("members", "all_of"),
    [(schema.ROW_STATES, RowState), (schema.ROW_EVENTS, RowEvent), (schema.REASONS[1:], Reason)],
)
def test_every_member_has_one_number(members: tuple[Enum, ...], all_of: Iterable[Enum]) -> None:
    """Each state, event and reason stands in its list exactly once."""
    assert sorted(members, key=str) == sorted(all_of, key=str)


def test_numbers_keep_their_meaning() -> None:
    """The numbers that version 0.1.0 wrote stand for the same states, events and reasons; others come after them."""
    first = (schema.ROW_STATES[:7], schema.ROW_EVENTS[:23], schema.REASONS[:35])
    text = "\n".join(" ".join("" if one is None else one.value for one in codes) for codes in first)
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "7194080221bed67af433d627050a8e27cd5edfd708374f63e57ac514df6a7ae9"
    )


def test_every_code_fits_a_mask() -> None:
    """States and reasons can be filtered by the bits of a 64-bit integer."""
    assert max(map(len, (schema.ROW_STATES, schema.REASONS))) < 63


def test_masks_admit_what_outcomes_say() -> None:
    """For every state and reason, the two masks of an outcome agree with the outcome of the row."""
    for wanted in Outcome:
        states, quarantined = schema.outcome_masks({wanted})
        for state in RowState:
            for reason in schema.REASONS:
                admitted = states >> schema.state_code(state) & 1
                if state is RowState.QUARANTINED:
                    admitted &= quarantined >> schema.reason_code(reason)
                assert bool(admitted & 1) == (outcome(state, reason) is wanted)


def test_sql_follows_the_transition_table() -> None:
    """Origin and target of every event, as SQL computes them, are those of the table."""
    store = SQLiteStore()
    with store._db.read() as connection:
        for event, (origin, to) in ROW_TRANSITIONS.items():
            statement = f"SELECT {schema.EVENT_ORIGIN}, {schema.EVENT_TARGET} FROM (SELECT ? AS event)"
            found = connection.execute(statement, (schema.event_code(event),)).fetchone()
            assert found == (None if origin is None else schema.state_code(origin), schema.state_code(to))
    store.close()


def test_the_first_migration_stays() -> None:
    """The statements that made version 1 are not edited; another version appends its own."""
    text = "\n".join(" ".join(statement.split()) for statement in schema.MIGRATIONS[0])
    assert (
        hashlib.sha256(text.encode()).hexdigest()
        == "ed500b00466963e0ddcac4e1332c60669f727495eefaa0e44f5437a9b684d2c8"
    )


def test_a_store_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    """A file that older code wrote gets the tables it lacks when it is opened; its runs stay."""
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as old:
        for statement in schema.MIGRATIONS[0]:
            old.execute(statement)
        old.execute(
            "INSERT INTO run (id, name, spec, options, state, created_at) VALUES (1, 'old', 'x', '{}', 'closed', 1.0)"
        )
        old.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.commit()
    with closing(SQLiteStore(path)) as store:
        assert [run.name for run in store.runs()] == ["old"]
        assert store.find_staged(RunId(1), Digest("x"), [SourceRow(0, RowKey("k"), b'[0,"k",{}]', 2)]) == [
            None
        ]
