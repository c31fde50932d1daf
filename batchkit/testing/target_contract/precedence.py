"""The promises about several runs that promote to the same rows: no answer is written over a newer one."""

from __future__ import annotations

import pytest

from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import TargetCase, note, staged


class PrecedenceContract(TargetCase):
    """The promises about several runs that promote to the same rows: no answer is written over a newer one."""

    def test_a_correction_survives_the_next_promotion_of_its_parent(self, catalog: TargetCatalog) -> None:
        """What a run said before another run's newer answer is a conflict; what it says anew is written."""
        catalog.insert("a", category="old")
        catalog.insert("b", category="old")
        target = catalog.target()
        target.promote(note("one", run="parent"), [staged("a", "Chargers", answer=1)])
        target.promote(note("two", run="child"), [staged("a", "Adapters", answer=2)])
        rows = [staged("a", "Chargers", answer=1), staged("b", "Audio", answer=3)]
        tried = target.promote(note("three", run="parent"), rows, dry_run=True)
        third = target.promote(note("three", run="parent"), rows)
        for promotion in (tried, third):
            assert (promotion.written, promotion.conflict, promotion.staged) == (1, 1, 2)
            assert list(promotion.keys("conflict")) == ["a"]
        assert [catalog.read()[key]["category"] for key in "ab"] == ["Adapters", "Audio"]

    @pytest.mark.parametrize(
        ("answer", "category"), [(3, "Chargers"), (1, "Adapters")], ids=["newer", "older"]
    )
    def test_the_newer_answer_counts(self, catalog: TargetCatalog, answer: int, category: str) -> None:
        """A run's answer is written over another run's if it is the newer one, whichever was promoted first."""
        catalog.insert("a", category="old")
        catalog.target().promote(note("one", run="child"), [staged("a", "Adapters", answer=2)])
        catalog.target().promote(note("two", run="parent"), [staged("a", "Chargers", answer=answer)])
        assert catalog.read()["a"]["category"] == category

    def test_each_row_by_itself(self, catalog: TargetCatalog) -> None:
        """Of one promotion some rows are newer than another run's answers and some are not."""
        for key in "abcd":
            catalog.insert(key, category="old")
        one = [staged(key, "one", answer=number) for key, number in {"a": 2, "b": 5, "c": 7}.items()]
        two = [staged(key, "two", answer=number) for key, number in {"a": 3, "b": 4, "c": 6, "d": 1}.items()]
        catalog.target().promote(note("one", run="nightly#1"), one)
        second = catalog.target().promote(note("two", run="nightly#2"), two)
        assert (list(second.keys("written")), list(second.keys("conflict"))) == (["a", "d"], ["b", "c"])
        assert [catalog.read()[key]["category"] for key in "abcd"] == ["two", "one", "one", "two"]

    def test_a_later_run_of_a_series_writes_over_the_earlier(self, catalog: TargetCatalog) -> None:
        """Run after run writes its newer answers over those of the runs before it."""
        catalog.insert("a", category="old")
        for number in range(1, 5):
            made = catalog.target().promote(
                note(f"{number}", run=f"nightly#{number}"), [staged("a", f"{number}", answer=number)]
            )
            assert (made.written, made.conflict) == (1, 0)
        assert catalog.read()["a"]["category"] == "4"

    def test_a_run_writes_over_itself(self, catalog: TargetCatalog) -> None:
        """Between promotions of one run no answer is held against another."""
        catalog.insert("a", category="old")
        catalog.target().promote(note("one"), [staged("a", "Audio", answer=2)])
        assert catalog.target().promote(note("two"), [staged("a", "Cables", answer=1)]).written == 1

    def test_answers_without_numbers(self, catalog: TargetCatalog) -> None:
        """Where nobody numbers the answers, runs write over each other."""
        catalog.insert("a", category="old")
        catalog.target().promote(note("one", run="one"), [staged("a", "Audio")])
        assert catalog.target().promote(note("two", run="two"), [staged("a", "Cables")]).written == 1

    def test_the_same_values_are_unchanged(self, catalog: TargetCatalog) -> None:
        """An older answer that says the same as the newer one is unchanged, no conflict."""
        catalog.insert("a", category="old")
        catalog.target().promote(note("one", run="child"), [staged("a", "Adapters", answer=2)])
        older = catalog.target().promote(note("two", run="parent"), [staged("a", "Adapters", answer=1)])
        assert (older.unchanged, older.conflict) == (1, 0)

    def test_an_answer_that_changed_nothing_counts(self, catalog: TargetCatalog) -> None:
        """An answer that was promoted and found the catalog saying so is not written over by an older one."""
        catalog.insert("a")
        catalog.target().promote(note("zero", run="first"), [staged("a", "Adapters", answer=1)])
        made = catalog.target().promote(note("one", run="child"), [staged("a", "Adapters", answer=3)])
        assert made.unchanged == 1
        made.rollback()
        again = catalog.target().promote(note("one", run="child"), [staged("a", "Adapters", answer=3)])
        assert again.unchanged == 1
        older = catalog.target().promote(note("two", run="parent"), [staged("a", "Chargers", answer=2)])
        assert older.conflict == 1
        assert catalog.read()["a"]["category"] == "Adapters"

    def test_an_edit_by_somebody_else_does_not_open_the_way(self, catalog: TargetCatalog) -> None:
        """A newer answer that somebody corrected by hand since is not replaced by an older one."""
        catalog.insert("a", category="old")
        catalog.target().promote(note("one", run="child"), [staged("a", "Adapters", answer=2)])
        catalog.edit("a", category="mine")
        assert (
            catalog.target().promote(note("two", run="parent"), [staged("a", "Chargers", answer=1)]).conflict
            == 1
        )
        assert catalog.read()["a"]["category"] == "mine"

    def test_other_columns_are_not_contested(self, catalog: TargetCatalog) -> None:
        """A newer answer in other columns does not stand in the way."""
        catalog.insert("a", title="old", category="old")
        title, category = (
            catalog.target(columns={"category": "title"}),
            catalog.target(columns={"category": "category"}),
        )
        title.promote(note("one", run="titles"), [staged("a", "A title", answer=2)])
        made = category.promote(note("two", run="categories"), [staged("a", "Audio", answer=1)])
        assert (made.written, made.conflict) == (1, 0)
        row = catalog.read()["a"]
        assert (row["title"], row["category"]) == ("A title", "Audio")

    def test_one_column_in_common_is_enough(self, catalog: TargetCatalog) -> None:
        """A newer answer in one of several columns stands in the way of the row."""
        catalog.insert("a", category="old", score=0)
        catalog.target(columns={"category": "category"}).promote(
            note("one", run="child"), [staged("a", "Adapters", answer=2)]
        )
        assert (
            catalog.target()
            .promote(note("two", run="parent"), [staged("a", "Chargers", 9, answer=1)])
            .conflict
            == 1
        )
        row = catalog.read()["a"]
        assert (row["category"], row["score"]) == ("Adapters", 0)

    def test_what_was_rolled_back_does_not_count(self, catalog: TargetCatalog) -> None:
        """Once the newer answer is rolled back, the older one is written."""
        catalog.insert("a", category="old")
        newer = catalog.target().promote(note("one", run="child"), [staged("a", "Adapters", answer=2)])
        newer.rollback()
        made = catalog.target().promote(note("two", run="parent"), [staged("a", "Chargers", answer=1)])
        assert made.written == 1
        assert catalog.read()["a"]["category"] == "Chargers"

    def test_a_conflict_does_not_cover_its_row(self, catalog: TargetCatalog) -> None:
        """A promotion that left a newer answer alone does not keep it from being rolled back."""
        catalog.insert("a", category="old")
        catalog.insert("b", category="old")
        target = catalog.target()
        target.promote(note("one", run="parent"), [staged("a", "Chargers", answer=1)])
        child = target.promote(note("two", run="child"), [staged("a", "Adapters", answer=2)])
        third = target.promote(
            note("three", run="parent"), [staged("a", "Chargers", answer=1), staged("b", answer=3)]
        )
        assert child.rollback().restored == 1
        assert catalog.read()["a"]["category"] == "Chargers"
        assert third.rollback().restored == 1

    def test_unwound_and_promoted_again(self, catalog: TargetCatalog) -> None:
        """After everything was rolled back, runs are promoted again, in any order, with the same outcome."""
        catalog.insert("a", category="old")
        target = catalog.target()
        parent = note("one", run="parent"), [staged("a", "Chargers", answer=1)]
        child = note("two", run="child"), [staged("a", "Adapters", answer=2)]
        first = target.promote(*parent)
        target.promote(*child)
        for order in ((parent, child), (child, parent)):
            target.rollback(to=first.id)
            assert catalog.read()["a"]["category"] == "old"
            for made in order:
                target.promote(*made)
            assert catalog.read()["a"]["category"] == "Adapters"

    def test_what_was_held_back_before_is_no_news(self, catalog: TargetCatalog) -> None:
        """An answer that was held back when its run was promoted is not newer for that."""
        catalog.insert("a", category="old")
        target, older = catalog.target(), staged("a", "Chargers", answer=1)
        target.promote(note("one", run="parent", partial=True), [older._replace(values=None)])
        target.promote(note("two", run="child"), [staged("a", "Adapters", answer=2)])
        assert target.promote(note("one", run="parent"), [older]).conflict == 1

    def test_two_stores(self, catalog: TargetCatalog) -> None:
        """Of two stores, what one promoted is not written over by what the other had promoted before."""
        catalog.insert("a", category="old")
        catalog.insert("b", category="old")
        target = catalog.target()
        # The same name and numbers the other way round: neither tells which answer is newer.
        target.promote(note("one", store="A"), [staged("a", "one", answer=7)])
        second = target.promote(note("two", store="B"), [staged("a", "two", answer=3)])
        assert (second.written, second.conflict) == (1, 0)
        third = target.promote(
            note("three", store="A"), [staged("a", "one", answer=7), staged("b", answer=8)]
        )
        assert (list(third.keys("conflict")), list(third.keys("written"))) == (["a"], ["b"])
        assert catalog.read()["a"]["category"] == "two"
        fourth = target.promote(note("four", store="A"), [staged("a", "four", answer=9)])
        assert (fourth.written, fourth.conflict) == (1, 0)
        assert catalog.read()["a"]["category"] == "four"
        fifth = target.promote(
            note("five", store="B"), [staged("a", "two", answer=3), staged("b", "b", answer=4)]
        )
        assert (list(fifth.keys("conflict")), list(fifth.keys("written"))) == (["a"], ["b"])

    def test_another_store_that_was_rolled_back(self, catalog: TargetCatalog) -> None:
        """What another store promoted and rolled back stands in nobody's way."""
        catalog.insert("a", category="old")
        target = catalog.target()
        target.promote(note("one", store="A"), [staged("a", "one", answer=1)])
        target.promote(note("two", store="B"), [staged("a", "two", answer=1)]).rollback()
        catalog.edit("a", category="mine")
        assert target.promote(note("three", store="A"), [staged("a", "one", answer=1)]).written == 1
