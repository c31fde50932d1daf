"""The simulator as a process: ``python -m batchkit.testing.server --port 0`` prints its address and serves.

Nothing here imports the SDK.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchkit.testing.answers import Model
from batchkit.testing.batch import Latency
from batchkit.testing.serving import SimulatorServer
from batchkit.testing.settings import Settings
from batchkit.testing.simulator import SimulatedAPI

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is interrupted or terminated.

    Args:
        argv: Arguments; None takes the process's own.
    """
    options = _parser().parse_args(argv)
    try:
        api = SimulatedAPI(
            _model(options.model),
            state=options.state,
            seed=options.seed,
            latency=Latency(options.latency_min, options.latency_max),
            queue_limit=options.queue_limit,
            max_bytes=options.max_bytes,
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with SimulatorServer(api, options.port) as server, contextlib.suppress(KeyboardInterrupt):
        sys.stdout.write(json.dumps({"url": server.url}) + "\n" if options.json else f"{server.url}\n")
        sys.stdout.flush()
        server.serve_forever()
    api.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m batchkit.testing.server",
        description="Serve a simulated Message Batches API on loopback. Prints its address.",
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--seed", type=int, default=defaults.seed, help="decides ids, durations and answers")
    parser.add_argument(
        "--state", type=Path, help="journal every change in FILE, and continue from it", metavar="FILE"
    )
    parser.add_argument(
        "--queue-limit", type=int, default=defaults.queue_limit, help="requests that may wait"
    )
    parser.add_argument("--latency-min", type=float, default=defaults.latency.min, metavar="SECONDS")
    parser.add_argument("--latency-max", type=float, default=defaults.latency.max, metavar="SECONDS")
    parser.add_argument("--max-bytes", type=int, default=defaults.max_bytes, help="size of a create's body")
    parser.add_argument("--json", action="store_true", help="print the address as a JSON document")
    parser.add_argument(
        "--model",
        default="batchkit.testing.catalog_model:catalog_model()",
        help="MODULE:FUNCTION of (params, rng); with () at its end, a function that makes one",
    )
    return parser


def _model(name: str) -> Model:
    module, _, function = name.partition(":")
    value: Any = getattr(importlib.import_module(module), function.removesuffix("()"))
    model: Model = value() if function.endswith("()") else value
    return model


if __name__ == "__main__":
    sys.exit(main())
