"""Which promotions a rollback undoes: the rule is one for every database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import attrs

from batchkit.errors import TargetError
from batchkit.targets import RolledBack


class Standing(Protocol):
    """What the rule needs to know of a promotion."""

    @property
    def id(self) -> int:
        """Give its number; later promotions have higher ones."""
        ...

    @property
    def stands(self) -> bool:
        """Tell whether it was not rolled back."""
        ...


R = TypeVar("R", bound=Standing)


@attrs.frozen
class Undone:
    """What undoing one promotion did. ``conflicts`` are the keys that stay as somebody changed them."""

    restored: int
    deleted: int
    conflicts: tuple[str, ...]


def check_known(columns: Iterable[str], fields: Iterable[str]) -> None:
    """Refuse records that newer code widened: what it added may change what promoting and undoing have to do.

    Args:
        columns: those of the catalog's table of promotions.
        fields: those that this code knows.

    Raises:
        TargetError: there are more.
    """
    if unknown := sorted({*columns} - {*fields}):
        raise TargetError(
            f"batchkit's table of promotions in this catalog was written by newer code ({', '.join(unknown)} is not known "
            "to this one). Nothing was changed. Upgrade: pip install -U message-batchkit"
        )


def find(known: Sequence[R], number: int, table: str) -> R:
    """Give the promotion with this id.

    Raises:
        TargetError: the table has none.
    """
    for record in known:
        if record.id == number:
            return record
    raise TargetError(f"table {table!r} has no promotion {number}; promotions() lists them")


def choose(
    known: Sequence[R],
    table: str,
    promotion: int | None,
    to: int | None,
    shared: Callable[[R, R], str | None],
) -> list[R]:
    """Give the promotions to undo, newest first.

    Args:
        known: all promotions of the table, oldest first.
        table: its name, for messages.
        promotion: the one to undo.
        to: the oldest one to undo, with all later ones.
        shared: says how a later promotion touches rows of an earlier one, or nothing.

    Raises:
        TargetError: there is no such promotion, or a later one that stands covers one of its keys.
    """
    standing = [record for record in reversed(known) if record.stands]
    if to is not None:
        find(known, to, table)
        return [record for record in standing if record.id >= to]
    if promotion is None:
        return standing[:1]
    mine = find(known, promotion, table)
    if not mine.stands:
        return []
    for later in standing:
        why = shared(mine, later) if later.id > mine.id else None
        if why is not None:
            raise TargetError(
                f"promotion {later.id} came after {mine.id} and {why}. Nothing was changed."
                f" To undo {mine.id} and all later ones, newest first: rollback(to={mine.id})"
            )
    return [mine]


def summed(chosen: Sequence[Standing], undone: Sequence[Undone]) -> RolledBack:
    """Give what undoing several promotions did."""
    return RolledBack(
        promotions=tuple(record.id for record in chosen),
        restored=sum(each.restored for each in undone),
        deleted=sum(each.deleted for each in undone),
        conflicts=tuple(sorted({key for each in undone for key in each.conflicts})),
    )
