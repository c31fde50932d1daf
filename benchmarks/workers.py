"""Many processes on one store: what they cost, and whether anything is lost or paid twice when some are killed.

    python benchmarks/workers.py --rows 200000 --engine dask --kill 2     # one run, its files read by Dask's workers
    python benchmarks/workers.py --rows 200000 --movers 4                 # as many runs, each process calls flow.work()

The store is a schema on a PostgreSQL server from PyPI (group ``tests``), or on that of ``BATCHKIT_TEST_POSTGRES``;
with ``--file`` it is a file. Dask needs the group ``engines``. The provider is the local server of these benchmarks;
it counts what it was asked, so a row that is asked twice is seen there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import anthropic
import durable
import meter
import workload

from batchkit.equations import count
from batchkit.model import BatchWhere
from batchkit.states import BatchState
from batchkit.storage import Store
from batchkit.storage.opening import migrate_store, open_store
from batchkit.workflow import Workflow

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "support"))


def flow(executor: Executor | None = None) -> Workflow[workload.Answer]:
    """Make the workflow, in whatever process, from its environment."""
    return Workflow(
        durable.SPEC,
        store=os.environ["BENCH_STORE"],
        client=anthropic.Anthropic(api_key="none", base_url=os.environ["BENCH_URL"]),
        executor=executor,
        app="workers:flow",
        max_batch_rows=int(os.environ["BENCH_BATCH_ROWS"]),
        max_in_queue=10_000_000,
    )


def mover() -> None:
    """Be one of several workers; tell what it took."""
    used = meter.Meter()
    moving = flow()
    moving.work(stop=lambda: not moving.open_runs(), idle=1.0)
    meter.tell(used.report())


@contextlib.contextmanager
def engine(name: str, workers: int, kills: int, report: dict[str, Any]) -> Iterator[Executor | None]:
    """Give the executor, and kill workers of it while they settle."""
    if name == "none":
        yield None
    elif name == "pool":
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
            yield pool
    else:
        import dask.config
        from distributed import Client, LocalCluster

        # A worker that takes longer than 15 seconds to come back is otherwise given up, on a busy machine all of them.
        dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"})
        with (
            LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
            Client(cluster) as client,
            killing(client, kills, report),
        ):
            yield client.get_executor(pure=False)


@contextlib.contextmanager
def killing(client: Any, kills: int, report: dict[str, Any]) -> Iterator[None]:
    """Kill a busy Dask worker each time that a file is seen to be half settled."""
    over = threading.Event()
    report["killed"] = 0

    def watch() -> None:
        store, half = open_store(os.environ["BENCH_STORE"]), set[int]()
        while not over.wait(0.02) and report["killed"] < kills:
            for batch in store.batches(BatchWhere(states=frozenset({BatchState.ENDED}))):
                if batch.id in half or not 0 < batch.lines < batch.count:
                    continue
                busy = [address for address, keys in client.processing().items() if keys]
                if busy:
                    half.add(batch.id)
                    os.kill(client.run(os.getpid, workers=busy[:1])[busy[0]], signal.SIGKILL)
                    report["killed"] += 1
                    break
        store.close()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


@contextlib.contextmanager
def keeping(file: bool) -> Iterator[tuple[str, Callable[[], float]]]:
    """Give where the store is, and what tells the CPU seconds of its server."""
    if file:
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "w.db"), lambda: 0.0
        return
    import pg
    import psycopg

    with pg.Server(durable=True) as server, pg.database(server) as address:
        where = pg.url(address)
        migrate_store(where)
        with psycopg.connect(server, autocommit=True) as db:
            postmaster = int(db.execute("SELECT pg_read_file('postmaster.pid')").fetchall()[0][0].split()[0])
        yield where, lambda: _server_cpu(postmaster)


def _server_cpu(postmaster: int) -> float:
    """Sum up the server's processes, those that have ended included."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if stat.parent.name == str(postmaster):
                ticks += sum(map(int, fields[11:15]))
            elif fields[1] == str(postmaster):
                ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def statements(where: str, report: dict[str, Any]) -> Iterator[None]:
    """Look at what the server works on fifty times a second, and tell the seconds of the dearest statements."""
    import psycopg

    over, seconds = threading.Event(), Counter[str]()
    query = """
        SELECT left(trim(regexp_replace(query, '\\s+', ' ', 'g')), 60) FROM pg_stat_activity
        WHERE datname = current_database() AND state = 'active' AND wait_event IS NULL AND pid <> pg_backend_pid()
    """

    def look() -> None:
        last = time.perf_counter()
        with psycopg.connect(where, autocommit=True) as db:
            while not over.wait(0.02):
                now = time.perf_counter()
                for (text,) in db.execute(query).fetchall():
                    seconds[text] += now - last
                last = now

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()
        report["statements"] = {text: round(spent, 1) for text, spent in seconds.most_common(6)}


def sizes(where: str, rows: int) -> dict[str, list[float]]:
    """Give bytes a row of each table: its heap and what is stored beside it, and its indexes."""
    import psycopg

    with psycopg.connect(where) as db:
        found = db.execute(
            "SELECT relname, pg_table_size(oid), pg_indexes_size(oid) FROM pg_class "
            "WHERE relkind = 'r' AND relnamespace = 'batchkit'::regnamespace ORDER BY 2 DESC"
        ).fetchall()
    return {
        name: [round(heap / rows, 1), round(index / rows, 1)] for name, heap, index in found if heap > rows
    }


def moved(options: argparse.Namespace, report: dict[str, Any]) -> None:
    """Move every run to its end, as asked, and note what each process took."""
    if options.movers:
        command = [sys.executable, str(HERE / "workers.py"), "--mover"]
        crew = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(options.movers)]
        told = [json.loads(process.communicate()[0].splitlines()[-1]) for process in crew]
        report["movers"] = [{name: round(one[name], 2) for name in ("cpu", "peak_mib")} for one in told]
        return
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = meter.cpu()
    with engine(options.engine, options.workers, options.kill, report) as executor:
        moving = flow(executor)
        moving.resume("bench-0").wait(progress="none")
        moving.store.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report["mover_cpu"] = round(meter.cpu() - own, 2)
    report["engine_cpu"] = round(
        after.ru_utime + after.ru_stime - children.ru_utime - children.ru_stime, 2
    )  # what its processes took to start included
    report["mover_peak_mib"] = round(meter.peak_mib())


def counted(store: Store, url: str, report: dict[str, Any]) -> bool:
    """Count everything, at the provider too."""
    runs = store.runs()
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/paid") as answer:
        paid = json.load(answer)
    answers = sum(line.results for run in runs for line in store.ledger(run.id) if line.usage is not None)
    report["balanced"] = all(count(store, run, tally=store.tally(run.id)).hold for run in runs)
    report["open"] = sum(store.tally(run.id).open for run in runs)
    report["double_paid"] = paid["twice"] + paid["lines"] - answers
    return bool(report["balanced"]) and not report["open"] and not report["double_paid"]


def main() -> int:
    """Run it, and tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--batch-rows", type=int, default=20_000)
    parser.add_argument("--engine", choices=["none", "pool", "dask"], default="none")
    parser.add_argument("--workers", type=int, default=2, help="processes of the engine")
    parser.add_argument(
        "--movers", type=int, default=0, help="processes that call flow.work(), a run for each"
    )
    parser.add_argument("--runs", type=int, default=0, help="cut the rows into so many runs instead")
    parser.add_argument(
        "--kill", type=int, default=0, help="kill so many of Dask's workers while they settle"
    )
    parser.add_argument(
        "--statements", action="store_true", help="tell what the server works on; it costs some CPU itself"
    )
    parser.add_argument("--file", action="store_true", help="keep the store in a file")
    parser.add_argument("--mover", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.mover:
        mover()
        return 0
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    runs = options.runs or options.movers or 1
    report: dict[str, Any] = {"rows": options.rows, "runs": runs, "load": round(os.getloadavg()[0], 1)}
    with keeping(options.file) as (where, server_cpu), meter.serving() as url:
        os.environ |= {
            "BENCH_STORE": where,
            "BENCH_URL": url,
            "BENCH_BATCH_ROWS": str(options.batch_rows),
            "PYTHONPATH": path,
        }
        begun, before, wall = meter.cpu(), server_cpu(), time.perf_counter()
        starting, each = flow(), options.rows // runs
        for n in range(runs):
            starting.start(f"bench-{n}", workload.rows(each, n * each), unlocked=True, canary=0)
        report["freeze_cpu"] = round(meter.cpu() - begun, 2)
        report["freeze_wall"] = round(time.perf_counter() - wall, 1)
        wall = time.perf_counter()
        with statements(where, report) if options.statements else contextlib.nullcontext():
            moved(options, report)
        report["wall"] = round(time.perf_counter() - wall, 1)
        fine = counted(starting.store, url, report)
        starting.store.close()
        report["server_cpu"] = round(server_cpu() - before, 2)
        if not options.file:
            report["bytes_a_row"] = sizes(where, options.rows)
        if options.kill and report.get("killed") != options.kill:
            report["note"] = "fewer workers were killed than asked for"
            fine = False
    print(json.dumps(report))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
