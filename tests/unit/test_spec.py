"""One value for what is sent and how it is judged: its fingerprint, its diff, its checks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from batchkit.contract import Contract
from batchkit.errors import ContractError, MissingField, UsageError
from batchkit.policy import Policy, human
from batchkit.prompt import Example, Prompt
from batchkit.rules import Fields, rule
from batchkit.spec import MAX_PREFIX, Spec, StoredSpec
from batchkit.tier import Tier


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    summary: str


class Longer(Answer):
    note: str = ""


class Other(BaseModel):
    category: Literal["Audio", "Cables", "Chargers"] | None
    summary: str


@rule(version=1, fields=["brand"])
def no_brand(out: Answer, row: Fields) -> bool:
    return not row["brand"] or row["brand"] not in out.summary


@rule(version=2, name="no_brand", fields=["brand"])
def no_brand_2(out: Answer, row: Fields) -> bool:
    return True


def short(out: Answer) -> bool:
    return len(out.summary) < 100


HAIKU = Tier("claude-haiku-4-5", max_tokens=300)
SONNET = Tier("claude-sonnet-4-6", max_tokens=600)
EXAMPLE = Example({"title": "a", "text": None, "brand": None}, {"category": None, "summary": "s"}, key="B-17")


def make(**changes: Any) -> Spec[Answer]:
    spec = Spec(
        Contract(Answer, rules=[no_brand], sparse=lambda out: out.category is None),
        Prompt("{title}\n{text}", system="one\ntwo\nthree"),
        key="sku",
        prefix="sku_",
        metadata=["source"],
        tiers=[HAIKU, SONNET],
    )
    return spec.evolve(**changes)


def test_the_fingerprint_is_of_what_counts() -> None:
    """Two specs made alike are equal; the functions' code does not count, names and versions do."""
    assert make() == make()
    assert len(make().fingerprint) == 64
    assert hash(make()) == hash(make())

    @rule(version=1, name="no_brand", fields=["brand"])
    def rewritten(out: Answer, row: Fields) -> bool:
        return False

    same = make(contract=Contract(Answer, rules=[rewritten], sparse=lambda out: out.category is None))
    assert same.fingerprint == make().fingerprint
    assert make() != "spec"


PROMPT = make().prompt
CHANGES: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "system": (
        lambda: {"prompt": PROMPT.evolve(system="one\n2\nthree")},
        "prompt.system: 1 line changed; tiers: same",
    ),
    "system+": (
        lambda: {"prompt": PROMPT.evolve(system="one\n2\n3\n4\n5")},
        "prompt.system: 2 lines changed, 2 lines added; tiers: same",
    ),
    "system-": (
        lambda: {"prompt": PROMPT.evolve(system="one")},
        "prompt.system: 2 lines removed; tiers: same",
    ),
    "user": (
        lambda: {"prompt": PROMPT.evolve(user="{title}\n{text}.")},
        "prompt.user: 1 line changed; tiers: same",
    ),
    "missing": (
        lambda: {"prompt": PROMPT.evolve(missing="-")},
        "prompt.missing: '(empty)' → '-'; tiers: same",
    ),
    "examples": (
        lambda: {"prompt": PROMPT.with_examples(EXAMPLE, EXAMPLE)},
        "prompt.examples +2; tiers: same",
    ),
    "key": (lambda: {"key": "id"}, "key: 'sku' → 'id'; tiers: same"),
    "prefix": (lambda: {"prefix": ""}, "prefix: 'sku_' → ''; tiers: same"),
    "metadata": (lambda: {"metadata": ["lang"]}, "metadata: +lang, -source; tiers: same"),
    "tier": (lambda: {"tiers": [HAIKU]}, "tiers[1]: -claude-sonnet-4-6"),
    "tier+": (lambda: {"tiers": [HAIKU, SONNET, SONNET]}, "tiers[2]: +claude-sonnet-4-6"),
    "cap": (lambda: {"tiers": [HAIKU, SONNET.evolve(max_tokens=700)]}, "tiers[1].max_tokens: 600 → 700"),
    "params": (lambda: {"tiers": [HAIKU.evolve(params={"a": 1}), SONNET]}, "tiers[0].params: changed"),
    "tier prompt": (lambda: {"tiers": [HAIKU.evolve(prompt=PROMPT), SONNET]}, "tiers[0].prompt: changed"),
    "policy": (
        lambda: {"policy": Policy.default().on("output.schema", human())},
        "policy[output.schema]: escalate, quarantine → human; tiers: same",
    ),
    "schema": (
        lambda: {"contract": Contract(Longer, rules=[no_brand], sparse=lambda out: out.category is None)},
        "contract.schema: +note; tiers: same",
    ),
    "enum": (
        lambda: {"contract": Contract(Other, rules=[no_brand], sparse=lambda out: out.category is None)},
        "contract.schema: category changed; tiers: same",
    ),
    "rule version": (
        lambda: {"contract": Contract(Answer, rules=[no_brand_2], sparse=lambda out: out.category is None)},
        "contract.rules: no_brand version 1 → 2; tiers: same",
    ),
    "rules": (
        lambda: {"contract": Contract(Answer, rules=[short], sparse=lambda out: out.category is None)},
        "contract.rules: +short, -no_brand; tiers: same",
    ),
    "sparse": (
        lambda: {"contract": Contract(Answer, rules=[no_brand])},
        "contract.sparse: changed; tiers: same",
    ),
    "lenient": (
        lambda: {
            "contract": Contract(
                Answer, rules=[no_brand], sparse=lambda out: out.category is None, lenient=True
            )
        },
        "contract.lenient: changed; tiers: same",
    ),
}


@pytest.mark.parametrize("name", list(CHANGES))
def test_any_change_is_another_spec_and_reads_well(name: str) -> None:
    """Each part counts in the fingerprint, and the difference is told in a line."""
    changes, text = CHANGES[name]
    changed = make(**changes())
    assert changed.fingerprint != make().fingerprint
    assert str(changed.diff(make())) == text
    assert changed.diff(make())
    assert str(make().diff(make())) == "same"


def test_changes_inside_a_tiers_prompt_are_told() -> None:
    """A change in a tier's own prompt is told like one in the spec's."""
    before = make(tiers=[HAIKU.evolve(prompt=PROMPT)])
    after = make(tiers=[HAIKU.evolve(prompt=PROMPT.evolve(system="one\ntwo"))])
    assert str(after.diff(before)) == "tiers[0].prompt.system: 1 line removed"


def test_reordered_examples_are_another_spec() -> None:
    """Order counts for examples, since the model reads them in order."""
    one = EXAMPLE
    two = Example({"title": "b", "text": "t", "brand": "B"}, {"category": "Audio", "summary": "s"})
    before, after = make(prompt=PROMPT.with_examples(one, two)), make(prompt=PROMPT.with_examples(two, one))
    assert str(after.diff(before)) == "prompt.examples reordered; tiers: same"


def test_every_used_field_is_known() -> None:
    """The fields of all prompts, rules and metadata are frozen, each once; the key only where a prompt shows it."""
    spec = make(tiers=[HAIKU, SONNET.evolve(prompt=Prompt("{sku} {title} {extra}"))])
    assert spec.used_fields == ("title", "text", "sku", "extra", "brand", "source")
    assert make().used_fields == ("title", "text", "brand", "source")


def test_missing_fields_are_named_with_the_nearest() -> None:
    """A field that the rows lack is named by its use, with what there is and the nearest name."""
    spec = make(prompt=Prompt("{descripton}"), metadata=[], contract=Contract(Answer))
    with pytest.raises(MissingField) as caught:
        spec.check_fields(["title", "sku", "description"])
    assert str(caught.value) == (
        "the prompt uses {descripton}; the rows have description, sku, title. Did you mean {description}?"
    )
    have = ["title", "text", "sku", "brand", "source"]
    make().check_fields(have)
    for name, use in (
        ("sku", "the key is 'sku'"),
        ("brand", "a rule reads 'brand'"),
        ("source", "metadata names 'source'"),
    ):
        with pytest.raises(MissingField, match=use):
            make().check_fields([field for field in have if field != name])
    with pytest.raises(MissingField, match="no fields"):
        make().check_fields([])


def test_examples_keep_the_contract() -> None:
    """An example that breaks the contract or lacks a field is refused by number and key; a sparse one is fine."""
    assert make(prompt=PROMPT.with_examples(EXAMPLE)).prompt.examples == (EXAMPLE,)
    wrong = Example({"title": "a", "text": "", "brand": ""}, {"category": "Sofa", "summary": ""}, key="B-31")
    with pytest.raises(
        ContractError, match=r"example 2 \(B-31\) breaks the contract: output.schema.*category"
    ):
        make(prompt=PROMPT.with_examples(EXAMPLE, wrong))
    with pytest.raises(UsageError, match="example 1 has no 'text'"):
        make(prompt=PROMPT.with_examples(Example({"title": "a"}, {"category": None, "summary": ""})))
    breaks = Example({"title": "a", "text": "", "brand": "ACME"}, {"category": "Audio", "summary": "by ACME"})
    with pytest.raises(ContractError, match="no_brand"):
        make(prompt=PROMPT.with_examples(breaks))
    with pytest.raises(ContractError, match="example 1"):
        make(tiers=[HAIKU.evolve(prompt=PROMPT.with_examples(wrong))])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"prefix": "a b"}, "prefix"),
        ({"prefix": "a\n"}, "prefix"),
        ({"prefix": "x" * (MAX_PREFIX + 1)}, "prefix"),
        ({"prefix": None}, "prefix"),
        ({"key": ""}, "key"),
        ({"key": None}, "key"),
        ({"tiers": []}, "one tier at least"),
        ({"tiers": HAIKU}, "tiers is a list"),
        ({"tiers": ["claude-haiku-4-5"]}, "one tier at least"),
        ({"metadata": "brand"}, "metadata is a list"),
        ({"prompt": Prompt("{title}", system="\ud800")}, "UnicodeEncodeError"),
    ],
)
def test_what_cannot_work_is_refused(changes: dict[str, Any], why: str) -> None:
    """Each part is checked when the spec is made."""
    with pytest.raises(UsageError, match=why):
        make(**changes)


@pytest.mark.parametrize("changes", [{"contract": Answer}, {"prompt": "text"}, {"policy": None}])
def test_parts_have_their_types(changes: dict[str, Any]) -> None:
    """A part of the wrong type is refused."""
    with pytest.raises(UsageError, match="a spec's"):
        make(**changes)


def test_a_stored_spec_renders_the_same() -> None:
    """What a store holds renders, routes and identifies as the code that made it, without that code."""
    spec = make(prompt=PROMPT.with_examples(EXAMPLE), tiers=[HAIKU, SONNET.evolve(prompt=Prompt("{title}!"))])
    stored = StoredSpec.load(spec.body())
    assert stored == spec.stored()
    assert stored.fingerprint == spec.fingerprint
    for tier in (0, 1):
        assert stored.static(tier) == spec.static(tier)
        assert stored.prompt_of(tier) == spec.prompt_of(tier)
    assert stored.tiers == spec.tiers
    assert stored.policy.table == spec.policy.table
    assert stored.used_fields == spec.used_fields
    assert stored.judge_identity == spec.judge_identity
    assert (stored.fields, stored.enums) == (spec.contract.fields, spec.contract.enums)
    assert not spec.diff(stored)
    assert (stored.key, stored.prefix, stored.metadata) == ("sku", "sku_", ("source",))


def test_the_order_of_fields_counts() -> None:
    """A model writes its fields in the schema's order and reads examples as written, so both orders count and are kept."""

    class Turned(BaseModel):
        summary: str
        category: Literal["Audio", "Cables"] | None

    turned = make(contract=Contract(Turned, rules=[no_brand], sparse=lambda out: out.category is None))
    assert turned.fingerprint != make().fingerprint
    assert turned.stored().fields == ("summary", "category")
    assert str(turned.diff(make())) == "contract.schema: fields reordered; tiers: same"
    output = {"summary": "s", "category": None}
    swapped = (
        make(prompt=PROMPT.with_examples(EXAMPLE)),
        make(prompt=PROMPT.with_examples(Example(EXAMPLE.row, output))),
    )
    assert swapped[0].fingerprint != swapped[1].fingerprint
    assert str(swapped[1].diff(swapped[0])) == "prompt.examples +1 -1; tiers: same"
    assert '{"summary": "s", "category": null}' in swapped[1].stored().static()


def test_order_alone_is_told() -> None:
    """Two schemas that differ in nothing but the order of their fields are two, and the difference says so."""
    one = create_model("Same", a=(str, ""), b=(str, ""))
    two = create_model("Same", b=(str, ""), a=(str, ""))
    before, after = make(contract=Contract(one)), make(contract=Contract(two))
    assert before.fingerprint != after.fingerprint
    assert str(after.diff(before)) == "contract.schema: fields reordered; tiers: same"


def test_reordered_rules_and_globs_are_told() -> None:
    """Order counts for rules; of globs that are equally specific the later one wins, so theirs counts too."""
    two = make(contract=Contract(Answer, rules=[short, no_brand]))
    swapped = make(contract=Contract(Answer, rules=[no_brand, short]))
    assert str(two.diff(swapped)) == "contract.rules: reordered; tiers: same"
    one = Policy().on("output.s*", human()).on("output.*a", human())
    other = Policy().on("output.*a", human()).on("output.s*", human())
    assert str(make(policy=one).diff(make(policy=other))) == "policy: reordered; tiers: same"
    same = Contract(Answer, rules=[rule(fields=["x"])(short)])
    assert "short changed" in str(make(contract=same).diff(make(contract=Contract(Answer, rules=[short]))))


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"format":99}'])
def test_a_newer_body_is_refused(body: bytes) -> None:
    """A body of another form is refused with what to do."""
    with pytest.raises(UsageError, match="another version"):
        StoredSpec.load(body)


def test_the_models_text_counts() -> None:
    """The contract is the model's own JSON Schema: a field's description is part of it."""

    class Described(BaseModel):
        category: Literal["Audio", "Cables"] | None = Field(description="what it is")
        summary: str

    assert make(contract=Contract(Described)).fingerprint != make(contract=Contract(Answer)).fingerprint


def test_it_names_itself() -> None:
    """A spec's text shows the start of its fingerprint and its models, and no prompt."""
    spec = make()
    assert repr(spec) == f"Spec({spec.fingerprint[:6]}, claude-haiku-4-5, claude-sonnet-4-6)"
    assert json.loads(spec.body()) == spec.document()
