"""The aggregate check: what no look at one row can see, a category that is taken for its neighbour."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs

from batchkit.errors import UsageError
from batchkit.intervals import so_few, wilson
from batchkit.rows import Rows
from batchkit.spec import Spec

if TYPE_CHECKING:
    from batchkit.evalset import EvalSet

MIN_ROWS: Final = 10
"""Groups of fewer rows say too little to be a finding."""

NAMED_ROWS: Final = 5
"""Rows that a value needs where the source names it: what is usual there is known from the other values."""

CHANCE: Final = 0.05
"""How likely any finding at all may be by chance, over all the values that a source field names."""

GAP: Final = 0.1
"""How far the share of a group must lie below what is usual, beyond chance, to be a finding."""

USUAL: Final = 0.6
"""A source field whose groups agree less often than this does not name the answers at all."""

_SURE: Final = 3.0
"""Standard deviations: some forty groups are looked at together, and none should be found by chance."""

_OTHERS: Final = 2
_MOST_VALUES: Final = 2_000
_ROWS_A_TEXT: Final = 5
_ANSWERED: Final = ("succeeded", "unchanged")
_WORD: Final = re.compile(r"\w+", re.UNICODE)


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that looks wrong in the aggregate.

    Attributes:
        check: The name of the check.
        field: The output field.
        value: What the rows were expected to be.
        other: What most of those that are not were answered instead; empty where that is not one value.
        rows: How many were looked at.
        share: How many of them are what was expected, between 0 and 1.
        text: All of it as a sentence.
        source: The source field that names the expected value; empty where none does.
    """

    check: str
    field: str
    value: str
    other: str
    rows: int
    share: float
    text: str
    source: str = ""

    def concerns(self, record: Mapping[str, str | None]) -> bool:
        """Tell whether a source record names the expected value: ``run.rows(source=finding.concerns)``."""
        return bool(self.source) and _words(self.value) <= _words(record.get(self.source) or "")


@attrs.frozen(kw_only=True)
class Shares:
    """What an audit counts, in one pass over the rows.

    ``values[field][value]`` counts answers; ``crossed[field][source field][source text][value]`` counts
    answers by what the source said of the same row.
    """

    rows: int
    values: Mapping[str, Counter[str]]
    crossed: Mapping[str, Mapping[str, Mapping[str, Counter[str]]]]


Check: TypeAlias = Callable[[Shares], Iterable[Finding]]


@attrs.frozen(kw_only=True)
class Audit:
    """The shares and what was found in them.

    ``expected`` holds the share of each value in the eval set that was compared with, by field.
    """

    shares: Shares
    findings: tuple[Finding, ...]
    expected: Mapping[str, Mapping[str, float]] = attrs.field(factory=dict)

    def __str__(self) -> str:
        """Give the findings, then the share of every value, as text."""
        found = len(self.findings)
        lines = [f"Audit of {self.shares.rows:,} answers: {found} finding{'' if found == 1 else 's'}"]
        lines += [f"  ! {finding.text}" for finding in self.findings]
        for field, counts in self.shares.values.items():
            wanted = self.expected.get(field, {})
            lines.append(f"  {field}" + (" (and its share in the eval set)" if wanted else ""))
            for value in [
                *(value for value, _ in counts.most_common()),
                *(v for v in wanted if v not in counts),
            ]:
                n = counts[value]
                share = n / self.shares.rows if self.shares.rows else 0.0
                beside = f"  {wanted.get(value, 0.0):6.1%}" if wanted else ""
                lines.append(f"    {value or '(none)':<28} {n:>8,}  {share:6.1%}{beside}")
        return "\n".join(lines)


class Auditor:
    """Runs aggregate checks over answers."""

    def __init__(self, *checks: Check) -> None:
        """Use these checks; without any, the source's own words are compared with the answers."""
        self._checks: Sequence[Check] = checks or (named_by_source,)

    def audit(self, rows: Rows[Any], spec: Spec[Any], *, against: EvalSet[Any] | str | None = None) -> Audit:
        """Count the answers of ``rows`` once and run the checks.

        Args:
            rows: the rows to look at; those without an output are passed over.
            spec: whose contract says which fields have a fixed set of values.
            against: the name of the source field that carries a rough category, or an EvalSet whose shares
                the answers are compared with as well. None compares with every source field of few values.

        Raises:
            UsageError: the contract has no field with a fixed set of values, or no such source field.
        """
        fields = {field: tuple(map(_shown, allowed)) for field, allowed in spec.contract.enums.items()}
        if not fields:
            raise UsageError("an audit counts fields with a fixed set of values; this contract has none")
        name = against if isinstance(against, str) else None
        if name is not None and name not in spec.used_fields:
            raise UsageError(f"the rows have no field {name!r} frozen; add it: Spec(metadata=[{name!r}])")
        shares = count_shares(rows, fields, name)
        checks = list(self._checks)
        expected: Mapping[str, Counter[str]] = {}
        if against is not None and not isinstance(against, str):
            expected = _expected_counts(against, tuple(fields))
            checks.append(unlike(expected))
        found = [finding for check in checks for finding in check(shares)]
        return Audit(
            shares=shares,
            findings=tuple(sorted(found, key=lambda f: -f.rows * (1 - f.share))),
            expected={
                field: {value: n / sum(counts.values()) for value, n in counts.items()}
                for field, counts in expected.items()
            },
        )


def count_shares(rows: Rows[Any], fields: Mapping[str, Sequence[str]], source_field: str | None) -> Shares:
    """Count the answers by value, and by what the source said. Texts that vary too much are dropped.

    Args:
        rows: the rows; those without an output are passed over.
        fields: the allowed values of each field. One that was never given counts 0: it may be missing altogether.
        source_field: the only source field to look at; None looks at all.
    """
    values = {field: Counter(dict.fromkeys(filter(None, allowed), 0)) for field, allowed in fields.items()}
    crossed: dict[str, dict[str, dict[str, Counter[str]]]] = {field: {} for field in fields}
    wild: set[str] = set()
    total = 0
    for record in rows.where(outcome=_ANSWERED).records():
        if not any(f"output.{field}" in record for field in fields):
            continue
        total += 1
        said = _said(record, source_field, wild)
        for field in fields:
            value = _shown(record.get(f"output.{field}"))
            values[field][value] += 1
            for name, text in said.items():
                if name in wild:
                    continue
                groups = crossed[field].setdefault(name, defaultdict(Counter))
                groups[text][value] += 1
                if len(groups) > _MOST_VALUES:
                    wild.add(name)
                    for other in fields:
                        crossed[other].pop(name, None)
    if source_field is None:
        crossed = {field: _categories(sources) for field, sources in crossed.items()}
    return Shares(rows=total, values=values, crossed=crossed)


def _categories(sources: Mapping[str, dict[str, Counter[str]]]) -> dict[str, dict[str, Counter[str]]]:
    """Leave out titles and other free text: what sorts records says the same of several of them."""
    return {
        name: groups
        for name, groups in sources.items()
        if sum(counts.total() for counts in groups.values()) >= _ROWS_A_TEXT * len(groups)
    }


def _said(record: Mapping[str, object], wanted: str | None, wild: set[str]) -> dict[str, str]:
    said: dict[str, str] = {}
    for column, value in record.items():
        name = column.removeprefix("source.")
        if name == column or name in wild or (wanted is not None and name != wanted):
            continue
        if isinstance(value, str) and value.strip():
            said[name] = value.strip()
    return said


def named_by_source(shares: Shares) -> Iterator[Finding]:
    """Find values that the source names and that the answers give less often than the other values it names.

    Where a source field's text contains the words of an allowed value, the answer should mostly be that
    value. How often is usual is told by the other values' groups: part of a family may be wrong, not all of it, so
    a group is a finding where its right answers are too few to be chance, even were it worse than their median by GAP. Answers without a value count for
    nothing here.
    """
    for field, sources in shares.crossed.items():
        known = {value: _words(value) for value in shares.values[field] if value}
        for name, groups in sources.items():
            named = {
                value: counts
                for value, counts in _grouped_by_name(groups, known).items()
                if sum(counts.values()) >= NAMED_ROWS
            }
            agreeing = {value: counts[value] / sum(counts.values()) for value, counts in named.items()}
            for value, counts in named.items():
                others = [share for other, share in agreeing.items() if other != value]
                if len(others) < _OTHERS or (usual := median(others)) < USUAL:
                    continue
                rows = sum(counts.values())
                if so_few(counts[value], rows, usual - GAP) < CHANCE / len(named):
                    yield _taken_for_another(field, name, value, counts)


def _taken_for_another(field: str, name: str, value: str, counts: Counter[str]) -> Finding:
    rows = sum(counts.values())
    other, taken = next((v, n) for v, n in counts.most_common() if v != value)
    share = counts[value] / rows
    return Finding(
        check="named_by_source",
        field=field,
        value=value,
        other=other,
        rows=rows,
        share=share,
        text=f"{field}: {rows:,} rows whose {name} says {value!r}: only {share:.0%} are answered so, "
        f"{taken / rows:.0%} as {other!r}",
        source=name,
    )


def _grouped_by_name(
    groups: Mapping[str, Counter[str]], known: Mapping[str, frozenset[str]]
) -> dict[str, Counter[str]]:
    grouped: dict[str, Counter[str]] = {}
    for text, counts in groups.items():
        words = _words(text)
        named = [value for value, own in known.items() if own and own <= words]
        # A text that names two values as long as each other says neither.
        named.sort(key=lambda value: len(known[value]), reverse=True)
        if named and (len(named) == 1 or len(known[named[0]]) > len(known[named[1]])):
            group = grouped.setdefault(named[0], Counter())
            group.update({value: n for value, n in counts.items() if value})
    return grouped


def unlike(expected: Mapping[str, Mapping[str, int]]) -> Check:
    """Make a check that finds values far rarer or far more frequent among the answers than in an eval set.

    An eval set is small, and of hard rows: only where the two intervals lie more than a factor of two apart is it a
    finding.

    Args:
        expected: rows of the eval set by field and value.
    """

    def check(shares: Shares) -> Iterator[Finding]:
        for field, wanted in expected.items():
            judged, counts = sum(wanted.values()), shares.values.get(field, Counter())
            if shares.rows < MIN_ROWS or judged < MIN_ROWS:
                continue
            for value in sorted({*wanted, *counts}):
                n, w = counts[value], wanted.get(value, 0)
                low, high = wilson(n, shares.rows, _SURE)
                least, most = wilson(w, judged, _SURE)
                if value and (least > 2 * high or low > 2 * most):
                    yield Finding(
                        check="unlike",
                        field=field,
                        value=value,
                        other="",
                        rows=shares.rows,
                        share=n / shares.rows,
                        text=f"{field}: {value!r} is {n / shares.rows:.1%} of the answers "
                        f"and {w / judged:.1%} of the eval set ({w:,} of {judged:,})",
                    )

    return check


def _expected_counts(evals: EvalSet[Any], fields: Sequence[str]) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {field: Counter() for field in fields}
    for expected in evals.outputs():
        for field in fields:
            counts[field][_shown(expected.get(field))] += 1
    return counts


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _WORD.findall(text) if len(word) > 2)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
