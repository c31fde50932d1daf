"""The receipt: the reconciliation as files that a third party can check, chained by hash to the one before."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from batchkit.digests import run_digest
from batchkit.equations import Equations, count
from batchkit.files import replacing
from batchkit.ids import Digest, RowId, position_of
from batchkit.model import PAGE, BatchWhere, DocKind, RowView, Run, Where
from batchkit.reasons import Reason
from batchkit.source import source_line
from batchkit.standing import scope_of
from batchkit.states import outcome
from batchkit.storage import Store

FORMAT = "batchkit-receipt-1"
_SCAN = 5_000


@attrs.frozen(kw_only=True)
class Issued:
    """A receipt in force: its digest, what it says, and the equations it was made from."""

    digest: Digest
    content: Mapping[str, Any]
    equations: Equations


def issue_receipt(store: Store, run: Run) -> Issued:
    """Count, and store the receipt as the run's next document, unless nothing changed since the last."""
    last = latest_receipt(store, run)
    equations = count(store, run)
    content = _content(store, run, equations, previous=last)
    if last is not None and _same(last[1], content):
        return Issued(digest=last[0], content=last[1], equations=equations)
    body = encode(content)
    store.append(DocKind.RECEIPT, scope_of(run.id), body)
    return Issued(digest=digest_of(body), content=content, equations=equations)


def latest_receipt(store: Store, run: Run) -> tuple[Digest, dict[str, Any]] | None:
    """Give the digest and content of the run's newest receipt, if it has one."""
    found = store.docs(DocKind.RECEIPT, scope=scope_of(run.id))
    return (digest_of(found[-1][1]), json.loads(found[-1][1])) if found else None


def write_receipt(store: Store, run: Run, folder: Path) -> list[Path]:
    """Write the newest receipt, those it is chained to, the rows it counts, and the verifier into a folder."""
    from batchkit.report import verifier

    issue_receipt(store, run)
    documents = [body for _, body in store.docs(DocKind.RECEIPT, scope=scope_of(run.id))]
    written: list[Path] = []
    for number, body in enumerate(documents, start=1):
        name = "receipt.json" if number == len(documents) else f"receipt-{number}.json"
        written.append(_write(folder / name, body))
    with replacing(folder / "rows.jsonl.gz") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as packed:
        for line in row_lines(store, run):
            packed.write(line)
    written += [folder / "rows.jsonl.gz", _write(folder / "verify.py", verifier())]
    return written


def row_lines(store: Store, run: Run) -> Iterator[bytes]:
    """Give one JSON line per source record, in order.

    Each is ``[position, key, outcome, reason, tier, attempts, SHA-256 of the answer, frozen line]``; the last is
    null except where the record could not be read whole, so that nobody can make its line from the source again.
    """
    after: RowId | None = None
    while page := store.page(run.id, Where(results=True), after=after, limit=_SCAN):
        damaged = [row.id for row in page if row.reason is Reason.INPUT_UNENCODABLE]
        frozen = {row.id: _frozen_line(row) for row in store.rows(damaged, source=True)} if damaged else {}
        for row in page:
            line = [
                position_of(row.id),
                row.key,
                outcome(row.state, row.reason).value,
                row.reason.value if row.reason else None,
                row.tier,
                row.answers,
                hashlib.sha256(row.answer).hexdigest() if row.answer is not None else None,
                frozen.get(row.id),
            ]
            yield json.dumps(line, separators=(",", ":")).encode() + b"\n"
        after = page[-1].id


def _frozen_line(row: RowView) -> str:
    return source_line(position_of(row.id), row.key, row.fields or {}).decode()


def encode(content: Mapping[str, Any]) -> bytes:
    """Give a receipt's bytes: indented JSON with sorted keys, the same for the same content."""
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=True).encode() + b"\n"


def digest_of(body: bytes) -> Digest:
    """Give the SHA-256 of a receipt's bytes."""
    return Digest(hashlib.sha256(body).hexdigest())


def _content(
    store: Store, run: Run, equations: Equations, *, previous: tuple[Digest, dict[str, Any]] | None
) -> dict[str, Any]:
    rows = hashlib.sha256()
    for line in row_lines(store, run):
        rows.update(line)
    pages = list(store.digests(run.id))
    lock = store.get(DocKind.LOCK, run.spec)
    runs = store.runs()
    return {
        "format": FORMAT,
        "run": run.name,
        "number": (previous[1]["number"] + 1) if previous else 1,
        "previous": previous[0] if previous else None,
        "at": store.now(),
        "spec": run.spec,
        "lock": json.loads(lock) if lock else None,
        "unlocked": bool(run.options.get("unlocked")),
        "parent": next((other.name for other in runs if other.id == run.parent), None),
        "children": [other.name for other in runs if other.parent == run.id],
        "source": {
            "rows": run.rows,
            "digest": run_digest(pages),
            "pages": pages,
            "page_rows": PAGE,
            "on_duplicate": run.options.get("on_duplicate", "refuse"),
            **_mapping(run.options.get("source")),
        },
        "equations": equations.to_dict(),
        "balanced": equations.hold,
        "reasons": [
            {"outcome": o.value, "reason": r.value, "tier": t, "rows": n}
            for o, r, t, n in sorted(store.tally(run.id).reasons(), key=lambda item: (item[1].value, item[2]))
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
            }
            for batch in store.batches(BatchWhere(run=run.id))
        ],
        "rows_sha256": rows.hexdigest(),
    }


def _same(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    changing = {"number", "previous", "at"}
    return {k: v for k, v in old.items() if k not in changing} == {
        k: v for k, v in json.loads(encode(new)).items() if k not in changing
    }


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _write(path: Path, body: bytes) -> Path:
    with replacing(path) as stream:
        stream.write(body)
    return path
