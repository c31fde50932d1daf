"""A run's rows for people and programs: lazily paged, filtered, counted, written, run again."""

from __future__ import annotations

import html
import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from os import PathLike
from typing import TYPE_CHECKING, Any, Generic, Protocol

from pydantic_core import from_json
from typing_extensions import TypeVar

from batchkit.errors import UsageError
from batchkit.files import write_table
from batchkit.fixes import meant
from batchkit.ids import RowId, RowKey, RunId
from batchkit.model import NANO, RowView, Where
from batchkit.row import COLUMNS, Row
from batchkit.rowfilter import Filter, Outcomes, Reasons, SourceTest
from batchkit.states import RowState, outcome

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from batchkit.contract import Contract
    from batchkit.run import Run
    from batchkit.spec import Spec
    from batchkit.storage import RowStore

__all__ = ["Rerunner", "Row", "Rows"]

T = TypeVar("T", default=Any)

_CHUNK = 2_000
_ANSWERED = frozenset({RowState.SUCCEEDED, RowState.UNCHANGED})
_SHOWN = 20
_CELL = 80


class Rerunner(Protocol[T]):
    """What can start a child run over some rows of a run."""

    def rerun(
        self, rows: Rows[T], name: str, *, spec: Spec[T] | None, source: object | None, unlocked: bool
    ) -> Run[T]:
        """Start the child run."""
        ...


class Rows(Generic[T]):
    """Some rows of a run. Nothing is read before it is asked for, and never more than a page at once."""

    def __init__(
        self,
        store: RowStore,
        run: RunId,
        *,
        contract: Contract[T] | None = None,
        metadata: tuple[str, ...] = (),
        filter: Filter | None = None,
        rerunner: Rerunner[T] | None = None,
    ) -> None:
        """Look at the rows of ``run`` in ``store``; without a contract outputs are plain JSON values."""
        self._store = store
        self._run = run
        self._contract = contract
        self._metadata = metadata
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
        outcome: Outcomes | None = None,
        reason: Reasons | None = None,
        tier: int | Iterable[int] | None = None,
        output: Callable[[T], object] | None = None,
        source: SourceTest | None = None,
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
        narrowed = self._filter.narrowed(
            keys=keys, outcome=outcome, reason=reason, tier=tier, output=output, source=source
        )
        return Rows(
            self._store,
            self._run,
            contract=self._contract,
            metadata=self._metadata,
            filter=narrowed,
            rerunner=self._rerunner,
        )

    # ---------------------------------------------------------------- reading

    def __iter__(self) -> Iterator[Row[T]]:
        """Give the rows in source order."""
        for view in self.views(source=True, results=True):
            yield self._row(view)

    def __len__(self) -> int:
        """Count the rows; reads them only where a predicate or keys ask for it."""
        probe = self._filter
        if probe.scans or probe.keys is not None:
            return sum(1 for _ in self.views())
        return sum(
            n
            for (state, reason, tier), n in self._store.tally(self._run).counts.items()
            if probe.admits_codes(outcome(state, reason), reason, tier)
        )

    def __bool__(self) -> bool:
        """Tell whether there is any row."""
        return next(self.views(), None) is not None

    def head(self, n: int = 10) -> list[Row[T]]:
        """Give the first ``n`` rows."""
        return [row for row, _ in zip(self, range(n), strict=False)]

    def keys(self) -> list[str]:
        """Give the keys in source order."""
        return [view.key for view in self.views()]

    def count_by(self, *fields: str) -> dict[Any, int]:
        """Count rows by one or more columns (``"reason"``, ``"detail"``, ``"output.category"`` …), most first.

        Raises:
            UsageError: no column was named, or one that rows do not have.
        """
        self._check_columns(fields)
        counts: Counter[Any] = Counter()
        with_source = any(field.startswith("source.") for field in fields)
        with_results = any(field == "detail" or field.startswith("output.") for field in fields)
        for view in self.views(source=with_source, results=with_results):
            row = self._row(view)
            flat = row.flat(self._dumped(row))
            values = tuple(_hashable(flat.get(field)) for field in fields)
            counts[values[0] if len(values) == 1 else values] += 1
        return dict(counts.most_common())

    def records(self) -> Iterator[dict[str, object]]:
        """Give every row as one flat mapping, ``source.*`` and ``output.*`` prefixed."""
        for row in self:
            yield row.flat(self._dumped(row))

    def views(self, *, source: bool = False, results: bool = False) -> Iterator[RowView]:
        """Give the store's own view of each matching row, in source order, a page at a time."""
        probe = self._filter
        for view in self._candidates(
            source=source or bool(probe.source), results=results or bool(probe.output)
        ):
            if probe.source and not probe.admits_source(view.record()):
                continue
            if probe.output and not probe.admits_output(self._output(view)):
                continue
            yield view

    # ---------------------------------------------------------------- taking out

    def write(self, path: str | PathLike[str]) -> int:
        """Write the rows as ``.csv`` (formulas defused) or ``.jsonl`` (raw values) and give their number.

        Raises:
            UsageError: another suffix.
        """
        return write_table(path, self._columns(), self.records())

    def to_arrow(self) -> pyarrow.Table:
        """Give the rows as an Arrow table.

        Raises:
            UsageError: pyarrow is not installed.
        """
        library = _library("pyarrow")
        table: pyarrow.Table = library.Table.from_pylist(list(self._uniform()))
        return table

    def to_pandas(self) -> pandas.DataFrame:
        """Give the rows as a pandas frame.

        Raises:
            UsageError: pandas is not installed.
        """
        frame: pandas.DataFrame = _library("pandas").DataFrame(list(self._uniform()), columns=self._columns())
        return frame

    def to_polars(self) -> polars.DataFrame:
        """Give the rows as a polars frame.

        Raises:
            UsageError: polars is not installed.
        """
        frame: polars.DataFrame = _library("polars").DataFrame(
            list(self._uniform()), infer_schema_length=None
        )
        return frame

    def rerun(
        self, name: str, *, spec: Spec[T] | None = None, rows: object | None = None, unlocked: bool = False
    ) -> Run[T]:
        """Start a child run over just these rows.

        Args:
            name: the child run's name.
            spec: another spec, which must be locked; None is a plain retry under the spec of these rows' run.
            rows: fresh source records, of which those with these keys are taken; None uses the frozen ones.
            unlocked: go on although nobody accepted the spec; the receipt says so.

        Raises:
            UsageError: these rows come from ``attach``, which has no spec and no client; some of them are still
                open; or some were refused as they stand in the source, and no fresh records come with them.
            NotLocked: nobody accepted the spec.
        """
        if self._rerunner is None:
            raise UsageError(
                "rerun needs the spec: use Workflow(spec, store=...).resume(name).rows(...).rerun(...)"
            )
        return self._rerunner.rerun(self, name, spec=spec, source=rows, unlocked=unlocked)

    # ---------------------------------------------------------------- inside

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
        while page := self._store.page(self._run, where, after=after, limit=_CHUNK):
            yield from page
            after = page[-1].id

    def _output(self, view: RowView) -> T | None:
        if view.state not in _ANSWERED or view.answer is None:
            return None
        if self._contract is None:
            plain: T = from_json(view.answer)
            return plain
        return self._contract.load(view.answer)

    def _row(self, view: RowView) -> Row[T]:
        fields = view.record()
        return Row(
            id=view.id,
            key=view.key,
            source=fields,
            output=self._output(view),
            outcome=outcome(view.state, view.reason),
            reason=view.reason,
            detail=view.detail,
            tier=view.tier,
            attempts=view.answers,
            cost_usd=Decimal(view.cost) / NANO,
            answer=None if view.answer is None else view.answer.decode("utf-8", "replace"),
            metadata={name: fields.get(name) for name in self._metadata},
            by=view.by,
        )

    def _dumped(self, row: Row[T]) -> Mapping[str, object] | None:
        if row.output is None:
            return None
        if self._contract is None:
            return row.output if isinstance(row.output, Mapping) else {"value": row.output}
        return self._contract.dump(row.output)

    def _columns(self) -> list[str]:
        first = next(self.views(source=True), None)
        columns = [*COLUMNS, *(f"source.{name}" for name in ((first.fields or {}) if first else {}))]
        if self._contract is not None:
            return columns + [f"output.{name}" for name in self._contract.fields]
        names: dict[str, None] = {}
        for view in self.views(results=True):
            names.update((f"output.{name}", None) for name in (self._dumped(self._row(view)) or {}))
        return columns + list(names)

    def _check_columns(self, fields: tuple[str, ...]) -> None:
        if not fields:
            raise UsageError("count_by needs at least one column, such as count_by('reason')")
        first = next(self.views(source=True), None)
        if first is None:
            return
        known = {*COLUMNS, *(f"source.{name}" for name in first.fields or {})}
        if self._contract is not None:
            known |= {f"output.{name}" for name in self._contract.fields}
        for field in fields:
            if field not in known and not (self._contract is None and field.startswith("output.")):
                hint = meant(field, known) or meant(f"output.{field}", known)
                raise UsageError(
                    f"rows have no column {field!r}; they have {', '.join(sorted(known))}.{hint}"
                )

    def _uniform(self) -> Iterator[dict[str, object]]:
        columns = self._columns()
        for record in self.records():
            yield {column: record.get(column) for column in columns}

    def _repr_html_(self) -> str:
        first = self.head(_SHOWN)
        flat = [row.flat(self._dumped(row)) for row in first]
        columns = list(dict.fromkeys(column for record in flat for column in record)) or list(COLUMNS)
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_short(record.get(c)))}</td>" for c in columns) + "</tr>"
            for record in flat
        )
        return f"<p>{len(self):,} rows</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def __repr__(self) -> str:
        """Say which rows are meant, without reading them."""
        return f"<Rows of run {self._run}: {self._filter}>"


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        how = "'message-batchkit[dataframe]'" if name == "pyarrow" else name
        raise UsageError(
            f"this needs {name}, which is not installed: pip install {how}. Without it: rows.write('rows.csv')"
        ) from error


def _short(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _CELL else text[: _CELL - 1] + "…"


def _hashable(value: object) -> object:
    if isinstance(value, list):
        return tuple(_hashable(item) for item in value)
    if isinstance(value, dict):
        return tuple(sorted((k, _hashable(v)) for k, v in value.items()))
    return value
