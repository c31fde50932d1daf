"""What a simulated model says to one request.

A model is a plain function from the ``params`` of one request and a random
number generator to an `Answer`. The generator is seeded from the simulator's
seed, the request's ``custom_id`` and its ``params``, so the same request gets
the same answer whatever the order of arrival or the process that asks.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import attrs

__all__ = ["Answer", "Model", "echo_model", "fixed_model", "prompt_text"]


@attrs.frozen(kw_only=True)
class Answer:
    """One answer of a simulated model.

    Attributes:
        text: The text of the answer's only content block.
        stop_reason: Why the model stopped, such as ``end_turn`` or ``max_tokens``.
        output_tokens: Tokens of output; ``None`` estimates them from the text.
        blocks: Raw content blocks, which replace ``text``.
        kind: What the batch's result line becomes: ``message`` is a paid,
            succeeded line; ``errored`` and ``expired`` are unpaid ones.
        error_type: For ``errored``: the API's error type, such as ``overloaded_error``.
        error_message: For ``errored``: the text beside it.
        usage: Fields that replace or extend the computed usage.
        model: The model named in the answer; ``None`` names the one that was asked for.
    """

    text: str = ""
    stop_reason: str = "end_turn"
    output_tokens: int | None = None
    blocks: tuple[Mapping[str, Any], ...] | None = None
    kind: Literal["message", "errored", "expired"] = "message"
    error_type: str = "api_error"
    error_message: str = ""
    usage: Mapping[str, int] | None = None
    model: str | None = None


Model: TypeAlias = Callable[[Mapping[str, Any], random.Random], Answer]
"""A simulated model: ``(params, rng) -> Answer``. It must depend on nothing else."""


def fixed_model(text: str) -> Model:
    """Return a model that answers every request with ``text``."""

    def model(params: Mapping[str, Any], rng: random.Random) -> Answer:
        return Answer(text=text)

    return model


def echo_model(params: Mapping[str, Any], rng: random.Random) -> Answer:
    """Answer with the text of the last user message, or ``{}`` when it has none."""
    return Answer(text=prompt_text(params) or "{}")


def prompt_text(params: Mapping[str, Any]) -> str:
    """Return the text of the last user message of a request's ``params``."""
    messages = params.get("messages")
    if not isinstance(messages, list):
        return ""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            return _text_of(message.get("content"))
    return ""


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [block.get("text") for block in content if isinstance(block, dict)]
    return "\n".join(text for text in texts if isinstance(text, str))
