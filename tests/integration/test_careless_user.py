"""What a careless user does, and what it must not cost."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from batchkit import Contract, Outcome, Prompt, Reason, Spec, Tier, UsageError, Workflow, rule
from batchkit.testing import Answer, SimulatedAPI, simulated_client


class Item(BaseModel):
    kind: Literal["cable", "other"] | None


ROWS = [{"sku": f"{n:03}", "title": "usb cable"} for n in range(6)]
TIERS = [Tier("claude-haiku-4-5", max_tokens=50), Tier("claude-sonnet-4-6", max_tokens=50)]


@rule(version=1)
def misspelt(out: Item) -> bool:
    return bool(out.kynd)  # type: ignore[attr-defined]


@rule(version=1)
def forgets_to_answer(out: Item) -> bool:
    return None  # type: ignore[return-value]


def workflow(path: Path, contract: Contract[Item], answer: str = '{"kind": "cable"}') -> Workflow[Item]:
    spec = Spec(contract, Prompt("{title}"), key="sku", tiers=TIERS)
    client = simulated_client(api=SimulatedAPI(lambda params, rng: Answer(text=answer)))
    return Workflow(spec, store=path, client=client)


@pytest.mark.parametrize("broken", [misspelt, forgets_to_answer])
def test_a_rule_whose_code_is_wrong_pays_for_no_larger_model(tmp_path: Path, broken: object) -> None:
    """A rule that raises or gives no verdict sets each row aside at once, named, after one answer of the first tier."""
    flow = workflow(tmp_path / "s.db", Contract(Item, rules=[broken]))  # type: ignore[list-item]
    run = flow.run("r", ROWS, unlocked=True)
    rows = list(run.rows())
    assert {(row.outcome, row.reason, row.tier, row.attempts) for row in rows} == {
        (Outcome.QUARANTINED, Reason.OUTPUT_RULE, 0, 1)
    }
    assert all(row.detail.startswith("code failed: ") for row in rows)
    assert {line.model for line in run.bill().lines} == {"claude-haiku-4-5"}
    assert run.reconcile().balanced


def test_what_an_error_of_code_says_is_kept(tmp_path: Path) -> None:
    """The detail names the attribute that does not exist, so that the mistake can be found."""
    run = workflow(tmp_path / "s.db", Contract(Item, rules=[misspelt])).run("r", ROWS[:1], unlocked=True)
    (row,) = run.rows()
    assert "no attribute 'kynd'" in row.detail


def test_a_file_with_answers_is_not_written_over(tmp_path: Path) -> None:
    """Saving a queue to a file that exists is refused, and the file is as it was."""
    flow = workflow(
        tmp_path / "s.db", Contract(Item, sparse=lambda out: out.kind is None), answer='{"kind": null}'
    )
    queue = flow.run("r", ROWS, unlocked=True).queue()
    sheet = tmp_path / "queue.csv"
    assert queue.save(sheet) == 6
    sheet.write_text("somebody's work")
    with pytest.raises(UsageError, match="exists already"):
        queue.save(sheet)
    assert sheet.read_text() == "somebody's work"


def test_without_a_key_the_first_call_says_what_to_set(tmp_path: Path) -> None:
    """Without a key and a client the error names ANTHROPIC_API_KEY, and the frozen rows wait."""
    spec = Spec(Contract(Item), Prompt("{title}"), key="sku", tiers=TIERS)
    run = Workflow(spec, store=tmp_path / "s.db").start("r", ROWS, unlocked=True)
    with pytest.raises(UsageError, match="ANTHROPIC_API_KEY"):
        run.wait(progress="none")
    assert len(run.rows(outcome="open")) == 6


def test_a_mistyped_choice_for_duplicates_is_refused(tmp_path: Path) -> None:
    """``on_duplicate`` takes three words and no other."""
    flow = workflow(tmp_path / "s.db", Contract(Item))
    with pytest.raises(UsageError, match="'refuse', 'first' or 'quarantine'"):
        flow.start("r", ROWS, unlocked=True, on_duplicate="frist")  # type: ignore[arg-type]
    assert flow.store.runs() == []
