"""The promises of a target that inserts the rows which its catalog lacks."""

from __future__ import annotations

import pytest

from batchkit.errors import TargetError
from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import TargetCase, counts, note, staged


class InsertContract(TargetCase):
    """The promises of a target that inserts the rows which its catalog lacks."""

    def test_absent_keys_are_inserted(self, catalog: TargetCatalog) -> None:
        """With missing="insert" a key that the catalog lacks becomes a row."""
        catalog.insert("a")
        promotion = catalog.target(missing="insert").promote(note(), [staged("a"), staged("b", "Cables", 5)])
        assert (promotion.written, promotion.inserted, promotion.absent) == (2, 1, 0)
        assert list(promotion.keys("inserted")) == ["b"]
        assert list(promotion.keys("written")) == ["a", "b"]
        row = catalog.read()["b"]
        assert (row["category"], row["score"], row["title"]) == ("Cables", 5, None)

    def test_dry_run_tells_what_is_inserted(self, catalog: TargetCatalog) -> None:
        """A dry run counts the rows that the promotion then inserts."""
        catalog.insert("a")
        rows, target = [staged("a"), staged("b")], catalog.target(missing="insert")
        tried, done = target.promote(note(), rows, dry_run=True), target.promote(note(), rows)
        assert counts(tried) == counts(done)

    def test_a_row_that_was_inserted_is_not_written_over(self, catalog: TargetCatalog) -> None:
        """A row that a newer answer brought into the catalog is not changed by an older one."""
        target = catalog.target(missing="insert")
        target.promote(note("one", run="child"), [staged("a", "Adapters", answer=2)])
        assert target.promote(note("two", run="parent"), [staged("a", "Chargers", answer=1)]).conflict == 1
        assert catalog.read()["a"]["category"] == "Adapters"

    def test_rollback_deletes_what_was_inserted(self, catalog: TargetCatalog) -> None:
        """A rollback deletes the rows that the promotion inserted."""
        promotion = catalog.target(missing="insert").promote(note(), [staged("a")])
        assert promotion.rollback().deleted == 1
        assert catalog.read() == {}

    def test_inserted_rows_that_were_changed_stay(self, catalog: TargetCatalog) -> None:
        """An inserted row is not deleted once somebody changed any column of it."""
        promotion = catalog.target(missing="insert").promote(note(), [staged("a"), staged("b")])
        catalog.edit("a", title="somebody's work")
        undone = promotion.rollback()
        assert (undone.deleted, undone.conflicts) == (1, ("a",))
        assert list(catalog.read()) == ["a"]

    def test_older_insert_with_a_shared_key_is_refused(self, catalog: TargetCatalog) -> None:
        """A row that was inserted is not deleted under a later promotion that wrote it."""
        first = catalog.target(missing="insert").promote(note("one"), [staged("a", "Audio")])
        catalog.target().promote(note("two"), [staged("a", "Cables")])
        with pytest.raises(TargetError, match="'a'"):
            first.rollback()
