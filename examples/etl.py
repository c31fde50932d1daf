"""A nightly ETL script. Cron starts it every hour; it goes on where the last one stopped.

    CATALOG=catalog.db STORE=enrich.db python etl.py

With SIMULATE=1 it talks to a simulator in this process instead of the API.
"""

import os
import sys
from pathlib import Path

import anthropic
from common import spec

from batchkit import Budget, SQLiteTarget, Workflow, source
from batchkit.testing import simulated_client

PRODUCTS = "SELECT sku, title, description, brand FROM products ORDER BY sku"


def nightly(
    catalog: Path, store: Path, *, client: anthropic.Anthropic | None = None, timeout: float = 50 * 60
) -> int:
    """Send what changed since last night, wait until the hour is nearly over, promote what is done."""
    flow = Workflow(spec, store=store, client=client, budget=Budget(usd=400))
    run = flow.start("nightly", lambda: source.query(catalog, PRODUCTS), incremental=True, max_rows=1_000_000)
    progress = run.wait(timeout=timeout)  # returns at the timeout; the next cron goes on
    if progress.done:
        print(run.promote(SQLiteTarget(catalog, "products", "sku")))  # nothing new = nothing written
    print(progress)
    return progress.exit_code


if __name__ == "__main__":
    fake = simulated_client(seed=1) if os.environ.get("SIMULATE") else None
    sys.exit(nightly(Path(os.environ["CATALOG"]), Path(os.environ["STORE"]), client=fake))
