"""A workflow as worker processes make it: what it needs comes from their environment."""

from __future__ import annotations

import os
import signal
from concurrent.futures import Executor
from pathlib import Path

from rig import Label
from shop import tiny_spec

from batchkit.contract import Contract
from batchkit.rules import rule
from batchkit.testing import served_client
from batchkit.workflow import Workflow


@rule(version=1)
def survives(out: Label) -> bool:
    """Kill the process that judges, once: whoever finds the file takes it away first."""
    trap = Path(os.environ.get("UNITAPP_TRAP", "/nonexistent"))
    try:
        trap.unlink()
    except FileNotFoundError:
        return True
    os.kill(os.getpid(), signal.SIGKILL)
    return False


def flow(executor: Executor | None = None) -> Workflow[Label]:
    """Make the workflow; the coordinator does so with an executor, a worker without."""
    return Workflow(
        tiny_spec(contract=Contract(Label, rules=[survives])),
        store=os.environ["UNITAPP_STORE"],
        client=served_client(os.environ["UNITAPP_URL"]),
        executor=executor,
        app="unitapp:flow",
        max_batch_rows=int(os.environ.get("UNITAPP_ROWS", "10")),
    )
