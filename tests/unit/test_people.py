"""The human queue: what people say of rows that no model could answer, in Python and by file."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from batchkit.contract import Contract
from batchkit.errors import NotBalanced, StoreError, UsageError
from batchkit.model import DocKind
from batchkit.people import Review
from batchkit.policy import Policy, human
from batchkit.prompt import Prompt
from batchkit.receipt import latest_receipt
from batchkit.review import Applied, Refused
from batchkit.rules import rule
from batchkit.run import Run
from batchkit.spec import Spec
from batchkit.states import Outcome, RunState
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.testing import simulated_client
from batchkit.testing.answers import Answer, prompt_text
from batchkit.tier import Tier
from batchkit.view import attach
from batchkit.workflow import Workflow


class Attributes(BaseModel):
    category: Literal["Audio", "Cables"] | None
    features: Annotated[list[str], Field(max_length=3)]
    summary: str
    size: int | None = None


@rule(version=1)
def says_something(out: Attributes) -> bool:
    return bool(out.summary)


def model(params: Mapping[str, Any], rng: Random) -> Answer:
    """Answer well, say nothing of rows called EMPTY, and break the schema for rows called BROKEN."""
    text = prompt_text(params)
    if "EMPTY" in text:
        return Answer(text='{"category":null,"features":[],"summary":"","size":null}')
    if "BROKEN" in text:
        return Answer(text="I would rather not say.")
    if "STUBBORN" in text and "haiku" in str(params["model"]):
        return Answer(text='{"category":null,"features":[],"summary":"","size":null}')
    return Answer(
        text='{"category":"Audio","features":["=1+1","two\\nlines"],"summary":"A speaker.","size":2}'
    )


SPEC = Spec(
    Contract(Attributes, rules=[says_something], sparse=lambda out: out.category is None),
    Prompt("{title}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=300)],
    policy=Policy.default().on("output.unparseable", human()),
)
TITLES = {"A-1": "EMPTY", "A-2": "EMPTY =1+1", "A-3": "speaker", "A-4": "BROKEN", "A-5": "STUBBORN"}
RIGHT = {"category": "Cables", "features": ["a", "b"], "summary": "A cable.", "size": None}


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Workflow[Attributes]]:
    made = Workflow(SPEC, store=tmp_path / "store.db", client=simulated_client(model=model))
    yield made
    made.store.close()


@pytest.fixture
def run(flow: Workflow[Attributes]) -> Run[Attributes]:
    return flow.run("r", [{"sku": sku, "title": title} for sku, title in TITLES.items()], unlocked=True)


def outcome(run: Run[Attributes], key: str) -> tuple[Outcome, str]:
    [row] = run.rows(keys=[key])
    return row.outcome, str(row.reason or "")


def cells(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rewrite(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def fill(path: Path, sku: str, **changes: str) -> None:
    rows = cells(path)
    for row in rows:
        if row["key"] == sku:
            row.update({name.replace("__", "."): value for name, value in changes.items()})
    rewrite(path, rows)


class TestPython:
    def test_the_queue_shows_what_waits(self, run: Run[Attributes]) -> None:
        """Rows that wait for a person come with source, reason, the answer's text and, where it fits, the output."""
        rows = {row.key: row for row in run.queue().rows}
        assert list(rows) == ["A-1", "A-2", "A-4", "A-5"]
        assert rows["A-1"].source == {"title": "EMPTY"}
        assert rows["A-1"].output == {"category": None, "features": [], "summary": "", "size": None}
        assert (rows["A-4"].output, rows["A-4"].answer) == (None, "I would rather not say.")
        assert str(rows["A-4"].reason) == "output.unparseable"
        assert len(run.queue()) == 4

    def test_an_answer_makes_the_row_succeed(self, run: Run[Attributes]) -> None:
        """A right answer, as a mapping or as the model, is staged under the person's name."""
        queue = run.queue()
        queue.judge("A-1", "answer", by="ann", output=RIGHT)
        queue.judge(
            "A-4", "edit", by="bob", output=Attributes(category=None, features=[], summary="Nothing.")
        )
        [first, second] = run.rows(keys=["A-1", "A-4"])
        assert first.output == Attributes.model_validate(RIGHT)
        assert (first.outcome, first.by, second.by) == (Outcome.SUCCEEDED, "ann", "bob")
        assert str(queue.progress) == "2/4 · 2 answer"
        assert run.progress.balanced

    def test_unanswerable_and_rejected_rows_are_quarantined(self, run: Run[Attributes]) -> None:
        """Who says that nobody can know, or rejects a record, closes it with that reason and the note."""
        run.queue().judge("A-1", "unanswerable", by="ann", note="the supplier sent no text")
        run.queue().judge("A-2", "reject", by="ann")
        assert outcome(run, "A-1") == (Outcome.QUARANTINED, "human.unanswerable")
        assert outcome(run, "A-2") == (Outcome.QUARANTINED, "human.rejected")
        assert next(iter(run.rows(keys=["A-1"]))).detail == "the supplier sent no text"

    def test_the_answer_shown_can_be_accepted(self, flow: Workflow[Attributes]) -> None:
        """Accepting takes the answer shown as a person's own, if the contract takes it."""
        spec = SPEC.evolve(contract=Contract(Attributes, sparse=lambda out: out.category is None))
        run = flow.with_spec(spec).run("plain", [{"sku": "A-1", "title": "EMPTY"}], unlocked=True)
        run.queue().judge("A-1", "accept", by="ann")
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED

    def test_an_answer_that_breaks_the_contract_is_refused_at_once(self, run: Run[Attributes]) -> None:
        """Schema and rules hold for people as for models; nothing is written of what breaks them."""
        queue = run.queue()
        for wrong in ({**RIGHT, "category": "Boats"}, {**RIGHT, "summary": ""}, {"category": "Audio"}, None):
            with pytest.raises(UsageError, match="'A-1'"):
                queue.judge("A-1", "answer", by="ann", output=wrong)
        with pytest.raises(UsageError, match="says_something"):
            queue.judge("A-1", "accept", by="ann")
        with pytest.raises(UsageError, match="no answer to accept"):
            queue.judge("A-4", "accept", by="ann")
        assert outcome(run, "A-1")[0] is Outcome.HUMAN_QUEUED
        assert queue.progress.read == 0

    def test_what_is_not_possible_is_said(self, run: Run[Attributes]) -> None:
        """Unknown verdicts and rows, missing names and rows that wait for nobody are refused by name."""
        queue = run.queue()
        with pytest.raises(UsageError, match="answer, accept, edit, unanswerable, reject, send_back"):
            queue.judge("A-1", "perhaps", by="ann")
        with pytest.raises(UsageError, match="no row 'Z-9'"):
            queue.judge("Z-9", "reject", by="ann")
        with pytest.raises(UsageError, match="needs a name"):
            queue.judge("A-1", "reject", by="")
        with pytest.raises(UsageError, match="does not wait for a person"):
            queue.judge("A-3", "reject", by="ann")
        with pytest.raises(UsageError, match="no tier 2"):
            queue.judge("A-1", "send_back", by="ann", tier=2)
        queue.judge("A-1", "answer", by="ann", output=RIGHT)
        with pytest.raises(UsageError, match="answer by ann"):
            queue.judge("A-1", "reject", by="bob")

    def test_an_undone_answer_waits_again_as_before(self, run: Run[Attributes]) -> None:
        """After an undo the row waits for its old reason with the model's answer shown again."""
        queue = run.queue()
        before = queue.rows
        queue.judge("A-1", "answer", by="ann", output=RIGHT)
        queue.judge("A-4", "answer", by="ann", output=RIGHT)
        queue.undo("A-1", by="bob")
        queue.undo("A-4", by="bob")
        assert queue.rows == before
        queue.judge("A-1", "answer", by="ann", output=RIGHT)
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED

    def test_only_an_answer_can_be_undone(self, run: Run[Attributes]) -> None:
        """Undoing what nobody said, or a rejection, is refused."""
        queue = run.queue()
        with pytest.raises(UsageError, match="nobody gave one"):
            queue.undo("A-1", by="ann")
        queue.judge("A-1", "reject", by="ann")
        with pytest.raises(UsageError, match="ann said 'reject'"):
            queue.undo("A-1", by="ann")

    def test_an_answer_gives_a_closed_run_a_new_receipt(
        self, flow: Workflow[Attributes], run: Run[Attributes]
    ) -> None:
        """After answers the closed run stays closed, and the next reconciliation chains one receipt for all of them."""
        first = latest_receipt(flow.store, run.record)
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        run.queue().judge("A-2", "reject", by="ann")
        assert run.reconcile().balanced
        second = latest_receipt(flow.store, run.record)
        assert first is not None
        assert second is not None
        assert (second[1]["number"], second[1]["previous"]) == (first[1]["number"] + 1, first[0])
        assert second[1]["balanced"]
        assert run.record.state is RunState.CLOSED

    def test_a_row_sent_back_opens_the_run_again(self, run: Run[Attributes]) -> None:
        """A row sent back goes to the last tier unless told, and the run closes again when it is answered."""
        run.queue().judge("A-5", "send_back", by="ann")
        assert run.record.state is RunState.OPEN
        run.wait(progress="none")
        [row] = run.rows(keys=["A-5"])
        assert (row.outcome, row.tier, run.record.state) == (Outcome.SUCCEEDED, 1, RunState.CLOSED)

    def test_a_row_that_came_back_is_unread_again(self, run: Run[Attributes]) -> None:
        """A row sent back that ends in the queue once more can be judged anew."""
        run.queue().judge("A-1", "send_back", by="ann", tier=0)
        run.wait(progress="none")
        assert "A-1" in {row.key for row in run.queue().rows}
        run.queue().judge("A-1", "unanswerable", by="ann")
        assert outcome(run, "A-1") == (Outcome.QUARANTINED, "human.unanswerable")


class TestWithoutASpec:
    def test_decisions_wait_for_the_mover(self, flow: Workflow[Attributes], run: Run[Attributes]) -> None:
        """Without the spec a decision is written down, leaves the list, and is settled by the next pass."""
        queue = attach(flow.store, "r").queue()
        queue.judge("A-1", "answer", by="ann", output=RIGHT)
        assert outcome(run, "A-1")[0] is Outcome.HUMAN_QUEUED
        assert "A-1" not in {row.key for row in queue.rows}
        assert str(queue.progress) == "1/4 · 1 answer"
        with pytest.raises(UsageError, match="answer by ann"):
            queue.judge("A-1", "reject", by="bob")
        run.advance()
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED
        assert latest_receipt(flow.store, run.record)[1]["number"] == 2  # type: ignore[index]

    def test_the_stored_schema_is_checked_at_once(
        self, flow: Workflow[Attributes], run: Run[Attributes]
    ) -> None:
        """What breaks the shape is refused without the code; what breaks a rule is refused by the mover."""
        queue = attach(flow.store, "r").queue()
        for wrong in ({**RIGHT, "category": "Boats"}, {**RIGHT, "more": 1}, {"category": None}, "text"):
            with pytest.raises(UsageError, match="'A-1'"):
                queue.judge("A-1", "answer", by="ann", output=wrong)
        queue.judge("A-1", "answer", by="ann", output={**RIGHT, "summary": ""})
        run.advance()
        assert outcome(run, "A-1")[0] is Outcome.HUMAN_QUEUED
        refused = [event for event in run.events() if event.kind == "answer.refused"]
        assert "says_something" in str(refused[0].data["why"])
        assert "A-1" in {row.key for row in queue.rows}

    def test_a_pass_settles_each_decision_once(
        self, flow: Workflow[Attributes], run: Run[Attributes]
    ) -> None:
        """Passes after the one that settled a decision leave row and receipt alone."""
        attach(flow.store, "r").queue().judge("A-1", "answer", by="ann", output=RIGHT)
        run.advance()
        settled = (flow.store.results(run.record.id), flow.store.docs(DocKind.RECEIPT))
        run.advance()
        run.advance()
        assert (flow.store.results(run.record.id), flow.store.docs(DocKind.RECEIPT)) == settled
        assert [event.kind for event in run.events()].count("answer.refused") == 0

    def test_while_another_process_moves_the_run_decisions_wait(
        self, flow: Workflow[Attributes], run: Run[Attributes]
    ) -> None:
        """Who has the spec and not the lease writes down, and the holder settles."""
        lease = flow.store.acquire(run.record.id, "somebody else", 60)
        assert lease is not None
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        assert outcome(run, "A-1")[0] is Outcome.HUMAN_QUEUED
        flow.store.release(lease)
        run.advance()
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
class TestFile:
    def test_a_file_nobody_touched_changes_nothing(
        self, run: Run[Attributes], tmp_path: Path, suffix: str
    ) -> None:
        """Saved and applied as it is, a file says nothing."""
        path = tmp_path / f"queue.{suffix}"
        assert run.queue().save(path) == 4
        assert run.queue().apply(path, reviewer="ann") == Applied(unchanged=4)

    def test_limit_and_reviewer_are_in_the_file(
        self, run: Run[Attributes], tmp_path: Path, suffix: str
    ) -> None:
        """A file can hold some of the rows, and the name of who fills it in."""
        path = tmp_path / f"queue.{suffix}"
        assert run.queue().save(path, limit=2, reviewer="bob") == 2
        assert '"bob"' in path.read_text() or ",bob," in path.read_text()


class TestCsv:
    @pytest.fixture
    def path(self, run: Run[Attributes], tmp_path: Path) -> Path:
        run.queue().save(tmp_path / "queue.csv", reviewer="bob")
        return tmp_path / "queue.csv"

    def apply(self, run: Run[Attributes], path: Path) -> Applied:
        return run.queue().apply(path)

    def test_changed_cells_are_an_answer(self, run: Run[Attributes], path: Path) -> None:
        """Filled-in cells become the answer: lists one item per line, blank for null, by name from the file."""
        fill(
            path, "A-1", output__category="Audio", output__features="'=x\r\n b \r\n", output__summary="Said."
        )
        assert self.apply(run, path) == Applied(applied=1, unchanged=3)
        [row] = run.rows(keys=["A-1"])
        assert row.output == Attributes(category="Audio", features=["=x", "b"], summary="Said.")
        assert row.by == "bob"

    def test_a_row_without_an_answer_can_be_given_one(self, run: Run[Attributes], path: Path) -> None:
        """Where there was no output at all, every cell is read, numbers and JSON lists too."""
        fill(
            path,
            "A-4",
            output__category="Cables",
            output__features='["a,b", "c"]',
            output__summary="x",
            output__size="7",
        )
        assert self.apply(run, path).applied == 1
        [row] = run.rows(keys=["A-4"])
        assert row.output == Attributes(category="Cables", features=["a,b", "c"], summary="x", size=7)

    def test_applying_again_changes_nothing(self, run: Run[Attributes], path: Path) -> None:
        """The same file applied twice, and once more after sorting, is applied once."""
        fill(path, "A-1", verdict="unanswerable", note="no text")
        fill(path, "A-2", output__category="Audio", output__summary="Said.")
        assert self.apply(run, path).applied == 2
        assert self.apply(run, path) == Applied(unchanged=4)
        rewrite(path, cells(path)[::-1])
        assert self.apply(run, path) == Applied(unchanged=4)

    def test_a_file_of_answers_gives_a_closed_run_a_new_receipt(
        self, flow: Workflow[Attributes], run: Run[Attributes], path: Path
    ) -> None:
        """Applying a file chains one receipt."""
        fill(path, "A-1", verdict="unanswerable")
        fill(path, "A-2", verdict="unanswerable")
        self.apply(run, path)
        held = latest_receipt(flow.store, run.record)
        assert held is not None
        assert held[1]["number"] == 2

    @pytest.mark.parametrize("delimiter", [";", "\t"])
    def test_spreadsheets_of_other_languages_save_other_marks(
        self, run: Run[Attributes], path: Path, delimiter: str
    ) -> None:
        """Semicolons or tabs in place of commas, and a byte order mark, are read."""
        rows = cells(path)
        rows[0]["verdict"] = "reject"
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        assert self.apply(run, path) == Applied(applied=1, unchanged=3)

    def test_a_file_in_another_encoding_is_refused_by_name(self, run: Run[Attributes], path: Path) -> None:
        """A file that is no UTF-8 says how to save it; nothing is applied."""
        fill(path, "A-1", output__summary="schön")
        path.write_bytes(path.read_text("utf-8").encode("latin-1"))
        with pytest.raises(UsageError, match="CSV UTF-8"):
            self.apply(run, path)

    def test_formulas_survive(self, run: Run[Attributes], path: Path) -> None:
        """Source cells that begin a formula are defused in the file, and nothing of it counts as a change."""
        by_key = {row["key"]: row for row in cells(path)}
        assert by_key["A-2"]["source.title"] == "EMPTY =1+1"
        assert self.apply(run, path).applied == 0

    def test_what_spreadsheets_do_to_cells_is_no_change(self, run: Run[Attributes], path: Path) -> None:
        """Other line ends and blanks at the end of a cell do not count."""
        fill(path, "A-1", output__summary=" ", verdict="  ", note="\r\n")
        assert self.apply(run, path) == Applied(unchanged=4)

    def test_invalid_answers_are_listed_and_not_applied(self, run: Run[Attributes], path: Path) -> None:
        """What breaks the contract, contradicts itself or names no verdict is listed by key, the rest is applied."""
        fill(path, "A-1", output__category="Boats", output__summary="x")
        fill(path, "A-2", verdict="reject", output__summary="but changed")
        fill(path, "A-4", verdict="maybe")
        fill(path, "A-5", verdict="unanswerable")
        done = self.apply(run, path)
        assert done.applied == 1
        assert {one.key: one.line for one in done.invalid} == {"A-1": 2, "A-2": 3, "A-4": 4}
        said = {one.key: one.why for one in done.invalid}
        assert "output.schema" in said["A-1"]
        assert "which is meant" in said["A-2"]
        assert "'maybe' is no verdict" in said["A-4"]
        assert "invalid  'A-1' (line 2)" in str(done)

    def test_a_note_or_verdict_alone_is_not_guessed(self, run: Run[Attributes], path: Path) -> None:
        """A note without a verdict, and 'edit' without a change, are listed as invalid."""
        fill(path, "A-1", note="hm")
        fill(path, "A-2", verdict="edit")
        assert [one.key for one in self.apply(run, path).invalid] == ["A-1", "A-2"]

    def test_an_answer_never_lands_on_another_row(self, run: Run[Attributes], path: Path) -> None:
        """Where the key column was moved against the others, every touched line is a conflict."""
        rows = cells(path)
        keys = [row["key"] for row in rows]
        for row, key in zip(rows, keys[1:] + keys[:1], strict=True):
            row.update({"key": key, "verdict": "unanswerable"})
        rewrite(path, rows)
        done = self.apply(run, path)
        assert (done.applied, len(done.conflicts)) == (0, 4)

    def test_what_was_said_meanwhile_is_a_conflict(self, run: Run[Attributes], path: Path) -> None:
        """A row that somebody else answered since the file was written keeps that answer; the file's is listed."""
        fill(path, "A-1", verdict="unanswerable")
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        done = self.apply(run, path)
        assert done.conflicts == (
            Refused(
                key="A-1",
                why="row 'A-1' does not wait for a person (any more): succeeded, answer by ann",
                line=2,
            ),
        )
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED

    def test_a_key_counts_once_per_file(self, run: Run[Attributes], path: Path) -> None:
        """A line copied and changed is listed; the first one counts."""
        rows = cells(path)
        rewrite(path, [{**rows[0], "verdict": "reject"}, {**rows[0], "verdict": "unanswerable"}, *rows[1:]])
        done = self.apply(run, path)
        assert (done.applied, [one.line for one in done.invalid]) == (1, [3])
        assert outcome(run, "A-1") == (Outcome.QUARANTINED, "human.rejected")

    def test_lines_that_lost_their_marks_are_listed(self, run: Run[Attributes], path: Path) -> None:
        """A line without what its row showed, or of an unknown row, is listed and not applied."""
        fill(path, "A-1", shown="", verdict="reject")
        fill(path, "A-2", key="Z-1", verdict="reject")
        assert {one.key for one in self.apply(run, path).invalid} == {"A-1", "Z-1"}

    def test_somebody_must_have_said_it(self, run: Run[Attributes], path: Path) -> None:
        """Answers without a name are refused whole; a name given to apply stands above the file's."""
        fill(path, "A-1", by="", verdict="reject")
        with pytest.raises(UsageError, match="whose answers"):
            run.queue().apply(path)
        assert run.queue().apply(path, reviewer="eve").applied == 1
        assert next(iter(run.rows(keys=["A-1"]))).by == "eve"

    def test_other_files_are_refused(self, run: Run[Attributes], tmp_path: Path) -> None:
        """A file that is no answer sheet, is not there or has another suffix is refused by name."""
        (tmp_path / "x.csv").write_text("a,b\n1,2\n")
        with pytest.raises(UsageError, match="is no answer sheet"):
            run.queue().apply(tmp_path / "x.csv", reviewer="ann")
        with pytest.raises(UsageError, match="there is no file"):
            run.queue().apply(tmp_path / "y.csv", reviewer="ann")
        (tmp_path / "x.html").write_text("")
        with pytest.raises(UsageError, match="suffix"):
            run.queue().apply(tmp_path / "x.html", reviewer="ann")
        with pytest.raises(UsageError, match="suffix"):
            run.queue().save(tmp_path / "z.html")


class TestJsonl:
    def test_answers_come_in_by_line(self, run: Run[Attributes], tmp_path: Path) -> None:
        """A program fills in outputs and verdicts; what cannot be read is listed with its line."""
        path = tmp_path / "queue.jsonl"
        run.queue().save(path)
        lines = {line["key"]: line for line in map(json.loads, path.read_text().splitlines())}
        lines["A-1"]["output"] = RIGHT
        lines["A-2"]["verdict"] = "unanswerable"
        lines["A-4"]["output"] = "text"
        lines["A-5"] |= {"verdict": "send_back", "tier": 1, "note": "try the larger one"}
        text = "\n".join(json.dumps(line) for line in lines.values())
        path.write_text(f"{text}\nnonsense\n[]\n")
        done = run.queue().apply(path, reviewer="program")
        assert done.applied == 3
        assert [(one.key, one.line) for one in done.invalid] == [("A-4", 3), ("", 5), ("", 6)]
        assert run.record.state is RunState.OPEN
        assert run.queue().apply(path, reviewer="program").applied == 0

    def test_without_a_spec_answers_are_pending(
        self, flow: Workflow[Attributes], run: Run[Attributes], tmp_path: Path
    ) -> None:
        """Applied through attach, answers are checked by the stored schema and wait for a mover, which is said."""
        path = tmp_path / "queue.jsonl"
        queue: Review[Any] = attach(flow.store, "r").queue()
        queue.save(path)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        lines[0]["output"] = RIGHT
        lines[1]["output"] = {**RIGHT, "size": "large"}
        path.write_text("\n".join(map(json.dumps, lines)))
        done = queue.apply(path, reviewer="ann")
        assert (done.applied, done.pending, [one.key for one in done.invalid]) == (1, 1, ["A-2"])
        assert "1 pending" in str(done)
        run.advance()
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED
        assert queue.apply(path, reviewer="ann").applied == 0


def test_a_promoted_answer_is_not_undone(run: Run[Attributes], tmp_path: Path) -> None:
    """An answer that may stand in a catalog by now is not taken back; one given after the promotion is."""
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as catalog:
        catalog.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, category, features, summary, size)")
        catalog.executemany("INSERT INTO products (sku) VALUES (?)", [(sku,) for sku in TITLES])
        catalog.commit()
    queue = run.queue()
    queue.judge("A-1", "answer", by="ann", output=RIGHT)
    assert run.promote(SQLiteTarget(tmp_path / "catalog.db", "products", key="sku")).written == 2
    queue.judge("A-2", "answer", by="ann", output=RIGHT)
    with pytest.raises(UsageError, match="may stand in a catalog"):
        queue.undo("A-1", by="ann")
    queue.undo("A-2", by="ann")
    assert (outcome(run, "A-1")[0], outcome(run, "A-2")[0]) == (Outcome.SUCCEEDED, Outcome.HUMAN_QUEUED)


def test_a_correction_outlives_the_next_promotion(run: Run[Attributes], tmp_path: Path) -> None:
    """A run whose queue was answered after a slice of it was corrected is promoted anew around the correction."""
    shop = tmp_path / "shop.db"
    with closing(sqlite3.connect(shop)) as db, db:
        db.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, category TEXT)")
        db.executemany("INSERT INTO products VALUES (?, '')", [("A-3",), ("A-1",)])
    target = SQLiteTarget(shop, "products", "sku", columns={"category": "category"})
    run.wait(progress="none")
    assert run.promote(target).written == 1
    fix = run.rows(keys=["A-3"]).rerun("fix", rows=[{"sku": "A-3", "title": "EMPTY"}], unlocked=True)
    fix.wait(progress="none")
    fix.queue().judge("A-3", "answer", by="ann", output=RIGHT)
    assert fix.promote(target).written == 1
    run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
    again = run.promote(target)
    assert (list(again.keys("written")), list(again.keys("conflict"))) == (["A-1"], ["A-3"])
    with closing(sqlite3.connect(shop)) as db:
        assert db.execute("SELECT * FROM products ORDER BY sku").fetchall() == [
            ("A-1", "Cables"),
            ("A-3", "Cables"),
        ]
    assert run.reconcile().balanced


class TestPromotedOnlyAsDecided:
    @pytest.fixture
    def target(self, tmp_path: Path) -> SQLiteTarget:
        path = tmp_path / "shop.db"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("CREATE TABLE products (sku TEXT PRIMARY KEY, category TEXT)")
            db.executemany("INSERT INTO products VALUES (?, '')", [(sku,) for sku in TITLES])
        return SQLiteTarget(path, "products", "sku", columns={"category": "category"})

    def test_an_answer_that_was_taken_back_is_not_promoted(
        self, flow: Workflow[Attributes], run: Run[Attributes], target: SQLiteTarget
    ) -> None:
        """What was taken back or answered without the spec is settled before the promotion, which counts it."""
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        queue = attach(flow.store, "r").queue()
        queue.undo("A-1", by="ann")
        queue.judge("A-2", "answer", by="bob", output=RIGHT)
        assert list(run.promote(target).keys("written")) == ["A-2", "A-3"]
        assert outcome(run, "A-1")[0] is Outcome.HUMAN_QUEUED

    def test_decisions_that_cannot_be_settled_stop_a_promotion(
        self, flow: Workflow[Attributes], run: Run[Attributes], target: SQLiteTarget
    ) -> None:
        """While somebody else moves the run, a promotion is refused as long as a decision waits."""
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        lease = flow.store.acquire(run.record.id, "somebody else", 60)
        assert lease is not None
        assert run.promote(target, dry_run=True).written == 2
        attach(flow.store, "r").queue().undo("A-1", by="ann")
        with pytest.raises(NotBalanced, match="not settled yet"):
            run.promote(target)
        assert target.promotions() == []
        flow.store.release(lease)
        assert run.promote(target).written == 1

    def test_an_undo_while_rows_are_read_stops_a_promotion(
        self, flow: Workflow[Attributes], run: Run[Attributes], target: SQLiteTarget
    ) -> None:
        """An answer that is taken back while the rows are read is not promoted either."""
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        queue, undone = attach(flow.store, "r").queue(), list[str]()

        def late(_: Attributes) -> bool:
            if not undone:
                undone.append("A-1")
                queue.undo("A-1", by="ann")
            return True

        with pytest.raises(StoreError, match="decision came in"):
            run.promote(target, where=late)
        assert target.promotions() == []

    def test_an_undo_that_a_promotion_overtook_is_refused(
        self, flow: Workflow[Attributes], run: Run[Attributes], target: SQLiteTarget
    ) -> None:
        """An undo that was written before a promotion was noted, and is settled after, takes nothing back."""
        run.queue().judge("A-1", "answer", by="ann", output=RIGHT)
        promote, queue = SQLiteTarget.promote, attach(flow.store, "r").queue()

        def late(*args: Any, **options: Any) -> Any:
            made = promote(*args, **options)
            queue.undo("A-1", by="ann")
            return made

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SQLiteTarget, "promote", late)
            assert run.promote(target).written == 2
        run.advance()
        assert outcome(run, "A-1")[0] is Outcome.SUCCEEDED
        [refused] = [event for event in run.events() if event.kind == "answer.refused"]
        assert "promoted since" in str(refused.data["why"])
