"""The spec that every example shares: what an answer is, what is sent, to whom."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from batchkit import Contract, Policy, Prompt, Spec, Tier, escalate, quarantine, retry, rule


class Attributes(BaseModel):
    category: Literal["Audio", "Cables", "Chargers", "Lighting", "Monitors", "Networking"] | None
    features: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


@rule(version=1)
def one_sentence(out: Attributes) -> bool:
    return out.summary.count(".") <= 1


@rule(version=1)
def no_category(out: Attributes) -> bool:
    return out.category is None


spec = Spec(
    Contract(Attributes, rules=[one_sentence], sparse=no_category),
    Prompt(
        "Title: {title}\nDescription: {description}",
        system="You fill in product attributes. Use null and empty lists when the text is too sparse to say.",
    ),
    key="sku",
    prefix="sku_",
    metadata=["brand"],  # stored and shown to people, never sent
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
    policy=Policy.default().on("output.schema", retry(show_error=True), escalate(), quarantine()),
)
