"""Reads a product record as a careful person would, by the taxonomy's words.

Used twice: by the simulated model, and by `truth`, which tests and the demo
grade it with. It is fast because a text is cut into words once and every word
is one look-up; only texts in Chinese or Japanese are searched for substrings.
"""

from __future__ import annotations

import html
import re
from collections.abc import Container, Mapping
from itertools import pairwise

import attrs

from batchkit.testing.taxonomy import CATEGORIES, LANGUAGES, TAXONOMY

__all__ = ["Reading", "plain_text", "read", "truth"]

#: Beyond this many characters of description nothing new is learned.
READ_CHARACTERS = 800

#: Markup may be longer than what it marks up.
_PLAIN_CHARACTERS = 2_000

#: A hit in the title tells more than one in the description; so does a phrase.
_TITLE_WEIGHT, _PHRASE_WEIGHT = 3, 2

_WORD = re.compile(r"[^\W\d_]+")
_IDEOGRAPHS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]+")
_TAG = re.compile(r"<[^<>]{0,200}>")
_PLACEHOLDER = re.compile(r"\((?:empty|missing|none|n/a)\)")

_CONFUSABLE_WORDS = frozenset(
    "travel plug wall voyage prise viaje enchufe reiseadapter reisestecker steckeradapter "
    "дорожный розетки السفر القابس".split()
)
_CONFUSABLE_IDEOGRAPHS = re.compile("旅行|插头|プラグ")
_ADAPTERS = CATEGORIES.index("Adapters")


def _plurals(word: str) -> tuple[str, ...]:
    if word.endswith(("s", "x", "ch", "sh")):
        return (word, word + "es")
    if word.endswith("y"):
        return (word, word + "s", word[:-1] + "ies")
    return (word, word + "s")


def _tables() -> tuple[dict[str, int], dict[tuple[str, str], int], re.Pattern[str], dict[str, int]]:
    """Return single words, pairs of words, and ideographs as a pattern and a table."""
    words: dict[str, int] = {}
    pairs: dict[tuple[str, str], int] = {}
    ideographs: dict[str, int] = {}
    for number, category in enumerate(TAXONOMY):
        phrases = [(language, noun) for language in LANGUAGES for noun in category.nouns[language]]
        phrases += [("en", keyword) for keyword in category.keywords]
        for language, phrase in phrases:
            lowered = phrase.lower()
            if _IDEOGRAPHS.search(lowered):
                ideographs[lowered] = number
                continue
            parts = _WORD.findall(lowered)
            endings = _plurals(parts[-1]) if language in ("en", "fr", "es") else (parts[-1],)
            for ending in endings:
                if len(parts) == 1:
                    words.setdefault(ending, number)
                else:
                    pairs.setdefault((parts[-2], ending), number)
    longest_first = sorted(ideographs, key=len, reverse=True)
    return words, pairs, re.compile("|".join(map(re.escape, longest_first))), ideographs


_WORDS, _PAIRS, _IDEOGRAPH_PATTERN, _IDEOGRAPH_TABLE = _tables()
_PAIR_STARTS = frozenset(first for first, _ in _PAIRS)


@attrs.frozen
class Reading:
    """What a text tells.

    Attributes:
        category: The category it speaks of most, ``None`` when it is too sparse to say.
        scores: Points by the category's place in `CATEGORIES`, in order of first mention.
        confusable: Whether it is an adapter of the kind that is easily taken for a charger.
    """

    category: str | None
    scores: Mapping[int, int]
    confusable: bool

    def best_of(self, allowed: Container[str]) -> str | None:
        """Return the category with the most points among ``allowed``, ``None`` without any."""
        if self.category is None or self.category in allowed:
            return self.category
        candidates = {
            number: points for number, points in self.scores.items() if CATEGORIES[number] in allowed
        }
        return CATEGORIES[max(candidates, key=candidates.__getitem__)] if candidates else None


def plain_text(text: str) -> str:
    """Return the beginning of ``text`` without markup, entities and placeholders for missing values."""
    text = text[:_PLAIN_CHARACTERS]
    if "<" in text:
        text = _TAG.sub(" ", text)
    if "&" in text:
        text = html.unescape(text)
    if "(" in text:
        text = _PLACEHOLDER.sub("", text)
    return text.strip()


def read(title: str, description: str) -> Reading:
    """Read one record, given as plain text.

    A record of a single word is sparse even if the word is a product's name.
    """
    scores: dict[int, int] = {}
    size = 0
    for text, weight in ((title, _TITLE_WEIGHT), (description[:READ_CHARACTERS], 1)):
        words = _WORD.findall(text.lower())
        size += len(words)
        for number in map(_WORDS.get, words):
            if number is not None:
                scores[number] = scores.get(number, 0) + weight
        if not _PAIR_STARTS.isdisjoint(words):
            for number in map(_PAIRS.get, pairwise(words)):
                if number is not None:
                    scores[number] = scores.get(number, 0) + weight * _PHRASE_WEIGHT
        if not text.isascii():
            for run in _IDEOGRAPHS.findall(text):
                size += len(run) // 2
                for match in _IDEOGRAPH_PATTERN.findall(run):
                    number = _IDEOGRAPH_TABLE[match]
                    scores[number] = scores.get(number, 0) + weight * _PHRASE_WEIGHT
    if not scores or size < 2:
        return Reading(None, scores, False)
    best = max(scores, key=scores.__getitem__)
    return Reading(CATEGORIES[best], scores, best == _ADAPTERS and _is_confusable(f"{title} {description}"))


def _is_confusable(text: str) -> bool:
    words = _WORD.findall(text[:READ_CHARACTERS].lower())
    return not _CONFUSABLE_WORDS.isdisjoint(words) or _CONFUSABLE_IDEOGRAPHS.search(text) is not None


def truth(row: Mapping[str, object]) -> str | None:
    """Return the category that a careful reader would give a source row.

    Args:
        row: A record with ``title`` and ``description``; other fields are not looked at.

    Returns:
        One of `CATEGORIES`, or ``None`` when the text is too sparse to say.
    """
    title, description = row.get("title") or "", row.get("description") or ""
    return read(plain_text(str(title)), plain_text(str(description))).category
