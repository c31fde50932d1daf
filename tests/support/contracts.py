"""Run the contract of the stores and of the targets at full size, and print how many tests each passes.

``python contracts.py``: methods break off at every one of their calls, and volumes are of 100,000 rows.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from batchkit.testing import store_contract, target_contract

CONTRACT = sorted((Path(__file__).parents[1] / "contract").glob("*.py"))
"""Each file by its name: a folder's own would be those named test_ alone, without what takes too long for every run."""

LONGEST = 1800
"""Seconds for one test: broken off at every call, a promotion to a server is made a few thousand times."""


class Counting:
    """Counts the outcomes of each class of tests, by the part of the contract that the test is of."""

    def __init__(self) -> None:
        self.outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.parts: dict[str, dict[str, Counter[str]]] = {}
        self._part: dict[str, str] = {}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note where each test comes from."""
        for item in items:
            if isinstance(item, pytest.Function):
                self._part[item.nodeid] = item.function.__qualname__.partition(".")[0]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by what kept it from one."""
        if report.when == "call" or not report.passed:
            module, name, *_ = report.nodeid.split("::")
            kind = "targets" if "target" in Path(module).stem else "stores"
            part = self._part[report.nodeid].removesuffix("Contract")
            self.parts.setdefault(kind, {}).setdefault(part, Counter())[name.removeprefix("Test")] += (
                report.passed
            )
            self.outcomes[name.removeprefix("Test")][report.outcome] += 1

    def table(self, kind: str) -> list[str]:
        """Give the parts of a contract by those who passed them, in tests."""
        parts = self.parts[kind]
        who = list(dict.fromkeys(name for counts in parts.values() for name in counts))
        lines = [
            [kind, *who],
            *([part, *(f"{counts[name]:,}" for name in who)] for part, counts in parts.items()),
        ]
        lines.append(["passed", *(f"{self.outcomes[name]['passed']:,}" for name in who)])
        lines.append(
            [
                "not passed",
                *(f"{sum(self.outcomes[name].values()) - self.outcomes[name]['passed']:,}" for name in who),
            ]
        )
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        ]


def main(arguments: list[str]) -> int:
    """Run them; what is given goes to pytest."""
    store_contract.CrashContract.crashes = target_contract.CrashContract.crashes = sys.maxsize
    store_contract.VolumeContract.volume = 100_000
    counting = Counting()
    options = ["-q", "-n", "0", "--no-header", "--timeout", str(LONGEST)]
    code = pytest.main([*options, *map(str, CONTRACT), *arguments], plugins=[counting])
    for kind in counting.parts:
        print("", *counting.table(kind), sep="\n")
    return int(code) or int(any(outcomes["skipped"] for outcomes in counting.outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
