"""The promises about promotions made again, tried only, or at once, and about what is known of them."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from batchkit.errors import UsageError
from batchkit.targets import Promotion, StagedRow
from batchkit.testing.target_catalogs import TargetCatalog
from batchkit.testing.target_contract.base import TargetCase, counts, digest, note, staged


class RepeatContract(TargetCase):
    """The promises about promotions made again, tried only, or at once, and about what is known of them."""

    def test_second_promotion_is_a_no_op(self, catalog: TargetCatalog) -> None:
        """The same content is promoted once: the second call gives the first and changes nothing."""
        catalog.insert("a")
        first = catalog.target().promote(note(), [staged("a")])
        catalog.edit("a", category="mine")
        second = catalog.target().promote(note(), [staged("a")])
        assert second == first
        assert second.repeated
        assert not first.repeated
        assert catalog.read()["a"]["category"] == "mine"
        assert len(catalog.target().promotions()) == 1

    def test_no_op_reads_no_row(self, catalog: TargetCatalog) -> None:
        """A promotion that was made already does not read the rows again."""
        catalog.insert("a")
        catalog.target().promote(note(), [staged("a")])

        unread = iter([staged("a")])
        assert catalog.target().promote(note(), unread).repeated
        assert len(list(unread)) == 1

    def test_other_mapping_is_another_promotion(self, catalog: TargetCatalog) -> None:
        """The same content goes to other columns as a promotion of its own."""
        catalog.insert("a")
        catalog.target(columns={"category": "category"}).promote(note(), [staged("a")])
        second = catalog.target(columns={"category": "title"}).promote(note(), [staged("a")])
        assert not second.repeated
        assert catalog.read()["a"]["title"] == "Audio"

    def test_other_run_is_another_promotion(self, catalog: TargetCatalog) -> None:
        """The same content of another run is a promotion of its own."""
        catalog.insert("a")
        catalog.target().promote(note(), [staged("a")])
        assert not catalog.target().promote(note(run="other"), [staged("a")]).repeated

    def test_what_was_held_back_can_follow(self, catalog: TargetCatalog) -> None:
        """After some rows were held back, promoting them all is a promotion; holding the same back again is not."""
        catalog.insert("a")
        catalog.insert("b")
        some = [staged("a"), StagedRow("b", None, {})]
        catalog.target().promote(note(partial=True), some)
        assert catalog.target().promote(note(partial=True), some).repeated
        everything = catalog.target().promote(note(), [staged("a"), staged("b")])
        assert (everything.written, everything.unchanged, everything.repeated) == (1, 1, False)

    def test_holding_back_later(self, catalog: TargetCatalog) -> None:
        """After all rows were promoted, a promotion that holds some back is another one."""
        catalog.insert("a")
        catalog.target().promote(note(), [staged("a")])
        assert catalog.target().promote(note(partial=True), [StagedRow("a", None, {})]).held_back == 1
        assert catalog.target().promote(note(partial=True), [staged("a")]).repeated

    def test_promoted_again_after_a_rollback(self, catalog: TargetCatalog) -> None:
        """After a rollback the same content can be promoted again, under a new id."""
        catalog.insert("a", category="old")
        first = catalog.target().promote(note(), [staged("a")])
        first.rollback()
        second = catalog.target().promote(note(), [staged("a")])
        assert second.id != first.id
        assert second.written == 1
        assert catalog.read()["a"]["category"] == "Audio"

    def test_dry_run_changes_nothing(self, catalog: TargetCatalog) -> None:
        """A dry run counts, lists conflicts and absent keys, and leaves rows, tables and promotions alone."""
        catalog.insert("a", category="old", updated_at="1")
        catalog.insert("b", updated_at="2")
        before, tables = catalog.read(), catalog.tables()
        rows = [staged(key, guard={"updated_at": "1"}) for key in ("a", "b", "c")]
        tried = catalog.target(guard="updated_at").promote(note(), rows, dry_run=True)
        assert (tried.written, tried.conflict, tried.absent) == (1, 1, 1)
        assert tried.dry_run
        assert (list(tried.keys("conflict")), list(tried.keys("absent"))) == (["b"], ["c"])
        assert catalog.read() == before
        assert catalog.tables() == tables
        assert catalog.target().promotions() == []

    def test_dry_run_tells_what_happens(self, catalog: TargetCatalog) -> None:
        """A dry run gives the counts that the promotion then has."""
        catalog.insert("a")
        rows = [staged("a"), staged("b")]
        target = catalog.target()
        tried, done = target.promote(note(), rows, dry_run=True), target.promote(note(), rows)
        assert counts(tried) == counts(done)

    def test_dry_run_cannot_be_undone(self, catalog: TargetCatalog) -> None:
        """There is nothing to roll back or to list of a dry run's written rows."""
        catalog.insert("a")
        tried = catalog.target().promote(note(), [staged("a")], dry_run=True)
        with pytest.raises(UsageError):
            tried.rollback()
        with pytest.raises(UsageError):
            tried.keys("written")

    def test_two_workers_promote_once(self, catalog: TargetCatalog) -> None:
        """Of two workers that promote the same content at once, one does and the other is told."""
        for number in range(50):
            catalog.insert(f"k{number}")
        catalog.target().install()
        done: list[Promotion] = []
        gate = threading.Barrier(2)

        def rows() -> Iterator[StagedRow]:
            gate.wait(timeout=20)
            yield from (staged(f"k{number}") for number in range(50))

        workers = [
            threading.Thread(target=lambda: done.append(catalog.target().promote(note(), rows())))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(timeout=30)
        assert sorted(promotion.repeated for promotion in done) == [False, True]
        assert done[0] == done[1]

    def test_receipt_and_run_are_kept(self, catalog: TargetCatalog) -> None:
        """A promotion remembers its run, its receipt, its target and the time."""
        promotion = catalog.target().promote(note(), [])
        (known,) = catalog.target().promotions()
        assert known == promotion
        assert (known.run, known.receipt) == ("nightly", digest("receipt one"))
        assert known.target == catalog.target().name
        assert known.at > 1_600_000_000

    def test_promotions_are_listed_oldest_first(self, catalog: TargetCatalog) -> None:
        """Every promotion is listed in order, those rolled back included and marked."""
        catalog.insert("a")
        target = catalog.target()
        first = target.promote(note("one"), [staged("a", "1")])
        second = target.promote(note("two"), [staged("a", "2")])
        second.rollback()
        known = target.promotions()
        assert [promotion.id for promotion in known] == [first.id, second.id]
        assert [promotion.rolled_back_at is None for promotion in known] == [True, False]

    def test_a_catalog_without_promotions(self, catalog: TargetCatalog) -> None:
        """Where nothing was promoted there is nothing to list or to undo."""
        assert catalog.target().promotions() == []
        assert catalog.target().rollback().promotions == ()

    def test_keys_are_in_order(self, catalog: TargetCatalog) -> None:
        """Keys are listed by code point, whatever the order they came in."""
        keys = ["b", "a", "B", "10", "9", "é", "z"]
        for key in keys:
            catalog.insert(key)
        promotion = catalog.target().promote(note(), [staged(key) for key in keys])
        assert list(promotion.keys("written")) == sorted(keys)
        assert list(catalog.target().keys(promotion.id or 0, "written")) == sorted(keys)
