"""Freezing: every record becomes one row with its line, key, size and first verdict."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from batchkit import source
from batchkit.builder import RequestBuilder
from batchkit.contract import Contract
from batchkit.errors import KeyTypeError, MissingField
from batchkit.ids import ResultId, RowKey
from batchkit.model import PAGE, SourceRow
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.source import Damaged, Freezer, source_line
from batchkit.spec import Spec
from batchkit.states import RowEvent
from batchkit.tier import Tier


class Answer(BaseModel):
    summary: str


def _too_little(row: Mapping[str, str | None]) -> bool:
    return not (row["title"] or row["description"])


def _spec(**changes: Any) -> Spec[Answer]:
    whole: dict[str, Any] = {
        "contract": Contract(Answer),
        "prompt": Prompt("Title: {title}\nDescription: {description}"),
        "key": "sku",
        "tiers": [Tier("claude-haiku-4-5", max_tokens=300)],
        "metadata": ["brand"],
        **changes,
    }
    return Spec(whole.pop("contract"), whole.pop("prompt"), **whole)


def _freezer(spec: Spec[Answer] | None = None, **options: Any) -> Freezer:
    spec = spec or _spec()
    return Freezer(spec, builder=RequestBuilder(spec), **options)


def _record(**changes: object) -> dict[str, object]:
    return {
        "sku": "A-1",
        "title": "Cable",
        "description": "Two metres",
        "brand": "Acme",
        "unused": object(),
        **changes,
    }


def _frozen(records: object, freezer: Freezer | None = None) -> list[SourceRow]:
    return [row for page in (freezer or _freezer()).pages(source.rows(records)) for row in page]


def _one(freezer: Freezer | None = None, **changes: object) -> SourceRow:
    (row,) = _frozen([_record(**changes)], freezer)
    return row


def test_a_record_becomes_its_canonical_line() -> None:
    """The line holds position, key and the used fields in order of their names, as UTF-8 without spaces."""
    row = _one(title="Kabel ü 😀\n\u2028")
    assert (
        row.line
        == '[0,"A-1",{"brand":"Acme","description":"Two metres","title":"Kabel ü 😀\\n\u2028"}]'.encode()
    )
    assert (row.position, row.key, row.event, row.reason) == (0, "A-1", RowEvent.FROZEN, None)


def test_only_used_fields_are_frozen_and_judged() -> None:
    """A column that nobody uses is neither kept nor able to refuse its record."""
    row = _one(unused=b"photo", other={1, 2})
    assert row.event is RowEvent.FROZEN
    assert set(json.loads(row.line)[2]) == {"brand", "description", "title"}


def test_the_key_is_frozen_as_a_field_where_the_prompt_uses_it() -> None:
    """A template may name the key like any other field."""
    row = _one(_freezer(_spec(prompt=Prompt("{sku}: {title}"))), sku=17)
    assert json.loads(row.line) == [0, "17", {"brand": "Acme", "sku": "17", "title": "Cable"}]


def test_values_are_frozen_as_text_and_missing_ones_as_null() -> None:
    """The normalising table is applied before anything is compared, stored or sent."""
    row = _one(title=1.5, description=float("nan"), brand=["a", None])
    assert json.loads(row.line)[2] == {"brand": '["a",null]', "description": None, "title": "1.5"}


def test_size_is_the_length_of_the_rendered_text_in_json() -> None:
    """The size tells how much of a batch's body the row's own text takes."""
    row = _one(title='"ü\\')
    text = '<record-aaaaaaaa>\nTitle: "ü\\\nDescription: Two metres\n</record-aaaaaaaa>'
    assert row.size == len(json.dumps(text, ensure_ascii=False).encode()) - 2


@pytest.mark.parametrize("count", [0, 1, PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
def test_pages_are_whole_except_the_last(count: int) -> None:
    """Positions run through the pages without a gap, and no page is empty."""
    pages = list(_freezer().pages(source.rows(_record(sku=n) for n in range(count))))
    assert [len(page) for page in pages[:-1]] == [PAGE] * (len(pages) - 1)
    assert all(pages)
    assert [row.position for page in pages for row in page] == list(range(count))
    assert [row.key for page in pages for row in page] == [str(n) for n in range(count)]


def test_no_more_than_one_page_of_records_is_held() -> None:
    """Freezing draws a page from the source, gives it, and only then draws on."""
    drawn = 0

    def records() -> Iterator[dict[str, object]]:
        nonlocal drawn
        for n in range(3 * PAGE):
            drawn += 1
            yield _record(sku=n)

    pages = _freezer().pages(source.rows(records()))
    next(pages)
    assert drawn == PAGE
    next(pages)
    assert drawn == 2 * PAGE


@pytest.mark.parametrize("key", [None, "", "   ", float("nan")])
def test_a_record_without_key_is_kept_under_its_position(key: object) -> None:
    """It is quarantined as input.missing_key, with null for its key and its fields as they were."""
    row = _one(sku=key)
    assert (row.event, row.reason, row.key) == (RowEvent.INPUT_REFUSED, Reason.INPUT_MISSING_KEY, "")
    assert json.loads(row.line) == [0, None, {"brand": "Acme", "description": "Two metres", "title": "Cable"}]


def test_a_record_that_lacks_the_key_field_has_no_key() -> None:
    """Where other records have the field, its absence from one is that record's failure."""
    odd = _record()
    del odd["sku"]
    assert [row.reason for row in _frozen([_record(), odd])] == [None, Reason.INPUT_MISSING_KEY]


def test_a_value_without_text_refuses_its_record_only() -> None:
    """The detail names every such field and what it holds; the field is frozen as null, the others as they are."""
    first, bad, last = _frozen([_record(sku=1), _record(sku=2, title=b"x", brand={1}), _record(sku=3)])
    assert (first.reason, last.reason) == (None, None)
    assert (bad.event, bad.reason, bad.key) == (RowEvent.INPUT_REFUSED, Reason.INPUT_UNENCODABLE, "2")
    assert bad.detail == "field 'brand' holds set; field 'title' holds bytes"
    assert json.loads(bad.line) == [1, "2", {"brand": None, "description": "Two metres", "title": None}]


def test_lone_surrogates_are_kept_spelled_out() -> None:
    """Text that UTF-8 cannot carry refuses its record, and a person can still read what it was."""
    row = _one(title="a\ud800b")
    assert (row.reason, row.detail) == (
        Reason.INPUT_UNENCODABLE,
        "field 'title' holds text with a lone surrogate (U+D800) at character 1",
    )
    assert json.loads(row.line)[2]["title"] == "a\\ud800b"


@pytest.mark.parametrize(("key", "kept"), [("k\udc80", "k\\udc80"), (b"k", ""), ({1}, "")])
def test_a_key_without_text_is_unencodable_and_not_missing(key: object, kept: str) -> None:
    """Such a record had a key; its detail says what was wrong with it."""
    row = _one(sku=key)
    assert (row.reason, row.key) == (Reason.INPUT_UNENCODABLE, kept)
    assert row.detail.startswith("key 'sku' holds ")
    assert json.loads(row.line)[1] == (kept or None)


def test_a_damaged_record_is_kept_with_what_was_readable() -> None:
    """What the reader could not read is input.unencodable, with the reader's reason."""
    row = _frozen([_record(), Damaged("9 cells, header has 5", {"sku": "A-2", "title": "x"})])[1]
    assert (row.event, row.reason, row.key) == (RowEvent.INPUT_REFUSED, Reason.INPUT_UNENCODABLE, "A-2")
    assert row.detail == "9 cells, header has 5"
    assert json.loads(row.line) == [1, "A-2", {"brand": None, "description": None, "title": "x"}]


def test_a_damaged_record_without_key_is_damaged_first() -> None:
    """That its key could not be read follows from the damage and is not another failure."""
    row = _frozen([_record(), Damaged("line 2 is not JSON")])[1]
    assert (row.reason, row.key, row.detail) == (Reason.INPUT_UNENCODABLE, "", "line 2 is not JSON")


@pytest.mark.parametrize("key", [1.0, True])
def test_a_key_column_of_floats_or_bools_stops_freezing(key: object) -> None:
    """Nothing was sent yet, and every key of the column is suspect."""
    with pytest.raises(KeyTypeError, match=r"row 1\)"):
        _frozen([_record(), _record(sku=key)])


def test_a_bad_key_column_is_found_in_records_that_are_refused_anyway() -> None:
    """A value without text does not hide a float key."""
    with pytest.raises(KeyTypeError, match="holds floats"):
        _frozen([_record(sku=1.5, title=b"x")])


def test_a_text_too_long_for_any_request_is_refused_by_size() -> None:
    """The limit is on the whole body: one byte less of text and the record is taken."""
    spec = _spec()
    builder = RequestBuilder(spec)
    size = _one().size
    limit = size + 256_000_000 - builder.room()
    assert _one(_freezer(spec, max_bytes=limit)).reason is None
    row = _one(_freezer(spec, max_bytes=limit - 1))
    assert (row.event, row.reason) == (RowEvent.INPUT_REFUSED, Reason.INPUT_TOO_LARGE)
    assert row.detail == f"{size} bytes of text, where a request has room for {size - 1}"


def test_a_record_that_says_too_little_goes_to_a_person() -> None:
    """The contract's own function decides, and sees text and None only."""
    freezer = _freezer(_spec(contract=Contract(Answer, sparse_input=_too_little)))
    full, empty = _frozen([_record(), _record(sku="A-2", title=float("nan"), description="")], freezer)
    assert full.event is RowEvent.FROZEN
    assert (empty.event, empty.reason, empty.key) == (RowEvent.INPUT_SPARSE, Reason.INPUT_SPARSE, "A-2")


def test_an_unchanged_record_points_at_its_staged_result() -> None:
    """What could be answered is asked for a page at a time; where the record stands does not matter."""
    asked: list[str] = []

    def staged(page: Sequence[SourceRow]) -> list[ResultId | None]:
        asked.extend(row.key for row in page)
        return [ResultId(77) if row.key == "A-2" else None for row in page]

    rows = _frozen(
        [_record(), _record(sku="A-2"), _record(sku=None), _record(sku="A-3", title=b"x")],
        _freezer(incremental=staged),
    )
    assert [(row.event, row.result) for row in rows[:2]] == [
        (RowEvent.FROZEN, None),
        (RowEvent.UNCHANGED, ResultId(77)),
    ]
    assert asked == ["A-1", "A-2"]


def test_an_unchanged_record_stays_so_even_if_it_says_little() -> None:
    """A person's earlier answer to a sparse record is not asked for again."""
    spec = _spec(contract=Contract(Answer, sparse_input=_too_little))
    freezer = _freezer(spec, incremental=lambda page: [ResultId(1)] * len(page))
    assert _one(freezer, title=None, description=None).event is RowEvent.UNCHANGED


@pytest.mark.parametrize(
    ("changes", "records", "message"),
    [
        (
            {"prompt": Prompt("{descripton}")},
            [{"sku": "1", "title": "a", "description": "b"}],
            "the prompt uses {descripton}; the rows have description, sku, title. Did you mean {description}?",
        ),
        (
            {"key": "id"},
            [_record()],
            "the key is 'id'; the rows have brand, description, sku, title, unused.",
        ),
        ({"metadata": ["brnad"]}, [_record()], "Did you mean 'brand'?"),
    ],
)
def test_a_field_that_no_record_has_stops_freezing(
    changes: Mapping[str, Any], records: Sequence[dict[str, object]], message: str
) -> None:
    """A mistyped name is found before anything is frozen, with the names there are."""
    with pytest.raises(MissingField) as caught:
        _frozen(records, _freezer(_spec(**changes)))
    assert message in str(caught.value)


def test_a_field_that_only_some_records_have_is_missing_in_the_others() -> None:
    """Records of a JSON file may leave out what is empty, the first one too."""
    short: dict[str, object] = {"sku": "A-0", "title": "x"}
    rows = _frozen([short, _record()])
    assert [row.event for row in rows] == [RowEvent.FROZEN] * 2
    assert json.loads(rows[0].line)[2] == {"brand": None, "description": None, "title": "x"}


def test_a_csv_header_is_checked_even_without_records(tmp_path: Path) -> None:
    """A file of zero records is allowed, one of the wrong columns is not."""
    path = tmp_path / "rows.csv"
    path.write_text("sku,title,description,brand\n")
    assert _frozen(path) == []
    path.write_text("sku,title\n")
    with pytest.raises(MissingField, match="description"):
        _frozen(path)


def test_a_damaged_first_line_hides_no_field(tmp_path: Path) -> None:
    """Which fields there are is learnt from the records that could be read."""
    path = tmp_path / "rows.jsonl"
    record = json.dumps({name: value for name, value in _record().items() if name != "unused"})
    path.write_text("{\n" + record + "\n")
    assert [row.reason for row in _frozen(path)] == [Reason.INPUT_UNENCODABLE, None]


def test_a_file_of_damage_only_is_counted_and_not_called_fieldless(tmp_path: Path) -> None:
    """Where no record could be read, nothing is known of the fields; every line is still a row."""
    path = tmp_path / "rows.jsonl"
    path.write_text("{\n{\n")
    assert [row.reason for row in _frozen(path)] == [Reason.INPUT_UNENCODABLE] * 2


def test_lines_can_be_made_again_from_stored_fields() -> None:
    """Whatever order a reader gives the fields in, the line is the one that was frozen."""
    row = _one()
    fields = {"title": "Cable", "brand": "Acme", "description": "Two metres"}
    assert source_line(0, RowKey("A-1"), fields) == row.line
    assert source_line(3, RowKey(""), {}) == b"[3,null,{}]"


@pytest.mark.parametrize("key", ["k" * 70, "a\nb", "a/b", "😀", "me@shop.example", "a ", "A-1 "])
def test_every_text_is_a_key(key: str) -> None:
    """Nothing is trimmed, folded or refused because of its characters."""
    row = _one(sku=key)
    assert (row.key, row.reason) == (key, None)


def test_hostile_values_do_not_stop_the_run() -> None:
    """Cycles, deep nesting, infinity and huge numbers refuse their own records and nothing else."""
    cycle: list[object] = []
    cycle.append(cycle)
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    hostile: list[Callable[[], object]] = [
        lambda: cycle,
        lambda: deep,
        lambda: float("inf"),
        lambda: 10**5000,
    ]
    rows = _frozen(
        [_record(), *(_record(sku=n, title=make()) for n, make in enumerate(hostile)), _record(sku="last")]
    )
    assert [row.reason for row in rows] == [None, *[Reason.INPUT_UNENCODABLE] * 4, None]
