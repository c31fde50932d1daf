"""Answers against a stored schema, where the contract's code is not at hand."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from batchkit.contract import Contract
from batchkit.shapecheck import violations


class Unit(str, Enum):
    CM = "cm"
    INCH = "inch"


class Size(BaseModel):
    value: Annotated[float, Field(gt=0, le=100)]
    unit: Unit


class Output(BaseModel):
    kind: Literal["a", "b"] | None
    one: Literal["only"] = "only"
    items: Annotated[list[Annotated[str, Field(max_length=3)]], Field(min_length=1, max_length=2)]
    count: Annotated[int, Field(ge=0, lt=10)]
    sure: bool
    size: Size | None = None
    code: Annotated[str, Field(pattern="^[A-Z]+$")] = "A"
    sizes: list[Size] = []


CONTRACT = Contract(Output)
GOOD: dict[str, Any] = {
    "kind": "a",
    "one": "only",
    "items": ["x"],
    "count": 0,
    "sure": True,
    "size": {"value": 1.5, "unit": "cm"},
    "code": "AB",
    "sizes": [{"value": 100, "unit": "inch"}],
}


def wrong(**changes: Any) -> list[str]:
    return violations({**GOOD, **changes}, CONTRACT.schema)


def test_a_right_answer_has_no_violation() -> None:
    """What the contract takes, optional fields left out, has nothing wrong."""
    assert wrong() == []
    assert wrong(kind=None, size=None) == []
    assert violations({"kind": "b", "items": ["x"], "count": 9, "sure": False}, CONTRACT.schema) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "c"}, "kind is none of the allowed values"),
        ({"one": "other"}, "one is not 'only'"),
        ({"items": []}, "items has 0 items, at least 1 are asked"),
        ({"items": ["a", "b", "c"]}, "items has 3 items, at most 2 are allowed"),
        ({"items": ["a", "long one"]}, "items.1 has 8 characters, at most 3 are allowed"),
        ({"items": "text"}, "items is no array"),
        ({"count": -1}, "count is too small"),
        ({"count": 10}, "count is too large"),
        ({"count": True}, "count is no integer"),
        ({"count": "1"}, "count is no integer"),
        ({"sure": 1}, "sure is no boolean"),
        ({"size": {"value": 0, "unit": "cm"}}, "size.value is too small"),
        ({"size": {"value": 101, "unit": "cm"}}, "size.value is too large"),
        ({"size": {"value": 1, "unit": "mile"}}, "size.unit is none of the allowed values"),
        ({"size": {"value": 1}}, "size.unit is missing"),
        ({"sizes": [{"value": 1, "unit": "cm", "more": 1}]}, "sizes.0.more is no field of the answer"),
        ({"code": "ab"}, "code does not match its pattern"),
        ({"extra": 1}, "extra is no field of the answer"),
    ],
)
def test_each_violation_names_its_place(change: dict[str, Any], said: str) -> None:
    """Every kind of violation says where it is and what is wrong."""
    assert said in wrong(**change)


def test_a_missing_field_and_no_object_are_said() -> None:
    """An answer without a required field, or that is no object at all, is refused."""
    assert violations({}, CONTRACT.schema) == [
        f"{name} is missing" for name in ("kind", "items", "count", "sure")
    ]
    assert violations([], CONTRACT.schema) == ["the answer is no object"]


VALUE = (
    st.none()
    | st.booleans()
    | st.integers(-2, 11)
    | st.text("abAB", max_size=5)
    | st.lists(st.text("ab", max_size=4))
)
SIZE = st.fixed_dictionaries(
    {"value": st.integers(-1, 101) | VALUE, "unit": st.sampled_from(["cm", "inch", "x"])}
)


@given(
    st.fixed_dictionaries(
        {"kind": VALUE, "items": VALUE, "count": VALUE, "sure": VALUE},
        optional={
            "one": st.just("only") | VALUE,
            "size": VALUE | SIZE,
            "code": VALUE,
            "sizes": st.lists(SIZE),
            "x": VALUE,
        },
    )
)
def test_it_agrees_with_the_contract(answer: dict[str, Any]) -> None:
    """For answers of any shape it says exactly what the contract itself says of the shape."""
    verdict = CONTRACT.check(json.dumps(answer))
    assert (violations(answer, CONTRACT.schema) == []) is verdict.valid
