"""What a prompt sends, and what it refuses."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.errors import MissingField, UsageError
from batchkit.prompt import Example, Prompt


class Answer(BaseModel):
    category: Literal["Audio", "Größe"] | None
    tags: list[Literal["new", "old"]]
    note: str


SHAPE = Contract(Answer)


def test_a_row_is_filled_and_fenced() -> None:
    """A row's text stands between tags that carry the batch's nonce; missing and blank values show as missing."""
    prompt = Prompt("Title: {title}\nBrand: {brand}, {brand}\nText: {text}")
    text = prompt.render({"title": "A", "brand": None, "text": " \n"}, nonce="abcd2345")
    assert text == "<record-abcd2345>\nTitle: A\nBrand: (empty), (empty)\nText: (empty)\n</record-abcd2345>"
    assert prompt.fields == ("title", "brand", "text")


def test_missing_is_a_choice() -> None:
    """What stands for a missing value is the user's word."""
    assert Prompt("{a}", missing="-").fill({"a": None}) == "-"
    assert Prompt("{a}", missing="").fill({"a": ""}) == ""


@pytest.mark.parametrize("value", ["{other}", "{{x}}", "{a.__class__}", "%(a)s", "${a}", "{0}", "\\{a}"])
def test_values_are_never_expanded(value: str) -> None:
    """A value that looks like a template stays as it is."""
    assert Prompt("{a}|{other}").fill({"a": value, "other": "SECRET"}) == f"{value}|SECRET"


@pytest.mark.parametrize(
    "template",
    [
        "{}",
        "{a.b}",
        "{a.__class__}",
        "{a[0]}",
        "{a!r}",
        "{a:>10}",
        "{",
        "}",
        "{a",
        "a}",
        "{ a}",
        "{a }",
        "{{a}",
        "{a\n}",
    ],
)
def test_only_plain_names_are_templates(template: str) -> None:
    """Attribute access, indexes, conversions, formats and loose braces are refused when the prompt is made."""
    with pytest.raises(UsageError, match=r"\{name\} only"):
        Prompt(template)


def test_braces_can_be_doubled() -> None:
    """Doubled braces are braces; names may hold spaces, hyphens and any letters."""
    prompt = Prompt("{{x}} {Product Name} {größe-1} {{{a}}}")
    assert prompt.fields == ("Product Name", "größe-1", "a")
    assert prompt.fill({"Product Name": "P", "größe-1": "G", "a": "A"}) == "{x} P G {A}"


def test_a_field_that_is_not_there_is_named() -> None:
    """A template over a row without its field names both."""
    with pytest.raises(MissingField, match=r"\{descripton\}; the row has description, title"):
        Prompt("{descripton}").fill({"title": "", "description": ""})


def test_the_static_part_says_all_that_rows_share() -> None:
    """Instructions, the fence, allowed values, nested ones too, and examples in their order stand in the static part."""
    prompt = Prompt("T: {t}", system="  Be brief.\n").with_examples(
        Example({"t": "one"}, {"category": "Audio", "tags": [], "note": ""}),
        Example({"t": None}, Answer(category=None, tags=["old"], note="ü"), key="k"),
    )
    text = prompt.static(SHAPE)
    assert text.startswith("Be brief.\n\nOne record follows between <record-ID> and </record-ID>")
    assert 'Allowed values of category: "Audio", "Größe", null.' in text
    assert 'Allowed values of tags[]: "new", "old".' in text
    assert "Its fields, in this order: category, tags, note." in text
    first = text.index('<record-example>\nT: one\n</record-example>\nAnswer: {"category": "Audio"')
    second = text.index(
        '<record-example>\nT: (empty)\n</record-example>\nAnswer: {"category": null, "tags": ["old"], "note": "ü"}'
    )
    assert first < second
    assert "JSON Schema" not in text


def test_the_schema_is_shown_where_requests_carry_none() -> None:
    """On request the static part holds the whole schema."""
    text = Prompt("{t}").static(SHAPE, show_schema=True)
    assert json.dumps(SHAPE.schema, ensure_ascii=False) in text


def test_the_static_part_is_the_same_every_time() -> None:
    """Nothing random stands in the static part, so that a provider's cache can serve it."""
    assert Prompt("{t}").static(SHAPE) == Prompt("{t}").static(Contract(Answer))


@pytest.mark.parametrize("output", [[1], "text", 5, {"a": object()}])
def test_an_examples_output_is_a_json_object(output: Any) -> None:
    """An example's answer is a mapping or a model of plain values."""
    with pytest.raises(UsageError):
        Example({"t": "x"}, output)


def test_an_examples_row_is_text() -> None:
    """An example's row is what a frozen row is; numbers become text, other values are refused by name."""
    assert Example({"a": 1, "b": 2.5, "c": None}, {}).row == {"a": "1", "b": "2.5", "c": None}
    with pytest.raises(UsageError, match="field 'a' holds list"):
        Example({"a": [1]}, {})


def test_prompts_are_values() -> None:
    """A change makes a new prompt; a document brings the same one back."""
    prompt = Prompt("{a}", system="s", examples=[Example({"a": "1"}, {"x": 1}, key="k")], missing="?")
    changed = prompt.evolve(user="{b}")
    assert (prompt.fields, changed.fields) == (("a",), ("b",))
    assert changed != prompt
    assert Prompt.load(json.loads(json.dumps(prompt.document()))) == prompt
    assert len({prompt, prompt.evolve(), changed}) == 2
