"""Documents in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import sha256

from typing_extensions import override

from batchkit.errors import StoreError
from batchkit.ids import Digest
from batchkit.model import DocKind
from batchkit.storage.sqlite_base import SQLiteBase, numbered

_DIGITS = 12


class SQLiteDocuments(SQLiteBase):
    """`batchkit.storage.DocumentStore` on SQLite."""

    def put(self, kind: DocKind, key: str, body: bytes) -> Digest:
        """Store a document under a key of its own."""
        digest = sha256(body).hexdigest()
        with self._db.write() as connection:
            found = connection.execute(
                "SELECT digest FROM document WHERE kind = ? AND key = ?", (kind.value, key)
            ).fetchone()
            if found is None:
                self._insert(connection, kind, key, digest, body)
            elif found[0] != digest:
                raise StoreError(
                    f"the {kind.value} document {key!r} exists with other content; documents do not change. Use another key."
                )
        return Digest(digest)

    def append(self, kind: DocKind, scope: str, body: bytes) -> str:
        """Store a document under the next key of the scope."""
        with self._db.write() as connection:
            return self._append(connection, kind, scope, body)

    def get(self, kind: DocKind, key: str) -> bytes | None:
        """Give a document's body, or None."""
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT body FROM document WHERE kind = ? AND key = ?", (kind.value, key)
            ).fetchone()
        return None if found is None else bytes(found[0])

    def docs(
        self, kind: DocKind, *, scope: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[tuple[str, bytes]]:
        """Give the documents of a kind in order of key."""
        # "0" is the character after "/": the bounds are exactly the keys that begin with the scope.
        low, high = (f"{scope}/", f"{scope}0") if scope else ("", None)
        with self._db.read() as connection:
            found = connection.execute(
                "SELECT key, body FROM document WHERE kind = :p1 AND key > :p2 AND key >= :p3 AND (:p4 IS NULL OR key < :p4) "
                "ORDER BY key LIMIT :p5",
                numbered(kind.value, after, low, high, -1 if limit is None else limit),
            ).fetchall()
            return [(key, bytes(body)) for key, body in found]

    @override
    def _append(self, connection: sqlite3.Connection, kind: DocKind, scope: str, body: bytes) -> str:
        last = connection.execute(
            "SELECT key FROM document WHERE kind = :p1 AND key > :p2 || '/' AND key < :p2 || '/:' "
            "AND length(key) = length(:p2) + 13 AND substr(key, -12) NOT GLOB '*[^0-9]*' "
            "ORDER BY key DESC LIMIT 1",
            numbered(kind.value, scope),
        ).fetchone()
        key = f"{scope}/{1 if last is None else int(last[0][-_DIGITS:]) + 1:0{_DIGITS}d}"
        self._insert(connection, kind, key, sha256(body).hexdigest(), body)
        return key

    def _insert(
        self, connection: sqlite3.Connection, kind: DocKind, key: str, digest: str, body: bytes
    ) -> None:
        connection.execute(
            "INSERT INTO document (kind, key, digest, at, body) VALUES (?, ?, ?, ?, ?)",
            (kind.value, key, digest, self.now(), body),
        )
