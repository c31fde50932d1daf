"""How long a record's own text is in a request, without writing it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic_core import to_json

from batchkit.encoding import quoted
from batchkit.prompt import Prompt

__all__ = ["WIDTH", "TextSizes", "text_size"]

WIDTH = 8
"""Characters of a nonce."""


class TextSizes:
    """The lengths of a template's texts, encoded. JSON escapes character by character, so parts add up."""

    def __init__(self, prompt: Prompt) -> None:
        """Measure what is the same for all records."""
        self._gaps = prompt.gaps
        self._fixed = text_size(prompt, dict.fromkeys(prompt.fields, "-")) - len(prompt.gaps)
        self._missing = len(quoted(prompt.missing)) - 2

    def size(self, fields: Mapping[str, str | None]) -> int:
        """Give what `text_size` gives, without rendering."""
        size = self._fixed
        for name in self._gaps:
            value = fields[name]
            size += len(to_json(value)) - 2 if value and not value.isspace() else self._missing
        return size


def text_size(prompt: Prompt, fields: Mapping[str, str | None]) -> int:
    """Give the encoded length of a record's text, quotation marks not counted."""
    return len(quoted(prompt.render(fields, nonce="a" * WIDTH))) - 2
