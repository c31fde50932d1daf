"""What lies before a person: a version of a pilot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from batchkit.desks import checked_output
from batchkit.errors import UsageError
from batchkit.grading import VERDICTS
from batchkit.judgements import Judgement, pilot_scope, write_judgement
from batchkit.review import ReviewProgress, ReviewRow, counted
from batchkit.states import outcome

if TYPE_CHECKING:
    from batchkit.pilot import Pilot
from batchkit.pilot_reading import Reading
from batchkit.pilot_version import Version


class PilotDesk:
    """The answers of one version. What is said of them changes no row; it counts towards the lock."""

    verdicts = VERDICTS

    def __init__(self, pilot: Pilot[Any], version: Version[Any], *, only_changed: bool) -> None:
        """Take a version's rows, all of them or the unread ones."""
        self._pilot = pilot
        self._version = version
        self._only_changed = only_changed

    @property
    def schema(self) -> Mapping[str, Any]:
        """The JSON Schema of an answer."""
        return self._version.spec.contract.schema

    def rows(self, keys: Sequence[str] | None = None) -> Iterator[ReviewRow]:
        """Give the rows to be read; with ``keys`` those, whatever was said of them."""
        for one in self._pilot.reading(self._version, keys=keys).values():
            unread = one.closed and one.verdict is None
            if keys is not None or unread or (one.closed and not self._only_changed):
                yield _row(one)

    def progress(self) -> ReviewProgress:
        """Count the rows that were read, those carried over included."""
        reading = self._pilot.reading(self._version)
        said = [one.verdict for one in reading.values() if one.verdict is not None]
        return ReviewProgress(total=len(reading), left=len(reading) - len(said), verdicts=counted(said))

    def judgement(
        self, row: ReviewRow, verdict: str, *, by: str, output: Any, note: str, tier: int | None
    ) -> Judgement:
        """Make a decision of a verdict, checked by the contract."""
        made: dict[str, Any] = {
            "key": row.key,
            "by": by,
            "at": self._pilot.store.now(),
            "note": note,
            "shown": row.shown,
            "version": self._version.number,
        }
        match verdict:
            case "accept":
                if (
                    row.output is None
                    and not self._pilot.reading(self._version, keys=[row.key])[row.key].can_be_accepted
                ):
                    raise UsageError(
                        f"row {row.key!r} has no valid answer to accept ({row.reason or row.outcome.value}); "
                        "edit it, with the right output, or reject it"
                    )
                return Judgement(decision="accept", output=row.output, **made)
            case "edit":
                right = checked_output(self._version.spec.contract, row, output)
                if right == row.output:
                    raise UsageError(f"row {row.key!r}: that is the answer shown; accept it")
                return Judgement(decision="edit", output=right, **made)
            case _:
                return Judgement(decision="reject", output=row.output, **made)

    def write(self, judgements: Sequence[Judgement], *, whole: bool = False) -> int:
        """Write decisions down; they need no settling."""
        for judgement in judgements:
            write_judgement(self._pilot.store, pilot_scope(self._pilot.name), judgement)
        return 0

    def settle(self) -> None:
        """Leave everything as it is: what is said of a pilot needs no settling."""

    def undo(self, row: ReviewRow, *, by: str) -> int:
        """Take back the last thing said of exactly this answer."""
        if row.earlier is None:
            raise UsageError(f"row {row.key!r}: nothing was said of this answer")
        made = Judgement(key=row.key, decision="undo", by=by, at=self._pilot.store.now(), shown=row.shown)
        return self.write([made])


def _row(one: Reading) -> ReviewRow:
    view = one.view
    return ReviewRow(
        key=view.key,
        source=view.record(),
        outcome=outcome(view.state, view.reason),
        reason=view.reason,
        detail=view.detail,
        answer=None if view.answer is None else view.answer.decode("utf-8", "replace"),
        output=one.case.actual,
        tags=one.picked.tags,
        why=one.picked.why,
        history=one.history,
        shown=one.shown,
        open=one.closed,
    )
