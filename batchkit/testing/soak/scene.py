"""The small run that is played again and again: its rows, its spec, its model."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any, Literal

import attrs
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.prompt import Prompt
from batchkit.spec import Spec
from batchkit.testing.answers import Answer
from batchkit.tier import Tier

__all__ = ["ENGINES", "PREFIX", "SPEC", "Engine", "Label", "Outcome", "Setup", "judged", "model", "rows_of"]

Engine = Literal["naive", "one_listing", "batchkit"]
ENGINES: tuple[Engine, ...] = ("naive", "one_listing", "batchkit")
PREFIX = "t_"
"""What every custom id of ours begins with, and no stranger's."""

HOUR = 3_600.0


@attrs.frozen(kw_only=True)
class Setup:
    """What a history is played under. Times are seconds.

    Attributes:
        engine: Who plays.
        fault_rate: The share of requests that meet a fault; processes die and freeze in proportion.
        grace: What batchkit waits before a lost batch counts as absent.
        lateness: The most after which a create whose answer was lost still takes effect.
        lag: The most for which the list does not know a new batch.
        strangers: Batches an hour that somebody else creates in the same workspace.
        storm: How long faults happen, in virtual time.
        sdk: Use the real SDK client.
        stores: How many stores, each with rows of its own, send to the same workspace.
        rows: Source rows of each store; None draws 15 to 36.
        most: Most rows of a batch; None takes a third of the rows.
        deletions: The share of strangers' batches that their owner cancels and deletes within the hour, among them
            those that stand in our intents as the head of the list.
        rotate: Restart processes with another key of the same workspace now and then.
        astray: Restart them, now and then, with a key that opens another workspace; in the end, one has a key of each.
        jumps: The chance, at each pass, that the wall clock of the machine jumps by an hour or a day, on top of what
            the fault rate brings.
    """

    engine: Engine = "batchkit"
    fault_rate: float = 0.2
    grace: float = 1_800.0
    lateness: float = 900.0
    lag: float = 120.0
    strangers: float = 1.0
    storm: float = 5 * HOUR
    sdk: bool = False
    stores: int = 1
    rows: int | None = None
    most: int | None = None
    deletions: float = 0.0
    rotate: bool = False
    astray: bool = False
    jumps: float = 0.0


@attrs.frozen(kw_only=True)
class Outcome:
    """How one history ended.

    Attributes:
        seed: Plays it again.
        rows: Source rows.
        lost: Rows that are in no closed bucket, though the run ended.
        double_paid: Lines billed for us minus results that the engine recorded as its own.
        reported: How many of those its receipt reports as duplicate spend.
        wrong_adoptions: Batches taken for ours that are not.
        hours: Virtual time until everything was over.
        held: Decisions that a person had to make.
        doubts: Batches of which nobody could know.
        holds: For how many seconds each of them kept its rows.
        violations: What is not as it must be, in words.
        digest: Stands for everything that was sent and when; the same seed gives the same.
    """

    seed: int
    rows: int
    lost: int = 0
    double_paid: int = 0
    reported: int = 0
    wrong_adoptions: int = 0
    hours: float = 0.0
    held: int = 0
    doubts: int = 0
    holds: tuple[float, ...] = ()
    violations: tuple[str, ...] = ()
    digest: str = ""

    @property
    def unreported(self) -> int:
        """Count the lines that were paid twice without being reported."""
        return self.double_paid - self.reported


class Label(BaseModel):
    """The smallest contract with something to get wrong."""

    color: Literal["red", "green", "none"]


SPEC: Spec[Label] = Spec(
    Contract(Label, sparse=lambda out: out.color == "none"),
    Prompt("Word: {word}"),
    key="sku",
    prefix=PREFIX,
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
)

_TAIL = ("flaky", "flaky", "broken", "refused", "sparse", "overload", "chatty", "expire")
_LARGE = 1_000
"""Rows from which on the tail is small, so that a history does not take minutes."""


def rows_of(rng: random.Random, count: int | None = None, letter: str = "S") -> list[dict[str, str]]:
    """Draw the rows of one history."""
    count = rng.randint(15, 36) if count is None else count
    words = ("fine",) * (16 if count < _LARGE else 800) + _TAIL
    return [{"sku": f"{letter}{n:03}", "word": rng.choice(words)} for n in range(count)]


def model(params: Mapping[str, Any], rng: random.Random) -> Answer:
    """Answer by the record's word; what a larger model does better, the second tier does."""
    text = str(params["messages"])
    large = "sonnet" in str(params["model"])
    if "refused" in text:
        return Answer(stop_reason="refusal")
    if "broken" in text or ("flaky" in text and not large):
        return Answer(text='{"color": "blue"}')
    if "overload" in text and rng.random() < 0.5:
        return Answer(kind="errored", error_type="overloaded_error")
    if "expire" in text and rng.random() < 0.3:
        return Answer(kind="expired")
    if "chatty" in text and rng.random() < 0.5:
        return Answer(text='Gladly: {"color": ')
    return Answer(text=json.dumps({"color": "none" if "sparse" in text else "red"}))


def judged(text: str) -> bool:
    """Tell whether an answer keeps the contract."""
    try:
        return json.loads(text)["color"] in {"red", "green", "none"}
    except (ValueError, KeyError, TypeError):
        return False
