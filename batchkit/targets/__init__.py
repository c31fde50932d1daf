"""The catalog that a promotion writes to: one Protocol, and the values that pass through it.

A promotion takes staged rows to named columns of an existing table, all in one transaction, and keeps
what stood there before, so that it can be undone. Every sentence below is a test in
:class:`batchkit.testing.TargetContract`. Those that a target keeps without a transaction, page by page, are in
:class:`batchkit.testing.EveryTargetContract`.

Words: a staged row is *written* (the catalog row was changed, or inserted), *unchanged* (the catalog
held these very values), a *conflict* (the catalog row is no longer what was read, ``catalog.stale``, or
it holds another run's newer answer), *absent* (the catalog has no such key, ``catalog.missing_key``) or
*held back* (the caller left it out). Each staged row is exactly one of these. A promotion *covers* the
rows that are written, inserted or unchanged by it, and *stands* until it is rolled back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import attrs

from batchkit.errors import UsageError
from batchkit.ids import Digest

Kind: TypeAlias = Literal["written", "inserted", "unchanged", "conflict", "absent", "held_back"]
"""What became of a staged row. *inserted* rows are among the *written* ones."""

Missing: TypeAlias = Literal["report", "insert", "error"]
"""What to do with a key that the catalog lacks: list it, insert a row, or refuse the promotion."""

Values: TypeAlias = Mapping[str, Any]
"""Field name to JSON-able value: what a contract dumps."""


class StagedRow(NamedTuple):
    """One valid answer on its way into the catalog.

    ``values`` holds each output field; None holds the row back: it is counted and listed, not written.
    ``guard`` holds the text of each guard column as it was frozen with the source row. ``answer`` is the
    number of the answer in its store: of two answers in one store the one with the higher number is newer.
    Where nobody numbers them no answer is newer than another.
    """

    key: str
    values: Values | None
    guard: Mapping[str, str | None]
    answer: int = 0


@attrs.frozen
class Json:
    """Map a field to a column that holds it as JSON text, whatever its type. None stays NULL."""

    column: str


Columns: TypeAlias = Mapping[str, "str | Json"]
"""Output field to catalog column. Fields that are not named are not promoted."""


@attrs.frozen(kw_only=True)
class OutputField:
    """What a contract says about one output field.

    ``kinds`` are JSON type names; ``max_length`` is in characters; ``allowed`` lists the values of a
    closed field and is empty for an open one.
    """

    name: str
    kinds: frozenset[str]
    max_length: int | None = None
    allowed: tuple[Any, ...] = ()


@attrs.frozen(kw_only=True)
class Problem:
    """Why a promotion would fail or do harm. ``column`` is empty where the whole table is meant."""

    column: str
    what: str
    fix: str

    def __str__(self) -> str:
        """Give one line of text."""
        return f"{self.column}: {self.what}. {self.fix}" if self.column else f"{self.what}. {self.fix}"


@attrs.frozen(kw_only=True)
class Plan:
    """What a promotion will do: statements in order, what it locks for how long, bytes it will log (estimated)."""

    rows: int
    sql: tuple[str, ...]
    locks: str
    log_bytes: int


@attrs.frozen(kw_only=True)
class Note:
    """What a promotion is about. ``fields`` are the contract's output fields, in order.

    ``receipt`` is the proof that the run balances; ``content`` is the digest of the rows and answers it
    counts, which a later receipt of the same rows has too. A promotion is made once per content.
    ``partial`` says that some staged rows may be held back, so that only reading them all tells whether
    this promotion was made already. ``store`` tells the run's store from every other; runs of the same
    name in two stores are two runs.
    """

    run: str
    receipt: Digest
    content: Digest
    fields: tuple[str, ...]
    partial: bool = False
    store: str = ""


@attrs.frozen(kw_only=True)
class Promotion:
    """One promotion, as the catalog's own table has it. ``at`` and ``rolled_back_at`` are epoch seconds.

    ``id`` is None for a dry run. ``inserted`` counts those of ``written`` that the catalog did not have.
    ``repeated`` says that the promotion had been made before, and this call changed nothing.
    """

    id: int | None
    target: str
    run: str
    receipt: Digest
    at: float
    written: int
    inserted: int
    unchanged: int
    conflict: int
    absent: int
    held_back: int
    rolled_back_at: float | None = None
    repeated: bool = attrs.field(default=False, eq=False)
    _source: Target | None = attrs.field(default=None, eq=False, repr=False, alias="source")
    _listed: Mapping[str, tuple[str, ...]] = attrs.field(factory=dict, eq=False, repr=False, alias="listed")

    @property
    def staged(self) -> int:
        """Count the staged rows: the sum of the five kinds."""
        return self.written + self.unchanged + self.conflict + self.absent + self.held_back

    @property
    def dry_run(self) -> bool:
        """Tell whether nothing was written because nothing was to be."""
        return self.id is None

    def keys(self, kind: Kind) -> Sequence[str]:
        """Give the keys of one kind in ascending order.

        Raises:
            UsageError: a dry run lists ``conflict`` and ``absent`` only, since it stores nothing.
        """
        if self.id is not None and self._source is not None:
            return self._source.keys(self.id, kind)
        if kind in self._listed:
            return self._listed[kind]
        raise UsageError(
            f"a dry run lists the keys of: {', '.join(sorted(self._listed)) or 'nothing'}; not of {kind!r}"
        )

    def rollback(self) -> RolledBack:
        """Undo this promotion. See :meth:`Target.rollback`."""
        if self.id is None or self._source is None:
            raise UsageError("a dry run wrote nothing, so there is nothing to roll back")
        return self._source.rollback(self.id)

    def to_dict(self) -> dict[str, Any]:
        """Give the facts as JSON-able values."""
        names = [
            f.name for f in attrs.fields(Promotion) if not f.name.startswith("_") and f.name != "repeated"
        ]
        return {name: getattr(self, name) for name in names}

    def __str__(self) -> str:
        """Give the equation in one line."""
        head = "dry run" if self.id is None else f"promotion {self.id}"
        done = " (made before: nothing changed now)" if self.repeated else ""
        undone = " (rolled back)" if self.rolled_back_at is not None else ""
        return (
            f"{head} of {self.run} to {self.target}{done}{undone}: staged {self.staged:,} = written {self.written:,}"
            f" + unchanged {self.unchanged:,} + conflict {self.conflict:,} + absent {self.absent:,}"
            f" + held back {self.held_back:,}"
        )


@attrs.frozen(kw_only=True)
class RolledBack:
    """What a rollback did.

    ``promotions`` are the ids undone, newest first, empty if there was nothing to undo. ``restored``
    and ``deleted`` count catalog rows; ``conflicts`` are the keys, ascending, that somebody changed or
    deleted since: they were left as they are.
    """

    promotions: tuple[int, ...]
    restored: int = 0
    deleted: int = 0
    conflicts: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Give the figures in one line."""
        if not self.promotions:
            return "nothing to roll back"
        which = ", ".join(str(number) for number in self.promotions)
        return (
            f"rolled back {which}: restored {self.restored:,}, deleted {self.deleted:,},"
            f" left as somebody changed them {len(self.conflicts):,}"
        )


class Target(Protocol):
    """A catalog table, the column that holds the key, and the columns that outputs go to.

    Two values made with the same arguments are the same target. A method either takes effect wholly or
    raises TargetError and leaves the catalog as it was, wherever it breaks off. Keys match by their exact text: case, spaces
    and leading zeros count.
    """

    @property
    def name(self) -> str:
        """Give a text that is the same for the same table, whatever is written to it."""
        ...

    @property
    def guard_columns(self) -> tuple[str, ...]:
        """Give the columns whose frozen text must still be the catalog's, or nothing."""
        ...

    def check(self, fields: Sequence[OutputField]) -> Sequence[Problem]:
        """Give what would make a promotion fail, without changing anything.

        Names columns that do not exist, cannot hold a value the contract allows, or refuse it by a
        constraint; a key column that is not unique or cannot hold keys as text; a catalog that cannot
        be written. Gives nothing where a promotion can go ahead.
        """
        ...

    def plan(self, fields: Sequence[str], rows: int) -> Plan:
        """Give the statements a promotion of ``rows`` rows will run, and what they lock. Changes nothing."""
        ...

    def ddl(self) -> str:
        """Give the statements that make batchkit's own tables in the catalog. Changes nothing."""
        ...

    def install(self) -> None:
        """Run the statements of :meth:`ddl`. Repeating changes nothing."""
        ...

    def promote(self, note: Note, rows: Iterable[StagedRow], *, dry_run: bool = False) -> Promotion:
        """Write staged rows in one transaction and give what became of each.

        The values that stood there are kept first, in the catalog, with their own types. Rows that hold
        the very values already are not touched. A row whose guard differs from the catalog is a
        conflict and is not written. A key that the catalog lacks is listed, inserted or refused, as the
        target says.

        No answer is written over a newer one of another run: a row is a conflict where a standing
        promotion of another run covers its key, wrote to one of the same columns, and had the newer
        answer. Of two runs of one store the higher number is newer. Numbers of two stores do not compare:
        there the other store's answer is newer if it was promoted after a standing promotion of this run
        that covers the key with this answer or a later one. What was rolled back does not count.

        The same run, content, mapping and held-back keys are promoted once: while that
        promotion stands, it is given again with ``repeated`` and nothing is changed; after a rollback
        they can be promoted again, under a new id. batchkit's own tables are installed if they are
        missing. A dry run counts and changes nothing at all.

        Raises:
            UsageError: a key stands twice among the rows, a field of the map is not in the note, or a
                guard column was not frozen with the rows.
            TargetError: the catalog refused a value, is locked, or lacks what the mapping needs.
        """
        ...

    def rollback(self, promotion: int | None = None, *, to: int | None = None) -> RolledBack:
        """Undo one promotion, or with ``to`` that one and every later one of this table, newest first.

        Without arguments the newest standing promotion is undone. Values come back as they were, type
        and bytes; rows that the promotion inserted are deleted. A row that is not as the promotion left
        it is a conflict: it is listed and stays. A promotion that was undone already is left alone,
        and nothing is done.

        Raises:
            TargetError: there is no such promotion of this table, or a later standing promotion
                covers one of its keys.
        """
        ...

    def promotions(self) -> Sequence[Promotion]:
        """Give every promotion of this table, oldest first, those rolled back included."""
        ...

    def keys(self, promotion: int, kind: Kind) -> Sequence[str]:
        """Give the keys of one kind in a promotion, ascending by code point."""
        ...


class Selection:
    """The running identity of the rows held back: empty text while there is none."""

    def __init__(self) -> None:
        """Start with no row held back."""
        self._hash = hashlib.sha256()
        self.count: int = 0

    def add(self, key: str) -> None:
        """Take one key that is held back. Order matters, and is the source's order."""
        self._hash.update(len(key).to_bytes(4, "big") + key.encode("utf-8", "surrogatepass"))
        self.count += 1

    @property
    def digest(self) -> str:
        """Give the identity."""
        return self._hash.hexdigest() if self.count else ""


__all__ = [
    "Columns",
    "Json",
    "Kind",
    "Missing",
    "Note",
    "OutputField",
    "Plan",
    "Problem",
    "Promotion",
    "RolledBack",
    "Selection",
    "StagedRow",
    "Target",
    "Values",
]
