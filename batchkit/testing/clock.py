"""Clocks for tests: one that stands still, one that follows a simulator."""

from __future__ import annotations

__all__ = ["FakeClock"]

DEFAULT_START = 1_790_000_000.0
"""Where virtual time starts unless told otherwise: 2026-09-21, after the API version in use was current."""


class FakeClock:
    """A clock that moves only when told, or when someone sleeps on it.

    Args:
        start: Its first wall time, in seconds since the epoch.
    """

    def __init__(self, start: float = DEFAULT_START) -> None:
        self._now = start
        self._steady = 0.0

    def now(self) -> float:
        """Return the wall time in seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return steady seconds, moved by `sleep` and `advance` but not by `jump`."""
        return self._steady

    def sleep(self, seconds: float) -> None:
        """Move both times forward by ``seconds`` and return at once."""
        self.advance(max(0.0, seconds))

    def advance(self, seconds: float) -> None:
        """Move both times forward.

        Args:
            seconds: How far; zero or more.

        Raises:
            ValueError: ``seconds`` is negative; use `jump` to set the wall clock back.
        """
        if seconds < 0:
            raise ValueError(f"time does not go back by advance({seconds}); use jump() for a wall clock that does")
        self._now += seconds
        self._steady += seconds

    def jump(self, seconds: float) -> None:
        """Move the wall time alone, either way, as a corrected machine clock does."""
        self._now += seconds
