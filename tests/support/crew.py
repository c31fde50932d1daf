"""A worker of a crew: ``python crew.py STORE URL MEETING`` moves and helps until nothing is open. It may be killed at any time.

A crew meets in a folder: each says there when it is ready, and when it is in the midst of a file, and goes on when the
test says so. However slow the machine, nobody has ended before the other began.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rig import Label
from shop import tiny_spec

from batchkit.contract import Contract
from batchkit.rules import rule
from batchkit.testing import served_client
from batchkit.workflow import Workflow

AHEAD = 400.0
"""Seconds that the clock of a crew is ahead: what was sent before it came has ended."""
FASTER = 60.0
"""How fast time passes once the test has let a crew go on: then a lease may have to run out."""
PATIENCE = 60.0


class Clock:
    """The time of all processes that meet in a folder."""

    def __init__(self, meeting: Path, ahead: float = 0.0) -> None:
        self.go = meeting / "go"
        self.ahead = ahead

    def now(self) -> float:
        """Give seconds since the epoch."""
        now = time.time()
        try:
            return now + self.ahead + (FASTER - 1) * max(0.0, now - self.go.stat().st_mtime)
        except FileNotFoundError:
            return now + self.ahead

    monotonic = now

    def sleep(self, seconds: float) -> None:
        """Wait for so many seconds of this time."""
        time.sleep(max(0.0, seconds) / (FASTER if self.go.exists() else 1.0))


def until(said: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    late = time.monotonic() + PATIENCE
    while not said():
        assert time.monotonic() < late, what
        time.sleep(0.01)


def say(meeting: Path, what: str) -> None:
    """Say what this process does."""
    (meeting / f"{what}.{os.getpid()}").touch()


def those(meeting: Path, what: str) -> set[int]:
    """Give the processes that have said so."""
    return {int(path.suffix[1:]) for path in meeting.glob(f"{what}.*")}


def flow(store: str, url: str, meeting: Path, clock: Clock) -> Workflow[Label]:
    """Make the workflow, as every worker does for itself."""

    @rule(version=1)
    def together(out: Label) -> bool:
        """Wait for the word to go on."""
        if not clock.go.exists():
            say(meeting, "reading")
            until(clock.go.exists, "nobody let the crew go on")
        return True

    return Workflow(
        tiny_spec(contract=Contract(Label, rules=[together])),
        store=store,
        client=served_client(url),
        clock=clock,
        max_batch_rows=5,
    )


def main(store: str, url: str, folder: str) -> None:
    """Work."""
    meeting = Path(folder)
    working = flow(store, url, meeting, Clock(meeting, AHEAD))
    say(meeting, "ready")
    until((meeting / "start").exists, "nobody let the crew start")
    working.work(stop=lambda: not working.open_runs(), idle=0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
