"""The values of a promotion, the mapping of fields to columns, and SQL made of checked parts."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.errors import UsageError
from batchkit.ids import Digest
from batchkit.targets import Json, Promotion, RolledBack, Selection
from batchkit.targets.mapping import Mapped, json_text, resolve, value_of
from batchkit.targets.postgres import PostgresTarget
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.targets.sqltext import Sql, identifier, joined, sql

PROMOTION = Promotion(
    id=3,
    target="sqlite:catalog.db#products",
    run="nightly",
    receipt=Digest("d" * 64),
    at=1.0,
    written=5,
    inserted=2,
    unchanged=4,
    conflict=3,
    absent=2,
    held_back=1,
)


def test_staged_is_the_sum_of_the_kinds() -> None:
    """Inserted rows are among the written, so they are not counted twice."""
    assert PROMOTION.staged == 15


def test_promotion_prints_its_equation() -> None:
    """A printed promotion shows the whole equation."""
    text = "staged 15 = written 5 + unchanged 4 + conflict 3 + absent 2 + held back 1"
    assert str(PROMOTION) == f"promotion 3 of nightly to sqlite:catalog.db#products: {text}"


def test_promotion_as_json() -> None:
    """A promotion's facts are JSON-able and hold neither the target nor lists of keys."""
    facts = json.loads(json.dumps(PROMOTION.to_dict()))
    assert set(facts) == {
        "id", "target", "run", "receipt", "at", "written", "inserted", "unchanged", "conflict", "absent", "held_back",
        "rolled_back_at",
    }  # fmt: skip
    assert facts["written"] == 5


def test_rollback_prints_what_it_did() -> None:
    """A printed rollback shows its figures, or that there was nothing to do."""
    undone = RolledBack(promotions=(4, 3), restored=2, deleted=1, conflicts=("a",))
    assert str(undone) == "rolled back 4, 3: restored 2, deleted 1, left as somebody changed them 1"
    assert str(RolledBack(promotions=())) == "nothing to roll back"


@given(st.lists(st.text(max_size=5), max_size=5), st.lists(st.text(max_size=5), max_size=5))
def test_selections_differ_where_keys_do(first: list[str], second: list[str]) -> None:
    """Two selections are the same exactly if they hold the same keys in the same order."""

    def digest(keys: list[str]) -> str:
        selection = Selection()
        for key in keys:
            selection.add(key)
        return selection.digest

    assert (digest(first) == digest(second)) == (first == second)
    assert digest([]) == ""


def test_selections_keep_keys_apart() -> None:
    """Keys that run together to the same text are other keys."""
    first, second = Selection(), Selection()
    first.add("ab")
    first.add("c")
    second.add("a")
    second.add("bc")
    assert first.digest != second.digest


def test_without_a_map_fields_go_to_their_names() -> None:
    """Each field goes to the column of its name, in the contract's order."""
    assert resolve(None, ["b", "a"]) == (Mapped("b", "b"), Mapped("a", "a"))


def test_with_a_map_only_named_fields_go() -> None:
    """The map says which fields go, the contract in which order."""
    columns: dict[str, str | Json] = {"c": Json("cc"), "a": "aa"}
    assert resolve(columns, ["a", "b", "c"]) == (Mapped("a", "aa"), Mapped("c", "cc", True))


def test_map_of_an_unknown_field() -> None:
    """A field that the contract does not have is named with those it has."""
    with pytest.raises(UsageError, match=r"'z'.*a, b"):
        resolve({"z": "a"}, ["a", "b"])


@pytest.mark.parametrize(
    ("value", "plain", "as_json"),
    [
        (None, None, None),
        ("x", "x", '"x"'),
        (1, 1, "1"),
        (True, 1, "true"),
        (1.5, 1.5, "1.5"),
        (["é", 1], '["é",1]', '["é",1]'),
        ({"b": 1, "a": None}, '{"b":1,"a":null}', '{"b":1,"a":null}'),
    ],
)
def test_forms_of_a_value(value: Any, plain: Any, as_json: Any) -> None:
    """Scalars go as they are, lists and objects as JSON text; Json makes JSON text of all but NULL."""
    for form, mapped in ((plain, Mapped("f", "c")), (as_json, Mapped("f", "c", True))):
        assert value_of(mapped, {"f": value}) == form
        assert type(value_of(mapped, {"f": value})) is type(form)


@pytest.mark.parametrize(
    ("name", "text"),
    [("a", '"a"'), ('a"b', '"a""b"'), ('";--', '""";--"'), ("select", '"select"'), ("{x}", '"{x}"')],
)
def test_identifiers_are_quoted(name: str, text: str) -> None:
    """A name stays one name, whatever it holds; braces in it are not filled."""
    assert identifier(name) == text
    assert sql("SELECT {c}, {c}", c=identifier(name)) == f"SELECT {text}, {text}"


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_names_that_no_database_takes(name: str) -> None:
    """An empty name and one with a NUL are refused."""
    with pytest.raises(UsageError):
        identifier(name)


def test_parts_are_joined() -> None:
    """Parts are joined by a literal."""
    assert joined(" AND ", [Sql("a"), Sql("b")]) == "a AND b"


def test_json_text_has_a_word_for_everything_or_refuses() -> None:
    """A text that spells NaN is a text; a number that is none has no JSON text."""
    assert json_text(["NaN", -1.5, {"ключ": None}]) == '["NaN",-1.5,{"ключ":null}]'
    for value in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="JSON"):
            json_text([value])


@pytest.mark.parametrize(("target", "where"), [(SQLiteTarget, "catalog.db"), (PostgresTarget, "dbname=shop")])
@pytest.mark.parametrize(
    ("columns", "fix"),
    [
        (["category", "score"], "columns={'category': 'category', 'score': 'score'}"),
        (("category",), "columns={'category': 'category'}"),
        ("category", "columns={'category': 'category'}"),
    ],
)
def test_columns_that_are_no_mapping_are_named(target: Any, where: str, columns: Any, fix: str) -> None:
    """A list of columns, a tuple or one name is refused with the mapping that was meant."""
    with pytest.raises(UsageError, match=re.escape(fix)):
        target(where, "products", "sku", columns=columns)
