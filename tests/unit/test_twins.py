"""Late twins: a batch that turns up after it counted as never created is used, booked, and never paid a third time."""

from __future__ import annotations

import attrs
from rig import Rig, answers

from batchkit.bill import Bill
from batchkit.equations import Applied, Equations, count
from batchkit.model import Batch, BatchWhere
from batchkit.states import BatchState, RowState
from batchkit.testing import Answer, Dropped, Handler, Request, Response


def creating(request: Request) -> bool:
    return request.method == "POST" and request.path.endswith("/batches")


def hold_back(rig: Rig, *, answer: Response | None = None, times: int = 1) -> list[Request]:
    """Keep the next creates from arriving, and lose or give their answers; they are kept for later."""
    kept: list[Request] = []

    def rule(request: Request, api: Handler) -> Response | None:
        if not creating(request) or len(kept) >= times:
            return None
        body = request.body if isinstance(request.body, bytes) else b"".join(request.body)
        kept.append(attrs.evolve(request, body=body))
        if answer is None:
            raise Dropped("held back")
        return answer

    rig.faults.rules.append(rule)
    return kept


def arrive(rig: Rig, kept: list[Request]) -> str:
    """Let a create that was held back arrive now; give its remote id."""
    response = rig.sim.handle(kept[-1])
    assert response.status == 200
    return str(response.json()["id"])


def late(rig: Rig, *, again: bool = True) -> tuple[Batch, str]:
    """Send a batch that counts as absent, send its rows again if asked, and let the first one arrive."""
    kept = hold_back(rig)
    sent = rig.send().batch
    assert sent is not None
    assert rig.settle_doubt(sent.id).state is BatchState.ABSENT
    if again:
        second = rig.send().batch
        assert second is not None
        rig.end(second.id)
        rig.collect(second.id)
    return rig.batch(sent.id), arrive(rig, kept)


def after_a_day(rig: Rig) -> None:
    rig.clock.sleep(26 * 3_600)
    rig.resolve()


def equations(rig: Rig) -> Equations:
    run = rig.store.runs(name="run")[0]
    return count(rig.store, run, tally=rig.tally, applied=Applied.of(rig.store, run))


def agrees(rig: Rig) -> Equations:
    """Assert that our books and the provider's bill are the same to the nano-dollar, and give the equations."""
    sums = equations(rig)
    assert sums.hold, sums
    batches = rig.store.batches(BatchWhere())
    assert sums.money.usage == sum(batch.spent for batch in batches)
    bill = Bill.of(rig.store, rig.store.runs(name="run")[0])
    assert sum(line.answers for line in bill.lines) == rig.billed
    assert sum(line.cost for line in bill.lines) == sums.money.usage
    assert sum(line.usage.input for line in bill.lines) == sum(
        model["input_tokens"] for model in rig.sim.bill().models.values()
    )
    return sums


def test_a_late_twin_is_found_and_booked_as_duplicate_spend() -> None:
    """The batch that arrived after the grace ends as LATE, then COLLECTED: every line of it is duplicate spend."""
    rig = Rig(20)
    batch, remote = late(rig)
    after_a_day(rig)
    found = rig.batch(batch.id)
    assert (found.state, found.remote_id) == (BatchState.LATE, remote)
    sums = equations(rig)
    assert sums.submissions.holds
    assert sums.submissions.in_flight == 20
    booked, wake = rig.collector.twins(rig.take(), rig.run)
    assert (booked, wake) == (True, None)
    done = rig.batch(batch.id)
    assert (done.state, done.reserved) == (BatchState.COLLECTED, 0)
    assert rig.billed == 40
    assert agrees(rig).money.duplicate == done.spent > 0
    assert rig.tally.in_state(RowState.SUCCEEDED) == 20


def test_rows_that_wait_take_the_late_answer() -> None:
    """A pending row whose twin line is valid is staged by it, is not sent again, and nothing is paid twice."""
    rig = Rig(20)
    batch, _ = late(rig, again=False)
    rig.clock.sleep(200)
    assert rig.send().batch is None  # the list read for the intent shows the suspect: its rows wait
    rig.resolve()
    assert rig.batch(batch.id).state is BatchState.LATE
    assert rig.send().batch is None
    assert rig.collector.twins(rig.take(), rig.run)[0]
    assert rig.tally.in_state(RowState.SUCCEEDED) == 20
    assert all((row.tries, row.answers) == (1, 1) for row in rig.rows())
    assert (rig.faults.posts, rig.billed) == (1, 20)
    assert agrees(rig).money.duplicate == 0


def test_an_invalid_late_line_leaves_its_row_to_be_sent() -> None:
    """What a pending row cannot use is duplicate spend, and the row goes out again."""
    rig = Rig(6, model=answers({"w0002": Answer(text="nonsense")}))
    late(rig, again=False)
    rig.clock.sleep(200)
    rig.send()
    rig.resolve()
    rig.collector.twins(rig.take(), rig.run)
    assert rig.tally.in_state(RowState.SUCCEEDED) == 5
    assert rig.tally.in_state(RowState.PENDING) == 1
    assert rig.send().rows == 1
