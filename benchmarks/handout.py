"""Is encoding a batch worth handing out? ``python benchmarks/handout.py --rows 40000``.

CPU of this process to make a batch's body here, and to receive the same bytes from a worker process that made
them, which is the least that handing it out would cost. Medians of interleaved repetitions.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import anthropic
import durable
import meter
import workload

from batchkit.builder import RequestBuilder
from batchkit.model import BatchWhere
from batchkit.sizing import Requests
from batchkit.specs import record_spec
from batchkit.storage.sqlite import SQLiteStore
from batchkit.workflow import Workflow


def body(path: str) -> bytes:
    """Make the body of the store's first batch."""
    store = SQLiteStore(path)
    builder = RequestBuilder(durable.SPEC, schema=record_spec(store, durable.SPEC))
    made = b",".join(Requests(store, builder, {}).encoded(store.batches(BatchWhere())[0]))
    store.close()
    return made


def main() -> None:
    """Measure both, side by side."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with (
        meter.serving() as url,
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as pool,
    ):
        path = str(Path(folder) / "h.db")
        client = anthropic.Anthropic(api_key="none", base_url=url)
        flow = Workflow(durable.SPEC, store=path, client=client, max_batch_rows=options.rows)
        flow.start("bench", workload.rows(options.rows), unlocked=True, canary=0).advance()
        flow.store.close()
        size = len(body(path))
        assert size == len(pool.submit(body, path).result())
        here: list[float] = []
        there: list[float] = []
        for _ in range(options.repetitions):
            before = meter.cpu()
            body(path)
            here.append(meter.cpu() - before)
            before = meter.cpu()
            pool.submit(body, path).result()
            there.append(meter.cpu() - before)
    print(
        f"{size / 1e6:.1f} MB, CPU s of this process: made here {meter.median(here):.3f} {meter.spread(here)}, "
        f"received from a worker {meter.median(there):.3f} {meter.spread(there)}"
    )


if __name__ == "__main__":
    main()
