"""The canary: a large run's first batch is judged before the rest is sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from rig import Label, answers
from shop import BROKEN, REFUSED, Shop, batches, kinds, tiny_spec

from batchkit.contract import Contract
from batchkit.run import Run
from batchkit.states import BatchState, RunState
from batchkit.testing import Answer


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def shop(given: dict[str, Answer] | None = None) -> Shop:
        made.append(Shop(tmp_path, model=answers(given or {})))
        return made[-1]

    yield shop
    for one in made:
        one.close()


def large(shop: Shop, **options: Any) -> Run[Any]:
    """Start a run of 60 rows that counts as large, in batches of 20, with a canary of 10."""
    return shop.start(
        rows=60, flow=shop.flow(max_batch_rows=20), **{"canary": 10, "canary_above": 50, **options}
    )


def test_nothing_else_is_sent_before_the_canary_is_read(make: Callable[..., Shop]) -> None:
    """The first batch is no larger than the canary, and the second goes out once its answers were judged."""
    shop = make()
    run = large(shop)
    for _ in range(3):
        run.advance()
    (first,) = batches(run)
    assert first.count <= 10
    assert run.wait(progress="none").done
    assert kinds(run).index("canary.passed") < [n for n, k in enumerate(kinds(run)) if k == "batch.sent"][1]
    assert shop.paid == 60


def test_a_bad_prompt_stops_at_the_price_of_the_canary(make: Callable[..., Shop]) -> None:
    """A canary below what is asked pauses the run with the figures, and only its rows were paid."""
    shop = make({"w000": BROKEN})
    run = large(shop)
    progress = run.wait(progress="none")
    (need,) = progress.needs
    assert (progress.state, progress.exit_code, need.code) == ("paused", 3, "canary")
    assert "0.0% are good, below 50.0%" in need.why
    assert shop.paid == batches(run)[0].count <= 10


def test_whoever_lets_it_go_on_has_overruled_it(make: Callable[..., Shop]) -> None:
    """After a canary failed, an unpause sends the rest without asking again."""
    shop = make({"w000": BROKEN})
    run = large(shop)
    run.wait(progress="none")
    run.unpause("the first rows are the odd ones")
    assert run.wait(progress="none").done
    assert run.record.options["canary_settled"] == "overruled"


def test_the_pilot_sets_the_floor(make: Callable[..., Shop]) -> None:
    """With a lock, the canary has to reach the lower bound of the pilot's share."""
    shop = make({f"w000{n}": REFUSED for n in range(3)})
    shop.lock(good=98, rows=100)
    run = large(shop, unlocked=False)
    need = run.wait(progress="none").needs[0]
    assert "below 93.0%, the pilot's lower bound" in need.why


def test_rows_called_sparse_are_good(make: Callable[..., Shop], tmp_path: Path) -> None:
    """An answer that rightly calls its record too sparse counts for the prompt, not against it."""
    shop = make({"w": Answer(text='{"color": "green"}')})
    shop.spec = tiny_spec(contract=Contract(Label, sparse=lambda out: out.color == "green"))
    run = large(shop)
    progress = run.wait(progress="none")
    assert progress.run_state is RunState.CLOSED
    assert run.rows(outcome="human_queued").count_by("reason") == {"output.sparse": 60}


def test_a_canary_that_met_an_overloaded_api_says_nothing(make: Callable[..., Shop]) -> None:
    """A canary none of whose rows was answered is sent again instead of judged."""
    shop = make()
    overloaded = Answer(kind="errored", error_type="overloaded_error")
    run = large(shop)
    failing = True

    def model(params: Mapping[str, Any], rng: Any) -> Answer:
        return overloaded if failing else Answer(text='{"color": "red"}')

    shop.sim._world.model = model
    while not batches(run) or batches(run)[0].state is not BatchState.COLLECTED:
        progress = run.advance()
        shop.opened[0].clock.sleep(30.0)
    failing = False
    run.advance()
    assert all(batch.count <= 10 for batch in batches(run))
    progress = run.wait(progress="none")
    assert progress.done
    assert "canary.passed" in kinds(run)


@pytest.mark.parametrize("options", [{"canary": 0}, {"canary_above": 60}])
def test_small_runs_have_none(make: Callable[..., Shop], options: dict[str, int]) -> None:
    """A run that is not large, or that switched it off, sends at once what it may."""
    shop = make()
    run = large(shop, **options)
    run.advance()
    assert sum(batch.count for batch in batches(run)) == 60


def test_runs_of_more_than_20_000_rows_have_one(make: Callable[..., Shop]) -> None:
    """Unless told otherwise a run counts as large above 20,000 rows, and its canary has at most 1,000."""
    shop = make()
    options = shop.start(rows=1).record.options
    assert (options["canary"], options["canary_above"]) == (1_000, 20_000)
