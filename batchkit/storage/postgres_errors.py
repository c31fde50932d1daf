"""What PostgreSQL's errors mean to whoever uses the store: one table, by SQLSTATE."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from batchkit.errors import StoreError
from batchkit.login import refusal

if TYPE_CHECKING:
    import psycopg

MIGRATE: Final = "python -m batchkit migrate STORE"
"""The command that makes the tables."""

RIGHTS: Final = "docs/how-to/postgres.md lists them"
"""Where a user finds the rights to grant."""

MEANINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # The longest beginning counts.
        "08": "it cannot be reached, or the connection broke; nothing was changed, try again",
        "22021": "a text holds a character that PostgreSQL cannot store (NUL); nothing was changed",
        "25006": "the server takes no writes (a standby?); nothing was changed. Give the address of the primary",
        "28": "the server refused this user; check the address, the password (PGPASSWORD, ~/.pgpass) and pg_hba.conf",
        "3D000": "there is no such database; make it first",
        "40001": "another process changed the same rows; nothing was changed, try again",
        "40P01": "another process waited for this one; nothing was changed, try again",
        "42501": f"this user lacks a right that the store needs; {RIGHTS}",
        "42P01": f"the schema lacks the store's tables; make them: {MIGRATE}",
        "53": "the server is out of room (disk, memory or connections); nothing was changed, try again later",
        "55P03": "another process kept the rows locked; nothing was changed, try again",
        "57014": "the statement took too long, or was canceled; nothing was changed, try again",
        "57P": "the server stops or starts; nothing was changed, try again",
    }
)


def as_ours(error: psycopg.Error, name: str, schema: str) -> StoreError:
    """Give the store's error for a database's.

    Args:
        error: the driver's.
        name: which database, without a password.
        schema: which schema.
    """
    told = str(error).strip().partition("\n")[0]
    # The driver itself refuses NUL, without a code.
    code = error.sqlstate or ("22021" if "NUL" in str(error) else refusal(told))
    meaning = next((MEANINGS[code[:n]] for n in (5, 3, 2) if code[:n] in MEANINGS), None)
    if meaning is None:
        meaning = MEANINGS["08"] if is_cut(error) else "nothing was changed"
    return StoreError(f"{name} (schema {schema}): {meaning} ({told})")


def is_cut(error: psycopg.Error) -> bool:
    """Tell whether the error is about the connection, not about a statement: the server's answer is not known."""
    from psycopg import OperationalError

    return isinstance(error, OperationalError) and (
        error.sqlstate is None or error.sqlstate[:3] in {"57P", "080"}
    )
