"""Time as a parameter: whatever waits or stamps takes a `Clock`."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["LONGEST", "Clock", "SystemClock", "to_come"]

LONGEST = 3_600.0
"""Seconds after which, at the latest, whatever waits looks again."""


class Clock(Protocol):
    """Wall time, steady time and waiting."""

    def now(self) -> float:
        """Return the wall time in seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Return steady seconds, which never go back; only differences mean anything."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait at least ``seconds``; zero or less returns at once."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the wall time in seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Return steady seconds from an arbitrary start."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait ``seconds`` of real time."""
        if seconds > 0:
            time.sleep(seconds)


def to_come(at: float, now: float) -> bool:
    """Tell whether a moment that was noted as the next look is still to come.

    One that is further away than anything here waits was noted before the clock was set back: it is due.
    """
    return now < at <= now + LONGEST
