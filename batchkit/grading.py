"""Answers against what people expect: by field, by row, by tag, with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

import attrs

from batchkit.intervals import wilson
from batchkit.scorers import Fields, Scorer, ignore

Verdict: TypeAlias = Literal["accept", "edit", "reject"]
VERDICTS: Final[tuple[Verdict, ...]] = ("accept", "edit", "reject")


@attrs.frozen(kw_only=True)
class Share:
    """How many of how many, and how far that may be from the truth."""

    good: int
    rows: int

    @property
    def share(self) -> float:
        """Give the share; 1 where there was nothing to count."""
        return self.good / self.rows if self.rows else 1.0

    @property
    def interval(self) -> tuple[float, float]:
        """Give Wilson's 95 % interval."""
        return wilson(self.good, self.rows)

    def __str__(self) -> str:
        """Give share, counts and interval."""
        low, high = self.interval
        return f"{self.share:.2f} ({self.good}/{self.rows}; 95 % interval {low:.3f} to {high:.3f})"


@attrs.frozen(kw_only=True)
class Case:
    """One row to grade. Outputs are plain JSON values.

    Attributes:
        key: The record's key.
        source: The record's fields.
        tags: What the record is, by the sampler.
        expected: The right answer; None where none is known, or where having none is right.
        actual: The answer given; None where there is no valid one.
        read: What a person said of *this* answer; None where it is to be compared with what is expected.
        silent: No answer is right: the record says too little.
        hushed: No answer was given, because the record says too little.
        not_this: An answer that a person rejected without giving a better one.
    """

    key: str
    source: Fields = attrs.field(factory=dict)
    tags: tuple[str, ...] = ()
    expected: Mapping[str, Any] | None = None
    actual: Mapping[str, Any] | None = None
    read: Verdict | None = None
    silent: bool = False
    hushed: bool = False
    not_this: Mapping[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Graded:
    """What became of one case: the fields that are wrong; empty ones where the whole answer is."""

    case: Case
    good: bool
    fields: Mapping[str, bool]

    @property
    def wrong(self) -> tuple[str, ...]:
        """Give the fields that are wrong."""
        return tuple(name for name, right in self.fields.items() if not right)


@attrs.frozen(kw_only=True)
class Grade:
    """A version's answers against what people expect.

    Attributes:
        total: Rows counted, and how many of them are good.
        fields: The same for each field that is scored.
        tags: The same for the rows of each tag.
        failures: The rows that are not good.
        unread: Keys of rows that only a person can grade: no expectation, or another answer than the one rejected.
        scorers: How each field was compared, by name.
    """

    total: Share
    fields: Mapping[str, Share]
    tags: Mapping[str, Share]
    failures: tuple[Graded, ...]
    unread: tuple[str, ...]
    scorers: Mapping[str, str]

    def __str__(self) -> str:
        """Give the shares as lines for people."""
        lines = [f"{self.total.good} of {self.total.rows} rows are good: {self.total}"]
        lines += [f"  {name}: {share} by {self.scorers[name]}" for name, share in self.fields.items()]
        lines += [f"  tag {name}: {share.good} of {share.rows}" for name, share in self.tags.items()]
        if self.unread:
            lines.append(f"  {len(self.unread)} rows are unread and not counted")
        return "\n".join(lines)

    def document(self) -> dict[str, Any]:
        """Give the shares as JSON-able values; no row's text is in them."""
        return {
            "rows": self.total.rows,
            "good": self.total.good,
            "fields": {name: [share.good, share.rows] for name, share in self.fields.items()},
            "tags": {name: [share.good, share.rows] for name, share in self.tags.items()},
            "failing": [graded.case.key for graded in self.failures],
            "unread": list(self.unread),
            "scorers": dict(self.scorers),
        }


def grade_case(case: Case, scorers: Mapping[str, Scorer]) -> Graded | None:
    """Grade one row; None where only a person can.

    A row that a person accepted is good, whatever the scorers say. One that a person edited or rejected is not;
    the fields of an edited one are compared with the edit, a rejected one counts as wrong in every field.
    """
    scored = [name for name, scorer in scorers.items() if scorer != ignore]
    everywhere = dict.fromkeys
    match case.read:
        case "accept":
            return Graded(case=case, good=True, fields=everywhere(scored, True))
        case "reject":
            return Graded(case=case, good=False, fields=everywhere(scored, False))
        case _ if case.silent:
            return Graded(case=case, good=case.hushed, fields=everywhere(scored, case.hushed))
        case _ if case.actual is None:
            return Graded(case=case, good=False, fields=everywhere(scored, False))
        case _ if case.expected is None:
            if case.not_this is None or not _alike(case.not_this, case.actual, case.source, scorers):
                return None
            return Graded(case=case, good=False, fields=everywhere(scored, False))
        case _:
            fields = {
                name: scorers[name].passes(case.expected.get(name), case.actual.get(name), case.source)
                for name in scored
            }
            return Graded(case=case, good=case.read is None and all(fields.values()), fields=fields)


def grade_cases(cases: Iterable[Case], scorers: Mapping[str, Scorer]) -> Grade:
    """Grade many rows and count."""
    graded: list[Graded] = []
    unread: list[str] = []
    for case in cases:
        found = grade_case(case, scorers)
        if found is None:
            unread.append(case.key)
        else:
            graded.append(found)
    names = [name for name, scorer in scorers.items() if scorer != ignore]
    tags: dict[str, list[bool]] = defaultdict(list)
    for one in graded:
        for tag in one.case.tags:
            tags[tag].append(one.good)
    return Grade(
        total=_share(one.good for one in graded),
        fields={name: _share(one.fields[name] for one in graded) for name in names},
        tags={tag: _share(good) for tag, good in sorted(tags.items())},
        failures=tuple(one for one in graded if not one.good),
        unread=tuple(unread),
        scorers={name: scorer.name for name, scorer in scorers.items()},
    )


def _alike(
    one: Mapping[str, Any], other: Mapping[str, Any], source: Fields, scorers: Mapping[str, Scorer]
) -> bool:
    return all(scorer.passes(one.get(name), other.get(name), source) for name, scorer in scorers.items())


def _share(right: Iterable[bool]) -> Share:
    counted = list(right)
    return Share(good=sum(counted), rows=len(counted))
