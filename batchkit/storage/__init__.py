"""The storage interface: small Protocols, each method one transaction.

A backend implements all four Protocols; a part of batchkit asks for the narrowest it needs. Every
sentence below is a test in :class:`batchkit.testing.StoreContract`.

Rules for every method:

* A method either takes effect wholly or raises and leaves the store as it was, wherever it breaks off; its
  handle can be used again.
* Any number of handles may be open on one store, and threads may share one. What a method committed every later
  one sees, and none sees half of another. Of two that meet the second waits, or is refused as its docstring says.
* Every method that takes a lease starts with the fence: it raises :class:`batchkit.errors.LeaseLost`
  unless the lease's epoch is the run's current one, and it renews the lease. An expired lease that
  nobody has taken since is still current; a released one is not.
* A run, row, batch or parent that the store does not hold, or a row or batch of another run than the
  lease's, raises StoreError.
* Events are appended as documents of kind EVENT under the scope ``run-ID``: JSON with ``kind``, ``at``,
  ``severity`` and ``data``.
* Rows and batches are returned in ascending order of id, documents in ascending order of key.
* Times are seconds since the epoch, read from the store's clock; amounts are integer nano-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from batchkit.ids import BatchId, Digest, RemoteId, ResultId, RowId, RowKey, RunId
from batchkit.model import (
    Applied,
    Batch,
    BatchFacts,
    BatchWhere,
    DocKind,
    Intent,
    Lease,
    LedgerLine,
    Members,
    NewRun,
    Place,
    ResultView,
    RowView,
    Run,
    RunFacts,
    Seal,
    Settled,
    SourceRow,
    Tally,
    Where,
)
from batchkit.states import BatchState, RunState


class RunStore(Protocol):
    """Runs and the right to move them."""

    def open_run(self, new: NewRun) -> tuple[Run, bool]:
        """Create the run in FREEZING and give ``(run, True)``.

        If a run of that name exists it is given unchanged with False, whatever its spec:
        the caller compares.
        """
        ...

    def runs(self, *, name: str | None = None, parent: RunId | None = None) -> Sequence[Run]:
        """Give the runs that match all arguments given."""
        ...

    def acquire(self, run: RunId, owner: str, ttl: float) -> Lease | None:
        """Take the lease for ``ttl`` seconds with an epoch one higher than any before.

        Gives None while another owner's lease lives. The same owner, or anybody after the lease was
        released or expired, gets a new epoch; older leases of the run then raise LeaseLost.
        Later writes under the lease renew it by the same ``ttl``.
        """
        ...

    def holder(self, run: RunId) -> Lease | None:
        """Give the living lease of a run, if there is one, without changing anything."""
        ...

    def release(self, lease: Lease) -> None:
        """End the lease. Does nothing if it was lost already."""
        ...

    def move_run(self, lease: Lease, *, expect: RunState, to: RunState, facts: RunFacts = ...) -> Run:
        """Move the run from ``expect`` to ``to``, apply the facts and append their events.

        ``to`` equal to ``expect`` only applies the facts. Raises IllegalTransition where the table has
        no such edge, and StoreError where the run is not in ``expect``, or where the facts would freeze
        again a run that is not FREEZING.
        """
        ...


class RowStore(Protocol):
    """Frozen source records and the state of each."""

    def freeze(self, lease: Lease, page: Sequence[SourceRow], *, seal: Seal | None = None) -> int:
        """Append a page of source records and give how many records the run holds now.

        The page starts where the last one ended and has PAGE records unless it is the last; another raises
        UsageError. A page whose records are held already is compared by digest: equal, nothing happens;
        different, RowsChanged is raised. Each record's state follows from its event. With ``seal`` (the page
        may be empty) the keys are checked, repeats become ``input.duplicate_key`` as the seal says, count and
        digest are fixed and the run moves to OPEN; sealing again changes nothing. A seal for fewer records
        than are held raises RowsChanged: the source ended early. Records without a key are not repeats of
        each other, and records refused for another reason keep it. Where the seal refuses, DuplicateKeys
        names at most ten keys, and the run's records are dropped, so that freezing starts again from record
        0. A run that is not FREEZING takes no further record (RowsChanged).
        """
        ...

    def tally(self, run: RunId) -> Tally:
        """Count the rows of a run by (state, reason, tier)."""
        ...

    def page(
        self, run: RunId, where: Where, *, after: RowId | None = None, limit: int = 1000
    ) -> Sequence[RowView]:
        """Give up to ``limit`` matching rows with an id above ``after``; fewer only at the end."""
        ...

    def rows(self, ids: Sequence[RowId], *, source: bool = False, results: bool = False) -> Sequence[RowView]:
        """Give the rows with these ids, in the order asked for. Unknown ids raise StoreError."""
        ...

    def locate(self, run: RunId, keys: Sequence[RowKey]) -> Mapping[RowKey, RowId]:
        """Give the id of each key the run holds; of a repeated key the record that is not a repeat, else the first."""
        ...

    def digests(self, run: RunId) -> Sequence[Digest]:
        """Give the digest of each frozen source page in order."""
        ...

    def results(
        self, run: RunId, *, after: ResultId | None = None, limit: int = 1000
    ) -> Sequence[ResultView]:
        """Give up to ``limit`` results of a run's rows with an id above ``after``, in the order they were settled."""
        ...

    def settled_order(self, results: Sequence[ResultId]) -> Sequence[int]:
        """Give, for each result, a number of which the higher was settled later, whichever runs they are of.

        Unknown ids raise StoreError.
        """
        ...

    def ledger(self, run: RunId) -> Sequence[LedgerLine]:
        """Count and sum the results of a run, one line for those of the same batch, event, tier, verdict and model.

        Results that stand, each the answer of a staged row, and results without usage have lines of their own.
        """
        ...

    def index_staged(self, lease: Lease, runs: Sequence[RunId]) -> None:
        """Bring the index of a series up to date with what its ``runs``, all but the lease's own, have staged.

        The series is known by the oldest of them. What is settled in any of them later is found at the next call.
        """
        ...

    def find_staged(
        self, series: RunId, spec: Digest, page: Sequence[SourceRow]
    ) -> Sequence[ResultId | None]:
        """Give, for each record, the result that the series last staged for its key.

        None where nothing was staged under the key, where what was staged last came of another spec or of other
        content (the record's line, its position left out), and where that row is not staged any more. ``series``
        is the oldest run of the series, as :meth:`index_staged` has left it.
        """
        ...


class BatchStore(Protocol):
    """Batches, their members and what came back."""

    def intend(self, lease: Lease, intent: Intent, rows: Sequence[RowId]) -> Batch:
        """Record a batch in INTENT with these rows, all of which become SUBMITTED in it, and reserve its cost.

        Nothing happens and an error is raised if the run is not OPEN, if there is no row, if any row is not
        PENDING or given twice, or if the nonce was used before (StoreError), if spent plus reserved of all
        batches of the *store* plus ``intent.reserve`` exceeds ``intent.cap`` (OverBudget), or if another
        batch of the same place is unresolved: INTENT, SENDING, DOUBTFUL, or HELD from DOUBTFUL (Unresolved).
        A store that looks copied or restored raises StoreHeld here, and where a batch is claimed, until it is
        confirmed. The transaction is on disk before the method returns.
        """
        ...

    def batches(self, where: BatchWhere) -> Sequence[Batch]:
        """Give the matching batches, of all runs unless the filter names one."""
        ...

    def members(self, batch: BatchId) -> Members:
        """Give the rows of a batch, in the order they were given to ``intend``; the same for ever."""
        ...

    def move_batch(
        self,
        lease: Lease,
        batch: BatchId,
        *,
        expect: BatchState,
        to: BatchState,
        facts: BatchFacts = ...,
        free: bool = False,
    ) -> Batch:
        """Move a batch of the lease's run from ``expect`` to ``to``, apply the facts and append their events.

        ``to`` equal to ``expect`` only applies the facts. Going to HELD remembers ``expect`` as
        ``held_from``; leaving HELD forgets it and the need. With ``free`` the rows that are SUBMITTED in
        this batch become PENDING, keeping reason, tier, tries and resends. What the facts book is added to
        what the batch spent. Raises IllegalTransition where
        the table has no such edge, StoreError where the batch is not in ``expect`` or where another batch
        has the remote id already.
        """
        ...

    def settle(
        self, lease: Lease, source: BatchId | None, page: Sequence[Settled], *, by: str = ""
    ) -> Applied:
        """Append one result per item and apply it to its row, if the row is still where the item takes it from.

        A row is taken from the state its event starts in (states.ROW_TRANSITIONS) and, with a batch as
        ``source``, only while it is in that batch (the valid line of a late twin: only while it is in none);
        rows taken elsewhere are *ignored*: no result, no cost. Of a row given twice the first item counts.
        A row that leaves SUBMITTED is in no batch afterwards. The row's ``cost`` and ``answers`` grow by
        each applied item that has usage; the batch's ``lines`` and ``spent`` grow by the applied items.
        ``source`` None is for decisions without a batch; ``by`` names the person where there was one.
        An event that the source cannot cause raises IllegalTransition and nothing is settled: a batch causes
        those that start in SUBMITTED and the twin's, None all others; TAKEN belongs to ``intend``, FREED to
        ``move_batch``.
        """
        ...

    def strangers(self, workspace: str, ids: Sequence[RemoteId]) -> frozenset[RemoteId]:
        """Give those of the ids that were dismissed as not ours in this workspace."""
        ...

    def dismiss(self, workspace: str, ids: Sequence[RemoteId]) -> None:
        """Remember that these remote batches are not ours. Repeating changes nothing."""
        ...


class DocumentStore(Protocol):
    """Immutable documents."""

    def put(self, kind: DocKind, key: str, body: bytes) -> Digest:
        """Store a document and give its SHA-256.

        The same body under the same kind and key changes nothing; another body raises StoreError.
        """
        ...

    def append(self, kind: DocKind, scope: str, body: bytes) -> str:
        """Store a document under the next key of the scope, ``scope/000000000001`` upwards, and give that key."""
        ...

    def get(self, kind: DocKind, key: str) -> bytes | None:
        """Give a document's body, or None."""
        ...

    def docs(
        self, kind: DocKind, *, scope: str = "", after: str = "", limit: int | None = None
    ) -> Sequence[tuple[str, bytes]]:
        """Give ``(key, body)`` of the kind whose key is above ``after``; with ``scope`` only keys that begin with ``scope/``."""
        ...


class Store(RunStore, RowStore, BatchStore, DocumentStore, Protocol):
    """All of it. ``now`` is the store's clock."""

    def now(self) -> float:
        """Give the time of the store's clock, the one that leases run by."""
        ...

    def close(self) -> None:
        """Release connections and files. A closed store raises StoreError on use."""
        ...


__all__ = ["BatchStore", "DocumentStore", "Place", "RowStore", "RunStore", "Store"]
