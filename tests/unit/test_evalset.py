"""The eval set as a value and as a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest
from pydantic import BaseModel

from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.evalset import EvalRow, EvalSet
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.rules import rule
from batchkit.scorers import exact


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    features: list[str]


@rule(version=1)
def has_features(out: Answer) -> bool:
    return bool(out.features)


CONTRACT = Contract(Answer, rules=[has_features], sparse=lambda out: out.category is None)
GOOD = {"category": "Audio", "features": ["a"]}
SPARSE: dict[str, Any] = {"category": None, "features": []}


def a_row(key: str, **changes: Any) -> EvalRow:
    made = EvalRow(
        key=key, source={"title": f"Title {key}"}, expected=GOOD, verdict="accept", by="ann", at=1.5
    )
    return attrs.evolve(made, **changes)


def a_set(*rows: EvalRow, **changes: Any) -> EvalSet[Answer]:
    return EvalSet(name="pilot", contract=CONTRACT, rows=rows or (a_row("A-1"), a_row("A-2")), **changes)


@attrs.frozen
class Answered:
    key: str
    output: Answer | None = None
    reason: Reason | None = None
    answer: str | None = None


class TestFile:
    def test_it_comes_back_as_it_was(self, tmp_path: Path) -> None:
        """A saved set is loaded equal, rejected rows, silent rows and sparse answers included."""
        evals = a_set(
            a_row("A-1", tags=("empty", "odd-key"), note="zwei\nZeilen \u2028 und \U0001f50c"),
            a_row("A-2", verdict="edit", expected=SPARSE),
            a_row("A-3", verdict="reject", expected=None, not_this=GOOD),
            a_row("A-4", expected=None, source={"title": None}),
            counter=3,
            scorers={"features": "overlap(0.5)"},
        )
        evals.save(tmp_path / "evalset.jsonl")
        loaded = EvalSet.load(tmp_path / "evalset.jsonl", CONTRACT)
        assert loaded == evals
        assert loaded.version == evals.version
        assert loaded.version.startswith("3-")
        assert len((tmp_path / "evalset.jsonl").read_text("utf-8").split("\n")) == 6

    def test_another_contract_is_refused(self, tmp_path: Path) -> None:
        """A set judged under another rule version is not taken for this contract's."""
        a_set().save(tmp_path / "e.jsonl")

        @rule(version=2, name="has_features")
        def newer(out: Answer) -> bool:
            return bool(out.features)

        with pytest.raises(UsageError, match="judged under contract"):
            EvalSet.load(tmp_path / "e.jsonl", Contract(Answer, rules=[newer]))

    def test_a_broken_expected_answer_is_named(self, tmp_path: Path) -> None:
        """An expected answer that a hand broke is refused with its line and what is wrong."""
        a_set().save(tmp_path / "e.jsonl")
        text = (tmp_path / "e.jsonl").read_text().replace('"Audio"', '"Boats"', 1)
        (tmp_path / "e.jsonl").write_text(text)
        with pytest.raises(UsageError, match=r"line 2: row 'A-1': .*output\.schema"):
            EvalSet.load(tmp_path / "e.jsonl", CONTRACT)

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            ("", "is no eval set"),
            ('{"rows": 1}', "is no eval set"),
            ("[]", "line 1 is no JSON object"),
            ("nonsense", "line 1 is no JSON"),
        ],
    )
    def test_other_files_are_refused(self, tmp_path: Path, body: str, said: str) -> None:
        """A file that is no eval set is refused by name."""
        (tmp_path / "e.jsonl").write_text(body)
        with pytest.raises(UsageError, match=said):
            EvalSet.load(tmp_path / "e.jsonl", CONTRACT)

    @pytest.mark.parametrize(
        "change",
        [{"verdict": "perhaps"}, {"key": 7}, {"expected": []}, {"source": None}, {"at": "noon"}],
    )
    def test_a_row_of_the_wrong_form_is_named(self, tmp_path: Path, change: dict[str, Any]) -> None:
        """A line that is no row of an eval set is refused with its number."""
        a_set().save(tmp_path / "e.jsonl")
        lines = (tmp_path / "e.jsonl").read_text().splitlines()
        lines[2] = json.dumps({**json.loads(lines[2]), **change})
        (tmp_path / "e.jsonl").write_text("\n".join(lines))
        with pytest.raises(UsageError, match="line 3 is no row"):
            EvalSet.load(tmp_path / "e.jsonl", CONTRACT)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """A file that is not there is an error of the caller."""
        with pytest.raises(UsageError, match="there is no file"):
            EvalSet.load(tmp_path / "nope.jsonl", CONTRACT)

    def test_a_key_stands_there_once(self) -> None:
        """Two rows of one key are refused."""
        with pytest.raises(UsageError, match="twice: 'A-1'"):
            a_set(a_row("A-1"), a_row("A-1"))


class TestUse:
    def test_version_follows_the_content(self) -> None:
        """The version changes with the rows and not with where the set was kept."""
        assert a_set().version == a_set().version
        assert a_set(a_row("A-1"), a_row("A-2", note="why")).digest != a_set().digest
        assert a_set(counter=2).digest == a_set().digest

    def test_an_example_goes_into_a_prompt(self) -> None:
        """A row with an expected answer makes an example; one without cannot."""
        example = a_set().example("A-2")
        assert (example.key, example.output, example.row) == ("A-2", GOOD, {"title": "Title A-2"})
        assert Prompt("{title}").with_examples(example).examples == (example,)
        with pytest.raises(UsageError, match="no expected answer"):
            a_set(a_row("A-1", verdict="reject", expected=None)).example("A-1")
        with pytest.raises(UsageError, match="no row 'B-9'"):
            a_set().example("B-9")

    def test_expected_answers_have_the_contracts_type(self) -> None:
        """An expected answer comes as the model, and outputs() gives all of them plain."""
        evals = a_set(a_row("A-1"), a_row("A-2", verdict="reject", expected=None))
        assert evals.expected("A-1") == Answer(category="Audio", features=["a"])
        assert evals.expected("A-2") is None
        assert list(evals.outputs()) == [GOOD]

    def test_diff_names_rows(self) -> None:
        """The difference of two sets is listed by key, and who judged is none."""
        old = a_set(a_row("A-1"), a_row("A-2"), a_row("A-3"))
        new = a_set(a_row("A-1", by="bob"), a_row("A-2", expected=SPARSE, verdict="edit"), a_row("A-4"))
        found = new.diff(old)
        assert (found.added, found.removed, found.changed) == (("A-4",), ("A-3",), ("A-2",))
        assert str(found) == "added 1: A-4; removed 1: A-3; changed 1: A-2"
        assert not old.diff(old)
        assert str(old.diff(old)) == "no difference"

    def test_it_grades_a_runs_rows(self) -> None:
        """Valid answers, sparse ones and failures are graded against what is expected, other keys passed over."""
        evals = a_set(
            a_row("A-1"),
            a_row("A-2", expected=SPARSE),
            a_row("A-3"),
            a_row("A-4", expected=None),
            a_row("A-5", verdict="reject", expected=None, not_this=GOOD),
        )
        rows = [
            Answered("A-1", Answer(category="Audio", features=["a"])),
            Answered("A-2", None, Reason.OUTPUT_SPARSE, json.dumps(SPARSE)),
            Answered("A-3", None, Reason.OUTPUT_SCHEMA, "{}"),
            Answered("A-4", None, Reason.INPUT_SPARSE),
            Answered("A-5", Answer(category="Cables", features=["a"])),
            Answered("Z-1", Answer(category="Cables", features=["a"])),
        ]
        grade = evals.grade(rows)
        assert (grade.total.good, grade.total.rows, grade.unread) == (3, 4, ("A-5",))
        assert [one.case.key for one in grade.failures] == ["A-3"]

    def test_a_scorer_can_be_passed(self) -> None:
        """Scorers given by the caller replace the type's."""
        rows = [Answered("A-1", Answer(category="Audio", features=["A "]))]
        assert a_set().grade(rows).total.good == 1
        assert a_set().grade(rows, scorers={"features": exact}).total.good == 0

    def test_it_is_a_collection(self) -> None:
        """It counts, iterates, finds by key and says what it is."""
        evals = a_set()
        assert len(evals) == 2
        assert [row.key for row in evals] == ["A-1", "A-2"]
        assert evals["A-1"].by == "ann"
        assert "2 rows" in repr(evals)
