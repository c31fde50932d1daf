"""What the simulated API refuses in a request's params."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from batchkit.testing.models import MODELS
from batchkit.testing.validate import REMOVED, Checker, refusal

VERSION = "2026-10-21"
USER = {"role": "user", "content": "x"}
CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}


def params(**changes: Any) -> dict[str, Any]:
    base = {"model": "claude-haiku-4-5", "max_tokens": 100, "messages": [USER]}
    return {name: value for name, value in {**base, **changes}.items() if value is not ...}


REFUSED: Mapping[str, tuple[dict[str, Any], str]] = {
    "streamed": (params(stream=True), "stream"),
    "speed": (params(speed="fast"), "speed"),
    "no cap": (params(max_tokens=...), "max_tokens: Field required"),
    "cap of zero": (params(max_tokens=0), "max_tokens"),
    "cap below zero": (params(max_tokens=-1), "max_tokens"),
    "cap as text": (params(max_tokens="9"), "max_tokens"),
    "cap as bool": (params(max_tokens=True), "max_tokens"),
    "cap as float": (params(max_tokens=9.0), "max_tokens"),
    "cap beyond the model's": (params(max_tokens=64_001), "64000"),
    "temperature": (params(temperature=0.1), "temperature"),
    "top_p": (params(top_p=0.1), "top_p"),
    "top_k": (params(top_k=1), "top_k"),
    "no model": (params(model=...), "model: Field required"),
    "unknown model": (params(model="claude-9"), "model: claude-9"),
    "model as number": (params(model=5), "model: 5"),
    "unknown parameter": (params(prompt="x"), "prompt: Extra inputs"),
    "no messages": (params(messages=...), "messages: Field required"),
    "messages as text": (params(messages="x"), "messages: Input"),
    "empty messages": (params(messages=[]), "at least one"),
    "message as text": (params(messages=["x"]), "messages.0"),
    "system role": (params(messages=[{"role": "system", "content": "x"}]), "messages.0.role"),
    "no content": (params(messages=[{"role": "user"}]), "messages.0.content"),
    "empty content": (params(messages=[{"role": "user", "content": ""}]), "non-empty"),
    "empty content in the middle": (
        params(messages=[{"role": "assistant", "content": ""}, USER]),
        "non-empty",
    ),
    "system as number": (params(system=5), "system"),
    "thinking budget too small": (
        params(max_tokens=4000, thinking={"type": "enabled", "budget_tokens": 9}),
        "1024",
    ),
    "thinking budget beyond the cap": (
        params(thinking={"type": "enabled", "budget_tokens": 2048}),
        "greater than",
    ),
    "thinking as text": (params(thinking="off"), "thinking.type"),
    "adaptive thinking on an old model": (params(thinking={"type": "adaptive"}), "thinking.type"),
    "thinking off on Opus 5.5": (
        params(model="claude-opus-5-5", thinking={"type": "disabled"}),
        "thinking.type",
    ),
    "thinking off at a high effort": (
        params(model="claude-haiku-5-5", thinking={"type": "disabled"}, output_config={"effort": "max"}),
        "output_config.effort",
    ),
    "effort on a model without": (params(output_config={"effort": "low"}), "output_config.effort"),
    "output_config as text": (params(output_config="json"), "output_config"),
    "format of another type": (params(output_config={"format": {"type": "json_object"}}), "json_schema"),
    "format without schema": (params(output_config={"format": {"type": "json_schema"}}), "schema"),
    "open object": (
        params(output_config={"format": {"type": "json_schema", "schema": {"anyOf": [{"type": "object"}]}}}),
        "additionalProperties",
    ),
    "forced tool on a 5.5 model": (
        params(model="claude-sonnet-5-5", tool_choice={"type": "tool", "name": "a"}, tools=[{"name": "a"}]),
        "tool_choice",
    ),
    "any tool on a 5.5 model": (
        params(model="claude-haiku-5-5", tool_choice={"type": "any"}, tools=[{"name": "a"}]),
        "tool_choice",
    ),
    "forced tool without tools": (params(tool_choice={"type": "any"}), "tool_choice"),
    "unknown tool choice": (params(tool_choice={"type": "all"}), "tool_choice.type"),
}

ACCEPTED: Mapping[str, dict[str, Any]] = {
    "plain": params(),
    "blocks": params(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}], system=[]),
    "schema": params(output_config={"format": {"type": "json_schema", "schema": CLOSED}}),
    "thinking off": params(
        model="claude-haiku-5-5", thinking={"type": "disabled"}, output_config={"effort": "high"}
    ),
    "between tools": params(model="claude-sonnet-5-5", thinking={"type": "between_tools"}),
    "budget": params(max_tokens=4_000, thinking={"type": "enabled", "budget_tokens": 2_048}),
    "forced tool on a 4.5 model": params(tool_choice={"type": "any"}, tools=[{"name": "a"}]),
    "prefilled": params(messages=[USER, {"role": "assistant", "content": "{"}]),
    "not streamed": params(stream=False),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_params_are_refused_by_name(case: str) -> None:
    """Each wrong setting is refused with a message that names it."""
    wrong, words = REFUSED[case]
    assert words in (refusal(wrong, VERSION, batch=True) or "accepted")


@pytest.mark.parametrize("case", ACCEPTED)
def test_right_params_are_accepted(case: str) -> None:
    """What the API takes is not refused."""
    assert refusal(ACCEPTED[case], VERSION, batch=True) is None


def test_params_that_are_no_object_are_refused() -> None:
    """`params` has to be an object."""
    assert refusal(["x"], VERSION, batch=True) == Checker(VERSION).refusal(["x"])
    assert "params" in (refusal(None, VERSION, batch=True) or "accepted")


@pytest.mark.parametrize("name", REMOVED)
def test_a_removed_parameter_is_taken_by_older_versions(name: str) -> None:
    """A parameter is refused from the API version on that removed it, and taken before."""
    assert refusal(params(**{name: 1}), "2023-06-01", batch=True) is None
    assert refusal(params(**{name: 1}), "2027-01-01", batch=True) is not None


def test_a_direct_call_may_ask_for_speed() -> None:
    """What only a batch refuses is no error in a direct call."""
    assert refusal(params(speed="fast"), VERSION, batch=False) is None


def test_a_checker_judges_mixed_rows_as_the_plain_function_does() -> None:
    """Checking many rows of a batch gives each the same answer as checking it alone, in any order."""
    rows = [wrong for wrong, _ in REFUSED.values()] + list(ACCEPTED.values())
    rows += [params(max_tokens=100), params(max_tokens=True), params(max_tokens=1), params(max_tokens=1.0)]
    checker = Checker(VERSION)
    for row in rows + rows[::-1] + rows:
        assert checker.refusal(row) == refusal(row, VERSION, batch=True)


def test_every_model_card_is_complete() -> None:
    """Each model has an id of its own, and names all capabilities."""
    for model_id, card in MODELS.items():
        value = card.to_dict()
        assert value["id"] == model_id
        assert value["display_name"].startswith("Claude ")
        assert {"batch", "structured_outputs", "thinking", "effort"} <= set(value["capabilities"])
