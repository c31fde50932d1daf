"""What a catalog behind functions holds, and what it is to hold, in a SQLite file of batchkit's own.

A row of the mirror has each column twice: ``at`` is what the catalog was last read to hold, ``to`` what it is to hold.
A promotion or a rollback of the mirror changes ``to`` in one transaction; the rows where the two differ are those left to
be written. So no list of open work is kept that could disagree with the work.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path

from batchkit.errors import TargetError
from batchkit.targets import RolledBack
from batchkit.targets.callable_calls import Calls, Pending, Spelled
from batchkit.targets.sqlite_records import Record, records, shared
from batchkit.targets.sqlite_session import columns_of
from batchkit.targets.sqltext import Sql, identifier, joined, sql
from batchkit.targets.stack import choose, find

KEY = "batchkit_key"

OWN_TABLES = (
    # The rollback without arguments that began last: called again after a crash it must not undo one more.
    Sql("CREATE TABLE IF NOT EXISTS batchkit_undoing (tbl TEXT PRIMARY KEY, promotion INTEGER NOT NULL)"),
)

_LATEST = Sql("""\
SELECT b.id, p.id, p.columns, p.rolled_back_at IS NULL FROM main.batchkit_before AS b
JOIN main.batchkit_promotion AS p ON p.tbl = ? AND b.id BETWEEN p.first AND p.last
WHERE b.key = ? AND b.kind = 'written' ORDER BY b.id DESC LIMIT 1""")


def to(column: str) -> str:
    """Name the mirror's column of what a column is to hold."""
    return f"to:{column}"


def at(column: str) -> str:
    """Name the mirror's column of what a column was read to hold."""
    return f"at:{column}"


def guard_at(column: str) -> str:
    """Name the mirror's column of a guard's text."""
    return f"guard:{column}"


def make_file(path: Path) -> None:
    """Make the file if it is missing, for its owner only: it holds values of the catalog."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))


class Mirror:
    """The mirror of one catalog, for one operation.

    Attributes:
        given_up: Keys of rows that were left as somebody else changed them.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, table: str, calls: Calls, timeout: float) -> None:
        """Make the mirror's table if it is missing."""
        self.given_up: list[str] = []
        self._db, self._path, self._table, self._calls, self._timeout = db, path, table, calls, timeout
        self._name = sql("main.{table}", table=identifier(table))
        self._lock: sqlite3.Connection | None = None
        self._buffer: list[tuple[str]] = []
        columns = sql("{key} TEXT PRIMARY KEY", key=identifier(KEY))
        db.execute(sql("CREATE TABLE IF NOT EXISTS {table} ({columns})", table=self._name, columns=columns))
        db.execute("CREATE TEMP TABLE batchkit_asked (n INTEGER PRIMARY KEY, key TEXT NOT NULL)")

    # -- one at a time

    def lock(self) -> None:
        """Wait until nobody else reads, writes and notes here. The lock goes with the process that has it.

        Raises:
            TargetError: somebody else had it for too long.
        """
        if self._lock is not None:
            return
        beside = self._path.with_name(f"{self._path.name}.lock")
        make_file(beside)
        self._lock = sqlite3.connect(beside, timeout=self._timeout, isolation_level=None)
        try:
            self._lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            raise TargetError(
                f"{self._path.name}: another process promotes or rolls back; waited {self._timeout:g} s ({error})."
                " Nothing was changed. Run it again, or raise timeout="
            ) from error

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # closed by now, where Ctrl-C kept this from being told at once
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- tables and columns

    def install(self) -> None:
        """Make what else is needed to write."""
        for statement in OWN_TABLES:
            self._db.execute(statement)

    def widen(self, columns: Iterable[str], guard: Iterable[str]) -> None:
        """Add the columns that are missing."""
        wanted = [*chain.from_iterable((to(name), at(name)) for name in columns), *map(guard_at, guard)]
        present = columns_of(self._db, self._table)
        if present.issuperset(wanted):
            return
        with self._transaction():
            present = columns_of(self._db, self._table)
            for name in dict.fromkeys(wanted):
                if name not in present:
                    column = identifier(name)
                    self._db.execute(
                        sql("ALTER TABLE {table} ADD COLUMN {column} TEXT", table=self._name, column=column)
                    )

    def _mirrored(self) -> list[str]:
        found = sorted(columns_of(self._db, self._table))
        return [name.removeprefix("at:") for name in found if name.startswith("at:")]

    def _differs(self, columns: Sequence[str]) -> Sql:
        each = [sql("{t} IS NOT {a}", t=identifier(to(c)), a=identifier(at(c))) for c in columns]
        return joined(" OR ", each) if each else Sql("FALSE")

    # -- reading

    def ask(self, key: str) -> None:
        """Note a key that is to be read once all are known."""
        self._buffer.append((key,))
        if len(self._buffer) >= self._calls.page:
            self._flush()

    def _flush(self) -> None:
        self._db.executemany("INSERT INTO temp.batchkit_asked (key) VALUES (?)", self._buffer)
        self._buffer.clear()

    def refresh_asked(self, columns: Sequence[str], guard: Sequence[str]) -> None:
        """Read the rows that were asked for."""
        self._flush()
        after = 0
        while page := self._db.execute(
            "SELECT n, key FROM temp.batchkit_asked WHERE n > ? ORDER BY n LIMIT ?", (after, self._calls.page)
        ).fetchall():
            self._refresh([key for _, key in page], columns, guard)
            after = page[-1][0]

    def refresh_written(self, chosen: Iterable[Record]) -> None:
        """Read the rows that promotions wrote, in the columns that each wrote."""
        for record in chosen:
            columns = [name.removeprefix("to:") for name in json.loads(record.columns)]
            after = record.first - 1
            while page := self._db.execute(
                "SELECT id, key FROM main.batchkit_before WHERE id > ? AND id <= ? AND kind = 'written'"
                " ORDER BY id LIMIT ?",
                (after, record.last, self._calls.page),
            ).fetchall():
                self._refresh([key for _, key in page], columns, ())
                after = page[-1][0]

    def _refresh(self, keys: Sequence[str], columns: Sequence[str], guard: Sequence[str]) -> None:
        """Take over what the catalog holds, but for rows that are left to be written: what they are to hold counts."""
        found = self._calls.rows(keys, columns, guard)
        values = list(dict.fromkeys(columns))
        names = [*map(to, values), *map(at, values), *map(guard_at, guard)]
        quoted = [identifier(name) for name in names]
        settled = sql("NOT ({differs})", differs=self._differs(self._mirrored()))
        insert = sql(
            "INSERT INTO {table} ({key}, {names}) VALUES ({marks}) ON CONFLICT DO UPDATE SET {sets} WHERE {settled}",
            table=self._name,
            key=identifier(KEY),
            names=joined(", ", quoted),
            marks=joined(", ", [Sql("?")] * (len(names) + 1)),
            sets=joined(", ", [sql("{n} = excluded.{n}", n=name) for name in quoted]),
            settled=settled,
        )
        delete = sql(
            "DELETE FROM {table} WHERE {key} = ? AND {settled}",
            table=self._name,
            key=identifier(KEY),
            settled=settled,
        )
        rows = [
            (key, *(row[c] for c in values), *(row[c] for c in values), *(frozen[g] for g in guard))
            for key, (row, frozen) in found.items()
        ]
        with self._transaction():
            self._db.executemany(insert, rows)
            self._db.executemany(delete, [(key,) for key in keys if key not in found])

    # -- writing

    def settle(self) -> None:
        """Write what is left to be written, by this call or by one that broke off."""
        if self._lock is None:
            self.lock()
            self.resolve()
        self.send()

    def resolve(self) -> None:
        """Find out by reading what became of rows that a call left behind: written, not written, or changed by others."""
        for page in self._pages():
            stands = self._stands(page)
            with self._transaction():
                for row in page:
                    now = stands.get(row.key)
                    if now is None or now not in (row.to, row.at):
                        self._give_up(row, now)
                    elif now == row.to:
                        self._hold(row.key, now)

    def send(self) -> None:
        """Write the rows that are left, a page at a time, and note of each what it is then read to hold.

        Raises:
            TargetError: ``write`` failed, or what it wrote is not there.
        """
        for page in self._pages():
            refused = self._calls.set(page)
            stands = self._stands(page)
            unwritten = []
            with self._transaction():
                for row in page:
                    now = stands.get(row.key)
                    if now is None or (row.key in refused and now != row.to):
                        self._give_up(row, now)
                    elif now == row.at:
                        unwritten.append(row.key)
                    else:
                        if now != row.to:
                            self._adopt(row.key, now)
                        self._hold(row.key, now)
            if unwritten:
                raise TargetError(
                    f"row {unwritten[0]!r}: write() raised nothing, and read() gives what was there before ({len(unwritten):,}"
                    " such rows). Let write() commit before it returns, and give back the keys that it did not take."
                    " Then call again: it goes on."
                )
        self._db.execute("DELETE FROM main.batchkit_undoing WHERE tbl = ?", (self._table,))

    def _pages(self) -> Iterator[list[Pending]]:
        """Give the rows that are left to be written, by key."""
        columns = self._mirrored()
        values = joined(
            ", ", [identifier(name) for column in columns for name in (to(column), at(column))] or [Sql("1")]
        )
        statement = sql(
            "SELECT {key}, {values} FROM {table} WHERE {key} > ? AND ({differs}) ORDER BY {key} LIMIT ?",
            key=identifier(KEY),
            values=values,
            table=self._name,
            differs=self._differs(columns),
        )
        # The empty text is a key, too; only before the first page can it come.
        first = Sql(statement.replace("> ?", ">= ?", 1))
        page: list[Pending] = []
        while True:
            found = self._db.execute(
                statement if page else first, (page[-1].key if page else "", self._calls.page)
            ).fetchall()
            page = [self._pending(columns, row) for row in found]
            if not page:
                return
            yield page

    @staticmethod
    def _pending(columns: Sequence[str], row: Sequence[str | None]) -> Pending:
        pairs = dict(zip(columns, zip(row[1::2], row[2::2], strict=True), strict=True))
        differing = {c: pair for c, pair in pairs.items() if pair[0] != pair[1]}
        return Pending(
            str(row[0]), {c: t for c, (t, _) in differing.items()}, {c: a for c, (_, a) in differing.items()}
        )

    def _stands(self, page: Sequence[Pending]) -> Mapping[str, Spelled]:
        """Read a page's rows: each in the columns that it was to be written in."""
        columns = dict.fromkeys(column for row in page for column in row.to)
        found = self._calls.rows([row.key for row in page], list(columns))
        return {row.key: {c: found[row.key][0][c] for c in row.to} for row in page if row.key in found}

    def _hold(self, key: str, now: Spelled) -> None:
        """Note that the catalog holds this, and is to."""
        names = [identifier(name) for column in now for name in (to(column), at(column))]
        self._db.execute(
            sql(
                "UPDATE {table} SET {sets} WHERE {key} = ?",
                table=self._name,
                sets=joined(", ", [sql("{n} = ?", n=name) for name in names]),
                key=identifier(KEY),
            ),
            (*(value for value in now.values() for _ in "ta"), key),
        )

    def _give_up(self, row: Pending, now: Spelled | None) -> None:
        """Leave a row to whoever changed it. What a standing promotion said it wrote there is a conflict."""
        self.given_up.append(row.key)
        if now is None:
            self._db.execute(
                sql("DELETE FROM {table} WHERE {key} = ?", table=self._name, key=identifier(KEY)), (row.key,)
            )
        else:
            self._hold(row.key, now)
        image, promotion, _, stands = self._latest(row.key)
        if stands:
            self._db.execute("UPDATE main.batchkit_before SET kind = 'conflict' WHERE id = ?", (image,))
            self._db.execute(
                "UPDATE main.batchkit_promotion SET written = written - 1, conflict = conflict + 1 WHERE id = ?",
                (promotion,),
            )

    def _adopt(self, key: str, now: Spelled) -> None:
        """Take what the catalog made of a value for what was written, so that a rollback knows it again."""
        image, _, columns, stands = self._latest(key)
        if not stands:
            return
        places = {name: n for n, name in enumerate(json.loads(columns))}
        for column, value in now.items():
            if to(column) not in places:
                continue
            after = identifier(f"a{places[to(column)]:d}")
            self._db.execute(
                sql("UPDATE main.batchkit_before SET {after} = ? WHERE id = ?", after=after), (value, image)
            )

    def _latest(self, key: str) -> tuple[int, int, str, bool]:
        """Find the last promotion that wrote a row: its image there, its id, its columns, and whether it stands."""
        self._db.execute("CREATE INDEX IF NOT EXISTS batchkit_before_key ON batchkit_before (key)")
        found: tuple[int, int, str, bool] = self._db.execute(_LATEST, (self._table, key)).fetchone()
        return found

    # -- undoing

    def chosen(self, promotion: int | None, to: int | None) -> Sequence[Record]:
        """Give the promotions that a rollback undoes, newest first; see `batchkit.targets.stack.choose`."""
        return choose(records(self._db, self._table), self._table, promotion, to, partial(shared, self._db))

    def begun(self) -> Record | None:
        """Give the promotion of a rollback without arguments that broke off after it was decided."""
        found = self._db.execute(
            "SELECT promotion FROM main.batchkit_undoing WHERE tbl = ?", (self._table,)
        ).fetchone()
        if found is None:
            return None
        record = find(records(self._db, self._table), found[0], self._table)
        return None if record.stands else record

    def begin(self) -> int | None:
        """Note that the newest standing promotion is to be undone, and give its id; None if there is none."""
        newest = self.chosen(None, None)
        if not newest:
            return None
        self._db.execute(
            "INSERT OR REPLACE INTO main.batchkit_undoing VALUES (?, ?)", (self._table, newest[0].id)
        )
        return newest[0].id

    def summary(self, record: Record) -> RolledBack:
        """Give what a rollback that broke off did, now that it is finished."""
        kept = self._db.execute(
            "SELECT key FROM main.batchkit_before WHERE id BETWEEN ? AND ? AND kept = 1",
            (record.first, record.last),
        ).fetchall()
        left = {key for (key,) in kept} | set(self.given_up)
        return RolledBack(
            promotions=(record.id,), restored=record.written - len(left), conflicts=tuple(sorted(left))
        )
