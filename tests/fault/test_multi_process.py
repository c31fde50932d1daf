"""Four processes move one run; they are killed, and stopped past their lease, at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pg import empty, url

from batchkit.equations import count
from batchkit.model import BatchWhere
from batchkit.states import RunState
from batchkit.storage.opening import open_store
from batchkit.testing import Latency, SimulatedAPI, SimulatedClock, serve
from batchkit.testing.soak.scene import SPEC, model
from batchkit.workflow import Workflow

SECONDS = float(os.environ.get("BATCHKIT_MP_SECONDS", "3"))
"""How long signals are sent; `nox -s fault` takes a minute."""
STORES = ["file", "postgres"] if SECONDS > 3 else ["file"]
"""`nox -s fault` runs it on PostgreSQL as well, which takes twice as long; CI sweeps and kills there, one process at a time."""
WORDS = ["fine", "fine", "flaky", "broken", "overload", "sparse", "fine", "refused"]
MOVER = Path(__file__).parents[1] / "support" / "mover.py"


@contextmanager
def moving(where: str, server: str, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Have so many processes move the run; a slot may get a new one."""
    crew = [born(where, server, n) for n in range(number)]
    try:
        yield crew
    finally:
        for process in crew:
            process.kill()
            process.wait()


def born(where: str, server: str, number: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(MOVER), where, server, str(number)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("kept", STORES, indirect=True)
def test_four_processes_killed_and_stopped(tmp_path: Path, kept: str | None) -> None:
    """Whoever dies or thaws, every row ends in one bucket, and the provider billed what was recorded, once."""
    rng = random.Random(11)
    where = str(tmp_path / "store.db")
    if kept is not None:
        empty(kept)
        where = url(kept)
    # A long run, so that it does not end before the signals do.
    rows = [{"sku": f"S{n:04}", "word": WORDS[n % len(WORDS)]} for n in range(int(12 * SECONDS))]
    sim = SimulatedAPI(model, seed=5, latency=Latency(60.0, 600.0))
    store = open_store(where, clock=SimulatedClock(sim))
    Workflow(SPEC, store=store, clock=SimulatedClock(sim)).start("run", rows, unlocked=True)
    kills = stops = 0
    with serve(sim) as server, moving(where, server.url, 4) as crew:
        time.sleep(2.5)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            number = rng.randrange(4)
            if rng.random() < 0.3:
                crew[number].kill()
                crew[number].wait()
                crew[number] = born(where, server.url, number)
                kills += 1
            else:
                crew[number].send_signal(signal.SIGSTOP)
                time.sleep(rng.uniform(0.0, 0.3))
                if rng.random() < 0.5:
                    sim.advance(90.0)  # past its lease
                crew[number].send_signal(signal.SIGCONT)
                stops += 1
            time.sleep(rng.uniform(0.0, 0.3))
        patience = time.monotonic() + (120 if kept is None else 400)
        while store.runs(name="run")[0].state is not RunState.CLOSED:
            assert time.monotonic() < patience, Counter(b.state.value for b in store.batches(BatchWhere()))
            time.sleep(0.2)
    assert kills
    assert stops
    run = store.runs(name="run")[0]
    tally = store.tally(run.id)
    sim.advance(86_400.0)
    times = sim.bill().times_paid()
    results = store.results(run.id, limit=1_000_000)
    assert (tally.total, tally.open) == (len(rows), 0)
    assert max(times.values()) == 1
    assert sum(times.values()) == sum(result.usage is not None for result in results)
    assert count(store, run, tally=tally).hold
    store.close()
