"""Staged rows into a SQLite catalog: stage, classify, keep, write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from batchkit.errors import TargetError, UsageError
from batchkit.targets import Missing, Note, Selection, StagedRow
from batchkit.targets.mapping import Mapped, value_of
from batchkit.targets.outcome import Counts, expect, refuse_absent
from batchkit.targets.sqlite_precedence import NEWEST, give_way
from batchkit.targets.sqlite_records import Facts, Record, add
from batchkit.targets.sqlite_session import install
from batchkit.targets.sqlite_statements import LIST_OTHERS, Statements


def stage(
    db: sqlite3.Connection,
    sqls: Statements,
    mapping: Sequence[Mapped],
    guard: Sequence[str],
    rows: Iterable[StagedRow],
) -> Selection:
    """Stream the rows into a temporary table, without a lock on the catalog, and give those held back.

    Raises:
        UsageError: a key stands twice, a row lacks a field, or a guard column was not frozen.
        TargetError: SQLite cannot hold a value.
    """
    for statement in sqls.stage:
        db.execute(statement)
    selection = Selection()
    blank = (0, *(None,) * (len(mapping) + len(guard)))
    key = ""

    def encoded() -> Iterator[tuple[Any, ...]]:
        nonlocal key
        for key, values, frozen, answer in rows:
            if values is None:
                selection.add(key)
                yield (key, 1, *blank)
            else:
                yield (key, 0, answer, *_values(key, mapping, values), *_texts(key, guard, frozen))

    db.execute("BEGIN")
    try:
        db.executemany(sqls.load, encoded())
    except sqlite3.IntegrityError as error:
        raise UsageError(f"key {key!r} stands twice among the staged rows. Nothing was changed.") from error
    except (OverflowError, UnicodeEncodeError, sqlite3.InterfaceError, sqlite3.ProgrammingError) as error:
        # The cause is left out: its text may hold the value.
        raise TargetError(
            f"row {key!r}: SQLite cannot hold one of its values ({type(error).__name__}). Nothing was changed."
            " Hold the row back, or narrow the contract."
        ) from None
    db.execute("COMMIT")
    return selection


def _values(key: str, mapping: Sequence[Mapped], values: Any) -> list[Any]:
    try:
        return [value_of(mapped, values) for mapped in mapping]
    except KeyError as error:
        raise UsageError(f"row {key!r} has no field {error.args[0]!r}. Nothing was changed.") from None


def _texts(key: str, guard: Sequence[str], frozen: Any) -> list[Any]:
    try:
        return [frozen[name] for name in guard]
    except KeyError as error:
        name = error.args[0]
        raise UsageError(
            f"row {key!r}: guard column {name!r} was not frozen with the rows. Nothing was changed."
            f" Freeze it: Spec(..., metadata=[{name!r}])"
        ) from None


def classify(db: sqlite3.Connection, sqls: Statements, note: Note) -> None:
    """Say of each staged row what it is.

    Raises:
        TargetError: two rows of the catalog have the same key as text.
    """
    try:
        db.execute(sqls.classify)
    except sqlite3.IntegrityError as error:
        raise TargetError(
            f"two rows of {sqls.table.name!r} have the same key as text, such as 5 and '5'."
            " Nothing was changed. Make the key column's types one."
        ) from error
    give_way(db, sqls, note)


def count(db: sqlite3.Connection, selection: Selection, *, insertable: int = 0) -> Counts:
    """Count what was classified; ``insertable`` rows are taken as inserted though they are not yet."""
    hits: dict[str, int] = dict(db.execute("SELECT kind, count(*) FROM temp.batchkit_hit GROUP BY kind"))
    (staged,) = db.execute("SELECT count(*) FROM temp.batchkit_staged").fetchone()
    inserted = hits.get("inserted", 0) + insertable
    return Counts(
        written=hits.get("written", 0) + inserted,
        inserted=inserted,
        unchanged=hits.get("unchanged", 0),
        conflict=hits.get("conflict", 0),
        absent=staged - sum(hits.values()) - insertable - selection.count,
        held_back=selection.count,
    )


def rehearse(
    db: sqlite3.Connection, sqls: Statements, note: Note, missing: Missing, selection: Selection
) -> tuple[Counts, dict[str, tuple[str, ...]]]:
    """Classify only, and give the counts with the keys of the conflicts and, unless inserted, of the absent."""
    classify(db, sqls, note)
    conflicts = db.execute(
        "SELECT s.key FROM temp.batchkit_hit AS h JOIN temp.batchkit_staged AS s ON s.n = h.n"
        " WHERE h.kind = 'conflict' ORDER BY s.key"
    ).fetchall()
    listed = {"conflict": tuple(row[0] for row in conflicts)}
    if missing != "insert":
        return count(db, selection), {**listed, "absent": _absent(db)}
    return count(db, selection, insertable=db.execute(sqls.count_insertable).fetchone()[0]), listed


def apply(
    db: sqlite3.Connection,
    sqls: Statements,
    note: Note,
    missing: Missing,
    identity: str,
    selection: Selection,
) -> Record:
    """Keep what stands there, write, and note the promotion, in the transaction at hand.

    Raises:
        TargetError: a key is absent and ``missing`` is ``"error"``, or the catalog left rows out.
    """
    install(db, len(sqls.columns))
    classify(db, sqls, note)
    if missing == "insert":
        for statement in sqls.insert:
            db.execute(statement)
    counts = count(db, selection)
    if missing == "error":
        refuse_absent(counts.absent, sqls.table.name, lambda limit: _absent(db, limit=limit))
    (above,) = db.execute("SELECT coalesce(max(id), 0) FROM main.batchkit_before").fetchone()
    db.execute(sqls.keep)
    if counts.inserted:
        db.execute(sqls.keep_inserted)
    db.execute(LIST_OTHERS)
    (last,) = db.execute("SELECT coalesce(max(id), 0) FROM main.batchkit_before").fetchone()
    expect(db.execute(sqls.write).rowcount, counts.written - counts.inserted, "written")
    if sqls.table.triggers:
        db.execute(sqls.look_again, (above + 1, last))
    return add(
        db,
        Facts(
            tbl=sqls.table.name,
            key_column=sqls.key.name,
            columns=json.dumps([column.name for column in sqls.columns]),
            run=note.run,
            receipt=note.receipt,
            content=note.content,
            mapping=identity,
            selection=selection.digest,
            first=above + 1,
            last=last,
            store=note.store,
            newest=db.execute(NEWEST, {"first": above + 1, "last": last}).fetchone()[0],
            **attrs.asdict(counts),
        ),
    )


def _absent(db: sqlite3.Connection, *, limit: int = -1) -> tuple[str, ...]:
    found = db.execute(
        "SELECT s.key FROM temp.batchkit_staged AS s WHERE s.held = 0"
        " AND NOT EXISTS (SELECT 1 FROM temp.batchkit_hit AS h WHERE h.n = s.n) ORDER BY s.key LIMIT ?",
        (limit,),
    ).fetchall()
    return tuple(row[0] for row in found)
