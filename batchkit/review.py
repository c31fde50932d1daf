"""What a review shows and what it gives back: the row, the progress, what became of a file of answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

import attrs

from batchkit.judgements import Judgement
from batchkit.reasons import Reason
from batchkit.states import Outcome


@attrs.frozen(kw_only=True)
class ReviewRow:
    """One row as a person sees it.

    Attributes:
        key: The record's key.
        source: The record's frozen fields.
        outcome: Where the row ended.
        reason: Why it is no success; None where it is one.
        detail: What exactly was wrong.
        answer: The text of the answer, also where it was not accepted.
        output: The answer as plain JSON values; None where there is none that fits the contract.
        tags: What the record is, by the sampler of a pilot.
        why: Why it was sampled.
        history: The decisions that stand about exactly this, oldest first.
        shown: A hash of where it ended, why and with which answer; a verdict counts for exactly this.
        open: Whether a verdict is still possible.
    """

    key: str
    source: Mapping[str, str | None] = attrs.field(hash=False)
    outcome: Outcome
    reason: Reason | None
    detail: str
    answer: str | None
    output: Mapping[str, Any] | None = attrs.field(hash=False)
    tags: tuple[str, ...] = ()
    why: str = ""
    history: tuple[Judgement, ...] = ()
    shown: str
    open: bool = True

    @property
    def verdict(self) -> str:
        """Give the decision that stands for exactly what is shown; empty where there is none."""
        return self.earlier.decision if self.earlier is not None else ""

    @property
    def earlier(self) -> Judgement | None:
        """Give the decision that stands."""
        return self.history[-1] if self.history else None

    @property
    def stamp(self) -> str:
        """Give a hash of what is shown and of what was said of it: a file's answers count for exactly this."""
        if self.earlier is None:
            return self.shown
        said = f"{self.earlier.decision} {self.earlier.by} {self.earlier.at}"
        return f"{self.shown}-{sha256(said.encode()).hexdigest()[:8]}"


@attrs.frozen(kw_only=True)
class ReviewProgress:
    """How far a review is. ``verdicts`` counts the decisions that stand."""

    total: int
    left: int
    verdicts: Mapping[str, int]

    @property
    def read(self) -> int:
        """Count the rows that need nobody any more."""
        return self.total - self.left

    def __str__(self) -> str:
        """Give it as one line."""
        counts = " · ".join(f"{n} {verdict}" for verdict, n in sorted(self.verdicts.items()) if n)
        return f"{self.read}/{self.total}" + (f" · {counts}" if counts else "")


@attrs.frozen(kw_only=True)
class Refused:
    """An answer that was not taken. Nothing is lost: it stands in the file, at ``line``."""

    key: str
    why: str
    line: int


@attrs.frozen(kw_only=True)
class Applied:
    """What became of a file of answers.

    Attributes:
        applied: Answers that were written down.
        unchanged: Rows without an answer, or with one that was written down before.
        invalid: Answers that cannot be taken as they are.
        conflicts: Answers about something else than what the row has now, or after somebody else's.
        pending: Of the applied ones, those that wait for whoever moves the run with its spec.
    """

    applied: int = 0
    unchanged: int = 0
    invalid: tuple[Refused, ...] = ()
    conflicts: tuple[Refused, ...] = ()
    pending: int = 0

    def __str__(self) -> str:
        """Count, then list what was not taken."""
        head = f"{self.applied} applied, {self.unchanged} unchanged, {len(self.invalid)} invalid, "
        lines = [
            f"{head}{len(self.conflicts)} conflicts" + (f", {self.pending} pending" if self.pending else "")
        ]
        lines += [f"  invalid  {one.key!r} (line {one.line}): {one.why}" for one in self.invalid]
        lines += [f"  conflict {one.key!r} (line {one.line}): {one.why}" for one in self.conflicts]
        return "\n".join(lines)


def counted(verdicts: Iterable[str]) -> dict[str, int]:
    """Count verdicts."""
    return dict(Counter(verdicts))
