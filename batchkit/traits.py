"""What makes a record hard to read: looked for in its text and its key, one record at a time."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

LOOK = 2_000
"""Characters of a record's text that are looked at."""

SHORT = 12
"""Letters and digits below which a text counts as short."""

TAGS: Final = (
    "named",
    "empty",
    "short",
    "missing",
    "long",
    "script",
    "language",
    "mojibake",
    "markup",
    "emoji",
    "control",
    "injection",
    "braces",
    "formula",
    "repeated",
    "odd-key",
    "digits",
    "ordinary",
)
"""Every tag a sampled row can carry, in the order in which rows are picked."""

_MARKUP = re.compile(r"<[A-Za-z/!][^<>]{0,200}>|&(?:#\d+|#x[0-9A-Fa-f]+|[A-Za-z]{2,8});")
_EMOJI = re.compile("[\u2600-\u27bf\U0001f1e6-\U0001f1ff\U0001f300-\U0001faff]")
# The zero-width joiner is left out: it holds family emoji together.
_CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b\u200c\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]"
)
_INJECTION = re.compile(
    r"\b(?:ignore|disregard|forget)\b.{0,30}\b(?:instructions?|above|previous|prompt)\b"
    r"|\b(?:system|assistant|user)\s*:|\byou are now\b|\bprint your prompt\b|<script|</?(?:row|record|system)\b",
)
# A plain search for these is many times faster than the pattern, and most texts have none.
_INJECTION_MARKS = (
    "ignore",
    "disregard",
    "forget",
    "system",
    "assistant",
    "user",
    "you are now",
    "print your",
    "<",
)
_BRACES = re.compile(r"\{[^{}]*\}|%\(\w+\)s")
_MOJIBAKE = re.compile("[\u00c2\u00c3][\u0080-\u00bf]|\u00e2\u20ac|\ufffd")
_WORD = re.compile(r"[^\W\d_]+")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,40}")
_FUNCTION_WORDS: Final[Mapping[str, frozenset[str]]] = {
    "English": frozenset("the and with for of your is this our to from by".split()),
    "German": frozenset("und mit der die das für ein eine zu im aus nicht sehr ist".split()),
    "French": frozenset("et avec les des pour une est le la de du au aux très".split()),
    "Spanish": frozenset("y con los las para una del el la de en muy es".split()),
    "Italian": frozenset("e con per il della una di gli molto è".split()),
    "Portuguese": frozenset("com para uma os do da em muito não é".split()),
    "Dutch": frozenset("het een met voor en van de zeer niet".split()),
}
_SPOKEN: Final = {
    word: tuple(name for name, words in _FUNCTION_WORDS.items() if word in words)
    for word in frozenset().union(*_FUNCTION_WORDS.values())
}


class Trait(NamedTuple):
    """One thing that a record is: a tag, and in words what was seen."""

    tag: str
    why: str


EMPTY: Final = Trait("empty", "no text at all")


def traits(fields: Mapping[str, str | None], key: str) -> list[Trait]:
    """Give what a record is, ``script`` and ``language`` included whatever they are.

    Args:
        fields: The text that is sent, by field name.
        key: The record's key.
    """
    found = _of_key(key)
    filled = {name: value.strip() for name, value in fields.items() if value is not None and value.strip()}
    if not filled:
        return [EMPTY, *found]
    found += [Trait("missing", f"no {name}") for name in fields if name not in filled]
    text = "\n".join(filled.values())[:LOOK]
    found += _of_text(text)
    if any(value[0] in "=+-@" and len(value) > 1 for value in filled.values()):
        found.append(Trait("formula", "begins like a spreadsheet formula"))
    return found


def _of_text(text: str) -> list[Trait]:
    found: list[Trait] = []
    letters = len(text) if len(text) > 10 * SHORT else sum(map(str.isalnum, text))
    if letters < SHORT:
        found.append(Trait("short", "hardly any text"))
    if not any(map(str.isalpha, text)) and any(map(str.isdigit, text)):
        found.append(Trait("digits", "digits and no words"))
    if ("<" in text or "&" in text) and _MARKUP.search(text):
        found.append(Trait("markup", "markup or entities"))
    if ("{" in text or "%(" in text) and _BRACES.search(text):
        found.append(Trait("braces", "braces like those of a template"))
    lowered = text.lower()
    if any(mark in lowered for mark in _INJECTION_MARKS) and _INJECTION.search(lowered):
        found.append(Trait("injection", "text that reads like an instruction"))
    if not text.isprintable() and _CONTROL.search(text):
        found.append(Trait("control", "invisible or direction-changing characters"))
    if not text.isascii():
        if _EMOJI.search(text):
            found.append(Trait("emoji", "emoji"))
        if _MOJIBAKE.search(text):
            found.append(Trait("mojibake", "bytes that were read in a wrong encoding"))
    return found + _of_language(text[:400])


def _of_language(text: str) -> list[Trait]:
    script = "Latin" if text.isascii() else _script(text)
    if not script:
        return []
    found = [Trait("script", script)]
    if script == "Latin":
        spoken = [_SPOKEN[word] for word in set(_WORD.findall(text.lower())) if word in _SPOKEN]
        hits = Counter(name for names in spoken for name in names)
        best = max(_FUNCTION_WORDS, key=hits.__getitem__)
        if hits[best] >= 2:
            found.append(Trait("language", best))
    return found


def _script(text: str) -> str:
    counts = Counter(name for name in map(_script_of, text) if name)
    if counts["Hiragana"] or counts["Katakana"]:
        return "Japanese"
    return counts.most_common(1)[0][0] if counts else ""


@lru_cache(maxsize=8_192)
def _script_of(character: str) -> str:
    """Give the first word of a letter's Unicode name, which is its script's."""
    if not character.isalpha():
        return ""
    return unicodedata.name(character, "").partition(" ")[0].capitalize()


def _of_key(key: str) -> list[Trait]:
    if len(key) > 40:
        return [Trait("odd-key", "the key is long")]
    if not _PLAIN_KEY.fullmatch(key):
        return [Trait("odd-key", "the key has other characters than letters, digits, '-' and '_'")]
    if key.startswith("0"):
        return [Trait("odd-key", "the key begins with a zero")]
    if key != key.upper():
        return [Trait("odd-key", "the key has small letters")]
    return []
