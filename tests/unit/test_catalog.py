"""The generated catalog: what it is made of, and what a careful reader makes of it."""

from __future__ import annotations

import csv
import re
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest

from batchkit.testing.catalog import COLUMNS, generate, truth, write_csv
from batchkit.testing.catalog_reader import plain_text, read
from batchkit.testing.taxonomy import CATEGORIES, LANGUAGES, TAXONOMY, Category, category_of_source

ROWS = list(generate(20_000, seed=1))


def share(holds: int) -> float:
    return holds / len(ROWS)


def text_of(row: dict[str, str]) -> str:
    return row["title"] + row["description"]


def test_a_seed_names_one_catalog() -> None:
    """The same seed gives the same records, another seed gives others."""
    assert list(generate(500, seed=7)) == list(generate(500, seed=7))
    assert list(generate(500, seed=7)) != list(generate(500, seed=8))


def test_a_longer_catalog_begins_with_the_shorter_one() -> None:
    """Asking for more rows of a seed adds rows at the end."""
    assert list(generate(300, seed=1)) == ROWS[:300]


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_tiny_catalogs_have_as_many_rows_as_asked_for(rows: int) -> None:
    """Zero, one and two rows are catalogs too."""
    assert len(list(generate(rows))) == rows


def test_every_record_has_the_five_columns_as_text() -> None:
    """A record holds exactly the five columns, in order, all of them text that UTF-8 can hold."""
    assert {tuple(row) for row in ROWS} == {COLUMNS}
    for row in ROWS:
        for value in row.values():
            value.encode()


def test_csv_returns_what_was_generated(tmp_path: Path) -> None:
    """Cells with newlines, quotes, separators and formulas survive the file, in order."""
    path = tmp_path / "catalog.csv"
    write_csv(path, 3_000, seed=1)
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == ROWS[:3_000]


def test_memory_does_not_grow_with_the_catalog() -> None:
    """Streaming ten thousand more records needs no more memory than the first thousand."""
    stream = generate(11_000)
    for _ in range(1_000):
        next(stream)
    tracemalloc.start()
    for _ in stream:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_500_000


def test_some_rows_say_nothing_and_some_too_little() -> None:
    """About 5 % of the rows are wholly empty and some 15 % in all are too sparse to classify."""
    assert 0.04 < share(sum(not text_of(row).strip() for row in ROWS)) < 0.06
    assert 0.13 < share(sum(truth(row) is None for row in ROWS)) < 0.18


def test_records_repeat_and_conflict() -> None:
    """Some records are repeated whole, some share a sku with another content, a few have no sku."""
    keyed = [row for row in ROWS if row["sku"]]
    records = Counter(tuple(row.values()) for row in keyed)
    repeats = sum(count - 1 for count in records.values())
    conflicts = len(records) - len({row["sku"] for row in keyed})
    assert 0.002 < share(repeats) < 0.004
    assert 0.0004 < share(conflicts) < 0.002
    assert 0 < len(ROWS) - len(keyed) < 30


@pytest.mark.parametrize(
    "pattern",
    [
        r"0\d{12}",
        r"[a-z]{2}-\d+",
        r".+ ",
        r".+/.+",
        r"\S+ \S+ \S+",
        "\U0001f50c.*",
        r"\S+@supplier\.example",
        r".{80}",
        r"=\d+",
    ],
    ids=[
        "zeros",
        "lower-case",
        "trailing-space",
        "slash",
        "spaces",
        "emoji",
        "e-mail",
        "80-characters",
        "formula",
    ],
)
def test_some_skus_are_odd(pattern: str) -> None:
    """Each kind of odd sku occurs: what a spreadsheet, a slug or a naive id would break."""
    assert any(re.fullmatch(pattern, row["sku"]) for row in ROWS)


def test_some_skus_differ_by_case_or_trailing_space_only() -> None:
    """Keys that only a careless comparison would merge both occur, as different records."""
    skus = {row["sku"] for row in ROWS}
    assert any(sku != sku.lower() and sku.lower() in skus for sku in skus)
    assert any(f"{sku} " in skus for sku in skus)


@pytest.mark.parametrize(
    "pattern",
    [
        r"<ul><li>",
        r"&(nbsp|trade|amp);",
        "\U0001f525|\U0001f69a",
        "\u202e",
        "\u2028",
        "\u0085",
        r"[ÃÐØæ][\x80-\xbf]",
        r"\n",
        r"\r\n",
        r"Ignore all previous instructions",
        r"</row>",
        r"<script>",
        r"(^|\n)=1\+1",
        r"\{title\}",
        r"lol\b",
        r"[\u4e00-\u9fff]",
        r"[\u3040-\u30ff]",
        r"[\u0600-\u06ff]",
        r"[\u0400-\u04ff]",
        r"(?s).{5000}",
    ],
)
def test_every_ugliness_occurs(pattern: str) -> None:
    """Markup, entities, emoji, controls, mojibake, injections, formulas, scripts and long texts occur."""
    assert any(re.search(pattern, row["title"]) or re.search(pattern, row["description"]) for row in ROWS)


def test_language_tags_are_rough() -> None:
    """All languages occur, and some rows are tagged with one that they are not written in."""
    assert {row["lang"] for row in ROWS} == set(LANGUAGES)
    assert any(row["lang"] == "en" and re.search(r"[\u0400-\u04ff]", row["title"]) for row in ROWS)


def test_there_are_forty_categories_and_all_occur() -> None:
    """Every category is the truth of some row, and Adapters stay obscure."""
    counts = Counter(truth(row) for row in ROWS)
    assert len(CATEGORIES) == len(set(CATEGORIES)) == 40
    assert set(counts) == {*CATEGORIES, None}
    assert share(counts["Adapters"]) < 0.02 < share(counts["Chargers"])


def test_source_categories_mostly_agree_with_the_truth() -> None:
    """A supplier's category, where there is one, names the true category nearly always."""
    pairs = [(category_of_source(row["source_category"]), truth(row)) for row in ROWS]
    known = [(named, true) for named, true in pairs if named and true]
    assert len(known) > 0.7 * len(ROWS)
    assert sum(named == true for named, true in known) > 0.99 * len(known)
    assert any(row["source_category"] == "" for row in ROWS)
    assert category_of_source(" adpt ") == "Adapters"
    assert category_of_source("no such thing") is None


@pytest.mark.parametrize("category", TAXONOMY, ids=CATEGORIES)
def test_every_noun_reads_as_its_category(category: Category) -> None:
    """In each of eight languages a title made of a category's noun is read as that category."""
    for nouns in category.nouns.values():
        for noun in nouns:
            assert truth({"title": f"Tavoro {noun}", "description": ""}) == category.name, noun


@pytest.mark.parametrize(
    ("title", "description"),
    [
        ("", ""),
        ("-", "n/a"),
        ("Headphones", ""),
        ("best thing ever lol", ""),
        ("Nordlys Slim 44", ""),
        ("(empty)", "(empty)"),
        ("Kettle", "(empty)"),
        ("&nbsp;", "<div class='desc'></div>"),
    ],
)
def test_a_text_that_says_too_little_has_no_category(title: str, description: str) -> None:
    """Empties, jokes, brands and single words are nothing to classify by."""
    assert truth({"title": title, "description": description}) is None


def test_a_record_with_missing_fields_is_sparse() -> None:
    """Absent fields and None read as empty."""
    assert truth({}) is None
    assert truth({"title": None, "description": None}) is None


def test_the_title_outweighs_the_description() -> None:
    """A phone case that mentions phones and laptops is still a phone case."""
    row = {"title": "Slim phone case", "description": "Fits any phone. Put it beside your laptop or tablet."}
    assert truth(row) == "Phone Cases"


def test_a_reading_falls_back_to_the_best_allowed_category() -> None:
    """Where the first choice is not allowed, the next that the text speaks of is."""
    reading = read("travel adapter", "with cable")
    assert reading.best_of(CATEGORIES) == "Adapters"
    assert reading.best_of({"Cables", "Audio"}) == "Cables"
    assert reading.best_of({"Toys"}) is None


def test_plain_text_drops_markup_entities_and_placeholders() -> None:
    """What a reader sees is the text alone."""
    assert plain_text("<b>Salt</b> &amp; pepper (empty)") == "Salt  & pepper"
