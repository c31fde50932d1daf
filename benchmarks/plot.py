"""Draw the documentation's picture from measured figures: ``python benchmarks/plot.py docs/images/performance.svg``.

Reads ``results/compare.json``, ``results/scale.json`` and ``results/phases-*.json`` beside this file, as
``compare.py``, ``scale.py`` and ``phases.py`` write them with ``--json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

RESULTS = Path(__file__).parent / "results"
WIDTH = 760
BAR, GAP, LABEL = 20, 8, 250
ROOM = WIDTH - LABEL - 130
COLORS = {"naive": "#b0483a", "batchkit": "#2f6f9f", "limit": "#8a8a8a", "before": "#c9b458"}


class Bar(NamedTuple):
    """One bar: its label, its length, its color, and least and greatest where it is a median."""

    label: str
    value: float
    color: str
    spread: tuple[float, float] | None = None
    unit: str = "s"


def main() -> None:
    """Draw all panels, one below the other."""
    parts: list[str] = []
    top = 10
    for title, bars in panels():
        parts += panel(title, bars, top)
        top += 34 + len(bars) * (BAR + GAP) + 16
    Path(sys.argv[1]).write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" role="img" '
        'font-family="system-ui, sans-serif" font-size="13">\n'
        f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def panels() -> Iterator[tuple[str, list[Bar]]]:
    """Give a title and bars for each panel."""
    compared = read("compare.json")
    names = {
        "naive": "the plain SDK script",
        "batchkit": "batchkit, durable",
        "limit": "each step alone, in C",
    }
    for what, title in (("cpu", "CPU seconds"), ("peak_mib", "peak memory, MiB")):
        bars = [
            Bar(
                label,
                compared[f"{name}_{what}"],
                COLORS[name],
                tuple(compared["spread"][f"{name}_{what}"]),
                "s" if what == "cpu" else "MiB",
            )
            for name, label in names.items()
        ]
        yield (
            f"{compared['rows']:,} rows: {title}, median of {compared['repetitions']}, least to greatest",
            bars,
        )
    runs = read("scale.json")["runs"]
    yield (
        "batchkit, peak memory in MiB by rows and rows a batch",
        [
            Bar(f"{run['rows']:,} in {run['batch_rows']:,}", run["peak_mib"], COLORS["batchkit"], unit="MiB")
            for run in runs
        ],
    )
    before, after = read("phases-before.json"), read("phases-after.json")
    bars = []
    for name, spent in sorted(after["seconds"].items(), key=lambda item: -item[1])[:12]:
        bars.append(Bar(name, spent, COLORS["batchkit"]))
        if name in before["seconds"]:
            bars.append(Bar("before", before["seconds"][name], COLORS["before"]))
    yield f"{after['rows']:,} rows: CPU seconds by phase", bars


def panel(title: str, bars: list[Bar], top: int) -> Iterator[str]:
    """Draw one panel."""
    most = max(bar.spread[1] if bar.spread else bar.value for bar in bars) or 1.0
    yield f'<text x="10" y="{top + 16}" font-weight="600">{title}</text>'
    for number, bar in enumerate(bars):
        y = top + 30 + number * (BAR + GAP)
        length = bar.value / most * ROOM
        end = length
        yield f'<text x="{LABEL - 8}" y="{y + 15}" text-anchor="end">{bar.label}</text>'
        yield f'<rect x="{LABEL}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{bar.color}"/>'
        if bar.spread is not None:
            low, high = (LABEL + value / most * ROOM for value in bar.spread)
            end = max(length, high - LABEL)
            yield (
                f'<line x1="{low:.1f}" y1="{y + BAR // 2}" x2="{high:.1f}" y2="{y + BAR // 2}" '
                'stroke="#222222" stroke-width="2"/>'
            )
        value = f"{bar.value:,.0f}" if bar.value >= 100 else f"{bar.value:.2f}"
        yield f'<text x="{LABEL + end + 8:.1f}" y="{y + 15}">{value} {bar.unit}</text>'


def read(name: str) -> dict[str, Any]:
    """Read one file of results."""
    found: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return found


if __name__ == "__main__":
    main()
