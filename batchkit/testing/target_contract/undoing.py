"""The promises about rollbacks."""

from __future__ import annotations

import pytest

from batchkit.errors import TargetError, UsageError
from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import TargetCase, note, staged


class RollbackContract(TargetCase):
    """The promises about rollbacks."""

    def test_rollback_restores(self, catalog: TargetCatalog) -> None:
        """A rollback gives back every value that the promotion replaced, and nothing else changes."""
        catalog.insert("a", category="old", score=5, features=None, title="t")
        catalog.insert("b", category=None, score=None, title="u")
        before = catalog.read()
        promotion = catalog.target().promote(note(), [staged("a"), staged("b"), staged("c")])
        catalog.edit("a", title="edited since")
        undone = promotion.rollback()
        assert (undone.promotions, undone.restored, undone.conflicts) == ((promotion.id,), 2, ())
        assert catalog.read() == {**before, "a": {**before["a"], "title": "edited since"}}

    def test_rollback_without_arguments_takes_the_newest(self, catalog: TargetCatalog) -> None:
        """Without arguments the newest standing promotion is undone, then the one before it, then none."""
        catalog.insert("a", category="old")
        target = catalog.target()
        first = target.promote(note("one"), [staged("a", "Audio")])
        second = target.promote(note("two"), [staged("a", "Cables")])
        assert target.rollback().promotions == (second.id,)
        assert catalog.read()["a"]["category"] == "Audio"
        assert target.rollback().promotions == (first.id,)
        assert catalog.read()["a"]["category"] == "old"
        assert target.rollback().promotions == ()

    def test_changed_rows_are_conflicts(self, catalog: TargetCatalog) -> None:
        """A row that somebody changed since the promotion is listed and left as it is."""
        for key in ("a", "c", "b"):
            catalog.insert(key, category="old")
        promotion = catalog.target().promote(note(), [staged("a"), staged("c"), staged("b")])
        for key in ("c", "b"):
            catalog.edit(key, score=99)
        undone = promotion.rollback()
        assert (undone.restored, undone.conflicts) == (1, ("b", "c"))
        assert (catalog.read()["a"]["category"], catalog.read()["b"]["category"]) == ("old", "Audio")
        assert catalog.read()["b"]["score"] == 99

    def test_deleted_rows_are_conflicts(self, catalog: TargetCatalog) -> None:
        """A row that somebody deleted since the promotion is listed and not made again."""
        catalog.insert("a", category="old")
        promotion = catalog.target().promote(note(), [staged("a")])
        catalog.delete("a")
        assert promotion.rollback().conflicts == ("a",)
        assert catalog.read() == {}

    def test_rolling_back_twice_does_nothing(self, catalog: TargetCatalog) -> None:
        """A promotion that was undone is left alone by a second rollback."""
        catalog.insert("a", category="old")
        promotion = catalog.target().promote(note(), [staged("a")])
        promotion.rollback()
        catalog.edit("a", category="mine")
        assert promotion.rollback().promotions == ()
        assert catalog.read()["a"]["category"] == "mine"

    @pytest.mark.parametrize("later", ["Cables", "Audio"], ids=["written", "unchanged"])
    def test_older_promotion_with_a_shared_key_is_refused(self, catalog: TargetCatalog, later: str) -> None:
        """An older promotion is not undone while a later one covers one of its keys, be it unchanged."""
        catalog.insert("a", category="old")
        target = catalog.target()
        first = target.promote(note("one"), [staged("a", "Audio")])
        second = target.promote(note("two"), [staged("a", later)])
        with pytest.raises(TargetError, match=rf"promotion {second.id} .*rollback\(to={first.id}\)"):
            first.rollback()
        assert catalog.read()["a"]["category"] == later

    def test_older_promotion_without_a_shared_key_is_undone(self, catalog: TargetCatalog) -> None:
        """An older promotion is undone on its own where later ones cover other keys."""
        catalog.insert("a", category="old")
        catalog.insert("b", category="old")
        first = catalog.target().promote(note("one"), [staged("a"), staged("gone")])
        catalog.target().promote(note("two"), [staged("b"), staged("gone")])
        assert first.rollback().restored == 1
        assert (catalog.read()["a"]["category"], catalog.read()["b"]["category"]) == ("old", "Audio")

    def test_older_promotion_is_free_once_the_later_is_undone(self, catalog: TargetCatalog) -> None:
        """A later promotion that was rolled back does not stand in the way."""
        catalog.insert("a", category="old")
        first = catalog.target().promote(note("one"), [staged("a", "Audio")])
        catalog.target().promote(note("two"), [staged("a", "Cables")]).rollback()
        assert first.rollback().restored == 1

    def test_rollback_to_unwinds_newest_first(self, catalog: TargetCatalog) -> None:
        """With to= a promotion and all later ones are undone, newest first, and earlier ones stay."""
        catalog.insert("a", category="old")
        target = catalog.target()
        ids = [target.promote(note(text), [staged("a", text)]).id for text in ("one", "two", "three", "four")]
        undone = target.rollback(to=ids[1])
        assert undone.promotions == (ids[3], ids[2], ids[1])
        assert catalog.read()["a"]["category"] == "one"

    def test_rollback_to_keeps_foreign_edits(self, catalog: TargetCatalog) -> None:
        """Unwinding several promotions lists a row that somebody changed, once."""
        catalog.insert("a", category="old")
        catalog.insert("b", category="old")
        target = catalog.target()
        first = target.promote(note("one"), [staged("a", "1"), staged("b", "1")])
        target.promote(note("two"), [staged("a", "2"), staged("b", "2")])
        catalog.edit("b", category="mine")
        undone = target.rollback(to=first.id)
        assert undone.conflicts == ("b",)
        assert (catalog.read()["a"]["category"], catalog.read()["b"]["category"]) == ("old", "mine")

    def test_unknown_promotion(self, catalog: TargetCatalog) -> None:
        """An id that the table does not have is refused."""
        for ask in ({"promotion": 7}, {"to": 7}):
            with pytest.raises(TargetError, match="7"):
                catalog.target().rollback(**ask)
        with pytest.raises(UsageError):
            catalog.target().rollback(1, to=1)
