"""Looking at remote batches that may be ours, and what the store knows for telling. Nothing is done to them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Protocol

import attrs

from batchkit.doubt import Finding, Known, elsewhere, owner
from batchkit.errors import ProviderError
from batchkit.ids import BatchId, RemoteId
from batchkit.model import Batch, BatchWhere, DocKind, Place
from batchkit.remote import ListPage, RemoteBatch
from batchkit.states import BatchState
from batchkit.storage import Store
from batchkit.watch import claimed_by, was_late

__all__ = [
    "Look",
    "Provider",
    "custom_id_of",
    "inspect",
    "known_to",
    "note_suspect",
    "place_scope",
    "reported",
    "with_strangers",
]

HOLDERS = frozenset({BatchState.LIVE, BatchState.ENDED, BatchState.COLLECTED, BatchState.UNRECOVERABLE})


class Provider(Protocol):
    """What a look at suspects needs of a gateway."""

    def snapshot(self) -> Provider:
        """Give one whose credential stays the same."""
        ...

    def list(self, limit: int = ..., after_id: RemoteId | None = ...) -> ListPage:
        """Read one page of the list."""
        ...

    def retrieve(self, remote: RemoteId) -> RemoteBatch | None:
        """Read one batch; None on 404."""
        ...

    def first_line(self, remote: RemoteId) -> bytes | None:
        """Read the first result line of an ended batch; None where there is none."""
        ...


@attrs.frozen(kw_only=True)
class Look:
    """What a look at one suspect showed. ``at`` is the server's time, where the answer told it."""

    finding: Finding
    at: float | None = None
    expires_at: float | None = None


def inspect(store: Store, gateway: Provider, batch: Batch, remote: RemoteId, known: Known) -> Look | None:
    """Open one suspect as far as it can be opened; None where nobody answered who could know, which is no finding.

    A stranger is remembered as one; a batch of ours under another nonce is left for whoever moves that one.
    """
    try:
        found = gateway.retrieve(remote)
        if found is None:
            # A key of another workspace finds none of ours.
            away = elsewhere(batch.place, gateway.list(1).place)
            return None if away else Look(finding=Finding.MISSING)
        if not found.ended:
            return Look(finding=Finding.RUNNING, at=found.seen_at, expires_at=found.expires_at)
        line = gateway.first_line(remote)
    except ProviderError:
        return None
    custom_id = custom_id_of(line)
    finding = owner(custom_id, batch, known)
    if finding is Finding.STRANGER:
        store.dismiss(batch.place.workspace, [remote])
    elif finding is Finding.OTHER and custom_id is not None:
        nonce = custom_id.rpartition("-")[2]
        for other in store.batches(BatchWhere()):
            if other.nonce == nonce:
                note_suspect(store, other.id, remote)
    return Look(finding=finding, at=found.seen_at)


def note_suspect(store: Store, batch: BatchId, remote: RemoteId) -> None:
    """Leave a remote id for whoever moves the batch's run; needs no lease. Repeating changes nothing."""
    scope = f"suspect/{batch}"
    left = {json.loads(body)["remote_id"] for _, body in store.docs(DocKind.READING, scope=scope)}
    if remote not in left:
        store.append(DocKind.READING, scope, json.dumps({"remote_id": remote}).encode())


def reported(store: Store) -> Mapping[BatchId, list[RemoteId]]:
    """Give the remote ids that were left for batches."""
    left: dict[BatchId, list[RemoteId]] = {}
    for key, body in store.docs(DocKind.READING, scope="suspect"):
        left.setdefault(BatchId(int(key.split("/")[1])), []).append(RemoteId(json.loads(body)["remote_id"]))
    return left


def known_to(store: Store, batch: Batch) -> Known:
    """Gather what the store knows for telling its own batches from strangers."""
    batches = store.batches(BatchWhere())
    trusted = store.docs(DocKind.READING, scope=place_scope(batch.place))
    forgiven = set(json.loads(trusted[-1][1])["late"]) if trusted else set[int]()
    return Known(
        nonces=frozenset(b.nonce for b in batches),
        claimed=frozenset(remote for b in batches for remote in claimed_by(b)),
        in_place=frozenset(
            b.remote_id
            for b in batches
            if b.remote_id is not None
            and b.place == batch.place
            and (b.state in HOLDERS or b.held_from in HOLDERS)
        ),
        late_twin=any(b.place == batch.place and was_late(b) and b.id not in forgiven for b in batches),
    )


def with_strangers(store: Store, known: Known, batch: Batch, items: Sequence[RemoteBatch]) -> Known:
    """Add those of the listed batches of this size that were opened before and are not ours."""
    ids = [item.id for item in items if item.total == batch.count]
    strangers = store.strangers(batch.place.workspace, ids) if ids else frozenset()
    return attrs.evolve(known, strangers=strangers)


def place_scope(place: Place) -> str:
    """Give the scope under which a person's word about a place stands."""
    named = json.dumps([place.base_url, place.organization, place.workspace])
    return f"trusted/{sha256(named.encode()).hexdigest()}"


def custom_id_of(line: bytes | None) -> str | None:
    """Give the custom id of a result line that parses fully, else None."""
    try:
        parsed = json.loads(line) if line else None
    except (ValueError, RecursionError):
        return None
    named = parsed.get("custom_id") if isinstance(parsed, dict) and "result" in parsed else None
    return named if isinstance(named, str) else None
