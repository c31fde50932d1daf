"""CPU seconds of freezing the nights of a series: ``python benchmarks/series.py [ROWS] [NIGHTS]``.

Every night one record in a hundred is missing and comes back the night after, and one in a hundred has changed.
Nothing is sent: what is open is settled straight into the store, so that only freezing is timed.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import workload
from durable import SPEC

from batchkit.ids import Nonce, RowId
from batchkit.model import Intent, Place, Settled, Where
from batchkit.run import Run
from batchkit.states import RowEvent, RowState, RunState
from batchkit.workflow import Workflow

CHUNK = 5_000


def night(rows: int, number: int) -> Iterator[dict[str, str]]:
    """Give the catalog as it stands on a night."""
    for n, record in enumerate(workload.rows(rows)):
        if n % 100 == number % 100:
            continue
        if n % 100 == (number + 50) % 100:
            record["title"] = f"{record['title']} ({number})"
        yield record


def settle(flow: Workflow[workload.Answer], run: Run[workload.Answer]) -> int:
    """Answer every open row in the store and close the run; give how many there were."""
    store, id_ = flow.store, run.record.id
    lease = store.acquire(id_, "bench", 3_600)
    assert lease is not None
    pending = [view.id for view in store.page(id_, Where(states=frozenset({RowState.PENDING})), limit=10**9)]
    if pending:
        intent = Intent(
            nonce=Nonce(f"n{id_:07d}"),
            size=1,
            place=Place(base_url=f"https://example.test/{id_}"),
            head=None,
            reserve=1,
            cap=None,
            deadline=2e9,
        )
        batch = store.intend(lease, intent, pending)
        for first in range(0, len(pending), CHUNK):
            store.settle(lease, batch.id, [_answer(row) for row in pending[first : first + CHUNK]])
    store.move_run(lease, expect=RunState.OPEN, to=RunState.CLOSED)
    store.release(lease)
    return len(pending)


def _answer(row: RowId) -> Settled:
    return Settled(row, RowEvent.ACCEPTED, None, 0, 1, 0, answer=b'{"category":"Lamps"}', model="m")


def main() -> None:
    """Freeze some nights and time each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="?", type=int, default=100_000)
    parser.add_argument("nights", nargs="?", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        flow = Workflow(SPEC, store=Path(folder) / "series.db")
        for number in range(1, options.nights + 1):
            cpu, wall = time.process_time(), time.perf_counter()
            run = flow.start(
                "nightly", night(options.rows, number), incremental=True, unlocked=True, canary=0
            )
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            open_rows = settle(flow, run)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"night {number}: {cpu:6.3f} CPU s {wall:6.3f} wall s {cpu * 100_000 / options.rows:6.3f} CPU s per 100,000 "
                f"rows; {open_rows:,} open; peak {peak:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
