"""What the API refuses in the ``params`` of one request.

For a batch this happens asynchronously: the create succeeds, and each wrong
request comes back as an ``errored`` line, unbilled. The checks are a table, so
that the list of refused parameters can move without moving code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from batchkit.testing.models import MODELS, ModelCard

__all__ = ["REMOVED", "Checker", "refusal"]

Params: TypeAlias = Mapping[str, Any]
Check: TypeAlias = Callable[[Params, ModelCard, str], "str | None"]

REMOVED: Mapping[str, str] = {
    "temperature": "2026-10-21",
    "top_k": "2026-10-21",
    "top_p": "2026-10-21",
}
"""Parameters that are gone, and the API version from which on they are refused."""

KNOWN = frozenset(
    "model messages max_tokens system metadata stop_sequences stream thinking tool_choice tools output_config "
    "service_tier cache_control container context_management inference_geo mcp_servers diagnostics speed "
    "user_profile_id betas temperature top_k top_p fallbacks".split()
)
"""Every parameter the API knows; others are refused by name."""


def refusal(params: Any, version: str, *, batch: bool) -> str | None:
    """Return why the API refuses these ``params``, or None.

    Args:
        params: What the client sent.
        version: The ``anthropic-version`` header of the request.
        batch: Whether the request is part of a batch, where a few more things are refused.
    """
    if not isinstance(params, dict):
        return "params: Input should be a valid dictionary"
    if batch and (found := _batch_only(params)):
        return found
    for name in params:
        if name not in KNOWN:
            return f"{name}: Extra inputs are not permitted"
        if name in REMOVED and version >= REMOVED[name]:
            return f"{name}: this parameter is not supported from API version {REMOVED[name]}"
    if "model" not in params:
        return "model: Field required"
    card = MODELS.get(params["model"]) if isinstance(params["model"], str) else None
    if card is None:
        return f"model: {params['model']}"
    for check in _CHECKS:
        if found := check(params, card, version):
            return found
    return None


class Checker:
    """`refusal` for the many requests of one batch, which differ in little but their messages.

    What does not depend on the messages is checked once for as long as it stays equal.

    Args:
        version: The ``anthropic-version`` header of the create.
    """

    def __init__(self, version: str) -> None:
        self._version = version
        self._accepted: list[tuple[Params, ModelCard]] = []

    def refusal(self, params: Any) -> str | None:
        """Return why the API refuses these ``params``, or None."""
        if not isinstance(params, dict):
            return refusal(params, self._version, batch=True)
        rest = {name: value for name, value in params.items() if name != "messages"}
        for accepted, card in self._accepted:
            # 300.0 and 300 are equal, but only one of them is an integer.
            if accepted == rest and type(accepted["max_tokens"]) is type(rest["max_tokens"]):
                return _messages(params, card, self._version)
        found = refusal(params, self._version, batch=True)
        if found is None:
            self._accepted = [(rest, MODELS[rest["model"]]), *self._accepted[:7]]
        return found


def _batch_only(params: Params) -> str | None:
    if params.get("stream"):
        return "stream: streaming is not supported in a batch"
    if params.get("speed") is not None:
        return "speed: this parameter is not supported in a batch"
    return None


def _max_tokens(params: Params, card: ModelCard, version: str) -> str | None:
    value = params.get("max_tokens")
    if value is None:
        return "max_tokens: Field required"
    if not isinstance(value, int) or isinstance(value, bool):
        return "max_tokens: Input should be a valid integer"
    if value < 1:
        return "max_tokens: Input should be greater than or equal to 1"
    if value > card.max_tokens:
        return f"max_tokens: {value} > {card.max_tokens}, which is the maximum for {card.id}"
    return None


def _messages(params: Params, card: ModelCard, version: str) -> str | None:
    messages = params.get("messages")
    if messages is None:
        return "messages: Field required"
    if not isinstance(messages, list):
        return "messages: Input should be a valid array"
    if not messages:
        return "messages: at least one message is required"
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"messages.{number}: Input should be a valid dictionary"
        if message.get("role") not in {"user", "assistant"}:
            return f"messages.{number}.role: Input should be 'user' or 'assistant'"
        content = message.get("content")
        if not isinstance(content, str | list):
            return f"messages.{number}.content: Input should be a valid string or array"
        if not content and number + 1 < len(messages):
            return f"messages.{number}: all messages must have non-empty content except for the optional final assistant message"
    if messages[-1]["role"] == "user" and not messages[-1]["content"]:
        return f"messages.{len(messages) - 1}: user messages must have non-empty content"
    return None


def _system(params: Params, card: ModelCard, version: str) -> str | None:
    if not isinstance(params.get("system", ""), str | list):
        return "system: Input should be a valid string or array"
    return None


def _thinking(params: Params, card: ModelCard, version: str) -> str | None:
    thinking = params.get("thinking")
    if thinking is None:
        return None
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in card.thinking:
        return f"thinking.type: '{kind}' is not supported by {card.id}; it takes {', '.join(card.thinking)}"
    if kind == "enabled":
        budget = thinking.get("budget_tokens")
        if not isinstance(budget, int) or budget < 1024:
            return "thinking.budget_tokens: Input should be greater than or equal to 1024"
        if budget >= params["max_tokens"]:
            return "max_tokens: must be greater than thinking.budget_tokens"
    effort = (params.get("output_config") or {}).get("effort")
    if kind in {"disabled", "between_tools"} and effort is not None and effort not in card.quiet_efforts:
        return f"output_config.effort: {card.id} cannot switch thinking off at effort '{effort}'"
    return None


def _output_config(params: Params, card: ModelCard, version: str) -> str | None:
    config = params.get("output_config")
    if config is None:
        return None
    if not isinstance(config, dict):
        return "output_config: Input should be a valid dictionary"
    effort = config.get("effort")
    if effort is not None and effort not in card.efforts:
        return f"output_config.effort: '{effort}' is not supported by {card.id}"
    shape = config.get("format")
    if shape is None:
        return None
    if not isinstance(shape, dict) or shape.get("type") != "json_schema":
        return "output_config.format.type: Input should be 'json_schema'"
    if not isinstance(shape.get("schema"), dict):
        return "output_config.format.schema: Field required"
    return _open_object(shape["schema"])


def _open_object(schema: Any) -> str | None:
    """Structured outputs take closed objects only."""
    stack = [schema]
    while stack:
        node = stack.pop()
        if isinstance(node, dict):
            if node.get("type") == "object" and node.get("additionalProperties") is not False:
                return "output_config.format.schema: For 'object' type, 'additionalProperties' must be explicitly set to false"
            stack.extend(value for value in node.values() if isinstance(value, dict | list))
        elif isinstance(node, list):
            stack.extend(value for value in node if isinstance(value, dict | list))
    return None


def _tools(params: Params, card: ModelCard, version: str) -> str | None:
    choice = params.get("tool_choice")
    if choice is None:
        return None
    kind = choice.get("type") if isinstance(choice, dict) else None
    if kind not in {"auto", "any", "tool", "none"}:
        return "tool_choice.type: Input should be 'auto', 'any', 'tool' or 'none'"
    if kind in {"any", "tool"}:
        if not card.forced_tools:
            return f"tool_choice: forcing tool use is not supported by {card.id}; use output_config.format"
        if not params.get("tools"):
            return "tool_choice: may only be given with tools"
    return None


_CHECKS: tuple[Check, ...] = (_max_tokens, _messages, _system, _output_config, _thinking, _tools)
