"""From an `Answer` to the API's message object, with its usage."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from batchkit.testing.answers import Answer
from batchkit.testing.models import MODELS

__all__ = ["count_input_tokens", "count_tokens", "message"]

_CACHE_MINIMUM = 1024
_CACHE_HIT = 0.7
_THINKING_TOKENS: Mapping[str, tuple[int, int]] = {
    "low": (20, 120),
    "medium": (150, 700),
    "high": (300, 1_500),
    "xhigh": (600, 3_000),
    "max": (1_000, 6_000),
}
"""About how long a model thinks at each effort; ``high`` is the default."""


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text: four characters each, one at least."""
    return max(1, (len(text) + 3) // 4)


def count_input_tokens(params: Mapping[str, Any]) -> int:
    """Estimate the input tokens of one request."""
    size = 12 + _length(params.get("system")) + _length(params.get("messages")) + _length(params.get("tools"))
    return max(1, size // 4)


def message(
    params: Mapping[str, Any], answer: Answer, message_id: str, rng: random.Random, tier: str
) -> dict[str, Any]:
    """Build the message object of a paid answer.

    The answer is cut where the request's ``max_tokens`` cuts it, thinking included.

    Args:
        params: The request.
        answer: What the model said; its ``kind`` is ``message``.
        message_id: The id to give it.
        rng: The request's own generator.
        tier: ``batch`` or ``standard``.
    """
    cap: int = params["max_tokens"]
    thought = _thinking_tokens(params, rng)
    stop_reason = answer.stop_reason
    text = answer.text
    spoken = count_tokens(text) if answer.output_tokens is None else answer.output_tokens
    if answer.blocks is not None:
        content: list[Mapping[str, Any]] = list(answer.blocks)
    else:
        if answer.output_tokens is None and thought + spoken > cap:
            spoken = max(0, cap - thought)
            text = text[: 4 * spoken]
            stop_reason = "max_tokens"
        content = [{"type": "text", "text": text}] if text else []
    if thought:
        content.insert(0, {"type": "thinking", "thinking": "", "signature": f"sim-{message_id}"})
    usage = _usage(params, rng)
    usage["output_tokens"] = min(thought + spoken, max(cap, spoken))
    if thought:
        usage["output_tokens_details"] = {"thinking_tokens": min(thought, usage["output_tokens"])}
    usage["service_tier"] = tier
    if answer.usage is not None:
        usage.update(answer.usage)
    return {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": answer.model or params["model"],
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def _usage(params: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    tokens = count_input_tokens(params)
    cached, long = _cached_prefix(params)
    cached = min(cached, tokens)
    read = created = 0
    if cached >= _CACHE_MINIMUM:
        if rng.random() < _CACHE_HIT:
            read = cached
        else:
            created = cached
    return {
        "input_tokens": tokens - read - created,
        "cache_creation_input_tokens": created,
        "cache_read_input_tokens": read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": 0 if long else created,
            "ephemeral_1h_input_tokens": created if long else 0,
        },
        "output_tokens": 0,
    }


def _cached_prefix(params: Mapping[str, Any]) -> tuple[int, bool]:
    """Return the tokens up to the last cache mark of the system prompt, and whether it asks for an hour."""
    system = params.get("system")
    if not isinstance(system, list):
        return 0, False
    size = marked = 0
    long = False
    for block in system:
        size += _length(block)
        mark = block.get("cache_control") if isinstance(block, dict) else None
        if isinstance(mark, dict):
            marked = size
            long = mark.get("ttl") == "1h"
    return marked // 4, long


def _thinking_tokens(params: Mapping[str, Any], rng: random.Random) -> int:
    thinking = params.get("thinking")
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind in {"disabled", "between_tools"}:
        return 0
    card = MODELS.get(params["model"])
    if kind is None and not (card and card.thinks_unasked):
        return 0
    effort = (params.get("output_config") or {}).get("effort") or "high"
    least, most = _THINKING_TOKENS[effort]
    return rng.randint(least, most)


def _length(value: Any) -> int:
    """Characters of all text inside a prompt's value, whatever its shape."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_length, value))
    if isinstance(value, dict):
        # A block's type, a message's role and cache marks are markup, not text.
        return sum(_length(item) for key, item in value.items() if key not in _MARKUP)
    return 0


_MARKUP = frozenset({"type", "role", "cache_control"})
