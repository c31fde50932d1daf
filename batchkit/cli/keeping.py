"""Verbs for whoever keeps a store or takes one over: doctor, confirm, handoff, evalset."""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from batchkit.cli.looking import moment
from batchkit.cli.terminal import say, tell
from batchkit.doctor import Checkup, examine
from batchkit.errors import UsageError
from batchkit.evalset import EvalRow, compare_rows, read_evalset
from batchkit.layout import table
from batchkit.progress import EXIT_DONE, EXIT_NOT_YET
from batchkit.storage.postgres import PostgresStore
from batchkit.storage.sqlite import SQLiteStore
from batchkit.view import address_of, attach, open_existing


def doctor(options: argparse.Namespace) -> int:
    """Check a store without changing it."""
    found = examine(options.store)
    if options.json:
        tell(found.to_dict())
        return found.exit_code
    say(*_findings(found))
    return found.exit_code


def _findings(found: Checkup) -> Iterator[str]:
    condition, lock = found.condition, found.lock
    yield f"{condition.store} (tables {condition.version}, this code {condition.newest})"
    if condition.damage is None:
        yield "damage  not looked for; that is for the server's own tools"
    elif condition.damage:
        yield from (f"damage  {line}" for line in condition.damage)
        yield "Restore the newest backup. Nothing else was looked at."
        return
    else:
        yield "damage  none"
    yield f"guard   {condition.held or 'it may send'}"
    if condition.held:
        yield "        Nothing is sent until somebody confirms that no other copy goes on:"
        yield f"        python -m batchkit confirm {shlex.quote(condition.store)}"
    yield f"runs    {len(found.open):,} open, {found.closed:,} closed"
    for run in found.open:
        yield f"        {run.name}: {run.state}, {run.open:,} of {run.rows:,} rows open"
    yield f"doubts  {len(found.doubts):,}"
    for doubt in found.doubts:
        since = f"{doubt.state} since {moment(doubt.since)} UTC"
        yield f"        batch {doubt.batch} of {doubt.run}: {since}. {doubt.need}".rstrip()
    if lock is None:
        yield "lock    none"
    else:
        when = f"{moment(lock.at)} UTC"
        yield f"lock    {lock.spec[:6]} by {lock.by}, {when}, {lock.rows:,} rows, {lock.share:.0%}, eval set {lock.eval_set}"


def confirm(options: argparse.Namespace) -> int:
    """Let a store that looks copied or restored go on."""
    store = open_existing(options.store)
    assert isinstance(store, (SQLiteStore, PostgresStore))  # no other kind has an address
    why = store.held()
    store.confirm()
    if options.json:
        tell({"store": address_of(options.store), "was_held": why})
    elif why:
        say(f"it was held: {why}")
        say("confirmed: it may send. What another copy may have sent is looked up first.")
    else:
        say("it was not held; nothing was changed")
    return EXIT_DONE


def handoff(options: argparse.Namespace) -> int:
    """Write the hand-over of a run."""
    view = attach(options.store, options.run)
    folder = view.handoff(options.folder, contact=options.contact)
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    done = view.progress.done
    if options.json:
        tell({"run": view.name, "folder": str(folder), "files": names, "finished": done})
    else:
        say(f"{folder}: {', '.join(names)}")
        if not done:
            say("the run is not finished, and the page says so; write it again when it is")
    return EXIT_DONE if done else EXIT_NOT_YET


def evalset(options: argparse.Namespace) -> int:
    """Show an eval set's file, or how one differs from an earlier one."""
    wanted = {"show": 1, "diff": 2}[options.what]
    if len(options.files) != wanted:
        raise UsageError(
            f"evalset {options.what} takes {'one file' if wanted == 1 else 'two files: OLD NEW'}"
        )
    if options.what == "show":
        _show(options.files[0], as_json=options.json)
    else:
        _diff(*options.files, as_json=options.json)
    return EXIT_DONE


def _read(file: Path) -> tuple[Mapping[str, Any], list[EvalRow]]:
    if not file.is_file():
        raise UsageError(f"there is no file {str(file)!r}")
    header, found = read_evalset(file.read_bytes(), file.name)
    return header, [row for _, row in found]


def _show(file: Path, *, as_json: bool) -> None:
    header, rows = _read(file)
    verdicts = Counter(row.verdict for row in rows)
    if as_json:
        tell({**header, "verdicts": verdicts, "rows": [attrs.asdict(row) for row in rows]})
        return
    counted = ", ".join(f"{n:,} {verdict}" for verdict, n in verdicts.most_common())
    say(f"{header.get('name')}: {len(rows):,} rows ({counted}), contract {str(header.get('contract'))[:6]}")
    head = ("key", "verdict", "expected", "by", "tags", "note")
    say(
        *table(
            head,
            [
                (row.key, row.verdict, _text(row.expected), row.by, " ".join(row.tags), row.note)
                for row in rows
            ],
        )
    )


def _diff(old: Path, new: Path, *, as_json: bool) -> None:
    before, after = _read(old), _read(new)
    found = compare_rows(after[1], before[1])
    other_contract = before[0].get("contract") != after[0].get("contract")
    changes = list(
        _changes({row.key: row for row in before[1]}, {row.key: row for row in after[1]}, found.changed)
    )
    if as_json:
        named = ("key", "what", "before", "after")
        listed = [dict(zip(named, change, strict=True)) for change in changes]
        tell({**attrs.asdict(found), "changes": listed, "contract_changed": other_contract})
        return
    say(found)
    if other_contract:
        say("the contracts differ")
    if changes:
        say(
            *table(
                ("key", "what", "before", "after"),
                [(k, what, _text(b), _text(a)) for k, what, b, a in changes],
            )
        )


def _changes(
    before: Mapping[str, EvalRow], after: Mapping[str, EvalRow], keys: tuple[str, ...]
) -> Iterator[tuple[str, str, object, object]]:
    """Give each field of a changed row that differs, with what it was and is."""
    for key in keys:
        one, other = _fields(before[key]), _fields(after[key])
        for name in dict.fromkeys((*one, *other)):
            if one.get(name) != other.get(name):
                yield key, name, one.get(name), other.get(name)


def _fields(row: EvalRow) -> dict[str, object]:
    return {
        "verdict": row.verdict,
        **{f"expected.{name}": value for name, value in (row.expected or {}).items()},
        **{f"not_this.{name}": value for name, value in (row.not_this or {}).items()},
        **{f"source.{name}": value for name, value in row.source.items()},
    }


def _text(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
