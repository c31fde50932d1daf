"""What rows can be taken from, and what is refused by name."""

from __future__ import annotations

import csv as stdlib_csv
import gzip
import io
import json
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchkit import source
from batchkit.errors import UsageError

ROWS = [{"sku": "1", "title": "a"}, {"sku": "2", "title": "b"}]


def _dicts(taken: source.Source) -> list[dict[str, object]]:
    return [dict(record) for record in taken]


class Pandas:
    """What this library uses of a pandas frame."""

    columns = ("sku", "title")

    def itertuples(self, *, index: bool, name: None) -> Iterator[tuple[str, str]]:
        assert index is False
        assert name is None
        return iter([("1", "a"), ("2", "b")])


class Polars:
    """What this library uses of a polars frame."""

    columns = ("sku", "title")

    def iter_rows(self) -> Iterator[tuple[str, str]]:
        return iter([("1", "a"), ("2", "b")])


class Lazy:
    """What this library uses of a polars LazyFrame."""

    def collect_batches(self, *, chunk_size: int) -> Iterator[Polars]:
        assert chunk_size > 0
        return iter([Polars()])


class Column:
    def __init__(self, values: list[str]) -> None:
        self.values = values

    def to_pylist(self) -> list[str]:
        return self.values


class Batch:
    """What this library uses of an Arrow record batch."""

    def __init__(self, first: int, count: int) -> None:
        self.num_rows = count
        self.schema = type("Schema", (), {"names": ["sku", "title"]})
        self.columns = [
            Column([str(first + n) for n in range(count)]),
            Column([chr(96 + first + n) for n in range(count)]),
        ]
        self.first = first

    def slice(self, start: int, length: int) -> Batch:
        return Batch(self.first + start, min(length, self.num_rows - start))


class Arrow:
    """What this library uses of an Arrow table."""

    def to_batches(self) -> list[Batch]:
        return [Batch(1, 1), Batch(2, 1)]


@pytest.mark.parametrize(
    ("rows", "kind"),
    [
        (ROWS, "rows"),
        (tuple(ROWS), "rows"),
        (Pandas(), "frame"),
        (Polars(), "frame"),
        (Lazy(), "frame"),
        (Arrow(), "frame"),
        (lambda: ROWS, "callable"),
        (lambda: iter(ROWS), "callable"),
        (lambda: source.rows(ROWS), "callable"),
        (Pandas, "callable"),
    ],
)
def test_rows_are_taken_twice_from_what_can_give_them_twice(rows: object, kind: str) -> None:
    """Lists, frames and functions give the same records on every reading."""
    taken = source.rows(rows)
    assert taken.kind == kind
    assert taken.again
    assert _dicts(taken) == ROWS
    assert _dicts(taken) == ROWS


def test_a_generator_gives_its_rows_once_and_says_so() -> None:
    """A second reading would silently be empty, so it is an error that names the way out."""
    taken = source.rows(record for record in ROWS)
    assert not taken.again
    assert _dicts(taken) == ROWS
    with pytest.raises(UsageError, match="lambda"):
        _dicts(taken)


class Stream:
    """An Arrow stream that can be read once."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        raise NotImplementedError

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> object:
        raise StopIteration


def test_an_arrow_stream_gives_its_rows_once() -> None:
    """A stream is no table: read a second time it would be empty."""
    taken = source.rows(Stream())
    assert (taken.kind, taken.again) == ("frame", False)


def test_a_source_is_taken_as_it_is() -> None:
    """What is a source already is not wrapped again."""
    taken = source.rows(ROWS)
    assert source.rows(taken) is taken
    assert source.records is source.rows


class _Later:
    def __aiter__(self) -> AsyncIterator[dict[str, str]]:
        return _async_rows()


async def _async_rows() -> AsyncIterator[dict[str, str]]:
    yield ROWS[0]


async def _coroutine() -> list[dict[str, str]]:
    return ROWS


@pytest.mark.parametrize(
    ("rows", "named"),
    [
        ("no such path", r"'no such path' is no path to a \.csv, \.jsonl or \.parquet file"),
        ("rows.xlsx", "is no path to"),
        ("missing.csv", "there is no file 'missing.csv'"),
        (Path("missing.jsonl"), "there is no file 'missing.jsonl'"),
        ("postgresql:///shop", r"source\.query\(where, sql\)"),
        ("select * from products", r"source\.query\(where, sql\)"),
        (ROWS[0], r"one dict: pass a list of records, \[record\]"),
        (b"sku,title", "cannot be bytes"),
        (_Later(), r"asynchronous \(_Later\)"),
        (_async_rows, "asynchronous"),
        (_coroutine, "asynchronous"),
        (3, "cannot be a int"),
        (None, "cannot be a NoneType"),
        (2.5, "cannot be a float"),
    ],
)
def test_what_holds_no_rows_is_refused_by_name(
    rows: object, named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal says what was given and what to give instead."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=named):
        source.rows(rows)


def test_a_coroutine_is_refused_and_closed() -> None:
    """It is told apart from rows, and leaves no warning that nobody awaited it."""
    with pytest.raises(UsageError, match="coroutine: await it"):
        source.rows(_coroutine())


def test_a_function_that_gives_nothing_is_refused() -> None:
    """A forgotten return is told apart from an empty source."""
    with pytest.raises(UsageError, match="gave None"):
        _dicts(source.rows(lambda: None))


def test_items_that_are_no_records_are_refused_from_the_first_row() -> None:
    """A list of tuples is a mistake of the whole source, found at its first item."""
    with pytest.raises(UsageError, match="row 0 is a tuple"):
        _dicts(source.rows([("1", "a")]))


def test_one_item_that_is_no_record_keeps_its_place_among_records() -> None:
    """An item of another type among records is damage at its position, not the end of the run."""
    first, second, third = source.rows([ROWS[0], None, ROWS[1]])
    assert isinstance(second, source.Damaged)
    assert second.detail == "the record is a NoneType, not a mapping"
    assert (first, third) == (ROWS[0], ROWS[1])


def _write(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz", "ROWS.CSV"])
def test_csv_cells_are_text_and_leading_zeros_survive(name: str, tmp_path: Path) -> None:
    """Nothing in a CSV file is guessed to be a number."""
    path = _write(tmp_path / name, "sku,title\r\n00123,1.50\r\n")
    taken = source.rows(str(path))
    assert (taken.kind, taken.path, taken.fields) == ("csv", path, ("sku", "title"))
    assert _dicts(taken) == [{"sku": "00123", "title": "1.50"}]
    assert _dicts(taken) == _dicts(source.csv(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sku,title\n", []),
        ("sku,title\n1,a", [{"sku": "1", "title": "a"}]),
        ("\ufeffsku,title\n1,a\n", [{"sku": "1", "title": "a"}]),
        ("\n\nsku,title\n\n1,a\n\r\n\n2,b\n\n", ROWS),
        ('sku,title\n1,"a\nb\r\nc"\n', [{"sku": "1", "title": "a\nb\r\nc"}]),
        ('sku,title\n1,"say ""a"""\n', [{"sku": "1", "title": 'say "a"'}]),
        ('sku,title\n1,5" disk\n', [{"sku": "1", "title": '5" disk'}]),
        ("sku,title\r1,a\r2,b\r", ROWS),
        (
            "sku,title\n1,a\u2028b\u2029\x85\x0b\x0c\x1c\n",
            [{"sku": "1", "title": "a\u2028b\u2029\x85\x0b\x0c\x1c"}],
        ),
        ("sku,title\n1\n2,b\n", [{"sku": "1", "title": None}, {"sku": "2", "title": "b"}]),
        ("sku,title\n1,\n", [{"sku": "1", "title": ""}]),
        ("sku,title\n   \n", [{"sku": "   ", "title": None}]),
    ],
)
def test_csv_records_are_what_the_file_says(
    text: str, expected: list[dict[str, object]], tmp_path: Path
) -> None:
    """Blank lines are no records, line breaks inside quotes are text, and missing last cells are missing values."""
    assert _dicts(source.csv(_write(tmp_path / "rows.csv", text))) == expected


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b"9,a,b,c", "4 cells, header has 2"),
        (b'9,"a"b', "the CSV record at line 3 cannot be read: ',' expected after '\"'"),
    ],
)
def test_a_damaged_csv_record_keeps_its_place(line: bytes, detail: str, tmp_path: Path) -> None:
    """One bad record is one record with a reason; those around it are read as ever."""
    first, bad, last = source.csv(_write(tmp_path / "rows.csv", b"sku,title\n1,a\n" + line + b"\n2,b\n"))
    assert isinstance(bad, source.Damaged)
    assert bad.detail == detail
    assert [first, last] == ROWS


def test_bytes_that_are_no_text_hurt_their_own_cell_only(tmp_path: Path) -> None:
    """The cell holds lone surrogates in place of such bytes and of NUL, which freezing refuses for that record."""
    raw = b'sku,title\n1,caf\xe9\n2,"a\nb\0\nc"\n3,c\n'
    assert [record["title"] for record in source.csv(_write(tmp_path / "rows.csv", raw))] == [
        "caf\udce9",
        "a\nb\udc00\nc",
        "c",
    ]


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"sku,title,sku\n1,a,2\n", r"the header has 1 column name\(s\) more than once: 'sku'"),
        ("sku,title\n1,a\n".encode("utf-16"), "UTF-16"),
        (b'sku,title\n1,a\n2,"b\n3,c\n', "in the record at line 3 never ends"),
    ],
)
def test_a_csv_file_whose_records_cannot_be_told_apart_is_refused_whole(
    raw: bytes, named: str, tmp_path: Path
) -> None:
    """Where the number of records is not certain, no record of the file is taken for granted."""
    with pytest.raises(UsageError, match=named):
        _dicts(source.csv(_write(tmp_path / "rows.csv", raw)))


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.jsonl.gz"])
def test_a_gzip_file_cut_short_is_refused(name: str, tmp_path: Path) -> None:
    """The records behind the cut would otherwise vanish."""
    whole = gzip.compress(b"sku,title\n" + b"".join(b'{"sku":"%d"}\n' % n for n in range(5000)))
    path = tmp_path / name
    path.write_bytes(whole[:-200])
    with pytest.raises(UsageError, match="cut short"):
        _dicts(source.rows(path))


def test_a_cell_longer_than_the_csv_module_allows_by_default_is_read(tmp_path: Path) -> None:
    """The limit of 128 KiB is raised, and never lowered for others."""
    text = "x" * 300_000
    assert _dicts(source.csv(_write(tmp_path / "rows.csv", f"sku,title\n1,{text}\n"))) == [
        {"sku": "1", "title": text}
    ]
    assert stdlib_csv.field_size_limit() > 300_000


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_jsonl_gives_one_record_per_line(name: str, tmp_path: Path) -> None:
    """Lines end at newline bytes only; blank lines, a mark at the start and a missing newline at the end are fine."""
    records: list[dict[str, object]] = [{"sku": 1, "title": "a\u2028\u2029\x85"}, {"sku": "2", "title": None}]
    lines = [json.dumps(record, ensure_ascii=False) for record in records]
    path = _write(tmp_path / name, "\ufeff" + lines[0] + "\r\n\n   \n" + lines[1])
    assert _dicts(source.rows(path)) == records


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        (b'{"sku": 1', "line 2 is not JSON"),
        (b'{"sku": 1} {"sku": 2}', "line 2 is not JSON"),
        (b"[1]", "line 2 is a JSON array, not an object"),
        (b"null", "line 2 is a JSON null, not an object"),
        (b"12", "line 2 is a JSON number, not an object"),
        (b'"a"', "line 2 is a JSON string, not an object"),
        (b'{"sku": ' + b"1" * 5000 + b"}", "line 2 is not JSON"),
        (b'{"sku": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "line 2 is not JSON"),
    ],
)
def test_a_damaged_jsonl_line_keeps_its_place(line: bytes, detail: str, tmp_path: Path) -> None:
    """One unreadable line is one record with a reason; those around it are read as ever."""
    path = _write(
        tmp_path / "rows.jsonl", b'{"sku":"1","title":"a"}\n' + line + b'\n{"sku":"2","title":"b"}\n'
    )
    first, bad, last = source.jsonl(path)
    assert isinstance(bad, source.Damaged)
    assert bad.detail == detail
    assert [first, last] == ROWS


def test_jsonl_with_surrogates_or_bad_bytes_gives_them_to_their_field(tmp_path: Path) -> None:
    """Whether the record suffers depends on whether that field is used."""
    path = _write(tmp_path / "rows.jsonl", b'{"sku":"1","x":"\\ud800"}\n{"sku":"2","x":"\xff"}\n')
    assert _dicts(source.jsonl(path)) == [{"sku": "1", "x": "\ud800"}, {"sku": "2", "x": "\udcff"}]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE products (sku TEXT, title TEXT)")
        connection.executemany("INSERT INTO products VALUES (?, ?)", [("1", "a"), ("2", "b")])
        connection.commit()
    return path


SQL = "SELECT sku, title FROM products ORDER BY sku"


@pytest.mark.parametrize("where", [str, lambda path: path, lambda path: f"sqlite:///{path}"])
def test_a_query_reads_an_sqlite_file(where: Callable[[Path], Any], shop: Path) -> None:
    """A path or a URL is opened for each reading, and only for reading."""
    taken = source.query(where(shop), SQL)
    assert (taken.kind, taken.again) == ("query", True)
    assert _dicts(taken) == ROWS
    assert _dicts(taken) == ROWS


def test_a_query_takes_parameters(shop: Path) -> None:
    """Values go to the driver as parameters, by position or by name."""
    assert _dicts(source.query(shop, "SELECT sku FROM products WHERE title = ?", ["b"])) == [{"sku": "2"}]
    assert _dicts(source.query(shop, "SELECT sku FROM products WHERE title = :t", {"t": "a"})) == [
        {"sku": "1"}
    ]


def test_a_query_cannot_write(shop: Path) -> None:
    """The file is opened read-only."""
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        _dicts(source.query(shop, "DELETE FROM products"))


def test_a_query_creates_no_database(tmp_path: Path) -> None:
    """A mistyped path is an error and not a new, empty file."""
    with pytest.raises(UsageError, match="there is no SQLite database"):
        _dicts(source.query(tmp_path / "shpo.db", SQL))
    assert list(tmp_path.iterdir()) == []


def test_a_query_through_a_connection_leaves_it_open(shop: Path) -> None:
    """The caller's connection stays the caller's."""
    with closing(sqlite3.connect(shop)) as connection:
        assert _dicts(source.query(connection, SQL)) == ROWS
        assert connection.execute("SELECT count(*) FROM products").fetchone() == (2,)


@pytest.mark.parametrize("factory", [None, sqlite3.Row])
def test_a_cursor_gives_its_rows_once(factory: Any, shop: Path) -> None:
    """A cursor is read as it stands, whatever rows it makes, and not twice."""
    with closing(sqlite3.connect(shop)) as connection:
        connection.row_factory = factory
        taken = source.rows(connection.execute(SQL))
        assert (taken.kind, taken.again) == ("cursor", False)
        assert _dicts(taken) == ROWS
        with pytest.raises(UsageError, match="once"):
            _dicts(taken)


def test_a_cursor_on_which_nothing_was_executed_is_refused(shop: Path) -> None:
    """It has no rows, which is not the same as zero rows."""
    with closing(sqlite3.connect(shop)) as connection, pytest.raises(UsageError, match="execute a SELECT"):
        _dicts(source.rows(connection.cursor()))


def test_a_query_with_two_columns_of_one_name_is_refused(shop: Path) -> None:
    """One of the two would hide the other."""
    with pytest.raises(UsageError, match="'sku'"):
        _dicts(source.query(shop, "SELECT sku, title AS sku FROM products"))


def test_a_query_on_an_unknown_kind_of_database_names_the_way(shop: Path) -> None:
    """Other databases are read through a connection of their own driver; the address is not repeated."""
    with pytest.raises(UsageError, match="pass a DB-API connection") as caught:
        _dicts(source.query("mysql://user:secret@host/shop", SQL))
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(source.query("mysql://user:secret@host/shop", SQL))


class PostgresCursor:
    """What this library uses of a psycopg cursor."""

    description = (("sku",), ("title",))

    def __init__(self) -> None:
        self.executed: list[tuple[Any, ...]] = []
        self.left = [("1", "a"), ("2", "b")]
        self.closed = False

    def execute(self, *call: Any) -> None:
        self.executed.append(call)

    def fetchmany(self, size: int) -> list[tuple[str, str]]:
        page, self.left = self.left[:size], self.left[size:]
        return page

    def close(self) -> None:
        self.closed = True


class PostgresConnection:
    """What this library uses of a psycopg connection."""

    __module__ = "psycopg"

    def __init__(self, *, autocommit: bool = False) -> None:
        self.autocommit = autocommit
        self.asked: dict[str, Any] = {}
        self.made = PostgresCursor()

    def cursor(self, **options: Any) -> PostgresCursor:
        self.asked = options
        return self.made


@pytest.mark.parametrize("autocommit", [False, True])
def test_postgres_is_read_through_a_named_cursor(autocommit: bool) -> None:
    """Only a named cursor leaves the result at the server; outside a transaction it must be held as well."""
    connection = PostgresConnection(autocommit=autocommit)
    assert _dicts(source.query(connection, "select 'a%'")) == ROWS
    assert connection.asked == {"name": "batchkit_source", "withhold": autocommit}
    # Without parameters none are passed, so that a driver leaves per cent signs alone.
    assert connection.made.executed == [("select 'a%'",)]
    assert connection.made.closed


def test_what_an_extra_would_read_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package is not installed, the error is the command that installs it."""
    for name in ("psycopg", "pyarrow"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UsageError, match=r'pip install "message-batchkit\[postgres\]"'):
        _dicts(source.query("postgresql:///shop", SQL))
    path = _write(tmp_path / "rows.parquet", b"PAR1")
    taken = source.rows(path)
    assert (taken.kind, taken.path) == ("parquet", path)
    with pytest.raises(UsageError, match=r'pip install "message-batchkit\[dataframe\]"'):
        _dicts(taken)
    stream = type("Relation", (), {"__arrow_c_stream__": lambda self, requested_schema=None: None})()
    with pytest.raises(UsageError, match=r"message-batchkit\[dataframe\]"):
        _dicts(source.rows(stream))


def test_a_dict_reader_is_a_generator_like_any_other() -> None:
    """The standard library's reader of odd CSV dialects can be handed over through a function."""
    taken = source.rows(lambda: stdlib_csv.DictReader(io.StringIO("sku;title\n1;a\n2;b\n"), delimiter=";"))
    assert _dicts(taken) == ROWS
    assert _dicts(taken) == ROWS
