"""Contracts of other people's making: the simulated model answers in their shape."""

from __future__ import annotations

import json
import random
from datetime import date, datetime
from enum import Enum
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from batchkit.testing.catalog import generate
from batchkit.testing.catalog_model import catalog_model
from batchkit.testing.profiles import NO_FAULTS, Profile, Rates
from batchkit.testing.schema_answers import plausible, resolve
from batchkit.testing.taxonomy import CATEGORIES

ROWS = list(generate(150, seed=4))
SYSTEM = "Extract what you can. Use null when the text does not say."


class Size(str, Enum):
    SMALL = "small"
    LARGE = "large"


class Dimensions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    width: Annotated[float, Field(gt=0, le=10)]
    height: float | None


class Node(BaseModel):
    name: Annotated[str, Field(min_length=3, max_length=12)]
    parent: Node | None
    children: list[Node]


class Branch(BaseModel):
    left: Branch | int
    right: Branch | int


class Extraction(BaseModel):
    model_config = ConfigDict(extra="forbid")
    brand: str | None
    kind: Literal["audio", "toy", "kettle"]
    size: Size
    version: Literal[3]
    count: Annotated[int, Field(ge=10, lt=12)]
    below: Annotated[int, Field(lt=0)]
    step: Annotated[int, Field(gt=0, multiple_of=5)]
    score: Annotated[float, Field(ge=0, le=1)]
    fragile: bool
    released: date
    seen_at: datetime
    token: UUID
    dimensions: Dimensions
    tags: Annotated[list[Size], Field(min_length=1, max_length=2)]
    codes: Annotated[set[int], Field(min_length=3, max_length=3)]
    pair: tuple[int, str]
    either: int | str
    none: None
    anything: Any
    tree: Node


class Complaint(BaseModel):
    category: Literal["billing", "delivery"]
    features: list[str]
    summary: str


@pytest.mark.parametrize("model", [Extraction, Dimensions, Node, Branch, Complaint])
def test_answers_validate_against_any_pydantic_model(model: type[BaseModel]) -> None:
    """Nested, recursive, nullable and bounded contracts all get answers that they accept."""
    say = catalog_model(NO_FAULTS)
    for number, row in enumerate(ROWS):
        params = {
            "model": "claude-haiku-4-5",
            "max_tokens": 4_000,
            "system": SYSTEM,
            "messages": [
                {"role": "user", "content": f"Title: {row['title']}\nDescription: {row['description']}"}
            ],
            "output_config": {"format": {"type": "json_schema", "schema": model.model_json_schema()}},
        }
        model.model_validate_json(say(params, random.Random(number)).text)


def test_an_enum_value_that_the_text_names_is_chosen() -> None:
    """A classification with values of its own is answered from the text, not by chance."""
    params = {
        "model": "claude-opus-5-5",
        "max_tokens": 300,
        "messages": [{"role": "user", "content": "The delivery came a week late"}],
        "output_config": {"format": {"type": "json_schema", "schema": Complaint.model_json_schema()}},
    }
    for seed in range(10):
        text = catalog_model(NO_FAULTS)(params, random.Random(seed)).text
        assert Complaint.model_validate_json(text).category == "delivery"


def test_a_category_under_another_name_is_read_from_the_row() -> None:
    """A contract that calls the category a department still gets the right one."""
    schema = {"type": "object", "properties": {"department": {"enum": list(CATEGORIES)}}}
    params = {
        "model": "claude-opus-5-5",
        "max_tokens": 300,
        "messages": [{"role": "user", "content": "Title: Nordlys kettle\nDescription: 1.7 l"}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
    }
    text = catalog_model(NO_FAULTS)(params, random.Random(1)).text
    assert json.loads(text) == {"department": "Small Appliances"}


def test_a_record_that_says_nothing_gets_nulls_and_empty_lists() -> None:
    """Asked for null, a contract of another shape gets it too."""

    class Facts(BaseModel):
        brand: str | None
        colours: list[str]
        weight: Literal["light", "heavy"] | None

    params = {
        "model": "claude-opus-5-5",
        "max_tokens": 300,
        "system": SYSTEM,
        "messages": [{"role": "user", "content": "Title: -\nDescription: n/a"}],
        "output_config": {"format": {"type": "json_schema", "schema": Facts.model_json_schema()}},
    }
    text = catalog_model(NO_FAULTS)(params, random.Random(1)).text
    assert Facts.model_validate_json(text) == Facts(brand=None, colours=[], weight=None)


def test_faults_of_the_catalog_become_broken_json_in_other_contracts() -> None:
    """Where there is no category to invent, the answer is fenced instead."""
    params = {
        "model": "claude-haiku-4-5",
        "max_tokens": 300,
        "messages": [{"role": "user", "content": "Ein Gehäuse für größere Räume"}],
        "output_config": {"format": {"type": "json_schema", "schema": Dimensions.model_json_schema()}},
    }
    say = catalog_model(Profile(haiku=Rates(invented_category=1.0)))
    assert say(params, random.Random(1)).text.startswith("```json\n{")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": ["null", "string"]},
        {"type": ["integer", "null"]},
        {"oneOf": [{"type": "null"}]},
        {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "null"}}},
                {"properties": {"b": {"const": 1}}},
            ]
        },
        {"allOf": [{"type": "integer"}, {"minimum": 3}]},
        {"allOf": [{"type": "integer"}]},
        {"enum": [None, "a", 2, ["x"]]},
        {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
        {"type": "array", "items": {"enum": [1]}, "uniqueItems": True},
        {"type": "array", "items": True, "minItems": 2},
        {"type": "string", "format": "email"},
        {"type": "number", "maximum": -3},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {},
    ],
)
@pytest.mark.parametrize("nothing", [False, True])
def test_odd_schemas_get_some_value(schema: dict[str, Any], nothing: bool) -> None:
    """Unions of types, lone nulls, merged parts, tuples and broken references do not stop the model."""
    value = plausible(schema, random.Random(1), nothing=nothing)
    kinds = {"string": str, "integer": int, "number": float, "array": list, "null": type(None)}
    kind = schema.get("type")
    if isinstance(kind, list):
        assert isinstance(value, tuple(kinds[name] for name in kind))
    elif kind is not None:
        assert isinstance(value, kinds[kind])
    TypeAdapter(Any).dump_json(value)


def test_a_reference_is_followed_with_escapes() -> None:
    """Names with a slash or a tilde are found."""
    root = {"$defs": {"a/b~c": {"type": "integer"}}}
    assert resolve({"$ref": "#/$defs/a~1b~0c"}, root) == {"type": "integer"}
    assert resolve(True, root) == {}
