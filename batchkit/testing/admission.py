"""What a request must be before the simulated API looks at what it asks for."""

from __future__ import annotations

import re
from typing import Any

from batchkit.testing.body import BodyTooLarge, decode
from batchkit.testing.http import APIError, Request, read_all
from batchkit.testing.validate import refusal

__all__ = ["check_json", "check_length", "check_request", "forward", "read_params"]

_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_MESSAGE_BYTES = 32_000_000


def check_request(number: int, value: Any) -> str:
    """Check the outside of one request of a batch, and return its ``custom_id``.

    Raises:
        APIError: It is not an object of exactly a well-formed ``custom_id`` and ``params``.
    """
    if not isinstance(value, dict):
        raise APIError("invalid_request_error", f"requests.{number}: Input should be a valid dictionary")
    custom_id = value.get("custom_id")
    if not isinstance(custom_id, str) or _CUSTOM_ID.fullmatch(custom_id) is None:
        raise APIError(
            "invalid_request_error",
            f"requests.{number}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'",
        )
    if "params" not in value:
        raise APIError("invalid_request_error", f"requests.{number}.params: Field required")
    if len(value) > 2:
        extra = next(name for name in value if name not in {"custom_id", "params"})
        raise APIError("invalid_request_error", f"requests.{number}.{extra}: Extra inputs are not permitted")
    return custom_id


def forward(seconds: float) -> float:
    """Return ``seconds`` if time can move by them.

    Raises:
        ValueError: They are negative or not finite.
    """
    if not 0 <= float(seconds) < float("inf"):
        raise ValueError(f"virtual time moves forward only, not by {seconds!r}")
    return float(seconds)


def check_json(request: Request) -> None:
    """Refuse a body that is not declared as JSON."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise APIError("invalid_request_error", "content-type: the body should be sent as application/json")


def check_length(request: Request, limit: int) -> None:
    """The edge refuses by the declared length, before it reads."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge


def read_params(request: Request, version: str, **assumed: Any) -> tuple[str, dict[str, Any]]:
    """Read and check the body of a direct call.

    Args:
        request: The call.
        version: Its ``anthropic-version``.
        **assumed: Parameters that this endpoint does not ask for.

    Returns:
        The body's text, and its value.

    Raises:
        APIError: It is no JSON object, or the API refuses a parameter.
    """
    check_json(request)
    check_length(request, _MESSAGE_BYTES)
    try:
        text = read_all(request.body).decode()
    except UnicodeDecodeError as error:
        raise APIError("invalid_request_error", f"The request body is not valid JSON: {error}") from None
    value = decode(text)
    if not isinstance(value, dict):
        raise APIError("invalid_request_error", "Input should be a valid dictionary")
    wrong = refusal({**assumed, **value}, version, batch=False)
    if wrong is not None:
        raise APIError(
            "not_found_error" if wrong.startswith("model: claude") else "invalid_request_error", wrong
        )
    return text, value
