"""The fields of a record as they were frozen: canonical JSON, read only when somebody looks into them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import from_json
from typing_extensions import override

__all__ = ["FrozenFields", "parse"]


def parse(text: bytes) -> Any:
    """Parse JSON, escaped halves of surrogate pairs included."""
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)


class FrozenFields(Mapping[str, "str | None"]):
    """The fields of one record, behind the line that holds them.

    Most records are read once, to be sent, and then their text goes out as it was written down. So the line
    is kept, and parsed only for those who ask for a field.

    Attributes:
        line: ``[position, key, {field: text or null}]`` as canonical JSON.
    """

    __slots__ = ("_fields", "line")

    def __init__(self, line: bytes) -> None:
        """Keep a line; nothing is parsed yet."""
        self.line: bytes = line
        self._fields: dict[str, str | None] | None = None

    @override
    def __getitem__(self, name: str) -> str | None:
        """Give the text of a field."""
        return self._read()[name]

    @override
    def __iter__(self) -> Iterator[str]:
        """Give the names of the fields, sorted."""
        return iter(self._read())

    @override
    def __len__(self) -> int:
        """Count the fields."""
        return len(self._read())

    @override
    def __repr__(self) -> str:
        """Show the fields as the mapping that they are."""
        return repr(self._read())

    @property
    def is_read(self) -> bool:
        """Tell whether anybody looked into the fields so far."""
        return self._fields is not None

    def _read(self) -> dict[str, str | None]:
        fields = self._fields
        if fields is None:
            fields = self._fields = parse(self.line)[2]
        return fields
