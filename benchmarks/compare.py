"""The plain SDK script, batchkit, and what C would take: ``python benchmarks/compare.py --rows 100000``.

Each program runs in a child process of its own against one local server in its own process, in
alternation. CPU is user + system of the child, without its imports. All three must end with the same
valid rows. Needs orjson and msgspec: ``uv run --group bench python benchmarks/compare.py``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import meter

PROGRAMS = {"naive": "plain.py", "batchkit": "durable.py", "limit": "limit.py"}


def main() -> None:
    """Run all three as often as asked for, and say how they compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--without-schema",
        action="store_true",
        help="the plain programs ask for no structured output and send a longer system prompt instead",
    )
    options = parser.parse_args()
    schema = "prose" if options.without_schema else "schema"
    rounds = [once(options.rows, number, schema) for number in range(options.repetitions)]
    summary = summed(options.rows, rounds)
    if options.json:
        options.json.write_text(json.dumps(summary, indent=1) + "\n")
    print(table(summary))
    if not summary["same_valid_rows"]:
        raise SystemExit("the programs did not end with the same valid rows")


def once(rows: int, number: int, schema: str) -> dict[str, dict[str, Any]]:
    """Run each program once; every round begins with another one."""
    names = list(PROGRAMS)
    turned = names[number % 3 :] + names[: number % 3]
    reports = {}
    for name in turned:
        # A server of its own: what it still holds of one program should not slow the next.
        with meter.serving() as url, tempfile.TemporaryDirectory() as folder:
            last = 100_000 if name == "batchkit" else schema
            reports[name] = meter.measured(PROGRAMS[name], url, rows, folder, last)
        print(f"  {number + 1} {name:9} {reports[name]['cpu']:7.2f} CPU s", file=sys.stderr, flush=True)
    return reports


def summed(rows: int, rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Give medians and spreads."""

    def each(name: str, what: str) -> list[float]:
        return [float(done[name][what]) for done in rounds]

    def ratios(above: str, below: str) -> list[float]:
        return [a / b for a, b in zip(each(above, "cpu"), each(below, "cpu"), strict=True)]

    figures: dict[str, list[float]] = {
        **{f"{name}_cpu": each(name, "cpu") for name in PROGRAMS},
        "naive_over_batchkit": ratios("naive", "batchkit"),
        "batchkit_over_limit": ratios("batchkit", "limit"),
        **{f"{name}_peak_mib": each(name, "peak_mib") for name in PROGRAMS},
        **{f"{name}_wall": each(name, "wall") for name in PROGRAMS},
        **{f"{name}_import_cpu": each(name, "import_cpu") for name in ("naive", "batchkit")},
    }
    valid = {done[name]["valid"] for done in rounds for name in PROGRAMS}
    return {
        "rows": rows,
        "repetitions": len(rounds),
        **{name: round(meter.median(values), 3) for name, values in figures.items()},
        "same_valid_rows": len(valid) == 1,
        "valid_rows": sorted(int(found.partition(":")[0]) for found in valid)[0],
        "spread": {name: meter.spread(values) for name, values in figures.items()},
        "limit_steps": rounds[-1]["limit"]["steps"],
        "versions": meter.versions(),
        "command": "python " + " ".join(["benchmarks/compare.py", *sys.argv[1:]]),
    }


def table(summary: dict[str, Any]) -> str:
    """Give the summary as text."""
    lines = [f"{summary['rows']:,} rows, {summary['repetitions']} repetitions: median (least to greatest)"]
    for name, (least, greatest) in summary["spread"].items():
        lines.append(f"{name:22} {summary[name]:10.2f}   ({least:.2f} to {greatest:.2f})")
    lines.append(
        f"{'same_valid_rows':22} {summary['same_valid_rows']!s:>10}   {summary['valid_rows']:,} valid"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
