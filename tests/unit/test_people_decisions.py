"""Decisions as values: what each does to a row, what stands after an undo, and what is refused when it is settled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.ids import RowId, RowKey
from batchkit.judgements import Judgement, Ledger, judged, settle_judgements, shown_hash, write_judgement
from batchkit.model import DocKind, RowView, Settled
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.run import Run
from batchkit.spec import Spec
from batchkit.states import RowEvent, RowState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import simulated_client
from batchkit.testing.answers import Answer
from batchkit.tier import Tier
from batchkit.workflow import Workflow


class Output(BaseModel):
    kind: Literal["a", "b"] | None


SPEC = Spec(
    Contract(Output, sparse=lambda out: out.kind is None),
    Prompt("{title}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
)
ROW = RowView(
    id=RowId(1),
    key=RowKey("K-1"),
    state=RowState.HUMAN,
    reason=Reason.OUTPUT_SPARSE,
    tier=0,
    tries=1,
    resends=0,
    size=1,
    batch=None,
    result=None,
    cost=0,
    answers=1,
    fields={"title": "x"},
    answer=b'{"kind": null}',
)


def decision(what: str, **changes: Any) -> Judgement:
    return Judgement(key="K-1", decision=what, by="ann", at=1.0, **changes)  # type: ignore[arg-type]


class TestOneRow:
    def test_an_answer_is_written_in_the_contracts_form(self) -> None:
        """A valid answer settles the row with its canonical text; a broken one says why and settles nothing."""
        settled = judged(SPEC, ROW, decision("answer", output={"kind": "a"}))
        assert isinstance(settled, Settled)
        assert (settled.event, settled.reason, settled.answer) == (RowEvent.ANSWERED, None, b'{"kind":"a"}')
        assert "output.schema" in str(judged(SPEC, ROW, decision("edit", output={"kind": "z"})))
        assert "output.schema" in str(judged(SPEC, ROW, decision("accept")))

    def test_a_decision_about_another_answer_is_refused(self) -> None:
        """What was said of an answer that the row no longer has changes nothing."""
        assert isinstance(judged(SPEC, ROW, decision("reject", shown=shown_hash(ROW))), Settled)
        other = ROW._replace(answer=b'{"kind": "b"}')
        assert "another answer" in str(judged(SPEC, other, decision("reject", shown=shown_hash(ROW))))

    @pytest.mark.parametrize("state", [s for s in RowState if s is not RowState.HUMAN])
    def test_only_rows_that_wait_can_be_judged(self, state: RowState) -> None:
        """Whatever state else a row is in, no decision but an undo can touch it."""
        for what in ("answer", "unanswerable", "reject", "send_back"):
            assert (
                judged(SPEC, ROW._replace(state=state), decision(what))
                == "the row is not waiting for a person"
            )

    def test_only_a_persons_answer_can_be_undone(self) -> None:
        """A model's success and a waiting row have nothing to undo."""
        assert "only a person's answer" in str(
            judged(SPEC, ROW._replace(state=RowState.SUCCEEDED), decision("undo"))
        )
        assert "only a person's answer" in str(judged(SPEC, ROW, decision("undo")))
        answered = ROW._replace(state=RowState.SUCCEEDED, by="ann")
        undone = judged(SPEC, answered, decision("undo"))
        assert isinstance(undone, Settled)
        assert undone.reason is Reason.INPUT_SPARSE

    def test_a_tier_must_exist(self) -> None:
        """A row cannot be sent back to a tier that the spec does not have."""
        assert judged(SPEC, ROW, decision("send_back", tier=1)) == "there is no tier 1"

    def test_what_is_shown_has_a_hash_of_its_meaning(self) -> None:
        """Blanks and the order of fields do not count; key, reason, state and values do, text that is no JSON too."""
        same = ROW._replace(answer=b' {"kind" :null}\n', detail="x", cost=7)
        assert shown_hash(same) == shown_hash(ROW)
        others = [
            ROW._replace(key=RowKey("K-2")),
            ROW._replace(answer=b'{"kind":"a"}'),
            ROW._replace(answer=None),
            ROW._replace(answer=b"\xff no json"),
            ROW._replace(reason=Reason.OUTPUT_REFUSED),
            ROW._replace(state=RowState.SUCCEEDED, reason=None),
        ]
        assert len({shown_hash(row) for row in [ROW, *others]}) == len(others) + 1

    def test_a_decision_needs_a_name_and_a_known_word(self) -> None:
        """Decisions without a person and unknown ones are never made."""
        with pytest.raises(UsageError, match="needs a name"):
            Judgement(key="K-1", decision="reject", by="", at=0)
        with pytest.raises(UsageError, match="'maybe' is no decision"):
            decision("maybe")


class TestLedger:
    def test_an_undo_takes_the_last_word_away(self, tmp_path: Path) -> None:
        """Of several decisions the last stands; an undo brings back the one before; one too many does nothing."""
        store = SQLiteStore(tmp_path / "s.db")
        ledger = Ledger(store, "x")

        def standing(what: str, **changes: Any) -> list[str]:
            write_judgement(store, "x", decision(what, **changes))
            return [one.decision for one in ledger.standing().get("K-1", ())]

        assert standing("accept", shown="1") == ["accept"]
        assert standing("edit", shown="2") == ["accept", "edit"]
        assert standing("undo", shown="1") == ["edit"]
        assert standing("undo", shown="1") == ["edit"]
        assert standing("undo") == []
        assert standing("undo") == []
        assert standing("reject") == ["reject"]
        assert [one.decision for one in Ledger(store, "x").standing()["K-1"]] == ["reject"]
        assert Ledger(store, "y").standing() == {}
        store.close()


def silent(params: Mapping[str, Any], rng: Random) -> Answer:
    return Answer(text='{"kind":null}')


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run[Output]]:
    flow = Workflow(SPEC, store=tmp_path / "s.db", client=simulated_client(model=silent))
    yield flow.run("r", [{"sku": f"K-{n}", "title": "x"} for n in range(3)], unlocked=True)
    flow.store.close()


def settle(run: Run[Output], *decisions: Judgement) -> list[str]:
    """Write decisions down as they are, settle them, and give why some were refused."""
    store = run._store
    for one in decisions:
        write_judgement(store, f"run-{run.record.id}", one)
    lease = store.acquire(run.record.id, "me", 60)
    assert lease is not None
    settle_judgements(store, lease, run.record, SPEC)
    store.release(lease)
    return [str(event.data["why"]) for event in run.events() if event.kind == "answer.refused"]


class TestSettling:
    def test_refusals_are_events_and_the_rest_takes_effect(self, run: Run[Output]) -> None:
        """Of a page some cannot be settled: each is an event with its reason, the others change their rows."""
        refused = settle(
            run,
            Judgement(key="K-0", decision="answer", by="ann", at=1, output={"kind": "a"}),
            Judgement(key="Z-9", decision="reject", by="ann", at=1),
            Judgement(key="K-1", decision="answer", by="bob", at=1, output={"kind": "z"}),
            Judgement(key="K-2", decision="reject", by="bob", at=1),
        )
        assert refused[0] == "no such row"
        assert "output.schema" in refused[1]
        assert len(refused) == 2
        assert {row.key: (row.outcome.value, row.by) for row in run.rows()} == {
            "K-0": ("succeeded", "ann"),
            "K-1": ("human_queued", ""),
            "K-2": ("quarantined", "bob"),
        }

    def test_a_row_decided_twice_in_one_page_keeps_the_first(self, run: Run[Output]) -> None:
        """Two people decide about one row before anybody settles: the first counts, the second is refused."""
        refused = settle(
            run,
            Judgement(key="K-0", decision="answer", by="ann", at=1, output={"kind": "a"}),
            Judgement(key="K-0", decision="answer", by="ann", at=2, output={"kind": "b"}),
            Judgement(key="K-0", decision="reject", by="bob", at=3),
        )
        assert refused == ["the row is not waiting for a person"] * 2
        assert next(iter(run.rows(keys=["K-0"]))).output == Output(kind="a")

    def test_settling_again_after_a_crash_changes_no_row(self, run: Run[Output]) -> None:
        """A mover that died between settling and noting so settles again: rows and results stay, nothing is lost."""
        answer = Judgement(key="K-0", decision="answer", by="ann", at=1, output={"kind": "a"})
        before = run.record
        settle(run, answer)
        results = run._store.results(before.id)
        lease = run._store.acquire(before.id, "other", 60)
        assert lease is not None
        settle_judgements(run._store, lease, before, SPEC)
        run._store.release(lease)
        assert run._store.results(before.id) == results
        assert next(iter(run.rows(keys=["K-0"]))).output == Output(kind="a")
        assert len(run._store.docs(DocKind.JUDGEMENT)) == 1
