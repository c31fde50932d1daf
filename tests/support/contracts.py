"""Run the contract of the stores and of the targets, and print how many tests each passes: ``python contracts.py``."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

CONTRACT = Path(__file__).parents[1] / "contract"


class Counting:
    """Counts the outcomes of each class of tests."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test once: by its call, or by what kept it from one."""
        if report.when == "call" or not report.passed:
            module, name, *_ = report.nodeid.split("::")
            who = f"{name.removeprefix('Test')} ({Path(module).stem.removeprefix('test_')})"
            self.outcomes.setdefault(who, Counter())[report.outcome] += 1


def main(arguments: list[str]) -> int:
    """Run them; what is given goes to pytest."""
    counting = Counting()
    code = pytest.main(["-q", "-n", "0", "--no-header", str(CONTRACT), *arguments], plugins=[counting])
    width = max(map(len, counting.outcomes), default=0)
    for who, outcomes in counting.outcomes.items():
        told = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
        print(f"{who:{width}}  {told}")
    skipped = sum(outcomes["skipped"] for outcomes in counting.outcomes.values())
    return int(code) or int(skipped > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
