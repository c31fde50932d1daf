"""Documents, and strangers, in an ordered map."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import islice

from batchkit.errors import StoreError
from batchkit.ids import Digest, RemoteId, RunId
from batchkit.model import DocKind, NewEvent
from batchkit.storage.events import encode_event, event_scope
from batchkit.storage.keyvalue.base import KeyValueBase
from batchkit.storage.keyvalue.entries import BULK, Entries, beyond, named
from batchkit.storage.records import dump

_DIGITS = 12


class KeyValueDocuments(KeyValueBase):
    """`batchkit.storage.DocumentStore` on an ordered map."""

    def put(self, kind: DocKind, key: str, body: bytes) -> Digest:
        """Store a document under a key of its own."""
        with self._write() as entries:
            held = entries.one(named("document", kind.value, key))
            if held is None:
                self._insert(entries, kind, key, body)
            elif held != body:
                raise StoreError(
                    f"the {kind.value} document {key!r} exists with other content; documents do not change. Use another key."
                )
        return Digest(sha256(body).hexdigest())

    def append(self, kind: DocKind, scope: str, body: bytes) -> str:
        """Store a document under the next key of the scope."""
        with self._write() as entries:
            return self._append(entries, kind, scope, body)

    def get(self, kind: DocKind, key: str) -> bytes | None:
        """Give a document's body, or None."""
        with self._read() as entries:
            return entries.one(named("document", kind.value, key))

    def docs(
        self, kind: DocKind, *, scope: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[tuple[str, bytes]]:
        """Give the documents of a kind in order of key."""
        all_ = named("document", kind.value)
        within = named("document", kind.value, scope) if scope else all_
        low = max(within + b"/", named("document", kind.value, after) + b"\0" if after else b"")
        skip = len(all_) + 1
        with self._read() as entries:
            found = entries.walk(low, beyond(within), BULK if limit is None else max(1, min(limit, BULK)))
            return [(key[skip:].decode("utf-8", "surrogatepass"), body) for key, body in islice(found, limit)]

    def strangers(self, workspace: str, ids: Sequence[RemoteId]) -> frozenset[RemoteId]:
        """Give those of the ids that were dismissed as not ours in this workspace."""
        asked = {_stranger(workspace, id_): id_ for id_ in ids}
        with self._read() as entries:
            return frozenset(asked[key] for key in entries.some(asked))

    def dismiss(self, workspace: str, ids: Sequence[RemoteId]) -> None:
        """Remember that these remote batches are not ours."""
        with self._write() as entries:
            entries.put({_stranger(workspace, id_): b"" for id_ in ids})

    def _tell(self, entries: Entries, run: RunId, events: Iterable[NewEvent]) -> None:
        for event in events:
            self._append(entries, DocKind.EVENT, event_scope(run), encode_event(event, self.now()))

    def _append(self, entries: Entries, kind: DocKind, scope: str, body: bytes) -> str:
        key = f"{scope}/{entries.last(_scope(kind, scope)) + 1:0{_DIGITS}d}"
        self._insert(entries, kind, key, body)
        return key

    def _insert(self, entries: Entries, kind: DocKind, key: str, body: bytes) -> None:
        """Keep a document, and the number that it has in its scope, if it has one: the next is counted from there."""
        entries.put({named("document", kind.value, key): body})
        scope, slash, digits = key.rpartition("/")
        if slash and len(digits) == _DIGITS and digits.isascii() and digits.isdigit():
            more = int(digits) - entries.last(_scope(kind, scope))
            if more > 0:
                entries.draw(_scope(kind, scope), more)


def _scope(kind: DocKind, scope: str) -> str:
    return f"{kind.value}/{scope}"


def _stranger(workspace: str, id_: RemoteId) -> bytes:
    return named("stranger", dump([workspace, id_]))
