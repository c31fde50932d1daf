"""The simulator's "model": a function that reads the row in the prompt and answers plausibly.

It goes wrong as real models do, at the rates of a `Profile`. Most faults are
properties of the row (a hard row fails again when it is sent again, and less
often on a larger model); the rest is chance.

Two faults come from the *prompt*, and only a better prompt cures them:

- A record that says too little gets a confident answer, unless some sentence of
  the static text speaks of ``null`` together with the reason for it, as in "Use
  null when the text does not say."
- A travel, plug or wall adapter is called a charger, unless the static text
  holds an example that is answered ``"category": "Adapters"``.

The static text is the system prompt, all earlier messages, and what precedes
the row in the last one. The row is what stands in the fence of batchkit's
prompts; without a fence it begins at the last line that is labelled as title.

A row that is sent again with what was wrong is luckier than one that is merely
sent again. What thinking costs and where ``max_tokens`` cuts is the simulator's
business, for every model alike.
"""

from __future__ import annotations

import json
import random
import re
import zlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import attrs

from batchkit.testing.answers import Answer, Model, prompt_text
from batchkit.testing.catalog_reader import Reading, plain_text, read
from batchkit.testing.catalog_request import KEYS, Head, Message, Shape
from batchkit.testing.profiles import Profile, Rates
from batchkit.testing.schema_answers import plausible

__all__ = ["catalog_model"]

#: Share of a row's luck that is its own; the rest is drawn anew for every request.
_STICKY = 0.7
#: Hard rows fail oftener than easy ones; over a catalog the two average to one.
_HARD, _EASY = 1.3, 0.6

_PHRASE = re.compile(r"[.:;,|•\n\r]+(?:\s|$)| - ")

_INVENTED = ("Gadgets & More", "Miscellaneous", "Electronics", "General Merchandise", "Home", "Other")
_CONFIDENT = ("Premium quality", "Durable construction", "Modern design", "Suitable for everyday use")
_PADDING = (
    " that is a dependable choice for the home, the office and everywhere in between,"
    " with many thoughtful details that make daily use a real pleasure"
)
_EXTRA_FEATURES = ("Versatile", "Reliable", "Stylish", "Practical", "Long lasting", "Great gift")

_ENCODE = json.JSONEncoder(ensure_ascii=False).encode


@attrs.frozen
class _Row:
    """The row in the prompt, as plain text, and what it tells.

    Attributes:
        title: Its title, without markup.
        description: Its description, without markup.
        reading: What they tell.
        mark: 32 bits of the row's own luck.
        hard: Whether it is of a kind that models stumble over.
    """

    title: str
    description: str
    reading: Reading
    mark: int
    hard: bool

    @classmethod
    def of(cls, raw_title: str, raw_description: str) -> _Row:
        title, description = plain_text(raw_title), plain_text(raw_description)
        size = len(raw_title) + len(raw_description)
        return cls(
            title,
            description,
            read(title, description),
            zlib.crc32(f"{raw_title}\0{raw_description}".encode("utf-8", "surrogatepass")),
            not 25 <= size <= 600 or "<" in raw_description or not raw_description.isascii(),
        )


@attrs.frozen
class _Odds:
    """A model's rates, ready for one look-up per row."""

    rates: Rates
    unpaid: tuple[tuple[str, ...], tuple[float, ...]]
    faults: tuple[tuple[str, ...], tuple[float, ...]]

    @classmethod
    def of(cls, rates: Rates) -> _Odds:
        tables = [
            (tuple(table), tuple(accumulate(table.values()))) for table in (rates.unpaid(), rates.faults())
        ]
        return cls(rates, *tables)


def catalog_model(profile: Profile | None = None) -> Model:
    """Return the simulated model for rows of product records.

    It answers with ``category``, ``features`` and ``summary``. A request whose
    ``output_config.format`` asks for another shape gets plausible values of that
    shape. It is a pure function of the request and its generator.

    Args:
        profile: How often each line of models goes wrong.
    """
    profile = profile or Profile()
    known: dict[str, _Odds] = {}

    def model(params: Mapping[str, Any], rng: random.Random) -> Answer:
        name = params.get("model") or ""
        odds = known.get(name)
        if odds is None:
            odds = known[name] = _Odds.of(profile.rates(name))
        names, steps = odds.unpaid
        chance = rng.random()
        if chance < steps[-1]:
            return _unpaid(names[bisect_right(steps, chance)])
        return _answer(params, odds, rng)

    return model


def _unpaid(kind: str) -> Answer:
    match kind:
        case "expired":
            return Answer(kind="expired")
        case "overloaded":
            return Answer(kind="errored", error_type="overloaded_error", error_message="Overloaded")
        case _:
            return Answer(kind="errored", error_type="api_error", error_message="Internal server error")


def _answer(params: Mapping[str, Any], odds: _Odds, rng: random.Random) -> Answer:
    message = Message.of(prompt_text(params))
    head = Head.of(params, message)
    row = _Row.of(message.title.rstrip(), message.description.rstrip())
    sparse = row.reading.category is None
    silent = sparse and head.asks_for_null and rng.random() >= odds.rates.confident_sparse

    shape = Shape.of(params)
    fields: Any
    if shape.is_catalog:
        fields = _fields(row, shape, head, silent, rng)
    else:
        fields = plausible(
            shape.schema,
            rng,
            phrases=_phrases(row.description, 5) or ([row.title] if row.title else ()),
            choose=lambda values: _chosen(values, row, rng),
            nothing=silent,
        )

    names, steps = odds.faults
    # All empty rows share one text, so it cannot be their luck; and who is told of a fault tries anew.
    own = not sparse and not message.corrected and rng.random() < _STICKY
    luck = (row.mark & 0xFFFF) / 0x10000 if own else rng.random()
    if luck / (_HARD if row.hard else _EASY) >= steps[-1]:
        return Answer(text=_ENCODE(fields))
    which = (row.mark >> 16) / 0x10000 if own else rng.random()
    fault = names[min(bisect_right(steps, which * steps[-1]), len(names) - 1)]
    return _faulty(fault, fields, shape, params, which)


def _fields(row: _Row, shape: Shape, head: Head, silent: bool, rng: random.Random) -> dict[str, Any]:
    reading = row.reading
    category: str | None
    features: list[str]
    if silent and shape.nullable:
        category, features, summary = None, [], "No description available."
    elif reading.category is None:
        category, features = rng.choice(shape.allowed), list(_CONFIDENT[: 2 + row.mark % 3])
        summary = f"A high-quality product from the {category.lower()} range."
    else:
        category = reading.best_of(shape.allowed)
        if reading.confusable and not head.shows_adapters and "Chargers" in shape.allowed:
            category = "Chargers"
        if category is None and not shape.nullable:
            category = rng.choice(shape.allowed)
        features = _phrases(row.description, 3 + row.mark % 3) or [(row.title or row.description)[:60]]
        summary = _summary(row.title, features)
    fields = {"category": category, "features": features, "summary": summary}
    return fields if shape.keys == KEYS else {key: fields[key] for key in shape.keys}


def _phrases(description: str, most: int) -> list[str]:
    phrases: list[str] = []
    for phrase in _PHRASE.split(description[:400]):
        phrase = phrase.strip(" -*\t")  # noqa: PLW2901
        if 4 <= len(phrase) <= 60 and phrase not in phrases:
            phrases.append(phrase)
            if len(phrases) == most:
                break
    return phrases


def _summary(title: str, features: Sequence[str]) -> str:
    start = title[:70] or "Item"
    text = start if features[0] in start else f"{start}: {features[0][:45]}"
    return text.replace(".", ",").replace("\n", " ").strip(" ,") + "."


def _chosen(values: Sequence[Any], row: _Row, rng: random.Random) -> Any:
    """Return the value of an enum that the text speaks of, a random one when it speaks of none."""
    if row.reading.category in values:
        return row.reading.category
    text = f"{row.title} {row.description}".lower()
    named = [value for value in values if isinstance(value, str) and value.lower() in text]
    return rng.choice(named or [value for value in values if value is not None] or list(values))


def _faulty(fault: str, fields: Any, shape: Shape, params: Mapping[str, Any], which: float) -> Answer:
    """Return the answer spoiled in one way; ``which`` decides the details, the same for the same row."""
    text = _ENCODE(fields)
    match fault:
        case "refusal":
            return Answer(text="I can't help with this request.", stop_reason="refusal")
        case "empty":
            return Answer(blocks=())
        case "runaway":
            cap = params.get("max_tokens") or 0
            # A heavy tail: a larger cap helps most rows, never all.
            if 320 / (1 - which) ** 0.5 <= cap:
                return Answer(text=text)
            return Answer(text=text[: len(text) * 2 // 3], stop_reason="max_tokens", output_tokens=cap)
        case "prose":
            return Answer(text=f"Here are the attributes:\n\n{text}\n\nLet me know if you need more!")
        case "trailing_comma":
            return Answer(text=text[:-1] + ",}")
        case _ if fault != "fenced" and shape.is_catalog:
            return Answer(text=_ENCODE(_spoiled(fault, fields, which)))
        case _:
            return Answer(text=f"```json\n{text}\n```")


def _spoiled(fault: str, fields: Mapping[str, Any], which: float) -> dict[str, Any]:
    category = fields["category"]
    match fault:
        case "long_summary" if "summary" in fields:
            return {**fields, "summary": fields["summary"].rstrip(".") + _PADDING + "."}
        case "six_features" if "features" in fields:
            return {**fields, "features": [*fields["features"], *_EXTRA_FEATURES][:6]}
        case "wrong_case" if category:
            return {**fields, "category": category.lower() if which < 0.5 else category.upper()}
        case "extra_key":
            return {**fields, "confidence": 0.97}
        case _:
            return {**fields, "category": _INVENTED[int(which * 1_000_003) % len(_INVENTED)]}
