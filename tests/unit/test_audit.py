"""The aggregate check: finds a category taken for its neighbour, and nothing where nothing is wrong."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from batchkit import (
    Audit,
    Auditor,
    Contract,
    EvalSet,
    Example,
    Finding,
    Prompt,
    Run,
    Spec,
    Tier,
    UsageError,
    Workflow,
)
from batchkit.audit import Shares, named_by_source, unlike
from batchkit.evalset import EvalRow
from batchkit.intervals import so_few
from batchkit.testing import simulated_client
from batchkit.testing.catalog import generate
from batchkit.testing.taxonomy import CATEGORIES


class Attributes(BaseModel):
    category: Literal[CATEGORIES] | None  # type: ignore[valid-type]
    features: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


def no_category(out: Any) -> bool:
    return out.category is None


CONTRACT: Contract[Any] = Contract(Attributes, sparse=no_category)
CURE = (
    Example(
        {"title": "Travel adapter UK to EU", "description": "Fits every socket."},
        {"category": "Adapters", "features": ["UK to EU"], "summary": "A travel adapter."},
    ),
    Example(
        {"title": "Universal plug adapter", "description": "No charging."},
        {"category": "Adapters", "features": [], "summary": "A plug adapter."},
    ),
)


def spec(*examples: Example, metadata: tuple[str, ...] = ("source_category", "lang")) -> Spec[Any]:
    prompt = Prompt(
        "Title: {title}\nDescription: {description}",
        system="Use null for the category and empty lists when the text is too sparse.",
        examples=examples,
    )
    return Spec(
        CONTRACT, prompt, key="sku", metadata=metadata, tiers=[Tier("claude-haiku-4-5", max_tokens=300)]
    )


def finished(chosen: Spec[Any], *, rows: int = 2_500, seed: int = 1) -> Run[Any]:
    flow = Workflow(chosen, store=":memory:", client=simulated_client(seed=seed), rng=random.Random(seed))
    run = flow.start("r", list(generate(rows, seed)), unlocked=True, on_duplicate="first")
    run.wait(progress="none")
    return run


@pytest.fixture(scope="module")
def confused() -> Run[Any]:
    """A run whose model takes most adapters for chargers."""
    return finished(spec())


def shares(groups: Mapping[str, Mapping[str, int]], *, field: str = "source_category") -> Shares:
    crossed: dict[str, Counter[str]] = defaultdict(Counter)
    values: Counter[str] = Counter(dict.fromkeys(CATEGORIES, 0))
    for text, counts in groups.items():
        crossed[text].update(counts)
        values.update(counts)
    return Shares(rows=values.total(), values={"category": values}, crossed={"category": {field: crossed}})


FINE = {
    "Audio": {"Audio": 95, "Cables": 2},
    "Old > Cables": {"Cables": 80},
    "Phones": {"Phones": 60, "Audio": 1},
}


class TestOnTheCatalog:
    @pytest.mark.parametrize("against", [None, "source_category"])
    def test_finds_the_category_that_is_taken_for_its_neighbour(
        self, confused: Run[Any], against: str | None
    ) -> None:
        """Adapters answered as Chargers are the one finding, whether or not the source field is named."""
        audit = confused.audit(against=against)
        assert [(f.value, f.other, f.source) for f in audit.findings] == [
            ("Adapters", "Chargers", "source_category")
        ]
        assert audit.findings[0].share < 0.6
        assert "Adapters" in str(audit)

    def test_finds_nothing_with_the_cured_prompt(self) -> None:
        """With two examples in the prompt the same catalog has no finding."""
        assert finished(spec(*CURE)).audit().findings == ()

    def test_a_finding_names_its_rows(self, confused: Run[Any]) -> None:
        """The rows of a finding are selected by its own predicate, ready to be run again."""
        (finding,) = confused.audit(against="source_category").findings
        rows = confused.rows(source=finding.concerns, output=lambda out: out.category == finding.other)
        assert len(rows) == round(finding.rows * (1 - finding.share))
        assert all("adapter" in str(row.source["source_category"]).lower() for row in rows)

    def test_counts_every_answer(self, confused: Run[Any]) -> None:
        """The shares are of all rows that have an answer, and every allowed value stands there."""
        audit = confused.audit()
        assert audit.shares.rows == len(confused.rows(outcome="succeeded"))
        assert set(audit.shares.values["category"]) == set(CATEGORIES)
        assert sum(audit.shares.values["category"].values()) == audit.shares.rows

    def test_compares_with_an_eval_set(self, confused: Run[Any]) -> None:
        """Against an eval set each value's share in it stands beside the run's."""
        evals = EvalSet(name="e", contract=CONTRACT, rows=[judged(n, "Chargers") for n in range(30)])
        audit = confused.audit(against=evals)
        assert audit.expected == {"category": {"Chargers": 1.0}}
        assert "100.0%" in str(audit)
        assert "Chargers" in {f.value for f in audit.findings if f.check == "unlike"}

    def test_refuses_a_field_that_is_not_frozen(self, confused: Run[Any]) -> None:
        """A source field the store does not have is named, with the fix."""
        with pytest.raises(UsageError, match=r"'brand'.*metadata=\['brand'\]"):
            confused.audit(against="brand")


def judged(number: int, category: str) -> EvalRow:
    answer = {"category": category, "features": [], "summary": "s"}
    return EvalRow(key=f"k{number}", source={"title": "t"}, expected=answer, verdict="edit", by="p", at=1.0)


class TestNamedBySource:
    def test_a_part_of_a_family_is_enough(self) -> None:
        """A group with two fifths taken for the neighbour is found: it need not be the greater part."""
        (finding,) = named_by_source(shares({**FINE, "Adapters": {"Adapters": 36, "Chargers": 24}}))
        assert (finding.value, finding.other, finding.rows, finding.share) == (
            "Adapters",
            "Chargers",
            60,
            0.6,
        )

    def test_a_few_rows_are_enough_where_nearly_all_are_wrong(self) -> None:
        """Of a rare category nine rows, seven of them the neighbour's, are no chance where others are always right."""
        (finding,) = named_by_source(shares({**FINE, "Adapters": {"Adapters": 2, "Chargers": 7}}))
        assert (finding.value, finding.rows) == ("Adapters", 9)

    def test_many_values_make_no_finding_by_chance(self) -> None:
        """The more values are looked at, the less likely each finding must be: one of forty alike is none."""
        few = {"Audio": 100, "Cables": 100, "Phones": 100}
        odd = {"Adapters": {"Adapters": 7, "Chargers": 5}}
        assert list(named_by_source(shares({**{name: {name: n} for name, n in few.items()}, **odd}))) != []
        forty = {name: {name: 95, "Other": 5} for name in CATEGORIES if name not in {"Adapters", "Chargers"}}
        assert list(named_by_source(shares({**forty, **odd}))) == []

    @pytest.mark.parametrize(
        ("good", "rows", "share"), [(0, 5, 0.9), (2, 8, 0.9), (7, 12, 0.85), (40, 60, 0.88)]
    )
    def test_chance_is_the_binomial_tail(self, good: int, rows: int, share: float) -> None:
        """It is the sum of what each smaller number of good rows is worth, and 1 where nothing is missing."""
        exact = sum(math.comb(rows, n) * share**n * (1 - share) ** (rows - n) for n in range(good + 1))
        assert so_few(good, rows, share) == pytest.approx(exact)
        assert so_few(rows, rows, share) == 1.0
        assert so_few(100_000, 600_000, share) == 0.0

    def test_a_value_that_is_never_answered_is_found(self) -> None:
        """A category that the answers do not know at all is found too."""
        (finding,) = named_by_source(shares({**FINE, "ADAPTERS and more": {"Chargers": 40}}))
        assert (finding.value, finding.share) == ("Adapters", 0.0)

    @pytest.mark.parametrize(
        "counts",
        [
            {"Adapters": 56, "Chargers": 4},
            {"Chargers": 4},
            {"Adapters": 15, "Chargers": 5},
            {"Adapters": 60, "": 40},
            {"Adapters": 500, "Chargers": 60},
        ],
        ids=["a few", "too few rows", "may be chance", "no value at all", "within the gap"],
    )
    def test_no_alarm_without_need(self, counts: Mapping[str, int]) -> None:
        """A few wrong answers, a few rows, or answers without a value, are no finding."""
        assert list(named_by_source(shares({**FINE, "Adapters": counts}))) == []

    def test_a_field_that_does_not_name_the_answers_is_passed_over(self) -> None:
        """Where most groups disagree the field speaks of something else, and nothing is found."""
        wild = {
            "Audio": {"Cables": 60, "Audio": 40},
            "Cables": {"Audio": 90, "Cables": 50},
            "Phones": {"Audio": 90},
            "Adapters": {"Chargers": 90},
        }
        assert list(named_by_source(shares(wild))) == []

    def test_without_others_nothing_is_usual(self) -> None:
        """One named group alone says nothing: there is nothing to compare it with."""
        assert list(named_by_source(shares({"Adapters": {"Chargers": 90}}))) == []

    def test_a_text_that_names_two_values_names_neither(self) -> None:
        """'Adapters and Chargers' is no name of either."""
        assert list(named_by_source(shares({**FINE, "Adapters and Chargers": {"Chargers": 90}}))) == []

    def test_the_longer_name_wins(self) -> None:
        """'Small Appliances' in a text is that value, and not a shorter one within it."""
        both = {**FINE, "Small Appliances": {"Small Appliances": 90}}
        assert list(named_by_source(shares(both))) == []


class TestUnlike:
    def test_finds_what_is_far_rarer_and_far_more_frequent(self) -> None:
        """A value at a quarter of its share in the eval set is found, and so is one at four times it."""
        counts = Counter({"Audio": 60, "Cables": 540, "Phones": 600})
        seen = Shares(rows=1_200, values={"category": counts}, crossed={})
        found = list(unlike({"category": {"Audio": 50, "Cables": 10, "Phones": 60}})(seen))
        assert [f.value for f in found] == ["Audio", "Cables"]

    def test_a_small_eval_set_is_no_proof(self) -> None:
        """Five of a hundred hard rows do not say that one in fifty is wrong."""
        seen = Shares(rows=1_000, values={"category": Counter({"Audio": 20, "Cables": 980})}, crossed={})
        assert list(unlike({"category": {"Audio": 5, "Cables": 95}})(seen)) == []
        assert list(unlike({"category": {"Audio": 9}})(seen)) == []


def test_runs_the_checks_it_is_given(confused: Run[Any]) -> None:
    """An Auditor runs its own checks, and the worst finding comes first."""

    def finding(rows: int) -> Finding:
        return Finding(
            check="mine", field="category", value="", other="", rows=rows, share=0.0, text=f"{rows} rows"
        )

    audit = Auditor(lambda shares: [finding(1), finding(9)]).audit(confused.rows(), confused.spec)
    assert [f.rows for f in audit.findings] == [9, 1]
    assert str(audit).startswith(f"Audit of {audit.shares.rows:,} answers: 2 findings\n  ! 9 rows\n")


def test_needs_a_field_of_fixed_values() -> None:
    """A contract without an enum has nothing to count, and says so."""

    class Free(BaseModel):
        summary: str

    free = Spec(Contract(Free), Prompt("{t}"), key="k", tiers=[Tier("claude-haiku-4-5", max_tokens=300)])
    run = Workflow(free, store=":memory:", client=simulated_client()).start(
        "r", [{"k": "1", "t": "x"}], unlocked=True
    )
    with pytest.raises(UsageError, match="fixed set of values"):
        run.audit()


def test_an_empty_run_has_no_findings() -> None:
    """Before any answer there is nothing to find, and the audit still prints."""
    flow = Workflow(spec(), store=":memory:", client=simulated_client())
    audit = flow.start("r", list(generate(30, 1)), unlocked=True, on_duplicate="first").audit()
    assert isinstance(audit, Audit)
    assert audit.findings == ()
    assert str(audit).startswith("Audit of 0 answers: 0 findings")
