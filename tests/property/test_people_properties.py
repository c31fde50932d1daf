"""Round trips of files that people edit, and the queue under any order of decisions."""

from __future__ import annotations

import csv
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any, Literal

import attrs
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from pydantic import BaseModel

from batchkit.answersheet import Sheet, read_sheet, write_sheet
from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.evalset import EvalRow, EvalSet
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.review import ReviewRow
from batchkit.spec import Spec
from batchkit.states import Outcome, RunState
from batchkit.testing import simulated_client
from batchkit.testing.answers import Answer
from batchkit.tier import Tier
from batchkit.view import attach
from batchkit.workflow import Workflow


class Output(BaseModel):
    kind: Literal["a", "b", "null"] | None
    items: list[str]
    text: str
    size: int | None
    sure: bool


CONTRACT = Contract(Output)
SHEET = Sheet(schema=CONTRACT.schema, verdicts=("accept", "edit", "reject"))
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
KEY = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n"), min_size=1, max_size=10).filter(
    str.strip
)
OUTPUT = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["a", "b", "null", None]),
        "items": st.lists(TEXT, max_size=3),
        "text": TEXT,
        "size": st.none() | st.integers(-9, 9),
        "sure": st.booleans(),
    }
)


def review_row(key: str, source: Mapping[str, str | None], output: Mapping[str, Any] | None) -> ReviewRow:
    return ReviewRow(
        key=key,
        source=source,
        outcome=Outcome.SUCCEEDED,
        reason=None if output else Reason.OUTPUT_SCHEMA,
        detail="",
        answer=None,
        output=output,
        shown="0123456789abcdef",
    )


ROWS = st.lists(
    st.builds(review_row, KEY, st.fixed_dictionaries({"title": st.none() | TEXT}), st.none() | OUTPUT),
    max_size=4,
    unique_by=lambda row: row.key,
)


@given(rows=ROWS, suffix=st.sampled_from(["csv", "jsonl"]))
def test_a_file_nobody_touched_says_nothing(rows: list[ReviewRow], suffix: str) -> None:
    """Whatever the rows hold, a file read back untouched has the same keys and marks, and no line counts as touched."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"sheet.{suffix}"
        assert write_sheet(path, rows, SHEET) == len(rows)
        lines = read_sheet(path, SHEET)
    assert [(line.key, line.stamp, line.touched, line.wrong) for line in lines] == [
        (row.key, row.stamp, False, "") for row in rows
    ]


@given(
    row=st.builds(review_row, KEY, st.just({}), OUTPUT),
    new=OUTPUT,
    field=st.sampled_from(list(Output.model_fields)),
)
def test_one_changed_cell_changes_one_field(row: ReviewRow, new: dict[str, Any], field: str) -> None:
    """A person who fills in one cell as batchkit would write it changes that field and leaves the others exact."""
    assert row.output is not None
    with tempfile.TemporaryDirectory() as folder:
        path, other = Path(folder) / "sheet.csv", Path(folder) / "other.csv"
        write_sheet(path, [row], SHEET)
        write_sheet(other, [attrs.evolve(row, output={**row.output, field: new[field]})], SHEET)
        with path.open(newline="", encoding="utf-8") as one, other.open(newline="", encoding="utf-8") as two:
            cells, changed = next(csv.DictReader(one)), next(csv.DictReader(two))
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(cells))
            writer.writeheader()
            writer.writerow({**cells, f"output.{field}": changed[f"output.{field}"]})
        [line] = read_sheet(path, SHEET)
    before, after = cells[f"output.{field}"], changed[f"output.{field}"]
    if not line.touched:
        assert "".join(before.split()) == "".join(after.split())
        return
    try:
        _, output = line.decision(row, SHEET)
    except UsageError:
        # A cell of other text that means the same value: nothing was changed.
        assert field in {"kind", "items", "text"}
        return
    assert output is not None
    assert {name: value for name, value in output.items() if name != field} == {
        name: value for name, value in row.output.items() if name != field
    }
    if field in {"size", "sure"}:
        assert output[field] == new[field]


EVAL_ROW = st.builds(
    EvalRow,
    key=TEXT.filter(bool),
    source=st.dictionaries(TEXT, st.none() | TEXT, max_size=2),
    expected=st.none() | OUTPUT,
    verdict=st.sampled_from(["accept", "edit", "reject"]),
    by=TEXT,
    at=st.floats(0, 2e9),
    note=TEXT,
    tags=st.lists(TEXT, max_size=2).map(tuple),
    not_this=st.none() | OUTPUT,
)


@given(
    rows=st.lists(EVAL_ROW, max_size=4, unique_by=lambda row: row.key), name=TEXT, counter=st.integers(1, 99)
)
def test_an_eval_set_comes_back_as_it_was(rows: list[EvalRow], name: str, counter: int) -> None:
    """Saved and loaded, an eval set is equal, whatever its texts hold."""
    evals = EvalSet(name=name, contract=CONTRACT, rows=tuple(rows), counter=counter)
    assert EvalSet.of_body(evals.body(), CONTRACT, where="file") == evals


# -------------------------------------------------------------------- the queue


KEYS = [f"K-{n}" for n in range(4)]
SPEC = Spec(
    Contract(Output, sparse=lambda out: out.kind is None),
    Prompt("{title}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
)
RIGHT: dict[str, Any] = {"kind": "a", "items": [], "text": "", "size": None, "sure": True}


def silent(params: Mapping[str, Any], rng: Random) -> Answer:
    return Answer(text='{"kind":null,"items":[],"text":"","size":null,"sure":false}')


class Queue(RuleBasedStateMachine):
    """Two people and a mover: decisions in any order never lose a row, and each takes effect once or is refused."""

    @initialize()
    def start(self) -> None:
        self.flow = Workflow(SPEC, store=":memory:", client=simulated_client(model=silent))
        rows = [{"sku": key, "title": key} for key in KEYS]
        self.run_ = self.flow.run("r", rows, unlocked=True)
        self.model = dict.fromkeys(KEYS, "waits")

    def teardown(self) -> None:
        if hasattr(self, "flow"):
            self.flow.store.close()

    def review(self, attached: bool) -> Any:
        return attach(self.flow.store, "r").queue() if attached else self.run_.queue()

    @rule(
        key=st.sampled_from(KEYS),
        verdict=st.sampled_from(["answer", "unanswerable", "reject", "send_back"]),
        attached=st.booleans(),
        by=st.sampled_from(["ann", "bob"]),
    )
    def judge(self, key: str, verdict: str, attached: bool, by: str) -> None:
        """Somebody decides, with or without the spec at hand; with it, what was written down before is settled."""
        self.look(attached)
        output = RIGHT if verdict == "answer" else None
        try:
            self.review(attached).judge(key, verdict, by=by, output=output)
        except UsageError:
            assert self.model[key] != "waits"
        else:
            assert self.model[key] == "waits"
            self.model[key] = verdict

    @rule(key=st.sampled_from(KEYS), attached=st.booleans())
    def undo(self, key: str, attached: bool) -> None:
        """Somebody takes an answer back; without the spec the row waits again when somebody settles that."""
        self.look(attached)
        try:
            self.review(attached).undo(key, by="bob")
        except UsageError:
            assert self.model[key] != "answer"
        else:
            assert self.model[key] == "answer"
            self.model[key] = "taken back" if attached else "waits"

    @rule()
    def move(self) -> None:
        """Somebody moves the run to its end: what was sent back is answered the same way and waits again."""
        self.run_.wait(progress="none")
        self.look(attached=False)
        self.model = {key: "waits" if said == "send_back" else said for key, said in self.model.items()}
        self.settled()

    @precondition(lambda self: self.run_.record.state is RunState.CLOSED)
    @rule()
    def reconcile(self) -> None:
        """The four equations hold after whatever was decided."""
        assert self.run_.reconcile().balanced

    @invariant()
    def nothing_is_lost(self) -> None:
        """Every row is in one bucket, and those to be read are those of which nothing was said."""
        if not hasattr(self, "flow"):
            return
        progress = self.run_.progress
        assert progress.balanced
        assert progress.rows == len(KEYS)
        waiting = {key for key, said in self.model.items() if said == "waits"}
        assert {row.key for row in self.review(attached=True).rows if self.model[row.key] != "waits"} == set()
        assert {row.key for row in self.review(attached=False).rows} <= waiting

    def look(self, attached: bool) -> None:
        if not attached:
            self.model = {key: "waits" if said == "taken back" else said for key, said in self.model.items()}

    def settled(self) -> None:
        counts = Counter(
            {"answer": Outcome.SUCCEEDED, "waits": Outcome.HUMAN_QUEUED}.get(said, Outcome.QUARANTINED)
            for said in self.model.values()
        )
        assert {o: n for o, n in self.run_.progress.tally.outcomes.items() if n} == counts
        assert [event for event in self.run_.events() if event.kind == "answer.refused"] == []


TestQueue = Queue.TestCase
