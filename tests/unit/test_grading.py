"""Answers against what people expect: scorers, grades, gates, comparisons."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from batchkit.comparison import Standing, compare
from batchkit.contract import Contract
from batchkit.errors import UsageError
from batchkit.gate import Gate, failing_tags
from batchkit.grading import Case, Grade, Share, grade_case, grade_cases
from batchkit.scorers import (
    as_scorer,
    chosen_scorers,
    default_scorers,
    exact,
    ignore,
    named_scorer,
    overlap,
    valid,
)


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    features: Annotated[list[str], Field(max_length=5)]
    summary: str
    code: Annotated[str, Field(pattern="^[A-Z]+$")] = "A"
    size: int | None = None
    fragile: bool = False


SCHEMA = Contract(Answer).schema
GOOD: dict[str, Any] = {"category": "Audio", "features": ["two ports", "20 W"], "summary": "A speaker."}


def graded(**changes: Any) -> tuple[bool, tuple[str, ...]]:
    case = Case(key="k", expected=GOOD, actual={**GOOD, **changes})
    found = grade_case(case, default_scorers(SCHEMA))
    assert found is not None
    return found.good, found.wrong


class TestScorers:
    def test_fields_are_compared_by_their_type(self) -> None:
        """Closed lists, booleans, numbers and formatted text are exact, lists overlap, free text is valid."""
        names = {field: scorer.name for field, scorer in default_scorers(SCHEMA).items()}
        assert names == {
            "category": "exact",
            "features": "overlap(0.6)",
            "summary": "valid",
            "code": "exact",
            "size": "exact",
            "fragile": "exact",
        }

    @pytest.mark.parametrize(
        ("expected", "actual", "passes"),
        [
            ([], [], True),
            (None, [], True),
            (["a"], [], False),
            (["a", "b", "c"], ["C ", "b", "A"], True),
            (["a", "b", "c", "d", "e"], ["a", "b", "c"], True),
            (["a", "b", "c", "d", "e"], ["a", "b", "x", "y", "z"], False),
            ([{"n": 1}], [{"n": 1}], True),
        ],
    )
    def test_lists_overlap(self, expected: Any, actual: Any, passes: bool) -> None:
        """Lists are alike where enough of the longer one is in both, whatever order and case."""
        assert overlap(0.6).passes(expected, actual, {}) is passes

    def test_a_wrong_field_is_named(self) -> None:
        """A wrong category or too few common features make the row wrong; another summary does not."""
        assert graded() == (True, ())
        assert graded(summary="Something else.") == (True, ())
        assert graded(category="Cables") == (False, ("category",))
        assert graded(category=None, features=["x"]) == (False, ("category", "features"))

    def test_a_users_scorer_sees_expected_actual_and_row(self) -> None:
        """A function gives true, false, or a number that passes from a half; it has its own name."""

        def close(expected: Any, actual: Any, row: Any) -> float:
            return 0.5 if row["title"] in actual else 0.49

        scorers = chosen_scorers(SCHEMA, given={"summary": close})
        assert scorers["summary"].name == "close"
        case = Case(
            key="k", source={"title": "speaker"}, expected=GOOD, actual={**GOOD, "summary": "a speaker"}
        )
        good, bad = (
            grade_case(case, scorers),
            grade_case(Case(key="k", source={"title": "lamp"}, expected=GOOD, actual=GOOD), scorers),
        )
        assert good is not None
        assert good.good
        assert bad is not None
        assert bad.wrong == ("summary",)

    def test_an_ignored_field_is_not_counted(self) -> None:
        """A field that is ignored is in no share."""
        grade = grade_cases(
            [Case(key="k", expected=GOOD, actual=GOOD)], {"category": exact, "summary": ignore}
        )
        assert list(grade.fields) == ["category"]

    def test_scorers_are_found_by_name(self) -> None:
        """The names in an eval set's header give batchkit's own scorers, and None for a user's."""
        assert named_scorer("overlap(0.25)") == overlap(0.25)
        assert [named_scorer(n) for n in ("exact", "valid", "ignore", "mine")] == [exact, valid, ignore, None]
        with pytest.raises(UsageError, match=r"scorers=\{'summary': mine\}"):
            chosen_scorers(SCHEMA, named={"summary": "mine"})
        assert chosen_scorers(SCHEMA, named={"summary": "mine"}, given={"summary": exact})["summary"] == exact

    def test_unknown_fields_and_shares_are_refused(self) -> None:
        """A scorer of no field and an overlap of nothing are refused."""
        with pytest.raises(UsageError, match="no field 'sumary'"):
            chosen_scorers(SCHEMA, given={"sumary": exact})
        with pytest.raises(UsageError, match="overlap"):
            overlap(0)

    def test_as_scorer_keeps_a_scorer(self) -> None:
        """A scorer stays itself."""
        assert as_scorer(exact) is exact


class TestCases:
    scorers = default_scorers(SCHEMA)

    def good(self, **case: Any) -> bool | None:
        found = grade_case(Case(key="k", **case), self.scorers)
        return None if found is None else found.good

    def test_what_a_person_said_of_this_answer_counts(self) -> None:
        """Accepted is good, edited and rejected are not, whatever a scorer would say."""
        assert self.good(actual=GOOD, read="accept") is True
        assert self.good(actual=GOOD, expected={**GOOD, "summary": "Better."}, read="edit") is False
        assert self.good(actual=GOOD, read="reject") is False

    def test_an_edit_tells_which_fields_are_wrong(self) -> None:
        """The fields of an edited answer are compared with the edit; all of a rejected one count as wrong."""
        edited = grade_case(
            Case(key="k", actual=GOOD, expected={**GOOD, "category": "Cables"}, read="edit"), self.scorers
        )
        rejected = grade_case(Case(key="k", actual=GOOD, read="reject"), self.scorers)
        assert edited is not None
        assert rejected is not None
        assert edited.wrong == ("category",)
        assert rejected.wrong == tuple(self.scorers)

    def test_silence_is_right_where_people_said_so(self) -> None:
        """Where no answer is right, none given because the record is too sparse is good, and a failure is not."""
        assert self.good(silent=True, hushed=True) is True
        assert self.good(silent=True, hushed=False) is False
        assert self.good(silent=True, actual=GOOD) is False

    def test_no_valid_answer_is_wrong(self) -> None:
        """A row without a valid answer is wrong, expected answer or not."""
        assert self.good(expected=GOOD) is False
        assert self.good() is False

    def test_a_rejected_answer_is_wrong_again(self) -> None:
        """The same answer as the rejected one is wrong; of another one only a person can say."""
        assert self.good(actual=GOOD, not_this=GOOD) is False
        assert self.good(actual={**GOOD, "category": "Cables"}, not_this=GOOD) is None
        assert self.good(actual=GOOD) is None


def a_grade() -> Grade:
    cases = [
        Case(
            key=f"k{n}",
            tags=("empty",) if n < 4 else ("ordinary",),
            actual=GOOD,
            read="reject" if n < 3 else "accept",
        )
        for n in range(40)
    ]
    return grade_cases([*cases, Case(key="new", actual=GOOD)], default_scorers(SCHEMA))


class TestGrade:
    def test_shares_are_counted_by_row_field_and_tag(self) -> None:
        """A grade counts good rows, right fields, and both by tag; unread rows are listed and not counted."""
        grade = a_grade()
        assert (grade.total.good, grade.total.rows) == (37, 40)
        assert grade.fields["category"] == Share(good=37, rows=40)
        assert grade.tags == {"empty": Share(good=1, rows=4), "ordinary": Share(good=36, rows=36)}
        assert [one.case.key for one in grade.failures] == ["k0", "k1", "k2"]
        assert grade.unread == ("new",)
        assert grade.document()["failing"] == ["k0", "k1", "k2"]

    def test_it_prints_for_people(self) -> None:
        """The text has counts, intervals and how each field was compared."""
        text = str(a_grade())
        assert "37 of 40 rows are good: 0.93 (37/40; 95 % interval 0.801 to 0.974)" in text
        assert "features: 0.93" in text
        assert "by overlap(0.6)" in text
        assert "tag empty: 1 of 4" in text
        assert "1 rows are unread" in text

    def test_nothing_counted_is_no_division(self) -> None:
        """A share of nothing is whole, with the whole range as its interval."""
        assert Share(good=0, rows=0).share == 1.0
        assert Share(good=0, rows=0).interval == (0.0, 1.0)


class TestGate:
    def test_a_grade_above_passes(self) -> None:
        """A grade at or above every share of the gate has no shortfall."""
        assert (
            Gate(min_pass=0.925, fields={"category": 0.925}, must_pass=["tag:ordinary"]).shortfalls(a_grade())
            == []
        )

    def test_every_shortfall_is_named_with_its_figures(self) -> None:
        """Rows, fields and groups below the gate are each named with counts and interval."""
        gate = Gate(min_pass=0.95, fields={"category": 0.97}, must_pass=["tag:empty", "ordinary"])
        assert gate.shortfalls(a_grade()) == [
            "rows 0.925 < 0.95 (37/40; 95 % interval 0.801 to 0.974)",
            "'category' 0.925 < 0.97 (37/40; 95 % interval 0.801 to 0.974)",
            "'tag:empty' 1 of 4, all of which must pass",
        ]
        assert failing_tags(a_grade()) == "tag 'empty' 1 of 4"

    def test_a_gate_of_what_is_not_there_is_refused(self) -> None:
        """A field that is not scored and a tag that no row has are mistakes, never passes."""
        with pytest.raises(UsageError, match="field 'colour'"):
            Gate(fields={"colour": 0.5}).shortfalls(a_grade())
        with pytest.raises(UsageError, match="tag 'emtpy'"):
            Gate(must_pass=["tag:emtpy"]).shortfalls(a_grade())

    def test_shares_are_between_0_and_1(self) -> None:
        """Percentages in place of shares and one text in place of a list are refused."""
        with pytest.raises(UsageError, match="min_pass"):
            Gate(min_pass=95)
        with pytest.raises(UsageError, match="'category'"):
            Gate(fields={"category": 97})
        with pytest.raises(UsageError, match="must_pass"):
            Gate(must_pass="tag:empty")


def test_a_comparison_sorts_every_row() -> None:
    """Rows are fixed, broken, changed or the same, and the text counts them."""

    def at(shown: str, good: bool | None) -> Standing:
        return Standing(shown=shown, output=None, good=good)

    earlier = {
        "a": at("1", False),
        "b": at("1", True),
        "c": at("1", True),
        "d": at("1", None),
        "e": at("1", True),
    }
    later = {
        "a": at("2", True),
        "b": at("2", False),
        "c": at("1", True),
        "d": at("2", True),
        "e": at("2", True),
    }
    found = compare((1, earlier), (2, {**later, "f": at("1", True)}))
    assert (found.fixed, found.broken, found.same, found.changed) == (("a",), ("b",), ("c",), ("d", "e", "f"))
    assert str(found) == "v1 | v2: 1 fixed, 1 broken, 3 changed, 1 same"
