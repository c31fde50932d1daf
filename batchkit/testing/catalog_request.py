"""What a simulated model sees of a request: the static text, the row, the shape it should answer in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import attrs

from batchkit.testing.schema_answers import resolve
from batchkit.testing.taxonomy import CATEGORIES

__all__ = ["KEYS", "Head", "Message", "Shape"]

KEYS: tuple[str, ...] = ("category", "features", "summary")
"""The fields of the catalog's own contract."""

_KNOWN = frozenset(CATEGORIES)

_FENCED = re.compile(r"<(record-[\w-]+)>\n(.*)\n</\1>(.*)", re.DOTALL)
_TITLE = re.compile(r"^[^\w\n]*title\b[^\w\n]*:[^\S\n]*", re.IGNORECASE | re.MULTILINE)
_DESCRIPTION = re.compile(r"^[^\w\n]*description\b[^\w\n]*:[^\S\n]*", re.IGNORECASE | re.MULTILINE)
_NULL = re.compile(r"\bnull\b", re.IGNORECASE)
_TOO_LITTLE = re.compile(
    r"sparse|do(?:es)?(?: not|n['’]t) (?:say|tell)|not enough|too (?:little|short|thin)|says? nothing"
    r"|\b(?:is|are) empty|empty (?:text|title|description|record|row)",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.;!?](?:\s|$)|\n")
_ADAPTER_EXAMPLE = re.compile(r'\\?"category\\?"\s*:\s*\\?"Adapters\\?"')


@attrs.frozen
class Head:
    """What the static part of a prompt teaches."""

    asks_for_null: bool
    shows_adapters: bool

    @classmethod
    def of(cls, params: Mapping[str, Any], message: Message) -> Head:
        """Read the system prompt, the earlier messages, and what precedes the row in the last one."""
        text = _text(params.get("system"))
        for earlier in (params.get("messages") or ())[:-1]:
            text += "\n" + _text(earlier.get("content"))
        return _head(f"{text}\n{message.before}")


@lru_cache(maxsize=64)
def _head(text: str) -> Head:
    asks = any(_NULL.search(part) and _TOO_LITTLE.search(part) for part in _SENTENCE.split(text))
    return Head(asks, _ADAPTER_EXAMPLE.search(text) is not None)


def _text(content: str | Sequence[Any] | None) -> str:
    """Return the text of a system prompt or a message, given as such or in blocks."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(str(block.get("text") or "") for block in content if isinstance(block, Mapping))


@attrs.frozen
class Message:
    """The last user message, taken apart.

    Attributes:
        before: What precedes the row.
        title: The row's title, or nothing where the prompt names none.
        description: The row's description, or the whole row where the prompt names neither.
        corrected: Whether something follows the fenced row: what was wrong with an earlier answer.
    """

    before: str
    title: str
    description: str
    corrected: bool

    @classmethod
    def of(cls, text: str) -> Message:
        fenced = _FENCED.search(text)
        if fenced is None:
            # Examples may stand before the row: the last title is the row's.
            title: re.Match[str] | None = None
            for title in _TITLE.finditer(text):  # noqa: B007 - the last one is wanted
                pass
            description = _DESCRIPTION.search(text, title.end() if title else 0)
            first = title or description
            before = text[: first.start()] if first else ""
            return cls(before, *_labelled(text, title, description), corrected=False)
        row = fenced[2]
        title = _TITLE.search(row)
        description = _DESCRIPTION.search(row, title.end() if title else 0)
        before, after = text[: fenced.start()], fenced[3].strip()
        return cls(before, *_labelled(row, title, description), corrected=bool(after))


def _labelled(text: str, title: re.Match[str] | None, description: re.Match[str] | None) -> tuple[str, str]:
    if title is None:
        return "", text[description.end() :] if description else text
    if description is None:
        return text[title.end() :], ""
    return text[title.end() : description.start()], text[description.end() :]


@attrs.frozen
class Shape:
    """The answer's shape as the request asks for it.

    Attributes:
        schema: The wire schema, empty when there is none.
        keys: The keys to answer with, when the shape is the catalog's own.
        allowed: Categories to choose from.
        nullable: Whether the category may be null.
        is_catalog: Whether the shape is the catalog's own.
    """

    schema: Mapping[str, Any]
    keys: tuple[str, ...] = KEYS
    allowed: tuple[str, ...] = CATEGORIES
    nullable: bool = True
    is_catalog: bool = True

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> Shape:
        output = params.get("output_config") or {}
        schema = (output.get("format") or {}).get("schema")
        if not isinstance(schema, Mapping):
            return _FREE
        root = schema
        schema = resolve(schema, root)
        keys = tuple(schema.get("properties") or ())
        if "category" not in keys or not set(keys) <= set(KEYS):
            return cls(root, is_catalog=False)
        allowed, nullable = _allowed(schema["properties"]["category"], root)
        if not allowed:
            return cls(root, keys, CATEGORIES, nullable)
        return cls(root, keys, allowed, nullable, is_catalog=not _KNOWN.isdisjoint(allowed))


_FREE = Shape({})


def _allowed(node: Any, root: Mapping[str, Any]) -> tuple[tuple[str, ...], bool]:
    """Return the enum's values and whether null is one of them; no values mean free text."""
    node = resolve(node, root)
    allowed: tuple[str, ...] = ()
    nullable = False
    for option in node.get("anyOf") or (node,):
        part = resolve(option, root)
        kind = part.get("type")
        nullable = nullable or kind == "null" or (isinstance(kind, list) and "null" in kind)
        values = tuple(part.get("enum") or ())
        if part.get("const") is not None:
            values += (part["const"],)
        try:
            texts, null = _texts(values)
        except TypeError:  # a list or an object among them
            continue
        allowed += texts
        nullable = nullable or null
    return allowed, nullable


@lru_cache(maxsize=256)
def _texts(values: tuple[Any, ...]) -> tuple[tuple[str, ...], bool]:
    """Return the strings among an enum's values, and whether null is among them."""
    return tuple(value for value in values if isinstance(value, str)), None in values
