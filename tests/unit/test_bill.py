"""The bill: every cent in exactly one line, and the same cents as the provider's."""

from __future__ import annotations

import csv
import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from rig import VALID, Label, answers

from batchkit import Contract, Forecast, Prompt, Run, Spec, Tier, UsageError, Workflow
from batchkit.bill import Bill
from batchkit.model import NANO
from batchkit.testing import Answer, SimulatedAPI, simulated_client
from batchkit.testing.catalog import generate
from batchkit.testing.taxonomy import CATEGORIES

SPEC = Spec(
    Contract(Label),
    Prompt("Word: {word}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
)


class Attributes(BaseModel):
    category: Literal[CATEGORIES] | None  # type: ignore[valid-type]
    features: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


CATALOG = Spec(
    Contract(Attributes),
    Prompt("Title: {title}\nDescription: {description}", system="You fill in product attributes."),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
)


@pytest.fixture(scope="module")
def api() -> SimulatedAPI:
    """A provider whose model never answers some rows well, and is cut off on others."""
    return SimulatedAPI(
        answers({"w01": Answer(text="no"), "w02": Answer(text=VALID[:4], stop_reason="max_tokens")})
    )


@pytest.fixture(scope="module")
def run(api: SimulatedAPI) -> Run[Any]:
    """A finished run of 40 rows with retries, escalations and failures."""
    flow = Workflow(SPEC, store=":memory:", client=simulated_client(api=api), rng=random.Random(1))
    made = flow.start("r", [{"sku": f"S{n:02}", "word": f"w{n:02}"} for n in range(40)], unlocked=True)
    assert made.wait(progress="none").done
    return made


class TestBill:
    def test_is_the_providers(self, run: Run[Any], api: SimulatedAPI) -> None:
        """Answers and tokens of each model are those that the provider charged."""
        ours: dict[str, dict[str, int]] = {}
        for line in run.bill().lines:
            sums = ours.setdefault(line.model, dict.fromkeys(("lines", "input_tokens", "output_tokens"), 0))
            sums["lines"] += line.answers
            sums["input_tokens"] += line.usage.input
            sums["output_tokens"] += line.usage.output
        theirs = {
            model: {name: sums[name] for name in ("lines", "input_tokens", "output_tokens")}
            for model, sums in api.bill().models.items()
        }
        assert ours == theirs
        assert set(ours) == {"claude-haiku-4-5", "claude-sonnet-4-6"}

    def test_sums_to_what_was_spent(self, run: Run[Any]) -> None:
        """Its total is what the batches spent, what the rows cost, and what the receipt says."""
        total = run.bill().total_usd
        assert total > 0
        assert total == run.progress.spent_usd
        assert total == sum(row.cost_usd for row in run.rows())
        assert total == Decimal(run.reconcile().equations.money.usage) / NANO

    def test_tells_what_the_answers_were_used_for(self, run: Run[Any]) -> None:
        """Applied and not accepted answers are apart, each by what was said of it and by the tier that answered."""
        lines = {(line.model, line.tier, line.use, line.verdict): line.answers for line in run.bill().lines}
        assert lines["claude-haiku-4-5", 0, "applied", "valid"] == 38
        assert all((tier == 0) == ("haiku" in model) for model, tier, _, _ in lines)
        assert {verdict for _, _, use, verdict in lines if use == "not_accepted"} == {
            "output.unparseable",
            "output.truncated",
        }
        assert {verdict for _, _, use, verdict in lines if use == "applied"} == {"valid"}

    def test_is_dearest_first_and_printed(self, run: Run[Any]) -> None:
        """The dearest line comes first, and the text names the total."""
        bill = run.bill()
        assert [line.cost for line in bill.lines] == sorted((line.cost for line in bill.lines), reverse=True)
        head, *lines = str(bill).splitlines()
        assert head.startswith("Bill of r: $")
        assert float(head.partition("$")[2]) == pytest.approx(
            sum(float(line.partition("$")[2]) for line in lines)
        )
        assert min(float(line.partition("$")[2]) for line in lines) > 0

    def test_is_written(self, run: Run[Any], tmp_path: Path) -> None:
        """As CSV and JSON Lines it has a line each, exact to the nano-dollar."""
        bill = run.bill()
        assert bill.write(tmp_path / "b.csv") == bill.write(tmp_path / "b.jsonl") == len(bill.lines)
        with (tmp_path / "b.csv").open(encoding="utf-8", newline="") as file:
            assert sum(Decimal(line["cost_usd"]) for line in csv.DictReader(file)) == bill.total_usd
        texts = (tmp_path / "b.jsonl").read_text("utf-8").splitlines()
        assert sum(json.loads(text)["answers"] for text in texts) == sum(line.answers for line in bill.lines)

    def test_of_nothing(self) -> None:
        """A run that has sent nothing has an empty bill of nothing."""
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        bill = flow.start("r", [{"sku": "a", "word": "b"}], unlocked=True).bill()
        assert bill.total_usd == 0
        assert bill == Bill(run="r", lines=())


class TestForecast:
    def forecast(self, rows: Any, **options: Any) -> Forecast:
        return Workflow(SPEC, store=":memory:", client=simulated_client(), **options).forecast(rows)

    def rows(self, n: int) -> list[dict[str, str]]:
        return [{"sku": f"S{i}", "word": "w"} for i in range(n)]

    def test_is_near_what_it_costs(self) -> None:
        """On the generated catalog the expected cost is within a factor of two of the bill, and the worst bounds it."""
        flow = Workflow(CATALOG, store=":memory:", client=simulated_client(seed=2), rng=random.Random(1))
        rows = list(generate(1_500, 2))
        told = flow.forecast(rows)
        run = flow.start("r", rows, unlocked=True, on_duplicate="first")
        run.wait(progress="none")
        spent = run.bill().total_usd
        assert spent / 2 < told.usd < spent * 2
        assert told.low < told.usd < told.high <= told.worst_usd
        assert spent < told.worst_usd

    def test_grows_with_the_rows(self) -> None:
        """Ten times the rows cost ten times as much, expected and at worst."""
        small, large = self.forecast(self.rows(100)), self.forecast(self.rows(1_000))
        assert large.usd == pytest.approx(small.usd * 10, rel=Decimal("0.01"))
        assert large.worst_usd == pytest.approx(small.worst_usd * 10, rel=Decimal("0.01"))

    def test_counts_what_is_not_sent(self) -> None:
        """Records that cannot be sent are counted with their reason and cost nothing."""
        told = self.forecast([*self.rows(3), {"sku": "", "word": "x"}, {"sku": "u", "word": "\ud800"}])
        assert (told.rows, told.sendable) == (5, 3)
        assert told.usd == self.forecast(self.rows(3)).usd
        assert {text.partition(": ")[2] for text in told.warnings} == {
            "input.missing_key",
            "input.unencodable",
        }

    @pytest.mark.parametrize("on_duplicate", ["first", "quarantine"])
    def test_counts_repeats_as_the_start_does(self, on_duplicate: Any) -> None:
        """Rows to send, cost and reasons are those of a run that is started with the same choice."""
        rows = [
            *self.rows(3),
            {"sku": "S1", "word": "w"},
            {"sku": "S2", "word": "other"},
            {"sku": "S0", "word": "\ud800"},
            {"sku": "", "word": "w"},
        ]
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        told = flow.forecast(rows, on_duplicate=on_duplicate)
        run = flow.start("r", rows, on_duplicate=on_duplicate, unlocked=True)
        assert told.sendable == len(run.rows(outcome="open"))
        assert set(told.warnings) == {
            f"{n} rows are not sent: {reason}" for reason, n in run.failures().count_by("reason").items()
        }
        assert told.usd == flow.forecast(self.rows(told.sendable)).usd

    def test_takes_a_tier_with_a_prompt_of_its_own(self) -> None:
        """A tier that asks in other words is in the sum like any other."""
        own = SPEC.evolve(
            tiers=[SPEC.tiers[0], Tier("claude-sonnet-4-6", max_tokens=600, prompt=Prompt("W {word}"))]
        )
        flow = Workflow(own, store=":memory:", client=simulated_client())
        assert flow.forecast(self.rows(5)).usd > 0

    def test_says_what_the_start_would_refuse(self) -> None:
        """Records of one key that differ are counted, with a warning that the start refuses them; equal ones are not."""
        told = self.forecast([*self.rows(3), {"sku": "S2", "word": "other"}, {"sku": "S0", "word": "w"}])
        assert (told.rows, told.sendable) == (5, 4)
        assert [text.partition(",")[0] for text in told.warnings] == [
            "1 rows are not sent: input.duplicate_key",
            "1 keys stand in the source with different content",
        ]

    def test_knows_the_choices_there_are(self) -> None:
        """Another word for repeated keys is refused with those there are."""
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        with pytest.raises(UsageError, match="on_duplicate='last': it is 'refuse', 'first' or 'quarantine'"):
            flow.forecast(self.rows(1), on_duplicate="last")  # type: ignore[arg-type]

    def test_exposure_is_what_may_wait_remotely(self) -> None:
        """No more than the queue's share of the worst case is exposed at one time."""
        told = self.forecast(self.rows(100), max_in_queue=25)
        assert told.peak_exposure_usd == pytest.approx(told.worst_usd / 4)
        assert told.hours[1] > self.forecast(self.rows(100)).hours[1]
        assert self.forecast(self.rows(100), max_batch_rows=10).batches >= 10

    def test_takes_a_slice(self) -> None:
        """The rows of a run are forecast as what their slice would cost."""
        flow = Workflow(SPEC, store=":memory:", client=simulated_client())
        run = flow.start("r", self.rows(10), unlocked=True)
        told = flow.forecast(run.rows(keys=["S1", "S2"]))
        assert (told.rows, told.usd) == (2, flow.forecast(self.rows(2)).usd)

    def test_of_nothing_is_nothing(self) -> None:
        """No rows, no cost, no batch, no time."""
        told = self.forecast([])
        assert told.usd == told.worst_usd == told.peak_exposure_usd == 0
        assert (told.batches, told.hours) == (0, (0.0, 0.0, 0.0))

    def test_an_unknown_price_is_an_error(self) -> None:
        """A model without a known price is refused with the way to give one; its price is never nothing."""
        odd = SPEC.evolve(tiers=[Tier("some-model-9", max_tokens=300)])
        with pytest.raises(UsageError, match=r"some-model-9.*price"):
            Workflow(odd, store=":memory:", client=simulated_client()).forecast(self.rows(1))

    def test_prints_figures_and_assumptions(self) -> None:
        """The text names the money, the time and what it rests on."""
        text = str(self.forecast(self.rows(2_000)))
        assert "2,000 of 2,000 rows to send, 1 batch" in text
        assert "expected $" in text
        assert "assumed: " in text
