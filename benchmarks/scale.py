"""CPU per row and peak memory at growing sizes: ``python benchmarks/scale.py --rows 10000 100000 600000``.

Each run is a child process against the local server in its own process: freeze to reconciliation, in
batches of 100,000 and of 10,000 rows, then the reconciliation again, a promotion into a SQLite catalog and
its rollback. The bare statements (before-images, one update; and back) run on a copy of the same catalog.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import meter

ROWS = [10_000, 100_000, 600_000]
BATCHES = [100_000, 10_000]


def child(url: str, rows: int, batch_rows: int, folder: Path) -> None:
    """Run once and tell what each part took."""
    import anthropic
    import durable
    import workload

    from batchkit.model import Where
    from batchkit.states import RowState
    from batchkit.targets import Json
    from batchkit.targets.sqlite import SQLiteTarget
    from batchkit.workflow import Workflow

    client = anthropic.Anthropic(api_key="none", base_url=url)
    taken: dict[str, float] = {}

    def part(name: str, before: float) -> None:
        taken[name] = taken.get(name, 0.0) + meter.cpu() - before

    whole = meter.Meter()
    at = meter.cpu()
    flow = Workflow(
        durable.SPEC, store=folder / "s.db", client=client, max_batch_rows=batch_rows, max_in_queue=500_000
    )
    run = flow.start("bench", workload.rows(rows), unlocked=True)
    part("freeze", at)
    at = meter.cpu()
    run.wait(progress="none")
    part("run", at)
    report = whole.report()
    at = meter.cpu()
    balanced = run.reconcile().balanced
    part("reconcile", at)
    record = flow.store.runs(name="bench")[0]
    at = meter.cpu()
    flow.store.tally(record.id)
    part("tally", at)
    at = meter.cpu()
    flow.store.page(record.id, Where(states=frozenset({RowState.PENDING})), limit=1_000)
    part("tail scan", at)
    catalog = folder / "catalog.db"
    make_catalog(catalog, rows)
    bare = folder / "bare.db"
    shutil.copy(catalog, bare)
    target = SQLiteTarget(
        catalog, "product", "sku", columns={"category": "category", "features": Json("features")}
    )
    took: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), meter.cpu()
        done = work()
        took[name] = [time.perf_counter() - wall, meter.cpu() - cpu]
        return done

    promotion = timed("promote", lambda: run.promote(target))
    timed("rollback", target.rollback)
    peak = meter.peak_mib()
    bare_statements(bare, catalog_values(flow, record.id), timed)
    meter.tell(
        {
            **report,
            "peak_mib_with_promotion": peak,
            "balanced": balanced,
            "written": promotion.written,
            "parts": taken,
            "catalog": took,
        }
    )


def catalog_values(flow: Any, run: Any) -> Iterator[tuple[str, str | None, str]]:
    """Give key, category and features of every staged row, as the promotion writes them."""
    from batchkit.model import Where
    from batchkit.states import RowState

    after = None
    staged = Where(states=frozenset({RowState.SUCCEEDED}), answers=True)
    while page := flow.store.page(run, staged, after=after, limit=500):
        for row in page:
            answer = json.loads(row.answer)
            yield row.key, answer["category"], json.dumps(answer["features"])
        after = page[-1].id


def bare_statements(
    path: Path, values: Iterator[tuple[str, str | None, str]], timed: Callable[..., Any]
) -> None:
    """Promote and roll back by the least SQL that can be undone: stage, before-images, one update; and back."""
    db = sqlite3.connect(path, isolation_level=None)

    def stage() -> None:
        db.execute("CREATE TEMP TABLE staged (sku TEXT PRIMARY KEY, category TEXT, features TEXT)")
        db.execute("BEGIN")
        db.executemany("INSERT INTO staged VALUES (?, ?, ?)", values)
        db.execute("COMMIT")

    def write() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute("CREATE TABLE before (sku TEXT, category TEXT, features TEXT)")
        db.execute(
            "INSERT INTO before SELECT p.sku, p.category, p.features FROM staged s JOIN product p ON p.sku = s.sku"
        )
        db.execute(
            "UPDATE product AS p SET category = s.category, features = s.features FROM staged s WHERE p.sku = s.sku"
        )
        db.execute("COMMIT")

    def back() -> None:
        db.execute("BEGIN IMMEDIATE")
        db.execute(
            "UPDATE product AS p SET category = b.category, features = b.features FROM before b WHERE p.sku = b.sku"
        )
        db.execute("COMMIT")

    timed("bare stage", stage)
    timed("bare promote", write)
    timed("bare rollback", back)
    db.close()


def make_catalog(path: Path, rows: int) -> None:
    """Make a catalog with a row for every record."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE product (sku TEXT PRIMARY KEY, category TEXT, features TEXT, title TEXT)")
        db.executemany(
            "INSERT INTO product VALUES (?, NULL, NULL, ?)",
            ((f"SKU-{n:08d}", f"Product {n}") for n in range(rows)),
        )


def main() -> None:
    """Run every size, and say how CPU per row and memory grow."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, nargs="*", default=ROWS)
    parser.add_argument("--batch-rows", type=int, nargs="*", default=BATCHES)
    parser.add_argument("--repetitions", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        url, rows, batch_rows, folder = options.child
        child(url, int(rows), int(batch_rows), Path(folder))
        return
    runs: list[dict[str, Any]] = []
    for number in range(options.repetitions):
        for batch_rows in options.batch_rows:
            for rows in options.rows:
                with meter.serving() as url, tempfile.TemporaryDirectory() as folder:
                    report = meter.measured("scale.py", "--child", url, rows, batch_rows, folder)
                runs.append({"rows": rows, "batch_rows": batch_rows, "repetition": number + 1, **report})
                print(line(runs[-1]), flush=True)
                if options.json:
                    whole = {"runs": runs, "versions": meter.versions(), "command": " ".join(sys.argv)}
                    options.json.write_text(json.dumps(whole, indent=1) + "\n")


def line(run: dict[str, Any]) -> str:
    """Give one run as a line of text."""
    per = 100_000 / run["rows"]
    parts = ", ".join(f"{name} {spent * per:.2f}" for name, spent in run["parts"].items())
    return (
        f"{run['rows']:>9,} rows in batches of {run['batch_rows']:>7,}: {run['cpu'] * per:5.2f} CPU s and "
        f"{run['wall'] * per:6.2f} s per 100,000, peak {run['peak_mib']:.0f} MiB "
        f"(with promotion {run['peak_mib_with_promotion']:.0f}); CPU s per 100,000: {parts}; "
        f"catalog, wall s: " + ", ".join(f"{name} {wall:.2f}" for name, (wall, _) in run["catalog"].items())
    )


if __name__ == "__main__":
    main()
