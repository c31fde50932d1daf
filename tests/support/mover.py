"""One process that moves a run until it is done: ``python mover.py STORE URL NAME``. It may be killed at any time."""

from __future__ import annotations

import random
import sys
import time

from batchkit.errors import StoreError
from batchkit.testing import served_client
from batchkit.testing.soak.scene import SPEC
from batchkit.workflow import Workflow


def main(path: str, url: str, name: str) -> int:
    """Move the run."""
    client = served_client(url)
    flow = Workflow(
        SPEC, store=path, client=client, max_batch_rows=8, rng=random.Random(f"{name}{time.time()}")
    )
    run = flow.resume("run")
    while True:
        try:
            progress = run.advance()
        except StoreError:
            time.sleep(0.05)
            continue
        if progress.done:
            return 0
        nap = (progress.wake_at or flow.clock.now()) - flow.clock.now()
        # Time is the server's, moved by whoever sleeps: the others must get a turn as well.
        flow.clock.sleep(min(max(nap, 1.0), 30.0))
        time.sleep(random.uniform(0.0, 0.03))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
