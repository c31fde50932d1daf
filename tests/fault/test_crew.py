"""Workers that share the files of one run, in real processes: one that reads for another is killed, or whom it reads for."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import crew
import pytest
from pg import empty, url
from rig import answers
from shop import batches, words

from batchkit.equations import count
from batchkit.ids import BatchId
from batchkit.model import DocKind
from batchkit.states import BatchState, RunState
from batchkit.storage import Store
from batchkit.testing import Latency, SimulatedAPI, serve

ROWS = 20


@contextmanager
def worker(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Have a worker work, and be gone in the end."""
    process = subprocess.Popen([sys.executable, crew.__file__, *arguments])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def claimants(store: Store) -> dict[BatchId, int]:
    """Give a process that claimed each file."""
    claims = [(key.rpartition("/")[2], name.decode()) for key, name in store.docs(DocKind.CLAIM)]
    return {BatchId(int(what)): int(name.split("/")[4]) for what, name in claims if what.isdigit() and name}


@pytest.mark.parametrize("who", ["helper", "mover"])
@pytest.mark.parametrize("kept", ["file", "postgres"], indirect=True)
def test_a_worker_killed_while_files_are_shared_costs_nothing(
    tmp_path: Path, kept: str | None, who: str
) -> None:
    """Two workers are each in the midst of a file of one run; either is killed, and the other ends the run."""
    where = str(tmp_path / "store.db")
    if kept is not None:
        empty(kept)
        where = url(kept)
    sim = SimulatedAPI(answers({}), start=time.time(), latency=Latency(60.0, 120.0))
    with serve(sim) as server:
        clock = crew.Clock(tmp_path)
        flow = crew.flow(where, server.url, tmp_path, clock)
        store = flow.store
        run = flow.start("run", words(ROWS), unlocked=True)
        run.advance()
        everything = [batch.id for batch in batches(run)]
        assert len(everything) >= 4
        clock.ahead = crew.AHEAD
        sim.advance(crew.AHEAD)
        given = (where, server.url, str(tmp_path))
        with worker(*given) as first, worker(*given) as second:
            both = {first.pid, second.pid}
            crew.until(lambda: crew.those(tmp_path, "ready") == both, "a worker did not come")
            (tmp_path / "start").touch()
            crew.until(lambda: crew.those(tmp_path, "reading") == both, "nobody helped")
            claims = claimants(store)
            assert list(claims) == [everything[0], everything[-1]]
            mover, helper = claims.values()
            doomed = helper if who == "helper" else mover
            for process in (first, second):
                if process.pid == doomed:
                    process.kill()
                    process.wait()
            (tmp_path / "go").touch()
            crew.until(lambda: run.record.state is RunState.CLOSED, f"left behind: {batches(run)}")
        tally = store.tally(run.record.id)
        assert (tally.total, tally.open) == (ROWS, 0)
        assert {batch.state for batch in batches(run)} == {BatchState.COLLECTED}
        assert [batch.id for batch in batches(run)] == everything
        assert set(claimants(store)) == set(everything)
        assert count(store, run.record, tally=tally).hold
        assert (sim.bill().lines, max(sim.bill().times_paid().values())) == (ROWS, 1)
        store.close()
        flow.gateway.client.close()
