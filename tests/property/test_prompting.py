"""Rendering and fingerprints hold for any text."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.prompt import Example, Prompt
from batchkit.spec import Spec, StoredSpec, canonical
from batchkit.tier import Tier


class Answer(BaseModel):
    note: str
    key: str = ""


NAME = st.sampled_from(["a", "b", "Product Name", "größe"])
VALUE = st.none() | st.text() | st.sampled_from(["{a}", "{{b}}", "</record-x>", " ", "{"])
PARTS = st.lists(st.tuples(st.text(alphabet=st.characters(exclude_characters="{}")), NAME), max_size=5)


@given(parts=PARTS, values=st.fixed_dictionaries(dict.fromkeys(["a", "b", "Product Name", "größe"], VALUE)))
def test_one_pass(parts: list[tuple[str, str]], values: dict[str, str | None]) -> None:
    """The text is the literals and the values in their places, each exactly once, whatever the values hold."""
    template = "".join(f"{literal}{{{name}}}" for literal, name in parts)
    shown = {name: value if value and value.strip() else "(empty)" for name, value in values.items()}
    assert Prompt(template).fill(values) == "".join(literal + shown[name] for literal, name in parts)


@given(text=st.text())
def test_doubled_braces_give_any_text_back(text: str) -> None:
    """Any text can be a template by doubling its braces."""
    prompt = Prompt(text.replace("{", "{{").replace("}", "}}"))
    assert prompt.fields == ()
    assert prompt.fill({}) == text


CLEAN = st.text(alphabet=st.characters(exclude_categories=["Cs"]))


def reversed_keys(value: dict[str, Any]) -> dict[str, Any]:
    return dict(reversed(list(value.items())))


def make(system: str, examples: list[dict[str, str]], params: dict[str, Any]) -> Spec[Answer]:
    shown = [Example(e, {"note": e["note"], "key": e["a"]}) for e in examples]
    return Spec(
        Contract(Answer),
        Prompt("{a}", system=system, examples=shown),
        key="k",
        tiers=[Tier("claude-haiku-4-5", max_tokens=9, params=params)],
    )


EXAMPLES = st.lists(st.fixed_dictionaries({"a": CLEAN, "note": CLEAN}), max_size=2)
PARAMS = st.dictionaries(
    st.sampled_from(["stop_sequences", "metadata", "service_tier"]), st.lists(CLEAN, max_size=2)
)


@given(system=CLEAN, examples=EXAMPLES, params=PARAMS)
def test_a_stored_spec_is_the_same(
    system: str, examples: list[dict[str, str]], params: dict[str, Any]
) -> None:
    """Whatever texts a spec holds, its body reads back to the same fingerprint and the same static text."""
    spec = make(system, examples, params)
    stored = StoredSpec.load(spec.body())
    assert (stored.fingerprint, stored.static()) == (spec.fingerprint, spec.static())
    reordered = make(system, [reversed_keys(e) for e in examples], reversed_keys(params))
    assert reordered.fingerprint == spec.fingerprint


@given(one=st.tuples(CLEAN, EXAMPLES, PARAMS), two=st.tuples(CLEAN, EXAMPLES, PARAMS))
def test_fingerprints_differ_with_their_specs(one: Any, two: Any) -> None:
    """Two specs have one fingerprint exactly when they say the same, and a diff exactly when they do not."""
    left, right = make(*one), make(*two)
    assert (left.fingerprint == right.fingerprint) is (one == two)
    assert bool(left.diff(right)) is (one != two)


@given(value=st.dictionaries(CLEAN, st.lists(CLEAN | st.integers() | st.none())))
def test_canonical_json(value: dict[str, Any]) -> None:
    """Canonical JSON reads back to its value and does not depend on the order of keys."""
    text = canonical(value)
    assert json.loads(text) == value
    assert canonical(reversed_keys(value)) == text
