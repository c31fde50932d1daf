"""Result lines of every kind, as they really come and as they never should."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.model import Usage
from batchkit.reasons import Reason
from batchkit.rules import Fields
from batchkit.validator import ResultLine, Validator, read_usage, reason_of_error


class Answer(BaseModel):
    category: Literal["Audio", "Cables"]


GOOD = '{"category":"Audio"}'
USAGE = {"input_tokens": 7, "output_tokens": 5}
VALIDATOR = Validator(Contract(Answer))


def text(value: str = GOOD) -> dict[str, Any]:
    return {"type": "text", "text": value}


def message(*blocks: Any, stop: Any = "end_turn", usage: Any = USAGE, **more: Any) -> dict[str, Any]:
    return {
        "model": "claude-haiku-4-5-20251001",
        "content": list(blocks),
        "stop_reason": stop,
        "usage": usage,
        **more,
    }


def line(result: Any, custom_id: Any = "sku_1-abcdefgh") -> bytes:
    return json.dumps({"custom_id": custom_id, "result": result}).encode()


def succeeded(*blocks: Any, **more: Any) -> bytes:
    return line({"type": "succeeded", "message": message(*blocks, **more)})


def test_a_valid_line() -> None:
    """A whole answer on contract is valid, with its usage and the model that gave it."""
    verdict = VALIDATOR.judge(succeeded(text()))
    assert verdict.valid
    assert verdict.output == Answer(category="Audio")
    assert (verdict.usage, verdict.model) == (Usage(input=7, output=5), "claude-haiku-4-5-20251001")


def test_reading_and_judging_can_be_apart() -> None:
    """A line is read for its custom id first, and judged afterwards from what was read."""
    read = VALIDATOR.read(succeeded(text()))
    assert (read.custom_id, read.kind) == ("sku_1-abcdefgh", "succeeded")
    assert VALIDATOR.judge(read) == VALIDATOR.judge(succeeded(text()))


@pytest.mark.parametrize(
    ("blocks", "more", "reason"),
    [
        ([{"type": "thinking", "thinking": "hm", "signature": "s"}, text()], {}, None),
        ([text('{"cate'), text('gory":"Audio"}')], {}, None),
        ([text()], {"stop": "stop_sequence"}, None),
        ([], {}, Reason.OUTPUT_EMPTY),
        ([text(" \n")], {}, Reason.OUTPUT_EMPTY),
        (
            [{"type": "thinking", "thinking": "hm"}, {"type": "redacted_thinking", "data": ""}],
            {},
            Reason.OUTPUT_EMPTY,
        ),
        ([text("no json")], {}, Reason.OUTPUT_UNPARSEABLE),
        ([text('{"category":"Sofa"}')], {}, Reason.OUTPUT_SCHEMA),
        ([text()], {"stop": "max_tokens"}, Reason.OUTPUT_TRUNCATED),
        ([], {"stop": "max_tokens"}, Reason.OUTPUT_TRUNCATED),
        ([text()], {"stop": "model_context_window_exceeded"}, Reason.OUTPUT_TRUNCATED),
        ([text("no")], {"stop": "refusal"}, Reason.OUTPUT_REFUSED),
        ([], {"stop": "refusal"}, Reason.OUTPUT_REFUSED),
        ([text()], {"stop": "tool_use"}, Reason.OUTPUT_UNEXPECTED),
        ([text()], {"stop": "pause_turn"}, Reason.OUTPUT_UNEXPECTED),
        ([text()], {"stop": "brand_new"}, Reason.OUTPUT_UNEXPECTED),
        ([text()], {"stop": None}, Reason.OUTPUT_UNEXPECTED),
        ([text()], {"stop": []}, Reason.OUTPUT_UNEXPECTED),
        ([text(), {"type": "tool_use", "name": "x"}], {}, Reason.OUTPUT_UNEXPECTED),
        ([text(), {"type": "brand_new"}], {}, Reason.OUTPUT_UNEXPECTED),
        ([text(), {"type": "text", "text": 5}], {}, Reason.OUTPUT_UNEXPECTED),
        ([text(), "text"], {}, Reason.OUTPUT_UNEXPECTED),
        ([text(), None], {}, Reason.OUTPUT_UNEXPECTED),
        ([text(), {"type": ["text"]}], {}, Reason.OUTPUT_UNEXPECTED),
    ],
)
def test_messages_get_their_reason(blocks: list[Any], more: dict[str, Any], reason: Reason | None) -> None:
    """Every stop reason and block has a reason; nothing unknown is taken for success, and all of it was billed."""
    verdict = VALIDATOR.judge(succeeded(*blocks, **more))
    assert verdict.reason is reason
    assert verdict.usage == Usage(input=7, output=5)
    assert verdict.model


@pytest.mark.parametrize("content", [None, "text", 5, {"type": "text"}])
def test_content_that_is_no_list(content: Any) -> None:
    """Content of another form is unexpected, not a crash."""
    verdict = VALIDATOR.judge(line({"type": "succeeded", "message": {**message(), "content": content}}))
    assert (verdict.reason, verdict.detail) == (Reason.OUTPUT_UNEXPECTED, "content that is no list")


@pytest.mark.parametrize("body", [None, [], "m", 5])
def test_a_success_without_a_message(body: Any) -> None:
    """A succeeded result that brings no message is unexpected."""
    assert VALIDATOR.judge(line({"type": "succeeded", "message": body})).reason is Reason.OUTPUT_UNEXPECTED


def test_the_details_name_what_was_found() -> None:
    """Unknown things are named by their type, on one printable line."""
    assert (
        VALIDATOR.judge(succeeded(text(), stop="brand\x1b[31m\nnew")).detail == "stop reason brand [31m new"
    )
    assert VALIDATOR.judge(succeeded({"type": "x" * 999})).detail == "content block " + "x" * 300
    assert VALIDATOR.judge(succeeded(5)).detail == "content block of type NoneType"
    refused = succeeded(stop="refusal", stop_details={"type": "refusal", "category": "cyber"})
    assert VALIDATOR.judge(refused).detail == "cyber"


def test_raw_text_of_a_failure_is_kept() -> None:
    """What a cut or refused answer said is kept for people."""
    assert VALIDATOR.judge(succeeded(text('{"cat'), stop="max_tokens")).text == b'{"cat'


@pytest.mark.parametrize(
    ("usage", "read"),
    [
        ({"input_tokens": 1, "output_tokens": 2}, Usage(1, 2)),
        ({"input_tokens": 0, "output_tokens": 0}, Usage()),
        (
            {
                "input_tokens": 1,
                "output_tokens": 2,
                "cache_creation_input_tokens": 10,
                "cache_read_input_tokens": 5,
                "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
            },
            Usage(1, 2, 4, 6, 5),
        ),
        ({"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": 10}, Usage(1, 2, 0, 10, 0)),
        ({"input_tokens": 1, "output_tokens": 2, "cache_creation_input_tokens": None}, Usage(1, 2)),
        ({"input_tokens": 1}, None),
        ({"input_tokens": -1, "output_tokens": 2}, None),
        ({"input_tokens": 1.5, "output_tokens": 2}, None),
        ({"input_tokens": True, "output_tokens": 2}, None),
        ({"input_tokens": 99_999_999, "output_tokens": 1}, Usage(99_999_999, 1)),
        ({"input_tokens": 99_999_999, "output_tokens": 2}, None),
        ({"input_tokens": 2**63, "output_tokens": 2}, None),
        ({"input_tokens": "1", "output_tokens": 2}, None),
        ({"input_tokens": 1, "output_tokens": 2, "cache_read_input_tokens": "x"}, None),
        (
            {"input_tokens": 1, "output_tokens": 2, "cache_creation": {"ephemeral_5m_input_tokens": 4}},
            None,
        ),
        (None, None),
        ([], None),
    ],
)
def test_usage_is_read_or_none(usage: Any, read: Usage | None) -> None:
    """Tokens are whole numbers from 0 on, within reason; anything else is no usage, never zero; unsorted cache writes count dearer."""
    assert read_usage(usage) == read


def test_an_answer_without_usage_is_still_judged() -> None:
    """A valid answer whose usage is unusable is valid, and says so; a wrong one keeps its own detail."""
    verdict = VALIDATOR.judge(succeeded(text(), usage={"input_tokens": -5}))
    assert verdict.valid
    assert (verdict.usage, verdict.detail) == (None, "usage missing")
    wrong = VALIDATOR.judge(succeeded(text("[]"), usage=None))
    assert (wrong.reason, wrong.detail) == (Reason.OUTPUT_UNPARSEABLE, "not exactly one JSON object")


@pytest.mark.parametrize(
    ("name", "said", "reason"),
    [
        ("invalid_request_error", "max_tokens: too large", Reason.API_INVALID_REQUEST),
        ("invalid_request_error", "Your credit balance is too low to access the API.", Reason.API_CREDIT),
        ("invalid_request_error", "You have reached your specified API usage limits.", Reason.API_CREDIT),
        ("authentication_error", "invalid key", Reason.API_AUTHENTICATION),
        ("billing_error", "payment", Reason.API_BILLING),
        ("permission_error", "no", Reason.API_PERMISSION),
        ("not_found_error", "model: x", Reason.API_NOT_FOUND),
        ("rate_limit_error", "slow down", Reason.API_RATE_LIMIT),
        ("timeout_error", "late", Reason.API_TIMEOUT),
        ("api_error", "Internal", Reason.API_SERVER),
        ("overloaded_error", "Overloaded", Reason.API_OVERLOADED),
        ("overloaded_error", "spend limit service overloaded", Reason.API_OVERLOADED),
        ("billing_error", "Your credit balance is too low", Reason.API_BILLING),
        ("request_too_large", "too large", Reason.INPUT_TOO_LARGE),
        ("brand_new_error", "?", Reason.API_UNKNOWN),
    ],
)
def test_errors_get_their_reason(name: str, said: str, reason: Reason) -> None:
    """Every error type has a reason; money is told by its text; an unknown type keeps its raw name."""
    error = {"type": "error", "error": {"type": name, "message": said}, "request_id": "req_1"}
    verdict = VALIDATOR.judge(line({"type": "errored", "error": error}))
    assert verdict.reason is reason
    assert said in verdict.detail
    assert (name in verdict.detail) is (reason is Reason.API_UNKNOWN)
    assert verdict.usage is None


@pytest.mark.parametrize(
    "code",
    [
        "enforced_spend_limit_reached",
        "contract_spend_limit_reached",
        "ramp_limit_exceeded",
        "linked_organization_spend_limit_reached",
    ],
)
def test_money_is_told_by_its_code(code: str) -> None:
    """A limit on spending that comes as a rate limit pauses, and is not waited out."""
    error = {"type": "rate_limit_error", "message": "limit", "details": {"error_code": code}}
    assert reason_of_error(error) == (Reason.API_CREDIT, "limit")


@pytest.mark.parametrize(
    "error",
    [None, "text", 5, [], {}, {"error": None}, {"type": None, "message": None}, {"error": {"type": ["x"]}}],
)
def test_odd_errors_are_unknown(error: Any) -> None:
    """An error of no known form is unknown, not a crash."""
    assert VALIDATOR.judge(line({"type": "errored", "error": error})).reason is Reason.API_UNKNOWN


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("expired", Reason.BATCH_EXPIRED),
        ("canceled", Reason.BATCH_CANCELED),
        ("brand_new", Reason.OUTPUT_UNEXPECTED),
        (None, Reason.OUTPUT_UNEXPECTED),
        (["succeeded"], Reason.OUTPUT_UNEXPECTED),
    ],
)
def test_other_results(kind: Any, reason: Reason) -> None:
    """Expired and canceled results have reasons; an unknown type is parked, never taken for success."""
    verdict = VALIDATOR.judge(line({"type": kind, "message": message(text())}))
    assert (verdict.reason, verdict.usage, verdict.text) == (reason, None, b"")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"null",
        b"<html>",
        b"\xff\xfe",
        b'{"custom_id":"a","result":',
        b'{"custom_id":5,"result":{"type":"succeeded"}}',
        b'{"custom_id":"a","result":null}',
        b'{"result":{"type":"expired"}}',
        b"[" * 100_000,
        b'{"custom_id":"a","result":' + b'{"type":' * 100_000,
        b'{"custom_id":"a","result":{"type":"expired","n":' + b"9" * 5_000 + b"}}",
    ],
)
def test_lines_that_cannot_be_read(raw: bytes) -> None:
    """Broken, foreign and hostile lines are parked with a reason, not a crash."""
    assert VALIDATOR.judge(raw).reason is Reason.BATCH_UNREADABLE_LINE


def test_an_unreadable_line_may_still_be_placed() -> None:
    """The custom id at the very start of a broken line is found; one inside it is not trusted."""
    assert (
        VALIDATOR.read(b'{"custom_id":"sku_1-abcdefgh","result":{"type":"succ').custom_id == "sku_1-abcdefgh"
    )
    assert VALIDATOR.read(b'{"x":1,"custom_id":"sku_1-abcdefgh","result":').custom_id == ""
    assert VALIDATOR.read(b'{"custom_id":"a b","result":').custom_id == ""


def test_a_line_beyond_the_cap_is_parked() -> None:
    """A line longer than the cap is not parsed; its custom id still is read from its head."""
    validator = Validator(Contract(Answer), max_line=200)
    assert validator.judge(succeeded(text())).reason is Reason.BATCH_UNREADABLE_LINE
    read = validator.read(succeeded(text("x" * 300)))
    assert read == ResultLine("sku_1-abcdefgh", "unreadable", None, "longer than 200 bytes")


def test_a_lone_surrogate_was_billed() -> None:
    """An answer with half a character cannot be kept as text, but its usage is counted."""
    raw = succeeded(text("\ud800"))
    verdict = VALIDATOR.judge(raw)
    assert (verdict.reason, verdict.usage) == (Reason.OUTPUT_UNPARSEABLE, Usage(input=7, output=5))
    assert verdict.text == b"\\ud800"


def test_line_separators_inside_text_are_text() -> None:
    """U+2028, U+0085 and their like inside an answer come through unchanged."""

    class Note(BaseModel):
        note: str

    odd = "a\u2028b\u2029c\u0085d\u000be\u001cf"
    validator = Validator(Contract(Note))
    for ascii_only in (True, False):
        inner = json.dumps({"note": odd}, ensure_ascii=ascii_only)
        result = {"type": "succeeded", "message": message(text(inner))}
        raw = json.dumps({"custom_id": "a", "result": result}, ensure_ascii=ascii_only).encode()
        assert validator.judge(raw).output == Note(note=odd)


def test_rules_may_need_the_record() -> None:
    """Whether the record must be loaded is known beforehand; judging without it is the caller's mistake."""

    def told(out: Answer, row: Fields) -> bool:
        return row["lang"] == "en"

    validator = Validator(Contract(Answer, rules=[told]))
    assert validator.needs_row
    assert not VALIDATOR.needs_row
    assert validator.judge(succeeded(text()), {"lang": "en"}).valid
    assert validator.judge(succeeded(text()), {"lang": "de"}).reason is Reason.OUTPUT_RULE
    with pytest.raises(UsageError):
        validator.judge(succeeded(text()))
