"""What the answer to a create proves: existence, refusal, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from batchkit.doubt import Acknowledged, Cause, Doubtful, Refused, classify
from batchkit.remote import CreateAnswer, remote_batch

SENT = 3


def batch(**changes: Any) -> dict[str, Any]:
    counts = {"processing": SENT, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
    return {
        "type": "message_batch",
        "id": "msgbatch_1",
        "processing_status": "in_progress",
        "request_counts": counts,
        "created_at": "2026-11-22T10:00:00Z",
        "expires_at": "2026-11-23T10:00:00Z",
        **changes,
    }


def answer(status: int | None = 200, *, handed_over: bool = True, **facts: Any) -> CreateAnswer:
    return CreateAnswer(handed_over=handed_over, status=status, **facts)


def refusal(
    status: int, kind: str = "invalid_request_error", message: str = "no", **facts: Any
) -> CreateAnswer:
    body = {"type": "error", "error": {"type": kind, "message": message}}
    return answer(status, body=body, error_type=kind, error_message=message, **facts)


def test_an_acknowledgement_names_the_batch() -> None:
    """200 with a Message Batch of our size is the one answer that proves existence."""
    verdict = classify(answer(body=batch()), SENT)
    assert isinstance(verdict, Acknowledged)
    assert verdict.remote.id == "msgbatch_1"
    assert verdict.remote.total == SENT
    assert verdict.remote.expires_at == verdict.remote.created_at + 86_400


@pytest.mark.parametrize(
    ("body", "suspect"),
    [
        (None, None),
        ({}, None),
        (batch(id=None), None),
        (batch(id=""), None),
        (batch(id=7), None),
        (batch(id="a b"), None),
        (batch(id=".."), None),
        (batch(type="message"), "msgbatch_1"),
        (batch(request_counts=None), "msgbatch_1"),
        (batch(request_counts={"processing": "3"}), "msgbatch_1"),
        (batch(request_counts={"processing": True}), "msgbatch_1"),
        (batch(request_counts={"processing": SENT + 1}), "msgbatch_1"),
        (batch(request_counts={"processing": -1, "succeeded": 4}), "msgbatch_1"),
        (batch(created_at="yesterday"), "msgbatch_1"),
    ],
)
def test_an_odd_200_is_doubt_and_its_id_a_suspect(body: dict[str, Any] | None, suspect: str | None) -> None:
    """200 with anything but a Message Batch of our size proves nothing; a usable id is looked at first."""
    verdict = classify(answer(body=body), SENT)
    assert isinstance(verdict, Doubtful)
    assert verdict.suspect == suspect


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422, 429])
def test_a_refusal_needs_an_error_body(status: int) -> None:
    """The eight refusing statuses are definite with an API error body; without one only 413 is."""
    assert isinstance(classify(refusal(status), SENT), Refused)
    bare = classify(answer(status), SENT)
    assert isinstance(bare, Refused if status == 413 else Doubtful)


@pytest.mark.parametrize("status", [201, 202, 204, 301, 307, 308, 408, 409, 418, 500, 502, 503, 504, 529])
@pytest.mark.parametrize("with_body", [True, False])
def test_every_other_status_is_doubt(status: int, with_body: bool) -> None:
    """Whatever else comes back may have been answered by something in between while the batch was made."""
    given = refusal(status, "overloaded_error") if with_body else answer(status)
    assert isinstance(classify(given, SENT), Doubtful)


@pytest.mark.parametrize(
    "causes",
    [
        ("APITimeoutError", "ReadTimeout"),
        ("APIConnectionError", "ReadError"),
        ("APIConnectionError", "WriteError"),
        ("APIConnectionError", "WriteTimeout"),
        ("APIConnectionError", "RemoteProtocolError"),
        ("APIConnectionError", "ConnectError"),
        ("SomethingNew",),
        (),
    ],
)
def test_no_answer_is_doubt_exactly_when_the_last_chunk_left(causes: tuple[str, ...]) -> None:
    """Not the kind of error decides, but whether the last chunk had been handed over."""
    assert isinstance(classify(answer(None, causes=causes), SENT), Doubtful)
    definite = classify(answer(None, handed_over=False, causes=causes), SENT)
    assert isinstance(definite, Refused)
    assert definite.cause is Cause.UNSENT


def test_an_early_answer_to_an_unfinished_body_is_definite() -> None:
    """A 5xx before our last chunk left cannot be about a whole request."""
    verdict = classify(answer(503, handed_over=False), SENT)
    assert isinstance(verdict, Refused)
    assert verdict.cause is Cause.UNSENT


def test_an_acknowledgement_of_an_unfinished_body_is_doubt() -> None:
    """A 200 that comes before the body was complete is nonsense, and nonsense is looked into."""
    assert classify(answer(body=batch(), handed_over=False), SENT) == Doubtful(
        why="HTTP 200 before the body was complete",
        suspect="msgbatch_1",  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("given", "cause"),
    [
        (refusal(413, "request_too_large"), Cause.TOO_LARGE),
        (answer(413), Cause.TOO_LARGE),
        (refusal(400, "request_too_large"), Cause.TOO_LARGE),
        (refusal(429, "rate_limit_error", retry_after=12.0), Cause.RATE),
        (refusal(429, "rate_limit_error", "too many requests waiting"), Cause.QUEUE),
        (refusal(429, "rate_limit_error", error_code="enforced_spend_limit_reached"), Cause.MONEY),
        (refusal(429, "rate_limit_error", error_code="contract_spend_limit_reached"), Cause.MONEY),
        (refusal(429, "rate_limit_error", error_code="ramp_limit_exceeded", retry_after=1.0), Cause.MONEY),
        (refusal(402, "linked_organization_suspended"), Cause.MONEY),
        (refusal(403, "billing_error"), Cause.MONEY),
        (refusal(400, message="You have reached your specified API usage limits. You regain …"), Cause.MONEY),
        (refusal(400, message="Your credit balance is too low to access the API."), Cause.MONEY),
        (refusal(400, message="requests.0.custom_id: too long"), Cause.PERSON),
        (refusal(401, "authentication_error"), Cause.PERSON),
        (refusal(403, "permission_error"), Cause.PERSON),
        (refusal(404, "not_found_error"), Cause.PERSON),
        (refusal(422), Cause.PERSON),
    ],
)
def test_a_refusal_says_who_must_act(given: CreateAnswer, cause: Cause) -> None:
    """Size, rate, queue, money and everything else are told apart."""
    verdict = classify(given, SENT)
    assert isinstance(verdict, Refused)
    assert verdict.cause is cause
    assert verdict.retry_after == given.retry_after


@pytest.mark.parametrize(
    ("stamp", "seconds"),
    [
        ("2026-11-22T10:00:00Z", 0.0),
        ("2026-11-22T10:00:00.5Z", 0.5),
        ("2026-11-22T10:00:00.123456789Z", 0.123456),
        ("2026-11-22T12:00:00+02:00", 0.0),
        ("2026-11-22T10:00:00", 0.0),
    ],
)
def test_times_are_read_in_every_form_of_the_standard(stamp: str, seconds: float) -> None:
    """Fractions of any length and either zone form give the same moment on every Python."""
    read = remote_batch(batch(created_at=stamp))
    plain = remote_batch(batch())
    assert read is not None
    assert plain is not None
    assert read.created_at == pytest.approx(plain.created_at + seconds, abs=1e-6)
