"""One model with its parameters. What cannot work is refused when the tier is made, not hours later row by row."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs
from typing_extensions import Self

from batchkit.errors import TierError
from batchkit.prices import Price
from batchkit.prompt import Prompt

Thinking: TypeAlias = Literal["off", "low", "medium", "high", "max", "between_tools"]

ROOM: Final[Mapping[str, int]] = {"low": 2_000, "medium": 4_000, "high": 8_000, "max": 16_000}
"""The least ``max_tokens`` that leaves an answer room beside the thinking of each effort."""


_EFFORTS = frozenset({"low", "medium", "high", "xhigh", "max"})
_TO_HIGH = frozenset({"low", "medium", "high"})


@attrs.frozen(kw_only=True)
class ThinkingFacts:
    """How one family of models thinks.

    Attributes:
        off: Whether a request can switch thinking off.
        adaptive: Whether it takes an effort.
        between_tools: Whether it can think between tool calls only.
        silent: Whether it does not think unless asked, so that ``off`` needs no word.
        quiet: The values of ``output_config.effort`` that it takes while it does not think.
    """

    off: bool = True
    adaptive: bool = True
    between_tools: bool = False
    silent: bool = False
    quiet: frozenset[str] = _EFFORTS


_ALWAYS = ThinkingFacts(off=False)
_UNASKED = ThinkingFacts()

# Source: the provider's documentation and SDK 2.12 as of 2026-11; the first pattern that matches counts.
_FACTS: Final[tuple[tuple[str, ThinkingFacts], ...]] = (
    (r"claude-opus-5-5\b", _ALWAYS),
    (r"claude-(fable|mythos)-", _ALWAYS),
    (r"claude-sonnet-5-5\b", ThinkingFacts(between_tools=True)),
    (r"claude-haiku-5-5\b", ThinkingFacts(quiet=_TO_HIGH)),
    (r"claude-opus-4-5\b", ThinkingFacts(adaptive=False, silent=True, quiet=_TO_HIGH)),
    (r"claude-(sonnet|haiku)-4-5\b", ThinkingFacts(adaptive=False, silent=True, quiet=frozenset())),
)

# Refused inside batches, or gone from the API; or said elsewhere, so that nothing is told twice.
_REFUSED: Final[Mapping[str, str]] = {
    "stream": "a batch does not stream",
    "speed": "batches take no speed",
    "temperature": "the API no longer takes it",
    "top_p": "the API no longer takes it",
    "top_k": "the API no longer takes it",
    "model": "it is the tier's first argument",
    "max_tokens": "say Tier(max_tokens=...)",
    "thinking": "say Tier(thinking=...)",
    "messages": "they are made from the prompt",
    "system": "it is made from the prompt",
    "custom_id": "it is made from the row's key",
}


def facts_of(model: str) -> ThinkingFacts:
    """Give how a model thinks; an unknown one is taken to think unless told not to."""
    return next((facts for pattern, facts in _FACTS if re.match(pattern, model)), _UNASKED)


def _plain(params: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        copy: dict[str, Any] = json.loads(json.dumps(dict(params), sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TierError(f"a tier's params are plain JSON values: {error}") from error
    return copy


@attrs.frozen
class Tier:
    """One rung: a model, its cap and its parameters.

    Attributes:
        model: The model's name.
        max_tokens: The most tokens of an answer, thinking included.
        thinking: ``"off"``, an effort from ``"low"`` to ``"max"``, or ``"between_tools"``.
        prompt: Used at this tier in place of the spec's.
        params: Further parameters of the Messages API, plain JSON. They are kept by name, whatever their order.
        price: In place of the table's.

    Raises:
        TierError: the model would refuse every request, or thinking would use up ``max_tokens``.
    """

    model: str = attrs.field()
    max_tokens: int = attrs.field(kw_only=True)
    thinking: Thinking = attrs.field(default="off", kw_only=True)
    prompt: Prompt | None = attrs.field(default=None, kw_only=True)
    params: Mapping[str, Any] = attrs.field(factory=dict, kw_only=True, converter=_plain, hash=False)
    price: Price | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if type(self.model) is not str or not self.model.strip():
            raise TierError(f"a tier's model is its name, not {self.model!r}")
        if type(self.max_tokens) is not int or self.max_tokens < 1:
            raise TierError(
                f"{self.model}: max_tokens is a whole number of at least 1, not {self.max_tokens!r}"
            )
        facts = facts_of(self.model)
        _check_thinking(self.model, self.max_tokens, self.thinking, facts)
        _check_params(self.model, self.params, facts, thinking=self.thinking)

    def evolve(self, **changes: Any) -> Self:
        """Give a copy with some attributes changed."""
        return attrs.evolve(self, **changes)

    def request_params(self) -> dict[str, Any]:
        """Give the request's parameters that this tier decides: model, max_tokens, thinking, effort and its params."""
        request: dict[str, Any] = {"model": self.model, "max_tokens": self.max_tokens, **self.params}
        if self.thinking == "between_tools":
            request["thinking"] = {"type": "between_tools"}
        elif self.thinking != "off":
            request["thinking"] = {"type": "adaptive"}
            request["output_config"] = {**request.get("output_config", {}), "effort": self.thinking}
        elif not facts_of(self.model).silent:
            request["thinking"] = {"type": "disabled"}
        return request

    def document(self) -> dict[str, Any]:
        """Give the JSON-able form."""
        return {
            "model": self.model,
            "max_tokens": self.max_tokens,
            "thinking": self.thinking,
            "prompt": self.prompt.document() if self.prompt else None,
            "params": dict(self.params),
            "price": self.price.document() if self.price else None,
        }

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Self:
        """Make the tier that :meth:`document` described."""
        prompt, price = document["prompt"], document["price"]
        return cls(
            document["model"],
            max_tokens=document["max_tokens"],
            thinking=document["thinking"],
            prompt=Prompt.load(prompt) if prompt else None,
            params=document["params"],
            price=Price.load(price) if price else None,
        )


def _check_thinking(model: str, cap: int, thinking: str, facts: ThinkingFacts) -> None:
    if thinking not in {"off", "between_tools", *ROOM}:
        raise TierError(
            f'{model}: thinking is "off", {", ".join(map(repr, ROOM))} or "between_tools", not {thinking!r}'
        )
    if thinking == "off":
        if facts.off:
            return
        room = ROOM["low"]
        if cap < room:
            raise TierError(
                f"{model} always thinks, and thinking counts toward max_tokens={cap}: most answers would be cut off. "
                f'Use thinking="low" with max_tokens >= {room}, or a model that can switch it off.'
            )
        raise TierError(
            f'{model} always thinks and refuses thinking="off". Use thinking="low", or a model that can switch it off.'
        )
    if thinking == "between_tools":
        if not facts.between_tools:
            raise TierError(f'{model} does not know thinking="between_tools"; claude-sonnet-5-5 does.')
        return
    if not facts.adaptive:
        raise TierError(f'{model} takes no thinking effort. Use thinking="off", or a model from 4.6 on.')
    room = ROOM[thinking]
    if cap < room:
        other = ', or thinking="off"' if facts.off else ""
        raise TierError(
            f'{model} with thinking="{thinking}": thinking counts toward max_tokens={cap}, so most answers would be '
            f"cut off. Use max_tokens >= {room}{other}."
        )


def _check_params(model: str, params: Mapping[str, Any], facts: ThinkingFacts, *, thinking: str) -> None:
    for name in params:
        if name in _REFUSED:
            raise TierError(f"{model}: params may not hold {name!r}: {_REFUSED[name]}")
    choice = params.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") in {"any", "tool"}:
        raise TierError(
            f"{model}: a forced tool_choice makes every answer a tool call, where a model takes it at all; "
            "the contract's schema is sent as output_config.format"
        )
    config = params.get("output_config", {})
    if not isinstance(config, dict):
        raise TierError(f"{model}: output_config is a mapping")
    if "format" in config:
        raise TierError(f"{model}: output_config.format is made from the contract")
    if "effort" in config and thinking not in {"off", "between_tools"}:
        raise TierError(f"{model}: the effort is said twice, by thinking={thinking!r} and by output_config")
    if "effort" in config and str(config["effort"]) not in facts.quiet:
        known = ", ".join(sorted(facts.quiet)) or "none"
        raise TierError(
            f"{model} without thinking does not take effort {config['effort']!r}; it takes {known}"
        )
