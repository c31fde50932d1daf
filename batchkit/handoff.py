"""The hand-over: everything the next team needs to check a run, to answer for it and to go on with it."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from decimal import Decimal
from itertools import count
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

import attrs

from batchkit.bill import Bill
from batchkit.files import replacing, write_csv, write_jsonl
from batchkit.model import NANO, DocKind
from batchkit.printing import dollars
from batchkit.quoting import html_text, markdown_code, markdown_text, shell_word
from batchkit.reasons import Reason
from batchkit.receipt import RECEIPT_FILE, ROWS_FILE, Issued, write_receipt
from batchkit.report import template
from batchkit.row import COLUMNS
from batchkit.standing import read_cap

if TYPE_CHECKING:
    from batchkit.storage import Store
    from batchkit.view import RunView

PAGE_FILE: Final = "README.html"
RUNBOOK_FILE: Final = "RUNBOOK.md"
EVALSET_FILE: Final = "evalset.jsonl"
QUARANTINE_FILE: Final = "quarantine"
QUEUE_FILE: Final = "queue.csv"
BILL_FILE: Final = "bill.csv"

_REASONS: Final[Mapping[str, Reason]] = {reason.value: reason for reason in Reason}
_ADVICE: Final[Mapping[str, str]] = {
    "input": "Correct the source records and run them as a slice with rows=..., or leave them out for good.",
    "api": "Run them again as they are. Where it is api.invalid_request, read the detail first.",
    "batch": "Run them again as they are: nothing was wrong with the rows.",
    "run": "The run was canceled before they were sent. Run them as a slice if they are still wanted.",
    "output": "No tier gave a valid answer. Read some: a better prompt or an example helps more than a retry.",
    "human": "A person decided so. Nothing is left to do unless the source changes.",
    "catalog": "The catalog changed since the rows were read. Run them again with fresh rows.",
}


@attrs.frozen(kw_only=True)
class _Facts:
    """What both documents speak of."""

    name: str
    where: str
    contact: str
    state: str
    created_at: float
    issued: Issued
    bill: Bill
    cap: Decimal | None
    promotions: Sequence[Mapping[str, object]]
    failed: int
    queue_file: str
    queued: int
    judged: int

    @property
    def content(self) -> Mapping[str, Any]:
        """Give what the receipt says."""
        return self.issued.content


def handoff(run: RunView[Any], folder: Path, *, contact: str = "", where: str = "") -> Path:
    """Write the hand-over of a run and give its folder.

    ``README.html`` (what ran, the equations, where the failed rows are, the bill, the lock, how to verify),
    ``RUNBOOK.md`` (the commands, filled in), ``evalset.jsonl`` (where the spec is locked), ``quarantine.csv`` and
    ``.jsonl`` (every row that failed), ``queue.csv`` (rows that wait for a person, to be filled in), ``bill.csv``,
    and the receipt with its verifier. Files of these names are replaced; those that no longer apply are removed. A
    queue in which somebody has filled in anything stays, and the next one is ``queue-2.csv``.

    Args:
        run: the run; it may still be open, and the page then says so.
        folder: made if it does not exist.
        contact: whom to ask.
        where: the store's path or address, for the commands of the runbook.
    """
    store, record = run._store, run.record
    issued = write_receipt(store, record, folder)
    bill, cap = run.bill(), read_cap(store)
    bill.write(folder / BILL_FILE)
    queue_file, queued = _write_queue(run, folder)
    facts = _Facts(
        name=record.name,
        where=where or run._where,
        contact=contact,
        state=run.progress.state,
        created_at=record.created_at,
        issued=issued,
        bill=bill,
        cap=None if cap is None else Decimal(cap.usd_nano) / NANO,
        promotions=run.promotions,
        failed=_write_failures(run, folder),
        queue_file=queue_file,
        queued=queued,
        judged=_write_evalset(store, issued.content["lock"], folder),
    )
    _write_text(folder / RUNBOOK_FILE, _runbook(facts))
    _write_text(folder / PAGE_FILE, _page(facts))
    return folder


# -------------------------------------------------------------------- files


def _write_failures(run: RunView[Any], folder: Path) -> int:
    """Write every failed row with its source, so that nobody needs the store to look at it."""
    failures = run.failures()
    first = next(iter(failures), None)
    sources = [] if first is None else [f"source.{name}" for name in first.source]
    records = ({**row.flat(None), "answer": row.answer} for row in failures)
    write_csv(folder / f"{QUARANTINE_FILE}.csv", [*COLUMNS, *sources, "answer"], records)
    records = ({**row.flat(None), "answer": row.answer} for row in failures)
    return write_jsonl(folder / f"{QUARANTINE_FILE}.jsonl", records)


def _write_queue(run: RunView[Any], folder: Path) -> tuple[str, int]:
    """Write the rows that wait for a person, beside a file that somebody has begun to fill in; name and rows."""
    queue = run.queue()
    path = folder / QUEUE_FILE
    for number in count(2):
        if not path.exists():
            break
        if not queue.holds_answers(path):
            path.unlink()
            break
        path = folder / f"{Path(QUEUE_FILE).stem}-{number}.csv"
    if next(iter(queue), None) is None:
        return path.name, 0
    return path.name, queue.save(path)


def _write_evalset(store: Store, lock: Mapping[str, Any] | None, folder: Path) -> int:
    """Copy the eval set that the spec was accepted with and give the number of its rows."""
    body = store.get(DocKind.EVALSET, lock["eval_set_document"]) if lock is not None else None
    if body is None:
        (folder / EVALSET_FILE).unlink(missing_ok=True)
        return 0
    with replacing(folder / EVALSET_FILE) as stream:
        stream.write(body)
    return body.count(b"\n") - 1


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))


# -------------------------------------------------------------------- the page


def _page(facts: _Facts) -> str:
    style = template("handoff.css")
    content = facts.content
    return Template(template("handoff.html")).substitute(
        style=style,
        style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
        run=html_text(facts.name),
        state=_state(facts),
        contact=f"Questions: {html_text(facts.contact)}." if facts.contact else "",
        facts=_pairs(_what_ran(facts)),
        equations=_equations(facts),
        at=_moment(content["at"]),
        number=content["number"],
        digest=facts.issued.digest,
        reasons=_reasons(content["reasons"]),
        bill=_bill(facts.bill),
        lock=_lock(content),
        promotions=_promotions(facts),
        files=_files(facts),
        verify=html_text(f"python verify.py{_source_option(content)}"),
    )


def _state(facts: _Facts) -> str:
    if facts.content["balanced"]:
        return '<span class="good">Every record is accounted for</span>, and none is open'
    open_rows = facts.issued.equations.rows.buckets["open"]
    if facts.issued.equations.hold:
        return f'<span class="bad">Not finished</span>: {open_rows:,} rows are still open ({html_text(facts.state)})'
    return '<span class="bad">The equations do not hold</span>: look at python -m batchkit status first'


def _what_ran(facts: _Facts) -> list[tuple[str, object]]:
    content = facts.content
    source = content["source"]
    pairs: list[tuple[str, object]] = [
        ("Run", facts.name),
        ("Started", _moment(facts.created_at)),
        ("Source", f"{source['file'] or source['kind']}, {source['rows']:,} records, by {source['key']}"),
        ("SHA-256 of the frozen source", source["digest"]),
        ("Repeated keys", source["on_duplicate"]),
        ("Spec", content["spec"]),
        ("Batches", f"{len(content['batches']):,}"),
        ("Store", facts.where or "not told"),
    ]
    if content["parent"]:
        pairs.append(("A slice of", content["parent"]))
    if content["children"]:
        pairs.append(("Slices of it", ", ".join(content["children"])))
    return pairs


def _equations(facts: _Facts) -> str:
    equations = facts.issued.equations
    found: list[tuple[str, bool, object]] = [
        ("Rows", equations.rows.holds, equations.rows),
        ("Submissions", equations.submissions.holds, equations.submissions),
        ("Money", equations.money.holds, equations.money),
    ]
    found += [
        (
            f"Promotion {one.id} to {one.target}",
            one.holds,
            f"{one}{' (rolled back)' if one.rolled_back else ''}",
        )
        for one in equations.promotions
    ]
    return "".join(
        f"<tr><th>{html_text(name)}</th><td>{html_text(str(equation))}</td>"
        f'<td class="{"good" if holds else "bad"}">{"holds" if holds else "does not hold"}</td></tr>'
        for name, holds, equation in found
    )


def _reasons(reasons: Sequence[Mapping[str, Any]]) -> str:
    if not reasons:
        return "<p>There are none.</p>"
    rows = [
        (one["outcome"], one["reason"], _REASONS[one["reason"]].prose, one["tier"], one["rows"])
        for one in sorted(reasons, key=lambda one: -one["rows"])
    ]
    return _table(("outcome", "reason", "what it means", "tier", "rows"), rows)


def _bill(bill: Bill) -> str:
    rows: list[Sequence[object]] = [
        (line.model, line.tier, line.use, line.verdict, line.answers, _usd(Decimal(line.cost) / NANO))
        for line in bill.lines
    ]
    rows.append(("all", "", "", "", sum(line.answers for line in bill.lines), _usd(bill.total_usd)))
    return _table(("model", "tier", "used for", "verdict", "answers", "cost"), rows)


def _lock(content: Mapping[str, Any]) -> str:
    lock = content["lock"]
    if lock is None:
        return '<p><span class="bad">Nobody accepted this spec</span>: the run was started unlocked.</p>'
    late = " It was accepted after the run had been started." if content["unlocked"] else ""
    pairs = [
        ("By", lock["by"]),
        ("At", _moment(lock["at"])),
        ("Judged rows", f"{lock['rows']:,}, {lock['share']:.0%} of them good"),
        ("Eval set", lock["eval_set"]),
        ("Note", lock["note"] or "-"),
    ]
    return f"<table>{_pairs(pairs)}</table><p>{late}</p>"


def _promotions(facts: _Facts) -> str:
    if not facts.promotions:
        return "<p>Nothing yet. The succeeded rows are staged in the store.</p>"
    return _table(
        ("promotion", "catalog", "when", "written", "unchanged", "conflict", "absent", "held back"),
        [
            (
                note["id"],
                note["target"],
                _moment(note["at"]),
                *(note[name] for name in ("written", "unchanged", "conflict", "absent", "held_back")),
            )
            for note in facts.promotions
        ],
    )


def _files(facts: _Facts) -> str:
    pairs: list[tuple[str, object]] = [
        (RUNBOOK_FILE, "the commands for this run, filled in"),
        (f"{QUARANTINE_FILE}.csv", f"{facts.failed:,} rows that failed: why, the source, the last answer"),
        (f"{QUARANTINE_FILE}.jsonl", "the same, values raw: no apostrophe before what looks like a formula"),
        (BILL_FILE, "the bill, line by line"),
        (RECEIPT_FILE, "the receipt; receipt-1.json and so on are those before it"),
        (ROWS_FILE, "one line per source record: where it ended, and a digest of its answer"),
        ("verify.py", "checks the receipt, with Python's standard library alone"),
    ]
    if facts.queued:
        pairs.insert(1, (facts.queue_file, f"{facts.queued:,} rows that wait for a person, to be filled in"))
    if facts.judged:
        pairs.insert(
            1, (EVALSET_FILE, f"{facts.judged:,} judged rows, which every later run is graded against")
        )
    return _pairs(pairs)


def _pairs(pairs: Iterable[tuple[str, object]]) -> str:
    return "".join(f"<tr><th>{html_text(name)}</th><td>{html_text(value)}</td></tr>" for name, value in pairs)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    titles = "".join(f"<th>{html_text(title)}</th>" for title in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><tr>{titles}</tr>{body}</table>"


def _cell(value: object) -> str:
    if isinstance(value, int):
        return f'<td class="n">{value:,}</td>'
    return f"<td>{html_text(value)}</td>"


# -------------------------------------------------------------------- the runbook


def _runbook(facts: _Facts) -> str:
    content, lock = facts.content, facts.content["lock"]
    pilot = "rows" if lock is None else f"name={lock['pilot']!r}"
    return Template(template("runbook.md")).substitute(
        title=markdown_text(facts.name),
        run=markdown_code(facts.name),
        store=markdown_code(facts.where or "STORE"),
        store_arg=shell_word(facts.where) if facts.where else "STORE",
        run_arg=shell_word(facts.name),
        run_py=repr(facts.name),
        retry_py=repr(f"{facts.name}-retry-1"),
        slice_py=repr(f"{facts.name}-slice-1"),
        source_arg=_source_option(content),
        app="MODULE:FLOW",
        pilot_args=pilot,
        contact=f"Questions: {markdown_text(facts.contact)}." if facts.contact else "",
        cap="No cap is set." if facts.cap is None else f"When this was written it was {dollars(facts.cap)}.",
        queue_file=facts.queue_file,
        queue_text=f"{facts.queued:,} rows wait for a person; they lie in `{facts.queue_file}`."
        if facts.queued
        else "No row waits for a person now.",
        promotions=_promotion_list(facts.promotions),
        advice=_advice(content["reasons"]),
    )


def _promotion_list(promotions: Sequence[Mapping[str, object]]) -> str:
    if not promotions:
        return "Nothing was promoted when this was written."
    head = "| promotion | catalog | when | written | conflict | absent |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {note['id']} | {markdown_text(note['target'])} | {_moment(note['at'])} | {note['written']:,} | "
        f"{note['conflict']:,} | {note['absent']:,} |"
        for note in promotions
    )


def _advice(reasons: Sequence[Mapping[str, Any]]) -> str:
    rows: Counter[str] = Counter()
    for one in reasons:
        if one["outcome"] not in {"human_queued", "open", "succeeded"}:
            rows[one["reason"]] += one["rows"]
    if not rows:
        return "No row failed."
    head = "| reason | rows | what it means | what to do |\n|---|---|---|---|\n"
    return head + "\n".join(
        f"| `{code}` | {n:,} | {markdown_text(_REASONS[code].prose)} | {markdown_text(_ADVICE[_REASONS[code].family])} |"
        for code, n in rows.most_common()
    )


def _source_option(content: Mapping[str, Any]) -> str:
    file = content["source"]["file"]
    return f" --source {shell_word(file)}" if file else ""


def _moment(at: object) -> str:
    seconds = float(at) if isinstance(at, (int, float, str)) else 0.0
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _usd(amount: Decimal) -> str:
    return f"${amount:,.4f}"


__all__ = ["handoff"]
