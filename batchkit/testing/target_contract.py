"""What every target must do, as tests to inherit: one test per sentence of the Target Protocol.

::

    class TestMyTarget(TargetContract):
        @pytest.fixture
        def catalog(self, tmp_path):
            return MyCatalog(tmp_path)
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from batchkit.errors import TargetError, UsageError
from batchkit.ids import Digest
from batchkit.targets import Json, Note, OutputField, Promotion, StagedRow
from batchkit.testing.target_catalogs import TargetCatalog

FIELDS = ("category", "score", "features")
TEXT = frozenset({"string"})
CATEGORY = OutputField(name="category", kinds=TEXT, max_length=40)
SCORE = OutputField(name="score", kinds=frozenset({"integer"}))
FEATURES = OutputField(name="features", kinds=frozenset({"array"}))


def digest(text: str) -> Digest:
    """Give some digest."""
    return Digest(hashlib.sha256(text.encode()).hexdigest())


def note(
    content: str = "one", *, run: str = "nightly", fields: tuple[str, ...] = FIELDS, partial: bool = False
) -> Note:
    """Give what a promotion is about."""
    return Note(
        run=run, receipt=digest(f"receipt {content}"), content=digest(content), fields=fields, partial=partial
    )


def staged(
    key: str, category: str | None = "Audio", score: int = 1, *, guard: Mapping[str, str | None] | None = None
) -> StagedRow:
    """Give a staged row."""
    return StagedRow(key, {"category": category, "score": score, "features": ["a", "b"]}, guard or {})


def promoted(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Give a catalog row's promoted columns."""
    return row["category"], row["score"], row["features"]


class TargetContract:
    """Inherit, and give a ``catalog`` fixture."""

    @pytest.fixture
    def catalog(self) -> TargetCatalog:
        """Give an empty catalog. Overridden by the backend under test."""
        raise NotImplementedError("give a catalog fixture")

    # -- the target as a value

    def test_same_arguments_make_the_same_target(self, catalog: TargetCatalog) -> None:
        """Two values made with the same arguments are the same target."""
        assert catalog.target() == catalog.target()
        assert catalog.target() != catalog.target(missing="insert")

    def test_name_stays(self, catalog: TargetCatalog) -> None:
        """The name is the same for the same table, whatever is written to it."""
        catalog.insert("a")
        before = catalog.target().name
        catalog.target().promote(note(), [staged("a")])
        assert catalog.target(missing="insert").name == before

    def test_guard_columns(self, catalog: TargetCatalog) -> None:
        """A target names the columns that guard it, or none."""
        assert catalog.target().guard_columns == ()
        assert catalog.target(guard="updated_at").guard_columns == ("updated_at",)
        assert catalog.target(guard=["updated_at", "title"]).guard_columns == ("updated_at", "title")

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

    # -- check

    def test_check_finds_nothing_where_a_promotion_can_go_ahead(self, catalog: TargetCatalog) -> None:
        """A catalog that can take the answers gives no problem."""
        catalog.insert("a")
        assert not catalog.target().check([CATEGORY, SCORE, FEATURES])

    def test_check_changes_nothing(self, catalog: TargetCatalog) -> None:
        """Checking leaves rows and tables as they were."""
        catalog.insert("a", category="old")
        before, tables = catalog.read(), catalog.tables()
        catalog.target(missing="insert").check([CATEGORY, SCORE, FEATURES])
        assert catalog.read() == before
        assert catalog.tables() == tables

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

    def test_check_names_a_field_of_the_map_that_the_contract_lacks(self, catalog: TargetCatalog) -> None:
        """A map with a field that the contract does not have is a problem."""
        (problem,) = catalog.target(columns={"kategorie": "category"}).check([CATEGORY])
        assert "kategorie" in problem.what

    # -- plan, ddl, install

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
        assert all(name in text for name in made if name.startswith("batchkit"))
        catalog.target().install()
        assert catalog.tables() - before == made

    def test_install_keeps_what_was_promoted(self, catalog: TargetCatalog) -> None:
        """Installing again forgets no promotion."""
        catalog.insert("a", category="old")
        promotion = catalog.target().promote(note(), [staged("a")])
        catalog.target().install()
        assert catalog.target().promotions() == [promotion]

    # -- promote

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

    def test_absent_keys_are_inserted(self, catalog: TargetCatalog) -> None:
        """With missing="insert" a key that the catalog lacks becomes a row."""
        catalog.insert("a")
        promotion = catalog.target(missing="insert").promote(note(), [staged("a"), staged("b", "Cables", 5)])
        assert (promotion.written, promotion.inserted, promotion.absent) == (2, 1, 0)
        assert list(promotion.keys("inserted")) == ["b"]
        assert list(promotion.keys("written")) == ["a", "b"]
        row = catalog.read()["b"]
        assert (row["category"], row["score"], row["title"]) == ("Cables", 5, None)

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
        with pytest.raises(TargetError, match="category"):
            catalog.target(columns={"category": "kategorie"}).promote(note(), [staged("a")])

    def test_nothing_staged(self, catalog: TargetCatalog) -> None:
        """A promotion of no rows is a promotion."""
        assert catalog.target().promote(note(), []).staged == 0

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
        for missing in ("report", "insert"):
            target = catalog.target(missing=missing)
            tried, done = target.promote(note(), rows, dry_run=True), target.promote(note(), rows)
            names = ("written", "inserted", "unchanged", "conflict", "absent", "held_back")
            assert [getattr(tried, n) for n in names] == [getattr(done, n) for n in names]

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

    # -- rollback

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

    def test_rollback_deletes_what_was_inserted(self, catalog: TargetCatalog) -> None:
        """A rollback deletes the rows that the promotion inserted."""
        promotion = catalog.target(missing="insert").promote(note(), [staged("a")])
        assert promotion.rollback().deleted == 1
        assert catalog.read() == {}

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

    def test_inserted_rows_that_were_changed_stay(self, catalog: TargetCatalog) -> None:
        """An inserted row is not deleted once somebody changed any column of it."""
        promotion = catalog.target(missing="insert").promote(note(), [staged("a"), staged("b")])
        catalog.edit("a", title="somebody's work")
        undone = promotion.rollback()
        assert (undone.deleted, undone.conflicts) == (1, ("a",))
        assert list(catalog.read()) == ["a"]

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

    def test_older_insert_with_a_shared_key_is_refused(self, catalog: TargetCatalog) -> None:
        """A row that was inserted is not deleted under a later promotion that wrote it."""
        first = catalog.target(missing="insert").promote(note("one"), [staged("a", "Audio")])
        catalog.target().promote(note("two"), [staged("a", "Cables")])
        with pytest.raises(TargetError, match="'a'"):
            first.rollback()

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

    # -- promotions and keys

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
