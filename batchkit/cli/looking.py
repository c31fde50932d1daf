"""Verbs that only look: runs, status, rows, bill, events, verify."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from batchkit.cli.terminal import say, tell
from batchkit.errors import UsageError
from batchkit.layout import table
from batchkit.progress import EXIT_BROKEN, EXIT_DONE, EXIT_MONEY, EXIT_NOT_YET, EXIT_PERSON, Progress
from batchkit.report import verifier
from batchkit.rows import Rows
from batchkit.standing import find_run, progress_of
from batchkit.states import RunState
from batchkit.storage import Store
from batchkit.view import attach, open_existing
from batchkit.view import runs as list_runs

_WORST_FIRST = (EXIT_MONEY, EXIT_PERSON, EXIT_NOT_YET, EXIT_DONE)


def moment(at: float) -> str:
    """Give a time as text, in UTC."""
    return f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%d %H:%M:%S}"


def runs(options: argparse.Namespace) -> int:
    """List the runs of a store, oldest first."""
    found = list_runs(options.store)
    if options.json:
        tell(
            [
                {
                    "run": run.name,
                    "state": run.state.value,
                    "rows": run.rows,
                    "spec": run.spec,
                    "created_at": run.created_at,
                }
                for run in found
            ]
        )
        return EXIT_DONE
    head = ("run", "state", "rows", "spec", "created (UTC)")
    say(
        *table(
            head,
            [(run.name, run.state.value, run.rows, run.spec[:6], moment(run.created_at)) for run in found],
        )
    )
    return EXIT_DONE


def status(options: argparse.Namespace) -> int:
    """Say where a run stands, or every run that is not closed; with ``--watch`` until nothing is left to wait for."""
    store = open_existing(options.store)
    while True:
        found = _standing(store, options.run, where=options.store)
        code = worst(found)
        if options.json:
            told = [progress.to_dict() for progress in found]
            tell(told[0] if options.run is not None else told)
        else:
            say(*found) if found else say("no open run")
        if options.watch is None or code != EXIT_NOT_YET:
            return code
        sys.stdout.flush()
        time.sleep(max(0.1, options.watch))


def _standing(store: Store, run: str | None, *, where: str) -> list[Progress]:
    records = [find_run(store, run)] if run is not None else store.runs()
    standing = records if run is not None else [one for one in records if one.state is not RunState.CLOSED]
    return [progress_of(store, record, where=where) for record in standing]


def worst(found: Sequence[Progress]) -> int:
    """Give the exit code for several runs: money before a person before waiting."""
    codes = {progress.exit_code for progress in found}
    return next((code for code in _WORST_FIRST if code in codes), EXIT_DONE)


def rows(options: argparse.Namespace) -> int:
    """Show, count or write rows."""
    found: Rows[Any] = attach(options.store, options.run).rows(
        keys=options.key, outcome=options.outcome, reason=options.reason, tier=options.tier
    )
    if options.write is not None:
        written = found.write(options.write)
        tell({"written": written, "file": str(options.write)}) if options.json else say(
            f"{written:,} rows written to {options.write}"
        )
    elif options.count_by:
        _count(found, options.count_by, as_json=options.json)
    else:
        _list(found, options.limit, as_json=options.json)
    return EXIT_DONE


def _count(found: Rows[Any], columns: list[str], *, as_json: bool) -> None:
    counted = [
        (values if len(columns) > 1 else (values,), n) for values, n in found.count_by(*columns).items()
    ]
    if as_json:
        tell([{**dict(zip(columns, values, strict=True)), "rows": n} for values, n in counted])
    else:
        say(*table((*columns, "rows"), [(*values, n) for values, n in counted]))


def _list(found: Rows[Any], limit: int, *, as_json: bool) -> None:
    total = len(found)
    listed: list[dict[str, object]] = []
    for record in found.records():
        if limit and len(listed) >= limit:
            break
        listed.append(record)
    if as_json:
        tell({"rows": total, "records": listed})
        return
    head = ("key", "outcome", "reason", "tier", "detail")
    say(*table(head, [[record[name] for name in head] for record in listed]))
    if len(listed) < total:
        say(f"{len(listed):,} of {total:,} rows; --limit 0 shows all, --write FILE.csv writes them")


def bill(options: argparse.Namespace) -> int:
    """Say what a run cost."""
    due = attach(options.store, options.run).bill()
    if options.write is not None:
        due.write(options.write)
    if options.json:
        tell({"run": due.run, "total_usd": str(due.total_usd), "lines": [line.flat() for line in due.lines]})
    else:
        say(due)
    return EXIT_DONE


def events(options: argparse.Namespace) -> int:
    """List what happened to a run, oldest first."""
    found = attach(options.store, options.run).events(options.after)
    if options.json:
        tell(
            [
                {"id": e.id, "at": e.at, "kind": e.kind, "severity": e.severity, "data": dict(e.data)}
                for e in found
            ]
        )
        return EXIT_DONE
    for event in found:
        facts = ", ".join(f"{name} {value}" for name, value in event.data.items() if value not in ("", None))
        say(f"{event.id}  {moment(event.at)}  {event.severity:<5} {event.kind}  {facts}".rstrip())
    return EXIT_DONE


def verify(options: argparse.Namespace) -> int:
    """Run the verifier of this installation over a receipt; broken where a check fails, not yet while rows are open."""
    source = None if options.source is None else options.source.resolve()
    if source is not None and not source.is_file():
        raise UsageError(f"there is no file {str(options.source)!r}")
    with tempfile.TemporaryDirectory(prefix="batchkit-verify-") as name:
        folder = Path(name)
        if options.run is not None:
            attach(options.store, options.run).reconcile().write(folder)
        else:
            _copy_receipt(Path(options.store), folder)
        # Never the program that lies beside the receipt: whoever made that could have made it say anything.
        (folder / "verify.py").write_bytes(verifier())
        command = [sys.executable, str(folder / "verify.py")]
        told = subprocess.run(
            command if source is None else [*command, "--source", str(source)],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    lines = (told.stdout + told.stderr).strip().split("\n")
    verified = told.returncode in {EXIT_DONE, EXIT_NOT_YET} and lines[-1].startswith("VERIFIED")
    finished = told.returncode == EXIT_DONE
    document = {"verified": verified, "finished": verified and finished, "checks": lines}
    tell(document) if options.json else say(*lines)
    return told.returncode if verified else EXIT_BROKEN


def _copy_receipt(folder: Path, to: Path) -> None:
    found = [folder / "rows.jsonl.gz", *folder.glob("receipt*.json")]
    if not folder.is_dir() or not (folder / "receipt.json").is_file() or not found[0].is_file():
        raise UsageError(
            f"{str(folder)!r} holds no receipt: receipt.json and rows.jsonl.gz. A receipt is written by "
            "run.reconcile().write(FOLDER); to check a run of a store, name both: verify STORE RUN"
        )
    for file in found:
        shutil.copy(file, to / file.name)
