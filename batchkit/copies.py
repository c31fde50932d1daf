"""Signs that another copy of this store has sent its rows: our prefix and a key of ours under an unknown nonce.

The guard beside a store does not see a disk snapshot that was rolled back with it, nor a restored server. Such a
store does not know its newest batches, but the list of remote batches does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

from batchkit.builder import RequestBuilder
from batchkit.doubt import SLACK
from batchkit.ids import RemoteId, RowId, RowKey
from batchkit.listing import Lists, read_list
from batchkit.model import Batch, Need, Run, Where
from batchkit.remote import ListPage, RemoteBatch
from batchkit.states import RowState
from batchkit.storage import Store
from batchkit.suspects import Provider, custom_id_of, note_suspect
from batchkit.watch import claimed_by

__all__ = ["Copies"]

T = TypeVar("T")

READ = 5_000


class Copies(Generic[T]):
    """Looks for them, once in the life of a process for every run and place."""

    def __init__(self, store: Store, builder: RequestBuilder[T]) -> None:
        """Prepare."""
        self._store = store
        self._builder = builder
        self._checked: set[tuple[object, ...]] = set()

    def look(self, gateway: Provider, run: Run, page: ListPage, batches: Sequence[Batch]) -> Need | None:
        """Open the ended batches that are newer than the newest known one; give whom that needs, if anybody.

        Raises:
            ProviderError: a batch or the list could not be read; to be tried again.
        """
        mark = (run.id, page.place)
        if mark in self._checked:
            return None
        found = [
            item.id
            for item in self._unknown(gateway, run, page, batches)
            if self._is_ours(gateway, run, page, batches, item)
        ]
        if found:
            return _need(page, found)
        self._checked.add(mark)
        return None

    def _unknown(
        self, gateway: Lists, run: Run, page: ListPage, batches: Sequence[Batch]
    ) -> list[RemoteBatch]:
        here = [batch for batch in batches if batch.place == page.place]
        told = [batch.notes.get("remote_created_at") for batch in here]
        known = [float(at) for at in told if isinstance(at, int | float)]
        known += [batch.head.created_at for batch in here if batch.head is not None]
        # Where nothing was ever sent from here, whatever is older than the run is none of its batches.
        newest = max(known, default=run.created_at - SLACK)
        items: Sequence[RemoteBatch] = page.items
        if page.has_more and all(item.created_at > newest for item in items):
            items = read_list(gateway, back_to=newest).items
        claimed = {remote for batch in batches for remote in claimed_by(batch)}
        new = [i for i in items if i.ended and i.created_at > newest and i.id not in claimed]
        dismissed = self._store.strangers(page.place.workspace, [i.id for i in new]) if new else frozenset()
        return [item for item in new if item.id not in dismissed]

    def _is_ours(
        self, gateway: Provider, run: Run, page: ListPage, batches: Sequence[Batch], item: RemoteBatch
    ) -> bool:
        custom_id = custom_id_of(gateway.first_line(item.id))
        if custom_id is None:
            return False
        parsed = self._builder.parse(custom_id)
        owner = next((b for b in batches if custom_id.endswith(f"-{b.nonce}")), None)
        if owner is not None:
            note_suspect(self._store, owner.id, item.id)
            return False
        if parsed is not None and self._holds(run, parsed[0]):
            return True
        if not any(self._store.locate(r.id, [RowKey(parsed[0])]) for r in self._store.runs() if parsed):
            self._store.dismiss(page.place.workspace, [item.id])
        return False

    def _holds(self, run: Run, part: str) -> bool:
        """Tell whether a key part is that of a row which would be sent."""
        if self._store.locate(run.id, [RowKey(part)]):
            return True
        if self._builder.key_part(RowKey(part)) == part:
            return False  # a literal key: none of this run's
        after: RowId | None = None
        where = Where(states=frozenset({RowState.PENDING}))
        while rows := self._store.page(run.id, where, after=after, limit=READ):
            if any(self._builder.key_part(row.key) == part for row in rows):
                return True
            after = rows[-1].id
        return False


def _need(page: ListPage, found: Sequence[RemoteId]) -> Need:
    named = ", ".join(found)
    return Need(
        who="person",
        why=f"{named} carries keys of this run under a nonce that this store has never drawn: another store of this "
        "workspace has sent the same keys, a copy of this store has, or this store was set back to an earlier state. "
        "Nothing was sent",
        fix="go on with the store that knows it; or, if these are other people's rows or you mean to pay for them again, "
        "from batchkit.holding import Place, disown; "
        f"disown(store, {page.place!r}, {list(found)!r}, by='you'), "
        "then: python -m batchkit resume STORE RUN",
        code="store.copied",
    )
