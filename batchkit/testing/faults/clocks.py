"""A wall clock that jumps."""

from __future__ import annotations

from batchkit.clock import Clock

__all__ = ["JumpyClock"]


class JumpyClock:
    """Another clock whose wall time can be set off, as that of a corrected or misconfigured machine.

    Args:
        clock: Keeps the steady time and sleeps.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.offset: float = 0.0

    def now(self) -> float:
        """Return the wall time, wrong by ``offset`` seconds."""
        return self._clock.now() + self.offset

    def monotonic(self) -> float:
        """Return steady seconds, which know nothing of jumps."""
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._clock.sleep(seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall time ahead, or back."""
        self.offset += seconds
