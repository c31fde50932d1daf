"""Rows that stand alike, column by column: who needs no value of each row's own makes none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import repeat
from typing import Any, Final, overload

import attrs
from typing_extensions import override

from batchkit.frozen import FrozenFields
from batchkit.ids import RowId, RowKey
from batchkit.model import RowView
from batchkit.reasons import Reason
from batchkit.states import RowState

__all__ = ["AlikeRows", "AnsweredRows"]

_NO_RESULT: Final = ("", None, None, "", "")
# What the class's own constructor does, without its Python frame per row.
_new_view: Final[Callable[[Iterable[Any]], RowView]] = partial(tuple.__new__, RowView)


class _Columns(Sequence[RowView]):
    """Views made when somebody looks at them, in order of id."""

    @override
    def __eq__(self, other: object) -> bool:
        """Compare as the list of views that this stands for."""
        return isinstance(other, Sequence) and list(self) == list(other)

    @override
    def __hash__(self) -> int:
        """Refuse: a list of views has no hash either.

        Raises:
            TypeError: always.
        """
        raise TypeError("rows of a page have no hash")

    @override
    def __repr__(self) -> str:
        """Show the views."""
        return repr(list(self))


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AlikeRows(_Columns):
    """Neighbours that stand alike, read without results.

    Attributes:
        ids: Theirs.
        keys: Theirs.
        sizes: The encoded lengths of their own text.
        lines: Their frozen lines, where the source was asked for.
        stands: How all of them stand: state, reason, tier, tries, resends, batch, result, cost, answers.
    """

    ids: range
    keys: Sequence[RowKey]
    sizes: Sequence[int]
    lines: Sequence[bytes] | None
    stands: tuple[Any, ...]

    @property
    def one(self) -> RowView:
        """The first of them, for what they have in common."""
        return next(iter(self[:1]))

    @override
    def __len__(self) -> int:
        """Count the rows."""
        return len(self.ids)

    @override
    def __iter__(self) -> Iterator[RowView]:
        """Give the views in order."""
        state, reason, tier, tries, resends, *rest = map(repeat, self.stands)
        return map(
            _new_view,
            zip(
                self.ids,
                self.keys,
                state,
                reason,
                tier,
                tries,
                resends,
                self.sizes,
                *rest,
                repeat(None) if self.lines is None else map(FrozenFields, self.lines),
                *map(repeat, _NO_RESULT),
                strict=False,  # what is the same for all is given without end
            ),
        )

    @overload
    def __getitem__(self, index: int) -> RowView: ...
    @overload
    def __getitem__(self, index: slice) -> AlikeRows: ...
    @override
    def __getitem__(self, index: int | slice) -> RowView | AlikeRows:
        """Give one view, or some rows as they are here."""
        if isinstance(index, int):
            position = range(len(self))[index]
            return next(iter(self[position : position + 1]))
        return attrs.evolve(
            self,
            ids=self.ids[index],
            keys=self.keys[index],
            sizes=self.sizes[index],
            lines=None if self.lines is None else self.lines[index],
        )


@attrs.frozen(kw_only=True, eq=False, repr=False)
class AnsweredRows(_Columns):
    """Rows read with the text of their latest answers and without anything else of it, nor of their source.

    Attributes:
        ids: Theirs.
        keys: Theirs.
        stands: The state, reason and tier of each, and how many of its answers were billed.
        texts: The text of each one's latest answer.
        columns: The other values of each, in the order of a view: tries and resends, size, batch, result, cost.
    """

    ids: Sequence[RowId]
    keys: Sequence[RowKey]
    stands: Sequence[tuple[RowState, Reason | None, int, int]]
    texts: Sequence[bytes | None]
    columns: tuple[Sequence[Any], ...]

    @override
    def __len__(self) -> int:
        """Count the rows."""
        return len(self.ids)

    @override
    def __iter__(self) -> Iterator[RowView]:
        """Give the views in order."""
        if not self.ids:
            return iter(())
        detail, _, *rest = map(repeat, _NO_RESULT)
        tries, resends, *others = self.columns
        states, reasons, tiers, answers = zip(*self.stands, strict=True)
        return map(
            _new_view,
            zip(
                self.ids,
                self.keys,
                states,
                reasons,
                tiers,
                tries,
                resends,
                *others,
                answers,
                repeat(None),
                detail,
                self.texts,
                *rest,
                strict=False,  # what is the same for all is given without end
            ),
        )

    @overload
    def __getitem__(self, index: int) -> RowView: ...
    @overload
    def __getitem__(self, index: slice) -> AnsweredRows: ...
    @override
    def __getitem__(self, index: int | slice) -> RowView | AnsweredRows:
        """Give one view, or some."""
        if isinstance(index, int):
            position = range(len(self))[index]
            return next(iter(self._cut(slice(position, position + 1))))
        return self._cut(index)

    def _cut(self, part: slice) -> AnsweredRows:
        return AnsweredRows(
            ids=self.ids[part],
            keys=self.keys[part],
            stands=self.stands[part],
            texts=self.texts[part],
            columns=tuple(column[part] for column in self.columns),
        )
