"""The task: what an answer is, and the prompt in its three versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from pydantic import BaseModel, Field

from batchkit.contract import Contract
from batchkit.prompt import Example, Prompt
from batchkit.rules import rule
from batchkit.spec import Spec
from batchkit.testing.taxonomy import CATEGORIES
from batchkit.tier import Tier

if TYPE_CHECKING:
    Category: TypeAlias = str
else:
    Category = Literal[CATEGORIES]

FIRST = "You fill in product attributes for a catalog. Give a category, up to five short features and one sentence."
SECOND = (
    FIRST
    + " Use null for the category and empty lists when the text is too sparse to say what the product is."
)


class Attributes(BaseModel):
    """What search and recommendation need of every product."""

    category: Category | None
    features: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


@rule(version=1)
def one_sentence(out: Attributes) -> bool:
    """Ask for a summary of one sentence."""
    return out.summary.count(".") <= 1


@rule(version=1, name="no_category")
def too_sparse(out: Attributes) -> bool:
    """Tell that the answer says there is too little to go by."""
    return out.category is None


def first_spec() -> Spec[Attributes]:
    """Give the spec as it is before anybody has seen an answer."""
    return Spec(
        Contract(Attributes, rules=[one_sentence], sparse=too_sparse),
        Prompt("Title: {title}\nDescription: {description}", system=FIRST),
        key="sku",
        prefix="sku_",
        metadata=["source_category"],
        tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
    )


def second_spec() -> Spec[Attributes]:
    """Give the spec with the sentence that the pilot asked for."""
    spec = first_spec()
    return spec.evolve(prompt=spec.prompt.evolve(system=SECOND))


def third_spec(*examples: Example) -> Spec[Attributes]:
    """Give the spec with examples of what was taken for its neighbour."""
    spec = second_spec()
    return spec.evolve(prompt=spec.prompt.with_examples(*examples))
