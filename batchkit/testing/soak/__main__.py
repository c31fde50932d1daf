"""``python -m batchkit.testing.soak``: play many histories, and say what they add up to."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from batchkit.testing.soak.scene import ENGINES, Engine, Outcome, Setup
from batchkit.testing.soak.summary import Summary, soak

__all__ = ["main"]

MINUTE = 60.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the soak.

    Args:
        argv: Arguments; None takes the process's own.

    Returns:
        1 if batchkit violated something, else 0. The other engines are there to be compared with.
    """
    options = _parser().parse_args(argv)
    rates = options.fault_rate or [0.05]
    graces = options.grace or [Setup().grace]
    summaries: list[Summary] = []
    engines: list[Engine] = options.engine or ["batchkit"]
    for engine in engines:
        for rate in rates:
            for grace in graces if engine == "batchkit" else graces[:1]:
                setup = Setup(
                    engine=engine,
                    fault_rate=rate,
                    grace=grace,
                    lateness=options.lateness,
                    lag=options.lag,
                    strangers=options.strangers,
                    sdk=options.sdk,
                    stores=options.stores,
                    rows=options.rows,
                    most=options.most,
                    deletions=options.deletions,
                    rotate=options.rotate,
                    astray=options.astray,
                    jumps=options.jumps,
                )
                began = time.perf_counter()
                seeds = range(options.first, options.first + options.seeds)
                summary = soak(setup, seeds, jobs=options.jobs, each=_complain)
                summaries.append(summary)
                _print(setup, summary, time.perf_counter() - began)
    if options.json is not None:
        documents = [summary.to_dict() for summary in summaries]
        text = json.dumps(documents[0] if len(documents) == 1 else documents, indent=2)
        options.json.write_text(f"{text}\n", encoding="utf-8")
    return int(any(summary.violations for summary in summaries if summary.engine == "batchkit"))


def _parser() -> argparse.ArgumentParser:
    usual = Setup()
    parser = argparse.ArgumentParser(
        prog="python -m batchkit.testing.soak",
        description="Play whole small runs under faults, in virtual time, and compare the provider's bill with what was recorded.",
    )
    parser.add_argument("--seeds", type=int, default=300, metavar="N", help="how many histories")
    parser.add_argument("--first", type=int, default=0, metavar="SEED", help="the first of them")
    parser.add_argument(
        "--fault-rate", type=float, action="append", metavar="P", help="share of requests; may be repeated"
    )
    parser.add_argument("--engine", choices=ENGINES, action="append", help="who plays; may be repeated")
    parser.add_argument(
        "--grace", type=float, action="append", metavar="S", help="batchkit's grace; may be repeated"
    )
    parser.add_argument("--lateness", type=float, default=usual.lateness, metavar="S", help="latest arrival")
    parser.add_argument("--lag", type=float, default=usual.lag, metavar="S", help="longest lag of the list")
    parser.add_argument(
        "--strangers", type=float, default=usual.strangers, metavar="N", help="their batches an hour"
    )
    parser.add_argument("--stores", type=int, default=1, metavar="N", help="stores in the same workspace")
    parser.add_argument("--rows", type=int, metavar="N", help="source rows of each store")
    parser.add_argument("--most", type=int, metavar="N", help="most rows of a batch")
    parser.add_argument(
        "--deletions",
        type=float,
        default=0.0,
        metavar="P",
        help="share of strangers' batches that are deleted",
    )
    parser.add_argument("--rotate", action="store_true", help="rotate keys")
    parser.add_argument("--astray", action="store_true", help="rotate them to another workspace, too")
    parser.add_argument(
        "--jumps", type=float, default=0.0, metavar="P", help="chance at each pass that the clock jumps"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes that play")
    parser.add_argument("--sdk", action="store_true", help="use the real SDK client, three times slower")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the sums here")
    return parser


def _complain(outcome: Outcome) -> None:
    """Name the seed of a violation as soon as there is one."""
    for what in outcome.violations:
        sys.stdout.write(f"seed {outcome.seed}: {what}\n")
        sys.stdout.flush()


def _print(setup: Setup, summary: Summary, seconds: float) -> None:
    ours = setup.engine == "batchkit"
    grace = f", grace {setup.grace / MINUTE:g} min" if ours else ""
    kept = (
        f"rows kept {summary.mean_hold_minutes:.0f} min on average and {summary.worst_hold_hours:.1f} h at most, "
        if ours
        else ""
    )
    per = 1000 * seconds / max(summary.seeds, 1)
    sys.stdout.write(
        f"{setup.engine}{grace}, faults {setup.fault_rate:.0%}: {summary.seeds} seeds, {summary.rows} rows, "
        f"lost {summary.lost}, double-paid {summary.double_paid}, unreported {summary.unreported_duplicates}, "
        f"wrong adoptions {summary.wrong_adoptions}, violations {len(summary.violations)}, doubts {summary.doubts}, "
        f"held {summary.held}, {kept}longest {summary.max_virtual_hours:.1f} virtual h ({per:.0f} ms a seed)\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
