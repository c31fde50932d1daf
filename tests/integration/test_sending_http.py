"""A whole run over HTTP: the real SDK, a served simulator, a store in a file."""

from __future__ import annotations

from pathlib import Path

import anthropic
import pytest
from rig import Faulty, Rig, answers

from batchkit.model import BatchWhere
from batchkit.reasons import Reason
from batchkit.states import BatchState, RowState
from batchkit.storage.sqlite import SQLiteStore
from batchkit.testing import (
    Answer,
    Dropped,
    Handler,
    Latency,
    Request,
    Response,
    SimulatedAPI,
    SimulatedClock,
    serve,
)

TAIL = {
    "w0011": Answer(text="not json"),
    "w0012": Answer(kind="errored", error_type="overloaded_error"),
    "w0013": Answer(text='{"color": "blue"}'),
    "w0014": Answer(kind="expired"),
    "w0015": Answer(text="", stop_reason="refusal"),
}


def test_a_run_over_http_ends_in_balance(tmp_path: Path) -> None:
    """1,000 rows with a tail, in batches, over a socket: every row in one bucket, paid = settled, spent = the bill."""
    api = SimulatedAPI(answers(TAIL), latency=Latency(min=60.0, max=600.0))
    faults = Faulty(api)
    with serve(faults) as server:
        client = anthropic.Anthropic(api_key="k", base_url=server.url)
        rig = Rig(
            1_000, client=client, clock=SimulatedClock(api), max_rows=300, path=str(tmp_path / "run.db")
        )
        tally = rig.finish()
    assert tally.total == 1_000
    assert tally.open == 0
    assert tally.in_state(RowState.HUMAN) == 1
    # The row that always expires is resent three times and then put aside.
    assert tally.counts[RowState.QUARANTINED, Reason.BATCH_EXPIRED, 0] == 1
    assert sum(row.answers for row in rig.rows()) == api.bill().lines
    batches = rig.store.batches(BatchWhere())
    assert {batch.state for batch in batches} == {BatchState.COLLECTED}
    assert faults.posts == len(batches)
    rig.store.close()


def test_a_lost_answer_over_http_is_adopted_by_the_next_process(tmp_path: Path) -> None:
    """The answer to a create is lost and the process ends; the next one adopts the batch and pays nothing twice."""
    api = SimulatedAPI(answers({}), latency=Latency(min=60.0, max=600.0))
    faults = Faulty(api)

    def lose(request: Request, real: Handler) -> Response | None:
        if request.method == "POST" and request.path.endswith("/batches"):
            real.handle(request)
            raise Dropped("lost")
        return None

    faults.rules.append(lose)
    path = tmp_path / "run.db"
    with serve(faults) as server:
        client = anthropic.Anthropic(api_key="k", base_url=server.url)
        first = Rig(200, client=client, clock=SimulatedClock(api), path=str(path))
        sent = first.send()
        assert sent.batch is not None
        assert sent.batch.state is BatchState.DOUBTFUL
        first.store.release(first.lease)
        first.store.close()
        faults.rules.clear()
        second = Rig(0, client=client, clock=SimulatedClock(api))
        second.store.close()
        second.store = SQLiteStore(path, clock=second.clock)
        second.run = second.store.runs(name="run")[0]
        second.rebuild()
        tally = second.finish()
        second.store.close()
    assert tally.counts == {(RowState.SUCCEEDED, None, 0): 200}
    assert api.bill().lines == 200


@pytest.mark.parametrize("rows", [1, 3])
def test_a_small_run_over_http(rows: int, tmp_path: Path) -> None:
    """One row is a batch like any other."""
    api = SimulatedAPI(answers({}))
    with serve(api) as server:
        client = anthropic.Anthropic(api_key="k", base_url=server.url)
        rig = Rig(rows, client=client, clock=SimulatedClock(api), path=str(tmp_path / "run.db"))
        assert rig.finish().counts == {(RowState.SUCCEEDED, None, 0): rows}
        rig.store.close()
