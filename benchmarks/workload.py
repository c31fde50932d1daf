"""The work that all programs of the benchmark do: the same rows, the same answers, of the same sizes.

A row is 1,395 bytes of request body and about 770 bytes of result line. One row in sixty gets an answer
that its contract refuses, one in a hundred has an emoji in its text and in its answer. What a row is
answered depends on its number alone, so every program must end with the same valid rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Annotated, Literal

from pydantic import BaseModel, Field

MODEL = "claude-haiku-4-5"
BAD_EVERY = 60
EMOJI_EVERY = 100
DESCRIPTION = 120
VARIANTS = 600
"""Answers repeat after this many rows: a multiple of both periods above."""
MAX_TOKENS = 300
CATEGORIES = ("Kettles", "Lamps", "Chairs", "Rugs")
INSTRUCTION = "Fill in the attributes."
TEMPLATE = "Title: {title}\nDescription: {description}"

Category = Literal["Kettles", "Lamps", "Chairs", "Rugs"]
Feature = Annotated[str, Field(max_length=60)]


class Answer(BaseModel):  # no docstring: it would be sent with every row
    category: Category | None
    features: Annotated[list[Feature], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


SCHEMA = {
    "type": "object",
    "title": "Answer",
    "properties": {
        "category": {"anyOf": [{"enum": list(CATEGORIES)}, {"type": "null"}], "title": "Category"},
        "features": {
            "type": "array",
            "title": "Features",
            "items": {"type": "string", "description": "{maxLength: 60}"},
            "description": "{maxItems: 5}",
        },
        "summary": {"type": "string", "title": "Summary", "description": "{maxLength: 120}"},
    },
    "additionalProperties": False,
    "required": ["category", "features", "summary"],
}
"""What the API is told of `Answer`, by every program: structured outputs, as the SDK makes them."""

_WORDS = (
    "steel walnut cordless 1.7 l matte foldable dishwasher safe organic cotton 45 W braided oak wide".split()
)


def _text(number: int, length: int) -> str:
    words: list[str] = []
    size = 0
    while size < length:
        words.append(_WORDS[(number * 7 + len(words) * 5) % len(_WORDS)])
        size += len(words[-1]) + 1
    return " ".join(words)[:length]


_DESCRIPTIONS = [
    _text(n, DESCRIPTION) + (" \N{WRAPPED PRESENT}" if n % EMOJI_EVERY == 7 else "") for n in range(VARIANTS)
]
_TITLE_ENDS = [f", {description[:40]}" for description in _DESCRIPTIONS]


def rows(count: int, first: int = 0) -> Iterator[dict[str, str]]:
    """Give the source records, one at a time."""
    descriptions, ends = _DESCRIPTIONS, _TITLE_ENDS
    for n in range(first, first + count):
        variant = n % VARIANTS
        yield {
            "sku": f"SKU-{n:08d}",
            "title": f"{CATEGORIES[n % 4]} {n}{ends[variant]}",
            "description": descriptions[variant],
        }


def _answer(number: int) -> str:
    answer: dict[str, object] = {
        "category": CATEGORIES[number % 4],
        "features": [_text(number + k, 24) for k in range(4)],
        "summary": _text(number, 105) + ("\N{WRAPPED PRESENT}" if number % EMOJI_EVERY == 7 else ""),
    }
    if is_bad(number):
        answer["summary"] = _text(number, 130)
    return json.dumps(answer, ensure_ascii=False)


def is_bad(number: int) -> bool:
    """Tell whether a row's answer breaks the contract."""
    return number % BAD_EVERY == 11


def valid_rows(count: int) -> int:
    """Count the rows that must end valid."""
    return sum(not is_bad(n) for n in range(count))


def result_tails() -> list[bytes]:
    """Give, per variant, all of a result line that comes after the custom id and its quotation mark."""
    tails = []
    for n in range(VARIANTS):
        message = {
            "id": f"msg_01{n:022d}",
            "type": "message",
            "role": "assistant",
            "model": MODEL + "-20251001",
            "content": [{"type": "text", "text": _answer(n)}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 290 + n % 40,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                "output_tokens": 60 + n % 30,
                "service_tier": "batch",
            },
        }
        result = {"type": "succeeded", "message": message}
        text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
        tails.append(b',"result":' + text.encode() + b"}\n")
    return tails


def digest(valid: Iterable[tuple[str, bytes]]) -> str:
    """Give one hash for a set of valid rows: keys, and answers as canonical JSON. Not part of what is measured."""
    seen = sorted((key, json.dumps(json.loads(text), sort_keys=True)) for key, text in valid)
    whole = hashlib.sha256()
    for key, text in seen:
        whole.update(f"{key}\0{text}\n".encode())
    return f"{len(seen)}:{whole.hexdigest()}"
