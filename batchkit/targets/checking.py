"""What a check asks of every catalog table, whatever the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Generic, Protocol, TypeVar

import attrs

from batchkit.errors import UsageError
from batchkit.targets import Columns, Missing, OutputField, Problem
from batchkit.targets.mapping import Mapped, resolve

_TRIED = 1_000
"""Allowed values of one closed field that are tried; a field with more is a data set, not a choice."""


class Column(Protocol):
    """What a check asks of one column."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def declared(self) -> str: ...  # noqa: D102
    @property
    def limit(self) -> int | None: ...  # noqa: D102
    @property
    def required(self) -> bool: ...  # noqa: D102
    @property
    def default(self) -> bool: ...  # noqa: D102
    @property
    def generated(self) -> bool: ...  # noqa: D102


C = TypeVar("C", bound=Column)


@attrs.frozen
class Trial:
    """A value at the edge of what the contract allows, and how it is shown."""

    value: Any
    shown: str


@attrs.frozen(kw_only=True)
class Checking(Generic[C]):
    """One table under a check.

    ``find`` gives a column by name as the database finds it; ``unfit`` names a kind of value that a column
    cannot hold, if the field may have one.
    """

    table: str
    columns: Sequence[C]
    find: Callable[[str], C | None]
    unfit: Callable[[C, OutputField, Mapped], str]
    key: str

    def look(
        self,
        fields: Sequence[OutputField],
        columns: Columns | None,
        guard: Sequence[str],
        missing: Missing,
        key_problems: Callable[[C], Iterable[Problem]],
    ) -> tuple[list[Problem], list[tuple[OutputField, Mapped, C]]]:
        """Give the problems that the table's shape tells, and which field can go to which column."""
        try:
            mapping = resolve(columns, [field.name for field in fields])
        except UsageError as error:
            return [Problem(column="", what=str(error), fix="Correct columns=.")], []
        by_name = {field.name: field for field in fields}
        key = self.find(self.key)
        found = [self._lacking(self.key, "it is the key")] if key is None else [*key_problems(key)]
        placed: list[tuple[OutputField, Mapped, C]] = []
        for mapped in mapping:
            column = self.find(mapped.column)
            if column is None:
                found.append(self._lacking(mapped.column, f"field {mapped.field!r} would go there"))
            elif own := list(self._unfit(column, by_name[mapped.field], mapped)):
                found += own
            else:
                placed.append((by_name[mapped.field], mapped, column))
        found += [self._lacking(name, "it is the guard") for name in guard if self.find(name) is None]
        if missing == "insert":
            found += self._uninsertable([self.key, *(mapped.column for mapped in mapping)])
        return found, placed

    def _lacking(self, name: str, why: str) -> Problem:
        names = [column.name for column in self.columns]
        close = get_close_matches(name, names, n=1)
        meant = f"Did you mean {close[0]!r}? " if close else ""
        return Problem(
            column=name,
            what=f"table {self.table!r} has no such column ({why})",
            fix=f"{meant}Map it with columns=, or add the column. The table has {', '.join(names)}.",
        )

    def _unfit(self, column: C, field: OutputField, mapped: Mapped) -> Iterator[Problem]:
        if column == self.find(self.key):
            yield Problem(
                column=column.name,
                what=f"field {field.name!r} would overwrite the key",
                fix="Map it with columns=.",
            )
            return
        if column.generated:
            yield Problem(
                column=column.name,
                what="the column is generated and cannot be written",
                fix="Map the field elsewhere.",
            )
            return
        if unfit := self.unfit(column, field, mapped):
            yield Problem(
                column=column.name,
                what=f"declared {column.declared}, but field {field.name!r} may be {unfit}",
                fix="Change the column's type, or map the field elsewhere.",
            )
        if column.required and "null" in field.kinds:
            yield Problem(
                column=column.name,
                what=f"NOT NULL, but field {field.name!r} may be null",
                fix="Allow NULL, or make the contract's field required.",
            )
        if column.limit is not None and "string" in field.kinds and not field.allowed:
            longest = field.max_length
            if longest is None or longest > column.limit:
                size = "any length" if longest is None else f"{longest} characters"
                yield Problem(
                    column=column.name,
                    what=f"declared {column.declared}, but field {field.name!r} may have {size}",
                    fix=f"Limit the field: Field(max_length={column.limit}).",
                )

    def _uninsertable(self, given: Sequence[str]) -> Iterator[Problem]:
        taken = [self.find(name) for name in given]
        for column in self.columns:
            if column.required and not column.default and not column.generated and column not in taken:
                yield Problem(
                    column=column.name,
                    what='NOT NULL without a default, so missing="insert" cannot make a row',
                    fix='Give the column a default, or use missing="report".',
                )


def trials(field: OutputField, ready: Callable[[Any], Any]) -> Iterator[Trial]:
    """Give the values at the edge of what the contract allows, as ``ready`` makes them."""
    if "null" in field.kinds:
        yield Trial(None, "NULL")
    for value in field.allowed[:_TRIED]:
        yield Trial(ready(value), repr(value))
    if "string" in field.kinds and not field.allowed and field.max_length is not None:
        yield Trial(ready("x" * field.max_length), f"a text of {field.max_length} characters")


def refused(column: Column, field: OutputField, trial: Trial, why: object) -> Problem:
    """Say that the catalog refused a value that the contract allows."""
    return Problem(
        column=column.name,
        what=f"the catalog refuses {trial.shown} of field {field.name!r}: {why}",
        fix="Make the contract or the constraint agree with the other.",
    )
