"""What the stores of one history share: a provider with its faults, its strangers, and its time."""

from __future__ import annotations

import random
from typing import Any

from batchkit.testing.batch import Latency
from batchkit.testing.clock import SimulatedClock
from batchkit.testing.faults import Fault, FaultSchedule, UnreliableAPI
from batchkit.testing.simulator import SimulatedAPI
from batchkit.testing.soak.scene import Setup, model

__all__ = ["Surroundings"]

HOUR = 3_600.0
_QUEUE = 10_000_000
"""Where batches are large, strangers would fill the queue of the organization."""


class Surroundings:
    """One simulated provider that everything of a history goes to.

    Args:
        seed: Decides what goes wrong.
        setup: What it is played under.
        rng: Draws how long batches take.
    """

    def __init__(self, seed: int, setup: Setup, rng: random.Random) -> None:
        longest = 30 * HOUR if rng.random() < 0.05 else 20 * 60.0
        large: dict[str, Any] = {} if setup.most is None else {"queue_limit": _QUEUE}
        self.sim: SimulatedAPI = SimulatedAPI(model, seed=seed, latency=Latency(60.0, longest), **large)
        schedule = FaultSchedule(
            seed=seed,
            rate=setup.fault_rate,
            lateness=setup.lateness,
            lag=setup.lag,
            strangers=setup.strangers if setup.fault_rate else 0.0,
            deletions=setup.deletions,
            # A key of another workspace would take the create there too, which one answer's headers cannot play.
            faults=frozenset(Fault) - {Fault.ELSEWHERE},
        )
        self.api: UnreliableAPI = UnreliableAPI(self.sim, schedule)
        self.steady: SimulatedClock = SimulatedClock(self.api)
        self.began: float = self.sim.now

    @property
    def hours(self) -> float:
        """Give the virtual time that has passed."""
        return (self.sim.now - self.began) / HOUR
