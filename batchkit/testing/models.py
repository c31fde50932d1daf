"""The models that the simulated API knows, as data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import attrs

__all__ = ["MODELS", "ModelCard"]

_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@attrs.frozen(kw_only=True)
class ModelCard:
    """What one model accepts.

    Attributes:
        id: The name requests use.
        line: Its family.
        thinking: The values of ``thinking.type`` it takes.
        thinks_unasked: Whether it thinks when a request says nothing about thinking.
        efforts: The values of ``output_config.effort`` it takes.
        quiet_efforts: Efforts at which thinking may be switched off.
        forced_tools: Whether ``tool_choice`` may force a tool.
        max_input_tokens: The context window.
        max_tokens: The most ``max_tokens`` may ask for.
        released: Day of release, ISO 8601.
    """

    id: str
    line: Literal["haiku", "sonnet", "opus", "fable", "mythos"]
    thinking: tuple[str, ...]
    thinks_unasked: bool
    efforts: tuple[str, ...] = _EFFORTS
    quiet_efforts: tuple[str, ...] = _EFFORTS
    forced_tools: bool = True
    max_input_tokens: int = 1_000_000
    max_tokens: int = 128_000
    released: str = "2026-01-01"

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``GET /v1/models/{id}`` answers with."""
        name, _, version = self.id.removeprefix("claude-").partition("-")
        return {
            "type": "model",
            "id": self.id,
            "display_name": f"Claude {name.title()} {version.replace('-', '.')}",
            "created_at": f"{self.released}T00:00:00Z",
            "lifecycle": "active",
            "line": self.line,
            "deprecated_at": None,
            "retires_at": None,
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
            "capabilities": self._capabilities(),
        }

    def _capabilities(self) -> dict[str, Any]:
        yes = {"supported": True}
        return {
            "batch": yes,
            "citations": yes,
            "code_execution": yes,
            "context_management": {"supported": True},
            "effort": {
                "supported": bool(self.efforts),
                **{effort: {"supported": effort in self.efforts} for effort in _EFFORTS},
            },
            "image_input": yes,
            "pdf_input": yes,
            "server_tools": {"supported": True, "code_execution": yes, "web_search": yes},
            "structured_outputs": yes,
            "thinking": {
                "supported": True,
                "types": {
                    kind: {"supported": kind in self.thinking}
                    for kind in ("adaptive", "between_tools", "disabled", "enabled")
                },
            },
        }


def _cards() -> tuple[ModelCard, ...]:
    always = ("adaptive",)
    choice = ("adaptive", "disabled")
    either = ("adaptive", "disabled", "enabled")
    manual = ("disabled", "enabled")
    return (
        ModelCard(id="claude-fable-5-2", line="fable", thinking=always, thinks_unasked=True),
        ModelCard(id="claude-mythos-5-2", line="mythos", thinking=always, thinks_unasked=True),
        ModelCard(
            id="claude-haiku-5-5",
            line="haiku",
            thinking=choice,
            thinks_unasked=True,
            quiet_efforts=("low", "medium", "high"),
            forced_tools=False,
            max_tokens=64_000,
            released="2026-10-01",
        ),
        ModelCard(
            id="claude-sonnet-5-5",
            line="sonnet",
            thinking=(*choice, "between_tools"),
            thinks_unasked=True,
            forced_tools=False,
            released="2026-10-01",
        ),
        ModelCard(
            id="claude-opus-5-5",
            line="opus",
            thinking=always,
            thinks_unasked=True,
            forced_tools=False,
            released="2026-10-01",
        ),
        ModelCard(id="claude-fable-5-1", line="fable", thinking=always, thinks_unasked=True),
        ModelCard(id="claude-mythos-5-1", line="mythos", thinking=always, thinks_unasked=True),
        ModelCard(id="claude-sonnet-5", line="sonnet", thinking=choice, thinks_unasked=True),
        ModelCard(id="claude-fable-5", line="fable", thinking=always, thinks_unasked=True),
        ModelCard(id="claude-mythos-5", line="mythos", thinking=always, thinks_unasked=True),
        ModelCard(id="claude-opus-5", line="opus", thinking=choice, thinks_unasked=True),
        ModelCard(id="claude-opus-4-8", line="opus", thinking=choice, thinks_unasked=False),
        ModelCard(id="claude-opus-4-7", line="opus", thinking=choice, thinks_unasked=False),
        ModelCard(id="claude-opus-4-6", line="opus", thinking=either, thinks_unasked=False),
        ModelCard(id="claude-sonnet-4-6", line="sonnet", thinking=either, thinks_unasked=False),
        *(
            ModelCard(
                id=name,
                line=line,
                thinking=manual,
                thinks_unasked=False,
                efforts=("low", "medium", "high") if line == "opus" else (),
                max_input_tokens=200_000,
                max_tokens=64_000,
                released="2025-10-01",
            )
            for name, line in _FOUR_FIVE
        ),
    )


_FOUR_FIVE: tuple[tuple[str, Literal["haiku", "sonnet", "opus"]], ...] = (
    ("claude-haiku-4-5", "haiku"),
    ("claude-haiku-4-5-20251001", "haiku"),
    ("claude-opus-4-5", "opus"),
    ("claude-opus-4-5-20251101", "opus"),
    ("claude-sonnet-4-5", "sonnet"),
    ("claude-sonnet-4-5-20250929", "sonnet"),
)

MODELS: Mapping[str, ModelCard] = {card.id: card for card in _cards()}
"""Every known model by id, newest first."""
