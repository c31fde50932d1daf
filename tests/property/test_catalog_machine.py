"""Any history of several runs' promotions, rollbacks and other people's edits, against a model of what must stand."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import attrs
import pytest
from catalogs import Image, LeafShelf, PostgresShelf, Shelf, SQLiteShelf
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from batchkit.errors import TargetError
from batchkit.ids import Digest
from batchkit.targets import Note, StagedRow

# Keys that a collation, an affinity or a trim would take for each other.
KEYS = ["a", "A", "a ", "1", "01", "1.0", "é", ""]
NUMBERS = st.integers(0, 15)
GUARDS = st.sampled_from([None, None, None, "1"])
# Run and store. Two are of one store, and two have one name; two other stores' numbers say nothing of each other.
RUNS = st.sampled_from([("parent", "A"), ("child", "A"), ("parent", "B")])


@attrs.frozen
class Written:
    """What a promotion did to one row."""

    before: tuple[Image, Image] | None  # None: there was no row
    after: tuple[Image, Image]


@attrs.frozen
class Said:
    """What a run answered of one row, and which answer of its store that was."""

    x: Any
    y: Any
    guard: str | None
    answer: int


@attrs.define
class Made:
    """One promotion of the model; ``covered`` has the number of each answer that the catalog took."""

    number: int
    run: tuple[str, str]
    rows: dict[str, Written]
    covered: dict[str, int]
    stands: bool = True


class CatalogMachine(RuleBasedStateMachine):
    """One history of a catalog. Values are drawn as numbers, since each database has its own."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__()
        self.shelf = shelf
        self.model: dict[str, dict[str, Any]] = {}
        self.stack: list[Made] = []
        self.contents = 0
        self.said: dict[tuple[str, str], dict[str, Said]] = {}
        self.answers: dict[str, int] = {}
        shelf.clear()

    def value(self, column: str, number: int) -> Any:
        return self.shelf.stored[column][number % len(self.shelf.stored[column])]

    # -- other people

    @initialize(rows=st.dictionaries(st.sampled_from(KEYS), st.tuples(NUMBERS, NUMBERS, GUARDS), min_size=3))
    def fill(self, rows: dict[str, tuple[int, int, Any]]) -> None:
        for key, (x, y, guard) in rows.items():
            self.shelf.insert(key, self.value("x", x), self.value("y", y), guard)
        self.model = self.shelf.read()

    @rule(key=st.sampled_from(KEYS), x=NUMBERS, y=NUMBERS, guard=GUARDS)
    def insert(self, key: str, x: int, y: int, guard: str | None) -> None:
        if key not in self.model:
            self.shelf.insert(key, self.value("x", x), self.value("y", y), guard)
            self.model[key] = self.shelf.read()[key]

    @rule(key=st.sampled_from(KEYS), column=st.sampled_from(["x", "y"]), number=NUMBERS)
    def edit(self, key: str, column: str, number: int) -> None:
        if key in self.model:
            self.shelf.edit(key, column, self.value(column, number))
            there = self.shelf.read()[key]
            other = 1 if column == "x" else 0
            assert there["image"][other] == self.model[key]["image"][other]
            self.model[key] = there

    @rule(key=st.sampled_from(KEYS), guard=GUARDS)
    def touch(self, key: str, guard: str | None) -> None:
        self.shelf.edit(key, "g", guard)
        if key in self.model:
            self.model[key] = {**self.model[key], "g": guard}

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: str) -> None:
        self.shelf.delete(key)
        self.model.pop(key, None)

    # -- promotions

    def answer(self, run: tuple[str, str], rows: dict[str, tuple[int, int, str | None]]) -> None:
        """Answer rows of a run, or answer them anew."""
        xs, ys = self.shelf.answers["x"], self.shelf.answers["y"]
        for key, (m, n, guard) in rows.items():
            x, y = xs[m % len(xs)], ys[n % len(ys)]
            number = self.answers[run[1]] = self.answers.get(run[1], 0) + 1
            self.said.setdefault(run, {})[key] = Said(x, y, guard, number)

    def overtaken(self, run: tuple[str, str], key: str, answer: int) -> bool:
        """Tell whether the newest word on a key is another run's, by asking each promotion that stands in turn."""
        told = False
        for made in self.stack:
            number = made.covered.get(key) if made.stands else None
            if number is None:
                continue
            if made.run == run:
                told = told or number >= answer
            elif made.run[1] == run[1]:
                if number > answer:
                    return True
            elif told:
                return True
        return False

    @rule(
        run=RUNS,
        rows=st.dictionaries(st.sampled_from(KEYS), st.tuples(NUMBERS, NUMBERS, GUARDS), max_size=6),
        holding=st.sets(st.sampled_from(KEYS), max_size=1),
        way=st.integers(0, 1),
    )
    def promote(
        self,
        run: tuple[str, str],
        rows: dict[str, tuple[int, int, str | None]],
        holding: set[str],
        way: int,
    ) -> None:
        self.answer(run, rows)
        missing = self.shelf.missing[way % len(self.shelf.missing)]
        self.contents += 1
        content = Digest(f"{self.contents:064d}")
        name, store = run
        note = Note(run=name, store=store, receipt=content, content=content, fields=("x", "y"), partial=True)
        known = self.said.get(run, {})
        staged = [
            StagedRow(
                key, None if key in holding else {"x": said.x, "y": said.y}, {"g": said.guard}, said.answer
            )
            for key, said in known.items()
        ]
        want: dict[str, set[str]] = {
            kind: set() for kind in ("written", "inserted", "unchanged", "conflict", "absent", "held_back")
        }
        images = {key: self.shelf.made_of(said.x, said.y) for key, said in known.items()}
        made = Made(0, run, {}, {})
        for key, said in known.items():
            there = self.model.get(key)
            if key in holding:
                kind = "held_back"
            elif there is None:
                kind = "inserted" if missing == "insert" else "absent"
            elif there["image"] == images[key]:
                kind = "unchanged"
            else:
                stale = there["g"] != said.guard or self.overtaken(run, key, said.answer)
                kind = "conflict" if stale else "written"
            want[kind].add(key)
            if kind in ("written", "inserted", "unchanged"):
                made.covered[key] = said.answer
            if kind in ("written", "inserted"):
                made.rows[key] = Written(there["image"] if there else None, images[key])
                self.model[key] = {**(there or {"g": None, "note": None}), "image": images[key]}
        want["written"] |= want["inserted"]

        tried = self.shelf.target(missing).promote(note, staged, dry_run=True)
        promotion = self.shelf.target(missing).promote(note, staged)
        assert {kind: set(promotion.keys(kind)) for kind in want} == want  # type: ignore[arg-type]
        assert {kind: getattr(promotion, kind) for kind in want} == {
            kind: len(keys) for kind, keys in want.items()
        }
        assert {kind: getattr(tried, kind) for kind in want} == {
            kind: len(keys) for kind, keys in want.items()
        }
        assert promotion.staged == len(known)
        again = self.shelf.target(missing).promote(note, staged)
        assert again.repeated
        assert again == promotion
        assert promotion.id is not None
        made.number = promotion.id
        self.stack.append(made)

    # -- rollbacks

    def undo(self, made: Made) -> tuple[int, int, set[str]]:
        restored, deleted, conflicts = 0, 0, set[str]()
        for key, row in made.rows.items():
            there = self.model.get(key)
            if there is None or there["image"] != row.after:
                conflicts.add(key)
            elif row.before is not None:
                self.model[key] = {**there, "image": row.before}
                restored += 1
            elif there["g"] is None and there["note"] is None:
                del self.model[key]
                deleted += 1
            else:
                conflicts.add(key)
        made.stands = False
        return restored, deleted, conflicts

    @precondition(lambda self: self.stack)
    @rule(data=st.data())
    def roll_back_one(self, data: st.DataObject) -> None:
        made = data.draw(st.sampled_from(self.stack))
        later = [other for other in self.stack if other.number > made.number and other.stands]
        if made.stands and any(other.covered.keys() & made.rows.keys() for other in later):
            with pytest.raises(TargetError, match="came after"):
                self.shelf.target("report").rollback(made.number)
            return
        stood = made.stands
        undone = self.shelf.target("report").rollback(made.number)
        restored, deleted, conflicts = self.undo(made) if stood else (0, 0, set())
        assert undone.promotions == ((made.number,) if stood else ())
        assert (undone.restored, undone.deleted, set(undone.conflicts)) == (restored, deleted, conflicts)

    @precondition(lambda self: self.stack)
    @rule(data=st.data())
    def roll_back_to(self, data: st.DataObject) -> None:
        to = data.draw(st.sampled_from(self.stack))
        unwound = [made for made in reversed(self.stack) if made.number >= to.number and made.stands]
        undone = self.shelf.target("report").rollback(to=to.number)
        effects = [self.undo(made) for made in unwound]
        assert undone.promotions == tuple(made.number for made in unwound)
        assert undone.restored == sum(effect[0] for effect in effects)
        assert undone.deleted == sum(effect[1] for effect in effects)
        assert set(undone.conflicts) == {key for effect in effects for key in effect[2]}

    @rule()
    def roll_back_the_newest(self) -> None:
        standing = [made for made in self.stack if made.stands]
        undone = self.shelf.target("report").rollback()
        if standing:
            restored, deleted, conflicts = self.undo(standing[-1])
            assert (undone.restored, undone.deleted, set(undone.conflicts)) == (restored, deleted, conflicts)
        else:
            assert undone.promotions == ()

    # -- what always holds

    @invariant()
    def the_catalog_is_what_the_model_says(self) -> None:
        assert self.shelf.read() == self.model

    @invariant()
    def every_promotion_is_listed(self) -> None:
        known = self.shelf.target("report").promotions()
        assert [(p.id, p.rolled_back_at is None) for p in known] == [(m.number, m.stands) for m in self.stack]


@pytest.mark.parametrize("kind", ["sqlite", "columns", "overlay", "callable"])
def test_any_history(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Whatever happens, values come back byte for byte, and neither an edit nor a newer answer is overwritten."""
    shelves: dict[str, Callable[[Path], Shelf]] = {"sqlite": SQLiteShelf, "callable": LeafShelf}
    if kind in shelves:
        run_state_machine_as_test(cast("Any", lambda: CatalogMachine(shelves[kind](tmp_path / "catalog.db"))))
        return
    # A step on a server takes ten times as long as one on a file.
    fewer = settings(max_examples=max(4, settings().max_examples // 12), stateful_step_count=20)
    with closing(PostgresShelf(request.getfixturevalue("postgres_catalog"), kind)) as shelf:
        run_state_machine_as_test(cast("Any", lambda: CatalogMachine(shelf)), settings=fewer)
