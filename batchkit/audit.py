"""The aggregate check: what no look at one row can see, a category that is taken for its neighbour."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from batchkit.errors import UsageError
from batchkit.intervals import wilson
from batchkit.rows import Rows
from batchkit.spec import Spec

if TYPE_CHECKING:
    from batchkit.evalset import EvalSet

MIN_ROWS = 20
"""Groups of fewer rows say too little to be a finding."""

FEW = 0.5
"""A group that agrees with its own name in less than this share is a finding."""

_MOST_VALUES = 2_000
_WORD = re.compile(r"\w+", re.UNICODE)


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that looks wrong in the aggregate.

    ``rows`` were expected to be ``value`` and only ``share`` of them are; most of the others are ``other``.
    """

    check: str
    field: str
    value: str
    other: str
    rows: int
    share: float
    text: str


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
    """The shares and what was found in them."""

    shares: Shares
    findings: tuple[Finding, ...]

    def __str__(self) -> str:
        """Give the findings, then the share of every value, as text."""
        lines = [f"Audit of {self.shares.rows:,} answers: {len(self.findings)} findings"]
        lines += [f"  ! {finding.text}" for finding in self.findings]
        for field, counts in self.shares.values.items():
            lines.append(f"  {field}")
            lines += [
                f"    {value:<28} {n:>8,}  {n / self.shares.rows:6.1%}" for value, n in counts.most_common()
            ]
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
        fields = tuple(spec.contract.enums)
        if not fields:
            raise UsageError("an audit counts fields with a fixed set of values; this contract has none")
        name = against if isinstance(against, str) else None
        if name is not None and name not in spec.used_fields:
            raise UsageError(f"the rows have no field {name!r} frozen; add it: Spec(metadata=[{name!r}])")
        shares = count_shares(rows, fields, name)
        checks = list(self._checks)
        if against is not None and not isinstance(against, str):
            checks.append(unlike(_expected_shares(against, fields)))
        found = [finding for check in checks for finding in check(shares)]
        return Audit(shares=shares, findings=tuple(sorted(found, key=lambda f: -f.rows * (1 - f.share))))


def count_shares(rows: Rows[Any], fields: Sequence[str], source_field: str | None) -> Shares:
    """Count the answers by value, and by what the source said. Texts that vary too much are dropped."""
    values: dict[str, Counter[str]] = {field: Counter() for field in fields}
    crossed: dict[str, dict[str, dict[str, Counter[str]]]] = {field: {} for field in fields}
    wild: set[str] = set()
    total = 0
    for record in rows.records():
        if not any(f"output.{field}" in record for field in fields):
            continue
        total += 1
        said = _said(record, source_field, wild)
        for field in fields:
            value = _shown(record.get(f"output.{field}"))
            values[field][value] += 1
            for name, text in said.items():
                groups = crossed[field].setdefault(name, defaultdict(Counter))
                groups[text][value] += 1
                if len(groups) > _MOST_VALUES:
                    wild.add(name)
                    for other in fields:
                        crossed[other].pop(name, None)
                    break
    return Shares(rows=total, values=values, crossed=crossed)


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
    """Find values that the source names and the answers seldom give.

    Where a source field's text contains the words of an allowed value, the answer should mostly be that
    value. Groups below half are findings, with the value that they were taken for.
    """
    for field, sources in shares.crossed.items():
        known = {value: _words(value) for value in shares.values[field] if value}
        for name, groups in sources.items():
            for value, counts in _grouped_by_name(groups, known).items():
                rows = sum(counts.values())
                share = counts[value] / rows
                if rows < MIN_ROWS or wilson(counts[value], rows)[1] >= FEW:
                    continue
                other, taken = next((v, n) for v, n in counts.most_common() if v != value)
                yield Finding(
                    check="named_by_source",
                    field=field,
                    value=value,
                    other=other,
                    rows=rows,
                    share=share,
                    text=f"{field}: {rows:,} rows whose {name} says {value!r}: only {share:.0%} are answered so, "
                    f"{taken / rows:.0%} as {other!r}",
                )


def _grouped_by_name(
    groups: Mapping[str, Counter[str]], known: Mapping[str, frozenset[str]]
) -> dict[str, Counter[str]]:
    grouped: dict[str, Counter[str]] = {}
    for text, counts in groups.items():
        words = _words(text)
        named = [value for value, own in known.items() if own and own <= words]
        if named:
            longest = max(named, key=lambda value: len(known[value]))
            grouped.setdefault(longest, Counter()).update(counts)
    return grouped


def unlike(expected: Mapping[str, Mapping[str, float]]) -> Check:
    """Make a check that finds values whose share lies outside the interval of an expected share."""

    def check(shares: Shares) -> Iterator[Finding]:
        for field, wanted in expected.items():
            counts = shares.values.get(field, Counter())
            for value, share in wanted.items():
                low, high = wilson(counts[value], shares.rows)
                if shares.rows >= MIN_ROWS and share > 2 * high:
                    yield Finding(
                        check="unlike",
                        field=field,
                        value=value,
                        other="",
                        rows=shares.rows,
                        share=counts[value] / shares.rows,
                        text=f"{field}: {value!r} is {counts[value] / shares.rows:.1%} of the answers "
                        f"(95 % interval {low:.1%} to {high:.1%}) and {share:.1%} of the eval set",
                    )

    return check


def _expected_shares(evals: EvalSet[Any], fields: Sequence[str]) -> dict[str, dict[str, float]]:
    counts: dict[str, Counter[str]] = {field: Counter() for field in fields}
    total = 0
    for expected in evals.outputs():
        total += 1
        for field in fields:
            counts[field][_shown(expected.get(field))] += 1
    return {
        field: {value: n / total for value, n in found.items()} for field, found in counts.items() if total
    }


def _words(text: str) -> frozenset[str]:
    return frozenset(word.casefold() for word in _WORD.findall(text) if len(word) > 2)


def _shown(value: object) -> str:
    return "" if value is None else str(value)
