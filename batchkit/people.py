"""Reading answers: the pilot's and the human queue's, by the same means.

A review shows rows, takes verdicts one by one from Python or many at once from a file, and never loses one: what
cannot be taken is listed by key with the reason. The page for the browser is not part of this module.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol

import attrs
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypeVar

from batchkit.answersheet import Sheet, SheetLine, read_sheet, write_sheet
from batchkit.errors import UsageError
from batchkit.judgements import Judgement
from batchkit.review import Applied, Refused, ReviewProgress, ReviewRow
from batchkit.states import Outcome

if TYPE_CHECKING:
    from batchkit.model import Run
    from batchkit.spec import Spec
    from batchkit.storage import Store

T = TypeVar("T", default=Any)


class Desk(Protocol):
    """What a review needs to know of the rows it shows: a pilot's version, or a run's queue."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdicts that are possible."""
        ...

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of an answer."""
        ...

    def rows(self, keys: Sequence[str] | None = None) -> Iterator[ReviewRow]:
        """Give the rows to be read; with ``keys`` those, whatever was said of them."""
        ...

    def progress(self) -> ReviewProgress:
        """Count."""
        ...

    def judgement(
        self, row: ReviewRow, verdict: str, *, by: str, output: Any, note: str, tier: int | None
    ) -> Judgement:
        """Make a decision of a verdict; raises UsageError where it is not possible."""
        ...

    def write(self, judgements: Sequence[Judgement], *, whole: bool = False) -> int:
        """Write decisions down and settle them if possible; give how many wait.

        ``whole`` says that these are many at once, worth a receipt of their own.
        """
        ...

    def undo(self, row: ReviewRow, *, by: str) -> int:
        """Take the last decision of a row back."""
        ...

    def settle(self) -> None:
        """Settle what others wrote down, where that is possible here."""
        ...


class Review(Generic[T]):
    """Rows that a person reads, with what was said of them."""

    def __init__(self, desk: Desk) -> None:
        """Read what lies on this desk."""
        self._desk = desk

    @classmethod
    def of_queue(cls, store: Store, run: Run, *, spec: Spec[T] | None = None) -> Review[T]:
        """Read the rows of a run that wait for a person.

        Without ``spec`` answers are checked by the stored schema at once, and by the contract's rules when
        somebody who has the spec moves the run.
        """
        from batchkit.desks import QueueDesk

        return cls(QueueDesk(store, run, spec))

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Give the verdicts that are possible here."""
        return self._desk.verdicts

    @property
    def progress(self) -> ReviewProgress:
        """Count what is read and what is left."""
        return self._desk.progress()

    @property
    def rows(self) -> list[ReviewRow]:
        """Give the rows to be read, in source order."""
        return list(self._desk.rows())

    def __iter__(self) -> Iterator[ReviewRow]:
        """Give the rows to be read, in source order, a page in memory at a time."""
        return self._desk.rows()

    def __len__(self) -> int:
        """Count the rows to be read."""
        return sum(1 for _ in self._desk.rows())

    def judge(
        self,
        key: str,
        verdict: str,
        *,
        by: str,
        output: T | Mapping[str, Any] | None = None,
        note: str = "",
        tier: int | None = None,
    ) -> None:
        """Say what is to become of one row.

        In a queue the row is settled at once, if the spec is known here and nobody else moves the run. A closed run
        gets its next receipt with the next pass, reconciliation or promotion: counting anew for every row would
        be slow.

        Args:
            key: The row's key.
            verdict: In a pilot ``accept``, ``edit`` (with the right output) or ``reject``. In a queue ``answer`` or
                ``edit`` (with the output), ``accept`` (the answer shown is right), ``unanswerable`` (nobody can
                know), ``reject``, ``send_back`` (to a model).
            by: Who says so.
            output: The right answer: a mapping or an instance of the contract's model.
            note: In your words.
            tier: Where a row is sent back to, counted from 0; the last tier unless told.

        Raises:
            UsageError: no such row, no such verdict, an output that breaks the contract, or a row that waits for
                nobody any more. Nothing was written.
        """
        self._desk.settle()
        row = self._find(key)
        if not row.open:
            raise UsageError(_closed(row))
        self._desk.write([self._judgement(row, verdict, by=by, output=output, note=note, tier=tier)])

    def undo(self, key: str, *, by: str) -> None:
        """Take back the last thing said of a row, so that it is unread again.

        Raises:
            UsageError: nothing was said of it, or it cannot be taken back any more.
        """
        _named(by)
        self._desk.settle()
        self._desk.undo(self._find(key), by=by)

    def save(
        self, path: str | os.PathLike[str], *, limit: int | None = None, reviewer: str | None = None
    ) -> int:
        """Write the rows to be read as a file to be filled in, and give their number.

        In ``.csv`` every field of the answer is a column; change what is wrong, or name a verdict. Formulas are
        defused and very long cells shortened. In ``.jsonl`` each line holds the whole answer.

        Args:
            path: ``.csv`` or ``.jsonl``.
            limit: The first so many rows only.
            reviewer: Who will fill it in; kept in the file.

        Raises:
            UsageError: another suffix, or a file of this name exists: somebody's answers may be in it.
        """
        if os.path.exists(path):
            raise UsageError(
                f"{os.fspath(path)!r} exists already, perhaps with somebody's answers: take them first (apply), "
                "or name another file; nothing was written"
            )
        return write_sheet(path, self._desk.rows(), self._sheet(), limit=limit, reviewer=reviewer)

    def holds_answers(self, path: str | os.PathLike[str]) -> bool:
        """Tell whether somebody has filled in anything in a file that :meth:`save` wrote, taken already or not.

        A file that is not one of them counts as filled in: nobody but its owner knows what is in it.

        Args:
            path: The file.

        Raises:
            UsageError: there is no such file.
        """
        if not os.path.exists(path):
            raise UsageError(f"there is no file {os.fspath(path)!r}")
        try:
            return any(line.touched or line.wrong for line in read_sheet(path, self._sheet()))
        except (UsageError, OSError, UnicodeError):
            return True

    def apply(self, path: str | os.PathLike[str], *, reviewer: str | None = None) -> Applied:
        """Take the answers of a file that :meth:`save` wrote. Taking it again changes nothing.

        Rows are found by key, and only changed cells count. An answer counts for what its row showed when the
        file was written; where the row has something else by now it is a conflict.

        Args:
            path: The file.
            reviewer: Who filled it in, where the file does not say.

        Raises:
            UsageError: no such file, not one of :meth:`save`, or nobody's name.
        """
        answers = read_sheet(path, self._sheet())
        self._desk.settle()
        found = {row.key: row for row in self._desk.rows([answer.key for answer in answers])}
        taken: list[Judgement] = []
        seen: set[str] = set()
        invalid: list[Refused] = []
        conflicts: list[Refused] = []
        unchanged = 0
        for answer in answers:
            row = found.get(answer.key)
            if not answer.touched and not answer.wrong:
                unchanged += 1
                continue
            by = reviewer or answer.by
            if not by:
                raise UsageError("whose answers are these? apply(path, reviewer=...); nothing was applied")
            if row is None or answer.wrong:
                why = answer.wrong or "no such row here"
                invalid.append(Refused(key=answer.key, why=why, line=answer.line))
                continue
            made = self._answer(row, answer, by, twice=answer.key in seen)
            seen.add(answer.key)
            match made:
                case Judgement():
                    taken.append(made)
                case None:
                    unchanged += 1
                case (True, why):
                    conflicts.append(Refused(key=answer.key, why=why, line=answer.line))
                case (_, why):
                    invalid.append(Refused(key=answer.key, why=why, line=answer.line))
        return Applied(
            applied=len(taken),
            unchanged=unchanged,
            invalid=tuple(invalid),
            conflicts=tuple(conflicts),
            pending=self._desk.write(taken, whole=True) if taken else 0,
        )

    def _answer(
        self, row: ReviewRow, answer: SheetLine, by: str, *, twice: bool
    ) -> Judgement | tuple[bool, str] | None:
        """Give the decision, None where it stands already, or why not; true where it is a conflict."""
        if any(said.line == answer.digest for said in row.history):
            return None
        if twice:
            return False, "the key stands in the file more than once; the first one counts"
        if not answer.stamp:
            return False, "the row's 'shown' is gone, so nobody knows what was judged"
        if answer.stamp != row.stamp:
            return True, _closed(row) if not row.open else _overtaken(row, answer)
        try:
            verdict, output = answer.decision(row, self._sheet())
            made = self._judgement(row, verdict, by=by, output=output, note=answer.note, tier=answer.tier)
        except UsageError as error:
            return False, str(error)
        return attrs.evolve(made, line=answer.digest)

    def _judgement(
        self, row: ReviewRow, verdict: str, *, by: str, output: object, note: str, tier: int | None
    ) -> Judgement:
        _named(by)
        if verdict not in self._desk.verdicts:
            raise UsageError(
                f"row {row.key!r}: {verdict!r} is no verdict here; they are {', '.join(self._desk.verdicts)}"
            )
        return self._desk.judgement(row, verdict, by=by, output=_plain(row, output), note=note, tier=tier)

    def _find(self, key: str) -> ReviewRow:
        row = next(self._desk.rows([key]), None)
        if row is None:
            raise UsageError(f"there is no row {key!r} in {self!r}")
        return row

    def _sheet(self) -> Sheet:
        return Sheet(schema=self._desk.schema, verdicts=self._desk.verdicts)

    def __repr__(self) -> str:
        """Say how far it is."""
        return f"<Review {self.progress}>"


def _plain(row: ReviewRow, output: object) -> object:
    """Give an output as plain JSON values, whatever holds it."""
    try:
        return to_jsonable_python(output, by_alias=True, inf_nan_mode="constants")
    except (PydanticSerializationError, ValueError) as error:
        raise UsageError(f"row {row.key!r}: the output is no JSON: {error}") from error


def _named(by: str) -> None:
    if not by:
        raise UsageError("a decision needs a name: by=...")


def _closed(row: ReviewRow) -> str:
    who = f", {row.earlier.decision} by {row.earlier.by}" if row.earlier is not None else ""
    if row.outcome is Outcome.OPEN and not who:
        return f"row {row.key!r} is not answered yet; its run goes on"
    return f"row {row.key!r} does not wait for a person (any more): {row.outcome.value}{who}"


def _overtaken(row: ReviewRow, answer: SheetLine) -> str:
    if row.earlier is not None and answer.stamp.partition("-")[0] == row.shown:
        return f"{row.earlier.by} has said {row.earlier.decision!r} since the file was written"
    return "the row has another answer now than the one shown"
