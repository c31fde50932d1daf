"""The receipt: the reconciliation as files that a third party can check, chained by hash to the one before."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

import attrs
from pydantic_core import to_json

from batchkit.alike import AnsweredRows
from batchkit.digests import run_digest
from batchkit.equations import Equations, count
from batchkit.errors import StoreError
from batchkit.files import replacing
from batchkit.ids import Digest, RowId, RowKey, row_id
from batchkit.model import PAGE, BatchWhere, DocKind, RowView, Run, Tally, Where
from batchkit.reasons import Reason
from batchkit.standing import scope_of
from batchkit.states import RowState, outcome
from batchkit.storage import Store
from batchkit.watch import NEVER_TAKEN, twins_of, watch_of

FORMAT: Final = "batchkit-receipt-1"
ROWS_FILE: Final = "rows.jsonl.gz"
RECEIPT_FILE: Final = "receipt.json"

_SCAN: Final = 500
"""Rows read at a time: few enough to be gone before the cyclic collector looks at them."""
_TRIES: Final = 5
_NO_SOURCE: Final[Mapping[str, Any]] = {"kind": "rows", "file": None, "key": None, "fields": []}


_Stands: TypeAlias = tuple[RowState, "Reason | None", int, int]
"""Where a row stands: state, reason, tier, billed answers."""


@attrs.frozen(kw_only=True)
class Issued:
    """A receipt in force: its digest, what it says, and the equations it was made from."""

    digest: Digest
    content: Mapping[str, Any]
    equations: Equations


@attrs.frozen(kw_only=True)
class _Rows:
    """One scan of the rows: the digest of their lines, and how many are where."""

    digest: str
    tally: Tally


def issue_receipt(store: Store, run: Run, *, into: IO[bytes] | None = None) -> Issued:
    """Count, and store the receipt as the run's next document, unless nothing changed since the last.

    Args:
        store: where the run is.
        run: the run.
        into: a file that takes the counted rows, gzipped, one JSON line each: ``[position, key, outcome,
            reason, tier, attempts, SHA-256 of the answer]``.

    Raises:
        StoreError: somebody kept moving the run while it was counted. Nothing was changed.
    """
    equations, rows = _counted(store, run, into)
    last = latest_receipt(store, run)
    content = _content(store, run, equations, rows, previous=last)
    if last is not None and _same(last[1], content):
        return Issued(digest=last[0], content=last[1], equations=equations)
    body = encode(content)
    store.append(DocKind.RECEIPT, scope_of(run.id), body)
    return Issued(digest=digest_of(body), content=content, equations=equations)


def latest_receipt(store: Store, run: Run) -> tuple[Digest, dict[str, Any]] | None:
    """Give the digest and content of the run's newest receipt, if it has one."""
    found = store.docs(DocKind.RECEIPT, scope=scope_of(run.id))
    return (digest_of(found[-1][1]), json.loads(found[-1][1])) if found else None


def write_receipt(store: Store, run: Run, folder: Path) -> Issued:
    """Write the newest receipt, those it is chained to, the rows it counts, and the verifier into a folder.

    Raises:
        StoreError: somebody kept moving the run while it was counted. The files are as they were.
    """
    from batchkit.report import verifier

    with replacing(folder / ROWS_FILE) as stream:
        issued = issue_receipt(store, run, into=stream)
    documents = [body for _, body in store.docs(DocKind.RECEIPT, scope=scope_of(run.id))]
    for number, body in enumerate(documents, start=1):
        name = RECEIPT_FILE if number == len(documents) else f"receipt-{number}.json"
        _write(folder / name, body)
    for file in folder.glob("receipt-*.json"):
        if file.stem.removeprefix("receipt-") not in {str(number) for number in range(1, len(documents))}:
            file.unlink()  # of another run that was written here before: its chain is not this one
    _write(folder / "verify.py", verifier())
    return issued


def encode(content: Mapping[str, Any]) -> bytes:
    """Give a receipt's bytes: indented JSON with sorted keys, the same for the same content."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def digest_of(body: bytes) -> Digest:
    """Give the SHA-256 of a receipt's bytes."""
    return Digest(sha256(body).hexdigest())


def _counted(store: Store, run: Run, into: IO[bytes] | None) -> tuple[Equations, _Rows]:
    """Count until nothing moved between the first row and the last result."""
    for _ in range(_TRIES):
        before = store.runs(name=run.name)[0]
        rows = _scanned(store, run, into)
        equations = count(store, before, tally=rows.tally)
        if store.runs(name=run.name)[0].seq == before.seq:
            return equations, rows
    raise StoreError(
        f"{run.name!r} is being moved by another process and changed {_TRIES} times while it was counted. "
        "Nothing was changed; reconcile again when that pass is over."
    )


def _scanned(store: Store, run: Run, into: IO[bytes] | None) -> _Rows:
    if into is None:
        return _scan(store, run, None)
    into.seek(0)
    into.truncate()
    with gzip.GzipFile(filename="", fileobj=into, mode="wb", mtime=0) as packed:
        return _scan(store, run, packed)


def _scan(store: Store, run: Run, packed: gzip.GzipFile | None) -> _Rows:
    digest = sha256()
    counts: Counter[tuple[RowState, Reason | None, int]] = Counter()
    first = row_id(run.id, 0)
    after: RowId | None = None
    while page := store.page(run.id, Where(answers=True), after=after, limit=_SCAN):
        ids, keys, stands, answers = _columns(page)
        positions, quoted = [row - first for row in ids], _quoted(keys)
        parts: list[str] = []
        # Neighbours mostly stand alike: what their lines have in common is made once.
        for one, alike in groupby(stands):
            low = len(parts)
            high = low + len(list(alike))
            middle = _middle(*one)
            parts += [
                f"[{position},{key},{middle},null]\n"
                if answer is None
                else f'[{position},{key},{middle},"{sha256(answer).hexdigest()}"]\n'
                for position, key, answer in zip(
                    positions[low:high], quoted[low:high], answers[low:high], strict=True
                )
            ]
            counts[one[:3]] += high - low
        text = "".join(parts).encode()
        digest.update(text)
        if packed is not None:
            packed.write(text)
        after = page[-1].id
    return _Rows(digest=digest.hexdigest(), tally=Tally(counts=counts))


def _columns(
    page: Sequence[RowView],
) -> tuple[Sequence[RowId], Sequence[RowKey], Sequence[_Stands], Sequence[bytes | None]]:
    if isinstance(page, AnsweredRows):
        return page.ids, page.keys, page.stands, page.texts
    return (
        [row.id for row in page],
        [row.key for row in page],
        [(row.state, row.reason, row.tier, row.answers) for row in page],
        [row.answer for row in page],
    )


def _quoted(keys: Sequence[RowKey]) -> list[str]:
    """Give each key as JSON; all at once, unless one of them holds a comma itself."""
    quoted = to_json(keys)[1:-1].decode().split(",")
    return quoted if len(quoted) == len(keys) else [to_json(key).decode() for key in keys]


@lru_cache(maxsize=1_000)
def _middle(state: RowState, reason: Reason | None, tier: int, answers: int) -> str:
    said = [outcome(state, reason).value, reason.value if reason else None, tier, answers]
    return to_json(said)[1:-1].decode()


def _content(
    store: Store,
    run: Run,
    equations: Equations,
    rows: _Rows,
    *,
    previous: tuple[Digest, dict[str, Any]] | None,
) -> dict[str, Any]:
    pages = list(store.digests(run.id))
    lock = _lock(store, run)
    runs = store.runs()
    batches = store.batches(BatchWhere(run=run.id))
    return {
        "format": FORMAT,
        "run": run.name,
        "number": (previous[1]["number"] + 1) if previous else 1,
        "previous": previous[0] if previous else None,
        "at": store.now(),
        "spec": run.spec,
        "lock": lock,
        "unlocked": lock is None or lock["at"] > run.created_at,
        "parent": next((other.name for other in runs if other.id == run.parent), None),
        "children": [other.name for other in runs if other.parent == run.id],
        "source": {
            "rows": equations.rows.source,
            "digest": run_digest(pages),
            "pages": pages,
            "page_rows": PAGE,
            "on_duplicate": run.options.get("on_duplicate", "refuse"),
            **_NO_SOURCE,
            **_mapping(run.options.get("source")),
        },
        "equations": equations.to_dict(),
        # Until its watch ends, and where that ended inconclusive, a batch that counts as never created may be billed.
        "watches": [
            {"batch": batch.id, "until": watch.until, "up_to_nano_usd": batch.reserved}
            for batch in batches
            if (watch := watch_of(batch)) is not None and (watch.running or watch.open)
            if batch.state in NEVER_TAKEN and (batch.reserved or watch.open)
        ],
        "balanced": equations.hold and equations.rows.buckets["open"] == 0,
        "reasons": [
            {"outcome": o.value, "reason": r.value, "tier": t, "rows": n}
            for o, r, t, n in sorted(
                rows.tally.reasons(), key=lambda item: (item[1].value, item[0].value, item[2])
            )
        ],
        "batches": [
            {
                "id": batch.id,
                "remote_id": batch.remote_id,
                "state": batch.state.value,
                "nonce": batch.nonce,
                "requests": batch.count,
                "lines": batch.lines,
                "spent_nano_usd": batch.spent,
                "reserved_nano_usd": batch.reserved,
                "results_sha256": batch.notes.get("sha256"),
                "twins": [
                    {
                        "remote_id": twin.remote_id,
                        "lines": twin.lines,
                        "used": twin.applied,
                        "cost_nano_usd": twin.cost,
                        "results_sha256": twin.sha256 or None,
                        "read": twin.read_at is not None,
                    }
                    for twin in twins_of(batch)
                ],
            }
            for batch in batches
        ],
        "rows_sha256": rows.digest,
    }


def _lock(store: Store, run: Run) -> dict[str, Any] | None:
    body = store.get(DocKind.LOCK, run.spec)
    return dict(json.loads(body)) if body is not None else None


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    changing = {"number", "previous", "at"}
    return {k: v for k, v in old.items() if k not in changing} == {
        k: v for k, v in json.loads(encode(new)).items() if k not in changing
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _write(path: Path, body: bytes) -> None:
    with replacing(path) as stream:
        stream.write(body)
