"""Staged rows into a PostgreSQL catalog, in place: classify, lock, keep, write."""

from __future__ import annotations

from typing import Final

import attrs

from batchkit.errors import TargetError, UsageError
from batchkit.targets import Missing, Note
from batchkit.targets.outcome import Counts, expect, refuse_absent
from batchkit.targets.postgres_precedence import give_way
from batchkit.targets.postgres_records import Facts, Record, add, count_up, newest
from batchkit.targets.postgres_session import NOTHING, Connection, scalar
from batchkit.targets.postgres_statements import Statements
from batchkit.targets.sqltext import Sql, sql

_PASSES: Final = 20


def counted(kinds: dict[str, int]) -> Counts:
    """Count kinds as they are noted."""
    inserted = kinds.get("inserted", 0)
    return Counts(
        written=kinds.get("written", 0) + kinds.get("overlaid", 0) + inserted,
        inserted=inserted,
        unchanged=kinds.get("unchanged", 0),
        conflict=kinds.get("conflict", 0),
        absent=kinds.get("absent", 0),
        held_back=kinds.get("held_back", 0),
    )


def refuse_repeats(db: Connection, source: Sql) -> None:
    """Refuse a key that stands twice.

    Raises:
        UsageError: one does.
    """
    found = db.execute(
        sql("SELECT key FROM {source} GROUP BY key HAVING count(*) > 1 LIMIT 1", source=source)
    ).fetchone()
    if found is not None:
        raise UsageError(f"key {found[0]!r} stands twice among the staged rows. {NOTHING}")


def rehearse(
    db: Connection, sqls: Statements, note: Note, missing: Missing
) -> tuple[Counts, dict[str, tuple[str, ...]]]:
    """Classify only, and give the counts with the keys of the conflicts and, unless inserted, of the absent."""
    give_way(db, sqls, note)
    for statement in [*sqls.compare_guards, sqls.rehearse]:
        db.execute(statement)
    kinds: dict[str, int] = dict(
        db.execute("SELECT kind, count(*) FROM batchkit_hit GROUP BY kind").fetchall()
    )
    kinds["held_back"] = scalar(db, Sql("SELECT count(*) FROM pg_temp.batchkit_staged WHERE held"))
    lacking = Sql(
        "FROM pg_temp.batchkit_staged AS s WHERE NOT s.held"
        " AND NOT EXISTS (SELECT FROM batchkit_hit AS h WHERE h.n = s.n)"
    )
    listed = {"conflict": _keys(db, Sql("SELECT key FROM batchkit_hit WHERE kind = 'conflict' ORDER BY key"))}
    kinds["absent"] = scalar(db, sql("SELECT count(*) {lacking}", lacking=lacking))
    if missing == "insert":
        able = sql("SELECT count(*) {lacking} AND {able}", lacking=lacking, able=sqls.insertable)
        kinds["inserted"] = scalar(db, able)
        kinds["absent"] -= kinds["inserted"]
    else:
        listed["absent"] = _keys(db, sql("SELECT s.key {lacking} ORDER BY s.key", lacking=lacking))
    return counted(kinds), listed


def _keys(db: Connection, statement: Sql) -> tuple[str, ...]:
    return tuple(row[0] for row in db.execute(statement))


def apply(
    db: Connection,
    sqls: Statements,
    note: Note,
    missing: Missing,
    facts: Facts,
    *,
    staged: int,
    held: int,
) -> Record:
    """Keep what stands there, write, and note the promotion, in the transaction at hand.

    Raises:
        TargetError: a key is absent and ``missing`` is ``"error"``, or the catalog left rows out.
    """
    mine = (facts.id,)
    give_way(db, sqls, note)
    for statement in sqls.compare_guards:
        db.execute(statement)
    listed = _look(db, sqls, facts.id, staged - held)
    for statement in sqls.forget_guards:
        db.execute(statement)
    if missing == "insert" and listed < staged - held:
        insert(db, sqls, facts.id)
    if listed < staged:
        db.execute(sqls.note_others, mine)
    counts = count(db, sqls, facts.id)
    if missing == "error":
        refuse_absent(counts.absent, sqls.table.table, lambda limit: some_absent(db, sqls, facts.id, limit))
    expect(db.execute(sqls.write, mine).rowcount, counts.written - counts.inserted, "written")
    if sqls.table.triggers:
        db.execute(sqls.look_again, mine)
    return note_promotion(db, sqls, facts, counts)


def _look(db: Connection, sqls: Statements, promotion: int, wanted: int) -> int:
    """Classify the rows that the catalog has, and give how many it has.

    A row that is changed by somebody between the two statements belongs to neither, so they are run again.
    """
    listed: int = 0
    for _ in range(_PASSES):
        kept: int = db.execute(sqls.keep, (promotion,)).rowcount
        unchanged: int = db.execute(sqls.note_unchanged, (promotion,)).rowcount
        listed += kept + unchanged
        if listed == wanted or not kept + unchanged:
            return listed
    raise TargetError(
        f"rows of {sqls.table.table!r} keep changing. {NOTHING} Run it again when it is quieter."
    )


def insert(db: Connection, sqls: Statements, promotion: int) -> None:
    """Insert the keys that the catalog lacks and can take.

    Raises:
        TargetError: the catalog took a row under another key.
    """
    make, put, keep = sqls.insert
    db.execute(make)
    made = db.execute(put, (promotion,)).rowcount
    db.execute("ANALYZE batchkit_made")
    expect(db.execute(keep, (promotion,)).rowcount, made, "inserted under their own keys")
    db.execute("DROP TABLE batchkit_made")


def count(db: Connection, sqls: Statements, promotion: int) -> Counts:
    """Count what was noted."""
    found = db.execute(
        sql("SELECT kind, count(*) FROM {image} WHERE promotion = $1 GROUP BY kind", image=sqls.own.image),
        (promotion,),
    )
    return counted(dict(found.fetchall()))


def some_absent(db: Connection, sqls: Statements, promotion: int, limit: int) -> list[str]:
    """Give some of the keys that the catalog lacks."""
    found = db.execute(
        sql(
            "SELECT key FROM {image} WHERE promotion = $1 AND kind = 'absent' ORDER BY key LIMIT $2",
            image=sqls.own.image,
        ),
        (promotion, limit),
    )
    return [row[0] for row in found]


def note_promotion(db: Connection, sqls: Statements, facts: Facts, counts: Counts) -> Record:
    """Note the promotion with what became of its rows."""
    count_up(db, sqls.own)
    return add(
        db, sqls.own, attrs.evolve(facts, newest=newest(db, sqls.own, facts.id), **attrs.asdict(counts))
    )
