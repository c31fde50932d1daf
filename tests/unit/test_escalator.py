"""What happens to a row after each verdict."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.escalator import Disposition, Escalator
from batchkit.policy import (
    Escalate,
    Pause,
    Policy,
    Quarantine,
    Resend,
    Retry,
    ToHuman,
    escalate,
    human,
    pause,
    quarantine,
    resend,
    retry,
)
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.spec import Spec
from batchkit.states import RowEvent
from batchkit.tier import Tier


class Answer(BaseModel):
    a: int


def make(policy: Policy | None = None, tiers: int = 2) -> Escalator:
    spec = Spec(
        Contract(Answer),
        Prompt("{t}"),
        key="sku",
        tiers=[Tier("claude-haiku-4-5", max_tokens=300)] * tiers,
        policy=policy or Policy.default(),
    )
    return Escalator(spec)


@pytest.mark.parametrize(
    ("reason", "tier", "tries", "resends", "expected"),
    [
        (None, 0, 0, 0, (RowEvent.ACCEPTED, 0, 1, 0)),
        (None, 1, 2, 3, (RowEvent.ACCEPTED, 1, 3, 3)),
        ("batch.expired", 0, 0, 0, (RowEvent.RESENT, 0, 0, 1)),
        ("batch.expired", 1, 1, 2, (RowEvent.RESENT, 1, 1, 3)),
        ("batch.expired", 0, 0, 3, (RowEvent.QUARANTINED, 0, 0, 3)),
        ("batch.canceled", 0, 0, 0, (RowEvent.RESENT, 0, 0, 1)),
        ("output.unparseable", 0, 0, 0, (RowEvent.RETRIED, 0, 1, 0)),
        ("output.unparseable", 0, 1, 2, (RowEvent.ESCALATED, 1, 0, 0)),
        ("output.unparseable", 1, 0, 0, (RowEvent.RETRIED, 1, 1, 0)),
        ("output.unparseable", 1, 1, 0, (RowEvent.QUARANTINED, 1, 2, 0)),
        ("output.schema", 0, 0, 1, (RowEvent.ESCALATED, 1, 0, 0)),
        ("output.schema", 1, 0, 0, (RowEvent.QUARANTINED, 1, 1, 0)),
        ("output.refused", 0, 0, 0, (RowEvent.TO_HUMAN, 0, 1, 0)),
        ("output.sparse", 1, 1, 0, (RowEvent.TO_HUMAN, 1, 2, 0)),
        ("api.invalid_request", 0, 0, 0, (RowEvent.QUARANTINED, 0, 0, 0)),
        ("api.credit", 0, 1, 2, (RowEvent.MONEY_PAUSED, 0, 1, 2)),
        ("batch.unreadable_line", 0, 0, 0, (RowEvent.QUARANTINED, 0, 0, 0)),
        ("output.unexpected", 0, 0, 0, (RowEvent.QUARANTINED, 0, 1, 0)),
    ],
)
def test_the_default_ladders_step_by_step(
    reason: str | None, tier: int, tries: int, resends: int, expected: tuple[Any, ...]
) -> None:
    """Each verdict moves a row as the ladder of its reason says, and counts what it should."""
    code = {r.value: r for r in Reason}[reason] if reason else None
    found = make().decide(code, tier=tier, tries=tries, resends=resends)
    assert (found.event, found.tier, found.tries, found.resends) == expected
    assert found.reason is code


def test_the_ladder_of_the_latest_reason_counts_all_tries() -> None:
    """Tries count judged answers whatever their reason: a second failure of another kind does not retry afresh."""
    escalator = make()
    first = escalator.decide(Reason.OUTPUT_UNPARSEABLE, tier=0, tries=0, resends=0)
    assert first.event is RowEvent.RETRIED
    second = escalator.decide(
        Reason.OUTPUT_TRUNCATED, tier=first.tier, tries=first.tries, resends=first.resends
    )
    assert second.event is RowEvent.ESCALATED


def test_a_resend_keeps_what_the_row_was_judged_for() -> None:
    """A row sent again keeps its reason and tries, so that the request goes out as the retry it was."""
    policy = Policy.default().on("output.schema", retry(show_error=True), escalate(), quarantine())
    escalator = make(policy)
    retried = escalator.decide(Reason.OUTPUT_SCHEMA, tier=0, tries=0, resends=0)
    resent = escalator.decide(Reason.BATCH_EXPIRED, tier=0, tries=retried.tries, resends=0)
    assert (resent.event, resent.keep_reason, resent.tries) == (RowEvent.RESENT, True, 1)
    assert policy.step(retried.reason, resent.tries) == Retry(show_error=True)
    paused = escalator.decide(Reason.API_CREDIT, tier=0, tries=1, resends=1)
    assert (paused.event, paused.keep_reason) == (RowEvent.MONEY_PAUSED, True)
    assert not retried.keep_reason


def test_a_pause_counts_nothing() -> None:
    """A ladder that pauses on an answer leaves the row's counts as they were."""
    escalator = make(Policy.default().on("output.rule", pause()))
    found = escalator.decide(Reason.OUTPUT_RULE, tier=0, tries=1, resends=2)
    assert (found.event, found.tier, found.tries, found.resends) == (RowEvent.MONEY_PAUSED, 0, 1, 2)


def test_a_canceled_line_of_a_canceling_run() -> None:
    """A canceled line that was asked for closes the row; one that nobody asked for is sent again."""
    found = make().decide(Reason.BATCH_CANCELED, tier=0, tries=0, resends=0, canceling=True)
    assert (found.event, found.reason, found.step) == (RowEvent.LINE_CANCELED, Reason.BATCH_CANCELED, None)
    other = make().decide(Reason.BATCH_EXPIRED, tier=0, tries=0, resends=0, canceling=True)
    assert other.event is RowEvent.RESENT


def test_the_step_taken_is_told() -> None:
    """A disposition carries the step of the ladder that led to it."""
    escalator = make()
    asked: dict[str, Any] = {"tier": 0, "tries": 0, "resends": 0}
    steps = [
        (Reason.BATCH_EXPIRED, Resend()),
        (Reason.OUTPUT_TRUNCATED, Retry(max_tokens=2.0)),
        (Reason.OUTPUT_SCHEMA, Escalate()),
        (Reason.OUTPUT_REFUSED, ToHuman()),
        (Reason.OUTPUT_UNEXPECTED, Quarantine()),
        (Reason.API_CREDIT, Pause()),
    ]
    assert [escalator.decide(reason, **asked).step for reason, _ in steps] == [step for _, step in steps]


def test_errors_may_be_retried() -> None:
    """A retry on a reason that is no judged answer uses an attempt all the same, so that it ends."""
    escalator = make(Policy.default().on("api.unknown", resend(1), retry(2), human()), tiers=1)
    events = []
    row = Disposition(event=RowEvent.RESENT, reason=None, tier=0, tries=0, resends=0)
    while row.event in {RowEvent.RESENT, RowEvent.RETRIED}:
        row = escalator.decide(Reason.API_UNKNOWN, tier=row.tier, tries=row.tries, resends=row.resends)
        events.append(row.event)
    assert events == [RowEvent.RESENT, RowEvent.RETRIED, RowEvent.RETRIED, RowEvent.TO_HUMAN]


def test_a_stored_spec_decides_the_same() -> None:
    """Routing needs no code of the user: the stored spec gives the same answers."""
    spec = Spec(Contract(Answer), Prompt("{t}"), key="k", tiers=[Tier("claude-haiku-4-5", max_tokens=3)])
    for reason in Reason:
        asked: dict[str, Any] = {"tier": 0, "tries": 1, "resends": 1}
        assert Escalator(spec.stored()).decide(reason, **asked) == Escalator(spec).decide(reason, **asked)
