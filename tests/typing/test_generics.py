"""The model's type reaches the answer: checked by mypy and pyright, and run."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, TypeAdapter
from typing_extensions import TypedDict, assert_type

from batchkit.contract import Contract
from batchkit.prompt import Prompt
from batchkit.rules import Fields, Rule, rule
from batchkit.spec import Spec
from batchkit.tier import Tier
from batchkit.validator import Validator
from batchkit.verdict import Verdict


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    summary: str


class Typed(TypedDict):
    summary: str


@rule(version=2)
def short(out: Answer) -> bool:
    return len(out.summary) < 120


@rule(version=1, fields=["title"])
def not_the_title(out: Answer, row: Fields) -> bool | str:
    return out.summary != row["title"] or "the summary is the title"


def plain(out: Answer) -> bool:
    return bool(out.summary)


def test_an_answer_has_the_models_type() -> None:
    """A contract, its verdicts, a spec and a validator carry the model's type to ``output``."""
    contract = Contract(Answer, rules=[short, not_the_title, plain], sparse=lambda out: out.category is None)
    assert_type(contract, Contract[Answer])
    verdict = contract.check('{"category":"Audio","summary":"s"}', {"title": "t"})
    assert_type(verdict, Verdict[Answer])
    assert_type(verdict.output, Answer | None)
    assert verdict.output is not None
    assert_type(verdict.output.category, Literal["Audio", "Cables"] | None)
    spec = Spec(contract, Prompt("{title}"), key="sku", tiers=[Tier("claude-haiku-4-5", max_tokens=300)])
    assert_type(spec, Spec[Answer])
    assert_type(spec.evolve(prefix="sku_"), Spec[Answer])
    assert_type(spec.contract, Contract[Answer])
    assert_type(Validator(spec).judge(b"", {"title": "t"}), Verdict[Answer])
    assert_type(contract.load(b'{"category":null,"summary":""}'), Answer)


def test_a_rule_has_its_functions_type() -> None:
    """The decorator keeps the type of the output that a rule judges, with and without the record."""
    assert_type(short, Rule[Answer])
    assert_type(not_the_title, Rule[Answer])


def test_other_types_carry_theirs() -> None:
    """A TypedDict and a TypeAdapter give contracts of their type."""
    assert_type(Contract(Typed), Contract[Typed])
    adapter: TypeAdapter[Typed] = TypeAdapter(Typed)
    contract = Contract(adapter)
    assert_type(contract, Contract[Typed])
    output = contract.check('{"summary":"s"}').output
    assert_type(output, Typed | None)
    assert output == {"summary": "s"}
