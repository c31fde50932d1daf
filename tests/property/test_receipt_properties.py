"""Whatever a file holds: frozen, counted, and made again from the file by a program that knows no batchkit."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rig import Label
from verifying import verify_here

from batchkit.builder import RequestBuilder
from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.model import NewRun, Run, Seal, Where
from batchkit.prompt import Prompt
from batchkit.receipt import write_receipt
from batchkit.source import Freezer, records
from batchkit.spec import Spec
from batchkit.states import Outcome
from batchkit.storage.sqlite import SQLiteStore
from batchkit.tier import Tier

SPEC: Spec[Any] = Spec(
    Contract(Label),
    Prompt("{title} {text}"),
    key="sku",
    metadata=["more"],
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
)
BUILDER = RequestBuilder(SPEC)

ODD = [
    "\u2028",
    "\u2029",
    "\x85",
    "\ufeff",
    "\u202e",
    "\x00",
    "\r",
    "\n",
    "\r\n",
    '"',
    ",",
    "\x1c",
    "\x7f",
    "é",
    "𝄞",
]
TEXT = st.one_of(st.text(max_size=6), st.lists(st.sampled_from([*ODD, "a", " "]), max_size=5).map("".join))
# The csv module of Python 3.10 cannot write U+0000, which stands in the damaged lines anyway.
CELL = TEXT.map(lambda text: text.replace("\0", "") if sys.version_info < (3, 11) else text)
NUMBERS = st.one_of(
    st.integers(),
    st.integers(min_value=10**18),
    st.floats(),
    st.sampled_from([-0.0, 1e22, 1e16, 5e-324, 0.1, 1e100]),
)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT, st.text(st.characters(codec=None), max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
KEY = st.one_of(
    st.none(), st.integers(0, 9), st.integers(), st.sampled_from(["", " ", "a", "a ", "007", "\ud800"]), TEXT
)
FIELDS = ("title", "text", "more", "unused")


def frozen(path: Path) -> tuple[SQLiteStore, Run]:
    store = SQLiteStore()
    fields = sorted(SPEC.used_fields)
    noted = {"kind": path.suffix, "file": path.name, "key": SPEC.key, "fields": fields}
    run, _ = store.open_run(NewRun(name="r", spec=SPEC.fingerprint, options={"source": noted}))
    lease = store.acquire(run.id, "test", 60.0)
    assert lease is not None
    for page in Freezer(SPEC, builder=BUILDER).pages(records(path)):
        store.freeze(lease, page)
    store.freeze(lease, [], seal=Seal(on_duplicate="quarantine"))
    return store, store.runs(name="r")[0]


def check(name: str, body: bytes) -> None:
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / name
        path.write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
        store, run = frozen(path)
        write_receipt(store, run, Path(made) / "receipt")
        code, said = verify_here(Path(made) / "receipt", "--source", path)
        left = len(store.page(run.id, Where(outcomes=frozenset({Outcome.OPEN}))))
        assert code == (75 if left else 0), said
        assert "\nVERIFIED" in said
        assert "FAILED" not in said


@given(
    st.lists(st.tuples(KEY, st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON))), max_size=6),
    st.lists(
        st.sampled_from(
            [
                "",
                "  ",
                "[1]",
                "null",
                "{",
                '{"sku": }',
                "\x1c",
                '{"sku": "z"}\x0b',
                "\xff",
                '{"sku": "k", "title": "\xff"}',
            ]
        ),
        max_size=3,
    ),
    st.sampled_from(["rows.jsonl", "rows.jsonl.gz", "rows.JSONL"]),
    st.booleans(),
)
def test_any_json_lines_verify(
    rows: list[tuple[Any, dict[str, Any]]], damage: list[str], name: str, mark: bool
) -> None:
    """Any JSON, in any field, missing, repeated or damaged, verifies from the file it was frozen from."""
    whole = {"sku": "first", "title": "t", "text": "x", "more": None}
    lines = [json.dumps(whole).encode()]
    lines += [
        json.dumps({"sku": key, **fields}, ensure_ascii=bool(n % 2)).encode("utf-8", "surrogatepass")
        for n, (key, fields) in enumerate(rows)
    ]
    lines += [line.encode("latin-1") for line in damage]
    check(name, b"\xef\xbb\xbf" * mark + b"\n".join(lines))


@given(
    st.lists(st.lists(CELL, min_size=0, max_size=6), max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["rows.csv", "rows.csv.gz", "rows.CSV"]),
    st.sampled_from(
        [b"", b'a,b"c,d\n', b'"a"b,c\n', b"\xff,\xfe\n", b"a,\x00\n", b"\n\n", b"1,2,3,4,5,6,7\n"]
    ),
)
def test_any_csv_verifies(rows: list[list[str]], quoting: Any, end: str, name: str, damage: bytes) -> None:
    """Any text in any cell, quoted newlines, wrong quoting, bytes that are no text: it verifies from the file."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=quoting, lineterminator=end)
    writer.writerow(["sku", *FIELDS])
    writer.writerows(rows)
    check(name, text.getvalue().encode() + damage)


@pytest.mark.parametrize(
    "field",
    [
        "1e400",
        "-1e999",
        "NaN",
        '[NaN, {"a": Infinity}]',
        "-0",
        "-0.0",
        "1" * 4299,
        "1" * 4301,
        "[" * 100 + "]" * 100,
        "[" * 101 + "]" * 101,
        '{"a": ' * 99 + "[]" + "}" * 99,
        "[" * 150 + "]" * 150,
        "[" * 5000 + "]" * 5000,
        "[" + "1," * 99_998 + "1]",
        "[" + "1," * 99_999 + "1]",
        '"\\ud83d\\ude00"',
        '"\\ud83d"',
        '["\\udc00"]',
        '{"b": 1, "a": [1.0, 1e5, 123456789012345678901234567890, 0.1e-7], "a": 2}',
        "01",
        "1.",
        "tru",
        '"\t"',
    ],
)
@pytest.mark.parametrize("used", [True, False])
def test_json_at_its_limits_verifies(field: str, used: bool) -> None:
    """Numbers beyond every range, nesting and size at and over the limits, verify; also in a field nobody uses."""
    name = "title" if used else "unused"
    line = f'{{"sku": "k1", "text": "x", "more": null, "title": 1, "{name}": {field}}}'
    check("rows.jsonl", f'{{"sku": "k0", "title": "", "text": "", "more": ""}}\n{line}\n'.encode())


def test_a_csv_without_an_end_is_not_frozen() -> None:
    """A quoted cell that never ends is refused before there is anything to verify."""
    with tempfile.TemporaryDirectory() as made:
        path = Path(made) / "rows.csv"
        path.write_text('sku,title,text,more\na,"b\n', "utf-8")
        with pytest.raises(UsageError, match="never ends"):
            frozen(path)
