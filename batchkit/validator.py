"""From one line of a result file to a verdict. A line never raises: whatever it holds has a reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Generic, Literal, NamedTuple, TypeAlias, TypeVar

from pydantic_core import from_json

from batchkit.contract import Contract
from batchkit.model import Usage
from batchkit.reasons import Reason
from batchkit.rules import Fields
from batchkit.spec import Spec
from batchkit.verdict import Verdict

T = TypeVar("T")

# The positional form, past the generated __new__: this runs for every line.
_new: Final[Any] = tuple.__new__

Kind: TypeAlias = Literal["succeeded", "errored", "canceled", "expired", "unknown", "unreadable"]

MAX_LINE: Final = 4 << 20
"""Bytes of a line that is read; a longer one is parked."""
MOST_TOKENS: Final = 100_000_000
"""Tokens that an answer may name in all: far more than any model takes, and sums of them fit the store."""

_CLIP: Final = 300

# Only at the very start of a line is a custom id surely the line's own and not a quotation.
_HEAD = re.compile(rb'\s*\{\s*"custom_id"\s*:\s*"([A-Za-z0-9_-]{1,64})"\s*[,}]')

WHOLE: Final = frozenset({"end_turn", "stop_sequence"})
"""The stop reasons of an answer that is whole."""
_CUT: Final = frozenset({"max_tokens", "model_context_window_exceeded"})
_SILENT: Final = frozenset({"thinking", "redacted_thinking"})
_KINDS: Final[frozenset[Kind]] = frozenset({"succeeded", "errored", "canceled", "expired"})

_ERRORS: Final[Mapping[str, Reason]] = {
    "invalid_request_error": Reason.API_INVALID_REQUEST,
    "request_too_large": Reason.INPUT_TOO_LARGE,
    "authentication_error": Reason.API_AUTHENTICATION,
    "billing_error": Reason.API_BILLING,
    "permission_error": Reason.API_PERMISSION,
    "not_found_error": Reason.API_NOT_FOUND,
    "rate_limit_error": Reason.API_RATE_LIMIT,
    "timeout_error": Reason.API_TIMEOUT,
    "api_error": Reason.API_SERVER,
    "overloaded_error": Reason.API_OVERLOADED,
}

# Money comes under several error types, and tells itself by its text or its code.
_MONEY = re.compile(
    r"credit balance is too low|specified api usage limits|spend[ _]limit|ramp_limit_exceeded|linked_organization_",
    re.IGNORECASE,
)
_MONEY_TYPES: Final = frozenset(
    {"invalid_request_error", "rate_limit_error", "permission_error", "api_error"}
)


class ResultLine(NamedTuple):
    """One line, read but not judged.

    Attributes:
        custom_id: Empty where the line has none that can be trusted.
        kind: The result's type; ``unknown`` for a type not known, ``unreadable`` for what is no result.
        body: The message of a succeeded result, the error of an errored one, else None.
        detail: What is wrong with an unknown or unreadable line.
    """

    custom_id: str
    kind: Kind
    body: Any = None
    detail: str = ""


class Validator(Generic[T]):
    """Reads result lines and judges them by a contract. Pure.

    Args:
        spec: A spec, or a contract alone.
        max_line: Bytes of a line that is read; a longer one becomes ``batch.unreadable_line``.
    """

    def __init__(self, spec: Spec[T] | Contract[T], *, max_line: int = MAX_LINE) -> None:
        self.contract: Contract[T] = spec if isinstance(spec, Contract) else spec.contract
        self.max_line = max_line
        self.needs_row: bool = self.contract.needs_row
        """Whether :meth:`judge` needs the record's fields, so that they are loaded only then."""

    def read(self, line: bytes) -> ResultLine:
        """Read one line, without its line feed. Of a line beyond the cap the first bytes are enough."""
        if len(line) > self.max_line:
            return ResultLine(_head(line), "unreadable", None, f"longer than {self.max_line} bytes")
        try:
            value = from_json(line, cache_strings="keys")
        except ValueError:
            value = _read_again(line)
        return self.told(line, value)

    def told(self, line: bytes, value: Any) -> ResultLine:
        """Give what `read` makes of a line whose JSON is parsed already."""
        try:
            # The usual line by subscripts, which take half the time of get(); any other goes on below.
            custom_id, result = value["custom_id"], value["result"]
            if result["type"] == "succeeded" and type(custom_id) is str:
                succeeded: ResultLine = _new(ResultLine, (custom_id, "succeeded", result["message"], ""))
                return succeeded
        except (KeyError, TypeError):
            pass
        return self._unusual_line(line, value)

    def _unusual_line(self, line: bytes, value: Any) -> ResultLine:
        if not isinstance(value, dict):
            return ResultLine(_head(line), "unreadable", None, "not a JSON object")
        custom_id, result = value.get("custom_id"), value.get("result")
        if not isinstance(custom_id, str) or not isinstance(result, dict):
            known = custom_id if isinstance(custom_id, str) else ""
            return ResultLine(known, "unreadable", None, "not a custom_id and a result")
        kind = result.get("type")
        if kind == "succeeded":
            return ResultLine(custom_id, "succeeded", result.get("message"))
        if kind == "errored":
            return ResultLine(custom_id, "errored", result.get("error"))
        if kind == "canceled":
            return ResultLine(custom_id, "canceled")
        if kind == "expired":
            return ResultLine(custom_id, "expired")
        return ResultLine(custom_id, "unknown", None, f"result type {_plain(kind)}")

    def judge(self, line: bytes | ResultLine, row: Fields | None = None) -> Verdict[T]:
        """Judge one line.

        Args:
            line: Its bytes, or what :meth:`read` made of them.
            row: The record's fields; needed where :attr:`needs_row` says so.

        Raises:
            UsageError: the contract's rules need the record and ``row`` is None; never for what the line holds.
        """
        if not isinstance(line, ResultLine):
            line = self.read(line)
        _, kind, message, _ = line
        if kind == "succeeded":
            # The usual message by subscripts, as in `read`; any other goes on below.
            try:
                (block,) = message["content"]
                text, model = block["text"], message["model"]
                usual = block["type"] == "text" and message["stop_reason"] in WHOLE
                usage = read_usage(message["usage"])
            except (KeyError, TypeError, ValueError):
                return self._unusual_message(message, row)
            if usual and usage is not None and type(text) is str and type(model) is str:
                return self.contract.judge_text(text, row, usage, model)
            return self._unusual_message(message, row)
        if kind == "errored":
            reason, detail = reason_of_error(line.body)
            return Verdict(reason, detail)
        if kind == "expired":
            return Verdict(Reason.BATCH_EXPIRED)
        if kind == "canceled":
            return Verdict(Reason.BATCH_CANCELED)
        return Verdict(
            Reason.BATCH_UNREADABLE_LINE if kind == "unreadable" else Reason.OUTPUT_UNEXPECTED, line.detail
        )

    def _unusual_message(self, message: Any, row: Fields | None) -> Verdict[T]:
        if not isinstance(message, dict):
            return Verdict(Reason.OUTPUT_UNEXPECTED, "a succeeded result without a message")
        usage = read_usage(message.get("usage"))
        model = message.get("model")
        model = model if isinstance(model, str) else ""
        text, odd = _text(message.get("content"))
        found = message.get("stop_reason")
        stop = found if isinstance(found, str) else ""
        if stop in WHOLE and not odd:
            verdict = self.contract.check(text, row, usage=usage, model=model)
            if usage is not None:
                return verdict
            note = "usage missing" if not verdict.detail else verdict.detail
            return Verdict(verdict.reason, note, verdict.output, verdict.text, None, model)
        raw = text.encode("utf-8", "backslashreplace")
        if stop == "refusal":
            return Verdict(Reason.OUTPUT_REFUSED, _refusal(message), None, raw, usage, model)
        if stop in _CUT:
            return Verdict(Reason.OUTPUT_TRUNCATED, stop, None, raw, usage, model)
        detail = f"stop reason {_plain(found)}" if stop not in WHOLE else odd
        return Verdict(Reason.OUTPUT_UNEXPECTED, detail, None, raw, usage, model)


def billed(line: ResultLine) -> tuple[bytes, Usage | None, str]:
    """Give a line's raw answer, what was billed for it and who answered, without judging it."""
    message = line.body if line.kind == "succeeded" and isinstance(line.body, dict) else {}
    model = message.get("model")
    raw = _text(message.get("content"))[0].encode("utf-8", "backslashreplace")
    return raw, read_usage(message.get("usage")), model if isinstance(model, str) else ""


def reason_of_error(error: Any) -> tuple[Reason, str]:
    """Give the reason and a detail for the error of an errored result or of an API answer.

    Args:
        error: ``{"type": "error", "error": {"type", "message", "details"}}``, or the inner object alone.
    """
    inner = error.get("error") if isinstance(error, dict) and isinstance(error.get("error"), dict) else error
    if not isinstance(inner, dict):
        return Reason.API_UNKNOWN, "an error that is no object"
    found, message = inner.get("type"), inner.get("message")
    name = found if isinstance(found, str) else ""
    said = _clean(message) if isinstance(message, str) else ""
    details = inner.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    if name in _MONEY_TYPES and _MONEY.search(f"{said} {code if isinstance(code, str) else ''}"):
        return Reason.API_CREDIT, said
    reason = _ERRORS.get(name)
    if reason is None:
        return Reason.API_UNKNOWN, f"{_plain(found)}: {said}"
    return reason, said


def read_usage(usage: Any) -> Usage | None:
    """Give the tokens of a message, or None where any count is missing its number, negative or beyond any model.

    Cache writes without a breakdown count as the dearer kind, those of one hour.
    """
    try:
        fresh, spoken = usage["input_tokens"], usage["output_tokens"]
        written, read = usage["cache_creation_input_tokens"], usage["cache_read_input_tokens"]
        short = usage["cache_creation"]["ephemeral_5m_input_tokens"]
    except (KeyError, TypeError):
        return _unusual_usage(usage)
    return _counted(fresh, spoken, short, written, read) or _unusual_usage(usage)


def _unusual_usage(usage: Any) -> Usage | None:
    if not isinstance(usage, dict):
        return None
    told = usage.get
    written = told("cache_creation_input_tokens") or 0
    kinds = told("cache_creation")
    short = (kinds.get("ephemeral_5m_input_tokens") or 0) if isinstance(kinds, dict) else 0
    fresh, spoken = told("input_tokens", -1), told("output_tokens", -1)
    read = told("cache_read_input_tokens") or 0
    return _counted(fresh, spoken, short, written, read)


def _counted(fresh: Any, spoken: Any, short: Any, written: Any, read: Any) -> Usage | None:
    if not type(fresh) is type(spoken) is type(short) is type(written) is type(read) is int:
        return None
    if fresh < 0 or spoken < 0 or read < 0 or not 0 <= short <= written:
        return None
    if fresh + spoken + written + read > MOST_TOKENS:
        return None
    made: Usage = _new(Usage, (fresh, spoken, short, written - short, read))
    return made


def _text(content: Any) -> tuple[str, str]:
    """Join the text blocks; name the first block that is neither text nor thinking."""
    if not isinstance(content, list):
        return "", "content that is no list"
    texts: list[str] = []
    odd = ""
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif not isinstance(kind, str) or kind not in _SILENT:
            odd = odd or f"content block {_plain(kind)}"
    return "".join(texts), odd


def _refusal(message: Mapping[str, Any]) -> str:
    details = message.get("stop_details")
    category = details.get("category") if isinstance(details, dict) else None
    return _plain(category) if isinstance(category, str) else ""


def _read_again(line: bytes) -> Any:
    """Read what the strict reader refused but a laxer one takes, such as a lone surrogate: its usage was billed."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _head(line: bytes) -> str:
    found = _HEAD.match(line)
    return found[1].decode() if found else ""


def _plain(value: object) -> str:
    """Give a foreign value as one short printable line."""
    return _clean(value) if isinstance(value, str) else f"of type {type(value).__name__}"


def _clean(text: str) -> str:
    text = text[:_CLIP]
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)
