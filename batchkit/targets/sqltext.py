"""SQL text from literal templates and checked parts: values are never among them."""

from __future__ import annotations

from typing import NewType

from typing_extensions import LiteralString

from batchkit.errors import UsageError

Sql = NewType("Sql", str)
"""A piece of SQL that came from this module: a literal, or an identifier that was quoted."""


def identifier(name: str) -> Sql:
    """Quote a table or column name.

    Raises:
        UsageError: the name is empty or holds a NUL character, which no database takes.
    """
    if not name or "\0" in name:
        raise UsageError(f"{name!r} cannot be the name of a table or a column")
    return Sql('"' + name.replace('"', '""') + '"')


def sql(template: LiteralString, **parts: Sql) -> Sql:
    """Fill ``{name}`` in a literal template with checked parts."""
    return Sql(template.format(**parts))


def joined(separator: LiteralString, parts: list[Sql]) -> Sql:
    """Join checked parts."""
    return Sql(separator.join(parts))
