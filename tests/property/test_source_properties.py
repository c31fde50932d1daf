"""What holds for every record, line and file."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batchkit import normal, source
from batchkit.builder import RequestBuilder
from batchkit.contract import Contract
from batchkit.digests import page_digest
from batchkit.ids import RowKey
from batchkit.model import PAGE
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.source import Freezer, source_line
from batchkit.spec import Spec
from batchkit.states import RowEvent
from batchkit.tier import Tier


class Answer(BaseModel):
    summary: str


SPEC = Spec(
    Contract(Answer),
    Prompt("{title} {description}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
    metadata=["brand"],
)
FREEZER = Freezer(SPEC, builder=RequestBuilder(SPEC))
ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]))

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.decimals(),
    st.text(),
    st.dates(),
    st.datetimes(),
    st.times(),
    st.uuids(),
    st.binary(max_size=3),
    st.sets(st.integers(), max_size=2),
    st.builds(object),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.fixed_dictionaries(
    {},
    optional={
        "sku": st.text() | st.integers() | st.none() | st.binary(max_size=2) | st.uuids(),
        "title": VALUES,
        "description": VALUES,
        "brand": VALUES,
        "unused": VALUES,
    },
)


def _stdlib(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


@given(st.lists(RECORDS, max_size=8))
def test_no_record_vanishes_and_every_line_is_canonical(records: list[dict[str, object]]) -> None:
    """Any records whatever become as many rows, in order, whose lines are what the standard library would write."""
    rows = [FREEZER.freeze(position, record) for position, record in enumerate(records)]
    assert [row.position for row in rows] == list(range(len(records)))
    for row in rows:
        position, key, fields = json.loads(row.line)
        assert (
            _stdlib([position, key, fields]) == row.line == source_line(position, RowKey(key or ""), fields)
        )
        assert (position, key or "") == (row.position, row.key)
        assert set(fields) == {"brand", "description", "title"}
        assert (row.reason is None) == (row.event is RowEvent.FROZEN)


@given(RECORDS)
def test_a_record_is_sent_as_it_was_or_refused(record: dict[str, object]) -> None:
    """A row is sendable exactly if its key and all its used values have text, and that text is what is frozen."""
    row = FREEZER.freeze(0, record)
    texts: dict[str, str | None] = {}
    refused = False
    for name in ("brand", "description", "title"):
        try:
            texts[name] = normal.text(record.get(name))
        except normal.Unencodable:
            refused = True
    try:
        key = normal.key_text(record.get("sku"), column="sku", position=0)
    except normal.Unencodable:
        key, refused = "", True
    if refused:
        assert row.reason in {Reason.INPUT_UNENCODABLE, Reason.INPUT_MISSING_KEY}
    elif key:
        assert (row.reason, json.loads(row.line)) == (None, [0, key, texts])
    else:
        assert (row.reason, json.loads(row.line)) == (Reason.INPUT_MISSING_KEY, [0, None, texts])


@given(
    st.one_of(
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.decimals(allow_nan=False, allow_infinity=False),
        st.uuids(),
        st.dates(),
        st.datetimes(),
        st.times(),
    )
)
def test_no_value_is_changed_on_its_way_to_text(value: Any) -> None:
    """The text of a value gives the value back."""
    text = normal.text(value)
    assert text is not None
    readers: dict[type, Callable[[str], object]] = {
        int: int,
        float: float,
        Decimal: Decimal,
        UUID: UUID,
        date: date.fromisoformat,
        datetime: datetime.fromisoformat,
        time: time.fromisoformat,
    }
    back = readers[type(value)](text)
    assert back == value
    assert str(back) == str(value)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.tuples(ENCODABLE.filter(bool), CELLS), max_size=6), st.sampled_from(["\n", "\r\n"]))
def test_a_csv_file_gives_back_what_was_written(pairs: list[tuple[str, str]], newline: str) -> None:
    """Every text that the csv module can write is read as it was, line breaks and quotation marks included."""
    pairs = [(key.replace("\0", ""), cell) for key, cell in pairs if key.replace("\0", "")]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerow(("sku", "title"))
    writer.writerows(pairs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.csv")
        path.write_bytes(text.getvalue().encode())
        assert [tuple(record.values()) for record in source.csv(path)] == pairs


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=5), st.booleans())
def test_a_jsonl_file_is_read_as_the_standard_library_reads_it(
    records: list[dict[str, Any]], ascii_only: bool
) -> None:
    """The faster reader and the standard library agree on every line, so a receipt can be checked with the latter."""
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in records]
    raw = "".join(line + "\n" for line in lines).encode("utf-8", "replace")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes(raw)
        read = list(source.jsonl(path))
    expected = [json.loads(line) for line in raw.split(b"\n") if line]
    assert repr(read) == repr(expected)


@given(st.binary(max_size=200))
def test_any_bytes_at_all_are_records_or_a_usage_error(raw: bytes) -> None:
    """A JSON Lines file of rubbish has as many records as lines that are not blank."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.jsonl")
        path.write_bytes(raw)
        lines = [line for line in raw.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip(b" \t\r\n")]
        assert len(list(source.jsonl(path))) == len(lines)


@given(st.integers(0, 3 * PAGE))
def test_freezing_again_gives_the_same_digests(count: int) -> None:
    """The same records have the same page digests, and one changed text changes the digest of its page only."""

    def pages(changed: int) -> list[str]:
        records = (
            {"sku": n, "title": "b" if n == changed else "a", "description": None, "brand": None}
            for n in range(count)
        )
        return [page_digest(row.line for row in page) for page in FREEZER.pages(records)]

    first = pages(-1)
    assert first == pages(-1)
    if count:
        other = pages(count - 1)
        assert other[:-1] == first[:-1]
        assert other[-1] != first[-1]
