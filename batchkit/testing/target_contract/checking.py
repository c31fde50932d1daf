"""The promises about a target and what it tells before anything is written."""

from __future__ import annotations

import pytest

from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import (
    CATEGORY,
    FEATURES,
    FIELDS,
    SCORE,
    TargetCase,
    note,
    staged,
)


class CheckContract(TargetCase):
    """The promises about a target and what it tells before anything is written."""

    def test_same_arguments_make_the_same_target(self, catalog: TargetCatalog) -> None:
        """Two values made with the same arguments are the same target."""
        assert catalog.target() == catalog.target()
        assert catalog.target() != catalog.target(missing="error")

    def test_name_stays(self, catalog: TargetCatalog) -> None:
        """The name is the same for the same table, whatever is written to it."""
        catalog.insert("a")
        before = catalog.target().name
        catalog.target().promote(note(), [staged("a")])
        assert catalog.target(missing="error").name == before

    def test_guard_columns(self, catalog: TargetCatalog) -> None:
        """A target names the columns that guard it, or none."""
        assert catalog.target().guard_columns == ()
        assert catalog.target(guard="updated_at").guard_columns == ("updated_at",)
        assert catalog.target(guard=["updated_at", "title"]).guard_columns == ("updated_at", "title")

    @pytest.mark.parametrize(
        ("there", "asked"), [("A1", "a1"), ("a1", "a1 "), ("0123", "123"), ("123", "0123"), ("1", "1.0")]
    )
    def test_keys_match_by_exact_text(self, catalog: TargetCatalog, there: str, asked: str) -> None:
        """Case, trailing space and leading zeros of a key count."""
        catalog.insert(there, category="old")
        promotion = catalog.target().promote(note(), [staged(asked)])
        assert promotion.absent == 1
        assert catalog.read()[there]["category"] == "old"

    @pytest.mark.parametrize("key", ["00123", "a b", "ключ", "a'b\"c;--", "a\nb", "x" * 300, "😀"])
    def test_any_text_is_a_key(self, catalog: TargetCatalog, key: str) -> None:
        """A key is found whatever characters it holds."""
        catalog.insert(key)
        catalog.target().promote(note(), [staged(key)])
        assert catalog.read()[key]["category"] == "Audio"

    def test_check_finds_nothing_where_a_promotion_can_go_ahead(self, catalog: TargetCatalog) -> None:
        """A catalog that can take the answers gives no problem."""
        catalog.insert("a")
        assert not catalog.target().check([CATEGORY, SCORE, FEATURES])

    def test_check_changes_nothing(self, catalog: TargetCatalog) -> None:
        """Checking leaves rows and tables as they were."""
        catalog.insert("a", category="old")
        before, tables = catalog.read(), catalog.tables()
        catalog.target(missing="error").check([CATEGORY, SCORE, FEATURES])
        assert catalog.read() == before
        assert catalog.tables() == tables

    def test_check_names_a_field_of_the_map_that_the_contract_lacks(self, catalog: TargetCatalog) -> None:
        """A map with a field that the contract does not have is a problem."""
        (problem,) = catalog.target(columns={"kategorie": "category"}).check([CATEGORY])
        assert "kategorie" in problem.what

    def test_plan_gives_statements_and_changes_nothing(self, catalog: TargetCatalog) -> None:
        """A plan lists statements and locks for so many rows and writes nothing."""
        catalog.insert("a", category="old")
        before, tables = catalog.read(), catalog.tables()
        plan = catalog.target().plan(FIELDS, 1)
        assert plan.rows == 1
        assert plan.sql
        assert plan.locks
        assert catalog.read() == before
        assert catalog.tables() == tables

    def test_ddl_prints_and_install_runs(self, catalog: TargetCatalog) -> None:
        """Asking for the statements makes no table; installing makes those they name; again changes nothing."""
        before = catalog.tables()
        text = catalog.target().ddl()
        assert catalog.tables() == before
        catalog.target().install()
        made = catalog.tables() - before
        assert made
        assert all(name in text for name in made if "batchkit" in name)
        catalog.target().install()
        assert catalog.tables() - before == made

    def test_install_keeps_what_was_promoted(self, catalog: TargetCatalog) -> None:
        """Installing again forgets no promotion."""
        catalog.insert("a", category="old")
        promotion = catalog.target().promote(note(), [staged("a")])
        catalog.target().install()
        assert catalog.target().promotions() == [promotion]
