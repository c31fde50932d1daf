"""The SQL of a rollback on PostgreSQL, made from checked names; values are parameters."""

from __future__ import annotations

import attrs

from batchkit.targets.postgres_own import before
from batchkit.targets.postgres_statements import Statements, same
from batchkit.targets.postgres_table import qualified, quoted
from batchkit.targets.sqltext import Sql, identifier, joined, sql


@attrs.frozen(kw_only=True)
class Restoring(Statements):
    """The statements that undo a promotion."""

    def find_undoable(self, *, deleting: bool) -> Sql:
        """Find and lock the rows that are as the promotion left them, and note where they and their images stand.

        A row that is locked stays in its place until the transaction ends. One that somebody else changes
        meanwhile is waited for, and compared and placed as they left it.
        """
        return sql(
            "CREATE TEMP TABLE batchkit_undo ON COMMIT DROP AS SELECT i.n, CASE WHEN i.kind = 'inserted' THEN i.kind ELSE 'written' END AS kind,"
            " i.ctid AS image, p.tableoid AS part, p.ctid AS at"
            " FROM {image} AS i JOIN {table} AS p ON {match} WHERE i.promotion = $1 AND ("
            "(i.kind = 'written' OR i.kind = 'overlaid' AND i.dead) AND {same} OR i.kind = 'inserted' AND i.inserted = {whole})"
            " ORDER BY p.{key} FOR {lock} OF p",
            image=self.own.image,
            table=self.table.sql,
            match=self.match(Sql("i")),
            same=same(self.now, self.left),
            whole=self.whole,
            key=quoted(self.key),
            lock=Sql("UPDATE") if deleting else Sql("NO KEY UPDATE"),
        )

    @property
    def spare_parents(self) -> Sql | None:
        """Leave rows out that a row of another table points at: deleting them would harm that row."""
        parts = [
            sql(
                "EXISTS (SELECT FROM {child} AS c WHERE {pairs})",
                child=qualified(reference.schema, reference.table),
                pairs=joined(
                    " AND ",
                    [
                        sql("c.{own} = p.{ours}", own=identifier(a), ours=identifier(b))
                        for a, b in reference.pairs
                    ],
                ),
            )
            for reference in self.table.children
        ]
        if not parts:
            return None
        return sql(
            "DELETE FROM pg_temp.batchkit_undo AS u USING {image} AS i, {table} AS p"
            " WHERE u.kind = 'inserted' AND i.promotion = $1 AND i.n = u.n AND {match} AND ({pointed})",
            image=self.own.image,
            table=self.table.sql,
            match=self.match(Sql("i")),
            pointed=joined(" OR ", parts),
        )

    @property
    def restore(self) -> Sql:
        """Set the values from before, in the rows and from the images whose places are noted."""
        return sql(
            "UPDATE {table} AS p SET {assign} FROM pg_temp.batchkit_undo AS u, {image} AS i"
            " WHERE u.kind = 'written' AND i.ctid = u.image AND p.tableoid = u.part AND p.ctid = u.at",
            table=self.table.sql,
            assign=self.assign([before(column) for column in self.columns]),
            image=self.own.image,
        )

    @property
    def delete(self) -> Sql:
        """Delete the rows that the promotion inserted."""
        return sql(
            "DELETE FROM {table} AS p USING pg_temp.batchkit_undo AS u, {image} AS i"
            " WHERE u.kind = 'inserted' AND i.promotion = $1 AND i.n = u.n AND {match}",
            table=self.table.sql,
            image=self.own.image,
            match=self.match(Sql("i")),
        )

    @property
    def count_not_restored(self) -> Sql:
        """Count the rows that a trigger of the catalog kept from coming back."""
        return sql(
            "SELECT count(*) FROM pg_temp.batchkit_undo AS u JOIN {image} AS i ON i.promotion = $1 AND i.n = u.n"
            " JOIN {table} AS p ON {match} WHERE u.kind = 'written' AND NOT ({same})",
            image=self.own.image,
            table=self.table.sql,
            match=self.match(Sql("i")),
            same=same(self.now, self.were),
        )

    @property
    def keep_others(self) -> Sql:
        """Mark the rows that stay as somebody changed them."""
        return sql(
            "UPDATE {image} AS i SET kept = true WHERE i.promotion = $1 AND i.kind IN ('written', 'inserted')"
            " AND NOT EXISTS (SELECT FROM pg_temp.batchkit_undo AS u WHERE u.n = i.n)",
            image=self.own.image,
        )
