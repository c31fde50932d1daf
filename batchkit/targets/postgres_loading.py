"""Staged rows laid over a PostgreSQL catalog: loaded in small transactions, seen by all at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Final

import attrs

from batchkit.errors import TargetError
from batchkit.targets import Missing, Note, StagedRow
from batchkit.targets.outcome import Counts, expect, refuse_absent
from batchkit.targets.postgres_overlay import Overlay
from batchkit.targets.postgres_precedence import give_way
from batchkit.targets.postgres_promote import counted, insert, refuse_repeats, some_absent
from batchkit.targets.postgres_records import Facts, Record, add, count_up, newest
from batchkit.targets.postgres_session import NOTHING, NOW, Catalog, Connection, driver
from batchkit.targets.postgres_staging import Staging
from batchkit.targets.postgres_table import read_table
from batchkit.targets.sqltext import Sql, sql

CHUNK: Final = 50_000
"""Rows of one transaction."""

_FORSAKEN: Final = 3600
"""Seconds without a sign of life after which the rows of a load are removed by the next one."""


@attrs.define(kw_only=True)
class Loading:
    """One promotion on its way. Its rows have its id and nobody sees them, until a record of it stands.

    ``apart`` says that each chunk is a transaction of its own. It is not where batchkit's tables were made
    in the transaction at hand, so that a promotion that fails leaves no trace.
    """

    catalog: Catalog
    table: str
    db: Connection
    sqls: Overlay
    note: Note
    missing: Missing
    staging: Staging
    promotion: int
    apart: bool
    generation: int = 0

    def load(self, rows: Iterable[StagedRow]) -> None:
        """Load all rows. Where that fails, what was loaded is removed.

        Raises:
            UsageError: a key stands twice, or a row lacks something.
            TargetError: the catalog refuses a value.
        """
        own, db = self.sqls.own, self.db
        self.generation = (
            db.execute(
                sql("SELECT generation FROM {catalog} WHERE tbl = $1", catalog=own.catalog), (own.table.name,)
            ).fetchone()
            or (0,)
        )[0]
        self._sweep()
        db.execute(
            sql("INSERT INTO {load} (promotion, tbl, at) VALUES ($1, $2, {now})", load=own.load, now=NOW),
            (self.promotion, own.table.name),
        )
        if self.apart:
            db.execute("COMMIT")
        source = iter(rows)
        taken = CHUNK
        while taken == CHUNK:
            with self._transaction():
                taken = self._take(islice(source, CHUNK))
        with self._transaction():
            refuse_repeats(
                db, sql("{image} WHERE promotion = {id}", image=own.image, id=Sql(str(int(self.promotion))))
            )

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        if self.apart:
            self.catalog.begin(self.db)
        yield
        if self.apart:
            self.db.execute("COMMIT")

    def _take(self, chunk: Iterable[StagedRow]) -> int:
        sqls, db, mine = self.sqls, self.db, self.promotion
        above = self.staging.count
        taken = self.staging.load(db, chunk)
        give_way(db, sqls, self.note)
        for statement in sqls.compare_guards:
            db.execute(statement)
        db.execute(sqls.load_images(insert=self.missing == "insert"), (mine,))
        for statement in sqls.forget_guards:
            db.execute(statement)
        if sqls.constrained:
            make, put, drop = sqls.probe()
            db.execute(make)
            db.execute(put, (mine, above))
            db.execute(drop)
        db.execute("DROP TABLE pg_temp.batchkit_staged")
        self._live()
        return taken

    def _live(self) -> None:
        """Give a sign of life."""
        seen = sql("UPDATE {load} SET at = {now} WHERE promotion = $1", load=self.sqls.own.load, now=NOW)
        expect(self.db.execute(seen, (self.promotion,)).rowcount, 1, "loaded in time")

    def prepare(self) -> tuple[dict[str, int], int]:
        """Do what takes long before the rows are let be seen: count what they are, and find the newest answer.

        Reading the rows for the first time leaves marks on their pages, and some of those go to the log. The sign of
        life makes this transaction one that waits for the log; without, the next one would wait, the one that lets the
        rows be seen. What that one reads of the catalog is read here once, so that it finds it in memory.
        """
        with self._transaction():
            found = self._kinds(), newest(self.db, self.sqls.own, self.promotion)
            self._live()
            self._check_shape()
        return found

    def _kinds(self) -> dict[str, int]:
        """Count what the rows are."""
        found = self.db.execute(
            sql(
                "SELECT kind, count(*) FROM {image} WHERE promotion = $1 GROUP BY kind",
                image=self.sqls.own.image,
            ),
            (self.promotion,),
        )
        return dict(found.fetchall())

    def flip(self, facts: Facts, kinds: dict[str, int], highest: int) -> Record:
        """Let everybody see the rows, in the transaction at hand, whose lock on the table's row is held.

        Raises:
            TargetError: somebody promoted or rolled back meanwhile, or the table was altered.
        """
        sqls, db, own = self.sqls, self.db, self.sqls.own
        if kinds.get("lacking"):
            insert(db, sqls, self.promotion)
            db.execute(
                sql(
                    "UPDATE {image} SET kind = 'absent' WHERE promotion = $1 AND kind = 'lacking'",
                    image=own.image,
                ),
                (self.promotion,),
            )
            kinds = self._kinds()
            highest = newest(db, own, self.promotion)
        counts: Counts = counted(kinds)
        if self.missing == "error":
            refuse_absent(
                counts.absent, own.table.table, lambda limit: some_absent(db, sqls, self.promotion, limit)
            )
        ended = db.execute(sql("DELETE FROM {load} WHERE promotion = $1", load=own.load), (self.promotion,))
        expect(ended.rowcount, 1, "loaded in time")
        count_up(db, own)
        return add(db, own, attrs.evolve(facts, newest=highest, **attrs.asdict(counts)))

    def check_alone(self, generation: int) -> None:
        """Make sure that what the rows were compared with is still so.

        Raises:
            TargetError: it is not.
        """
        if generation != self.generation:
            raise TargetError(
                f"somebody else promoted to {self.table!r} or rolled back while rows were loaded. {NOTHING} Run it again."
            )
        self._check_shape()

    def _check_shape(self) -> None:
        if read_table(self.db, self.table) != self.sqls.table:
            raise TargetError(
                f"table {self.table!r} was altered while rows were loaded. {NOTHING} Run it again."
            )

    def discard(self) -> None:
        """Remove what was loaded, unless it is seen by now; what cannot be removed is left to the next load."""
        if self.db.info.transaction_status == driver().pq.TransactionStatus.ACTIVE:
            # Broken off amid a COPY: the server waits for rows, and would hear of nothing else.
            self.db.close()
        with suppress(driver().Error, TargetError):
            self.db.execute("ROLLBACK")
            self.catalog.begin(self.db)
            self._remove(self.promotion)
            self.db.execute("COMMIT")

    def _sweep(self) -> None:
        """Remove what loads left that ended without a word."""
        own = self.sqls.own
        left = self.db.execute(
            sql(
                "SELECT promotion FROM {load} WHERE tbl = $1 AND at < {now} - $2::float8 FOR UPDATE SKIP LOCKED",
                load=own.load,
                now=NOW,
            ),
            (own.table.name, _FORSAKEN),
        )
        for (promotion,) in left.fetchall():
            self._remove(promotion)

    def _remove(self, promotion: int) -> None:
        own = self.sqls.own
        gone = self.db.execute(sql("DELETE FROM {load} WHERE promotion = $1", load=own.load), (promotion,))
        if gone.rowcount:
            self.db.execute(sql("DELETE FROM {image} WHERE promotion = $1", image=own.image), (promotion,))
