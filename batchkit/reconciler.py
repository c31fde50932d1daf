"""The reconciler: count everything anew, compare, and put it on paper."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from batchkit.equations import Equations
from batchkit.ids import Digest
from batchkit.model import Run
from batchkit.receipt import issue_receipt, write_receipt
from batchkit.standing import find_run
from batchkit.storage import Store


@attrs.frozen(kw_only=True)
class Reconciliation:
    """What a reconciliation found. ``digest`` is the SHA-256 of the receipt that says so."""

    run: str
    equations: Equations
    digest: Digest
    _content: Mapping[str, Any] = attrs.field(alias="content")
    _store: Store = attrs.field(repr=False, alias="store")
    _record: Run = attrs.field(repr=False, alias="record")

    @property
    def balanced(self) -> bool:
        """Tell whether all four equations hold exactly and no row is open."""
        return self.equations.hold and self.equations.rows.buckets["open"] == 0

    @property
    def equation(self) -> str:
        """Give the row equation as text."""
        return f"{self.equations.rows} {'✓' if self.equations.hold else '✗'}"

    def receipt(self) -> Mapping[str, Any]:
        """Give the receipt's content."""
        return self._content

    def write(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``receipt.json``, ``rows.jsonl.gz`` and the stdlib-only ``verify.py`` into a folder."""
        write_receipt(self._store, self._record, Path(folder))
        return Path(folder)


class Reconciler:
    """Counts a run from its store and compares. Needs neither spec nor key."""

    def __init__(self, store: Store) -> None:
        """Reconcile runs of this store."""
        self._store = store

    def reconcile(self, run: str) -> Reconciliation:
        """Count a run anew and store the receipt, if anything changed since the last one.

        Raises:
            UsageError: there is no such run.
        """
        record = find_run(self._store, run)
        issued = issue_receipt(self._store, record)
        return Reconciliation(
            run=record.name,
            equations=issued.equations,
            digest=issued.digest,
            content=issued.content,
            store=self._store,
            record=record,
        )
