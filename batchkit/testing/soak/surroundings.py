"""What the stores of one history share: a provider with its faults, its strangers, and its time."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from batchkit.ids import BatchId
from batchkit.model import Batch
from batchkit.testing.batch import Latency
from batchkit.testing.clock import SimulatedClock
from batchkit.testing.faults import Fault, FaultSchedule, UnreliableAPI
from batchkit.testing.simulator import SimulatedAPI
from batchkit.testing.soak.scene import Setup, model

__all__ = ["Surroundings"]

HOUR = 3_600.0
KEYS = ("simulated", "rotated-once", "rotated-twice")
"""All of one workspace."""
_ASTRAY = "another"
"""Of another workspace."""
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
        more: dict[str, Any] = {} if setup.most is None else {"queue_limit": _QUEUE}
        if setup.astray:
            more["workspaces"] = {**dict.fromkeys(KEYS, "wrkspc_01simulated"), _ASTRAY: "wrkspc_02simulated"}
        self.setup: Setup = setup
        self.sim: SimulatedAPI = SimulatedAPI(model, seed=seed, latency=Latency(60.0, longest), **more)
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

    def key(self, number: int, rng: random.Random) -> str:
        """Give the key with which a process begins.

        Args:
            number: Which of the two that move a run.
            rng: Draws one, where keys change.
        """
        if self.setup.astray:
            if self.api.calm:
                return _ASTRAY if number else KEYS[0]
            return _ASTRAY if rng.random() < 0.3 else rng.choice(KEYS)
        return rng.choice(KEYS) if self.setup.rotate else KEYS[0]

    def misplaced(self, batches: Iterable[Batch]) -> list[BatchId]:
        """Give the batches that are in another workspace than the one that their intents name."""
        if not self.setup.astray:
            return []
        where = {made["id"]: made["workspace"] for made in self.sim.state()["batches"]}
        return [b.id for b in batches if where.get(b.remote_id, b.place.workspace) != b.place.workspace]
