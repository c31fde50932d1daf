"""Two workers on one store: one is killed, the other finishes everything.

    python worker.py [STORE]

STORE is a file, or postgresql://user@host/database to whose schema `batchkit` the tables are added. A worker is
`flow.work()` and nothing else. No key is needed: a simulator in this process stands in for the API, and time passes
twenty times faster.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common import Attributes, spec

from batchkit import PostgresStore, Progress, Workflow
from batchkit.testing import Latency, SimulatedAPI, serve, served_client
from batchkit.testing.catalog import generate
from batchkit.testing.catalog_model import catalog_model

RUNS = ("spring", "summer", "autumn")
ROWS = 60
FASTER = 20.0


class FastClock:
    """Time that passes faster since `began`, for all processes alike."""

    def __init__(self, began: float) -> None:
        self.began = began

    def now(self) -> float:
        """Give seconds since the epoch."""
        return self.began + FASTER * (time.time() - self.began)

    monotonic = now

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this time."""
        time.sleep(max(0.0, seconds) / FASTER)


def flow(store: str, url: str, began: str, name: str = "") -> Workflow[Attributes]:
    """Give the workflow, as every process makes it for itself; `name` is who tells what it moved."""

    def show(progress: Progress) -> None:
        if progress.moved:
            closed = progress.rows - progress.tally.open
            print(f"{name} moved {progress.name}: {closed} of {progress.rows} rows closed", flush=True)

    return Workflow(
        spec,
        store=store,
        client=served_client(url),
        clock=FastClock(float(began)),
        on_progress=show,
        max_batch_rows=20,
    )


def products(seed: int) -> list[dict[str, str]]:
    """Make up a season's products, some of them unusable."""
    return [{**row, "brand": "Ilyra"} for row in generate(ROWS, seed)]


def work(*arguments: str) -> None:
    """Be a worker: move whatever run is open until none is."""
    working = flow(*arguments)
    working.work(stop=lambda: not working.open_runs())


def worker(*arguments: str) -> subprocess.Popen[str]:
    """Start a worker in a process of its own."""
    return subprocess.Popen(
        [sys.executable, __file__, "--work", *arguments], stdout=subprocess.PIPE, text=True
    )


def told(process: subprocess.Popen[str]) -> Iterator[str]:
    """Give what a worker says, line by line, and pass it on."""
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        yield line


@contextmanager
def passing(api: SimulatedAPI, clock: FastClock) -> Iterator[None]:
    """Let the simulator's time pass."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(0.05):
            api.advance(max(0.0, clock.now() - api.now))

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        yield
    finally:
        over.set()
        ticking.join()


def main(store: str) -> int:
    """Start the runs and two workers, kill one, wait for the other, count everything."""
    if store.startswith("postgresql://"):
        PostgresStore(store, migrate=True).close()  # in earnest: python -m batchkit migrate, when you deploy
    began = time.time()
    api = SimulatedAPI(catalog_model(), seed=1, start=began, latency=Latency(min=5, max=40))
    with serve(api) as server, passing(api, FastClock(began)):
        shared = (store, server.url, str(began))
        starting = flow(*shared)
        runs = [
            starting.start(name, products(seed), on_duplicate="first", unlocked=True)
            for seed, name in enumerate(RUNS)
        ]
        with worker(*shared, "worker 1") as first, worker(*shared, "worker 2") as second:
            listening = threading.Thread(target=list, args=[told(second)])
            listening.start()
            for said, _ in enumerate(told(first), 1):
                if said == 2:  # it is at work, and may hold any lease
                    break
            first.kill()
            print(f"worker 1 was killed (process {first.pid})", flush=True)
            listening.join()
        answers = sum(row.attempts for run in runs for row in run.rows())
        receipts = [run.reconcile() for run in runs]
        for run, receipt in zip(runs, receipts, strict=True):
            print(f"{run.name}: {receipt.equation}")
        paid, twice = api.bill().lines, sum(n > 1 for n in api.bill().times_paid().values())
    starting.store.close()
    print(
        f"the provider billed {paid:,} answers, the store holds {answers:,} of them; requests paid twice: {twice}"
    )
    fine = all(receipt.balanced for receipt in receipts) and paid == answers and not twice
    print("balanced, and nothing was paid twice" if fine else "NOT BALANCED")
    return 0 if fine else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--work", *arguments]:
            work(*arguments)
        case arguments:
            sys.exit(main(*arguments or [os.environ.get("STORE", "workers.db")]))
