"""What an earlier run of a series staged: found again by key and content, so that it is not paid for twice."""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator

from batchkit import source
from batchkit.ids import ResultId, RowId, RowKey
from batchkit.model import RowView, Run, Where
from batchkit.states import RowState
from batchkit.storage import RowStore

_SCAN = 2_000
_WIDTH = 16


class StagedIndex:
    """Finds, for a record of equal key and content, the result that an earlier run of the series staged.

    Held as one sorted array of 16-byte content hashes and one of result ids: 24 bytes a row.
    """

    def __init__(self, store: RowStore, earlier: Run) -> None:
        """Read the staged rows of the earlier run."""
        pairs = sorted(_entries(store, earlier))
        self._hashes = _Hashes(b"".join(digest for digest, _ in pairs))
        self._results = array("q", [result for _, result in pairs])

    def find(self, key: RowKey, content: bytes) -> ResultId | None:
        """Give the staged result for this key and canonical content, if there is one."""
        wanted = _content_hash(content)
        at = bisect_left(self._hashes, wanted)
        if at < len(self._results) and self._hashes[at] == wanted:
            return ResultId(self._results[at])
        return None


class _Hashes:
    """Sixteen-byte entries of one bytes object, as a sequence that bisect can search."""

    def __init__(self, packed: bytes) -> None:
        self._packed = packed

    def __len__(self) -> int:
        return len(self._packed) // _WIDTH

    def __getitem__(self, index: int) -> bytes:
        return self._packed[index * _WIDTH : (index + 1) * _WIDTH]


def _entries(store: RowStore, earlier: Run) -> Iterator[tuple[bytes, int]]:
    where = Where(states=frozenset({RowState.SUCCEEDED, RowState.UNCHANGED}), source=True)
    after: RowId | None = None
    while page := store.page(earlier.id, where, after=after, limit=_SCAN):
        for view in page:
            if view.result is not None:
                yield _content_hash(_content(view)), view.result
        after = page[-1].id


def _content_hash(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_WIDTH).digest()


def _content(view: RowView) -> bytes:
    return source.content_line(view.key, view.fields or {})
