"""Clocks for tests: one that stands still, one that follows a simulator."""

from __future__ import annotations

import http.client
import json
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

__all__ = ["Advances", "FakeClock", "SimulatedClock"]

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
            raise ValueError(
                f"time does not go back by advance({seconds}); use jump() for a wall clock that does"
            )
        self._now += seconds
        self._steady += seconds

    def jump(self, seconds: float) -> None:
        """Move the wall time alone, either way, as a corrected machine clock does."""
        self._now += seconds


@runtime_checkable
class Advances(Protocol):
    """What has a virtual time that can be moved."""

    @property
    def now(self) -> float: ...

    def advance(self, seconds: float) -> float: ...


class SimulatedClock:
    """The virtual time of a simulator: sleeping on it moves the simulator's time, at once.

    Between its own sleeps `now` stands still, also when somebody else moves the
    simulator's time; `refresh` looks again.

    Args:
        simulator: A `SimulatedAPI`, or the address of a simulator's server.
    """

    def __init__(self, simulator: Advances | str) -> None:
        self._api: Advances = _Remote(simulator) if isinstance(simulator, str) else simulator
        self._now = self._api.now

    def now(self) -> float:
        """Return the virtual time last seen, in seconds since the epoch."""
        return self._now

    def monotonic(self) -> float:
        """Return the same time: virtual time never goes back."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move the simulator's time by ``seconds``; zero or less only looks at it."""
        self._now = self._api.advance(max(0.0, seconds))

    def refresh(self) -> float:
        """Look at the simulator's time and return it."""
        self._now = self._api.now
        return self._now


class _Remote:
    """The control endpoints of a simulator's server."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url).netloc

    @property
    def now(self) -> float:
        return self.advance(0.0)

    def advance(self, seconds: float) -> float:
        # Not urllib: it would send loopback requests through a configured proxy.
        connection = http.client.HTTPConnection(self._address, timeout=600)
        try:
            connection.request("POST", "/_sim/advance", json.dumps({"seconds": seconds}))
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return float(answer["now"])
