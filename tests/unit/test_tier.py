"""Tiers that work, and those refused before anything is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchkit.errors import TierError
from batchkit.prices import Price, Rates
from batchkit.prompt import Prompt
from batchkit.tier import ROOM, Tier


@pytest.mark.parametrize(
    ("model", "thinking", "cap", "sent"),
    [
        ("claude-haiku-4-5", "off", 300, {}),
        ("claude-haiku-4-5-20251001", "off", 300, {}),
        ("claude-sonnet-4-6", "off", 300, {"thinking": {"type": "disabled"}}),
        ("claude-haiku-5-5", "off", 300, {"thinking": {"type": "disabled"}}),
        ("claude-sonnet-5-5", "between_tools", 300, {"thinking": {"type": "between_tools"}}),
        ("claude-new-9", "off", 300, {"thinking": {"type": "disabled"}}),
        (
            "claude-opus-5-5",
            "low",
            2_000,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "low"}},
        ),
        (
            "claude-opus-5",
            "max",
            16_000,
            {"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}},
        ),
    ],
)
def test_what_is_sent_about_thinking(model: str, thinking: Any, cap: int, sent: dict[str, Any]) -> None:
    """Off says disabled where the model could think, an effort says adaptive, models without thinking hear nothing."""
    assert Tier(model, max_tokens=cap, thinking=thinking).request_params() == {
        "model": model,
        "max_tokens": cap,
        **sent,
    }


def test_a_model_that_always_thinks_needs_room() -> None:
    """A small cap on a model that always thinks is refused, with what to do."""
    with pytest.raises(TierError) as caught:
        Tier("claude-opus-5-5", max_tokens=300)
    assert str(caught.value) == (
        "claude-opus-5-5 always thinks, and thinking counts toward max_tokens=300: most answers would be cut off. "
        'Use thinking="low" with max_tokens >= 2000, or a model that can switch it off.'
    )


@pytest.mark.parametrize(
    ("model", "thinking", "cap", "why"),
    [
        ("claude-opus-5-5", "off", 4_000, "refuses thinking"),
        ("claude-fable-5-1", "off", 100, "always thinks"),
        ("claude-mythos-5", "off", 100, "always thinks"),
        ("claude-opus-5", "low", 1_999, "max_tokens >= 2000, or thinking"),
        ("claude-opus-5-5", "high", 7_999, "max_tokens >= 8000."),
        ("claude-sonnet-4-6", "max", 15_999, "max_tokens >= 16000"),
        ("claude-haiku-4-5", "low", 9_000, "takes no thinking effort"),
        ("claude-opus-4-6", "between_tools", 9_000, "does not know"),
        ("claude-opus-5", "loud", 9_000, "thinking is"),
    ],
)
def test_thinking_that_cannot_work_is_refused(model: str, thinking: Any, cap: int, why: str) -> None:
    """Thinking that the model refuses, or that would use up the cap, is refused when the tier is made."""
    with pytest.raises(TierError, match=why):
        Tier(model, max_tokens=cap, thinking=thinking)


@pytest.mark.parametrize("effort", list(ROOM))
def test_room_is_enough(effort: Any) -> None:
    """With the room named in the message a tier is taken."""
    assert Tier("claude-opus-5-5", max_tokens=ROOM[effort], thinking=effort).thinking == effort


@pytest.mark.parametrize(
    "name",
    [
        "stream",
        "speed",
        "temperature",
        "top_p",
        "top_k",
        "model",
        "max_tokens",
        "thinking",
        "messages",
        "system",
    ],
)
def test_refused_params_are_named(name: str) -> None:
    """What a batch refuses, and what batchkit says itself, may not stand in params."""
    with pytest.raises(TierError, match=f"'{name}'"):
        Tier("claude-haiku-4-5", max_tokens=300, params={name: 1})


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"tool_choice": {"type": "any"}}, "forced tool_choice"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, "forced tool_choice"),
        ({"output_config": {"format": {}}}, "made from the contract"),
        ({"output_config": []}, "is a mapping"),
        ({"metadata": {1, 2}}, "plain JSON"),
        ({"metadata": float("nan")}, "plain JSON"),
    ],
)
def test_params_that_cannot_work(params: dict[str, Any], why: str) -> None:
    """Forced tools, a second schema and what is no JSON are refused by name."""
    with pytest.raises(TierError, match=why):
        Tier("claude-sonnet-5-5", max_tokens=300, params=params)


def test_an_effort_is_said_once() -> None:
    """An effort in output_config is kept where thinking is off, and refused beside another."""
    params = {"output_config": {"effort": "low"}}
    sent = Tier("claude-sonnet-4-6", max_tokens=300, params=params).request_params()
    assert (sent["output_config"], sent["thinking"]) == ({"effort": "low"}, {"type": "disabled"})
    with pytest.raises(TierError, match="said twice"):
        Tier("claude-sonnet-4-6", max_tokens=3_000, thinking="low", params=params)


@pytest.mark.parametrize(
    ("model", "effort", "known"),
    [
        ("claude-haiku-5-5", "max", "it takes high, low, medium"),
        ("claude-opus-4-5", "xhigh", "it takes high, low, medium"),
        ("claude-haiku-4-5", "low", "it takes none"),
        ("claude-opus-5", "loud", "it takes high, low, max, medium, xhigh"),
    ],
)
def test_an_effort_the_model_knows(model: str, effort: str, known: str) -> None:
    """An effort that the model refuses while it does not think is refused when the tier is made."""
    with pytest.raises(TierError, match=known):
        Tier(model, max_tokens=300, params={"output_config": {"effort": effort}})


@pytest.mark.parametrize("cap", [0, -1, True, 1.5, "300", None])
def test_a_cap_is_a_whole_number(cap: Any) -> None:
    """max_tokens is a whole number of at least one."""
    with pytest.raises(TierError, match="max_tokens"):
        Tier("claude-haiku-4-5", max_tokens=cap)


@pytest.mark.parametrize("model", ["", " ", None, 5])
def test_a_model_has_a_name(model: Any) -> None:
    """A tier names its model."""
    with pytest.raises(TierError, match="model"):
        Tier(model, max_tokens=1)


def test_tiers_are_values() -> None:
    """Params are copied, a change makes a new tier and is checked again, a document brings the same tier back."""
    params: dict[str, Any] = {"stop_sequences": ["x"]}
    rates = Rates("0.5", "2.5", "0.625", "1", "0.05")
    tier = Tier(
        "claude-haiku-4-5",
        max_tokens=300,
        params=params,
        prompt=Prompt("{a}"),
        price=Price.flat(batch=rates, standard=rates, as_of="2026-01-01"),
    )
    params["stop_sequences"].append("y")
    assert tier.params == {"stop_sequences": ["x"]}
    assert Tier.load(json.loads(json.dumps(tier.document()))) == tier
    assert hash(tier) == hash(tier.evolve())
    with pytest.raises(TierError):
        tier.evolve(max_tokens=0)
