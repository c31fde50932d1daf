"""A run's rows for people and programs: lazily paged, filtered, counted, written, run again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, Protocol

import attrs
from typing_extensions import TypeVar

from batchkit.errors import UsageError
from batchkit.files import write_table
from batchkit.ids import RowId, RowKey, RunId
from batchkit.model import NANO, RowView, Where
from batchkit.reasons import Reason
from batchkit.states import Outcome, RowState, outcome

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from batchkit.contract import Contract
    from batchkit.run import Run
    from batchkit.spec import Spec
    from batchkit.storage import RowStore

T = TypeVar("T", default=Any)

_CHUNK = 2_000
_FIXED = ("key", "outcome", "reason", "detail", "tier", "attempts", "cost_usd")
_ANSWERED = frozenset({RowState.SUCCEEDED, RowState.UNCHANGED})


@attrs.frozen(kw_only=True)
class Row(Generic[T]):
    """One source record with everything known of it.

    ``output`` is the valid answer in the contract's type, None where there is none. ``answer`` is the raw
    text of the latest answer, also where it was not accepted. ``attempts`` counts answers that were
    billed, ``cost_usd`` is what they cost. ``by`` names the person where a person answered.
    """

    key: str
    source: Mapping[str, str | None]
    output: T | None
    outcome: Outcome
    reason: Reason | None
    detail: str
    tier: int
    attempts: int
    cost_usd: Decimal
    answer: str | None
    by: str = ""
    id: RowId = attrs.field(repr=False)

    def flat(self, output: Mapping[str, object] | None) -> dict[str, object]:
        """Give the row as one flat mapping: fixed columns, then ``source.*`` and ``output.*``."""
        flat: dict[str, object] = {
            "key": self.key,
            "outcome": self.outcome.value,
            "reason": self.reason.value if self.reason else None,
            "detail": self.detail or None,
            "tier": self.tier,
            "attempts": self.attempts,
            "cost_usd": str(self.cost_usd),
        }
        flat.update((f"source.{name}", value) for name, value in self.source.items())
        flat.update((f"output.{name}", value) for name, value in (output or {}).items())
        return flat


class Rerunner(Protocol[T]):
    """What can start a child run over some rows of a run."""

    def rerun(
        self, rows: Rows[T], name: str, *, spec: Spec[T] | None, source: object | None, unlocked: bool
    ) -> Run[T]:
        """Start the child run."""
        ...


@attrs.frozen(kw_only=True)
class Filter:
    """What :meth:`Rows.where` was told. Codes and tier are applied by the store, predicates here."""

    keys: tuple[str, ...] | None = None
    outcome: frozenset[Outcome] | None = None
    reason: frozenset[Reason] | None = None
    tier: frozenset[int] | None = None
    output: tuple[Callable[[Any], object], ...] = ()
    source: tuple[Callable[[Mapping[str, str | None]], object], ...] = ()

    @property
    def scans(self) -> bool:
        """Tell whether rows have to be read to know whether they match."""
        return bool(self.output or self.source)

    def admits(self, view: RowView) -> bool:
        """Tell whether the codes of a row match, for rows that were found by key."""
        return (
            (self.outcome is None or outcome(view.state, view.reason) in self.outcome)
            and (self.reason is None or view.reason in self.reason)
            and (self.tier is None or view.tier in self.tier)
        )


class Rows(Generic[T]):
    """Some rows of a run. Nothing is read before it is asked for, and never more than a page at once."""

    def __init__(
        self,
        store: RowStore,
        run: RunId,
        *,
        contract: Contract[T] | None = None,
        filter: Filter | None = None,
        rerunner: Rerunner[T] | None = None,
    ) -> None:
        """Look at the rows of ``run`` in ``store``; without a contract outputs are plain JSON values."""
        self._store = store
        self._run = run
        self._contract = contract
        self._filter = filter if filter is not None else Filter()
        self._rerunner = rerunner

    @property
    def run_id(self) -> RunId:
        """Give the id of the run these rows belong to."""
        return self._run

    def where(
        self,
        *,
        keys: Iterable[str] | None = None,
        outcome: str | Outcome | Iterable[str | Outcome] | None = None,
        reason: str | Reason | Iterable[str | Reason] | None = None,
        tier: int | Iterable[int] | None = None,
        output: Callable[[T], object] | None = None,
        source: Callable[[Mapping[str, str | None]], object] | None = None,
    ) -> Rows[T]:
        """Narrow the rows further.

        Args:
            keys: only these keys.
            outcome: one bucket or several, such as ``"quarantined"``.
            reason: one reason code or several; globs such as ``"output.*"`` are allowed.
            tier: one tier or several, counted from 0.
            output: keep rows that have an output for which this is true. Reads every row.
            source: keep rows for whose source fields this is true. Reads every row.

        Raises:
            UsageError: an outcome or reason that does not exist.
        """
        old = self._filter
        new = attrs.evolve(
            old,
            keys=_both_keys(old.keys, None if keys is None else tuple(dict.fromkeys(keys))),
            outcome=_both(old.outcome, _outcomes(outcome)),
            reason=_both(old.reason, _reasons(reason)),
            tier=_both(
                old.tier, frozenset([tier]) if isinstance(tier, int) else frozenset(tier) if tier else None
            ),
            output=old.output + ((output,) if output else ()),
            source=old.source + ((source,) if source else ()),
        )
        return Rows(self._store, self._run, contract=self._contract, filter=new, rerunner=self._rerunner)

    def __iter__(self) -> Iterator[Row[T]]:
        """Give the rows in source order."""
        for view in self.views(source=True, results=True):
            yield self._row(view)

    def __len__(self) -> int:
        """Count the rows; reads them only where a predicate asks for it."""
        if self._filter.scans or self._filter.keys is not None:
            return sum(1 for _ in self.views())
        tally = self._store.tally(self._run)
        probe = self._filter
        return sum(
            n
            for (state, reason, tier), n in tally.counts.items()
            if (probe.outcome is None or outcome(state, reason) in probe.outcome)
            and (probe.reason is None or reason in probe.reason)
            and (probe.tier is None or tier in probe.tier)
        )

    def head(self, n: int = 10) -> list[Row[T]]:
        """Give the first ``n`` rows."""
        first: list[Row[T]] = []
        for row in self:
            if len(first) >= n:
                break
            first.append(row)
        return first

    def keys(self) -> list[str]:
        """Give the keys in source order."""
        return [view.key for view in self.views()]

    def count_by(self, *fields: str) -> dict[Any, int]:
        """Count rows by one or more columns (``"reason"``, ``"detail"``, ``"output.category"`` …), most first.

        Raises:
            UsageError: no field was named.
        """
        if not fields:
            raise UsageError("count_by needs at least one column, such as count_by('reason')")
        counts: Counter[Any] = Counter()
        for row in self:
            flat = row.flat(self._dumped(row))
            values = tuple(_hashable(flat.get(field)) for field in fields)
            counts[values if len(values) > 1 else values[0]] += 1
        return dict(counts.most_common())

    def records(self) -> Iterator[dict[str, object]]:
        """Give every row as one flat mapping, ``source.*`` and ``output.*`` prefixed."""
        for row in self:
            yield row.flat(self._dumped(row))

    def write(self, path: str | PathLike[str]) -> int:
        """Write the rows as ``.csv`` (formulas defused) or ``.jsonl`` (raw values) and give their number.

        Raises:
            UsageError: another suffix.
        """
        first = next(iter(self), None)
        return write_table(path, self._columns(first), self.records())

    def to_arrow(self) -> pyarrow.Table:
        """Give the rows as an Arrow table. Needs pyarrow."""
        import pyarrow

        return pyarrow.Table.from_pylist(list(self._uniform()))

    def to_pandas(self) -> pandas.DataFrame:
        """Give the rows as a pandas frame. Needs pandas."""
        import pandas

        return pandas.DataFrame(list(self._uniform()))

    def to_polars(self) -> polars.DataFrame:
        """Give the rows as a polars frame. Needs polars."""
        import polars

        return polars.DataFrame(list(self._uniform()), infer_schema_length=None)

    def rerun(
        self, name: str, *, spec: Spec[T] | None = None, rows: object | None = None, unlocked: bool = False
    ) -> Run[T]:
        """Start a child run over just these rows.

        Args:
            name: the child run's name.
            spec: another spec, which must be locked; None is a plain retry under the same spec.
            rows: fresh source records for these keys; None uses the frozen ones.
            unlocked: go on although nobody accepted the spec; the receipt says so.

        Raises:
            UsageError: these rows come from ``attach``, which has no spec and no client.
            NotLocked: nobody accepted the spec.
        """
        if self._rerunner is None:
            raise UsageError(
                "rerun needs the spec: use Workflow(spec, store=...).resume(name).rows(...).rerun(...)"
            )
        return self._rerunner.rerun(self, name, spec=spec, source=rows, unlocked=unlocked)

    def views(self, *, source: bool = False, results: bool = False) -> Iterator[RowView]:
        """Give the store's own view of each matching row, in source order, a page at a time."""
        probe = self._filter
        source = source or bool(probe.source)
        results = results or bool(probe.output)
        for view in self._candidates(source=source, results=results):
            if probe.source and not all(test(view.fields or {}) for test in probe.source):
                continue
            if probe.output:
                value = self._output(view)
                if value is None or not all(test(value) for test in probe.output):
                    continue
            yield view

    def _candidates(self, *, source: bool, results: bool) -> Iterator[RowView]:
        probe = self._filter
        if probe.keys is not None:
            found = sorted(set(self._store.locate(self._run, [RowKey(key) for key in probe.keys]).values()))
            for start in range(0, len(found), _CHUNK):
                chunk = self._store.rows(found[start : start + _CHUNK], source=source, results=results)
                yield from (view for view in chunk if probe.admits(view))
            return
        where = Where(
            outcomes=probe.outcome, reasons=probe.reason, tiers=probe.tier, source=source, results=results
        )
        after: RowId | None = None
        while True:
            page = self._store.page(self._run, where, after=after, limit=_CHUNK)
            yield from page
            if len(page) < _CHUNK:
                return
            after = page[-1].id

    def _output(self, view: RowView) -> T | None:
        if view.state not in _ANSWERED or view.answer is None:
            return None
        if self._contract is None:
            from pydantic_core import from_json

            plain: T = from_json(view.answer)
            return plain
        return self._contract.load(view.answer)

    def _row(self, view: RowView) -> Row[T]:
        return Row(
            id=view.id,
            key=view.key,
            source=view.fields or {},
            output=self._output(view),
            outcome=outcome(view.state, view.reason),
            reason=view.reason,
            detail=view.detail,
            tier=view.tier,
            attempts=view.answers,
            cost_usd=Decimal(view.cost) / NANO,
            answer=None if view.answer is None else view.answer.decode("utf-8", "replace"),
            by=view.by,
        )

    def _dumped(self, row: Row[T]) -> Mapping[str, object] | None:
        if row.output is None:
            return None
        if self._contract is None:
            return row.output if isinstance(row.output, Mapping) else {"value": row.output}
        return self._contract.dump(row.output)

    def _columns(self, first: Row[T] | None) -> list[str]:
        columns = list(_FIXED)
        if first is not None:
            columns += [f"source.{name}" for name in first.source]
        if self._contract is not None:
            return columns + [f"output.{name}" for name in self._contract.fields]
        names: dict[str, None] = {}
        for row in self:
            names.update((f"output.{name}", None) for name in (self._dumped(row) or {}))
        return columns + list(names)

    def _uniform(self) -> Iterator[dict[str, object]]:
        columns = self._columns(next(iter(self), None))
        for record in self.records():
            yield {column: record.get(column) for column in columns}

    def _repr_html_(self) -> str:
        import html

        first = self.head(20)
        columns = self._columns(first[0] if first else None)
        cells = [row.flat(self._dumped(row)) for row in first]
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(_short(record.get(column)))}</td>" for column in columns)
            + "</tr>"
            for record in cells
        )
        return f"<p>{len(self):,} rows</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        """Say how many rows there are, without reading them."""
        return f"Rows(run={self._run}, {self._filter})"


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 80 else text[:79] + "…"


def _hashable(value: object) -> object:
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((k, _hashable(v)) for k, v in value.items()))
    return value


def _both(old: frozenset[Any] | None, new: frozenset[Any] | None) -> frozenset[Any] | None:
    if old is None or new is None:
        return old if new is None else new
    return old & new


def _both_keys(old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if old is None or new is None:
        return old if new is None else new
    wanted = set(new)
    return tuple(key for key in old if key in wanted)


def _outcomes(given: str | Outcome | Iterable[str | Outcome] | None) -> frozenset[Outcome] | None:
    if given is None:
        return None
    names: Sequence[str | Outcome] = [given] if isinstance(given, str) else list(given)
    try:
        return frozenset(Outcome(name) for name in names)
    except ValueError as error:
        known = ", ".join(o.value for o in Outcome)
        raise UsageError(f"{error}: the outcomes are {known}") from None


def _reasons(given: str | Reason | Iterable[str | Reason] | None) -> frozenset[Reason] | None:
    if given is None:
        return None
    globs: Sequence[str] = [given] if isinstance(given, str) else [str(name) for name in given]
    found: set[Reason] = set()
    for glob in globs:
        matching = {reason for reason in Reason if reason.matches(str(glob))}
        if not matching:
            raise UsageError(f"no reason code matches {str(glob)!r}; the codes are listed in batchkit.Reason")
        found |= matching
    return frozenset(found)
