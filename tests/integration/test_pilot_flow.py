"""The pilot, as it goes: hard rows, a failing prompt, a better one, a lock, and a week later."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from batchkit.audit import Auditor
from batchkit.contract import Contract
from batchkit.errors import ContractError, GateNotMet, NotLocked, SpecChanged, UsageError
from batchkit.evalset import EvalSet
from batchkit.gate import Gate
from batchkit.model import BatchWhere, DocKind
from batchkit.pilot import Pilot
from batchkit.policy import Policy, quarantine
from batchkit.prompt import Prompt
from batchkit.review import Applied, ReviewRow
from batchkit.scorers import exact
from batchkit.spec import Spec
from batchkit.testing import simulated_client
from batchkit.testing.answers import Answer, prompt_text
from batchkit.testing.catalog import generate, truth
from batchkit.testing.profiles import NO_FAULTS
from batchkit.testing.taxonomy import CATEGORIES
from batchkit.tier import Tier
from batchkit.workflow import Workflow

NULL_RULE = (
    "You fill in product attributes. Use null for the category and empty lists when the text is too sparse."
)


class Attributes(BaseModel):
    features: Annotated[list[Annotated[str, Field(max_length=60)]], Field(max_length=5)]
    summary: Annotated[str, Field(max_length=120)]


SPARSE: dict[str, Any] = {"category": None, "features": [], "summary": "No description available."}


def catalog_spec() -> Spec[Any]:
    category: Any = (Literal[tuple(CATEGORIES)] | None, ...)
    closed = create_model("Product", __base__=Attributes, category=category)
    return Spec(
        Contract(closed, sparse=lambda out: out.category is None),
        Prompt("Title: {title}\nDescription: {description}", system="You fill in product attributes."),
        key="sku",
        metadata=["lang"],
        tiers=[Tier("claude-haiku-4-5", max_tokens=300), Tier("claude-sonnet-4-6", max_tokens=600)],
    )


def say(row: ReviewRow) -> tuple[str, Mapping[str, Any] | None]:
    """Judge as a careful reader would, who knows the truth."""
    right = truth(row.source)
    if row.output is not None and row.output["category"] == right:
        return "accept", None
    if right is None:
        return "edit", SPARSE
    if row.output is not None:
        return "edit", {**row.output, "category": right}
    return "reject", None


def read(pilot: Pilot[Any], by: str = "reviewer-1") -> int:
    review = pilot.review()
    rows = review.rows
    for row in rows:
        verdict, output = say(row)
        review.judge(row.key, verdict, by=by, output=output)
    return len(rows)


def test_from_a_failing_prompt_to_a_lock_and_on(tmp_path: Path) -> None:
    """A prompt without a null rule fails on empties; the better one passes, is locked, and later improved."""
    spec = catalog_spec()
    # Without chance faults: what the two prompts change is the same in every run.
    client = simulated_client(seed=1, profile=NO_FAULTS)
    flow = Workflow(spec, store=tmp_path / "s.db", client=client)
    rows = list(generate(3_000, seed=2))
    adapters = [
        row["sku"] for row in rows if truth(row) == "Adapters" and row["sku"] and row["lang"] == "en"
    ][:2]
    pilot = flow.pilot(rows, size=60, keys=adapters)

    first = pilot.run()
    assert (first.number, first.done, len(first.rows)) == (1, True, 60)
    with pytest.raises(NotLocked, match="60 of 60 pilot rows are unread"):
        pilot.lock(by="reviewer-1")
    assert read(pilot) == 60
    grade = first.grade
    assert grade.tags["empty"].good == 0
    assert grade.total.share < 0.85
    with pytest.raises(GateNotMet, match=r"rows 0\.\d+ < 0\.95 .*tag 'empty' 0 of"):
        pilot.lock(by="reviewer-1")

    better = spec.evolve(prompt=spec.prompt.evolve(system=NULL_RULE))
    second = pilot.run(better)
    found = pilot.compare()
    assert str(found).startswith("v1 | v2: ")
    assert len(found.fixed) >= grade.tags["empty"].rows
    assert not found.broken
    unread = read(pilot)
    assert unread < 25
    assert pilot.review().progress.left == 0
    assert second.grade.tags["empty"].good == second.grade.tags["empty"].rows
    with pytest.raises(NotLocked):
        flow.with_spec(better).start("catalog", rows, on_duplicate="first")
    lock = pilot.lock(
        by="reviewer-1", gate=Gate(min_pass=0.9, must_pass=["tag:empty"]), note="empties are null now"
    )
    assert lock.spec == better
    assert (lock.rows, lock.eval_set.version[:2]) == (60, "1-")
    assert "reviewer-1, 60 rows" in str(lock)

    run = flow.with_spec(lock.spec).start("catalog", rows[:300], on_duplicate="first")
    assert "reviewer-1" in str(run.progress.lock)
    held = json.loads(flow.store.get(DocKind.LOCK, run.record.spec) or b"")
    assert (held["good"], held["rows"], held["by"]) == (lock.good, 60, "reviewer-1")

    evals = lock.eval_set
    evals.save(tmp_path / "evalset.jsonl")
    loaded = EvalSet.load(tmp_path / "evalset.jsonl", spec.contract)
    assert loaded == evals
    examples = [loaded.example(key) for key in adapters if evals[key].expected is not None]
    assert examples
    assert {example.output["category"] for example in examples} == {"Adapters"}
    improved = better.evolve(prompt=better.prompt.with_examples(*examples))
    third = flow.with_spec(better).pilot()
    version = third.run(improved)
    assert version.number == 3
    assert version.grade.total.good > lock.good
    wrong = read(third, by="reviewer-2")
    assert wrong < 10
    later = third.lock(by="reviewer-2", note="chargers are not adapters", gate=Gate(min_pass=0.9))
    assert (later.by, later.version) == ("reviewer-2", 3)
    assert (later.eval_set == evals) is (wrong == 0)
    assert [one.version for one in third.locks] == [2, 3]
    assert later.good > lock.good
    assert loaded.grade(third.version(3)).total.good >= loaded.grade(third.version(2)).total.good
    assert Auditor().audit(third.rows(), improved, against=later.eval_set).shares.rows > 30


# -------------------------------------------------------------------- small ones, with a model of one's own


class Small(BaseModel):
    category: Literal["Audio", "Cables"] | None
    features: list[str]
    summary: str


def model(params: Mapping[str, Any], rng: Random) -> Answer:
    """Answer Audio; Cables where the static text says so; break the schema for rows called BROKEN."""
    text, system = prompt_text(params), json.dumps(params.get("system"))
    if "BROKEN" in text:
        return Answer(text='{"category":"Boats"}')
    category = '"Cables"' if "cables" in system and "wire" in text else '"Audio"'
    if "nothing" in text:
        category = "null"
    summary = "B" if "other words" in system else "A"
    return Answer(text=f'{{"category":{category},"features":["x"],"summary":"{summary}"}}')


SPEC = Spec(
    Contract(Small, sparse=lambda out: out.category is None, sparse_input=lambda row: not row["title"]),
    Prompt("{title}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=300)],
    policy=Policy.default().on("output.schema", quarantine()),
)
ROWS = [
    {"sku": "S-1", "title": "speaker", "brand": "b"},
    {"sku": "S-2", "title": "wire", "brand": "b"},
    {"sku": "S-3", "title": "BROKEN", "brand": "b"},
    {"sku": "S-4", "title": "", "brand": "b"},
    {"sku": "S-5", "title": "nothing", "brand": "b"},
]
CABLES = SPEC.evolve(prompt=SPEC.prompt.evolve(system="wires are cables"))
OTHER_WORDS = SPEC.evolve(prompt=SPEC.prompt.evolve(system="wires are cables, in other words"))
WIRE = {"category": "Cables", "features": ["x"], "summary": "A"}
BROKEN = {"category": "Audio", "features": [], "summary": "A"}


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[Workflow[Small]]:
    made = Workflow(SPEC, store=tmp_path / "store.db", client=simulated_client(model=model))
    yield made
    made.store.close()


@pytest.fixture
def pilot(flow: Workflow[Small]) -> Pilot[Small]:
    made = flow.pilot(ROWS)
    made.run()
    return made


def judge_all(pilot: Pilot[Small]) -> None:
    review = pilot.review()
    review.judge("S-1", "accept", by="ann")
    review.judge("S-2", "edit", by="ann", output=WIRE)
    review.judge("S-3", "edit", by="ann", output=BROKEN)
    review.judge("S-4", "accept", by="ann", note="rightly empty")
    review.judge("S-5", "accept", by="ann")


def batches(flow: Workflow[Small]) -> int:
    return len(flow.store.batches(BatchWhere()))


class TestRows:
    def test_the_same_store_and_name_give_the_same_rows(
        self, flow: Workflow[Small], pilot: Pilot[Small]
    ) -> None:
        """A pilot is found again by its name, with or without rows, whatever the rows are by then."""
        again = flow.pilot([{"sku": "T-1", "title": "else"}], size=1)
        assert again.sample == pilot.sample == flow.pilot().sample
        assert [version.number for version in again.versions] == [1]
        other = flow.pilot([{"sku": "T-1", "title": "else"}], name="second")
        assert [row.key for row in other.sample] == ["T-1"]

    def test_what_cannot_be_a_pilot_is_refused(self, flow: Workflow[Small]) -> None:
        """No rows for a new pilot, nothing to sample, a name with a slash, a named key it lacks."""
        with pytest.raises(UsageError, match="no pilot 'pilot' in this store yet"):
            flow.pilot()
        with pytest.raises(UsageError, match="no row to sample"):
            flow.pilot([{"sku": "", "title": "x"}])
        with pytest.raises(UsageError, match="is no name for a pilot"):
            flow.pilot(ROWS, name="a/b")
        flow.pilot(ROWS)
        with pytest.raises(UsageError, match="sampled before, without 'T-1'"):
            flow.pilot(ROWS, keys=["T-1"])

    def test_a_later_prompt_may_use_another_column(self, flow: Workflow[Small], pilot: Pilot[Small]) -> None:
        """All columns of a sampled row are kept, so the next version can send one that the first did not."""
        version = pilot.run(SPEC.evolve(prompt=Prompt("{title} by {brand}")))
        assert {row.source["brand"] for row in version} == {"b"}

    def test_another_key_is_refused(self, flow: Workflow[Small], pilot: Pilot[Small]) -> None:
        """A spec with another key field does not fit the pilot's rows."""
        with pytest.raises(UsageError, match="'sku', the spec by 'brand'"):
            pilot.run(SPEC.evolve(key="brand"))


class TestVersions:
    def test_a_spec_is_paid_once(self, flow: Workflow[Small], pilot: Pilot[Small]) -> None:
        """Running a spec again, or the latest without naming it, gives its version and sends nothing."""
        assert batches(flow) == 1
        assert pilot.run().number == pilot.run(SPEC).number == flow.pilot().run().number == 1
        assert batches(flow) == 1
        assert pilot.run(CABLES).number == 2
        assert pilot.run().number == 2
        assert batches(flow) == 2

    def test_an_unfinished_version_is_finished(self, flow: Workflow[Small]) -> None:
        """A version whose process died before it was sent goes on, as the same version."""
        pilot = flow.pilot(ROWS)
        records = [dict(row.record) for row in pilot.sample]
        flow.start_unlocked("pilot/v1", records, spec=SPEC, options={})
        assert not pilot.version().done
        # Only the row that is not sent at all can be read by now.
        assert [row.key for row in pilot.review().rows] == ["S-4"]
        assert [row.key for row in pilot.review(only_changed=False).rows] == ["S-4"]
        with pytest.raises(UsageError, match="is not answered yet"):
            pilot.review().judge("S-1", "reject", by="ann")
        with pytest.raises(NotLocked, match="not finished"):
            pilot.lock(by="ann")
        assert pilot.run().done
        assert batches(flow) == 1

    def test_versions_are_found_by_number_and_from_the_end(self, pilot: Pilot[Small]) -> None:
        """A version is named by its number, or -1 for the latest; others are refused with those there are."""
        pilot.run(CABLES)
        assert pilot.version().number == pilot.version(2).number == 2
        assert pilot.version(-2).number == 1
        assert pilot.version(1).spec == SPEC
        with pytest.raises(UsageError, match="no version 3; there is v1, v2"):
            pilot.version(3)

    def test_a_changed_contract_is_another_version(self, flow: Workflow[Small], pilot: Pilot[Small]) -> None:
        """Old versions stay readable under another contract, their spec does not; the lock is of the new one."""
        judge_all(pilot)

        class Wider(BaseModel):
            features: list[str]
            summary: str
            category: Literal["Audio", "Cables", "Boats"] | None

        contract = Contract(
            Wider, sparse=lambda out: out.category is None, sparse_input=lambda row: not row["title"]
        )
        wide = SPEC.evolve(contract=contract)
        later = flow.with_spec(wide).pilot()
        with pytest.raises(SpecChanged):
            later.run()
        later.run(wide)
        assert str(later.compare()) == "v1 | v2: 0 fixed, 0 broken, 5 same"
        assert str(later.version(1)).endswith("5/5 · 3 accept · 2 edit")
        later.run(wide.evolve(prompt=wide.prompt.evolve(system="wires are cables")))
        assert str(later.compare(1, 3)) == "v1 | v3: 1 fixed, 0 broken, 4 same"
        assert str(later.compare(3, 1)) == "v3 | v1: 0 fixed, 1 broken, 4 same"
        assert len(later.rows(version=1)) == 5
        with pytest.raises(SpecChanged):
            _ = later.version(1).spec
        assert later.locks == ()


class TestReading:
    def test_every_row_must_be_judged(self, pilot: Pilot[Small]) -> None:
        """A lock is refused until each row was accepted, edited or rejected; then the gate decides."""
        review = pilot.review()
        review.judge("S-1", "accept", by="ann")
        with pytest.raises(NotLocked, match=r"4 of 5 pilot rows are unread \(S-"):
            pilot.lock(by="ann", gate=Gate(min_pass=0))
        judge_all_but_one = [row.key for row in review.rows]
        for key in judge_all_but_one:
            review.judge(key, "reject", by="ann")
        with pytest.raises(GateNotMet, match=r"rows 0\.2 < 0\.95 \(1/5"):
            pilot.lock(by="ann")
        with pytest.raises(UsageError, match="needs a name"):
            pilot.lock(by="")

    def test_only_an_answer_can_be_accepted(self, pilot: Pilot[Small]) -> None:
        """A row that ended in failure is edited or rejected; one that is rightly without an answer is accepted."""
        review = pilot.review()
        with pytest.raises(UsageError, match=r"no valid answer to accept \(output\.schema\)"):
            review.judge("S-3", "accept", by="ann")
        with pytest.raises(UsageError, match=r"output\.schema"):
            review.judge("S-3", "edit", by="ann", output={"category": "Boats"})
        with pytest.raises(UsageError, match="accept it"):
            review.judge(
                "S-1", "edit", by="ann", output={"category": "Audio", "features": ["x"], "summary": "A"}
            )
        with pytest.raises(UsageError, match="accept, edit, reject"):
            review.judge("S-1", "answer", by="ann", output=WIRE)
        review.judge("S-4", "accept", by="ann")
        review.judge("S-5", "accept", by="ann")
        assert str(review.progress) == "2/5 · 2 accept"

    def test_a_verdict_can_be_changed_and_undone(self, pilot: Pilot[Small]) -> None:
        """The last thing said counts; an undo brings back what was said before, then nothing."""
        review = pilot.review(only_changed=False)
        review.judge("S-1", "accept", by="ann")
        review.judge("S-1", "reject", by="bob")
        assert pilot.rows(verdict="reject").keys() == ["S-1"]
        review.undo("S-1", by="bob")
        assert pilot.rows(verdict="accept").keys() == ["S-1"]
        review.undo("S-1", by="ann")
        assert len(pilot.rows(verdict="unread")) == 5
        with pytest.raises(UsageError, match="nothing was said"):
            review.undo("S-1", by="ann")
        with pytest.raises(UsageError, match="no verdict of a pilot"):
            pilot.rows(verdict="good")

    def test_unchanged_answers_carry_their_verdict(self, pilot: Pilot[Small]) -> None:
        """In the next version only rows with another answer are unread; the others keep what was said."""
        judge_all(pilot)
        pilot.run(CABLES)
        assert [row.key for row in pilot.review().rows] == ["S-2"]
        assert {row.key for row in pilot.review(only_changed=False).rows} == {row["sku"] for row in ROWS}
        assert str(pilot.compare()) == "v1 | v2: 1 fixed, 0 broken, 4 same"
        assert str(pilot.compare(2, 1)) == "v2 | v1: 0 fixed, 1 broken, 4 same"

    def test_before_a_lock_other_words_are_read_again(self, pilot: Pilot[Small]) -> None:
        """An answer in other words is unread until a spec is locked; then it is graded by the eval set."""
        judge_all(pilot)
        pilot.run(OTHER_WORDS)
        assert sorted(row.key for row in pilot.review().rows) == ["S-1", "S-2", "S-5"]
        assert pilot.grade().total.good == 4
        pilot.review().judge("S-1", "accept", by="ann")
        pilot.review().judge("S-2", "accept", by="ann")
        pilot.review().judge("S-5", "accept", by="ann")
        lock = pilot.lock(by="ann", gate=Gate(min_pass=0.8))
        assert (lock.good, lock.rows) == (4, 5)
        pilot.run(CABLES)
        assert pilot.review().rows == []
        locked = pilot.lock(by="bob", gate=Gate(min_pass=0.8))
        assert locked.eval_set == lock.eval_set

    def test_after_a_lock_only_wrong_answers_are_read(
        self, flow: Workflow[Small], pilot: Pilot[Small]
    ) -> None:
        """Rows graded equal to what is expected are carried; the others need a person, who may be overruled."""
        judge_all(pilot)
        pilot.run(CABLES)
        pilot.review().judge("S-2", "accept", by="ann")
        pilot.lock(by="ann", gate=Gate(min_pass=0.8))
        worse = SPEC.evolve(prompt=SPEC.prompt.evolve(system="other words"))
        pilot.run(worse)
        assert [row.key for row in pilot.review().rows] == ["S-2"]
        assert "S-2" in pilot.compare().broken

    def test_the_lock_of_a_spec_stands(self, flow: Workflow[Small], pilot: Pilot[Small]) -> None:
        """Locking a locked spec again gives the lock there is."""
        judge_all(pilot)
        first = pilot.lock(by="ann", gate=Gate(min_pass=0.5), note="good enough")
        assert pilot.lock(by="bob") == first
        assert (first.by, first.note) == ("ann", "good enough")
        held = json.loads(flow.store.get(DocKind.LOCK, SPEC.fingerprint) or b"")
        assert (held["good"], held["rows"], held["share"], held["pilot"]) == (3, 5, 0.6, "pilot")
        assert held["gate"] == {"min_pass": 0.5, "fields": {}, "must_pass": []}
        assert held["eval_set"] == first.eval_set.version

    def test_scorers_of_the_lock_are_kept(self, pilot: Pilot[Small]) -> None:
        """A scorer passed to lock() is named in the eval set, and later versions are graded by it."""
        judge_all(pilot)
        lock = pilot.lock(by="ann", gate=Gate(min_pass=0.5), scorers={"summary": exact})
        assert lock.eval_set.scorers == {"summary": "exact"}
        pilot.run(OTHER_WORDS)
        assert sorted(row.key for row in pilot.review().rows) == ["S-1", "S-2", "S-5"]
        assert pilot.grade(scorers={"summary": lambda expected, actual, row: True}).total.good == 4

    def test_where_a_users_scorer_is_not_at_hand_a_person_reads(self, pilot: Pilot[Small]) -> None:
        """Rows graded by a user's function when the spec was locked are carried over only where values are equal."""

        def first_letter(expected: Any, actual: Any, row: Any) -> bool:
            return bool(expected[:1] == actual[:1])

        judge_all(pilot)
        lock = pilot.lock(by="ann", gate=Gate(min_pass=0.5), scorers={"summary": first_letter})
        assert lock.eval_set.scorers == {"summary": "first_letter"}
        pilot.run(OTHER_WORDS)
        assert sorted(row.key for row in pilot.review().rows) == ["S-1", "S-2", "S-5"]
        with pytest.raises(UsageError, match=r"scorers=\{'summary': first_letter\}"):
            pilot.grade()
        assert pilot.grade(scorers={"summary": first_letter}).total.good == 1

    def test_an_earlier_version_can_be_locked(self, flow: Workflow[Small], pilot: Pilot[Small]) -> None:
        """A worse later version does not stand in the way of locking the one before it."""
        judge_all(pilot)
        pilot.run(CABLES)
        lock = pilot.lock(by="ann", gate=Gate(min_pass=0.6), version=1)
        assert (lock.version, lock.spec) == (1, SPEC)
        assert lock.eval_set.expected("S-2") == Small.model_validate(WIRE)

    def test_the_eval_set_holds_what_was_said(self, pilot: Pilot[Small]) -> None:
        """Accepted and edited rows carry the right answer, rejected ones what they are not, silent ones none."""
        judge_all(pilot)
        pilot.review(only_changed=False).judge("S-1", "reject", by="ann", note="no")
        evals = pilot.eval_set
        assert (evals["S-2"].expected, evals["S-2"].verdict) == (WIRE, "edit")
        assert (evals["S-1"].expected, evals["S-1"].not_this) == (
            None,
            {"category": "Audio", "features": ["x"], "summary": "A"},
        )
        assert evals["S-4"].silent
        assert evals["S-5"].expected == {"category": None, "features": ["x"], "summary": "A"}
        assert evals.grade(pilot.version()).total.good == 2

    def test_an_earlier_right_answer_outlives_a_rejection(self, pilot: Pilot[Small]) -> None:
        """Where one answer was accepted and a later, different one rejected, the accepted one is still expected."""
        judge_all(pilot)
        pilot.run(OTHER_WORDS)
        pilot.review().judge("S-1", "reject", by="ann")
        assert pilot.eval_set["S-1"].expected == {"category": "Audio", "features": ["x"], "summary": "A"}


class TestFile:
    def test_a_pilot_is_read_in_a_spreadsheet(self, pilot: Pilot[Small], tmp_path: Path) -> None:
        """Verdicts and changed cells come back by key; the same file again changes nothing."""
        path = tmp_path / "review.csv"
        assert pilot.review().save(path, reviewer="ann") == 5
        with path.open(newline="", encoding="utf-8") as file:
            rows = {row["key"]: row for row in csv.DictReader(file)}
        assert rows["S-2"]["why"]
        rows["S-1"]["verdict"] = "accept"
        rows["S-2"]["output.category"] = "Cables"
        rows["S-3"].update({"output.category": "Audio", "output.summary": "A"})
        rows["S-4"]["verdict"] = "ACCEPT"
        rows["S-5"]["verdict"] = "accept"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows["S-1"]))
            writer.writeheader()
            writer.writerows(rows.values())
        assert pilot.review().apply(path) == Applied(applied=5)
        assert pilot.review().apply(path) == Applied(unchanged=5)
        assert pilot.eval_set["S-2"].expected == WIRE
        assert pilot.lock(by="ann", gate=Gate(min_pass=0.6)).good == 3

    def test_a_verdict_of_another_answer_is_a_conflict(self, pilot: Pilot[Small], tmp_path: Path) -> None:
        """A file written for v1 does not judge v2's different answer."""
        path = tmp_path / "review.jsonl"
        pilot.review().save(path)
        lines = [{**json.loads(line), "verdict": "reject"} for line in path.read_text().splitlines()]
        path.write_text("\n".join(map(json.dumps, lines)))
        pilot.run(CABLES)
        done = pilot.review().apply(path, reviewer="ann")
        assert [one.key for one in done.conflicts] == ["S-2"]
        assert done.applied == 4

    def test_a_later_word_is_not_overwritten_by_an_older_file(
        self, pilot: Pilot[Small], tmp_path: Path
    ) -> None:
        """What somebody said after the file was written stands; the file's verdict is listed as a conflict."""
        path = tmp_path / "review.jsonl"
        pilot.review().save(path)
        lines = [{**json.loads(line), "verdict": "reject"} for line in path.read_text().splitlines()]
        path.write_text("\n".join(map(json.dumps, lines)))
        pilot.review().judge("S-1", "accept", by="bob")
        done = pilot.review().apply(path, reviewer="ann")
        assert [(one.key, one.why) for one in done.conflicts] == [
            ("S-1", "bob has said 'accept' since the file was written")
        ]
        assert pilot.rows(verdict="accept").keys() == ["S-1"]


def test_an_example_from_the_eval_set_is_checked(pilot: Pilot[Small]) -> None:
    """An expected answer makes an example that a spec takes, and one of another contract is refused."""
    judge_all(pilot)
    example = pilot.eval_set.example("S-2")
    assert SPEC.evolve(prompt=SPEC.prompt.with_examples(example)).prompt.examples[0].output == WIRE

    class Other(BaseModel):
        category: Literal["Boats"]

    with pytest.raises(ContractError):
        SPEC.evolve(contract=Contract(Other), prompt=SPEC.prompt.with_examples(example))
