"""The promoter feeds a closed run's staged rows to a target, once, and keeps a note."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from batchkit.contract import Contract
from batchkit.errors import NotBalanced, StoreError, UsageError
from batchkit.ids import Digest, RowKey, row_id
from batchkit.model import DocKind, NewRun, Run, Seal, Settled, SourceRow
from batchkit.promotion import Promoter, output_fields
from batchkit.prompt import Prompt
from batchkit.reasons import Reason
from batchkit.source.freezing import source_line
from batchkit.spec import Spec
from batchkit.standing import scope_of
from batchkit.states import RowEvent, RunState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.targets import Note, OutputField, Promotion, StagedRow
from batchkit.targets.sqlite import SQLiteTarget
from batchkit.testing.target_catalogs import SQLiteCatalog
from batchkit.tier import Tier

RECEIPT = Digest("d" * 64)


class Answer(BaseModel):
    category: Literal["Audio", "Cables"] | None
    score: int


SPEC = Spec(
    Contract(Answer),
    Prompt("{title}"),
    key="sku",
    tiers=[Tier("claude-haiku-4-5", max_tokens=100)],
    metadata=["updated_at"],
)


@pytest.fixture
def store() -> Iterator[SQLiteStore]:
    store = SQLiteStore(":memory:")
    yield store
    store.close()


@pytest.fixture
def catalog(tmp_path: Path) -> SQLiteCatalog:
    return SQLiteCatalog(tmp_path / "catalog.db")


def freeze(
    store: SQLiteStore,
    keys: Sequence[str],
    *,
    answered: int | None = None,
    closed: bool = True,
    name: str = "nightly",
) -> Run:
    """Make a run in which a person answered the first so many rows (all), and the others wait."""
    run, _ = store.open_run(NewRun(name=name, spec=SPEC.fingerprint))
    lease = store.acquire(run.id, "me", 60)
    assert lease is not None
    page = [
        SourceRow(
            position=position,
            key=RowKey(key),
            line=source_line(position, RowKey(key), {"title": key, "updated_at": f"read {key}"}),
            size=1,
            event=RowEvent.INPUT_SPARSE,
            reason=Reason.INPUT_SPARSE,
        )
        for position, key in enumerate(keys)
    ]
    store.freeze(lease, page, seal=Seal())
    for position in range(len(keys) if answered is None else answered):
        answer(store, run, position)
    if closed:
        lease = store.acquire(run.id, "me", 60)
        assert lease is not None
        store.move_run(lease, expect=RunState.OPEN, to=RunState.CLOSED)
        store.release(lease)
    return store.runs(name=name)[0]


def answer(store: SQLiteStore, run: Run, position: int) -> None:
    lease = store.acquire(run.id, "me", 60)
    assert lease is not None
    text = json.dumps({"category": "Audio" if position % 2 == 0 else "Cables", "score": position}).encode()
    settled = Settled(
        row=row_id(run.id, position),
        event=RowEvent.ANSWERED,
        reason=None,
        tier=0,
        tries=0,
        resends=0,
        answer=text,
    )
    assert store.settle(lease, None, [settled], by="reviewer").applied == 1
    store.release(lease)


def test_staged_rows_reach_the_catalog(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """Every staged answer stands in the catalog; rows in other states do not count."""
    for key in ("a", "b", "c"):
        catalog.insert(key)
    run = freeze(store, ["a", "b", "c"], answered=2)
    promotion = Promoter(store).promote(run, SPEC, catalog.target(), receipt=RECEIPT)
    assert (promotion.staged, promotion.written) == (2, 2)
    assert (promotion.run, promotion.receipt) == ("nightly", RECEIPT)
    assert [catalog.read()[key]["category"] for key in "abc"] == ["Audio", "Cables", None]


def test_rows_beyond_one_page(
    store: SQLiteStore, catalog: SQLiteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages of a run are promoted."""
    monkeypatch.setattr("batchkit.promotion._PAGE", 2)
    run = freeze(store, ["a", "b", "c", "d", "e"])
    promotion = Promoter(store).promote(run, SPEC, catalog.target(missing="insert"), receipt=RECEIPT)
    assert (promotion.inserted, sorted(catalog.read())) == (5, ["a", "b", "c", "d", "e"])


def test_note_in_the_store(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """The store keeps one note per promotion, also when the promotion is asked for again; a dry run leaves none."""
    run = freeze(store, ["a"])
    promoter = Promoter(store)
    assert promoter.promote(run, SPEC, catalog.target(), receipt=RECEIPT, dry_run=True).absent == 1
    assert store.docs(DocKind.PROMOTION, scope=scope_of(run.id)) == []
    promoter.promote(run, SPEC, catalog.target(), receipt=RECEIPT)
    assert promoter.promote(run, SPEC, catalog.target(), receipt=RECEIPT).repeated
    ((_, body),) = store.docs(DocKind.PROMOTION, scope=scope_of(run.id))
    note = json.loads(body)
    assert (note["id"], note["staged"], note["absent"], note["receipt"]) == ("1", 1, 1, RECEIPT)


def test_a_note_that_was_lost_is_written_again(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """Killed between the catalog's commit and the note, the next call finds the promotion and writes the note."""

    class Dying(Exception):
        pass

    class Killed(SQLiteStore):
        def append(self, kind: DocKind, scope: str, body: bytes) -> str:
            raise Dying

    run = freeze(store, ["a"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteStore, "append", Killed.append)
        with pytest.raises(Dying):
            Promoter(store).promote(run, SPEC, catalog.target(), receipt=RECEIPT)
    assert Promoter(store).promote(run, SPEC, catalog.target(), receipt=RECEIPT).repeated
    assert len(store.docs(DocKind.PROMOTION, scope=scope_of(run.id))) == 1


def test_a_later_receipt_of_the_same_rows(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """A receipt that only adds the promotion itself makes no second promotion; one with other rows does."""
    run = freeze(store, ["a"])

    def issue(rows: str, promotions: int) -> Digest:
        body = json.dumps({"rows_sha256": rows, "promotions": promotions}).encode()
        store.append(DocKind.RECEIPT, scope_of(run.id), body)
        return Digest(hashlib.sha256(body).hexdigest())

    promoter, target = Promoter(store), catalog.target()
    first = promoter.promote(run, SPEC, target, receipt=issue("1" * 64, 0))
    assert promoter.promote(run, SPEC, target, receipt=issue("1" * 64, 1)) == first
    assert not promoter.promote(run, SPEC, target, receipt=issue("2" * 64, 1)).repeated


def test_answers_are_numbered_by_their_store(
    tmp_path: Path, store: SQLiteStore, catalog: SQLiteCatalog
) -> None:
    """A row goes with the number of its answer, and a store is told from others, also where it was moved to."""
    seen: list[tuple[Note, list[StagedRow]]] = []

    class Seeing(SQLiteTarget):
        def promote(self, note: Note, rows: Iterable[StagedRow], *, dry_run: bool = False) -> Promotion:
            kept = list(rows)
            seen.append((note, kept))
            return super().promote(note, kept, dry_run=dry_run)

    target = Seeing(catalog.path, "products", "sku")
    with closing(SQLiteStore(tmp_path / "one.db")) as one:
        run = freeze(one, ["a", "b"])
        one.open_run(NewRun(name="later", spec=SPEC.fingerprint))
        Promoter(one).promote(run, SPEC, target, receipt=RECEIPT, where=lambda out: out.score)
    (tmp_path / "moved").mkdir()
    with closing(SQLiteStore((tmp_path / "one.db").rename(tmp_path / "moved" / "two.db"))) as moved:
        Promoter(moved).promote(moved.runs(name="nightly")[0], SPEC, target, receipt=Digest("e" * 64))
    Promoter(store).promote(freeze(store, ["a"]), SPEC, target, receipt=RECEIPT)
    origins = [note.store for note, _ in seen]
    assert origins[0] == origins[1] != origins[2]
    assert all(origins)
    assert [row.answer for row in seen[1][1]] == [1, 2]


def test_which_answer_is_newer_is_the_stores_word(
    store: SQLiteStore, catalog: SQLiteCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child's answers give way to its parent's late one, though the results of the child's run have higher ids."""
    for key in ("a", "b"):
        catalog.insert(key)
    parent, child = freeze(store, ["a", "b"], name="parent"), freeze(store, ["b", "a"], name="child")
    monkeypatch.setattr(
        SQLiteStore, "settled_order", lambda self, results: [9 - result for result in results]
    )
    promoter, target = Promoter(store), catalog.target()
    promoter.promote(parent, SPEC, target, receipt=RECEIPT)
    assert promoter.promote(child, SPEC, target, receipt=Digest("e" * 64)).conflict == 2


def test_held_back_by_a_predicate(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """Rows for whose output the predicate is false are held back, and follow when it is left out."""
    for key in ("a", "b"):
        catalog.insert(key)
    run = freeze(store, ["a", "b"])
    promoter, target = Promoter(store), catalog.target()
    some = promoter.promote(run, SPEC, target, receipt=RECEIPT, where=lambda out: out.category == "Audio")
    assert (some.written, some.held_back, list(some.keys("held_back"))) == (1, 1, ["b"])
    rest = promoter.promote(run, SPEC, target, receipt=RECEIPT)
    assert (rest.written, rest.unchanged) == (1, 1)


def test_a_predicate_that_raises(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """A predicate that raises stops the promotion and names the row."""
    catalog.insert("a")
    run = freeze(store, ["a"])
    with pytest.raises(UsageError, match="ZeroDivisionError for row 'a'"):
        Promoter(store).promote(run, SPEC, catalog.target(), receipt=RECEIPT, where=lambda out: 1 / out.score)
    assert catalog.read()["a"]["category"] is None


def test_guard_from_the_frozen_row(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """The guard compares the catalog with what was frozen with each row."""
    catalog.insert("a", updated_at="read a")
    catalog.insert("b", updated_at="edited since")
    run = freeze(store, ["a", "b"])
    promotion = Promoter(store).promote(run, SPEC, catalog.target(guard="updated_at"), receipt=RECEIPT)
    assert (list(promotion.keys("written")), list(promotion.keys("conflict"))) == (["a"], ["b"])


def test_guard_that_was_not_frozen(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """A guard column that was not frozen is found by the check, and refused with the words to freeze it."""
    target = catalog.target(guard="price")
    (problem,) = Promoter(store).check(SPEC, target)
    assert (problem.column, "metadata=['price']" in problem.fix) == ("price", True)
    run = freeze(store, ["a"])
    with pytest.raises(UsageError, match=r"metadata=\['price'\]"):
        Promoter(store).promote(run, SPEC, target, receipt=RECEIPT)


def test_check_passes_the_contract_to_the_target(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """A check before the pilot finds what the catalog would refuse, and nothing where all is well."""
    assert Promoter(store).check(SPEC, catalog.target(guard="updated_at")) == []
    catalog.require("category")
    assert [p.column for p in Promoter(store).check(SPEC, catalog.target())] == ["category"]


def test_a_run_that_is_not_closed(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """A run that is not closed is not promoted."""
    run = freeze(store, ["a"], closed=False)
    with pytest.raises(NotBalanced, match="open"):
        Promoter(store).promote(run, SPEC, catalog.target(), receipt=RECEIPT)


def test_an_answer_that_comes_in_between(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """Where a person's answer arrives while rows are read, nothing is written under the older receipt."""
    catalog.insert("a")
    run = freeze(store, ["a", "b"], answered=1)
    tally = store.tally

    class Late(SQLiteStore):
        def tally(self, run: Any) -> Any:
            known = tally(run)
            answer(store, store.runs(name="nightly")[0], 1)
            return known

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SQLiteStore, "tally", Late.tally)
        with pytest.raises(StoreError, match="came in"):
            Promoter(store).promote(run, SPEC, catalog.target(), receipt=RECEIPT)
    assert catalog.read()["a"]["category"] is None


def test_another_contract_than_the_runs(store: SQLiteStore, catalog: SQLiteCatalog) -> None:
    """Accepted answers that the contract given cannot read stop the promotion and name the row."""

    class Other(BaseModel):
        words: list[str]

    run = freeze(store, ["a"])
    other = Spec(Contract(Other), SPEC.prompt, key="sku", tiers=SPEC.tiers)
    with pytest.raises(UsageError, match="row 'a'"):
        Promoter(store).promote(run, other, catalog.target(columns={"words": "category"}), receipt=RECEIPT)


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    name: str


class Wide(BaseModel):
    plain: str
    short: Annotated[str, Field(max_length=9)]
    maybe: Annotated[str, Field(max_length=9)] | None
    either: Annotated[str, Field(max_length=9)] | str
    colour: Colour
    choice: Literal["a", 1] | None
    one: Literal["x"]
    flag: bool
    number: float | int
    parts: list[Part]
    part: Part


def test_what_a_contract_says_of_its_fields() -> None:
    """Types, lengths and closed lists of every field are read from the contract."""

    def field(
        name: str, *kinds: str, length: int | None = None, allowed: tuple[Any, ...] = ()
    ) -> OutputField:
        return OutputField(name=name, kinds=frozenset(kinds), max_length=length, allowed=allowed)

    assert output_fields(Contract(Wide)) == (
        field("plain", "string"),
        field("short", "string", length=9),
        field("maybe", "string", "null", length=9),
        field("either", "string"),
        field("colour", "string", allowed=("red", "blue")),
        field("choice", "string", "integer", "null", allowed=("a", 1)),
        field("one", "string", allowed=("x",)),
        field("flag", "boolean"),
        field("number", "number", "integer"),
        field("parts", "array"),
        field("part", "object"),
    )
