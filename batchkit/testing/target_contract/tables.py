"""The promises of a target that has its table to itself for a transaction, and can look at its columns."""

from __future__ import annotations

import pytest

from batchkit.errors import TargetError
from batchkit.targets import OutputField
from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import CATEGORY, TEXT, TargetCase, note, staged


class TableContract(TargetCase):
    """The promises of a target that has its table to itself for a transaction, and can look at its columns."""

    def test_failed_promotion_leaves_the_catalog_as_it_was(self, catalog: TargetCatalog) -> None:
        """A promotion that raises leaves rows, tables and promotions as they were."""
        catalog.constrain("category", "Audio")
        catalog.insert("a", category="Audio")
        catalog.insert("b", category="Audio", score=7)
        before, tables = catalog.read(), catalog.tables()
        with pytest.raises(TargetError, match="Nothing was changed"):
            catalog.target().promote(note(), [staged("b"), staged("a", "refused")])
        assert catalog.read() == before
        assert catalog.tables() == tables
        assert catalog.target().promotions() == []

    def test_check_names_columns_that_do_not_exist(self, catalog: TargetCatalog) -> None:
        """A field without a column is named, with the column that may be meant."""
        (problem,) = catalog.target().check([OutputField(name="categori", kinds=TEXT)])
        assert problem.column == "categori"
        assert "category" in problem.fix

    def test_check_names_a_guard_that_does_not_exist(self, catalog: TargetCatalog) -> None:
        """A guard without a column is named."""
        assert [p.column for p in catalog.target(guard="changed").check([CATEGORY])] == ["changed"]

    def test_check_names_types_that_cannot_hold_a_value(self, catalog: TargetCatalog) -> None:
        """A column of numbers for a field of text is named."""
        problems = catalog.target(columns={"category": "score"}).check([CATEGORY])
        assert [p.column for p in problems] == ["score"]

    def test_check_names_columns_that_refuse_null(self, catalog: TargetCatalog) -> None:
        """A column that must have a value is named if the contract allows none."""
        catalog.require("category")
        nullable = OutputField(name="category", kinds=frozenset({"string", "null"}))
        assert [p.column for p in catalog.target().check([nullable])] == ["category"]
        assert not catalog.target().check([CATEGORY])

    def test_check_names_constraints_that_refuse_an_allowed_value(self, catalog: TargetCatalog) -> None:
        """A constraint that refuses one of a field's allowed values is named with that value."""
        catalog.constrain("category", "Audio")
        catalog.insert("a", category="Audio")
        closed = OutputField(name="category", kinds=TEXT, allowed=("Audio", "Cables"))
        (problem,) = catalog.target().check([closed])
        assert problem.column == "category"
        assert "Cables" in problem.what

    def test_check_names_a_key_that_is_not_unique(self, catalog: TargetCatalog) -> None:
        """A key column that could hold a key twice is named."""
        catalog.loosen_key()
        assert [p.column for p in catalog.target().check([CATEGORY])] == ["sku"]

    def test_check_names_a_table_that_does_not_exist(self, catalog: TargetCatalog) -> None:
        """A missing table is a problem, not an error."""
        (problem,) = catalog.target("productz").check([CATEGORY])
        assert "productz" in problem.what
