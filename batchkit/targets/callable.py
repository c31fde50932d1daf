"""A catalog behind a team's own code as a promotion target: two functions, one that reads and one that writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import attrs

from batchkit.errors import TargetError, UsageError
from batchkit.targets import (
    Columns,
    Kind,
    Note,
    OutputField,
    Plan,
    Problem,
    Promotion,
    RolledBack,
    StagedRow,
)
from batchkit.targets.callable_calls import Calls, Change, Read, Write, spelled
from batchkit.targets.callable_mirror import KEY, OWN_TABLES, Mirror, guard_at, make_file, to
from batchkit.targets.mapping import Mapped, check_columns, json_text, resolve
from batchkit.targets.outcome import guards, one_of
from batchkit.targets.sqlite import SQLiteTarget, absolute
from batchkit.targets.sqlite_session import session

__all__ = ["CallableTarget", "Change"]


def _name(_: object, __: object, table: str) -> None:
    if not table or "\0" in table or table.lower().startswith(("batchkit_", "sqlite_")):
        raise UsageError(f"table={table!r} cannot name a catalog here; take the name your table or model has")


def _function(_: object, attribute: attrs.Attribute[Callable[..., Any]], value: object) -> None:
    if not callable(value):
        raise UsageError(f"{attribute.name}= is a function, not a {type(value).__name__}")


def _rows(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    if value < 1:
        raise UsageError(f"{attribute.name}={value!r}: a page has one row at least")


@attrs.frozen
class CallableTarget:
    """A catalog that only your code can reach: an ORM, a service; a :class:`batchkit.targets.Target` in pages.

    What stands in the catalog is read for the keys concerned and mirrored into a file of batchkit's own. There a
    promotion, or a rollback, is one transaction as everywhere, with before-images, guard and order of answers. Then
    the differences go to ``write``, a page at a time; each page is read back and noted as written.

    It promises:

    - Every promotion can be undone, also one that broke off: each row gets back what ``read`` gave before.
    - Promoting and rolling back, called again after a crash, an error or a kill, finish what was begun. Rows that
      are written already are found so by reading them.
    - A row that holds neither the old values nor the new ones when a call goes on was changed by somebody else: it
      is left alone, and listed as a conflict.

    It cannot promise, because the catalog's transactions are yours:

    - That a promotion is seen all at once. Whoever reads the catalog meanwhile sees some pages written and some not.
    - That an edit between the reading of a row and its writing is kept. It is overwritten, unless ``write`` compares
      with ``expected`` and gives back the keys of the rows that it left alone.
    - That an edit between the writing of a page and its reading back is told from what the catalog makes of a value
      as it stores it (trims it, rounds it). What is read back counts as written, and a rollback replaces it. After a
      crash just there it counts as an edit instead.
    - That columns and types are right before the first row: ``check`` sees your functions, not the table.

    It inserts no rows and deletes none: a key that the catalog lacks is reported.

    Args:
        where: path of batchkit's own file, which is made if it is missing. It is the memory of every promotion: keep
            it as long as the catalog, back it up with it, and let everybody who promotes to this catalog use this one.
        table: a name for the catalog, such as its table's.
        read: takes keys, at most ``page`` of them, and gives of each row that is there its columns and their values:
            ``{"B-17": {"category": "Cables", "updated_at": …}}``. Values are what JSON can hold; a guard's may be a
            date or a number, too.
        write: takes :class:`Change` values, at most ``page`` of them, and sets each row's columns, committed
            when it returns. It is called again with the same rows after a crash. It gives nothing, or the keys of
            rows that it did not take, for instance because they no longer held what was ``expected``.
        columns: output field to column, or to :class:`~batchkit.targets.Json` for JSON text; fields that are not
            named are not promoted. Without it each field goes to the column of its name.
        guard: the column or columns that must still hold the text that was frozen with the row.
        missing: ``"report"`` lists keys that the catalog lacks, ``"error"`` refuses the promotion.
        page: rows in one call of ``read`` or ``write``.
        timeout: seconds to wait for another process that promotes or rolls back here.

    Raises:
        UsageError: arguments that cannot work.
    """

    where: Path = attrs.field(converter=absolute)
    table: str = attrs.field(validator=_name)
    read: Read = attrs.field(kw_only=True, validator=_function)
    write: Write = attrs.field(kw_only=True, validator=_function)
    columns: Columns | None = attrs.field(default=None, kw_only=True)
    guard: str | Sequence[str] | None = attrs.field(default=None, kw_only=True)
    missing: Literal["report", "error"] = attrs.field(
        default="report", validator=one_of("callable", "report", "error"), kw_only=True
    )
    page: int = attrs.field(default=500, validator=_rows, kw_only=True)
    timeout: float = attrs.field(default=10.0, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Refuse a map that cannot work."""
        check_columns(self.columns, key=KEY)

    @property
    def name(self) -> str:
        """Give a text that is the same for the same catalog, whatever is written to it."""
        return f"callable:{self.where}#{self.table}"

    @property
    def guard_columns(self) -> tuple[str, ...]:
        """Give the columns whose frozen text must still be the catalog's."""
        return guards(self.guard)

    def check(self, fields: Sequence[OutputField]) -> Sequence[Problem]:
        """Give what is wrong with the map. Columns, types and constraints are your functions' own business."""
        try:
            self._mapping([field.name for field in fields])
        except UsageError as error:
            return [Problem(column="", what=str(error), fix="Correct columns=.")]
        return []

    def plan(self, fields: Sequence[str], rows: int) -> Plan:
        """Give the calls that a promotion of ``rows`` rows will make, in place of statements. Changes nothing."""
        columns = ", ".join([*(mapped.column for mapped in self._mapping(fields)), *self.guard_columns])
        pages = -(-rows // self.page)
        return Plan(
            rows=rows,
            sql=(
                f"read: {pages:,} calls for {columns}",
                f"write: up to {pages:,} calls, one for each page of rows that differ",
                f"read: one call after each call of write, {self.page:,} rows at most",
            ),
            locks="None but what read and write take. Readers see pages as they are written.",
            log_bytes=0,
        )

    def ddl(self) -> str:
        """Give the statements that make the tables in batchkit's own file. Nothing is made in the catalog."""
        return self._inner({}).ddl() + "".join(f"{statement};\n" for statement in OWN_TABLES)

    def install(self) -> None:
        """Make batchkit's own file and the tables in it. Repeating changes nothing."""
        with self._mirror() as mirror:
            mirror.install()
            self._inner({}).install()

    def promote(self, note: Note, rows: Iterable[StagedRow], *, dry_run: bool = False) -> Promotion:
        """Write staged rows, a page at a time, and give what became of each; see the Protocol.

        What an earlier call left unwritten is written first. A dry run calls ``read`` only.

        Raises:
            UsageError: a key stands twice among the rows, or a field of the map or a guard column is missing there.
            TargetError: ``read`` or ``write`` failed or gave what it should not. Where rows are left to be written,
                it says so: promote again, or roll back.
        """
        mapping = self._mapping(note.fields)
        columns = tuple(mapped.column for mapped in mapping)
        named = attrs.evolve(note, fields=tuple(map(_alias, mapping)))
        inner = self._inner({_alias(mapped): to(mapped.column) for mapped in mapping})
        with self._mirror() as mirror:
            mirror.widen(columns, self.guard_columns)
            if not dry_run:
                mirror.install()
            asked = self._asked(mirror, rows, mapping, dry_run=dry_run)
            made = inner.promote(named, asked, dry_run=dry_run)
            if made.id is None:
                return attrs.evolve(made, source=self, target=self.name)
            mirror.settle()
        (known,) = (promotion for promotion in self.promotions() if promotion.id == made.id)
        return attrs.evolve(known, repeated=made.repeated)

    def rollback(self, promotion: int | None = None, *, to: int | None = None) -> RolledBack:
        """Undo one promotion, or with ``to`` that one and every later one, newest first; see the Protocol.

        Rows that the promotion had not written yet stay as they are. Without arguments, a rollback that broke off
        is finished before anything else is undone.

        Raises:
            TargetError: as the Protocol says, or ``read`` or ``write`` failed. Roll back again: it goes on.
        """
        if promotion is not None and to is not None:
            raise UsageError("rollback takes the id of one promotion, or to=, not both")
        with self._mirror() as mirror:
            mirror.install()
            mirror.lock()
            mirror.resolve()
            if promotion is None and to is None:
                if (begun := mirror.begun()) is not None:
                    mirror.send()
                    return mirror.summary(begun)
                promotion = mirror.begin()
            chosen = mirror.chosen(promotion, to) if promotion is not None or to is not None else []
            mirror.refresh_written(chosen)
            undone = self._inner({}).rollback(promotion, to=to) if chosen else RolledBack(promotions=())
            unsent = len(mirror.given_up)
            mirror.send()
        return attrs.evolve(
            undone,
            restored=undone.restored - (len(mirror.given_up) - unsent),
            conflicts=tuple(sorted({*undone.conflicts, *mirror.given_up})),
        )

    def promotions(self) -> Sequence[Promotion]:
        """Give every promotion of this catalog, oldest first, those rolled back included."""
        with self._mirror():
            known = self._inner({}).promotions()
        return [attrs.evolve(promotion, source=self, target=self.name) for promotion in known]

    def keys(self, promotion: int, kind: Kind) -> Sequence[str]:
        """Give the keys of one kind in a promotion, ascending by code point."""
        with self._mirror():
            return self._inner({}).keys(promotion, kind)

    def _mapping(self, fields: Sequence[str]) -> tuple[Mapped, ...]:
        mapping = resolve(self.columns, fields)
        check_columns({mapped.field: mapped.column for mapped in mapping}, key=KEY)
        return mapping

    def _inner(self, columns: Mapping[str, str]) -> SQLiteTarget:
        """Give the mirror as a target of its own."""
        return SQLiteTarget(
            self.where,
            self.table,
            KEY,
            columns=columns or None,
            guard=tuple(map(guard_at, self.guard_columns)),
            missing=self.missing,
            timeout=self.timeout,
        )

    @contextmanager
    def _mirror(self) -> Iterator[Mirror]:
        make_file(self.where)
        with session(self.where, self.timeout) as db:
            mirror = Mirror(db, self.where, self.table, Calls(self.read, self.write, self.page), self.timeout)
            try:
                yield mirror
            finally:
                mirror.close()

    def _asked(
        self, mirror: Mirror, rows: Iterable[StagedRow], mapping: Sequence[Mapped], *, dry_run: bool
    ) -> Iterator[StagedRow]:
        """Pass the rows on as the mirror spells them; when all are staged, and only then, look at the catalog."""
        for key, values, frozen, answer in rows:
            mirror.ask(key)
            if values is None:
                yield StagedRow(key, None, {}, answer)
                continue
            yield StagedRow(
                key,
                {_alias(mapped): _value(key, mapped, values) for mapped in mapping},
                {guard_at(name): _text(key, name, frozen) for name in self.guard_columns},
                answer,
            )
        mirror.lock()
        mirror.resolve()
        if not dry_run:
            mirror.send()
        mirror.refresh_asked([mapped.column for mapped in mapping], self.guard_columns)


def _alias(mapped: Mapped) -> str:
    """Tell a field that goes as JSON text from one that goes as it is: they are two promotions."""
    return f"JSON text of {mapped.field}" if mapped.as_json else mapped.field


def _value(key: str, mapped: Mapped, values: Mapping[str, Any]) -> str | None:
    if mapped.field not in values:
        raise UsageError(f"row {key!r} has no field {mapped.field!r}. Nothing was changed.")
    value = values[mapped.field]
    try:
        return spelled(json_text(value) if mapped.as_json and value is not None else value)
    except (TypeError, ValueError) as error:
        raise TargetError(
            f"row {key!r}, field {mapped.field!r}: JSON cannot hold its value ({type(value).__name__}). Nothing was"
            " changed. Hold the row back, or narrow the contract."
        ) from error


def _text(key: str, name: str, frozen: Mapping[str, str | None]) -> str | None:
    if name not in frozen:
        raise UsageError(
            f"row {key!r}: guard column {name!r} was not frozen with the rows. Nothing was changed."
            f" Freeze it: Spec(..., metadata=[{name!r}])"
        )
    return frozen[name]
