"""Moving runs: passes, waiting, leases, and a provider that fails or refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from rig import answers
from shop import BROKEN, REFUSED, Shop, batches, kinds, words

from batchkit.errors import StoreError
from batchkit.ids import RowId, RunId
from batchkit.model import RowView, Tally, Where
from batchkit.money import Budget
from batchkit.states import BatchState, Outcome, RowState, RunState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import Answer, Dropped, Handler, Latency, Request, Response
from batchkit.view import attach, set_cap


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    made: list[Shop] = []

    def shop(**settings: Any) -> Shop:
        made.append(Shop(tmp_path, **settings))
        return made[-1]

    yield shop
    for one in made:
        one.close()


Rule: TypeAlias = Callable[[Request, Handler], "Response | None"]


def refusing(status: int, kind: str, *, method: str = "GET") -> Rule:
    """Answer every request of a method with an API error."""
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"no: {kind}"}}).encode()

    def rule(request: Request, api: Handler) -> Response | None:
        if request.method != method:
            return None
        return Response(status=status, headers={"content-type": "application/json"}, body=body)

    return rule


def lost(request: Request, api: Handler) -> Response | None:
    """Let a create have its effect and lose its answer."""
    if request.method == "POST" and request.path.endswith("/batches"):
        api.handle(request)
        raise Dropped("the answer was lost")
    return None


def never_arrived(request: Request, api: Handler) -> Response | None:
    """Read a create's whole body, and do nothing with it."""
    if request.method == "POST" and request.path.endswith("/batches"):
        for _ in request.body if not isinstance(request.body, bytes) else ():
            pass
        raise Dropped("the answer was lost")
    return None


# -------------------------------------------------------------------- passes


def test_a_whole_run(make: Callable[..., Shop]) -> None:
    """Every row ends where its answers lead, the run closes with a receipt, and each answer is paid once."""
    shop = make(model=answers({"w0001": REFUSED, "w0002": BROKEN}))
    run = shop.start(rows=5)
    progress = run.wait(progress="none")
    counts = progress.tally.outcomes
    assert (progress.state, progress.exit_code, progress.run_state) == ("done", 0, RunState.CLOSED)
    assert (counts[Outcome.SUCCEEDED], counts[Outcome.HUMAN_QUEUED], counts[Outcome.QUARANTINED]) == (3, 1, 1)
    assert run.rows(outcome="quarantined").count_by("reason", "tier") == {("output.schema", 1): 1}
    assert run.reconcile().balanced
    assert shop.paid == sum(batch.lines for batch in batches(run)) == 6


def test_a_pass_without_work_has_not_moved(make: Callable[..., Shop]) -> None:
    """While a batch runs, a pass changes nothing, says so, and says when to come back."""
    shop = make()
    run = shop.start()
    assert run.advance().moved
    run.advance()
    idle = run.advance()
    assert not idle.moved
    assert idle.wake_at is not None
    assert idle.wake_at > shop.now


def test_an_idle_pass_counts_no_rows(make: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are counted again only where something was written: at 600,000 rows a count takes a third of a second."""
    run = make().start()
    for _ in range(3):
        run.advance()
    counted: list[int] = []
    whole = SQLiteStore.tally

    def counting(self: SQLiteStore, run: RunId) -> Tally:
        counted.append(1)
        return whole(self, run)

    monkeypatch.setattr(SQLiteStore, "tally", counting)
    run.advance()
    assert counted == []


def test_a_pass_counts_once_however_many_batches_it_sends(
    make: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left to send is known from the count before and what went out since."""
    counted: list[int] = []
    whole = SQLiteStore.tally

    def counting(self: SQLiteStore, run: RunId) -> Tally:
        counted.append(1)
        return whole(self, run)

    shop = make()
    run = shop.start(rows=60, flow=shop.flow(max_batch_rows=10))
    monkeypatch.setattr(SQLiteStore, "tally", counting)
    assert run.advance().batches_running >= 6
    assert len(counted) <= 2


def test_a_pass_looks_for_what_is_pending_once_however_many_batches_it_sends(
    make: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each batch is filled from where the one before ended; from the first row they would be read batches times."""
    read: list[RowId | None] = []
    whole = SQLiteStore.page

    def reading(
        self: SQLiteStore, run: RunId, where: Where, *, after: RowId | None = None, limit: int = 1000
    ) -> Sequence[RowView]:
        if where.states == frozenset({RowState.PENDING}):
            read.append(after)
        return whole(self, run, where, after=after, limit=limit)

    shop = make()
    run = shop.start(rows=60, flow=shop.flow(max_batch_rows=10))
    monkeypatch.setattr(SQLiteStore, "page", reading)
    run.advance()
    lasts = [run._store.members(batch.id).rows[-1] for batch in batches(run)]
    assert len(lasts) >= 6
    assert read == [None, *lasts[:-1]]


def test_rows_of_a_refused_batch_go_out_in_the_same_pass(make: Callable[..., Shop]) -> None:
    """A batch that was refused as too large is filled again from the same row on, not from where it ended."""
    shop = make()
    run = shop.start(rows=60, flow=shop.flow(max_batch_rows=20))
    left = [413]

    def too_large(request: Request, api: Handler) -> Response | None:
        if request.method != "POST" or not request.path.endswith("/batches") or not left:
            return None
        for _ in request.body if not isinstance(request.body, bytes) else ():
            pass
        return Response(status=left.pop())

    shop.faults.rules.append(too_large)
    progress = run.advance()
    assert BatchState.REJECTED in {batch.state for batch in batches(run)}
    assert progress.tally.in_state(RowState.PENDING) == 0


def test_rows_moved_by_somebody_else_are_counted_again(make: Callable[..., Shop]) -> None:
    """A count kept from an earlier pass is not used once another process held the lease."""
    shop = make()
    run = shop.start(rows=3)
    run.advance()
    other = shop.flow().resume("run")
    other.wait(progress="none")
    assert run.advance().tally.outcomes[Outcome.SUCCEEDED] == 3


def test_the_loser_of_a_lease_waits_for_the_holder(make: Callable[..., Shop]) -> None:
    """While another process holds the lease a pass does nothing, and comes back when that lease ends."""
    shop = make()
    run = shop.start()
    store = shop.flow().store
    lease = store.acquire(run.record.id, "another", 60.0)
    assert lease is not None
    progress = run.advance()
    assert (progress.moved, progress.wake_at) == (False, lease.until)
    assert shop.faults.posts == 0
    assert run.wait(progress="none").done


def test_two_threads_of_one_process_do_not_share_a_lease(make: Callable[..., Shop]) -> None:
    """A pass in progress keeps its lease against another workflow, a pause and a reader of the same process."""
    shop = make()
    run = shop.start()
    second = shop.flow().resume("run")
    seen: list[bool] = []

    def during(request: Request, api: Handler) -> Response | None:
        if request.method == "POST":
            seen.append(second.advance().moved)
            attach(second._store, "run").pause("a look")
        return None

    shop.faults.rules.append(during)
    assert run.advance().moved
    assert seen == [False]
    assert batches(run)[0].state is BatchState.LIVE
    assert run.advance().run_state is RunState.PAUSED


def test_the_lease_is_free_after_a_failure(
    make: Callable[..., Shop], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a pass dies of, the next one need not wait for a lease to run out."""
    shop = make()
    run = shop.start()

    def failing(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SQLiteStore, "intend", failing)
        with pytest.raises(StoreError, match="disk is full"):
            run.advance()
    assert run.advance().moved
    assert shop.faults.posts == 1


def test_a_stop_ends_the_pass(make: Callable[..., Shop]) -> None:
    """A pass asked to stop sends nothing, and says that there is more to do."""
    shop = make()
    run = shop.start()
    progress = run.advance(stop=lambda: True)
    assert progress.wake_at == shop.now
    assert shop.faults.posts == 0
    assert run.wait(stop=lambda: True, progress="none").state == "sending"


def test_a_stop_in_mid_body_frees_the_rows(make: Callable[..., Shop]) -> None:
    """A batch stopped before its last chunk was certainly not created: its rows go out again, once."""
    shop = make()
    run = shop.start(rows=3)
    stopping: list[bool] = []

    def during(request: Request, api: Handler) -> Response | None:
        stopping.extend([True] * (request.method == "POST"))
        return None

    shop.faults.rules.append(during)
    run.advance(stop=lambda: bool(stopping))
    shop.faults.rules.clear()
    stopping.clear()
    assert [batch.state for batch in batches(run)] == [BatchState.REJECTED]
    assert run.wait(progress="none").done
    assert shop.paid == 3


def test_wait_returns_at_its_timeout(make: Callable[..., Shop]) -> None:
    """A wait with a timeout comes back then, with everything as it is, and the next one goes on."""
    shop = make()
    run = shop.start()
    before = shop.now
    progress = run.wait(timeout=30.0, progress="none")
    assert shop.now - before == pytest.approx(30.0)
    assert (progress.state, progress.exit_code) == ("waiting", 75)
    assert run.wait(timeout=0.0, progress="none").state == "waiting"
    assert run.wait(progress="none").done


def test_an_interrupted_wait_cancels_nothing_and_says_how(
    make: Callable[..., Shop], capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C leaves the batch running and the lease free, and prints the commands that pause and cancel."""
    shop = make()
    run = shop.start()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.wait(progress=interrupt)
    told = capsys.readouterr().err
    assert f"python -m batchkit pause {shop.path} run" in told
    assert f"python -m batchkit cancel {shop.path} run" in told
    assert batches(run)[0].state is BatchState.LIVE
    assert shop.flow().resume("run").wait(progress="none").done
    assert shop.paid == 10


# -------------------------------------------------------------------- the provider


@pytest.mark.parametrize(
    ("status", "kind", "who", "code"),
    [
        (401, "authentication_error", "person", 3),
        (403, "permission_error", "person", 3),
        (402, "billing_error", "money", 4),
    ],
)
def test_a_refused_credential_pauses_the_run(
    make: Callable[..., Shop], status: int, kind: str, who: str, code: int
) -> None:
    """Where the API refuses the key or the account, the run pauses for whoever can mend it, and then goes on."""
    shop = make()
    run = shop.start()
    run.advance()
    shop.faults.rules.append(refusing(status, kind))
    progress = run.wait(progress="none")
    (need,) = progress.needs
    assert (progress.state, progress.wake_at, progress.exit_code) == ("paused", None, code)
    assert need.who == who
    assert f"python -m batchkit resume {shop.path} run" in need.fix
    assert kinds(run)[-1] == "run.paused"
    shop.faults.rules.clear()
    run.unpause()
    assert run.wait(progress="none").done
    assert shop.paid == 10


def test_a_refused_credential_keeps_a_cancel_waiting(make: Callable[..., Shop]) -> None:
    """A cancel that the API does not let through asks for a person, and goes through once that is mended."""
    shop = make()
    run = shop.start()
    run.advance()
    run.cancel()
    shop.faults.rules += [
        refusing(401, "authentication_error"),
        refusing(401, "authentication_error", method="POST"),
    ]
    progress = run.wait(progress="none")
    assert (progress.state, progress.exit_code) == ("canceling", 3)
    assert run.wait(progress="none").needs == progress.needs
    shop.faults.rules.clear()
    assert run.wait(progress="none").done
    assert run.record.needs == ()


@pytest.mark.parametrize("status", [500, 529, 429])
def test_an_outage_at_night_is_waited_out(make: Callable[..., Shop], status: int) -> None:
    """Hours without an API raise nothing: the wait goes on, and every row is answered and paid once."""
    shop = make()
    run = shop.start()
    back = shop.now + 3 * 3_600.0
    failing = refusing(status, "api_error")
    failing_posts = refusing(status, "api_error", method="POST")

    def outage(request: Request, api: Handler) -> Response | None:
        return failing(request, api) or failing_posts(request, api) if shop.now < back else None

    shop.faults.rules.append(outage)
    assert run.wait(progress="none").done
    assert shop.now > back
    assert shop.paid == 10


def test_a_dead_line_at_night_is_waited_out(make: Callable[..., Shop]) -> None:
    """A provider that no connection reaches for hours raises nothing either."""
    shop = make()
    run = shop.start()
    run.advance()
    back = shop.now + 3 * 3_600.0

    def dead(request: Request, api: Handler) -> Response | None:
        if shop.now < back:
            raise Dropped("no route")
        return None

    shop.faults.rules.append(dead)
    assert run.wait(progress="none").done
    assert shop.paid == 10


def test_a_lost_answer_is_resolved_not_sent_again(make: Callable[..., Shop]) -> None:
    """A create whose answer is lost is found by its nonce, and nothing is paid twice."""
    shop = make()
    run = shop.start()
    shop.faults.rules.append(lost)
    assert run.advance().batches_doubtful == 1
    shop.faults.rules.clear()
    assert run.wait(progress="none").done
    assert (shop.faults.posts, shop.paid) == (1, 10)


# -------------------------------------------------------------------- people


def test_a_hold_returns_to_whoever_waits(make: Callable[..., Shop]) -> None:
    """Where only a person can decide, the wait comes back with the need instead of spinning."""
    shop = make()
    flow = shop.flow(doubt_grace=float("inf"))
    run = shop.start(flow=flow)
    shop.faults.rules.append(never_arrived)
    run.advance()
    shop.faults.rules.clear()
    progress = run.wait(progress="none")
    assert (progress.state, progress.wake_at, progress.exit_code) == ("held", None, 3)
    assert "declare-absent" in progress.needs[0].fix
    assert run.progress.needs == progress.needs
    assert run.wait(progress="none").state == "held"
    assert shop.faults.posts == 1


def test_a_hold_is_told_to_the_runs_it_blocks(make: Callable[..., Shop]) -> None:
    """A run that may not send because another run's batch is held says so, and does not spin."""
    shop = make()
    flow = shop.flow(doubt_grace=float("inf"))
    first, second = shop.start("first", flow=flow), shop.start("second", rows=words(3), flow=flow)
    shop.faults.rules.append(never_arrived)
    first.advance()
    shop.faults.rules.clear()
    first.wait(progress="none")
    progress = second.wait(progress="none")
    assert (progress.state, progress.exit_code, progress.wake_at) == ("held", 3, None)
    assert progress.needs == first.progress.needs
    assert shop.faults.posts == 1


def test_a_doubt_that_nobody_looks_after_is_told_to_the_runs_it_blocks(make: Callable[..., Shop]) -> None:
    """A run that waits for another one's doubt says so once nobody has moved that one for an hour, and then goes on."""
    shop = make()
    first = shop.start("first", rows=3)
    shop.faults.rules.append(lost)
    first.advance()
    shop.faults.rules.clear()
    second = shop.start("second", rows=words(3, start=100))
    assert second.wait(timeout=1_800.0, progress="none").needs == ()
    progress = second.wait(timeout=3_600.0, progress="none")
    (need,) = progress.needs
    assert (progress.state, need.code) == ("held", "doubt.neglected")
    assert progress.wake_at is not None
    assert "flow.resume('first').wait()" in need.fix
    assert first.wait(progress="none").done
    assert second.wait(progress="none").done
    assert shop.paid == 6


def test_a_queue_filled_by_another_run_is_waited_for(make: Callable[..., Shop]) -> None:
    """Where another run's batches fill the queue, a run looks again in a minute instead of giving up."""
    shop = make()
    flow = shop.flow(max_in_queue=10)
    first, second = shop.start("first", flow=flow), shop.start("second", rows=words(3), flow=flow)
    first.advance()
    progress = second.advance()
    assert progress.wake_at == pytest.approx(shop.now + 60.0)
    first.wait(progress="none")
    assert second.wait(progress="none").done


def test_pause_and_unpause_from_elsewhere(make: Callable[..., Shop]) -> None:
    """A pause asked for elsewhere keeps what runs and sends nothing new; an unpause lets it go on."""
    shop = make()
    run = shop.start(rows=30, flow=shop.flow(max_batch_rows=10, max_in_queue=10))
    run.advance()
    attach(shop.path, "run").pause("lunch", by="lead")
    progress = run.wait(progress="none")
    assert (progress.state, progress.exit_code, progress.wake_at) == ("paused", 3, None)
    assert progress.needs[0].why == "lunch"
    assert shop.faults.posts == 1
    assert progress.tally.outcomes[Outcome.SUCCEEDED] == shop.paid > 0
    attach(shop.path, "run").unpause()
    assert run.wait(progress="none").done
    assert shop.paid == 30


def test_a_request_that_is_not_possible_is_told(make: Callable[..., Shop]) -> None:
    """Pausing a closed run changes nothing, and an event says so."""
    shop = make()
    run = shop.start(rows=1)
    run.wait(progress="none")
    run.pause("too late")
    assert run.record.state is RunState.CLOSED
    assert kinds(run)[-1] == "request.not_possible"


def test_cancel_keeps_what_was_paid(make: Callable[..., Shop]) -> None:
    """A cancel ends the running batch, keeps its paid answers, cancels the rest, and the equation balances."""
    shop = make(latency=Latency(min=3_600.0, max=7_200.0))
    run = shop.start(rows=100, flow=shop.flow(max_batch_rows=50, max_in_queue=50))
    run.advance()
    run.wait(timeout=1_800.0, progress="none")
    attach(shop.path, "run").cancel("wrong prompt", by="lead")
    progress = run.wait(progress="none")
    counts = progress.tally.outcomes
    assert (progress.state, progress.exit_code) == ("done", 0)
    assert counts[Outcome.SUCCEEDED] == shop.paid > 0
    assert counts[Outcome.SUCCEEDED] + counts[Outcome.CANCELED] == 100
    assert set(run.rows(outcome="canceled").count_by("reason")) == {"batch.canceled", "run.canceled"}
    assert run.reconcile().balanced


@pytest.mark.parametrize("fault", [lost, never_arrived])
def test_cancel_in_doubt_resolves_first(make: Callable[..., Shop], fault: Rule) -> None:
    """A cancel during a doubt waits until it is known whether the batch exists; nothing is sent again."""
    shop = make()
    run = shop.start()
    shop.faults.rules.append(fault)
    run.advance()
    shop.faults.rules.clear()
    run.cancel()
    assert run.advance().state == "canceling"
    progress = run.wait(progress="none")
    assert progress.done
    assert progress.tally.outcomes[Outcome.SUCCEEDED] == shop.paid
    assert progress.tally.outcomes[Outcome.CANCELED] == 10 - shop.paid
    assert shop.faults.posts == 1


def test_an_answer_to_a_closed_run_makes_the_next_receipt(make: Callable[..., Shop]) -> None:
    """A person's answer to a closed run is settled by the next pass and gives receipt 2; an idle pass gives none."""
    shop = make(model=answers({"w0001": REFUSED}))
    run = shop.start(rows=3)
    run.wait(progress="none")
    assert run.reconcile().receipt()["number"] == 1
    assert not run.advance().moved
    # Without the spec an answer is only written down.
    attach(shop.path, "run").queue().judge("S0001", "answer", by="me", output={"color": "green"})
    assert run.rows(outcome="human_queued").keys() == ["S0001"]
    assert [one.name for one in shop.flow().open_runs()] == ["run"]
    progress = run.advance()
    assert (progress.moved, progress.done) == (True, True)
    assert progress.tally.outcomes[Outcome.SUCCEEDED] == 3
    assert run.reconcile().receipt()["number"] == 2
    assert shop.flow().open_runs() == []


def test_a_row_sent_back_opens_a_closed_run(make: Callable[..., Shop]) -> None:
    """A row that a person sends back to a tier is asked again, and the run closes once more."""
    asked: list[str] = []

    def model(params: Mapping[str, Any], rng: Any) -> Answer:
        asked.append(str(params["model"]))
        return REFUSED if len(asked) == 1 else Answer(text='{"color": "red"}')

    shop = make(model=model)
    run = shop.start(rows=1)
    run.wait(progress="none")
    run.queue().judge("S0000", "send_back", by="me", tier=1)
    assert run.record.state is RunState.OPEN
    assert run.wait(progress="none").tally.outcomes[Outcome.SUCCEEDED] == 1
    assert asked == ["claude-haiku-4-5", "claude-sonnet-4-6"]
    assert run.reconcile().receipt()["number"] == 2


# -------------------------------------------------------------------- money


def test_the_cap_pauses_and_a_higher_one_goes_on(make: Callable[..., Shop]) -> None:
    """A batch that does not fit under the cap pauses the run with the figures; another cap lets it go on by itself."""
    shop = make()
    run = shop.start(flow=shop.flow(budget=Budget("0.0001")))
    progress = run.wait(progress="none")
    (need,) = progress.needs
    assert (progress.state, progress.exit_code, need.who) == ("paused", 4, "money")
    assert need.why.startswith("next batch reserves $0.0")
    assert "$0.0001 of the $0.0001 cap is free ($0.00 spent, $0.00 reserved). Nothing is lost" in need.why
    assert need.fix.startswith(f"python -m batchkit budget {shop.path} --usd 1 --by")
    assert run.wait(progress="none").exit_code == 4
    set_cap(shop.path, 5, by="lead", why="fine")
    assert run.wait(progress="none").done
    assert run.progress.cap == 5_000_000_000


def test_a_pause_for_the_cap_by_a_person_stays(make: Callable[..., Shop]) -> None:
    """A change of the cap ends no pause that a person asked for."""
    shop = make()
    run = shop.start()
    run.pause("wait for me")
    set_cap(shop.path, 5, by="lead")
    assert run.wait(progress="none").state == "paused"


def test_the_same_code_does_not_take_a_persons_cap_back(make: Callable[..., Shop]) -> None:
    """A cap that a person set outlives a restart of the code; another budget in the code replaces it."""
    shop = make()
    run = shop.start(flow=shop.flow(budget=Budget(1)))
    set_cap(shop.path, 5, by="lead")
    shop.flow(budget=Budget(1)).resume("run")
    assert run.progress.cap == 5_000_000_000
    shop.flow(budget=Budget(2)).resume("run")
    assert run.progress.cap == 2_000_000_000


def test_the_cap_is_warned_of_once_per_share(make: Callable[..., Shop]) -> None:
    """Spending that passes a share of the cap is told once for each share."""
    shop = make()
    flow = shop.flow(budget=Budget(1, warn_at=(1e-6, 2e-6, 0.9)), max_batch_rows=5, max_in_queue=5)
    run = shop.start(rows=20, flow=flow)
    run.wait(progress="none")
    warned = [event.data for event in run.events() if event.kind == "budget.warned"]
    assert [data["share"] for data in warned] == [2e-6]
    assert warned[0]["cap_usd"] == "1"


def test_credit_that_runs_out_in_a_batch_pauses(make: Callable[..., Shop]) -> None:
    """Rows that fail for want of credit wait, unbilled; once there is credit they are answered and paid once."""
    broke = True

    def model(params: Mapping[str, Any], rng: Any) -> Answer:
        if broke and "w0001" in json.dumps(params["messages"]):
            return Answer(
                kind="errored",
                error_type="invalid_request_error",
                error_message="Your credit balance is too low to access the Anthropic API.",
            )
        return Answer(text='{"color": "red"}')

    shop = make(model=model)
    run = shop.start(rows=3)
    progress = run.wait(progress="none")
    assert (progress.state, progress.exit_code) == ("paused", 4)
    assert run.rows(outcome="open").keys() == ["S0001"]
    broke = False
    run.unpause()
    assert run.wait(progress="none").done
    assert shop.paid == 3
