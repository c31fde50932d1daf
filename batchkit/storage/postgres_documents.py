"""Documents in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from typing_extensions import override

from batchkit.errors import StoreError
from batchkit.ids import Digest
from batchkit.model import DocKind
from batchkit.storage.postgres_base import NOW, PostgresBase
from batchkit.storage.postgres_database import Transaction

_PUT: Final = f"""
    INSERT INTO document (kind, key, digest, at, body) VALUES (%(kind)s, %(key)s, %(digest)s, {NOW}, %(body)s)
    ON CONFLICT (kind, key) DO NOTHING
"""  # noqa: S608 (a constant)
_APPEND: Final = f"""
    INSERT INTO document (kind, key, digest, at, body)
    SELECT %(kind)s, %(scope)s || '/' || lpad((1 + coalesce(max(last.number), 0))::text, 12, '0'), %(digest)s, {NOW}, %(body)s
    FROM (
        SELECT right(key, 12)::bigint AS number FROM (
            SELECT key FROM document
            WHERE kind = %(kind)s AND key > %(scope)s || '/' AND key < %(scope)s || '/:'
            AND length(key) = length(%(scope)s) + 13 AND right(key, 12) ~ '^[0-9]+$'
            ORDER BY key DESC LIMIT 1
        ) AS highest
    ) AS last
    ON CONFLICT (kind, key) DO NOTHING RETURNING key
"""  # noqa: S608 (a constant)


class PostgresDocuments(PostgresBase):
    """`batchkit.storage.DocumentStore` on PostgreSQL."""

    def put(self, kind: DocKind, key: str, body: bytes) -> Digest:
        """Store a document under a key of its own."""
        digest = sha256(body).hexdigest()
        with self._db.write() as transaction:
            values = self._moment(kind=kind.value, key=key, digest=digest, body=body)
            if not transaction.change(_PUT, values):
                held = transaction.all(
                    "SELECT digest FROM document WHERE kind = %(kind)s AND key = %(key)s", values
                )
                if held[0][0] != digest:
                    raise StoreError(
                        f"the {kind.value} document {key!r} exists with other content; documents do not change. Use another key."
                    )
        return Digest(digest)

    def append(self, kind: DocKind, scope: str, body: bytes) -> str:
        """Store a document under the next key of the scope."""
        with self._db.write() as transaction:
            return self._append(transaction, kind, scope, body)

    def get(self, kind: DocKind, key: str) -> bytes | None:
        """Give a document's body, or None."""
        with self._db.read() as transaction:
            found = transaction.first(
                "SELECT body FROM document WHERE kind = %s AND key = %s", (kind.value, key)
            )
        return None if found is None else bytes(found[0])

    def docs(
        self, kind: DocKind, *, scope: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[tuple[str, bytes]]:
        """Give the documents of a kind in order of key."""
        # "0" is the character after "/": the bounds are exactly the keys that begin with the scope.
        low, high = (f"{scope}/", f"{scope}0") if scope else ("", None)
        with self._db.read() as transaction:
            found = transaction.all(
                "SELECT key, body FROM document WHERE kind = %(kind)s AND key > %(after)s AND key >= %(low)s "
                "AND (%(high)s::text IS NULL OR key < %(high)s::text) ORDER BY key LIMIT %(limit)s",
                {"kind": kind.value, "after": after, "low": low, "high": high, "limit": limit},
            )
        return [(key, bytes(body)) for key, body in found]

    @override
    def _append(self, transaction: Transaction, kind: DocKind, scope: str, body: bytes) -> str:
        values = self._moment(kind=kind.value, scope=scope, digest=sha256(body).hexdigest(), body=body)
        # A writer that takes the same number at the same time is waited for; if it commits, the next number is ours.
        while (made := transaction.first(_APPEND, values)) is None:
            pass
        key: str = made[0]
        return key
