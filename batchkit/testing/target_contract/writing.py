"""The promises about what a promotion does to each row."""

from __future__ import annotations

import pytest

from batchkit.errors import TargetError, UsageError
from batchkit.targets import Json, StagedRow
from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import TargetCase, note, staged


class WriteContract(TargetCase):
    """The promises about what a promotion does to each row."""

    def test_values_arrive(self, catalog: TargetCatalog) -> None:
        """Staged values stand in the columns of their names, and no other column changes."""
        catalog.insert("a", title="t", category="old", score=0, updated_at="u", price=1.5)
        catalog.insert("other", category="mine")
        promotion = catalog.target().promote(note(), [staged("a", "Audio", 7)])
        row = catalog.read()["a"]
        assert (row["category"], row["score"]) == ("Audio", 7)
        assert (row["title"], row["updated_at"], row["price"]) == ("t", "u", 1.5)
        assert catalog.read()["other"]["category"] == "mine"
        assert (promotion.written, promotion.staged) == (1, 1)

    def test_mapped_columns(self, catalog: TargetCatalog) -> None:
        """With a map only its fields are promoted, each to its column."""
        catalog.insert("a", title="old", category="mine", score=3)
        target = catalog.target(columns={"category": "title", "features": Json("features")})
        target.promote(note(), [staged("a", "Audio", 9)])
        row = catalog.read()["a"]
        assert (row["title"], row["category"], row["score"]) == ("Audio", "mine", 3)
        assert "a" in str(row["features"])

    def test_null_is_promoted(self, catalog: TargetCatalog) -> None:
        """A field without a value empties the column."""
        catalog.insert("a", category="old")
        catalog.target().promote(note(), [staged("a", None)])
        assert catalog.read()["a"]["category"] is None

    @pytest.mark.parametrize(
        "text",
        ["", " ", "'; DROP TABLE products; --", "日本", "a\nb", "{x}", "%s", "$1", "?", "NULL", "\u2028"],
    )
    def test_hostile_text_is_a_value(self, catalog: TargetCatalog, text: str) -> None:
        """Text arrives as it is, whatever it looks like."""
        catalog.insert("a")
        catalog.target().promote(note(), [staged("a", text)])
        assert catalog.read()["a"]["category"] == text

    def test_unchanged_rows_are_not_touched(self, catalog: TargetCatalog) -> None:
        """A row that holds the very values is counted as unchanged."""
        catalog.insert("a")
        catalog.insert("b")
        catalog.target().promote(note(), [staged("a"), staged("b")])
        second = catalog.target().promote(note("two"), [staged("a"), staged("b", "Cables")])
        assert (second.written, second.unchanged) == (1, 1)
        assert list(second.keys("unchanged")) == ["a"]

    def test_case_makes_a_change(self, catalog: TargetCatalog) -> None:
        """Text that differs in case only is written."""
        catalog.insert("a")
        catalog.target().promote(note(), [staged("a", "audio")])
        assert catalog.target().promote(note("two"), [staged("a", "Audio")]).written == 1

    def test_equal_guard_is_written(self, catalog: TargetCatalog) -> None:
        """A row whose guard is still the frozen text is written, an empty guard included."""
        catalog.insert("a", updated_at="2026-11-01")
        catalog.insert("b", updated_at=None)
        rows = [staged("a", guard={"updated_at": "2026-11-01"}), staged("b", guard={"updated_at": None})]
        assert catalog.target(guard="updated_at").promote(note(), rows).written == 2

    @pytest.mark.parametrize(
        ("frozen", "now"), [("1", "2"), ("1", None), (None, "1"), ("1", "1 "), ("", None)]
    )
    def test_other_guard_is_a_conflict(
        self, catalog: TargetCatalog, frozen: str | None, now: str | None
    ) -> None:
        """A row whose guard differs is listed as a conflict and not written."""
        catalog.insert("a", category="old", updated_at=now)
        promotion = catalog.target(guard="updated_at").promote(
            note(), [staged("a", guard={"updated_at": frozen})]
        )
        assert (promotion.conflict, promotion.written) == (1, 0)
        assert list(promotion.keys("conflict")) == ["a"]
        assert catalog.read()["a"]["category"] == "old"

    def test_numbers_guard_by_their_shortest_text(self, catalog: TargetCatalog) -> None:
        """A guard column of floats compares by the text that reads back the same."""
        catalog.insert("a", price=0.1 + 0.2)
        rows = [staged("a", guard={"price": "0.30000000000000004"})]
        assert catalog.target(guard="price").promote(note(), rows).written == 1

    def test_every_guard_counts(self, catalog: TargetCatalog) -> None:
        """Of several guards one that differs makes the conflict."""
        catalog.insert("a", updated_at="1", title="now")
        rows = [staged("a", guard={"updated_at": "1", "title": "then"})]
        assert catalog.target(guard=("updated_at", "title")).promote(note(), rows).conflict == 1

    def test_guard_that_was_not_frozen(self, catalog: TargetCatalog) -> None:
        """A guard column that was not frozen is refused, with the words to freeze it."""
        catalog.insert("a")
        with pytest.raises(UsageError, match=r"metadata=\['updated_at'\]"):
            catalog.target(guard="updated_at").promote(note(), [staged("a")])

    def test_absent_keys_are_reported(self, catalog: TargetCatalog) -> None:
        """A key that the catalog lacks is listed and not inserted."""
        promotion = catalog.target().promote(note(), [staged("b"), staged("a")])
        assert promotion.absent == 2
        assert list(promotion.keys("absent")) == ["a", "b"]
        assert catalog.read() == {}

    def test_absent_keys_are_refused(self, catalog: TargetCatalog) -> None:
        """With missing="error" a key that the catalog lacks stops the promotion, and is named."""
        catalog.insert("a", category="old")
        with pytest.raises(TargetError, match="'gone'"):
            catalog.target(missing="error").promote(note(), [staged("a"), staged("gone")])
        assert catalog.read()["a"]["category"] == "old"

    def test_held_back_rows_are_counted(self, catalog: TargetCatalog) -> None:
        """A row without values is counted and listed as held back, and not written."""
        catalog.insert("a", category="old")
        promotion = catalog.target().promote(note(partial=True), [StagedRow("a", None, {})])
        assert (promotion.held_back, promotion.staged) == (1, 1)
        assert list(promotion.keys("held_back")) == ["a"]
        assert catalog.read()["a"]["category"] == "old"

    def test_the_equation_holds(self, catalog: TargetCatalog) -> None:
        """Each staged row is exactly one of written, unchanged, conflict, absent and held back."""
        catalog.insert("same", category="Audio", score=1)
        catalog.target(columns={"category": "category", "score": "score"})
        for key in ("new", "stale"):
            catalog.insert(key, updated_at="now")
        rows = [
            staged("new", guard={"updated_at": "now"}),
            staged("stale", guard={"updated_at": "then"}),
            staged("gone", guard={"updated_at": "now"}),
            staged("same", guard={"updated_at": None}),
            StagedRow("held", None, {}),
        ]
        target = catalog.target(columns={"category": "category", "score": "score"}, guard="updated_at")
        promotion = target.promote(note(partial=True), rows)
        counts = (
            promotion.written,
            promotion.unchanged,
            promotion.conflict,
            promotion.absent,
            promotion.held_back,
        )
        assert counts == (1, 1, 1, 1, 1)
        assert promotion.staged == 5
        listed = [
            k
            for kind in ("written", "unchanged", "conflict", "absent", "held_back")
            for k in promotion.keys(kind)
        ]
        assert sorted(listed) == sorted(row.key for row in rows)

    def test_a_key_twice_is_refused(self, catalog: TargetCatalog) -> None:
        """A key that stands twice among the rows stops the promotion, and is named."""
        catalog.insert("a", category="old")
        with pytest.raises(UsageError, match="'a'"):
            catalog.target().promote(note(), [staged("a"), staged("a", "Cables")])
        assert catalog.read()["a"]["category"] == "old"

    def test_a_field_that_is_not_in_the_note_is_refused(self, catalog: TargetCatalog) -> None:
        """A field of the map that the contract does not have is named."""
        with pytest.raises(UsageError, match="kategorie"):
            catalog.target(columns={"kategorie": "category"}).promote(note(), [])

    def test_a_column_that_is_missing_is_refused(self, catalog: TargetCatalog) -> None:
        """A promotion to a column that does not exist is refused with those that do."""
        catalog.insert("a")
        with pytest.raises(TargetError, match="category"):
            catalog.target(columns={"category": "kategorie"}).promote(note(), [staged("a")])

    def test_nothing_staged(self, catalog: TargetCatalog) -> None:
        """A promotion of no rows is a promotion."""
        assert catalog.target().promote(note(), []).staged == 0
