"""Series and slices: what is sent again, and what is not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rig import answers
from shop import BROKEN, Shop, tiny_spec, words

from batchkit.errors import DuplicateKeys, NotLocked, SpecChanged, UsageError
from batchkit.prompt import Prompt
from batchkit.run import Run
from batchkit.states import Outcome
from batchkit.testing import Answer
from batchkit.view import attach


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path)
    yield made
    made.close()


def nightly(shop: Shop, rows: object, **options: Any) -> Run[Any]:
    run = shop.start("nightly", rows, incremental=True, **options)
    run.wait(progress="none")
    return run


def test_only_what_changed_is_sent_again(shop: Shop) -> None:
    """The next run of a series sends new and changed records; the others are unchanged, with their answer."""
    first = nightly(shop, 5)
    assert (first.name, shop.paid) == ("nightly#1", 5)
    rows = words(6)
    rows[2]["word"] = "other"
    second = nightly(shop, rows)
    assert (second.name, shop.paid) == ("nightly#2", 7)
    assert second.rows(outcome="unchanged").keys() == ["S0000", "S0001", "S0003", "S0004"]
    assert second.rows(keys="S0000").head()[0].output == first.rows(keys="S0000").head()[0].output
    assert second.progress.tally.outcomes[Outcome.UNCHANGED] == 4
    receipt = second.reconcile().receipt()
    assert receipt["balanced"]
    assert receipt["equations"]["rows"]["buckets"]["unchanged"] == 4


def test_unchanged_rows_stay_unchanged_from_run_to_run(shop: Shop) -> None:
    """An answer is carried through any number of runs that change nothing."""
    run = [nightly(shop, 3) for _ in range(3)][-1]
    assert (run.name, shop.paid) == ("nightly#3", 3)
    assert run.rows().count_by("output.color") == {"red": 3}


def test_a_record_that_was_missing_for_a_night_is_unchanged_when_it_is_back(shop: Shop) -> None:
    """What was staged last counts, however many runs ago: a record that comes back as it was is not paid again."""
    nightly(shop, 4)
    nightly(shop, 3)
    nightly(shop, 2)
    back = nightly(shop, 4)
    assert (back.progress.tally.outcomes[Outcome.UNCHANGED], shop.paid) == (4, 4)
    assert back.rows().count_by("output.color") == {"red": 4}


def test_a_record_that_went_back_to_what_it_was_is_sent(shop: Shop) -> None:
    """What the catalog holds is the answer staged last; an older one of equal content does not stand for it."""
    rows = words(1)
    nightly(shop, rows)
    nightly(shop, [{**rows[0], "word": "other"}])
    run = nightly(shop, rows)
    assert (run.progress.tally.outcomes[Outcome.UNCHANGED], shop.paid) == (0, 3)


def test_a_record_that_failed_for_a_night_keeps_its_staged_answer(tmp_path: Path) -> None:
    """A change that came to nothing and was taken back leaves the record as it was staged."""
    shop = Shop(tmp_path, model=answers({"bad": BROKEN}))
    rows = words(1)
    nightly(shop, rows)
    nightly(shop, [{**rows[0], "word": "bad"}])
    paid = shop.paid
    run = nightly(shop, rows)
    assert (run.progress.tally.outcomes[Outcome.UNCHANGED], shop.paid) == (1, paid)
    shop.close()


def test_a_record_missing_under_another_spec_keeps_its_answer(shop: Shop) -> None:
    """A night under another spec replaces what it staged, and nothing else."""
    nightly(shop, 3)
    nightly(shop, 2, flow=shop.flow(tiny_spec(prompt=Prompt("The word: {word}"))))
    run = nightly(shop, 3)
    assert run.rows(outcome="unchanged").keys() == ["S0002"]


def test_content_under_another_key_is_sent(shop: Shop) -> None:
    """A record is the same only if its key and its content are."""
    nightly(shop, 1)
    run = nightly(shop, [{"sku": "S0009", "word": "w0000", "brand": "b0"}])
    assert run.progress.tally.outcomes[Outcome.UNCHANGED] == 0
    assert shop.paid == 2


def test_what_was_never_staged_is_sent_again(tmp_path: Path) -> None:
    """A record that ended without an answer is no answer to keep."""
    shop = Shop(tmp_path, model=answers({"w0000": BROKEN}))
    nightly(shop, 2)
    paid = shop.paid
    run = nightly(shop, 2)
    assert run.progress.tally.outcomes[Outcome.UNCHANGED] == 1
    assert shop.paid > paid
    shop.close()


def test_another_spec_sends_all_again(shop: Shop) -> None:
    """Answers of another spec are not kept, nor those before a run under another spec."""
    nightly(shop, 2)
    other = shop.flow(tiny_spec(prompt=Prompt("The word: {word}")))
    nightly(shop, 2, flow=other)
    nightly(shop, 2)
    assert shop.paid == 6


def test_an_unfinished_run_of_the_series_goes_on(shop: Shop) -> None:
    """While a run of the series is open, the next start gives it as it is, whatever the rows are now."""
    run = shop.start("nightly", 3, incremental=True)
    run.advance()
    again = shop.start("nightly", 9, incremental=True)
    assert (again.name, again.record.rows) == ("nightly#1", 3)
    other = shop.flow(tiny_spec(prompt=Prompt("The word: {word}")))
    with pytest.raises(
        SpecChanged, match=r"(?s)'nightly#1' runs under .* flow.resume\('nightly'\)"
    ) as caught:
        shop.start("nightly", 9, flow=other, incremental=True)
    assert "prompt.user" in str(caught.value)
    assert shop.flow().resume("nightly").name == "nightly#1"


def test_an_unsealed_run_of_the_series_is_frozen_anew(shop: Shop) -> None:
    """A series does not get stuck on a start that was refused: the same number is frozen from the next rows."""
    with pytest.raises(DuplicateKeys):
        shop.start("nightly", [*words(2), {"sku": "S0001", "word": "other", "brand": ""}], incremental=True)
    run = nightly(shop, 4)
    assert (run.name, run.record.rows) == ("nightly#1", 4)


def test_attach_finds_the_newest_of_a_series(shop: Shop) -> None:
    """The series' name stands for its newest run, by number and not by text."""
    for _ in range(11):
        nightly(shop, 1)
    assert attach(shop.path, "nightly").name == "nightly#11"
    assert attach(shop.path, "nightly#2").name == "nightly#2"


# -------------------------------------------------------------------- slices


def closed(shop: Shop, rows: object = 5) -> Run[Any]:
    run = shop.start("parent", rows)
    run.wait(progress="none")
    return run


def test_a_slice_is_a_child_run(shop: Shop) -> None:
    """Some rows of a run go out again under a name of their own; parent and child name each other."""
    parent = closed(shop)
    better = tiny_spec(prompt=Prompt("Better: {word}"))
    child = parent.rows(keys=["S0001", "S0003"]).rerun("fix", spec=better, unlocked=True)
    child.wait(progress="none")
    assert child.rows().keys() == ["S0001", "S0003"]
    assert (child.spec.fingerprint, shop.paid) == (better.fingerprint, 7)
    assert child.reconcile().receipt()["parent"] == "parent"
    assert parent.reconcile().receipt()["children"] == ["fix"]
    again = parent.rows(keys=["S0001", "S0003"]).rerun("fix", spec=better, unlocked=True)
    assert again.record.id == child.record.id


def test_a_plain_retry_keeps_the_spec_of_its_parent(shop: Shop) -> None:
    """After the code's spec moved on, a retry without a spec goes out as the parent did."""
    closed(shop)
    flow = shop.flow(tiny_spec(prompt=Prompt("Moved on: {word}")))
    child = flow.resume("parent").rows(keys="S0001").rerun("again", unlocked=True)
    assert child.record.spec == shop.spec.fingerprint
    assert child.wait(progress="none").done


def test_a_slice_needs_a_lock_too(shop: Shop) -> None:
    """A slice under a spec that nobody accepted is refused unless told so."""
    parent = closed(shop)
    with pytest.raises(NotLocked):
        parent.rows(keys="S0001").rerun("fix")
    shop.lock()
    assert parent.rows(keys="S0001").rerun("fix").record.rows == 1


def test_a_slice_takes_fresh_rows_by_key(shop: Shop) -> None:
    """Fresh records replace the frozen ones; those of other keys are left out, and number keys match their text."""
    rows = [{"sku": n, "word": f"w{n:04}", "brand": ""} for n in (1, 2, 3)]
    parent = closed(shop, rows)
    fresh = [{"sku": n, "word": f"new{n}", "brand": ""} for n in (3, 1, 9)]
    child = parent.rows(keys=["1", "3"]).rerun("fix", rows=fresh, unlocked=True)
    child.wait(progress="none")
    assert [(row.key, row.source["word"]) for row in child.rows()] == [("3", "new3"), ("1", "new1")]


def test_rows_that_are_still_open_do_not_go_out_twice(shop: Shop) -> None:
    """A slice of rows that may be answered yet is refused: both answers would be paid."""
    run = shop.start("parent", 5)
    run.advance()
    with pytest.raises(UsageError, match="5 of these rows are still open"):
        run.rows().rerun("fix", unlocked=True)
    assert shop.faults.posts == 1


def test_rows_refused_as_they_stand_are_not_sent_frozen(shop: Shop) -> None:
    """A duplicate that was set aside must not become the only record of its key in a slice."""
    rows = [*words(2), {"sku": "S0001", "word": "other", "brand": ""}]
    run = shop.start("parent", rows, on_duplicate="first")
    run.wait(progress="none")
    with pytest.raises(UsageError, match=r"1 of these rows were refused as they stand in the source"):
        run.failures().rerun("fix", unlocked=True)
    fresh = [{"sku": "S0001", "word": "mended", "brand": ""}]
    child = run.failures().rerun("fix", rows=fresh, unlocked=True)
    assert child.record.rows == 1


def test_attached_rows_cannot_go_out_again(shop: Shop) -> None:
    """Without a spec and a client there is no rerun; the message says what has them."""
    closed(shop)
    with pytest.raises(UsageError, match="rerun needs the spec"):
        attach(shop.path, "parent").rows().rerun("fix")


def test_failed_rows_are_retried(tmp_path: Path) -> None:
    """The failures of a run can be sent again as they are, and only they are paid again."""
    bad = True

    def model(params: Mapping[str, Any], rng: Any) -> Answer:
        return BROKEN if bad and "w0001" in str(params["messages"]) else Answer(text='{"color": "red"}')

    shop = Shop(tmp_path, model=model)
    parent = closed(shop)
    paid, bad = shop.paid, False
    child = parent.failures().rerun("again", unlocked=True)
    child.wait(progress="none")
    assert child.rows(outcome="succeeded").keys() == ["S0001"]
    assert shop.paid == paid + 1
    shop.close()
