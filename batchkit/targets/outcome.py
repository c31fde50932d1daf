"""What became of staged rows, as every database tells it, and what a target is made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import attrs

from batchkit.errors import TargetError, UsageError
from batchkit.ids import Digest
from batchkit.targets import Note, Promotion, Target

_SHOWN = 10


@attrs.frozen(kw_only=True)
class Counts:
    """How many staged rows became what. The inserted are among the written."""

    written: int
    inserted: int
    unchanged: int
    conflict: int
    absent: int
    held_back: int


class Noted(Protocol):
    """A promotion as a catalog's own table has it."""

    @property
    def id(self) -> int: ...  # noqa: D102
    @property
    def run(self) -> str: ...  # noqa: D102
    @property
    def receipt(self) -> str: ...  # noqa: D102
    @property
    def at(self) -> float: ...  # noqa: D102
    @property
    def rolled_back_at(self) -> float | None: ...  # noqa: D102
    @property
    def written(self) -> int: ...  # noqa: D102
    @property
    def inserted(self) -> int: ...  # noqa: D102
    @property
    def unchanged(self) -> int: ...  # noqa: D102
    @property
    def conflict(self) -> int: ...  # noqa: D102
    @property
    def absent(self) -> int: ...  # noqa: D102
    @property
    def held_back(self) -> int: ...  # noqa: D102


def promoted(record: Noted, target: Target, *, repeated: bool = False) -> Promotion:
    """Give a promotion as users see it."""
    return Promotion(
        id=record.id,
        target=target.name,
        run=record.run,
        receipt=Digest(record.receipt),
        at=record.at,
        written=record.written,
        inserted=record.inserted,
        unchanged=record.unchanged,
        conflict=record.conflict,
        absent=record.absent,
        held_back=record.held_back,
        rolled_back_at=record.rolled_back_at,
        repeated=repeated,
        source=target,
    )


def rehearsed(
    note: Note, target: Target, at: float, counts: Counts, listed: dict[str, tuple[str, ...]]
) -> Promotion:
    """Give a dry run as users see it."""
    return Promotion(
        id=None,
        target=target.name,
        run=note.run,
        receipt=note.receipt,
        at=at,
        source=target,
        listed=listed,
        **attrs.asdict(counts),
    )


def expect(done: int, wanted: int, what: str) -> None:
    """Refuse a statement that did less than it should: a trigger of the catalog can leave rows out silently.

    Raises:
        TargetError: it did.
    """
    if done != wanted:
        raise TargetError(
            f"the catalog let only {done:,} of {wanted:,} rows be {what}. Nothing was changed. Look for triggers."
        )


def refuse_absent(count: int, table: str, keys: Callable[[int], Sequence[str]]) -> None:
    """Refuse absent keys, where the target says so.

    Raises:
        TargetError: there are some. ``keys`` gives so many of them.
    """
    if count:
        shown = ", ".join(map(repr, keys(_SHOWN))) + (" …" if count > _SHOWN else "")
        raise TargetError(f"{count:,} of the staged keys are not in {table!r}: {shown}. Nothing was changed.")


def guards(guard: str | Sequence[str] | None) -> tuple[str, ...]:
    """Give the guard columns of a target."""
    return (guard,) if isinstance(guard, str) else tuple(guard or ())


def one_of(database: str, *allowed: str) -> Any:
    """Give a validator of an argument that must be one of a few words."""

    def check(_: object, attribute: attrs.Attribute[str], value: str) -> None:
        if value not in allowed:
            raise UsageError(
                f"{attribute.name}={value!r}: a {database} target knows {', '.join(map(repr, allowed))}"
            )

    return check
