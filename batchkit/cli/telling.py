"""Verbs that show what there is without anybody's data: the demo, the simulator."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from batchkit.progress import EXIT_BROKEN, EXIT_DONE


def demo(options: argparse.Namespace) -> int:
    """Tell the whole story; broken where its sum is."""
    from batchkit.demo.folder import Options
    from batchkit.demo.tell import demo as tell

    told = tell(
        Options(rows=options.rows, seed=options.seed, data=options.data, api=options.api, json=options.json),
        options.workdir,
    )
    whole = told["balanced"] and told["receipt_verified"] and told["rolled_back_identical"]
    return EXIT_DONE if whole and not told["double_paid"] else EXIT_BROKEN


def simulate(options: argparse.Namespace) -> int:
    """Serve the simulator on a free port until interrupted."""
    return serve_simulator([])


def serve_simulator(argv: Sequence[str]) -> int:
    """Serve the simulator with the server's own arguments."""
    from batchkit.testing.server import main

    return main(argv)
