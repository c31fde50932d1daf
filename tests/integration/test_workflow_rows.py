"""Rows of a run, as people take them out: filtered, counted, written, shown."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rig import Label, answers
from shop import BROKEN, REFUSED, Shop, words

from batchkit.errors import UsageError
from batchkit.reasons import Reason
from batchkit.run import Run
from batchkit.states import Outcome
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import Answer
from batchkit.view import attach, runs, set_cap


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    green = Answer(text='{"color": "green"}')
    made = Shop(
        tmp_path_factory.mktemp("rows"), model=answers({"w0001": REFUSED, "w0002": BROKEN, "w0003": green})
    )
    records: list[Mapping[str, Any]] = [*words(5), {"sku": None, "word": "=1+1", "brand": "<b>"}]
    made.start("run", records).wait(progress="none")
    yield made
    made.close()


@pytest.fixture
def run(shop: Shop) -> Run[Any]:
    return shop.flow().resume("run")


def test_rows_come_in_source_order_with_everything_known(run: Run[Any]) -> None:
    """A row has its source, its typed output, where it ended and why, what it cost, and what was never sent."""
    first, refused, broken, *_ = rows = list(run.rows())
    assert [row.key for row in rows] == ["S0000", "S0001", "S0002", "S0003", "S0004", ""]
    assert (first.output, first.outcome, first.reason) == (Label(color="red"), Outcome.SUCCEEDED, None)
    assert dict(first.source) == {"brand": "b0", "word": "w0000"}
    assert dict(first.metadata) == {"brand": "b0"}
    assert (refused.output, refused.reason) == (None, Reason.OUTPUT_REFUSED)
    assert (broken.tier, broken.attempts, broken.answer) == (1, 2, '{"color": "blue"}')
    assert broken.cost_usd > first.cost_usd > Decimal(0)


def test_what_users_are_given_of_a_record_is_a_dict(run: Run[Any]) -> None:
    """Rows, predicates and rules get plain dicts: they can be written as JSON and told from other mappings."""
    row = next(iter(run.rows(source=lambda record: type(record) is dict)))
    assert json.loads(json.dumps(row.source)) == {"brand": "b0", "word": "w0000"}


@pytest.mark.parametrize(
    ("where", "keys"),
    [
        ({"outcome": "succeeded"}, ["S0000", "S0003", "S0004"]),
        ({"outcome": ["human_queued", Outcome.QUARANTINED]}, ["S0001", "S0002", ""]),
        ({"outcome": []}, []),
        ({"reason": "output.*"}, ["S0001", "S0002"]),
        ({"reason": [Reason.INPUT_MISSING_KEY]}, [""]),
        ({"tier": 1}, ["S0002"]),
        ({"tier": (0, 1)}, ["S0000", "S0001", "S0002", "S0003", "S0004", ""]),
        ({"tier": ()}, []),
        ({"keys": "S0003"}, ["S0003"]),
        ({"keys": ["S0003", "S0000", "nobody"]}, ["S0000", "S0003"]),
        ({"keys": ["S0003", "S0002"], "outcome": "succeeded"}, ["S0003"]),
        ({"output": lambda out: out.color == "green"}, ["S0003"]),
        ({"source": lambda fields: fields["word"] == "=1+1"}, [""]),
    ],
)
def test_rows_are_narrowed(run: Run[Any], where: dict[str, Any], keys: list[str]) -> None:
    """Every filter admits exactly its rows, and counting agrees with reading."""
    rows = run.rows(**where)
    assert rows.keys() == keys
    assert len(rows) == len(keys)
    assert bool(rows) == bool(keys)


def test_filters_add_up(run: Run[Any]) -> None:
    """Narrowing what was narrowed leaves what both admit."""
    assert run.rows(outcome="succeeded").where(keys=["S0003", "S0002"]).keys() == ["S0003"]
    assert run.rows(keys=["S0003", "S0000"]).where(keys=["S0000", "S0001"]).keys() == ["S0000"]
    assert run.rows(tier=0).where(tier=1).keys() == []
    assert "outcome=succeeded, tier=0" in repr(run.rows(outcome="succeeded", tier=0))


def test_codes_are_counted_without_reading_rows(run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A count by codes is a tally; only predicates and keys read rows."""
    monkeypatch.setattr(SQLiteStore, "page", None)
    assert len(run.rows(outcome="succeeded")) == 3
    assert len(run.rows()) == 6


@pytest.mark.parametrize("where", [{"outcome": "lost"}, {"reason": "output.funny"}])
def test_codes_that_do_not_exist_are_refused(run: Run[Any], where: dict[str, Any]) -> None:
    """A mistyped code is an error, not an empty answer."""
    with pytest.raises(UsageError):
        run.rows(**where)


def test_rows_are_counted_by_columns(run: Run[Any]) -> None:
    """Counting by columns gives the most frequent first; a column that does not exist is refused."""
    assert run.rows().count_by("outcome") == {"succeeded": 3, "human_queued": 1, "quarantined": 2}
    assert run.rows().count_by("output.color") == {"red": 2, None: 3, "green": 1}
    assert run.rows(outcome="succeeded").count_by("outcome", "source.brand")[("succeeded", "b3")] == 1
    assert "literal_error" in next(iter(run.rows(reason="output.schema").count_by("detail")))
    with pytest.raises(UsageError, match=r"no column 'colour'.*Did you mean 'output\.color'\?"):
        run.rows().count_by("colour")
    with pytest.raises(UsageError, match=r"no column 'output\.colour'"):
        run.rows().count_by("output.colour")
    with pytest.raises(UsageError, match="at least one column"):
        run.rows().count_by()


def test_failures_are_the_rows_without_an_answer(run: Run[Any]) -> None:
    """Rows that wait for a person are no failures."""
    assert run.failures().keys() == ["S0002", ""]


def test_rows_are_written_as_csv_with_formulas_defused(run: Run[Any], tmp_path: Path) -> None:
    """A CSV has every column, prefixed, and no cell that a spreadsheet would run."""
    assert run.rows().write(tmp_path / "rows.csv") == 6
    with (tmp_path / "rows.csv").open(newline="") as stream:
        written = list(csv.DictReader(stream))
    assert list(written[0]) == [
        *("key", "outcome", "reason", "detail", "tier", "attempts", "cost_usd"),
        *("source.brand", "source.word", "output.color"),
    ]
    assert written[5]["source.word"] == "'=1+1"
    assert written[3]["output.color"] == "green"


def test_rows_are_written_as_jsonl_raw(run: Run[Any], tmp_path: Path) -> None:
    """JSON lines keep the raw values; another suffix is refused."""
    run.rows().write(tmp_path / "rows.jsonl")
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["source.word"] for row in written][-1] == "=1+1"
    with pytest.raises(UsageError, match=r"\.csv or \.jsonl"):
        run.rows().write(tmp_path / "rows.xlsx")


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_missing_library_is_named(run: Run[Any], library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library for a frame the message says which to install, and what works without."""
    monkeypatch.setitem(sys.modules, library, None)
    method = {"pandas": "to_pandas", "polars": "to_polars", "pyarrow": "to_arrow"}[library]
    with pytest.raises(UsageError, match=rf"needs {library}.*pip install.*rows\.write"):
        getattr(run.rows(), method)()


def test_frames_get_every_column_for_every_row(run: Run[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows handed to a frame library all have the same columns, missing values as None."""
    given: list[list[dict[str, Any]]] = []

    def keep(rows: list[dict[str, Any]], **_: object) -> str:
        given.append(rows)
        return "frame"

    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=keep))
    monkeypatch.setitem(sys.modules, "polars", SimpleNamespace(DataFrame=keep))
    monkeypatch.setitem(sys.modules, "pyarrow", SimpleNamespace(Table=SimpleNamespace(from_pylist=keep)))
    rows = run.rows()
    assert [rows.to_pandas(), rows.to_polars(), rows.to_arrow()] == ["frame"] * 3
    assert given[0] == given[1] == given[2]
    assert {tuple(record) for record in given[0]} == {tuple(given[0][0])}
    assert given[0][1]["output.color"] is None


def test_rows_are_shown_escaped(run: Run[Any]) -> None:
    """In a notebook nothing of a row is markup."""
    shown = run.rows()._repr_html_()
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "6 rows" in shown
    assert "0 rows" in run.rows(keys="nobody")._repr_html_()


def test_attached_rows_are_plain(shop: Shop) -> None:
    """Without a spec outputs are plain JSON values, metadata is known from the stored spec, and columns are found."""
    view = attach(shop.path, "run")
    row = view.rows(keys="S0003").head()[0]
    assert row.output == {"color": "green"}
    assert dict(row.metadata) == {"brand": "b3"}
    assert view.rows().count_by("output.color")["red"] == 2
    typed = attach(shop.path, "run", spec=shop.spec).rows(keys="S0003").head()[0]
    assert typed.output == Label(color="green")


def test_a_store_that_does_not_exist_is_not_made(tmp_path: Path) -> None:
    """Looking at a mistyped path makes no empty store."""
    with pytest.raises(UsageError, match="there is no store at"):
        attach(tmp_path / "typo.db", "run")
    assert list(tmp_path.iterdir()) == []


def test_runs_are_listed(shop: Shop) -> None:
    """A store's runs are listed with their state; a name that is not there is answered with those that are."""
    assert [(one.name, one.state.value, one.rows) for one in runs(shop.path)] == [("run", "closed", 6)]
    with pytest.raises(UsageError, match="no run 'ruin' in this store; the newest runs are: 'run'"):
        attach(shop.path, "ruin")


@pytest.mark.parametrize(("usd", "by"), [("much", "me"), (float("nan"), "me"), (5, " ")])
def test_a_cap_needs_an_amount_and_a_name(shop: Shop, usd: Any, by: str) -> None:
    """A cap that is no amount, or that nobody signs, is refused and changes nothing."""
    with pytest.raises(UsageError):
        set_cap(shop.path, usd, by=by)
    assert attach(shop.path, "run").progress.cap is None


def test_a_view_shows_where_its_run_stands(shop: Shop) -> None:
    """A view tells its state in code and in notebooks, and what the run cost."""
    view = attach(shop.path, "run")
    assert repr(view) == "<RunView 'run': done>"
    assert "succeeded 3" in view._repr_html_()
    assert view.bill().total_usd == view.progress.spent_usd
    assert view.promotions == []


def test_a_mistyped_reason_is_answered_with_the_one_that_was_meant(run: Run[Any]) -> None:
    """Asking for rows by a code that there is not names the nearest that there is."""
    with pytest.raises(
        UsageError, match=r"no reason code matches 'output\.schemas'.*Did you mean 'output\.schema'\?"
    ):
        run.rows(reason="output.schemas")
