"""Ladders: which wins, what is refused, what they say of themselves."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchkit.errors import UsageError
from batchkit.policy import (
    ROUTED,
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
from batchkit.reasons import Reason

CODES = {reason.value: reason for reason in Reason}


@pytest.mark.parametrize(
    ("reason", "ladder"),
    [
        ("batch.expired", (Resend(), Quarantine())),
        ("batch.canceled", (Resend(), Quarantine())),
        ("api.overloaded", (Resend(), Quarantine())),
        ("api.rate_limit", (Resend(), Quarantine())),
        ("api.timeout", (Resend(), Quarantine())),
        ("api.server", (Resend(), Quarantine())),
        ("api.invalid_request", (Quarantine(),)),
        ("api.unknown", (Quarantine(),)),
        ("api.authentication", (Pause(),)),
        ("api.permission", (Pause(),)),
        ("api.not_found", (Pause(),)),
        ("api.billing", (Pause(),)),
        ("api.credit", (Pause(),)),
        ("batch.unreadable_line", (Quarantine(),)),
        ("batch.missing_result", (Quarantine(),)),
        ("output.unparseable", (Retry(), Escalate(), Quarantine())),
        ("output.empty", (Retry(), Escalate(), Quarantine())),
        ("output.truncated", (Retry(max_tokens=2.0), Escalate(), Quarantine())),
        ("output.schema", (Escalate(), Quarantine())),
        ("output.rule", (Escalate(), Quarantine())),
        ("output.refused", (ToHuman(),)),
        ("output.sparse", (ToHuman(),)),
        ("output.unexpected", (Quarantine(),)),
    ],
)
def test_the_default_ladders(reason: str, ladder: tuple[Any, ...]) -> None:
    """Each reason climbs the ladder that the documentation names."""
    assert Policy.default().ladder(CODES[reason]) == ladder


def test_every_reason_has_a_ladder() -> None:
    """No reason that a row can come back with is without a ladder."""
    assert set(Policy.default().table) == set(ROUTED)
    assert set(Policy().table) == set(ROUTED)


def test_the_most_specific_glob_wins() -> None:
    """A code beats a family beats everything, in whatever order they were given; of equals the later one wins."""
    policy = Policy.default().on("output.schema", human()).on("output.*", quarantine()).on("*", pause())
    assert policy.ladder(Reason.OUTPUT_SCHEMA) == (ToHuman(),)
    assert policy.ladder(Reason.OUTPUT_UNEXPECTED) == (Quarantine(),)
    assert policy.ladder(Reason.API_UNKNOWN) == (Pause(),)
    again = policy.on("output.schema", quarantine())
    assert again.ladder(Reason.OUTPUT_SCHEMA) == (Quarantine(),)
    assert policy.ladder(Reason.OUTPUT_SCHEMA) == (ToHuman(),)
    longer = Policy().on("output.schema", human()).on("*output.schema*", pause())
    assert longer.ladder(Reason.OUTPUT_SCHEMA) == (ToHuman(),)
    equal = Policy().on("output.s*", human()).on("output.*a", pause())
    assert equal.ladder(Reason.OUTPUT_SCHEMA) == (Pause(),)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ((), "must end in"),
        ((escalate(),), "must end in"),
        ((retry(), resend()), "must end in"),
        ((human(), quarantine()), "which end it"),
        ((escalate(), escalate(), quarantine()), "read anew at every tier"),
        ((escalate(), retry(), quarantine()), "read anew at every tier"),
        ((escalate, quarantine()), "is no step; call one"),
        (("quarantine",), "is no step"),
    ],
)
def test_ladders_must_end(steps: Any, why: str) -> None:
    """A ladder that does not end, or goes on after its end, is refused with the reason."""
    with pytest.raises(UsageError, match=why):
        Policy.default().on("output.schema", *steps)


def test_a_glob_must_match() -> None:
    """A misspelt reason is refused with the nearest name; so is one that no ladder is asked for."""
    with pytest.raises(UsageError, match=r"Did you mean 'output\.schema'"):
        Policy.default().on("output.shema", quarantine())
    with pytest.raises(UsageError, match="no reason"):
        Policy.default().on("human.*", quarantine())


@pytest.mark.parametrize("times", [0, -1, 21, 1.5, True, "2"])
def test_times_are_bounded(times: Any) -> None:
    """A step repeats a whole number of times, at most twenty."""
    with pytest.raises(UsageError, match="times"):
        resend(times)
    with pytest.raises(UsageError, match="times"):
        retry(times)


def test_a_factor_is_positive() -> None:
    """A retry cannot ask for no tokens."""
    with pytest.raises(ValueError, match="max_tokens"):
        retry(max_tokens=0)


def test_the_next_requests_step() -> None:
    """The retry that the next request runs under follows from the reason and the tries; after an escalation none."""
    policy = Policy.default().on("output.schema", retry(2, show_error=True), escalate(), quarantine())
    assert policy.step(Reason.OUTPUT_SCHEMA, 0) is None
    assert policy.step(Reason.OUTPUT_SCHEMA, 1) == Retry(times=2, show_error=True)
    assert policy.step(Reason.OUTPUT_SCHEMA, 2) == Retry(times=2, show_error=True)
    assert policy.step(Reason.OUTPUT_SCHEMA, 3) is None
    assert policy.step(Reason.OUTPUT_TRUNCATED, 1) == Retry(max_tokens=2.0)
    assert policy.step(Reason.OUTPUT_REFUSED, 1) is None
    assert policy.step(Reason.INPUT_SPARSE, 1) is None
    assert policy.step(None, 1) is None


def test_it_explains_itself() -> None:
    """The whole table is printed, one reason a line, in words."""
    text = (
        Policy.default()
        .on("output.schema", retry(2, max_tokens=1.5, show_error=True), escalate(), human())
        .explain()
    )
    lines = dict(line.split(maxsplit=1) for line in text.splitlines())
    assert list(lines) == [reason.value for reason in ROUTED]
    assert lines["output.schema"] == "retry 2 × (max_tokens × 1.5, error shown) → next tier → human queue"
    assert lines["batch.expired"] == "resend up to 3 times → quarantine"
    assert lines["api.credit"] == "pause"


def test_policies_are_values() -> None:
    """A document brings the same policy back."""
    policy = Policy.default().on("output.*", retry(2, max_tokens=1.5, show_error=True), escalate(), human())
    assert Policy.load(json.loads(json.dumps(policy.document()))) == policy
    assert policy != Policy.default()
    assert Policy.default() == Policy.default()
    assert hash(policy) == hash(Policy.load(policy.document()))
